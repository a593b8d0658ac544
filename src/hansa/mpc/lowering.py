"""From a declared network to a program with executables: each function on shares is traced by jax and compiled by SPU.

An executable depends on the declaration, the numbers of rows and the versions of everything that compiles it; all of
that is hashed, and what was compiled once under a hash is read from a cache folder the next time. SPU has no cache.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from hansa import errors
from hansa.encoding import digest as digest_of
from hansa.encoding import encode
from hansa.mpc import bottleneck, layers, outline
from hansa.mpc.network import describe
from hansa.mpc.outline import PUBLIC, Graph, Outline
from hansa.mpc.program import Program
from hansa.mpc.training import Training

EXECUTABLE_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of an executable that are read from the cache; the largest of our examples has 20 KB."""


def lower(training: Training, counts: Sequence[int], *, cache: Path | None = None) -> Program:
    """The program for owners with `counts` rows, with its executables, from `cache` where they are there.

    Raises `Misconfigured` where SPU is not installed or counts do not fit the script.
    """
    drawn = outline.outline(training, counts)
    key = cache_key(training, counts) if cache else ""
    executables = {}
    for name, graph in drawn.shared.items():
        kept = cache / f"{key}-{name}.spu" if cache else None
        known = _read(kept) if kept else None
        executables[name] = known or compile_graph(name, graph)
        if kept and known is None:
            _write(kept, executables[name])
    return replace(drawn.program, executables=executables)


def functions(drawn: Outline) -> Mapping[str, Callable[..., Sequence[Any]]]:
    """What parties compute in the clear, by name: numpy arrays by position to arrays in order."""
    return {name: _in_the_clear(graph) for name, graph in drawn.plain.items()}


def _in_the_clear(graph: Graph) -> Callable[..., Sequence[Any]]:
    return lambda *arrays: [np.asarray(a) for a in graph.function(np, *arrays)]


def require_spu() -> None:
    """Raise `Misconfigured` where SPU is not installed."""
    if find_spec("spu") is None:
        raise errors.Misconfigured(
            "scheme mpc needs SPU, which is not installed here",
            hint="In an environment of its own with Python 3.11: pip install 'hansa[mpc]' (numpy 1, 0.7 GB).",
        )


def compile_graph(name: str, graph: Graph) -> bytes:
    """Compile one function for shares; the result is the same bytes for the same function and versions."""
    require_spu()
    import jax
    import jax.numpy as jnp
    import spu
    import spu.utils.frontend as frontend

    def function(*arrays: Any) -> Any:
        return list(graph.function(jnp, *arrays))

    function.__name__ = name
    shapes = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in graph.inputs]
    visibility = [
        spu.Visibility.VIS_PUBLIC if v.name in PUBLIC else spu.Visibility.VIS_SECRET for v in graph.inputs
    ]
    outputs = [v.name for v in graph.outputs]
    executable, traced = frontend.compile(
        frontend.Kind.JAX,
        function,
        shapes,
        {},
        [v.name for v in graph.inputs],
        visibility,
        lambda _flat: outputs,
    )
    assert [tuple(t.shape) for t in traced] == [v.shape for v in graph.outputs], name
    return bytes(executable.SerializeToString())


def cache_key(training: Training, counts: Sequence[int]) -> str:
    """Hex name of what a compilation depends on: declaration, rows, versions, and the code that is traced."""
    code = [Path(module.__file__ or "").read_bytes() for module in (bottleneck, layers, outline)]
    code.append(Path(__file__).read_bytes())
    versions = [version("spu"), version("jax"), version("jaxlib")]
    return digest_of(
        encode([describe(training.declared), list(counts), versions, *map(digest_of, code)])
    ).hex()[:32]


def _read(path: Path) -> bytes | None:
    """A cached executable, or None where there is none that is whole; a damaged one is compiled again."""
    try:
        if path.stat().st_size > EXECUTABLE_LIMIT:
            return None
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    body, sum_ = data[:-32], data[-32:]
    return body if hashlib.sha256(body).digest() == sum_ else None


def _write(path: Path, executable: bytes) -> None:
    """Into place at once, so that another process reads all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(executable + hashlib.sha256(executable).digest())
    Path(temporary).replace(path)
