"""`make processes`: the federation of `examples/cluster` in real processes, under faults drawn from a seed.

Ten nodes train digits over anvil. All the while nodes are killed with SIGKILL and started again. One after the
other, in an order that the seed draws: the chain's process is stopped for seconds, and goes on; it ends and is
started anew from its file; the store's file system is full for seconds; the leader of a round and two more of
the ten verifiers are killed for good. Then the job must end with all its rounds final, every node that lives
must name the model that the chain names, an audit must pass, nobody may have signed two messages for one slot,
and nobody may have been found guilty of a false one.

The store lies on a small tmpfs of its own in a mount namespace of this process, which needs root or user
namespaces. Where there are none, the store is not filled, and the line of the run says so.
Usage: python -m tests.chaos.processes [--repeat 20] [--first 0] [--members 10] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from examples.cluster import place as places
from examples.cluster import processes
from examples.cluster.watch import Watch, watch

from hansa import errors
from hansa.ports import View
from hansa.protocol.events import Balloted, Committed, Event, Precommitted
from hansa.protocol.state import State
from hansa.protocol.wire import decode_item
from hansa.records import Fault, Phase

DEADLINE = 8
"""Seconds of a phase. A round without absent members takes three on an idle machine with two cores."""
LIMIT = 420.0
"""Seconds after which a run hangs."""
OUTAGE = (3.0, 6.0)
PATIENCE = 60.0
"""Seconds after an outage of the chain within which a node may still find out that it asked in vain."""
PAUSE = (1.0, 5.0)
"""Seconds between two kills, at least and at most."""
STORE_BYTES = 48 * 1024 * 1024
LATER = 3
"""Exit code of a command that found chain or store unavailable: whoever runs a node starts it again."""
LIES = (Fault.EQUIVOCATION, Fault.REJECTED_PROPOSAL)
"""What no honest member is ever found guilty of, however often it is killed."""
PRIVATE = "HANSA_CHAOS_PRIVATE"
"""Set in a process that has a mount namespace of its own."""


class Run:
    """One federation and what has been done to it. `done` counts faults, `lost` are members killed for good.

    Until the moment `excused` a node may end because it could not reach the chain.
    """

    def __init__(self, folder: Path, seed: int, members: int) -> None:
        self.draw = random.Random(seed)
        self.outages = [self.pause_chain, self.restart_chain, self.fill_store, self.remove]
        self.draw.shuffle(self.outages)
        rounds = len(self.outages) + 2
        changes = {"rounds": str(rounds), "deadline": str(DEADLINE), "max_failed_rounds": "50", "attempts": "4",
                   "max_absent": "2"}  # fmt: skip
        self.rounds = rounds
        self.place = places.make(folder, members, changes)
        self.chain = processes.Anvil(folder / "anvil.log", folder / "anvil.json")
        self.nodes: dict[int, ForkServerProcess] = {}
        self.away: dict[int, float] = {}
        self.lost: set[int] = set()
        self.done: Counter[str] = Counter()
        self.excused = 0.0
        self.taken: dict[tuple[str, int, int], bytes] = {}
        self.wrong: list[str] = []
        self.name = ""
        self.began = time.monotonic()

    def play(self) -> list[str]:
        """Run it to its end; what was wrong, nothing if all is well."""
        try:
            self.store_fills = _mount(self.place.store)
            self.chain.start()
            self.name = places.found(self.place, self.chain.url)
            for i in range(len(self.place.addresses)):
                self.start(i)
            seen = watch(self.place, self.name, self.chain.url)
            seen.fold.observe(self.note)
            view = self.disturb(seen)
            if view is None:
                return [f"not over after {LIMIT:g} s"]
            return self.verdict(seen, view.state)
        finally:
            processes.stop(list(self.nodes.values()))
            self.chain.kill()
            if self.store_fills:
                subprocess.run(["umount", "--lazy", self.place.store], check=True)

    def disturb(self, seen: Watch) -> View | None:
        """Do all faults in turn until the job is over; None if it takes too long."""
        next_kill = self.draw.uniform(*PAUSE)
        while time.monotonic() - self.began < LIMIT:
            time.sleep(0.1)
            self.bring_back()
            view = self.look(seen)
            if view is None:
                continue
            if view.state.phase in (Phase.STOPPED, Phase.PAUSED):
                return view
            if time.monotonic() - self.began >= next_kill and view.state.version < self.rounds - 1:
                self.kill_one()
                next_kill = time.monotonic() - self.began + self.draw.uniform(*PAUSE)
            due = self.outages and view.state.version >= self.rounds - 1 - len(self.outages)
            if due and self.outages[0](seen, view.state):
                self.outages.pop(0)
        return None

    def look(self, seen: Watch) -> View | None:
        """The federation now, if the chain says."""
        try:
            return seen.look()
        except errors.Unavailable:
            return None

    # what is done to nodes

    def start(self, member: int) -> None:
        """Start a member's node, for the first time or again."""
        self.nodes[member] = self.place.node(self.name, member, self.chain.url)

    def kill_one(self) -> None:
        """SIGKILL to a node, whatever it does; it stays away for a while."""
        alive = sorted(i for i in self.nodes if i not in self.away and i not in self.lost)
        member = self.draw.choice(alive)
        self.nodes[member].kill()
        self.away[member] = time.monotonic() + self.draw.uniform(0.0, 3.0)
        self.done["kills"] += 1

    def bring_back(self) -> None:
        """Start what was killed long enough ago, and what ended since chain or store did not answer."""
        now = time.monotonic()
        for member, node in self.nodes.items():
            if node.exitcode == LATER and member not in self.away and member not in self.lost:
                self.away[member] = now + 1.0
                self.done["gave up on the chain"] += 1
                if now > self.excused:
                    self.wrong.append(f"m{member} gave up although chain and store were there")
        for member in [m for m, moment in self.away.items() if moment <= now]:
            del self.away[member]
            self.start(member)

    # what happens once; each says whether it was done

    def pause_chain(self, _seen: Watch, _state: State) -> bool:
        """The chain's process is stopped, keeps its connections, and answers nobody."""
        self.chain.send(signal.SIGSTOP)
        time.sleep(self.draw.uniform(*OUTAGE))
        self.chain.send(signal.SIGCONT)
        self.excused = time.monotonic() + PATIENCE
        self.done["chain paused"] += 1
        return True

    def restart_chain(self, _seen: Watch, _state: State) -> bool:
        """The chain's process ends, and another one goes on from its file."""
        self.chain.kill(signal.SIGTERM)
        time.sleep(self.draw.uniform(*OUTAGE))
        self.chain.start()
        self.excused = time.monotonic() + PATIENCE
        self.done["chain restarted"] += 1
        return True

    def fill_store(self, _seen: Watch, _state: State) -> bool:
        """Nothing can be written to the store until somebody makes room."""
        if not self.store_fills:
            return True
        ballast = self.place.store / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for size in (2**16, 2**12):
                try:
                    while file.write(bytes(size)) == size:
                        continue
                except OSError:
                    continue
        time.sleep(self.draw.uniform(*OUTAGE))
        ballast.unlink()
        self.done["store filled"] += 1
        return True

    def remove(self, seen: Watch, state: State) -> bool:
        """Kill the leader of the round for good, and as many others as the rules can do without."""
        leader = state.current.leader
        if leader is None or state.phase is not Phase.AGGREGATE:
            return False
        first = seen.ids.index(leader)
        others = sorted(set(self.nodes) - {first})
        count = (len(self.nodes) - 1) // 3
        self.lost = {first, *self.draw.sample(others, count - 1)}
        for member in self.lost:
            self.nodes[member].kill()
            self.away.pop(member, None)
        self.done["removed for good"] += count
        return True

    # what must hold

    def note(self, event: Event, _block: int) -> None:
        """Remember what the chain took of messages that hold fresh randomness."""
        match event:
            case Committed(round, id, _, digest):
                self.taken["commit", round, id] = digest
            case Balloted(round, id, commitment):
                self.taken["ballot", round, id] = commitment
            case Precommitted(round, id, commitment):
                self.taken["precommit", round, id] = commitment

    def signed_twice(self, state: State) -> list[str]:
        """Messages in the outbox that are not those of the chain: somebody signed two for one slot."""
        wrong = []
        for (kind, round, id), taken in self.taken.items():
            file = self.place.store / "outbox" / state.domain.hex() / str(round) / kind / str(id)
            if file.exists():
                message = decode_item(kind, file.read_bytes())
                if (message.digest if kind == "commit" else message.commitment) != taken:
                    wrong.append(f"two messages {kind} of member {id} in round {round}")
        return wrong

    def verdict(self, seen: Watch, state: State) -> list[str]:
        """What is wrong with the end."""
        wrong = self.wrong
        if self.outages:
            wrong.append("over before all faults were done")
        if (state.phase, state.version) != (Phase.STOPPED, self.rounds):
            wrong.append(f"{state.phase.name} with {state.version} of {self.rounds} rounds final")
        living = sorted(set(self.nodes) - self.lost)
        for member in self.away:
            self.start(member)
        processes.finish([self.nodes[i] for i in living], 60)
        for member in living:
            said = self.place.log(member)
            if self.nodes[member].exitcode != 0:
                wrong.append(f"m{member} ended with {self.nodes[member].exitcode}")
            elif not any(state.model.hex() in line for line in said.splitlines()[-3:]):
                wrong.append(f"m{member} ended with another model")
        wrong += self.signed_twice(state)
        readers = [i for i in living if seen.ids[i] in state.model_readers]
        wrong += self.exported(state, readers[0])
        wrong += self.audited(readers)
        wrong += [f"traceback in the log of m{i}" for i in self.nodes if "Traceback" in self.place.log(i)]
        faults = Counter(fault for story in seen.story for _, fault in story.slashed)
        wrong += [f"{faults[fault]} members slashed for {fault.name}" for fault in LIES if faults[fault]]
        self.done["rounds that failed"] = seen.story[-1].round - state.version
        self.done["slashes for absence"] = sum(n for fault, n in faults.items() if fault not in LIES)
        return wrong

    def audited(self, readers: list[int]) -> list[str]:
        """Have members audit until one passes: who was away for a while cannot open what others sealed then."""
        for member in readers:
            audit = self.place.audit(self.name, member, self.chain.url)
            audit.join()
            if audit.exitcode != LATER:
                return [f"the audit of m{member} ended with {audit.exitcode}"] if audit.exitcode else []
        return ["no member could make every check of the audit"]

    def exported(self, state: State, member: int) -> list[str]:
        """Have a member export the model, and hold it against the one that the node keeps."""
        file, log = self.place.folder / "model.safetensors", self.place.folder / "export.log"
        words = self.place.words("export", self.name, str(file), rpc=self.chain.url, member=member)
        process = processes.command(words, log)
        process.join()
        good = process.exitcode == 0 and state.model.hex() in log.read_text()
        return [] if good else [f"export failed: {log.read_text()}"]


def _mount(folder: Path) -> bool:
    """Put a small file system of its own under `folder`, if this process may."""
    folder.mkdir(exist_ok=True)
    if PRIVATE not in os.environ:
        return False
    words = ["mount", "-t", "tmpfs", "-o", f"size={STORE_BYTES}", "none", str(folder)]
    subprocess.run(words, check=True)
    return True


def _go_private() -> None:
    """Go on in a mount namespace of its own, where the system lets us have one."""
    if PRIVATE in os.environ or shutil.which("unshare") is None:
        return
    prefix = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    probe = subprocess.run(
        [*prefix, "mount", "-t", "tmpfs", "none", tempfile.gettempdir()], capture_output=True
    )
    if probe.returncode == 0:
        words = [*prefix, sys.executable, "-m", "tests.chaos.processes", *sys.argv[1:]]
        os.execvpe(words[0], words, {**os.environ, PRIVATE: "1"})


def main() -> int:
    """Run the seeds; exit code 1 if anything was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.processes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed of the first run")
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--keep", type=Path, help="leave the runs' folders here")
    given = parser.parse_args()
    _go_private()
    bad = 0
    for seed in range(given.first, given.first + given.repeat):
        with tempfile.TemporaryDirectory() as name:
            folder = (given.keep or Path(name)).absolute() / f"seed{seed}"
            run = Run(folder, seed, given.members)
            wrong = run.play()
        bad += bool(wrong)
        done = ", ".join(f"{what} {count}" for what, count in run.done.items())
        end = "; ".join(wrong) or "well"
        unfilled = "" if run.store_fills else ", store not filled: no mount namespace here"
        print(f"seed {seed:>3}: {time.monotonic() - run.began:>4.0f} s, {done}{unfilled}: {end}", flush=True)
    print(f"{given.repeat} runs, {bad} bad")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
