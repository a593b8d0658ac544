# pragma version 0.4.3
# pragma evm-version paris
# pragma optimize codesize
"""
@title Federation
@license Apache-2.0
@notice The neutral coordinator of one federated training job: who is in it, whose turn it is until
    when, which updates count, who leads, and which model is final. It never sees an update.
@dev Mirrored call by call by `hansa/protocol/rules.py`; stateful tests hold the two together.
    Signatures are EIP-712 over compact EIP-2098 pairs (r, vs), so anybody may relay anybody's message;
    what a message says is bound to this contract, chain and terms by the domain, and to its use by a
    round or a nonce. A member is an id below 1024. Sets of ids are bitmaps `uint256[4]`, bit (id & 255)
    of word (id >> 8); small numbers by id or place lie in 16-bit lanes, sixteen to a word, lowest first.
    Items of a batch fail one by one; a batch of which nothing is accepted reverts.
    There are no external calls, so no reentrancy, and no reverts without a reason but those of the
    compiler (arguments that are no values of their type, arithmetic overflow).
"""

# Limits

MAX_MEMBERS: constant(uint256) = 1024
MAX_BATCH: constant(uint256) = 256
MAX_SEATS: constant(uint256) = 64
MAX_TARGETS: constant(uint256) = 16
MAX_ONION_STEPS: constant(uint256) = 4096
WORDS: constant(uint256) = 4
PLANES: constant(uint256) = 11
LANE_WORDS: constant(uint256) = 64
TALLY_WORDS: constant(uint256) = 66
NOBODY: constant(uint256) = max_value(uint256)
INITIAL_REPUTATION: constant(uint256) = 100

# Phases

IDLE: constant(uint256) = 0
COMMIT: constant(uint256) = 1
BEACON: constant(uint256) = 2
AVAILABLE: constant(uint256) = 3
REVEAL: constant(uint256) = 4
AGGREGATE: constant(uint256) = 5
VERIFY: constant(uint256) = 6
OPEN: constant(uint256) = 7
PAUSED: constant(uint256) = 8
STOPPED: constant(uint256) = 9

# Outcomes of a round

FINAL: constant(uint256) = 1
VOID: constant(uint256) = 2
BURNED: constant(uint256) = 3

# Governance

SERVER: constant(uint256) = 0
COMMITTEE: constant(uint256) = 1
HYBRID: constant(uint256) = 2
PEERS: constant(uint256) = 3

# Motions, standings, slots, faults

INVITE: constant(uint256) = 0
EXCLUDE: constant(uint256) = 1
PAUSE: constant(uint256) = 2
RESUME: constant(uint256) = 3
STOP: constant(uint256) = 4
REPLACE: constant(uint256) = 5
LEFT: constant(uint256) = 0
AWAY: constant(uint256) = 1
BACK: constant(uint256) = 2
EXCLUDED: constant(uint256) = 3
COMMIT_SLOT: constant(uint256) = 0
PROPOSAL_SLOT: constant(uint256) = 1
VOTE_SLOT: constant(uint256) = 2
WITHHELD_BEACON: constant(uint256) = 1
WITHHELD_BLOB: constant(uint256) = 2
WITHHELD_BALLOT: constant(uint256) = 3
ABSENT_LEADER: constant(uint256) = 4
REJECTED_PROPOSAL: constant(uint256) = 5
SILENT_VERIFIER: constant(uint256) = 6
EQUIVOCATION: constant(uint256) = 7

# Refusals: the argument of Refused(uint256)

ACCEPTED: constant(uint256) = 0
BAD_SIGNATURE: constant(uint256) = 1
WRONG_ROUND: constant(uint256) = 2
WRONG_PHASE: constant(uint256) = 3
DEADLINE_PASSED: constant(uint256) = 4
TOO_EARLY: constant(uint256) = 5
NOT_OWNER: constant(uint256) = 6
NOT_INVITED: constant(uint256) = 7
NOT_MEMBER: constant(uint256) = 8
FULL: constant(uint256) = 9
ALREADY_SENT: constant(uint256) = 10
STALE_BASE: constant(uint256) = 11
FUTURE_BASE: constant(uint256) = 12
NOT_COMMITTED: constant(uint256) = 13
WRONG_PREIMAGE: constant(uint256) = 14
NOT_VERIFIER: constant(uint256) = 15
WRONG_BALLOT: constant(uint256) = 16
MALFORMED_RANKING: constant(uint256) = 17
WRONG_PLACE: constant(uint256) = 18
WRONG_SELECTION: constant(uint256) = 19
NOT_LEADER: constant(uint256) = 20
WRONG_ATTEMPT: constant(uint256) = 21
WRONG_PRECOMMIT: constant(uint256) = 23
UNORDERED_SIGNERS: constant(uint256) = 24
TOO_FEW_SIGNERS: constant(uint256) = 25
NOT_EQUIVOCATION: constant(uint256) = 27
TOO_FEW_MEMBERS: constant(uint256) = 28
BAD_TERMS: constant(uint256) = 29
WRONG_ROLE: constant(uint256) = 30

# Sets of ids, as indices into `sets`; the first thirteen in the order of `marks`

ROSTER: constant(uint256) = 0
COMMITTED: constant(uint256) = 1
REVEALED: constant(uint256) = 2
HELD_SENT: constant(uint256) = 3
IN_V: constant(uint256) = 4
BALLOTED: constant(uint256) = 5
OPENED: constant(uint256) = 6
SELECTED: constant(uint256) = 7
VERIFIER: constant(uint256) = 8
VOTED: constant(uint256) = 9
TRIED: constant(uint256) = 10
IN_COMMITTEE: constant(uint256) = 11
SLASHED: constant(uint256) = 12
REJECTED: constant(uint256) = 13
STOPPING: constant(uint256) = 14
PRECOMMITTED: constant(uint256) = 15
OPEN_VOTED: constant(uint256) = 16
MEMBER: constant(uint256) = 17
ACTIVE: constant(uint256) = 18
SEATED: constant(uint256) = 19
SETS: constant(uint256) = 20

# Small numbers, as indices into `lanes`

REPUTATION: constant(uint256) = 0
SNAPSHOT: constant(uint256) = 1
RESOURCES: constant(uint256) = 2
ABSENT: constant(uint256) = 3
ROLE: constant(uint256) = 4
PLACE: constant(uint256) = 5
LANES: constant(uint256) = 6

# Bit patterns and EIP-712 types

LOW_255: constant(uint256) = 2**255 - 1
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168
DOMAIN_TYPE: constant(bytes32) = keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract,bytes32 salt)")
JOIN_TYPE: constant(bytes32) = keccak256("Join(uint256 nonce,bytes32 key,bytes32 onion,uint256 resources,uint256 role)")
STATUS_TYPE: constant(bytes32) = keccak256("Status(uint256 nonce,uint256 standing)")
MOTION_TYPE: constant(bytes32) = keccak256("Motion(uint256 nonce,uint256 kind,address who,bytes32 reason)")
COMMIT_TYPE: constant(bytes32) = keccak256("Commit(uint256 round,uint256 base,bytes32 digest,uint256 meta)")
AVAILABILITY_TYPE: constant(bytes32) = keccak256("Availability(uint256 round,uint256[4] held)")
BALLOT_TYPE: constant(bytes32) = keccak256("Ballot(uint256 round,bytes32 commitment)")
PRECOMMIT_TYPE: constant(bytes32) = keccak256("Precommit(uint256 round,bytes32 commitment)")
PROPOSAL_TYPE: constant(bytes32) = keccak256("Proposal(uint256 round,uint256 attempt,bytes32 result,bytes32 evidence)")
VOTE_TYPE: constant(bytes32) = keccak256("Vote(uint256 round,uint256 attempt,bytes32 result,bool approve)")
OPENING_TYPE: constant(bytes32) = keccak256("Opening(uint256 round,bytes32 digest)")
RECORD_TYPE: constant(bytes32) = keccak256("Record(uint256 round,uint256 kind,bytes32 digest)")


# Structs

# The part of the terms that the contract enforces.
struct Parameters:
    digest: bytes32  # of the whole terms
    governance: uint256  # server, committee, hybrid or peers
    evaluate: bool  # members judge each other's updates
    opens: bool  # an accepted result still has to be opened by the contributors
    precommit: bool  # verifiers fix their own result before the proposal
    by_vote: bool  # after the start only a motion invites
    borda: bool  # score by mean points; otherwise by the median
    targets: uint256  # most updates an evaluator judges, 1 to 16
    keep: uint256  # updates to select; 0: `keep_permille` of those available, rounded up
    keep_permille: uint256  # 1 to 1000
    min_updates: uint256  # fewer void the round
    min_quorum: uint256  # fewer active members pause the federation
    buffer: uint256  # so many commitments close the phase; 0: everybody's
    max_staleness: uint256  # versions by which a base model may be behind
    rounds: uint256  # the federation stops at this version
    epoch: uint256  # rounds that a drawn committee serves
    committee: uint256  # members to draw for it, at most 64
    attempts: uint256  # leaders a round
    extensions: uint256  # times that an empty COMMIT phase is prolonged
    max_voids: uint256  # failed rounds in a row that pause the federation
    max_absent: uint256  # rounds of silence that make a member away
    weight_cap: uint256  # of reputation times resources in draws
    penalty: uint256  # thousandths of reputation that a fault costs
    durations: uint256[7]  # seconds of the phases COMMIT to OPEN

# A signature on a motion.
struct Sig:
    id: uint256  # signer
    r: bytes32  # EIP-2098
    vs: bytes32  # EIP-2098

# A member fixes its sealed update.
struct Commit:
    id: uint256  # author
    base: uint256  # version that it trained from
    digest: bytes32  # of the sealed update
    meta: uint256  # what the author says of it; not interpreted here
    r: bytes32  # EIP-2098
    vs: bytes32  # EIP-2098

# A member opens a layer of its hash onion.
struct Reveal:
    id: uint256  # author
    preimage: bytes32  # proves itself

# A verifier says which updates it holds.
struct Availability:
    id: uint256  # verifier
    held: uint256[4]  # set of authors
    r: bytes32  # EIP-2098
    vs: bytes32  # EIP-2098

# An evaluator fixes its ranking.
struct Ballot:
    id: uint256  # evaluator
    commitment: bytes32  # salted digest
    r: bytes32  # EIP-2098
    vs: bytes32  # EIP-2098

# An evaluator shows its ranking.
struct Opening:
    id: uint256  # evaluator
    place: uint256  # where it stands in the permutation
    ranking: uint256  # lanes of points and doubts from the top of the word
    stop: uint256  # 1: wishes the training to end
    values: bytes32  # digest of the measured values
    salt: bytes32  # of the commitment

# A verifier fixes its own result.
struct Precommit:
    id: uint256  # verifier
    commitment: bytes32  # salted digest
    r: bytes32  # EIP-2098
    vs: bytes32  # EIP-2098

# A verifier judges the proposal.
struct Vote:
    id: uint256  # verifier
    approve: uint256  # 1: the result is right
    salt: bytes32  # opens its precommitment
    r: bytes32  # EIP-2098
    vs: bytes32  # EIP-2098

# A contributor says what it got when it opened the sum.
struct OpeningVote:
    id: uint256  # contributor
    digest: bytes32  # of the opened model; zero rejects it
    r: bytes32  # EIP-2098
    vs: bytes32  # EIP-2098

# One of two contradicting messages.
struct Claim:
    attempt: uint256  # of the proposal or vote; base version of a commitment
    x: bytes32  # digest or result
    y: bytes32  # meta, evidence, or approval as 0 or 1
    r: bytes32  # EIP-2098
    vs: bytes32  # EIP-2098


# Events

# An address may join.
event Invited:
    who: address  # may join

# An address became an id, or an id changed its keys.
event Joined:
    who: indexed(address)  # signer of the id's messages
    id: uint256  # from now on
    key: bytes32  # for sealing to it
    onion: bytes32  # head of its hash onion
    resources: uint256  # as it declares them, capped
    role: uint256  # member, server, key centre or computing party

# A member left, is away, is back or was excluded.
event StandingChanged:
    id: uint256  # member
    standing: uint256  # from now on

# A motion found its majority.
event Carried:
    nonce: uint256  # number of the motion
    kind: uint256  # what was decided
    who: address  # about whom
    reason: bytes32  # digest of the reason; the id that got another address

# A phase began.
event Entered:
    round: indexed(uint256)  # current
    phase: indexed(uint256)  # from now on
    deadline: uint256  # of the phase; 0 where there is none

# A member fixed its update.
event Committed:
    round: indexed(uint256)  # current
    id: indexed(uint256)  # author
    base: uint256  # version that it trained from
    digest: bytes32  # of the sealed update
    meta: uint256  # what the author says of it

# A member opened a layer of its onion.
event Revealed:
    round: indexed(uint256)  # current
    id: uint256  # author
    preimage: bytes32  # new head of its onion

# The round's randomness is fixed.
event BeaconSet:
    round: indexed(uint256)  # current
    beacon: bytes32  # until the next round's

# A hybrid federation drew a committee.
event CommitteeDrawn:
    round: indexed(uint256)  # current
    committee: uint256[4]  # set of ids

# A verifier said which updates it holds.
event Held:
    round: indexed(uint256)  # current
    id: uint256  # verifier
    held: uint256[4]  # set of authors

# An evaluator fixed its ranking.
event Balloted:
    round: indexed(uint256)  # current
    id: uint256  # evaluator
    commitment: bytes32  # salted digest

# The set V of available updates is fixed.
event Frozen:
    round: indexed(uint256)  # current
    available: uint256[4]  # set of authors

# An evaluator's ranking is known.
event BallotOpened:
    round: indexed(uint256)  # current
    id: uint256  # evaluator
    ranking: uint256  # lanes of points and doubts
    stop: bool  # wishes the training to end
    values: bytes32  # digest of the measured values

# The updates that go into the model are known.
event Selected:
    round: indexed(uint256)  # current
    selected: uint256[4]  # set of authors

# An attempt has its leader.
event Elected:
    round: indexed(uint256)  # current
    attempt: uint256  # from 0
    id: uint256  # leader

# A verifier fixed its own result.
event Precommitted:
    round: indexed(uint256)  # current
    id: uint256  # verifier
    commitment: bytes32  # salted digest

# The leader proposed a result.
event Proposed:
    round: indexed(uint256)  # current
    attempt: uint256  # from 0
    id: uint256  # leader
    result: bytes32  # digest of the new model
    evidence: bytes32  # digest of what proves it

# A verifier judged the proposal.
event Voted:
    round: indexed(uint256)  # current
    attempt: uint256  # from 0
    id: uint256  # verifier
    approve: bool  # the result is right
    salt: bytes32  # opens its precommitment

# A contributor said what it got when it opened the sum.
event OpenVoted:
    round: indexed(uint256)  # current
    id: uint256  # contributor
    digest: bytes32  # of the opened model; zero rejects it

# A round is over.
event Ended:
    round: indexed(uint256)  # the one that is over
    outcome: uint256  # final, void or burned
    version: uint256  # that stands now
    model: bytes32  # that stands now

# A member lost reputation.
event Slashed:
    round: indexed(uint256)  # current
    id: uint256  # member
    why: uint256  # fault

# A member signed two different messages for one slot.
event Accused:
    round: indexed(uint256)  # of the messages
    id: uint256  # who signed them
    slot: uint256  # commit, proposal or vote
    attempt: uint256  # of the messages; 0 for a commit

# Somebody left a record.
event Recorded:
    round: indexed(uint256)  # that the record is about
    kind: indexed(uint256)  # not interpreted here
    id: uint256  # author
    digest: bytes32  # of what is recorded


# Immutables

# @notice Who deployed the contract, may start it and, unless members vote, invites.
owner: public(immutable(address))
# @notice EIP-712 domain separator: the federation's name in every signed message.
domain: public(immutable(bytes32))

# Storage: membership

# @notice How many ids there are.
n: public(uint256)
# @notice May this address join?
invited: public(HashMap[address, bool])
# @notice Was this address excluded by a vote, or replaced? An owner that was cannot invite any more.
excluded: public(HashMap[address, bool])
# @notice Does this address get a seat of the server or the committee when it joins?
seat: public(HashMap[address, bool])
# @notice Id of an address plus one; 0: none.
id_of: public(HashMap[address, uint256])
# @notice Address that signs for an id.
address_of: public(HashMap[uint256, address])
# @notice Number of the next Join or Status message of an address.
nonces: public(HashMap[address, uint256])
# @notice Head of an id's hash onion.
onion: public(HashMap[uint256, bytes32])
# @notice Number of the next motion.
motions: public(uint256)
layers: uint256[128]  # round of each onion head, in lanes of 32 bits
lanes: uint256[LANE_WORDS][LANES]
# Complements of the sets: a word of a set that empties every round is then not zero, which costs 17,100 gas
# less to fill. Only words that hold an id mean anything.
outside: uint256[WORDS][SETS]

# Storage: the federation

terms: Parameters  # not immutable: read from code they would not fit under the limit of EIP-170
# @notice The current round, from 1; 0 before the start.
round: public(uint256)
# @notice The current phase.
phase: public(uint256)
# @notice A message is in time before this second; 0: none is awaited.
deadline: public(uint256)
# @notice Rounds that failed in a row.
voids: public(uint256)
# @notice Digest of the last final model.
model: public(bytes32)
# @notice How many rounds were final.
version: public(uint256)
# @notice Randomness of the last round that closed its beacon.
beacon: public(bytes32)
committee_round: uint256  # in which the committee was drawn; 0: never
used: HashMap[bytes32, bool]  # records made and accusations upheld

# Storage: the round

# @notice Hash chain over all commitments in the order of their arrival.
set_root: public(bytes32)
# @notice Number of the current leader's attempt, from 0.
attempt: public(uint256)
# @notice Id of the current leader; 2**256 - 1: none was elected in this round.
leader: public(uint256)
# @notice Digest of the model that was proposed last; until the current leader proposes, an older one.
result: public(bytes32)
# @notice Digest of the evidence that was given for it.
evidence: public(bytes32)
extended: uint256
acc: uint256  # XOR of what was revealed; stale until the first reveal of a round
planes: uint256[WORDS][PLANES]  # bit p of how many verifiers hold each update; see `_planes`
ballots_of: HashMap[uint256, bytes32]  # valid where balloted: commitment; where opened: ranking
precommitments: HashMap[uint256, bytes32]  # valid where precommitted
open_counts: HashMap[bytes32, uint256]  # votes by hash of round and digest


@deploy
def __init__(p: Parameters, seats: DynArray[address, MAX_SEATS], model: bytes32):
    """
    @notice Found a federation on its terms.
    @param p What of the terms the contract enforces
    @param seats Addresses of the server or the committee
    @param model Digest of the initial model
    """
    sound: bool = p.targets >= 1 and p.targets <= MAX_TARGETS and p.governance <= PEERS and p.penalty <= 1000
    sound = sound and p.min_updates >= (4 if p.evaluate else 1)
    sound = sound and (p.keep > 0 or (p.keep_permille >= 1 and p.keep_permille <= 1000))
    sound = sound and p.min_quorum > 0 and p.attempts > 0 and p.rounds > 0
    sound = sound and p.weight_cap > 0 and p.max_voids > 0 and p.max_absent > 0
    for seconds: uint256 in p.durations:
        sound = sound and seconds > 0
    if p.governance <= COMMITTEE:
        sound = sound and len(seats) > 0
    if p.governance == HYBRID:
        sound = sound and p.committee >= 1 and p.committee <= MAX_SEATS and p.epoch >= 1
    self._need(sound, BAD_TERMS)
    owner = msg.sender
    self.terms = p
    domain = keccak256(abi_encode(DOMAIN_TYPE, keccak256("Hansa"), chain.id, self, p.digest))
    for who: address in seats:
        self.seat[who] = True
    self.model = model
    self.leader = NOBODY


# Internals: refusals and signatures


@internal
@pure
def _need(holds: bool, code: uint256):
    """
    @notice Revert with `Refused(code)` unless `holds`.
    @param holds What is required
    @param code Why the call is refused
    """
    if not holds:
        raw_revert(abi_encode(code, method_id=method_id("Refused(uint256)")))


@internal
@view
def _gate(round: uint256, phase: uint256):
    """
    @notice Refuse a message of another round, of another phase, or after the deadline.
    @param round That the message names
    @param phase That the message belongs to
    """
    self._need(round == self.round, WRONG_ROUND)
    self._need(phase == self.phase, WRONG_PHASE)
    self._need(block.timestamp < self.deadline, DEADLINE_PASSED)


@internal
@view
def _signer(struct_hash: bytes32, r: bytes32, vs: bytes32) -> address:
    """
    @notice Who signed an EIP-712 message.
    @dev EIP-2098 leaves 255 bits to s; the few high values that fit are refused as EIP-2 does.
    @param struct_hash Hash of the message's type and fields
    @param r EIP-2098
    @param vs EIP-2098
    @return Address of the signer; zero: nobody
    """
    x: uint256 = convert(vs, uint256)
    s: uint256 = x & LOW_255
    if s > HALF_ORDER:
        return empty(address)
    digest: bytes32 = keccak256(concat(b"\x19\x01", domain, struct_hash))
    return ecrecover(digest, unsafe_add(x >> 255, 27), convert(r, uint256), s)


@internal
@view
def _by(id: uint256, struct_hash: bytes32, r: bytes32, vs: bytes32) -> bool:
    """
    @notice Did this id sign?
    @param id Claimed signer
    @param struct_hash Hash of the message's type and fields
    @param r EIP-2098
    @param vs EIP-2098
    @return Whether the id exists and its address signed
    """
    who: address = self._signer(struct_hash, r, vs)
    return who != empty(address) and who == self.address_of[id]


@internal
@pure
def _slot_hash(slot: uint256, round: uint256, attempt: uint256, x: bytes32, y: uint256) -> bytes32:
    """
    @notice Struct hash of a message of which a member may sign only one for a slot.
    @dev Commit, Proposal and Vote are four words each, so one encoding serves all.
    @param slot COMMIT, PROPOSAL or VOTE
    @param round First field
    @param attempt Second field; the base version of a commitment
    @param x Third field: digest or result
    @param y Fourth field: meta, evidence, or approval as 0 or 1
    @return EIP-712 struct hash
    """
    type_hash: bytes32 = COMMIT_TYPE
    if slot == PROPOSAL_SLOT:
        type_hash = PROPOSAL_TYPE
    elif slot == VOTE_SLOT:
        type_hash = VOTE_TYPE
    return keccak256(abi_encode(type_hash, round, attempt, x, y))


# Internals: sets and lanes


@internal
@view
def _words() -> uint256:
    """
    @notice How many words of a bitmap are in use.
    @return 0 to 4
    """
    return unsafe_add(self.n, 255) >> 8


@internal
@view
def _has(kind: uint256, id: uint256) -> bool:
    """
    @notice Is the id in a set? An id out of range is in none.
    @param kind Which set
    @param id Anything
    @return Whether it is
    """
    return id < self.n and (self.outside[kind][id >> 8] >> (id & 255)) & 1 == 0


@internal
def _put(kind: uint256, id: uint256):
    """
    @notice Add an id to a set.
    @param kind Which set
    @param id Below 1024
    """
    self.outside[kind][id >> 8] &= ~(1 << (id & 255))


@internal
def _drop(kind: uint256, id: uint256):
    """
    @notice Take an id out of a set.
    @param kind Which set
    @param id Below 1024
    """
    self.outside[kind][id >> 8] |= 1 << (id & 255)


@internal
@view
def _set(kind: uint256) -> uint256[WORDS]:
    """
    @notice Read a whole set.
    @param kind Which set
    @return Its bitmap
    """
    bits: uint256[WORDS] = empty(uint256[WORDS])
    for w: uint256 in range(self._words(), bound=WORDS):
        bits[w] = ~self.outside[kind][w]
    return bits


@internal
def _replace(kind: uint256, bits: uint256[WORDS]):
    """
    @notice Overwrite a set.
    @param kind Which set
    @param bits Its new members
    """
    for w: uint256 in range(self._words(), bound=WORDS):
        self.outside[kind][w] = ~bits[w]


@internal
@pure
def _ones(bits: uint256[WORDS]) -> uint256:
    """
    @notice How many ids are in a bitmap.
    @dev Sums of 1, 2, 4, 8 and 16 bits side by side, then one multiplication adds the lanes. Quotients
        of `full` are the masks: a third is 0101..., a fifth 00110011... Computed, they take less code.
    @param bits Bitmap
    @return 0 to 1024
    """
    count: uint256 = 0
    full: uint256 = max_value(uint256)
    for w: uint256 in bits:
        if w == 0:
            continue
        x: uint256 = unsafe_sub(w, (w >> 1) & (full // 3))
        x = unsafe_add(x & (full // 5), (x >> 2) & (full // 5))
        x = unsafe_add(x, x >> 4) & (full // 17)
        x = unsafe_add(x, x >> 8) & (full // 257)
        count = unsafe_add(count, unsafe_mul(x, full // 65535) >> 240)
    return count


@internal
@view
def _count(kind: uint256) -> uint256:
    """
    @notice How many ids are in a set.
    @param kind Which set
    @return 0 to 1024
    """
    return self._ones(self._set(kind))


@internal
@view
def _active() -> uint256:
    """
    @notice How many members are active: those of the next roster, who count in motions.
    @return 0 to 1024
    """
    bits: uint256[WORDS] = self._set(ACTIVE)
    for w: uint256 in range(WORDS):
        bits[w] &= ~self.outside[MEMBER][w]
    return self._ones(bits)


@internal
@pure
def _quorum(count: uint256) -> uint256:
    """
    @notice How many of `count` make a decision: any two such groups share an honest party.
    @param count At most 1024
    @return floor(2 count / 3) + 1
    """
    return unsafe_add(unsafe_mul(2, count) // 3, 1)


@internal
@view
def _lane(kind: uint256, i: uint256) -> uint256:
    """
    @notice Read a small number.
    @param kind Which row of lanes
    @param i Id or place below 1024
    @return 0 to 65535
    """
    return (self.lanes[kind][i >> 4] >> ((i & 15) << 4)) & 65535


@internal
def _set_lane(kind: uint256, i: uint256, x: uint256):
    """
    @notice Write a small number.
    @param kind Which row of lanes
    @param i Id or place below 1024
    @param x 0 to 65535
    """
    offset: uint256 = (i & 15) << 4
    self.lanes[kind][i >> 4] = self.lanes[kind][i >> 4] & ~(65535 << offset) | (x << offset)


@internal
@view
def _layer(id: uint256) -> uint256:
    """
    @notice The round to which an id's onion head belongs.
    @param id Below 1024
    @return Round
    """
    return (self.layers[id >> 3] >> ((id & 7) << 5)) & 4294967295


@internal
def _set_onion(id: uint256, head: bytes32):
    """
    @notice Make `head` the onion head of an id, of the current round.
    @param id Below 1024
    @param head Hash, or the preimage of the last head
    """
    self.onion[id] = head
    offset: uint256 = (id & 7) << 5
    self.layers[id >> 3] = self.layers[id >> 3] & ~(4294967295 << offset) | (self.round << offset)


# Internals: reputation and standing


@internal
def _slash(id: uint256, why: uint256):
    """
    @notice Take reputation for a fault: once a member a round, but for every equivocation.
    @param id Member
    @param why Fault
    """
    if why != EQUIVOCATION:
        if self._has(SLASHED, id):
            return
        self._put(SLASHED, id)
    x: uint256 = self._lane(REPUTATION, id)
    self._set_lane(REPUTATION, id, unsafe_sub(x, unsafe_mul(x, self.terms.penalty) // 1000))
    log Slashed(round=self.round, id=id, why=why)



@internal
def _slash_missing(kind: uint256, other: uint256, why: uint256):
    """
    @notice Take reputation from all ids that are in one set and not in another, in ascending order.
    @param kind Which set
    @param other Who is spared
    @param why Fault
    """
    for w: uint256 in range(self._words(), bound=WORDS):
        x: uint256 = ~self.outside[kind][w] & self.outside[other][w]
        for i: uint256 in range(256):
            if x == 0:
                break
            if x & 1 == 1:
                self._slash(unsafe_add(w << 8, i), why)
            x >>= 1


@internal
def _stand(id: uint256, standing: uint256):
    """
    @notice Change a member's standing.
    @param id Member
    @param standing From now on
    """
    if standing == BACK:
        self._put(ACTIVE, id)
    else:
        self._drop(ACTIVE, id)
    if standing == AWAY or standing == BACK:
        self._set_lane(ABSENT, id, 0)
    else:
        self._drop(MEMBER, id)
    if standing != EXCLUDED:
        self.nonces[self.address_of[id]] += 1
    log StandingChanged(id=id, standing=standing)


# Internals: phases and rounds


@internal
def _enter(phase: uint256):
    """
    @notice Begin a phase of the round.
    @param phase COMMIT to OPEN
    """
    self.phase = phase
    self.deadline = block.timestamp + self.terms.durations[phase - 1]
    log Entered(round=self.round, phase=phase, deadline=self.deadline)


@internal
def _halt(phase: uint256):
    """
    @notice Begin a phase without a deadline.
    @param phase PAUSED or STOPPED
    """
    self.phase = phase
    self.deadline = 0
    log Entered(round=self.round, phase=phase, deadline=0)


@internal
def _open_round():
    """
    @notice Open the next round with the members that are active now, or pause if they are too few.
    """
    self.round += 1
    self.extended = 0
    self.attempt = 0
    self.leader = NOBODY
    for w: uint256 in range(self._words(), bound=WORDS):
        roster: uint256 = ~self.outside[MEMBER][w] & ~self.outside[ACTIVE][w]
        for kind: uint256 in range(COMMITTED, MEMBER):
            if kind != IN_COMMITTEE:
                self.outside[kind][w] = max_value(uint256)
        self.outside[ROSTER][w] = ~roster
        if self.terms.governance == COMMITTEE:
            roster &= ~self.outside[SEATED][w]
        elif self.terms.governance == HYBRID:
            roster &= ~self.outside[IN_COMMITTEE][w]
        self.outside[VERIFIER][w] = ~roster
    for w: uint256 in range(unsafe_add(self.n, 15) >> 4, bound=LANE_WORDS):
        self.lanes[SNAPSHOT][w] = self.lanes[REPUTATION][w]
    if self._count(ROSTER) < max(self.terms.min_quorum, self.terms.min_updates):
        self._halt(PAUSED)
    else:
        self._enter(COMMIT)


@internal
def _credit(final: bool) -> uint256[WORDS]:
    """
    @notice Reward and count absence, for everybody on the roster of the round that ends.
    @param final Whether the round has a model
    @return Bitmap of those that have been absent for too long
    """
    gone: uint256[WORDS] = empty(uint256[WORDS])
    roster: uint256 = 0
    present: uint256 = 0
    selected: uint256 = 0
    approved: uint256 = 0
    revealed: uint256 = 0
    reputation: uint256 = 0
    absent: uint256 = 0
    count: uint256 = self.n
    leader: uint256 = self.leader
    patience: uint256 = self.terms.max_absent
    for i: uint256 in range(count, bound=MAX_MEMBERS):
        w: uint256 = i >> 8
        offset: uint256 = (i & 15) << 4
        if i & 255 == 0:
            roster = ~self.outside[ROSTER][w]
            selected = ~self.outside[SELECTED][w]
            revealed = ~self.outside[REVEALED][w]
            approved = ~self.outside[VOTED][w]
            present = ~self.outside[COMMITTED][w] | ~self.outside[HELD_SENT][w] | approved
            approved &= self.outside[REJECTED][w]
        if offset == 0:
            reputation = self.lanes[REPUTATION][i >> 4]
            absent = self.lanes[ABSENT][i >> 4]
        if roster & 1 == 1:
            if final:
                gain: uint256 = unsafe_mul(400, selected & 1)
                gain = unsafe_add(gain, unsafe_mul(300, approved & 1))
                gain = unsafe_add(gain, unsafe_mul(200, revealed & 1))
                if i == leader:
                    gain = unsafe_add(gain, 100)
                x: uint256 = (reputation >> offset) & 65535
                x = unsafe_add(unsafe_sub(x, x >> 3), gain >> 3)
                reputation = reputation & ~(65535 << offset) | (x << offset)
            missed: uint256 = 0
            if present & 1 == 0:
                missed = min(unsafe_add((absent >> offset) & 65535, 1), 65535)
                if missed >= patience:
                    gone[w] |= 1 << (i & 255)
            absent = absent & ~(65535 << offset) | (missed << offset)
        roster >>= 1
        selected >>= 1
        revealed >>= 1
        approved >>= 1
        present >>= 1
        if offset == 240 or i == unsafe_sub(count, 1):
            self.lanes[REPUTATION][i >> 4] = reputation
            self.lanes[ABSENT][i >> 4] = absent
    return gone


@internal
def _end(outcome: uint256, model: bytes32):
    """
    @notice End the round and open the next, unless the federation stops or pauses.
    @param outcome FINAL, VOID or BURNED
    @param model Digest of the new model; used only if final
    """
    final: bool = outcome == FINAL
    gone: uint256[WORDS] = self._credit(final)
    if final:
        self.model = model
        self.version += 1
        self.voids = 0
    else:
        self.voids += 1
    log Ended(round=self.round, outcome=outcome, version=self.version, model=self.model)
    for id: uint256 in range(self.n, bound=MAX_MEMBERS):
        if (gone[id >> 8] >> (id & 255)) & 1 == 0:
            continue
        if self._has(MEMBER, id) and self._has(ACTIVE, id) and self._active() > self.terms.min_quorum:
            self._stand(id, AWAY)
    if final and (self.version == self.terms.rounds or unsafe_mul(2, self._count(STOPPING)) > self._count(OPENED)):
        self._halt(STOPPED)
    elif self.voids == self.terms.max_voids:
        self._halt(PAUSED)
    else:
        self._open_round()


# Internals: draws


@internal
@view
def _seed(salt: uint256) -> uint256:
    """
    @notice A random number of this round.
    @param salt Which one
    @return Hash of beacon and salt
    """
    return convert(keccak256(abi_encode(self.beacon, salt)), uint256)


@internal
@view
def _draw(seed: uint256, pool: uint256[WORDS]) -> uint256:
    """
    @notice Draw an id by weight = min(weight_cap, reputation at the round's opening x resources) + 1.
    @dev The first pass sums the weights, the second stops where the sum exceeds the draw.
    @param seed Random number; 0 draws the lowest id
    @param pool Ids to draw from
    @return Id; NOBODY if the pool is empty
    """
    goal: uint256 = max_value(uint256)
    count: uint256 = self.n
    cap: uint256 = self.terms.weight_cap
    for again: uint256 in range(2):
        total: uint256 = 0
        bits: uint256 = 0
        reputation: uint256 = 0
        resources: uint256 = 0
        for i: uint256 in range(count, bound=MAX_MEMBERS):
            if i & 255 == 0:
                bits = pool[i >> 8]
            if i & 15 == 0:
                reputation = self.lanes[SNAPSHOT][i >> 4]
                resources = self.lanes[RESOURCES][i >> 4]
            if bits & 1 == 1:
                weight: uint256 = unsafe_mul(reputation & 65535, resources & 65535)
                total = unsafe_add(total, unsafe_add(min(cap, weight), 1))
                if total > goal:
                    return i
            bits >>= 1
            reputation >>= 16
            resources >>= 16
        if total == 0:
            break
        goal = seed % total
    return NOBODY


@internal
def _permute():
    """
    @notice Fisher-Yates over those who revealed: the ring in which they judge each other.
    @dev Four draws of 64 bits from each hash; the bias is below 2**-53.
    """
    ids: uint256[MAX_MEMBERS] = empty(uint256[MAX_MEMBERS])
    count: uint256 = 0
    x: uint256 = 0
    for i: uint256 in range(self.n, bound=MAX_MEMBERS):
        if i & 255 == 0:
            x = ~self.outside[REVEALED][i >> 8]
        if x & 1 == 1:
            ids[count] = i
            count = unsafe_add(count, 1)
        x >>= 1
    word: uint256 = 0
    for i: uint256 in range(count, bound=MAX_MEMBERS):
        if i & 3 == 0:
            x = self._seed(i)
        j: uint256 = unsafe_add(i, (x & 18446744073709551615) % unsafe_sub(count, i))
        x >>= 64
        id: uint256 = ids[j]
        ids[j] = ids[i]
        word |= id << ((i & 15) << 4)
        if i & 15 == 15 or i == unsafe_sub(count, 1):
            self.lanes[PLACE][i >> 4] = word
            word = 0


@internal
def _draw_committee():
    """
    @notice Draw a hybrid federation's next committee from those who revealed, without replacement.
    """
    pool: uint256[WORDS] = self._set(REVEALED)
    for i: uint256 in range(self.terms.committee, bound=MAX_SEATS):
        id: uint256 = self._draw(self._seed(max_value(uint256) - i), pool)
        if id == NOBODY:
            break
        pool[id >> 8] ^= 1 << (id & 255)
    drawn: uint256[WORDS] = empty(uint256[WORDS])
    for w: uint256 in range(self._words(), bound=WORDS):
        drawn[w] = ~self.outside[REVEALED][w] & ~pool[w]
        self.outside[IN_COMMITTEE][w] = ~drawn[w]
        self.outside[VERIFIER][w] = ~drawn[w]
    self.committee_round = self.round
    log CommitteeDrawn(round=self.round, committee=drawn)


@internal
def _elect(attempt: uint256):
    """
    @notice Choose the leader of an attempt among those not tried yet, or void the round.
    @param attempt From 0
    """
    kind: uint256 = VERIFIER
    seed: uint256 = self._seed(attempt)
    if self.terms.governance == PEERS:
        kind = REVEALED
    elif self.terms.governance == SERVER:
        kind = SEATED
        seed = 0
    pool: uint256[WORDS] = empty(uint256[WORDS])
    left: uint256[WORDS] = empty(uint256[WORDS])
    for w: uint256 in range(self._words(), bound=WORDS):
        pool[w] = ~self.outside[kind][w]
        if kind == VERIFIER:
            pool[w] &= ~self.outside[REVEALED][w] | self.outside[COMMITTED][w]
        elif kind == SEATED:
            pool[w] &= ~self.outside[ACTIVE][w]
        left[w] = pool[w] & self.outside[TRIED][w]
    id: uint256 = NOBODY
    if attempt < self.terms.attempts:
        id = self._draw(seed, left)
        if id == NOBODY:
            id = self._draw(seed, pool)
            left = pool
    if id == NOBODY:
        self._end(VOID, empty(bytes32))
        return
    for w: uint256 in range(self._words(), bound=WORDS):
        # Those not in `left` were tried; if all of the pool were, `left` starts again with all of it.
        self.outside[TRIED][w] = ~pool[w] | left[w]
        self.outside[VOTED][w] = max_value(uint256)
        self.outside[REJECTED][w] = max_value(uint256)
    self._put(TRIED, id)
    self.attempt = attempt
    self.leader = id
    log Elected(round=self.round, attempt=attempt, id=id)
    self._enter(AGGREGATE)


# Internals: closing phases


@internal
def _close_beacon():
    """
    @notice Fix the beacon, the ring and the committee; void the round if too few revealed.
    """
    self.beacon = keccak256(abi_encode(self.beacon, self.round, self._acc()))
    log BeaconSet(round=self.round, beacon=self.beacon)
    self._slash_missing(COMMITTED, REVEALED, WITHHELD_BEACON)
    if self._count(REVEALED) < self.terms.min_updates:
        self._end(VOID, empty(bytes32))
        return
    self._permute()
    if self.terms.governance == HYBRID:
        if self.committee_round == 0 or self.round - self.committee_round >= self.terms.epoch:
            self._draw_committee()
    if self._count(VERIFIER) == 0:
        self._end(VOID, empty(bytes32))
    else:
        self._enter(AVAILABLE)


@internal
@view
def _acc() -> uint256:
    """
    @notice XOR of what was revealed in this round.
    @return 0 if nothing was
    """
    if self._count(REVEALED) == 0:
        return 0
    return self.acc


@internal
@view
def _planes() -> uint256[WORDS][PLANES]:
    """
    @notice In bit slices, how many verifiers hold each update: bit i of plane p is bit p of i's count.
    @dev Not cleared between rounds: planes that this round's messages cannot have reached read as zero.
    @return Eleven bitmaps: counts up to 1024
    """
    planes: uint256[WORDS][PLANES] = empty(uint256[WORDS][PLANES])
    sent: uint256 = self._count(HELD_SENT)
    for p: uint256 in range(PLANES):
        if sent >> p == 0:
            break
        for w: uint256 in range(self._words(), bound=WORDS):
            planes[p][w] = self.planes[p][w]
    return planes


@internal
def _freeze():
    """
    @notice Fix V, the updates that a quorum of verifiers holds; void the round if they are too few.
    @dev Compares all counts of a word with the quorum at once, from the highest bit.
    """
    need: uint256 = self._quorum(self._count(VERIFIER))
    planes: uint256[WORDS][PLANES] = self._planes()
    available: uint256[WORDS] = empty(uint256[WORDS])
    for w: uint256 in range(self._words(), bound=WORDS):
        above: uint256 = 0
        equal: uint256 = ~self.outside[REVEALED][w]
        for i: uint256 in range(PLANES):
            p: uint256 = unsafe_sub(PLANES - 1, i)
            x: uint256 = planes[p][w]
            if (need >> p) & 1 == 1:
                equal &= x
            else:
                above |= equal & x
                equal &= ~x
        available[w] = above | equal
        self.outside[IN_V][w] = ~available[w]
    log Frozen(round=self.round, available=available)
    if self._ones(available) < self.terms.min_updates:
        self._end(VOID, empty(bytes32))
        return
    self._slash_missing(REVEALED, IN_V, WITHHELD_BLOB)
    if self.terms.evaluate:
        self._enter(REVEAL)
    else:
        self._replace(SELECTED, available)
        log Selected(round=self.round, selected=available)
        self._elect(0)


@internal
@view
def _frozen_ready() -> bool:
    """
    @notice Is nobody awaited in AVAILABLE any more?
    @return Whether all verifiers and, if there is one to send, all ballots came
    """
    if self._count(HELD_SENT) != self._count(VERIFIER):
        return False
    return not self.terms.evaluate or self._count(BALLOTED) == self._count(REVEALED)


# Internals: items of batches


@internal
@view
def _check(
    group: uint256, refusal: uint256, sent: uint256, id: uint256, struct_hash: bytes32, r: bytes32, vs: bytes32
) -> uint256:
    """
    @notice Decide whether a signed item of a batch comes from who may send it, and for the first time.
    @param group Set to which the signer must belong
    @param refusal Code if it does not
    @param sent Set of those who sent such an item already
    @param id Signer
    @param struct_hash Hash of the message's type and fields
    @param r EIP-2098
    @param vs EIP-2098
    @return 0 or why the item is refused
    """
    if id >= self.n:
        return refusal
    w: uint256 = id >> 8
    bit: uint256 = 1 << (id & 255)
    if self.outside[group][w] & bit != 0:
        return refusal
    if not self._by(id, struct_hash, r, vs):
        return BAD_SIGNATURE
    if self.outside[sent][w] & bit == 0:
        return ALREADY_SENT
    return ACCEPTED


@internal
def _take(
    type_hash: bytes32, group: uint256, refusal: uint256, sent: uint256, id: uint256, x: bytes32, r: bytes32, vs: bytes32
) -> uint256:
    """
    @notice Decide on an item whose message is the round and one word, and note that its signer sent it.
    @param type_hash EIP-712 type of the message
    @param group Set to which the signer must belong
    @param refusal Code if it does not
    @param sent Set of those who sent such an item already
    @param id Signer
    @param x Second field of the message
    @param r EIP-2098
    @param vs EIP-2098
    @return 0 or why the item is refused
    """
    code: uint256 = self._check(group, refusal, sent, id, keccak256(abi_encode(type_hash, self.round, x)), r, vs)
    if code == ACCEPTED:
        self._put(sent, id)
    return code


@internal
@view
def _walk(round: uint256, id: uint256, preimage: bytes32) -> uint256:
    """
    @notice Decide whether an onion layer hashes to its author's onion head.
    @param round Current
    @param id Author
    @param preimage Layer of this round
    @return 0 or why it is refused
    """
    if id >= self.n:
        return NOT_COMMITTED
    bit: uint256 = 1 << (id & 255)
    if self.outside[COMMITTED][id >> 8] & bit != 0:
        return NOT_COMMITTED
    if self.outside[REVEALED][id >> 8] & bit == 0:
        return ALREADY_SENT
    steps: uint256 = round - self._layer(id)
    if steps == 0 or steps > MAX_ONION_STEPS:
        return WRONG_PREIMAGE
    head: bytes32 = preimage
    for i: uint256 in range(steps, bound=MAX_ONION_STEPS):
        head = keccak256(head)
    if head != self.onion[id]:
        return WRONG_PREIMAGE
    return ACCEPTED


@internal
@view
def _unseal(round: uint256, o: Opening, targets: uint256, revealed: uint256) -> uint256:
    """
    @notice Decide on an opened ballot.
    @dev A lane is points | doubt << 14. Bit 15 makes the shift that marks the points as seen too wide.
    @param round Current
    @param o Item
    @param targets Lanes that a ranking has
    @param revealed Places of the ring
    @return 0 or why it is refused
    """
    if o.id >= self.n:
        return WRONG_BALLOT
    bit: uint256 = 1 << (o.id & 255)
    if self.outside[BALLOTED][o.id >> 8] & bit != 0:
        return WRONG_BALLOT
    if self.outside[OPENED][o.id >> 8] & bit == 0:
        return ALREADY_SENT
    bound: bytes32 = keccak256(abi_encode(domain, round, o.id, o.ranking, o.stop, o.values, o.salt))
    if bound != self.ballots_of[o.id] or o.stop > 1:
        return WRONG_BALLOT
    seen: uint256 = 0
    x: uint256 = o.ranking
    for j: uint256 in range(targets, bound=MAX_TARGETS):
        seen |= 1 << ((x >> 240) & 49151)
        x <<= 16
    if seen != (1 << targets) - 1 or x != 0:
        return MALFORMED_RANKING
    if o.place >= revealed or self._lane(PLACE, o.place) != o.id:
        return WRONG_PLACE
    return ACCEPTED


# Membership: acts on the roster only when the next round opens


@internal
def _invite(who: address):
    """
    @notice Let an address join, whatever was decided about it before.
    @param who May join
    """
    self.invited[who] = True
    self.excluded[who] = False
    log Invited(who=who)


@internal
def _expel(who: address, id: uint256):
    """
    @notice Take from an address what it may do: join, stand on a roster, lead and, as the owner, invite.
    @param who Excluded
    @param id Its id plus one; 0: none
    """
    self.excluded[who] = True
    self.invited[who] = False
    if id != 0:
        self._stand(unsafe_sub(id, 1), EXCLUDED)


@external
def invite(who: address):
    """
    @notice Let an address join. The owner's call; with `by_vote` only before the start.
    @param who May join
    """
    self._need(msg.sender == owner and not self.excluded[owner], NOT_OWNER)
    self._need(not self.terms.by_vote or self.phase == IDLE, NOT_OWNER)
    self._need(not self.excluded[who], NOT_INVITED)
    self._invite(who)


@external
def join(who: address, key: bytes32, onion: bytes32, resources: uint256, role: uint256, r: bytes32, vs: bytes32):
    """
    @notice Become an id, come back after leaving, or change keys.
    @dev Whoever stands on the roster keeps its onion and resources from its commitment on, and in any
        case from the end of COMMIT on: changed after the beacon they could steer it or a draw.
    @param who Signer
    @param key For sealing to it
    @param onion Head of its hash onion, of the current round
    @param resources For weights; capped at 65535
    @param role Member, server, key centre or computing party; fixed at the first time
    @param r EIP-2098
    @param vs EIP-2098
    """
    struct_hash: bytes32 = keccak256(abi_encode(JOIN_TYPE, self.nonces[who], key, onion, resources, role))
    self._need(who != empty(address) and self._signer(struct_hash, r, vs) == who, BAD_SIGNATURE)
    id: uint256 = self.id_of[who]
    if id == 0:
        self._need(self.invited[who], NOT_INVITED)
        self._need(role <= 3, WRONG_ROLE)
        id = self.n
        self._need(id < MAX_MEMBERS, FULL)
        self.n = unsafe_add(id, 1)
        if id & 255 == 0:
            for kind: uint256 in range(SETS):
                self.outside[kind][id >> 8] = max_value(uint256)
        self.id_of[who] = unsafe_add(id, 1)
        self.address_of[id] = who
        self._set_lane(REPUTATION, id, INITIAL_REPUTATION)
        self._set_lane(ROLE, id, role)
        if self.seat[who]:
            self._put(SEATED, id)
    else:
        id = unsafe_sub(id, 1)
        self._need(not self.excluded[who], NOT_INVITED)
        own: uint256 = self._lane(ROLE, id)
        self._need(own != 0 or self._has(MEMBER, id) or self.invited[who], NOT_INVITED)
        self._need(role == own, WRONG_ROLE)
        busy: bool = self._has(ROSTER, id) and self.phase > COMMIT or self._has(COMMITTED, id)
        self._need(not busy or self.phase > OPEN, ALREADY_SENT)
    if role == 0:
        self._put(MEMBER, id)
    self._put(ACTIVE, id)
    self._set_lane(RESOURCES, id, min(resources, 65535))
    self._set_onion(id, onion)
    self.nonces[who] += 1
    self.invited[who] = False
    log Joined(who=who, id=id, key=key, onion=onion, resources=min(resources, 65535), role=role)


@external
def status(id: uint256, standing: uint256, r: bytes32, vs: bytes32):
    """
    @notice Leave, go away for a while, or come back, from the next round on.
    @param id Signer
    @param standing LEFT, AWAY or BACK
    @param r EIP-2098
    @param vs EIP-2098
    """
    nonce: uint256 = self.nonces[self.address_of[id]]
    self._need(self._by(id, keccak256(abi_encode(STATUS_TYPE, nonce, standing)), r, vs), BAD_SIGNATURE)
    self._need(standing <= BACK and self._has(MEMBER, id), NOT_MEMBER)
    if standing != LEFT:
        self._need(self._has(ACTIVE, id) == (standing == AWAY), ALREADY_SENT)
        self._need(standing == BACK or self._active() > self.terms.min_quorum, TOO_FEW_MEMBERS)
    self._stand(id, standing)


@external
def motion(kind: uint256, who: address, reason: bytes32, sigs: DynArray[Sig, MAX_MEMBERS]):
    """
    @notice Decide by floor(2a/3)+1 signatures of members, where a members are active.
    @dev REPLACE gives an id to another key: the old address is excluded at once, and the new one comes back
        as that id, with its role, seat and reputation, by its own Join.
    @param kind INVITE, EXCLUDE, PAUSE, RESUME, STOP or REPLACE
    @param who Whom to invite or exclude; the new address of an id
    @param reason Digest of the reason; the id that gets another address
    @param sigs Signatures in ascending order of ids
    """
    struct_hash: bytes32 = keccak256(abi_encode(MOTION_TYPE, self.motions, kind, who, reason))
    next: uint256 = 0
    for s: Sig in sigs:
        self._need(s.id >= next, UNORDERED_SIGNERS)
        self._need(self._has(MEMBER, s.id), NOT_MEMBER)
        self._need(self._by(s.id, struct_hash, s.r, s.vs), BAD_SIGNATURE)
        next = unsafe_add(s.id, 1)
    self._need(len(sigs) >= self._quorum(self._active()), TOO_FEW_SIGNERS)
    log Carried(nonce=self.motions, kind=kind, who=who, reason=reason)
    self.motions += 1
    if kind == INVITE:
        self._invite(who)
    elif kind == EXCLUDE:
        self._expel(who, self.id_of[who])
    elif kind == REPLACE:
        id: uint256 = convert(reason, uint256)
        self._need(id < self.n and self.id_of[who] == 0, NOT_MEMBER)
        old: address = self.address_of[id]
        self._expel(old, unsafe_add(id, 1))
        self.id_of[old] = 0
        self.seat[old] = False
        self.id_of[who] = unsafe_add(id, 1)
        self.address_of[id] = who
        self._invite(who)
    elif kind == RESUME:
        self._need(self.phase == PAUSED, WRONG_PHASE)
        self.voids = 0
        self._open_round()
    elif kind == PAUSE:
        self._need(self.phase >= COMMIT and self.phase <= OPEN, WRONG_PHASE)
        self._halt(PAUSED)
    else:
        self._need(kind == STOP and self.phase != STOPPED, WRONG_PHASE)
        self._halt(STOPPED)


# The round


@external
def start():
    """
    @notice Open the first round. The owner's call.
    """
    self._need(msg.sender == owner, NOT_OWNER)
    self._need(self.phase == IDLE, WRONG_PHASE)
    self._need(self._active() >= max(self.terms.min_quorum, self.terms.min_updates), TOO_FEW_MEMBERS)
    self._open_round()







@external
def commits(round: uint256, items: DynArray[Commit, MAX_BATCH]) -> DynArray[uint256, MAX_BATCH]:
    """
    @notice Fix sealed updates. The commitment of the last on the roster closes the phase.
    @param round Current
    @param items Messages
    @return Code of each item, 0 if accepted
    """
    self._gate(round, COMMIT)
    version: uint256 = self.version
    root: bytes32 = self.set_root
    self._need(len(items) > 0, ALREADY_SENT)
    codes: DynArray[uint256, MAX_BATCH] = []
    accepted: bool = False
    for c: Commit in items:
        struct_hash: bytes32 = self._slot_hash(COMMIT_SLOT, round, c.base, c.digest, c.meta)
        code: uint256 = self._check(ROSTER, NOT_MEMBER, COMMITTED, c.id, struct_hash, c.r, c.vs)
        if code == ACCEPTED and c.base > version:
            code = FUTURE_BASE
        elif code == ACCEPTED and unsafe_sub(version, c.base) > self.terms.max_staleness:
            code = STALE_BASE
        if code == ACCEPTED:
            accepted = True
            self._put(COMMITTED, c.id)
            root = keccak256(abi_encode(root, c.id, c.base, c.digest, c.meta))
            log Committed(round=round, id=c.id, base=c.base, digest=c.digest, meta=c.meta)
        codes.append(code)
    self._need(accepted, codes[0])
    self.set_root = root
    committed: uint256 = self._count(COMMITTED)
    full: bool = self.terms.buffer != 0 and committed >= max(self.terms.buffer, self.terms.min_updates)
    if full or committed == self._count(ROSTER):
        self._enter(BEACON)
    return codes


@external
def reveals(round: uint256, items: DynArray[Reveal, MAX_BATCH]) -> DynArray[uint256, MAX_BATCH]:
    """
    @notice Open onion layers. The last one fixes the beacon.
    @param round Current
    @param items Messages
    @return Code of each item, 0 if accepted
    """
    self._gate(round, BEACON)
    acc: uint256 = self._acc()
    self._need(len(items) > 0, ALREADY_SENT)
    codes: DynArray[uint256, MAX_BATCH] = []
    accepted: bool = False
    for v: Reveal in items:
        code: uint256 = self._walk(round, v.id, v.preimage)
        if code == ACCEPTED:
            accepted = True
            self._put(REVEALED, v.id)
            self._set_onion(v.id, v.preimage)
            acc ^= convert(keccak256(abi_encode(v.preimage, v.id)), uint256)
            log Revealed(round=round, id=v.id, preimage=v.preimage)
        codes.append(code)
    self._need(accepted, codes[0])
    self.acc = acc
    if self._count(REVEALED) == self._count(COMMITTED):
        self._close_beacon()
    return codes


@external
def availabilities(round: uint256, items: DynArray[Availability, MAX_BATCH]) -> DynArray[uint256, MAX_BATCH]:
    """
    @notice Say which updates are held. The last message of the phase freezes V.
    @dev One addition with carry counts a whole word of updates.
    @param round Current
    @param items Messages
    @return Code of each item, 0 if accepted
    """
    self._gate(round, AVAILABLE)
    self._need(len(items) > 0, ALREADY_SENT)
    codes: DynArray[uint256, MAX_BATCH] = []
    accepted: bool = False
    planes: uint256[WORDS][PLANES] = self._planes()
    for a: Availability in items:
        code: uint256 = self._take(AVAILABILITY_TYPE, VERIFIER, NOT_VERIFIER, HELD_SENT, a.id, keccak256(abi_encode(a.held)), a.r, a.vs)
        if code == ACCEPTED:
            accepted = True
            for w: uint256 in range(WORDS):
                carry: uint256 = a.held[w]
                for p: uint256 in range(PLANES):
                    if carry == 0:
                        break
                    x: uint256 = planes[p][w]
                    planes[p][w] = x ^ carry
                    carry &= x
            log Held(round=round, id=a.id, held=a.held)
        codes.append(code)
    self._need(accepted, codes[0])
    sent: uint256 = self._count(HELD_SENT)
    for p: uint256 in range(PLANES):
        if sent >> p == 0:
            break
        for w: uint256 in range(self._words(), bound=WORDS):
            self.planes[p][w] = planes[p][w]
    if self._frozen_ready():
        self._freeze()
    return codes


@external
def ballots(round: uint256, items: DynArray[Ballot, MAX_BATCH]) -> DynArray[uint256, MAX_BATCH]:
    """
    @notice Fix rankings. The last message of the phase freezes V.
    @param round Current
    @param items Messages
    @return Code of each item, 0 if accepted
    """
    self._gate(round, AVAILABLE)
    self._need(self.terms.evaluate, WRONG_PHASE)
    self._need(len(items) > 0, ALREADY_SENT)
    codes: DynArray[uint256, MAX_BATCH] = []
    accepted: bool = False
    for b: Ballot in items:
        code: uint256 = self._take(BALLOT_TYPE, REVEALED, NOT_COMMITTED, BALLOTED, b.id, b.commitment, b.r, b.vs)
        if code == ACCEPTED:
            accepted = True
            self.ballots_of[b.id] = b.commitment
            log Balloted(round=round, id=b.id, commitment=b.commitment)
        codes.append(code)
    self._need(accepted, codes[0])
    if self._frozen_ready():
        self._freeze()
    return codes


@external
def openings(round: uint256, items: DynArray[Opening, MAX_BATCH]) -> DynArray[uint256, MAX_BATCH]:
    """
    @notice Show rankings. `select` ends the phase.
    @param round Current
    @param items Messages
    @return Code of each item, 0 if accepted
    """
    self._gate(round, REVEAL)
    revealed: uint256 = self._count(REVEALED)
    targets: uint256 = min(self.terms.targets, unsafe_sub(revealed, 1))
    self._need(len(items) > 0, ALREADY_SENT)
    codes: DynArray[uint256, MAX_BATCH] = []
    accepted: bool = False
    for o: Opening in items:
        code: uint256 = self._unseal(round, o, targets, revealed)
        if code == ACCEPTED:
            accepted = True
            self._put(OPENED, o.id)
            if o.stop == 1:
                self._put(STOPPING, o.id)
            self.ballots_of[o.id] = convert(o.ranking, bytes32)
            log BallotOpened(round=round, id=o.id, ranking=o.ranking, stop=o.stop == 1, values=o.values)
        codes.append(code)
    self._need(accepted, codes[0])
    return codes


@external
def select(round: uint256, threshold: uint256, cut: uint256):
    """
    @notice Select the K best updates and elect the leader.
    @dev The caller computes threshold and cut; that exactly K pass proves them to be the K best.
        Ballots are added up by place, sixteen lanes at a time: a ballot's lanes are those of the places
        after its own, so it is added by shifting it there. Lanes count from the top of a word here.
        `points` holds, by place, the sum (borda), or the ballots with `threshold` points or more and,
        from bit 8, with more; `ballots` those without doubt and, from bit 8, those in doubt. At most 16
        ballots meet in a place: nothing overflows, which is why the sums are unchecked.
    @param round Current
    @param threshold Score of the last update selected
    @param cut Updates of that score are selected if their place is below
    """
    self._need(round == self.round, WRONG_ROUND)
    self._need(self.phase == REVEAL, WRONG_PHASE)
    everyone: bool = self._count(OPENED) == self._count(BALLOTED)
    self._need(everyone or block.timestamp >= self.deadline, TOO_EARLY)
    points: uint256[TALLY_WORDS] = empty(uint256[TALLY_WORDS])
    ballots: uint256[TALLY_WORDS] = empty(uint256[TALLY_WORDS])
    m: uint256 = self._count(REVEALED)
    unused: uint256 = unsafe_sub(256, min(self.terms.targets, unsafe_sub(m, 1)) << 4)
    ones: uint256 = max_value(uint256)
    ones = ones // 65535
    each: uint256 = (ones >> unused) << unused
    base: uint256 = unsafe_mul(ones, min(threshold, MAX_TARGETS))
    borda: bool = self.terms.borda
    opened: uint256[WORDS] = self._set(OPENED)
    ids: uint256 = 0
    for place: uint256 in range(m, bound=MAX_MEMBERS):
        if place & 15 == 0:
            ids = self.lanes[PLACE][place >> 4]
        id: uint256 = ids & 65535
        ids >>= 16
        if (opened[id >> 8] >> (id & 255)) & 1 == 0:
            continue
        x: uint256 = convert(self.ballots_of[id], uint256)
        doubts: uint256 = (x >> 14) & each
        sure: uint256 = each ^ doubts
        x &= unsafe_mul(sure, 16383)
        if not borda:
            x |= unsafe_mul(ones, 32768)
            more: uint256 = (unsafe_sub(x, unsafe_add(base, ones)) >> 15) & sure
            x = ((unsafe_sub(x, base) >> 15) & sure) | (more << 8)
        sure |= doubts << 8
        q: uint256 = unsafe_add(place, 1) >> 4
        offset: uint256 = (unsafe_add(place, 1) & 15) << 4
        points[q] = unsafe_add(points[q], x >> offset)
        ballots[q] = unsafe_add(ballots[q], sure >> offset)
        q = unsafe_add(q, 1)
        offset = unsafe_sub(256, offset)
        points[q] = unsafe_add(points[q], x << offset)
        ballots[q] = unsafe_add(ballots[q], sure << offset)
    # From here on `opened` holds those who may be selected if their ballots allow it.
    for w: uint256 in range(self._words(), bound=WORDS):
        opened[w] &= ~self.outside[IN_V][w]
    selected: uint256[WORDS] = empty(uint256[WORDS])
    eligible: uint256 = 0
    for place: uint256 in range(m, bound=MAX_MEMBERS):
        offset: uint256 = unsafe_sub(240, (place & 15) << 4)
        sum: uint256 = points[place >> 4] >> offset
        sure: uint256 = ballots[place >> 4] >> offset
        if place < 16:
            # The ring closes: what fell behind the last place belongs to the first ones.
            q: uint256 = unsafe_add(m, place)
            offset = unsafe_sub(240, (q & 15) << 4)
            sum = unsafe_add(sum, points[q >> 4] >> offset)
            sure = unsafe_add(sure, ballots[q >> 4] >> offset)
        sum &= 65535
        doubts: uint256 = (sure >> 8) & 255
        sure &= 255
        if place & 15 == 0:
            ids = self.lanes[PLACE][place >> 4]
        id: uint256 = ids & 65535
        ids >>= 16
        if sure == 0 or doubts > sure or (opened[id >> 8] >> (id & 255)) & 1 == 0:
            continue
        eligible = unsafe_add(eligible, 1)
        above: bool = unsafe_mul(sum >> 8, 2) > sure
        equal: bool = unsafe_mul(sum & 255, 2) > sure
        if borda:
            sum = unsafe_mul(sum, 65536) // sure
            above = sum > threshold
            equal = sum == threshold
        if above or (equal and place < cut):
            selected[id >> 8] |= 1 << (id & 255)
    wanted: uint256 = self.terms.keep
    if wanted == 0:
        wanted = unsafe_add(unsafe_mul(self._count(IN_V), self.terms.keep_permille), 999) // 1000
    self._need(eligible > 0 and self._ones(selected) == min(wanted, eligible), WRONG_SELECTION)
    self._slash_missing(BALLOTED, OPENED, WITHHELD_BALLOT)
    self._replace(SELECTED, selected)
    log Selected(round=round, selected=selected)
    self._elect(0)



@external
def precommits(round: uint256, items: DynArray[Precommit, MAX_BATCH]) -> DynArray[uint256, MAX_BATCH]:
    """
    @notice Fix the verifiers' own results, for all attempts of the round.
    @param round Current
    @param items Messages
    @return Code of each item, 0 if accepted
    """
    self._gate(round, AGGREGATE)
    self._need(self.terms.precommit, WRONG_PHASE)
    self._need(len(items) > 0, ALREADY_SENT)
    codes: DynArray[uint256, MAX_BATCH] = []
    accepted: bool = False
    for c: Precommit in items:
        code: uint256 = self._take(PRECOMMIT_TYPE, VERIFIER, NOT_VERIFIER, PRECOMMITTED, c.id, c.commitment, c.r, c.vs)
        if code == ACCEPTED:
            accepted = True
            self.precommitments[c.id] = c.commitment
            log Precommitted(round=round, id=c.id, commitment=c.commitment)
        codes.append(code)
    self._need(accepted, codes[0])
    return codes


@internal
@view
def _bound() -> bool:
    """
    @notice Have as many verifiers fixed their own results as must approve? Before that no leader proposes.
    @return Whether they have, or need not
    """
    return not self.terms.precommit or self._count(PRECOMMITTED) >= self._quorum(self._count(VERIFIER))


@external
def propose(round: uint256, attempt: uint256, result: bytes32, evidence: bytes32, r: bytes32, vs: bytes32):
    """
    @notice Propose the next model. The leader's message.
    @param round Current
    @param attempt Current
    @param result Digest of the new model
    @param evidence Digest of what proves it
    @param r EIP-2098
    @param vs EIP-2098
    """
    self._gate(round, AGGREGATE)
    self._need(attempt == self.attempt, WRONG_ATTEMPT)
    self._need(self._bound(), TOO_EARLY)
    y: uint256 = convert(evidence, uint256)
    struct_hash: bytes32 = self._slot_hash(PROPOSAL_SLOT, round, attempt, result, y)
    self._need(self._by(self.leader, struct_hash, r, vs), NOT_LEADER)
    self.result = result
    self.evidence = evidence
    log Proposed(round=round, attempt=attempt, id=self.leader, result=result, evidence=evidence)
    self._enter(VERIFY)




@external
def votes(round: uint256, attempt: uint256, items: DynArray[Vote, MAX_BATCH]) -> DynArray[uint256, MAX_BATCH]:
    """
    @notice Judge the proposal. A quorum accepts it; more than a third of the verifiers rejects it.
    @param round Current
    @param attempt Current
    @param items Messages
    @return Code of each item, 0 if accepted
    """
    self._gate(round, VERIFY)
    self._need(attempt == self.attempt, WRONG_ATTEMPT)
    result: bytes32 = self.result
    self._need(len(items) > 0, ALREADY_SENT)
    codes: DynArray[uint256, MAX_BATCH] = []
    accepted: bool = False
    for v: Vote in items:
        struct_hash: bytes32 = self._slot_hash(VOTE_SLOT, round, attempt, result, v.approve)
        code: uint256 = self._check(VERIFIER, NOT_VERIFIER, VOTED, v.id, struct_hash, v.r, v.vs)
        if v.approve > 1:
            code = BAD_SIGNATURE
        elif code == ACCEPTED and v.approve == 1 and self.terms.precommit:
            bound: bytes32 = keccak256(abi_encode(domain, round, v.id, result, v.salt))
            if not self._has(PRECOMMITTED, v.id) or bound != self.precommitments[v.id]:
                code = WRONG_PRECOMMIT
        if code == ACCEPTED:
            accepted = True
            self._put(VOTED, v.id)
            if v.approve == 0:
                self._put(REJECTED, v.id)
            log Voted(round=round, attempt=attempt, id=v.id, approve=v.approve == 1, salt=v.salt)
        codes.append(code)
    self._need(accepted, codes[0])
    verifiers: uint256 = self._count(VERIFIER)
    voted: uint256 = self._count(VOTED)
    rejections: uint256 = self._count(REJECTED)
    if unsafe_sub(voted, rejections) >= self._quorum(verifiers):
        if self.terms.opens:
            self._enter(OPEN)
        else:
            self._end(FINAL, result)
    elif unsafe_mul(3, rejections) > verifiers or voted == verifiers:
        if unsafe_mul(3, rejections) > verifiers:
            self._slash(self.leader, REJECTED_PROPOSAL)
        self._elect(attempt + 1)
    return codes


@external
def opened(round: uint256, items: DynArray[OpeningVote, MAX_BATCH]) -> DynArray[uint256, MAX_BATCH]:
    """
    @notice Say what opening the sum gave. A quorum of V for one digest makes it the model.
    @param round Current
    @param items Messages
    @return Code of each item, 0 if accepted
    """
    self._gate(round, OPEN)
    available: uint256 = self._count(IN_V)
    quorum: uint256 = self._quorum(available)
    winner: bytes32 = empty(bytes32)
    burned: bool = False
    self._need(len(items) > 0, ALREADY_SENT)
    codes: DynArray[uint256, MAX_BATCH] = []
    accepted: bool = False
    for v: OpeningVote in items:
        code: uint256 = self._take(OPENING_TYPE, IN_V, NOT_COMMITTED, OPEN_VOTED, v.id, v.digest, v.r, v.vs)
        if code == ACCEPTED:
            accepted = True
            key: bytes32 = keccak256(abi_encode(round, v.digest))
            votes: uint256 = self.open_counts[key] + 1
            self.open_counts[key] = votes
            if v.digest == empty(bytes32):
                burned = burned or votes > available - quorum
            elif votes >= quorum:
                winner = v.digest
            log OpenVoted(round=round, id=v.id, digest=v.digest)
        codes.append(code)
    self._need(accepted, codes[0])
    if winner != empty(bytes32):
        self._end(FINAL, winner)
    elif burned or self._count(OPEN_VOTED) == available:
        self._end(BURNED, empty(bytes32))
    return codes


@external
def record(round: uint256, kind: uint256, id: uint256, digest: bytes32, r: bytes32, vs: bytes32):
    """
    @notice Leave a record: one a round, kind and signer.
    @param round That it is about, not after the current one
    @param kind Not interpreted here
    @param id Signer
    @param digest Of what is recorded
    @param r EIP-2098
    @param vs EIP-2098
    """
    self._need(self._by(id, keccak256(abi_encode(RECORD_TYPE, round, kind, digest)), r, vs), BAD_SIGNATURE)
    self._need(round <= self.round, WRONG_ROUND)
    self._use(keccak256(abi_encode(round, kind, id)))
    log Recorded(round=round, kind=kind, id=id, digest=digest)


@external
def accuse(slot: uint256, id: uint256, round: uint256, a: Claim, b: Claim):
    """
    @notice Show two different messages that one id signed for one slot.
    @param slot COMMIT, PROPOSAL or VOTE
    @param id Accused
    @param round Of the messages, started already
    @param a First message
    @param b Second message
    """
    self._need(round >= 1 and round <= self.round, WRONG_ROUND)
    attempt: uint256 = a.attempt
    if slot == COMMIT_SLOT:
        attempt = 0
    differ: bool = a.attempt != b.attempt or a.x != b.x or a.y != b.y
    self._need(differ and slot <= VOTE_SLOT and (slot == COMMIT_SLOT or a.attempt == b.attempt), NOT_EQUIVOCATION)
    for c: Claim in [a, b]:
        y: uint256 = convert(c.y, uint256)
        self._need(slot != VOTE_SLOT or y <= 1, NOT_EQUIVOCATION)
        self._need(self._by(id, self._slot_hash(slot, round, c.attempt, c.x, y), c.r, c.vs), BAD_SIGNATURE)
    self._use(keccak256(abi_encode(slot, round, attempt, id)))
    log Accused(round=round, id=id, slot=slot, attempt=attempt)
    self._slash(id, EQUIVOCATION)


@internal
def _use(key: bytes32):
    """
    @notice Refuse what was recorded or judged before.
    @dev Records hash three words, accusations four: their keys differ.
    @param key Hash of what must be new
    """
    self._need(not self.used[key], ALREADY_SENT)
    self.used[key] = True


@external
def advance(round: uint256):
    """
    @notice Go on after a deadline. Anybody's call.
    @dev A phase in which nobody is awaited any more was closed by its last message already.
    @param round Current
    """
    self._need(round == self.round, WRONG_ROUND)
    phase: uint256 = self.phase
    self._need(phase >= COMMIT and phase <= OPEN, WRONG_PHASE)
    self._need(block.timestamp >= self.deadline, TOO_EARLY)
    if phase == COMMIT:
        if self._count(COMMITTED) >= self.terms.min_updates:
            self._enter(BEACON)
        elif self.extended < self.terms.extensions:
            self.extended += 1
            self._enter(COMMIT)
        else:
            self._end(VOID, empty(bytes32))
    elif phase == BEACON:
        self._close_beacon()
    elif phase == AVAILABLE:
        self._freeze()
    elif phase == REVEAL:
        # While `select` can succeed it has as much time again.
        grace: uint256 = self.terms.durations[REVEAL - 1]
        self._need(block.timestamp >= self.deadline + grace or self._count(OPENED) == 0, TOO_EARLY)
        self._end(VOID, empty(bytes32))
    elif phase == AGGREGATE:
        if self._bound():
            self._slash(self.leader, ABSENT_LEADER)
        else:
            self._slash_missing(VERIFIER, PRECOMMITTED, SILENT_VERIFIER)
        self._elect(self.attempt + 1)
    elif phase == VERIFY:
        # Who had no time to fix its own result cannot approve.
        awaited: uint256 = VERIFIER
        if self.terms.precommit:
            awaited = PRECOMMITTED
        self._slash_missing(awaited, VOTED, SILENT_VERIFIER)
        self._elect(self.attempt + 1)
    else:
        self._end(BURNED, empty(bytes32))


# Getters


@external
@view
def parameters() -> Parameters:
    """
    @notice What of the terms the contract enforces.
    @return As given to the constructor
    """
    return self.terms


@external
@view
def member(id: uint256) -> (bool, bool, uint256, uint256, uint256, uint256, uint256):
    """
    @notice What is known of an id.
    @param id Below 1024
    @return Member; active; role; reputation; reputation when the round opened; resources; rounds absent
    """
    return (
        self._has(MEMBER, id),
        self._has(ACTIVE, id),
        self._lane(ROLE, id),
        self._lane(REPUTATION, id),
        self._lane(SNAPSHOT, id),
        self._lane(RESOURCES, id),
        self._lane(ABSENT, id),
    )


@external
@view
def marks(id: uint256) -> bool[13]:
    """
    @notice What an id did, and is, in this round.
    @param id Anything
    @return Roster, committed, revealed, availability sent, in V, balloted, opened, selected, verifier,
        voted, tried as leader, in the drawn committee, slashed
    """
    marks: bool[13] = empty(bool[13])
    for kind: uint256 in range(13):
        marks[kind] = self._has(kind, id)
    return marks


@external
@view
def onion_round(id: uint256) -> uint256:
    """
    @notice The round to which an id's onion head belongs.
    @param id Below 1024
    @return Round
    """
    return self._layer(id)


@external
@view
def commitment(id: uint256) -> bytes32:
    """
    @notice The commitment of an id's ballot of this round, until it is opened.
    @param id Anything
    @return Zero if there is none
    """
    if self._has(BALLOTED, id) and not self._has(OPENED, id):
        return self.ballots_of[id]
    return empty(bytes32)


@external
@view
def precommit(id: uint256) -> bytes32:
    """
    @notice The commitment of a verifier's own result of this round.
    @param id Anything
    @return Zero if there is none
    """
    if self._has(PRECOMMITTED, id):
        return self.precommitments[id]
    return empty(bytes32)


@external
@view
def places(place: uint256) -> uint256:
    """
    @notice Who stands at a place of the ring; known from AVAILABLE to OPEN.
    @param place Below the number of those who revealed
    @return Id; 2**256 - 1 if there is no such place
    """
    if self.phase < AVAILABLE or self.phase > OPEN or place >= self._count(REVEALED):
        return NOBODY
    return self._lane(PLACE, place)


@external
@view
def recorded(round: uint256, kind: uint256, id: uint256) -> bool:
    """
    @notice Was this record made?
    @param round That it is about
    @param kind Of the record
    @param id Author
    @return Whether it was
    """
    return self.used[keccak256(abi_encode(round, kind, id))]


@external
@view
def committed() -> uint256:
    """
    @notice How many committed in this round.
    @return 0 to 1024
    """
    return self._count(COMMITTED)


@external
@view
def revealed() -> uint256:
    """
    @notice How many revealed in this round.
    @return 0 to 1024
    """
    return self._count(REVEALED)


@external
@view
def opened_count() -> uint256:
    """
    @notice How many opened a ballot in this round.
    @return 0 to 1024
    """
    return self._count(OPENED)


@external
@view
def stops() -> uint256:
    """
    @notice How many of the opened ballots wish the training to end.
    @return 0 to 1024
    """
    return self._count(STOPPING)


@external
@view
def approvals() -> uint256:
    """
    @notice How many approved the current proposal.
    @return 0 to 1024
    """
    return self._count(VOTED) - self._count(REJECTED)


@external
@view
def rejections() -> uint256:
    """
    @notice How many rejected the current proposal.
    @return 0 to 1024
    """
    return self._count(REJECTED)
