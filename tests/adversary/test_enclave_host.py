"""What a hostile host tries on the enclave that it runs, and what hostile members send it."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import enclaves
from tests.enclaves import (
    FEDERATION,
    LENGTH,
    READY,
    Federation,
    Host,
    Sealed,
    manifest_of,
    opened,
    payload_bytes,
    sealed,
    terms_of,
)

import hansa
from hansa import encoding, errors
from hansa.crypto import sealing
from hansa.enclave import messages as msg
from hansa.enclave import rounds
from hansa.enclave.messages import Code
from hansa.enclave.serving import serve
from hansa.node.enclosure import Rejected
from hansa.protocol import tee
from hansa.protocol.contexts import readers_digest, update_context
from hansa.protocol.tee import Flaw, Manifest
from hansa.records import Tee, Training


@pytest.fixture
def made() -> Federation:
    return Federation()


@pytest.fixture
def host(made: Federation) -> Host:
    return made.host()


def sealed_all(made: Federation, hosts: list[Host], round: int = 1) -> dict[int, Sealed]:
    return {id: sealed(made, u, hosts) for id, u in made.updates(round).items()}


def refused(code: Code, call: Callable[..., Any], *args: Any) -> None:
    with pytest.raises(Rejected) as e:
        call(*args)
    assert e.value.code == code


def finishes(made: Federation, host: Host, payloads: dict[int, Sealed], round: int = 1) -> None:
    """The enclave still makes the right model of what has been started."""
    host.enclosure.base(made.base.data)
    for id, payload in payloads.items():
        host.enclosure.payload(id, payload.grant, payload.blob)
    assert host.enclosure.finish().result.result == made.plain(made.updates(round)).digest


# Rounds


def test_a_second_set_for_a_round_is_refused_even_if_signed(made: Federation, host: Host) -> None:
    payloads = sealed_all(made, [host])
    host.start(manifest_of(made, payloads, [host]))
    others = {**payloads, 2: sealed(made, made.update(2, np.ones(LENGTH)), [host])}
    refused(Code.ROUND, host.start, manifest_of(made, others, [host]))
    finishes(made, host, payloads)
    refused(Code.ROUND, host.start, manifest_of(made, others, [host]))


def test_a_round_that_was_begun_never_begins_again(made: Federation, host: Host) -> None:
    payloads = sealed_all(made, [host])
    manifest = manifest_of(made, payloads, [host])
    host.start(manifest)
    refused(Code.ROUND, host.start, manifest)
    finishes(made, host, payloads)
    refused(Code.ROUND, host.start, manifest)


def test_an_earlier_round_is_refused_after_a_later_one(made: Federation, host: Host) -> None:
    later = sealed_all(made, [host], round=7)
    host.start(manifest_of(made, later, [host]))
    refused(Code.ROUND, host.start, manifest_of(made, sealed_all(made, [host], round=6), [host]))
    finishes(made, host, later, round=7)


def test_a_round_has_one_result(made: Federation, host: Host) -> None:
    payloads = sealed_all(made, [host])
    output = host.take(manifest_of(made, payloads, [host]), payloads)
    refused(Code.MEMBER, host.enclosure.payload, 1, payloads[1].grant, payloads[1].blob)
    host.enclosure.base(made.base.data)
    assert host.enclosure.finish() == output


@pytest.mark.parametrize("missing", ["a payload", "the base"])
def test_nothing_comes_out_while_something_is_missing(made: Federation, host: Host, missing: str) -> None:
    payloads = sealed_all(made, [host])
    host.start(manifest_of(made, payloads, [host]))
    if missing == "a payload":
        host.enclosure.base(made.base.data)
    for id in list(payloads)[: 4 if missing == "a payload" else 5]:
        host.enclosure.payload(id, payloads[id].grant, payloads[id].blob)
    refused(Code.INCOMPLETE, host.enclosure.finish)


def test_a_payload_counts_once(made: Federation, host: Host) -> None:
    payloads = sealed_all(made, [host])
    host.start(manifest_of(made, payloads, [host]))
    host.enclosure.payload(1, payloads[1].grant, payloads[1].blob)
    refused(Code.MEMBER, host.enclosure.payload, 1, payloads[1].grant, payloads[1].blob)
    refused(Code.MEMBER, host.enclosure.payload, 77, payloads[1].grant, payloads[1].blob)
    finishes(made, host, {id: p for id, p in payloads.items() if id != 1})


@pytest.mark.parametrize("early", ["finish", "payload", "base"])
def test_a_message_before_its_time_ends_the_enclave(made: Federation, host: Host, early: str) -> None:
    arguments = {"finish": (), "payload": (1, b"", b"x"), "base": (made.base.data,)}[early]
    refused(Code.ORDER, getattr(host.enclosure, early), *arguments)
    with pytest.raises(errors.Unavailable):
        host.attest(b"n" * 32)


def test_nothing_can_be_asked_before_the_enclave_is_begun(made: Federation) -> None:
    attest = msg.encode(msg.Attest(b"n" * 32))
    assert answers(attest) == [msg.Refused(Code.ORDER)]


def test_an_enclave_is_begun_once(made: Federation, host: Host) -> None:
    refused(Code.ORDER, host.enclosure.begin, 0, FEDERATION, encoding.encode(made.terms), made.roster)


# Manifests


ALTERED: dict[str, Callable[[Manifest], Manifest]] = {
    "another federation": lambda m: replace(m, federation=b"g" * 32),
    "another round": lambda m: replace(m, round=m.round + 1),
    "another base": lambda m: replace(m, base=b"b" * 32),
    "a member left out": lambda m: replace(m, entries=m.entries[:2] + m.entries[3:]),
    "a member's payload exchanged": lambda m: replace(
        m, entries=(replace(m.entries[0], digest=b"d" * 32), *m.entries[1:])
    ),
    "a weight raised": lambda m: replace(m, entries=(replace(m.entries[0], examples=10**6), *m.entries[1:])),
    "a reader added": lambda m: replace(m, readers=(*m.readers, (9, b"k" * 32))),
    "a candidate added": lambda m: replace(m, candidates=(*m.candidates, (9, b"k" * 32))),
}


@pytest.mark.parametrize("what", ALTERED)
def test_a_manifest_other_than_the_signed_one_is_refused(made: Federation, host: Host, what: str) -> None:
    payloads = sealed_all(made, [host])
    manifest = manifest_of(made, payloads, [host])
    of_members = made.signed("Manifest", manifest.round, manifest.digest)
    refused(Code.MANIFEST, host.enclosure.start, ALTERED[what](manifest), of_members)
    host.start(manifest)
    finishes(made, host, payloads)


UNUSABLE: dict[str, Callable[[Federation, Manifest], Manifest]] = {
    "of another federation": lambda _, m: replace(m, federation=b"g" * 32),
    "of another roster": lambda _, m: replace(m, roster=b"r" * 32),
    "for another enclave": lambda _, m: replace(m, candidates=((0, b"k" * 32),)),
    "for this key at another host": lambda _, m: replace(m, candidates=((1, m.candidates[0][1]),)),
    "for too many enclaves": lambda made, m: replace(
        m, candidates=(*m.candidates, *((i + 1, b"k" * 32) for i in range(made.terms.tee.max_candidates)))
    ),
    "of fewer members than the terms say": lambda _, m: replace(m, entries=m.entries[:4]),
    "with a member that is not on the roster": lambda _, m: replace(
        m, entries=(*m.entries, replace(m.entries[0], member=9))
    ),
    "with a member twice": lambda _, m: replace(m, entries=(m.entries[0], *m.entries)),
    "out of order": lambda _, m: replace(m, entries=m.entries[::-1]),
    "with an update of a later model": lambda _, m: replace(
        m, entries=(replace(m.entries[0], version=1), *m.entries[1:])
    ),
    "with an update that is too old": lambda _, m: replace(m, version=1),
    "with an update of another base": lambda _, m: replace(
        m, entries=(replace(m.entries[0], base=b"b" * 32), *m.entries[1:])
    ),
    "that nobody may read": lambda _, m: replace(m, readers=()),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_a_manifest_that_makes_no_sense_is_refused_whoever_signed(
    made: Federation, host: Host, what: str
) -> None:
    payloads = sealed_all(made, [host])
    right = manifest_of(made, payloads, [host])
    manifest = UNUSABLE[what](made, right)
    everybody = made.signed("Manifest", manifest.round, manifest.digest, range(5))
    refused(Code.MANIFEST, host.enclosure.start, manifest, everybody)
    host.start(right)
    finishes(made, host, payloads)


def test_weights_that_would_overflow_are_refused(made: Federation) -> None:
    aggregation = replace(made.terms.aggregation, weight_cap=2**30)
    made = Federation(terms_of(aggregation=aggregation))
    host = made.host()
    updates = {id: replace(u, examples=2**29) for id, u in made.updates().items()}
    payloads = {id: sealed(made, u, [host]) for id, u in updates.items()}
    refused(Code.RULE, host.start, manifest_of(made, payloads, [host]))


def bad_signatures(made: Federation, name: str, number: int, digest: bytes) -> dict[str, tee.Signatures]:
    right = made.signed(name, number, digest, range(5))
    stranger = enclaves.member(99).account.sign(encoding.message_bytes(FEDERATION, name, number, digest))
    return {
        "too few": right[:3],
        "none": (),
        "one twice": (*right[:3], right[2]),
        "out of order": right[:4][::-1],
        "a stranger as a member": (*right[:3], (3, stranger)),
        "a stranger as itself": (*right[:3], (99, stranger)),
        "one member as two": (*right[:3], (3, right[2][1])),
        "for another number": made.signed(name, number + 1, digest),
        "for another kind of message": made.signed("Payload", number, digest),
        "cut": (*right[:3], (3, right[3][1][:-1] + b"\0")),
    }


KINDS = list(bad_signatures(Federation(), "Manifest", 1, bytes(32)))


@pytest.mark.parametrize("what", KINDS)
def test_a_manifest_needs_a_quorum_of_the_roster(made: Federation, host: Host, what: str) -> None:
    payloads = sealed_all(made, [host])
    manifest = manifest_of(made, payloads, [host])
    bad = bad_signatures(made, "Manifest", manifest.round, manifest.digest)[what]
    refused(Code.MANIFEST, host.enclosure.start, manifest, bad)
    host.start(manifest)
    finishes(made, host, payloads)


# Rosters


def following(made: Federation, **parts: Any) -> tee.Roster:
    return replace(made.roster, **{"version": 1, "previous": made.roster.digest, **parts})


@pytest.mark.parametrize("what", KINDS)
def test_a_roster_needs_a_quorum_of_the_one_before(made: Federation, host: Host, what: str) -> None:
    roster = following(made, seats=(*made.roster.seats, enclaves.member(99).seat))
    bad = bad_signatures(made, "Roster", 1, roster.digest)[what]
    refused(Code.ROSTER, host.enclosure.change, roster, bad)
    assert host.attest(b"n" * 32).roster == made.roster.digest


def test_rosters_cannot_be_skipped_taken_back_or_forked(made: Federation, host: Host) -> None:
    one = following(made, seats=made.roster.seats[:4])
    two = replace(one, version=2, previous=one.digest)
    other = following(made, seats=made.roster.seats[1:])

    def change(roster: tee.Roster) -> None:
        host.enclosure.change(roster, made.signed("Roster", roster.version, roster.digest))

    refused(Code.ROSTER, change, two)
    refused(Code.ROSTER, change, replace(one, version=2))
    refused(Code.ROSTER, change, replace(one, federation=b"g" * 32))
    change(one)
    for roster in (made.roster, one, other, replace(two, previous=other.digest)):
        refused(Code.ROSTER, change, roster)
    assert host.attest(b"n" * 32).roster == one.digest


@pytest.mark.parametrize("seats", [[0, 2, 1, 3], [0, 1, 1, 2], []])
def test_a_roster_that_is_none_is_refused_whoever_signed(
    made: Federation, host: Host, seats: list[int]
) -> None:
    roster = following(made, seats=tuple(made.roster.seats[i] for i in seats))
    refused(Code.ROSTER, host.enclosure.change, roster, made.signed("Roster", 1, roster.digest, range(5)))


def test_who_was_voted_out_signs_no_more(made: Federation, host: Host) -> None:
    smaller = following(made, seats=made.roster.seats[:4])
    host.enclosure.change(smaller, made.signed("Roster", 1, smaller.digest))
    after = replace(smaller, version=2, previous=smaller.digest)
    refused(Code.ROSTER, host.enclosure.change, after, made.signed("Roster", 2, after.digest, (0, 1, 4)))
    host.enclosure.change(after, made.signed("Roster", 2, after.digest, (0, 1, 2)))


def test_a_made_up_roster_shows_in_the_statement(made: Federation) -> None:
    puppets = replace(made.roster, seats=tuple(enclaves.member(i + 50).seat for i in range(5)))
    real, made.roster = made.roster, puppets
    statement = made.host().statement
    assert statement.roster == puppets.digest != real.digest
    # Not even when the made-up members hand over to the real ones: the digest covers all versions.
    assert replace(real, version=1, previous=puppets.digest).digest != real.digest


@pytest.mark.parametrize(
    "parts",
    [{"version": 1}, {"previous": b"p" * 32}, {"federation": b"g" * 32}, {"seats": ()}],
    ids=lambda parts: next(iter(parts)),
)
def test_the_first_roster_is_a_first_one(made: Federation, parts: dict[str, Any]) -> None:
    made.roster = replace(made.roster, **parts)
    refused(Code.ROSTER, made.host)


def test_two_seats_with_one_address_are_refused(made: Federation) -> None:
    seats = made.roster.seats
    made.roster = replace(
        made.roster, seats=(seats[0], replace(seats[1], address=seats[0].address), *seats[2:])
    )
    refused(Code.ROSTER, made.host)


@pytest.mark.parametrize(
    "terms",
    [
        terms_of(scheme="plaintext"),
        terms_of(tee=None),
        terms_of(training=Training(gamma=0.1)),
        terms_of(aggregation=replace(terms_of().aggregation, rule="sum")),
        terms_of(aggregation=replace(terms_of().aggregation, rule="clipped-mean")),
        terms_of(aggregation=replace(terms_of().aggregation, weight_cap=0)),
        terms_of(aggregation=replace(terms_of().aggregation, optimizer="sgd")),
        terms_of(layout=replace(terms_of().layout, shapes=((10,), (10**6, 10**6)))),
    ],
)
def test_terms_that_an_enclave_cannot_work_under_are_refused(terms: Any) -> None:
    refused(Code.TERMS, Federation.host, Begun(terms))


class Begun(Federation):
    """Terms and a roster without a model."""

    def __init__(self, terms: Any) -> None:
        self.terms, self.roster = terms, Federation().roster


# Attestation


def test_a_nonce_gets_one_quote(made: Federation, host: Host) -> None:
    def attest(nonce: bytes) -> msg.Attested:
        return host.enclosure._asked(msg.Attest(nonce), msg.Attested)

    attest(b"n" * 32)
    refused(Code.NONCE, attest, b"n" * 32)
    attest(b"o" * 32)


def test_a_quote_of_before_does_not_answer_a_new_nonce(made: Federation, host: Host) -> None:
    statement, evidence = host.enclosure.attest(b"n" * 32, enclaves.collected(lambda: enclaves.NOW))
    with pytest.raises(errors.Untrusted, match="another nonce"):
        enclaves.verify(evidence, enclaves.SIMULATION, enclaves.NOW, statement, b"o" * 32)


def test_a_lie_about_the_time_changes_nothing(made: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    for year in (0, 2**31, 2**40):
        monkeypatch.setattr(time, "time", lambda year=year: float(year))
        host = made.host()
        payloads = sealed_all(made, [host])
        output = host.take(manifest_of(made, payloads, [host]), payloads)
        assert output.result.result == made.plain(made.updates()).digest


def test_the_program_knows_no_clock() -> None:
    folder = Path(hansa.__file__).parent / "enclave"
    for file in folder.glob("*.py"):
        for word in ("import time", "from time", "datetime", "monotonic", "clock"):
            assert word not in file.read_text(), f"{file.name}: {word}"
    fields = {name for kind in msg.REQUESTS.values() for name in kind.__dataclass_fields__}
    assert not fields & {"now", "time", "timestamp", "at", "deadline"}


# Bytes that are not those of the commitment: the host's doing


def changed(payload: Sealed, other: Sealed) -> dict[str, tuple[bytes, bytes]]:
    blob, grant = payload.blob, payload.grant
    flipped = bytearray(blob)
    flipped[len(blob) // 2] ^= 1
    return {
        "truncated": (blob[:-1], grant),
        "emptied": (b"", grant),
        "extended": (blob + b"\0", grant),
        "flipped": (bytes(flipped), grant),
        "swapped": (other.blob, grant),
        "swapped with its grant": (other.blob, other.grant),
        "with another grant": (blob, other.grant),
        "without its grant": (blob, b""),
    }


@pytest.mark.parametrize("what", ["truncated", "emptied", "extended", "flipped", "swapped", "swapped with its grant",
                                  "with another grant", "without its grant"])  # fmt: skip
def test_a_payload_that_the_host_altered_is_refused_and_the_right_one_taken(
    made: Federation, host: Host, what: str
) -> None:
    payloads = sealed_all(made, [host])
    host.start(manifest_of(made, payloads, [host]))
    blob, grant = changed(payloads[1], payloads[2])[what]
    refused(Code.DIGEST, host.enclosure.payload, 1, grant, blob)
    finishes(made, host, payloads)


@pytest.mark.parametrize("what", ["other", "flipped", "longer", "shorter", "empty"])
def test_another_base_is_refused(made: Federation, host: Host, what: str) -> None:
    payloads = sealed_all(made, [host])
    host.start(manifest_of(made, payloads, [host]))
    data = made.base.data
    wrong = {
        "other": made.plain(made.updates()).data,
        "flipped": data[:-1] + bytes([data[-1] ^ 1]),
        "longer": data + b"\0",
        "shorter": data[:-1],
        "empty": b"",
    }[what]
    refused(Code.BASE, host.enclosure.base, wrong)
    finishes(made, host, payloads)


def test_a_base_of_another_layout_is_refused_whoever_signed(made: Federation, host: Host) -> None:
    payloads = {
        id: sealed(made, replace(u, base=encoding.digest(b"no model")), [host])
        for id, u in made.updates().items()
    }
    host.start(manifest_of(made, payloads, [host], base=encoding.digest(b"no model")))
    refused(Code.BASE, host.enclosure.base, b"no model")


def test_a_base_sealed_to_others_does_not_open(made: Federation, host: Host) -> None:
    other = made.host()
    payloads = sealed_all(made, [other])
    output = other.take(manifest_of(made, payloads, [other]), payloads)
    payloads = sealed_all(made, [host])
    host.start(manifest_of(made, payloads, [host], base=output.result.result, entries=tuple(
        replace(e, base=output.result.result) for e in manifest_of(made, payloads, [host]).entries)))  # fmt: skip
    readers = readers_digest({m.id: m.seat.key for m in made.members.values()})
    with pytest.raises(Rejected) as e:
        host.enclosure.base(output.blob, author=0, readers=readers, grant=output.grant)
    assert e.value.code == Code.BASE
    host.enclosure.base(opened(made, output, other, 0))


# Payloads that were committed like this: the member's doing


def member_payloads(made: Federation, hosts: list[Host]) -> dict[Flaw, dict[str, Sealed]]:
    right = made.updates()[1]
    good = sealed(made, right, hosts)
    says = {
        "another round": replace(right, round=2),
        "another member": replace(right, member=2),
        "another base": replace(right, base=b"b" * 32),
        "another version": replace(right, version=1),
        "more examples": replace(right, examples=10**6),
        "another time": replace(right, timestamp=1),
    }
    flipped = bytearray(good.blob)
    flipped[-20] ^= 1
    bigger = struct.pack(">Q", 2**31)
    plain = payload_bytes(made, right)
    elsewhere = replace(right, federation=b"g" * 32)
    nan = replace(right, values=np.full(LENGTH, np.nan, "f4").view("i4"))
    contexts: dict[str, Any] = {"round": 2, "member": 2, "version": 1, "domain": b"g" * 32}
    return {
        Flaw.SEAL: {
            "truncated": replace(good, blob=good.blob[:-1]),
            "extended": replace(good, blob=good.blob + b"\0"),
            "flipped": replace(good, blob=bytes(flipped)),
            "no blob": replace(good, blob=b"x" * 200),
            "short": replace(good, blob=b"x"),
            "announcing 2 GB": replace(good, blob=good.blob[:68] + bigger + good.blob[76:]),
        }
        | {
            f"for another {name}": sealed(made, right, hosts, **{name: value})
            for name, value in contexts.items()
        },
        Flaw.CONTENT: {
            "empty": sealed(made, right, hosts, plain=b""),
            "no update": sealed(made, right, hosts, plain=b"x" * 300),
            "too short": sealed(made, right, hosts, plain=plain[:-4]),
            "of floats twice as wide": sealed(made, right, hosts, plain=plain + bytes(4 * LENGTH)),
        },
        Flaw.SIGNATURE: {
            "signed by another": sealed(made, right, hosts, plain=payload_bytes(made, right, signer=2)),
            "unsigned": sealed(made, right, hosts, plain=bytes(64) + plain[64:]),
            "under another's signature": sealed(
                made, right, hosts, plain=payload_bytes(made, made.update(2, right.values))[:64] + plain[64:]
            ),
            "under that of another header": sealed(
                made, right, hosts, plain=payload_bytes(made, replace(right, examples=99))[:64] + plain[64:]
            ),
            "under that of another round": sealed(
                made, right, hosts, plain=payload_bytes(made, replace(right, round=2))[:64] + plain[64:]
            ),
        },
        Flaw.CONTEXT: {
            **{
                f"saying {name}": sealed(made, right, hosts, plain=payload_bytes(made, u, signer=1))
                for name, u in says.items()
            },
            "saying another federation": sealed(made, right, hosts, plain=payload_bytes(made, elsewhere)),
            "of no examples": sealed(made, replace(right, examples=0), hosts),
        },
        Flaw.GRANT: {
            "whose grant is none": regranted(good, b"no grant"),
            "whose grant is cut": regranted(good, good.grant[:-1]),
            "for another enclave": for_another(made, good),
            "shared with one candidate only": shared_with(made, good, hosts, 0),
            "shared with the other only": shared_with(made, good, hosts, 1),
        },
        Flaw.NORM: {
            "of not-a-numbers": sealed(
                made, nan := replace(right, values=np.full(LENGTH, np.nan, "f4").view("i4")), hosts
            ),
            "of the largest values": sealed(
                made, replace(nan, values=np.full(LENGTH, -(2**31), "i4")), hosts
            ),
        },
    }


def regranted(good: Sealed, grant: bytes, secret: bytes = b"s" * 32) -> Sealed:
    """The same update under another grant."""
    u = good.update
    plain = payload_bytes(Federation(), u)
    context = update_context(FEDERATION, u.round, u.member, u.version)
    blob = sealing.seal(plain, secret, encoding.digest(grant), context, entropy=enclaves.entropy("salt"))
    return Sealed(blob, grant, u)


def for_another(made: Federation, good: Sealed) -> Sealed:
    return sealed(made, good.update, [enclaves.stand_in(3)])


def shared_with(made: Federation, good: Sealed, hosts: list[Host], alone: int) -> Sealed:
    """The right context, the right wrap for one candidate, and another key in that of the other."""
    readers = tee.sealed_to(tuple(h.candidate for h in hosts))
    bound = sealing.grant_context(FEDERATION, readers_digest(readers), 1)
    secret = enclaves.entropy("secret", 1, 1)(32)
    wrong = {
        id: key if i == alone else enclaves.member(70).seat.key for i, (id, key) in enumerate(readers.items())
    }
    return regranted(good, sealing.make_grant(secret, wrong, bound), secret)


CASES = [
    (flaw, name)
    for flaw, cases in member_payloads(Federation(), [enclaves.stand_in(0), enclaves.stand_in(1)]).items()
    for name in cases
]


@pytest.mark.parametrize(("flaw", "name"), CASES, ids=lambda v: v if isinstance(v, str) else v.name)
def test_a_bad_payload_counts_as_nothing_at_every_candidate(flaw: Flaw, name: str) -> None:
    made = Federation(terms_of(tee=Tee(max_norm=30.0)))
    hosts = [made.host(0), made.host(1)]
    payloads = sealed_all(made, hosts) | {1: member_payloads(made, hosts)[flaw][name]}
    manifest = manifest_of(made, payloads, hosts)
    results = [host.take(manifest, payloads).result for host in hosts]
    assert results[0].invalid == results[1].invalid == ((1, flaw),)
    honest = {id: u for id, u in made.updates().items() if id != 1}
    assert results[0].result == results[1].result == made.plain(honest).digest


# Sizes and bytes


@pytest.mark.parametrize("kind", ["payload", "base"])
def test_two_gigabytes_are_refused_before_anything_is_set_aside(
    made: Federation, host: Host, kind: str
) -> None:
    payloads = sealed_all(made, [host])
    host.start(manifest_of(made, payloads, [host]))
    announced = {
        "payload": msg.Payload(1, payloads[1].grant, 2**31),
        "base": msg.Base(0, bytes(32), b"", 2**31),
    }[kind]
    tracemalloc.start()
    try:
        refused(Code.TOO_LARGE, host.enclosure._asked, announced, msg.Done)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    with pytest.raises(errors.Unavailable):
        host.enclosure.finish()


def answers(data: bytes) -> list[Any]:
    """What an enclave says to these bytes after its first words."""
    sink = BytesIO()
    serve(BytesIO(data), sink, *READY)
    sink.seek(0)
    found = []
    while (answer := msg.receive(sink, msg.ANSWERS)) is not None:
        found.append(answer)
    assert isinstance(found[0], msg.Hello)
    return found[1:]


def begun(made: Federation) -> bytes:
    return msg.encode(msg.Begin(0, FEDERATION, encoding.encode(made.terms), made.roster))


def framed(value: Any) -> bytes:
    data = encoding.encode(value)
    return struct.pack(">I", len(data)) + data


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        struct.pack(">I", 2**32 - 1),
        struct.pack(">I", 10) + b"short",
        struct.pack(">I", 1) + b"\xff",
        framed(["Nothing", {}]),
        framed(["Done", {}]),
        framed([["Finish"], {}]),
        framed(["Finish", {}, 1]),
        framed(["Finish", {"more": 1}]),
        framed(["Attest", {"nonce": b"n" * 31}]),
        framed(["Attest", {"nonce": "n" * 32}]),
        framed(["Payload", {"member": -1, "grant": b"", "size": 0}]),
        framed(["Payload", {"member": 1, "grant": b"", "size": 2**63}]),
        framed(["Payload", {"member": True, "grant": b"", "size": 1}]),
        struct.pack(">I", 14) + b"\x82\x66Finish\xbf\x61a\x01\xff\0\0",
    ],
    ids=range(15),
)
def test_what_is_no_message_ends_the_enclave(made: Federation, data: bytes) -> None:
    finish = msg.encode(msg.Finish())
    assert answers(begun(made) + data + finish) == [msg.Done(), msg.Refused(Code.MALFORMED)]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 7))
def test_no_bytes_make_it_say_more_than_a_code(data: bytes, at: int, bit: int) -> None:
    begin = bytearray(begun(Federation()))
    begin[at % len(begin)] ^= 1 << bit
    for bytes_ in (data, bytes(begin) + data, begun(Federation()) + data):
        assert all(isinstance(a, msg.Refused | msg.Done) for a in answers(bytes_))


def test_a_long_message_is_refused_before_it_is_read() -> None:
    class Source(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert 0 <= size <= msg.LIMIT
            return super().read(size)

    sink = BytesIO()
    serve(Source(struct.pack(">I", msg.LIMIT + 1)), sink, *READY)
    assert sink.getvalue().endswith(msg.encode(msg.Refused(Code.MALFORMED)))


def test_a_payload_cut_short_ends_the_enclave(made: Federation, host: Host) -> None:
    payloads = sealed_all(made, [host])
    host.start(manifest_of(made, payloads, [host]))
    enclosure = host.enclosure
    enclosure._socket.sendall(msg.encode(msg.Payload(1, payloads[1].grant, len(payloads[1].blob))))
    enclosure._socket.sendall(payloads[1].blob[:-1])
    enclosure._socket.shutdown(1)
    assert enclosure._received() == msg.Refused(Code.MALFORMED)
    with pytest.raises(errors.Unavailable):
        enclosure.finish()


def test_a_failure_inside_tells_nothing(
    made: Federation, host: Host, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a weight is 4711")

    monkeypatch.setattr(rounds, "add", fail)
    payloads = sealed_all(made, [host])
    host.start(manifest_of(made, payloads, [host]))
    with pytest.raises(Rejected) as e:
        host.enclosure.payload(1, payloads[1].grant, payloads[1].blob)
    assert e.value.code == Code.FAILED
    host.enclosure.thread.join(10)
    assert "4711" not in str(e.value) + "".join(capfd.readouterr())
    with pytest.raises(errors.Unavailable):
        host.enclosure.finish()


# Results


def test_a_result_of_another_enclave_set_or_signer_is_refused_by_members(
    made: Federation, host: Host
) -> None:
    payloads = sealed_all(made, [host])
    manifest = manifest_of(made, payloads, [host])
    output = host.take(manifest, payloads)
    key = host.statement.signing_key
    tee.check_result(output.result, output.signature, key, manifest)
    wrong = [
        (replace(output.result, result=b"r" * 32), output.signature, key, manifest),
        (replace(output.result, invalid=((1, Flaw.NORM),)), output.signature, key, manifest),
        (output.result, output.signature[:-1] + b"\0", key, manifest),
        (output.result, output.signature, made.host().statement.signing_key, manifest),
        (output.result, output.signature, key, replace(manifest, entries=manifest.entries[:4])),
        (output.result, output.signature, key, replace(manifest, round=2)),
    ]
    for arguments in wrong:
        with pytest.raises(errors.Untrusted):
            tee.check_result(*arguments)


def test_an_enclave_that_is_killed_takes_its_keys_along_and_the_next_candidate_finishes(
    made: Federation,
) -> None:
    hosts = [made.host(0, process=True), made.host(1)]
    payloads = sealed_all(made, hosts)
    manifest = manifest_of(made, payloads, hosts)
    first = hosts[0]
    first.start(manifest)
    first.enclosure.payload(1, payloads[1].grant, payloads[1].blob)
    first.enclosure._process.kill()
    with pytest.raises(errors.Unavailable, match="the enclave is gone"):
        first.enclosure.payload(2, payloads[2].grant, payloads[2].blob)
    hosts[1].start(manifest)
    finishes(made, hosts[1], payloads)
    again = made.host(0)
    refused(Code.MANIFEST, again.start, manifest)
