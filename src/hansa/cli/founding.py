"""`hansa deploy`, `invite` and `start`: what the owner of a federation does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa import errors
from hansa.cli.connection import (
    KeyFile,
    Name,
    RpcUrl,
    StoreUrl,
    log,
    open_store,
    opened,
    own_file,
    own_key,
    read_account,
)
from hansa.cli.console import console, print_json
from hansa.cli.keys import Json, PasswordFile

if TYPE_CHECKING:
    from hansa.protocol.state import State
    from hansa.records import Terms


def deploy(
    app: Annotated[Path, typer.Argument(metavar="APP", help="Folder with federation.toml and app.py.")],
    rpc: RpcUrl,
    store: StoreUrl,
    key: KeyFile,
    password_file: PasswordFile = None,
    as_json: Json = False,
) -> None:
    """Put a federation on a chain: its contract, and its terms into the store. Prints its address."""
    from hansa.config import load_federation
    from hansa.federation import Federation, publish, terms_of
    from hansa.ledger import evm
    from hansa.ledger.crosscheck import connect
    from hansa.ledger.rpc import chain_id_of
    from hansa.protocol.attested import NO_PROTECTION, protection
    from hansa.protocol.terms import parameters, terms_digest

    file = load_federation(app, [])
    owner = own_key(key, password_file).signer
    terms = terms_of(file)
    seats = tuple(bytes.fromhex(s.removeprefix("0x")) for s in terms.govern.seats)
    shared, route = open_store(store), own_file().route()
    chain = connect(rpc, chain_id_of(rpc[0], route), route=route, note=log.warning)
    try:
        with console(stderr=True).status("deploying"):
            made = evm.deploy(chain, owner, parameters(terms), seats, terms.initial)
    finally:
        chain.close()
    federation = Federation(made, terms)
    publish(shared, federation)
    if protection(terms) == NO_PROTECTION:
        log.warning(
            f'its enclaves are {NO_PROTECTION}; for real data accept processors: [tee.accept] root = "intel"'
        )
    if as_json:
        print_json(
            {
                "federation": str(federation.address),
                "terms": terms_digest(terms).hex(),
                "owner": f"0x{made.owner.hex()}",
                "block": made.block,
            }
        )
    else:
        print(federation.address)


def invite(
    name: Name,
    addresses: Annotated[
        list[str], typer.Argument(metavar="ADDRESS...", help="Who may join: 0x and 40 digits.")
    ],
    rpc: RpcUrl,
    store: StoreUrl,
    key: KeyFile,
    password_file: PasswordFile = None,
    as_json: Json = False,
) -> None:
    """Let addresses join. The owner's command."""
    from hansa.protocol import messages as msg

    who = [read_account(text) for text in addresses]
    with opened(name, rpc, store, key, password_file) as it:
        known = it.ledger.view().state
        new = [a for a in who if a not in known.invited and a not in known.ids]
        if new:
            it.ledger.submit(*(msg.Invite(a) for a in new))
    if as_json:
        print_json({"invited": [f"0x{a.hex()}" for a in new], "before": len(who) - len(new)})
        return
    console().print(
        f"{len(new)} invited" + (f", {len(who) - len(new)} were before" if len(new) < len(who) else "")
    )


def start(
    name: Name,
    rpc: RpcUrl,
    store: StoreUrl,
    key: KeyFile,
    password_file: PasswordFile = None,
    as_json: Json = False,
) -> None:
    """Begin the first round, when enough members have joined. The owner's command."""
    from hansa.protocol import messages as msg

    with opened(name, rpc, store, key, password_file) as it:
        terms, state = it.federation.terms, it.ledger.view().state
        _check_keys(terms, state)
        _check_enclaves(terms, state)
        _check_computing(terms, state)
        it.ledger.submit(msg.Start())
        members = len(it.ledger.view().state.current.roster)
    if as_json:
        print_json({"round": 1, "members": members})
    else:
        console().print(f"round 1 has begun with {members} members")


def _check_computing(terms: Terms, state: State) -> None:
    """Under mpc nobody can share anything before all parties have recorded certificates. Raises `Unavailable`."""
    from hansa.protocol import awaiting, mpc

    if terms.mpc is None or state.round or mpc.complete(terms, state):
        return
    absent = awaiting.missing(terms, state)
    found = awaiting.awaited(terms, state).get("certificate", frozenset())
    silent = [f"0x{state.members[i].address.hex()}" for i in sorted(found)]
    why = (
        f"{', '.join(absent)} have not joined"
        if absent
        else f"{', '.join(silent)} have recorded no certificate"
    )
    raise errors.Unavailable(
        f"the computing parties are not there yet: {why}",
        hint="Parties of the terms join by --role party, and run `hansa party`. Then start.",
    )


def _check_keys(terms: Terms, state: State) -> None:
    """Under secagg nobody can send anything without parameters and a certified key. Raises `Unavailable`."""
    from hansa.protocol import awaiting, secagg

    if terms.secagg is None or state.round:
        return
    found = secagg.parties(terms, state)
    if secagg.setup(state, found) is None:
        absent = awaiting.missing(terms, state)
        why = f"{', '.join(absent)} have not joined" if absent else "the key centre has not recorded them"
        raise errors.Unavailable(
            f"there are no parameters of secagg yet: {why}",
            hint="Key centres and servers of the terms join, and run `hansa kgc` and `hansa server`. Then start.",
        )
    ready = [i for i, m in state.members.items() if m.member and secagg.certified(state, found, i)]
    least = terms.training.min_members
    if len(ready) < least:
        raise errors.Unavailable(
            f"the public keys of {len(ready)} members are certified, and a round takes at least {least}",
            hint="Each member's `hansa node` records its key, and `hansa kgc` certifies it; see `hansa status`.",
        )


def _check_enclaves(terms: Terms, state: State) -> None:
    """Under tee nobody can send anything without an attested enclave. Raises `Unavailable`."""
    from hansa.protocol import unattested

    why = "" if terms.tee is None else unattested.why_not(terms, state)
    if why:
        raise errors.Unavailable(
            f"there is no enclave to which members could seal: {why.rstrip('.')}",
            hint="The nodes of members with a seat run enclaves and have them quoted, and every member's `hansa node` "
            "vouches for them; see `hansa status`. Whoever joins makes all of them quoted anew. Then start.",
        )
