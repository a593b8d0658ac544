"""Scheme `tee`: an attested enclave sees single updates, members see models, and nobody else sees anything.

An update is sealed to all candidates of its round (`protocol.attested`), so that the enclave of each can go on
where another one's host vanished. Models are sealed to the roster, by the enclave that made them or by a member.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hansa import encoding, errors
from hansa.crypto import sealing
from hansa.ports import Entropy, Fetch, Sealed
from hansa.protocol import attested, tee
from hansa.protocol.contexts import readers_digest, update_context
from hansa.protocol.model import parameters
from hansa.protocol.payloads import encode_payload, payload_limit
from hansa.protocol.state import State
from hansa.records import Limits, Terms, Update
from hansa.schemes.grants import Grants, Readers


class Enclaved:
    """One party's end of the scheme: its id, its X25519 private key, its signature, its randomness."""

    def __init__(
        self,
        id: int,
        private_key: bytes,
        sign: Callable[[bytes], bytes],
        entropy: Entropy,
        limits: Limits,
        terms: Terms,
    ) -> None:
        self._id = id
        self._sign = sign
        self._entropy = entropy
        self._terms = terms
        self._length = parameters(terms.layout)
        self._found: tuple[Mapping[int, bytes], Readers] = {}, {}
        self._grants = Grants(id, private_key, entropy, limits)

    def seal(self, state: State, update: Update, fetch: Fetch) -> Sealed:
        """An update that the enclave of each candidate can open, and nobody else. Raises `Unavailable`."""
        readers = self._enclaves(state, fetch)
        if not readers:
            raise errors.Unavailable(
                f"no enclave is attested for round {state.round}",
                hint="A host records a quote of its enclave, and a quorum of members has to vouch for it.",
            )
        roster = readers_digest(readers)
        secret = self._entropy(f"grant/{update.round}/{roster.hex()}", sealing.SECRET_BYTES)
        grant = sealing.make_grant(secret, readers, sealing.grant_context(state.domain, roster, self._id))
        blob = sealing.seal(
            encode_payload(update, self._sign),
            secret,
            encoding.digest(grant),
            update_context(state.domain, update.round, update.member, update.version),
            entropy=lambda n: self._entropy(f"update/{update.round}", n),
        )
        return Sealed(blob, (grant,))

    def check(self, state: State, member: int, blob: bytes, fetch: Fetch) -> None:
        """Whether a blob may be a sealed update for this round's candidates; what is in it only they see.

        Raises `Untrusted`.
        """
        header = sealing.read_header(blob)
        if len(blob) > sealing.sealed_size(payload_limit(self._length)) or len(blob) != sealing.sealed_size(
            header.length
        ):
            raise errors.Untrusted(
                f"{len(blob)} bytes are no sealed update of this model", digest=encoding.digest(blob)
            )
        if sealing.read_grant(fetch(header.grant)).readers != sorted(self._enclaves(state, fetch)):
            raise errors.Untrusted(
                f"the update of member {member} is sealed to other enclaves than those of this round",
                hint="Its author must seal to all candidates, or none could take another one's place.",
                digest=header.grant,
            )

    def references(self, blob: bytes) -> tuple[bytes, ...]:
        """The digest of the grant that a sealed blob names. Raises `Untrusted`."""
        return (sealing.read_header(blob).grant,)

    def release(self, state: State, version: int, checkpoint: bytes) -> Sealed:
        """A model sealed to the readers of the running round."""
        return self._grants.release(state, version, checkpoint)

    def open_release(
        self, domain: bytes, readers: Readers, author: int, version: int, blob: bytes, fetch: Fetch
    ) -> bytes:
        """Canonical bytes of a model that `author`, or its enclave, released to `readers`. Raises `Untrusted`."""
        return self._grants.open_release(domain, readers, author, version, blob, fetch)

    def _enclaves(self, state: State, fetch: Fetch) -> Readers:
        found = attested.candidates(self._terms, state)
        if self._found[0] != found:
            known = [attested.candidate(host, fetch(digest))[0] for host, digest in found.items()]
            self._found = found, tee.sealed_to(tuple((each.host, each.seal_key) for each in known))
        return self._found[1]


def create(
    *,
    id: int,
    private_key: bytes,
    sign: Callable[[bytes], bytes],
    entropy: Entropy,
    limits: Limits,
    terms: Terms,
) -> Enclaved:
    """The scheme's end of one party, for the model of the terms."""
    return Enclaved(id, private_key, sign, entropy, limits, terms)
