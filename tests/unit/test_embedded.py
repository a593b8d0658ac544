"""The embedded chain's file: killed at any effect, full, damaged, replayed."""

from __future__ import annotations

import gc
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import rlp
from eth_hash.auto import keccak
from tests import ticker

from hansa import errors
from hansa.crypto import signatures
from hansa.ledger import embedded, transactions
from hansa.ledger.embedded import Chain, Genesis, Replay, looked_at, open_chain, read_journal, replay
from hansa.ledger.rpc import Fault, hexed, quantity
from hansa.ledger.transactions import Call, Fee

GENESIS = Genesis(4242, 1_700_000_000, ((bytes(range(20)), 10**18),))
SIGNER = signatures.account(bytes(range(1, 33)))
TICKS = 12
HEADER = (0, 15, 17, 19, 21, 26, 30, 35, 47, 51, 63, 71, 80, 94)


def tick(nonce: int, contract: bytes | None = None) -> bytes:
    """Raw transaction number `nonce` of the test's history: number 0 deploys."""
    call = (
        Call(contract, ticker.data("tick", nonce), 200_000)
        if contract
        else Call(None, ticker.bytecode(), 10**6)
    )
    return transactions.sign_transaction(SIGNER, GENESIS.chain_id, nonce, call, Fee())


def contract_of(chain: Chain) -> bytes:
    block = chain.request("eth_getBlockByNumber", ("0x1", False))
    receipt = chain.request("eth_getTransactionReceipt", (block["transactions"][0],))
    return bytes.fromhex(receipt["contractAddress"][2:])


def history(chain: Chain, until: int = TICKS) -> None:
    """Go on with the history, one block a transaction, from wherever the chain stands."""
    if chain.height == 0:
        chain.mine([tick(0)], GENESIS.timestamp + 1)
    contract = contract_of(chain)
    while chain.height < until:
        nonce = chain.height
        chain.mine([tick(nonce, contract)], GENESIS.timestamp + 1 + nonce)


def heads(path: Path) -> list[bytes]:
    return [entry.hash for entry in read_journal(path)[1]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chain") / "chain.sqlite"
    with open_chain(path, GENESIS) as chain:
        history(chain)
        chain.checkpoint()
    return path


# The child dies at its n-th SQL statement: these are all the effects that the chain has on the disk.
CHILD = """
import os, signal, sqlite3, sys
from pathlib import Path
from tests.unit import test_embedded as t
connect, last, done = sqlite3.connect, int(sys.argv[2]), 0
def dying(*arguments, **options):
    database = connect(*arguments, **options)
    def count(statement):
        global done
        done += 1
        if done == last:
            os.kill(os.getpid(), signal.SIGKILL)
    database.set_trace_callback(count)
    return database
sqlite3.connect = dying
with t.open_chain(Path(sys.argv[1]), t.GENESIS) as chain:
    t.history(chain)
    chain.checkpoint()
print(done)
"""


def run_child(path: Path, die_at: int) -> subprocess.CompletedProcess[bytes]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    command = [sys.executable, "-c", CHILD, str(path), str(die_at)]
    return subprocess.run(command, env=environment, capture_output=True, check=False)


@pytest.fixture(scope="module")
def effects(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many SQL statements the whole history takes."""
    child = run_child(tmp_path_factory.mktemp("count") / "chain.sqlite", 0)
    return int(child.stdout)


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_chain_goes_on_from_the_last_whole_block(
    seed: int, tmp_path: Path, undisturbed: Path, effects: int
) -> None:
    path = tmp_path / "chain.sqlite"
    die_at = random.Random(seed).randrange(1, effects + 1)
    child = run_child(path, die_at)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    with open_chain(path, GENESIS) as chain:
        before = chain.height
        assert chain._database.execute("select count(*) from blocks").fetchone() == (before + 1,)
        assert chain._database.execute("select count(*) from sent").fetchone() == (before,)
        history(chain)
    assert heads(path) == heads(undisturbed)


def test_replay_gives_the_same_roots_hashes_and_receipts(undisturbed: Path) -> None:
    genesis, entries = read_journal(undisturbed)
    assert genesis == GENESIS
    results = list(replay(genesis, entries))
    assert len(results) == TICKS + 1
    assert all(r.root_ok and r.hash_ok for r in results)
    with open_chain(undisturbed) as chain:
        for result in results:
            block = chain.request("eth_getBlockByNumber", (quantity(result.number), False))
            recorded = chain.batch([("eth_getTransactionReceipt", (h,)) for h in block["transactions"]])
            assert list(result.receipts) == recorded
    assert [len(r.receipts[0]["logs"]) for r in results[2:]] == [1] * (TICKS - 1)


@pytest.mark.parametrize("column", ["transactions", "hash", "root", "timestamp"])
@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_in_the_journal_is_found(column: str, seed: int, undisturbed: Path) -> None:
    rng = random.Random(seed)
    genesis, rows = read_journal(undisturbed)
    entries = list(rows)
    victim = rng.randrange(1, len(entries))
    entry = entries[victim]
    if column == "timestamp":
        damaged = replace(entry, timestamp=entry.timestamp ^ 1 << rng.randrange(30))
    elif column == "transactions":
        raw = bytearray(entry.transactions[0])
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        damaged = replace(entry, transactions=(bytes(raw),))
    else:
        value = bytearray(getattr(entry, column))
        value[rng.randrange(32)] ^= 1 << rng.randrange(8)
        damaged = replace(entry, **{column: bytes(value)})
    entries[victim] = damaged
    try:
        bad = [r.number for r in replay(genesis, entries) if not (r.root_ok and r.hash_ok)]
    except errors.Untrusted:
        return
    assert bad[0] == victim


def test_a_flipped_bit_in_the_genesis_is_found(undisturbed: Path) -> None:
    genesis, entries = read_journal(undisturbed)
    first = next(replay(replace(genesis, timestamp=genesis.timestamp ^ 1), entries))
    assert not first.hash_ok


@pytest.mark.parametrize(
    "tamper",
    [
        lambda rows: rows[:3] + rows[4:],
        lambda rows: rows[1:],
        lambda rows: [*rows[:5], replace(rows[5], number=6)],
        lambda rows: [*rows[:5], replace(rows[5], timestamp=0)],
    ],
    ids=["a row missing", "no genesis", "a number skipped", "time backwards"],
)
def test_a_journal_with_gaps_is_untrusted(tamper: Callable[[list], list], undisturbed: Path) -> None:
    genesis, entries = read_journal(undisturbed)
    with pytest.raises(errors.Untrusted):
        list(replay(genesis, tamper(list(entries))))


def test_calls_can_nest_as_deep_as_the_evm_allows(tmp_path: Path) -> None:
    # call(gas, address(this), 0, 0, 0, 0, 0), then sstore(gas, gas): what is used tells how many frames
    # there were. Each gets 63/64 of the gas of the one before, and the deepest 300 cannot afford a slot.
    itself = bytes.fromhex("600080808080305af1505a5a55")
    creation = b"\x6c" + itself + bytes.fromhex("600052600d6013f3")
    contract = keccak(rlp.encode([SIGNER.address, 0]))[12:]
    calls = [Call(None, creation, 10**6), Call(contract, b"", 9 * 10**8)]
    raws = [transactions.sign_transaction(SIGNER, GENESIS.chain_id, n, c, Fee()) for n, c in enumerate(calls)]
    with open_chain(tmp_path / "chain.sqlite", GENESIS) as chain:
        _, sent = chain.mine(raws)
        assert isinstance(sent, bytes)
        receipt = chain.request("eth_getTransactionReceipt", (hexed(sent),))
    assert receipt["status"] == "0x1"
    assert int(receipt["gasUsed"], 16) > 400 * 22_100


def audit(path: Path) -> bool:
    """Whether a file is as the replay of its journal makes it."""
    try:
        genesis, entries = read_journal(path)
        with Replay(genesis) as fresh:
            good = all(r.root_ok and r.hash_ok for r in map(fresh.step, entries))
            return good and not fresh.differences(path)
    except errors.HansaError:
        return False


@pytest.mark.parametrize("seed", range(25))
def test_a_flipped_bit_anywhere_in_the_file_is_found(seed: int, undisturbed: Path, tmp_path: Path) -> None:
    rng = random.Random(seed)
    damaged = bytearray(undisturbed.read_bytes())
    # The first few look at the file's header, whose bytes a random place would hardly ever meet.
    place = HEADER[seed] if seed < len(HEADER) else rng.randrange(100, len(damaged))
    damaged[place] ^= 1 << rng.randrange(8)
    path = tmp_path / "chain.sqlite"
    path.write_bytes(damaged)
    assert not audit(path)


def test_false_rows_are_found_in_every_table(undisturbed: Path, tmp_path: Path) -> None:
    assert audit(undisturbed)
    changes = {
        "genesis": "update genesis set value = zeroblob(9)",
        "journal": "delete from journal where number = 4",
        "blocks": "update blocks set receipts = zeroblob(3) where number = 2",
        "sent": "update sent set place = 1 where number = 3",
        "nodes": "delete from nodes where hash = (select min(hash) from nodes)",
        "other": "create table other (x)",
    }
    for table, change in changes.items():
        path = tmp_path / table
        path.write_bytes(undisturbed.read_bytes())
        database = sqlite3.connect(path, isolation_level=None)
        database.execute(change)
        database.execute("vacuum")
        database.close()
        assert not audit(path), table


def test_a_full_disk_is_reported_and_nothing_is_half_written(tmp_path: Path) -> None:
    path = tmp_path / "chain.sqlite"
    with open_chain(path, GENESIS) as chain:
        history(chain, 3)
        head = chain.request("eth_getBlockByNumber", ("latest", False))
        (pages,) = chain._database.execute("pragma page_count").fetchone()
        chain._database.execute(f"pragma max_page_count = {pages}")
        contract = contract_of(chain)
        burn = Call(contract, ticker.data("burn", 300), 10**7)
        raw = transactions.sign_transaction(SIGNER, GENESIS.chain_id, 3, burn, Fee())
        with pytest.raises(errors.Unavailable, match="full") as caught:
            chain.mine([raw])
        assert "space" in caught.value.hint
        assert chain.request("eth_getBlockByNumber", ("latest", False)) == head
        chain._database.execute("pragma max_page_count = 1000000")
        history(chain)
    genesis, entries = read_journal(path)
    assert all(r.root_ok and r.hash_ok for r in replay(genesis, entries))


def test_two_writers_do_not_fork_the_chain(tmp_path: Path) -> None:
    path = tmp_path / "chain.sqlite"
    with open_chain(path, GENESIS) as one, open_chain(path, GENESIS) as two:
        one.mine([tick(0)])
        with pytest.raises(errors.Unavailable):
            two.mine([])
        assert one.height == 1
        assert two.height == 0


@pytest.mark.parametrize("reads", [1, 99])
def test_a_checkpoint_waits_for_whoever_reads_the_file(
    reads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, waited, now = tmp_path / "chain.sqlite", [], [0.0]
    with open_chain(path, GENESIS) as chain:
        history(chain)
        reader = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        reader.execute("select count(*) from journal").fetchone()

        def sleep(seconds: float) -> None:
            waited.append(seconds)
            now[0] += 1.0
            if len(waited) == reads:
                reader.close()

        monkeypatch.setattr(embedded.time, "sleep", sleep)
        monkeypatch.setattr(embedded.time, "monotonic", lambda: now[0])
        if reads > embedded.PATIENCE:
            with pytest.raises(errors.Unavailable, match="locked") as caught:
                chain.checkpoint()
            assert "Nothing is lost" in caught.value.hint
            reader.close()
        else:
            chain.checkpoint()
            assert list(tmp_path.iterdir()) == [path]
    assert waited


def test_who_has_looked_at_a_chain_does_not_hold_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "chain.sqlite"
    with open_chain(path, GENESIS) as chain:
        history(chain)
        gc.disable()
        request.addfinalizer(gc.enable)
        with looked_at(path) as seen:
            assert seen.block(seen.height).header.hash == chain.block(chain.height).header.hash
            assert seen.request("eth_getBlockByNumber", ("latest", True))
        monkeypatch.setattr(embedded.time, "sleep", None)
        chain.checkpoint()


def test_a_checkpoint_leaves_one_file_without_free_pages(tmp_path: Path) -> None:
    path = tmp_path / "chain.sqlite"
    with open_chain(path, GENESIS) as chain:
        history(chain)
        chain.checkpoint()
        assert chain._database.execute("pragma freelist_count").fetchone() == (0,)
    assert heads(path)
    assert list(tmp_path.iterdir()) == [path]
    with open_chain(path) as chain:
        assert chain._database.execute("pragma journal_mode").fetchone() == ("wal",)
        history(chain, TICKS + 2)


def test_opening_the_wrong_thing(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured):
        open_chain(tmp_path / "absent.sqlite")
    open_chain(tmp_path / "chain.sqlite", GENESIS).close()
    with pytest.raises(errors.Misconfigured, match="another chain"):
        open_chain(tmp_path / "chain.sqlite", replace(GENESIS, chain_id=1))
    (tmp_path / "text.sqlite").write_text("this is not a database, but long enough to look like one " * 20)
    with pytest.raises(errors.Unavailable):
        open_chain(tmp_path / "text.sqlite", GENESIS)
    sqlite3.connect(tmp_path / "empty.sqlite").close()
    with pytest.raises(errors.Misconfigured):
        open_chain(tmp_path / "empty.sqlite")
    with pytest.raises(errors.Unavailable):
        read_journal(tmp_path / "absent.sqlite")


def test_many_transactions_make_one_block_and_bad_ones_are_left_out(tmp_path: Path) -> None:
    with open_chain(tmp_path / "chain.sqlite", GENESIS) as chain:
        history(chain, 1)
        contract = contract_of(chain)
        raws = [tick(1, contract), tick(5, contract), tick(2, contract), b"junk", tick(2, contract)]
        results = chain.mine(raws, GENESIS.timestamp + 500)
        assert [isinstance(r, Fault) for r in results] == [False, True, False, True, True]
        assert chain.height == 2
        block = chain.request("eth_getBlockByNumber", ("latest", True))
        assert block["timestamp"] == quantity(GENESIS.timestamp + 500)
        assert [t["nonce"] for t in block["transactions"]] == ["0x1", "0x2"]
        receipts = [chain.request("eth_getTransactionReceipt", (t["hash"],)) for t in block["transactions"]]
        assert [r["logs"][0]["logIndex"] for r in receipts] == ["0x0", "0x1"]
        assert int(receipts[1]["cumulativeGasUsed"], 16) == sum(int(r["gasUsed"], 16) for r in receipts)
        assert all(isinstance(r, Fault) for r in chain.mine([b"junk"]))
        assert chain.height == 2
        assert chain.mine([]) == []
        assert chain.height == 3


def test_time_never_runs_backwards_and_pending_calls_see_it(tmp_path: Path) -> None:
    with open_chain(tmp_path / "chain.sqlite", GENESIS) as chain:
        history(chain, 1)
        now = {"to": hexed(contract_of(chain)), "data": hexed(ticker.data("now"))}
        chain.set_time(GENESIS.timestamp + 77)
        assert int(chain.request("eth_call", (now, "pending")), 16) == GENESIS.timestamp + 77
        assert int(chain.request("eth_call", (now, "latest")), 16) == GENESIS.timestamp + 1
        assert int(chain.request("eth_call", (now, "0x1")), 16) == GENESIS.timestamp + 1
        with pytest.raises(errors.Misconfigured):
            chain.set_time(GENESIS.timestamp)
        chain.mine([])
        assert chain.time == GENESIS.timestamp + 77


def test_calls_read_old_states_too(tmp_path: Path) -> None:
    with open_chain(tmp_path / "chain.sqlite", GENESIS) as chain:
        history(chain)
        call = {"to": hexed(contract_of(chain)), "data": hexed(ticker.data("count"))}
        answers = [chain.request("eth_call", (call, quantity(n))) for n in range(1, TICKS + 1)]
        assert [int(a, 16) for a in answers] == list(range(TICKS))
        rich = hexed(GENESIS.balances[0][0])
        assert chain.request("eth_getBalance", (rich, "earliest")) == quantity(10**18)


def test_the_fast_backends_are_in_use() -> None:
    from eth_keys import KeyAPI
    from eth_keys.backends import CoinCurveECCBackend

    assert isinstance(KeyAPI().backend, CoinCurveECCBackend)


@pytest.mark.parametrize("value", [None, 7, b"\xf6", b"\xa1\x61\x30\x00"])
def test_a_damaged_genesis_row_is_untrusted(value: object, tmp_path: Path) -> None:
    path = tmp_path / "chain.sqlite"
    open_chain(path, GENESIS).close()
    with sqlite3.connect(path) as database:
        database.execute("drop table genesis")
        database.execute("create table genesis (id integer, value)")
        database.execute("insert into genesis values (0, ?)", (value,))
    with pytest.raises(errors.Untrusted):
        open_chain(path)
    with pytest.raises(errors.Untrusted):
        read_journal(path)
