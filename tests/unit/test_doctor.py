"""The preflight: chains, stores, clocks and machines that are good, bad, absent, or say strange things."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from obstore.store import S3Store
from tests import anvil

from hansa import errors
from hansa.cli import main as cli
from hansa.doctor import (
    Finding,
    examine_chain,
    examine_enclaves,
    examine_machine,
    examine_store,
    exit_code,
    worst,
)
from hansa.doctor.chain import secrets_of
from hansa.doctor.extras import EXTRAS
from hansa.doctor.extras import judge as judge_extras
from hansa.doctor.machine import Machine, judge, observe
from hansa.ledger.embedded import Chain, Genesis, open_chain
from hansa.ledger.rpc import Endpoint, Fault, number
from hansa.memberfile import EnclaveTable
from hansa.stores import objects

START = 1_800_000_000
OTHER_EXTRAS = {"dev", "docs"}
STEP = 2
REFUSED = Fault(-32601, "no such method")


def by_name(findings: Sequence[Finding]) -> dict[str, Finding]:
    found = {finding.name: finding for finding in findings}
    assert len(found) == len(findings)
    for finding in findings:
        assert bool(finding.advice) == (finding.verdict != "ok"), finding
        json.dumps(dict(finding.measured))
    return found


def verdicts(findings: Sequence[Finding]) -> dict[str, str]:
    return {name: finding.verdict for name, finding in by_name(findings).items()}


@contextmanager
def embedded(path: Path, blocks: int = 5, **genesis: Any) -> Iterator[Chain]:
    """A chain with a block every two seconds."""
    with open_chain(path / "chain.db", Genesis(7, START, **genesis)) as chain:
        for n in range(1, blocks + 1):
            chain.mine([], START + STEP * n)
        yield chain


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    with embedded(tmp_path) as made:
        yield made


class Changed:
    """A chain that answers some methods otherwise, and takes no batch above `most`."""

    def __init__(self, chain: Chain, most: int = 1000, **answers: Callable[..., Any]) -> None:
        self.chain, self.most, self.answers = chain, most, answers

    def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        answer = self.batch([(method, params)])[0]
        if isinstance(answer, Fault):
            raise errors.Unavailable(answer.message)
        return answer

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        if len(calls) > self.most:
            raise errors.Unavailable("the node refuses a batch")
        return [
            self.answers[method](*params)
            if method in self.answers
            else self.chain.batch([(method, params)])[0]
            for method, params in calls
        ]


def examine(rpc: Any, skew: float = 0.0, **options: Any) -> dict[str, Finding]:
    """`examine_chain` with a clock that is right, or off by `skew` seconds; nothing really sleeps."""
    head = number(Changed.request(rpc, "eth_getBlockByNumber", ("latest", False))["timestamp"])
    now = [head + 1 + skew]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return by_name(examine_chain(rpc, **{"clock": lambda: now[0], "sleep": sleep} | options))


def test_the_embedded_chain_is_good_for_a_federation(chain: Chain) -> None:
    found = examine(Changed(chain))
    assert {name for name, f in found.items() if f.verdict != "ok"} == set()
    assert found["chain id"].seen == "7"
    assert found["evm"].seen == "London or newer"
    assert found["fees"].seen == "base fee 0: sending costs nothing"
    assert dict(found["block time"].measured) == {"mean_s": STEP, "longest_s": STEP}
    assert 4_000_000 < dict(found["contract"].measured)["gas"] < 2**24
    assert dict(found["contract"].measured)["code_bytes"] <= 24_576
    assert found["clock"].seen == "the newest block is 1.0 s old"


@pytest.mark.parametrize(("limit", "contract"), [(10_000_000, "ok"), (1_000_000, "fail")])
def test_a_small_block_is_found(tmp_path: Path, limit: int, contract: str) -> None:
    with embedded(tmp_path, gas_limit=limit) as chain:
        found = examine(Changed(chain))
    assert (found["gas limit"].verdict, found["contract"].verdict) == ("fail", contract)
    assert "16,777,216" in found["gas limit"].advice
    assert exit_code(found.values()) == 1


@pytest.mark.parametrize(("skew", "verdict"), [(-3, "ok"), (-20, "warn"), (-600, "fail")])
def test_a_clock_behind_the_chain_is_certain(chain: Chain, skew: float, verdict: str) -> None:
    finding = examine(Changed(chain), skew)["clock"]
    assert finding.verdict == verdict
    if verdict != "ok":
        assert finding.seen == f"at least {-skew - 1} s behind the chain"


@pytest.mark.parametrize(("skew", "verdict"), [(5, "ok"), (30, "warn"), (600, "fail")])
def test_a_clock_ahead_shows_when_a_new_block_is_old(chain: Chain, skew: float, verdict: str) -> None:
    now = [chain.time + 1.0 + skew]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] - skew >= chain.time + STEP:
            chain.mine([], chain.time + STEP)

    finding = examine(Changed(chain), clock=lambda: now[0], sleep=sleep)["clock"]
    assert finding.verdict == verdict
    assert dict(finding.measured)["block_was_new"] == (verdict != "ok")
    assert verdict == "ok" or finding.seen == f"about {skew} s ahead of the chain"


def test_an_old_block_of_a_chain_that_rests_proves_nothing(chain: Chain) -> None:
    finding = examine(Changed(chain), 600)["clock"]
    assert finding.verdict == "warn"
    assert "the chain rests, or this clock is ahead" in finding.seen


def test_a_chain_of_one_block_has_no_block_time(tmp_path: Path) -> None:
    with embedded(tmp_path, blocks=0) as chain:
        found = examine(Changed(chain))
    assert "cannot be told" in found["block time"].seen
    assert found["logs"].seen == "eth_getLogs answers for blocks 0 to 0"


def test_slow_blocks_ask_for_long_deadlines(tmp_path: Path) -> None:
    with open_chain(tmp_path / "chain.db", Genesis(7, START)) as chain:
        for n in range(4):
            chain.mine([], START + 60 * n)
        finding = examine(Changed(chain))["block time"]
    assert (finding.verdict, finding.seen) == ("warn", "60.0 s, at most 60 s lately")


@pytest.mark.parametrize(
    ("name", "answers", "verdict", "seen"),
    [
        ("syncing", {"eth_syncing": lambda: False}, "ok", "has the newest block"),
        (
            "syncing",
            {"eth_syncing": lambda: {"currentBlock": "0x5", "highestBlock": "0x10"}},
            "fail",
            "is at block 5 of 16",
        ),
        ("syncing", {"eth_syncing": lambda: {"currentBlock": "0x5"}}, "fail", "lacks 'highestBlock'"),
        ("syncing", {"eth_syncing": lambda: REFUSED}, "warn", "does not say"),
        ("client", {"web3_clientVersion": lambda: "Besu\x1b[2J\nv1"}, "ok", "Besu [2J v1"),
        ("client", {"web3_clientVersion": lambda: REFUSED}, "ok", "does not say"),
        ("client", {"web3_clientVersion": lambda: "x" * 9999}, "ok", "xxx…"),
        ("evm", {"eth_call": lambda *_: REFUSED}, "fail", "older than Istanbul"),
        ("contract", {"eth_call": lambda *_: "0x"}, "fail", "leaves no code"),
        ("contract", {"eth_estimateGas": lambda *_: hex(2**25)}, "fail", "takes 33,554,432 gas"),
        ("contract", {"eth_estimateGas": lambda *_: REFUSED}, "fail", "no such method"),
        ("contract", {"eth_call": lambda *_: 7}, "fail", "where data belongs"),
        ("logs", {"eth_getLogs": lambda _: REFUSED}, "fail", "eth_getLogs fails: no such method"),
        ("logs", {"eth_getLogs": lambda _: {}}, "fail", "no list of logs"),
    ],
)
def test_what_a_node_may_answer(
    chain: Chain, name: str, answers: dict[str, Callable[..., Any]], verdict: str, seen: str
) -> None:
    finding = examine(Changed(chain, **answers))[name]
    assert finding.verdict == verdict
    assert seen in finding.seen
    assert finding.seen.isprintable()
    assert not finding.unreachable


METHODS = (
    *("eth_chainId", "web3_clientVersion", "eth_syncing", "eth_call", "eth_estimateGas", "eth_gasPrice"),
    *("eth_getLogs", "eth_blockNumber", "eth_getBlockByNumber"),
)
HUGE = "0x" + "f" * 64
BLOCK = {key: HUGE for key in ("number", "hash", "parentHash", "timestamp", "gasLimit", "baseFeePerGas")}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "junk",
    [None, True, 7, "x", "0x", HUGE, "\ud800", [], {}, BLOCK, {"currentBlock": HUGE, "highestBlock": []}],
)
def test_no_answer_breaks_the_examination(chain: Chain, method: str, junk: Any) -> None:
    rpc = Changed(chain, **{method: lambda *_: junk})
    found = by_name(examine_chain(rpc, clock=lambda: chain.time + 1.0, sleep=lambda _: None))
    assert all(finding.seen.isprintable() for finding in found.values())


@pytest.mark.parametrize(("most", "verdict"), [(1, "fail"), (10, "warn"), (64, "ok")])
def test_a_node_that_takes_no_batches(chain: Chain, most: int, verdict: str) -> None:
    assert examine(Changed(chain, most))["batches"].verdict == verdict


def test_a_node_that_serves_short_ranges_of_logs(tmp_path: Path) -> None:
    def logs(wanted: dict[str, str]) -> Any:
        wide = number(wanted["toBlock"]) - number(wanted["fromBlock"]) >= 20
        return Fault(-32005, "range too large") if wide else []

    with embedded(tmp_path, blocks=30) as chain:
        finding = examine(Changed(chain, eth_getLogs=logs))["logs"]
    assert (finding.verdict, finding.seen) == ("warn", "over 20 blocks only: range too large")


def test_finality_is_unknown_of_a_node_without_the_tags(chain: Chain) -> None:
    def block(tag: str, full: bool) -> Any:
        known = tag not in ("finalized", "safe")
        return chain.request("eth_getBlockByNumber", (tag, full)) if known else Fault(-39001, "unknown block")

    found = examine(Changed(chain, eth_getBlockByNumber=block))
    assert found["finality"].verdict == "warn"
    assert found["clock"].verdict == "ok"


def test_fees_before_and_after_eip_1559(chain: Chain) -> None:
    def block(fee: str | None) -> Callable[..., Any]:
        def answer(tag: str, full: bool) -> Any:
            plain = chain.request("eth_getBlockByNumber", (tag, full))
            return (
                plain | {"baseFeePerGas": fee} if fee else {k: v for k, v in plain.items() if "Fee" not in k}
            )

        return answer

    dear = examine(Changed(chain, eth_getBlockByNumber=block(hex(20 * 10**9))))["fees"]
    assert "20 gwei: a million gas costs 0.02 coins" in dear.seen
    legacy = examine(Changed(chain, eth_getBlockByNumber=block(None)))["fees"]
    assert legacy.seen == "gas price, without EIP-1559 0: sending costs nothing"
    assert dict(legacy.measured) == {"wei": 0, "eip1559": False}


class Web(BaseHTTPRequestHandler):
    """Answers every request alike: status and body of its server."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, body = self.server.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_GET = do_DELETE = do_POST

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def web(answer: Callable[[str], tuple[int, bytes]]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    server.answer = answer
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def free_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return int(closed.getsockname()[1])


def test_nobody_listens() -> None:
    (finding,) = examine_chain(Endpoint(f"http://127.0.0.1:{free_port()}", None, attempts=1))
    assert (finding.name, finding.verdict, finding.unreachable) == ("answers", "fail", True)
    assert exit_code([finding]) == 3


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>hello</html>"), (404, b""), (200, b"{}"), (200, b"[]"), (503, b""), (200, b'[{"id":0}]')],
)
def test_a_server_that_is_no_node(status: int, body: bytes) -> None:
    with web(lambda _: (status, body)) as url:
        (finding,) = examine_chain(Endpoint(url, None, attempts=1))
    assert (finding.name, finding.verdict) == ("answers", "fail")
    assert "--rpc" in finding.advice


def hansa(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["hansa", "doctor", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    written = capsys.readouterr()
    return int(stopped.value.code or 0), written.out, written.err


def test_keys_in_the_address_are_not_shown_even_if_the_node_repeats_them(monkeypatch, capsys) -> None:
    def tells(path: str) -> tuple[int, bytes]:
        error = {"code": -32000, "message": f"unknown project {path}, user hunter2hunter2"}
        return 200, json.dumps([{"id": 0, "error": error}]).encode()

    with web(tells) as url:
        address = url.replace("//", "//me:hunter2hunter2@") + "/v3/0123456789abcdef?token=fedcba9876543210"
        for words in (("--json",), ()):
            code, out, err = hansa(monkeypatch, capsys, "--rpc", address, *words)
            assert code == 3
            assert "unknown project /v3/***" in " ".join(out.split())
            for secret in ("hunter2", "0123456789abcdef", "fedcba9876543210"):
                assert secret not in out + err
    assert len(secrets_of(address)) == 3


def test_a_chain_that_is_swapped_is_not_taken_for_the_first_one() -> None:
    answers = iter([(200, "0x7"), (200, "0x7"), (503, ""), (200, "0x8")])

    def answer(_: object) -> tuple[int, bytes]:
        status, id = next(answers)
        return status, json.dumps([{"id": 0, "result": id}]).encode()

    with web(answer) as url:
        endpoint = Endpoint(url, None, attempts=1)
        assert (endpoint.request("eth_chainId"), endpoint.chain_id) == ("0x7", 7)
        with pytest.raises(errors.Unavailable):
            endpoint.request("eth_chainId")
        with pytest.raises(errors.Misconfigured, match="serves chain 8, not 7"):
            endpoint.request("eth_chainId")


def test_a_folder_is_a_good_store_and_nothing_stays_in_it(tmp_path: Path) -> None:
    found = examine_store(objects.create(str(tmp_path / "store")))
    assert verdicts(found) == dict.fromkeys(("write", "read", "replace", "list", "1 MiB", "delete"), "ok")
    assert not [p for p in (tmp_path / "store").rglob("*") if p.is_file()]
    assert dict(by_name(found)["1 MiB"].measured).keys() == {"up_ms", "down_ms"}


def bucket(url: str) -> objects.ObjectStore:
    """An S3 bucket behind a server on the loopback interface."""
    options = {"timeout": "5s", "connect_timeout": "1s", "allow_http": True}
    store = S3Store(
        "bucket",
        endpoint=url,
        region="x",
        access_key_id="a",
        secret_access_key="b",
        client_options=options,
        retry_config={"max_retries": 0},
    )
    return objects.ObjectStore("s3://bucket", store)


@pytest.mark.parametrize("status", [401, 403])
def test_a_store_without_permission(status: int) -> None:
    with web(lambda _: (status, b"")) as url:
        (finding,) = examine_store(bucket(url))
    assert (finding.name, finding.verdict, finding.unreachable) == ("write", "fail", False)
    assert finding.advice == "Check the store's credentials and permissions."
    assert exit_code([finding]) == 1


def test_a_folder_without_permission(tmp_path: Path) -> None:
    class Locked:
        def put_at(self, key: str, data: bytes) -> None:
            raise errors.Unavailable("no") from OSError("Unable to open file (os error 13)")

    (finding,) = examine_store(Locked())
    assert (finding.verdict, finding.unreachable) == ("fail", False)
    (tmp_path / "doctor").write_text("in the way of the probes")
    assert verdicts(examine_store(objects.create(str(tmp_path)))) == {"write": "fail"}


def test_a_store_that_does_not_answer() -> None:
    (finding,) = examine_store(bucket(f"http://127.0.0.1:{free_port()}"))
    assert finding.unreachable
    assert exit_code([finding]) == 3


class Bad:
    """A store in memory that does some things otherwise."""

    def __init__(self, **changes: Callable[..., Any]) -> None:
        self.inner = objects.create("memory:///")
        self.changes = changes

    def __getattr__(self, name: str) -> Any:
        if name not in self.changes:
            return getattr(self.inner, name)
        return lambda *args, **options: self.changes[name](self.inner, *args, **options)


def stale() -> Callable[..., Any]:
    first: dict[str, bytes] = {}
    return lambda inner, key, limit: first.setdefault(key, inner.get_at(key, limit=limit))


def refuse(*_args: Any, **_options: Any) -> Any:
    raise errors.Unavailable("not now", hint="Try again.")


@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        (
            {"get_at": lambda inner, key, limit: bytes(8)},
            {"read": "fail", "replace": "fail", "1 MiB": "fail"},
        ),
        ({"get_at": stale()}, {"replace": "fail"}),
        ({"list": lambda inner, prefix: []}, {"list": "fail"}),
        ({"list": refuse}, {"list": "fail", "delete": "warn"}),
        ({"delete": lambda inner, key: None}, {"delete": "warn"}),
        ({"delete": refuse}, {"delete": "warn"}),
    ],
)
def test_a_store_that_misbehaves(changes: dict[str, Callable[..., Any]], bad: dict[str, str]) -> None:
    found = verdicts(examine_store(Bad(**changes)))
    assert {name: verdict for name, verdict in found.items() if verdict != "ok"} == bad


def test_probes_that_cannot_be_deleted_are_named() -> None:
    store = Bad(delete=refuse)
    seen = by_name(examine_store(store))["delete"].seen
    left = store.inner.list("doctor")
    assert len(left) == 2
    assert all(key in seen for key in left)


ALL = frozenset(module for _, modules in EXTRAS.values() for module in modules)
GOOD = Machine((3, 12, 1), "/here", 10 * 2**30, 4096, float(START))


@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        ({}, {}),
        ({"python": (3, 10, 9)}, {"python": "fail"}),
        ({"python": (3, 14, 0)}, {"python": "fail"}),
        ({"free": 2**30}, {"disk": "warn"}),
        ({"free": 2**20}, {"disk": "fail"}),
        ({"files": 256}, {"open files": "warn"}),
        ({"files": -1}, {}),
        ({"clock": 0.0}, {"clock": "fail"}),
    ],
)
def test_what_a_machine_lacks(changes: dict[str, Any], bad: dict[str, str]) -> None:
    found = verdicts(tuple(judge(replace(GOOD, **changes))))
    assert {name: verdict for name, verdict in found.items() if verdict != "ok"} == bad


def test_this_machine_is_looked_at(tmp_path: Path) -> None:
    seen = observe(tmp_path, 1.0)
    assert seen.python == sys.version_info[:3]
    assert (seen.folder, seen.clock) == (str(tmp_path), 1.0)
    assert seen.free > 0
    assert by_name(examine_machine(tmp_path, float(START))).keys() == {
        "python",
        "disk",
        "open files",
        "clock",
    }


def test_the_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS) == set(project["optional-dependencies"]) - OTHER_EXTRAS


@pytest.mark.parametrize(
    ("modules", "bad"),
    [
        (ALL, {}),
        ({"sklearn"}, {}),
        (set(), {"trains": "warn"}),
        (ALL - {"sklearn"}, {"torch": "warn"}),
        (ALL - {"numba"}, {"secagg": "warn"}),
        (ALL - {"gmpy2", "numba", "flwr"}, {}),
    ],
)
def test_half_an_extra_is_no_good_and_none_is_no_fault(modules: set[str], bad: dict[str, str]) -> None:
    found = by_name(tuple(judge_extras(modules.__contains__)))
    assert {name: f.verdict for name, f in found.items() if f.verdict != "ok"} == bad
    for name, finding in found.items():
        installed = dict(finding.measured)["installed"]
        assert name == "trains" or installed == (set(EXTRAS[name][1]) <= modules)
        assert name in ("trains", *bad) or installed or f"pip install 'hansa[{name}]'" in finding.seen


@pytest.mark.parametrize(
    ("devices", "loader", "verdict", "seen"),
    [
        ([], False, "ok", "none for enclaves; simulated ones run, and protect nothing"),
        (["sgx_enclave"], True, "ok", "SGX here"),
        (["sgx_enclave"], False, "warn", "SGX here"),
        (["sgx_enclave", "tdx_guest"], False, "ok", "SGX and TDX here"),
    ],
)
def test_processors_for_enclaves_are_looked_for(
    tmp_path, monkeypatch, devices, loader, verdict, seen
) -> None:
    for name in devices:
        (tmp_path / name).touch()
    program = tmp_path / "gramine-sgx"
    if loader:
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = examine_enclaves(None, tmp_path)
    assert (found.verdict, found.seen) == (verdict, seen)


@pytest.mark.parametrize(
    ("table", "verdict", "text"),
    [
        (EnclaveTable(), "warn", "provider simulated: "),
        (EnclaveTable(provider="gramine"), "fail", "provider gramine needs the command"),
        (EnclaveTable(provider="tdx", command=["/nowhere/enclave"]), "fail", "/nowhere/enclave"),
    ],
)
def test_the_enclave_of_a_member_is_tried(tmp_path, table: EnclaveTable, verdict: str, text: str) -> None:
    found = by_name(tuple(examine_enclaves(table, tmp_path)))["enclave"]
    assert found.verdict == verdict
    assert text in found.seen


def test_a_member_names_chain_store_and_enclave_in_its_file(monkeypatch, capsys, tmp_path) -> None:
    (tmp_path / "member.toml").write_text('[store]\nurl = "store"\n[enclave]\nprovider = "simulated"\n')
    monkeypatch.chdir(tmp_path)
    code, out, err = hansa(monkeypatch, capsys, "--config", "member.toml", "--json")
    assert code == 0, err
    checks = {(c["of"], c["name"]): c for c in json.loads(out)["checks"]}
    assert checks["enclaves", "enclave"]["measured"] == {"mode": "simulated"}
    assert checks["store", "list"]["verdict"] == "ok"


def test_alone_it_looks_at_this_machine_only(monkeypatch, capsys) -> None:
    code, out, _ = hansa(monkeypatch, capsys, "--json")
    assert code == 0
    assert {c["of"] for c in json.loads(out)["checks"]} == {"machine", "extras", "enclaves"}


def test_what_findings_amount_to() -> None:
    fine, odd, bad = (Finding("x", verdict, "") for verdict in ("ok", "warn", "fail"))
    lost = replace(bad, unreachable=True)
    assert [worst(f) for f in ([], [fine], [odd, fine], [fine, bad, odd])] == ["ok", "ok", "warn", "fail"]
    assert [exit_code(f) for f in ([], [fine, odd], [bad, odd], [bad, lost])] == [0, 0, 1, 3]


def test_the_command_prints_one_object(monkeypatch, capsys, tmp_path) -> None:
    code, out, err = hansa(monkeypatch, capsys, "--store", str(tmp_path / "store"), "--json")
    found = json.loads(out)
    assert (code, found["exit_code"], found["verdict"]) == (0, 0, worst_of(found))
    assert found["store"] == str(tmp_path / "store")
    assert {check["of"] for check in found["checks"]} == {"store", "machine", "extras", "enclaves"}
    assert {"name", "verdict", "seen", "advice", "measured", "unreachable"} < found["checks"][0].keys()
    assert err == ""


def worst_of(found: dict[str, Any]) -> str:
    return max((c["verdict"] for c in found["checks"]), key=["ok", "warn", "fail"].index)


def test_the_command_says_what_to_change(monkeypatch, capsys, tmp_path) -> None:
    (tmp_path / "doctor").write_text("in the way of the probes")
    rpc = f"http://127.0.0.1:{free_port()}/0123456789"
    code, out, _ = hansa(monkeypatch, capsys, "--rpc", rpc, "--store", str(tmp_path))
    assert code == 3
    assert "-> Check that the node runs and that --rpc" in out
    assert re.search(r"\n2 of \d+ checks failed: see what the arrows say\.", out)
    assert "0123456789" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rpc", "localhost:8545"), "no URL of HTTP"),
        (("--store", "s4://bucket"), "cannot be opened"),
        (("--store", "memory:///"), "seen by one process only"),
        (("--store", "s3://me:secret@bucket"), "must not hold credentials"),
    ],
)
def test_what_cannot_be_examined_is_misconfigured(monkeypatch, capsys, words, message) -> None:
    code, out, err = hansa(monkeypatch, capsys, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert "secret" not in err


def test_anvil_is_good_for_a_federation(monkeypatch, capsys, tmp_path) -> None:
    with anvil.anvil(*anvil.ZERO_FEE) as url:
        code, out, _ = hansa(monkeypatch, capsys, "--rpc", url, "--store", str(tmp_path / "s"), "--json")
    found = json.loads(out)
    checks = {c["name"]: c for c in found["checks"] if c["of"] == "chain"}
    assert code == 0
    assert found["chain"] == url.removeprefix("http://")
    assert {c["verdict"] for c in checks.values()} == {"ok"}
    assert checks["chain id"]["measured"] == {"chain_id": anvil.CHAIN_ID}
    assert checks["client"]["seen"].startswith("anvil/")


@pytest.mark.parametrize(
    ("options", "bad"), [(("--gas-limit", "10000000"), {"gas limit"}), (("--gas-limit", "3000000"), None)]
)
def test_anvil_with_small_blocks(monkeypatch, options: tuple[str, ...], bad: set[str] | None) -> None:
    monkeypatch.setattr(anvil, "BLOCK_GAS", options)
    with anvil.anvil() as url:
        found = by_name(examine_chain(Endpoint(url, None)))
    failed = {name for name, f in found.items() if f.verdict == "fail"}
    assert failed == (bad or {"gas limit", "contract"})


def test_a_clock_ten_minutes_off_against_anvil() -> None:
    with anvil.anvil("--block-time", "1") as url:
        endpoint = Endpoint(url, None)
        while number(endpoint.request("eth_blockNumber")) < 4:
            time.sleep(0.1)
        ahead, behind = (
            by_name(examine_chain(endpoint, clock=lambda skew=skew: time.time() + skew))["clock"]
            for skew in (600, -600)
        )
    assert ahead.verdict == behind.verdict == "fail"
    assert "ahead" in ahead.seen
    assert "behind" in behind.seen


def test_anvil_before_london_has_a_gas_price() -> None:
    with anvil.anvil(*anvil.LEGACY) as url:
        found = by_name(examine_chain(Endpoint(url, None)))
    assert found["evm"].seen == "Istanbul or newer"
    assert dict(found["fees"].measured)["eip1559"] is False
    assert found["contract"].verdict == "ok"
