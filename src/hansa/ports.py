"""The seams: what a node needs from the world, and nothing of how it is provided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hansa.app import Agreed, Asked, EvaluateTask, TrainResult, TrainTask, Values
from hansa.protocol.messages import Call
from hansa.protocol.mpc import Offer, Part, Report
from hansa.protocol.secagg import Opening, Sums
from hansa.protocol.state import State
from hansa.protocol.tee import Manifest
from hansa.records import Evidence, Model, Mpc, Update

Entropy = Callable[[str, int], bytes]
"""`entropy(label, n)` gives n unpredictable bytes. A deployment draws them from the system and ignores
the label; a simulation derives them from its seed and the label, so that a run can be repeated."""


@dataclass(frozen=True, slots=True)
class View:
    """The federation at one block that the ledger calls final, and the chain's time now.

    `stamped`: when the newest block was made, in its maker's words; 0 where that is not known.
    """

    state: State
    now: int
    block: int
    block_hash: bytes
    stamped: int = 0


class Ledger(Protocol):
    """One federation's contract."""

    def view(self) -> View:
        """The newest final state. Raises `Unavailable` when the chain does not answer."""

    def submit(self, *calls: Call) -> None:
        """Send calls, in this order, and wait for their blocks.

        Raises the first error: `Refused` when the contract reverts, `Unavailable` when the chain does not
        answer.
        """

    def dry_run(self, call: Call) -> list[int]:
        """Codes that a batch's items would get now, without sending. Raises the same errors."""


class Store(Protocol):
    """A content-addressed object store, with a few named places for messages."""

    def put(self, data: bytes, digest: bytes | None = None) -> bytes:
        """Keep a blob; gives its SHA-256: `digest`, where the caller has computed or checked it already."""

    def get(self, digest: bytes, *, limit: int) -> bytes:
        """A blob by digest. Raises `Unavailable` if it is not there, `Untrusted` if it is not that blob."""

    def has(self, digest: bytes) -> bool:
        """Whether a blob of this digest lies in the store."""

    def discard(self, digest: bytes) -> None:
        """Forget a blob; one that is not there counts as forgotten."""

    def digests(self) -> frozenset[bytes]:
        """Digests of all blobs, broken off ones too."""

    def put_at(self, key: str, data: bytes) -> None:
        """Keep bytes under a name."""

    def get_at(self, key: str, *, limit: int) -> bytes:
        """Bytes by name. Raises `Unavailable` if there are none, `Untrusted` if there are too many."""

    def list(self, prefix: str) -> list[str]:
        """Names below a prefix, sorted."""

    def delete(self, key: str) -> None:
        """Forget a name."""


class Signer(Protocol):
    """Holds one secp256k1 key."""

    @property
    def address(self) -> bytes:
        """The 20-byte address."""

    def sign(self, data: bytes) -> bytes:
        """A 64-byte signature (EIP-2098) of the Keccak-256 of `data`.

        Takes what is hashed, since services before a KMS hash what they sign. A remote one raises
        `Unavailable` when it does not answer, `Misconfigured` when it refuses, `Untrusted` when its answer
        is another signature.
        """


class Trainer(Protocol):
    """Trains and evaluates models of one app; values are float32 arrays by name."""

    def initial(self, seed: int) -> Values:
        """A new model's values, the same for the same seed."""

    def examples(self, dataset: str) -> int:
        """Rows of a dataset."""

    def train(self, task: TrainTask) -> TrainResult:
        """Train once. Deterministic in its task."""

    def train_many(self, tasks: Sequence[TrainTask]) -> list[TrainResult]:
        """Train several, in parallel where there are workers."""

    def evaluate(self, task: EvaluateTask) -> list[dict[str, float]]:
        """Metrics of each model of a task; always with "loss"."""

    def evaluate_many(self, tasks: Sequence[EvaluateTask]) -> list[list[dict[str, float]]]:
        """Several evaluations, in parallel where there are workers."""

    def close(self) -> None:
        """Stop workers."""


class Directed(Trainer, Protocol):
    """A trainer of an app whose own server part says, round by round, what members do."""

    def asked(self) -> Asked:
        """What the app asks of the terms."""

    def fix(self, scale: int) -> None:
        """The scale that the terms have."""

    def follow(self, agreed: Callable[[], Sequence[Agreed]], memory: Path) -> None:
        """Where the final rounds so far are to be had, and the file that keeps what the app must not forget."""

    def wants(self, round: int, member: int) -> bool:
        """Whether the server part needs this update, and does not have it yet."""

    def keep(self, round: int, member: int, values: NDArray[np.int32]) -> None:
        """What an opened update makes of the model that stood, in the model's scale."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The model as the app's server part has it after the last final round, by name."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed blob, and the blobs without which its readers cannot open it."""

    blob: bytes
    attachments: tuple[bytes, ...] = ()


Fetch = Callable[[bytes], bytes]
"""Gives a blob of the store by digest. Raises `Unavailable`, `Untrusted`."""


class Scheme(Protocol):
    """How updates are protected on the way from member to aggregate. What a `Fetch` raises passes through."""

    def seal(self, state: State, update: Update, fetch: Fetch) -> Sealed:
        """An update as it lies in the store."""

    def check(self, state: State, member: int, blob: bytes, fetch: Fetch) -> Update | None:
        """Hold a member's blob against its commitment; gives what is in it, or None where that stays hidden.

        Raises `Untrusted`.
        """

    def references(self, blob: bytes) -> tuple[bytes, ...]:
        """Digests of the attachments that a sealed blob names. Raises `Untrusted`."""


class Releasing(Scheme, Protocol):
    """A scheme whose leaders see the model, and release it to readers."""

    def release(self, state: State, version: int, checkpoint: bytes) -> Sealed:
        """A model as it lies in the store."""

    def open_release(
        self,
        domain: bytes,
        readers: Mapping[int, bytes],
        author: int,
        version: int,
        blob: bytes,
        fetch: Fetch,
    ) -> bytes:
        """Canonical bytes of a model that `author` released to `readers`. Raises `Untrusted`."""


class Attestor(Protocol):
    """Has the processor sign what runs, and 64 bytes that it wants signed with it."""

    def quote(self, report_data: bytes) -> Evidence:
        """A fresh quote over `report_data` (64 bytes), with collateral of now.

        Raises `Unavailable` when the processor or its maker's service does not answer, `Misconfigured` when
        there is none here.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """What an opening gave: each cohort's sum, int64 in the model's scale, or None where it is spoiled.

    `secret`: 32 bytes that follow from it, known to whoever has both halves. `findings`: what is wrong with what is
    spoiled.
    """

    sums: tuple[NDArray[np.int64] | None, ...]
    secret: bytes
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Half:
    """One half of an opening as recorded: who gave it, its blob, and blobs that let a member in afterwards."""

    author: int
    blob: bytes
    admissions: tuple[bytes, ...] = ()


class Summing(Scheme, Protocol):
    """A scheme in which only sums are ever opened, and by their contributors alone; see `protocol.secagg`."""

    def found(self, state: State) -> Sealed:
        """The parameters, with the halves sealed to those who are to hold them."""

    def check_setup(self, state: State, fetch: Fetch) -> None:
        """Whether the recorded parameters are good. Raises `Untrusted`."""

    def public_key(self, state: State, fetch: Fetch) -> bytes:
        """The own public key as others check it."""

    def check_key(self, state: State, member: int, blob: bytes, fetch: Fetch) -> None:
        """Whether a public key is a member's own. Raises `Untrusted`."""

    def combine(self, state: State, fetch: Fetch) -> tuple[Sums, ...]:
        """What the updates of the running round's cohorts add up to. Raises `Untrusted`."""

    def halve(
        self,
        state: State,
        opening: Opening,
        readers: frozenset[int],
        fetch: Fetch,
        enclaves: Mapping[int, bytes] = ...,
    ) -> bytes:
        """The own half of an opening, sealed to `readers` by their weak keys and to `enclaves`.

        Raises `Untrusted` if the sums are not those claimed.
        """

    def check_half(self, state: State, round: int, half: Half) -> frozenset[int]:
        """Whom a half of a round's opening was sealed to. Raises `Untrusted`."""

    def check_admission(self, state: State, half: Half, admission: bytes, member: int) -> None:
        """Whether a half's admission is about this member and this half. Raises `Untrusted`."""

    def admit(self, state: State, member: int, half: Half, fetch: Fetch) -> bytes:
        """A blob that lets one more member read a half of the own group."""

    def open(self, state: State, opening: Opening, halves: Sequence[Half], fetch: Fetch) -> Opened:
        """The sums of the running round, from the first right half of each side.

        Raises `Unavailable` where one is missing or not sealed to this member, `Untrusted` where none is right.
        """

    def secret(self, state: State, round: int, halves: Sequence[Half], fetch: Fetch) -> bytes:
        """`Opened.secret` of a round that is over."""

    def seal_model(self, state: State, secret: bytes, data: bytes) -> bytes:
        """The standing model, sealed under the secret of its opening."""

    def open_model(self, state: State, secret: bytes, blob: bytes) -> bytes:
        """The reverse. Raises `Untrusted`."""


class Delegating(Summing, Releasing, Protocol):
    """A summing scheme in which attested enclaves open the sums, for the readers of the round."""

    def masked(self, state: State, fetch: Fetch) -> tuple[bytes | memoryview, ...]:
        """For each cohort the sum of its masked updates. Raises `Untrusted`."""

    def open_package(self, made: Manifest, host: int, result: bytes, blob: bytes, fetch: Fetch) -> Opened:
        """What the enclave of `host` opened, of this digest. Raises `Untrusted`."""


@dataclass(frozen=True, slots=True)
class Dealt:
    """An array in shares: `shares` holds one for each computing party, by rank."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    shares: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What an owner shares: arrays by name, of so many rows; `ids` is the digest of the rows' names, in order."""

    rows: int
    ids: bytes
    arrays: Mapping[str, NDArray[Any]]


class Owning(Trainer, Protocol):
    """The trainer of a training script."""

    @property
    def whole_rows(self) -> bool:
        """Whether each owner has rows with all features and labels, and so can train and judge a model alone."""

    def table(self, dataset: str, terms: Mpc, owners: int, key: bytes) -> Table:
        """A dataset as its owner shares it, with its part of the noise that reveals need, of so many `owners`; noise
        follows from 32 secret bytes, `key`.

        Raises `Misconfigured` for rows that the script cannot take.
        """

    def declared(self, terms: Mpc) -> Mpc:
        """[mpc] with what the script declares: protocol, network, reveals."""


class Sharing(Protocol):
    """Secret sharing among the computing parties of the terms. `job` names the training that shares are for."""

    def deal(self, job: bytes, name: str, array: NDArray[Any]) -> Dealt:
        """An array in shares. Raises `Misconfigured` for values that fixed point cannot hold."""

    def check(self, job: bytes, rank: int, part: Part, share: bytes, owner: int) -> None:
        """Whether a share is the one of this rank that its owner committed to, of this array. Raises `Untrusted`."""

    def components(self, job: bytes, rank: int, shares: Mapping[str, bytes]) -> tuple[tuple[int, bytes], ...]:
        """The components that a rank holds of the model: their numbers, and digests over all parameters.

        Raises `Untrusted` for shares of another model than that of the terms.
        """

    def reconstruct(self, job: bytes, shares: Sequence[Mapping[str, bytes]]) -> dict[str, NDArray[Any]]:
        """The model's parameters, from the shares of all ranks. Raises `Untrusted`."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What one party needs to train: its rank; certificates and addresses by rank; rows, ids and shares by owner.

    `name` is what the shares are bound to, `ids` a digest of the names of an owner's rows, in order.
    """

    name: bytes
    rank: int
    certificates: tuple[bytes, ...]
    addresses: tuple[str, ...]
    rows: Mapping[int, int]
    ids: Mapping[int, bytes]
    shares: Mapping[int, Mapping[str, bytes]]


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What a party holds when training is over: its share of each parameter, by name, and what it was."""

    shares: Mapping[str, bytes]
    report: Report


class Session(Protocol):
    """A computing party's own machinery. What it does takes long: it works while the node goes on."""

    @property
    def certificate(self) -> bytes:
        """The certificate of its links, DER."""

    @property
    def address(self) -> str:
        """Where its peers reach it, host:port."""

    def check(self, offer: Offer) -> None:
        """Whether an offer has the arrays that the script takes of this owner. Raises `Untrusted`."""

    def train(self, job: Callable[[], Job]) -> Trained | None:
        """Begin, or go on; None while it works. `job` is asked for when it begins.

        Raises `Unavailable` for what may pass, `Untrusted` for what not.
        """

    def news(self) -> list[str]:
        """What was done since this was asked last, a sentence each."""

    def close(self) -> None:
        """Stop working; what was saved stays."""


class Dealing(Scheme, Protocol):
    """A scheme in which owners deal shares to computing parties."""

    def offer(self, state: State, rows: int, ids: bytes, dealt: Sequence[Dealt]) -> Sealed:
        """The offer of these arrays, packages attached."""

    def pack(self, state: State, reader: int, shares: Mapping[str, bytes]) -> Sealed:
        """Shares sealed to one reader."""

    def unpack(self, state: State, author: int, blob: bytes, fetch: Fetch) -> dict[str, bytes]:
        """Shares that were sealed to this party or owner. Raises `Untrusted`."""


__all__ = [
    "Agreed",
    "Asked",
    "Attestor",
    "Call",
    "Dealing",
    "Dealt",
    "Directed",
    "Entropy",
    "EvaluateTask",
    "Evidence",
    "Fetch",
    "Half",
    "Job",
    "Ledger",
    "Mapping",
    "Model",
    "Opened",
    "Owning",
    "Releasing",
    "Scheme",
    "Sealed",
    "Session",
    "Sharing",
    "Signer",
    "Store",
    "Summing",
    "Table",
    "TrainResult",
    "TrainTask",
    "Trained",
    "Trainer",
    "Update",
    "Values",
    "View",
]


@dataclass(frozen=True, slots=True)
class Tracked:
    """A run that is shown elsewhere: the federation's name, the run's folder, and what it was started with."""

    name: str
    folder: Path
    params: Mapping[str, str]


class Tracker(Protocol):
    """A program that shows figures of runs. It raises `Unavailable` when it does not answer."""

    told: int
    """The last round that it has; rounds after that have to be told."""

    def tell(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Show whole rounds, as `metrics.jsonl` has them."""

    def close(self, *, finished: bool) -> None:
        """The run has ended, or was stopped."""
