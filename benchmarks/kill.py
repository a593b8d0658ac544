"""`make chaos`: kill a run with SIGKILL at an effect drawn from each seed, resume it, compare the model.

Every seed kills one, two or three times before the run may end. Prints a line a seed with the effects at
which it was killed, so that `--first SEED --seeds 1` repeats it; exits 1 when a model differs, or an audit fails.
Usage: python benchmarks/kill.py [--seeds 20] [--first 0] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
APP = ROOT / "examples" / "digits"
DRIVER = ROOT / "tests" / "e2e" / "driver.py"


def hansa(folder: Path, target: int, *arguments: object) -> tuple[int, str]:
    """Run `hansa` with SIGKILL at effect `target` (0: never); its exit status and output."""
    words = [sys.executable, str(DRIVER), str(target), str(int(signal.SIGKILL)), "effects"]
    done = subprocess.run([*words, *map(str, arguments)], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout or done.stderr


def run(folder: Path, rounds: int, kills: list[int]) -> dict[str, Any]:
    """A whole run, killed at each of `kills` in turn and resumed; what it prints at its end."""
    resume: tuple[str, ...] = ()
    for target in (*kills, 0):
        status, output = hansa(
            folder, target, "run", APP, "--rounds", rounds, "--out", "run", "--json", *resume
        )
        if status == 0:
            return dict(json.loads(output))
        if status != -signal.SIGKILL:
            raise SystemExit(f"exit status {status} after a kill:\n{output}")
        if (folder / "run" / "run.cbor").exists():
            resume = ("--resume",)
    raise SystemExit("the undisturbed last attempt did not end")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted = run(folder, given.rounds, [])["model_digest"]
        effects = int((folder / "effects").read_text())
    print(f"undisturbed: {effects} effects, model {wanted[:16]}")
    for seed in range(given.first, given.first + given.seeds):
        draw = random.Random(seed)
        kills = [draw.randint(1, effects) for _ in range(draw.randint(1, 3))]
        with tempfile.TemporaryDirectory() as name:
            got = run(Path(name), given.rounds, kills)["model_digest"]
            audited, report = hansa(Path(name), 0, "audit", "run")
        good = got == wanted and audited == 0
        bad += not good
        verdict = "same model, audit passes" if good else f"MODEL {got[:16]}, audit exit {audited}\n{report}"
        print(f"seed {seed:>4}: killed at {', '.join(map(str, kills)):<18} {verdict}", flush=True)
    print(f"{given.seeds} seeds, {bad} bad")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
