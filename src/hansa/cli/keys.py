"""`hansa keys`: make a member's key file, and see what is public of one.

A password comes from a terminal or a file: others can read a command line and an environment.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa import errors
from hansa.cli.console import console, grid, print_json

if TYPE_CHECKING:
    from hansa.signers.keystore import MemberKey, PublicKeys

PasswordFile = Annotated[
    Path | None,
    typer.Option("--password-file", metavar="FILE", help="File whose only line is the key's password."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

app = typer.Typer(no_args_is_help=True, help="Make a member's key file, and see what is public of one.")


@app.command("new", short_help="Draw a new key and write it to a file, under a password.")
def new(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the key goes; must not exist.")],
    password_file: PasswordFile = None,
    as_json: Json = False,
) -> None:
    """Draw a new key and write it to a file, an Ethereum keystore of version 3 that only you can read.

    Asks for a password twice. The file is all that makes a member: it signs, and opens what others seal to it.
    """
    from hansa.signers import keystore

    if out.exists():  # creation looks again; this saves asking for a password
        raise errors.Misconfigured(
            f"{out} exists, and a key is never overwritten", hint="Name another file, or move that one away."
        )
    public = keystore.create(out, read_password(password_file, "Password of the new key", twice=True))
    _show(out, public, as_json)
    if not as_json:
        console().print(
            "\nWhoever has this file and its password is this member. Keep a copy of both: nobody can restore "
            "them.\nThe owner of a federation invites you by the address.",
            soft_wrap=True,
        )


@app.command("show", short_help="Print address and public key of a key file.")
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Key file.")],
    password_file: PasswordFile = None,
    as_json: Json = False,
) -> None:
    """Print the address and the public key of a key file.

    Asks for its password only where it does not say them itself, or if --password-file is given: then what
    it says is checked.
    """
    from hansa.signers import keystore

    public = keystore.read_public(file) if password_file is None else None
    _show(file, public or open_key(file, password_file).public, as_json)


def open_key(file: Path, password_file: Path | None) -> MemberKey:
    """A member's key, with its password from a file or the terminal. Raises `Misconfigured`."""
    from hansa.signers import keystore

    keystore.read_public(file)  # a bad file before a question
    return keystore.load(file, read_password(password_file, f"Password of {file}"))


def read_password(file: Path | None, question: str, *, twice: bool = False) -> str:
    """A password from its file, or asked for without showing it. Raises `Misconfigured`."""
    from hansa.signers import keystore

    if file is not None:
        return keystore.read_password(file)
    if not sys.stdin.isatty():
        raise errors.Misconfigured(
            "a password is needed, and there is no terminal to ask for it",
            hint="Write it into a file of mode 600 and add --password-file FILE.",
        )
    try:
        answer: str = typer.prompt(question, hide_input=True, confirmation_prompt=twice, err=True)
    except typer.Abort:
        raise KeyboardInterrupt from None
    return answer


def _show(file: Path, public: PublicKeys, json: bool) -> None:
    address, x25519 = "0x" + public.address.hex(), "0x" + public.sealing.hex()
    if json:
        print_json({"file": str(file), "address": address, "x25519": x25519})
        return
    table = grid()
    table.add_row("file", str(file))
    table.add_row("address", address)
    table.add_row("X25519 key", x25519)
    console().print(table)
