"""How supervisors of the parties agree on an attempt, and learn at once when one of them is lost.

Party 0 is the host, the others are its guests; every connection is TLS with both certificates checked. A guest says
which steps it has checkpoints of; once all are there, the host names the attempt, the last step that all hold and a
fresh name for SPU's link, so that old and new links never mix. When every party has its link and has checked its
peers, the host lets them start. From then on both ends beat; silence, a closed connection or a word of failure ends
the attempt at every party, with the same reason.

    guest:  hello .................. linked ......... done        failed, at any time
    host:          welcome waiting*   go      start        over   failed, at any time
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hansa import errors
from hansa.mpc.certificates import Identity
from hansa.mpc.frames import BEAT, PEER_LIMIT, frame, receive
from hansa.mpc.places import Place, closed, connect, rank_of, server_context

_WORDS = 300
"""Characters of another party's reason that are shown."""

_MOST = 2**32
"""More ranks, attempts or steps than there can be."""

_NAME = 64
"""Characters of a link's name."""

_HELD = 16
"""Checkpoints that a hello may name."""


class GivenUp(errors.Unavailable):
    """A party did not come within the patience, or has ended its part for good: no further attempt is made."""


_REASONS: Mapping[str, type[errors.HansaError]] = {
    "Untrusted": errors.Untrusted,
    "GivenUp": GivenUp,
    "Unavailable": errors.Unavailable,
}
"""What a failure is called where it is told; any other ends the others too."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a party brings: digests of job and program, its last attempt, steps it has checkpoints of."""

    job: bytes
    program: bytes
    attempt: int
    held: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """What all begin with: number of the attempt, steps done, name of SPU's link, which only parties may know."""

    attempt: int
    step: int
    link: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a party needs to meet others. `notice` is told in words what is waited for. Times in seconds."""

    rank: int
    places: Sequence[Place]
    own: Identity
    timeout: float
    patience: float
    notice: Callable[[str], None]


@dataclass(eq=False)
class _Line:
    """A connection to another supervisor."""

    rank: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    heard: bool = False

    def tell(self, *words: Any) -> None:
        self.writer.write(frame(list(words)))

    async def hear(self, silence: float) -> list[Any]:
        value = await receive(self.reader, PEER_LIMIT, silence)
        if not isinstance(value, list) or not value or not isinstance(value[0], str):
            raise errors.Untrusted(f"party {self.rank} says something that is no word of a meeting")
        self.heard = True
        return value

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await closed(self.writer)

    def drop(self, *words: Any) -> None:
        """Say a last word to a party that may be lost, from the task that hears it, and beat no more."""
        for task in self.tasks[1:]:
            task.cancel()
        self.tell(*words)
        self.writer.close()


class Meeting(ABC):
    """One party's side of the meetings of a job, over all attempts.

    Every method raises `Unavailable` when a party is lost, absent or failed, `Untrusted` when one is not what it
    claims. Then the attempt is over: `abandon` it, and `agree` on the next.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._happened: set[tuple[str, int]] = set()
        self._changed = asyncio.Event()

    @abstractmethod
    async def agree(self, hello: Hello) -> Agreement:
        """Wait until all parties are there, at most for `patience`; gives what they begin with."""

    @abstractmethod
    async def all_linked(self) -> None:
        """Say that this party's link stands and its peers are checked; returns when everybody's are."""

    @abstractmethod
    async def all_done(self) -> None:
        """Say that this party is done; returns when everybody is."""

    @abstractmethod
    async def abandon(self, reason: errors.HansaError) -> None:
        """End the attempt, and tell the others why."""

    @abstractmethod
    async def close(self) -> None:
        """Leave for good."""

    async def lost(self) -> None:
        """Never returns; raises when a party is lost."""
        await asyncio.shield(self._lost)

    def _anew(self) -> None:
        self._lost = asyncio.get_running_loop().create_future()
        self._happened.clear()

    def _lose(self, error: errors.HansaError) -> None:
        if not self._lost.done():
            self._lost.set_exception(error)
            self._lost.exception()  # looked at, so that nobody complains if none waits
        self._changed.set()

    async def _until(self, ready: Callable[[], bool]) -> None:
        """Wait for what is heard; raises when a party is lost before."""
        while not ready():
            if self._lost.done():
                self._lost.result()
            self._changed.clear()
            await self._changed.wait()

    def _begin(self, line: _Line) -> None:
        line.tasks += [asyncio.create_task(self._listen(line)), asyncio.create_task(self._beat(line))]

    async def _beat(self, line: _Line) -> None:
        while True:
            with suppress(OSError):
                line.writer.write(BEAT)
            await asyncio.sleep(self._around.timeout / 5)

    async def _listen(self, line: _Line) -> None:
        """Hear one party out until it is lost."""
        silence = self._around.timeout * 0.8  # so that all know within the time-out
        error: errors.HansaError
        try:
            while True:
                word, *rest = await line.hear(silence)
                if word == "failed":
                    error = _told(rest)
                    break
                self._heard(line, word, rest)
                self._changed.set()
        except errors.Untrusted as e:
            error = e
        except TimeoutError:
            error = _gone(line.rank, f"said nothing for {silence:g} s")
        except (OSError, EOFError):
            # TLS tells no more to whom the other end refuses.
            refused = "" if line.heard else " at once, as if it did not know this party's certificate"
            error = _gone(line.rank, f"closed its connection{refused}")
        self._ended(line, error)

    @abstractmethod
    def _heard(self, line: _Line, word: str, rest: list[Any]) -> None: ...

    @abstractmethod
    def _ended(self, line: _Line, error: errors.HansaError) -> None: ...


class Host(Meeting):
    """Party 0's side; listens on the socket given, or at its place."""

    def __init__(self, around: Surroundings, listener: socket.socket | None = None) -> None:
        super().__init__(around)
        self._listener = listener
        self._server: asyncio.Server | None = None
        self._context = server_context(around.own, around.places)
        self._guests = frozenset(range(1, len(around.places)))
        self._lines: dict[int, _Line] = {}
        self._hellos: dict[int, tuple[int, Hello]] = {}
        self._stranger = ""

    async def agree(self, hello: Hello) -> Agreement:
        """See `Meeting`; opens the port at the first call."""
        await self._open()
        self._anew()
        waits = asyncio.create_task(self._say_who_waits())
        try:
            async with asyncio.timeout(self._around.patience):
                while not self._hellos.keys() >= self._guests:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as e:
            raise _absent(sorted(self._guests - self._hellos.keys()), self._stranger) from e
        finally:
            waits.cancel()
        self._anew()
        hellos, self._hellos = self._hellos, {}
        for rank, (claimed, found) in hellos.items():
            _compare(rank, claimed, found, hello)
        common = {0, *hello.held}.intersection(*({0, *h.held} for _, h in hellos.values()))
        attempt = 1 + max(hello.attempt, *(h.attempt for _, h in hellos.values()))
        agreed = Agreement(attempt, max(common), f"hansa-{secrets.token_hex(16)}")
        self._tell("go", agreed.attempt, agreed.step, agreed.link)
        return agreed

    async def all_linked(self) -> None:
        """See `Meeting`."""
        await self._all("linked")
        self._tell("start")

    async def all_done(self) -> None:
        """See `Meeting`."""
        await self._all("done")
        self._tell("over")
        await self._end_lines()

    async def abandon(self, reason: errors.HansaError) -> None:
        """See `Meeting`."""
        # Who has said hello since waits for the next attempt already.
        keep = set(self._hellos) if passes(reason) else set()
        for rank, line in self._lines.items():
            if rank not in keep:
                line.tell(*_failure(reason))
        await self._end_lines(keep)

    async def close(self) -> None:
        """See `Meeting`."""
        await self._end_lines()
        if self._server:
            self._server.close()

    async def _open(self) -> None:
        if self._server:
            return
        own = self._around.places[0]
        try:
            if self._listener:
                self._server = await asyncio.start_server(self._knocked, sock=self._listener)
            else:
                self._server = await asyncio.start_server(self._knocked, own.host, own.meeting)
        except OSError as e:
            raise errors.Misconfigured(
                f"party 0 cannot listen at {own.host}:{own.meeting}: {e.strerror}",
                hint="Is another party running there?",
            ) from e

    async def _knocked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """TLS begins after the connection, so that a refused certificate is seen here."""
        address = (writer.get_extra_info("peername") or ("an unknown address",))[0]
        try:
            await writer.start_tls(self._context, ssl_handshake_timeout=self._around.timeout)
            presented = writer.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""
            line = _Line(rank_of(presented, self._around.places) or 0, reader, writer)
            claimed, hello = _read_hello(await line.hear(self._around.timeout))
        except (OSError, EOFError, TimeoutError, errors.Untrusted):
            self._stranger = f"; a caller from {address} had no certificate of this job"
            await closed(writer)
            return
        if (old := self._lines.get(line.rank)) is not None:
            self._ended(old, _gone(line.rank, "came back anew"))
            await old.end()
        self._lines[line.rank] = line
        self._hellos[line.rank] = claimed, hello
        self._begin(line)
        line.tell("welcome")
        self._changed.set()

    async def _say_who_waits(self) -> None:
        while True:
            await asyncio.sleep(self._around.timeout / 2)
            absent = sorted(self._guests - self._hellos.keys())
            self._tell("waiting", absent)
            self._around.notice(_waiting(absent))

    async def _all(self, word: str) -> None:
        await self._until(lambda: all((word, rank) in self._happened for rank in self._guests))

    def _heard(self, line: _Line, word: str, rest: list[Any]) -> None:
        if word not in ("linked", "done") or rest:
            raise errors.Untrusted(f"party {line.rank} says {word[:20]!r} out of turn")
        self._happened.add((word, line.rank))

    def _ended(self, line: _Line, error: errors.HansaError) -> None:
        if self._lines.get(line.rank) is line:
            del self._lines[line.rank]
            self._hellos.pop(line.rank, None)
            line.drop(*_failure(error))
            self._lose(error)

    def _tell(self, *words: Any) -> None:
        for line in self._lines.values():
            line.tell(*words)

    async def _end_lines(self, keep: Set[int] = frozenset()) -> None:
        ending = [self._lines.pop(rank) for rank in list(self._lines) if rank not in keep]
        for line in ending:
            await line.end()


class Guest(Meeting):
    """The side of any other party: it calls the host."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self._line: _Line | None = None
        self._agreed: Agreement | None = None

    async def agree(self, hello: Hello) -> Agreement:
        """See `Meeting`; calls the host."""
        self._anew()
        self._agreed = None
        self._line = line = _Line(0, *await self._called())
        line.tell("hello", self._around.rank, hello.job, hello.program, hello.attempt, list(hello.held))
        self._begin(line)
        # The host beats while it waits, and gives up by itself.
        await self._until(lambda: self._agreed is not None)
        assert self._agreed is not None
        if self._agreed.step not in (0, *hello.held):
            raise errors.Untrusted(f"party 0 resumes at step {self._agreed.step}, which is not held here")
        return self._agreed

    async def all_linked(self) -> None:
        """See `Meeting`."""
        await self._said("linked", "start")

    async def all_done(self) -> None:
        """See `Meeting`."""
        await self._said("done", "over")
        await self.close()

    async def abandon(self, reason: errors.HansaError) -> None:
        """See `Meeting`."""
        if self._line:
            self._line.tell(*_failure(reason))
        await self.close()

    async def close(self) -> None:
        """See `Meeting`."""
        line, self._line = self._line, None
        if line:
            await line.end()

    async def _called(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        around = self._around
        end = asyncio.get_running_loop().time() + around.patience
        while True:
            left = end - asyncio.get_running_loop().time()
            try:
                patience = max(0.1, min(around.timeout / 2, left))
                return await connect(around.own, around.places, 0, around.places[0].meeting, patience)
            except errors.Unavailable as e:
                if left <= patience:
                    raise GivenUp(str(e), hint=e.hint) from e
                around.notice(_waiting([0]))

    async def _said(self, word: str, answer: str) -> None:
        if self._line:
            self._line.tell(word)
        await self._until(lambda: (answer, 0) in self._happened)

    def _heard(self, line: _Line, word: str, rest: list[Any]) -> None:
        if line is not self._line:
            return
        match word, rest:
            case "waiting", [list(ranks)] if all(type(r) is int for r in ranks):
                self._around.notice(_waiting(ranks))
            case "go", [int(attempt), int(step), str(link)] if self._agreed is None and len(link) <= _NAME:
                self._agreed = Agreement(attempt, step, link)
            case "welcome", []:
                pass
            case (("start" | "over"), []):
                self._happened.add((word, 0))
            case _:
                raise errors.Untrusted(f"party 0 says {word[:20]!r} out of turn")

    def _ended(self, line: _Line, error: errors.HansaError) -> None:
        if line is self._line:
            self._lose(error)


def passes(reason: errors.HansaError) -> bool:
    """Whether another attempt may do better."""
    return isinstance(reason, errors.Unavailable) and not isinstance(reason, GivenUp)


def _read_hello(said: list[Any]) -> tuple[int, Hello]:
    """Rank that is claimed, and the hello. Raises `Untrusted`."""
    match said:
        case ["hello", int(rank), bytes(job), bytes(program), int(attempt), list(held)]:
            numbers = [rank, attempt, *held]
            if len(held) <= _HELD and all(type(n) is int and 0 <= n < _MOST for n in numbers):
                return rank, Hello(job, program, attempt, tuple(held))
    raise errors.Untrusted("not a hello")


def _compare(rank: int, claimed: int, hello: Hello, own: Hello) -> None:
    hint = "Compare its terms, training script and address list with the others'."
    if claimed != rank:
        raise errors.Untrusted(
            f"a party claims rank {claimed} with the certificate of party {rank}", hint=hint
        )
    if hello.job != own.job:
        raise errors.Untrusted(f"party {rank} would work on another job", hint=hint)
    if hello.program != own.program:
        raise errors.Untrusted(f"party {rank} would perform another program", hint=hint)


def _failure(reason: errors.HansaError) -> tuple[Any, ...]:
    kind = next((name for name, cls in _REASONS.items() if isinstance(reason, cls)), "Misconfigured")
    return "failed", kind, str(reason)[:_WORDS], reason.hint[:_WORDS]


def _told(rest: list[Any]) -> errors.HansaError:
    """Another party's reason for ending the attempt."""
    match rest:
        case [str(kind), str(words), str(hint)]:
            words, hint = ("".join(c for c in text[:_WORDS] if c.isprintable()) for text in (words, hint))
            return _REASONS.get(kind, GivenUp)(words, hint=hint)
    return errors.Untrusted("a party ended the attempt without a reason")


def _gone(rank: int, how: str) -> errors.Unavailable:
    return errors.Unavailable(
        f"party {rank} is lost: it {how}",
        hint="Training goes on from the last checkpoint when it is back.",
    )


def _absent(ranks: list[int], more: str) -> GivenUp:
    return GivenUp(
        f"{_parties(ranks)} did not come{more}",
        hint="Start it, or check its address and the firewalls between.",
    )


def _waiting(ranks: Sequence[int]) -> str:
    return f"waiting for {_parties(ranks)}"


def _parties(ranks: Sequence[int]) -> str:
    return f"part{'y' if len(ranks) == 1 else 'ies'} {', '.join(map(str, ranks))}"
