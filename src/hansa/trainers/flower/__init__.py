"""Trains and evaluates a Flower app: its ClientApp is the members' trainer, its ServerApp says what they are to do.

The federation agrees on sums. What a strategy makes of them is a function of them, so nobody sends it: whoever has the
agreed models runs the ServerApp over them (`server.Server`), and has the arrays and settings of the next round. In a
simulation one ServerApp serves all members.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

# Flower reports home unless it is told not to, and reads this when it is imported.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

import logging

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict

from hansa import errors
from hansa.app import Agreed, Asked, EvaluateTask, TrainerOptions, TrainResult, TrainTask, Values
from hansa.trainers.flower.apps import load_apps
from hansa.trainers.flower.clients import Clients
from hansa.trainers.flower.memory import TRAINED, Memory
from hansa.trainers.flower.records import (
    form_of,
    largest,
    named,
    numbers,
    only_arrays,
    only_metrics,
    whole,
)
from hansa.trainers.flower.running import seed_of
from hansa.trainers.flower.server import Batch, Server
from hansa.trainers.flower.strategies import Needs, kind_of, weight_key

TEST = "test"
KEPT = "hansa"
"""The record in which a kept reply says what its arrays were like."""

LEFT_OUT = 0
"""Flower's code for an error of unknown kind: what the ServerApp is told of members whose updates did not count."""

FINEST, COARSEST, ROOM = 28, 8, 8


@final
class FlowerTrainer:
    """The trainer port for a Flower app, for all members of a simulation."""

    def __init__(self, options: TrainerOptions) -> None:
        logging.getLogger("flwr").setLevel(logging.ERROR)
        self._apps = load_apps(options.folder, digest=options.digest)
        self._names = [site.name for site in options.sites]
        self._seed = options.seed
        config = dict(options.params)
        self._clients = Clients(self._apps, len(self._names), config)
        self._server = Server(
            self._apps, range(1, len(self._names) + 1), config, seed_of("run", options.seed)
        )
        self._agreed: Callable[[], Sequence[Agreed]] = lambda: ()
        self._told = 0
        self._first = self._start()
        self._kind = kind_of(self._server.notes.strategy)
        self._weight = weight_key(self._server.notes.strategy)
        self._scale = _scale(self._first)
        self._form = form_of(self._first, self._scale)

    def _start(self) -> ArrayRecord:
        batch = self._on(self._server.begin(), 0)
        if batch is None:
            raise errors.Misconfigured(
                "the app's ServerApp ended without asking anybody to train",
                hint="It must call strategy.start(grid=grid, ...), with a fraction_train above zero.",
            )
        records = batch.messages[0].content.array_records
        if len(records) != 1:
            raise errors.Misconfigured(
                f"the ServerApp sends {len(records)} ArrayRecords to train on, and Hansa federates exactly one",
                hint="Send the model in one ArrayRecord.",
            )
        return next(iter(records.values()))

    # what the founders ask

    def asked(self) -> Asked:
        """What the app asks of the terms."""
        kind = self._kind
        return Asked(
            strategy=kind.name,
            rounds=self._server.notes.rounds,
            scale=self._scale,
            mean=kind.needs is Needs.MEAN,
            single=kind.needs is Needs.SINGLE,
            rule=kind.aggregation,
            refused=kind.refused,
        )

    def fix(self, scale: int) -> None:
        """The scale of the terms."""
        self._form = form_of(self._first, scale)

    def follow(self, agreed: Callable[[], Sequence[Agreed]], memory: Path) -> None:
        """Where the final rounds so far are to be had, and where to remember what they brought."""
        self._agreed = agreed
        before, self._clients.memory = self._clients.memory, Memory(memory)
        self._clients.memory.adopt(before)
        before.close()

    def wants(self, round: int, member: int) -> bool:
        """Whether an update is to be kept for the strategy, once it is opened."""
        return self._kind.needs is Needs.SINGLE and self._clients.memory.update(round, member + 1) is None

    def keep(self, round: int, member: int, values: np.ndarray[Any, np.dtype[np.int32]]) -> None:
        """Keep the model that an opened update makes of the one that stood, for a strategy that needs single ones."""
        self._clients.memory.keep_update(round, member + 1, values.astype("<i4").tobytes())

    # the trainer port

    def initial(self, seed: int) -> Values:  # noqa: ARG002
        """The arrays that the ServerApp begins with; it draws from the federation's seed, whatever `seed` is."""
        return self._form.floats(self._first)

    def examples(self, dataset: str) -> int:
        """The weight that a member gave last; 0 where it never trained."""
        node = self._node(dataset)
        for agreed in reversed(self._agreed()):
            reply = self._clients.memory.reply(agreed.round, TRAINED, node)
            if reply is not None:
                return int(only_metrics(reply, self._weight)[2])
        return 0

    def train(self, task: TrainTask) -> TrainResult:
        """Have the member's ClientApp answer what the ServerApp sends it in this round. Raises `AppFailed`."""
        self._catch_up()
        node, batch = self._node(task.dataset), self._server.batch
        if batch is None:
            raise errors.AppFailed(
                f"the ServerApp ended after {self._told} rounds, and the terms plan more",
                hint="Set [training] rounds to what the app does.",
            )
        message = batch.to(node)
        if message is None:
            raise errors.NotAsked("the strategy chose others for this round", hint="See its fraction_train.")
        content = self._clients.call(message, 2 * task.round, task.seed)
        key, record = only_arrays(content)
        _, metrics, weight = only_metrics(content, self._weight)
        examples, values = whole(self._weight, weight), self._form.floats(record)
        types = [record[name].dtype for name in self._form.names]
        rest = {k: v for k, v in content.items() if k != key}
        rest[KEPT] = ConfigRecord({"arrays": key, "types": types, "order": list(content)})
        self._clients.memory.keep_reply(task.round, TRAINED, node, RecordDict(rest))
        return TrainResult(values, examples, numbers(metrics))

    def train_many(self, tasks: Sequence[TrainTask]) -> list[TrainResult]:
        """Results in the order of `tasks`."""
        return [self.train(task) for task in tasks]

    def evaluate(self, task: EvaluateTask) -> list[dict[str, float]]:
        """Metrics of models by the member's ClientApp; of "test", those that the ServerApp has of the last round."""
        self._catch_up()
        if task.dataset == TEST:
            return [self._measured() for _ in task.models]
        return [self._judge(task, values) for values in task.models]

    def evaluate_many(self, tasks: Sequence[EvaluateTask]) -> list[list[dict[str, float]]]:
        """Results in the order of `tasks`."""
        return [self.evaluate(task) for task in tasks]

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """The strategy's arrays after the last final round, by name: the model as the app has it.

        Of an app with a loop of its own nobody knows them: there it is the model that was agreed on.
        """
        self._catch_up()
        record, agreed = self._server.notes.arrays, self._agreed()
        if record is None:
            types = [str(kind) for kind in self._form.types]
            record = self._form.record(agreed[-1].model().values, types, mean=True) if agreed else self._first
        return {name: array.numpy() for name, array in record.items()}

    def close(self) -> None:
        """End the ServerApp where it is."""
        self._server.close()
        self._clients.memory.close()

    def _node(self, dataset: str) -> int:
        name, _, kind = dataset.partition("/")
        if kind == "flipped":
            raise errors.Misconfigured(
                'the attack "label-flip" needs the labels, and a Flower app loads its data by itself',
                hint="Simulate another attack, such as sign-flip:5.",
            )
        return self._names.index(name) + 1

    # the ServerApp's course

    def _catch_up(self) -> None:
        """Tell the ServerApp of each final round that it has not heard of."""
        for agreed in self._agreed()[self._told :]:
            batch = self._server.batch
            self._told += 1
            if batch is not None:
                self._on(self._server.answer(self._replies(batch, agreed)), agreed.round)

    def _on(self, batch: Batch | None, round: int) -> Batch | None:
        """Answer what the ServerApp asks besides training, such as evaluations, until it has members train."""
        while batch is not None and batch.kind.split(".")[0] != "train":
            batch = self._server.answer([self._reply(m, batch, round) for m in batch.messages])
        return batch

    def _reply(self, message: Message, batch: Batch, round: int) -> Message:
        """A node's answer to what is no training; the one that it gave, if it was asked before."""
        node = message.metadata.dst_node_id
        content = self._clients.memory.reply(round, batch.number, node)
        if content is None:
            seed = seed_of("ask", self._seed, node, batch.number)
            try:
                content = self._clients.call(message, 2 * round + 1, seed)
            except errors.AppFailed as e:
                return Message(Error(LEFT_OUT, str(e)), reply_to=message)
            self._clients.memory.keep_reply(round, batch.number, node, content)
        return Message(content, reply_to=message)

    def _replies(self, batch: Batch, agreed: Agreed) -> list[Message]:
        """What the ServerApp is told of a final round: in each counted reply the mean that all agreed on, or the own
        update where the strategy needs single ones."""
        single = self._kind.needs is Needs.SINGLE
        model = agreed.model() if not single else None
        means: dict[tuple[str, ...], ArrayRecord] = {}
        made = []
        for message in batch.messages:
            node = message.metadata.dst_node_id
            kept = self._clients.memory.reply(agreed.round, TRAINED, node)
            if node - 1 not in agreed.selected or kept is None:
                text = f"the update of member {self._names[node - 1]} is not in the aggregate of round {agreed.round}"
                made.append(Message(Error(LEFT_OUT, text), reply_to=message))
                continue
            said: Any = kept[KEPT]
            types = tuple(said["types"])
            if model is None:
                arrays = self._form.record(self._update(agreed.round, node), types, mean=False)
            else:
                if types not in means:
                    means[types] = self._form.record(model.values, types, mean=True)
                # A strategy may take arrays out of a record: each reply has one of its own.
                arrays = ArrayRecord(dict(means[types]))
            content = RecordDict({k: arrays if k == said["arrays"] else kept[k] for k in said["order"]})
            made.append(Message(content, reply_to=message))
        return made

    def _update(self, round: int, node: int) -> np.ndarray[Any, np.dtype[np.int32]]:
        data = self._clients.memory.update(round, node)
        if data is None:
            raise errors.Unavailable(
                f"the update of member {self._names[node - 1]} in round {round} was not kept",
                hint="flower.sqlite in the run's folder is not that of this run: start another.",
            )
        return np.frombuffer(data, "<i4").astype(np.int32)

    def _measured(self) -> dict[str, float]:
        notes = self._server.notes
        return named(notes.metrics.get(self._told, {}))

    def _judge(self, task: EvaluateTask, values: Values) -> dict[str, float]:
        """What the ClientApp says of any model, outside the ServerApp's course."""
        batch, node = self._server.batch, self._node(task.dataset)
        if batch is None or not self._clients.can("evaluate"):
            raise errors.Misconfigured(
                "members cannot judge each other's updates: the ClientApp has no @app.evaluate()",
                hint='Use [selection] rule = "none".',
            )
        keys = {type(record): key for key, record in batch.messages[0].content.items()}
        content = RecordDict({keys[ArrayRecord]: self._form.of_values(values)})
        if ConfigRecord in keys:
            content[keys[ConfigRecord]] = ConfigRecord({"server-round": self._told + 1})
        message = Message(content, dst_node_id=node, message_type="evaluate")
        reply = self._clients.call(message, 2 * task.round, seed_of("judge", self._seed, node), lasting=False)
        return named(numbers(only_metrics(reply, self._weight)[1]))


def _scale(first: ArrayRecord) -> int:
    """The finest scale that leaves room for values `ROOM` times as large as the model begins with, and for +-8."""
    top = max(1.0, largest(first)) * ROOM
    return max(COARSEST, min(FINEST, 31 - int(np.ceil(np.log2(top)))))


def create(options: TrainerOptions) -> FlowerTrainer:
    """A trainer for the Flower app in `options.folder`.

    Raises `Misconfigured` when the app cannot be loaded, or is not of Flower's message API; `AppFailed` when its
    ServerApp fails before it has anybody train.
    """
    if options.workers:
        raise errors.Misconfigured(
            "a Flower app trains in this process only", hint="Leave out --workers and [simulation] workers."
        )
    return FlowerTrainer(options)
