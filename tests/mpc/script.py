"""A small training script and its federation, as files of a folder; and `hansa` as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import numpy as np
from hansa.mpc.network import Dense, Logistic, Network, ReLU, Sgd
from hansa.mpc.training import Training

training = Training(
    Network([Dense(4), ReLU(), Dense(1)], inputs=(3,)),
    loss=Logistic(), optimizer=Sgd(0.5, 0.9), epochs=EPOCHS, batch=16, seed=0,
)


@training.rows
def rows(site):
    generator = np.random.default_rng(7)
    x = generator.standard_normal((160, 3)).astype(np.float32)
    return [f"row {i}" for i in range(160)], x, (x[:, 0] - x[:, 1] > 0).astype(int)
"""

COLUMNS = """
import numpy as np
from hansa.mpc import Dense, Logistic, Network, Sgd, Training

training = Training(
    Network([Dense(1)], inputs=(4,)), loss=Logistic(), optimizer=Sgd(0.5, 0.9), epochs=4, batch=64, seed=0,
    protocol="CHEETAH", columns=(3, 1, 0), labels_by=2,
)


@training.rows
def rows(site):
    x = np.random.default_rng(7).standard_normal((300, 4)).astype(np.float32)
    own = [(x[:, :3], None), (x[:, 3:], None), (None, (x[:, 0] - x[:, 3] > 0).astype(int))]
    return [f"row {i}" for i in range(300)], *own[site.index]
"""
"""Two parties; two owners of features and one of labels."""

PUBLISHED = (
    SCRIPT.replace(
        "import Dense, Logistic, Network, ReLU, Sgd", "import Dense, Logistic, Network, ReLU, Reveal, Sgd"
    )
    .replace("[Dense(4), ReLU(), Dense(1)]", "[Dense(4, secret=True), ReLU(), Reveal(to=1), Dense(1, at=1)]")
    .replace("seed=0,", "seed=0, labels=Reveal(to=1), accept_leakage=True,")
)
"""The last layer in the clear at party 1, with all labels."""

FEDERATION = """
[federation]
name = "small"
app = "training.py"
scheme = "mpc"
governance = "server"

[governance]
seats = {seats}
invitation = "vote"

[training]
rounds = 1
min_members = 3
deadline = "10m"

[selection]
rule = "none"

[privacy]
differential_privacy = "off"

[simulation]
members = 3
"""
PROGRAM = [sys.executable, "-c", "from hansa.cli.main import main; main()"]


def folder(
    at: Path, epochs: int = 2, seats: tuple[str, ...] = ("p0", "p1", "p2"), script: str = SCRIPT
) -> Path:
    """The app's folder."""
    at.mkdir(parents=True, exist_ok=True)
    (at / "training.py").write_text(script.replace("EPOCHS", str(epochs)))
    (at / "federation.toml").write_text(FEDERATION.format(seats=list(seats)))
    return at


def hansa(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    done = subprocess.run(
        [*PROGRAM, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done
