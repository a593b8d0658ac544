"""Translated code against py-evm's own interpreter: same results, gas and errors, program by program."""

from __future__ import annotations

from typing import Any

import pytest
from eth.db.atomic import AtomicDB
from eth.vm import opcode_values as op
from eth.vm.chain_context import ChainContext
from eth.vm.forks.paris import ParisVM
from eth.vm.forks.paris.blocks import ParisBlockHeader
from eth.vm.forks.spurious_dragon._utils import collect_touched_accounts
from eth.vm.message import Message
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hansa.ledger.machine import TRANSLATED, Machine

HEADER = ParisBlockHeader(difficulty=0, block_number=1, gas_limit=10**9, timestamp=5)
WORDS = (0, 1, 2, 31, 32, 33, 255, 256, 257, 2**128, 2**255, 2**256 - 1)
INTERESTING = sorted(
    {
        *TRANSLATED,
        0x02,
        0x04,
        0x16,
        0x19,
        0x1A,
        0x20,
        0x35,
        0x37,
        0x51,
        0x53,
        0x54,
        0x55,
        0x59,
        0x5A,
        0xF3,
        0xFD,
    }
)


def run(vm: Any, code: bytes, gas: int, depth: int = 0) -> tuple[Any, ...]:
    state = vm.build_state(AtomicDB(), HEADER, ChainContext(1), ())
    message = Message(
        gas=gas, to=b"\x11" * 20, sender=b"\x22" * 20, value=0, data=bytes(range(1, 65)), code=code,
        depth=depth,
    )  # fmt: skip
    state.set_nonce(message.to, 1)
    context = state.get_transaction_context_class()(gas_price=0, origin=b"\x22" * 20)
    computation = state.computation_class.apply_message(state, message, context)
    if computation.is_error:
        return True, computation.get_gas_remaining(), computation.output
    stack = [v if isinstance(v, int) else int.from_bytes(v, "big") for v in computation._stack.values]
    # The end of a transaction (EIP-161).
    for account in sorted(collect_touched_accounts(computation)):
        if state.account_exists(account) and state.account_is_empty(account):
            state.delete_account(account)
    root = state.make_state_root()
    return (
        False,
        computation.get_gas_remaining(),
        computation.output,
        stack,
        bytes(computation._memory._bytes),
        computation.return_data,
        root,
    )


def both(code: bytes, gas: int = 100_000, depth: int = 0) -> tuple[Any, ...]:
    fast = run(Machine, code, gas, depth)
    assert fast == run(ParisVM, code, gas, depth)
    return fast


def push(value: int) -> bytes:
    data = value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")
    return bytes([0x5F + len(data)]) + data


words = st.sampled_from(WORDS) | st.integers(0, 2**256 - 1) | st.integers(0, 200)


@pytest.mark.parametrize("opcode", sorted(TRANSLATED))
@pytest.mark.parametrize("depth", [0, 1, 2, 17])
def test_each_instruction_on_stacks_of_each_depth(opcode: int, depth: int) -> None:
    code = b"".join(push(WORDS[i % len(WORDS)]) for i in range(depth)) + bytes([opcode])
    for tail in (b"", bytes(40)):
        for gas in (100_000, 3 * depth, 3 * depth + 1, 3 * depth + 2, 3 * depth + 3, 3 * depth + 9):
            both(code + tail, gas)


@example(opcode=op.SHA3, operands=[1, 2**256 - 1])
@example(opcode=op.MSTORE, operands=[7, 2**256 - 1])
@example(opcode=op.MLOAD, operands=[1, 2**256 - 1])
@given(opcode=st.sampled_from(sorted(TRANSLATED)), operands=st.lists(words, min_size=2, max_size=3))
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


def test_a_stretch_may_be_longer_than_one_function() -> None:
    assert not both(push(1) + (push(3) + b"\x01") * 700, 10_000)[0]


def test_code_may_end_within_a_push() -> None:
    assert both(push(1) + b"\x7f\xff")[3] == [1, 255 << 248]


sizes = st.sampled_from([0, 1, 31, 32, 33, 64, 95, 96, 97, 200])
calls = st.tuples(
    st.sampled_from([0, 14, 15, 18, 21, 24, 10_000, 2**255]),
    st.sampled_from([1, 2, 4, 4, 4, 4, 5, 0x33]) | st.just(2**160 + 4),
    sizes, sizes, sizes, sizes,
)  # fmt: skip


@settings(max_examples=300)
@given(
    st.lists(calls, min_size=1, max_size=5),
    st.integers(0, 6000) | st.just(100_000),
    st.sampled_from([0, 1023, 1024]),
)
def test_calls_of_the_built_in_contracts(made: list[tuple[int, ...]], gas: int, depth: int) -> None:
    filled = (
        b"".join(push(32 * n) + b"\x35" + push(32 * n) + b"\x52" for n in range(2))
        + push(5)
        + push(64)
        + b"\x52"
    )
    # The first call finds the address not met yet; return data's size stays on the stack.
    warm = b"".join(map(push, (0, 0, 0, 0, 4, 0))) + b"\xfa\x50"
    body = b"".join(b"".join(map(push, reversed(call))) + b"\xfa\x3d" for call in made)
    both(filled + warm + body, gas, depth)
    both(filled + body, gas + 3000, depth)
    both(body, gas, depth)


def test_a_call_lacks_words() -> None:
    for words in range(7):
        both(b"".join(map(push, range(words))) + b"\xfa")


def test_value_may_go_to_a_built_in_contract() -> None:
    # call(gas, 4, 0 or 1, 0, 0, 0, 0): without value nothing is left, with value there is no money.
    for value in (0, 1):
        words = (0, 0, 0, 0, value, 4, 50_000)
        both(b"".join(map(push, words)) + b"\xf1" + push(4) + b"\x3f")
