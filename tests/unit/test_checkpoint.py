from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hansa import encoding, errors
from hansa.protocol import checkpoint as ckpt
from hansa.protocol.aggregation import Contribution
from hansa.protocol.model import from_arrays, to_arrays
from hansa.protocol.state import RoundState, State
from hansa.records import AggregationTerms, Limits, Model, Parameters, Update

MODEL, _ = from_arrays({"b": np.zeros(2, np.float32), "w": np.ones((2, 3), np.float32)}, 16)
PLAIN, ADAM = AggregationTerms(), AggregationTerms(optimizer="adam")
INT = np.iinfo(np.int32)


def contribution(member: int, values: list[int]) -> Contribution:
    return Contribution(member, 10, np.array(values, np.int32))


@pytest.mark.parametrize("terms", [PLAIN, ADAM, AggregationTerms(optimizer="momentum")])
def test_a_checkpoint_is_read_as_written(terms):
    made = ckpt.initial(terms, MODEL)
    for k in range(3):
        made = ckpt.advance(terms, made, [contribution(0, [k + 1] * 8), contribution(1, [3] * 8)])
        again = ckpt.decode(made.data, terms, MODEL.layout, Limits())
        assert again.digest == made.digest == encoding.digest(made.data)
        assert (again.model.values == made.model.values).all()
        after = [ckpt.advance(terms, c, [contribution(0, [9] * 8)]).digest for c in (made, again)]
        assert after[0] == after[1]


def test_without_an_optimiser_it_is_the_model_plus_the_mean():
    made = ckpt.advance(
        PLAIN, ckpt.initial(PLAIN, MODEL), [contribution(0, [2] * 8), contribution(1, [4] * 8)]
    )
    assert (made.model.values == MODEL.values + 3).all()
    assert made.data == ckpt.encode_model(made.model)


def test_another_terms_checkpoint_is_refused():
    plain, adam = ckpt.initial(PLAIN, MODEL), ckpt.initial(ADAM, MODEL)
    for data, terms in (
        (plain.data, ADAM),
        (adam.data, PLAIN),
        (adam.data, AggregationTerms(optimizer="yogi")),
    ):
        with pytest.raises(errors.Untrusted):
            ckpt.decode(data, terms, MODEL.layout, Limits())


@pytest.mark.parametrize("terms", [PLAIN, ADAM])
def test_any_cut_or_lengthened_checkpoint_is_refused(terms):
    data = ckpt.initial(terms, MODEL).data
    for bent in [data[:n] for n in range(len(data))] + [data + b"\0"]:
        with pytest.raises(errors.Untrusted):
            ckpt.decode(bent, terms, MODEL.layout, Limits())


def test_a_model_of_another_layout_is_refused():
    other = replace(MODEL.layout, names=("b", "x"))
    with pytest.raises(errors.Untrusted):
        ckpt.decode(ckpt.initial(PLAIN, MODEL).data, PLAIN, other, Limits())


def update(values, indices=None) -> Update:
    values = np.array(values, np.int32)
    at = None if indices is None else np.array(indices, np.uint32)
    return Update(bytes(32), 1, 0, 0, bytes(32), 1, 0, 0, 8, values, at)


def test_a_candidate_is_the_base_plus_one_update_dense_or_sparse():
    dense = ckpt.candidate(MODEL, update([0, 5, 0, 0, 0, 0, 0, -7]))
    sparse = ckpt.candidate(MODEL, update([5, -7], [1, 7]))
    assert (dense.values == sparse.values).all()
    assert (dense.values - MODEL.values).tolist() == [0, 5, 0, 0, 0, 0, 0, -7]


def test_sums_saturate_instead_of_turning_over():
    high = Model(MODEL.layout, np.full(8, INT.max - 1, np.int32))
    assert (ckpt.shifted(high, np.full(8, 5, np.int32)).values == INT.max).all()
    low = Model(MODEL.layout, np.full(8, INT.min + 1, np.int32))
    assert (ckpt.shifted(low, np.full(8, INT.min, np.int32)).values == INT.min).all()
    assert (ckpt.candidate(high, update([9], [3])).values[3]) == INT.max


def test_difference_undoes_shift():
    delta = np.arange(-4, 4, dtype=np.int32)
    after = ckpt.shifted(MODEL, delta)
    assert (ckpt.difference(MODEL, ckpt_values(after)) == delta).all()


def ckpt_values(model: Model):
    return to_arrays(model)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_training_that_gave_no_number_is_untrusted(odd):
    values = ckpt_values(MODEL)
    values["w"] = np.full((2, 3), odd, np.float32)
    with pytest.raises(errors.Untrusted):
        ckpt.difference(MODEL, values)


def test_training_that_changed_shapes_is_the_users_mistake():
    values = ckpt_values(MODEL) | {"w": np.ones((3, 2), np.float32)}
    with pytest.raises(errors.Misconfigured, match="names or shapes"):
        ckpt.difference(MODEL, values)


def test_evidence_names_the_sealed_model():
    current = RoundState(selected=frozenset({3, 1}))
    state = State(
        Parameters(bytes(32)), frozenset(), bytes(20), b"d" * 32, b"m" * 32, round=4, current=current
    )
    data = ckpt.evidence(PLAIN, state, b"s" * 32)
    assert ckpt.sealed_digest(data) == b"s" * 32
    assert encoding.decode(data)["selected"] == [1, 3]
    assert encoding.decode(data)["federation"] == b"d" * 32


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        {},
        {"sealed": b"s" * 32},
        {"kind": "hansa/evidence/1"},
        {"kind": "hansa/evidence/1", "sealed": b"s" * 31},
        {"kind": "hansa/evidence/1", "sealed": "s" * 32},
        {"kind": "hansa/evidence/2", "sealed": b"s" * 32},
    ],
)
def test_what_is_no_evidence_is_refused(record):
    with pytest.raises(errors.Untrusted, match="evidence"):
        ckpt.sealed_digest(encoding.encode(record))
