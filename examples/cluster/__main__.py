"""One command: a chain and ten members on this machine, each in a process of its own, train digits together.

Starts anvil, writes keys and rows for ten members into a folder, and has them give the commands that they
would give on machines of their own: `hansa deploy`, `invite`, `join`, `start`, `node`. Shows the federation as
it goes, measures each model on rows that no member has, and ends all that it started.
Usage: python examples/cluster [--members 10] [--rounds 10] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).parents[2]))

from examples.cluster import place as places
from examples.cluster import processes
from examples.cluster.screen import Screen
from examples.cluster.watch import Watch, watch

from hansa import errors
from hansa.cli.console import console, show_error
from hansa.cli.main import exit_code
from hansa.ports import View
from hansa.protocol.model import to_safetensors
from hansa.records import Phase


def main() -> int:
    """Run it; the exit code is 0 when the federation has done its rounds."""
    parser = argparse.ArgumentParser(
        prog="python examples/cluster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--members", type=int, default=10, choices=range(4, 33), metavar="4..32")
    parser.add_argument("--rounds", type=int, default=10, help="final rounds, then the job is done")
    parser.add_argument("--out", type=Path, help="new folder for all files; runs/cluster-... by default")
    given = parser.parse_args()
    folder = given.out or Path("runs") / time.strftime("cluster-%Y%m%d-%H%M%S")

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    try:
        return play(folder.absolute(), given.members, given.rounds)
    except errors.HansaError as e:
        show_error(str(e), e.hint)
        return exit_code(e)
    except KeyboardInterrupt:
        show_error("interrupted", f"All processes have ended; their logs are in {folder}.")
        return 130


def play(folder: Path, members: int, rounds: int) -> int:
    """Found the federation in `folder`, run it to its end, and say what came of it."""
    out = console()
    place = places.make(folder, members, {"rounds": str(rounds)})
    chain = processes.Anvil(folder / "anvil.log")
    nodes: list[ForkServerProcess] = []
    try:
        with out.status(f"{members} members found a federation"):
            chain.start()
            name = places.found(place, chain.url)
        out.print(f"{name} on {chain.url}, {members} members; logs in {folder}", soft_wrap=True)
        nodes += (place.node(name, i, chain.url) for i in range(members))
        seen = watch(place, name, chain.url)
        with Screen(out, seen, nodes) as screen:
            view = follow(seen, nodes, screen)
        processes.finish(nodes)
        with out.status("m0 audits it"):
            audit = place.audit(name, 0, chain.url)
            audit.join()
        return summarise(seen, view, audit.exitcode == 0)
    finally:
        processes.stop(nodes)
        chain.kill()


def follow(seen: Watch, nodes: list[ForkServerProcess], screen: Screen) -> View:
    """Look until the federation stops or pauses. Raises `Unavailable` when a node has failed."""
    while True:
        view = seen.look()
        screen.show(view)
        if view.state.phase in (Phase.STOPPED, Phase.PAUSED):
            return view
        for i, node in enumerate(nodes):
            if node.exitcode:
                raise errors.Unavailable(
                    f"the node of m{i} ended (exit code {node.exitcode})",
                    hint=f"See {seen.place.own(i) / 'node.log'}.",
                )
        time.sleep(0.2)


def summarise(seen: Watch, view: View, audited: bool) -> int:
    """Write the model and print what became of the job."""
    out, state, place = console(), view.state, seen.place
    ends = [place.log(i).splitlines()[-1] for i in range(len(place.addresses))]
    agreed = all(state.model.hex() in line for line in ends)
    model = seen.model(state)
    if model is not None:
        (place.folder / "model.safetensors").write_bytes(to_safetensors(model))
    lines = {
        "state": f"{state.phase.name}, {state.version} of {seen.terms.training.rounds} rounds are final",
        "accuracy": f"{100 * seen.accuracy.get(state.version, 0):.1f} % on rows that no member has",
        "model": f"sha256 {state.model.hex()}, {'the same in every process' if agreed else 'NOT THE SAME'}",
        "audit": f"{'every check holds' if audited else 'NOT PASSED'}, see {place.folder / 'audit.log'}",
        "file": str(place.folder / "model.safetensors"),
    }
    out.print()
    for label, text in lines.items():
        out.print(f"{label:<9} {text}", soft_wrap=True)
    return 0 if agreed and audited and state.version == seen.terms.training.rounds else 1


if __name__ == "__main__":
    sys.exit(main())
