"""`hansa join`: becoming a member of a federation on a shared chain."""

from __future__ import annotations

from typing import Annotated

import typer

from hansa import errors
from hansa.cli.connection import AppFolder, KeyFile, Name, RpcUrl, StoreUrl, opened
from hansa.cli.console import console, short
from hansa.cli.keys import PasswordFile


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
    password_file: PasswordFile = None,
) -> None:
    """Become a member, on the owner's invitation, with the app that the terms name. Again: renew the onion."""
    from hansa.app import app_digest
    from hansa.member import join_call
    from hansa.records import Role

    with opened(name, rpc, store, key, password_file) as it:
        terms = it.federation.terms
        if app_digest(app) != terms.app:
            raise errors.Misconfigured(
                f"{app / 'app.py'} is not the app of the terms ({short(terms.app)})",
                hint="Get app.py from the owner, and read it before you run it on your data.",
            )
        it.ledger.submit(join_call(it.key, it.ledger.view().state, Role.MEMBER, resources))
        id = it.ledger.view().state.ids[it.key.signer.address]
    console().print(f"member {id} of {terms.name}")
