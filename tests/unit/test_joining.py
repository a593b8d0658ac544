"""`hansa join`: what it shows, what it asks, and what it leaves on the chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.shared import Shared, embedded, found, served

from hansa import encoding, errors, wiring
from hansa.app import app_digest
from hansa.audit.claims import check_consents
from hansa.audit.decisions import History
from hansa.audit.report import Book
from hansa.cli import costs
from hansa.cli.explanation import page
from hansa.member import consented
from hansa.protocol import messages as msg
from hansa.protocol.terms import terms_digest
from hansa.records import Accept, Governance, SecAgg, SelectionTerms, Tee

APP = Path(__file__).parents[2] / "examples" / "digits"


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Shared]:
    """Just deployed, with member 0 invited."""
    with embedded(tmp_path) as chain:
        made = found(chain, tmp_path, lambda: chain.time, app=app_digest(APP))
        made.ledger(made.owner).submit(msg.Invite(made.keys[0].signer.address))
        yield made


@pytest.fixture
def join(fresh: Shared, hansa: Any) -> Any:
    def run(id: int, *words: str) -> tuple[int, str, str]:
        with served(fresh.rpc) as url:
            given = ["--rpc", url, "--store", fresh.store, "--key", fresh.key_file(id)]
            given += ["--password-file", fresh.password(), "--app", APP]
            return hansa("join", fresh.name, *given, *words)

    return run


def recorded(fresh: Shared) -> list[bytes]:
    """Digests of all consents on the chain."""
    events = []
    ledger = fresh.ledger(fresh.owner)
    ledger._fold.observe(lambda event, _block: events.append(event))
    ledger.view()
    return [e.digest for e in events if type(e).__name__ == "Recorded"]


def test_what_was_agreed_to_is_in_the_store_and_its_digest_on_the_chain(fresh, join):
    code, out, _ = join(0, "--yes")
    assert (code, out.strip()) == (0, "member 0 of tiny")
    assert consented(fresh.ledger(fresh.owner).view().state, 0)
    (digest,) = recorded(fresh)
    text = wiring.store(str(fresh.store)).get(digest, limit=10_000).decode()
    assert terms_digest(fresh.federation.terms).hex() in text
    assert "is read by each member of its round" in text
    code, out, _ = join(0, "--yes")
    assert (code, out.strip()) == (0, "member 0 of tiny")
    assert recorded(fresh) == [digest]


def test_nobody_joins_without_having_agreed(fresh, join, monkeypatch):
    code, _, err = join(0)
    assert code == 2
    assert "nobody is here to agree" in err
    assert "gradient inversion" in err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    code, _, err = join(0)
    assert code == 2
    assert "you did not agree" in err
    assert not fresh.ledger(fresh.owner).view().state.ids
    monkeypatch.setattr("typer.confirm", lambda *_, **__: True)
    assert join(0)[0] == 0


def test_who_was_not_invited_is_not_asked(fresh, join):
    code, _, err = join(1)
    assert code == 1
    assert "not invited" in err
    assert "gradient" not in err


def test_other_terms_are_another_page(fresh):
    terms = fresh.federation.terms
    other = replace(terms, training=replace(terms.training, params=(("lr", 9.0),)))
    assert encoding.digest(page(terms, 4).encode()) != encoding.digest(page(other, 4).encode())


def test_the_page_says_when_updates_leave_the_store(fresh):
    terms = fresh.federation.terms
    assert "Nothing in the store is ever deleted" in page(terms, 4)
    assert "3 rounds after its last use" in page(replace(terms, retain_rounds=3), 4)


@pytest.mark.parametrize("page_of", ["these terms", "other terms", "nothing"])
def test_the_audit_reads_what_was_agreed_to(fresh, page_of):
    terms = fresh.federation.terms
    told = terms if page_of == "these terms" else replace(terms, name="other")
    text = page(told, 4).encode()
    history = History(fresh.ledger(fresh.owner).view().state)
    history.consents[0] = encoding.digest(text)
    book = Book(None)

    def fetch(_digest: bytes) -> bytes:
        if page_of == "nothing":
            raise errors.Unavailable("the store has no such page")
        return text

    check_consents(history, terms, fetch, {0: "m0", 1: "m1"}, book)
    (check,) = book.report(anchored=False).checks
    verdicts = {"these terms": "verified", "other terms": "failed", "nothing": "unavailable"}
    assert (check.name, check.verdict) == ("consents", verdicts[page_of])
    assert "no consent on the chain: m1" in str(book.report(anchored=False))


def test_the_page_says_who_sees_updates_under_each_scheme(fresh):
    plain = fresh.federation.terms
    alone = SelectionTerms(rule="none")
    simulated = replace(plain, scheme="tee", selection=alone, tee=Tee(accept=Accept(root="simulation")))
    text = page(simulated, 4)
    assert "is opened inside enclaves only" in text
    assert "they are simulated: NO HARDWARE PROTECTION" in text
    accepted = Accept(root="intel", enclaves=("ab" * 32,))
    hardware = page(replace(simulated, tee=Tee(accept=accepted)), 4)
    assert "NO HARDWARE PROTECTION" not in hardware
    assert "Who breaks the processor of one host" in hardware
    masked = page(replace(plain, scheme="secagg", selection=alone, secagg=SecAgg()), 4)
    assert "A key centre and a server together could open every single update" in masked
    for other in (text, hardware, masked):
        assert "is read by each member of its round" not in other


def test_what_enclaves_and_masks_cost_is_counted(fresh):
    plain = replace(fresh.federation.terms, selection=SelectionTerms(rule="none"))
    seats = replace(plain.govern, seats=("0x" + "ab" * 20,) * 3)
    enclosed = replace(plain, scheme="tee", governance=Governance.COMMITTEE, govern=seats, tee=Tee(epoch=1))
    once, seldom = (
        costs.gas_of_a_round(t, 4)["records"] for t in (enclosed, replace(enclosed, tee=Tee(epoch=5)))
    )
    assert once == 3 * 5 * costs.RECORD
    assert seldom == once // 5
    assert "precommits" not in costs.gas_of_a_round(enclosed, 4)
    verifies, other = costs.down_bytes(enclosed, 4)
    assert other == costs.model_bytes(enclosed)
    assert verifies == other + 3 * costs.update_bytes(enclosed)
    masked = replace(plain, scheme="secagg", secagg=SecAgg())
    assert costs.update_bytes(masked) > costs.update_bytes(plain)
