"""The two chains of the campaign, with one face: the specification, and the contract on the embedded EVM.

Both give their `blocks`, oldest first. `now` is the chain's time, set by the campaign; `floor` the block up to
which everybody enrolled; `idle` makes an empty block where blocks come without calls.
"""

from __future__ import annotations

from pathlib import Path

from tests.tiny import START

from hansa.crypto.signatures import account
from hansa.founding import Party
from hansa.ledger.blocks import Genesis
from hansa.ledger.embedded import open_chain
from hansa.ledger.evm import EvmLedger, Fold, deploy
from hansa.ledger.specified import Block, Specified, SpecifiedLedger
from hansa.ports import View
from hansa.protocol import messages as msg
from hansa.protocol import rules
from hansa.protocol.events import Event
from hansa.records import Parameters


class OnSpecification:
    """The rules in memory."""

    def __init__(
        self,
        parties: list[Party],
        parameters: Parameters,
        seats: list[bytes],
        model: bytes,
        confirmations: int,
    ) -> None:
        domain = b"chaos".ljust(32, b"\0")
        founded = rules.found(parameters, seats, parties[0].address, domain, model)
        self.now = START
        self._chain = Specified(founded, confirmations=confirmations)
        self._ends = [SpecifiedLedger(self._chain, p.address, lambda: self.now) for p in parties]
        self._confirmations = confirmations
        self.floor = 0

    @property
    def blocks(self) -> list[Block]:
        return self._chain.blocks

    def view(self, lag: int = 0) -> View:
        final = self._chain.final()
        block = self.blocks[max(self.floor, final.number - lag)] if lag else final
        return View(block.state, self.blocks[-1].time, block.number, block.hash)

    def submit(self, id: int, call: msg.Call) -> None:
        self._ends[id].submit(call)

    def dry_run(self, id: int, call: msg.Call) -> list[int]:
        return self._ends[id].dry_run(call)

    def idle(self) -> None:
        if self._confirmations:
            self._chain.mine(self.now)

    def undo(self, depth: int) -> list[Block]:
        return self._chain.undo(min(depth, self._chain.block - self.floor))

    def close(self) -> None: ...


class OnEvm:
    """The contract, on a chain of its own in a folder. It makes a block a call and never goes back."""

    def __init__(
        self, parties: list[Party], parameters: Parameters, seats: list[bytes], model: bytes, folder: Path
    ) -> None:
        self.now = START
        self._chain = open_chain(folder / "chain.sqlite", Genesis(1, START - 10))
        self._chain.set_time(START)
        accounts = [account(p.secret) for p in parties]
        deployment = deploy(self._chain, accounts[0], parameters, tuple(seats), model)
        self._fold = Fold(self._chain, deployment)
        self._ends = [EvmLedger(self._chain, deployment, self._fold, a, lambda: 0) for a in accounts]
        self._new: list[Event] = []
        self._fold.observe(lambda event, _block: self._new.append(event))
        self.blocks: list[Block] = []
        self.floor = 0
        self._note()

    def _note(self) -> None:
        self._fold.expire()
        view = self._fold.view(lambda: 0)
        self.blocks.append(Block(view.block, view.block_hash, self.now, view.state, tuple(self._new)))
        self._new.clear()

    def view(self, lag: int = 0) -> View:
        if lag:
            block = self.blocks[max(self.floor, len(self.blocks) - 1 - lag)]
            return View(block.state, self.blocks[-1].time, block.number, block.hash)
        return self._ends[0].view()

    def submit(self, id: int, call: msg.Call) -> None:
        self._chain.set_time(self.now)
        self._ends[id].submit(call)
        self._note()

    def dry_run(self, id: int, call: msg.Call) -> list[int]:
        self._chain.set_time(self.now)
        return self._ends[id].dry_run(call)

    def idle(self) -> None: ...

    def undo(self, depth: int) -> list[Block]:
        return []

    def close(self) -> None:
        self._chain.close()


__all__ = ["Block", "OnEvm", "OnSpecification"]
