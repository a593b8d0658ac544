"""Signed messages of a node: made once, journaled, left for the relays; and relaying those of others."""

from __future__ import annotations

from hansa import encoding, errors
from hansa.node import outbox
from hansa.node.blobs import Blobs
from hansa.node.flights import Flights
from hansa.node.models import Models, result_key
from hansa.node.openings import Openings
from hansa.node.owning import Owner
from hansa.node.world import Findings, Identity, World
from hansa.ports import View
from hansa.protocol import messages as msg
from hansa.protocol import plan, selection
from hansa.protocol.state import State, to_bitmap
from hansa.protocol.wire import decode_item, encode_item


def proposal_of(state: State) -> tuple[int, bytes, str]:
    """What a judgement is about: the attempt, what was proposed in it, and what it should be the fold of."""
    return state.current.attempt, state.current.result, result_key(state)


class Messages:
    """What one node says in the running round. `judgement`: whether a proposal is right."""

    def __init__(
        self, me: Identity, world: World, blobs: Blobs, models: Models | Openings | Owner, findings: Findings
    ) -> None:
        self.me = me
        self.world = world
        self.blobs = blobs
        self.models = models
        self.note = findings.note
        self.delivered: set[str] = set()
        self.withheld: set[str] = set()
        self.judgement: dict[tuple[int, bytes, str], bool] = {}
        self.flights = Flights()
        self._spoiled: set[tuple[int, bytes]] = set()

    def turn(self) -> None:
        """A new round began."""
        self.delivered.clear()
        self.withheld.clear()
        self.judgement.clear()
        self.flights.turn()
        self._spoiled.clear()

    def sign(self, state: State, name: str, *values: object) -> bytes:
        """The own signature of a message."""
        return self.me.signer.sign(encoding.message_bytes(state.domain, name, *values))

    def _slot(self, kind: str, state: State) -> str:
        return f"{kind}:{state.current.attempt}" if kind in ("proposal", "vote") else kind

    def send(self, kind: str, state: State) -> bool:
        """Make a message once, and leave it for the relays. Raises `Unavailable`."""
        slot = self._slot(kind, state)
        if self.world.journal.get(state.round, slot) is None:
            entries: dict[str, bytes] = {}
            entries[slot] = encode_item(self._make(kind, state, entries))
            self.world.journal.put(state.round, entries)
        if kind == "opening":
            self.blobs.publish(state, self._entry(state, "values"))
        if kind in ("precommit", "proposal") and not self._stands(kind, state):
            self.note(
                f"round {state.round}: the chain went back beyond what was final; the own {kind} does not fit"
            )
            self.withheld.add(slot)
            return True
        self.deliver(kind, state)
        return True

    def _stands(self, kind: str, state: State) -> bool:
        """Whether the journaled message says what this node computes for the updates that are selected now.

        It does, unless a reorganisation undid what was final. A second one for the slot would be perjury.
        """
        item = decode_item(kind, self._entry(state, self._slot(kind, state)))
        result = self._entry(state, result_key(state))
        if isinstance(item, msg.Propose):
            return item.result == result
        salt = self._entry(state, "salt/precommit")
        made = selection.precommitment(state.domain, state.round, self.me.id, result, salt)
        return bool(item.commitment == made)

    def deliver(self, kind: str, state: State) -> None:
        """Leave a journaled message for the relays."""
        slot = self._slot(kind, state)
        data = self.world.journal.get(state.round, slot)
        assert data is not None
        self.blobs.retention.named(state, outbox.key(state, slot, self.me.id))
        outbox.put(self.world.store, state, slot, self.me.id, data)
        self.delivered.add(slot)

    def _entry(self, state: State, key: str) -> bytes:
        value = self.world.journal.get(state.round, key)
        if value is None:
            raise errors.Unavailable(f"the journal lacks {key!r} of round {state.round}")
        return value

    def _salt(self, state: State, kind: str, entries: dict[str, bytes]) -> bytes:
        """The salt of a commitment; a fresh one goes into `entries`, to be journaled with its message."""
        key = f"salt/{kind}"
        salt = self.world.journal.get(state.round, key)
        if salt is None:
            entries[key] = salt = self.world.entropy(f"{key}/{state.round}", 32)
        return salt

    def _make(self, kind: str, state: State, entries: dict[str, bytes]) -> object:
        current, me, round = state.current, self.me.id, state.round
        match kind:
            case "reveal":
                return msg.Reveal(me, self.me.onion.layer(state.members[me], round))
            case "availability":
                for id in sorted(current.revealed - self.blobs.checked - self.blobs.refused):
                    self.note(f"round {round}: update of member {id} could not be fetched in time")
                held = to_bitmap(self.blobs.checked & current.revealed)
                words = [(held >> (256 * k)) & (2**256 - 1) for k in range(4)]
                return msg.Availability(me, held, self.sign(state, "Availability", round, words))
            case "ballot":
                commitment = selection.ballot_commitment(
                    state.domain, round, me, *self._vote_of(state), self._salt(state, "ballot", entries)
                )
                return msg.Ballot(me, commitment, self.sign(state, "Ballot", round, commitment))
            case "opening":
                place = current.places.index(me)
                return msg.Opening(me, place, *self._vote_of(state), self._salt(state, "ballot", entries))
            case "precommit":
                result, salt = self._entry(state, result_key(state)), self._salt(state, "precommit", entries)
                commitment = selection.precommitment(state.domain, round, me, result, salt)
                return msg.Precommit(me, commitment, self.sign(state, "Precommit", round, commitment))
            case "proposal":
                result = self._entry(state, result_key(state))
                evidence = self.models.release(state, result)
                fields = (round, current.attempt, result, evidence)
                return msg.Propose(*fields, self.sign(state, "Proposal", *fields))
            case "opened":
                assert isinstance(self.models, Openings | Owner)
                digest = self.models.vote(state)
                return msg.OpeningVote(me, digest, self.sign(state, "Opening", round, digest))
            case _:
                approve = self.judgement[proposal_of(state)]
                salt = self._salt(state, "precommit", entries) if approve else bytes(32)
                signature = self.sign(state, "Vote", round, current.attempt, current.result, approve)
                return msg.Vote(me, approve, salt, signature)

    def _vote_of(self, state: State) -> tuple[int, bool, bytes]:
        ranking = int.from_bytes(self._entry(state, "ranking"), "big")
        stop = self._entry(state, "stop") == b"\x01"
        return ranking, stop, encoding.digest(self._entry(state, "values"))

    def waiting(self, view: View) -> dict[str, frozenset[int]]:
        """By kind, whose messages lie in the outbox and are awaited on the chain."""
        state = view.state
        first = plan.relay_rank(state, self.me.id) < plan.RELAYS
        late = plan.elapsed(state, view.now) >= 0.25
        away = self.flights.away(view)
        waiting: dict[str, frozenset[int]] = {}
        for kind in plan.kinds_of(state):
            slot = self._slot(kind, state)
            awaited = plan.expected(state, kind)
            if away:
                awaited = frozenset(id for id in awaited if (slot, id) not in away)
            if not awaited:
                continue
            if self.me.relay and (first or late):
                found = outbox.senders(self.world.store, state, slot) & awaited
                waiting[kind] = frozenset(
                    id for id in found if not self._spoiled or not self._is_spoiled(state, slot, id)
                )
            own = (self.me.id, encoding.digest(self._entry(state, slot))) if slot in self.delivered else None
            if own and own not in self._spoiled:
                waiting[kind] = waiting.get(kind, frozenset()) | (awaited & {self.me.id})
        return waiting

    def _is_spoiled(self, state: State, slot: str, id: int) -> bool:
        try:
            return (id, encoding.digest(outbox.get(self.world.store, state, slot, id))) in self._spoiled
        except (errors.Unavailable, errors.Untrusted):
            return True

    def relay(self, kind: str, own: bool, view: View) -> bool:
        """Bring waiting messages to the chain, or only the own one. Raises `Unavailable`."""
        state = view.state
        slot = self._slot(kind, state)
        ids = {self.me.id} if own else self.waiting(view).get(kind, frozenset())
        # The outbox is open to all: somebody may have put other bytes over the own message.
        mine = {self.me.id: self._entry(state, slot)} if slot in self.delivered else {}
        again = {id for id in ids if self.flights.known((slot, id), view)}
        relayed = outbox.relay(
            self.world.ledger,
            self.world.store,
            state,
            kind,
            slot,
            sorted(ids),
            mine,
            again=again,
            dry_run=self.me.frugal,
        )
        for id in relayed.tried:
            self.flights.depart((slot, id), view)
        self._spoiled |= relayed.spoiled
        for text in relayed.findings:
            self.note(text)
        return relayed.sent or bool(relayed.spoiled)
