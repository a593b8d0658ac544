"""What members on machines of their own have, in one folder: keys, rows, an app; and the commands they type."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tests import forked
from tests.forked import Forked
from typer.testing import CliRunner

from hansa.cli.connection import reached
from hansa.cli.main import app as commands
from hansa.ledger.evm import Fold
from hansa.protocol.events import Event
from hansa.protocol.state import State
from hansa.signers import keystore

PROGRAM = [sys.executable, "-c", "from hansa.cli.main import main; main()"]
APP = """
import numpy as np
import torch
from torch import nn
import hansa

app = hansa.App(model=lambda: nn.Linear(4, 3))

@app.data
def data(site):
    rows = np.load(site.path)
    return rows["x"], rows["y"]

@app.train
def train(model, dataset, ctx):
    optimizer = torch.optim.SGD(model.parameters(), lr=ctx.params.lr)
    for x, y in ctx.loader(dataset, batch_size=16, shuffle=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

@app.evaluate
def evaluate(model, dataset, ctx):
    x, y = dataset[:]
    return {"loss": nn.functional.cross_entropy(model(x), y).item()}
"""
PASSWORD = "correct horse"


def terms(governance: str, *, rounds: int, training: str = "", selection: str = "", more: str = "") -> str:
    """A `federation.toml`."""
    return f"""
[federation]
name = "ward"
scheme = "plaintext"
governance = "{governance}"

[privacy]
differential_privacy = "off"

[training]
rounds = {rounds}
params = {{ lr = 0.5, epochs = 1 }}
{training}

[selection]
{selection}

{more}
"""


class Place:
    """A folder with all that the members have, and the chain's address. `agreed`: their addresses to the terms."""

    def __init__(self, folder: Path, rpc: str, members: int, agreed: Callable[[list[str]], str]) -> None:
        self.folder, self.rpc = folder, rpc
        (folder / "app").mkdir()
        (folder / "app" / "app.py").write_text(APP)
        (folder / "password").write_text(PASSWORD + "\n")
        (folder / "password").chmod(0o600)
        generator = np.random.default_rng(0)
        self.addresses = []
        for i in range(members):
            public = keystore.create(folder / f"m{i}.key", PASSWORD, work=2**10)
            self.addresses.append("0x" + public.address.hex())
            y = np.arange(60) % 3
            x = (generator.normal(size=(60, 4)) + y[:, None]).astype(np.float32)
            np.savez(folder / f"m{i}.npz", x=x, y=y)
        (folder / "app" / "federation.toml").write_text(agreed(self.addresses))

    def words(self, command: str, *arguments: Any, key: int | None = 0, **options: Any) -> list[str]:
        """A command line without the program; options whose value is True are flags."""
        own = {"key": self.folder / f"m{key}.key", "password-file": self.folder / "password"}
        given = {
            "rpc": self.rpc,
            "store": self.folder / "store",
            **(own if key is not None else {}),
            **options,
        }
        flags = [
            [f"--{name}"] if value is True else [f"--{name}", str(value)] for name, value in given.items()
        ]
        return [command, *map(str, arguments), *(word for flag in flags for word in flag)]

    def run(self, command: str, *arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
        """A command in a process of its own."""
        return forked.run(self.words(command, *arguments, **options))

    def ok(self, command: str, *arguments: Any, **options: Any) -> str:
        """What a command in a process of its own says when all is well."""
        done = self.run(command, *arguments, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def say(self, command: str, *arguments: Any, **options: Any) -> str:
        """The same in this process, which need not start anew; raises the command's error."""
        done = CliRunner().invoke(commands, self.words(command, *arguments, **options))
        if done.exception is not None:
            raise done.exception
        return done.stdout.strip()

    def decide(self, federation: str, *motion: Any, by: list[int]) -> str:
        """A motion, proposed by the first and signed by the others; what the last one hears."""
        first, *others = by
        said = self.say("propose", federation, *motion, key=first, yes=True)
        for i in others:
            said = self.say("vote", federation, key=i, yes=True)
        return said

    def look(self, federation: str) -> tuple[State, list[Event]]:
        """How the federation stands on the chain, and all its events."""
        seen: list[Event] = []
        with reached(federation, [self.rpc], str(self.folder / "store")) as it:
            fold = Fold(it.rpc, it.federation.deployment)
            fold.observe(lambda event, _: seen.append(event))
            return fold.view(lambda: 0).state, seen

    def until(
        self, federation: str, holds: Callable[[State, list[Event]], bool], nodes: Iterable[Forked]
    ) -> None:
        """Look until something holds. A node that ends badly meanwhile fails the test."""
        while not holds(*self.look(federation)):
            for node in nodes:
                assert node.poll() in (None, 0), node.communicate()[0]
            time.sleep(0.2)

    def node(self, federation: str, id: int, **options: Any) -> Forked:
        """A node in a process of its own."""
        given = {"app": self.folder / "app", "home": self.folder / f"home{id}", "look": 0.1, **options}
        return Forked(self.words("node", federation, key=id, **given))

    def trains(self, federation: str, id: int) -> Forked:
        """The node of a member, with its rows."""
        return self.node(federation, id, data=self.folder / f"m{id}.npz")

    def holder(self, command: str, federation: str, id: int) -> Forked:
        """`hansa kgc` or `hansa server` in a process of its own."""
        return Forked(self.words(command, federation, key=id, home=self.folder / f"home{id}", look=0.1))
