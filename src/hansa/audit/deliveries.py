"""What enclaves opened under `tee.inner`: set, quorum and signature of each delivery, and what is in it."""

from __future__ import annotations

from typing import cast

from hansa import encoding, errors
from hansa.audit.attestations import Attestations
from hansa.audit.blobs import KEPT, STORE
from hansa.audit.case import Case
from hansa.ports import Delegating, Opened, Scheme
from hansa.protocol import attested, secagg
from hansa.protocol.attested import Candidate, Delivery
from hansa.protocol.state import State
from hansa.protocol.tee import readers_of

UNSEEN = (
    "whether the sums are those under the masks. Enclaves alone put the halves together; that they ran the program of "
    "the terms is what their quotes say."
)


def delivered(case: Case, attestations: Attestations, state: State) -> Opened:
    """The sums that the enclaves of a round opened; all deliveries must hold, and give the same.

    Raises `Unavailable` when there is none, or no reader's key is at hand; `Untrusted`.
    """
    found: Opened | None = None
    known = _candidates(case, attestations, state)
    results = set()
    for host, digest in sorted(secagg.deliveries(case.terms, state, state.round).items()):
        subject = f"delivery of round {state.round} by {host}"
        case.blobs.require(digest, subject, STORE, KEPT)
        delivery = attested.read_delivery(case.blobs.get(digest))
        attested.check_delivery(case.terms, state, delivery, known, host, delivery.result.result)
        case.blobs.require(delivery.result.sealed, f"sums in the {subject}", STORE, KEPT)
        results.add(delivery.result.result)
        found = found or _opened(case, delivery, host)
    if len(results) > 1:
        raise errors.Untrusted("two enclaves signed different sums", digest=min(results))
    if found is None:
        raise errors.Unavailable("no enclave has recorded what it opened")
    return found


def _opened(case: Case, delivery: Delivery, host: int) -> Opened:
    said, fetch = delivery.result, case.blobs.get

    def opened_by(scheme: Scheme) -> Opened:
        blob = fetch(said.sealed)
        return cast(Delegating, scheme).open_package(delivery.manifest, host, said.result, blob, fetch)

    return case.keys.first(readers_of(delivery.manifest), opened_by)


def _candidates(case: Case, attestations: Attestations, state: State) -> dict[int, Candidate]:
    """The round's enclaves as their attestations name them, which must hold."""
    known = {}
    for host, digest in attested.candidates(case.terms, state).items():
        attestations.candidate(state, host, digest)
        data = case.blobs.get(digest)
        known[host], statement = attested.candidate(host, data)
        if statement.federation != state.domain:
            raise errors.Untrusted("the enclave is for another federation", digest=encoding.digest(data))
    return known
