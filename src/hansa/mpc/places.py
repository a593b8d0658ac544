"""Where parties are met, and whether who answers there is who should.

SPU's links check that a certificate is one of the job's, but not whose: so before a link carries anything, each
party connects to every address and compares the certificate that it presents with the one recorded for that rank.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from hansa import encoding, errors
from hansa.mpc.certificates import Identity, bundle

_RETRY = 0.1


@dataclass(frozen=True, slots=True)
class Place:
    """A computing party: its host, the port where supervisors meet, the port of SPU's link, its certificate (DER)."""

    host: str
    meeting: int
    link: int
    certificate: bytes


def server_context(own: Identity, places: Sequence[Place]) -> ssl.SSLContext:
    """TLS that lets in who holds the key of one of the job's certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(own.certificate_path, own.key_path)
    context.load_verify_locations(cadata=bundle([p.certificate for p in places]))
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def connect(
    own: Identity, places: Sequence[Place], rank: int, port: int, timeout: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A TLS connection to a port of party `rank`, whose certificate was compared with the recorded one.

    Raises `Untrusted` when another certificate is presented, `Unavailable` when nobody answers within `timeout`
    seconds.
    """
    place = places[rank]
    # Any certificate is accepted here and compared below, so that the error can say whose it is.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(own.certificate_path, own.key_path)
    said = "does not answer"
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    reader, writer = await asyncio.open_connection(place.host, port, ssl=context)
                    break
                except ssl.SSLError as e:
                    said = f"answers with no TLS that fits ({e.reason})"
                except ConnectionError:
                    pass
                await asyncio.sleep(_RETRY)
    except (TimeoutError, OSError) as e:
        raise errors.Unavailable(
            f"party {rank} at {place.host}:{port} {said}",
            hint="Start it, or check its address and the firewalls between.",
        ) from e
    presented = writer.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""
    if presented != place.certificate:
        await closed(writer)
        raise errors.Untrusted(
            f"party {rank} at {place.host}:{port} presents {_whose(presented, places)}, not the one recorded for it",
            hint="Its address, its home folder or the network between is wrong.",
            digest=encoding.digest(presented),
        )
    return reader, writer


async def probe(own: Identity, places: Sequence[Place], rank: int, timeout: float) -> None:
    """Check who answers at the link's port of party `rank`. Raises `Untrusted` or `Unavailable`."""
    _, writer = await connect(own, places, rank, places[rank].link, timeout)
    await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever its state."""
    writer.close()
    with suppress(OSError, ssl.SSLError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()


def rank_of(certificate: bytes, places: Sequence[Place]) -> int | None:
    """Whose certificate it is."""
    return next((i for i, p in enumerate(places) if p.certificate == certificate), None)


def _whose(certificate: bytes, places: Sequence[Place]) -> str:
    rank = rank_of(certificate, places)
    return "a certificate that no party recorded" if rank is None else f"the certificate of party {rank}"
