"""`hansa join`: becoming a member of a federation on a shared chain."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from hansa import errors
from hansa.cli.connection import AppFolder, KeyFile, Name, RpcUrl, StoreUrl, opened
from hansa.cli.console import console, short
from hansa.cli.keys import PasswordFile

if TYPE_CHECKING:
    from hansa.records import Terms


def join(
    name: Name,
    rpc: RpcUrl,
    store: StoreUrl,
    key: KeyFile,
    app: AppFolder,
    resources: Annotated[
        int,
        typer.Option("--resources", min=0, max=65_535, help="Declared resources; some draws weigh by them."),
    ] = 10,
    yes: Annotated[
        bool, typer.Option("--yes", help="Agree to the terms without being asked; read them first.")
    ] = False,
    password_file: PasswordFile = None,
) -> None:
    """Become a member, on the owner's invitation, with the app that the terms name. Again: renew the onion.

    Shows who sees what and asks. What you agreed to goes into the store, its digest under your signature onto
    the chain.
    """
    from hansa.app import app_digest
    from hansa.member import consent_call, consented, join_call
    from hansa.records import Role

    with opened(name, rpc, store, key, password_file) as it:
        terms = it.federation.terms
        if app_digest(app) != terms.app:
            raise errors.Misconfigured(
                f"{app / 'app.py'} is not the app of the terms ({short(terms.app)})",
                hint="Get app.py from the owner, and read it before you run it on your data.",
            )
        me, state = it.key.signer.address, it.ledger.view().state
        if me not in state.invited and me not in state.ids:
            raise errors.NotInvited
        text = _agreed(terms, len(state.members), yes=yes)
        it.ledger.submit(join_call(it.key, state, Role.MEMBER, resources))
        while me not in (state := it.ledger.view().state).ids:
            time.sleep(1)  # the block is there, and waits for its confirmations
        id = state.ids[me]
        if not consented(state, id):
            it.ledger.submit(consent_call(it.key, state, id, it.store.put(text.encode())))
    console().print(f"member {id} of {terms.name}")


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
