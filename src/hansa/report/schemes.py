"""What each scheme shows of a run: sums and who opened them, enclaves and who vouched for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hansa.protocol import attested, mpc, secagg
from hansa.protocol.history import RoundStory
from hansa.protocol.state import State
from hansa.records import SUBJECTS, Mpc, Outcome, RecordKind, Terms
from hansa.report.facts import Word

_PLAIN = (
    Word("single updates", "every member of the round reads each of them after commitments have closed"),
    Word("selection", "members judge every update on rows of their own; the contract counts their ballots"),
)


def words_of(
    terms: Terms, state: State, story: Sequence[RoundStory], names: Mapping[int, str]
) -> tuple[Word, ...]:
    """How the scheme of these terms worked here, in short lines."""
    if terms.scheme == "plaintext":
        return _PLAIN[: 1 if terms.selection.rule == "none" else 2]
    if terms.mpc is not None:
        return _parties(terms.mpc, state, names)
    return (*_enclaves(terms, state, names), *_sums(terms, state, story, names))


def _parties(agreed: Mpc, state: State, names: Mapping[int, str]) -> tuple[Word, ...]:
    opened = ", ".join(b.boundary for b in agreed.reveals)
    return (
        Word(
            "computing parties",
            f"{_listed(names, mpc.parties(state))}, by {agreed.protocol} over {agreed.field}",
        ),
        Word("rows", "secret shares: no party alone sees any of them"),
        Word("network", "; ".join(agreed.network) or "not said"),
        Word("opened while training", opened or "nothing"),
    )


def _sums(
    terms: Terms, state: State, story: Sequence[RoundStory], names: Mapping[int, str]
) -> tuple[Word, ...]:
    if terms.secagg is None:
        return ()
    parties = secagg.parties(terms, state)
    sizes = [len(s.selected) for s in story if s.outcome is Outcome.FINAL and s.selected]
    span = " to ".join(map(str, sorted({min(sizes), max(sizes)}))) if sizes else ""
    burned = f"; {len(state.burned)} rounds were burned" if state.burned else ""
    opened = _count(state, RecordKind.OPENING)
    return (
        Word("single updates", "nobody sees one: only sums exist, under one-time masks"),
        Word(
            "sums", (f"{len(sizes)} opened, of {span} updates each" if sizes else "none opened yet") + burned
        ),
        Word(
            "key centre",
            f"{_listed(names, parties.centres)}: holds one half of every opening, sees no update and no sum",
        ),
        Word(
            "parameter server",
            f"{_listed(names, parties.servers)}: adds up what it cannot read, holds the other half",
        ),
        Word("halves recorded", f"{opened} on the chain; one opening a round, for the round's contributors"),
        Word("together", "a key centre and a server that conspire could open every update"),
    )


def _enclaves(terms: Terms, state: State, names: Mapping[int, str]) -> tuple[Word, ...]:
    if terms.tee is None:
        return ()
    accept = terms.tee.accept
    pinned = [*accept.enclaves, *(domain[0] for domain in accept.domains if domain)]
    hosts = sorted(id for kind, id in state.recorded if kind % SUBJECTS == RecordKind.ATTESTATION)
    program = ", ".join(f"{digits[:12]}…" for digits in pinned) or "by signer and version"
    inside = (
        "open sums of masked updates, and never see one update"
        if terms.secagg
        else "see updates and aggregate them"
    )
    return (
        Word("protection", attested.protection(terms) or ""),
        Word("enclaves", f"of {_listed(names, sorted(set(hosts)))}: {inside}"),
        Word("program pinned", program),
        Word(
            "attestation",
            f"{_count(state, RecordKind.ATTESTATION)} quotes recorded, {_count(state, RecordKind.VOUCHER)} vouchers "
            f"by members; anew after {terms.tee.epoch} rounds",
        ),
    )


def _count(state: State, kind: RecordKind) -> int:
    return sum(len(records) for (number, _), records in state.recorded.items() if number % SUBJECTS == kind)


def _listed(names: Mapping[int, str], ids: Sequence[int]) -> str:
    return ", ".join(names[id] for id in ids) or "nobody yet"
