"""The facts of a federation on a chain that others keep: what its events and its store tell anybody."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from hansa import errors
from hansa.federation import Federation
from hansa.ledger.evm import Fold
from hansa.ledger.rpc import Rpc
from hansa.ports import Store
from hansa.protocol.history import names_of
from hansa.report.chronicle import Chronicle, Clocks
from hansa.report.facts import Facts, Row
from hansa.report.folder import ROW_LIMIT, row_of
from hansa.report.making import Gathered, make

NEWEST = 20
"""Rounds whose evaluation matrix is fetched from the store."""

ABSENT = (
    "Accuracy, baselines and members' own values need rows that only members have: a run of `hansa run` shows them.",
    "Gas, bytes and seconds of machines are not collected here.",
    f"The evaluation matrix is that of the last {NEWEST} rounds.",
)


class SharedFacts:
    """Facts of a federation. Events are folded once; each `read` asks for new ones only."""

    def __init__(
        self, federation: Federation, rpc: Rpc, store: Store, clock: Callable[[], float] = time.time
    ) -> None:
        self._federation = federation
        self._rpc = rpc
        self._store = store
        self._clock = clock
        self._rows: dict[bytes, Row | None] = {}
        self._begin()

    def _begin(self) -> None:
        self._chronicle, self._clocks = Chronicle(), Clocks()
        self._fold = Fold(self._rpc, self._federation.deployment)
        self._fold.observe(self._chronicle)

    def read(self) -> Facts:
        """How the federation stands now. Raises `Unavailable`, `Untrusted`.

        After a reorganisation all is told anew: nothing that was told can be taken back.
        """
        view = self._fold.view(lambda: 0)
        while self._fold.turns:
            self._begin()
            view = self._fold.view(lambda: 0)
        deployment, chronicle = self._federation.deployment, self._chronicle
        clock = self._clocks.read(self._rpc, {block for block, _, _ in chronicle.entered})
        start = clock[chronicle.entered[0][0]] if chronicle.entered else view.now
        return make(
            Gathered(
                subject=str(self._federation.address),
                terms=self._federation.terms,
                view=replace(view, now=max(view.now, int(self._clock()))),
                chronicle=chronicle,
                names=names_of(view.state),
                chain_id=deployment.chain_id,
                contract=deployment.contract,
                clock=clock,
                start=start,
                absent=ABSENT,
                matrices=self._matrices(),
            )
        )

    def _matrices(self) -> dict[int, tuple[Row, ...]]:
        made = {}
        for round in sorted(self._chronicle.ballots)[-NEWEST:]:
            ballots = sorted(self._chronicle.ballots[round].items())
            rows = tuple(row for id, digest in ballots if (row := self._row(id, digest)))
            if rows:
                made[round] = rows
        return made

    def _row(self, evaluator: int, digest: bytes) -> Row | None:
        """A row of the matrix; what the store does not give now is asked for again at the next reading."""
        if digest not in self._rows:
            try:
                data = self._store.get(digest, limit=ROW_LIMIT)
            except errors.Unavailable:
                return None
            except errors.Untrusted:
                self._rows[digest] = None
            else:
                self._rows[digest] = row_of(evaluator, data)
        return self._rows[digest]
