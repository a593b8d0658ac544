"""A federation on a chain that others keep: its address, and its record in the store held against the chain.

The address is a CAIP-10 account id, `eip155:CHAIN:0xCONTRACT`
(https://standards.chainagnostic.org/CAIPs/caip-10), so that a node on another chain is refused. The record
holds terms and deployment. Nobody need trust who put it there: the transaction that made the contract must
carry this version's code with exactly these terms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, cast

from hansa import encoding, errors, runfolder, wiring
from hansa.app import Site, TrainerOptions, app_digest
from hansa.config import FederationFile
from hansa.ledger import artefact
from hansa.ledger.binding import parameter_fields
from hansa.ledger.evm import Deployment
from hansa.ledger.rpc import Rpc, hexed, member, quantity, unhex
from hansa.mpc.network import PARTIES
from hansa.ports import Owning, Store, Trainer
from hansa.protocol import checkpoint as ckpt
from hansa.protocol.model import from_arrays
from hansa.protocol.terms import Draft, complete, decode_terms
from hansa.records import Governance, Mpc, Tee, Terms

FORMAT = 1
RECORD_LIMIT = 1024 * 1024
_ACCOUNT = re.compile(r"0x[0-9a-fA-F]{40}")
_ADDRESS = re.compile(r"eip155:(0|[1-9][0-9]{0,31}):0x([0-9a-fA-F]{40})")


@dataclass(frozen=True, slots=True)
class Address:
    """Chain id and 20 bytes of contract."""

    chain_id: int
    contract: bytes

    def __str__(self) -> str:
        return f"eip155:{self.chain_id}:0x{self.contract.hex()}"


@dataclass(frozen=True, slots=True)
class Federation:
    """Where a federation lives and what its members agreed on."""

    deployment: Deployment
    terms: Terms

    @property
    def address(self) -> Address:
        """What its members call it by."""
        return Address(self.deployment.chain_id, self.deployment.contract)


def terms_of(file: FederationFile) -> Terms:
    """The terms of an app's folder: what `federation.toml` says, and the model that `app.py` begins with.

    Raises `Misconfigured`.
    """
    if file.project is not None:
        raise errors.Misconfigured(
            f"{file.folder} is a Flower app, and those run by `hansa run` only, all members in one process",
            hint="A federation of machines takes an app.py so far: `hansa new` makes one.",
        )
    draft, digest = file.draft, app_digest(file.folder, file.app)
    check_parties(draft)
    seated = draft.governance in (Governance.SERVER, Governance.COMMITTEE)
    if seated and not draft.govern.seats:
        raise errors.Misconfigured(
            f"governance {draft.governance.name.lower()} needs seats: the addresses of those who verify",
            hint='Add seats = ["0x...", ...] to [governance], as `hansa keys show` prints them.',
        )
    site = Site(file.folder, "founder", 0, file.initial_seed)
    options = TrainerOptions(file.folder, (site,), digest=digest, script=file.script)
    trainer = wiring.trainer(options)
    try:
        return completed(draft, file, trainer, digest)
    finally:
        trainer.close()


def check_parties(terms: Draft | Terms) -> None:
    """Seats and key centres are addresses, and nobody holds both halves of secagg. Raises `Misconfigured`."""
    named = [("[governance] seats", text) for text in terms.govern.seats]
    if terms.secagg is not None:
        named += [("[secagg] key_centres", text) for text in terms.secagg.key_centres]
        if not terms.secagg.key_centres:
            raise errors.Misconfigured(
                "scheme secagg needs a key centre, and [secagg] key_centres names none",
                hint='Add key_centres = ["0x..."] to [secagg], an address as `hansa keys show` prints it; a second '
                "one stands by.",
            )
    seen: dict[str, str] = {}
    for key, text in named:
        if not _ACCOUNT.fullmatch(text):
            raise errors.Misconfigured(
                f"{key}: {text[:60]!r} is no address",
                hint="Write 0x and 40 digits, as `hansa keys show` prints them; names such as s0 are for simulations.",
            )
        if text.lower() in seen:
            raise errors.Misconfigured(
                f"{key}: {text} stands in {seen[text.lower()]} already",
                hint="Each address has one part: who held both halves of secagg would read everything.",
            )
        seen[text.lower()] = key


def completed(draft: Draft, file: FederationFile, trainer: Trainer, app: bytes) -> Terms:
    """A draft with the app's digest and the model that its trainer begins with; a simulated enclave is pinned."""
    draft = replace(draft, tee=_pinned(draft.tee)) if draft.tee is not None else draft
    draft = replace(draft, mpc=_declared(draft, trainer)) if draft.mpc is not None else draft
    model, _ = from_arrays(trainer.initial(file.initial_seed), file.scale)
    first = ckpt.initial(draft.aggregation, model).digest
    return complete(draft, app=app, layout=model.layout, initial=first, initial_seed=file.initial_seed)


def _declared(draft: Draft, trainer: Trainer) -> Mpc:
    """[mpc] with what the training script declares. Raises `Misconfigured` where the parties are too few or many."""
    assert draft.mpc is not None
    found = cast(Owning, trainer).declared(draft.mpc)
    needed = PARTIES[found.protocol]
    if len(draft.govern.seats) != needed:
        raise errors.Misconfigured(
            f"protocol {found.protocol} takes {needed} computing parties, and [governance] seats names "
            f"{len(draft.govern.seats)}",
            hint=f"Name {needed} parties: of parties that trust each other little, since together they read all.",
        )
    return found


def _pinned(tee: Tee) -> Tee:
    """With the measurement of this version's program, where the terms name no program and protect nothing."""
    from hansa.enclave.providers import simulated_measurement

    accept = tee.accept
    if accept.root != "simulation" or accept.enclaves or accept.products or accept.domains:
        return tee
    return replace(tee, accept=replace(accept, enclaves=(simulated_measurement().mrenclave.hex(),)))


def read_address(text: str) -> Address:
    """The address in `eip155:CHAIN:0xCONTRACT`. Raises `Misconfigured`."""
    matched = _ADDRESS.fullmatch(text.strip())
    if matched is None:
        raise errors.Misconfigured(
            f"{text[:80]!r} is no federation",
            hint="Copy what `hansa deploy` printed: eip155:CHAIN:0xCONTRACT.",
        )
    return Address(int(matched[1]), bytes.fromhex(matched[2]))


def publish(store: Store, federation: Federation) -> None:
    """Put the record into the store. Raises `Unavailable`."""
    fields = {
        "format": FORMAT,
        "terms": encoding.encode(federation.terms),
        "deployment": runfolder.deployment_fields(federation.deployment),
    }
    store.put_at(_key(federation.address), encoding.encode(fields))


def find(store: Store, rpc: Rpc, address: Address) -> Federation:
    """The federation at an address, its record checked against the chain.

    Raises `Misconfigured` when the chain has nothing there, `Unavailable` when there is no record or the chain
    does not answer, `Untrusted` when the record is not that of this contract, or the contract not of this version.
    """
    if not unhex(rpc.request("eth_getCode", (hexed(address.contract), "latest"))):
        raise errors.Misconfigured(
            f"there is no contract at {address}",
            hint="Copy the federation's address as `hansa deploy` printed it.",
        )
    try:
        data = store.get_at(_key(address), limit=RECORD_LIMIT)
    except errors.Unavailable as e:
        e.hint = "The owner's `hansa deploy` puts it into the store of the federation: check --store."
        raise
    value = encoding.decode(data, limit=RECORD_LIMIT)
    try:
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']}")
        terms = decode_terms(value["terms"])
        federation = Federation(runfolder.read_deployment(value["deployment"], terms), terms)
    except (KeyError, TypeError, ValueError) as e:
        raise errors.Untrusted(
            f"the store's record of {address} is malformed: {e}", digest=encoding.digest(data)
        ) from e
    try:
        check_parties(terms)
    except errors.Misconfigured as e:
        raise errors.Untrusted(f"the terms of {address} name parties that cannot be: {e}") from e
    if federation.address != address:
        raise errors.Untrusted(f"the store's record of {address} is that of {federation.address}")
    _check_creation(rpc, federation.deployment)
    return federation


def _key(address: Address) -> str:
    return f"federations/{address.chain_id}-{address.contract.hex()}"


def _check_creation(rpc: Rpc, d: Deployment) -> None:
    """The transaction that made the contract is the owner's, and carries our code and these parameters."""
    block = rpc.request("eth_getBlockByNumber", (quantity(d.block), True))
    for transaction in member(block, "transactions") if block is not None else ():
        if member(transaction, "to") is not None:
            continue
        receipt: Any = rpc.request("eth_getTransactionReceipt", (member(transaction, "hash"),))
        made = member(receipt, "contractAddress")
        if made is None or unhex(made, 20) != d.contract:
            continue
        code = artefact.creation_code(parameter_fields(d.parameters), d.seats, d.model)
        if unhex(member(transaction, "input")) != code:
            raise errors.Untrusted(
                "the contract was not made from this version's code with the terms in the store",
                hint="Ask the owner for the version of Hansa and the store; do not join before they agree.",
            )
        if unhex(member(transaction, "from"), 20) != d.owner:
            raise errors.Untrusted(
                "the store's record names another owner than the one that made the contract"
            )
        return
    raise errors.Untrusted(
        f"block {d.block} holds no transaction that made contract 0x{d.contract.hex()}",
        hint="Check the federation's address and the chain.",
    )
