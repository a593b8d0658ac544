"""Under which protocol and ring parties compute, and what a share then looks like."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hansa import errors
from hansa.mpc.network import FIELDS, PARTIES

_KIND = re.compile(r"(aby3|cheetah|semi2k)\.(AShr|BShr)<(?:FM(64|128)|PT_U(8|16|32|64|128))(?:,(\d{1,3}))?>")
_PUBLIC = re.compile(r"Pub2k<FM(64|128)>")


@dataclass(frozen=True, slots=True)
class Setting:
    """A protocol of `network.PARTIES` and a ring of `network.FIELDS`, as a training script names them."""

    protocol: str = "ABY3"
    field: str = "FM64"

    @property
    def parties(self) -> int:
        """How many parties compute."""
        return PARTIES[self.protocol]

    @property
    def spu_protocol(self) -> str:
        """SPU's name of the protocol."""
        return self.protocol.removesuffix("_FOR_TESTS")

    @property
    def copies(self) -> int:
        """Components of a value that one party holds: two of three under ABY3, else one."""
        return 2 if self.protocol == "ABY3" else 1


def setting(protocol: str, field: str) -> Setting:
    """The setting that terms name. Raises `Misconfigured` for one that is not offered."""
    if protocol not in PARTIES or field not in FIELDS:
        raise errors.Misconfigured(
            f"there is no protocol {protocol[:40]!r} over {field[:40]!r}",
            hint=f"Choose from {', '.join(PARTIES)}, and {' or '.join(FIELDS)}.",
        )
    return Setting(protocol, field)


def dealt_kind(where: Setting, dtype: str) -> str:
    """SPU's name of the kind of share that owners deal of a type."""
    if where.protocol == "ABY3" and dtype == "bool":
        return "aby3.BShr<PT_U8,1>"
    return f"{where.spu_protocol.lower()}.AShr<{where.field}>"


def value_bytes(where: Setting, kind: str) -> int:
    """Bytes that one party holds of each value of a share of this kind, all its components together.

    Raises `Untrusted` for a kind that this setting does not know.
    """
    ring = where.field.removeprefix("FM")
    public = _PUBLIC.fullmatch(kind)
    if public and public[1] == ring:
        return int(ring) // 8
    found = _KIND.fullmatch(kind)
    if found and found[1] == where.spu_protocol.lower() and found[3] in (ring, None):
        return int(found[3] or found[4]) // 8 * where.copies
    raise errors.Untrusted(f"a share of kind {kind[:40]!r} is none of {where.protocol} over {where.field}")


def is_public(kind: str) -> bool:
    """Whether it is no share at all: every party holds the value itself."""
    return _PUBLIC.fullmatch(kind) is not None
