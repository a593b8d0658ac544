"""N nodes in one process, against an embedded chain and a folder: the deployment, with a clock of its own.

The chain's clock is the scheduler's. One pass over all nodes in which something happens takes one second;
when nothing is left to do, time jumps to where the plan says that somebody may act again. So a run is a
function of its settings, and a run that was killed goes on to the same model.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import rlp
from eth_hash.auto import keccak

from hansa import app, attacks, encoding, errors, runfolder, wiring
from hansa.app import Agreed, EvaluateTask, TrainTask, Values
from hansa.attestation.simulated import collected
from hansa.config import FILE, FederationFile
from hansa.crypto import sealing, signatures
from hansa.crypto.signatures import account
from hansa.founding import Founding, Party, found, owner_secret
from hansa.hostile import Collusion, HostileTrainer
from hansa.ledger.blocks import Genesis
from hansa.ledger.embedded import Chain, open_chain
from hansa.ledger.evm import Deployment, EvmLedger, Fold, deploy
from hansa.ledger.rpc import Rpc
from hansa.node.daemon import UNFIT, Node
from hansa.node.enclosure import Enclosure, command
from hansa.node.journal import open_journal
from hansa.node.meter import Meter, MeteredStore
from hansa.node.world import Identity, World
from hansa.ports import Session, Trainer, View
from hansa.project import source_files
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import messages as msg
from hansa.protocol import plan
from hansa.protocol.events import Event
from hansa.protocol.history import RoundStory, tell
from hansa.protocol.model import to_arrays
from hansa.protocol.state import State
from hansa.protocol.terms import parameters as contract_parameters
from hansa.protocol.terms import terms_digest
from hansa.records import Limits, Model, Outcome, Phase, Role
from hansa.rounds import Ended, Line, Rounds
from hansa.runfolder import RunRecord

CHAIN_ID = 4_820_657
GENESIS_TIME = 1_800_000_000
RESOURCES = 10
"""Declared resources of every simulated member."""

LOOK = 0.05
"""Seconds between two looks at computing parties that are at work."""

MEMORY = "flower.sqlite"
"""What the parts of a Flower app remember."""

Progress = Callable[[Event, "Simulation"], None]


class Clock:
    """Virtual time in whole seconds."""

    def __init__(self, now: int, follow: Callable[[int], None]) -> None:
        self._now = now
        self._follow = follow

    def __call__(self) -> int:
        """The time."""
        return self._now

    def move(self, now: int) -> None:
        """Set the time, and the chain's with it."""
        self._now = now
        self._follow(now)


class Simulation:
    """A federation at work. Make one with `start`, run it with `play`."""

    def __init__(
        self, folder: Path, founding: Founding, rpc: Rpc, fold: Fold, deployment: Deployment, clock: Clock
    ) -> None:
        self.folder = folder
        self.founding = founding
        self.terms = founding.terms
        self.deployment = deployment
        self.clock = clock
        self.fold = fold
        self.story: tuple[RoundStory, ...] = ()
        self.meter = Meter()
        self.rounds = Rounds(folder, self.meter)
        self._rpc = rpc
        self._progress: Progress | None = None
        self._told: Callable[[list[Line]], None] | None = None
        fold.observe(self._observe)
        store, self.kept = wiring.stores_on_one_disk(folder / "store", folder / "kept")
        self.store = MeteredStore(store, self.meter)
        simulated = founding.file.simulation
        self._attacks = {
            id: attacks.parse(spec)
            for id, p in enumerate(founding.parties)
            if (spec := dict(simulated.malicious).get(p.name)) is not None
        }
        self._collusion = Collusion(
            founding.trainer,
            self._attacks,
            simulated.members,
            self.terms.initial_seed,
            self.terms.layout.scale,
            self._before if self.terms.scheme == "plaintext" else None,
        )
        self.ledgers = [EvmLedger(rpc, deployment, fold, account(p.secret), clock) for p in founding.parties]
        self.nodes = [self._node(id, p) for id, p in enumerate(founding.parties)]
        if founding.directed is not None:
            founding.directed.follow(self._agreed, folder / MEMORY)

    def _node(self, id: int, p: Party) -> Node:
        simulated = self.founding.file.simulation
        attack = self._attacks.get(id)
        trainer: Trainer = self.founding.trainer
        if attack is not None:
            scale = self.terms.layout.scale
            trainer = HostileTrainer(trainer, attack, id, simulated.seed, scale, self._collusion)
        domain = self.fold.view(self.clock).state.domain
        scheme = wiring.scheme(
            self.terms,
            id=id,
            private_key=p.sealing_key,
            sign=p.sign,
            entropy=p.entropy,
            limits=Limits(),
        )
        epochs = int(dict(self.terms.training.params).get("epochs", 1))
        pace = simulated.row_time * dict(simulated.slow).get(p.name, 1)
        me = Identity(
            id=id,
            signer=p,
            onion=p.onion,
            training_data=attacks.training_key(attack, p.name),
            validation_data=f"{p.name}/validation",
            trains=p.role is Role.MEMBER,
        )
        world = World(
            ledger=self.ledgers[id],
            store=self.store,
            kept=self.kept,
            trainer=trainer,
            scheme=scheme,
            journal=open_journal(
                self.folder / "journals" / f"{p.name}.sqlite", domain, p.address, durable=False
            ),
            entropy=p.entropy,
            duration=lambda examples: pace * app.modelled_millis(examples, epochs),
            virtual=True,
            enclosure=self._enclosure if p.address in self.founding.seats and self.terms.tee else None,
            collateral=collected(self.clock) if self.terms.tee else None,
            sharing=wiring.sharing(self.terms) if self.terms.mpc else None,
            session=self._session(p) if p.role is Role.PARTY else None,
        )
        return Node(me, self.terms, world)

    def _session(self, p: Party) -> Session:
        """A computing party's session, with processes of its own on this machine."""
        return wiring.session(
            self.terms, self.folder / "app", self.folder / "parties" / p.name, secret=p.sealing_key
        )

    def _enclosure(self) -> Enclosure:
        return Enclosure(command("simulated"), limit=Limits().blob)

    def view(self) -> View:
        """The federation now."""
        return self.ledgers[0].view()

    @property
    def metrics(self) -> list[Line]:
        """Lines of `metrics.jsonl` on final rounds."""
        return self.rounds.final

    def play(
        self,
        progress: Progress | None = None,
        tell: Callable[[str, str], None] | None = None,
        told: Callable[[list[Line]], None] | None = None,
    ) -> View:
        """Run until the federation stops or pauses; gives its last state. Raises what stops every node.

        `tell` hears what computing parties say, and who of them; `told` the lines of each round that ended.
        """
        self._progress, self._told = progress, told
        self._enrol()
        while True:
            view = self.view()
            done = self._pass(view)
            self._tell(tell)
            if not done and view.state.phase in (Phase.STOPPED, Phase.PAUSED):
                return self.view()
            if done:
                self.clock.move(self.clock() + 1)
            elif any(node.computing for node in self.nodes):
                # Parties at work take real time, of which the ledger's clock knows nothing.
                time.sleep(LOOK)
            else:
                now = self.clock()
                training = (n.busy_until for n in self.nodes if n.busy_until > now)
                wake = min(filter(None, (plan.next_wake(view.state, now), *training)), default=None)
                if wake is None:
                    raise errors.Unavailable(
                        f"nobody can act in phase {view.state.phase.name} of round {view.state.round}",
                        hint="This is a fault of Hansa: please report the run folder.",
                    )
                self.clock.move(wake)

    def _tell(self, tell: Callable[[str, str], None] | None) -> None:
        for node in self.nodes if tell else ():
            if tell and node.computer is not None:
                for text in node.news():
                    tell(self.name(node.me.id), text)

    def _pass(self, view: View) -> bool:
        if view.state.phase is Phase.COMMIT and self.founding.file.simulation.workers:
            waiting = [n for n in self.nodes if n.me.trains and n.me.id not in view.state.current.commits]
            waiting = [n for n in waiting if n.busy_until <= self.clock()]
            tasks = [task for n in waiting if (task := _task(n, view.state)) is not None]
            if len(tasks) > 1:
                self.founding.trainer.prepare(tasks)
        done, gone = False, self._vanished(view.state)
        for node in self.nodes:
            self._show_updates()
            done |= node.me.id not in gone and node.step()
        self.view()
        for ended in self.rounds.due():
            self._measure(ended)
        return done

    def _vanished(self, state: State) -> frozenset[int]:
        """Members that are not there any more in this round."""
        simulated = self.founding.file.simulation
        first = state.round * simulated.vanishing
        if not Phase.AVAILABLE < state.phase <= Phase.OPEN:
            return frozenset()
        return frozenset((first + i) % simulated.members for i in range(simulated.vanishing))

    def _enrol(self) -> None:
        state = self.view().state
        parties = self.founding.parties
        owner = EvmLedger(
            self._rpc,
            self.deployment,
            self.fold,
            account(owner_secret(self.founding.file.simulation.seed)),
            self.clock,
        )
        invited = state.invited | state.ids.keys()
        owner.submit(*(msg.Invite(p.address) for p in parties if p.address not in invited))
        owner.submit(*(self._join(p) for p in parties if p.address not in state.ids))
        self.clock.move(self.clock() + 1)
        if state.phase is Phase.IDLE:
            # Under secagg the parties make their keys first, under mpc their certificates.
            while self._pass(self.view()):
                self.clock.move(self.clock() + 1)
            owner.submit(msg.Start())

    def _join(self, p: Party) -> msg.Join:
        fields = (sealing.public_key(p.sealing_key), p.onion.head, RESOURCES, p.role)
        domain = self.view().state.domain
        signature = p.sign(encoding.message_bytes(domain, "Join", 0, *fields))
        return msg.Join(p.address, *fields, signature)

    def _observe(self, event: Event, block: int) -> None:
        self.story = tell(self.story, event)
        self.rounds.observe(event, self.story[-1] if self.story else None, block)
        if self._progress is not None:
            self._progress(event, self)

    def _measure(self, ended: Ended) -> None:
        """Write down what a round came to; a final one's model is tried on the test set that no member holds."""
        story, metrics = ended.story, {}
        if story.outcome is Outcome.FINAL:
            model = to_arrays(self.joint_model(story.model))
            task = EvaluateTask("test", (model,), self.terms.training.params, story.round)
            metrics = self.founding.trainer.evaluate(task)[0]
        names = [p.name for p in self.founding.parties]
        members = self.founding.file.simulation.members
        lines = self.rounds.write(ended, self._rpc, self.clock() - GENESIS_TIME, names, members, metrics)
        if self._told is not None:
            self._told(lines)

    def _agreed(self) -> list[Agreed]:
        """The final rounds so far, for an app with a server part."""
        return [
            Agreed(s.round, s.selected, partial(self.joint_model, s.model))
            for s in self.story
            if s.outcome is Outcome.FINAL
        ]

    def _show_updates(self) -> None:
        """Hand the round's updates to an app whose server part needs single ones, before the round can be final."""
        directed = self.founding.directed
        if directed is None or not directed.asked().single:
            return
        state = self.view().state
        if state.phase not in (Phase.AGGREGATE, Phase.VERIFY):
            return
        for id in sorted(state.current.selected):
            if directed.wants(state.round, id):
                node = next(n for n in self.nodes if n.me.trains)
                base = node.models.standing(state).model
                directed.keep(state.round, id, ckpt.candidate(base, node.blobs.update(state, id)).values)

    def _before(self, round: int) -> Values | None:
        """The model from which the round before this one was trained."""
        if round < 2:
            return None
        final = [s for s in self.story if s.outcome is Outcome.FINAL and s.round < round - 1]
        if not final:
            return self.founding.trainer.initial(self.founding.file.initial_seed)
        return to_arrays(self.joint_model(final[-1].model))

    def name(self, id: int) -> str:
        """A party's name."""
        return self.founding.parties[id].name

    def joint_model(self, digest: bytes) -> Model:
        """A model that the federation agreed on. Raises `Unavailable`, `Untrusted`."""
        data = self.kept.get(digest, limit=Limits().blob)
        return ckpt.decode(data, self.terms.aggregation, self.terms.layout, Limits()).model

    def failures(self) -> dict[str, str]:
        """By member: why its own training gave no update, the last time that this process saw it."""
        found = {}
        for node, party in zip(self.nodes, self.founding.parties, strict=True):
            told = [text for text in node.findings if UNFIT in text]
            if told:
                found[party.name] = told[-1]
        return found

    def gas(self) -> dict[str, int]:
        """Gas used so far, by function of the contract; `deploy` for its creation."""
        return gas_by_call(self._rpc)

    def close(self) -> None:
        """Stop workers, close journals and the chain."""
        self.founding.trainer.close()
        for node in self.nodes:
            node.close()
            node.world.journal.close()
        if isinstance(self._rpc, Chain):
            self._rpc.checkpoint()
            self._rpc.close()


def _task(node: Node, state: State) -> TrainTask | None:
    """What a node trains next, if it has the model that stands."""
    try:
        return node.training_task(state)
    except errors.Unavailable:
        return None


def gas_by_call(rpc: Rpc) -> dict[str, int]:
    """Gas of all transactions of a chain, by function name."""
    from hansa.ledger import artefact

    total: dict[str, int] = {}
    for number in range(1, int(rpc.request("eth_blockNumber"), 16) + 1):
        block = rpc.request("eth_getBlockByNumber", (hex(number), True))
        for transaction in block["transactions"]:
            receipt = rpc.request("eth_getTransactionReceipt", (transaction["hash"],))
            data = bytes.fromhex(transaction["input"][2:])
            name = "deploy" if receipt.get("contractAddress") else artefact.decode_call(data)[0]
            total[name] = total.get(name, 0) + int(receipt["gasUsed"], 16)
    return total


def _contract_address(owner: bytes) -> bytes:
    """Where an account's first transaction deploys to: keccak(rlp([account, 0]))[12:]."""
    return keccak(rlp.encode([owner, b""]))[12:]


def start(file: FederationFile, folder: Path, *, resume: bool = False) -> Simulation:
    """Found a federation in a new run folder, or go on with the one that lies there.

    Raises `Misconfigured` when the folder holds a run and `resume` is not asked for, or when the run in it
    was started with other settings.
    """
    exists = (folder / "run.cbor").exists()
    if exists and not resume:
        raise errors.Misconfigured(
            f"{folder} already holds a run",
            hint="Go on with it by --resume, or name another folder by --out.",
        )
    _check_enclaves(file)
    founding = found(file)
    simulated = file.simulation
    secret = owner_secret(simulated.seed)
    owner = signatures.address(secret)
    deployment = Deployment(
        chain_id=CHAIN_ID,
        contract=_contract_address(owner),
        block=1,
        owner=owner,
        seats=founding.seats,
        parameters=contract_parameters(founding.terms),
        model=founding.terms.initial,
    )
    record = RunRecord(
        terms=founding.terms,
        deployment=deployment,
        members=simulated.members,
        seed=simulated.seed,
        malicious=dict(simulated.malicious),
        settings=json.dumps(runfolder.as_json(replace(simulated, workers=0, device="cpu")), sort_keys=True),
    )
    if exists:
        _check_same(runfolder.read_record(folder), record, folder)
    else:
        _lay_out(folder, file, founding, record)
    chain = open_chain(folder / "chain.sqlite", Genesis(CHAIN_ID, GENESIS_TIME))
    clock = Clock(max(chain.time, GENESIS_TIME + 1), chain.set_time)
    clock.move(clock())
    if int(chain.request("eth_blockNumber"), 16) == 0:
        made = deploy(chain, account(secret), deployment.parameters, deployment.seats, deployment.model)
        if made != deployment:
            raise errors.Unavailable("the contract was deployed to another address than computed")
    return Simulation(folder, founding, chain, Fold(chain, deployment, interval=math.inf), deployment, clock)


def _check_enclaves(file: FederationFile) -> None:
    """A simulation has simulated enclaves only. Raises `Misconfigured`."""
    accepted = file.draft.tee
    if accepted is not None and accepted.accept.root != "simulation":
        raise errors.Misconfigured(
            "`hansa run` simulates its enclaves, and these terms accept those of processors only",
            hint="""Try them without protection: --set 'tee.accept={root = "simulation"}'.""",
        )


def _lay_out(folder: Path, file: FederationFile, founding: Founding, record: RunRecord) -> None:
    try:
        for part in ("app", "store", "kept", "journals"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        written = [Path(FILE)] if (file.folder / FILE).exists() else []
        for path in (*written, *source_files(file.folder, file.app)):
            (folder / "app" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.folder / path, folder / "app" / path)
    except OSError as e:
        raise errors.Misconfigured(f"cannot write {folder}: {e.strerror}", hint="Name another --out.") from e
    runfolder.write_keys(folder, {i: p.sealing_key for i, p in enumerate(founding.parties)})
    runfolder.write_record(folder, record)


def _check_same(old: RunRecord, new: RunRecord, folder: Path) -> None:
    if old == new:
        return
    what = "terms" if terms_digest(old.terms) != terms_digest(new.terms) else "[simulation] settings"
    raise errors.Misconfigured(
        f"the run in {folder} was started with other {what}",
        hint="Repeat the command line of that run and add --resume, or name another folder by --out.",
    )
