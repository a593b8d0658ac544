"""Chooses adapters. The only dynamic import of the package; a name is looked up in a list, never built."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

from hansa import errors
from hansa.app import TrainerOptions, load_app
from hansa.ports import Directed, Entropy, Scheme, Store, Trainer
from hansa.records import Limits, Terms

SCHEMES = {
    "plaintext": "hansa.schemes.plaintext",
    "secagg": "hansa.schemes.secagg",
    "tee": "hansa.schemes.tee",
}
TRAINERS = {
    "torch": "hansa.trainers.torch",
    "sklearn": "hansa.trainers.sklearn",
    "flower": "hansa.trainers.flower",
}
STORES = {"objects": "hansa.stores.objects"}


def _create(table: dict[str, str], name: str) -> Any:
    if name not in table:
        raise errors.Misconfigured(f"there is no adapter {name!r}", hint=f"There are: {', '.join(table)}.")
    try:
        return import_module(table[name]).create
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
    """A trainer of an app, for the framework that it declares."""
    framework = load_app(options.folder, digest=options.digest).framework
    return cast(Trainer, _create(TRAINERS, framework)(options))


def directed(options: TrainerOptions) -> Directed:
    """A trainer of a Flower app."""
    return cast(Directed, _create(TRAINERS, "flower")(options))


def store(url: str, **options: Any) -> Store:
    """An object store by URL or folder."""
    return cast(Store, _create(STORES, "objects")(url, **options))
