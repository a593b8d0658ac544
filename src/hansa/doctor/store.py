"""The object store: can a node write, read, replace, list and delete there, and how fast."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from hansa import errors
from hansa.doctor.findings import Finding, Result, printable, timed
from hansa.ports import Store

FOLDER = "doctor"
SMALL, LARGE = 1024, 2**20
NO_RIGHTS = ("os error 1)", "os error 13)", "os error 30)")
"""EPERM, EACCES and EROFS, as a folder's store words them."""


def examine_store(store: Store, *, entropy: Callable[[int], bytes] = os.urandom) -> tuple[Finding, ...]:
    """Write probes under a new name in `doctor/`, try everything that nodes do, and delete them again.

    Whether bytes match their digest is checked at every read of a node, by `stores.objects`; here the bytes
    that come back are compared with those that were written.
    """
    key = f"{FOLDER}/{entropy(16).hex()}"
    found = list(_examine(store, key, entropy))
    if found[0].verdict == "ok":
        found.append(_delete(store, [f"{key}-small", f"{key}-large"]))
    return tuple(found)


def _examine(store: Store, key: str, entropy: Callable[[int], bytes]) -> Iterator[Finding]:
    small, other, large = entropy(SMALL), entropy(SMALL), entropy(LARGE)
    name = f"{key}-small"
    written = _try("write", lambda: store.put_at(name, small))
    yield written if isinstance(written, Finding) else _took("write", f"{SMALL} bytes", written[1])
    if isinstance(written, Finding):
        return
    yield _read("read", store, name, small)
    replaced = _try("replace", lambda: store.put_at(name, other))
    yield replaced if isinstance(replaced, Finding) else _read("replace", store, name, other)
    yield _list(store, name)
    name = f"{key}-large"
    sent = _try("1 MiB", lambda: store.put_at(name, large))
    if isinstance(sent, Finding):
        yield sent
        return
    back = _try("1 MiB", lambda: store.get_at(name, limit=LARGE))
    if isinstance(back, Finding):
        yield back
    elif back[0] != large:
        yield _other_bytes("1 MiB")
    else:
        up, down = (1000 * LARGE / 1e6 / max(ms, 1e-3) for ms in (sent[1], back[1]))
        seen = f"up {sent[1]:.1f} ms ({up:.1f} MB/s), down {back[1]:.1f} ms ({down:.1f} MB/s)"
        yield Finding("1 MiB", "ok", seen, measured=(("up_ms", sent[1]), ("down_ms", back[1])))


def _read(check: str, store: Store, name: str, expected: bytes) -> Finding:
    got = _try(check, lambda: store.get_at(name, limit=SMALL))
    if isinstance(got, Finding):
        return got
    data, milliseconds = got
    return (
        _took(check, f"{SMALL} bytes, as written", milliseconds) if data == expected else _other_bytes(check)
    )


def _list(store: Store, name: str) -> Finding:
    listed = _try("list", lambda: store.list(FOLDER))
    if isinstance(listed, Finding):
        return listed
    keys, milliseconds = listed
    if name not in keys:
        return Finding(
            "list",
            "fail",
            "what was just written is not listed",
            "Use a store that lists objects at once: messages between nodes are found by listing.",
        )
    return _took("list", "what was just written is listed", milliseconds)


def _delete(store: Store, names: list[str]) -> Finding:
    """Clean up; without the right to, nodes work and the store grows."""

    def gone() -> bool:
        for name in names:
            store.delete(name)
        return not set(names) & set(store.list(FOLDER))

    result = _try("delete", gone)
    if not isinstance(result, Finding) and result[0]:
        return _took("delete", "the probes are gone", result[1])
    why = result.seen if isinstance(result, Finding) else "the probes are still listed"
    return Finding(
        "delete",
        "warn",
        f"{why}; left behind: {', '.join(names)}",
        "Allow deleting, if old rounds shall not stay for ever; delete these probes by hand.",
    )


def _try(check: str, call: Callable[[], Result]) -> tuple[Result, float] | Finding:
    """Result and milliseconds of a call, or what its failure means."""
    try:
        return timed(call)
    except errors.HansaError as e:
        cause = e.__cause__
        denied = isinstance(cause, PermissionDeniedError | UnauthenticatedError | PermissionError)
        denied |= any(code in str(cause) for code in NO_RIGHTS)
        lost = isinstance(e, errors.Unavailable) and not denied
        advice = "Check the store's credentials and permissions." if denied else e.hint
        return Finding(check, "fail", printable(str(e)), advice, unreachable=lost)


def _took(check: str, what: str, milliseconds: float) -> Finding:
    return Finding(check, "ok", f"{what}, {milliseconds:.1f} ms", measured=(("ms", milliseconds),))


def _other_bytes(check: str) -> Finding:
    return Finding(
        check,
        "fail",
        "other bytes come back than were written",
        "Use another store: this one, or a cache before it, is stale, damaged or dishonest.",
    )
