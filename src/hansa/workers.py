"""A pool of worker processes that each prepare once and then answer tasks, in any order.

Processes are spawned, not forked: a forked torch may hang. Each end of a pipe lives in one process only, so
that the death of either side is seen by the other at once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar, final

from hansa import errors

Options = TypeVar("Options")
Task = TypeVar("Task")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _serve(pipe: Connection, prepare: Callable[[Any], Callable[[Any], Any]], options: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer: Callable[[Any], Any] | None = None
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            answer = answer or prepare(options)
            reply = True, answer(task)
        except errors.HansaError as e:
            reply = False, e
        pipe.send(reply)


@final
class Workers(Generic[Options, Task]):
    """`count` processes that call `prepare(options)` once and its result for every task.

    `prepare` is a module's function and options, tasks and answers can be pickled: they pass between
    processes of this program only. `describe(task)` names a task in errors.
    """

    def __init__(
        self,
        count: int,
        prepare: Callable[[Options], Callable[[Task], Any]],
        options: Options,
        describe: Callable[[Task], str],
    ) -> None:
        self._count = count
        self._prepare = prepare
        self._options = options
        self._describe = describe
        self._processes: dict[Connection, SpawnProcess] = {}

    def map(self, tasks: Sequence[Task]) -> list[Any]:
        """Answers in the order of `tasks`; each goes to the next free process.

        Raises the `HansaError` that a task raised, and `Unavailable` when a process died. Either ends all
        processes; the next call starts new ones.
        """
        answers: list[Any] = [None] * len(tasks)
        waiting = deque(range(len(tasks)))
        running: dict[Connection, int] = {}
        try:
            idle = self._start(min(self._count, len(tasks)))
            while waiting or running:
                while waiting and idle:
                    pipe, index = idle.pop(), waiting.popleft()
                    running[pipe] = index
                    with self._alive(pipe, tasks[index]):
                        pipe.send(tasks[index])
                for ready in wait(list(running)):
                    assert isinstance(ready, Connection)
                    index = running.pop(ready)
                    with self._alive(ready, tasks[index]):
                        done, answer = ready.recv()
                    if not done:
                        raise answer
                    answers[index] = answer
                    idle.append(ready)
        except BaseException:
            self.close()
            raise
        return answers

    def close(self) -> None:
        """End all processes, whatever they do."""
        for pipe, process in self._processes.items():
            pipe.close()
            process.kill()
        for process in self._processes.values():
            process.join()
        self._processes.clear()

    def _start(self, count: int) -> list[Connection]:
        context = multiprocessing.get_context("spawn")
        while len(self._processes) < count:
            mine, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self._prepare, self._options), daemon=True)
            process.start()
            theirs.close()
            self._processes[mine] = process
        return list(self._processes)

    @contextmanager
    def _alive(self, pipe: Connection, task: Task) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as e:
            process = self._processes[pipe]
            process.join()
            raise errors.Unavailable(
                f"a worker process ended (exit code {process.exitcode}) while {self._describe(task)}",
                hint="Out of memory, or a crash in a native library? Use fewer --workers, or --workers 0.",
            ) from e
