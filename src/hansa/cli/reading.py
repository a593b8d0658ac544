"""What is known of a federation at one moment: in a run folder, or on a chain that others keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hansa import errors
from hansa.ports import View
from hansa.protocol.history import RoundStory
from hansa.records import Model, Terms

if TYPE_CHECKING:
    from hansa.signers.keystore import MemberKey

SHARED = "eip155:"
"""How the address of a federation on a shared chain begins; anything else is a run folder."""


@dataclass(frozen=True, slots=True)
class Run:
    """What only a run folder has. `start`: the chain's time of its first block; `running`: a process is at
    work in it."""

    folder: Path
    metrics: tuple[dict[str, Any], ...]
    start: int
    running: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """A federation as it stands. `subject` is what the user called it, `run` None on a shared chain.

    Times are those of the chain; `block_time` is that of its newest block. `motions` wait for signatures; None
    where the store, in which they lie, does not answer.
    """

    subject: str
    terms: Terms
    view: View
    story: tuple[RoundStory, ...]
    names: Mapping[int, str]
    block_time: int
    run: Run | None = None
    motions: tuple[Mapping[str, Any], ...] | None = ()

    def name(self, id: int) -> str:
        """A party's name."""
        return self.names[id]


class Source(Protocol):
    """Where readings come from."""

    def read(self) -> Reading:
        """How the federation stands now. Raises `Misconfigured`, `Untrusted`, `Unavailable`."""

    def model(self, reading: Reading) -> Model:
        """The current model, held against its digest on the chain. Raises the same errors."""


@contextmanager
def source(
    subject: str, rpc: Sequence[str] | None, store: str | None, key: MemberKey | None = None
) -> Iterator[Source]:
    """The run folder or the federation that a command names; `key` opens what is sealed to its owner.

    Raises `Misconfigured`, and whatever keeps it from being reached.
    """
    if not subject.startswith(SHARED):
        from hansa.cli.runs import RunFolder

        yield RunFolder(run_folder(subject))
        return
    from hansa.cli.connection import reached
    from hansa.cli.following import Following

    with reached(subject, *required(subject, rpc, store)) as it:
        yield Following(it, key)


def run_folder(subject: str) -> Path:
    """The folder that a command names. Raises `Misconfigured` when it is no folder."""
    if not Path(subject).is_dir():
        raise errors.Misconfigured(
            f"{subject[:80]!r} is neither a run folder nor a federation",
            hint="Name what `hansa run` wrote, or what `hansa deploy` printed: eip155:CHAIN:0xCONTRACT.",
        )
    return Path(subject)


def required(subject: str, rpc: Sequence[str] | None, store: str | None) -> tuple[Sequence[str], str]:
    """Chain and store of a federation that is no run folder. Raises `Misconfigured`."""
    if not rpc or store is None:
        missing = " and ".join(
            name for name, given in (("--rpc URL", rpc), ("--store URL", store)) if not given
        )
        raise errors.Misconfigured(
            f"{subject} lies on a chain that others keep: {missing} is needed to reach it",
            hint="Name a node of the chain and the store of the federation; HANSA_RPC and HANSA_STORE do too.",
        )
    return rpc, store
