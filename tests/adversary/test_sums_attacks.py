"""`secagg` under attack by its members, its leader, its store, its key centres and its servers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from tests.adversary.hostile import Wrapped, available, findings, item, outcomes, signed
from tests.adversary.test_faults import Killed, WrongBytes
from tests.sums import published_primes, summed, until_final  # noqa: F401, a fixture
from tests.tiny import Tiny, moved, node

from hansa import encoding, errors
from hansa.crypto import double_trapdoor as dt
from hansa.crypto import kahe
from hansa.crypto.double_trapdoor import knowledge
from hansa.node import answers
from hansa.node.journal import open_journal
from hansa.ports import Half, Sealed
from hansa.protocol import messages as msg
from hansa.protocol import opening_plan, secagg
from hansa.protocol.secagg import Opening
from hansa.records import Outcome, Phase, RecordKind

BAD, SERVER, CENTRE = 2, 5, 6
HONEST = frozenset({0, 1, 3, 4})
EVERYBODY = HONEST | {BAD}


@pytest.fixture(scope="module")
def undisturbed() -> Tiny:
    """One round in which the hostile member sends nothing."""
    made = summed(idle=frozenset({BAD}), rounds=1)
    made.run()
    return made


@pytest.fixture(scope="module")
def whole() -> Tiny:
    """One round in which everybody takes part."""
    made = summed(rounds=1)
    made.run()
    return made


class Alone(Wrapped):
    """A scheme whose `methods` its owner has replaced; each is called with the honest scheme before all else."""

    def __init__(self, inner: Any, **methods: Callable[..., Any]) -> None:
        super().__init__(inner)
        for name, method in methods.items():
            setattr(self, name, lambda *given, m=method: m(inner, *given))


def with_scheme(**methods: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda world: replace(world, scheme=Alone(world.scheme, **methods))


def by_id(made: Tiny, id: int) -> Any:
    return next(n for n in made.nodes if n.me.id == id)


def record(made: Tiny, id: int, round: int, kind: int, digest: bytes) -> None:
    """Bring a record of this id to the chain, whatever its node thinks of it."""
    signature = signed(made, id, "Record", round, int(kind), digest)
    made.ledger(id).submit(msg.Record(round, int(kind), id, digest, signature))


def recorded(made: Tiny, kind: int, *ids: int) -> list[int]:
    """Rounds for which one of these ids recorded something of this kind."""
    return [round for id in ids for round, _ in made.state.recorded.get((kind, id), ())]


# what a member uploads


def bent(bend: Callable[[list[Any], tuple[bytes, ...], Any], Any]) -> Callable[[Any], Any]:
    """A member that alters the fields of its upload, or also its attachments, before it commits to them.

    Fields: kind, federation, round, member, key, digest of the wire, ciphertexts, proof.
    """

    def seal(inner: Any, state: Any, update: Any, fetch: Any) -> Sealed:
        honest = inner.seal(state, update, fetch)
        tools = SimpleNamespace(state=state, fetch=fetch, parameters=inner._parameters(state, fetch))
        fields, wires = encoding.decode(honest.blob), honest.attachments
        made = bend(fields, wires, tools)
        fields, wires = made if isinstance(made, tuple) else (made, wires)
        return Sealed(encoding.encode(fields), wires)

    return with_scheme(seal=seal)


def at(fields: list[Any], index: int, value: Any) -> list[Any]:
    return [*fields[:index], value, *fields[index + 1 :]]


def ciphertexts(fields: list[Any], tools: Any) -> list[dt.Ciphertext]:
    size = 4 * tools.parameters.size
    return dt.read_ciphertexts(tools.parameters, fields[6], len(fields[6]) // size)


def altered(change: Callable[[dt.Ciphertext, list[dt.Ciphertext], Any], dt.Ciphertext]) -> Any:
    """Changes the first ciphertext of an upload, and leaves its proof."""

    def bend(fields: list[Any], wires: Any, tools: Any) -> list[Any]:
        first, *others = found = ciphertexts(fields, tools)
        new = [change(first, found, tools), *others]
        return at(fields, 6, dt.write_ciphertexts(tools.parameters, new))

    return bend


def wire(change: Callable[[bytes], bytes], *, named: bool = True) -> Any:
    """Changes the masked update; `named`: and its digest in the upload."""

    def bend(fields: list[Any], wires: Any, tools: Any) -> Any:
        new = change(wires[0])
        return at(fields, 5, encoding.digest(new)) if named else fields, (new,)

    return bend


def flipped(data: bytes, index: int = 0) -> bytes:
    bent = bytearray(data)
    bent[index] ^= 1
    return bytes(bent)


LIES = {
    "forged proof, challenge": (lambda f, w, t: at(f, 7, flipped(f[7])), "proof of knowledge"),
    "forged proof, plaintext": (lambda f, w, t: at(f, 7, flipped(f[7], -1)), "proof of knowledge"),
    "forged proof, all zero": (lambda f, w, t: at(f, 7, bytes(len(f[7]))), "proof of knowledge"),
    "T1 and T2 that do not belong together": (
        altered(lambda c, all, t: dt.Ciphertext(c.t1, all[1].t2)),
        "proof of knowledge",
    ),
    "-T1 under the proof of T1": (
        altered(lambda c, all, t: dt.Ciphertext(t.parameters.square - c.t1, c.t2)),
        "proof of knowledge",
    ),
    "an element that is no unit": (
        altered(lambda c, all, t: dt.Ciphertext(t.parameters.modulus, c.t2)),
        "ciphertexts",
    ),
    "an element out of range": (
        lambda f, w, t: at(f, 6, b"\xff" * (2 * t.parameters.size) + f[6][2 * t.parameters.size :]),
        "ciphertexts",
    ),
    "a ciphertext too few": (lambda f, w, t: at(f, 6, f[6][4 * t.parameters.size :]), "ciphertexts"),
    "other round": (lambda f, w, t: at(f, 2, 2), "is not the upload"),
    "other member": (lambda f, w, t: at(f, 3, 0), "is not the upload"),
    "another member's key": (
        lambda f, w, t: at(f, 4, dict(t.state.recorded[RecordKind.KEY, 0])[0]),
        "is not the upload",
    ),
    "fields of other types": (lambda f, w, t: at(f, 7, 7), "is not the upload"),
    "a field too many": (lambda f, w, t: [*f, b""], "malformed"),
    "no wire": (lambda f, w, t: at(f, 5, bytes(32)), "malformed"),
    "a wire with another digest": (wire(flipped, named=False), "could not be fetched"),
    "another wire than was proven": (wire(flipped), "proof of knowledge"),
    "far too many bytes": (lambda f, w, t: at(f, 6, bytes(3_000_000)), "is too long"),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_upload_that_is_not_what_it_should_be_stays_out(lie: str, undisturbed: Tiny) -> None:
    bend, word = LIES[lie]
    made = summed(worlds={BAD: bent(bend)}, rounds=1)
    made.run()
    assert outcomes(made) == [Outcome.FINAL]
    assert available(made) == [HONEST]
    assert made.state.model == undisturbed.state.model
    for text in findings(made, HONEST):
        assert f"member {BAD}" in text
        assert word in text


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda wire: wire[:-4], "bytes, not"),
        (lambda wire: wire + bytes(4), "bytes, not"),
        (lambda wire: b"\xff" * len(wire), "not below the prime"),
    ],
)
def test_a_malformed_wire_that_its_author_proved_stays_out(change: Any, word: str, undisturbed: Tiny) -> None:
    honest = kahe.mask

    def seal(inner: Any, *given: Any) -> Sealed:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kahe, "mask", lambda *a, **k: change(bytes(honest(*a, **k))))
            return inner.seal(*given)

    made = summed(rounds=1, worlds={BAD: with_scheme(seal=seal)})
    made.run()
    assert available(made) == [HONEST]
    assert made.state.model == undisturbed.state.model
    assert all(word in text for text in findings(made, HONEST))


@pytest.mark.parametrize("relabelled", [False, True])
def test_an_upload_of_an_earlier_round_stays_out(relabelled: bool) -> None:
    first: list[Sealed] = []

    def seal(inner: Any, state: Any, update: Any, fetch: Any) -> Sealed:
        first.append(inner.seal(state, update, fetch))
        blob, attachments = first[0].blob, first[0].attachments
        if relabelled:
            blob = encoding.encode(at(encoding.decode(blob), 2, state.round))
        return Sealed(blob, attachments)

    made = summed(worlds={BAD: with_scheme(seal=seal)}, rounds=2)
    made.run()
    assert available(made) == [EVERYBODY, HONEST]
    word = "proof of knowledge" if relabelled else "is not the upload"
    assert all(word in text for text in findings(made, HONEST))


@pytest.mark.parametrize("randomised", [False, True])
def test_a_copied_upload_of_another_member_stays_out(randomised: bool, undisturbed: Tiny) -> None:
    """Its author would add somebody else's update twice, and see it in a sum of two."""
    world: dict[str, Any] = {}

    def bend(fields: list[Any], wires: Any, tools: Any) -> Any:
        stolen, mask = (by_id(world["made"], 0).world.journal.get(1, f"blob/{i}") for i in range(2))
        said = encoding.decode(stolen)
        copied = [*fields[:5], *said[5:]]
        if randomised:
            p, h = (
                tools.parameters,
                by_id(world["made"], 0).world.scheme._certified(tools.state, 0, tools.fetch),
            )
            added = [dt.encrypt(p, h, 0, 12345 + k) for k, _ in enumerate(ciphertexts(copied, tools))]
            both = [ciphertexts(copied, tools), added]
            copied = at(copied, 6, dt.write_ciphertexts(p, dt.add_under_one_key(p, both)))
        return copied, (mask,)

    world["made"] = made = summed(worlds={BAD: bent(bend)}, rounds=1)
    made.run()
    assert available(made) == [HONEST]
    assert made.state.model == undisturbed.state.model
    assert all("proof of knowledge" in text for text in findings(made, HONEST))


def test_an_element_of_order_two_with_a_good_proof_disturbs_nothing(whole: Tiny) -> None:
    """-T1 can be proven, as a square is all that is proven; every opening works on squares."""

    def seal(inner: Any, state: Any, update: Any, fetch: Any) -> Sealed:
        honest, left = knowledge.encrypt, [True]

        def negating(parameters: Any, *given: Any) -> dt.Ciphertext:
            made = honest(parameters, *given)
            return dt.Ciphertext(parameters.square - made.t1, made.t2) if left and left.pop() else made

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(knowledge, "encrypt", negating)
            return inner.seal(state, update, fetch)

    made = summed(worlds={BAD: with_scheme(seal=seal)}, rounds=1)
    made.run()
    assert available(made) == [EVERYBODY]
    assert made.state.models == whole.state.models


def test_an_upload_proven_for_another_base_stays_out(undisturbed: Tiny) -> None:
    def seal(inner: Any, state: Any, update: Any, fetch: Any) -> Sealed:
        return inner.seal(state, replace(update, version=update.version + 1), fetch)

    made = summed(worlds={BAD: with_scheme(seal=seal)}, rounds=1)
    made.run()
    assert available(made) == [HONEST]
    assert made.state.model == undisturbed.state.model


# keys


def rogue_key(inner: Any, state: Any, fetch: Any) -> bytes:
    """A public key that cancels member 0's: (g**theta) / h_0, with the proof of g**theta."""
    parameters = inner._parameters(state, fetch)
    found = state.recorded.get((RecordKind.KEY, 0))
    if not found:
        raise errors.Unavailable("member 0 has no key yet")
    fields = encoding.decode(inner.public_key(state, fetch))
    other = dt.read_public(parameters, encoding.decode(fetch(found[0][1]))[3])
    own = dt.read_public(parameters, fields[3])
    rogue = own * pow(other, -1, parameters.square) % parameters.square
    return encoding.encode(at(fields, 3, dt.write_public(parameters, rogue)))


def test_a_rogue_key_is_never_certified(undisturbed: Tiny) -> None:
    made = summed(worlds={BAD: with_scheme(public_key=rogue_key)}, rounds=1)
    assert any("possession" in text for text in findings(made, {CENTRE}))
    made.run()
    assert made.state.recorded.get((secagg.about(RecordKind.CERTIFICATE, BAD), CENTRE)) is None
    assert available(made) == [HONEST]
    assert made.state.model == undisturbed.state.model


def test_a_rogue_key_that_the_key_centre_certifies_is_refused_by_members() -> None:
    """A key centre that certifies anything: member 2 commits to an upload under its rogue key."""

    def seal(inner: Any, state: Any, update: Any, fetch: Any) -> Sealed:
        fields = encoding.decode(rogue_key(inner, state, fetch))
        parameters = inner._parameters(state, fetch)
        inner._certified = lambda *_: dt.read_public(parameters, fields[3])
        return inner.seal(state, update, fetch)

    worlds = {
        BAD: with_scheme(public_key=rogue_key, seal=seal),
        CENTRE: with_scheme(check_key=lambda *_: None),
    }
    made = summed(worlds=worlds, rounds=1)
    assert made.state.recorded[secagg.about(RecordKind.CERTIFICATE, BAD), CENTRE]
    made.run()
    assert available(made) == [HONEST]
    assert all("possession" in text for text in findings(made, HONEST))


@pytest.mark.parametrize("when", ["never", "in this round", "in this round, dated back"])
def test_an_upload_under_a_key_that_was_not_certified_in_time_stays_out(
    when: str, monkeypatch: pytest.MonkeyPatch, undisturbed: Tiny
) -> None:
    def check(inner: Any, state: Any, member: int, blob: bytes, fetch: Any) -> None:
        if member == BAD:
            raise errors.Unavailable("not yet")
        inner.check_key(state, member, blob, fetch)

    def seal(inner: Any, state: Any, update: Any, fetch: Any) -> Sealed:
        """As if it were certified."""
        kind, key = secagg.about(RecordKind.CERTIFICATE, BAD), state.recorded[RecordKind.KEY, BAD][0][1]
        pretended = {**state.recorded, (kind, CENTRE): ((0, key),)}
        return inner.seal(replace(state, recorded=pretended, belated=frozenset()), update, fetch)

    worlds = {CENTRE: with_scheme(check_key=check), BAD: with_scheme(seal=seal)}
    made = summed(worlds=worlds, rounds=1)
    monkeypatch.setattr(opening_plan, "ready", lambda *_: True)
    if when != "never":
        round = 0 if "back" in when else 1
        key = made.state.recorded[RecordKind.KEY, BAD][0][1]
        record(made, CENTRE, round, secagg.about(RecordKind.CERTIFICATE, BAD), key)
    made.run()
    assert available(made) == [HONEST]
    assert made.state.model == undisturbed.state.model
    assert all("certified" in text for text in findings(made, HONEST))


def test_a_key_centre_cannot_put_a_key_of_its_own_in_a_members_place(whole: Tiny) -> None:
    """It knows the trapdoor and proves possession; with the server's half sealed to it, it would read the model."""
    made = summed(rounds=1)
    centre = by_id(made, CENTRE)
    scheme, state, fetch = centre.world.scheme, made.state, centre.blobs.get
    parameters = scheme._parameters(state, fetch)
    key = dt.derive_key(parameters, bytes(32))
    context = encoding.encode([state.domain, "key", BAD])
    proof = dt.write_possession(parameters, dt.prove_possession(parameters, key, context, bytes))
    blob = encoding.encode(
        ["hansa/secagg-key/1", state.domain, BAD, dt.write_public(parameters, key.public), proof]
    )
    scheme.check_key(state, BAD, blob, fetch)
    made.until(Phase.OPEN)
    for round in (0, 1):
        kind = secagg.about(RecordKind.CERTIFICATE, BAD)
        if not dict(made.state.recorded[kind, CENTRE]).get(round):
            record(made, CENTRE, round, kind, made.store.put(blob))
    made.run()
    assert made.state.models == whole.state.models


def test_what_is_recorded_of_keys_for_a_past_round_counts_for_nothing() -> None:
    """Neither a key centre nor a member changes under a running round whose key counts."""
    made = summed(rounds=3)
    until_final(made, 1)
    parties = secagg.parties(made.terms, made.state)
    before = [secagg.certified(made.state, parties, i) for i in range(5)]
    other = by_id(made, 0).world.journal.get(1, "blob/0")
    record(made, CENTRE, 1, secagg.about(RecordKind.CERTIFICATE, BAD), encoding.digest(other))
    record(made, BAD, 1, RecordKind.KEY, encoding.digest(other))
    assert [secagg.certified(made.state, parties, i) for i in range(5)] == before
    assert secagg.uncertified(made.state, parties) == frozenset()
    made.run()
    assert made.state.model_set == EVERYBODY


# halves of key centre and server


def wrong_half(inner: Any, state: Any, opening: Opening, readers: frozenset[int], fetch: Any) -> bytes:
    """Another exponent than that of the verification key: its proof is false."""
    honest = inner._own_half(state, fetch)
    inner._own_half = lambda *_: dt.Half(honest.side, honest.exponent + 1)
    return bytes(inner.halve(state, opening, readers, fetch))


def half_of_squares(inner: Any, state: Any, opening: Opening, readers: frozenset[int], fetch: Any) -> bytes:
    """A right answer, with its proof, to the squares of the elements that were asked for."""
    parameters, half, body = inner._parameters(state, fetch), inner._own_half(state, fetch), []
    for k, sums in enumerate(opening.cohorts):
        elements = [t * t % parameters.square for t in inner._product(state, sums.members, fetch)]
        context = encoding.encode([opening.federation, "answer", secagg.name_of(opening), k])
        answer = dt.raise_to_half(parameters, elements, half, context, bytes)
        data = b"".join(int(t).to_bytes(2 * parameters.size, "big") for t in elements)
        body.append([data, dt.write_answer(parameters, answer)])
    return bytes(inner._seal_half(state, opening, half.side, encoding.encode(body), readers, fetch))


def half_of_another(inner: Any, state: Any, opening: Opening, readers: frozenset[int], fetch: Any) -> bytes:
    """The half of an opening that nobody asked for, with the same products."""
    other = replace(opening, cohorts=tuple(replace(s, masked=bytes(32)) for s in opening.cohorts))
    return bytes(inner.halve(state, other, readers, fetch))


def half_for_nobody(inner: Any, state: Any, opening: Opening, readers: frozenset[int], fetch: Any) -> bytes:
    """Keys wrapped for other members than those that they are said to be for."""
    fields = encoding.decode(inner.halve(state, opening, readers, fetch))
    shifted = [
        [id, wrap] for (id, _), (_, wrap) in zip(fields[6], fields[6][1:] + fields[6][:1], strict=True)
    ]
    return encoding.encode(at(fields, 6, shifted))


HALVES = {
    "false proof": wrong_half,
    "other elements": half_of_squares,
    "other opening": half_of_another,
    "other readers": half_for_nobody,
    "garbage": lambda *_: encoding.encode(["hansa/secagg-half/1"] + [[[]]] * 7),
}


@pytest.mark.parametrize("lie", HALVES)
@pytest.mark.parametrize("liar", [SERVER, CENTRE])
def test_a_wrong_half_burns_the_round_and_everybody_knows_whose_it_was(lie: str, liar: int) -> None:
    made = summed(worlds={liar: with_scheme(halve=HALVES[lie])}, rounds=1)
    made.until(Phase.OPEN)
    made.until(Phase.COMMIT, 2)
    assert outcomes(made) == [Outcome.BURNED]
    assert made.state.version == 0
    side = "server" if liar == SERVER else "key centre"
    for text in findings(made, EVERYBODY):
        assert f"{side}'s half of the opening of round 1 is wrong, id {liar} is at fault" in text


@pytest.mark.parametrize(("servers", "centres", "liar"), [(2, 1, 5), (1, 2, 6)])
def test_the_half_of_a_standby_serves_where_that_of_its_colleague_is_wrong(
    servers: int, centres: int, liar: int, whole: Tiny
) -> None:
    made = summed(worlds={liar: with_scheme(halve=wrong_half)}, rounds=1, servers=servers, centres=centres)
    made.run()
    assert outcomes(made) == [Outcome.FINAL]
    assert made.state.model == whole.state.model
    assert all(f"id {liar} is at fault" in text for text in findings(made, EVERYBODY))
    assert recorded(made, RecordKind.OPENING, liar, liar + 1) == [1, 1]


def test_a_standby_does_not_answer_where_its_colleague_did_right() -> None:
    made = summed(rounds=1, servers=2, centres=2)
    made.run()
    assert recorded(made, RecordKind.OPENING, 5, 6, 7, 8) == [1, 1]


# what is opened, and how often


def asked(made: Tiny, id: int, data: bytes) -> Any:
    """A view in which these bytes are the accepted proposal, as the operator of a node can make one up."""
    view = made.ledger(id).view()
    current = replace(view.state.current, result=made.store.put(data))
    return replace(view, state=replace(view.state, current=current))


def opening_of(made: Tiny) -> Opening:
    return secagg.decode_opening(made.store.get(made.state.current.result, limit=10**6))


def undersized(opening: Opening) -> Opening:
    (sums,) = opening.cohorts
    return replace(opening, cohorts=(replace(sums, members=sums.members[:2]),))


def split_up(opening: Opening) -> Opening:
    """Sums of single members, as if there were cohorts."""
    (sums,) = opening.cohorts
    return replace(opening, cohorts=tuple(replace(sums, members=(i,)) for i in sums.members))


OPENINGS: dict[str, tuple[Callable[[Opening], Opening], str]] = {
    "undersized": (undersized, "other contributors"),
    "single members": (split_up, "other contributors"),
    "a stranger": (
        lambda o: replace(o, cohorts=(replace(o.cohorts[0], members=(0, 1, 2, 3, 9)),)),
        "contributors",
    ),
    "another round": (lambda o: replace(o, round=0), "another round"),
    "another set": (lambda o: replace(o, set_root=bytes(32)), "another round, model or set"),
    "another base": (lambda o: replace(o, base=bytes(32)), "another round, model or set"),
    "another product": (
        lambda o: replace(o, cohorts=(replace(o.cohorts[0], keys=bytes(32)),)),
        "another product",
    ),
}


@pytest.fixture(scope="module")
def opening() -> Tiny:
    """In OPEN."""
    made = summed(rounds=1)
    made.until(Phase.OPEN)
    return made


@pytest.mark.parametrize("what", OPENINGS)
@pytest.mark.parametrize("holder", [SERVER, CENTRE])
def test_nobody_gives_a_half_for_another_set_or_other_sums(opening: Tiny, what: str, holder: int) -> None:
    """Not even if a quorum of verifiers accepted it."""
    change, word = OPENINGS[what]
    changed = asked(opening, holder, secagg.encode_opening(change(opening_of(opening))))
    fresh, blobs = node(opening, holder), opening.store.digests()
    with pytest.raises(errors.Untrusted, match=word):
        fresh.centre.halve(changed)
    assert opening.store.digests() == blobs
    assert fresh.world.journal.get(1, "half") is None


def test_an_opening_of_too_few_is_refused_whatever_the_chain_says(opening: Tiny) -> None:
    """A contract that froze two updates where the terms demand three."""
    few = replace(opening_of(opening), cohorts=(replace(opening_of(opening).cohorts[0], members=(0, 1)),))
    state = replace(opening.state, current=replace(opening.state.current, available=frozenset({0, 1})))
    with pytest.raises(errors.Untrusted, match="fewer updates"):
        secagg.check_opening(few, state)


@pytest.mark.parametrize("holder", [SERVER, CENTRE])
def test_who_is_asked_a_second_time_by_hand_refuses_and_says_so_on_the_chain(holder: int) -> None:
    made = summed(rounds=1)
    made.until(Phase.OPEN)
    honest = by_id(made, holder)
    other = asked(made, holder, secagg.encode_opening(undersized(opening_of(made))))
    honest.step()
    half = honest.world.journal.get(1, "half")
    assert recorded(made, RecordKind.OPENING, holder) == [1]
    honest.centre.halve(other)
    assert honest.world.journal.get(1, "half") == half
    assert dict(made.state.recorded[RecordKind.REFUSAL, holder]) == {1: other.state.current.result}
    made.run()
    assert outcomes(made) == [Outcome.FINAL]


def test_a_leader_that_proposes_other_sums_is_rejected_and_the_next_leads(whole: Tiny) -> None:
    made = summed(rounds=1, servers=2)
    bad = by_id(made, SERVER)
    fold = bad.openings.fold

    def lying(state: Any) -> Any:
        honest = fold(state)
        (sums,) = secagg.decode_opening(honest.data).cohorts
        changed = replace(secagg.decode_opening(honest.data), cohorts=(replace(sums, keys=sums.masked),))
        bad.blobs.keep(secagg.encode_opening(changed))
        return type(honest)(secagg.encode_opening(changed))

    bad.openings.fold = lying
    made.run()
    assert outcomes(made) == [Outcome.FINAL]
    assert [e.id for e in made.chain.events if type(e).__name__ == "Elected"] == [5, 6]
    assert made.state.model == whole.state.model


def test_a_member_that_votes_for_another_model_changes_nothing(whole: Tiny) -> None:
    made = summed(rounds=1)
    by_id(made, BAD).openings.vote = lambda state: encoding.digest(b"my model")
    made.run()
    assert outcomes(made) == [Outcome.FINAL]
    assert made.state.model == whole.state.model


def reorganised(made: Tiny, lost: int = 4) -> bytes:
    """The chain goes back to before the commitments, a member vanishes, all others have forgotten what they did.

    Gives the digest of the opening that was accepted on the branch that is gone. Honest members would not sign
    another precommitment: these are all hostile, or restored from a copy.
    """
    first = made.state.current.result
    commits = [b.number for b in made.chain.blocks if isinstance(b.call, msg.Commits)]
    made.chain.undo(made.chain.block - commits[0] + 1)
    for key in made.store.list(f"outbox/{made.state.domain.hex()}"):
        made.store.delete(key)
    members = [i for i in range(5) if i != lost]
    made.nodes = [node(made, i) for i in members] + [n for n in made.nodes if n.me.id >= 5]
    return bytes(first)


@pytest.mark.parametrize("remembers", [SERVER, CENTRE])
def test_a_second_opening_of_a_round_after_a_reorganisation_is_refused(remembers: int) -> None:
    """One of the two holders has forgotten as well: the other is enough."""
    made = summed(rounds=1)
    made.until(Phase.OPEN)
    for holder in (SERVER, CENTRE):
        by_id(made, holder).step()
    assert recorded(made, RecordKind.OPENING, SERVER, CENTRE) == [1, 1]
    first = reorganised(made)
    made.nodes = [n for n in made.nodes if n.me.id in {*range(5), remembers}]
    if remembers == CENTRE:
        made.nodes.append(node(made, SERVER))
        made.until(Phase.OPEN)
        second = made.state.current.result
        made.until(Phase.COMMIT, 2)
        assert outcomes(made) == [Outcome.BURNED]
    else:
        # A server that remembers leads with nothing else than what it proposed before: it is asked by hand.
        made.nodes.append(node(made, CENTRE))
        made.until(Phase.AGGREGATE)
        sums = node(made, 0).openings.fold(made.state).data
        view = asked(made, SERVER, sums)
        second = view.state.current.result
        by_id(made, SERVER).centre.halve(view)
    assert second != first
    assert dict(made.state.recorded[RecordKind.REFUSAL, remembers]) == {1: second}
    assert recorded(made, RecordKind.OPENING, remembers) == []
    assert "refused" in findings(made, {remembers})[0]


def test_a_standby_refuses_what_its_colleague_did_not_answer() -> None:
    """The chain goes back, the first server is gone with its journal; that of the second knows nothing."""
    made = summed(rounds=1, servers=2)
    made.until(Phase.OPEN)
    by_id(made, 5).step()
    assert recorded(made, RecordKind.OPENING, 5) == [1]
    first = reorganised(made)
    made.nodes = [n for n in made.nodes if n.me.id < 5] + [node(made, 6), node(made, 7)]
    made.until(Phase.OPEN)
    second = made.state.current.result
    assert second != first
    made.until(Phase.COMMIT, 2)
    assert outcomes(made) == [Outcome.BURNED]
    assert recorded(made, RecordKind.OPENING, 6) == []
    assert dict(made.state.recorded[RecordKind.REFUSAL, 6]) == {1: second}
    assert "id 5 answers another" in findings(made, {6})[0]
    # From now on it answers the one that its colleague answered, and no third.
    assert by_id(made, 6).world.journal.get(1, "asked") == first


def word(made: Tiny, author: int, id: int, digest: bytes, **changes: Any) -> bytes:
    """What `author` signs as the word of `id` for an opening."""
    fields = {"round": made.state.round, "kind": int(RecordKind.ANSWER), "digest": digest} | changes
    signature = signed(made, author, "Record", *(fields[f] for f in ("round", "kind", "digest")))
    return item(msg.Record(id=id, signature=signature, **fields))


FORGERIES: dict[str, Callable[[Tiny], bytes]] = {
    "garbage": lambda made: b"garbage",
    "nothing": lambda made: b"",
    "far too much": lambda made: bytes(100_000),
    "signed by another": lambda made: word(made, 0, 5, bytes(32)),
    "of another id": lambda made: word(made, 0, 0, bytes(32)),
    "of another round": lambda made: word(made, 5, 5, bytes(32), round=0),
    "of another kind": lambda made: word(made, 5, 5, bytes(32), kind=int(RecordKind.OPENING)),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_word_that_a_colleague_did_not_give_stops_no_standby(forgery: str, whole: Tiny) -> None:
    made = summed(rounds=1, servers=2, silent=frozenset({5}))
    made.until(Phase.OPEN)
    made.store.put_at(answers.place(made.state, 5), FORGERIES[forgery](made))
    made.run()
    assert outcomes(made) == [Outcome.FINAL]
    assert made.state.model == whole.state.model


def test_two_holders_that_look_at_the_same_time_refuse_both() -> None:
    """The colleague's word comes between the first look and the own word."""
    made = summed(rounds=1, servers=2, silent=frozenset({5}))
    late = word(made, 5, 5, bytes(32))

    class Store(Wrapped):
        def put_at(self, key: str, data: bytes) -> None:
            self.inner.put_at(key, data)
            if key.startswith("openings/"):
                self.inner.put_at(answers.place(made.state, 5), late)

    made.nodes = [moved(n, store=Store(n.world.store)) if n.me.id == 6 else n for n in made.nodes]
    made.until(Phase.COMMIT, 2)
    assert outcomes(made) == [Outcome.BURNED]
    assert recorded(made, RecordKind.OPENING, 6) == []
    assert by_id(made, 6).world.journal.get(1, "half") is None


def test_a_standby_waits_while_the_store_does_not_tell_what_its_colleague_answered(whole: Tiny) -> None:
    made = summed(rounds=1, servers=2, silent=frozenset({5}))
    made.until(Phase.OPEN)
    silence = {"on": True}

    class Store(Wrapped):
        def list(self, prefix: str) -> list[str]:
            if silence["on"] and prefix.startswith("openings/"):
                raise errors.Unavailable("no answer")
            return list(self.inner.list(prefix))

    made.nodes = [moved(n, store=Store(n.world.store)) if n.me.id == 6 else n for n in made.nodes]
    for _ in range(4):
        made.advance()
    assert recorded(made, RecordKind.OPENING, 6) == []
    silence["on"] = False
    made.run()
    assert made.state.model == whole.state.model


# who gets the model


def test_who_has_no_right_to_the_model_is_let_in_by_nobody() -> None:
    """Member 4 asked once and sent nothing since; a second request on the chain changes nothing."""
    made = summed(rounds=8, idle=frozenset({4}))
    until_final(made, 4)
    round = made.state.model_round
    assert recorded(made, RecordKind.REENTRY, 4) == [1]
    record(made, 4, round, RecordKind.REENTRY, bytes(32))
    until_final(made, 5)
    kind = secagg.about(RecordKind.READMISSION, 4)
    assert recorded(made, kind, SERVER, CENTRE) == [1, 1]
    with pytest.raises(errors.Unavailable, match="not sealed to this member"):
        by_id(made, 4).openings.standing(made.state)


def test_who_asked_as_often_as_it_may_is_let_in_no_more() -> None:
    made = summed(rounds=8, secagg={"max_reentries": 1})
    sleeper = by_id(made, 4)
    for asleep, awake in ((1, 3), (4, 5)):
        made.nodes.remove(sleeper)
        until_final(made, asleep)
        made.nodes.append(sleeper)
        until_final(made, awake)
    assert recorded(made, RecordKind.REENTRY, 4) == [1]
    assert made.state.contributed[4][1] == 3
    record(made, 4, made.state.model_round, RecordKind.REENTRY, bytes(32))
    until_final(made, 6)
    kind = secagg.about(RecordKind.READMISSION, 4)
    assert recorded(made, kind, SERVER, CENTRE) == [1, 1]


def test_a_key_centre_alone_lets_nobody_in() -> None:
    """It seals its half to a member that did not even ask: the server's is missing."""
    made = summed(rounds=8)
    stranger, centre = by_id(made, 4), by_id(made, CENTRE)
    made.nodes.remove(stranger)
    until_final(made, 1)
    state = made.state
    half = Half(CENTRE, made.store.get(dict(state.recorded[RecordKind.OPENING, CENTRE])[1], limit=10**6))
    blob = centre.world.scheme.admit(state, 4, half, centre.blobs.get)
    record(made, CENTRE, 1, secagg.about(RecordKind.READMISSION, 4), made.store.put(blob))
    for _ in range(3):
        made.advance()
    assert recorded(made, RecordKind.RELEASE, 0) == [1]
    with pytest.raises(errors.Unavailable, match="not sealed to this member"):
        stranger.openings.standing(made.state)


def test_a_released_model_that_is_another_is_ignored() -> None:
    """The first of two that release it seals something else under the right secret."""

    def seal_model(inner: Any, state: Any, secret: bytes, data: bytes) -> bytes:
        return bytes(inner.seal_model(state, secret, flipped(data, -1)))

    made = summed(rounds=8, worlds={0: with_scheme(seal_model=seal_model)})
    sleeper = by_id(made, 4)
    made.nodes.remove(sleeper)
    until_final(made, 1)
    made.nodes.append(sleeper)
    until_final(made, 3)
    assert recorded(made, RecordKind.RELEASE, 0)
    assert recorded(made, RecordKind.REENTRY, 4) == [1]
    assert 4 in made.state.model_set


# what fails


def test_a_store_that_gives_other_blobs_is_asked_again(whole: Tiny) -> None:
    ids = {0, 3, SERVER, CENTRE}
    made = summed(rounds=1, worlds={i: lambda w: replace(w, store=WrongBytes(w.store, 4)) for i in ids})
    for i in ids:
        by_id(made, i).world.store.left = 3
    made.run()
    assert outcomes(made) == [Outcome.FINAL]
    assert made.state.model == whole.state.model


def test_too_few_updates_void_the_round_and_nothing_is_opened() -> None:
    made = summed(rounds=1, worlds={i: bent(LIES["other round"][0]) for i in (0, 1, 2)})
    made.until(Phase.COMMIT, 2)
    assert outcomes(made) == [Outcome.VOID]
    assert available(made) == [frozenset({3, 4})]
    assert recorded(made, RecordKind.OPENING, SERVER, CENTRE) == []


def test_every_upload_has_a_secret_of_its_own(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a void round, and a restart of all members after they have committed."""
    drawn: list[bytes] = []
    honest = kahe.draw_secret

    def draw(entropy: Any) -> Any:
        secret = honest(entropy)
        drawn.append(secret.tobytes())
        return secret

    monkeypatch.setattr(kahe, "draw_secret", draw)
    made = summed(rounds=1)
    members = [n for n in made.nodes if n.me.id < 5]
    for n in members:
        journal = open_journal(tmp_path / str(n.me.id), made.state.domain, made.parties[n.me.id].address)
        made.nodes[n.me.id] = moved(n, journal=journal)
    made.until(Phase.BEACON)
    assert len(drawn) == 5
    made.nodes = [n for n in made.nodes if n.me.id not in (0, 1, 2)]
    made.until(Phase.COMMIT, 2)
    assert outcomes(made) == [Outcome.VOID]
    made.nodes = [restarted(made, n.me.id, tmp_path) for n in members] + [
        n for n in made.nodes if n.me.id >= 5
    ]
    for _ in range(2):
        made.advance()
    made.nodes = [restarted(made, n.me.id, tmp_path) if n.me.id < 5 else n for n in made.nodes]
    made.run()
    assert outcomes(made) == [Outcome.VOID, Outcome.FINAL]
    assert len(drawn) == len(set(drawn)) == 10


def restarted(made: Tiny, id: int, path: Any) -> Any:
    """A new node of a party over its journal, with an empty disk for blobs."""
    for n in made.nodes:
        if n.me.id == id:
            n.world.journal._db.close()
    return node(made, id, journal=open_journal(path / str(id), made.state.domain, made.parties[id].address))


@pytest.mark.parametrize("dead", [5, 7])
def test_a_standby_answers_when_a_holder_is_dead(dead: int, whole: Tiny) -> None:
    made = summed(rounds=1, servers=2, centres=2)
    made.until(Phase.AGGREGATE)
    made.nodes.remove(by_id(made, dead))
    made.run()
    assert recorded(made, RecordKind.OPENING, dead) == []
    assert outcomes(made) == [Outcome.FINAL]
    assert recorded(made, RecordKind.OPENING, dead + 1) == [1]
    assert made.state.model == whole.state.model


@pytest.mark.parametrize("dead", [frozenset({6, 7}), frozenset({5})])
def test_without_key_centre_or_server_rounds_fail_until_the_federation_pauses(dead: frozenset[int]) -> None:
    made = summed(rounds=1, centres=2)
    made.nodes = [n for n in made.nodes if n.me.id not in dead]
    made.run()
    assert made.state.phase is Phase.PAUSED
    assert made.state.version == 0
    failed = Outcome.BURNED if 6 in dead else Outcome.VOID
    assert outcomes(made) == [failed] * made.state.parameters.max_voids
    opened = [r for id in (5, 6, 7) for r in recorded(made, RecordKind.OPENING, id)]
    assert len(opened) == len(set(opened))


@pytest.mark.parametrize("victim", [0, SERVER, CENTRE])
def test_who_is_killed_before_every_single_effect_gives_one_half_and_one_vote(
    victim: int, tmp_path: Any, whole: Tiny
) -> None:
    """It dies at its k-th contact with the world, for every k, and its randomness is another after each start."""
    said: dict[str, set[bytes]] = {}
    made = summed(rounds=1)
    made.until(Phase.VERIFY)
    count = {"k": 0, "life": 0}

    class Mortal(Wrapped):
        def __getattr__(self, name: str) -> Any:
            method = getattr(self.inner, name)

            def call(*given: Any, **named: Any) -> Any:
                count["k"] += 1
                if count["k"] > count["life"]:
                    raise Killed
                if name == "put_at":
                    said.setdefault(given[0], set()).add(given[1])
                if name == "submit":
                    for sent in given:
                        if isinstance(sent, msg.Record):
                            said.setdefault(f"record/{sent.round}/{sent.kind}", set()).add(sent.digest)
                return method(*given, **named)

            return call

    old = by_id(made, victim)
    journal = open_journal(tmp_path / "j", made.state.domain, made.parties[victim].address)
    for round in (0, 1):
        journal.put(round, {key: old.world.journal.get(round, key) for key in old.world.journal.keys(round)})
    journal.close()

    def born() -> None:
        count["k"] = 0
        count["life"] += 1
        life = count["life"]

        def entropy(label: str, n: int) -> bytes:
            return hashlib.shake_256(f"{life}/{label}".encode()).digest(n)

        fresh = node(
            made, victim, journal=open_journal(tmp_path / "j", made.state.domain, old.me.signer.address)
        )
        fresh.world.scheme._entropy = entropy
        world = fresh.world
        made.nodes[[n.me.id for n in made.nodes].index(victim)] = moved(
            fresh,
            store=Mortal(world.store),
            ledger=Mortal(world.ledger),
            kept=old.world.kept,
            entropy=entropy,
        )

    born()
    for _ in range(1000):
        try:
            if not made.advance():
                break
        except Killed:
            by_id(made, victim).world.journal._db.close()
            born()
    assert count["life"] > 3
    assert outcomes(made) == [Outcome.FINAL]
    assert made.state.model == whole.state.model
    assert all(len(words) == 1 for words in said.values()), said.keys()
    slot = "opened" if victim == 0 else f"record/1/{int(RecordKind.OPENING)}"
    assert any(slot in key for key in said)


@pytest.mark.parametrize("lost", [False, True])
def test_a_member_restarted_in_open_votes_and_has_the_model(lost: bool, whole: Tiny, tmp_path: Any) -> None:
    """With its journal; `lost`: without its disk for blobs."""
    made = summed(rounds=1)
    journal = open_journal(tmp_path / "0", made.state.domain, made.parties[0].address)
    made.nodes[0] = moved(made.nodes[0], journal=journal)
    made.until(Phase.OPEN)
    kept = by_id(made, 0).world.kept
    made.nodes[0] = restarted(made, 0, tmp_path)
    if not lost:
        made.nodes[0] = moved(made.nodes[0], kept=kept)
    made.nodes = [n for n in made.nodes if n.me.id != 1]
    made.run()
    assert outcomes(made) == [Outcome.FINAL]
    assert made.state.model == whole.state.model
    assert made.nodes[0].openings.standing(made.state).digest == made.state.model


def test_a_cohort_that_a_quorum_does_not_approve_is_left_out_and_no_more() -> None:
    """One member that approves of nothing, and one that records nonsense, change no round."""
    made = summed(rounds=2)
    for id, said in ((BAD, bytes(32)), (3, b"\xff" * 32)):
        made.until(Phase.COMMIT)
        record(made, id, 1, RecordKind.COHORTS, said)
    made.run()
    assert outcomes(made) == [Outcome.FINAL, Outcome.FINAL]
    assert made.state.suspicion == {}
