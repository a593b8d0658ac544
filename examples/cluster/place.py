"""A folder with all that ten members have, each in a place of its own, and the commands that they give."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
from examples.cluster import processes

from hansa import errors
from hansa.app import Site, TrainerOptions
from hansa.config import load_federation
from hansa.signers import keystore
from hansa.trainers.engine import Engine
from hansa.trainers.torch import join, prepare

HERE = Path(__file__).parent
DIGITS = HERE.parent / "digits"
PASSWORD = "digits"
WORK = 2**12
"""Cost of opening a key, a small part of what `hansa keys new` asks: these guard nothing but an example."""
LOOK = 0.25
"""Seconds between two looks of a node at the chain."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything lies. Member i's own things are in the folder `m<i>`; only the store is shared."""

    folder: Path
    addresses: tuple[str, ...]
    engine: Engine
    """The app with all rows, those included that no member has: only for whoever measures from outside."""

    @property
    def app(self) -> Path:
        """What the members agree on: `federation.toml` and `app.py`."""
        return self.folder / "app"

    @property
    def store(self) -> Path:
        """The object store."""
        return self.folder / "store"

    def own(self, member: int) -> Path:
        """A member's folder: key, rows, and the home of its node."""
        return self.folder / f"m{member}"

    def words(self, name: str, *arguments: str, rpc: str, member: int, **options: object) -> list[str]:
        """The command `hansa NAME ARGUMENTS...` as this member gives it."""
        given = {"rpc": rpc, "store": self.store, "key": self.own(member) / "member.key",
                 "password-file": self.own(member) / "password", **options}  # fmt: skip
        return [
            name,
            *arguments,
            *(str(word) for key, value in given.items() for word in (f"--{key}", value)),
        ]

    def node(self, federation: str, member: int, rpc: str, look: float = LOOK) -> ForkServerProcess:
        """Start a member's node, which looks at the chain every `look` seconds."""
        own = self.own(member)
        words = self.words("node", federation, rpc=rpc, member=member, app=self.app, data=own / "rows.csv",
                           home=own / "home", look=look)  # fmt: skip
        return processes.command(words, own / "node.log")

    def audit(self, federation: str, member: int, rpc: str) -> ForkServerProcess:
        """Start the audit that a member makes; its report goes to `audit.log`."""
        words = self.words("audit", federation, rpc=rpc, member=member, app=self.app)
        return processes.command(words, self.folder / "audit.log")

    def log(self, member: int) -> str:
        """What a member's node has said so far."""
        file = self.own(member) / "node.log"
        return file.read_text(errors="replace") if file.exists() else ""


def make(folder: Path, members: int, changes: dict[str, str]) -> Place:
    """Lay out `folder`: the app, a key and a share of the digits for each member, rows that none of them has.

    `changes` are keys of `federation.toml` with their new values. Raises `Misconfigured`.
    """
    try:
        (folder / "app").mkdir(parents=True)
    except OSError as e:
        raise errors.Misconfigured(f"cannot make {folder}: {e.strerror}", hint="Name a new --out.") from e
    terms = (HERE / "federation.toml").read_text(encoding="utf-8")
    for key, value in {**changes, "members": str(members)}.items():
        terms, found = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", terms)
        assert found == 1, key
    (folder / "app" / "federation.toml").write_text(terms, encoding="utf-8")
    shutil.copy(DIGITS / "app.py", folder / "app")
    simulated = load_federation(folder / "app").simulation
    sites = tuple(Site(DIGITS, f"m{i}", i, simulated.seed) for i in range(members))
    engine = prepare(TrainerOptions(DIGITS, sites, simulated.partition, simulated.holdout))
    addresses = []
    for i in range(members):
        own = folder / f"m{i}"
        own.mkdir()
        (own / "password").touch(mode=0o600)
        (own / "password").write_text(PASSWORD + "\n", encoding="utf-8")
        addresses.append("0x" + keystore.create(own / "member.key", PASSWORD, work=WORK).address.hex())
        images, labels = join([engine.datasets[f"m{i}/{part}"] for part in ("train", "validation")])[:]
        rows = np.column_stack([images.numpy() * 16, labels.numpy()])
        np.savetxt(own / "rows.csv", rows, fmt="%d", delimiter=",")
    return Place(folder, tuple(addresses), engine)


def found(place: Place, rpc: str) -> str:
    """Found the federation, let all members join, and begin: deploy, invite, join, start. Gives its address.

    Member m0 is the owner too. Raises `Unavailable` when a command fails.
    """
    _done(place, [place.words("deploy", str(place.app), rpc=rpc, member=0)], "deploy")
    name = (place.folder / "deploy.log").read_text(encoding="utf-8").split()[-1]
    _done(place, [place.words("invite", name, *place.addresses, rpc=rpc, member=0)], "invite")
    joins = [
        place.words("join", name, "--yes", rpc=rpc, member=i, app=place.app)
        for i in range(len(place.addresses))
    ]
    _done(place, joins, "join")
    _done(place, [place.words("start", name, rpc=rpc, member=0)], "start")
    return name


def _done(place: Place, commands: Sequence[Sequence[str]], name: str) -> None:
    """Run commands side by side to their end."""
    log = place.folder / f"{name}.log"
    running = [processes.command(words, log) for words in commands]
    for process in running:
        process.join()
    if any(process.exitcode for process in running):
        raise errors.Unavailable(f"hansa {name} failed", hint=f"See {log}.")
