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
from contextlib import suppress
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
        try:
            for index, answer in self.each(tasks):
                if isinstance(answer, errors.HansaError):
                    raise answer
                answers[index] = answer
        except BaseException:
            self.close()
            raise
        return answers

    def each(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """Numbers of tasks with their answers, as these come; a `HansaError` is the answer of a task that raised it.

        `Unavailable` is that of a task whose process died; another process takes its place. Who stops before the
        last one ends all processes.
        """
        waiting = deque(range(len(tasks)))
        running: dict[Connection, int] = {}
        try:
            while waiting or running:
                free = self._start(min(self._count, len(running) + len(waiting))) - running.keys()
                while waiting and free:
                    pipe, index = free.pop(), waiting.popleft()
                    running[pipe] = index
                    with suppress(OSError):  # that of a dead process; reading from it says so
                        pipe.send(tasks[index])
                for ready in wait(list(running)):
                    assert isinstance(ready, Connection)
                    index = running.pop(ready)
                    try:
                        _, answer = ready.recv()
                    except (EOFError, OSError) as e:
                        answer = self._died(ready, tasks[index])
                        answer.__cause__ = e
                    yield index, answer
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all processes, whatever they do."""
        for pipe, process in self._processes.items():
            pipe.close()
            process.kill()
        for process in self._processes.values():
            process.join()
        self._processes.clear()

    def _start(self, count: int) -> set[Connection]:
        context = multiprocessing.get_context("spawn")
        while len(self._processes) < count:
            mine, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self._prepare, self._options), daemon=True)
            process.start()
            theirs.close()
            self._processes[mine] = process
        return set(self._processes)

    def _died(self, pipe: Connection, task: Task) -> errors.Unavailable:
        process = self._processes.pop(pipe)
        pipe.close()
        process.join()
        return errors.Unavailable(
            f"a worker process ended (exit code {process.exitcode}) while {self._describe(task)}",
            hint="Out of memory, or a crash in a native library? Use fewer --workers, or --workers 0.",
        )
