"""Scheme `secagg`: nobody sees one member's update; only the contributors of a round open its sum.

A member masks its update with a one-time mask (`crypto.kahe`) and encrypts the mask's short key under its own
public key of the double trapdoor (`crypto.double_trapdoor`), with a proof that it knows what it encrypts. Masked
updates add up, and so do ciphertexts. Key centre and server each give half of what opens the sum of the keys,
sealed to the contributors. In direct mode there is no mask: every value is encrypted, as system E was published.

Everything here is bytes in, bytes out: who may be answered, and when, is decided by `protocol.secagg` and the nodes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa import encoding, errors
from hansa.crypto import double_trapdoor as dt
from hansa.crypto import kahe, sealing
from hansa.ports import Entropy, Fetch, Half, Opened, Sealed
from hansa.protocol import cohorts, secagg
from hansa.protocol.aggregation import clip, clip_bound
from hansa.protocol.model import parameters as length_of
from hansa.protocol.secagg import Opening, Parties, Sums
from hansa.protocol.state import State
from hansa.records import Limits, Terms, Update
from hansa.schemes import secagg_blobs as blobs
from hansa.schemes import sums

NOBODY: Mapping[int, bytes] = {}

_THREADS = os.cpu_count() or 1
"""Of masking and unmasking; what comes out does not depend on them."""

_MASK = "hansa/secagg-mask/1"
_NAMES = {dt.Side.KEY_CENTRE: "key centre", dt.Side.SERVER: "server"}


class _NotLetIn(errors.Untrusted):
    """What was to let a member in does not open: not the fault of the half's author."""


class SecAgg:
    """One party's end of the scheme: its id, its X25519 private key, its randomness."""

    def __init__(self, id: int, private_key: bytes, entropy: Entropy, limits: Limits, terms: Terms) -> None:
        self._id = id
        self._private_key = private_key
        self._entropy = entropy
        self._limits = limits
        self._terms = terms
        self._options = secagg.secagg_of(terms)
        self._length = length_of(terms.layout)
        self._sums: tuple[tuple[Any, ...], list[tuple[Sums, list[int], memoryview]]] | None = None

    # parameters and keys

    def found(self, state: State) -> Sealed:
        """Make the parameters; seal each half to those who hold it. The primes do not outlive the call."""
        made = dt.set_up(self._options.modulus, self._draws("setup"), self._mode)
        parties, halves, attachments = self._parties(state), [], []
        for half, group in ((made.key_centre, parties.centres), (made.server, parties.servers)):
            secret, context = (
                self._entropy(f"half/{half.side}", 32),
                blobs.half_context(state.domain, half.side),
            )
            grant = sealing.make_grant(secret, {i: state.members[i].key for i in group}, context)
            data = dt.write_half(made.parameters, half)
            name = encoding.digest(grant)
            draws = self._draws(f"half-salt/{half.side}")
            blob = sealing.seal(data, secret, name, context, entropy=draws)
            halves.append([int(half.side), name, encoding.digest(blob)])
            attachments += [grant, blob]
        fields = [blobs.SETUP, state.domain, dt.write_parameters(made.parameters), halves]
        return Sealed(encoding.encode(fields), tuple(attachments))

    def check_setup(self, state: State, fetch: Fetch) -> None:
        """Whether the recorded parameters are those of an honest set-up. Raises `Unavailable`, `Untrusted`."""
        self._parameters(state, fetch)

    def public_key(self, state: State, fetch: Fetch) -> bytes:
        """The own public key with its proof of possession; the same bytes whenever it is asked for."""
        parameters, key = self._parameters(state, fetch), self._weak_key(state, fetch)
        context = blobs.key_context(state.domain, self._id)
        # The proof's nonce comes from the trapdoor, so that nothing random is needed.
        proof = dt.prove_possession(parameters, key, context, bytes)
        fields = [blobs.KEY, state.domain, self._id, dt.write_public(parameters, key.public)]
        return encoding.encode([*fields, dt.write_possession(parameters, proof)])

    def check_key(self, state: State, member: int, blob: bytes, fetch: Fetch) -> None:
        """Whether a public key is a member's own. Raises `Untrusted`."""
        blobs.read_key(self._parameters(state, fetch), state.domain, member, blob)

    # uploads

    def seal(self, state: State, update: Update, fetch: Fetch) -> Sealed:
        """An update clipped, weighted and masked, under a mask key drawn for it alone."""
        parameters, public = self._parameters(state, fetch), self._certified(state, self._id, fetch)
        values, draws = self._weighted(update), self._draws(f"upload/{state.round}")
        wire, fields = b"", values
        if self._masked:
            fresh = self._hedged(state, values, draws)
            secret = kahe.draw_secret(fresh)
            mask, seed = self._mask(state), secagg.mask_seed(state)
            wire = bytes(kahe.mask(mask, seed, secret, values, fresh, threads=_THREADS))
            fields = secret.astype(np.int32)
        name = encoding.digest(wire) if wire else blobs.NONE
        key = secagg.certified(state, self._parties(state), self._id)
        assert key is not None
        context = blobs.upload_context(state, self._id, update.version, key, name)
        ciphertexts, proof = dt.encrypt_and_prove(
            parameters, public, dt.pack(self._packing(state, parameters), fields), context, draws
        )
        data = dt.write_ciphertexts(parameters, ciphertexts), dt.write_knowledge(parameters, proof)
        blob = encoding.encode([blobs.UPLOAD, state.domain, state.round, self._id, key, name, *data])
        return Sealed(blob, (wire,) if wire else ())

    def _hedged(self, state: State, values: NDArray[np.int32], draws: sealing.Entropy) -> sealing.Entropy:
        """Entropy of one mask, hashed also from the own key and what is masked.

        So no secret serves for two masks even where randomness repeats, as after a restart from a copy of a machine.
        """
        parts = state.domain, state.round, self._private_key, encoding.digest(values.data), draws(32)
        seed = encoding.encode([_MASK, *parts])
        pieces = iter(range(2**63))
        return lambda n: hashlib.shake_256(seed + next(pieces).to_bytes(8, "big")).digest(n)

    def check(self, state: State, member: int, blob: bytes, fetch: Fetch) -> None:
        """Hold a member's upload against its commitment: right key, proof of knowledge, a well-formed mask.

        Raises `Untrusted`.
        """
        if secagg.weight(self._terms.aggregation, state, member) < 1:
            # A cohort of nothing else would divide by zero.
            raise errors.Untrusted("the update claims to come from no examples")
        upload = self._proven_upload(state, member, blob, fetch)
        if self._masked:
            kahe.check_wire(self._mask(state), self._length, fetch(upload.wire))

    def _proven_upload(self, state: State, member: int, blob: bytes, fetch: Fetch) -> blobs.Upload:
        """An upload whose sender knows what it encrypted, for this round. Raises `Untrusted`."""
        commit = state.current.commits[member]
        if commit.base != state.version:
            raise errors.Untrusted("trained on another model than the one that stands", digest=commit.digest)
        upload = self._upload(state, member, blob, fetch)
        parameters = self._parameters(state, fetch)
        public = self._certified(state, member, fetch)
        context = blobs.upload_context(state, member, commit.base, upload.key, upload.wire)
        count = self._packing(state, parameters).plaintexts(self._fields)
        name = encoding.digest(encoding.encode([context, count, commit.digest, public.to_bytes(1024, "big")]))
        if name not in _PROVEN:
            ciphertexts = dt.read_ciphertexts(parameters, upload.ciphertexts, count)
            proof = dt.read_knowledge(parameters, upload.proof)
            dt.check_knowledge(parameters, public, ciphertexts, proof, context)
            if len(_PROVEN) >= _PROVEN_LIMIT:
                _PROVEN.clear()
            _PROVEN.add(name)
        return upload

    def references(self, blob: bytes) -> tuple[bytes, ...]:
        """The masked update that an upload names; the sealed halves that a set-up does. Raises `Untrusted`."""
        return blobs.references(blob, limit=self._limits.blob)

    # sums

    def combine(self, state: State, fetch: Fetch) -> tuple[Sums, ...]:
        """What the updates of each cohort add up to. Raises `Untrusted`."""
        return tuple(found for found, _, _ in self._combined(state, fetch))

    def _combined(self, state: State, fetch: Fetch) -> list[tuple[Sums, list[int], memoryview]]:
        """For each cohort: its sums by digest, the product of its ciphertexts, the sum of its masked updates."""
        groups = cohorts.split(state)
        name = state.domain, state.round, state.current.set_root, groups
        if self._sums is None or self._sums[0] != name:
            self._sums = name, [self._sum(state, sorted(group), fetch) for group in groups]
        return self._sums[1]

    def _sum(self, state: State, group: Sequence[int], fetch: Fetch) -> tuple[Sums, list[int], memoryview]:
        parameters = self._parameters(state, fetch)
        elements, masked = self._product(state, group, fetch), memoryview(b"")
        if self._masked:
            running = kahe.Accumulator(self._mask(state), self._length)
            for id in group:
                upload = self._upload(state, id, fetch(state.current.commits[id].digest), fetch)
                running.add(fetch(upload.wire))
            masked = running.sum_bytes()
        name = encoding.digest(masked) if masked else blobs.NONE
        keys = encoding.digest(blobs.write_elements(parameters, elements))
        return Sums(tuple(group), name, keys), elements, masked

    def _product(self, state: State, group: Iterable[int], fetch: Fetch) -> list[int]:
        """Ciphertexts of all keys of a group, multiplied."""
        parameters, rows = self._parameters(state, fetch), []
        count = self._packing(state, parameters).plaintexts(self._fields)
        for id in group:
            upload = self._upload(state, id, fetch(state.current.commits[id].digest), fetch)
            rows.append(dt.read_ciphertexts(parameters, upload.ciphertexts, count))
        return dt.add_across_keys(parameters, rows)

    # halves

    def halve(
        self,
        state: State,
        opening: Opening,
        readers: frozenset[int],
        fetch: Fetch,
        enclaves: Mapping[int, bytes] = NOBODY,
    ) -> bytes:
        """The own half of an opening, with its proof, sealed to `readers`, to `enclaves` and to the own group.

        The products are made here from the store, of uploads that are proven to be of this round: who got others into
        V, copies of earlier ones at worst, gets no half. Raises `Untrusted` if they are not those of the opening.
        """
        parameters = self._parameters(state, fetch)
        half, body = self._own_half(state, fetch), []
        for k, group in enumerate(opening.cohorts):
            for id in group.members:
                self._proven_upload(state, id, fetch(state.current.commits[id].digest), fetch)
            elements = self._product(state, group.members, fetch)
            data = blobs.write_elements(parameters, elements)
            if encoding.digest(data) != group.keys:
                raise errors.Untrusted(
                    "the opening names another product of ciphertexts than the store gives"
                )
            context = blobs.answer_context(opening, k)
            draws = self._draws(f"answer/{state.round}/{k}")
            answer = dt.raise_to_half(parameters, elements, half, context, draws)
            body.append([data, dt.write_answer(parameters, answer)])
        data = encoding.encode(body)
        return self._seal_half(state, opening, half.side, data, readers, fetch, enclaves)

    def _seal_half(
        self,
        state: State,
        opening: Opening,
        side: dt.Side,
        body: bytes,
        readers: frozenset[int],
        fetch: Fetch,
        enclaves: Mapping[int, bytes] = NOBODY,
    ) -> bytes:
        draws = self._draws(f"seal-half/{state.round}")
        name = secagg.name_of(opening)
        key, context = draws(32), blobs.sealed_context(state.domain, opening.round, side, name)
        parties = self._parties(state)
        keyed = [id for id in sorted(readers) if secagg.certified(state, parties, id) is not None]
        wraps = [[id, self._wrap(state, id, key, context, fetch, draws)] for id in keyed]
        group = parties.colleagues(self._id)
        grant = sealing.make_grant(key, {**{i: state.members[i].key for i in group}, **enclaves}, context)
        sealed = sealing.seal(body, key, encoding.digest(grant), context, entropy=draws)
        fields = [blobs.HALF, state.domain, opening.round, int(side), name, grant, wraps, sealed]
        return encoding.encode(fields)

    def _wrap(
        self, state: State, id: int, key: bytes, context: bytes, fetch: Fetch, draws: sealing.Entropy
    ) -> bytes:
        public = self._certified(state, id, fetch)
        return dt.wrap_key(self._parameters(state, fetch), public, key, context, draws)

    def admit(self, state: State, member: int, half: Half, fetch: Fetch) -> bytes:
        """A blob that lets one more member read a half of the own group. Raises `Untrusted`."""
        side = self._side(state, self._id)
        found = self._read_half(state, half.blob, side)
        context = blobs.sealed_context(state.domain, found.round, side, found.opening)
        key = sealing.open_grant(found.grant, self._id, self._private_key, context)
        draws = self._draws(f"admit/{found.round}/{member}")
        wrapped = self._wrap(state, member, key, context, fetch, draws)
        return encoding.encode([blobs.ADMISSION, state.domain, encoding.digest(half.blob), member, wrapped])

    def check_half(self, state: State, round: int, half: Half) -> frozenset[int]:
        """Who can open a half by their weak keys; its form and round need no key to be seen. Raises `Untrusted`."""
        found = self._read_half(state, half.blob, self._side(state, half.author))
        if found.round != round:
            raise errors.Untrusted(
                f"is the half of an opening of round {found.round}", digest=encoding.digest(half.blob)
            )
        return frozenset(found.wraps)

    def check_admission(self, state: State, half: Half, admission: bytes, member: int) -> None:
        """Whether an admission lets this member read this half; what is wrapped needs its key. Raises `Untrusted`."""
        blobs.read_admission(admission, state.domain, half.blob, member, limit=self._limits.record)

    def _read_half(self, state: State, blob: bytes, side: dt.Side) -> blobs.SealedHalf:
        """A half as it lies in the store. Raises `Untrusted`."""
        return blobs.read_half(blob, state.domain, side, limit=self._half_limit(state))

    def _half_limit(self, state: State) -> int:
        return min(sums.half_limit(self._options, self._length, len(state.members)), self._limits.blob)

    def _answers(self, state: State, half: Half, opening: Opening, fetch: Fetch) -> sums.Answers:
        """What a half holds for each cohort: elements and the proven answer to them.

        Raises `Unavailable` if it was not sealed to this member, `Untrusted` if it is wrong.
        """
        parameters, side = self._parameters(state, fetch), self._side(state, half.author)
        found, name = self._read_half(state, half.blob, side), secagg.name_of(opening)
        if (found.round, found.opening) != (opening.round, name):
            raise errors.Untrusted("it answers another opening")
        context = blobs.sealed_context(state.domain, found.round, side, name)
        key, limit = self._content_key(state, half, found, context, fetch), self._half_limit(state)
        data = sealing.open_sealed(found.sealed, key, context, limit=limit)
        return sums.read_answers(parameters, opening, side, data, half.blob, limit=limit)

    def _content_key(
        self, state: State, half: Half, found: blobs.SealedHalf, context: bytes, fetch: Fetch
    ) -> bytes:
        """The key of a half that was sealed to this member, at once or when it was let in.

        Raises `Unavailable` if it was not, `Untrusted` where its author wrapped another, `_NotLetIn` where those did
        that were to let it in.
        """
        parameters, own = self._parameters(state, fetch), self._weak_key(state, fetch)
        certified = secagg.certified(state, self._parties(state), self._id, found.round)
        # A half that was sealed to a key which this member has given up since is nobody's fault.
        if (
            self._id in found.wraps
            and certified is not None
            and own.public == self._public(state, self._id, certified, fetch)
        ):
            return dt.unwrap_key(parameters, own, found.wraps[self._id], context)
        admitted = list(self._admitted(state, half))
        for wrapped in admitted:
            with suppress(errors.Untrusted):
                return dt.unwrap_key(parameters, own, wrapped, context)
        if admitted:
            raise _NotLetIn(
                f"what was to let this member in to the opening of round {found.round} does not open"
            )
        raise errors.Unavailable(
            f"the opening of round {found.round} was not sealed to this member",
            hint="Only those that took part in a round open it; others ask to be let in (re-entry).",
        )

    def _admitted(self, state: State, half: Half) -> Iterator[bytes]:
        """Keys of a half as they were wrapped to this member afterwards."""
        for admission in half.admissions:
            with suppress(errors.Untrusted):
                limit = self._limits.record
                yield blobs.read_admission(admission, state.domain, half.blob, self._id, limit=limit)

    def _plaintexts(
        self, state: State, opening: Opening, halves: Sequence[Half], fetch: Fetch
    ) -> tuple[sums.Plaintexts, list[str]]:
        """For each cohort what its product of ciphertexts holds; and what is wrong with halves that are.

        Of each side the first right half serves. Raises `Unavailable`, `Untrusted` where one has none.
        """
        right: dict[dt.Side, sums.Answers] = {}
        findings, why = [], list[errors.HansaError]()
        for half in halves:
            side = self._side(state, half.author)
            if side in right:
                continue
            try:
                right[side] = self._answers(state, half, opening, fetch)
            except (errors.Unavailable, _NotLetIn) as e:
                why.append(e)
            except errors.Untrusted as e:
                text = f"the {_NAMES[side]}'s half of the opening of round {opening.round} is wrong"
                findings.append(f"{text}, id {half.author} is at fault: {e}")
                why.append(errors.Untrusted(findings[-1], hint="Its standby may answer.", digest=e.digest))
        if right.keys() != set(dt.Side):
            raise why[0] if why else errors.Unavailable("not both halves of the opening are recorded yet")
        return sums.plaintexts(self._parameters(state, fetch), right), findings

    def open(self, state: State, opening: Opening, halves: Sequence[Half], fetch: Fetch) -> Opened:
        """The sums of the running round. Raises `Untrusted` when a half is not what it should be."""
        parameters = self._parameters(state, fetch)
        plaintexts, findings = self._plaintexts(state, opening, halves, fetch)
        combined = self._combined(state, fetch)
        totals: list[NDArray[np.int64] | None] = []
        for k, (numbers, (claimed, _, masked)) in enumerate(zip(plaintexts, combined, strict=True)):
            try:
                total = sums.total(
                    self._options, parameters, numbers, masked,
                    seed=secagg.mask_seed(state), members=len(state.current.roster),
                    count=len(claimed.members), length=self._length, threads=_THREADS,
                )  # fmt: skip
                totals.append(total)
            except errors.Untrusted as e:
                totals.append(None)
                findings.append(f"the sum of cohort {k} is spoiled: {e}")
        return Opened(tuple(totals), sums.secret(opening, plaintexts), tuple(findings))

    def secret(self, state: State, round: int, halves: Sequence[Half], fetch: Fetch) -> bytes:
        """The secret of the standing model's opening. Raises `Unavailable` if it was not sealed to this member."""
        opening = secagg.decode_opening(fetch(state.model_evidence))
        if opening.round != round:
            raise errors.Untrusted("the standing model's opening is of another round")
        return sums.secret(opening, self._plaintexts(state, opening, halves, fetch)[0])

    def seal_model(self, state: State, secret: bytes, data: bytes) -> bytes:
        """The standing model, sealed under the secret of its opening."""
        draws = self._draws(f"release/{state.model_round}")
        return sealing.seal(data, secret, state.model_evidence, blobs.model_context(state), entropy=draws)

    def open_model(self, state: State, secret: bytes, blob: bytes) -> bytes:
        """The reverse. Raises `Untrusted`."""
        return sealing.open_sealed(blob, secret, blobs.model_context(state), limit=self._limits.blob)

    # what the terms say

    @property
    def _masked(self) -> bool:
        return sums.masked(self._options)

    @property
    def _mode(self) -> dt.Mode:
        return sums.mode(self._options)

    @property
    def _fields(self) -> int:
        return sums.fields(self._options, self._length)

    def _mask(self, state: State) -> kahe.Parameters:
        return sums.mask(self._options, len(state.current.roster))

    def _packing(self, state: State, parameters: dt.Parameters) -> dt.Packing:
        return sums.packing(self._options, parameters, len(state.current.roster))

    def _weighted(self, update: Update) -> NDArray[np.int32]:
        aggregation, scale = self._terms.aggregation, self._terms.layout.scale
        if update.indices is not None or update.values.size != self._length:
            raise errors.Misconfigured("secagg takes dense updates", hint="Use [training] gamma = 1.0.")
        values = update.values
        if aggregation.rule == "clipped-mean":
            values = clip(values, clip_bound(aggregation, scale))
        limit = secagg.value_limit(self._terms)
        return np.clip(values, -limit, limit) * np.int32(min(update.examples, aggregation.weight_cap))

    # what lies in the store

    def _parties(self, state: State) -> Parties:
        return secagg.parties(self._terms, state)

    def _side(self, state: State, id: int) -> dt.Side:
        return dt.Side.KEY_CENTRE if id in self._parties(state).centres else dt.Side.SERVER

    def _setup(self, state: State, fetch: Fetch) -> blobs.Setup:
        digest = secagg.setup(state, self._parties(state))
        if digest is None:
            raise errors.Unavailable("the key centre has not recorded its parameters yet")
        return blobs.read_setup(fetch(digest), state.domain, self._options.modulus, self._mode)

    def _parameters(self, state: State, fetch: Fetch) -> dt.Parameters:
        return self._setup(state, fetch).parameters

    def _certified(self, state: State, id: int, fetch: Fetch) -> int:
        digest = secagg.certified(state, self._parties(state), id)
        if digest is None:
            raise errors.Untrusted(
                f"no key centre has certified the public key of member {id}",
                hint="What is certified in a round counts from the next one on.",
            )
        return self._public(state, id, digest, fetch)

    def _public(self, state: State, id: int, digest: bytes, fetch: Fetch) -> int:
        return blobs.read_key(self._parameters(state, fetch), state.domain, id, fetch(digest))

    def _weak_key(self, state: State, fetch: Fetch) -> dt.WeakKey:
        return _weak_key(self._parameters(state, fetch), state.domain, self._private_key)

    def _own_half(self, state: State, fetch: Fetch) -> dt.Half:
        setup, side = self._setup(state, fetch), self._side(state, self._id)
        grant, blob = (fetch(digest) for digest in setup.halves[side])
        context = blobs.half_context(state.domain, side)
        secret = sealing.open_grant(grant, self._id, self._private_key, context)
        data = sealing.open_sealed(blob, secret, context, limit=self._limits.record)
        half = dt.read_half(setup.parameters, data)
        if half.side is not side:
            raise errors.Untrusted("the key centre dealt the wrong half")
        return half

    def _upload(self, state: State, member: int, blob: bytes, fetch: Fetch) -> blobs.Upload:
        """An upload of this round by this member, under the key that counts. Raises `Untrusted`."""
        parameters = self._parameters(state, fetch)
        size = 4 * parameters.size * self._packing(state, parameters).plaintexts(self._fields)
        said = [state.domain, state.round, member, secagg.certified(state, self._parties(state), member)]
        limit = min(size + blobs.REST, self._limits.blob)
        return blobs.read_upload(blob, said, masked=self._masked, limit=limit)

    def _draws(self, label: str) -> sealing.Entropy:
        """Entropy drawn piece by piece; a simulation derives each piece from its label."""
        pieces = iter(range(2**63))
        return lambda n: self._entropy(f"{label}/{next(pieces)}", n)


_PROVEN: set[bytes] = set()
"""Uploads whose proofs held in this process, whoever asked: what is proven depends on nothing but the bytes."""

_PROVEN_LIMIT = 8192


@lru_cache(maxsize=2048)
def _weak_key(parameters: dt.Parameters, domain: bytes, private_key: bytes) -> dt.WeakKey:
    secret = encoding.digest(encoding.encode(["hansa/secagg-weak-key/1", domain, private_key]))
    return dt.derive_key(parameters, secret)


def create(
    *,
    id: int,
    private_key: bytes,
    sign: Callable[[bytes], bytes],
    entropy: Entropy,
    limits: Limits,
    terms: Terms,
) -> SecAgg:
    """The scheme's end of one party, for the model of the terms. What it seals needs no signature of its own."""
    del sign
    if terms.tee is not None:
        from hansa.schemes.inner import Inner

        return Inner(id, private_key, entropy, limits, terms)
    return SecAgg(id, private_key, entropy, limits, terms)
