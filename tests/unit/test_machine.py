"""The interpreter with short cuts against py-evm's own: same results, gas and errors, program by program."""

from __future__ import annotations

from typing import Any

import pytest
from eth.db.atomic import AtomicDB
from eth.vm.chain_context import ChainContext
from eth.vm.forks.paris import ParisVM
from eth.vm.forks.paris.blocks import ParisBlockHeader
from eth.vm.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.ledger.machine import FAST, Machine

HEADER = ParisBlockHeader(difficulty=0, block_number=1, gas_limit=10**9, timestamp=5)
WORDS = (0, 1, 2, 31, 32, 33, 255, 256, 257, 2**128, 2**255, 2**256 - 1)
INTERESTING = sorted(
    {*FAST, 0x02, 0x04, 0x16, 0x19, 0x1A, 0x20, 0x35, 0x37, 0x51, 0x53, 0x54, 0x55, 0x59, 0x5A, 0xF3, 0xFD}
)


def run(vm: Any, code: bytes, gas: int) -> tuple[Any, ...]:
    state = vm.build_state(AtomicDB(), HEADER, ChainContext(1), ())
    message = Message(
        gas=gas, to=b"\x11" * 20, sender=b"\x22" * 20, value=0, data=bytes(range(64)), code=code
    )
    context = state.get_transaction_context_class()(gas_price=0, origin=b"\x22" * 20)
    computation = state.computation_class.apply_message(state, message, context)
    if computation.is_error:
        return True, computation.get_gas_remaining(), computation.output
    stack = [v if isinstance(v, int) else int.from_bytes(v, "big") for v in computation._stack.values]
    root = state.make_state_root()
    return (
        False,
        computation.get_gas_remaining(),
        computation.output,
        stack,
        bytes(computation._memory._bytes),
        root,
    )


def both(code: bytes, gas: int = 100_000) -> tuple[Any, ...]:
    fast = run(Machine, code, gas)
    assert fast == run(ParisVM, code, gas)
    return fast


def push(value: int) -> bytes:
    data = value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")
    return bytes([0x5F + len(data)]) + data


words = st.sampled_from(WORDS) | st.integers(0, 2**256 - 1) | st.integers(0, 200)


@pytest.mark.parametrize("opcode", sorted(FAST))
@pytest.mark.parametrize("depth", [0, 1, 2, 17])
def test_each_instruction_on_stacks_of_each_depth(opcode: int, depth: int) -> None:
    code = b"".join(push(WORDS[i % len(WORDS)]) for i in range(depth)) + bytes([opcode])
    for tail in (b"", bytes(40)):
        for gas in (100_000, 3 * depth, 3 * depth + 1, 3 * depth + 2, 3 * depth + 3, 3 * depth + 9):
            both(code + tail, gas)


@given(opcode=st.sampled_from(sorted(FAST)), operands=st.lists(words, min_size=2, max_size=3))
def test_instructions_on_all_words(opcode: int, operands: list[int]) -> None:
    both(b"".join(map(push, operands)) + bytes([opcode]))


@settings(max_examples=300)
@given(
    st.lists(
        words.map(push) | st.sampled_from(INTERESTING).map(lambda op: bytes([op])) | st.just(b"\x5b"),
        max_size=60,
    ),
    st.integers(0, 50_000),
)
def test_random_programs(parts: list[bytes], gas: int) -> None:
    both(b"".join(parts), gas)


@pytest.mark.parametrize("opcode", [0x5F + 1, 0x80])
def test_the_stack_ends_at_1024_words(opcode: int) -> None:
    step = bytes([opcode]) + (b"\x01" if opcode == 0x60 else b"")
    start = push(1)
    assert not both(start + step * 1023)[0]
    assert both(start + step * 1024)[0]


@pytest.mark.parametrize("target", [0, 1, 3, 4, 5, 100, 2**255])
@pytest.mark.parametrize("jump", [b"\x56", b"\x57"])
def test_jumps_land_on_destinations_only(target: int, jump: bytes) -> None:
    condition = push(1) if jump == b"\x57" else b""
    landing = b"\x60\x5b\x5b" + push(7)
    both(condition + push(target) + jump + landing)
    both(push(0) + push(target) + b"\x57" + landing)


def test_a_loop_that_uses_all_its_gas() -> None:
    assert both(b"\x5b\x60\x00\x56", 10_000)[:2] == (True, 0)
