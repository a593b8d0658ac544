"""Reads what the host says, lets the program decide, answers. Whatever goes wrong, the host learns a number."""

from __future__ import annotations

from io import BufferedReader
from typing import Any, BinaryIO

from hansa import errors
from hansa.enclave import messages as msg
from hansa.enclave.messages import FATAL, Code, Refusal
from hansa.enclave.program import PROGRAM, Enclave, Quoting


def serve(source: BufferedReader[Any], sink: BinaryIO, quote: Quoting, mode: str) -> None:
    """Serve one host until it goes, or an answer ends the enclave. `mode`: "hardware" or "simulated"."""
    host = _Host(quote)
    _send(sink, msg.Hello(PROGRAM, mode))
    while True:
        try:
            message = msg.receive(source, msg.REQUESTS)
            if message is None:
                return
            answer, bulk = host.answer(message, source)
        except Refusal as e:
            answer, bulk = msg.Refused(e.code), b""
        except errors.Untrusted:
            answer, bulk = msg.Refused(Code.MALFORMED), b""
        except Exception:  # what it says may hold members' numbers, and nobody outside may read them
            answer, bulk = msg.Refused(Code.FAILED), b""
        _send(sink, answer, bulk)
        if isinstance(answer, msg.Refused) and answer.code < FATAL:
            return


class _Host:
    """The conversation with a host; there is an enclave from `Begin` on."""

    def __init__(self, quote: Quoting) -> None:
        self._quote = quote
        self._enclave: Enclave | None = None

    def answer(self, message: msg.Request, source: BufferedReader[Any]) -> tuple[msg.Answer, bytes]:
        """The answer to a message and what follows it. Raises `Refusal`."""
        enclave = self._enclave
        if isinstance(message, msg.Begin):
            if enclave is not None:
                raise Refusal(Code.ORDER)
            self._enclave = Enclave(message, self._quote)
            return msg.Done(), b""
        if enclave is None:
            raise Refusal(Code.ORDER)
        match message:
            case msg.Change():
                return enclave.change(message), b""
            case msg.Attest():
                return enclave.attest(message), b""
            case msg.Start():
                return enclave.start(message), b""
            case msg.Base():
                return enclave.base(message, source), b""
            case msg.Payload():
                return enclave.payload(message, source), b""
            case msg.Opening():
                return enclave.opening(message), b""
            case msg.Half():
                return enclave.half(message, source), b""
            case msg.Masked():
                return enclave.masked(message, source), b""
            case msg.Finish():
                return enclave.finish()


def _send(sink: BinaryIO, answer: msg.Answer, bulk: bytes = b"") -> None:
    sink.write(msg.encode(answer))
    sink.write(bulk)
    sink.flush()
