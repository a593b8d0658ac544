"""`hansa export`: the final model as a safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hansa import errors
from hansa.cli.console import console


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    file: Annotated[Path, typer.Argument(metavar="FILE.safetensors", help="Where the model goes.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write the current model, after holding it against the digest on the chain."""
    from hansa.cli.reading import final_model, read_run
    from hansa.protocol.model import parameters, to_safetensors
    from hansa.records import Phase
    from hansa.runfolder import write_atomically

    if file.exists() and not force:
        raise errors.Misconfigured(f"{file} exists", hint="Name another file, or add --force.")
    if not file.absolute().parent.is_dir():
        raise errors.Misconfigured(f"there is no folder {file.parent}", hint="Make it first.")
    found = read_run(run)
    model = final_model(found)
    write_atomically(file, to_safetensors(model))
    state = found.view.state
    more = "" if state.phase in (Phase.STOPPED, Phase.PAUSED) else "; the federation is still at work"
    console().print(
        f"{file}: {parameters(model.layout):,} parameters after {state.version} rounds{more}\n"
        f"checked against the chain: sha256 {state.model.hex()}",
        soft_wrap=True,
    )
