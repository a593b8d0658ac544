"""A small federation under `tee`, and hosts that speak with enclaves in this process or in one of their own."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from hansa import encoding
from hansa.attestation import Policy, simulated_pki, verify
from hansa.attestation.simulated import collected
from hansa.crypto import sealing, signatures
from hansa.enclave.providers import provider, simulated_measurement
from hansa.enclave.serving import serve
from hansa.node.enclosure import Enclosure, Output, command
from hansa.protocol import checkpoint, tee
from hansa.protocol.aggregation import Contribution
from hansa.protocol.contexts import model_context, readers_digest, update_context
from hansa.protocol.payloads import encode_payload
from hansa.protocol.tee import Entry, Manifest, Roster, Seat
from hansa.records import (
    ZERO_DIGEST,
    Governance,
    GovernanceTerms,
    Layout,
    Limits,
    Model,
    SelectionTerms,
    Tee,
    Terms,
    Training,
    Update,
)

NOW = 1_750_000_123
FEDERATION = b"f" * 32
LENGTH = 60
LAYOUT = Layout(("bias", "weight"), ((10,), (5, 10)), 16)
SIMULATION = Policy(
    simulated_pki.root_of(simulated_pki.simulation()), enclaves=(simulated_measurement().mrenclave,)
)
READY = provider("simulated")


def terms_of(members: int = 5, **parts: Any) -> Terms:
    """Terms for a model of 60 values; `parts` take the place of their own."""
    written: dict[str, Any] = {
        "name": "t",
        "app": b"a" * 32,
        "scheme": "tee",
        "governance": Governance.SERVER,
        "privacy": "off",
        "layout": LAYOUT,
        "initial": b"i" * 32,
        "initial_seed": 0,
        "training": Training(min_members=members),
        "selection": SelectionTerms(rule="none"),
        "govern": GovernanceTerms(invitation="vote"),
        "tee": Tee(),
    }
    return Terms(**{**written, **parts})


class Threaded(Enclosure):
    """An enclave in a thread: the same bytes, without a process to start. `ready`: who quotes, and its mode."""

    ready = READY

    def _launched(self, command: Sequence[str], theirs: socket.socket) -> Any:
        end = theirs.dup()

        def run() -> None:
            with end, end.makefile("rb") as source, end.makefile("wb") as sink, suppress(OSError):
                serve(source, sink, *self.ready)

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        return _NoProcess(self.thread)


class _NoProcess:
    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread

    def poll(self) -> int | None:
        return None if self._thread.is_alive() else 0

    def wait(self, timeout: float | None = None) -> int:
        return 0

    def kill(self) -> None:
        pass


@dataclass(frozen=True)
class Member:
    """A member and all its secrets."""

    id: int
    account: signatures.Account
    private_key: bytes

    @property
    def seat(self) -> Seat:
        return Seat(self.id, self.account.address, sealing.public_key(self.private_key))


def member(id: int) -> Member:
    def secret(label: str) -> bytes:
        return hashlib.sha256(f"{label}/{id}".encode()).digest()

    return Member(id, signatures.account(secret("account")), secret("key"))


def drawn(*label: Any) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(repr(label).encode()).digest()[:8], "big"))


def entropy(*label: Any) -> sealing.Entropy:
    return drawn(*label).bytes


class Federation:
    """Members 0.. of a federation in its first round, and what they would sign and seal."""

    def __init__(self, terms: Terms | None = None, members: int = 5) -> None:
        self.terms = terms or terms_of(members)
        self.members = {id: member(id) for id in range(members)}
        self.roster = Roster(FEDERATION, 0, ZERO_DIGEST, tuple(m.seat for m in self.members.values()))
        values = drawn("model").integers(-(2**20), 2**20, LENGTH).astype(np.int32)
        self.base = checkpoint.initial(self.terms.aggregation, Model(self.terms.layout, values))

    def host(self, id: int = 0, *, process: bool = False) -> Host:
        """An enclave that was begun, and that members attested."""
        return Host(
            self, id, (Enclosure if process else Threaded)(command("simulated"), limit=10**7, timeout=60)
        )

    def updates(self, round: int = 1, version: int = 0, size: int = 2**16) -> dict[int, Update]:
        """One update a member."""
        return {
            id: self.update(id, drawn(id, round).integers(-size, size, LENGTH), round) for id in self.members
        }

    def update(self, id: int, values: Any, round: int = 1, **parts: Any) -> Update:
        said = {
            "federation": FEDERATION, "round": round, "member": id, "version": 0, "base": self.base.digest,
            "examples": 10 + id, "millis": 5, "timestamp": 1000 + id, "length": LENGTH,
        }  # fmt: skip
        return Update(**{**said, **parts}, values=np.asarray(values, np.int32))

    def signed(
        self, name: str, number: int, digest: bytes, signers: Sequence[int] | None = None
    ) -> tee.Signatures:
        """Signatures of members over a roster or a manifest; a quorum where nobody is named."""
        ids = range(2 * len(self.members) // 3 + 1) if signers is None else signers
        data = encoding.message_bytes(FEDERATION, name, number, digest)
        return tuple((id, self.members[id].account.sign(data)) for id in ids)

    def decoded(self, data: bytes) -> checkpoint.Checkpoint:
        return checkpoint.decode(data, self.terms.aggregation, self.terms.layout, Limits())

    def plain(self, updates: Mapping[int, Update]) -> checkpoint.Checkpoint:
        """What scheme `plaintext` makes of the same updates."""
        contributions = [Contribution(u.member, u.examples, u.values) for u in updates.values()]
        return checkpoint.advance(self.terms.aggregation, self.base, contributions)


@dataclass(frozen=True)
class Sealed:
    """A member's payload as it lies in the store."""

    blob: bytes
    grant: bytes
    update: Update


class Host:
    """A host and its enclave. What it was given by the attested enclave is in `statement`."""

    def __init__(self, made: Federation, id: int, enclosure: Enclosure) -> None:
        self.made, self.id, self.enclosure = made, id, enclosure
        enclosure.begin(id, FEDERATION, encoding.encode(made.terms), made.roster)
        self.statement = self.attest(b"%032d" % id)

    def attest(self, nonce: bytes) -> Any:
        """The statement, which members have verified."""
        statement, evidence = self.enclosure.attest(nonce, collected(lambda: NOW))
        record = verify(evidence, SIMULATION, NOW, statement, nonce)
        assert record.mode == "simulated"
        return statement

    @property
    def candidate(self) -> tuple[int, bytes]:
        return self.id, self.statement.seal_key

    def take(
        self, manifest: Manifest, sealed: Mapping[int, Sealed], order: Sequence[int] | None = None
    ) -> Output:
        """A whole round."""
        self.start(manifest)
        self.enclosure.base(self.made.base.data)
        for id in order or list(sealed):
            self.enclosure.payload(id, sealed[id].grant, sealed[id].blob)
        return self.enclosure.finish()

    def start(self, manifest: Manifest) -> None:
        self.enclosure.start(manifest, self.made.signed("Manifest", manifest.round, manifest.digest))


def stand_in(id: int) -> Any:
    """As much of a host as members need to seal to its enclave."""
    return SimpleNamespace(candidate=(id, member(id).seat.key))


def payload_bytes(made: Federation, update: Update, signer: int | None = None) -> bytes:
    return encode_payload(update, made.members[update.member if signer is None else signer].account.sign)


def sealed(
    made: Federation, update: Update, hosts: Sequence[Host], *, plain: bytes | None = None, **context: Any
) -> Sealed:
    """A member's payload for the enclaves of these hosts; `plain` and `context` take the place of the right ones."""
    readers = tee.sealed_to(tuple(h.candidate for h in hosts))
    secret = entropy("secret", update.member, update.round)(32)
    bound = sealing.grant_context(FEDERATION, readers_digest(readers), update.member)
    grant = sealing.make_grant(secret, readers, bound)
    to = {"domain": FEDERATION, "round": update.round, "member": update.member, "version": update.version}
    blob = sealing.seal(
        payload_bytes(made, update) if plain is None else plain,
        secret,
        encoding.digest(grant),
        update_context(**{**to, **context}),
        entropy=entropy("salt", update.member, update.round),
    )
    return Sealed(blob, grant, update)


def manifest_of(
    made: Federation, all_sealed: Mapping[int, Sealed], hosts: Sequence[Host], **parts: Any
) -> Manifest:
    """What an honest quorum signs of these commitments."""
    entries = tuple(
        Entry(
            id, encoding.digest(s.blob), s.update.version, s.update.base, s.update.examples, s.update.millis,
            s.update.timestamp,
        )
        for id, s in sorted(all_sealed.items())
    )  # fmt: skip
    written = Manifest(
        FEDERATION,
        next(iter(all_sealed.values())).update.round,
        made.roster.digest,
        0,
        made.base.digest,
        tuple(sorted(h.candidate for h in hosts)),
        entries,
        tuple((m.id, m.seat.key) for m in made.members.values()),
    )
    return replace(written, **parts)


def opened(made: Federation, output: Output, host: Host, reader: int, version: int = 1) -> bytes:
    """The checkpoint as a member reads it."""
    readers = {m.id: m.seat.key for m in made.members.values()}
    context = sealing.grant_context(FEDERATION, readers_digest(readers), host.id)
    secret = sealing.open_grant(output.grant, reader, made.members[reader].private_key, context)
    return sealing.open_sealed(output.blob, secret, model_context(FEDERATION, version, host.id), limit=10**7)
