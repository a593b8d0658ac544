"""`member.toml`: what is one member's own, and no part of the terms: keys, data, addresses, how to reach them.

Each key is the default of the option of the same name; what stands on the command line wins. Paths are read from
the file's folder on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationInfo

from hansa import errors, web
from hansa.tomlfile import Table, checked, read_toml

FILE = "member.toml"


def _path(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a path")
    folder: Path = (info.context or {})["folder"]
    return folder / Path(value).expanduser()


def _store(value: Any, info: ValidationInfo) -> Any:
    """A bare address is a table with nothing else; a folder is one near the file."""
    table = {"url": value} if isinstance(value, str) else value
    if isinstance(table, dict) and isinstance(url := table.get("url"), str) and url and ":" not in url:
        return {**table, "url": str(_path(url, info))}
    return table


def _several(value: Any) -> Any:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values:
        raise ValueError("must be an address, or a list of them")
    return tuple(values)


def _words(value: Any) -> Any:
    if not isinstance(value, list) or not value or not all(isinstance(word, str) and word for word in value):
        raise ValueError("must be a list of words, the first of which is a program")
    return tuple(value)


OwnPath = Annotated[Path, BeforeValidator(_path)]


class StoreTable(Table):
    """[store]: where it is, and what its adapter takes besides."""

    url: str
    options: dict[str, Any] = Field(default={})


class SignerTable(Table):
    """[signer]: a service that signs in place of the key file; see `signers.remote`."""

    url: str
    address: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
    ca: OwnPath | None = None
    certificate: OwnPath | None = None
    certificate_key: OwnPath | None = None


class EnclaveTable(Table):
    """[enclave]: what a member with a seat under scheme `tee` runs its enclave with; see `loading`."""

    provider: Literal["simulated", "gramine", "tdx"] = "simulated"
    command: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    collateral: str | None = None


class MemberFile(Table):
    """A `member.toml`, or none: all is optional."""

    federation: str | None = None
    rpc: Annotated[tuple[str, ...], BeforeValidator(_several)] = ()
    store: Annotated[StoreTable | None, BeforeValidator(_store)] = None
    key: OwnPath | None = None
    password_file: OwnPath | None = None
    app: OwnPath | None = None
    data: OwnPath | None = None
    home: OwnPath | None = None
    look: Annotated[float | None, Field(ge=0.01)] = None
    confirmations: Annotated[int, Field(ge=0, le=1000)] = 0
    relay: bool | None = None
    health: Annotated[int | None, Field(ge=0, le=65535)] = None
    json_logs: bool | None = None
    proxy: str | None = None
    ca: OwnPath | None = None
    signer: SignerTable | None = None
    enclave: EnclaveTable | None = None

    def options(self) -> dict[str, Any]:
        """Defaults of the command line's options and arguments, by the names of their parameters."""
        plain = ("key", "password_file", "app", "data", "home", "look", "relay", "health", "json_logs")
        found = {name: getattr(self, name) for name in plain}
        found |= {"name": self.federation, "rpc": list(self.rpc) or None}
        found["store"] = self.store.url if self.store else None
        return {name: value for name, value in found.items() if value is not None}

    def route(self) -> web.Route:
        """How the chain's nodes are reached. Raises `Misconfigured`."""
        tls = web.trust(self.ca) if self.ca else None
        return web.Route(web.proxy(self.proxy) if self.proxy else None, tls)

    def store_options(self, url: str) -> dict[str, Any]:
        """What the store's adapter is given: a remote one is reached by the same proxy, and trusts `ca` too."""
        options = self.store.options if self.store else {}
        if urlsplit(url).scheme in ("", "file", "memory"):
            return options
        way: dict[str, Any] = {}
        if self.proxy:
            web.proxy(self.proxy)
            way = {"proxy_url": self.proxy, "proxy_excludes": "localhost,127.0.0.1,::1"}
        if self.ca:
            web.trust(self.ca)
            way["root_certificate"] = self.ca.read_text(encoding="utf-8")
        return way | options

    def signer_route(self) -> web.Route:
        """How the signer is reached: by the same proxy, with an authority and a certificate of its own."""
        assert self.signer is not None
        ca = self.signer.ca or self.ca
        tls = web.trust(ca, self.signer.certificate, self.signer.certificate_key)
        return web.Route(web.proxy(self.proxy) if self.proxy else None, tls)


def load_member(path: Path) -> MemberFile:
    """Read a `member.toml`. Raises `Misconfigured`; no message shows what stands in it."""
    written = read_toml(path, "hansa new writes one to begin with.")
    if {"federation", "training"} <= {k for k, v in written.items() if isinstance(v, dict)}:
        raise errors.Misconfigured(
            f"{path} holds the terms of a federation, not what is yours",
            hint=f"Name your {FILE}; what may stand there is in the one that `hansa new` writes.",
        )
    return checked(MemberFile, written, path, show=False)
