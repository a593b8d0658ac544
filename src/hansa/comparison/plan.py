"""What a sweep consists of: cells, each one system under one attack with one seed, and the same for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hansa import attacks, errors
from hansa.app import member_name
from hansa.config import FILE, FederationFile, load_federation
from hansa.project import app_digest, is_project
from hansa.protocol.terms import SCHEMES
from hansa.published import presets

FEDAVG: Final = "fedavg"
POOLED: Final = "pooled"
ALONE: Final = "alone"
REFERENCES: Final = (FEDAVG, POOLED, ALONE)
"""Not systems but what they stand beside: plain FedAvg, one model on all data, each honest member alone."""
ROUNDS: Final = "training.rounds"
NONE: Final = "none"
"""No attack."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run. `system`: a preset's name or one of `REFERENCES`; `attack`: as `attacks.parse` reads it, or none."""

    system: str
    attack: str
    seed: int

    @property
    def file(self) -> str:
        """Name of the file that holds its result."""
        return f"{self.system}+{self.attack.replace(':', '=')}+{self.seed}.json"


@dataclass(frozen=True, slots=True)
class Sweep:
    """All cells have the same app, settings, hostile members and rounds.

    `skipped`: pairs of a system and why it cannot run on this app.
    """

    app: Path
    settings: tuple[str, ...]
    systems: tuple[str, ...]
    attacks: tuple[str, ...]
    seeds: int
    hostile: tuple[str, ...]
    rounds: int
    skipped: tuple[tuple[str, str], ...] = ()

    def identity(self) -> dict[str, object]:
        """What every cell in one folder has in common. Systems, attacks and seeds may be added later."""
        digest = hashlib.sha256(app_digest(self.app) + (self.app / FILE).read_bytes()).hexdigest()
        return {"format": 1, "app": digest, "settings": list(self.settings), "hostile": list(self.hostile)}


def sweep(
    app: Path, systems: Sequence[str], specs: Sequence[str], seeds: int, settings: Sequence[str]
) -> Sweep:
    """The sweep of these presets and attacks; "none" and the references come by themselves.

    A system whose terms do not go with the app or the settings is skipped, and the reason kept. Raises `Misconfigured`
    for names that are none, for an app that cannot be read, and when no system is left.
    """
    if is_project(app):
        raise errors.Misconfigured(
            f"{app} is a Flower app, of which no accuracy on rows that no member holds can be had",
            hint="Compare systems on an app of hansa.App, such as `hansa new` writes.",
        )
    own = load_federation(app, _for(settings, None))
    if own.script:
        raise errors.Misconfigured(
            f"{app} is a training script, which only system D can train",
            hint="Compare systems on an app of hansa.App, such as `hansa new` writes.",
        )
    for spec in specs:
        if spec != NONE:
            attacks.parse(spec)
    runnable, skipped = [], []
    for name in dict.fromkeys(systems):
        presets.preset(name)
        try:
            federation(app, name, settings)
            runnable.append(name)
        except errors.Misconfigured as e:
            skipped.append((name, str(e)))
    if not runnable:
        raise errors.Misconfigured(
            "none of these systems can run on this app: "
            + "; ".join(f"{name}: {why}" for name, why in skipped),
            hint="Name others by --presets, or change the app's terms.",
        )
    members = own.simulation.members
    named = tuple(name for name, _ in own.simulation.malicious)
    last = tuple(member_name(m) for m in range(members - max(1, members // 4), members))
    return Sweep(
        app,
        tuple(settings),
        tuple(runnable),
        tuple(dict.fromkeys((NONE, *specs))),
        seeds,
        named or last,
        own.draft.training.rounds,
        tuple(skipped),
    )


def cells(plan: Sweep) -> list[Cell]:
    """Seed by seed, so that a sweep that is cut short has all of its first seeds."""
    return [
        Cell(system, attack, seed)
        for seed in range(plan.seeds)
        for attack in plan.attacks
        for system in (*plan.systems, *REFERENCES)
        if attack == NONE or system not in (POOLED, ALONE)
    ]


def federation(app: Path, system: str, settings: Sequence[str], more: Sequence[str] = ()) -> FederationFile:
    """The app's terms as this system's. Raises `Misconfigured`."""
    chosen = None if system in REFERENCES else presets.preset(system)
    return load_federation(app, (*_for(settings, chosen), "simulation.workers=0", *more), chosen)


def _for(settings: Sequence[str], preset: presets.Preset | None) -> list[str]:
    """Settings without those of another scheme's own table, and without rounds where the system has its own number."""
    keys = [(setting, setting.partition("=")[0].strip()) for setting in settings]
    scheme, fixed = ("", {}) if preset is None else (preset.scheme, preset.fixed)
    others = [s for s in SCHEMES if s != scheme]
    return [s for s, key in keys if key.split(".")[0] not in others and not (key == ROUNDS and key in fixed)]
