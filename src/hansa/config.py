"""`federation.toml` -> frozen values. Strict: unknown keys, wrong types and unsafe pairs are refused."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, Field

from hansa import attacks, errors
from hansa.app import FILE as APP
from hansa.app import member_name
from hansa.partition import Partition
from hansa.project import Project, is_project, merged, read_project, settings
from hansa.protocol.state import quorum
from hansa.protocol.terms import SCHEMES, Draft, check_terms
from hansa.published import presets
from hansa.records import (
    MAX_MEMBERS,
    Accept,
    AggregationTerms,
    Governance,
    GovernanceTerms,
    Mpc,
    Release,
    SecAgg,
    SelectionTerms,
    Tee,
    Training,
)
from hansa.tomlfile import Table, checked, not_one_of, read_toml

FILE: Final = "federation.toml"
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION: Final = re.compile(r"([0-9]+)([smhd])")
Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Simulation:
    """[simulation]: how `hansa run` plays the federation on one machine. Not part of the terms.

    `malicious`: pairs of a member's name and an attack as `attacks.parse` reads it. `row_time`: milliseconds that
    training takes for a row and epoch, on the simulation's clock; `slow`: members' names and by how much slower
    they are. `vanishing`: so many members, others in each round, do nothing any more once updates are available.
    """

    members: int = 8
    seed: int = 0
    partition: Partition = field(default_factory=Partition)
    malicious: tuple[tuple[str, str], ...] = ()
    row_time: int = 1
    slow: tuple[tuple[str, int], ...] = ()
    vanishing: int = 0
    holdout: float = 0.2
    workers: int = 0
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class FederationFile:
    """A folder's `federation.toml`, checked. `scale`: values are integers times 2**-scale.

    `preset`: the published system whose layer of terms lies over it. `app`: the file of the app's code.
    `project`: that of a Flower app, for which the file may be missing; `said`: the keys that somebody wrote or
    overrode, as "SECTION.KEY", while the others follow from the project.
    """

    folder: Path
    draft: Draft
    scale: int
    initial_seed: int
    simulation: Simulation
    preset: presets.Preset | None = None
    app: str = APP
    project: Project | None = None
    said: frozenset[str] = frozenset()

    @property
    def script(self) -> str:
        """Name of the training script, under scheme mpc; else empty."""
        return self.app if self.draft.scheme == "mpc" else ""


def _seconds(value: Any) -> Any:
    if isinstance(value, str):
        match = DURATION.fullmatch(value)
        if match is None:
            raise ValueError('must be seconds or a duration such as "30s", "10m", "2h"')
        return int(match[1]) * UNITS[match[2]]
    return value


Seconds = Annotated[int, BeforeValidator(_seconds), Field(ge=1, le=366 * 86400)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def _scalar(value: Any) -> Any:
    if not isinstance(value, int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("must be a finite number, a text, true or false")
    return value


Scalar = Annotated[Any, BeforeValidator(_scalar)]


class _Federation(Table):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    scheme: str
    governance: Literal["committee", "peers", "hybrid", "server"] = "committee"
    app: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}\.py$")] = APP
    initial_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    scale: Annotated[int, Field(ge=8, le=28)] = 16
    retain_rounds: Annotated[int, Field(ge=0)] = 0


class _Target(Table):
    metric: str
    value: float


class _Training(Table):
    rounds: Annotated[int, Field(ge=1, le=100_000)] = 20
    min_members: Annotated[int, Field(ge=1, le=MAX_MEMBERS)] = 4
    deadline: Seconds = 600
    max_failed_rounds: Annotated[int, Field(ge=1, le=1000)] = 3
    params: dict[str, Scalar] = Field(default={})
    mode: Literal["synchronous", "asynchronous"] = "synchronous"
    buffer: Annotated[int, Field(ge=0, le=MAX_MEMBERS)] = 0
    max_staleness: Annotated[int, Field(ge=0, le=1000)] = 0
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0
    error_feedback: bool = True
    time_check: Literal["off", "flag", "reject"] = "flag"
    target: _Target | None = None
    patience: Annotated[int, Field(ge=0)] = 0
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2


class _Selection(Table):
    rule: Literal["median-rank", "borda", "none"] = "median-rank"
    metric: str = "loss"
    keep: Annotated[int, Field(ge=0, le=MAX_MEMBERS)] = 0
    assume_malicious: Fraction = 0.25
    targets: Annotated[int, Field(ge=1, le=16)] = 16


class _Aggregation(Table):
    rule: Literal["weighted-mean", "clipped-mean", "median", "trimmed-mean", "krum", "multi-krum"] = (
        "weighted-mean"
    )
    weight_cap: Annotated[int, Field(ge=1, le=2**31 - 1)] = 100_000
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.2
    malicious: Annotated[int, Field(ge=0, le=MAX_MEMBERS)] = 0
    optimizer: Literal["none", "momentum", "adam", "yogi"] = "none"
    optimizer_params: dict[str, float] = Field(default={})


class _Governance(Table):
    invitation: Literal["owner", "vote"] = "owner"
    seats: tuple[str, ...] = Field(default=(), strict=False)
    committee: Annotated[int, Field(ge=1, le=MAX_MEMBERS)] = 7
    epoch: Annotated[int, Field(ge=1)] = 5
    attempts: Annotated[int, Field(ge=1, le=255)] = 3
    extensions: Annotated[int, Field(ge=0, le=255)] = 2
    max_absent: Annotated[int, Field(ge=1, le=1000)] = 5
    weight_cap: Annotated[int, Field(ge=1, le=65_535)] = 65_535
    penalty: Annotated[int, Field(ge=0, le=1000)] = 250
    precommit: bool = True


class _Privacy(Table):
    differential_privacy: str


class _Release(Table):
    to: Literal["contributors", "members"] = "contributors"
    min_share: Annotated[float, Field(ge=0, le=1)] = 0.2


class _SecAgg(Table):
    mode: Literal["masked", "direct"] = "masked"
    modulus: Literal[2048, 3072] = 3072
    exponents: Literal["short", "full"] = "short"
    bits: Annotated[int, Field(ge=16, le=24)] = 24
    tolerance: Annotated[float, Field(ge=0, le=100)] = 0.1
    max_reentries: Annotated[int, Field(ge=0, le=1000)] = 3
    key_centres: tuple[str, ...] = Field(default=(), strict=False)


class _Accept(Table):
    root: Literal["intel", "simulation"] = "intel"
    enclaves: tuple[str, ...] = Field(default=(), strict=False)
    products: tuple[tuple[str, int, int], ...] = Field(default=(), strict=False)
    domains: tuple[tuple[str, ...], ...] = Field(default=(), strict=False)
    statuses: tuple[str, ...] = Field(default=("UpToDate", "SWHardeningNeeded"), strict=False)
    advisories: tuple[str, ...] = Field(default=(), strict=False)
    max_age_days: Annotated[int, Field(ge=1, le=365)] = 7
    min_evaluation: Annotated[int, Field(ge=0)] = 0
    platforms: tuple[str, ...] = Field(default=(), strict=False)


class _Tee(Table):
    max_candidates: Annotated[int, Field(ge=1, le=32)] = 4
    max_norm: Annotated[float, Field(ge=0)] = 0.0
    epoch: Annotated[int, Field(ge=1, le=10_000)] = 5
    accept: _Accept = _Accept()
    inner: Literal["", "secagg"] = ""


class _Mpc(Table):
    deadline: Seconds = 86_400
    rows: Annotated[int, Field(ge=0, le=2**31)] = 0


class _Partition(Table):
    kind: Literal["dirichlet", "iid", "natural"] = "iid"
    alpha: Annotated[float, Field(gt=0, le=1e6)] = 0.5
    min_rows: Annotated[int, Field(ge=1)] = 10


class _Simulation(Table):
    members: Annotated[int, Field(ge=1, le=MAX_MEMBERS)] = 8
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    partition: _Partition = _Partition()
    malicious: dict[str, str] = Field(default={})
    row_time: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    slow: dict[str, Annotated[int, Field(ge=1, le=1000)]] = Field(default={})
    vanishing: Annotated[int, Field(ge=0, le=MAX_MEMBERS)] = 0
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.2
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    device: Literal["cpu", "cuda"] = "cpu"


class _File(Table):
    federation: _Federation
    privacy: _Privacy
    training: _Training = _Training()
    selection: _Selection = _Selection()
    aggregation: _Aggregation = _Aggregation()
    governance: _Governance = _Governance()
    release: _Release = _Release()
    secagg: _SecAgg | None = None
    tee: _Tee | None = None
    mpc: _Mpc | None = None
    simulation: _Simulation = _Simulation()


REQUIRED: Final = {
    "[federation]": 'it holds name and scheme: scheme = "plaintext"',
    "[federation] scheme": 'it has no default, since it decides who sees what: write scheme = "plaintext"',
    "[privacy]": 'it must be written even if off: differential_privacy = "off"',
    "[privacy] differential_privacy": 'it must be written even if off: differential_privacy = "off"',
}
"""Keys without a default -> why."""


def load_federation(
    folder: Path, overrides: Sequence[str] = (), preset: presets.Preset | None = None
) -> FederationFile:
    """Read `federation.toml` of a folder; each override is "SECTION.KEY=VALUE", as in TOML or bare text.

    A table [under.SCHEME] holds what stands in the place of the rest if that is the scheme, so that one line changes
    the protection of a job; with `tee.inner` that of the inner scheme comes after it. Then comes the layer of a
    preset, which also marks the name. Overrides come last.

    Raises `Misconfigured` for a missing or malformed file, an unknown key, a wrong type or value, for overrides that
    contradict the preset, and for terms that cannot go together (`protocol.terms.check_terms`).
    """
    path = folder / FILE
    project = read_project(folder) if is_project(folder) else None
    none = project is not None and not path.exists()
    written = {} if none else read_toml(path, f"An app is a folder with {FILE} and app.py, or a Flower app.")
    for override in overrides:
        _override(written, override)
    if preset is not None:
        presets.begin(preset, written)
    _choose(written)
    if preset is not None:
        presets.apply(preset, written)
    for override in overrides:
        _override(written, override)
    said = frozenset(f"{k}.{key}" for k, table in written.items() if isinstance(table, dict) for key in table)
    if project is not None:
        if "federation.scheme" not in said:
            raise errors.Misconfigured(
                "no scheme is chosen, and none is a default: it decides who sees what",
                hint="Add --scheme plaintext (every member sees every update), secagg (nobody sees one) or tee (only "
                "attested enclaves do); in a command without it, --set federation.scheme=...",
            )
        written = _below(project, written)
    if preset is not None:
        presets.check(preset, written)
        if isinstance(name := presets.look_up(written, "federation.name"), str):
            presets.put(written, "federation.name", name + preset.suffix)
    file = checked(_File, written, path, required=REQUIRED)
    if project is not None and file.federation.scheme == "mpc":
        raise errors.Misconfigured(
            "a Flower app trains at each member, and scheme mpc trains one declared network on shares",
            hint="Choose plaintext, secagg or tee; or declare the network in a training script, see docs/mpc.md.",
        )
    if file.federation.app != APP and file.federation.scheme != "mpc":
        raise errors.Misconfigured(
            f"{FILE}: [federation] app: the app is called {APP}",
            hint='Under scheme "mpc" a folder may hold several training scripts, and this names one.',
        )
    draft = _draft(file)
    check_terms(draft)
    simulation = _simulation(file.simulation, draft)
    scale, seed = file.federation.scale, file.federation.initial_seed
    app = file.federation.app
    return FederationFile(folder, draft, scale, seed, simulation, preset, app, project, said)


def _below(project: Project, written: dict[str, Any]) -> dict[str, Any]:
    """What was written, above what a Flower project stands for under the scheme that was chosen."""

    def number(section: str, key: str) -> int | None:
        table = written.get(section)
        found = table.get(key) if isinstance(table, dict) else None
        return found if isinstance(found, int) and found > 0 else None

    below = settings(project, number("training", "rounds"), number("simulation", "members"))
    for section in ("federation", "tee"):
        if isinstance(written.get(section), dict):
            below[section] = merged(below.get(section, {}), written[section])
    _choose(below)
    return merged(below, written)


def _override(written: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise errors.Misconfigured(
            f"--set {text}: not of the form SECTION.KEY=VALUE", hint="For example: --set training.rounds=5"
        )
    table: Any = written
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise errors.Misconfigured(f"--set {text}: {key} is a value, not a table")
    try:
        table[keys[-1]] = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        table[keys[-1]] = value.strip()


def _choose(written: dict[str, Any]) -> None:
    """Let the table [under.SCHEME] of the scheme take the place of what stands above. Raises `Misconfigured`."""
    under, federation = written.pop("under", {}), written.get("federation")
    scheme = federation.get("scheme") if isinstance(federation, dict) else None
    if not isinstance(under, dict) or not all(k in SCHEMES and isinstance(v, dict) for k, v in under.items()):
        raise errors.Misconfigured(
            f"{FILE}: [under]: holds tables named by schemes, and nothing else",
            hint=f"For example [under.secagg.selection]; the schemes are {', '.join(SCHEMES)}.",
        )
    _put(written, under, scheme)
    tee = written.get("tee")
    if scheme == "tee" and isinstance(tee, dict) and tee.get("inner") == "secagg":
        _put(written, under, "secagg")


def _put(written: dict[str, Any], under: dict[str, Any], scheme: Any) -> None:
    chosen = under.get(scheme, {}) if isinstance(scheme, str) else {}
    for section, table in chosen.items():
        if not isinstance(table, dict):
            raise errors.Misconfigured(f"{FILE}: [under.{scheme}] {section}: is a value, not a table")
        above = written.get(section, {})
        # What is no table above is reported when the whole is checked.
        written[section] = {**above, **table} if isinstance(above, dict) else above


def _pairs(values: Mapping[str, Record]) -> tuple[tuple[str, Record], ...]:
    return tuple(sorted(values.items()))


def _as(record: type[Record], table: BaseModel, **changed: Any) -> Record:
    """A record of `records.py` from the table whose keys are its fields."""
    return record(**({f.name: getattr(table, f.name) for f in fields(record)} | changed))  # type: ignore[arg-type]


def _draft(file: _File) -> Draft:
    federation, target = file.federation, file.training.target
    if federation.scheme not in SCHEMES:
        near = not_one_of(federation.scheme, SCHEMES)
        raise errors.Misconfigured(f"{FILE}: [federation] scheme: {near}")
    if federation.governance == "server" and not file.governance.seats:
        raise errors.Misconfigured(
            f'{FILE}: [governance] seats: governance = "server" needs the names of its servers',
            hint='Name them in [governance] seats, or use governance = "committee".',
        )
    tee = _tee(file.tee or _Tee()) if federation.scheme == "tee" else None
    inner = "" if tee is None else tee.inner
    for scheme, table in (("secagg", file.secagg), ("tee", file.tee), ("mpc", file.mpc)):
        if table is not None and scheme not in (federation.scheme, inner):
            raise errors.Misconfigured(
                f'{FILE}: [{scheme}]: has a meaning only with scheme = "{scheme}"',
                hint=f"Delete it, or write it as [under.{scheme}.{scheme}].",
            )
    return Draft(
        name=federation.name,
        scheme=federation.scheme,
        governance=Governance[federation.governance.upper()],
        privacy=file.privacy.differential_privacy,
        training=_as(
            Training,
            file.training,
            params=_pairs(file.training.params),
            target=None if target is None else (target.metric, target.value),
        ),
        selection=_as(SelectionTerms, file.selection),
        aggregation=_as(
            AggregationTerms, file.aggregation, optimizer_params=_pairs(file.aggregation.optimizer_params)
        ),
        govern=_as(GovernanceTerms, file.governance),
        release=_as(Release, file.release),
        retain_rounds=federation.retain_rounds,
        secagg=_as(SecAgg, file.secagg or _SecAgg()) if "secagg" in (federation.scheme, inner) else None,
        tee=tee,
        mpc=_mpc(file.mpc or _Mpc()) if federation.scheme == "mpc" else None,
    )


def _mpc(table: _Mpc) -> Mpc:
    return Mpc(deadline=table.deadline, rows=table.rows)


def _tee(table: _Tee) -> Tee:
    from hansa.attestation.policy import policy_of

    accept = _as(Accept, table.accept)
    policy_of(accept)
    return _as(Tee, table, accept=accept)


def _simulation(table: _Simulation, draft: Draft) -> Simulation:
    problems = list(_simulation_problems(table, draft))
    if problems:
        raise errors.Misconfigured(f"{FILE}: " + "; ".join(problems), hint=f"Correct {FILE}.")
    return _as(
        Simulation,
        table,
        partition=_as(Partition, table.partition),
        malicious=_pairs(table.malicious),
        slow=_pairs(table.slow),
    )


def _simulation_problems(table: _Simulation, draft: Draft) -> Iterator[str]:
    least = draft.training.min_members
    if table.members < least:
        yield f"[simulation] members: {table.members} is below [training] min_members = {least}"
    if table.vanishing and table.members - table.vanishing < quorum(table.members):
        yield f"[simulation] vanishing: without {table.vanishing} of {table.members} members nothing has a quorum"
    if draft.selection.keep > table.members:
        yield f"[selection] keep: {draft.selection.keep} of {table.members} members cannot be kept"
    names = [member_name(i) for i in range(table.members)]
    for key, named in (("malicious", table.malicious), ("slow", table.slow)):
        for name in named:
            if name not in names:
                yield f"[simulation] {key}.{name}: no such member; they are called {names[0]} to {names[-1]}"
    for name, spec in table.malicious.items():
        try:
            attacks.parse(spec)
        except errors.Misconfigured as e:
            yield f"[simulation] malicious.{name}: {e}"
