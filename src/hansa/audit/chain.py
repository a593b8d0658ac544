"""The chain of a run: executed again, and decided again by the rules, transaction by transaction."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eth_hash.auto import keccak

from hansa.audit.decisions import CALLS, CODE, History, Sent, decide
from hansa.audit.getters import STATE, check_getters
from hansa.audit.report import Book
from hansa.ledger import blocks
from hansa.ledger.embedded import Entry, Replay, Replayed, open_chain, read_journal
from hansa.ledger.evm import founded
from hansa.ledger.follower import log_of
from hansa.ledger.rpc import hexed, number, unhex
from hansa.runfolder import RunRecord

BLOCKS, FILE = "blocks replayed", "chain file"


def read_chain(folder: Path, record: RunRecord, book: Book) -> History:
    """Replay and decide the whole chain. What is wrong goes to the book; raises `BadTerms`."""
    book.expect(BLOCKS, FILE, CODE, STATE, CALLS)
    history = History(founded(record.deployment))
    path, same = folder / "chain.sqlite", False
    with book.attempt(BLOCKS, "chain", gaps=False):
        genesis, entries = read_journal(path)
        if genesis.chain_id != record.deployment.chain_id:
            book.found(BLOCKS, "genesis", f"chain {genesis.chain_id}, not {record.deployment.chain_id}")
        with Replay(genesis) as fresh:
            for entry in entries:
                _block(entry, fresh.step(entry), record, history, book)
            with book.attempt(FILE, "chain.sqlite", gaps=False):
                same = _compare_file(fresh, path, book)
        if same:
            with book.attempt(STATE, "chain.sqlite", gaps=False):
                _ask_file(path, record.deployment.contract, history, book)
    if not history.deployed:
        book.found(CODE, "deployment", "the chain never created the federation's contract")
    return history


def _ask_file(path: Path, contract: bytes, history: History, book: Book) -> None:
    """Ask a copy of the chain's file, which replay has found to be what it should be."""
    with TemporaryDirectory() as folder:
        copied = Path(shutil.copyfile(path, Path(folder) / path.name))
        with open_chain(copied) as chain:

            def ask(data: bytes) -> bytes:
                return unhex(
                    chain.request("eth_call", ({"to": hexed(contract), "data": hexed(data)}, "latest"))
                )

            check_getters(ask, history.state, book)


def _compare_file(fresh: Replay, path: Path, book: Book) -> bool:
    """Whether every row and byte of the chain's file is what replay makes of the journal."""
    log = path.with_name(path.name + "-wal")
    if log.is_file() and log.stat().st_size:
        book.gap(FILE, f"{log.name} holds a part of it: the run was not closed, go on with it by --resume")
        return False
    differences = fresh.differences(path)
    for difference in differences:
        book.found(FILE, path.name, difference)
    if not differences:
        book.passed(FILE)
    return not differences


def _block(entry: Entry, replayed: Replayed, record: RunRecord, history: History, book: Book) -> None:
    subject = f"block {entry.number}"
    history.hashes[entry.number] = entry.hash
    if not replayed.root_ok:
        book.found(BLOCKS, subject, "replay gives another state root than recorded", entry.root)
    if not replayed.hash_ok:
        book.found(BLOCKS, subject, "replay gives another block hash than recorded", entry.hash)
    if replayed.root_ok and replayed.hash_ok:
        book.passed(BLOCKS)
    raws = {keccak(raw): raw for raw in entry.transactions}
    for place, receipt in enumerate(replayed.receipts):
        where = f"{subject}, transaction {place}"
        with book.attempt(CALLS, where, gaps=False):
            raw = raws[unhex(receipt["transactionHash"], 32)]
            sent = _sent(where, raw, receipt, entry)
            decide(sent, record.deployment, record.terms, history, book)


def _sent(where: str, raw: bytes, receipt: dict[str, Any], entry: Entry) -> Sent:
    transaction = blocks.decode(raw)
    gas = number(receipt["gasUsed"])
    return Sent(
        where=where,
        block=entry.number,
        time=entry.timestamp,
        sender=unhex(receipt["from"], 20),
        to=bytes(transaction.to),
        created=unhex(receipt["contractAddress"] or "0x"),
        data=bytes(transaction.data),
        accepted=receipt["status"] == "0x1",
        gas=gas,
        spent=gas == transaction.gas,
        logs=tuple(map(log_of, receipt["logs"])),
    )
