"""What a node is and what it reaches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hansa.node.enclosure import Enclosure
from hansa.node.journal import Journal
from hansa.node.onion import Onion
from hansa.ports import Entropy, Ledger, Scheme, Session, Sharing, Signer, Store, Trainer
from hansa.records import Limits

KEPT = 500
"""Sentences that a node remembers to have said; a node runs for months."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a node is: its id in the federation, its keys, and the names of its data."""

    id: int
    signer: Signer
    onion: Onion
    training_data: str
    validation_data: str
    trains: bool = True
    relay: bool = True
    frugal: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """Everything a node reaches: ports only. `kept` is its own disk, `store` is shared by all.

    `duration`: milliseconds that training on so many examples takes. `virtual`: they pass on the ledger's clock
    only, so that the node must wait for them; else they passed while it trained. `enclosure` starts an enclave, where
    the node runs one, and `collateral` fetches that of a quote. `sharing` and, at a computing party, `session` are for
    scheme `mpc`.
    """

    ledger: Ledger
    store: Store
    kept: Store
    trainer: Trainer
    scheme: Scheme
    journal: Journal
    entropy: Entropy
    duration: Callable[[int], int] = field(default=lambda _examples: 0)
    virtual: bool = False
    enclosure: Callable[[], Enclosure] | None = None
    collateral: Callable[[bytes], bytes] | None = None
    sharing: Sharing | None = None
    session: Session | None = None
    limits: Limits = field(default_factory=Limits)


class Findings:
    """What a node noticed: the last `KEPT` sentences, each once, in order."""

    def __init__(self) -> None:
        self.texts: deque[str] = deque(maxlen=KEPT)
        self._news: deque[str] = deque(maxlen=KEPT)

    def note(self, text: str) -> None:
        """Add a sentence."""
        if text not in self.texts:
            self.texts.append(text)
            self._news.append(text)

    def news(self) -> list[str]:
        """What was noted since this was asked last."""
        found = list(self._news)
        self._news.clear()
        return found
