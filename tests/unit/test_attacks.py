"""Hostile members: each attack does what its name says, from its seed alone."""

from __future__ import annotations

import numpy as np
import pytest

from hansa import errors
from hansa.attacks import Attack, Knowledge, distort_ranking, distort_update, parse, training_key

SCALE = 16
DELTA = np.array([100, -200, 0, 2**30], dtype=np.int32)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_specs_are_read() -> None:
    assert parse("sign-flip:5") == Attack("sign-flip", 5.0)
    assert parse("noise") == Attack("noise", 1.0)
    assert parse("copycat") == Attack("copycat")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sing-flip:5", "did you mean 'sign-flip'"),
        ("noise:-1", "must be a positive number"),
        ("noise:nan", "must be a positive number"),
        ("noise:", "must be a positive number"),
        ("copycat:2", "takes no strength"),
        ("", "unknown attack"),
    ],
)
def test_wrong_specs_are_refused(spec: str, message: str) -> None:
    with pytest.raises(errors.Misconfigured, match=message):
        parse(spec)


def test_sign_flip_scales_turns_and_saturates() -> None:
    sent = distort_update(parse("sign-flip:5"), DELTA, SCALE, generator())
    assert sent.tolist() == [-500, 1000, 0, -(2**31)]
    assert sent.dtype == np.int32


def test_noise_has_its_deviation_in_model_units_and_no_trace_of_the_update() -> None:
    delta = np.full(20_000, 12345, dtype=np.int32)
    sent = distort_update(parse("noise:0.5"), delta, SCALE, generator()) / 2.0**SCALE
    assert sent.std() == pytest.approx(0.5, rel=0.03)
    assert sent.mean() == pytest.approx(0, abs=0.02)


def test_noise_comes_from_the_generator_alone() -> None:
    noise = parse("noise:0.5")
    first = distort_update(noise, DELTA, SCALE, generator(1))
    assert first.tolist() == distort_update(noise, DELTA, SCALE, generator(1)).tolist()
    assert first.tolist() != distort_update(noise, DELTA, SCALE, generator(2)).tolist()


def test_copycat_sends_what_it_saw_and_nothing_before() -> None:
    seen = [DELTA + 1, DELTA + 2]
    assert not distort_update(parse("copycat"), DELTA, SCALE, generator()).any()
    sent = distort_update(parse("copycat"), DELTA, SCALE, generator(), Knowledge(seen=seen))
    assert any(np.array_equal(sent, other) for other in seen)
    assert not any(np.shares_memory(sent, other) for other in seen)


def test_a_little_is_enough_stays_within_the_spread_of_the_colluders() -> None:
    own = [np.array([10, 0, -4], np.int32), np.array([14, 0, 4], np.int32)]
    sent = distort_update(parse("alie:1.5"), own[0], SCALE, generator(), Knowledge(own=own))
    assert sent.tolist() == [12 - 3, 0, 0 - 6]
    assert distort_update(parse("alie"), own[0], SCALE, generator()).tolist() == own[0].tolist()


def test_inner_product_manipulation_turns_the_mean_of_the_honest() -> None:
    honest = [np.array([10, -2], np.int32), np.array([30, -6], np.int32)]
    sent = distort_update(
        parse("ipm:0.5"), DELTA[:2], SCALE, generator(), Knowledge(own=[DELTA[:2]], honest=honest)
    )
    assert sent.tolist() == [-10, 2]
    assert float(np.dot(sent.astype(float), np.mean(honest, axis=0))) < 0
    own = distort_update(parse("ipm:0.5"), DELTA[:2], SCALE, generator(), Knowledge(own=[DELTA[:2]]))
    assert own.tolist() == [-50, 100]


def test_a_backdoor_is_boosted() -> None:
    assert distort_update(parse("backdoor:4"), DELTA[:3], SCALE, generator()).tolist() == [400, -800, 0]
    assert distort_update(parse("backdoor"), DELTA, SCALE, generator()).tolist() == DELTA.tolist()


def test_free_rider_sends_zeros_and_liars_send_their_update() -> None:
    assert not distort_update(parse("free-rider"), DELTA, SCALE, generator()).any()
    for kind in ("lie", "label-flip"):
        assert distort_update(parse(kind), DELTA, SCALE, generator()).tolist() == DELTA.tolist()


def test_only_label_flip_and_backdoor_train_on_other_rows() -> None:
    assert training_key(None, "m1") == training_key(parse("noise"), "m1") == "m1/train"
    assert training_key(parse("backdoor:4"), "m1") == "m1/backdoor"
    assert training_key(parse("label-flip"), "m1") == "m1/flipped"


def test_false_ballots_stay_permutations() -> None:
    assert distort_ranking((4, 2, 7, 1)) == (1, 7, 2, 4)
    assert distort_ranking((4, 2, 7, 1), frozenset({7, 9})) == (7, 1, 2, 4)
