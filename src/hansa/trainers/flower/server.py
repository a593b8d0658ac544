"""The app's ServerApp, held at each message that it sends until the answers are there.

It runs in a thread of its own, and never at the same time as the rest: `begin` and `answer` let it go on to its next
batch of messages. Its course is a function of the app, the seed and the answers, so whoever gives it the same answers
again has it where it was.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from hansa import errors
from hansa.app import Scalar
from hansa.trainers.flower.apps import Apps
from hansa.trainers.flower.records import numbers
from hansa.trainers.flower.running import failed, seed_all, seed_of

RUN_ID = 1
SERVER_ID = 0


class _Abandoned(BaseException):
    """Ends the app's thread; no `except Exception` of an app stops it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages that the ServerApp waits for answers to, the `number`th since it began; one a node."""

    number: int
    kind: str
    messages: tuple[Message, ...]

    def to(self, node: int) -> Message | None:
        """The message to a node, if there is one."""
        return next((m for m in self.messages if m.metadata.dst_node_id == node), None)


@dataclass(slots=True)
class Notes:
    """What was seen of the strategy: itself, the rounds it was started for, its arrays and metrics by its rounds."""

    strategy: Strategy | None = None
    rounds: int | None = None
    arrays: ArrayRecord | None = None
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)

    def add(self, round: int, record: MetricRecord | None) -> None:
        """Add metrics of a round; of one name, the last counts."""
        if record is not None:
            self.metrics.setdefault(round, {}).update(numbers(record))


class LedgerGrid(Grid):
    """Flower's `Grid` over a federation's rounds: what is sent waits until there are answers."""

    def __init__(self, nodes: Sequence[int], exchange: Callable[[list[Message]], list[Message]]) -> None:
        self._nodes = list(nodes)
        self._exchange = exchange
        self._pushed: dict[str, Message] = {}
        self._count = 0
        self.notes = Notes()

    def set_run(self, run: Run) -> None:
        """Nothing to set: there is one run."""

    @property
    def run(self) -> Run:
        """A run with Flower's defaults, but for its id."""
        return Run.create_empty(RUN_ID)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message to a node."""
        return Message(
            content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl
        )

    def get_node_ids(self) -> list[int]:
        """The members, in order of their ids."""
        return list(self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Take messages; they are exchanged when their answers are pulled."""
        ids = []
        for message in messages:
            self._count += 1
            message.metadata.__dict__["_message_id"] = f"message-{self._count}"
            self._pushed[message.metadata.message_id] = message
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Answers to messages, in the order of their nodes; waits for them."""
        asked = [self._pushed.pop(id) for id in message_ids if id in self._pushed]
        return self._exchange(asked) if asked else []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:  # noqa: ARG002
        """Answers to messages. The time that rounds may take stands in the terms, so `timeout` is not heeded."""
        return self.pull_messages(self.push_messages(messages))


class Server:
    """The ServerApp at work."""

    def __init__(self, apps: Apps, nodes: Sequence[int], config: Mapping[str, Scalar], seed: int) -> None:
        self._apps = apps
        self._seed = seed
        self._config = dict(config)
        self._grid = LedgerGrid(nodes, self._exchange)
        self._asked: SimpleQueue[Batch | BaseException | None] = SimpleQueue()
        self._answers: SimpleQueue[list[Message] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="serverapp", daemon=True)
        self._number = 0
        self.batch: Batch | None = None

    @property
    def notes(self) -> Notes:
        """What was seen so far."""
        return self._grid.notes

    def begin(self) -> Batch | None:
        """Start it; gives its first batch. Raises `AppFailed`."""
        self._thread.start()
        return self._next()

    def answer(self, replies: list[Message]) -> Batch | None:
        """Hand it the answers to its batch; gives the next one, None when it has returned. Raises `AppFailed`."""
        self._answers.put(replies)
        return self._next()

    def close(self) -> None:
        """End it where it is."""
        if self._thread.is_alive():
            self._answers.put(None)
            self._thread.join(timeout=5)

    def _next(self) -> Batch | None:
        # While the app runs this thread waits: what it prints must not land in what a command prints.
        with redirect_stdout(sys.stderr):
            found = self._asked.get()
        if isinstance(found, BaseException):
            raise found
        self.batch = found
        return found

    def _work(self) -> None:
        context = Context(RUN_ID, SERVER_ID, {}, RecordDict(), dict(self._config))
        try:
            with _noticed(self._grid):
                self._enter()
                self._apps.server(self._grid, context)
            self._asked.put(None)
        except _Abandoned:
            pass
        except errors.HansaError as e:
            self._asked.put(e)
        except BaseException as e:
            self._asked.put(failed("its ServerApp", self._apps.folder, e))

    def _exchange(self, messages: list[Message]) -> list[Message]:
        kinds = {m.metadata.message_type for m in messages}
        nodes = [m.metadata.dst_node_id for m in messages]
        if len(kinds) > 1 or len(set(nodes)) < len(nodes) or not set(nodes) <= set(self._grid.get_node_ids()):
            raise errors.Misconfigured(
                "the ServerApp sends messages of several kinds at once, several to one node, or to no member",
                hint="Send one message of one kind to each node, and wait for the answers before the next.",
            )
        self._number += 1
        self._asked.put(Batch(self._number, kinds.pop(), tuple(messages)))
        replies = self._answers.get()
        if replies is None:
            raise _Abandoned
        self._enter()
        return replies

    def _enter(self) -> None:
        """Before the app's code goes on: who it is, and from what seed it draws, whatever ran in between."""
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, SERVER_ID, RUN_ID
        seed_all(seed_of("server", self._seed, self._number))


@contextmanager
def _noticed(grid: LedgerGrid) -> Iterator[None]:
    """While the app runs, `Strategy.start` over this grid is noticed: Flower tells a Grid nothing of its strategy."""
    original = Strategy.start

    def start(self: Strategy, grid_: Any = None, *args: Any, **kwargs: Any) -> Any:
        given = kwargs.pop("grid", grid_)
        if given is grid:
            _watch(self, grid.notes, args, kwargs)
        return original(self, given, *args, **kwargs)

    Strategy.start = start  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        Strategy.start = original  # type: ignore[method-assign]


def _watch(strategy: Strategy, notes: Notes, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Note the strategy, and from then on what its steps give."""
    notes.strategy = strategy
    notes.rounds = int(kwargs.get("num_rounds", args[1] if len(args) > 1 else 3))
    notes.arrays = kwargs.get("initial_arrays", args[0] if args else None)
    train, evaluate, server = strategy.aggregate_train, strategy.aggregate_evaluate, kwargs.get("evaluate_fn")

    def aggregate_train(server_round: int, replies: Iterable[Message]) -> Any:
        arrays, metrics = train(server_round, replies)
        notes.arrays = arrays or notes.arrays
        notes.add(server_round, metrics)
        return arrays, metrics

    def aggregate_evaluate(server_round: int, replies: Iterable[Message]) -> Any:
        metrics = evaluate(server_round, replies)
        notes.add(server_round, metrics)
        return metrics

    def evaluate_fn(server_round: int, arrays: ArrayRecord) -> Any:
        assert server is not None
        metrics = server(server_round, arrays)
        notes.add(server_round, metrics)
        return metrics

    vars(strategy).update(aggregate_train=aggregate_train, aggregate_evaluate=aggregate_evaluate)
    if server is not None:
        kwargs["evaluate_fn"] = evaluate_fn
