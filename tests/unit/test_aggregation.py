from __future__ import annotations

import math
import random
import statistics
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa import errors
from hansa.crypto import fixedpoint
from hansa.protocol import aggregation
from hansa.protocol.aggregation import Contribution
from hansa.records import AggregationTerms

LOW, HIGH = -(2**31), 2**31 - 1
int32s = st.one_of(st.integers(LOW, HIGH), st.integers(-3, 3), st.sampled_from([LOW, HIGH]))
RULES = ("weighted-mean", "clipped-mean", "median", "trimmed-mean", "krum", "multi-krum")
SCALE = 4


def terms(rule: str = "weighted-mean", **options) -> AggregationTerms:
    return AggregationTerms(rule=rule, **{"clip_norm": 1000.0, "malicious": 1} | options)


def contribution(member: int, values, examples: int = 1, staleness: int = 0, indices=None) -> Contribution:
    sparse = None if indices is None else np.array(indices, np.uint32)
    return Contribution(member, examples, np.array(values, np.int32), sparse, staleness)


def joint(given_terms: AggregationTerms, contributions, length: int) -> list[int]:
    return aggregation.mean_delta(given_terms, contributions, length, SCALE).tolist()


def half_away(value: Fraction) -> int:
    magnitude = math.floor(abs(value) + Fraction(1, 2))
    return magnitude if value > 0 else -magnitude


def dense(c: Contribution, length: int) -> list[int]:
    if c.indices is None:
        return c.values.tolist()
    cells = dict(zip(c.indices.tolist(), c.values.tolist(), strict=True))
    return [cells.get(i, 0) for i in range(length)]


def oracle_mean(contributions, length: int, cap: int) -> list[int]:
    weights = [min(c.examples, cap) * math.isqrt(2**32 // (1 + c.staleness)) for c in contributions]
    rows = [dense(c, length) for c in contributions]
    return [
        half_away(Fraction(sum(w * row[j] for w, row in zip(weights, rows, strict=True)), sum(weights)))
        for j in range(length)
    ]


@st.composite
def cohorts(draw, *, stale: bool = True, sparse: bool = True, least: int = 1):
    length = draw(st.integers(1, 6))
    members = draw(st.lists(st.integers(0, 1023), min_size=least, max_size=9, unique=True))
    made = []
    for member in members:
        indices = None
        if sparse and draw(st.booleans()):
            indices = sorted(draw(st.sets(st.integers(0, length - 1))))
        size = length if indices is None else len(indices)
        values = draw(st.lists(int32s, min_size=size, max_size=size))
        staleness = draw(st.sampled_from([0, 0, 1, 2, 9])) if stale else 0
        made.append(contribution(member, values, draw(st.integers(1, 2**40)), staleness, indices))
    return length, made


@given(cohorts(), st.sampled_from([1, 7, 100_000, 2**20]))
def test_the_weighted_mean_equals_exact_fractions(cohort, cap):
    length, made = cohort
    assert joint(terms(weight_cap=cap), made, length) == oracle_mean(made, length, cap)


@pytest.mark.parametrize("extreme", [LOW, HIGH])
@pytest.mark.parametrize("staleness", [0, 1])
def test_a_full_roster_of_extreme_values_and_weights_does_not_overflow(extreme, staleness):
    made = [contribution(i, [extreme, -1], 10**9, staleness * (i % 2)) for i in range(1023)]
    assert joint(terms(weight_cap=2**20), made, 2) == [extreme, -1]


def test_weights_beyond_the_bound_are_refused():
    made = [contribution(i, [1], 2**30) for i in range(4)]
    with pytest.raises(errors.Misconfigured, match="sum too high"):
        joint(terms(weight_cap=2**28), made, 1)


def test_staleness_counts_under_uniform_weights():
    """With a cap of 1 a stale update must still weigh less than a fresh one."""
    made = [contribution(1, [1000], 50), contribution(2, [0], 50, staleness=3)]
    assert joint(terms(weight_cap=1), made, 1) == [half_away(Fraction(1000 * 2, 3))]


@pytest.mark.parametrize(("staleness", "expected"), [(0, 65_536), (1, 46_340), (3, 32_768), (99, 6_553)])
def test_weights_fall_with_the_root_of_staleness(staleness, expected):
    assert aggregation.weight(terms(weight_cap=5), 1, staleness) == expected
    assert aggregation.weight(terms(weight_cap=5), 9, staleness) == 5 * expected


def test_means_cross_block_borders():
    length = 2 * fixedpoint.BLOCK + 5
    rng = np.random.default_rng(0)
    rows = [rng.integers(LOW, HIGH, length, dtype=np.int32) for _ in range(3)]
    made = [Contribution(i, 1 + i, row) for i, row in enumerate(rows)]
    chosen = np.flatnonzero(rng.random(length) < 0.6).astype(np.uint32)
    made.append(Contribution(9, 4, rng.integers(LOW, HIGH, chosen.size, dtype=np.int32), chosen))
    assert joint(terms(), made, length) == oracle_mean(made, length, 100_000)


@given(cohorts(stale=False, sparse=False, least=5), st.sampled_from(RULES), st.randoms(use_true_random=False))
def test_no_rule_depends_on_the_order_of_arrival(cohort, rule, rng):
    length, made = cohort
    shuffled = rng.sample(made, len(made))
    assert joint(terms(rule), made, length) == joint(terms(rule), shuffled, length)


@given(cohorts(), st.sampled_from(RULES[:2]), st.randoms(use_true_random=False))
def test_stale_and_sparse_means_do_not_depend_on_the_order_either(cohort, rule, rng):
    length, made = cohort
    assert joint(terms(rule), made, length) == joint(terms(rule), rng.sample(made, len(made)), length)


@given(cohorts(stale=False, sparse=False))
def test_the_median_of_every_coordinate(cohort):
    length, made = cohort
    rows = [c.values.tolist() for c in made]
    expected = [half_away(statistics.median(Fraction(r[j]) for r in rows)) for j in range(length)]
    assert joint(terms("median"), made, length) == expected


@given(cohorts(stale=False, sparse=False), st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.4, 0.49]))
def test_the_trimmed_mean_of_every_coordinate(cohort, trim):
    length, made = cohort
    cut = math.floor(Fraction(str(trim)) * len(made))
    kept = [sorted(c.values.tolist()[j] for c in made)[cut : len(made) - cut] for j in range(length)]
    expected = [half_away(Fraction(sum(column), len(column))) for column in kept]
    assert joint(terms("trimmed-mean", trim=trim), made, length) == expected


def krum_order(made, malicious: int) -> list[Contribution]:
    near = len(made) - malicious - 2

    def score(c: Contribution) -> tuple[int, int]:
        gaps = sorted(
            sum((int(x) - int(y)) ** 2 for x, y in zip(c.values, o.values, strict=True))
            for o in made
            if o is not c
        )
        return sum(gaps[:near]), c.member

    return sorted(made, key=score)


@given(cohorts(stale=False, sparse=False, least=5))
def test_krum_and_multi_krum_equal_the_papers_definition(cohort):
    length, made = cohort
    order = krum_order(made, 1)
    assert joint(terms("krum"), made, length) == order[0].values.tolist()
    chosen = [c.values.tolist() for c in order[: len(made) - 3]]
    expected = [half_away(Fraction(sum(column), len(chosen))) for column in zip(*chosen, strict=True)]
    assert joint(terms("multi-krum"), made, length) == expected


def test_krum_breaks_ties_by_the_lowest_member():
    made = [contribution(m, [v]) for m, v in ((8, 1), (5, 0), (7, 1), (6, 0), (9, 50))]
    assert joint(terms("krum"), made, 1) == [0]
    swapped = [contribution(m, [v]) for m, v in ((6, 1), (7, 0), (5, 1), (8, 0), (9, 50))]
    assert joint(terms("krum"), swapped, 1) == [1]


@pytest.mark.parametrize("rule", ["median", "trimmed-mean", "krum", "multi-krum", "clipped-mean"])
def test_one_hostile_update_moves_a_robust_rule_little(rule):
    rng = random.Random(0)
    honest = [contribution(i, [rng.randint(90, 110) for _ in range(50)], 10) for i in range(7)]
    made = [*honest, contribution(7, [HIGH] * 50, 10**6)]
    got = joint(terms(rule, clip_norm=50.0, weight_cap=10), made, 50)
    assert all(75 <= x <= 125 for x in got)
    assert max(joint(terms(weight_cap=10), made, 50)) > 10**8


@given(st.lists(int32s, min_size=1, max_size=8), st.integers(1, 2**36))
def test_clipping_bounds_the_norm_and_keeps_the_direction(values, bound):
    vector = np.array(values, np.int32)
    clipped = aggregation.clip(vector, bound)
    square = sum(v * v for v in values)
    assert sum(int(c) ** 2 for c in clipped) <= bound * bound
    if square <= bound * bound:
        assert clipped.tolist() == values
    else:
        # Each value is at most one below |v| * bound / norm, plus what 31 bits of the factor lose.
        exact = [abs(v) * bound / math.sqrt(square) for v in values]
        assert all(
            e - 2.5 - e * 1e-6 <= abs(int(c)) <= e * (1 + 1e-12) for e, c in zip(exact, clipped, strict=True)
        )
        assert all(int(c) * v >= 0 for c, v in zip(clipped, values, strict=True))


def test_the_clip_norm_is_in_the_models_units():
    made = [contribution(1, [300, 400])]
    assert joint(terms("clipped-mean", clip_norm=500 / 2**SCALE), made, 2) == [300, 400]
    clipped = joint(terms("clipped-mean", clip_norm=50 / 2**SCALE), made, 2)
    assert clipped in ([29, 39], [30, 40], [29, 40], [30, 39])


@pytest.mark.parametrize("rule", RULES)
def test_inputs_are_not_changed(rule):
    made = [contribution(i, [i * 1000, -i]) for i in range(6)]
    joint(terms(rule, clip_norm=1.0), made, 2)
    assert [c.values.tolist() for c in made] == [[i * 1000, -i] for i in range(6)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "nothing to aggregate"),
        ([contribution(1, [1, 2]), contribution(1, [1, 2])], "contributes twice"),
        ([contribution(1, [1])], "do not fit"),
        ([contribution(1, [1, 2, 3])], "do not fit"),
        ([contribution(1, [[1, 2]])], "do not fit"),
        ([Contribution(1, 1, np.zeros(2, np.int64))], "do not fit"),
        ([Contribution(1, 1, np.zeros(2, np.float32))], "do not fit"),
        ([contribution(1, [1, 2], examples=0)], "0 examples"),
        ([contribution(1, [1, 2], staleness=-1)], "staleness -1"),
        ([contribution(1, [1, 2], staleness=2**16)], "staleness 65536"),
        ([contribution(1, [1], indices=[2])], "do not ascend"),
        ([contribution(1, [1, 2], indices=[1, 0])], "do not ascend"),
        ([contribution(1, [1, 2], indices=[1, 1])], "do not ascend"),
        ([contribution(1, [1], indices=[0, 1])], "do not fit"),
        ([Contribution(1, 1, np.zeros(1, np.int32), np.zeros(1, np.int64))], "do not ascend"),
    ],
)
def test_what_does_not_fit_is_refused(bad, message):
    with pytest.raises(errors.Untrusted, match=message):
        joint(terms(), bad, 2)


@pytest.mark.parametrize(
    ("given_terms", "count", "message"),
    [
        (terms("mode"), 5, "unknown aggregation rule"),
        (terms("krum"), 4, "needs 5 updates"),
        (terms("krum", malicious=-1), 5, "malicious = -1"),
        (terms("multi-krum", malicious=2), 6, "needs 7 updates"),
        (terms("trimmed-mean", trim=0.5), 4, "leaves nothing"),
        (terms("trimmed-mean", trim=-0.1), 4, "leaves nothing"),
        (terms("clipped-mean", clip_norm=0.0), 4, "clips every update"),
        (terms(weight_cap=0), 4, "weight_cap"),
    ],
)
def test_options_without_meaning_are_a_misconfiguration(given_terms, count, message):
    with pytest.raises(errors.Misconfigured, match=message):
        joint(given_terms, [contribution(i, [1]) for i in range(count)], 1)


@pytest.mark.parametrize("rule", RULES[2:])
@pytest.mark.parametrize("odd", [contribution(9, [1], indices=[0]), contribution(9, [1], staleness=1)])
def test_order_rules_refuse_sparse_and_stale_updates(rule, odd):
    with pytest.raises(errors.Misconfigured, match="dense updates of the current base"):
        joint(terms(rule), [*(contribution(i, [1]) for i in range(5)), odd], 1)


@pytest.mark.parametrize("rule", RULES[:2])
def test_means_take_the_same_memory_for_any_number_of_updates(rule):
    length = 200_000
    values = np.full(length, 7, np.int32)

    def peak(count: int) -> int:
        tracemalloc.start()
        aggregation.mean_delta(
            terms(rule), (Contribution(i, 1, values.copy()) for i in range(count)), length, SCALE
        )
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(40) < peak(2 * aggregation.GROUP) + values.nbytes // 2
