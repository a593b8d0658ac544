"""A checkpoint: a model and the state of its server optimiser, whose digest stands on the chain.

Without an optimiser it is the canonical model and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa import encoding, errors
from hansa.crypto import fixedpoint
from hansa.protocol import framing, optimizers
from hansa.protocol.aggregation import Contribution, mean_delta
from hansa.protocol.model import decode_model, encode_model, from_arrays, parameters
from hansa.protocol.state import State
from hansa.records import AggregationTerms, Layout, Limits, Model, Update

_KIND = "hansa/checkpoint/1"
_EVIDENCE = "hansa/evidence/1"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A model, its optimiser's state, their canonical bytes and the SHA-256 of these."""

    model: Model
    state: optimizers.OptimizerState
    data: bytes
    digest: bytes


def make(model: Model, state: optimizers.OptimizerState) -> Checkpoint:
    """Checkpoint of a model and a state."""
    data = encode_model(model)
    if state.optimizer != "none":
        data = framing.pack(_KIND, {"model": len(data)}, data, optimizers.encode_state(state))
    return Checkpoint(model, state, data, encoding.digest(data))


def initial(terms: AggregationTerms, model: Model) -> Checkpoint:
    """Checkpoint of the initial model."""
    return make(model, optimizers.initial_state(terms, model.values.size, model.layout.scale))


def decode(
    data: bytes, terms: AggregationTerms, layout: Layout, limits: Limits, *, digest: bytes | None = None
) -> Checkpoint:
    """Read canonical bytes; `digest`: their SHA-256, where the caller has computed or checked it already.

    Raises `Untrusted` when they are not a checkpoint under these terms.
    """
    digest = digest or encoding.digest(data)
    length = parameters(layout)
    if terms.optimizer == "none":
        state = optimizers.initial_state(terms, length, layout.scale)
        return Checkpoint(decode_model(data, limits, layout), state, data, digest)
    header, body = framing.unpack(data, _KIND, {"model": int}, limit=limits.record)
    split = header["model"]
    if not 0 < split <= len(body):
        raise errors.Untrusted("checkpoint announces a model longer than itself", digest=digest)
    model = decode_model(bytes(body[:split]), limits, layout)
    state = optimizers.decode_state(bytes(body[split:]), limits=limits, terms=terms, length=length)
    return Checkpoint(model, state, data, digest)


def advance(terms: AggregationTerms, base: Checkpoint, contributions: Iterable[Contribution]) -> Checkpoint:
    """The next checkpoint: the joint update under the terms' rule, then the server optimiser.

    Raises as `mean_delta` and `optimizers.step` do.
    """
    layout = base.model.layout
    return advance_by(terms, base, mean_delta(terms, contributions, base.model.values.size, layout.scale))


def advance_by(terms: AggregationTerms, base: Checkpoint, delta: NDArray[np.int32]) -> Checkpoint:
    """The next checkpoint from a joint update that is already there. Raises as `optimizers.step` does."""
    values, state = optimizers.step(terms, base.model, delta, base.state)
    return make(Model(base.model.layout, values), state)


def shifted(base: Model, delta: NDArray[np.int32]) -> Model:
    """A model with a dense int32 delta added, saturated."""
    return Model(base.layout, fixedpoint.saturate(np.add(base.values, delta, dtype=np.int64)))


def candidate(base: Model, update: Update) -> Model:
    """The base model with one update added, saturated: what an evaluator judges."""
    if update.indices is None:
        return shifted(base, update.values)
    delta = np.zeros_like(base.values)
    delta[update.indices] = update.values
    return shifted(base, delta)


def difference(base: Model, values: Mapping[str, NDArray[Any]]) -> NDArray[np.int32]:
    """What training changed, as int32 in the model's scale.

    Raises `Untrusted` on NaN and infinity, `Misconfigured` when training changed the model's layout.
    """
    after, _ = from_arrays(values, base.layout.scale)
    if after.layout != base.layout:
        raise errors.Misconfigured(
            "training changed names or shapes of the model's parameters",
            hint="Train the given model in place.",
        )
    return fixedpoint.saturate(np.subtract(after.values, base.values, dtype=np.int64))


def evidence(terms: AggregationTerms, state: State, sealed: bytes) -> bytes:
    """What a leader publishes with its proposal: where the sealed model lies and what went into it."""
    current = state.current
    return encoding.encode(
        {
            "kind": _EVIDENCE,
            "federation": state.domain,
            "round": state.round,
            "base": state.model,
            "set_root": current.set_root,
            "selected": sorted(current.selected),
            "rule": terms.rule,
            "optimizer": terms.optimizer,
            "sealed": sealed,
        }
    )


def sealed_digest(data: bytes) -> bytes:
    """Digest of the sealed model that an evidence record names. Raises `Untrusted`."""
    record = encoding.decode(data)
    sealed = record.get("sealed") if isinstance(record, dict) and record.get("kind") == _EVIDENCE else None
    if not isinstance(sealed, bytes) or len(sealed) != 32:
        raise errors.Untrusted("not an evidence record", digest=encoding.digest(data))
    return sealed
