"""The audit of a federation over the embedded chain, which gives no proofs: getters, foreign calls, altered rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.shared import Shared, embedded, found

from hansa import wiring
from hansa.audit import Report, exit_code
from hansa.audit.shared import Helps, audit_shared
from hansa.crypto import signatures
from hansa.ledger import artefact
from hansa.ledger.binding import arguments
from hansa.ledger.envelopes import Envelope
from hansa.ledger.headers import BlockHeader
from hansa.ledger.replica import Repeated, Replica
from hansa.ledger.rpc import hexed, unhex
from hansa.ledger.transactions import Call, Fee, sign_transaction
from hansa.member import join_call
from hansa.protocol import fold, items
from hansa.protocol import messages as msg
from hansa.records import Role

STRANGER = signatures.account(b"\x51" * 32)


def audited(made: Shared) -> Report:
    return audit_shared(made.federation, made.rpc, wiring.store(str(made.store)), Helps(made.keys[0]))[0]


def verdict(report: Report, name: str) -> str:
    return next(check.verdict for check in report.checks if check.name == name)


def failed(report: Report) -> set[str]:
    return {check.name for check in report.checks if check.verdict == "failed"}


def send(made: Shared, to: bytes | None, data: bytes) -> dict[str, str]:
    """A stranger's transaction; gives its receipt."""
    nonce = int(made.rpc.request("eth_getTransactionCount", (hexed(STRANGER.address), "latest")), 16)
    raw = sign_transaction(STRANGER, made.federation.address.chain_id, nonce, Call(to, data, 2**24), Fee())
    hash = made.rpc.request("eth_sendRawTransaction", (hexed(raw),))
    receipt: dict[str, str] = made.rpc.request("eth_getTransactionReceipt", (hash,))
    return receipt


def test_a_chain_without_proofs_passes_by_getters(shared: Shared) -> None:
    report = audited(shared)
    assert report.findings == ()
    assert verdict(report, "contract's state") == "attested"
    assert verdict(report, "transactions repeated") == "verified"
    assert exit_code(report) == 3, "the initial model takes the app"


@pytest.mark.parametrize(
    ("part", "check"),
    [
        ((items, "recover", lambda *_: None), "transactions decided"),
        ((fold, "GAIN_VOTED", fold.GAIN_VOTED + 8), "contract's state"),
    ],
    ids=["signatures", "reputation"],
)
def test_the_rules_decide_everything_anew(
    shared: Shared, monkeypatch: pytest.MonkeyPatch, part: tuple[object, str, object], check: str
) -> None:
    """An auditor whose rules differ in one part disagrees with the contract: it did look."""
    monkeypatch.setattr(*part)
    assert check in failed(audited(shared))


def other_time(self: Replica, header: BlockHeader, begin: Any = Replica.begin) -> Any:
    return begin(self, replace(header, timestamp=header.timestamp + 1))


def all_fail(self: Replica, state: Any, sent: Envelope, run: Any = Replica.run) -> Repeated:
    return replace(run(self, state, sent), accepted=False)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [("begin", other_time, "makes other logs"), ("run", all_fail, "succeeded on the chain and fails")],
    ids=["time", "success"],
)
def test_what_the_contract_made_is_repeated_in_its_block_s_context(
    shared: Shared, monkeypatch: pytest.MonkeyPatch, name: str, change: object, message: str
) -> None:
    """A machine of another kind, or in another block, makes something else of the same transactions."""
    monkeypatch.setattr(Replica, name, change)
    report = audited(shared)
    assert failed(report) == {"transactions repeated"}
    (finding,) = report.findings
    assert message in finding.message


def test_calls_that_the_contract_refuses_are_no_findings(fresh: Shared) -> None:
    contract = fresh.federation.deployment.contract
    refused = send(fresh, contract, artefact.encode_call("invite", (b"\x11" * 20,)))
    assert refused["status"] == "0x0"
    assert send(fresh, contract, b"nonsense")["status"] == "0x0"
    fresh.start()
    assert audited(fresh).findings == ()


def through(target: bytes, data: bytes) -> bytes:
    """Creation code of a contract that, when it is called, calls `target` with `data`."""
    size = len(data).to_bytes(2, "big")
    # CODECOPY the data behind the code to memory, CALL the target with it, STOP.
    code = b"".join([
        b"\x61" + size, b"\x60\x2b", b"\x60\x00", b"\x39",  # codecopy(0, 43, size)
        b"\x60\x00", b"\x60\x00", b"\x61" + size, b"\x60\x00", b"\x60\x00",  # out, in, value
        b"\x73" + target, b"\x5a", b"\xf1", b"\x00",
    ])  # fmt: skip
    runtime = code + data
    length = len(runtime).to_bytes(2, "big")
    return b"\x61" + length + b"\x60\x0e\x60\x00\x39\x61" + length + b"\x60\x00\xf3" + runtime


def test_a_call_through_another_contract_is_a_gap_and_the_rest_is_still_decided(fresh: Shared) -> None:
    key = fresh.keys[0]
    fresh.ledger(fresh.owner).submit(msg.Invite(key.signer.address))
    call = join_call(key, fresh.ledger(key).view().state, Role.MEMBER, 10)
    data = artefact.encode_call(*arguments(call))
    proxy = unhex(
        send(fresh, None, through(fresh.federation.deployment.contract, data))["contractAddress"], 20
    )
    assert len(send(fresh, proxy, b"")["logs"]) == 1
    fresh.start()
    report = audited(fresh)
    assert report.findings == ()
    assert verdict(report, "transactions decided") == "unavailable"
    assert verdict(report, "transactions repeated") == "unavailable"
    assert next(c.count for c in report.checks if c.name == "joins") == 4, "after the gap"
    assert verdict(report, "contract's state") == "attested"


def test_what_nodes_forget_by_the_terms_is_a_gap_that_says_so(tmp_path: Path) -> None:
    with embedded(tmp_path) as chain:
        made = found(chain, tmp_path, lambda: chain.time, rounds=4, retain_rounds=1)
        made.start()
        made.run()
        report = audited(made)
    assert report.findings == ()
    (present,) = (check for check in report.checks if check.name == "blobs present")
    assert present.verdict == "unavailable"
    assert "not kept by the terms (retain_rounds = 1)" in present.note
    (aggregates,) = (check for check in report.checks if check.name == "aggregates recomputed")
    assert aggregates.count == 2, "rounds 3 and 4"
