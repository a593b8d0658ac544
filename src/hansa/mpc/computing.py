"""The ports `Sharing` and `Session` over SPU: what nodes of owners and of computing parties use."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from hansa import errors
from hansa.app import file_of
from hansa.mpc import bottleneck, dealing, lowering, outline, schedule
from hansa.mpc.certificates import own_identity
from hansa.mpc.layout import Arrangement
from hansa.mpc.places import Place
from hansa.mpc.program import EVERYONE, Open, Operation, Program, Variable
from hansa.mpc.session import Party, Progress, Start, train
from hansa.mpc.session import Report as Listener
from hansa.mpc.session import Trained as Outcome
from hansa.mpc.setting import Setting, setting
from hansa.mpc.shares import (
    Share,
    component_digests,
    encode_share,
    first_rows,
    read_share,
    renamed,
    stored_share,
)
from hansa.mpc.traffic import by_layer
from hansa.mpc.training import Training, load_training
from hansa.ports import Dealt, Job, Trained
from hansa.protocol.mpc import Cost, Offer, Part, Report, Revealed, mpc_of
from hansa.protocol.terms import terms_digest
from hansa.records import Layout, Terms

MOST_STEPS = 50
"""Steps between checkpoints at most; there is one after each epoch that is shorter."""

SAID = 100
"""Sentences that wait to be asked for."""


def setting_of(terms: Terms) -> Setting:
    """Protocol and ring of the terms. Raises `Misconfigured`."""
    agreed = mpc_of(terms)
    return setting(agreed.protocol, agreed.field)


class SpuSharing:
    """The port `Sharing`. Dealing and reconstructing take SPU; checking does not."""

    def __init__(self, where: Setting, layout: Layout) -> None:
        self._setting = where
        self._model = {n: Variable(n, s) for n, s in zip(layout.names, layout.shapes, strict=True)}

    def deal(self, job: bytes, name: str, array: NDArray[Any]) -> Dealt:
        """See `ports.Sharing.deal`."""
        variable = Variable(name, array.shape, array.dtype.name)
        shares = dealing.make_shares(array, variable, job=job, setting=self._setting)
        return Dealt(name, variable.shape, variable.dtype, tuple(map(encode_share, shares)))

    def check(self, job: bytes, rank: int, part: Part, share: bytes, owner: int) -> None:
        """See `ports.Sharing.check`."""
        self.read(job, rank, part, share, owner)

    def read(self, job: bytes, rank: int, part: Part, share: bytes, owner: int) -> Share:
        """An owner's share, as `check` has it. Raises `Untrusted`."""
        return read_share(
            share,
            Variable(part.name, part.shape, part.dtype),
            job=job,
            setting=self._setting,
            rank=rank,
            whose=f"owner {owner}",
            digest=part.shares[rank],
        )

    def components(self, job: bytes, rank: int, shares: Mapping[str, bytes]) -> tuple[tuple[int, bytes], ...]:
        """See `ports.Sharing.components`."""
        return tuple(sorted(component_digests(self._held(job, rank, shares)).items()))

    def reconstruct(self, job: bytes, shares: Sequence[Mapping[str, bytes]]) -> dict[str, NDArray[Any]]:
        """See `ports.Sharing.reconstruct`."""
        held = [self._held(job, rank, found) for rank, found in enumerate(shares)]
        return {name: dealing.reconstruct([found[name] for found in held]) for name in self._model}

    def _held(self, job: bytes, rank: int, shares: Mapping[str, bytes]) -> dict[str, Share]:
        if shares.keys() != self._model.keys():
            raise errors.Untrusted(
                f"party of rank {rank} holds shares of another model than that of the terms"
            )
        whose = f"the party of rank {rank}"
        held = {n: stored_share(shares[n], v, self._setting, whose) for n, v in self._model.items()}
        for name, share in held.items():
            mine = (share.job, share.setting, share.rank, share.variable)
            if mine != (job, self._setting, rank, self._model[name]):
                raise errors.Untrusted(
                    f"{whose} holds a share of {name} that is of another training or shape"
                )
        return held


class SpuSession:
    """The port `Session`: trains in a thread of its own; shares are held by a child process, see `session`.

    `home` keeps certificate, executables and checkpoints. Raises `Misconfigured`.
    """

    def __init__(self, terms: Terms, folder: Path, home: Path, secret: bytes, address: str) -> None:
        self._setting = setting_of(terms)
        self._training = load_training(folder / file_of(folder, terms.app), digest=terms.app)
        self._rows = mpc_of(terms).rows
        self._home = home
        self._identity = own_identity(home, terms_digest(terms))
        self._key = HKDF(SHA256(), 32, salt=None, info=b"hansa/mpc/checkpoints/1").derive(secret)
        self._held, self.address = _listening(address)
        self._said: deque[str] = deque(maxlen=SAID)
        self._thread: threading.Thread | None = None
        self._outcome: Trained | None = None
        self._failure: errors.HansaError | None = None

    @property
    def certificate(self) -> bytes:
        """See `ports.Session.certificate`."""
        return self._identity.certificate

    def train(self, job: Callable[[], Job]) -> Trained | None:
        """See `ports.Session.train`."""
        if self._thread is None:
            given = job()
            # A daemon: what is lost with this process is made again from the checkpoint.
            self._thread = threading.Thread(target=self._work, args=(given,), daemon=True)
            self._thread.start()
        self._thread.join(0)
        if self._thread.is_alive():
            return None
        self._thread, failure = None, self._failure
        if failure is not None:
            self._failure = None
            raise failure
        return self._outcome

    def news(self) -> list[str]:
        """See `ports.Session.news`."""
        return [self._said.popleft() for _ in range(len(self._said))]

    def close(self) -> None:
        """See `ports.Session.close`."""
        for held in self._held:
            held.close()

    def _work(self, job: Job) -> None:
        try:
            self._outcome = self._trained(job)
        except errors.HansaError as e:
            self._failure = e
        except Exception as e:
            self._failure = errors.Unavailable(
                f"training failed here: {type(e).__name__}: {e}",
                hint="This is a fault of Hansa: please report it. It is tried again.",
            )

    def _trained(self, job: Job) -> Trained:
        check_rows(self._training, job)
        owners = sorted(job.rows)
        counts = [job.rows[owner] for owner in owners]
        program = lowering.lower(self._training, counts, cache=self._home / "executables")
        drawn = outline.outline(self._training, counts)
        party = Party(
            job.name,
            job.rank,
            self._setting,
            tuple(_place(a, c) for a, c in zip(job.addresses, job.certificates, strict=True)),
            self._identity,
            self._key,
            self._home,
            every=min(program.steps, MOST_STEPS),
        )
        total = outline.total_rows(self._training, counts)
        start = Start(
            shares=self._cut(program, self._renamed(job, owners)),
            first=schedule.initial(self._training.layout, self._training.declared.seed),
            feeds=lambda step: schedule.feeds(self._training.declared, total, step),
            functions=lowering.functions(drawn),
        )
        outcome = train(party, program, start, Listener(self._progress(program), self._said.append))
        report = report_of(program, outcome)
        return Trained({name: encode_share(share) for name, share in outcome.outputs.items()}, report)

    def check(self, offer: Offer) -> None:
        """See `ports.Session.check`."""
        found = {part.name: Variable(part.name, part.shape, part.dtype) for part in offer.parts}
        if found != self._expected(offer.owner, offer.rows):
            raise errors.Untrusted(
                f"owner {offer.owner} shares other arrays than the script takes: "
                + ", ".join(f"{v.name} {v.shape}" for v in found.values()),
                hint="It must run the script of the terms, on rows of the shape that this declares.",
            )

    def _expected(self, owner: int, rows: int) -> dict[str, Variable]:
        """What an owner of so many rows shares, by name. Raises `Untrusted` for an owner that has no columns."""
        training, columns = self._training, self._training.declared.columns
        if columns and owner >= len(columns):
            raise errors.Untrusted(f"the script names {len(columns)} owners of columns, and none is {owner}")
        counts = [rows] * (owner + 1 if not columns else len(columns))
        found = {}
        for name, variables in (
            ("x", outline.features_of(training, counts)),
            ("y", outline.labels_of(training, counts)),
        ):
            if owner in variables:
                found[name] = replace(variables[owner], name=name)
        if training.layout.arrangement is Arrangement.BOTTLENECK:
            slots = training.declared.epochs * (self._rows // training.declared.batch)
            for v in bottleneck.noises(training.declared, training.layout):
                found[v.name] = replace(v, shape=(slots, *v.shape))
        return found

    def _renamed(self, job: Job, owners: Sequence[int]) -> dict[str, Share]:
        """Owners' shares under the names that the program has for them: by the owner's place among those there are."""
        found = {}
        for place, owner in enumerate(owners):
            expected = self._expected(owner, job.rows[owner])
            for name, data in job.shares[owner].items():
                share = stored_share(data, expected[name], self._setting, f"owner {owner}")
                found[f"{name}.{place}"] = renamed(share, f"{name}.{place}")
        return found

    def _cut(self, program: Program, shares: Mapping[str, Share]) -> dict[str, Share]:
        """Of the noise as many slots as there are steps: owners drew it before they knew how many rows all have."""
        wanted = {v.name: v.shape[0] for v in program.inputs}
        return {name: first_rows(share, wanted[name]) for name, share in shares.items()}

    def _progress(self, program: Program) -> Any:
        # A long training is told in some ten lines.
        apart = max(1, program.epochs // 10)
        losses: list[float] = []

        def told(done: Progress) -> None:
            epoch, cost = done.epoch + 1, done.cost
            if done.loss is not None:
                losses.append(done.loss)
            if done.done % program.steps:
                return
            if epoch % apart == 0 or epoch in (1, program.epochs):
                self._said.append(
                    f"epoch {epoch} of {program.epochs}: {1000 * cost.seconds:.0f} ms, "
                    f"{cost.sent / 1e3:,.1f} kB and {cost.sends} sends a step"
                )
                if losses:
                    self._said.append(f"loss {fmean(losses):.4f} in epoch {epoch}, which this party sees")
            losses.clear()

        return told


def check_rows(training: Training, job: Job) -> None:
    """That there are rows enough for a batch; that owners of columns are all there, and hold the same rows in the same
    order. Raises `Untrusted`.
    """
    columns, batch = training.declared.columns, training.declared.batch
    total = sum(job.rows.values()) if not columns else min(job.rows.values())
    if total < batch:
        raise errors.Untrusted(
            f"owners share {total} rows together, and a batch is {batch}",
            hint="More owners must share, or the script must take a smaller batch.",
        )
    if not columns:
        return
    if sorted(job.rows) != list(range(len(columns))):
        raise errors.Untrusted(
            f"the script names owners 0 to {len(columns) - 1} of columns, and those accepted are {sorted(job.rows)}",
            hint="Owners of columns must be the first members to join, and none of them may be missing.",
        )
    odd = sorted(owner for owner, ids in job.ids.items() if ids != job.ids[0])
    if odd:
        raise errors.Untrusted(
            f"owners {', '.join(map(str, odd))} of columns hold other rows than owner 0, or in another order",
            hint="Align rows by id before sharing: the same ids, in the same order, at every owner.",
        )


def report_of(program: Program, outcome: Outcome) -> Report:
    """What a training was, for owners and audit."""
    epochs = -(-outcome.steps // program.steps)
    counts = (
        (program.start, 1),
        (program.step, outcome.steps),
        (program.epoch, epochs),
        (program.finish, 1),
    )
    reveals: dict[tuple[str, int], int] = {}
    for operations, times in counts:
        for opened in opens(operations):
            key = opened.variable.name, EVERYONE if opened.to == EVERYONE else opened.to
            reveals[key] = reveals.get(key, 0) + times
    costs = by_layer(outcome.costs, program.layers)
    return Report(
        steps=outcome.steps,
        epochs=epochs,
        attempts=outcome.attempts,
        reveals=tuple(Revealed(name, to, times) for (name, to), times in sorted(reveals.items())),
        costs=tuple(Cost(layer, c.seconds, c.sent, c.sends) for layer, c in sorted(costs.items())),
    )


def opens(operations: Sequence[Operation]) -> list[Open]:
    """Where something becomes plain."""
    return [o for o in operations if isinstance(o, Open)]


def _listening(address: str) -> tuple[list[socket.socket], str]:
    """Ports that are held for this party, and where its peers reach it: host:meeting:link. Raises `Misconfigured`."""
    host, _, ports = address.partition(":")
    numbers = ports.split(":")
    if not host or len(numbers) > 2 or not all(n.isascii() and n.isdigit() for n in numbers):
        raise errors.Misconfigured(
            f"{address[:80]!r} is no address to listen at",
            hint="Write HOST:PORT:PORT, such as 10.0.0.5:7400:7401; port 0 takes a free one.",
        )
    held, found = [], []
    for number in (*numbers, "0")[:2]:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, int(number)))
        except (OSError, OverflowError) as e:
            raise errors.Misconfigured(
                f"cannot listen at {host}:{number}: {e}",
                hint="Name another port, and an address of this machine.",
            ) from e
        held.append(made)
        found.append(made.getsockname()[1])
    return held, f"{host}:{found[0]}:{found[1]}"


def _place(address: str, certificate: bytes) -> Place:
    """Where a peer is reached. Raises `Untrusted` for what is no address."""
    host, *ports = address.split(":")
    if len(ports) != 2 or not all(p.isascii() and p.isdigit() and 0 < int(p) < 65536 for p in ports):
        raise errors.Untrusted(f"{address[:80]!r} is no address of a party", hint="Ask it to start anew.")
    return Place(host, int(ports[0]), int(ports[1]), certificate)


def sharing(terms: Terms) -> SpuSharing:
    """The port `Sharing` of terms. Raises `Misconfigured`."""
    return SpuSharing(setting_of(terms), terms.layout)


def session(terms: Terms, folder: Path, home: Path, *, secret: bytes, address: str) -> SpuSession:
    """The port `Session` of a computing party. Raises `Misconfigured`, also where SPU is not installed."""
    lowering.require_spu()
    return SpuSession(terms, folder, home, secret, address)
