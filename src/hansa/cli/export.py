"""`hansa export`: the current model as a file, of safetensors or of PyTorch."""

from __future__ import annotations

import io
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa import errors
from hansa.cli.connection import AnyName, AnyRpcUrl, AnyStoreUrl, ReaderKey, own_key
from hansa.cli.console import console, print_json
from hansa.cli.keys import Json, PasswordFile

if TYPE_CHECKING:
    from hansa.records import Model


class Format(StrEnum):
    """What the file is written as."""

    SAFETENSORS = "safetensors"
    STATE_DICT = "state-dict"


def export(
    name: AnyName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the model goes.")],
    rpc: AnyRpcUrl = None,
    store: AnyStoreUrl = None,
    key: ReaderKey = None,
    password_file: PasswordFile = None,
    form: Annotated[
        Format,
        typer.Option("--format", help="state-dict: for load_state_dict of PyTorch."),
    ] = Format.SAFETENSORS,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: Json = False,
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
    write_atomically(file, to_safetensors(model) if form is Format.SAFETENSORS else _state_dict(model))
    state = reading.view.state
    if as_json:
        print_json(
            {
                "file": str(file),
                "format": form,
                "parameters": parameters(model.layout),
                "version": state.version,
                "model": state.model.hex(),
                "finished": state.phase is Phase.STOPPED,
            }
        )
        return
    more = "" if state.phase in (Phase.STOPPED, Phase.PAUSED) else "; the federation is still at work"
    console().print(
        f"{file}: {parameters(model.layout):,} parameters after {state.version} rounds{more}\n"
        f"checked against the chain: sha256 {state.model.hex()}",
        soft_wrap=True,
    )


def _state_dict(model: Model) -> bytes:
    """Floating parameters and buffers by name, as `torch.save` writes tensors. Raises `Misconfigured`."""
    from hansa.protocol.model import to_arrays

    try:
        import torch
    except ModuleNotFoundError as e:
        raise errors.Misconfigured(
            "a state_dict is written by PyTorch, which is not installed",
            hint="pip install 'hansa[torch]', or leave --format out: safetensors need nothing.",
        ) from e
    written = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in to_arrays(model).items()}, written)
    return written.getvalue()
