"""The five systems, step by step. A test holds that every phase, event, record and function named here exists."""

from __future__ import annotations

from typing import Final

from hansa.published.systems import Fault, Step, System

_LOTTERY: Final = Fault(
    "leader by lottery, and no other one",
    "the last to reveal biases it; a dead leader stops the round",
    "beacon from committed reveals, a fixed order of further leaders, a deadline on every phase",
    imitated=True,
)
_OPEN: Final = Fault(
    "updates and values in the open",
    "others' updates and values can be copied, and everyone votes for itself",
    "updates are published when commitments are closed; ballots are commit and reveal; the own update is no target",
)
_COPIED_VOTES: Final = Fault(
    "verifiers check what is proposed",
    "an approval can be copied from others without computing anything",
    "verifiers fix a salted digest of their own result before the proposal",
    imitated=True,
)
_ANY_UPDATE: Final = Fault(
    "plain mean of all updates",
    "one hostile member moves the model where it likes",
    "",
    imitated=True,
)


def _any_update(answer: str) -> Fault:
    return Fault(_ANY_UPDATE.published, _ANY_UPDATE.fault, answer, imitated=True)


_A: Final = System(
    "A",
    "SGX-based blockchain federated learning",
    "CN117875452A, 2024",
    steps=(
        Step(
            "1",
            "mutual remote attestation of client and enclave; a secure channel bound to it",
            (),
            ("Recorded ATTESTATION", "Recorded VOUCHER"),
            (
                "hansa.attestation.verifying:verify",
                "hansa.protocol.attested:candidates",
                "hansa.protocol.tee:check_roster",
                "hansa.schemes.tee:Enclaved.seal",
            ),
            "members judge the enclave's quote; the enclave checks members by a roster signed from the terms on",
        ),
        Step(
            "2",
            "each client trains and stores its local model",
            ("COMMIT",),
            ("Committed",),
            ("hansa.node.daemon:Node.training_task", "hansa.node.journal:Journal.put"),
        ),
        Step(
            "3",
            "the client publishes its training result to the chain network",
            ("COMMIT", "AVAILABLE"),
            ("Committed", "Held", "Frozen"),
            ("hansa.node.blobs:Blobs.publish",),
            "the digest to the chain, the sealed update to the store",
        ),
        Step(
            "4",
            "a consensus mechanism elects the aggregation server of the round",
            ("BEACON", "AGGREGATE"),
            ("Revealed", "BeaconSet", "Elected"),
            ("hansa.protocol.election:next_beacon", "hansa.protocol.election:choose_leader"),
        ),
        Step(
            "5",
            "the server asynchronously obtains the gradients and passes them to the enclave",
            ("AVAILABLE", "AGGREGATE"),
            ("Frozen",),
            ("hansa.node.hosting:Hosting.add", "hansa.node.blobs:Blobs.fetch"),
            "as they arrive, within the round",
        ),
        Step(
            "6",
            "the enclave verifies them, and only then aggregates",
            ("AGGREGATE",),
            ("Proposed", "Recorded DELIVERY"),
            ("hansa.enclave.rounds:add", "hansa.enclave.oblivious:trimmed_mean"),
        ),
        Step(
            "7",
            "the result goes to the chain; other nodes verify its integrity and append it to their ledger",
            ("VERIFY",),
            ("Voted", "Ended"),
            ("hansa.protocol.attested:check_delivery", "hansa.protocol.fold:evolve"),
        ),
    ),
    faults=(
        _LOTTERY,
        Fault(
            "sparse updates into an enclave",
            "which addresses it touches leaks data (OLIVE, arXiv 2202.07165)",
            "dense updates, and aggregation by fixed patterns",
        ),
        Fault(
            "the enclave is trusted outright",
            "rollback, replay, a round run again with one client left out",
            "it aggregates one set a round: the one that a quorum signed, bound to the model before",
        ),
        _any_update("trimmed mean, median or Krum inside the enclave"),
    ),
    caveats=(
        "Asynchrony across rounds is refused: an update that missed its set may never be sealed again.",
        "The enclave of `hansa run` is simulated: NO HARDWARE PROTECTION.",
    ),
)

_B: Final = System(
    "B",
    "Blockchain-enabled federated learning",
    "workflow of the survey of Qu et al.",
    steps=(
        Step(
            "1",
            "initialisation",
            (),
            ("Joined",),
            ("hansa.node.models:initial_model", "hansa.protocol.rules:found"),
        ),
        Step("2", "local update", ("COMMIT",), ("Committed",), ("hansa.node.daemon:Node.training_task",)),
        Step(
            "3",
            "upload of parameters with the local computing time",
            ("COMMIT", "AVAILABLE"),
            ("Committed",),
            ("hansa.protocol.timing:pack_meta", "hansa.node.blobs:Blobs.publish"),
        ),
        Step(
            "4",
            "cross-verification: every verifier checks updates, and computing time against data size",
            ("AVAILABLE", "REVEAL"),
            ("Held", "BallotOpened", "Selected"),
            (
                "hansa.schemes.plaintext:Plaintext.check",
                "hansa.protocol.timing:outliers",
                "hansa.protocol.selection:tally",
            ),
        ),
        Step(
            "5",
            "block generation: the consensus has one winner, the others stop",
            ("BEACON", "AGGREGATE"),
            ("BeaconSet", "Elected", "Proposed"),
            ("hansa.protocol.election:choose_leader",),
            "the race is decided by the beacon",
        ),
        Step(
            "6",
            "block propagation: everyone checks and appends",
            ("VERIFY",),
            ("Precommitted", "Voted"),
            ("hansa.node.models:Models.open_proposal", "hansa.protocol.fold:evolve"),
        ),
        Step(
            "7",
            "global update by the chosen one, written to the chain",
            ("AGGREGATE", "VERIFY"),
            ("Proposed", "Ended"),
            ("hansa.protocol.aggregation:mean_delta", "hansa.protocol.checkpoint:advance"),
        ),
        Step(
            "8",
            "download; each device decides whether to go on",
            ("COMMIT", "REVEAL"),
            ("StandingChanged", "BallotOpened"),
            ("hansa.node.models:Models.standing", "hansa.protocol.stopping:wish"),
            "by a wish in its ballot, or by leaving",
        ),
        Step(
            "modes",
            "fully decentralised, partially decentralised, hybrid",
            ("BEACON",),
            ("CommitteeDrawn", "Elected"),
            ("hansa.protocol.election:leader_pool", "hansa.protocol.election:draw_committee"),
            "governance = peers; committee or server; hybrid",
        ),
    ),
    faults=(
        _LOTTERY,
        _OPEN,
        _COPIED_VOTES,
        Fault(
            "computing time in proportion to data",
            "trivially forged",
            "recorded, flagged against the cohort's median; validation data judge the update",
            imitated=True,
        ),
        _any_update(
            "members rank updates on their own validation data; the median of ranks leaves out the worst"
        ),
    ),
    caveats=(
        "No proof of work: the beacon stands in the place of the race for a block.",
        "Updates stay closed until all are committed, in the published form too.",
    ),
)

_C: Final = System(
    "C",
    "Blockchain-based secure collaborative deep learning",
    "Tsinghua, CN110197285, US11954592",
    steps=(
        Step(
            "1",
            "initialise the global model, the optimal update set and the evaluation matrix M",
            (),
            ("Joined", "Entered"),
            ("hansa.node.models:initial_model", "hansa.protocol.rules:found"),
        ),
        Step(
            "2",
            "train; the update is parameters after minus before, of which the fraction gamma of largest magnitude "
            "is kept; timestamp and signature",
            ("COMMIT",),
            ("Committed",),
            (
                "hansa.protocol.checkpoint:difference",
                "hansa.protocol.updates:top_gamma",
                "hansa.protocol.timing:pack_meta",
            ),
        ),
        Step(
            "3a",
            "the hash of the set goes to the chain, giving a transaction number; sets go to every user",
            ("COMMIT", "AVAILABLE"),
            ("Committed", "Frozen"),
            ("hansa.node.blobs:Blobs.publish", "hansa.node.blobs:Blobs.fetch"),
            "the event's transaction is the number",
        ),
        Step(
            "3b",
            "each user checks set against hash, evaluates every other set on its own validation data, and sends the "
            "values to the chain",
            ("AVAILABLE", "REVEAL"),
            ("Balloted", "BallotOpened"),
            (
                "hansa.protocol.updates:check_update",
                "hansa.node.evaluating:evaluate",
                "hansa.protocol.selection:rank",
                "hansa.protocol.selection:ballot_commitment",
            ),
            "ranks on the chain; the values, a row of M, in the store under the ballot's digest",
        ),
        Step(
            "4",
            "M is updated, users are ranked by the sum of s(j;i) = (m - p_j)/(m - 1), the K highest are selected; a "
            "parameter server adds the mean of their sets",
            ("REVEAL", "AGGREGATE"),
            ("Selected", "Elected", "Proposed", "Ended"),
            (
                "hansa.protocol.selection:scores",
                "hansa.protocol.selection:select",
                "hansa.protocol.aggregation:mean_delta",
            ),
            "the contract counts and selects; as published by borda, hardened by the median of ranks",
        ),
        Step(
            "5",
            "repeat until the model meets its goal",
            ("VERIFY",),
            ("Ended",),
            ("hansa.protocol.stopping:wish", "hansa.protocol.phases:open_round"),
        ),
    ),
    faults=(
        _OPEN,
        Fault(
            "Borda sum",
            "about a third of colluders lift a bad update into the top half",
            "the median of ranks",
            imitated=True,
        ),
        Fault(
            "what is not among the largest is dropped",
            "small changes of the same direction never arrive",
            "what was left out is added to the next update (error feedback)",
            imitated=True,
        ),
        Fault(
            "one parameter server",
            "gone, it stops the training; its sum is taken on trust",
            "leaders of a committee in a fixed order, whose result a quorum computes for itself",
            imitated=True,
        ),
        _COPIED_VOTES,
    ),
    caveats=(
        "With more than 17 members each update has 16 evaluators, so that M is sampled.",
        "The published form keeps closed ballots and a vote on the server's sum: those are the contract's.",
    ),
)

_D: Final = System(
    "D",
    "Neural-network training on a secure computing platform",
    "Huakong Tsingjiao, 2022",
    steps=(
        Step(
            "1",
            "data owners send ciphertext, secret shares, to computing parties",
            ("COMMIT", "AVAILABLE", "AGGREGATE"),
            ("Recorded INPUT",),
            ("hansa.node.owning:Owner", "hansa.mpc.inputs:share_values", "hansa.node.computing:Computer"),
            "sealed to each party, through the store",
        ),
        Step(
            "2",
            "a training script initialises a network of plaintext layers and ciphertext layers",
            (),
            (),
            ("hansa.mpc.network:Network", "hansa.mpc.network:Reveal", "hansa.mpc.lowering:lower"),
        ),
        Step(
            "3",
            "forward and back, layer by layer, until the end condition: plaintext layers on plaintext, ciphertext "
            "layers on shares",
            ("AGGREGATE",),
            (),
            (
                "hansa.mpc.session:train",
                "hansa.mpc.layers:forward",
                "hansa.mpc.layers:backward",
                "hansa.mpc.network:Stop",
            ),
            "the parties' links are SPU's own; what they revealed and paid is in their report",
        ),
        Step(
            "4",
            "the owners get the trained network",
            ("VERIFY", "OPEN"),
            ("Recorded OUTPUT",),
            ("hansa.protocol.mpc:settle", "hansa.node.owning:Owner"),
        ),
    ),
    faults=(
        Fault(
            "plaintext layers",
            "opened activations of a trained first layer give the Gram matrix of the data, opened output deltas "
            "the labels",
            "no reveal unless declared, and a report of what each boundary leaks",
            imitated=True,
        ),
    ),
    caveats=(
        "The app is a training script: an app.py of other schemes cannot run on shares.",
        "What is opened stands in the script: the published form needs one with accept_leakage = true.",
        "Computing parties are assumed to keep to the protocol (semi-honest).",
    ),
)

_E: Final = System(
    "E",
    "Privacy-preserving collaborative training with a double trapdoor",
    "Xidian, 2022",
    steps=(
        Step(
            "1",
            "a key generation centre, the only trusted party, sets up the cryptosystem",
            (),
            ("Recorded SETUP",),
            ("hansa.crypto.double_trapdoor.setup:set_up", "hansa.node.centre:Centre.found"),
            "the strong trapdoor is split between centre and server",
        ),
        Step(
            "2",
            "each participant has a weak trapdoor of its own",
            (),
            ("Recorded KEY", "Recorded CERTIFICATE"),
            (
                "hansa.crypto.double_trapdoor.keys:derive_key",
                "hansa.crypto.double_trapdoor.keys:check_possession",
                "hansa.node.centre:Centre.certify",
            ),
        ),
        Step(
            "3",
            "participants compute gradients and upload them encrypted",
            ("COMMIT", "AVAILABLE"),
            ("Committed", "Frozen"),
            (
                "hansa.schemes.secagg:SecAgg.seal",
                "hansa.crypto.double_trapdoor.ciphertexts:encrypt",
                "hansa.crypto.double_trapdoor.packing:pack",
            ),
            "hardened: the values under a one-time mask, and only its key under the double trapdoor",
        ),
        Step(
            "4",
            "the server updates the model without seeing it",
            ("AGGREGATE", "VERIFY"),
            ("Proposed", "Voted"),
            (
                "hansa.schemes.secagg:SecAgg.combine",
                "hansa.crypto.double_trapdoor.ciphertexts:add_across_keys",
            ),
            "it adds up each round, and keeps no encrypted model (ADR 31)",
        ),
        Step(
            "5",
            "fine-grained release: only owners who took part can open the model",
            ("OPEN",),
            ("Recorded OPENING", "OpenVoted", "Ended"),
            (
                "hansa.crypto.double_trapdoor.halves:raise_to_half",
                "hansa.crypto.double_trapdoor.halves:combine",
                "hansa.protocol.secagg:readers",
            ),
        ),
    ),
    faults=(
        Fault(
            "double trapdoor on every parameter",
            "1M parameters cost minutes to hours",
            "the cryptosystem carries only the short key of an RLWE mask",
            imitated=True,
        ),
        Fault(
            "joint decryption",
            "one that drops out blocks it, rogue keys open it",
            "the strong trapdoor, split between centre and server, opens without the missing; proofs of possession",
        ),
        Fault(
            "a sum opened twice",
            "two sums that differ by one member reveal that member",
            "one opening a round, a minimum cohort, the set fixed on the ledger",
        ),
        _any_update("each member clips its own update, and votes against a sum that makes its model worse"),
    ),
    caveats=(
        "Nobody sees an update, so nobody finds who poisons within its bound.",
        "The published form keeps split trapdoors and one opening a round: Hansa has no others.",
    ),
)

SYSTEMS: Final = (_A, _B, _C, _D, _E)
