"""What a member seals under scheme `tee`, for whom, and what verifiers take."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests import tiny
from tests.vouched import founded, opened, says

from hansa import encoding, errors
from hansa.crypto import sealing
from hansa.protocol import attested, tee
from hansa.protocol.attested import Attestation
from hansa.protocol.contexts import readers_digest, update_context
from hansa.protocol.model import parameters
from hansa.protocol.payloads import decode_payload, payload_limit
from hansa.protocol.state import State
from hansa.protocol.statements import Statement
from hansa.records import Limits, RecordKind, Terms, Update
from hansa.schemes import tee as scheme

KEYS = {host: b"%032d" % (host + 7) for host in range(3)}


class Place:
    """A federation in round 1 with candidates 0, 1 and 2, and what its store holds."""

    def __init__(self) -> None:
        terms, state = founded(4)
        self.store: dict[bytes, bytes] = {}
        for host, key in KEYS.items():
            said = Statement(state.domain, bytes(32), bytes(32), sealing.public_key(key), b"a" * 20, "p")
            digest = self.put(encoding.encode(Attestation(b"%d" % host, encoding.encode(said))))
            state = says(state, host, host, digest, RecordKind.ATTESTATION)
            for id in range(4):
                state = says(state, id, host, digest)
        self.terms: Terms = terms
        self.state: State = opened(state)
        self.length = parameters(terms.layout)

    def put(self, data: bytes) -> bytes:
        self.store[encoding.digest(data)] = data
        return encoding.digest(data)

    def fetch(self, digest: bytes) -> bytes:
        if digest not in self.store:
            raise errors.Unavailable("not there")
        return self.store[digest]

    def party(self, id: int) -> scheme.Enclaved:
        p = tiny.party(0, f"m{id}")
        return scheme.create(
            id=id,
            private_key=p.sealing_key,
            sign=p.sign,
            entropy=lambda _, n: secrets.token_bytes(n),
            limits=Limits(),
            terms=self.terms,
        )

    def update(self, id: int = 3, **changes: Any) -> Update:
        values = np.arange(self.length, dtype=np.int32)
        made = Update(self.state.domain, 1, id, 0, self.state.model, 10, 20, 30, self.length, values)
        return replace(made, **changes)

    def sealed(self, id: int = 3) -> tuple[bytes, bytes]:
        """A blob and its grant, which lies in the store."""
        made = self.party(id).seal(self.state, self.update(id), self.fetch)
        (grant,) = made.attachments
        self.put(grant)
        return made.blob, grant


def test_every_candidate_opens_an_update_and_members_do_not() -> None:
    place = Place()
    blob, grant = place.sealed()
    readers = tee.sealed_to(tuple((host, sealing.public_key(key)) for host, key in KEYS.items()))
    context = sealing.grant_context(place.state.domain, readers_digest(readers), 3)
    for host, key in KEYS.items():
        secret = sealing.open_grant(grant, tee.reader_id(host), key, context)
        bound = update_context(place.state.domain, 1, 3, 0)
        data = sealing.open_sealed(blob, secret, bound, limit=payload_limit(place.length))
        update, _, _ = decode_payload(data, place.length)
        assert np.array_equal(update.values, place.update().values)
    assert sealing.serves(grant, secret, readers, context)
    assert sealing.read_grant(grant).readers == [tee.reader_id(host) for host in KEYS]
    with pytest.raises(errors.Untrusted):
        sealing.open_grant(grant, 0, tiny.party(0, "m0").sealing_key, context)


def test_nothing_is_sealed_while_no_enclave_is_attested() -> None:
    place = Place()
    with pytest.raises(errors.Unavailable, match="no enclave is attested"):
        place.party(3).seal(opened(founded(4)[1]), place.update(), place.fetch)


def test_verifiers_take_what_may_be_an_update_for_all_candidates() -> None:
    place = Place()
    blob, grant = place.sealed()
    verifier = place.party(0)
    verifier.check(place.state, 3, blob, place.fetch)
    assert verifier.references(blob) == (encoding.digest(grant),)
    with pytest.raises(errors.Untrusted, match="no sealed update"):
        verifier.check(place.state, 3, blob + b"\0", place.fetch)
    with pytest.raises(errors.Untrusted, match="no sealed update"):
        verifier.check(place.state, 3, blob[:-1], place.fetch)
    with pytest.raises(errors.Untrusted, match="not a sealed blob"):
        verifier.check(place.state, 3, b"junk", place.fetch)
    huge = sealing.HEADER_BYTES - 8
    announced = 2 * 2**30
    with pytest.raises(errors.Untrusted, match="no sealed update"):
        verifier.check(place.state, 3, blob[:huge] + announced.to_bytes(8, "big"), place.fetch)
    with pytest.raises(errors.Unavailable):
        verifier.check(place.state, 3, blob, Place().fetch)


@pytest.mark.parametrize("hosts", [[0, 1], [0, 1, 2, 3], [0]])
def test_an_update_for_other_enclaves_is_refused(hosts: list[int]) -> None:
    place = Place()
    keys = {tee.reader_id(host): sealing.public_key(b"%032d" % (host + 7)) for host in hosts}
    secret = bytes(range(32))
    grant = sealing.make_grant(secret, keys, b"any")
    data = bytes(payload_limit(place.length))
    blob = sealing.seal(data, secret, place.put(grant), b"any", entropy=secrets.token_bytes)
    with pytest.raises(errors.Untrusted, match="other enclaves"):
        place.party(0).check(place.state, 3, blob, place.fetch)
    blob = sealing.seal(data, secret, place.put(b"junk"), b"any", entropy=secrets.token_bytes)
    with pytest.raises(errors.Untrusted, match="not a grant"):
        place.party(0).check(place.state, 3, blob, place.fetch)


def test_candidates_of_another_round_are_looked_up_anew() -> None:
    place = Place()
    member = place.party(3)
    member.seal(place.state, place.update(), place.fetch)
    later = opened(place.state, place.terms.tee.epoch + 2)
    assert attested.candidates(place.terms, later) == {}
    with pytest.raises(errors.Unavailable, match="no enclave is attested"):
        member.seal(later, place.update(), place.fetch)


def test_a_model_goes_to_the_roster() -> None:
    place = Place()
    made = place.party(1).release(place.state, 1, b"model")
    for attachment in made.attachments:
        place.put(attachment)
    readers = place.state.current.readers
    given = (place.state.domain, readers, 1, 1, made.blob, place.fetch)
    assert [place.party(id).open_release(*given) for id in range(4)] == [b"model"] * 4
