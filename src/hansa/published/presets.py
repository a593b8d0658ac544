"""Each published system as a layer of terms: which keys it fixes, hardened and as it was published.

The layer stands over the app's own file, and under `--set`: a setting that makes another system of it is refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hansa import errors
from hansa.records import Terms

LETTERS: Final = ("A", "B", "C", "D", "E")
PUBLISHED: Final = "-published"
"""What stands behind the letter of a system as published: B-published."""


@dataclass(frozen=True, slots=True)
class Preset:
    """`fixed`: key -> values that keep it this system, the first of which is taken unless the file has another of them.

    `defaults`: key -> value where the file says nothing. `unsafe`: why nobody should run it with data that matter.
    `prepared`: it runs only apps whose file has terms for its scheme, since others could not be trained under it.
    """

    letter: str
    as_published: bool
    fixed: Mapping[str, tuple[Any, ...]]
    defaults: Mapping[str, Any]
    unsafe: tuple[str, ...] = ()
    prepared: bool = False

    @property
    def scheme(self) -> str:
        """Under which it runs."""
        return str(self.fixed["federation.scheme"][0])

    @property
    def name(self) -> str:
        """B, or B-published."""
        return self.letter + (PUBLISHED if self.as_published else "")

    @property
    def suffix(self) -> str:
        """What the terms' name ends with, so that it stands wherever the terms do."""
        if not self.as_published:
            return f"-{self.letter.lower()}"
        return f"-{self.letter.lower()}-as-published" + ("-unsafe" if self.unsafe else "")

    @property
    def label(self) -> str:
        """For people: system B, hardened."""
        form = "as published" if self.as_published else "hardened"
        return f"system {self.letter}, {form}" + (": UNSAFE" if self.unsafe else "")


_NO_FALLBACK: Final = {"governance.attempts": (1,)}
_COPIED: Final = {"governance.precommit": (False,)}
_MEAN: Final = {"aggregation.rule": ("weighted-mean",)}

_ENCLAVE: Final = {
    "federation.scheme": ("tee",),
    "federation.governance": ("committee",),
    "training.mode": ("synchronous",),
    "training.gamma": (1.0,),
    "selection.rule": ("none",),
    "governance.invitation": ("vote",),
    "tee.inner": ("",),
}
_ENCLAVE_DEFAULTS: Final = {"governance.committee": 4, "tee.accept": {"root": "simulation"}}

_WORKFLOW: Final = {
    "federation.scheme": ("plaintext",),
    "federation.governance": ("peers", "committee", "hybrid"),
    "training.mode": ("synchronous",),
    "training.gamma": (1.0,),
}

_EVALUATION: Final = {"federation.scheme": ("plaintext",), "training.mode": ("synchronous",), **_MEAN}
_EVALUATION_DEFAULTS: Final = {"training.gamma": 0.25}

_TRAPDOOR: Final = {
    "federation.scheme": ("secagg",),
    "federation.governance": ("server",),
    "training.mode": ("synchronous",),
    "training.gamma": (1.0,),
    "selection.rule": ("none",),
    "aggregation.weight_cap": (1,),
    "governance.invitation": ("vote",),
}
_TRAPDOOR_DEFAULTS: Final = {"governance.seats": ["s0", "s1"], "secagg.key_centres": ["k0"]}
_PLATFORM: Final = {
    "federation.scheme": ("mpc",),
    "federation.governance": ("server",),
    "training.rounds": (1,),
    "selection.rule": ("none",),
    "governance.invitation": ("vote",),
}

_MOVES: Final = "one hostile member moves the mean where it likes"
_STOPS: Final = "a leader that fails costs the round"
_COPIES: Final = "an approval can be copied without checking anything"

_PRESETS: Final = (
    Preset(
        "A",
        False,
        _ENCLAVE | {"aggregation.rule": ("trimmed-mean", "median", "krum", "multi-krum")},
        _ENCLAVE_DEFAULTS,
    ),
    Preset(
        "A",
        True,
        _ENCLAVE | _MEAN | _NO_FALLBACK | {"tee.max_norm": (0.0,)},
        _ENCLAVE_DEFAULTS,
        (_MOVES, _STOPS),
    ),
    Preset(
        "B",
        False,
        _WORKFLOW
        | {
            "training.time_check": ("flag",),
            "selection.rule": ("median-rank",),
            "governance.precommit": (True,),
        },
        {},
    ),
    Preset(
        "B",
        True,
        _WORKFLOW
        | _MEAN
        | _NO_FALLBACK
        | _COPIED
        | {"training.time_check": ("reject",), "selection.rule": ("none",)},
        {},
        (_MOVES + ", if it says that it took the time", _STOPS, _COPIES),
    ),
    Preset(
        "C",
        False,
        _EVALUATION
        | {
            "federation.governance": ("committee", "peers", "hybrid"),
            "training.error_feedback": (True,),
            "selection.rule": ("median-rank",),
            "governance.precommit": (True,),
        },
        _EVALUATION_DEFAULTS,
    ),
    Preset(
        "C",
        True,
        _EVALUATION
        | _NO_FALLBACK
        | _COPIED
        | {
            "federation.governance": ("server",),
            "governance.seats": (["s0"],),
            "training.error_feedback": (False,),
            "selection.rule": ("borda",),
            "aggregation.weight_cap": (1,),
        },
        _EVALUATION_DEFAULTS,
        ("a third of the members together lift a bad update into the selection", _STOPS, _COPIES),
    ),
    Preset("D", False, _PLATFORM, {}, prepared=True),
    Preset("D", True, _PLATFORM, {}, ("what plaintext layers open gives data away",), prepared=True),
    Preset(
        "E",
        False,
        _TRAPDOOR | {"aggregation.rule": ("clipped-mean",), "secagg.mode": ("masked",)},
        _TRAPDOOR_DEFAULTS | {"aggregation.clip_norm": 1.0},
    ),
    Preset(
        "E",
        True,
        _TRAPDOOR | _MEAN | _NO_FALLBACK | {"secagg.mode": ("direct",), "secagg.tolerance": (100.0,)},
        _TRAPDOOR_DEFAULTS,
        (_MOVES + ", unseen", _STOPS),
    ),
)
PRESETS: Final = {preset.name: preset for preset in _PRESETS}


def preset(name: str, *, as_published: bool = False) -> Preset:
    """The preset called A or A-published; `as_published` makes the one of the other.

    Raises `Misconfigured` for a name that is none.
    """
    found = PRESETS.get(name if not as_published or name.endswith(PUBLISHED) else name + PUBLISHED)
    if found is None:
        near = difflib.get_close_matches(name.strip().capitalize(), PRESETS, 1, cutoff=0.3)
        raise errors.Misconfigured(
            f"there is no preset {name!r}" + (f"; did you mean {near[0]}?" if near else ""),
            hint=f"Presets: {', '.join(LETTERS)}. `hansa protocols` says what they are.",
        )
    return found


def begin(preset: Preset, written: dict[str, Any]) -> None:
    """Put the preset's scheme into what `federation.toml` says. Raises `Misconfigured` for an app without its terms."""
    scheme, under = preset.scheme, written.get("under")
    own = look_up(written, "federation.scheme") == scheme or scheme in written
    if preset.prepared and not own and not (isinstance(under, dict) and scheme in under):
        raise errors.Misconfigured(
            f"preset {preset.letter} trains the network of a training script on secret shares, and this app has no "
            f"terms for scheme {scheme}",
            hint=f"Write them as [under.{scheme}] into its federation.toml, or take another preset.",
        )
    put(written, "federation.scheme", scheme)


def apply(preset: Preset, written: dict[str, Any]) -> None:
    """Put the layer over what `federation.toml` says, in place. After `begin`, and [under.SCHEME]."""
    for key, allowed in preset.fixed.items():
        if look_up(written, key) not in allowed:
            put(written, key, allowed[0])
    for key, value in preset.defaults.items():
        if look_up(written, key) is None:
            put(written, key, value)


def check(preset: Preset, written: Mapping[str, Any]) -> None:
    """That settings from the command line have left the system what it is. Raises `Misconfigured`."""
    for key, allowed in preset.fixed.items():
        value = look_up(written, key)
        if value not in allowed:
            wanted = " or ".join(str(v) for v in allowed)
            raise errors.Misconfigured(
                f"--set {key}={value}: {preset.label.removesuffix(': UNSAFE')}, has {key} = {wanted}",
                hint="Leave one of the two out: without --preset the app's own terms count, and any setting.",
            )


def check_script(preset: Preset, terms: Terms) -> None:
    """That a training script leaks if the preset is as published, and only then. Raises `Misconfigured`."""
    if terms.mpc is None or terms.mpc.accept_leakage is preset.as_published:
        return
    said = "accepts leakage" if terms.mpc.accept_leakage else "accepts no leakage"
    raise errors.Misconfigured(
        f"{preset.label.removesuffix(': UNSAFE')}, and the training script {said}",
        hint="Name another script by --set federation.app=NAME.py, or "
        + ("leave --as-published out." if preset.as_published else "add --as-published."),
    )


def look_up(written: Mapping[str, Any], key: str) -> Any:
    """What stands at "section.key"; None where nothing does."""
    section, _, name = key.partition(".")
    table = written.get(section)
    return table.get(name) if isinstance(table, dict) else None


def put(written: dict[str, Any], key: str, value: Any) -> None:
    """Set "section.key". What is no table is left for the check of the whole to report."""
    section, _, name = key.partition(".")
    table = written.setdefault(section, {})
    if isinstance(table, dict):
        table[name] = value
