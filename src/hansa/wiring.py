"""Chooses adapters. The only dynamic import of the package; a name is looked up in a list, never built."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from hansa import errors
from hansa.app import TrainerOptions, load_app
from hansa.ports import Directed, Entropy, Scheme, Session, Sharing, Store, Tracked, Tracker, Trainer
from hansa.records import Limits, Terms

SCHEMES = {
    "plaintext": "hansa.schemes.plaintext",
    "secagg": "hansa.schemes.secagg",
    "tee": "hansa.schemes.tee",
    "mpc": "hansa.schemes.mpc",
}
TRAINERS = {
    "torch": "hansa.trainers.torch",
    "sklearn": "hansa.trainers.sklearn",
    "jax": "hansa.trainers.jax",
    "script": "hansa.trainers.script",
    "flower": "hansa.trainers.flower",
}
TRACKERS = {"tensorboard": "hansa.trackers.tensorboard", "mlflow": "hansa.trackers.mlflow"}
STORES = {"objects": "hansa.stores.objects", "onedisk": "hansa.stores.onedisk"}
COMPUTING = {"mpc": "hansa.mpc.computing"}


def _create(table: dict[str, str], name: str) -> Any:
    return _module(table, name).create


def _module(table: dict[str, str], name: str) -> Any:
    if name not in table:
        raise errors.Misconfigured(f"there is no adapter {name!r}", hint=f"There are: {', '.join(table)}.")
    try:
        return import_module(table[name])
    except ModuleNotFoundError as e:
        raise errors.Misconfigured(
            f"{name} needs the package {e.name!r}", hint=f"pip install 'hansa[{name}]'"
        ) from e


def scheme(
    terms: Terms,
    *,
    id: int,
    private_key: bytes,
    sign: Callable[[bytes], bytes],
    entropy: Entropy,
    limits: Limits,
) -> Scheme:
    """One party's end of the scheme of the terms; `sign` is its `Signer.sign`."""
    make = _create(SCHEMES, terms.scheme if terms.secagg is None else "secagg")
    made = make(id=id, private_key=private_key, sign=sign, entropy=entropy, limits=limits, terms=terms)
    return cast(Scheme, made)


def trainer(options: TrainerOptions) -> Trainer:
    """A trainer of an app, for the framework that it declares; or of a training script."""
    framework = "script" if options.script else load_app(options.folder, digest=options.digest).framework
    return cast(Trainer, _create(TRAINERS, framework)(options))


def directed(options: TrainerOptions) -> Directed:
    """A trainer of a Flower app."""
    return cast(Directed, _create(TRAINERS, "flower")(options))


def sharing(terms: Terms) -> Sharing:
    """Secret sharing among the computing parties of the terms. Raises `Misconfigured` without the extra `mpc`."""
    return cast(Sharing, _module(COMPUTING, "mpc").sharing(terms))


def session(
    terms: Terms, folder: Path, home: Path, *, secret: bytes, address: str = "127.0.0.1:0"
) -> Session:
    """The session of a computing party: the script in `folder`, what it must not lose in `home`, sealed by `secret`.

    `address` is where its links listen; port 0 takes a free one.
    """
    make = _module(COMPUTING, "mpc").session
    return cast(Session, make(terms, folder, home, secret=secret, address=address))


def store(url: str, **options: Any) -> Store:
    """An object store by URL or folder."""
    return cast(Store, _create(STORES, "objects")(url, **options))


def stores_on_one_disk(shared: Path, own: Path) -> tuple[Store, Store]:
    """The store that simulated nodes share, and their own copies, in two folders."""
    return cast(tuple[Store, Store], _create(STORES, "onedisk")(shared, own))


def tracker(spec: str) -> Callable[[Tracked], Tracker]:
    """What makes a tracker, by its name and what it takes behind a colon: `mlflow:https://mlflow.example`."""
    name, _, target = spec.partition(":")
    create = _create(TRACKERS, name)
    return lambda run: cast(Tracker, create(run, target))
