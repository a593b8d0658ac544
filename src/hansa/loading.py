"""What a member runs its enclave with: the command that starts it, and where collateral for its quotes comes from."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from hansa import attestation, encoding, errors
from hansa.attestation.policy import Policy, policy_of
from hansa.attestation.service import INTEL, from_service
from hansa.attestation.simulated import collected
from hansa.memberfile import EnclaveTable
from hansa.node import enclosure
from hansa.node.enclosure import Enclosure, Rejected
from hansa.protocol.tee import Roster, Seat
from hansa.records import (
    ZERO_DIGEST,
    Evidence,
    Governance,
    GovernanceTerms,
    Layout,
    Limits,
    SelectionTerms,
    Tee,
    Terms,
)


@dataclass(frozen=True, slots=True)
class Loader:
    """How this machine runs an enclave. `collateral` fetches that of a quote. Raises `Unavailable`."""

    provider: str
    command: tuple[str, ...]
    collateral: Callable[[bytes], bytes]

    @property
    def mode(self) -> str:
        """ "simulated" or "hardware"."""
        return "simulated" if self.provider == "simulated" else "hardware"

    def start(self) -> Enclosure:
        """A new enclave. Raises `Misconfigured` where this machine cannot run one, `Unavailable` if it dies."""
        made = Enclosure(self.command, limit=Limits().blob)
        if made.mode != self.mode:
            made.close()
            raise errors.Misconfigured(
                f"provider {self.provider} is configured, and what was started says that it is {made.mode}",
                hint="Check the command that starts the enclave, and the arguments in its manifest.",
            )
        return made


@dataclass(frozen=True, slots=True)
class Trial:
    """What an enclave of this machine said when it was asked once: nothing is verified.

    `program`: its name for itself. `nonce`: what the quote was asked over.
    """

    program: str
    statement: attestation.Statement
    nonce: bytes
    evidence: Evidence

    def record(self, policy: Policy, now: int) -> attestation.Record:
        """As members would record it at `now`, Unix seconds. Raises `Untrusted`."""
        return attestation.verify(self.evidence, policy, now, self.statement, self.nonce)


def loader_of(table: EnclaveTable, clock: Callable[[], int]) -> Loader:
    """How an `[enclave]` table says that it is run; `clock` gives Unix seconds. Raises `Misconfigured`."""
    provider = table.provider
    if provider == "simulated":
        if table.command or table.collateral is not None:
            raise errors.Misconfigured(
                "a simulated enclave is started by Hansa itself, and needs neither command nor collateral",
                hint='Delete them from [enclave], or name a provider: "gramine" or "tdx".',
            )
        return Loader(provider, tuple(enclosure.command(provider)), collected(clock))
    if provider == "gramine" and not table.command:
        raise errors.Misconfigured(
            "provider gramine needs the command that loads the signed enclave",
            hint='Add command = ["gramine-sgx", "/path/to/hansa-enclave"] to [enclave] of member.toml; '
            "docs/enclaves.md says how it is built.",
        )
    service = table.collateral or INTEL
    if not service.startswith(("https://", "http://")):
        raise errors.Misconfigured(
            f"collateral comes from a service, and {service[:60]!r} is no address of one",
            hint="Write https:// and its host, such as https://pccs.example:8081.",
        )
    command = table.command or tuple(enclosure.command(provider))
    return Loader(provider, command, from_service(service))


def loader_for(terms: Terms, table: EnclaveTable | None, clock: Callable[[], int]) -> Loader:
    """How a member with a seat runs its enclave under these terms. Raises `Misconfigured`."""
    assert terms.tee is not None
    simulated = terms.tee.accept.root == "simulation"
    if table is None and not simulated:
        raise errors.Misconfigured(
            "this member has a seat, so it runs an enclave, and the terms accept none without a processor for it",
            hint='Add [enclave] with provider = "gramine" or "tdx" to member.toml; see docs/enclaves.md.',
        )
    made = loader_of(table or EnclaveTable(), clock)
    if (made.mode == "simulated") is not simulated:
        wanted = "simulated enclaves only" if simulated else "processors under Intel's root only"
        raise errors.Misconfigured(
            f"[enclave] of member.toml says provider {made.provider}, and the terms accept {wanted}",
            hint='Use provider = "simulated".' if simulated else 'Use provider = "gramine" or "tdx".',
        )
    return made


def check(made: Loader, terms: Terms, now: int) -> None:
    """That an enclave of this machine would be accepted under these terms: one is started, asked, and ended.

    Raises `Misconfigured` when it cannot be started or would be refused; `Unavailable` when its processor or the
    collateral service does not answer.
    """
    assert terms.tee is not None
    try:
        tried(made).record(policy_of(terms.tee.accept), now)
    except errors.Untrusted as e:
        raise errors.Misconfigured(
            f"members would refuse an enclave of this machine: {e}",
            hint=f"{e.hint} `hansa enclave` shows what it is; another version of Hansa is another program.".strip(),
        ) from e


def tried(made: Loader) -> Trial:
    """Start an enclave for made-up terms, have it quoted over a random nonce, end it.

    What it measures does not depend on terms. Raises `Misconfigured`, `Unavailable`, `Untrusted`.
    """
    enclave = made.start()
    try:
        domain, nonce = secrets.token_bytes(32), secrets.token_bytes(attestation.NONCE_BYTES)
        seat = Seat(0, secrets.token_bytes(20), secrets.token_bytes(32))
        roster = Roster(domain, 0, ZERO_DIGEST, (seat,))
        enclave.begin(0, domain, encoding.encode(_TERMS), roster)
        statement, evidence = enclave.attest(nonce, made.collateral)
        return Trial(enclave.program, statement, nonce, evidence)
    except Rejected as e:
        raise errors.Unavailable(
            f"{e}, when it was asked for a trial",
            hint="Look at the quoting service of this machine (aesmd, QGS); it may only be starting.",
        ) from e
    finally:
        enclave.close()


_TERMS = Terms(
    name="trial",
    app=ZERO_DIGEST,
    scheme="tee",
    governance=Governance.COMMITTEE,
    privacy="off",
    layout=Layout(("value",), ((1,),), 16),
    initial=ZERO_DIGEST,
    initial_seed=0,
    selection=SelectionTerms(rule="none"),
    govern=GovernanceTerms(invitation="vote"),
    tee=Tee(),
)
"""What an enclave is begun with that is only to be looked at."""
