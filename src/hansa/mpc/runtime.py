"""A party's end of its child: starts the process, asks it, and sees when it is gone or hangs."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa import errors
from hansa.mpc.certificates import Identity
from hansa.mpc.frames import CHILD_LIMIT, frame, receive
from hansa.mpc.program import Variable
from hansa.mpc.setting import Setting
from hansa.mpc.shares import Share, encode_share, stored_share
from hansa.mpc.traffic import Cost

START_TIMEOUT = 120.0
"""Seconds until a child must have loaded SPU."""

_LAST_WORDS = 300
_KINDS: Mapping[str, type[errors.HansaError]] = {
    "Unavailable": errors.Unavailable,
    "Untrusted": errors.Untrusted,
    "Misconfigured": errors.Misconfigured,
}


class Runtime:
    """A running child of party `rank`. Each method asks one thing; see `child` for what it does.

    They raise `Unavailable` when the child is gone, says nothing for `timeout` seconds, or its link broke;
    `Untrusted` when a peer sent what it should not; `Misconfigured` when a program or value cannot be used. After any
    of them only `kill` is of use.
    """

    def __init__(self, job: bytes, setting: Setting, rank: int, timeout: float) -> None:
        self._job, self._setting, self._rank, self._timeout = job, setting, rank, timeout
        self._said = tempfile.TemporaryFile()  # noqa: SIM115, closed by `kill`
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, "-m", "hansa.mpc.child", str(theirs.fileno()), str(timeout / 5)]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603, this very interpreter
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                pass_fds=[theirs.fileno()],
            )
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def parties(self) -> int:
        """How many compute."""
        return self._setting.parties

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    async def ready(self) -> None:
        """Wait until it has loaded SPU."""
        self._reader, self._writer = await asyncio.open_connection(sock=self._socket)
        await self._answer(START_TIMEOUT)

    async def link(self, name: str, addresses: Sequence[str], own: Identity, trusted: Path) -> None:
        """Connect to the peers."""
        way = {
            "name": name,
            "addresses": list(addresses),
            "silence": self._timeout,
            "certificate": str(own.certificate_path),
            "key": str(own.key_path),
            "trusted": str(trusted),
        }
        await self._ask("link", self._rank, self._setting.protocol, self._setting.field, self._job, way)

    async def shut(self) -> None:
        """Keep strangers from the link that stands."""
        await self._ask("shut")

    async def put(self, share: Share) -> None:
        """Set a shared variable."""
        v = share.variable
        await self._ask("put", encode_share(share), v.name, list(v.shape), v.dtype)

    async def feed(self, variable: Variable, array: NDArray[Any]) -> None:
        """Set a public variable."""
        await self._ask("feed", *_described(variable), array.tobytes())

    async def load(self, name: str, executable: bytes) -> None:
        """Give it an executable."""
        await self._ask("load", name, executable)

    async def run(self, executable: str) -> Cost:
        """Run one."""
        seconds, sent, received, sends = await self._ask("run", executable)
        return Cost(1, seconds, sent, received, sends)

    async def get(self, variables: Sequence[Variable]) -> dict[str, Share]:
        """This party's shares of variables, by name."""
        found = await self._ask("get", *(v.name for v in variables))
        return {
            v.name: stored_share(data, v, self._setting, "this party")
            for v, data in zip(variables, found, strict=True)
        }

    async def open(self, variable: Variable, to: int) -> tuple[NDArray[Any] | None, Cost]:
        """Take part in opening a variable to party `to`; gives the array there, elsewhere None."""
        data, *cost = await self._ask("open", variable.name, to)
        array = None if data is None else np.frombuffer(data, variable.dtype).reshape(variable.shape)
        return array, Cost(1, *cost)

    async def deal(self, variable: Variable, by: int, array: NDArray[Any] | None) -> Cost:
        """Take part in sharing what is plain at party `by`; `array` is given there alone."""
        data = None if array is None else np.ascontiguousarray(array).tobytes()
        _, *cost = await self._ask("deal", *_described(variable), by, data)
        return Cost(1, *cost)

    async def barrier(self) -> None:
        """Wait for all parties."""
        await self._ask("barrier")

    async def unlink(self) -> None:
        """Close the link in peace."""
        await self._ask("unlink")

    def kill(self) -> None:
        """End it, with all that it holds."""
        self._process.kill()
        self._process.wait()
        if self._writer:
            self._writer.close()
        self._socket.close()
        self._said.close()

    async def _ask(self, *request: Any) -> Any:
        assert self._writer is not None
        with suppress(OSError):  # gone: its answer will not come
            self._writer.write(frame(list(request)))
            await self._writer.drain()
        return await self._answer(self._timeout)

    async def _answer(self, silence: float) -> Any:
        assert self._reader is not None
        try:
            answer = await receive(self._reader, CHILD_LIMIT, silence)
        except TimeoutError as e:
            raise errors.Unavailable(
                f"the session process of party {self._rank} said nothing for {silence:g} s",
                hint="It was stopped, or the machine is overloaded. It is started anew.",
            ) from e
        except (OSError, EOFError) as e:
            raise errors.Unavailable(
                f"the session process of party {self._rank} died{self._last_words()}",
                hint="It is started anew.",
            ) from e
        match answer:
            case ["done", value]:
                return value
            case ["failed", str(kind), str(message), str(hint)]:
                raise _KINDS[kind](message, hint=hint)
        raise errors.Misconfigured("a party's session process is of another version")

    def _last_words(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        code = self._process.poll()
        if code is None or self._said.closed:
            return ""
        self._said.seek(0)
        words = self._said.read().decode("utf-8", "replace")
        said = " ".join("".join(c if c.isprintable() else " " for c in words).split())[-_LAST_WORDS:]
        return f" (exit code {code}{', it said: ' + said if said and code > 0 else ''})"


def _described(variable: Variable) -> tuple[str, list[int], str]:
    return variable.name, list(variable.shape), variable.dtype
