"""A contract on py-evm without blocks: one call, one result. Test keys and signatures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from eth.db.atomic import AtomicDB
from eth.vm.chain_context import ChainContext
from eth.vm.forks.paris.blocks import ParisBlockHeader
from eth.vm.message import Message
from eth.vm.spoof import SpoofTransaction
from eth_hash.auto import keccak

from hansa import encoding, errors
from hansa.crypto.signatures import address, sign
from hansa.ledger import artefact
from hansa.ledger.binding import arguments, event_of, parameter_fields
from hansa.ledger.machine import Machine
from hansa.protocol import messages as msg
from hansa.protocol import rules
from hansa.protocol.events import Event
from hansa.protocol.state import State
from hansa.records import Parameters

CHAIN_ID = 31337
START = 1_000_000
OWNER = bytes.fromhex("0f" * 20)
MODEL = keccak(b"initial model")
GAS = 900_000_000
REFUSED = keccak(b"Refused(uint256)")[:4]


@lru_cache(maxsize=2048)
def secret(i: int) -> bytes:
    """Key of the i-th person of a test."""
    return keccak(b"hansa test key" + i.to_bytes(4, "big"))


@lru_cache(maxsize=2048)
def who(i: int) -> bytes:
    """Address of the i-th person."""
    return address(secret(i))


@lru_cache(maxsize=65_536)
def signed(i: int, domain: bytes, name: str, *values: Any) -> bytes:
    """Signature of the i-th person on a message; lists are given as tuples."""
    return sign(secret(i), encoding.message_hash(domain, name, *values))


@lru_cache(maxsize=65_536)
def layer(i: int, series: int, depth: int) -> bytes:
    """`depth` hashes around the core of the i-th person's onion number `series`."""
    if depth == 0:
        return keccak(b"onion" + i.to_bytes(4, "big") + series.to_bytes(4, "big"))
    return keccak(layer(i, series, depth - 1))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call did: the refusal if it reverted, else events, item codes and gas."""

    refusal: int | None
    events: tuple[Event, ...]
    codes: list[int]
    gas: int


class Contract:
    """A deployed contract; `now` is the time of the next call.

    A getter is executed again only if a storage slot that it read was written since: its answer depends
    on nothing else, and a comparison of all getters after each call would take minutes.
    """

    def __init__(
        self,
        parameters: Parameters,
        seats: tuple[bytes, ...] = (),
        *,
        code: bytes | None = None,
        owner: bytes = OWNER,
    ) -> None:
        self.now = START
        header = ParisBlockHeader(difficulty=0, block_number=1, gas_limit=GAS, timestamp=START)
        self._state = Machine.build_state(AtomicDB(), header, ChainContext(CHAIN_ID))
        creation = artefact.creation_code(parameter_fields(parameters), seats, MODEL)
        if code is not None:
            creation = code + creation[len(artefact.bytecode()) :]
        self._answers: dict[tuple[Any, ...], Any] = {}
        self._readers: dict[int, set[tuple[Any, ...]]] = {}
        self._reading: tuple[Any, ...] | None = None
        self._get, self._put = self._state.get_storage, self._state.set_storage
        self._state.get_storage, self._state.set_storage = self._note_read, self._note_write
        result = self._transact(owner, b"", creation)
        if result.is_error:
            raise errors.REFUSALS[int.from_bytes(result.output[4:], "big")]
        self.address = result.msg.storage_address
        self.deployment_gas = self._gas
        self.code_size = len(self._state.get_code(self.address))

    def _note_read(self, address: Any, slot: int, from_journal: bool = True) -> int:
        if self._reading is not None:
            self._readers.setdefault(slot, set()).add(self._reading)
        return self._get(address, slot, from_journal)

    def _note_write(self, address: Any, slot: int, value: int) -> None:
        for key in self._readers.pop(slot, ()):
            self._answers.pop(key, None)
        self._put(address, slot, value)

    def _transact(self, sender: bytes, to: bytes, data: bytes) -> Any:
        state = self._state
        state.execution_context._timestamp = self.now
        state.lock_changes()
        plain = Machine.get_transaction_builder().create_unsigned_transaction(
            nonce=state.get_nonce(sender), gas_price=0, gas=GAS, to=to, value=0, data=data
        )
        spoofed: Any = SpoofTransaction(plain, from_=sender)
        result = state.apply_transaction(spoofed)
        used = GAS - result.get_gas_remaining()
        self._gas = used - min(used // 5, result.get_gas_refund())
        return result

    def call(self, call: msg.Call, sender: bytes = OWNER) -> Outcome:
        """Send a call of the protocol."""
        result = self._transact(sender, self.address, artefact.encode_call(*arguments(call)))
        if result.is_error:
            assert result.output[:4] == REFUSED, f"reverted without a reason: {result.error!r}"
            return Outcome(int.from_bytes(result.output[4:], "big"), (), [], self._gas)
        events = tuple(
            event_of(*artefact.decode_log([t.to_bytes(32, "big") for t in topics], data))
            for _, topics, data in result.get_log_entries()
        )
        answer = artefact.decode_result(artefact_name(call), result.output)
        return Outcome(None, events, list(answer[0]) if answer else [], self._gas)

    def read(self, name: str, *args: Any) -> Any:
        """Value of a getter; a tuple where it gives several."""
        key = (name, *args)
        if key not in self._answers:
            self._reading = key
            self._answers[key] = self._execute(name, args)
            self._reading = None
        return self._answers[key]

    def _execute(self, name: str, args: tuple[Any, ...]) -> Any:
        data = artefact.encode_call(name, args)
        message = Message(
            gas=GAS, to=self.address, sender=OWNER, value=0, data=data,
            code=self._state.get_code(self.address), is_static=True,
        )  # fmt: skip
        context = self._state.get_transaction_context(_READER)
        result = self._state.computation_class.apply_message(self._state, message, context)
        assert not result.is_error, f"{name}{args}: {result.error!r}"
        values = artefact.decode_result(name, result.output)
        return values[0] if len(values) == 1 else values

    def founded(self, parameters: Parameters, seats: tuple[bytes, ...] = (), owner: bytes = OWNER) -> State:
        """The specification's state of this contract right after its deployment."""
        domain = encoding.domain_separator(CHAIN_ID, self.address, parameters.digest)
        return rules.found(parameters, seats, owner, domain, MODEL)


_READER: Any = SpoofTransaction(
    Machine.get_transaction_builder().create_unsigned_transaction(
        nonce=0, gas_price=0, gas=GAS, to=OWNER, value=0, data=b""
    ),
    from_=OWNER,
)


def artefact_name(call: msg.Call) -> str:
    """Name of the function that a call of the protocol becomes."""
    return arguments(call)[0]
