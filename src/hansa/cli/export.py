"""`hansa export`: the final model as a safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hansa import errors
from hansa.cli.connection import AnyName, AnyRpcUrl, AnyStoreUrl, ReaderKey, own_key
from hansa.cli.console import console
from hansa.cli.keys import PasswordFile


def export(
    name: AnyName,
    file: Annotated[Path, typer.Argument(metavar="FILE.safetensors", help="Where the model goes.")],
    rpc: AnyRpcUrl = None,
    store: AnyStoreUrl = None,
    key: ReaderKey = None,
    password_file: PasswordFile = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write the current model, after holding it against the digest on the chain.

    That of a federation on a shared chain lies sealed in the store: it takes the key of one of its readers.
    """
    from hansa.cli.reading import SHARED, source
    from hansa.protocol.model import parameters, to_safetensors
    from hansa.records import Phase
    from hansa.runfolder import write_atomically

    if file.exists() and not force:
        raise errors.Misconfigured(f"{file} exists", hint="Name another file, or add --force.")
    if not file.absolute().parent.is_dir():
        raise errors.Misconfigured(f"there is no folder {file.parent}", hint="Make it first.")
    # A run folder has its keys in it, whatever member.toml names.
    own = None if key is None or not name.startswith(SHARED) else own_key(key, password_file)
    with source(name, rpc, store, own) as found:
        reading = found.read()
        model = found.model(reading)
    write_atomically(file, to_safetensors(model))
    state = reading.view.state
    more = "" if state.phase in (Phase.STOPPED, Phase.PAUSED) else "; the federation is still at work"
    console().print(
        f"{file}: {parameters(model.layout):,} parameters after {state.version} rounds{more}\n"
        f"checked against the chain: sha256 {state.model.hex()}",
        soft_wrap=True,
    )
