"""py-evm's machine with the plain stretches of a contract's code translated to Python functions.

A stretch is straight code of instructions that touch nothing but stack, memory and call data; it ends
at a jump. Every other instruction is py-evm's own. The same results and gas as `ParisVM`, and an error
where that has one, perhaps of another kind: an error of these instructions ends the frame and burns its
gas, whichever it is. That is also why gas and stack depth may be checked once, before the stretch.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from eth.abc import ComputationAPI
from eth.exceptions import FullStack, InsufficientStack, InvalidJumpDestination, OutOfGas
from eth.vm import opcode_values as op
from eth.vm.code_stream import CodeStream
from eth.vm.forks.paris import ParisVM
from eth.vm.forks.paris.computation import ParisComputation
from eth.vm.forks.paris.opcodes import PARIS_OPCODES
from eth.vm.forks.paris.state import ParisState
from eth_hash.auto import keccak
from eth_typing import Address

from hansa.ledger.trie import Accounts, common_prefix

RECURSION_LIMIT = 10_000
"""Python frames: 7,200 would hold the EVM's deepest calls, 1,024. The import of `eth` allows 100,000,
which the C stack does not hold: a stranger's nested JSON would kill the process."""

sys.setrecursionlimit(RECURSION_LIMIT)

BASE, VERY_LOW, LOW, MID, HIGH, JUMPDEST, SHA3, SHA3_WORD = 2, 3, 5, 8, 10, 1, 30, 6
"""Gas of instruction classes: yellow paper, appendix G."""

IDENTITY, IDENTITY_BASE, IDENTITY_WORD, WARM = 4, 15, 3, 100
"""The built-in contract that returns its input, its gas, and that of an address already met (EIP-2929)."""

IDENTITY_ADDRESS = Address(IDENTITY.to_bytes(20, "big"))

WORD = f"{2**256 - 1:#x}"
DEPTH = 1024
MEMORY = 2**64
"""Bytes of memory that cost 2**109 gas; py-evm counts up to 2**256 and takes more for a fault of its own."""

LONGEST = 500
"""Instructions of one stretch at most."""

EXPRESSIONS: dict[int, tuple[int, int, str]] = {
    op.ADD: (VERY_LOW, 2, f"{{0}} + {{1}} & {WORD}"),
    op.MUL: (LOW, 2, f"{{0}} * {{1}} & {WORD}"),
    op.SUB: (VERY_LOW, 2, f"{{0}} - {{1}} & {WORD}"),
    op.DIV: (LOW, 2, "{0} // {1} if {1} else 0"),
    op.MOD: (LOW, 2, "{0} % {1} if {1} else 0"),
    op.LT: (VERY_LOW, 2, "1 if {0} < {1} else 0"),
    op.GT: (VERY_LOW, 2, "1 if {0} > {1} else 0"),
    op.EQ: (VERY_LOW, 2, "1 if {0} == {1} else 0"),
    op.ISZERO: (VERY_LOW, 1, "0 if {0} else 1"),
    op.AND: (VERY_LOW, 2, "{0} & {1}"),
    op.OR: (VERY_LOW, 2, "{0} | {1}"),
    op.XOR: (VERY_LOW, 2, "{0} ^ {1}"),
    op.NOT: (VERY_LOW, 1, f"{{0}} ^ {WORD}"),
    op.SHL: (VERY_LOW, 2, f"{{1}} << {{0}} & {WORD} if {{0}} < 256 else 0"),
    op.SHR: (VERY_LOW, 2, "{1} >> {0} if {0} < 256 else 0"),
    op.CALLDATASIZE: (BASE, 0, "len(computation.msg.data_as_bytes)"),
    op.CALLDATALOAD: (
        VERY_LOW,
        1,
        "from_bytes(computation.msg.data_as_bytes[{0}:{0} + 32].ljust(32, b'\\0'), 'big')",
    ),
    op.MLOAD: (VERY_LOW, 1, "from_bytes(memory[{0}:{0} + 32], 'big')"),
    op.SHA3: (SHA3, 2, "sha3(computation, memory[{0}:{0} + {1}])"),
}
"""Instruction -> its gas, how many words it takes, and the word it leaves."""

PUSHES = range(op.PUSH1, op.PUSH32 + 1)
DUPS = range(op.DUP1, op.DUP16 + 1)
SWAPS = range(op.SWAP1, op.SWAP16 + 1)
TRANSLATED = frozenset(
    {*EXPRESSIONS, *PUSHES, *DUPS, *SWAPS, op.POP, op.MSTORE, op.JUMP, op.JUMPI, op.JUMPDEST}
)


class Stretch(NamedTuple):
    """`run` takes a computation, its stack and the jump destinations, and returns where the code goes on.

    `gas` is what it costs beside memory; the stack must hold from `least` to `most` words before.
    """

    run: Callable[[Any, list[Any], frozenset[int]], int]
    gas: int
    least: int
    most: int


def _reach(computation: Any, start: int, size: int) -> bytearray:
    """Memory, long enough and paid for."""
    memory: bytearray = computation._memory._bytes
    if size and start + size > len(memory):
        if start + size > MEMORY:
            raise OutOfGas("no gas pays for so much memory")
        computation.extend_memory(start, size)
        memory = computation._memory._bytes
    return memory


def _sha3(computation: Any, data: bytearray) -> int:
    computation.consume_gas(SHA3_WORD * ((len(data) + 31) // 32), "SHA3")
    return int.from_bytes(keccak(bytes(data)), "big")


NAMES = {
    "InvalidJumpDestination": InvalidJumpDestination,
    "from_bytes": int.from_bytes,
    "reach": _reach,
    "sha3": _sha3,
}


class _Writer:
    """Symbolic execution of a stretch: `stack` holds literals and names of what the words will be."""

    def __init__(self) -> None:
        self.stack: list[str] = []
        self.lines: list[str] = []
        self.taken = 0
        self.growth = 0
        self.gas = 0
        self.memory = -1

    def reach(self, depth: int) -> None:
        """Have `depth` words at hand: those that were there before are `a1`, the topmost, `a2`, ..."""
        while len(self.stack) < depth:
            self.taken += 1
            self.stack.insert(0, f"a{self.taken}")

    def take(self, words: int) -> list[str]:
        self.reach(words)
        return [self.stack.pop() for _ in range(words)]

    def leave(self, word: str) -> None:
        self.stack.append(word)
        self.growth = max(self.growth, len(self.stack) - self.taken)

    def touch(self, start: str, size: str) -> None:
        """Have memory at hand. All of it that is known here is paid for at once, before the first use."""
        self.memory = max(self.memory, 0)
        if start.startswith("0x") and size.startswith("0x"):
            length = int(size, 16)
            self.memory = max(self.memory, int(start, 16) + length if length else 0)
        else:
            self.lines.append(f"memory = reach(computation, {start}, {size})")

    def instruction(self, opcode: int, pushed: int) -> None:
        if opcode in EXPRESSIONS:
            gas, words, expression = EXPRESSIONS[opcode]
            operands = self.take(words)
            if "memory" in expression:
                self.touch(operands[0], operands[1] if opcode == op.SHA3 else "0x20")
            name = f"v{len(self.lines)}"
            self.lines.append(f"{name} = {expression.format(*operands)}")
            self.leave(name)
        elif opcode in PUSHES:
            gas = VERY_LOW
            self.leave(hex(pushed))
        elif opcode in DUPS:
            gas = VERY_LOW
            self.reach(opcode - op.DUP1 + 1)
            self.leave(self.stack[op.DUP1 - opcode - 1])
        elif opcode in SWAPS:
            gas, other = VERY_LOW, op.SWAP1 - opcode - 2
            self.reach(-other)
            self.stack[-1], self.stack[other] = self.stack[other], self.stack[-1]
        elif opcode == op.MSTORE:
            gas = VERY_LOW
            start, word = self.take(2)
            data = (
                f"{word}.to_bytes(32, 'big')" if word[0] in "av" else repr(int(word, 16).to_bytes(32, "big"))
            )
            self.touch(start, "0x20")
            self.lines.append(f"memory[{start}:{start} + 32] = {data}")
        elif opcode == op.POP:
            gas = BASE
            self.take(1)
        else:
            gas = JUMPDEST
        self.gas += gas

    def finish(self, jump: int | None, end: int) -> str:
        after = [f"return {end}"]
        if jump is not None:
            self.gas += MID if jump == op.JUMP else HIGH
            target = self.take(1)[0]
            land = [f"if {target} not in destinations: raise InvalidJumpDestination", f"return {target}"]
            after = land if jump == op.JUMP else [f"if {self.take(1)[0]}:", *(" " + x for x in land), *after]
        before = [f"a{depth}" for depth in range(self.taken, 0, -1)]
        same = common_prefix(before, self.stack)
        left, removed = self.stack[same:], self.taken - same
        operands = [f"a{depth} = values[-{depth}]" for depth in range(1, self.taken + 1)]
        if self.memory >= 0:
            operands.append(f"memory = reach(computation, 0, {self.memory})")
        words = f"[{', '.join(left)}]"
        update = [f"values[-{removed}:] = {words}" if removed else f"values += {words}"]
        body = operands + self.lines + update + after
        return "def stretch(computation, values, destinations):\n" + "".join(f" {line}\n" for line in body)


def _stretch(code: bytes, start: int) -> tuple[bytes, int | None]:
    """Bytes of the stretch at `start`, without the jump that ends it, and that jump."""
    place = start
    for _ in range(LONGEST):
        opcode = code[place] if place < len(code) else op.STOP
        if opcode in (op.JUMP, op.JUMPI):
            return code[start:place], opcode
        if opcode not in TRANSLATED:
            break
        place += _width(opcode)
    return code[start:place].ljust(place - start, b"\0"), None


def _width(opcode: int) -> int:
    return 2 + opcode - op.PUSH1 if opcode in PUSHES else 1


@lru_cache(maxsize=1 << 14)
def _translate(stretch: bytes, jump: int | None, start: int) -> Stretch:
    writer, place = _Writer(), 0
    while place < len(stretch):
        opcode, width = stretch[place], _width(stretch[place])
        writer.instruction(opcode, int.from_bytes(stretch[place + 1 : place + width], "big"))
        place += width
    names: dict[str, Any] = {}
    source = writer.finish(jump, start + place + (jump is not None))
    exec(source, NAMES, names)  # noqa: S102, made of the templates above, numbered names and numbers
    return Stretch(names["stretch"], writer.gas, writer.taken, DEPTH - writer.growth)


@lru_cache(maxsize=64)
def _program(code: bytes) -> tuple[dict[int, Stretch | int], frozenset[int]]:
    """What was translated so far, by where it starts, an opcode where py-evm goes on; the jump destinations."""
    destinations, place = set(), 0
    while place < len(code):
        if code[place] == op.JUMPDEST:
            destinations.add(place)
        place += _width(code[place])
    return {}, frozenset(destinations)


class Code(CodeStream):
    """Code that runs itself: iteration gives py-evm the instructions that are its own."""

    __slots__ = ("_computation",)

    def __init__(self, code: bytes, computation: Computation) -> None:
        super().__init__(code)
        self._computation = weakref.ref(computation)

    def __iter__(self) -> Iterator[int]:
        computation: Any = self._computation()
        code = self._raw_code_bytes
        assert computation is not None
        values, meter = computation._stack.values, computation._gas_meter
        steps, destinations = _program(code)
        place = self.program_counter
        while True:
            step = steps.get(place)
            if step is None:
                stretch, jump = _stretch(code, place)
                if stretch or jump is not None:
                    step = _translate(stretch, jump, place)
                else:
                    step = code[place] if place < len(code) else op.STOP
                steps[place] = step
            if not isinstance(step, int):
                run, gas, least, most = step
                if gas > meter.gas_remaining:
                    raise OutOfGas(f"needed {gas} of {meter.gas_remaining}")
                if not least <= len(values) <= most:
                    short = len(values) < least
                    raise InsufficientStack("words are missing") if short else FullStack("stack limit")
                meter.gas_remaining -= gas
                place = run(computation, values, destinations)
                continue
            self.program_counter = place + 1
            yield step
            place = self.program_counter
            # py-evm's instructions leave one word at most, as an integer or as big-endian bytes.
            if values and not isinstance(values[-1], int):
                values[-1] = int.from_bytes(values[-1], "big")


def _static_call(computation: Any) -> None:
    """STATICCALL, short for the copies of memory that compilers make with the identity contract.

    Short only where nothing can fail and no memory is new; everything else is py-evm's.
    """
    values, meter, memory = computation._stack.values, computation._gas_meter, computation._memory._bytes
    if len(values) >= 6 and values[-2] == IDENTITY and computation.msg.depth < DEPTH:
        asked, _, start, size, target, room = values[:-7:-1]
        cost = IDENTITY_BASE + IDENTITY_WORD * ((size + 31) // 32)
        left = meter.gas_remaining - WARM
        enough = min(asked, left - left // 64) >= cost
        known = max(start + size, target + room) <= len(memory)
        if enough and known and computation.state.is_address_warm(IDENTITY_ADDRESS):
            meter.gas_remaining = left - cost
            computation.return_data = data = bytes(memory[start : start + size])
            copied = data[:room]
            memory[target : target + len(copied)] = copied
            values[-6:] = [1]
            return
    PARIS_OPCODES[op.STATICCALL](computation=computation)


class Computation(ParisComputation):
    """Execution of one message."""

    opcodes: dict[int, Any] = {**PARIS_OPCODES, op.STATICCALL: _static_call}  # noqa: RUF012, the base's

    def __init__(self, state: Any, message: Any, transaction_context: Any) -> None:
        super().__init__(state, message, transaction_context)
        self.code = Code(message.code, self)

    @classmethod
    def apply_message(
        cls, state: Any, message: Any, transaction_context: Any, parent_computation: Any = None
    ) -> ComputationAPI:
        """Execute a message; one without value to what is built into the EVM leaves nothing to take back.

        py-evm notes it as an empty account and deletes that after the transaction (EIP-161).
        """
        if message.value == 0 and message.code_address in cls._precompiles:
            return cls.apply_computation(state, message, transaction_context, parent_computation)
        return super().apply_message(state, message, transaction_context, parent_computation)


class State(ParisState):
    """State whose messages run on translated code, and whose storage stays decoded."""

    computation_class = Computation
    account_db_class = Accounts


class Machine(ParisVM):
    """Paris rules."""

    _state_class = State
