"""What an owner does with SPU: deal shares of an array, and put an array together from all parties' shares."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa import errors
from hansa.mpc.lowering import require_spu
from hansa.mpc.program import Variable
from hansa.mpc.setting import Setting, dealt_kind, is_public
from hansa.mpc.shares import DTYPES, Share, component_digests, disagreements, new_salt

BOUND = 2.0**13
"""Largest absolute value that is shared by default: products and their sums must stay below 2^27 under fm64, beyond
which fixed point gives wrong results without a word."""

_SPU_TYPES = {"float32": "DT_F32", "int32": "DT_I32", "bool": "DT_I1"}


def spu() -> ModuleType:
    """SPU's module. Raises `Misconfigured` where it is not installed."""
    require_spu()
    return importlib.import_module("spu")


def make_shares(
    array: NDArray[Any], variable: Variable, *, job: bytes, setting: Setting, bound: float = BOUND
) -> list[Share]:
    """Shares of an array, one a party by rank, of fresh randomness.

    Raises `Misconfigured` when the array has not the variable's type and shape, or holds a value that is not finite
    or above `bound`: nothing would tell that computing with it goes wrong.
    """
    checked(array, variable, bound)
    kind, salt = dealt_kind(setting, variable.dtype), new_salt()
    module = spu()
    dealt = _io(setting).make_shares(np.ascontiguousarray(array), module.Visibility.VIS_SECRET)
    return [
        Share(job, setting, rank, variable, kind, _content(found), salt) for rank, found in enumerate(dealt)
    ]


def checked(array: NDArray[Any], variable: Variable, bound: float = BOUND) -> NDArray[Any]:
    """The array, if it is one of this variable that can be shared. Raises `Misconfigured`."""
    if variable.dtype not in DTYPES or array.dtype.name != variable.dtype or array.shape != variable.shape:
        raise errors.Misconfigured(
            f"{variable.name} is {array.dtype.name} {array.shape}, expected {variable.dtype} {variable.shape}",
            hint="Give the type and shape that the training script declares.",
        )
    if variable.dtype == "float32" and array.size:
        largest = float(np.abs(array).max())
        if not math.isfinite(largest) or largest > bound:
            what = f"a value as large as {largest:.3g}" if math.isfinite(largest) else "NaN or infinity"
            raise errors.Misconfigured(
                f"{variable.name} holds {what}, and shared values must lie within {bound:g}",
                hint="Fill what is missing and standardise features; a training that diverges needs a smaller rate.",
            )
    return array


def reconstruct(shares: Sequence[Share]) -> NDArray[Any]:
    """The array that all parties' shares make up, in any order.

    Raises `Untrusted` when they are not one share of each party of one variable and job, or when two parties that
    hold the same component show different bytes (ABY3).
    """
    ordered = sorted(shares, key=lambda s: s.rank)
    first = ordered[0]
    ranks = [s.rank for s in ordered]
    same = {(s.job, s.setting, s.variable, s.kind, s.salt) for s in ordered}
    if ranks != list(range(first.setting.parties)) or len(same) != 1:
        raise errors.Untrusted(
            f"the shares of {first.variable.name} do not belong together: parties {ranks}, {len(same)} kinds",
            hint="One share of each party is needed, of the same job and variable.",
        )
    name = first.variable.name
    pairs = disagreements({s.rank: component_digests({name: s}) for s in ordered})
    if is_public(first.kind) and len({s.content for s in ordered}) > 1:
        pairs = pairs or [(0, 1)]
    if pairs:
        raise errors.Untrusted(
            f"parties {' and '.join(f'{a}, {b}' for a, b in pairs)} hold different bytes of {name}",
            hint="A party that stands in every pair altered its share.",
        )
    found: NDArray[Any] = np.asarray(_io(first.setting).reconstruct([to_spu(s) for s in ordered]))
    return found.astype(first.variable.dtype).reshape(first.variable.shape)


def public_share(
    array: NDArray[Any], variable: Variable, *, job: bytes, setting: Setting, rank: int
) -> Share:
    """A public variable in the form in which a runtime holds it."""
    checked(array, variable)
    dealt = _io(setting).make_shares(np.ascontiguousarray(array), spu().Visibility.VIS_PUBLIC)
    return Share(job, setting, rank, variable, f"Pub2k<{setting.field}>", _content(dealt[rank]))


def to_spu(share: Share) -> Any:
    """SPU's own share."""
    lib = spu().libspu
    meta, chunk, found = lib.ValueMeta(), lib.ValueChunk(), lib.Share()
    meta.data_type = getattr(lib.DataType, _SPU_TYPES[share.variable.dtype])
    meta.visibility = lib.Visibility.VIS_PUBLIC if is_public(share.kind) else lib.Visibility.VIS_SECRET
    meta.shape, meta.storage_type = list(share.variable.shape), share.kind
    chunk.total_bytes, chunk.content = len(share.content), share.content
    found.meta, found.share_chunks = meta.SerializeToString(), [chunk.SerializeToString()]
    return found


def from_spu(found: Any, name: str, *, job: bytes, setting: Setting, rank: int) -> Share:
    """A share out of SPU's own."""
    meta = spu().libspu.ValueMeta()
    meta.ParseFromString(found.meta)
    dtype = next((d for d, t in _SPU_TYPES.items() if meta.data_type.name == t), None)
    if dtype is None:
        raise errors.Misconfigured(
            f"{name} came out of SPU as {meta.data_type.name}",
            hint=f"Results must be of {', '.join(DTYPES)}: cast them in the executable.",
        )
    variable = Variable(name, tuple(meta.shape.dims), dtype)
    return Share(job, setting, rank, variable, meta.storage_type, _content(found))


def runtime_config(setting: Setting) -> Any:
    """SPU's configuration for a setting."""
    module = spu()
    protocol, field = (
        module.parse_protocol_kind(setting.spu_protocol),
        module.parse_field_type(setting.field),
    )
    return module.RuntimeConfig(protocol, field)


@lru_cache(maxsize=8)
def _io(setting: Setting) -> Any:
    return spu().Io(setting.parties, runtime_config(setting))


def _content(found: Any) -> bytes:
    """Bytes of SPU's chunks, in their order."""
    parts = []
    for data in found.share_chunks:
        chunk = spu().libspu.ValueChunk()
        chunk.ParseFromString(data)
        parts.append(bytes(chunk.content))
    return b"".join(parts)
