"""Facts of reports: of a federation of `tests.tiny` that has run, and made up ones of any size."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any

from tests.tiny import START, Tiny, tiny

from hansa.protocol.history import names_of
from hansa.report import facts as f
from hansa.report.chronicle import Chronicle
from hansa.report.folder import row_of
from hansa.report.making import Gathered, make

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
"""What a stranger may call a member, an app or a metric."""


def gathered(made: Tiny, **changes: Any) -> Gathered:
    """What a run folder of this federation would give, but for what its files alone hold."""
    chronicle, clock = Chronicle(), {}
    for number, block in enumerate(made.chain.blocks):
        clock[number] = block.time
        for event in block.events:
            chronicle(event, number)
    matrices = {}
    for round, ballots in chronicle.ballots.items():
        rows = {id: made.store.get(digest, limit=1 << 20) for id, digest in ballots.items()}
        matrices[round] = tuple(row for id, data in sorted(rows.items()) if (row := row_of(id, data)))
    fields = {
        "subject": "runs/tiny-1",
        "terms": made.terms,
        "view": made.ledger().view(),
        "chronicle": chronicle,
        "names": names_of(made.state),
        "chain_id": 1,
        "contract": bytes(20),
        "clock": clock,
        "start": START,
        "run": True,
        "seed": 0,
        "matrices": matrices,
    }
    return Gathered(**fields | changes)


@cache
def small() -> f.Facts:
    """Five members, three rounds."""
    made = tiny()
    made.run()
    measured = tuple({"round": n, "loss": 1 / n} for n in (1, 2, 3))
    told = [
        {"name": f"m{i}", "rows": 10, "alone": 0.5, "joint": 0.4 + 0.05 * i, "worse": i > 2} for i in range(5)
    ]
    summary = {
        "metric": "loss",
        "seconds": 3.5,
        "members": told,
        "baselines": {
            "rounds": [1, 3],
            "alone_mean": [1.0, 0.8],
            "fedavg_unprotected": [2.0, 9.0],
            "pooled": [0.5, 0.2],
        },
    }
    return make(gathered(made, metrics=measured, summary=summary, hostile={"m4": "noise:0.5"}))


def large(members: int, rounds: int, targets: int = 16) -> f.Facts:
    """Made up, but of the shape that a federation of this size has."""
    draw = random.Random(0)
    one = small()
    everyone = range(members)
    parties = tuple(
        replace(
            one.parties[0], id=i, name=f"m{i}", rows=draw.randrange(50, 900), alone=draw.uniform(0.6, 1),
            joint=draw.uniform(0.7, 1), worse=i % 3 == 0, why=(("ranked below the best 75", 3),), led=1,
        )
        for i in everyone
    )  # fmt: skip
    made = []
    for n in range(1, rounds + 1):
        rows = tuple(
            f.Row(i, tuple(t), tuple(float(f"{draw.gauss(0.02, 0.3):.3g}") for _ in t))
            for i in everyone
            if (t := draw.sample(everyone, min(targets, members - 1)))
        )
        spans = tuple(f.Span(s.phase, s.begin + 20 * n, (s.end or 0) + 20 * n) for s in one.rounds[0].spans)
        chosen = tuple(sorted(draw.sample(everyone, 3 * members // 4)))
        made.append(
            f.Round(n, "final", n, (draw.randrange(members),), tuple(everyone), tuple(everyone), chosen, members, 0,
                    (), spans, 1 - 0.8 * 0.9**n, rows)
        )  # fmt: skip
    return replace(
        one,
        metric="accuracy",
        better="higher",
        parties=parties,
        rounds=tuple(made),
        planned=rounds,
        final=rounds,
    )


def strange() -> f.Facts:
    """What strangers named is hostile wherever the page shows a name."""
    one = small()
    parties = tuple(
        replace(p, name=f"{HOSTILE}{p.id}", hostile=HOSTILE, why=((HOSTILE, 2),)) for p in one.parties
    )
    checks = (f.Check(HOSTILE, "verified", 1, HOSTILE),)
    links = (f.Link(HOSTILE, HOSTILE, "verified", checks), f.Link("b", HOSTILE, HOSTILE))
    audited = f.Audited(1, HOSTILE, anchored=False, unproven=HOSTILE, findings=(HOSTILE,))
    return replace(
        one, name=HOSTILE, metric=HOSTILE, scheme=HOSTILE, outcome=HOSTILE, privacy=HOSTILE,
        subject=HOSTILE, parties=parties, evidence=links, audited=audited, absent=(HOSTILE,),
        scheme_words=(f.Word(HOSTILE, HOSTILE),),
        flows=tuple(replace(x, what=HOSTILE, who=HOSTILE) for x in one.flows), gas_by_call=((HOSTILE, 1),),
    )  # fmt: skip
