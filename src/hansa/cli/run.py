"""`hansa run`: a whole federation on this machine."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from hansa import errors
from hansa.cli.console import command, console, print_json
from hansa.cli.terms import AsPublished, PresetName, chosen_preset

if TYPE_CHECKING:
    from hansa.config import FederationFile
    from hansa.summary import Summary

RUNS = Path("runs")
PAUSED, INTERRUPTED = 4, 130


def run(
    app: Annotated[
        Path, typer.Argument(metavar="APP", help="Folder with federation.toml and app.py, or a Flower app.")
    ],
    scheme: Annotated[
        str | None, typer.Option(help="How updates are protected: plaintext, secagg or tee.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Final rounds, in place of [training] rounds.")] = None,
    members: Annotated[int | None, typer.Option(help="Simulated members.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="SECTION.KEY=VALUE", help="Change one key of federation.toml; repeatable."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; runs/NAME-1, runs/NAME-2, ... by default.")
    ] = None,
    preset: PresetName = None,
    as_published: AsPublished = False,
    seed: Annotated[int | None, typer.Option(help="Seed of the data's shares and of all keys.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that train; 0 for none.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show gas by call, too.")] = False,
    anchors: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save what `hansa audit --trust` needs; keep it elsewhere."),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TRACKER", help="Show each round in tensorboard[:DIR] or mlflow[:URI], too; repeatable."
        ),
    ] = None,
) -> None:
    """Train with simulated members, on an EVM inside this process that runs the real contract."""
    from hansa.config import load_federation

    started = time.monotonic()
    system = chosen_preset(preset, as_published=as_published)
    flags = {
        "federation.scheme": scheme or _asked(app, settings or []),
        "training.rounds": rounds,
        "simulation.members": members,
        "simulation.seed": seed,
        "simulation.workers": workers,
    }
    changed = [*(settings or ()), *(f"{key}={value}" for key, value in flags.items() if value is not None)]
    try:
        file = load_federation(app, changed, system)
    except errors.Misconfigured as e:
        if members is not None and "malicious" in str(e):
            e.hint = f"Say who is malicious among {members}: --set 'simulation.malicious={{}}' for none."
        raise
    folder = out or _folder(file.draft.name, resume=resume)
    with holding(folder, resume=resume):
        try:
            summary = _play(
                file,
                folder,
                started,
                resume=resume,
                as_json=as_json,
                verbose=verbose,
                anchors=anchors,
                track=track or (),
            )
        except KeyboardInterrupt:
            again = [word for change in changed for word in ("--set", change)]
            if preset is not None:
                again += ["--preset", preset, *(["--as-published"] if as_published else [])]
            again += [word for tracker in track or () for word in ("--track", tracker)]
            line = command("hansa", "run", app, *again, "--out", folder, "--resume")
            console(stderr=True).print(f"\nInterrupted; nothing is lost. Go on with: {line}", soft_wrap=True)
            raise typer.Exit(INTERRUPTED) from None
    if not summary.finished:
        raise typer.Exit(PAUSED)


def _asked(app: Path, settings: list[str]) -> str | None:
    """The scheme that somebody at a terminal chooses for a Flower app without terms."""
    from hansa.project import is_project
    from hansa.protocol.terms import SCHEMES

    told = any(text.partition("=")[0].strip() == "federation.scheme" for text in settings)
    if told or not sys.stdin.isatty() or not is_project(app) or (app / "federation.toml").exists():
        return None
    offered = ", ".join(scheme for scheme in SCHEMES if scheme != "mpc")
    return str(typer.prompt(f"How are members' updates protected ({offered})"))


def _play(
    file: FederationFile,
    folder: Path,
    started: float,
    *,
    resume: bool,
    as_json: bool,
    verbose: bool,
    anchors: Path | None,
    track: Sequence[str],
) -> Summary:
    from hansa import simulation
    from hansa.audit.anchors import write_anchors
    from hansa.cli import report
    from hansa.cli.progress import Progress
    from hansa.cli.tracking import makers, tracking
    from hansa.report.stopwatch import Stopwatch
    from hansa.report.writing import leave_page
    from hansa.summary import finish, to_json

    out = console(stderr=as_json)
    wanted = makers(track)
    out.print(report.first_line(file), soft_wrap=True)
    for danger in file.preset.unsafe if file.preset else ():
        out.print(Text(f"  unsafe: {danger}", style="yellow"))
    with out.status("loading the app and its data") if out.is_terminal else nullcontext():
        made = simulation.start(file, folder, resume=resume)
    try:
        with tracking(made, wanted, out) as told, Progress(out, made, started) as progress:
            made.play(Stopwatch(folder, progress), progress.tell, told)
            progress.say("comparing: members alone, plain FedAvg, pooled data")
            summary = finish(made, seconds=time.monotonic() - started)
    finally:
        made.close()
    if anchors is not None:
        write_anchors(anchors, summary.anchors)
    lacking = leave_page(folder)
    if as_json:
        print_json(to_json(summary))
    else:
        report.show_summary(out, summary, verbose=verbose, anchors=anchors)
    if lacking:
        again = command("hansa", "report", folder)
        out.print(
            f"report.html could not be written: {lacking}. Later: {again}", style="yellow", soft_wrap=True
        )
    return summary


def _folder(name: str, *, resume: bool) -> Path:
    """The next free `runs/NAME-n`; the last one taken to resume."""
    taken = [p.name.removeprefix(f"{name}-") for p in RUNS.glob(f"{name}-*")]
    last = max((int(n) for n in taken if n.isdecimal()), default=0)
    if resume and not last:
        raise errors.Misconfigured(
            f"there is no run of {name} in {RUNS} to go on with", hint="Name it by --out."
        )
    return RUNS / f"{name}-{last if resume else last + 1}"


@contextmanager
def holding(folder: Path, *, resume: bool) -> Iterator[None]:
    """Keep other processes out of a run folder, which is made if missing and goes again if it stays empty.

    Raises `Misconfigured` when the folder cannot be used, holds something else, or is in use.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strange = not resume and not (folder / "run.cbor").exists() and any(folder.iterdir())
        handle = os.open(folder, os.O_RDONLY)
    except OSError as e:
        raise errors.Misconfigured(f"cannot use {folder}: {e.strerror}", hint="Name another --out.") from e
    try:
        if strange:
            raise errors.Misconfigured(
                f"{folder} is not empty and holds no run",
                hint="Name another folder by --out, or add --resume.",
            )
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise errors.Misconfigured(
                f"another process is at work in {folder}", hint=f"See: {command('hansa', 'status', folder)}"
            ) from None
        yield
    finally:
        os.close(handle)
        if not any(folder.iterdir()):
            folder.rmdir()
