"""What can be installed beside Hansa's own needs, and what is: the extras of `pip install 'hansa[...]'`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec

from hansa.doctor.findings import Finding

EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "torch": ("apps of PyTorch", ("torch", "sklearn")),
    "sklearn": ("apps of scikit-learn", ("sklearn",)),
    "jax": ("apps of JAX", ("jax",)),
    "flower": ("apps of Flower", ("flwr",)),
    "secagg": ("scheme secagg", ("gmpy2", "numba")),
    "tee": ("scheme tee", ("dcap_qvl",)),
    "tensorboard": ("figures in TensorBoard", ("tensorboard",)),
    "mlflow": ("figures in MLflow", ("mlflow",)),
    "mpc": ("scheme mpc", ("spu", "dp_accounting")),
}
"""Extra -> what it is for, and the modules that it brings."""

FRAMEWORKS = ("torch", "sklearn", "jax")
"""Modules, called as their extras, of which a member that trains needs one."""


def judge(installed: Callable[[str], bool]) -> Iterator[Finding]:
    """One finding on what trains, and one for each extra. To lack an extra is no fault, to have half of one is."""
    trains = [module for module in FRAMEWORKS if installed(module)]
    yield Finding(
        "trains",
        "ok" if trains else "warn",
        f"with {' and '.join(trains)}" if trains else "there is no framework to train with",
        ""
        if trains
        else "To train here, run: pip install 'hansa[torch]'; or 'hansa[sklearn]', 'hansa[jax]'.",
        (("installed", bool(trains)),),
    )
    for extra, (purpose, modules) in EXTRAS.items():
        missing = [module for module in modules if not installed(module)]
        half = bool(missing) and len(missing) < len(modules) and not _else(extra, modules, installed)
        how = f"pip install 'hansa[{extra}]'"
        seen = f"installed, for {purpose}"
        if missing:
            seen = f"{', '.join(missing)} missing" if half else f"not installed; for {purpose}: {how}"
        yield Finding(
            extra,
            "warn" if half else "ok",
            seen,
            f"For {purpose}, run: {how}." if half else "",
            (("installed", not missing),),
        )


def _else(extra: str, modules: tuple[str, ...], installed: Callable[[str], bool]) -> bool:
    """Whether what is there of an extra came with another one, which is whole."""
    there = {module for module in modules if installed(module)}
    return any(
        other != extra and there <= set(theirs) and all(map(installed, theirs))
        for other, (_, theirs) in EXTRAS.items()
    )


def examine_extras() -> tuple[Finding, ...]:
    """Every check of what is installed; nothing is imported."""
    return tuple(judge(lambda module: find_spec(module) is not None))
