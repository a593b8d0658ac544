"""Real processors: Gramine inside an SGX enclave, and a Linux guest that is a TDX trust domain.

Neither was run on such a processor by this project: the tests run both against imitations of the kernel's and of
Gramine's files, written after their documentation. Quotes come in canonical form. Collateral comes from a function
that the caller gives: quote -> JSON; it is signed, and nobody has to trust where it comes from.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hansa import errors
from hansa.attestation import quotes
from hansa.records import Evidence

Fetch = Callable[[bytes], bytes]
"""Collateral (JSON) for a quote. Raises `Unavailable`."""

_TRIES = 5


def _checked(report_data: bytes) -> bytes:
    if len(report_data) != quotes.REPORT_DATA_BYTES:
        raise errors.Misconfigured(
            f"a quote is over {quotes.REPORT_DATA_BYTES} bytes, not {len(report_data)}"
        )
    return report_data


def _evidence(quote: bytes, fetch: Fetch) -> Evidence:
    canonical = quotes.normalise(quote)
    return Evidence(canonical, fetch(canonical))


@contextmanager
def _answering(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise errors.Unavailable(
            f"{what} gives no quote: {e.strerror or e}",
            hint="Look at the quoting service of this machine (aesmd, QGS); it may only be starting.",
        ) from e


class Gramine:
    """An `Attestor` inside a Gramine SGX enclave, over its pseudo-files in `/dev/attestation`. One caller at a time.

    Written after Gramine's "Attestation and Secret Provisioning"; not run on hardware by this project. Raises
    `Misconfigured` where the files are missing, or remote attestation is not DCAP.
    """

    def __init__(self, fetch: Fetch, folder: Path = Path("/dev/attestation")) -> None:
        self._fetch, self._folder = fetch, folder
        try:
            kind = (folder / "attestation_type").read_text().strip()
        except OSError as e:
            raise errors.Misconfigured(
                f"this is no Gramine enclave: {folder} cannot be read",
                hint="Start the enclave with gramine-sgx, or ask for another provider.",
            ) from e
        if kind != "dcap":
            raise errors.Misconfigured(
                f"Gramine's remote attestation is {kind[:20]!r}",
                hint='Put sgx.remote_attestation = "dcap" into the manifest, and sign it again.',
            )

    def quote(self, report_data: bytes) -> Evidence:
        """A quote over 64 bytes. Raises `Unavailable`."""
        with _answering("Gramine"):
            (self._folder / "user_report_data").write_bytes(_checked(report_data))
            raw = (self._folder / "quote").read_bytes()
        return _evidence(raw, self._fetch)


class TrustDomain:
    """An `Attestor` in a TDX guest, over the kernel's configfs-tsm (Linux 6.7 or newer).

    Written after the kernel's `Documentation/ABI/testing/configfs-tsm`; not run on hardware by this project. Raises
    `Misconfigured` where there is none.
    """

    def __init__(self, fetch: Fetch, folder: Path = Path("/sys/kernel/config/tsm/report")) -> None:
        self._fetch, self._folder = fetch, folder
        if not folder.is_dir():
            raise errors.Misconfigured(
                f"this is no TDX guest: there is no {folder}",
                hint="Mount configfs and load tdx_guest in a trust domain, or ask for another provider.",
            )

    def quote(self, report_data: bytes) -> Evidence:
        """A quote over 64 bytes. Raises `Unavailable`."""
        _checked(report_data)
        # An entry of one's own: others may ask for quotes at the same time.
        entry = self._folder / f"hansa-{secrets.token_hex(8)}"
        with _answering("the TDX guest"):
            entry.mkdir()
            try:
                raw = _asked(entry, report_data)
            finally:
                entry.rmdir()
        return _evidence(raw, self._fetch)


def _asked(entry: Path, report_data: bytes) -> bytes:
    """The kernel's answer; `generation` counts writes, so that an answer to another's question is seen."""
    provider = (entry / "provider").read_text().strip()
    if provider != "tdx_guest":
        raise errors.Misconfigured(
            f"the kernel's reports come from {provider[:40]!r}, not from tdx_guest",
            hint="This is no TDX guest.",
        )
    for _ in range(_TRIES):
        before = int((entry / "generation").read_text())
        (entry / "inblob").write_bytes(report_data)
        raw = (entry / "outblob").read_bytes()
        if int((entry / "generation").read_text()) == before + 1:
            return raw
    raise errors.Unavailable("another process keeps writing to this report of the kernel", hint="Try again.")
