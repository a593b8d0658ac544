"""The chain behind an RPC address: is it one that a federation can live on, and how does it behave.

Methods are those of the Ethereum JSON-RPC specification; nothing is sent, the contract's deployment is only
simulated. What a node answers is checked as in `ledger.rpc` and shown without control characters.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from hansa import errors
from hansa.doctor.clock import judge_clock, watch
from hansa.doctor.findings import Finding, Verdict, printable, timed
from hansa.ledger import artefact
from hansa.ledger.binding import parameter_fields
from hansa.ledger.evm import CALL_GAS
from hansa.ledger.follower import Header, header_of
from hansa.ledger.rpc import Fault, Rpc, hexed, member, number, quantity, unhex
from hansa.records import Governance, Parameters

PINGS = 5
BLOCKS = 12
"""How many blocks back block time is measured."""

SPANS = (2000, 200, 20, 1)
"""Blocks of one eth_getLogs: what a follower asks for first, and what it may fall back to."""

BATCHES = (2, 64)
"""Calls of one batch: the least that works, and what a reorganisation may take (`Fold(depth=64)`)."""

SLOW_BLOCK = 30.0
"""Seconds a block from which on the usual deadlines of ten minutes become tight."""

FORKS = (
    ("Osaka", "60011e00"),
    ("Cancun", "5f5c00"),
    ("Shanghai", "5f00"),
    ("London", "4800"),
    ("Istanbul", "4600"),
)
"""Newest first: a fork and code that runs from it on (CLZ, TLOAD, PUSH0, BASEFEE, CHAINID; then STOP)."""

SOUND = Parameters(bytes(32), Governance.PEERS)
"""Terms that the contract's constructor takes, to simulate its deployment."""


def secrets_of(url: str) -> tuple[str, ...]:
    """Parts of an RPC address that may be access keys, for `examine_chain` to leave out of what it shows."""
    parts = urlsplit(url)
    words = [*parts.path.split("/"), *(value for _, value in parse_qsl(parts.query))]
    words += [parts.username or "", parts.password or ""]
    return tuple(word for word in words if len(word) >= 8)


@dataclass(frozen=True, slots=True)
class Head:
    """The newest block. `base_fee` in wei is None before EIP-1559."""

    header: Header
    gas_limit: int
    base_fee: int | None


def head_of(block: Any) -> Head:
    """Read a JSON-RPC block. Raises `Untrusted`."""
    fee = block.get("baseFeePerGas") if isinstance(block, dict) else None
    return Head(header_of(block), number(member(block, "gasLimit")), None if fee is None else number(fee))


def examine_chain(
    rpc: Rpc,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    secrets: Sequence[str] = (),
) -> tuple[Finding, ...]:
    """Every check of a chain. `clock`: this machine's, UNIX seconds; `secrets`: texts never to show.

    A node that does not answer gives one finding. May wait half a minute for a block, if the newest one is
    suspiciously old.
    """
    return tuple(_discreet(finding, secrets) for finding in _examine(rpc, clock, sleep))


def _discreet(finding: Finding, secrets: Sequence[str]) -> Finding:
    seen = finding.seen
    for secret in secrets:
        seen = seen.replace(secret, "***")
    return replace(finding, seen=printable(seen))


def _examine(rpc: Rpc, clock: Callable[[], float], sleep: Callable[[float], None]) -> Iterator[Finding]:
    try:
        pings = [timed(lambda: rpc.request("eth_chainId")) for _ in range(PINGS)]
        chain_id = number(pings[-1][0])
        head = head_of(rpc.request("eth_getBlockByNumber", ("latest", False)))
        gaps = _gaps(rpc, head.header)
    except errors.HansaError as e:
        lost = isinstance(e, errors.Unavailable)
        advice = "Check that the node runs and that --rpc is its JSON-RPC address, key included."
        yield Finding("answers", "fail", str(e), advice, unreachable=lost)
        return
    latency = statistics.median(ms for _, ms in pings)
    yield Finding("answers", "ok", f"{latency:.1f} ms an answer", measured=(("ms", latency),))
    yield Finding("chain id", "ok", f"{chain_id}", measured=(("chain_id", chain_id),))
    checks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("client", lambda: _client(rpc)),
        ("syncing", lambda: _syncing(rpc)),
        ("batches", lambda: _batches(rpc)),
        ("evm", lambda: _evm(rpc)),
        ("gas limit", lambda: _gas_limit(head)),
        ("contract", lambda: _contract(rpc, head)),
        ("fees", lambda: _fees(rpc, head)),
        ("block time", lambda: _block_time(gaps, head)),
        ("clock", lambda: _clock(rpc, gaps, clock, sleep)),
        ("finality", lambda: _finality(rpc)),
        ("logs", lambda: _logs(rpc, head)),
    )
    for name, check in checks:
        try:
            yield check()
        except errors.HansaError as e:
            lost = isinstance(e, errors.Unavailable)
            yield Finding(name, "fail", str(e), "Use another node, or try again later.", unreachable=lost)


def _ask(rpc: Rpc, method: str, *params: Any) -> Any:
    """Result of one call, or the `Fault` that the node gives."""
    return rpc.batch([(method, params)])[0]


def _client(rpc: Rpc) -> Finding:
    answer = _ask(rpc, "web3_clientVersion")
    if isinstance(answer, str):
        return Finding("client", "ok", answer)
    return Finding("client", "ok", "does not say")


def _syncing(rpc: Rpc) -> Finding:
    answer = _ask(rpc, "eth_syncing")
    if answer is False:
        return Finding("syncing", "ok", "has the newest block")
    if isinstance(answer, dict):
        at, of = (number(member(answer, key)) for key in ("currentBlock", "highestBlock"))
        return Finding(
            "syncing",
            "fail",
            f"is at block {at} of {of}",
            "Wait until the node has caught up.",
            (("current", at), ("highest", of)),
        )
    return Finding(
        "syncing",
        "warn",
        "does not say",
        "Compare its newest block with another node's before you rely on it.",
    )


def _batches(rpc: Rpc) -> Finding:
    taken = 0
    for size in BATCHES:
        try:
            answers = rpc.batch([("eth_blockNumber", ())] * size)
        except errors.HansaError as e:
            why = str(e)
            break
        faults = [answer for answer in answers if isinstance(answer, Fault)]
        if faults:
            why = faults[0].message
            break
        taken = size
    else:
        return Finding("batches", "ok", f"takes {taken} calls at once", measured=(("calls", taken),))
    advice = f"Use a node that takes at least {BATCHES[-1]} calls in one JSON-RPC batch."
    verdict: Verdict = "warn" if taken else "fail"
    seen = f"takes {taken or 1} at once, not {size}: {why}"
    return Finding("batches", verdict, seen, advice, (("calls", taken or 1),))


def _evm(rpc: Rpc) -> Finding:
    for fork, code in FORKS:
        answer = _ask(rpc, "eth_call", {"data": "0x" + code}, "latest")
        if not isinstance(answer, Fault):
            return Finding("evm", "ok", f"{fork} or newer", measured=(("at_least", fork),))
    return Finding(
        "evm",
        "fail",
        "older than Istanbul, or eth_call does not work",
        "Use a chain whose EVM is that of Istanbul or a later fork: the contract asks for the chain id.",
    )


def _gas_limit(head: Head) -> Finding:
    enough = head.gas_limit >= CALL_GAS
    return Finding(
        "gas limit",
        "ok" if enough else "fail",
        f"{head.gas_limit:,} a block, calls of the contract offer {CALL_GAS:,}",
        "" if enough else f"Raise the chain's block gas limit to {CALL_GAS:,} or more, or use another chain.",
        (("block_gas_limit", head.gas_limit), ("needed", CALL_GAS)),
    )


def _creation() -> str:
    return hexed(artefact.creation_code(parameter_fields(SOUND), (), bytes(32)))


def _contract(rpc: Rpc, head: Head) -> Finding:
    """Simulate the deployment: code size, gas and instructions of the constructor are as this chain takes them.

    A node that ignores its block gas limit in eth_call (most do) still says whether the code itself runs.
    """
    gas = min(CALL_GAS, head.gas_limit)
    answer = _ask(rpc, "eth_call", {"data": _creation(), "gas": quantity(gas)}, "pending")
    if not isinstance(answer, Fault):
        size, estimate = len(unhex(answer)), _ask(rpc, "eth_estimateGas", {"data": _creation()})
        if size and not isinstance(estimate, Fault):
            used = number(estimate)
            if used <= gas:
                seen = f"deploys with {used:,} gas, {size:,} bytes of code"
                return Finding("contract", "ok", seen, measured=(("gas", used), ("code_bytes", size)))
            answer = Fault(-32000, f"takes {used:,} gas, {gas:,} are possible")
        else:
            answer = estimate if isinstance(estimate, Fault) else Fault(-32000, "leaves no code")
    return Finding(
        "contract",
        "fail",
        f"does not deploy: {answer.message}",
        "Use a chain with the EVM of Istanbul or later, code of 24,576 bytes, and the block gas limit above.",
    )


def _fees(rpc: Rpc, head: Head) -> Finding:
    fee = head.base_fee
    kind = "base fee"
    if fee is None:
        kind, fee = "gas price, without EIP-1559", number(rpc.request("eth_gasPrice"))
    measured = (("wei", fee), ("eip1559", head.base_fee is not None))
    if fee == 0:
        return Finding("fees", "ok", f"{kind} 0: sending costs nothing", measured=measured)
    seen = f"{kind} {fee / 1e9:g} gwei: a million gas costs {fee / 1e12:g} coins of the chain"
    return Finding("fees", "ok", f"{seen}; whoever sends needs some", measured=measured)


def _gaps(rpc: Rpc, newest: Header) -> tuple[int, ...]:
    """Seconds between the last blocks; without block 0, whose time is often made up."""
    heights = range(max(1, newest.number - BLOCKS), newest.number)
    asked = [rpc.request("eth_getBlockByNumber", (quantity(height), False)) for height in heights]
    times = [*(header_of(block).timestamp for block in asked), newest.timestamp]
    return tuple(after - before for before, after in pairwise(times))


def _block_time(gaps: Sequence[int], head: Head) -> Finding:
    if not gaps:
        seen = f"cannot be told yet: the chain is at block {head.header.number}"
        return Finding("block time", "ok", seen)
    mean, longest = statistics.mean(gaps), max(gaps)
    slow = mean > SLOW_BLOCK
    return Finding(
        "block time",
        "warn" if slow else "ok",
        f"{mean:.1f} s, at most {longest} s lately",
        "Give phases long deadlines ([training] deadline), or use a faster chain." if slow else "",
        (("mean_s", round(mean, 3)), ("longest_s", longest)),
    )


def _clock(
    rpc: Rpc, gaps: Sequence[int], clock: Callable[[], float], sleep: Callable[[float], None]
) -> Finding:
    def newest() -> Header:
        return header_of(rpc.request("eth_getBlockByNumber", ("latest", False)))

    return judge_clock(watch(newest, max(gaps, default=None), clock=clock, sleep=sleep))


def _finality(rpc: Rpc) -> Finding:
    """Blocks that cannot be undone, as the node sees it (tags "finalized" and "safe")."""
    behind = []
    newest = number(rpc.request("eth_blockNumber"))
    for tag in ("finalized", "safe"):
        block = _ask(rpc, "eth_getBlockByNumber", tag, False)
        if isinstance(block, dict):
            behind.append((tag, max(0, newest - header_of(block).number)))
    if not behind:
        return Finding(
            "finality",
            "warn",
            "the node does not say which blocks are final",
            "Ask who runs the chain whether blocks can be undone; those of QBFT and IBFT 2.0 cannot.",
        )
    seen = ", ".join(f"{tag} is {n} blocks behind" if n else f"{tag} is the newest" for tag, n in behind)
    return Finding("finality", "ok", seen, measured=tuple((f"{tag}_behind", n) for tag, n in behind))


def _logs(rpc: Rpc, head: Head) -> Finding:
    newest = head.header.number
    why = ""
    for span in SPANS:
        first = max(0, newest - span + 1)
        wanted = {"address": hexed(bytes(20)), "fromBlock": quantity(first), "toBlock": quantity(newest)}
        answer = _ask(rpc, "eth_getLogs", wanted)
        if isinstance(answer, list):
            measured = (("blocks", span),)
            if not why:
                return Finding(
                    "logs", "ok", f"eth_getLogs answers for blocks {first} to {newest}", measured=measured
                )
            advice = "Use a node that serves longer ranges, if catching up after a pause takes too long."
            return Finding("logs", "warn", f"over {span} blocks only: {why}", advice, measured)
        why = answer.message if isinstance(answer, Fault) else "no list of logs"
    return Finding("logs", "fail", f"eth_getLogs fails: {why}", "Use a node that serves eth_getLogs.")
