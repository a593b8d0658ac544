"""The audit of a federation on a chain that others keep, from the contract's creation to the newest block.

The chain is read through a node that need not be trusted with anything but which chain it is: see `scan`. The
contract's transactions are executed again in the block context that was recorded for them, and decided again by
the rules. In the end the contract's storage must be the one of which the node proves that it lies in the head's
state root (EIP-1186); a node without proofs is asked by all public getters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hansa import wiring
from hansa.app import Site, TrainerOptions, file_of, member_name
from hansa.audit import claims
from hansa.audit.anchors import Anchors, compare
from hansa.audit.blobs import NAMES, PRESENT, StoreBlobs
from hansa.audit.case import INITIAL, Case, Keys, kept_from
from hansa.audit.claims import APP, KEYS
from hansa.audit.contents import contents_of, note_times, unproven
from hansa.audit.decisions import CALLS, CODE, History, Sent, decide
from hansa.audit.getters import STATE, check_getters
from hansa.audit.repeat import REPEATED, STORAGE, Proofs, Repeating
from hansa.audit.report import Book, Progress, Report
from hansa.audit.scan import Filled, Scan
from hansa.crypto import sealing
from hansa.federation import Federation
from hansa.ledger.envelopes import Envelope, Outcome
from hansa.ledger.evm import founded
from hansa.ledger.rpc import Rpc, hexed, quantity, unhex
from hansa.ports import Store
from hansa.protocol import checkpoint as ckpt
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.model import from_arrays
from hansa.protocol.state import State
from hansa.records import Limits, Role, Terms
from hansa.signers.keystore import MemberKey

WORD = (
    "that block {head} is on the chain which everybody else sees, and final. A node could show a chain of its own "
    "making. Ask nodes of other parties, or compare the block's hash: 0x{hash}"
)
AFTER = "whether the blocks after the anchor, up to block {head}, are on the chain which everybody else sees."


@dataclass(frozen=True, slots=True)
class Helps:
    """What an auditor has of its own: a member's key to open what is sealed to it, and the app's folder."""

    key: MemberKey | None = None
    app: Path | None = None


def audit_shared(
    federation: Federation,
    rpc: Rpc,
    store: Store,
    helps: Helps,
    anchors: Anchors | None = None,
    progress: Progress | None = None,
) -> tuple[Report, Anchors]:
    """Check a federation from chain and store; gives the report, and the newest block as an anchor.

    Raises `Misconfigured` when the app is not that of the terms, `Unavailable` when the chain does not answer
    or turned over meanwhile; whatever else is wrong is a finding.
    """
    book, limits, d = Book(progress), Limits(), federation.deployment
    made = _initial(federation.terms, helps.app, book)
    scan = Scan(rpc, d.contract, d.block, book)
    proofs = Proofs(rpc, d.contract, scan.head.number)
    first = d.block if anchors is None else min(d.block, anchors.block)
    history = _read_chain(federation, scan, first, proofs, rpc, book)
    head = scan.head
    seen = Anchors(d.chain_id, d.contract, d.parameters.digest, head.number, head.hash)
    anchored = anchors is not None and compare(anchors, d, scan.hashes, book)
    blobs = StoreBlobs(store, limits, book)
    keys = Keys(federation.terms, _own_keys(helps.key, history.state, book), limits)
    kept = kept_from(federation.terms, history.state)
    contents = contents_of(Case(federation.terms, blobs, keys, limits, book, kept), history)
    if made is None:
        book.gap(INITIAL, "the app makes it from the seed, and no --app is given")
    else:
        contents.begin(made)
    for round in history.rounds:
        contents.check(round)
        note_times(round, book)
    book.expect(NAMES, PRESENT)
    names = {m.id: member_name(m.id) for m in history.state.members.values() if m.role is Role.MEMBER}
    claims.check_consents(history, federation.terms, blobs.get, names, book)
    claims.note_starved(history, names, (), book)
    reason = ""
    if not anchored:
        after = anchors is not None and anchors.block in scan.hashes
        reason = (AFTER if after else WORD).format(head=head.number, hash=head.hash.hex())
    return book.report(anchored=anchored, unproven=unproven(federation.terms, reason)), seen


def _initial(terms: Terms, folder: Path | None, book: Book) -> Checkpoint | None:
    """The initial model as the app makes it. Raises `Misconfigured` unless the app is that of the terms."""
    if folder is None:
        return None
    site, script = Site(folder, "auditor", 0, terms.initial_seed), file_of(folder, terms.app)
    options = TrainerOptions(folder, (site,), digest=terms.app, script=script if terms.mpc else "")
    trainer = wiring.trainer(options)
    try:
        book.passed(APP)
        model, _ = from_arrays(trainer.initial(terms.initial_seed), terms.layout.scale)
    finally:
        trainer.close()
    return ckpt.initial(terms.aggregation, model)


def _own_keys(key: MemberKey | None, state: State, book: Book) -> Mapping[int, bytes]:
    """The auditor's sealing key by its id, if it is the one that the chain has of a member."""
    if key is None:
        book.gap(KEYS, "no --key: sealed contents cannot be opened")
        return {}
    id = state.ids.get(key.signer.address)
    if id is None or state.members[id].key != sealing.public_key(key.sealing_key):
        book.gap(KEYS, f"--key: 0x{key.signer.address.hex()} is no member's that could open anything")
        return {}
    book.passed(KEYS)
    return {id: key.sealing_key}


def _read_chain(
    federation: Federation, scan: Scan, first: int, proofs: Proofs, rpc: Rpc, book: Book
) -> History:
    """Repeat and decide all transactions, and hold what the contract holds in the end against both."""
    d = federation.deployment
    book.expect(CODE, REPEATED, CALLS, *([STORAGE] if proofs.offered else []), STATE)
    history = History(founded(d))
    repeating = Repeating(d.chain_id, d.contract, book)
    for filled in scan.blocks(first):
        repeating.block(filled)
        before = 0
        for place, (envelope, outcome) in enumerate(filled.items):
            where = f"block {filled.header.number}, transaction {place}"
            sent = _sent(where, filled, envelope, outcome, outcome.total - before)
            before = outcome.total
            with book.attempt(CALLS, where):
                decide(sent, d, federation.terms, history, book)
    history.hashes = scan.hashes
    if scan.complete and not history.deployed:
        book.found(CODE, "deployment", f"block {d.block} never created the federation's contract")
    if not scan.complete:
        return history
    where, proven = f"block {scan.head.number}", False
    if proofs.offered:
        with book.attempt(STORAGE, where):
            proofs.compare(scan.head.state_root, repeating.replica, book)
            proven = True
    else:
        book.note("the node gives no proofs (eth_getProof): what the contract holds is the node's word")
    with book.attempt(STATE, where):
        replica = repeating.replica
        if proven and replica is not None:
            check_getters(replica.call, history.state, book)
        else:
            check_getters(_asking(rpc, d.contract, scan.head.number), history.state, book)
            book.attested(STATE, "the node's word for what the contract answers", 0)
    return history


def _sent(where: str, filled: Filled, envelope: Envelope, outcome: Outcome, gas: int) -> Sent:
    return Sent(
        where=where,
        block=filled.header.number,
        time=filled.header.timestamp,
        sender=envelope.sender,
        to=envelope.to or b"",
        created=envelope.created,
        data=envelope.data,
        accepted=outcome.accepted,
        gas=gas,
        spent=gas == envelope.gas,
        logs=outcome.logs,
    )


def _asking(rpc: Rpc, contract: bytes, block: int) -> Callable[[bytes], bytes]:
    def ask(data: bytes) -> bytes:
        call = {"to": hexed(contract), "data": hexed(data)}
        return unhex(rpc.request("eth_call", (call, quantity(block))))

    return ask
