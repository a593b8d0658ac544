"""`hansa leave`, `away` and `back`: what a member says about itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hansa import errors
from hansa.cli.connection import KeyFile, Name, RpcUrl, StoreUrl, opened
from hansa.cli.console import confirm, console, print_json
from hansa.cli.keys import Json, PasswordFile
from hansa.cli.motions import Yes
from hansa.records import Role, Standing


def leave(
    name: Name,
    rpc: RpcUrl,
    store: StoreUrl,
    key: KeyFile,
    yes: Yes = False,
    password_file: PasswordFile = None,
    as_json: Json = False,
) -> None:
    """Leave for good, from the next round on. What you were sent you keep; a new invitation brings you back."""
    _say(
        name,
        rpc,
        store,
        key,
        password_file,
        Standing.LEFT,
        as_json,
        None if yes else "Leave this federation?",
    )


def away(
    name: Name,
    rpc: RpcUrl,
    store: StoreUrl,
    key: KeyFile,
    password_file: PasswordFile = None,
    as_json: Json = False,
) -> None:
    """Sit out from the next round on, without loss of reputation. Rounds and votes do not wait for you."""
    _say(name, rpc, store, key, password_file, Standing.AWAY, as_json)


def back(
    name: Name,
    rpc: RpcUrl,
    store: StoreUrl,
    key: KeyFile,
    password_file: PasswordFile = None,
    as_json: Json = False,
) -> None:
    """Take part again from the next round on, after `hansa away`, or when you were silent for too long."""
    _say(name, rpc, store, key, password_file, Standing.BACK, as_json)


def _say(
    name: str,
    rpc: Sequence[str],
    store: str,
    key: Path,
    password_file: Path | None,
    standing: Standing,
    as_json: bool,
    ask: str | None = None,
) -> None:
    from hansa.member import status_call

    with opened(name, rpc, store, key, password_file) as it:
        state = it.ledger.view().state
        id = state.ids.get(it.key.signer.address)
        if id is None or state.members[id].role is not Role.MEMBER:
            raise errors.Misconfigured(
                f"0x{it.key.signer.address.hex()} is no member of this federation", hint="Check --key."
            )
        if ask:
            confirm(ask, False)
        it.ledger.submit(status_call(it.key, state, id, standing))
    if as_json:
        print_json({"member": id, "standing": standing.name.lower(), "from_round": state.round + 1})
        return
    after = f"from round {state.round + 1} on" if state.round else "before the first round"
    console().print(f"member {id} {_SAID[standing.name]} {after}")


_SAID = {"LEFT": "has left", "AWAY": "is away", "BACK": "is back"}
