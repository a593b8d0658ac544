"""The oblivious rules give what the plain ones give, and touch memory the same way whatever the data are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.enclaves import LENGTH, Federation, manifest_of, sealed, stand_in, terms_of
from tests.traces import trace_of

from hansa import errors
from hansa.crypto import fixedpoint
from hansa.enclave import oblivious, rounds
from hansa.protocol import aggregation, optimizers
from hansa.protocol.aggregation import Contribution
from hansa.records import AggregationTerms

LOW, HIGH = -(2**31), 2**31 - 1
WATCHED = (oblivious, rounds, aggregation, fixedpoint, optimizers)
FEW = st.sampled_from([0, 1, -1, 2, LOW, HIGH])


def values(draw: st.DrawFn, count: int, length: int) -> list[NDArray[np.int32]]:
    number = draw(st.sampled_from([FEW, st.integers(LOW, HIGH)]))
    rows = draw(st.lists(st.lists(number, min_size=length, max_size=length), min_size=count, max_size=count))
    return [np.array(row, np.int32) for row in rows]


@st.composite
def updates(draw: st.DrawFn, least: int = 1) -> list[NDArray[np.int32]]:
    """Rows with many ties, or of any numbers."""
    return values(draw, draw(st.integers(least, 12)), draw(st.integers(1, 6)))


def plain(terms: AggregationTerms, rows: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    contributions = [Contribution(i, 1, row) for i, row in enumerate(rows)]
    return aggregation.mean_delta(terms, contributions, rows[0].size, 16)


@settings(max_examples=150, deadline=None)
@given(updates(), st.sampled_from([0.0, 0.1, 0.25, 0.4]))
def test_medians_and_trimmed_means_are_those_of_the_plain_rules(rows: list, trim: float) -> None:
    for terms in (AggregationTerms("median"), AggregationTerms("trimmed-mean", trim=trim)):
        assert np.array_equal(oblivious.RULES[terms.rule](terms, rows), plain(terms, rows))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_krum_chooses_as_the_plain_rule_does(data: st.DataObject) -> None:
    malicious = data.draw(st.integers(0, 3))
    rows = data.draw(updates(least=2 * malicious + 3))
    for rule in ("krum", "multi-krum"):
        terms = AggregationTerms(rule, malicious=malicious)
        assert np.array_equal(oblivious.RULES[rule](terms, rows), plain(terms, rows))


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 2**34))
def test_clipping_is_that_of_the_plain_rule(data: st.DataObject, bound: int) -> None:
    for row in data.draw(updates()):
        assert np.array_equal(oblivious.clip(row, bound), aggregation.clip(row, bound))


def test_clipping_at_the_very_norm() -> None:
    row = np.array([3, 4, 0], np.int32)
    for bound in (4, 5, 6):
        assert np.array_equal(oblivious.clip(row, bound), aggregation.clip(row, bound))


@pytest.mark.parametrize("length", [1, oblivious._CELLS // 3 + 1, 100_003])
def test_blocks_do_not_show(length: int) -> None:
    rows = [
        np.random.default_rng(i).integers(LOW, HIGH, length, endpoint=True).astype(np.int32) for i in range(5)
    ]
    for rule in oblivious.RULES:
        terms = AggregationTerms(rule, malicious=1)
        assert np.array_equal(oblivious.RULES[rule](terms, rows), plain(terms, rows))


def test_distances_are_exact_at_the_extremes() -> None:
    rows = [np.full(1000, LOW, np.int32), np.full(1000, HIGH, np.int32), np.zeros(1000, np.int32)]
    limbs = oblivious.squared_distances(rows)
    whole = [[int(a) << 64 | int(b) << 32 | int(c) for a, b, c in row] for row in limbs]
    assert whole == fixedpoint.squared_distances(rows)


@pytest.mark.parametrize("count", range(1, 34))
def test_the_network_sorts(count: int) -> None:
    # A network that sorts all rows of zeros and ones sorts everything; for more than ten rows, a part of them.
    columns = (
        np.arange(2 ** min(count, 10))
        if count <= 10
        else np.random.default_rng(0).integers(0, 2**count, 2000)
    )
    block = (columns[None, :] >> np.arange(count)[:, None]) & 1
    expected = np.sort(block, axis=0)
    for i, j in oblivious.exchanges(count):
        block[i], block[j] = np.minimum(block[i], block[j]), np.maximum(block[i], block[j])
    assert np.array_equal(block, expected)


def test_too_few_rows_are_refused_as_by_the_plain_rules() -> None:
    rows = [np.zeros(2, np.int32)] * 4
    for terms in (AggregationTerms("krum", malicious=1), AggregationTerms("trimmed-mean", trim=0.5)):
        for rule in (plain, oblivious.RULES[terms.rule]):
            with pytest.raises(errors.Misconfigured):
                rule(terms, rows)


# Traces

COUNT, CELLS = 7, LENGTH


def data_sets() -> list[list[NDArray[np.int32]]]:
    """Updates that are as different as can be."""
    draw = np.random.default_rng(1)
    found = [
        draw.integers(LOW, HIGH, (COUNT, CELLS)),
        draw.integers(-2, 3, (COUNT, CELLS)),
        np.zeros((COUNT, CELLS)),
        np.full((COUNT, CELLS), LOW),
        np.arange(COUNT * CELLS).reshape(COUNT, CELLS),
        np.arange(COUNT * CELLS).reshape(COUNT, CELLS)[::-1],
    ]
    return [[row.copy() for row in rows.astype(np.int32)] for rows in found]


def traces(call: Callable[[list[Any]], Any]) -> set[str]:
    """The different traces of a call over all data."""
    for rows in data_sets():
        call(rows)  # fills what is computed once a number of rows
    digests = set()
    for rows in data_sets():
        digest, count, got = trace_of(call, rows, WATCHED)
        assert count
        assert np.array_equal(got, call(rows))
        digests.add(digest)
    return digests


@pytest.mark.parametrize("rule", oblivious.RULES)
def test_a_rule_touches_memory_the_same_way_whatever_the_data(rule: str) -> None:
    terms = AggregationTerms(rule, malicious=1)
    assert len(traces(lambda rows: oblivious.RULES[rule](terms, rows))) == 1
    # The plain rule does not, which shows that a trace would show it.
    assert len(traces(lambda rows: plain(terms, rows))) > 1


def test_clipping_touches_memory_the_same_way_whatever_the_data() -> None:
    assert len(traces(lambda rows: oblivious.clip(rows[0], 1000))) == 1
    assert len(traces(lambda rows: aggregation.clip(rows[0], 1000))) > 1


def test_saturating_touches_memory_the_same_way_whatever_the_data() -> None:
    def branchy(wide: Any) -> Any:
        narrow = wide.astype(np.int32)
        return narrow if np.array_equal(narrow, wide) else np.clip(wide, LOW, HIGH).astype(np.int32)

    assert len(traces(lambda rows: fixedpoint.saturate(rows[0].astype(np.int64) * 2))) == 1
    assert len(traces(lambda rows: branchy(rows[0].astype(np.int64) * 2))) > 1


@pytest.mark.parametrize(
    "rule", ["weighted-mean", "clipped-mean", "median", "trimmed-mean", "krum", "multi-krum"]
)
@pytest.mark.parametrize("optimizer", ["none", "momentum", "adam", "yogi"])
def test_a_whole_round_touches_memory_the_same_way_whatever_the_data(rule: str, optimizer: str) -> None:
    chosen = AggregationTerms(rule, malicious=1, clip_norm=0.01, optimizer=optimizer)
    made = Federation(terms_of(COUNT, aggregation=chosen), COUNT)
    given = made.updates()
    payloads = {id: sealed(made, u, [stand_in(0)]) for id, u in given.items()}
    manifest = manifest_of(made, payloads, [stand_in(0)])

    def run(rows: list[Any]) -> Any:
        round = rounds.start(made.terms, manifest)
        for entry, row in zip(manifest.entries, rows, strict=True):
            rounds.add(made.terms, round, entry, replace(given[entry.member], values=row))
        delta = rounds.joint_update(made.terms, round)
        return optimizers.step(chosen, made.base.model, delta, made.base.state)[0]

    assert len(traces(run)) == 1
