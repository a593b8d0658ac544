"""The standing model of scheme `secagg` as its contributors left it in the store; needs no node."""

from __future__ import annotations

from dataclasses import replace

from hansa import encoding, errors
from hansa.ports import Fetch, Half, Summing
from hansa.protocol import secagg
from hansa.protocol.state import State, record_of
from hansa.records import RecordKind, Terms


def secret_of(scheme: Summing, terms: Terms, state: State, id: int, fetch: Fetch) -> bytes:
    """The secret of the standing model's opening. Raises `Unavailable` if it was not sealed to `id`, `Untrusted`."""
    found, halves = secagg.parties(terms, state), []
    for group in (found.centres, found.servers):
        given = secagg.half(state, state.model_round, group)
        if given is None:
            raise errors.Unavailable(f"no half of the opening of round {state.model_round} is recorded")
        half = Half(given[0], fetch(given[1]))
        admitted = secagg.readmission(state, id, group)
        halves.append(replace(half, admission=fetch(admitted[1])) if admitted else half)
    return scheme.secret(state, state.model_round, halves, fetch)


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
