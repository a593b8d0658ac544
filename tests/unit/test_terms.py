"""Terms: refused pairs with their reason, the contract's parameters, and reading them back strictly."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from hansa import encoding, errors
from hansa.protocol.terms import (
    Draft,
    check_terms,
    complete,
    conflicts,
    decode_terms,
    keep_permille,
    parameters,
    terms_digest,
)
from hansa.records import (
    Accept,
    AggregationTerms,
    Governance,
    GovernanceTerms,
    Layout,
    SecAgg,
    SelectionTerms,
    Tee,
    Terms,
    Training,
)

DRAFT = Draft("digits", "plaintext", Governance.COMMITTEE, "off")
LAYOUT = Layout(("a", "b"), ((2, 3), ()), 16)
TRAINING = Training(params=(("epochs", 3), ("lr", 0.2), ("nesterov", True)), target=("accuracy", 0.95))


def whole(draft: Draft = DRAFT) -> Terms:
    return complete(draft, app=bytes(32), layout=LAYOUT, initial=b"\1" * 32, initial_seed=7)


def keys(draft: Draft) -> list[str]:
    return [c.key for c in conflicts(draft)]


SPARSE = Training(gamma=0.1)
LATE = Training(mode="asynchronous", buffer=4, max_staleness=2)
SUM = replace(DRAFT, scheme="secagg", selection=SelectionTerms(rule="none"), govern=GovernanceTerms("vote"))


TEE = replace(
    SUM,
    scheme="tee",
    tee=Tee(accept=Accept(root="intel", enclaves=("ab" * 32,))),
    secagg=None,
    govern=GovernanceTerms("vote", committee=4),
    governance=Governance.COMMITTEE,
)


INNER = replace(
    SUM,
    scheme="tee",
    tee=Tee(accept=Accept(root="intel", enclaves=("ab" * 32,)), inner="secagg"),
    governance=Governance.SERVER,
    secagg=SecAgg(),
    aggregation=AggregationTerms(weight_cap=1),
    govern=GovernanceTerms("vote", seats=("s0", "s1")),
)


def rule(name: str, malicious: int = 0) -> AggregationTerms:
    return AggregationTerms(rule=name, malicious=malicious)


@pytest.mark.parametrize(
    ("draft", "key", "reason"),
    [
        (replace(DRAFT, training=SPARSE, aggregation=rule("median")), "[training] gamma", "zeros win"),
        (replace(DRAFT, training=SPARSE, aggregation=rule("trimmed-mean")), "[training] gamma", "zeros win"),
        (replace(DRAFT, training=SPARSE, aggregation=rule("krum")), "[training] gamma", "zeros win"),
        (
            replace(DRAFT, training=LATE, aggregation=rule("multi-krum")),
            "[training] mode",
            "cannot be compared",
        ),
        (replace(DRAFT, training=LATE, aggregation=rule("median")), "[training] mode", "cannot be compared"),
        (replace(SUM, training=LATE), "[training] mode", "opens one fixed set"),
        (replace(SUM, selection=SelectionTerms()), "[selection] rule", "shows none"),
        (replace(DRAFT, scheme="mpc"), "[selection] rule", "shows none"),
        (
            replace(DRAFT, training=Training(min_members=3)),
            "[training] min_members",
            "at least 4 members, not 3",
        ),
        (replace(SUM, training=Training(min_members=2)), "[training] min_members", "does not hide one"),
        (replace(SUM, aggregation=rule("krum")), "[aggregation] rule", "only their sum"),
        (replace(DRAFT, scheme="tee", training=SPARSE), "[training] gamma", "which parameters"),
        (replace(SUM, training=SPARSE), "[training] gamma", "which parameters"),
        (replace(SUM, govern=GovernanceTerms("owner")), "[governance] invitation", "made-up cohort"),
        (replace(DRAFT, privacy="member"), "[privacy] differential_privacy", "not offered"),
        (replace(SUM, governance=Governance.PEERS), "[federation] governance", "one half of every opening"),
        (
            replace(SUM, secagg=SecAgg(bits=16), aggregation=AggregationTerms(weight_cap=256)),
            "[aggregation] weight_cap",
            "fewer than 8 of 16 bits",
        ),
        (replace(DRAFT, scheme="mpc"), "[federation] governance", "the computing parties lead"),
        (replace(DRAFT, scheme="mpc"), "[training] rounds", "train once"),
        (replace(DRAFT, scheme="tee"), "[selection] rule", "shows none to members"),
        (replace(TEE, training=LATE), "[training] mode", "one fixed set a round"),
        (replace(INNER, training=LATE), "[training] mode", "opens one fixed set"),
        (replace(INNER, aggregation=rule("krum")), "[aggregation] rule", "only their sum"),
        (replace(INNER, governance=Governance.COMMITTEE), "[federation] governance", "one half of every"),
        (replace(INNER, tee=replace(INNER.tee, max_norm=1.0)), "[tee] max_norm", "can measure no update"),
        (replace(INNER, tee=replace(INNER.tee, max_candidates=1)), "[governance] committee", "2 seats"),
        (
            replace(TEE, governance=Governance.PEERS),
            "[federation] governance",
            "those who may lead are fixed",
        ),
        (
            replace(TEE, tee=Tee()),
            "[tee.accept] enclaves",
            "members seal to programs that they know, and none is pinned",
        ),
        (
            replace(TEE, tee=Tee(max_candidates=3)),
            "[governance] committee",
            "each of 4 seats runs an enclave",
        ),
        (
            replace(TEE, govern=GovernanceTerms("owner", committee=4)),
            "[governance] invitation",
            "made-up cohort",
        ),
        (replace(DRAFT, training=Training(max_staleness=3)), "[training] mode", "only in asynchronous"),
        (replace(DRAFT, training=replace(LATE, buffer=3)), "[training] buffer", "never has min_members = 4"),
        (
            replace(DRAFT, training=Training(min_members=7), aggregation=rule("krum", 2)),
            "[aggregation] malicious",
            "needs 7 updates, and a round may have 6",
        ),
        (replace(DRAFT, aggregation=rule("clipped-mean")), "[aggregation] clip_norm", "needs the norm"),
    ],
)
def test_unsafe_pairs_are_refused_with_key_reason_and_advice(draft: Draft, key: str, reason: str) -> None:
    found = [c for c in conflicts(draft) if c.key == key and reason in c.reason]
    assert len(found) == 1
    with pytest.raises(errors.Misconfigured) as raised:
        check_terms(draft)
    assert reason in str(raised.value)
    assert found[0].advice in raised.value.hint


@pytest.mark.parametrize(
    "draft",
    [
        DRAFT,
        replace(DRAFT, training=SPARSE),
        replace(DRAFT, training=LATE),
        replace(DRAFT, aggregation=rule("median")),
        replace(DRAFT, training=Training(min_members=2), selection=SelectionTerms(rule="none")),
        replace(DRAFT, training=Training(min_members=10), aggregation=rule("krum", 2)),
    ],
)
def test_safe_terms_pass(draft: Draft) -> None:
    assert keys(draft) == []
    check_terms(whole(draft))


@pytest.mark.parametrize("members", [4, 7, 8, 10, 99])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.25, 0.3, 1 / 3, 0.49])
def test_the_contract_keeps_members_minus_assumed_attackers(members: int, share: float) -> None:
    permille = keep_permille(SelectionTerms(assume_malicious=share))
    kept = -(-members * permille // 1000)
    assert kept in (
        math.ceil(round(members * (1 - share), 9)),
        math.ceil(members * math.floor(1000 - 1000 * share) / 1000),
    )
    assert members - kept <= math.ceil(members * share)


def test_parameters_follow_the_terms() -> None:
    draft = replace(
        DRAFT,
        governance=Governance.PEERS,
        training=replace(LATE, min_members=4, deadline=90, max_failed_rounds=2, rounds=9),
        selection=SelectionTerms(rule="borda", keep=5, targets=8),
        govern=GovernanceTerms(
            "vote", committee=5, epoch=3, attempts=2, extensions=1, penalty=100, precommit=False
        ),
    )
    terms = whole(draft)
    got = parameters(terms)
    assert got.digest == terms_digest(terms)
    assert (got.governance, got.borda, got.evaluate, got.by_vote, got.opens) == (3, True, True, True, False)
    assert (got.keep, got.targets, got.rounds, got.max_voids) == (5, 8, 9, 2)
    assert (got.min_updates, got.min_quorum, got.buffer, got.max_staleness) == (4, 4, 4, 2)
    assert (got.committee, got.epoch, got.attempts, got.extensions) == (5, 3, 2, 1)
    assert (got.penalty, got.precommit, got.durations) == (100, False, (90,) * 7)
    assert not parameters(whole(replace(draft, selection=SelectionTerms(rule="none")))).evaluate


def test_terms_survive_their_encoding() -> None:
    for draft in (DRAFT, replace(DRAFT, training=TRAINING, govern=GovernanceTerms(seats=("a", "b")))):
        terms = whole(draft)
        data = encoding.encode(terms)
        assert decode_terms(data) == terms
        assert encoding.encode(decode_terms(data)) == data
        assert terms_digest(terms) == encoding.digest(data)


def test_every_field_changes_the_digest() -> None:
    terms = whole()
    others = [
        replace(terms, name="other"),
        replace(terms, initial_seed=8),
        replace(terms, layout=replace(LAYOUT, scale=17)),
        replace(terms, training=TRAINING),
        replace(terms, training=replace(TRAINING, params=(("epochs", 3.5),))),
    ]
    assert len({terms_digest(t) for t in [terms, *others]}) == 6


def damaged() -> list[tuple[str, object]]:
    good = encoding.decode(encoding.encode(whole()))
    return [
        ("not a list", good | {"layout": good["layout"] | {"names": "ab"}}),
        ("other fields", {k: v for k, v in good.items() if k != "scheme"}),
        ("other fields", good | {"extra": 1}),
        ("terms.training", good | {"training": good["training"] | {"rounds": "20"}}),
        ("terms.training.error_feedback", good | {"training": good["training"] | {"error_feedback": 1}}),
        ("not one of Governance", good | {"governance": 9}),
        ("terms.app is a str", good | {"app": "x"}),
        ("does not allow", good | {"training": good["training"] | {"target": ["accuracy"]}}),
        ("has 3 items", good | {"training": good["training"] | {"params": [["a", 1, 2]]}}),
        ("other fields", [1]),
    ]


@pytest.mark.parametrize(("message", "value"), damaged())
def test_other_bytes_are_refused(message: str, value: object) -> None:
    data = encoding.encode(value)
    with pytest.raises(errors.Untrusted, match=message) as raised:
        decode_terms(data)
    assert raised.value.digest == encoding.digest(data)


def test_bytes_that_are_not_canonical_are_refused() -> None:
    with pytest.raises(errors.Untrusted):
        decode_terms(encoding.encode(whole()) + b"\0")


def test_sums_in_enclaves_are_opened_and_precommitted_as_under_secagg() -> None:
    assert conflicts(INNER) == ()
    found = parameters(whole(INNER))
    assert (found.opens, found.precommit) == (True, True)
    assert parameters(whole(TEE)).opens is False
