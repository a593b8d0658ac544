"""Collateral from a service: Intel's own, or a cache (PCCS) that an operator or a cloud runs.

Which one does not matter for trust, since all that it gives is signed by the processor's maker. `dcap-qvl` asks; it
goes through the proxy that the environment names.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

from hansa import errors
from hansa.attestation.hardware import Fetch
from hansa.attestation.library import library

INTEL = "https://api.trustedservices.intel.com"


def from_service(url: str = INTEL) -> Fetch:
    """What fetches collateral for quotes from the service at `url`.

    It raises `Unavailable` when the service does not answer, or knows no such processor.
    """

    def fetch(quote: bytes) -> bytes:
        try:
            # In a thread of its own, since the caller's may run an event loop, as a notebook's does.
            with ThreadPoolExecutor(1) as thread:
                found = thread.submit(asyncio.run, _asked(url, quote)).result()
        except (RuntimeError, ValueError, OSError) as e:
            raise errors.Unavailable(
                f"the collateral service {url} gives nothing for this quote: {' '.join(str(e).split())[:200]}",
                hint="Check its address, and that this machine reaches it; it may not know the processor yet.",
            ) from e
        parts = json.loads(found)
        # The processor's certificates count in the quote only, and a verifier refuses them here.
        parts.pop("pck_certificate_chain", None)
        return json.dumps(parts, separators=(",", ":")).encode()

    return fetch


async def _asked(url: str, quote: bytes) -> str:
    return str((await library().get_collateral(url, quote)).to_json())
