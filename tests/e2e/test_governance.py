"""The modes of governance with members in processes of their own; who is in changes while they train."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from place import Place, terms
from tests import anvil
from tests.forked import Forked

from hansa import errors
from hansa.protocol.events import CommitteeDrawn, Elected, Selected, Voted
from hansa.protocol.state import from_bitmap
from hansa.records import Phase, Role

pytestmark = pytest.mark.slow

OUT = "has left, was voted out, or has another key: nothing more to do"
LIGHT = {"training": "min_members = 3", "selection": 'rule = "none"'}


CHANGING = {**LIGHT, "training": 'min_members = 3\ndeadline = "20s"\nmax_failed_rounds = 100'}


@pytest.fixture
def rpc() -> Iterator[str]:
    with anvil.anvil(*anvil.ZERO_FEE) as url:
        yield url


@contextmanager
def killed(nodes: list[Forked]) -> Iterator[list[Forked]]:
    try:
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def seated(governance: str, rounds: int, ids: list[int], given: dict[str, str]) -> Callable[[list[str]], str]:
    def agreed(addresses: list[str]) -> str:
        seats = ", ".join(f'"{addresses[i]}"' for i in ids)
        return terms(governance, rounds=rounds, more=f"[governance]\nseats = [{seats}]", **given)

    return agreed


def last_line(node: Forked) -> str:
    said = node.communicate(timeout=120)[0]
    assert node.returncode == 0, said
    return str(said.splitlines()[-1])


def begin(place: Place, members: int) -> str:
    """Deploy, let everybody in, start."""
    federation = place.say("deploy", place.folder / "app")
    place.say("invite", federation, *place.addresses[:members])
    for i in range(members):
        assert (
            place.say("join", federation, key=i, app=place.folder / "app", yes=True) == f"member {i} of ward"
        )
    return federation


def test_a_committee_is_redrawn_while_members_come_and_go(tmp_path: Path, rpc: str) -> None:
    more = '[governance]\ninvitation = "vote"\ncommittee = 3\nepoch = 2'
    place = Place(tmp_path, rpc, 5, lambda _: terms("hybrid", rounds=1000, more=more, **CHANGING))
    federation = begin(place, 4)
    place.say("start", federation)
    with killed([place.trains(federation, i) for i in range(4)]) as nodes:
        place.until(federation, lambda state, _: state.version >= 1, nodes)

        # After round 1 the owner cannot let anybody in; the members do, and the newcomer's update counts.
        with pytest.raises(errors.NotOwner):
            place.say("invite", federation, place.addresses[4])
        said = place.decide(federation, "invite", place.addresses[4], by=[0, 1, 2])
        assert re.fullmatch(r"motion [0-9a-f]{16} is carried", said)
        assert place.say("join", federation, key=4, app=place.folder / "app", yes=True) == "member 4 of ward"
        nodes.append(place.trains(federation, 4))
        place.until(
            federation,
            lambda _, seen: any(isinstance(e, Selected) and e.selected >> 4 & 1 for e in seen),
            nodes,
        )

        # One leaves, one is voted out: their nodes end when their last round is over.
        assert place.say("leave", federation, key=0, yes=True).startswith("member 0 has left from round ")
        assert last_line(nodes[0]) == f"member 0 {OUT}"
        place.decide(federation, "exclude", 1, "--reason", "sells the updates", by=[2, 3, 4])
        assert last_line(nodes[1]) == f"member 1 {OUT}"
        with pytest.raises(errors.NotInvited):
            place.say("join", federation, key=1, app=place.folder / "app", yes=True)

        # The others go on without them, under more than one committee, until they stop by vote.
        since = place.look(federation)[0].version

        def enough(state, seen) -> bool:
            drawn = {e.committee for e in seen if isinstance(e, CommitteeDrawn)}
            return state.version > since + 1 and len(drawn) > 1

        place.until(federation, enough, nodes)
        place.decide(federation, "stop", by=[2, 3, 4])
        ends = {last_line(node) for node in nodes[2:]}

    state, seen = place.look(federation)
    assert state.phase is Phase.STOPPED
    assert ends == {f"all done: {state.version} rounds are final, model sha256 {state.model.hex()}"}
    assert [m.member for m in state.members.values()] == [False, False, True, True, True]
    assert state.current.roster == {2, 3, 4}
    drawn = [e for e in seen if isinstance(e, CommitteeDrawn)]
    assert all(b.round - a.round >= 2 for a, b in pairwise(drawn))
    assert all(len(from_bitmap(e.committee)) == 3 for e in drawn)


def test_a_server_that_is_no_member_leads_and_trains_nothing(tmp_path: Path, rpc: str) -> None:
    place = Place(tmp_path, rpc, 4, seated("server", 2, [3], LIGHT))
    federation = begin(place, 3)
    with pytest.raises(errors.NotInvited):
        place.say("join", federation, key=3, app=place.folder / "app", yes=True, role="server")
    place.say("invite", federation, place.addresses[3])
    with pytest.raises(errors.Misconfigured, match="no seat of a server"):
        place.say("join", federation, key=2, app=place.folder / "app", yes=True, role="server")
    said = place.say("join", federation, key=3, app=place.folder / "app", yes=True, role="server")
    assert said == "server 3 of ward"
    assert place.say("start", federation) == "round 1 has begun with 3 members"
    with pytest.raises(errors.Misconfigured, match="no --data names them"):
        place.say("node", federation, key=0, app=place.folder / "app", home=tmp_path / "home0")
    nodes = [*(place.trains(federation, i) for i in range(3)), place.node(federation, 3)]
    with killed(nodes):
        ends = {last_line(node) for node in nodes}
    state, seen = place.look(federation)
    assert ends == {f"all done: 2 rounds are final, model sha256 {state.model.hex()}"}
    assert state.members[3].role is Role.SERVER
    assert {e.id for e in seen if isinstance(e, Elected)} == {3}
    assert state.current.verifiers == {0, 1, 2}


def test_a_seat_of_the_committee_goes_to_another_key(tmp_path: Path, rpc: str) -> None:
    place = Place(tmp_path, rpc, 5, seated("committee", 1000, [0, 1, 2], CHANGING))
    federation = begin(place, 4)
    place.say("start", federation)
    with killed([place.trains(federation, i) for i in range(4)]) as nodes:
        place.until(federation, lambda state, _: state.version >= 1, nodes)

        # The old key is worth nothing at once; its node sees that and ends.
        place.decide(federation, "replace", 1, place.addresses[4], by=[0, 2, 3])
        assert last_line(nodes[1]) == f"member 1 {OUT}"
        with pytest.raises(errors.Misconfigured, match="only members sign motions"):
            place.say("vote", federation, key=1, yes=True)

        # The new one joins when the round is over in which the id still had a part, and has id and seat.
        place.until(federation, lambda state, _: 1 not in state.current.roster, nodes)
        with pytest.raises(errors.NotInvited):
            place.say("join", federation, key=1, app=place.folder / "app", yes=True)
        assert place.say("join", federation, key=4, app=place.folder / "app", yes=True) == "member 1 of ward"
        nodes.append(place.trains(federation, 4))
        since = place.look(federation)[0].round
        place.until(
            federation,
            lambda state, seen: (
                {1, 2} <= state.current.verifiers
                and any(isinstance(e, Voted) and e.id == 1 and e.round > since for e in seen)
            ),
            nodes,
        )
        place.decide(federation, "stop", by=[0, 2, 3])
        ends = {last_line(nodes[i]) for i in (0, 2, 3, 4)}

    state, _ = place.look(federation)
    assert ends == {f"all done: {state.version} rounds are final, model sha256 {state.model.hex()}"}
    assert len(state.members) == 4
    assert state.members[1].address == bytes.fromhex(place.addresses[4][2:])
