"""Work on pieces in several threads, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def in_order(work: Callable[[A], B], pieces: Iterable[A], threads: int) -> Iterator[B]:
    """`map` over threads, at most one piece a thread ahead, so that memory does not grow with the pieces."""
    if threads <= 1:
        yield from map(work, pieces)
        return
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(threads, "kahe") as pool:
        for piece in pieces:
            waiting.append(pool.submit(work, piece))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
