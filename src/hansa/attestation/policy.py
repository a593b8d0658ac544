"""What a quote must show to be accepted. Everything that is not allowed is refused.

A policy belongs to the terms: all members judge by the same, and its digest stands in every record.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

from hansa import encoding, errors
from hansa.attestation.quotes import TdxMeasurement
from hansa.records import Accept

STATUSES = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
)
"""What Intel says of a processor's state, but for Revoked, which no policy can allow."""

DAY = 24 * 60 * 60
PPID_BYTES, FMSPC_BYTES = 16, 6


@cache
def intel_root() -> bytes:
    """DER of Intel's SGX root certificate, as Intel publishes it."""
    return (resources.files("hansa.attestation") / "IntelSGXRootCA.der").read_bytes()


@dataclass(frozen=True, slots=True)
class Product:
    """Any enclave of one signer's product from a security version on."""

    mrsigner: bytes
    product: int
    min_svn: int


@dataclass(frozen=True, slots=True)
class Policy:
    """Which quotes are accepted.

    `root` is the DER of the only root certificate; any but Intel's is a simulation. A measurement must be one of
    `enclaves` (MRENCLAVE), `products` or `domains`; none is allowed by default. `advisories` are those that may
    apply to a processor. `max_age`: seconds since the oldest part of the collateral was signed.
    `min_evaluation`: lowest number of the maker's TCB evaluation. `platforms`, if there are any, are the only
    processors: identities (PPID, 16 bytes) and models (FMSPC, 6 bytes).
    """

    root: bytes
    enclaves: tuple[bytes, ...] = ()
    products: tuple[Product, ...] = ()
    domains: tuple[TdxMeasurement, ...] = ()
    statuses: tuple[str, ...] = ("UpToDate", "SWHardeningNeeded")
    advisories: tuple[str, ...] = ()
    max_age: int = 7 * DAY
    min_evaluation: int = 0
    platforms: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        sizes = {32: [*self.enclaves, *(p.mrsigner for p in self.products)]}
        sizes[48] = [value for d in self.domains for value in (d.mrtd, *d.rtmrs)]
        problems = [
            f"a measurement has {len(value)} bytes instead of {size}"
            for size, values in sizes.items()
            for value in values
            if len(value) != size
        ]
        problems += [
            f"{status} is no status that can be allowed" for status in self.statuses if status not in STATUSES
        ]
        problems += [
            f"a platform has {len(each)} bytes; a PPID has {PPID_BYTES}, an FMSPC {FMSPC_BYTES}"
            for each in self.platforms
            if len(each) not in (PPID_BYTES, FMSPC_BYTES)
        ]
        if problems:
            raise errors.Misconfigured(
                f"the attestation policy cannot be used: {'; '.join(problems)}", hint="Correct the policy."
            )

    @property
    def mode(self) -> str:
        """ "hardware" under Intel's root, "simulated" under any other."""
        return "hardware" if self.root == intel_root() else "simulated"

    @property
    def digest(self) -> bytes:
        """SHA-256 of the policy in canonical form."""
        return encoding.digest(encoding.encode(self))


def policy_of(accept: Accept) -> Policy:
    """The policy of terms. Raises `Misconfigured`."""
    if accept.root == "intel":
        root = intel_root()
    else:
        from hansa.attestation.simulated_pki import root_of, simulation

        root = root_of(simulation())
    try:
        return Policy(
            root=root,
            enclaves=tuple(bytes.fromhex(text) for text in accept.enclaves),
            products=tuple(Product(bytes.fromhex(signer), *rest) for signer, *rest in accept.products),
            domains=tuple(_domain(texts) for texts in accept.domains),
            statuses=accept.statuses,
            advisories=accept.advisories,
            max_age=accept.max_age_days * DAY,
            min_evaluation=accept.min_evaluation,
            platforms=tuple(bytes.fromhex(text) for text in accept.platforms),
        )
    except ValueError as e:
        raise errors.Misconfigured(
            "[tee.accept]: measurements and platforms are written in hexadecimal digits",
            hint="`hansa enclave --show` prints what an enclave measures.",
        ) from e


def _domain(texts: tuple[str, ...]) -> TdxMeasurement:
    if len(texts) != 5:
        raise errors.Misconfigured("a trust domain has five measurements: MRTD and four registers")
    mrtd, r0, r1, r2, r3 = (bytes.fromhex(text) for text in texts)
    return TdxMeasurement(mrtd, (r0, r1, r2, r3))
