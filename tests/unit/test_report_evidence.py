from __future__ import annotations

import pytest

from hansa.audit import (
    attestations,
    blobs,
    case,
    chain,
    claims,
    decisions,
    deliveries,
    enclaves,
    getters,
    repeat,
    roles,
    rounds,
    shares,
    sums,
)
from hansa.protocol.audit import KINDS
from hansa.report.evidence import UNCHECKED, VERDICTS, links_of
from hansa.report.facts import Audited, Check

MODULES = (
    attestations,
    blobs,
    case,
    chain,
    claims,
    decisions,
    deliveries,
    enclaves,
    getters,
    repeat,
    roles,
    rounds,
    shares,
    sums,
)
SCHEMES = [("plaintext", False), ("secagg", False), ("tee", False), ("tee", True), ("mpc", False)]


def names() -> set[str]:
    """Every check that the audit's modules name."""
    book_entries = {"signatures", *KINDS.values()}
    for module in MODULES:
        for name, value in vars(module).items():
            if (
                name.isupper()
                and isinstance(value, str)
                and name not in ("UNSEEN", "STORE", "KEPT", "NO_KEY", "NO_CANDIDATE")
            ):
                book_entries.add(value)
    return book_entries


def test_every_check_of_the_audit_has_its_link() -> None:
    known = names()
    assert {"signatures", "blobs hashed", "quotes verified again", "sums opened", "summary"} <= known
    everything = tuple(Check(name, "verified", 1, "") for name in sorted(known))
    linked = set()
    for scheme, inner in SCHEMES:
        links = links_of(scheme, everything, None, inner=inner)
        linked |= {c.name for link in links if link.title != "Other checks" for c in link.checks}
    assert known - linked == set()


@pytest.mark.parametrize(("scheme", "inner"), SCHEMES)
def test_no_check_is_lost(scheme: str, inner: bool) -> None:
    given = tuple(Check(name, "verified", 1, "") for name in ("votes", "one never heard of", "joins"))
    shown = [c.name for link in links_of(scheme, given, None, inner=inner) for c in link.checks]
    assert sorted(shown) == sorted(c.name for c in given)


@pytest.mark.parametrize(("scheme", "inner"), SCHEMES)
def test_before_an_audit_every_link_is_grey(scheme: str, inner: bool) -> None:
    assert {link.verdict for link in links_of(scheme, (), None, inner=inner)} == {UNCHECKED}


@pytest.mark.parametrize("worst", VERDICTS)
def test_a_link_is_as_good_as_its_worst_check(worst: str) -> None:
    checks = (Check("votes", "verified", 1, ""), Check("elections", worst, 1, ""))
    link = next(x for x in links_of("plaintext", checks, None) if x.checks)
    assert link.verdict == worst


@pytest.mark.parametrize("anchored", [True, False])
def test_only_an_anchor_proves_the_origin(anchored: bool) -> None:
    told = Audited(0, "hansa", anchored, "", ())
    assert links_of("plaintext", (), told)[-1].verdict == ("verified" if anchored else UNCHECKED)
