"""A member on a machine of its own: entering a federation, and its node at work until the job is done."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hansa import encoding, errors, wiring
from hansa.app import Site, TrainerOptions, file_of
from hansa.crypto import sealing
from hansa.federation import Federation
from hansa.ledger.evm import EvmLedger, Fold
from hansa.ledger.rpc import Rpc
from hansa.loading import Loader
from hansa.node.daemon import Node
from hansa.node.journal import open_journal
from hansa.node.meter import Meter, MeteredLedger, MeteredStore, MeteredTrainer
from hansa.node.onion import Onion
from hansa.node.world import Identity, World
from hansa.ports import Ledger, Session, Store, Trainer
from hansa.protocol import messages as msg
from hansa.protocol.state import Member, State, record_of
from hansa.records import Limits, RecordKind, Role, Standing
from hansa.signers.keystore import MemberKey, onion_seed

NAME = "me"
"""Name of the one data set that a member's trainer has."""


def join_call(key: MemberKey, state: State, role: Role, resources: int) -> msg.Join:
    """The signed message by which the key's owner enters, or renews its onion."""
    address = key.signer.address
    nonce = state.nonces.get(address, 0)
    head = Onion(onion_seed(key, state.domain, nonce)).head
    fields = (key.public.sealing, head, resources, role)
    signature = key.signer.sign(encoding.message_bytes(state.domain, "Join", nonce, *fields))
    return msg.Join(address, *fields, signature)


def consented(state: State, id: int) -> bool:
    """Whether this member has put its consent on the chain; once is enough, since terms never change."""
    return record_of(state, 0, RecordKind.CONSENT, id) is not None


def consent_call(key: MemberKey, state: State, id: int, digest: bytes) -> msg.Record:
    """The member's signature under what it agreed to: the page of this digest, which lies in the store."""
    fields = (0, int(RecordKind.CONSENT))
    signature = key.signer.sign(encoding.message_bytes(state.domain, "Record", *fields, digest))
    return msg.Record(*fields, id, digest, signature)


def status_call(key: MemberKey, state: State, id: int, standing: Standing) -> msg.Status:
    """The signed message by which the key's owner leaves, goes away or comes back."""
    nonce = state.nonces.get(key.signer.address, 0)
    signature = key.signer.sign(encoding.message_bytes(state.domain, "Status", nonce, standing))
    return msg.Status(id, standing, signature)


def own_onion(key: MemberKey, state: State, member: Member) -> Onion:
    """The onion whose head the chain has of this member. Raises `Misconfigured`."""
    for nonce in reversed(range(state.nonces.get(member.address, 0))):
        onion = Onion(onion_seed(key, state.domain, nonce))
        if onion.knows(member.onion):
            return onion
    raise errors.Misconfigured(
        "the chain has another hash onion than this key file makes",
        hint="Use the key file that joined, or join again.",
    )


def trainer_of(federation: Federation, folder: Path, data: Path | None, index: int) -> Trainer:
    """The trainer of the app in `folder` on the member's own rows in `data`; a server has none.

    Raises `Misconfigured` when the app is not the one that the terms name.
    """
    terms = federation.terms
    options = TrainerOptions(
        folder=folder,
        sites=(Site(data or folder, NAME, index, terms.initial_seed),),
        holdout=0.0,
        validation=terms.training.validation,
        seed=terms.initial_seed,
        digest=terms.app,
        script=file_of(folder, terms.app) if terms.mpc else "",
    )
    return wiring.trainer(options)


def open_node(
    federation: Federation,
    key: MemberKey,
    store: Store,
    home: Path,
    ledger: Ledger,
    trainer: Callable[[int], Trainer],
    meter: Meter,
    *,
    loader: Callable[[int], Loader | None] = lambda _id: None,
    session: Callable[[], Session] | None = None,
    relay: bool = True,
) -> Node:
    """The node of the key's owner; `trainer` makes the trainer of an id, `home` holds what must not be lost.

    `meter` counts what it asks and how long it trains, which is what its commitments say. `loader` says how the
    machine of an id starts an enclave, if it does; `session` makes that of a computing party. With `relay` the node
    brings the messages of others to the chain too.

    Raises `Misconfigured` when the key is no member's, or its home belongs to another.
    """
    state = ledger.view().state
    id = state.ids.get(key.signer.address)
    if key.signer.address in state.excluded:
        raise errors.Misconfigured(
            f"0x{key.signer.address.hex()} was excluded by vote, or its id has another key now",
            hint="Use the key that took its place; or ask the members for a motion that invites you.",
        )
    if id is None:
        raise errors.Misconfigured(
            f"0x{key.signer.address.hex()} has not joined this federation",
            hint="Join first: hansa join FEDERATION --key FILE; the owner must have invited the address.",
        )
    member, terms = state.members[id], federation.terms
    if member.key != sealing.public_key(key.sealing_key):
        raise errors.Misconfigured(
            "the chain has another sealing key of this member", hint="Join again with this key file."
        )

    def entropy(_label: str, n: int) -> bytes:
        return os.urandom(n)

    loaded = loader(id)
    world = World(
        ledger=MeteredLedger(ledger, meter),
        store=MeteredStore(store, meter),
        kept=wiring.store(str(home / "kept")),
        trainer=MeteredTrainer(trainer(id), meter),
        scheme=wiring.scheme(
            terms,
            id=id,
            private_key=key.sealing_key,
            sign=key.signer.sign,
            entropy=entropy,
            limits=Limits(),
        ),
        journal=open_journal(home / "journal.sqlite", state.domain, member.address),
        entropy=entropy,
        duration=lambda _examples: meter.trained(),
        enclosure=None if loaded is None else loaded.start,
        collateral=None if loaded is None else loaded.collateral,
        sharing=wiring.sharing(terms) if terms.mpc else None,
        session=session() if session else None,
    )
    me = Identity(
        id=id,
        signer=key.signer,
        onion=own_onion(key, state, member),
        training_data=f"{NAME}/train",
        validation_data=f"{NAME}/validation",
        trains=member.role is Role.MEMBER,
        relay=relay,
    )
    return Node(me, terms, world)


def ledger_of(
    federation: Federation,
    key: MemberKey,
    rpc: Rpc,
    clock: Callable[[], int],
    *,
    interval: float,
    confirmations: int = 0,
    wait: bool = True,
) -> EvmLedger:
    """The federation's contract, seen every `interval` seconds, called from the key's own account.

    A block counts when so many `confirmations` follow it. `wait`: calls wait for that too.
    """
    fold = Fold(rpc, federation.deployment, confirmations=confirmations, interval=interval)
    depth = confirmations if wait else 0
    return EvmLedger(rpc, federation.deployment, fold, key.signer, clock, confirmations=depth)


def outside(state: State, id: int, address: bytes) -> bool:
    """Whether a node has nothing more to do in a federation that goes on.

    That is when another key took its id over; or when its member has left or was voted out, and no round runs any
    more in which it has a part.
    """
    member = state.members[id]
    gone = member.role is Role.MEMBER and not member.member and id not in state.current.roster
    return gone or member.address != address
