"""Which checks there are of the blobs that rounds leave: those of the scheme."""

from __future__ import annotations

from typing import Protocol

from hansa.audit import attestations, deliveries, enclaves, roles, rounds, shares, sums
from hansa.audit.case import INITIAL, Case
from hansa.audit.decisions import History, Round
from hansa.audit.enclaves import Enclaves
from hansa.audit.report import Book
from hansa.audit.rounds import Rounds
from hansa.audit.shares import Shares
from hansa.audit.sums import Sums
from hansa.protocol import timing
from hansa.protocol.checkpoint import Checkpoint
from hansa.records import Terms


class Contents(Protocol):
    """Goes through rounds in order; `model` is the last final one, if it could be had."""

    model: Checkpoint | None

    def begin(self, made: Checkpoint | None) -> None:
        """The initial model; `made`: as the app makes it, if that is at hand."""

    def check(self, round: Round) -> None:
        """Check one round's blobs; a final one moves `model` on."""


def contents_of(case: Case, history: History) -> Contents:
    """What checks the rounds of the terms' scheme."""
    if case.terms.secagg is not None:
        case.book.expect(INITIAL, *roles.CHECKS, *sums.CHECKS)
        roles.check_roles(case, history)
        if case.terms.tee is None:
            return Sums(case, history)
        case.book.expect(*attestations.CHECKS)
        return Sums(case, history, attestations.attestations_of(case, history))
    if case.terms.tee is not None:
        case.book.expect(INITIAL, *attestations.CHECKS, *enclaves.CHECKS)
        return Enclaves(case, history, attestations.attestations_of(case, history))
    if case.terms.mpc is not None:
        case.book.expect(INITIAL, *shares.CHECKS)
        return Shares(case)
    case.book.expect(INITIAL, *rounds.CHECKS)
    return Rounds(case)


def unproven(terms: Terms, reason: str) -> str:
    """What an audit does not show, for this reason and by the terms' scheme."""
    unseen = enclaves.UNSEEN if terms.secagg is None else deliveries.UNSEEN
    if terms.mpc is not None:
        unseen = shares.UNSEEN
    return " Nor ".join(filter(None, (reason, unseen if terms.tee or terms.mpc else "")))


def note_times(round: Round, book: Book) -> None:
    """Flag training times that are out of proportion to the data."""
    slow = timing.outliers(round.state.current.commits)
    if slow:
        ids = ", ".join(map(str, sorted(slow)))
        book.note(f"round {round.ended.round}: training time out of proportion: members {ids}")
