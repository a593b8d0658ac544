"""The specification's own arithmetic: bounds, quorums, deadlines, penalties, membership.

That it agrees with the contract is for `tests/contract`; how nodes live under it, for `tests/adversary`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import reduce

import pytest
from tests.tiny import party

from hansa import encoding, errors
from hansa.protocol import election, rules, selection
from hansa.protocol import messages as msg
from hansa.protocol.state import quorum, to_bitmap
from hansa.records import Fault, Governance, Motion, Outcome, Parameters, Phase, Role, Standing

N, OWNER, DOMAIN, MODEL = 5, b"o" * 20, b"d" * 32, b"m" * 32
LONG = 100
PARTIES = [party(0, f"m{i}") for i in range(N + 3)]


class Story:
    """A federation that is told one call after another at a settable time."""

    def __init__(self, members: int = N, seats: Iterable[bytes] = (), **parameters) -> None:
        given = {"governance": Governance.PEERS, "evaluate": False, "durations": (LONG,) * 7, "rounds": 3}
        self.parameters = Parameters(bytes(32), **(given | parameters))
        self.state = rules.found(self.parameters, seats, OWNER, DOMAIN, MODEL)
        self.now, self.events = 0, []
        for i in range(members):
            self.say(msg.Invite(PARTIES[i].address), OWNER)
            self.say(self.join(i))

    def say(self, call, sender: bytes = b"") -> list[int]:
        events, codes = rules.decide(self.state, call, self.now, sender)
        self.events += events
        self.state = reduce(rules.evolve, events, self.state)
        return codes

    def sign(self, i: int, name: str, *values) -> bytes:
        return PARTIES[i].sign(encoding.message_bytes(DOMAIN, name, *values))

    def join(self, i: int, nonce: int = 0, role: Role = Role.MEMBER, resources: int = 10) -> msg.Join:
        fields = (bytes(32), PARTIES[i].onion.head, resources, role)
        return msg.Join(PARTIES[i].address, *fields, self.sign(i, "Join", nonce, *fields))

    def start(self) -> Story:
        self.say(msg.Start(), OWNER)
        return self

    def commits(self, ids) -> msg.Commits:
        round = self.state.round
        return msg.Commits(
            round,
            tuple(
                msg.Commit(i, self.state.version, bytes([i]) * 32, 0,
                           self.sign(i, "Commit", round, self.state.version, bytes([i]) * 32, 0))
                for i in ids
            ),
        )  # fmt: skip

    def reveals(self, ids) -> msg.Reveals:
        members = self.state.members
        return msg.Reveals(
            self.state.round,
            tuple(msg.Reveal(i, PARTIES[i].onion.layer(members[i], self.state.round)) for i in ids),
        )

    def held(self, bitmaps: dict[int, int]) -> msg.Availabilities:
        round = self.state.round
        return msg.Availabilities(
            round,
            tuple(
                msg.Availability(i, b, self.sign(i, "Availability", round, [b, 0, 0, 0]))
                for i, b in bitmaps.items()
            ),
        )

    def precommits(self, ids, result: bytes) -> msg.Precommits:
        round, items = self.state.round, []
        for i in ids:
            digest = selection.precommitment(DOMAIN, round, i, result, bytes(32))
            items.append(msg.Precommit(i, digest, self.sign(i, "Precommit", round, digest)))
        return msg.Precommits(round, tuple(items))

    def proposal(self, result: bytes) -> msg.Propose:
        fields = (self.state.round, self.state.current.attempt, result, bytes(32))
        return msg.Propose(*fields, self.sign(self.state.current.leader, "Proposal", *fields))

    def votes(self, approvals: dict[int, bool]) -> msg.Votes:
        round, now = self.state.round, self.state.current
        return msg.Votes(
            round,
            now.attempt,
            tuple(
                msg.Vote(i, ok, bytes(32), self.sign(i, "Vote", round, now.attempt, now.result, ok))
                for i, ok in approvals.items()
            ),
        )

    def to_verify(self, result: bytes = b"r" * 32) -> Story:
        everyone = sorted(self.state.current.roster)
        self.say(self.commits(everyone))
        self.say(self.reveals(everyone))
        self.say(self.held(dict.fromkeys(everyone, to_bitmap(set(everyone)))))
        self.say(self.precommits(everyone, result))
        self.say(self.proposal(result))
        assert self.state.phase is Phase.VERIFY
        return self

    def faults(self, kind: Fault) -> list[int]:
        return [e.id for e in self.events if type(e).__name__ == "Slashed" and e.why == kind]

    def outcomes(self) -> list[int]:
        return [e.outcome for e in self.events if type(e).__name__ == "Ended"]


@pytest.mark.parametrize(
    "bad",
    [
        {"targets": 0},
        {"targets": 17},
        {"evaluate": True, "min_updates": 3},
        {"min_updates": 0},
        {"min_quorum": 0},
        {"attempts": 0},
        {"rounds": 0},
        {"penalty": 1001},
        {"keep_permille": 0},
        {"keep_permille": 1001},
        {"weight_cap": 0},
        {"max_voids": 0},
        {"max_absent": 0},
        {"durations": (1, 1, 1, 0, 1, 1, 1)},
        {"governance": Governance.COMMITTEE},
        {"governance": Governance.SERVER},
        {"governance": Governance.HYBRID, "committee": 0},
        {"governance": Governance.HYBRID, "committee": 65},
        {"governance": Governance.HYBRID, "epoch": 0},
    ],
)
def test_parameters_that_cannot_work_are_refused(bad):
    with pytest.raises(errors.BadTerms):
        Story(0, **bad)


@pytest.mark.parametrize("n", range(1, 50))
def test_two_quorums_share_an_honest_party(n):
    q = quorum(n)
    faulty = (n - 1) // 3
    assert 2 * q - n > faulty
    assert n - faulty >= q


def test_only_the_owner_invites_and_starts():
    story = Story()
    for call in (msg.Invite(b"x" * 20), msg.Start()):
        with pytest.raises(errors.NotOwner):
            story.say(call, b"x" * 20)
    story.start()
    with pytest.raises(errors.WrongPhase):
        story.start()


def test_a_federation_of_voters_is_closed_to_its_owner_once_it_runs():
    story = Story(by_vote=True)
    story.start()
    with pytest.raises(errors.NotOwner):
        story.say(msg.Invite(b"x" * 20), OWNER)


def test_it_needs_its_minimum_to_start():
    with pytest.raises(errors.TooFewMembers):
        Story(3).start()
    assert Story(4).start().state.phase is Phase.COMMIT


def test_nobody_joins_uninvited_or_twice():
    story = Story()
    with pytest.raises(errors.NotInvited):
        story.say(story.join(N))
    with pytest.raises(errors.BadSignature):
        story.say(story.join(0))
    story.say(story.join(0, nonce=1, resources=99))
    assert story.state.members[0].resources == 99
    assert len(story.state.members) == N


def test_no_role_and_no_slot_outside_the_list():
    """The wire has a byte for each; the contract refuses what the list does not name."""
    story = Story()
    story.say(msg.Invite(PARTIES[N].address), OWNER)
    with pytest.raises(errors.WrongRole):
        story.say(story.join(N, role=9))
    story.start()
    claim = msg.Claim(0, bytes(32), bytes(32), bytes(65))
    with pytest.raises(errors.NotEquivocation):
        story.say(msg.Accuse(9, 0, 1, claim, replace(claim, x=b"x" * 32)))


def test_keys_stay_while_they_matter():
    """New resources after the beacon would steer the draw of a leader."""
    story = Story().start()
    story.say(story.commits([0]))
    with pytest.raises(errors.AlreadySent):
        story.say(story.join(0, nonce=1))
    story.say(story.join(1, nonce=1))
    story.say(story.commits([1, 2, 3, 4]))
    with pytest.raises(errors.AlreadySent):
        story.say(story.join(2, nonce=1))


def test_resources_are_capped():
    story = Story()
    story.say(story.join(0, nonce=1, resources=2**200))
    assert story.state.members[0].resources == 65_535


def test_a_batch_fails_item_by_item_and_reverts_only_when_all_fail():
    story = Story().start()
    good, bad = story.commits([0, 1]).items, replace(story.commits([2]).items[0], signature=bytes(64))
    assert story.say(msg.Commits(1, (good[0], bad, good[1], good[0]))) == [0, 1, 0, 10]
    with pytest.raises(errors.BadSignature):
        story.say(msg.Commits(1, (bad,)))
    with pytest.raises(errors.AlreadySent):
        story.say(msg.Commits(1, ()))


@pytest.mark.parametrize(
    ("offset", "refusal"), [(-1, None), (0, errors.DeadlinePassed), (1, errors.DeadlinePassed)]
)
def test_a_message_counts_before_its_deadline(offset, refusal):
    story = Story().start()
    story.now = LONG + offset
    if refusal is None:
        story.say(story.commits([0]))
    else:
        with pytest.raises(refusal):
            story.say(story.commits([0]))


@pytest.mark.parametrize(("offset", "early"), [(-1, True), (0, False), (1, False)])
def test_a_phase_is_closed_at_its_deadline(offset, early):
    story = Story().start()
    story.say(story.commits([0, 1, 2, 3]))
    story.now = LONG + offset
    if early:
        with pytest.raises(errors.TooEarly):
            story.say(msg.Advance(1))
    else:
        story.say(msg.Advance(1))
        assert story.state.phase is Phase.BEACON
        assert story.state.deadline == story.now + LONG


def test_the_message_that_completes_a_phase_closes_it():
    story = Story().start()
    story.say(story.commits(range(4)))
    assert story.state.phase is Phase.COMMIT
    story.say(story.commits([4]))
    assert story.state.phase is Phase.BEACON


def test_too_few_commitments_extend_and_then_void():
    story = Story(extensions=2, max_voids=2).start()
    story.say(story.commits([0, 1, 2]))
    for extension in (1, 2):
        story.now = story.state.deadline
        story.say(msg.Advance(1))
        assert (story.state.phase, story.state.current.extensions) == (Phase.COMMIT, extension)
        assert story.state.current.commits.keys() == {0, 1, 2}
    story.now = story.state.deadline
    story.say(msg.Advance(1))
    assert story.outcomes() == [Outcome.VOID]
    assert (story.state.round, story.state.phase, story.state.voids) == (2, Phase.COMMIT, 1)


def test_who_withholds_a_layer_pays_and_its_layer_is_not_in_the_beacon():
    story = Story().start()
    story.say(story.commits(range(5)))
    story.say(story.reveals([0, 1, 2, 3]))
    story.now = story.state.deadline
    story.say(msg.Advance(1))
    assert story.faults(Fault.WITHHELD_BEACON) == [4]
    assert set(story.state.current.places) == {0, 1, 2, 3}
    assert story.state.members[4].reputation == 75


@pytest.mark.parametrize(("holders", "counts"), [(3, False), (4, True)])
def test_an_update_is_available_when_a_quorum_holds_it(holders, counts):
    story = Story().start()
    story.say(story.commits(range(5)))
    story.say(story.reveals(range(5)))
    story.say(story.held({i: 31 if i < holders else 30 for i in range(5)}))
    assert story.state.current.available == frozenset(range(0 if counts else 1, 5))
    assert story.faults(Fault.WITHHELD_BLOB) == ([] if counts else [0])


def test_a_bitmap_names_only_those_who_revealed():
    story = Story().start()
    story.say(story.commits(range(5)))
    story.say(story.reveals(range(5)))
    story.say(story.held(dict.fromkeys(range(5), 2**200 - 1)))
    assert story.state.current.available == frozenset(range(5))


VOTES = [
    ({0: True, 1: True, 2: True}, Phase.VERIFY, None),
    ({0: True, 1: True, 2: True, 3: True}, Phase.COMMIT, Outcome.FINAL),
    ({0: True, 1: True, 2: True, 3: False}, Phase.VERIFY, None),
    ({0: False}, Phase.VERIFY, None),
    ({0: False, 1: False}, Phase.AGGREGATE, None),
]


@pytest.mark.parametrize(("votes", "phase", "outcome"), VOTES)
def test_votes_decide_at_their_quorums(votes, phase, outcome):
    story = Story().start().to_verify()
    story.say(story.votes(votes))
    assert story.state.phase is phase
    assert story.outcomes() == ([outcome] if outcome else [])
    rejected = phase is Phase.AGGREGATE
    assert bool(story.faults(Fault.REJECTED_PROPOSAL)) is rejected
    assert story.state.current.attempt == int(rejected)


def test_a_final_round_gives_the_model_and_reputation():
    story = Story().start().to_verify()
    leader = story.state.current.leader
    story.say(story.votes(dict.fromkeys(range(4), True)))
    assert (story.state.model, story.state.version, story.state.models) == (b"r" * 32, 1, (MODEL, b"r" * 32))
    # 100 - 100 // 8 + gain // 8; gain: selected 400, voted 300, revealed 200, led 100.
    expected = {i: 88 + (600 + 300 * (i < 4) + 100 * (i == leader)) // 8 for i in range(5)}
    assert {i: m.reputation for i, m in story.state.members.items()} == expected


def test_silence_in_the_vote_costs_the_silent_and_not_the_leader():
    story = Story().start().to_verify()
    leader = story.state.current.leader
    voters = {leader, (leader + 1) % 5, (leader + 2) % 5}
    story.say(story.votes(dict.fromkeys(sorted(voters), True)))
    story.now = story.state.deadline
    story.say(msg.Advance(1))
    assert set(story.faults(Fault.SILENT_VERIFIER)) == set(range(5)) - voters
    assert story.state.phase is Phase.AGGREGATE
    assert story.state.current.leader != leader
    assert story.state.current.votes == {}


def test_a_vote_of_an_earlier_attempt_or_another_result_is_refused():
    story = Story().start().to_verify()
    with pytest.raises(errors.WrongAttempt):
        story.say(replace(story.votes({0: True}), attempt=1))
    other = msg.Vote(0, True, bytes(32), story.sign(0, "Vote", 1, 0, b"x" * 32, True))
    with pytest.raises(errors.BadSignature):
        story.say(msg.Votes(1, 0, (other,)))


def test_an_approval_opens_its_precommitment():
    story = Story().start()
    story.to_verify()
    wrong = replace(story.votes({0: True}).items[0], salt=b"x" * 32)
    with pytest.raises(errors.WrongPrecommit):
        story.say(msg.Votes(1, 0, (wrong,)))
    story.say(story.votes({0: False}))
    assert story.state.current.votes == {0: False}


def test_attempts_end_in_a_void_round_and_voids_in_a_pause():
    story = Story(attempts=2, max_voids=1).start()
    story.say(story.commits(range(5)))
    story.say(story.reveals(range(5)))
    story.say(story.held(dict.fromkeys(range(5), 31)))
    story.say(story.precommits(range(4), b"r" * 32))
    for _ in range(2):
        assert story.state.phase is Phase.AGGREGATE
        story.now = story.state.deadline
        story.say(msg.Advance(1))
    assert len(set(story.faults(Fault.ABSENT_LEADER))) == 2
    assert story.outcomes() == [Outcome.VOID]
    assert story.state.phase is Phase.PAUSED
    with pytest.raises(errors.WrongPhase):
        story.say(msg.Advance(1))


def test_a_member_is_slashed_once_a_round():
    story = Story(attempts=9).start()
    story.say(story.commits(range(4)))
    story.now = story.state.deadline
    story.say(msg.Advance(1))
    story.say(story.reveals(range(4)))
    story.say(story.held(dict.fromkeys(range(5), 15)))
    story.say(story.precommits(range(4), b"r" * 32))
    for _ in range(8):
        story.now = story.state.deadline
        story.say(msg.Advance(1))
    assert sorted(story.faults(Fault.ABSENT_LEADER)) == [0, 1, 2, 3]
    assert {m.reputation for m in story.state.members.values()} == {75, 100}


def to_aggregate(**parameters) -> Story:
    story = Story(**parameters).start()
    story.say(story.commits(range(5)))
    story.say(story.reveals(range(5)))
    story.say(story.held(dict.fromkeys(range(5), 31)))
    return story


def test_a_leader_cannot_outrun_the_verifiers():
    """Before a quorum has fixed its results nobody could approve: the silent would pay for the leader's haste."""
    story = to_aggregate()
    story.say(story.precommits(range(3), b"r" * 32))
    with pytest.raises(errors.TooEarly):
        story.say(story.proposal(b"r" * 32))
    story.say(story.precommits([3], b"r" * 32))
    story.say(story.proposal(b"r" * 32))
    story.say(story.votes({0: True, 1: True}))
    story.now = story.state.deadline
    story.say(msg.Advance(1))
    # 4 had no result fixed when the leader proposed, so it could not approve and is not awaited.
    assert sorted(story.faults(Fault.SILENT_VERIFIER)) == [2, 3]


def test_who_keeps_its_result_back_pays_and_not_the_leader():
    story = to_aggregate()
    story.say(story.precommits(range(3), b"r" * 32))
    story.now = story.state.deadline
    story.say(msg.Advance(1))
    assert story.faults(Fault.ABSENT_LEADER) == []
    assert sorted(story.faults(Fault.SILENT_VERIFIER)) == [3, 4]
    assert story.state.current.attempt == 1


def open_votes(story: Story, digests: dict[int, bytes]) -> msg.OpeningVotes:
    return msg.OpeningVotes(
        story.state.round,
        tuple(
            msg.OpeningVote(i, d, story.sign(i, "Opening", story.state.round, d)) for i, d in digests.items()
        ),
    )


OPENINGS = [
    (dict.fromkeys(range(4), b"a" * 32), [Outcome.FINAL]),
    (dict.fromkeys(range(3), b"a" * 32), []),
    (dict.fromkeys(range(2), bytes(32)), [Outcome.BURNED]),
    (dict.fromkeys(range(1), bytes(32)), []),
    ({0: b"a" * 32, 1: b"b" * 32, 2: b"a" * 32, 3: b"b" * 32, 4: b"c" * 32}, [Outcome.BURNED]),
]


@pytest.mark.parametrize(("digests", "outcome"), OPENINGS)
def test_an_opened_sum_needs_a_quorum_of_its_contributors(digests, outcome):
    story = Story(opens=True).start().to_verify()
    story.say(story.votes(dict.fromkeys(range(4), True)))
    assert story.state.phase is Phase.OPEN
    story.say(open_votes(story, digests))
    assert story.outcomes() == outcome
    assert story.state.model == (b"a" * 32 if outcome == [Outcome.FINAL] else MODEL)


def test_an_opening_that_is_late_burns_the_round():
    story = Story(opens=True).start().to_verify()
    story.say(story.votes(dict.fromkeys(range(4), True)))
    story.now = story.state.deadline
    story.say(msg.Advance(1))
    assert story.outcomes() == [Outcome.BURNED]
    assert story.state.voids == 1


def motion(story: Story, kind: Motion, who: bytes, signers, reason: bytes = bytes(32)) -> msg.Move:
    fields = (story.state.motions, int(kind), who, reason)
    return msg.Move(kind, who, reason, tuple((i, story.sign(i, "Motion", *fields)) for i in signers))


def replacement(story: Story, id: int, party: int) -> msg.Move:
    signers = [i for i in range(N) if i != id]
    return motion(story, Motion.REPLACE, PARTIES[party].address, signers, id.to_bytes(32, "big"))


@pytest.mark.parametrize(
    ("kind", "allowed"), [(Motion.RESUME, False), (Motion.PAUSE, True), (Motion.STOP, True)]
)
def test_motions_fit_the_phase(kind, allowed):
    story = Story().start()
    call = motion(story, kind, bytes(20), range(4))
    if allowed:
        story.say(call)
    else:
        with pytest.raises(errors.WrongPhase):
            story.say(call)


def test_a_motion_needs_a_quorum_of_the_active_members():
    story = Story(6).start()
    with pytest.raises(errors.TooFewSigners):
        story.say(motion(story, Motion.PAUSE, bytes(20), range(4)))
    story.say(motion(story, Motion.PAUSE, bytes(20), range(5)))
    assert story.state.phase is Phase.PAUSED


def test_an_invitation_by_vote_undoes_an_exclusion():
    story = Story(6).start()
    who = PARTIES[5].address
    story.say(motion(story, Motion.EXCLUDE, who, range(5)))
    assert not story.state.members[5].member
    with pytest.raises(errors.NotInvited):
        story.say(msg.Invite(who), OWNER)
    story.say(motion(story, Motion.INVITE, who, range(4)))
    assert who in story.state.invited


def test_an_invitation_can_be_withdrawn_by_vote():
    story = Story()
    story.say(msg.Invite(PARTIES[N].address), OWNER)
    story.say(motion(story, Motion.EXCLUDE, PARTIES[N].address, range(4)))
    with pytest.raises(errors.NotInvited):
        story.say(story.join(N))


def test_an_owner_that_was_voted_out_invites_nobody():
    story = Story().start()
    story.say(motion(story, Motion.EXCLUDE, OWNER, range(4)))
    with pytest.raises(errors.NotOwner):
        story.say(msg.Invite(PARTIES[N].address), OWNER)


def test_a_new_key_takes_over_an_id_and_the_old_one_is_worth_nothing():
    story = Story().start()
    story.to_verify()
    story.say(story.votes({0: True}))
    old = story.votes({1: True})
    story.say(replacement(story, 1, N))
    with pytest.raises(errors.BadSignature):
        story.say(old)
    story.say(story.votes(dict.fromkeys((2, 3, 4), True)))
    # The id is on no roster until its new key has joined; then it is what it was.
    assert story.state.round == 2
    assert story.state.current.roster == {0, 2, 3, 4}
    kept = story.state.members[1]
    assert kept.reputation > story.state.members[N - 1].reputation - 100
    story.say(story.join(N))
    assert story.state.ids[PARTIES[N].address] == 1
    assert story.state.members[1] == replace(
        kept, onion=PARTIES[N].onion.head, onion_round=2, member=True, active=True
    )
    with pytest.raises(errors.NotInvited):
        story.say(story.join(1, nonce=1))
    with pytest.raises(errors.NotInvited):
        story.say(msg.Invite(PARTIES[1].address), OWNER)


@pytest.mark.parametrize(("id", "party"), [(N, N), (2**256 - 1, N), (1, 0), (1, 1)])
def test_only_an_id_can_be_replaced_and_only_by_who_is_none(id, party):
    story = Story().start()
    with pytest.raises(errors.NotMember):
        story.say(replacement(story, id, party))


def test_a_seat_stays_with_its_id_and_leads_no_more_until_its_new_key_has_joined():
    story = Story(governance=Governance.SERVER, seats=[PARTIES[5].address])
    story.say(msg.Invite(PARTIES[5].address), OWNER)
    story.say(story.join(5, role=Role.SERVER))
    story.start()
    assert story.state.current.readers.keys() == {0, 1, 2, 3, 4, 5}
    assert election.leader_pool(story.state) == {5}
    story.say(replacement(story, 5, 6))
    assert not election.leader_pool(story.state)
    story.say(story.join(6, role=Role.SERVER))
    assert election.leader_pool(story.state) == {5}
    assert PARTIES[5].address not in story.state.seats


def test_the_last_members_of_a_quorum_cannot_go_away():
    story = Story(4).start()
    away = msg.Status(0, Standing.AWAY, story.sign(0, "Status", 1, int(Standing.AWAY)))
    with pytest.raises(errors.TooFewMembers):
        story.say(away)


def test_decide_changes_nothing():
    story = Story().start()
    before = story.state
    rules.decide(before, story.commits(range(5)), 1)
    assert story.state is before
    assert before.current.commits == {}


def test_a_full_buffer_closes_the_commitments():
    story = Story(6, buffer=5).start()
    story.say(story.commits(range(4)))
    assert story.state.phase is Phase.COMMIT
    story.say(story.commits([4]))
    assert story.state.phase is Phase.BEACON


@pytest.mark.parametrize(
    ("base", "refusal"), [(0, errors.StaleBase), (1, None), (2, None), (3, errors.FutureBase)]
)
def test_a_base_is_as_old_as_the_terms_allow(base, refusal):
    story = Story(max_staleness=1).start()
    for result in (b"1" * 32, b"2" * 32):
        story.to_verify(result)
        story.say(story.votes(dict.fromkeys(range(4), True)))
    assert story.state.version == 2
    fields = (3, base, bytes(32), 0)
    item = msg.Commit(0, *fields[1:], story.sign(0, "Commit", *fields))
    if refusal is None:
        assert story.say(msg.Commits(3, (item,))) == [0]
    else:
        with pytest.raises(refusal):
            story.say(msg.Commits(3, (item,)))


def test_the_last_round_stops_the_federation():
    story = Story(rounds=1).start().to_verify()
    story.say(story.votes(dict.fromkeys(range(4), True)))
    assert story.state.phase is Phase.STOPPED


def test_a_record_is_left_once():
    story = Story().start()
    record = msg.Record(1, 5, 0, b"c" * 32, story.sign(0, "Record", 1, 5, b"c" * 32))
    story.say(record)
    with pytest.raises(errors.AlreadySent):
        story.say(record)
    future = msg.Record(2, 5, 0, b"c" * 32, story.sign(0, "Record", 2, 5, b"c" * 32))
    with pytest.raises(errors.WrongRound):
        story.say(future)
