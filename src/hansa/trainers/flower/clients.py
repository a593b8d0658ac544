"""The members' side: one ClientApp for all of them, each with a context of its own that outlasts the process."""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from hansa import errors
from hansa.app import Scalar
from hansa.trainers.flower.apps import Apps
from hansa.trainers.flower.memory import Memory
from hansa.trainers.flower.records import fresh
from hansa.trainers.flower.running import called
from hansa.trainers.flower.server import RUN_ID


class Clients:
    """The app's ClientApp as `count` nodes; the node of member 0 is 1."""

    def __init__(self, apps: Apps, count: int, config: Mapping[str, Scalar]) -> None:
        self._apps = apps
        self._count = count
        self._config = dict(config)
        self.memory = Memory(None)

    def can(self, kind: str) -> bool:
        """Whether the ClientApp registered a function for a kind of message, such as "evaluate"."""
        return any(name.startswith(kind + ".") for name in self._apps.client._registered_funcs)

    def call(self, message: Message, moment: int, seed: int, *, lasting: bool = True) -> RecordDict:
        """What a node answers. Its context is that of its last task before `moment`; it is kept if `lasting`.

        Raises `AppFailed`.
        """
        node = message.metadata.dst_node_id
        state = self.memory.state(node, moment)
        place: dict[str, Scalar] = {"partition-id": node - 1, "num-partitions": self._count}
        context = Context(RUN_ID, node, place, state, dict(self._config))
        own = Message(fresh(message.content), dst_node_id=node, message_type=message.metadata.message_type)
        own.metadata.__dict__["_message_id"] = message.metadata.message_id
        what = f"its ClientApp, message {message.metadata.message_type!r}"
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, node, RUN_ID
        reply = called(what, self._apps.folder, seed, lambda: self._apps.client(own, context))
        if not isinstance(reply, Message) or not reply.has_content():
            said = f": {reply.error.reason}" if isinstance(reply, Message) and reply.has_error() else ""
            raise errors.AppFailed(
                f"the app gave no answer with content in {what}{said}",
                hint="Return Message(content=RecordDict(...), reply_to=message).",
            )
        if lasting and (context.state or state):
            self.memory.keep_state(node, moment, context.state)
        return reply.content
