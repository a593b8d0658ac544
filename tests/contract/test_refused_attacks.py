"""What an attacker would try against the contract itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_hash.auto import keccak
from harness import OWNER, Contract, layer, who
from people import ONION_DEPTH, People

from hansa import errors
from hansa.errors import AlreadySent, BadSignature, NotInvited, NotLeader, NotOwner
from hansa.ledger import artefact
from hansa.ledger.binding import arguments, call_of
from hansa.protocol import messages as msg
from hansa.protocol import rules
from hansa.protocol.state import State
from hansa.records import Governance, Motion, Parameters, Phase, Role, Slot, Standing

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
PARAMETERS = Parameters(
    bytes(32), Governance.COMMITTEE, evaluate=False, min_updates=3, min_quorum=3, precommit=False
)


class Scene:
    """Five members, of which 0 to 2 and 4 are the committee; the contract alone decides."""

    def __init__(self, parameters: Parameters = PARAMETERS) -> None:
        seats = (who(0), who(1), who(2), who(4))
        self.contract = Contract(parameters, seats)
        self.state: State = self.contract.founded(parameters, seats)
        self.people = People(6)
        for i in range(5):
            self.accept(msg.Invite(who(i)))
            self.people.joined(self.state, i, 0)
            self.accept(self.people.join(self.state, i))
        self.accept(msg.Start())

    def accept(self, call: msg.Call) -> None:
        outcome = self.contract.call(call)
        assert outcome.refusal is None, (call, outcome)
        for event in outcome.events:
            self.state = rules.evolve(self.state, event)

    def refusal(self, call: msg.Call, sender: bytes = OWNER) -> int | None:
        return self.contract.call(call, sender).refusal

    def reach(self, phase: Phase) -> None:
        people, ids = self.people, range(4)
        while self.state.phase is not phase:
            match self.state.phase:
                case Phase.COMMIT:
                    self.accept(people.commits(self.state, ids))
                    self.contract.now = self.state.deadline
                    self.accept(msg.Advance(self.state.round))
                case Phase.BEACON:
                    self.accept(people.reveals(self.state, ids))
                case _:
                    raise AssertionError(self.state.phase)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_committee_member_cannot_change_its_weight_after_the_beacon(scene: Scene) -> None:
    """Member 4 did not commit; with the beacon known, its resources would choose the leader."""
    scene.accept(scene.people.join(scene.state, 4, series=1, resources=1))
    scene.reach(Phase.AVAILABLE)
    assert 4 in scene.state.current.verifiers
    assert scene.refusal(scene.people.join(scene.state, 4, series=2, resources=65_535)) == AlreadySent.code


BACK = 2**256


@pytest.mark.parametrize(
    "offset", [64, 96, 64 + 32 * 6, 32, 0, BACK - 32, BACK - 4, BACK - 1, BACK // 2, BACK - 36]
)
@pytest.mark.parametrize("cut", [0, 1, 32, 150, 160, 200])
def test_a_relay_cannot_send_what_only_the_contract_understands(scene: Scene, offset: int, cut: int) -> None:
    """A batch cut short, or with its list anywhere: the auditor must see in it what the contract saw.

    Otherwise a relay could make an honest run look forged.
    """
    good = scene.people.commits(scene.state, [0]).items[0]
    nothing = replace(good, id=0, base=0, digest=bytes(32), meta=0, signature=bytes(64))
    plain = artefact.encode_call(*arguments(msg.Commits(1, (good, nothing))))
    data = plain[:36] + offset.to_bytes(32, "big") + bytes(max(0, min(offset, 256) - 64)) + plain[68:]
    data = data[: len(data) - cut]
    result = scene.contract._transact(OWNER, scene.contract.address, data)
    try:
        call = call_of(*artefact.decode_call(data))
        codes = rules.decide(scene.state, call, scene.contract.now, OWNER)[1]
    except (errors.Untrusted, errors.Refused):
        assert result.is_error
        return
    assert not result.is_error
    assert artefact.decode_result("commits", result.output)[0] == tuple(codes)
    assert codes[0] == 0


def test_an_onion_cannot_be_changed_between_commitment_and_beacon(scene: Scene) -> None:
    scene.accept(scene.people.commits(scene.state, [0]))
    assert scene.refusal(scene.people.join(scene.state, 0, series=1)) == AlreadySent.code


def test_nobody_can_be_recovered_from_garbage(scene: Scene) -> None:
    """ecrecover gives the zero address for garbage; it must not pass for an id that does not exist."""
    call = msg.Record(1, 1, 77, keccak(b"x"), bytes(64))
    assert scene.refusal(call) == BadSignature.code
    nobody = msg.Join(bytes(20), bytes(32), bytes(32), 1, Role.MEMBER, bytes(64))
    assert scene.refusal(nobody) == BadSignature.code


def test_a_mirrored_signature_is_refused(scene: Scene) -> None:
    call = scene.people.record(scene.state, 0, 1, 1)
    r, vs = call.signature[:32], int.from_bytes(call.signature[32:], "big")
    s, parity = vs & (2**255 - 1), vs >> 255
    mirrored = r + ((ORDER - s) % 2**255 | (1 - parity) << 255).to_bytes(32, "big")
    assert scene.refusal(replace(call, signature=mirrored)) == BadSignature.code
    scene.accept(call)
    assert scene.refusal(call) == AlreadySent.code


def test_an_s_above_half_the_order_is_refused(scene: Scene) -> None:
    """Such an s fits into 255 bits for a few values; nodes would refuse what the contract took."""
    call = scene.people.record(scene.state, 0, 1, 1)
    high = (ORDER // 2 + 1).to_bytes(32, "big")
    assert scene.refusal(replace(call, signature=call.signature[:32] + high)) == BadSignature.code


def test_a_message_for_one_federation_is_void_in_another(scene: Scene) -> None:
    other = Scene(replace(PARAMETERS, digest=keccak(b"other terms")))
    assert other.refusal(scene.people.commits(scene.state, [0])) == BadSignature.code


def test_a_bad_item_does_not_spoil_a_batch(scene: Scene) -> None:
    good = scene.people.commits(scene.state, [0, 1]).items
    wild = replace(good[0], id=2**256 - 1)
    outcome = scene.contract.call(
        msg.Commits(1, (wild, good[0], good[0], replace(good[1], id=1024), good[1]))
    )
    assert outcome.codes == [8, 0, 10, 8, 0]


def test_an_owner_that_was_voted_out_invites_nobody(scene: Scene) -> None:
    assert scene.refusal(msg.Invite(who(5))) is None
    scene.accept(scene.people.motion(scene.state, Motion.EXCLUDE, OWNER, [0, 1, 2, 3]))
    assert scene.refusal(msg.Invite(who(5))) == NotOwner.code


def test_who_stole_a_key_can_do_nothing_after_its_replacement(scene: Scene) -> None:
    """Nor can the thief bring the id back to the old key, by an older signature of the motion."""
    people, id = scene.people, (4).to_bytes(32, "big")
    scene.accept(people.motion(scene.state, Motion.REPLACE, who(5), [0, 1, 2, 3], id))
    state = replace(
        scene.state, members={**scene.state.members, 4: replace(scene.state.members[4], address=who(4))}
    )
    assert scene.refusal(people.commits(state, [4])) == BadSignature.code
    assert scene.refusal(people.status(state, 4, Standing.BACK)) == BadSignature.code
    assert scene.refusal(people.join(state, 4, series=1)) == NotInvited.code
    again = people.motion(replace(state, motions=0), Motion.REPLACE, who(4), [0, 1, 2, 3], id)
    assert scene.refusal(again) == BadSignature.code


def test_the_excluded_return_only_by_motion(scene: Scene) -> None:
    scene.accept(scene.people.motion(scene.state, Motion.EXCLUDE, who(3), [0, 1, 2, 4]))
    assert scene.refusal(msg.Invite(who(3))) == NotInvited.code
    assert scene.refusal(scene.people.join(scene.state, 3, series=1)) == NotInvited.code
    scene.accept(scene.people.motion(scene.state, Motion.INVITE, who(3), [0, 1, 2, 4]))
    scene.accept(scene.people.join(scene.state, 3, series=1))
    assert scene.contract.read("n") == 5


def test_two_signatures_on_one_message_are_no_equivocation(scene: Scene) -> None:
    claim = scene.people.claim(scene.state, Slot.VOTE, 0, 1, 0, keccak(b"result"), 1)
    assert scene.refusal(msg.Accuse(Slot.VOTE, 0, 1, claim, claim)) == 27
    unknown = msg.Accuse(3, 0, 1, claim, replace(claim, y=bytes(32)))
    assert scene.refusal(unknown) == 27


def test_only_the_leader_proposes(scene: Scene) -> None:
    scene.reach(Phase.AVAILABLE)
    scene.accept(scene.people.availabilities(scene.state, sorted(scene.state.current.verifiers)))
    assert scene.state.phase is Phase.AGGREGATE
    leader = scene.state.current.leader
    for id in set(range(5)) - {leader}:
        assert scene.refusal(scene.people.propose(scene.state, by=id)) == NotLeader.code


def test_an_onion_layer_of_an_earlier_depth_is_refused(scene: Scene) -> None:
    scene.reach(Phase.BEACON)
    for depth in (0, 2, ONION_DEPTH):
        reveal = msg.Reveal(0, layer(0, 0, ONION_DEPTH - depth))
        assert scene.refusal(msg.Reveals(1, (reveal,))) == 14
