"""The audit of a federation on anvil: an honest node, nodes that lie in one place each, a store that was altered."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import anvil
from tests.shared import Shared, found

from hansa import errors, wiring
from hansa.audit import Anchors, Report, exit_code
from hansa.audit.shared import Helps, audit_shared
from hansa.ledger.headers import read_block_header
from hansa.ledger.rpc import Endpoint, Fault, error_of, hexed, number, quantity
from hansa.protocol import checkpoint as ckpt
from hansa.records import Phase

pytestmark = pytest.mark.slow

Change = Callable[[Any], None]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """Two rounds and an empty block."""
    with anvil.anvil(*anvil.ZERO_FEE) as url:
        rpc = Endpoint(url, anvil.CHAIN_ID)
        made = found(rpc, tmp_path_factory.mktemp("shared"), lambda: int(time.time()))
        made.start()
        made.run()
        rpc.request("evm_mine")
        yield made
        rpc.close()


@pytest.fixture
def folder(shared: Shared, tmp_path: Path) -> Path:
    """A copy of the store."""
    import shutil

    return Path(shutil.copytree(shared.store, tmp_path / "store"))


class Lying:
    """A node that answers like another one, but for what a test changes.

    `change(method, params, answer)` may alter the answer, which is its own copy.
    """

    def __init__(self, rpc: Any, change: Callable[[str, Sequence[Any], Any], Any]) -> None:
        self._rpc = rpc
        self._change = change

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        answers = copy.deepcopy(self._rpc.batch(calls))
        return [self._change(*call, answer) for call, answer in zip(calls, answers, strict=True)]

    def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        answer = self.batch([(method, params)])[0]
        if isinstance(answer, Fault):
            raise error_of(answer)
        return answer


def audited(shared: Shared, rpc: Any = None, *, folder: Path | None = None, anchors: Anchors | None = None,
            key: bool = True) -> Report:  # fmt: skip
    store = wiring.store(str(folder or shared.store))
    helps = Helps(shared.keys[1] if key else None)
    return audit_shared(shared.federation, rpc or shared.rpc, store, helps, anchors)[0]


def verdicts(report: Report) -> dict[str, str]:
    return {check.name: check.verdict for check in report.checks}


def failed(report: Report) -> set[str]:
    return {name for name, verdict in verdicts(report).items() if verdict == "failed"}


def missing(report: Report) -> set[str]:
    return {name for name, verdict in verdicts(report).items() if verdict == "unavailable"}


def said(report: Report) -> str:
    return "\n".join(f"{f.check}, {f.subject}: {f.message}" for f in report.findings)


# an honest node


def test_an_honest_federation_passes_but_for_what_only_the_app_can_tell(shared: Shared) -> None:
    heard: list[tuple[str, int]] = []
    store = wiring.store(str(shared.store))
    report, newest = audit_shared(
        shared.federation, shared.rpc, store, Helps(shared.keys[1]), None, lambda *line: heard.append(line)
    )
    assert report.findings == ()
    assert missing(report) == {"initial model", "aggregates recomputed"}, (
        "round 1 begins with the initial model"
    )
    counted = {check.name: check.count for check in report.checks}
    head = number(shared.rpc.request("eth_blockNumber"))
    assert counted["block headers"] == head
    blocks = [shared.rpc.request("eth_getBlockByNumber", (quantity(k), True)) for k in range(head + 1)]
    contract = hexed(shared.federation.deployment.contract)
    called = sum(t["to"] == contract for block in blocks for t in block["transactions"])
    assert counted["transactions repeated"] == called + 1, "the creation too"
    assert counted["transactions decided"] == called
    each = ("commitments", "ballots", "votes", "updates opened", "matrix rows")
    assert {name: counted[name] for name in each} == dict.fromkeys(each, 8)
    assert (counted["sealed models"], counted["aggregates recomputed"]) == (2, 1)
    assert counted["contract's storage"] > 50
    assert ("block headers", head) in heard
    assert (newest.block, newest.contract) == (head, shared.federation.deployment.contract)
    assert f"block {head} is on the chain which everybody else sees" in report.unproven
    assert newest.hash.hex() in report.unproven


def test_without_a_key_sealed_contents_are_not_checked(shared: Shared) -> None:
    report = audited(shared, key=False)
    sealed = {"keys", "updates opened", "sealed models"}
    assert missing(report) == {"initial model", "aggregates recomputed", *sealed}
    assert exit_code(report) == 3


def test_a_stranger_s_key_opens_nothing(shared: Shared) -> None:
    store = wiring.store(str(shared.store))
    report, _ = audit_shared(shared.federation, shared.rpc, store, Helps(shared.owner))
    assert "keys" in missing(report)
    assert report.findings == ()


def test_a_federation_at_work_can_be_audited(tmp_path: Path) -> None:
    with anvil.anvil(*anvil.ZERO_FEE, "--hardfork", "shanghai") as url:
        rpc = Endpoint(url, anvil.CHAIN_ID)
        made = found(rpc, tmp_path, lambda: int(time.time()))
        made.start()
        made.run(lambda state: state.round == 2 and state.phase is Phase.VERIFY)
        report = audited(made)
        rpc.close()
    assert report.findings == ()
    assert verdicts(report)["contract's storage"] == "verified"


def test_a_node_without_proofs_is_asked_by_getters(shared: Shared) -> None:
    def change(method: str, _params: Any, answer: Any) -> Any:
        return Fault(-32601, "no such method") if method == "eth_getProof" else answer

    report = audited(shared, Lying(shared.rpc, change))
    assert report.findings == ()
    assert verdicts(report)["contract's state"] == "attested"
    assert "contract's storage" not in verdicts(report)
    assert any("no proofs" in note for note in report.notes)


def test_a_node_without_receipts_of_blocks_gives_them_singly(shared: Shared) -> None:
    def change(method: str, _params: Any, answer: Any) -> Any:
        return Fault(-32601, "no such method") if method == "eth_getBlockReceipts" else answer

    assert audited(shared, Lying(shared.rpc, change)).findings == ()


# a node that lies


def on_block(wanted: str, alter: Change) -> Callable[[str, Sequence[Any], Any], Any]:
    def change(method: str, params: Sequence[Any], answer: Any) -> Any:
        if method == "eth_getBlockByNumber" and params[0] == wanted:
            alter(answer)
        return answer

    return change


def on_receipts(wanted: str, alter: Change) -> Callable[[str, Sequence[Any], Any], Any]:
    def change(method: str, params: Sequence[Any], answer: Any) -> Any:
        if method == "eth_getBlockReceipts" and params[0] == wanted:
            alter(answer)
        return answer

    return change


def flipped(text: str) -> str:
    return text[:-1] + ("0" if text[-1] != "0" else "1")


HEADER_LIES: dict[str, Change] = {
    "timestamp": lambda block: block.update(timestamp=hex(number(block["timestamp"]) + 1)),
    "hash": lambda block: block.update(hash=flipped(block["hash"])),
    "parent": lambda block: block.update(parentHash=flipped(block["parentHash"])),
    "state": lambda block: block.update(stateRoot=flipped(block["stateRoot"])),
    "no logs": lambda block: block.update(logsBloom="0x" + "00" * 256),
    "fork": lambda block: block.pop("withdrawalsRoot"),
}


@pytest.mark.parametrize("lie", HEADER_LIES)
def test_a_changed_header_is_found(shared: Shared, lie: str) -> None:
    report = audited(shared, Lying(shared.rpc, on_block("0x9", HEADER_LIES[lie])))
    assert failed(report) == {"block headers"}
    assert [f.subject for f in report.findings] == ["block 9"]
    assert exit_code(report) == 1


def test_a_block_made_up_whole_does_not_fit_between_its_neighbours(shared: Shared) -> None:
    """Its hash is right for what it says."""

    def alter(block: Any) -> None:
        import rlp
        from eth_hash.auto import keccak

        from hansa.ledger import headers

        block["timestamp"] = hex(number(block["timestamp"]) + 1)
        fields = [*headers.FIELDS, *(f for f in headers.LATER if f[0] in block)]
        block["hash"] = hexed(keccak(rlp.encode([headers._field(block, *field) for field in fields])))
        assert read_block_header(block).sound

    report = audited(shared, Lying(shared.rpc, on_block("0x9", alter)))
    assert "block headers, block 10: does not follow the block before" in said(report)
    assert exit_code(report) == 1


def full(alter: Change) -> Change:
    """Only where the block's transactions are given whole."""
    return lambda block: alter(block["transactions"]) if isinstance(block["transactions"][0], dict) else None


BODY_LIES: dict[str, tuple[Change, str]] = {
    "input": (lambda txs: txs[0].update(input=flipped(txs[0]["input"])), "hashes to"),
    "nonce": (lambda txs: txs[0].update(nonce="0x77"), "hashes to"),
    "sender": (lambda txs: txs[0].update({"from": "0x" + "11" * 20}), "was not signed by"),
    "left out": (lambda txs: txs.clear(), "its transactions do not hash"),
    "twice": (lambda txs: txs.append(txs[0]), "its transactions do not hash"),
}


@pytest.mark.parametrize("lie", BODY_LIES)
def test_a_changed_transaction_is_found(shared: Shared, lie: str) -> None:
    alter, message = BODY_LIES[lie]
    report = audited(shared, Lying(shared.rpc, on_block("0x9", full(alter))))
    assert failed(report) == {"transactions and receipts"}
    assert message in said(report)


RECEIPT_LIES: dict[str, Change] = {
    "status": lambda receipts: receipts[0].update(status="0x0"),
    "log's data": lambda receipts: receipts[0]["logs"][0].update(
        data=flipped(receipts[0]["logs"][0]["data"])
    ),
    "log left out": lambda receipts: receipts[0]["logs"].pop(),
    "gas": lambda receipts: receipts[0].update(cumulativeGasUsed="0x5208"),
    "left out": lambda receipts: receipts.clear(),
}


@pytest.mark.parametrize("lie", RECEIPT_LIES)
def test_a_changed_receipt_is_found(shared: Shared, lie: str) -> None:
    report = audited(shared, Lying(shared.rpc, on_receipts("0x9", RECEIPT_LIES[lie])))
    assert failed(report) == {"transactions and receipts"}
    assert "its receipts do not hash to the header's root" in said(report)


def on_proof(alter: Change) -> Callable[[str, Sequence[Any], Any], Any]:
    def change(method: str, _params: Any, answer: Any) -> Any:
        if method == "eth_getProof":
            alter(answer)
        return answer

    return change


PROOF_LIES: dict[str, Change] = {
    "account": lambda proof: proof["accountProof"].append(flipped(proof["accountProof"].pop())),
    "slot": lambda proof: [
        slot["proof"].append(flipped(slot["proof"].pop())) for slot in proof["storageProof"]
    ],
    "nothing": lambda proof: proof.update(accountProof=[]),
}


@pytest.mark.parametrize("lie", PROOF_LIES)
def test_a_false_proof_is_found(shared: Shared, lie: str) -> None:
    report = audited(shared, Lying(shared.rpc, on_proof(PROOF_LIES[lie])))
    assert failed(report) == {"contract's storage"}


def test_another_storage_than_the_transactions_make_is_found(tmp_path: Path) -> None:
    """The chain's operator writes into the contract: no transaction tells of it."""
    with anvil.anvil(*anvil.ZERO_FEE) as url:
        rpc = Endpoint(url, anvil.CHAIN_ID)
        made = found(rpc, tmp_path, lambda: int(time.time()))
        made.start()
        contract = hexed(made.federation.deployment.contract)
        slot = next(
            s for s in range(200) if number(rpc.request("eth_getStorageAt", (contract, hex(s), "latest")))
        )
        rpc.request("anvil_setStorageAt", (contract, "0x" + f"{slot:064x}", "0x" + "77" * 32))
        rpc.request("evm_mine")
        report = audited(made)
        rpc.close()
    assert "contract's storage" in failed(report)
    assert f"slot {slot:#x} holds 0x7777" in said(report)


def test_getters_that_lie_are_found(shared: Shared) -> None:
    def change(method: str, _params: Any, answer: Any) -> Any:
        if method == "eth_getProof":
            return Fault(-32601, "no such method")
        return flipped(answer) if method == "eth_call" else answer

    assert failed(audited(shared, Lying(shared.rpc, change))) == {"contract's state"}


def test_a_chain_that_turns_over_meanwhile_is_no_finding(shared: Shared) -> None:
    heads = iter(range(10))
    head = shared.rpc.request("eth_blockNumber")

    def change(method: str, params: Sequence[Any], answer: Any) -> Any:
        if method == "eth_getBlockByNumber" and params[0] == head and next(heads) > 0:
            answer["hash"] = flipped(answer["hash"])
        return answer

    with pytest.raises(errors.Unavailable, match="turned over"):
        audited(shared, Lying(shared.rpc, change))


def test_headers_of_a_form_that_is_not_known_are_a_gap(shared: Shared) -> None:
    """A chain that puts a field into all its hashes: its node's word, and said to be."""

    def change(method: str, _params: Any, answer: Any) -> Any:
        if method == "eth_getBlockByNumber":
            answer["mixHash"] = flipped(answer["mixHash"])
        return answer

    report = audited(shared, Lying(shared.rpc, change))
    assert report.findings == ()
    assert "block headers" in missing(report)


def test_a_pruned_node_is_told_apart(shared: Shared) -> None:
    def change(method: str, params: Sequence[Any], answer: Any) -> Any:
        return None if method == "eth_getBlockByNumber" and params[0] == "0x5" else answer

    with pytest.raises(errors.Unavailable, match="has no block 5"):
        audited(shared, Lying(shared.rpc, change))


# anchors


def newest(shared: Shared) -> Anchors:
    return audit_shared(shared.federation, shared.rpc, wiring.store(str(shared.store)), Helps())[1]


def test_anchors_of_an_earlier_audit_hold(shared: Shared) -> None:
    anchors = newest(shared)
    report = audited(shared, anchors=anchors)
    assert report.anchored
    assert report.unproven == ""
    block = read_block_header(shared.rpc.request("eth_getBlockByNumber", ("0x9", False)))
    older = audited(shared, anchors=replace(anchors, block=9, hash=block.hash))
    assert not older.anchored
    assert older.unproven.startswith("whether the blocks after the anchor")
    before = read_block_header(shared.rpc.request("eth_getBlockByNumber", ("0x0", False)))
    assert audited(shared, anchors=replace(anchors, block=0, hash=before.hash)).findings == ()


@pytest.mark.parametrize("name", ["chain_id", "contract", "terms", "hash", "block"])
def test_anchors_of_something_else_are_found(shared: Shared, name: str) -> None:
    anchors = newest(shared)
    other = {"chain_id": 1, "contract": bytes(20), "terms": bytes(32), "hash": bytes(32), "block": 10_000}
    report = audited(shared, anchors=replace(anchors, **{name: other[name]}))
    assert failed(report) == {"anchors"}
    assert not report.anchored


# a store that was altered


def blob(folder: Path, digest: bytes) -> Path:
    return folder / "blobs" / digest.hex()[:2] / digest.hex()


def blobs(shared: Shared) -> dict[str, tuple[bytes, str]]:
    """Digest of one blob of each kind in the last round, and the check that reads it."""
    state = shared.nodes[0].world.ledger.view().state
    current = state.current
    evidence = blob(shared.store, state.model_evidence).read_bytes()
    return {
        "update": (current.commits[min(current.selected)].digest, "updates opened"),
        "row": (current.opened[min(current.opened)].values, "matrix rows"),
        "evidence": (state.model_evidence, "evidence records"),
        "sealed model": (ckpt.sealed_digest(evidence), "sealed models"),
    }


@pytest.mark.parametrize("kind", ["update", "row", "evidence", "sealed model"])
@pytest.mark.parametrize("key", [True, False], ids=["key", "no key"])
def test_a_changed_blob_is_found(shared: Shared, folder: Path, kind: str, key: bool) -> None:
    digest, check = blobs(shared)[kind]
    path = blob(folder, digest)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    report = audited(shared, folder=folder, key=key)
    assert failed(report) == {check}
    assert "gives other bytes" in said(report)


@pytest.mark.parametrize("kind", ["update", "row", "evidence", "sealed model"])
def test_a_missing_blob_is_a_gap(shared: Shared, folder: Path, kind: str) -> None:
    digest, check = blobs(shared)[kind]
    blob(folder, digest).unlink()
    report = audited(shared, folder=folder)
    assert report.findings == ()
    assert {check, "blobs present"} <= missing(report)
    assert exit_code(report) == 3
