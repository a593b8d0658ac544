from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.tiny import terms

from hansa import encoding, errors
from hansa.crypto import sealing
from hansa.protocol.contexts import readers_digest
from hansa.protocol.events import Committed
from hansa.protocol.state import RoundState, State
from hansa.protocol.timing import pack_meta
from hansa.records import Layout, Limits, Parameters, Update
from hansa.schemes import plaintext

KEYS = {i: bytes([i + 1]) * 32 for i in range(4)}
READERS = {i: sealing.public_key(k) for i, k in KEYS.items()}
DOMAIN, BASE = b"d" * 32, b"m" * 32


NOTHING: dict[bytes, bytes] = {}
TERMS = replace(terms([]), layout=Layout(("w",), ((5,),), 16))


def entropy(label: str, n: int) -> bytes:
    return (encoding.digest(label.encode()) * (n // 32 + 1))[:n]


def scheme(id: int, key: bytes | None = None, **limits: int) -> plaintext.Plaintext:
    return plaintext.create(
        id=id, private_key=key or KEYS[id], sign=bytes, entropy=entropy, limits=Limits(**limits), terms=TERMS
    )


def update(member: int = 0, **changes) -> Update:
    made = Update(DOMAIN, 3, member, 0, BASE, 10, 20, 30, 5, np.arange(5, dtype=np.int32))
    return replace(made, **changes)


def state(readers=READERS, **metas) -> State:
    meta = pack_meta(30, 20, 10)
    commits = {i: Committed(3, i, 0, bytes(32), meta) for i in KEYS}
    current = RoundState(roster=frozenset(KEYS), readers=readers, commits=commits)
    return State(
        Parameters(bytes(32)), frozenset(), bytes(20), DOMAIN, BASE, round=3, models=(BASE,), current=current
    )


def sealed(at: State, author: int = 0, **changes):
    made = scheme(author).seal(at, update(author, **changes), NOTHING.__getitem__)
    lying = {encoding.digest(b): b for b in made.attachments}
    return made.blob, lying.__getitem__


def test_every_reader_opens_an_update_and_gets_the_same():
    at = state()
    blob, fetch = sealed(at)
    for id in KEYS:
        opened = scheme(id).check(at, 0, blob, fetch)
        assert opened.values.tolist() == [0, 1, 2, 3, 4]
        assert (opened.member, opened.round, opened.examples) == (0, 3, 10)


def test_the_store_sees_neither_values_nor_names():
    blob, _ = sealed(state(), values=np.full(5, 0x41424344, np.int32))
    assert b"DCBA" not in blob
    assert b"hansa/update" not in blob
    assert DOMAIN not in blob


def test_who_is_not_on_the_roster_opens_nothing():
    at = state()
    blob, fetch = sealed(at)
    with pytest.raises(errors.Untrusted):
        scheme(9, b"\x63" * 32).check(at, 0, blob, fetch)
    with pytest.raises(errors.Untrusted):
        scheme(1, b"\x63" * 32).check(at, 0, blob, fetch)


def test_a_blob_opens_for_its_author_and_round_only():
    at = state()
    blob, fetch = sealed(at)
    with pytest.raises(errors.Untrusted):
        scheme(1).check(at, 2, blob, fetch)
    for other in (
        replace(at, domain=b"x" * 32),
        replace(at, current=replace(at.current, readers={i: READERS[i] for i in (0, 1)})),
        replace(at, current=replace(at.current, commits={0: Committed(4, 0, 0, bytes(32), 0)})),
    ):
        with pytest.raises((errors.Untrusted, KeyError)):
            scheme(1).check(other, 0, blob, fetch)


@pytest.mark.parametrize(
    "lie", [{"examples": 11}, {"millis": 1}, {"timestamp": 1}, {"base": bytes(32)}, {"federation": bytes(32)}]
)
def test_an_update_that_differs_from_its_commitment_is_refused(lie):
    at = state()
    blob, fetch = sealed(at, **lie)
    with pytest.raises(errors.Untrusted, match=next(iter(lie))):
        scheme(1).check(at, 0, blob, fetch)


def test_every_flipped_byte_is_noticed():
    at = state()
    blob, fetch = sealed(at)
    for k in range(len(blob)):
        bent = bytearray(blob)
        bent[k] ^= 1
        with pytest.raises((errors.Untrusted, KeyError)):
            scheme(1).check(at, 0, bytes(bent), fetch)
    for n in range(0, len(blob), 7):
        with pytest.raises((errors.Untrusted, KeyError)):
            scheme(1).check(at, 0, blob[:n], fetch)


def test_a_grant_serves_as_long_as_the_readers_stay():
    author, at = scheme(0), state()
    first, second = (
        author.seal(at, update(), NOTHING.__getitem__),
        author.seal(at, update(round=3, timestamp=31), NOTHING.__getitem__),
    )
    assert first.attachments == second.attachments
    assert first.blob != second.blob
    fewer = state(readers={i: READERS[i] for i in (0, 1, 2)})
    assert author.seal(fewer, update(), NOTHING.__getitem__).attachments != first.attachments


def test_a_reader_needs_a_grant_once():
    at = state()
    blob, fetch = sealed(at)
    reader, asked = scheme(1), []

    def count(digest):
        asked.append(digest)
        return fetch(digest)

    reader.check(at, 0, blob, count)
    reader.check(at, 0, blob, count)
    assert len(asked) == 1


def test_a_grant_that_cannot_be_had_passes_its_error_on():
    at = state()
    blob, _ = sealed(at)

    def nothing(digest):
        raise errors.Unavailable("not there")

    with pytest.raises(errors.Unavailable):
        scheme(1).check(at, 0, blob, nothing)


def test_a_model_opens_for_its_readers_author_and_version():
    at = state()
    made = scheme(2).release(at, 7, b"the model")
    fetch = {encoding.digest(b): b for b in made.attachments}.__getitem__
    assert scheme(1).open_release(DOMAIN, READERS, 2, 7, made.blob, fetch) == b"the model"
    for domain, author, version in ((b"x" * 32, 2, 7), (DOMAIN, 1, 7), (DOMAIN, 2, 8)):
        with pytest.raises(errors.Untrusted):
            scheme(1).open_release(domain, READERS, author, version, made.blob, fetch)


def test_more_than_the_limit_is_not_opened():
    at = state()
    made = scheme(2).release(at, 7, bytes(5000))
    fetch = {encoding.digest(b): b for b in made.attachments}.__getitem__
    with pytest.raises(errors.Untrusted):
        scheme(1, blob=4000).open_release(DOMAIN, READERS, 2, 7, made.blob, fetch)


def test_nobody_opens_what_some_verifiers_could_not():
    """The author gives its key to readers 0 to 2 only: 3 alone would notice, and could not judge the result."""
    at = state()
    cheat = scheme(0)
    roster = readers_digest(READERS)
    secret, context = b"s" * 32, sealing.grant_context(DOMAIN, roster, 0)
    cheat._grants._grant = (roster, secret, sealing.make_grant(secret, READERS | {3: bytes(32)}, context))
    made = cheat.seal(at, update(0), NOTHING.__getitem__)
    fetch = {encoding.digest(b): b for b in made.attachments}.__getitem__
    for verifiers, opens in ((frozenset({0, 1}), True), (frozenset({0, 1, 3}), False)):
        seen = replace(at, current=replace(at.current, verifiers=verifiers))
        for id in (1, 2):
            if opens:
                assert scheme(id).check(seen, 0, made.blob, fetch).member == 0
            else:
                with pytest.raises(errors.Untrusted, match="does not serve all"):
                    scheme(id).check(seen, 0, made.blob, fetch)
    release = cheat.release(at, 1, b"model")
    with pytest.raises(errors.Untrusted, match="does not serve all"):
        scheme(1).open_release(DOMAIN, READERS, 0, 1, release.blob, fetch)


def test_opened_values_are_shared_and_so_cannot_be_changed():
    at = state()
    blob, fetch = sealed(at)
    opened = scheme(1).check(at, 0, blob, fetch)
    assert scheme(2).check(at, 0, blob, fetch).values is opened.values
    with pytest.raises(ValueError, match="read-only"):
        opened.values[0] = 9


@pytest.mark.parametrize("other", [{"round": 4}, {"member": 1}, {"version": 1}])
def test_what_one_party_opened_is_not_given_out_under_another_name(other):
    at = state()
    blob, fetch = sealed(at)
    scheme(1).check(at, 0, blob, fetch)
    commit = replace(at.current.commits[0], round=other.get("round", 3), base=other.get("version", 0))
    author = other.get("member", 0)
    renamed = replace(at, models=(BASE, BASE), current=replace(at.current, commits={author: commit}))
    with pytest.raises(errors.Untrusted):
        scheme(1).check(renamed, author, blob, fetch)


def test_what_one_party_opened_is_not_given_to_one_with_another_secret():
    """A second grant of the same digest's place, with a secret that opens nothing."""
    at = state()
    blob, fetch = sealed(at)
    scheme(1).check(at, 0, blob, fetch)
    stranger = scheme(2)
    stranger._grants.secret = lambda *_: bytes(sealing.SECRET_BYTES)
    with pytest.raises(errors.Untrusted):
        stranger.check(at, 0, blob, fetch)
