from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from tests.trapdoors import CONTEXT, TEST_PRIMES, entropy, made, member

from hansa import errors
from hansa.crypto import double_trapdoor as dt
from hansa.crypto.double_trapdoor.integers import hashed

MADE = made()
P = MADE.parameters
N = int(P.modulus)
SQUARE = N * N
KEY, OTHER = member(1), member(2)
PLAIN = [3, 0, N - 1, 2**200]
CIPHERTEXTS, KNOWLEDGE = dt.encrypt_and_prove(P, KEY.public, PLAIN, CONTEXT, entropy())
POSSESSION = dt.prove_possession(P, KEY, CONTEXT, entropy())
ELEMENTS = [c.t1 for c in CIPHERTEXTS]
HALVES = {half.side: half for half in (MADE.key_centre, MADE.server)}
ANSWERS = {side: dt.raise_to_half(P, ELEMENTS, half, CONTEXT, entropy()) for side, half in HALVES.items()}

ORDER = (TEST_PRIMES[512][0] // 2) * (TEST_PRIMES[512][1] // 2)
"""p'q', which nobody knows who has not made N."""


def one_more(proof: object) -> list:
    """The proof, each of its numbers changed in turn: by one, to its negative, to the far side of its range."""
    names = [f.name for f in dataclasses.fields(proof) if isinstance(getattr(proof, f.name), type(P.modulus))]
    assert len(names) >= 2
    return [
        dataclasses.replace(proof, **{name: change(getattr(proof, name))})
        for name in names
        for change in (
            lambda x: x + 1,
            lambda x: x - 1,
            lambda x: -x,
            lambda x: x + N,
            lambda x: x + (1 << 4000),
        )
    ]


def test_honest_proofs_pass_in_both_modes():
    for setup, key in ((MADE, KEY), (made(mode="full"), member(mode="full"))):
        p = setup.parameters
        dt.check_possession(p, key.public, dt.prove_possession(p, key, CONTEXT, entropy()), CONTEXT)
        ciphertexts, proof = dt.encrypt_and_prove(p, key.public, PLAIN, CONTEXT, entropy())
        dt.check_knowledge(p, key.public, ciphertexts, proof, CONTEXT)
        assert [dt.weak_decrypt(p, key, c) for c in ciphertexts] == PLAIN


# --- possession ---


def refused_possession(public: int, proof: dt.Possession, context: bytes = CONTEXT) -> None:
    with pytest.raises(errors.Untrusted, match="proof of possession"):
        dt.check_possession(P, public, proof, context)


def test_possession_is_bound_to_its_key_context_and_parameters():
    dt.check_possession(P, KEY.public, POSSESSION, CONTEXT)
    refused_possession(OTHER.public, POSSESSION)
    refused_possession(KEY.public, POSSESSION, CONTEXT + b"!")
    for proof in one_more(POSSESSION):
        refused_possession(KEY.public, proof)
    with pytest.raises(errors.Untrusted):
        dt.check_possession(made(mode="full").parameters, KEY.public, POSSESSION, CONTEXT[:-1])


def test_a_rogue_key_has_no_proof():
    """h' = h1 / h2 makes a sum of ciphertexts open with one trapdoor; its maker does not know h''s own."""
    rogue = KEY.public * pow(int(OTHER.public), -1, SQUARE) % SQUARE
    for trapdoor in (KEY.trapdoor, OTHER.trapdoor):
        proof = dt.prove_possession(P, dt.WeakKey(rogue, trapdoor), CONTEXT, entropy())
        refused_possession(rogue, proof)
    # Another's key as one's own, with a proof copied or made anew.
    refused_possession(KEY.public, dt.prove_possession(P, dt.WeakKey(KEY.public, 5), CONTEXT, entropy()))


@pytest.mark.parametrize("public", [0, 1, SQUARE - 1, TEST_PRIMES[512][0], SQUARE, N + 1])
def test_a_key_that_is_no_key_is_refused(public):
    for trapdoor in (0, 2, 1 << 200):
        proof = dt.prove_possession(P, dt.WeakKey(public, trapdoor), CONTEXT, entropy())
        refused_possession(public, proof)
    refused_possession(public, dt.Possession(0, 0))


def test_a_key_with_another_part_is_refused():
    """A factor (1 + N) would shift every plaintext by its exponent."""
    for factor in (1 + N, pow(1 + N, N // 3, SQUARE)):
        public = KEY.public * factor % SQUARE
        refused_possession(
            public, dt.prove_possession(P, dt.WeakKey(public, KEY.trapdoor), CONTEXT, entropy())
        )


# --- knowledge ---


def refused_knowledge(
    ciphertexts: list[dt.Ciphertext],
    proof: dt.Knowledge = KNOWLEDGE,
    public: int = KEY.public,
    context: bytes = CONTEXT,
) -> None:
    with pytest.raises(errors.Untrusted, match="proof of knowledge"):
        dt.check_knowledge(P, public, ciphertexts, proof, context)


def test_knowledge_is_bound_to_ciphertexts_key_and_context():
    dt.check_knowledge(P, KEY.public, CIPHERTEXTS, KNOWLEDGE, CONTEXT)
    refused_knowledge(CIPHERTEXTS, public=OTHER.public)
    refused_knowledge(CIPHERTEXTS, context=CONTEXT.replace(b"round 3", b"round 4"))
    refused_knowledge(CIPHERTEXTS[:-1])
    refused_knowledge([*CIPHERTEXTS, CIPHERTEXTS[0]])
    refused_knowledge(CIPHERTEXTS[::-1])
    refused_knowledge([])
    for proof in one_more(KNOWLEDGE):
        refused_knowledge(CIPHERTEXTS, proof)


@pytest.mark.parametrize("place", range(len(PLAIN)))
def test_a_changed_ciphertext_is_refused(place):
    was = CIPHERTEXTS[place]
    shift = 1 + 5 * N
    for t1, t2 in (
        (was.t1 * shift % SQUARE, was.t2),
        (was.t1, was.t2 * shift % SQUARE),
        (was.t1 * KEY.public % SQUARE, was.t2 * P.generator % SQUARE),
        (SQUARE - was.t1, was.t2),
        (was.t1, SQUARE - was.t2),
        (was.t2, was.t1),
    ):
        changed = [*CIPHERTEXTS]
        changed[place] = dt.Ciphertext(t1, t2)
        refused_knowledge(changed)


def proven(
    key: dt.WeakKey,
    ciphertexts: list[dt.Ciphertext],
    exponents: list[int],
    plaintexts: list[int],
    monkeypatch,
):
    """A proof by the honest prover's own code for any ciphertexts and claims."""
    made, drawn = iter(ciphertexts), iter(exponents)
    original_encrypt, original_hedged = dt.knowledge.encrypt, dt.knowledge.hedged
    with monkeypatch.context() as patch:
        patch.setattr(dt.knowledge, "encrypt", lambda *a: next(made, None) or original_encrypt(*a))
        patch.setattr(
            dt.knowledge, "hedged", lambda *a: next(drawn) if a[1] == b"exponent" else original_hedged(*a)
        )
        return dt.encrypt_and_prove(P, key.public, plaintexts, CONTEXT, entropy(9))


def test_the_forger_of_these_tests_can_prove_what_is_true(monkeypatch):
    ciphertexts = [dt.encrypt(P, KEY.public, 7, 11), dt.encrypt(P, KEY.public, 8, 12)]
    same, proof = proven(KEY, ciphertexts, [11, 12], [7, 8], monkeypatch)
    assert same == ciphertexts
    dt.check_knowledge(P, KEY.public, ciphertexts, proof, CONTEXT)


def test_a_copied_and_rerandomised_ciphertext_cannot_be_proven(monkeypatch):
    """The copier knows the exponent that it added, and not what is inside."""
    victim = dt.encrypt(P, OTHER.public, 42, dt.draw_exponent(P, entropy(4)))
    again = dt.encrypt(P, OTHER.public, 0, 99)
    for stolen in (victim, dt.add_under_one_key(P, [[victim], [again]])[0]):
        for key in (KEY, OTHER):
            # Even with the plaintext guessed right.
            for claim in (0, 42):
                ciphertexts, proof = proven(key, [stolen], [99], [claim], monkeypatch)
                refused_knowledge(ciphertexts, proof, key.public)


def test_a_t1_that_does_not_belong_to_its_t2_cannot_be_proven(monkeypatch):
    t1, t2 = dt.encrypt(P, KEY.public, 7, 11).t1, dt.encrypt(P, KEY.public, 7, 12).t2
    honest = dt.encrypt(P, KEY.public, 1, 5)
    for exponent in (11, 12):
        for order in (1, -1):
            ciphertexts = [dt.Ciphertext(t1, t2), honest][::order]
            claims = proven(KEY, ciphertexts, [exponent, 5][::order], [7, 1][::order], monkeypatch)
            refused_knowledge(*claims)


def test_plaintexts_that_cancel_under_the_weights_are_refused():
    """A member could else move what it likes between fields."""
    _, (one, two, *_) = dt.knowledge._weights(P, KEY.public, CIPHERTEXTS, CONTEXT)
    for part in ("t1", "t2"):
        changed = [
            dataclasses.replace(c, **{part: getattr(c, part) * (1 + shift * N) % SQUARE})
            for c, shift in zip(CIPHERTEXTS, (two, -one, 0, 0), strict=True)
        ]
        refused_knowledge(changed)


@pytest.mark.parametrize("element", [0, SQUARE, TEST_PRIMES[512][0], N, -1])
def test_ciphertexts_that_are_no_units_are_refused(element):
    for bad in (dt.Ciphertext(element, CIPHERTEXTS[0].t2), dt.Ciphertext(CIPHERTEXTS[0].t1, element)):
        with pytest.raises(errors.Untrusted, match="shares a factor"):
            dt.check_knowledge(P, KEY.public, [bad, *CIPHERTEXTS[1:]], KNOWLEDGE, CONTEXT)


def test_a_proven_t1_with_its_sign_turned_disturbs_no_sum(monkeypatch):
    """Squares cannot tell: whoever sends -T1 may prove it, and gains nothing."""
    honest = dt.encrypt(P, KEY.public, 7, 11)
    minus = dt.Ciphertext(SQUARE - honest.t1, honest.t2)
    ciphertexts, proof = proven(KEY, [minus], [11], [7], monkeypatch)
    dt.check_knowledge(P, KEY.public, ciphertexts, proof, CONTEXT)
    total = dt.add_across_keys(P, [ciphertexts, [dt.encrypt(P, OTHER.public, 5, 3)]])
    answers = [dt.raise_to_half(P, total, half, CONTEXT, entropy()) for half in HALVES.values()]
    for answer in answers:
        dt.check_half(P, total, answer, CONTEXT)
    assert dt.combine(P, total, answers) == [12]


def test_entropy_that_repeats_gives_no_secret_away():
    """Fresh exponents and nonces for other plaintexts and contexts, though the entropy is the same."""
    again, proof = dt.encrypt_and_prove(P, KEY.public, [m ^ 1 for m in PLAIN[:2]], CONTEXT, entropy())
    assert not {c.t2 for c in again} & {c.t2 for c in CIPHERTEXTS}
    other, moved = dt.encrypt_and_prove(P, KEY.public, PLAIN, CONTEXT + b"!", entropy())
    assert not {c.t2 for c in other} & {c.t2 for c in CIPHERTEXTS}
    second = dt.prove_possession(P, KEY, CONTEXT + b"!", entropy())
    assert commitment(second) != commitment(POSSESSION)
    assert len({KNOWLEDGE.exponent, proof.exponent, moved.exponent}) == 3


def commitment(proof: dt.Possession) -> int:
    return (proof.response - proof.challenge * KEY.trapdoor) % ORDER


def test_ciphertexts_of_one_list_share_no_exponent():
    ciphertexts, _ = dt.encrypt_and_prove(P, KEY.public, [7, 7, 7], CONTEXT, lambda size: bytes(size))
    assert len({c.t2 for c in ciphertexts}) == 3


# --- halves ---


def refused_half(answer: dt.Answer, elements: list[int] = ELEMENTS, context: bytes = CONTEXT) -> None:
    with pytest.raises(errors.Untrusted, match="half of an opening is wrong"):
        dt.check_half(P, elements, answer, context)


both_sides = pytest.mark.parametrize("side", list(dt.Side))


@both_sides
def test_a_half_is_bound_to_its_side_elements_and_context(side):
    answer = ANSWERS[side]
    dt.check_half(P, ELEMENTS, answer, CONTEXT)
    assert [int(y) for y in answer.powers] == [
        pow(int(t), 2 * int(HALVES[side].exponent), N) for t in ELEMENTS
    ]
    refused_half(answer, context=CONTEXT + b"!")
    refused_half(answer, ELEMENTS[:-1])
    refused_half(answer, ELEMENTS[::-1])
    refused_half(dataclasses.replace(answer, side=dt.Side(3 - side)))
    refused_half(dataclasses.replace(ANSWERS[dt.Side(3 - side)], side=side))
    refused_half(dataclasses.replace(answer, powers=answer.powers[:-1]))
    refused_half(dataclasses.replace(answer, powers=answer.powers[::-1]))
    for proof in one_more(answer):
        refused_half(proof)


@both_sides
@pytest.mark.parametrize("place", range(len(PLAIN)))
def test_a_wrong_power_with_an_honest_looking_proof_is_refused(side, place, monkeypatch):
    half = HALVES[side]
    y = ANSWERS[side].powers[place]
    for wrong in (y + 1, y * ELEMENTS[0] % N, 1, 0, N, y + N, TEST_PRIMES[512][0]):
        refused_half(forged(half, place, wrong, monkeypatch))


@both_sides
@pytest.mark.parametrize("place", range(len(PLAIN)))
def test_the_sign_of_a_power_does_not_matter(side, place, monkeypatch):
    answer = forged(HALVES[side], place, N - ANSWERS[side].powers[place], monkeypatch)
    dt.check_half(P, ELEMENTS, answer, CONTEXT)
    assert dt.combine(P, ELEMENTS, [answer, ANSWERS[dt.Side(3 - side)]]) == PLAIN


def forged(half: dt.Half, place: int, wrong: int, monkeypatch) -> dt.Answer:
    """An answer by the honest code, one of its powers replaced before the proof is made."""
    original = dt.halves.secret_power
    count = iter(range(1 << 10))

    def power(*given: int) -> int:
        return wrong if next(count) == place else original(*given)

    with monkeypatch.context() as patch:
        patch.setattr(dt.halves, "secret_power", power)
        return dt.raise_to_half(P, ELEMENTS, half, CONTEXT, entropy(3))


@both_sides
def test_errors_that_cancel_under_the_weights_are_refused(side):
    answer = ANSWERS[side]
    seed, _, _ = dt.halves._statement(P, ELEMENTS, side, answer.powers, CONTEXT)
    one, two = (hashed(128, b"weight", seed, j) for j in (0, 1))
    y = answer.powers
    wrong = (y[0] * pow(5, int(two), N) % N, y[1] * pow(5, -int(one), N) % N, *y[2:])
    refused_half(dataclasses.replace(answer, powers=wrong))


@both_sides
def test_another_half_is_refused_however_it_is_proven(side):
    for exponent in (HALVES[side].exponent + 1, 1, HALVES[dt.Side(3 - side)].exponent):
        refused_half(dt.raise_to_half(P, ELEMENTS, dt.Half(side, exponent), CONTEXT, entropy()))


def test_a_half_tells_no_parity():
    """-T1 and T1 get one answer."""
    for half in HALVES.values():
        minus = dt.raise_to_half(P, [SQUARE - t for t in ELEMENTS], half, CONTEXT, entropy())
        assert minus.powers == ANSWERS[half.side].powers


@pytest.mark.parametrize("element", [0, SQUARE, TEST_PRIMES[512][0], -1])
def test_a_holder_answers_to_units_only(element):
    for call in (
        lambda: dt.raise_to_half(P, [element], MADE.server, CONTEXT, entropy()),
        lambda: dt.check_half(P, [element], ANSWERS[dt.Side.SERVER], CONTEXT),
    ):
        with pytest.raises(errors.Untrusted, match="shares a factor"):
            call()


def test_proofs_of_another_federation_with_parameters_of_its_own_are_refused():
    """Sizes are the same; all else is not."""
    p = dt.split(*TEST_PRIMES[512][::-1], entropy(8)).parameters
    assert p.modulus == P.modulus
    foreign: list[Callable[[], None]] = [
        lambda: dt.check_half(p, ELEMENTS, ANSWERS[dt.Side.SERVER], CONTEXT),
        lambda: dt.check_half(p, ELEMENTS, ANSWERS[dt.Side.KEY_CENTRE], CONTEXT),
    ]
    big = made(2048).parameters
    foreign += [
        lambda: dt.check_half(big, ELEMENTS, ANSWERS[dt.Side.SERVER], CONTEXT),
        lambda: dt.check_possession(big, KEY.public, POSSESSION, CONTEXT),
        lambda: dt.check_knowledge(big, KEY.public, CIPHERTEXTS, KNOWLEDGE, CONTEXT),
    ]
    for call in foreign:
        with pytest.raises(errors.Untrusted):
            call()
