"""What a simulated federation is founded with: its parties, whose keys come from the seed, and its terms."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from eth_hash.auto import keccak

from hansa import app, encoding, errors, wiring
from hansa.app import EvaluateTask, Site, TrainerOptions, TrainResult, TrainTask, Values
from hansa.config import FederationFile
from hansa.crypto import signatures
from hansa.federation import completed
from hansa.node.onion import Onion
from hansa.ports import Directed, Entropy, Owning, Table, Trainer
from hansa.project import app_digest
from hansa.published import presets
from hansa.records import Governance, Mpc, Role, Terms
from hansa.strategy import fitted


@dataclass(frozen=True, slots=True)
class Party:
    """A simulated party: what it signs and seals with. All of it comes from the run's seed."""

    name: str
    role: Role
    secret: bytes
    sealing_key: bytes
    onion: Onion
    entropy: Entropy

    def __repr__(self) -> str:
        return f"Party({self.name})"

    @property
    def address(self) -> bytes:
        """The 20-byte address that signs."""
        return signatures.address(self.secret)

    def sign(self, data: bytes) -> bytes:
        """A 64-byte signature of the data's hash."""
        return signatures.sign(self.secret, keccak(data))


def party(seed: int, name: str, role: Role = Role.MEMBER) -> Party:
    """The party of this name in all simulations with this seed. For simulations only: the keys are public."""

    def derive(purpose: str, n: int) -> bytes:
        return hashlib.shake_256(encoding.encode(["hansa/simulation", seed, name, purpose])).digest(n)

    onion = Onion(derive("onion", 32))
    return Party(name, role, derive("signer", 32), derive("sealing", 32), onion, derive)


def owner_secret(seed: int) -> bytes:
    """The signing key of a simulation's owner."""
    return party(seed, "owner").secret


class Ahead:
    """A trainer that may be told beforehand what it will be asked, so that workers train in parallel."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._ready: dict[tuple[str, int, int], TrainResult] = {}

    def prepare(self, tasks: Sequence[TrainTask]) -> None:
        """Train these now; each result is given out once."""
        new = [t for t in tasks if self._key(t) not in self._ready]
        for task, result in zip(new, self._trainer.train_many(new), strict=True):
            self._ready[self._key(task)] = result

    def _key(self, task: TrainTask) -> tuple[str, int, int]:
        return task.dataset, task.round, task.seed

    def initial(self, seed: int) -> Values:
        """As the trainer below."""
        return self._trainer.initial(seed)

    def examples(self, dataset: str) -> int:
        """As the trainer below."""
        return self._trainer.examples(dataset)

    def train(self, task: TrainTask) -> TrainResult:
        """The prepared result, or train now."""
        return self._ready.pop(self._key(task), None) or self._trainer.train(task)

    def train_many(self, tasks: Sequence[TrainTask]) -> list[TrainResult]:
        """As the trainer below."""
        return self._trainer.train_many(tasks)

    def evaluate(self, task: EvaluateTask) -> list[dict[str, float]]:
        """As the trainer below."""
        return self._trainer.evaluate(task)

    def evaluate_many(self, tasks: Sequence[EvaluateTask]) -> list[list[dict[str, float]]]:
        """As the trainer below."""
        return self._trainer.evaluate_many(tasks)

    @property
    def whole_rows(self) -> bool:
        """As the trainer below, if it is that of a training script."""
        return cast(Owning, self._trainer).whole_rows

    def table(self, dataset: str, terms: Mpc, owners: int, key: bytes) -> Table:
        """As the trainer below, if it is that of a training script."""
        return cast(Owning, self._trainer).table(dataset, terms, owners, key)

    def declared(self, terms: Mpc) -> Mpc:
        """As the trainer below, if it is that of a training script."""
        return cast(Owning, self._trainer).declared(terms)

    def close(self) -> None:
        """Stop its workers."""
        self._trainer.close()


@dataclass(frozen=True, slots=True)
class Founding:
    """What a federation is founded with: terms, parties, the trainer of their app.

    `directed`: the same trainer, where the app has a server part.
    """

    file: FederationFile
    terms: Terms
    parties: tuple[Party, ...]
    trainer: Ahead
    seats: tuple[bytes, ...]
    directed: Directed | None = None


def found(file: FederationFile) -> Founding:
    """Load the app, make the initial model, complete the terms. Raises `Misconfigured`."""
    simulated, draft = file.simulation, file.draft
    members = tuple(party(simulated.seed, app.member_name(i)) for i in range(simulated.members))
    servers: tuple[Party, ...] = ()
    if draft.mpc is not None:
        count = len(draft.govern.seats)
        servers = tuple(party(simulated.seed, f"p{i}", Role.PARTY) for i in range(count))
    elif draft.governance is Governance.SERVER:
        count = max(1, len(draft.govern.seats))
        servers = tuple(party(simulated.seed, f"s{i}", Role.SERVER) for i in range(count))
    centres: tuple[Party, ...] = ()
    if draft.secagg is not None:
        count = max(1, len(draft.secagg.key_centres))
        centres = tuple(party(simulated.seed, f"k{i}", Role.KEY_CENTRE) for i in range(count))
        named = tuple("0x" + c.address.hex() for c in centres)
        draft = replace(draft, secagg=replace(draft.secagg, key_centres=named))
    seats: tuple[bytes, ...] = ()
    if draft.governance is Governance.SERVER:
        seats = tuple(s.address for s in servers)
    elif draft.governance is Governance.COMMITTEE:
        seats = tuple(m.address for m in members[: draft.govern.committee])
    options = TrainerOptions(
        folder=file.folder,
        sites=tuple(Site(file.folder, m.name, i, simulated.seed) for i, m in enumerate(members)),
        partition=simulated.partition,
        holdout=simulated.holdout,
        validation=draft.training.validation,
        seed=simulated.seed,
        workers=simulated.workers,
        device=simulated.device,
        digest=app_digest(file.folder, file.app),
        script=file.script,
        params=draft.training.params,
    )
    directed: Directed | None = None
    if file.project is None:
        trainer = Ahead(wiring.trainer(options))
    else:
        directed = wiring.directed(options)
        trainer = Ahead(directed)
        try:
            file = fitted(replace(file, draft=draft), directed.asked())
        except errors.Misconfigured:
            directed.close()
            raise
        draft = file.draft
        directed.fix(file.scale)
    draft = replace(draft, govern=replace(draft.govern, seats=tuple("0x" + s.hex() for s in seats)))
    terms = completed(draft, file, trainer, options.digest)
    if file.preset is not None:
        presets.check_script(file.preset, terms)
    return Founding(file, terms, (*members, *servers, *centres), trainer, seats, directed)
