"""A store's address: a folder, or a URL with the options that are no secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from obstore.exceptions import BaseError, UnknownConfigurationKeyError
from obstore.store import LocalStore, from_url

from hansa import errors

PLAIN = {"allow_http", "connect_timeout", "proxy_url", "timeout"}
CLIENT = PLAIN | {"proxy_excludes", "root_certificate"}
"""Options of the connection; all others are the store's own."""

QUERY = PLAIN | {"endpoint", "region", "virtual_hosted_style_request"}
"""Options that may stand in a URL. Credentials are none of them: a URL is shown in messages."""

_CLIENT_DEFAULTS = {"timeout": "60s", "connect_timeout": "10s"}
_RETRIES = {"max_retries": 3}


def open_backend(url: str, options: dict[str, Any]) -> tuple[str, Any]:
    """What names a store in messages, and the `obstore` store at its address.

    A folder is made if it is missing. Raises `Misconfigured` when the address or an option cannot be used.
    """
    parts = urlsplit(url)
    place = f"{parts.scheme}://{parts.netloc}{parts.path}" if parts.scheme else url
    if "@" in parts.netloc:
        raise errors.Misconfigured(
            "a store's URL must not hold credentials", hint="Pass them as options or in the environment."
        )
    try:
        if parts.scheme in ("", "file"):
            folder = Path(unquote(parts.path) if parts.scheme else url).expanduser().absolute()
            return str(folder), LocalStore(folder, mkdir=True, automatic_cleanup=True, **options)
        if parts.scheme == "memory":
            return place, from_url(url, **options)
        given = {**_read_query(parts.query), **options}
        if "endpoint" in given:
            place = f"{place} at {given['endpoint']}"
        reached = given.get("endpoint", url)
        if str(reached).startswith("http:") and not given.get("allow_http"):
            raise errors.Misconfigured(
                f"the store {place} is reached by plain HTTP, which anyone on the way can read and change",
                hint="Use https; on loopback or a network of your own add allow_http=true to its URL.",
            )
        own: dict[str, Any] = {"retry_config": _RETRIES, **{k: given[k] for k in given.keys() - CLIENT}}
        own["client_options"] = _CLIENT_DEFAULTS | {k: given[k] for k in given.keys() & CLIENT}
        return place, from_url(url.split("?", 1)[0], **own)
    except UnknownConfigurationKeyError as e:
        raise errors.Misconfigured(str(e).split("\n", 1)[0], hint="Remove this option of the store.") from e
    except (BaseError, OSError, ValueError, TypeError) as e:
        raise _unusable(place, str(e)) from e
    except BaseException as e:
        # What obstore did not foresee it raises as a panic of Rust, which is no Exception.
        if type(e).__name__ != "PanicException":
            raise
        raise _unusable(place, str(e)) from e


def _unusable(place: str, cause: str) -> errors.Misconfigured:
    return errors.Misconfigured(
        f"the store {place} cannot be opened: {cause.split(chr(10), 1)[0]}",
        hint="Use memory:///, a folder, or a URL such as s3://bucket/path?endpoint=https://store.example.",
    )


def _read_query(query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in QUERY:
            raise errors.Misconfigured(
                f"a store's URL has no option {name[:40]!r}",
                hint=f"There are: {', '.join(sorted(QUERY))}. Credentials belong into the environment.",
            )
        found[name] = value == "true" if name == "allow_http" else value
    return found
