"""How parties meet: who is absent, who is not who it should be, and what all agree on. No SPU here."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from hansa import encoding, errors
from hansa.mpc import certificates
from hansa.mpc.loopback import parties_on_loopback
from hansa.mpc.meeting import Agreement, GivenUp, Guest, Hello, Host, Meeting, Surroundings
from hansa.mpc.places import probe, server_context
from hansa.mpc.session import Party
from hansa.mpc.setting import Setting

JOB, PROGRAM = b"j" * 32, b"p" * 32
HELLO = Hello(JOB, PROGRAM, 0, ())


@pytest.fixture
def parties(tmp_path: Path) -> Iterator[list[Party]]:
    with parties_on_loopback(tmp_path, JOB, Setting(), timeout=2, patience=20) as found:
        yield found


Work = Callable[[Meeting], Awaitable[object]]


def meet(parties: list[Party], works: list[Work], notices: list[str] | None = None) -> list[object]:
    """What each party's work gives, or the error it raised."""

    async def one(party: Party, work: Work) -> object:
        told = (lambda _: None) if notices is None else notices.append
        around = Surroundings(party.rank, party.places, party.own, party.timeout, party.patience, told)
        meeting: Meeting = Guest(around) if party.rank else Host(around)
        try:
            return await work(meeting)
        except errors.HansaError as e:
            await meeting.abandon(e)
            return e
        finally:
            await meeting.close()

    async def all() -> list[object]:
        return await asyncio.gather(*(one(p, w) for p, w in zip(parties, works, strict=True)))

    return asyncio.run(asyncio.wait_for(all(), 60))


def agreeing(hello: Hello = HELLO) -> Work:
    return lambda meeting: meeting.agree(hello)


def test_all_begin_at_the_last_step_that_everybody_holds(parties: list[Party]) -> None:
    async def whole(meeting: Meeting, hello: Hello) -> Agreement:
        agreed = await meeting.agree(hello)
        await meeting.all_linked()
        await meeting.all_done()
        return agreed

    hellos = [replace(HELLO, attempt=a, held=h) for a, h in ((1, (4, 6)), (4, (4, 2)), (0, (2, 4, 6)))]
    found = meet(parties, [lambda m, h=h: whole(m, h) for h in hellos])
    assert len(set(found)) == 1
    assert (found[0].attempt, found[0].step) == (5, 4)


def test_a_party_without_any_checkpoint_sends_all_to_the_start(parties: list[Party]) -> None:
    found = meet(
        parties, [agreeing(replace(HELLO, held=(2, 4))), agreeing(), agreeing(replace(HELLO, held=(4,)))]
    )
    assert [a.step for a in found] == [0, 0, 0]


@pytest.mark.parametrize("absent", [0, 1, 2])
def test_an_absent_party_is_named_to_all(parties: list[Party], absent: int) -> None:
    there = [replace(p, timeout=1, patience=1.5) for p in parties if p.rank != absent]
    notices: list[str] = []
    found = meet(there, [agreeing()] * 2, notices)
    for error in found:
        assert isinstance(error, GivenUp)
        assert f"party {absent} " in str(error)
        assert "Start it" in error.hint
    assert f"waiting for party {absent}" in notices


def test_a_party_with_another_certificate_than_recorded_does_not_come_in(
    parties: list[Party], tmp_path: Path
) -> None:
    stranger = certificates.own_identity(tmp_path / "stranger", JOB)
    hasty = [replace(p, timeout=1, patience=2) for p in parties]
    found = meet([*hasty[:2], replace(hasty[2], own=stranger)], [agreeing()] * 3)
    assert all(isinstance(e, errors.Unavailable) for e in found)
    assert "party 2 did not come; a caller from 127.0.0.1 had no certificate of this job" in str(found[0])
    assert "party 2 did not come" in str(found[1])
    assert "closed its connection at once, as if it did not know this party's certificate" in str(found[2])


def test_a_host_with_another_certificate_than_recorded_is_not_trusted(
    parties: list[Party], tmp_path: Path
) -> None:
    stranger = certificates.own_identity(tmp_path / "stranger", JOB)
    hasty = [replace(p, timeout=1, patience=1.5) for p in parties]
    found = meet([replace(hasty[0], own=stranger), *hasty[1:]], [agreeing()] * 3)
    for error in found[1:]:
        assert isinstance(error, errors.Untrusted)
        assert "party 0" in str(error)
        assert "a certificate that no party recorded, not the one recorded for it" in str(error)
        assert error.digest == encoding.digest(stranger.certificate)


def test_a_party_of_the_wrong_rank_ends_it_for_all(parties: list[Party]) -> None:
    found = meet([*parties[:2], replace(parties[2], rank=1)], [agreeing()] * 3)
    # Both of rank 1 are told; who came first does not matter.
    assert all(isinstance(e, errors.Untrusted) for e in found)
    assert "claims rank 1 with the certificate of party 2" in str(found[0])
    assert str(found[0]) == str(found[1]) == str(found[2])


@pytest.mark.parametrize(
    ("hello", "what"),
    [(replace(HELLO, job=b"k" * 32), "another job"), (replace(HELLO, program=b"q" * 32), "another program")],
)
def test_a_party_that_would_do_something_else_ends_it_for_all(
    parties: list[Party], hello: Hello, what: str
) -> None:
    found = meet(parties, [agreeing(), agreeing(), agreeing(hello)])
    assert all(
        isinstance(e, errors.Untrusted) and "party 2 would" in str(e) and what in str(e) for e in found
    )


@pytest.mark.parametrize(
    "hello", [replace(HELLO, attempt=2**32), replace(HELLO, held=(-1,)), replace(HELLO, held=(3,) * 99)]
)
def test_a_hello_out_of_all_proportion_is_no_hello(parties: list[Party], hello: Hello) -> None:
    hasty = [replace(p, timeout=1, patience=1.5) for p in parties]
    found = meet(hasty, [agreeing(), agreeing(), agreeing(hello)])
    assert isinstance(found[0], GivenUp)
    assert "party 2 did not come" in str(found[0])


def test_a_party_that_leaves_or_falls_silent_is_lost_to_all(parties: list[Party]) -> None:
    async def stays(meeting: Meeting) -> None:
        await meeting.agree(HELLO)
        await meeting.lost()

    async def leaves(meeting: Meeting) -> None:
        await meeting.agree(HELLO)

    async def falls_silent(meeting: Meeting) -> None:
        await meeting.agree(HELLO)
        line = meeting._line  # type: ignore[attr-defined]
        line.tasks[1].cancel()  # it beats no more
        with suppress(errors.HansaError):
            await meeting.lost()

    for last, how in ((leaves, "closed its connection"), (falls_silent, "said nothing for")):
        found = meet(parties, [stays, stays, last])
        assert all(isinstance(e, errors.Unavailable) for e in found[:2])
        assert all(f"party 2 is lost: it {how}" in str(e) for e in found[:2])


def test_a_fault_of_one_is_told_to_all_in_its_words(parties: list[Party]) -> None:
    async def stays(meeting: Meeting) -> None:
        await meeting.agree(HELLO)
        await meeting.lost()

    async def fails(meeting: Meeting) -> None:
        await meeting.agree(HELLO)
        raise errors.Misconfigured("the loss is NaN")

    found = meet(parties, [stays, fails, stays])
    assert [str(e) for e in found] == ["the loss is NaN"] * 3
    assert isinstance(found[0], GivenUp)
    assert isinstance(found[2], GivenUp)


def test_the_ends_of_a_link_are_compared_with_what_is_recorded(parties: list[Party]) -> None:
    async def at(own: int, expected: int) -> None:
        """Party `own` listens where party `expected` is looked for."""
        context = server_context(parties[own].own, parties[0].places)
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        places = [replace(p, link=port) if i == expected else p for i, p in enumerate(parties[0].places)]
        async with server:
            await probe(parties[0].own, places, expected, 2)

    asyncio.run(at(1, 1))
    with pytest.raises(errors.Untrusted, match="party 2 at .* presents the certificate of party 1"):
        asyncio.run(at(1, 2))
    with pytest.raises(errors.Unavailable, match="party 1 at .* does not answer"):
        asyncio.run(probe(parties[0].own, parties[0].places, 1, 0.3))


def test_no_party_can_vouch_for_another(parties: list[Party], tmp_path: Path) -> None:
    """A certificate that one party signed is trusted by nobody, and its key is for its user only."""
    own = parties[1].own
    assert own.key_path.stat().st_mode & 0o777 == 0o600
    assert certificates.own_identity(parties[1].home, JOB) == own
    assert certificates.own_identity(tmp_path / "else", JOB).certificate != own.certificate
    context = server_context(parties[0].own, parties[0].places)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.get_ca_certs() == []


def test_a_certificate_that_the_ledger_does_not_name_is_refused(parties: list[Party]) -> None:
    certificate = parties[1].own.certificate
    assert certificates.recorded(certificate, encoding.digest(certificate), "party 1") == certificate
    with pytest.raises(errors.Untrusted, match="party 1 is not the one on the ledger"):
        certificates.recorded(certificate, bytes(32), "party 1")
    with pytest.raises(errors.Untrusted, match="is no certificate"):
        certificates.recorded(b"x", encoding.digest(b"x"), "party 1")
