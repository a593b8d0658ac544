"""`hansa join`: becoming a member of a federation on a shared chain."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa import errors
from hansa.cli.connection import AnyAppFolder, KeyFile, Name, RpcUrl, StoreUrl, opened
from hansa.cli.console import console, print_json, short
from hansa.cli.keys import Json, PasswordFile

if TYPE_CHECKING:
    from hansa.protocol.state import State
    from hansa.records import Role, Terms


class As(StrEnum):
    """Roles that the schemes of this version know."""

    MEMBER = "member"
    SERVER = "server"
    KEY_CENTRE = "key-centre"
    PARTY = "party"


def join(
    name: Name,
    rpc: RpcUrl,
    store: StoreUrl,
    key: KeyFile,
    app: AnyAppFolder = None,
    role: Annotated[
        As,
        typer.Option(
            "--role",
            help='member; server, which leads under governance = "server" and trains nothing; '
            "key-centre, which holds the other half under scheme secagg; party, which computes under scheme mpc.",
        ),
    ] = As.MEMBER,
    resources: Annotated[
        int,
        typer.Option("--resources", min=0, max=65_535, help="Declared resources; some draws weigh by them."),
    ] = 10,
    yes: Annotated[
        bool, typer.Option("--yes", help="Agree to the terms without being asked; read them first.")
    ] = False,
    password_file: PasswordFile = None,
    as_json: Json = False,
) -> None:
    """Become a member, on an invitation, with the app that the terms name. Again: renew the onion.

    Shows who sees what and asks. What you agreed to goes into the store, its digest under your signature onto
    the chain.
    """
    from hansa.member import consent_call, consented, join_call
    from hansa.records import Role

    with opened(name, rpc, store, key, password_file) as it:
        terms = it.federation.terms
        me, state = it.key.signer.address, it.ledger.view().state
        if me not in state.invited and me not in state.ids:
            raise errors.NotInvited
        wanted = Role[role.name]
        _check_role(terms, state, me, wanted)
        _check_app(terms, app, wanted)
        text = _agreed(terms, len(state.members), yes=yes)
        try:
            it.ledger.submit(join_call(it.key, state, wanted, resources))
        except errors.AlreadySent as e:
            raise errors.Unavailable(
                f"round {state.round} runs with your id in it, and its keys cannot change until it is over",
                hint="Join when the next round has begun, before your node commits in it.",
            ) from e
        state = it.ledger.view().state
        id = state.ids[me]
        if not consented(state, id):
            it.ledger.submit(consent_call(it.key, state, id, it.store.put(text.encode())))
    if as_json:
        print_json({"federation": terms.name, "role": role, "id": id, "address": f"0x{me.hex()}"})
    else:
        console().print(f"{role} {id} of {terms.name}")


def _check_role(terms: Terms, state: State, who: bytes, role: Role) -> None:
    """Servers and key centres are those that the terms name, and nothing else. Raises `Misconfigured`."""
    from hansa.records import Governance, Role

    id, address = state.ids.get(who), f"0x{who.hex()}"
    seated = who in state.seats if id is None else state.members[id].seated
    centres = () if terms.secagg is None else terms.secagg.key_centres
    centre = address in (text.lower() for text in centres)
    if terms.mpc is not None:
        return _check_computing(address, seated=seated, role=role)
    if role is Role.PARTY:
        raise errors.Misconfigured(
            f"the scheme of these terms is {terms.scheme}, under which nobody computes on shares",
            hint="Join as a member.",
        )
    if role is Role.SERVER and not (seated and state.parameters.governance is Governance.SERVER):
        raise errors.Misconfigured(
            f"the terms of this federation give {address} no seat of a server",
            hint="Join as a member, or ask the owner: seats stand in federation.toml, under [governance].",
        )
    if role is Role.KEY_CENTRE and not centre:
        raise errors.Misconfigured(
            f"the terms of this federation do not name {address} as a key centre",
            hint="Join as a member, or ask the owner: key_centres stand in federation.toml, under [secagg].",
        )
    if role is Role.MEMBER and terms.secagg is not None and (centre or seated):
        part = "key-centre" if centre else "server"
        raise errors.Misconfigured(
            f"the terms of this federation name {address} as a {part.replace('-', ' ')}, which is no member",
            hint=f"Add --role {part}; to be a member, use another key.",
        )


def _check_computing(address: str, *, seated: bool, role: Role) -> None:
    from hansa.records import Role

    if seated and role is not Role.PARTY:
        raise errors.Misconfigured(
            f"the terms of this federation name {address} as a computing party, which owns no rows",
            hint="Add --role party; to share rows, use another key.",
        )
    if not seated and role is not Role.MEMBER:
        raise errors.Misconfigured(
            f"the terms of this federation do not name {address} as a computing party",
            hint="Join as a member, or ask the owner: parties stand in federation.toml, under [governance] seats.",
        )


def _check_app(terms: Terms, app: Path | None, role: Role) -> None:
    """Who runs the app's code must have that of the terms. Raises `Misconfigured`."""
    from hansa.app import app_digest, file_of
    from hansa.records import Role

    if app is None:
        if terms.secagg is not None and role is not Role.MEMBER:
            return
        raise errors.Misconfigured(
            "joining takes the app that the terms name, and no --app says where it lies",
            hint="Add --app FOLDER; get app.py from the owner, and read it before you run it on your data.",
        )
    if app_digest(app, file_of(app, terms.app)) != terms.app:
        raise errors.Misconfigured(
            f"{app / 'app.py'} is not the app of the terms ({short(terms.app)})",
            hint="Get app.py from the owner, and read it before you run it on your data.",
        )


def _agreed(terms: Terms, members: int, *, yes: bool) -> str:
    """The page that explains the terms, after its reader has agreed. Raises `Misconfigured` when not."""
    from hansa.cli.explanation import page

    text = page(terms, max(members + 1, terms.training.min_members))
    if yes:
        return text
    console(stderr=True).print(text, soft_wrap=True)
    hint = "Nothing was sent. Read `hansa explain`, then say --yes."
    if not sys.stdin.isatty():
        raise errors.Misconfigured("nobody is here to agree to the terms", hint=hint)
    if not typer.confirm("Join on these terms?", err=True):
        raise errors.Misconfigured(
            "not joined, since you did not agree to the terms", hint="Nothing was sent."
        )
    return text
