"""Traces of what code does to arrays: what a host can see of its enclave's memory.

A trace has every line that runs in the modules watched, and every operation on arrays: its name, the shapes and
types, and for the inputs which of them is touched and where. Values do not stand in it, but where they decide over
addresses: as an index, as a truth value, or in operations whose accesses depend on them, such as sorting.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

REVEALING = {"sort", "argsort", "partition", "argpartition", "nonzero", "flatnonzero", "unique", "searchsorted",
             "lexsort", "argmin", "argmax", "take", "compress", "extract", "where", "array_equal", "any",
             "all"}  # fmt: skip


class Trace:
    """Collects events; `digest` stands for all of them. `inputs` are arrays whose touched places are told."""

    def __init__(self, inputs: Sequence[NDArray[Any]]) -> None:
        self._places = [(a.__array_interface__["data"][0], a.nbytes) for a in inputs]
        self._hash = hashlib.sha256()
        self.count = 0

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def event(self, *what: Any) -> None:
        self._hash.update(repr(what).encode() + b"\n")
        self.count += 1

    def place(self, value: Any) -> Any:
        """What shows of an argument."""
        if isinstance(value, np.ndarray):
            address = value.__array_interface__["data"][0]
            inside = [
                (i, address - start)
                for i, (start, size) in enumerate(self._places)
                if 0 <= address - start < size
            ]
            return ("array", inside, value.shape, value.strides, value.dtype.str)
        if isinstance(value, list | tuple):
            return [self.place(v) for v in value]
        return type(value).__name__

    def key(self, key: Any) -> Any:
        """What shows of an index: all of it, since it is an address."""
        if isinstance(key, tuple):
            return tuple(self.key(k) for k in key)
        return ("indices", np.asarray(key).tobytes()) if isinstance(key, np.ndarray) else key


class Watched(np.ndarray):
    """An array that tells its trace what is done to it, as does all that comes out of it."""

    trace: Trace

    def __array_finalize__(self, source: Any) -> None:
        self.trace = getattr(source, "trace", None)  # type: ignore[assignment]

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        outputs = options.get("out", ())
        self.trace.event(ufunc.__name__, method, self.trace.place([*inputs, *outputs]))
        if outputs:
            options["out"] = tuple(plain(o) for o in outputs)
        result = getattr(ufunc, method)(*map(plain, inputs), **options)
        return outputs[0] if outputs else watched(result, self.trace)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        name = function.__name__
        self.trace.event(name, self.trace.place(args))
        if name in REVEALING:
            self.trace.event(
                "contents", *(np.asarray(a).tobytes() for a in args if isinstance(a, np.ndarray))
            )
        return watched(
            function(*map(deeply_plain, args), **{k: deeply_plain(v) for k, v in options.items()}), self.trace
        )

    def __getitem__(self, key: Any) -> Any:
        self.trace.event("read", self.trace.place(self), self.trace.key(key))
        return watched(plain(self)[plain(key)], self.trace)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.trace.event("write", self.trace.place(self), self.trace.key(key), self.trace.place(value))
        plain(self)[plain(key)] = plain(value)

    def __bool__(self) -> bool:
        self.trace.event("decides", bool(plain(self)))
        return bool(plain(self))

    def __index__(self) -> int:
        self.trace.event("index", int(plain(self)))
        return int(plain(self))


def _method(name: str) -> Callable[..., Any]:
    def call(self: Watched, *args: Any, **options: Any) -> Any:
        self.trace.event(name, self.trace.place([self, *args]))
        if name in REVEALING:
            self.trace.event("contents", plain(self).tobytes())
        return watched(getattr(plain(self), name)(*args, **options), self.trace)

    return call


for _name in (
    "astype",
    "copy",
    "sum",
    "min",
    "max",
    "any",
    "all",
    "sort",
    "argsort",
    "partition",
    "nonzero",
    "take",
):
    setattr(Watched, _name, _method(_name))


def plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, Watched) else value


def deeply_plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(deeply_plain(v) for v in value)
    return plain(value)


def watched(value: Any, trace: Trace) -> Any:
    if isinstance(value, np.ndarray) and value.ndim:
        made = value.view(Watched)
        made.trace = trace
        return made
    return value


class _Numpy:
    """Numpy, but what it makes is watched."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if name not in ("zeros", "empty", "full", "empty_like", "zeros_like", "arange"):
            return found
        return lambda *args, **options: watched(found(*map(plain, args), **options), self._trace)


def trace_of(
    call: Callable[[list[Any]], Any], rows: Sequence[NDArray[Any]], modules: Sequence[ModuleType]
) -> tuple[str, int, Any]:
    """Digest of the trace of `call(rows)`, the number of its events, what it gave."""
    trace = Trace(rows)
    files = {module.__file__ for module in modules}

    def step(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            trace.event(frame.f_code.co_name, frame.f_lineno)
        return step

    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            if hasattr(module, "np"):
                patch.setattr(module, "np", _Numpy(trace))
        before = sys.gettrace()
        sys.settrace(step)
        try:
            given = call([watched(row, trace) for row in rows])
        finally:
            sys.settrace(before)
    return trace.digest, trace.count, plain(given)
