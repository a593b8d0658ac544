"""A host's end of its enclave: starts the process, speaks with it, and sees when it is gone.

The host needs no trust and gives none: what it hands in is signed or sealed by others, what it gets out is checked
with `attestation.verify` and `tee.check_result` by whoever relies on it.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hansa import errors
from hansa.enclave import messages as msg
from hansa.protocol.statements import Statement, read_statement
from hansa.protocol.tee import Manifest, Result, Roster, Signatures
from hansa.records import ZERO_DIGEST, Evidence

START_TIMEOUT = 120.0
"""Seconds until an enclave must have said its first words: an SGX enclave loads its memory before it runs."""

ANSWER_TIMEOUT = 600.0
"""Seconds without a byte from it, or without it taking one, after which it counts as gone."""

_END_TIMEOUT = 5.0
_SAID_BYTES = 500
_NO_PROCESSOR = 2
"""Exit code of an enclave that finds no processor to run in."""


class Rejected(errors.Untrusted):
    """The enclave refused what its host handed in; `code` says why."""

    def __init__(self, code: msg.Code) -> None:
        hint = (
            "It has ended; start another one."
            if code < msg.FATAL
            else "It stays as it was; look at who gave the host these bytes."
        )
        super().__init__(f"the enclave refuses: {msg.MEANINGS[code]}", hint=hint)
        self.code = code


@dataclass(frozen=True, slots=True)
class Output:
    """What an enclave gives for a round: the result, its signature, the sealed checkpoint and the grant it names."""

    result: Result
    signature: bytes
    blob: bytes
    grant: bytes


def command(provider: str) -> list[str]:
    """What starts an enclave by the interpreter that runs this; Gramine is started by its own loader."""
    return [sys.executable, "-m", "hansa.enclave", "--provider", provider]


class Enclosure:
    """A running enclave. `program` and `mode` ("hardware" or "simulated") are what it says of itself.

    Each method hands one thing in. They raise `Rejected` when the enclave refuses it; `Unavailable` when it died or
    does not answer, after which only `close` is of use. The constructor raises `Misconfigured` when `command` cannot
    be started, or says that there is no such processor here.
    """

    def __init__(self, command: Sequence[str], *, limit: int, timeout: float = ANSWER_TIMEOUT) -> None:
        self._limit = limit
        self._said = tempfile.TemporaryFile()  # noqa: SIM115, closed by `close`
        self._socket, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = self._launched(command, theirs)
            except OSError as e:
                self._socket.close()
                self._said.close()
                raise errors.Misconfigured(
                    f"the enclave cannot be started: {command[0]}: {e.strerror}",
                    hint="Check the command that starts it.",
                ) from e
        self._source = self._socket.makefile("rb")
        self._quoted: tuple[bytes, msg.Attested] | None = None
        self._socket.settimeout(START_TIMEOUT)
        hello = self._received()
        self._socket.settimeout(timeout)
        if not isinstance(hello, msg.Hello):
            self.close()
            raise errors.Misconfigured(
                "what was started is no enclave", hint="Check the command that starts it."
            )
        self.program, self.mode = hello.program, hello.mode

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def _launched(self, command: Sequence[str], theirs: socket.socket) -> subprocess.Popen[bytes]:
        end = theirs.fileno()
        return subprocess.Popen(command, stdin=end, stdout=end, stderr=self._said)  # noqa: S603, the operator's own

    @property
    def gone(self) -> bool:
        """Whether it has ended; one that only hangs is seen when it is asked something."""
        return self._socket.fileno() < 0 or self._process.poll() is not None

    def ending(self) -> str:
        """What it said at last, or its exit code, when it is gone."""
        return self._last_words() or f"exit code {self._process.poll()}"

    def begin(self, host: int, federation: bytes, terms: bytes, roster: Roster) -> None:
        """Name the host's id, the federation, its canonical terms and its first roster. Once."""
        self._told(msg.Begin(host, federation, terms, roster))

    def change(self, roster: Roster, signatures: Signatures) -> None:
        """The next version of the roster, signed by a quorum of the one before."""
        self._told(msg.Change(roster, signatures))

    def attest(self, nonce: bytes, fetch: Callable[[bytes], bytes]) -> tuple[Statement, Evidence]:
        """Statement and quote for a nonce that was not used before; `fetch` gives collateral for a quote.

        Asked again for the nonce of its last quote, as when there was no collateral, it is that quote.
        """
        if self._quoted is None or self._quoted[0] != nonce:
            self._quoted = nonce, self._asked(msg.Attest(nonce), msg.Attested)
        answer = self._quoted[1]
        return read_statement(answer.statement), Evidence(answer.quote, fetch(answer.quote))

    def start(self, manifest: Manifest, signatures: Signatures) -> None:
        """Begin a round: its manifest, signed by a quorum of the roster."""
        self._told(msg.Start(manifest, signatures))

    def base(self, data: bytes, *, author: int = 0, readers: bytes = ZERO_DIGEST, grant: bytes = b"") -> None:
        """The checkpoint that the round builds on; with a grant: sealed by `author` to readers of this digest."""
        self._told(msg.Base(author, readers, grant, len(data)), data)

    def payload(self, member: int, grant: bytes, blob: bytes | memoryview) -> None:
        """A member's sealed update and the grant that it names."""
        self._told(msg.Payload(member, grant, len(blob)), blob)

    def opening(self, opening: bytes, setup: bytes) -> None:
        """The opening that the manifest names, and the key centre's parameters."""
        self._told(msg.Opening(opening, setup))

    def half(self, side: int, blob: bytes) -> None:
        """One side's half of the opening."""
        self._told(msg.Half(side, len(blob)), blob)

    def masked(self, cohort: int, wire: bytes | memoryview) -> None:
        """The sum of a cohort's masked updates."""
        self._told(msg.Masked(cohort, len(wire)), wire)

    def finish(self) -> Output:
        """The signed result. Asked again before the next round starts, the same bytes."""
        answer = self._asked(msg.Finish(), msg.Finished)
        if answer.size > self._limit:
            self.close()
            raise errors.Untrusted(
                f"the enclave announces a model of {answer.size} bytes, limit {self._limit}"
            )
        blob = self._read(lambda: msg.exactly(self._source, answer.size))
        return Output(answer.result, answer.signature, blob, answer.grant)

    def close(self) -> None:
        """End it, with its keys."""
        self._source.close()
        self._socket.close()
        self._process.kill()
        self._process.wait()
        self._said.close()

    def _told(self, message: msg.Request, bulk: bytes | memoryview = b"") -> None:
        self._asked(message, msg.Done, bulk)

    def _asked(self, message: msg.Request, kind: type[Any], bulk: bytes | memoryview = b"") -> Any:
        # Where sending fails the enclave is gone, maybe for what was sent: its last words are still there to read.
        with suppress(OSError):
            self._socket.sendall(msg.encode(message))
            self._socket.sendall(bulk)
        answer = self._received()
        if isinstance(answer, msg.Refused):
            if answer.code < msg.FATAL:
                self.close()
            raise Rejected(answer.code)
        if not isinstance(answer, kind):
            self.close()
            raise errors.Untrusted("the enclave answers something else than it was asked")
        return answer

    def _received(self) -> Any:
        return self._read(lambda: msg.receive(self._source, msg.ANSWERS))

    def _read(self, read: Callable[[], Any]) -> Any:
        """What is read; the enclave is ended where nothing comes, or no answer of this protocol."""
        reason = "it ended"
        try:
            answer = read()
            if answer is not None:
                return answer
        except TimeoutError:
            reason = f"it said nothing for {self._socket.gettimeout():.0f} s"
        except (OSError, ValueError, errors.Untrusted):
            pass
        said = self._last_words()
        code = self._process.poll()
        self.close()
        if code == _NO_PROCESSOR:
            raise errors.Misconfigured(f"the enclave does not start: {said}", hint="Choose another provider.")
        raise errors.Unavailable(
            f"the enclave is gone: {reason}{f'; it said: {said}' if said else ''}",
            hint="Start another one; it has new keys, and members have to attest it anew.",
        )

    def _last_words(self) -> str:
        """The end of its standard error. Waits a moment for a process that has closed its end to be over."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_TIMEOUT)
        if self._said.closed:
            return ""
        self._said.seek(0)
        words = self._said.read()[-_SAID_BYTES:].decode("utf-8", "replace")
        return " ".join("".join(c if c.isprintable() else " " for c in words).split())
