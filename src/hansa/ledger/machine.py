"""py-evm's interpreter with short cuts for the instructions that a contract spends its time in.

The same results, gas and errors as `ParisVM`; about half the time. An instruction's error ends the
frame and burns its gas, so what an instruction leaves on the stack when it fails does not matter.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from eth.exceptions import FullStack, InsufficientStack, InvalidJumpDestination, OutOfGas
from eth.vm import opcode_values as op
from eth.vm.forks.paris import ParisVM
from eth.vm.forks.paris.computation import ParisComputation
from eth.vm.forks.paris.opcodes import PARIS_OPCODES
from eth.vm.forks.paris.state import ParisState

RECURSION_LIMIT = 10_000
"""Python frames: 7,200 would hold the EVM's deepest calls, 1,024. The import of `eth` allows 100,000,
which the C stack does not hold: a stranger's nested JSON would kill the process."""

sys.setrecursionlimit(RECURSION_LIMIT)

VERY_LOW, BASE, MID, HIGH, JUMPDEST = 3, 2, 8, 10, 1
"""Gas of instruction classes: yellow paper, appendix G."""

WORD = 2**256 - 1
DEPTH = 1024

Instruction = Callable[..., None]


def _charge(computation: Any, gas: int) -> None:
    meter = computation._gas_meter
    left = meter.gas_remaining - gas
    if left < 0:
        raise OutOfGas(f"needed {gas} of {meter.gas_remaining}")
    meter.gas_remaining = left


def _integer(value: int | bytes) -> int:
    """py-evm leaves on the stack what an instruction made: integers or big-endian bytes."""
    return value if value.__class__ is int else int.from_bytes(value, "big")  # type: ignore[arg-type]


def _push(size: int) -> Instruction:
    def push(computation: Any) -> None:
        _charge(computation, VERY_LOW)
        values = computation._stack.values
        if len(values) >= DEPTH:
            raise FullStack("stack limit reached")
        code = computation.code
        start = code.program_counter
        code.program_counter = end = start + size
        data = code._raw_code_bytes[start:end]
        values.append(int.from_bytes(data if len(data) == size else data.ljust(size, b"\0"), "big"))

    return push


def _dup(position: int) -> Instruction:
    def dup(computation: Any) -> None:
        _charge(computation, VERY_LOW)
        values = computation._stack.values
        if not position <= len(values) < DEPTH:
            raise (
                InsufficientStack("nothing to duplicate") if len(values) < DEPTH else FullStack("stack limit")
            )
        values.append(values[-position])

    return dup


def _swap(position: int) -> Instruction:
    def swap(computation: Any) -> None:
        _charge(computation, VERY_LOW)
        values = computation._stack.values
        if len(values) <= position:
            raise InsufficientStack("nothing to swap with")
        values[-1], values[-1 - position] = values[-1 - position], values[-1]

    return swap


def _binary(operate: Callable[[int, int], int]) -> Instruction:
    """Instruction that replaces the two topmost words by `operate(top, below)`."""

    def binary(computation: Any) -> None:
        _charge(computation, VERY_LOW)
        values = computation._stack.values
        if len(values) < 2:
            raise InsufficientStack("two words are needed")
        top = values.pop()
        below = values[-1]
        if top.__class__ is not int:
            top = int.from_bytes(top, "big")
        if below.__class__ is not int:
            below = int.from_bytes(below, "big")
        values[-1] = operate(top, below)

    return binary


def _pop_integer(computation: Any) -> int:
    values = computation._stack.values
    if not values:
        raise InsufficientStack("a word is needed")
    return _integer(values.pop())


def _is_zero(computation: Any) -> None:
    _charge(computation, VERY_LOW)
    computation._stack.values.append(0 if _pop_integer(computation) else 1)


def _pop(computation: Any) -> None:
    _charge(computation, BASE)
    _pop_integer(computation)


def _mload(computation: Any) -> None:
    _charge(computation, VERY_LOW)
    start = _pop_integer(computation)
    memory = computation._memory._bytes
    if start + 32 > len(memory):
        computation.extend_memory(start, 32)
        memory = computation._memory._bytes
    computation._stack.values.append(int.from_bytes(memory[start : start + 32], "big"))


def _mstore(computation: Any) -> None:
    _charge(computation, VERY_LOW)
    start, value = _pop_integer(computation), _pop_integer(computation)
    memory = computation._memory._bytes
    if start + 32 > len(memory):
        computation.extend_memory(start, 32)
        memory = computation._memory._bytes
    memory[start : start + 32] = value.to_bytes(32, "big")


def _land(computation: Any, target: int) -> None:
    code = computation.code
    if target >= len(code) or code[target] != op.JUMPDEST or not code.is_valid_opcode(target):
        raise InvalidJumpDestination("jump to no destination")
    code.program_counter = target


def _jump(computation: Any) -> None:
    _charge(computation, MID)
    _land(computation, _pop_integer(computation))


def _jump_if(computation: Any) -> None:
    _charge(computation, HIGH)
    target, condition = _pop_integer(computation), _pop_integer(computation)
    if condition:
        _land(computation, target)


def _jump_destination(computation: Any) -> None:
    _charge(computation, JUMPDEST)


FAST: dict[int, Instruction] = {
    **{op.PUSH1 + size - 1: _push(size) for size in range(1, 33)},
    **{op.DUP1 + position - 1: _dup(position) for position in range(1, 17)},
    **{op.SWAP1 + position - 1: _swap(position) for position in range(1, 17)},
    op.ADD: _binary(lambda top, below: top + below & WORD),
    op.SUB: _binary(lambda top, below: top - below & WORD),
    op.AND: _binary(lambda top, below: top & below),
    op.OR: _binary(lambda top, below: top | below),
    op.XOR: _binary(lambda top, below: top ^ below),
    op.LT: _binary(lambda top, below: 1 if top < below else 0),
    op.GT: _binary(lambda top, below: 1 if top > below else 0),
    op.EQ: _binary(lambda top, below: 1 if top == below else 0),
    op.SHL: _binary(lambda top, below: below << top & WORD if top < 256 else 0),
    op.SHR: _binary(lambda top, below: below >> top if top < 256 else 0),
    op.ISZERO: _is_zero,
    op.POP: _pop,
    op.MLOAD: _mload,
    op.MSTORE: _mstore,
    op.JUMP: _jump,
    op.JUMPI: _jump_if,
    op.JUMPDEST: _jump_destination,
}


class Computation(ParisComputation):
    """Execution of one message."""

    opcodes: dict[int, Any] = {**PARIS_OPCODES, **FAST}  # noqa: RUF012, the base declares it so


class State(ParisState):
    """State whose messages run on the short cuts."""

    computation_class = Computation


class Machine(ParisVM):
    """Paris rules."""

    _state_class = State
