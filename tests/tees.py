"""Imitations of what processors show as files: Gramine's `/dev/attestation`, and the kernel's configfs-tsm.

Behind both sits the software quoting module. A path that is told to behave stands for the file system, since
these files act when they are written.
"""

from __future__ import annotations

from pathlib import Path, PosixPath

from tests.quoted import DOMAIN, ENCLAVE, simulated


class Files(PosixPath):
    """A path whose files act; what it does is in `_written` and `_made` of its kinds."""

    def write_bytes(self, data: bytes) -> int:
        size = Path(self).write_bytes(data)
        self._written(data)
        return size


class GramineFiles(Files):
    """`/dev/attestation`: `quote` is over what was last written to `user_report_data`."""

    def _written(self, data: bytes) -> None:
        assert self.name == "user_report_data"
        quote = simulated(ENCLAVE).quote(data).quote
        Path(self.parent / "quote").write_bytes(quote)


def gramine_files(folder: Path, kind: str = "dcap") -> GramineFiles:
    (folder / "attestation_type").write_text(kind + "\n")
    return GramineFiles(folder)


class TsmFiles(Files):
    """`/sys/kernel/config/tsm/report`: a folder gets its files when it is made, and goes with them.

    `outblob` has zeros behind it, as the driver's buffer does. While `rivals` is above zero, somebody else writes
    at the same time. Class attributes, since paths are made anew at every step.
    """

    provider = "tdx_guest"
    rivals = 0

    def mkdir(self, *_: object, **__: object) -> None:
        Path(self).mkdir()
        Path(self / "generation").write_text("4\n")
        Path(self / "provider").write_text(self.provider + "\n")

    def rmdir(self) -> None:
        for file in Path(self).iterdir():
            file.unlink()
        Path(self).rmdir()

    def _written(self, data: bytes) -> None:
        assert self.name == "inblob"
        entry = Path(self.parent)
        steps = 1
        if type(self).rivals:
            type(self).rivals -= 1
            steps, data = 2, bytes(64)
        generation = int((entry / "generation").read_text())
        (entry / "generation").write_text(f"{generation + steps}\n")
        (entry / "outblob").write_bytes(simulated(DOMAIN).quote(data).quote + bytes(70))


def tsm_files(folder: Path, provider: str = "tdx_guest", rivals: int = 0) -> TsmFiles:
    kind = type("These", (TsmFiles,), {"provider": provider, "rivals": rivals})
    return kind(folder)


def collateral(quote: bytes) -> bytes:
    """What the simulated maker gives for a quote."""
    measured = ENCLAVE if quote[:1] == b"\3" else DOMAIN
    return simulated(measured).quote(bytes(64)).collateral
