"""The process that holds a party's link and SPU runtime: `python -m hansa.mpc.child FD SECONDS`.

It obeys its parent alone, over the inherited socket FD, and shows shares to nobody else: it has no other port than
SPU's link. It beats every SECONDS, and ends when its parent does. SPU may crash the process when a peer dies: then
only this one ends.

A request is a list, [name, arguments ...]; the answer is ["done", value] or ["failed", kind, message, hint].
"""

from __future__ import annotations

import ctypes
import os
import queue
import resource
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import numpy as np

from hansa import encoding, errors
from hansa.mpc import dealing, door, traffic
from hansa.mpc.frames import BEAT, CHILD_LIMIT, frame, receive_blocking
from hansa.mpc.program import Variable
from hansa.mpc.setting import Setting
from hansa.mpc.shares import (
    Share,
    components,
    components_of,
    encode_share,
    from_components,
    read_share,
    stored_share,
)

_PARENT_DEATH_SIGNAL = 1
_NOT_DUMPABLE = 4
_LEAST_SILENCE = 6.0
"""Seconds: SPU tries a peer that began to listen a little later only after 3 s again. Supervisors notice sooner."""

_REQUESTS = ("link", "shut", "put", "feed", "load", "run", "get", "open", "deal", "barrier", "unlink")
_LINK_WORDS = ("yacl/link", "transport", "timeout", "brpc")
"""In an error of SPU: the link failed, not the computing."""


class _Runtime:
    """Link and runtime of this process, and what is asked of them; a method a request."""

    def __init__(self) -> None:
        self._spu = dealing.spu()
        self._log = traffic.ExecutionLog(self._spu.libspu.logging)
        self._executables: dict[str, Any] = {}

    def link(self, rank: int, protocol: str, field: str, job: bytes, link: dict[str, Any]) -> None:
        """Connect to the peers; `link`: name, addresses by rank, seconds of silence, paths of the TLS files."""
        self._rank, self._job, self._setting = rank, job, Setting(protocol, field)
        desc = self._spu.link.Desc()
        desc.id = link["name"]
        for i, address in enumerate(link["addresses"]):
            desc.add_party(str(i), address)
        desc.recv_timeout_ms = desc.http_timeout_ms = int(max(link["silence"], _LEAST_SILENCE) * 1000)
        desc.connect_retry_interval_ms, desc.connect_retry_times = 100, 1000
        for options in (desc.client_ssl_opts, desc.server_ssl_opts):
            options.cert.certificate_path, options.cert.private_key_path = link["certificate"], link["key"]
            options.verify.ca_file_path, options.verify.verify_depth = link["trusted"], 1
        desc.enable_ssl = True
        self._context = self._spu.link.create_brpc(desc, rank)
        # What opens and deals has channels of its own beside those of the protocol.
        self._between = self._context.spawn()
        config = dealing.runtime_config(self._setting)
        config.enable_pphlo_profile = True
        self._runtime = self._spu.Runtime(self._context, config)

    def shut(self) -> None:
        """Take no new connection: every peer has its own, and was checked. Raises `Misconfigured`."""
        if not door.shut() and sys.platform == "linux":
            raise errors.Misconfigured("the link's port is not found, and cannot be shut")

    def put(self, data: bytes, name: str, shape: list[int], dtype: str) -> None:
        """Set a shared variable."""
        share = stored_share(data, Variable(name, tuple(shape), dtype), self._setting, "this party")
        self._runtime.set_var(name, dealing.to_spu(share))

    def feed(self, name: str, shape: list[int], dtype: str, data: bytes) -> None:
        """Set a public variable."""
        variable = Variable(name, tuple(shape), dtype)
        array = _array(variable, data)
        share = dealing.public_share(array, variable, job=self._job, setting=self._setting, rank=self._rank)
        self._runtime.set_var(name, dealing.to_spu(share))

    def load(self, name: str, data: bytes) -> None:
        """Take an executable, serialised by SPU's frontend."""
        self._executables[name] = self._spu.libspu.Executable()
        if not self._executables[name].ParseFromString(data):
            raise errors.Misconfigured(f"{name} is no executable of this version of SPU")

    def run(self, name: str) -> list[float]:
        """Run an executable; gives seconds, bytes sent and received, and sends."""
        begun = time.perf_counter()
        self._runtime.run(self._executables[name])
        return [time.perf_counter() - begun, *self._log.taken()]

    def get(self, *names: str) -> list[bytes]:
        """This party's shares, encoded."""
        return [encode_share(self._share(name)) for name in names]

    def open(self, name: str, to: int) -> list[Any]:
        """Make a variable plain at party `to`: gives the array there, and what it cost. See `_proof`."""
        share, begun = self._share(name), time.perf_counter()
        if self._rank != to:
            sent = self._send(to, self._proof(share, to))
            return [None, time.perf_counter() - begun, sent, 0, 1]
        got, received = self._gathered(share)
        parties = [from_components(share, rank, got) for rank in range(self._setting.parties)]
        array = dealing.reconstruct(parties)
        return [np.ascontiguousarray(array).tobytes(), time.perf_counter() - begun, 0, received, 0]

    def _proof(self, share: Share, to: int) -> bytes:
        """What this party sends so that another can open: a component that it lacks, or, from the second party that
        holds the same one, the digest of it, so that neither can alter it unseen."""
        lacking = [c for c in components_of(self._setting, self._rank) if not self._holds(to, c)]
        data = components(share)[lacking[0]]
        first = min(r for r in range(self._setting.parties) if self._holds(r, lacking[0]))
        return data if first == self._rank else encoding.digest(data)

    def _holds(self, rank: int, component: int) -> bool:
        return component in components_of(self._setting, rank)

    def _gathered(self, share: Share) -> tuple[dict[int, bytes], int]:
        """All components, those that this party lacks from the others."""
        got, received = components(share), 0
        size = len(next(iter(got.values())))
        digests: dict[int, tuple[int, bytes]] = {}
        for rank in range(self._setting.parties):
            if rank == self._rank:
                continue
            data = self._between.recv(rank)
            received += len(data)
            lacking = [c for c in components_of(self._setting, rank) if not self._holds(self._rank, c)]
            if lacking[0] in got:
                digests[rank] = (lacking[0], data)
            elif len(data) != size:
                raise errors.Untrusted(
                    f"party {rank} sent {len(data)} bytes of {share.variable.name}, not {size}"
                )
            else:
                got[lacking[0]] = data
        for rank, (component, digest) in digests.items():
            if encoding.digest(got[component]) != digest:
                other = next(r for r in range(self._setting.parties) if r not in (rank, self._rank))
                raise errors.Untrusted(
                    f"parties {other} and {rank} hold different bytes of {share.variable.name}",
                    hint="One of them deviates from the protocol; stop, and compare their records.",
                )
        return got, received

    def deal(self, name: str, shape: list[int], dtype: str, by: int, data: bytes | None) -> list[Any]:
        """Party `by` shares its array; gives what it cost."""
        variable, begun = Variable(name, tuple(shape), dtype), time.perf_counter()
        sent = received = sends = 0
        if self._rank == by:
            array = _array(variable, data or b"")
            dealt = dealing.make_shares(array, variable, job=self._job, setting=self._setting)
            for share in dealt:
                if share.rank != by:
                    sent += self._send(share.rank, encode_share(share))
                    sends += 1
            own = dealt[by]
        else:
            got = self._between.recv(by)
            received = len(got)
            # The link's TLS vouches for the bytes; what is compared is what they say.
            digest = encoding.digest(got)
            own = read_share(
                got,
                variable,
                job=self._job,
                setting=self._setting,
                rank=self._rank,
                whose=f"party {by}",
                digest=digest,
            )
        self._runtime.set_var(name, dealing.to_spu(own))
        return [None, time.perf_counter() - begun, sent, received, sends]

    def barrier(self) -> None:
        """Wait until every party is here."""
        self._between.barrier()

    def unlink(self) -> None:
        """Close the link when all that was sent has arrived."""
        self._context.stop_link()

    def _share(self, name: str) -> Share:
        found = self._runtime.get_var(name)
        return dealing.from_spu(found, name, job=self._job, setting=self._setting, rank=self._rank)

    def _send(self, to: int, data: bytes) -> int:
        self._between.send(to, data)
        return len(data)


def _array(variable: Variable, data: bytes) -> np.ndarray[Any, Any]:
    return np.frombuffer(data, variable.dtype).reshape(variable.shape)


def _answered(runtime: _Runtime, request: Any) -> list[Any]:
    try:
        name, *arguments = request
        if name not in _REQUESTS:
            raise errors.Misconfigured(f"no request {name!r}")
        return ["done", getattr(runtime, name)(*arguments)]
    except (errors.Misconfigured, errors.Untrusted) as e:
        return ["failed", type(e).__name__, str(e), e.hint]
    except Exception as e:  # SPU raises what it likes; the parent makes one error of it
        # The key of a message holds the link's name, which is nobody else's business.
        said = " ".join(str(e).split("stacktrace")[0].split(", key=")[0].split())[:400]
        if any(word in str(e) for word in _LINK_WORDS):
            return ["failed", "Unavailable", f"the link with the other parties broke: {said}", ""]
        return [
            "failed",
            "Misconfigured",
            f"SPU cannot perform {request[0]!r} {_subject(request)}: {said}",
            "",
        ]


def _subject(request: list[Any]) -> str:
    return next((a for a in request[1:] if isinstance(a, str)), "")


def _harden() -> None:
    """No core files of shares, no debugger of the same user, and no life after the parent's."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        libc.prctl(_NOT_DUMPABLE, 0)


def main(fd: int, beats: float) -> None:
    """Obey the parent at the other end of socket `fd` until it is gone."""
    _harden()
    parent, writing = socket.socket(fileno=fd), threading.Lock()
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def listen() -> None:
        with suppress(OSError, EOFError, errors.Untrusted):
            while True:
                requests.put(receive_blocking(parent, CHILD_LIMIT))
        os._exit(0)

    def say(data: bytes) -> None:
        with writing:
            parent.sendall(data)

    def beat(seconds: float) -> None:
        while True:
            time.sleep(seconds)
            say(BEAT)

    threading.Thread(target=listen, daemon=True).start()
    threading.Thread(target=beat, args=(beats,), daemon=True).start()
    try:
        runtime = _Runtime()
    except errors.Misconfigured as e:
        say(frame(["failed", "Misconfigured", str(e), e.hint]))
        return
    say(frame(["done", None]))
    while True:
        say(frame(_answered(runtime, requests.get())))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
