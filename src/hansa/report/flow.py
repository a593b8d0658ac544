"""Who can read what under each scheme, as rows of a picture; the same as the tables in docs/threat-model.md."""

from __future__ import annotations

from dataclasses import dataclass

from hansa.protocol.attested import NO_PROTECTION, protection
from hansa.records import Mpc, Terms
from hansa.report.facts import Flow


@dataclass(frozen=True, slots=True)
class Volume:
    """How many blobs of a kind went through the store, and their bytes; None where nobody looked."""

    count: int | None = None
    bytes: int | None = None


UNKNOWN = Volume()


_SAID = Flow(
    "row counts, training times", "plain", "plain", "plain", "everybody who reads the chain", crosses=True
)
_SIGNED = Flow(
    "commitments, votes",
    "digest",
    "digest",
    "digest",
    "public on purpose: digests and signatures",
    crosses=False,
)


def flows_of(terms: Terms, updates: Volume, rows: Volume, models: Volume) -> tuple[Flow, ...]:
    """What moves between organisations under these terms. What of one member others can read crosses."""
    if terms.mpc is not None:
        return _computed(terms.mpc, updates, models)
    kept = Flow("training rows", "plain", "none", "none", "never leave the member's machine", crosses=False)
    to = "its contributors" if terms.secagg is not None and terms.tee is None else "the members of its round"
    model = Flow("joint model", "joint", "sealed", "joint", to, False, models.count, models.bytes)
    judged = [] if terms.scheme != "plaintext" or terms.selection.rule == "none" else [_row(rows)]
    return kept, _update(terms, updates), *_sums(terms), *judged, _SAID, model, _SIGNED


def _computed(agreed: Mpc, shares: Volume, models: Volume) -> tuple[Flow, ...]:
    """Rows go to computing parties as secret shares; what the script opens while it trains is open to them."""
    together = "any two" if agreed.protocol == "ABY3" else "both"
    who = f"no party alone; {together} of the computing parties together could open them"
    rows = Flow("training rows", "plain", "sealed", "shares", who, False, shares.count, shares.bytes)
    opened = tuple(
        Flow(
            f"opened: {b.boundary}",
            "plain",
            "none",
            "plain",
            f"{'every computing party' if b.to < 0 else f'the computing party of rank {b.to}'}, once a {b.per}"
            + (f", with noise of {b.noise:g}" if b.noise else ""),
            crosses=True,
        )
        for b in agreed.reveals
    )
    model = Flow(
        "joint model", "joint", "sealed", "shares", "the owners alone put it together", False, models.count
    )
    return rows, *opened, _SAID, model, _SIGNED


def _update(terms: Terms, volume: Volume) -> Flow:
    what, sizes = "one member's update", (volume.count, volume.bytes)
    if terms.secagg is not None:
        who = "nobody alone: masked. A key centre and a server together could open it"
        return Flow(what, "plain", "masked", "masked", who, False, *sizes)
    if terms.tee is None:
        return Flow(what, "plain", "sealed", "plain", "every member of the round reads it", True, *sizes)
    if protection(terms) == NO_PROTECTION:
        who = f"whoever hosts an enclave can read it ({NO_PROTECTION})"
        return Flow(what, "plain", "sealed", "plain", who, True, *sizes)
    return Flow(what, "plain", "sealed", "sealed", "attested enclaves only", False, *sizes)


def _sums(terms: Terms) -> tuple[Flow, ...]:
    if terms.secagg is None:
        return ()
    if terms.tee is None:
        return (
            Flow("sum of updates", "joint", "masked", "joint", "the members whose updates it holds", False),
        )
    if protection(terms) == NO_PROTECTION:
        who = f"enclaves of servers open it, whose hosts can read it ({NO_PROTECTION})"
        return (Flow("sum of updates", "none", "masked", "joint", who, False),)
    return (Flow("sum of updates", "none", "masked", "sealed", "attested enclaves of servers only", False),)


def _row(volume: Volume) -> Flow:
    who = "everybody who reaches the store: how each update does on one evaluator's own rows"
    return Flow("evaluators' values", "plain", "plain", "plain", who, True, volume.count, volume.bytes)
