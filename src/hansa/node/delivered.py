"""The model of scheme `mpc` out of what computing parties delivered to one owner; needs no node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from hansa import encoding, errors
from hansa.ports import Dealing, Fetch, Sharing
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import mpc
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.model import from_arrays
from hansa.protocol.mpc import Delivery, Settlement
from hansa.protocol.state import State
from hansa.records import Terms

Shares = Mapping[str, bytes]
"""A party's shares of the parameters, by name."""


def settled(terms: Terms, state: State, fetch: Fetch) -> Settlement:
    """The accepted settlement, made again out of the parties' records. Raises `Unavailable`, `Untrusted`."""
    made = mpc.settle(terms, state, fetch)
    if encoding.digest(encoding.encode(made)) != state.current.result:
        raise errors.Untrusted("the proposed settlement is not what comes of the parties' records")
    return made


def shares_of(
    scheme: Dealing, sharing: Sharing, state: State, delivery: Delivery, id: int, fetch: Fetch
) -> Shares:
    """A party's shares of the model for an owner, held against what it recorded. Raises `Unavailable`, `Untrusted`."""
    shares = scheme.unpack(state, delivery.party, fetch(dict(delivery.packages)[id]), fetch)
    rank = mpc.parties(state).index(delivery.party)
    if sharing.components(mpc.job(state), rank, shares) != delivery.components:
        raise errors.Untrusted(
            f"party {delivery.party} sent owner {id} other shares of the model than it recorded"
        )
    return shares


def arrays_of(
    scheme: Dealing, sharing: Sharing, state: State, made: Settlement, id: int, fetch: Fetch
) -> dict[str, NDArray[Any]]:
    """The trained parameters, by name, out of all parties' shares for an owner. Raises `Unavailable`, `Untrusted`."""
    if id not in made.owners:
        raise errors.Unavailable(
            f"the model was not delivered to owner {id}: the parties could not use its shares",
            hint="What they recorded says why.",
        )
    deliveries = (mpc.read_delivery(fetch(digest), state, p, made.owners) for p, digest in made.deliveries)
    parts = [shares_of(scheme, sharing, state, delivery, id, fetch) for delivery in deliveries]
    return sharing.reconstruct(mpc.job(state), parts)


def model_of(
    scheme: Dealing, sharing: Sharing, terms: Terms, state: State, id: int, fetch: Fetch
) -> tuple[Checkpoint, int]:
    """The trained model, and how many of its values are too large for its scale. Raises as `arrays_of`."""
    arrays = arrays_of(scheme, sharing, state, settled(terms, state, fetch), id, fetch)
    model, saturated = from_arrays(arrays, terms.layout.scale)
    return ckpt.initial(terms.aggregation, model), saturated
