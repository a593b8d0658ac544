"""The standing model of scheme `secagg` as its contributors left it in the store; needs no node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import cast

from hansa import encoding, errors
from hansa.ports import Delegating, Fetch, Half, Summing
from hansa.protocol import attested, secagg
from hansa.protocol.state import State, record_of
from hansa.records import RecordKind, Terms


def halves_of(terms: Terms, state: State, round: int, id: int, fetch: Fetch) -> list[Half]:
    """The halves of a round's opening that are recorded and can be had, with what lets `id` in afterwards."""
    found, halves = secagg.parties(terms, state), []
    for group in (found.centres, found.servers):
        admitted = secagg.readmissions(state, id, group) if round == state.model_round else {}
        admissions = tuple(_present(admitted.values(), fetch))
        for author, digest in secagg.halves(state, round, group).items():
            halves += [Half(author, blob, admissions) for blob in _present([digest], fetch)]
    return halves


def _present(digests: Iterable[bytes], fetch: Fetch) -> Iterator[bytes]:
    for digest in digests:
        with suppress(errors.Unavailable):
            yield fetch(digest)


def secret_of(scheme: Summing, terms: Terms, state: State, id: int, fetch: Fetch) -> bytes:
    """The secret of the standing model's opening. Raises `Unavailable` if it was not sealed to `id`, `Untrusted`."""
    round = state.model_round
    if terms.tee is not None:
        return _delivered(cast(Delegating, scheme), terms, state, fetch)
    return scheme.secret(state, round, halves_of(terms, state, round, id, fetch), fetch)


def _delivered(scheme: Delegating, terms: Terms, state: State, fetch: Fetch) -> bytes:
    """The same out of what an enclave opened. Whether that was one a model shows that opens by it, and is the right
    one."""
    why: errors.HansaError = errors.Unavailable("no enclave has recorded what it opened")
    for host, digest in sorted(secagg.deliveries(terms, state, state.model_round).items()):
        try:
            found = attested.read_delivery(fetch(digest))
            said = found.result
            return scheme.open_package(found.manifest, host, said.result, fetch(said.sealed), fetch).secret
        except (errors.Unavailable, errors.Untrusted) as e:
            why = e
    raise why


def model_of(scheme: Summing, terms: Terms, state: State, id: int, fetch: Fetch) -> bytes:
    """The standing model's checkpoint from one of its contributors: its digest proves it.

    Raises as `secret_of` does, and `Unavailable` as long as none of them has released it.
    """
    secret = secret_of(scheme, terms, state, id, fetch)
    why = "its contributors do so when the next round opens or training ends"
    for author in sorted(state.model_set):
        digest = record_of(state, state.model_round, RecordKind.RELEASE, author)
        if digest is None:
            continue
        try:
            data = scheme.open_model(state, secret, fetch(digest))
        except (errors.Unavailable, errors.Untrusted) as e:
            why = str(e)
            continue
        if encoding.digest(data) == state.model:
            return data
    raise errors.Unavailable(f"the model of version {state.version} is not released yet: {why}")
