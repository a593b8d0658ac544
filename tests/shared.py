"""A federation on a chain that others keep: nodes as `hansa node` opens them, stepped in this process.

The chain is any `Rpc`: the embedded one for quick tests, a node of another make for slow ones.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from tests.tiny import START, TinyTrainer, terms

from hansa import member, wiring
from hansa.federation import Federation, publish
from hansa.ledger import evm
from hansa.ledger.blocks import Genesis
from hansa.ledger.embedded import Chain, open_chain
from hansa.ledger.rpc import Fault, Rpc
from hansa.node.daemon import Node
from hansa.node.meter import Meter
from hansa.protocol import messages as msg
from hansa.protocol.terms import parameters
from hansa.records import Phase, Role, Training
from hansa.signers import keystore
from hansa.signers.keystore import MemberKey

PASSWORD = "correct horse"
CHAIN_ID = 1337


class Own(TinyTrainer):
    """Training goes towards this member's own target, whatever its data set is called."""

    def __init__(self, id: int) -> None:
        super().__init__()
        self._id = id

    def _target(self, dataset: str) -> np.ndarray[Any, Any]:
        return super()._target(f"m{self._id}/{dataset}")


@dataclass
class Shared:
    """The chain, the store's folder, the owner and the members with their key files and nodes."""

    rpc: Rpc
    folder: Path
    owner: MemberKey
    federation: Federation
    keys: list[MemberKey]
    clock: Callable[[], int]
    nodes: list[Node] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def name(self) -> str:
        return str(self.federation.address)

    def key_file(self, id: int) -> Path:
        return self.folder / f"m{id}.key"

    def password(self) -> Path:
        path = self.folder / "password"
        path.write_text(PASSWORD + "\n")
        path.chmod(0o600)
        return path

    def ledger(self, key: MemberKey) -> evm.EvmLedger:
        return member.ledger_of(self.federation, key, self.rpc, self.clock, interval=0.0)

    def start(self) -> None:
        """All are invited, join, and open their nodes; round 1 begins."""
        owner = self.ledger(self.owner)
        owner.submit(*(msg.Invite(key.signer.address) for key in self.keys))
        for key in self.keys:
            ledger = self.ledger(key)
            ledger.submit(member.join_call(key, ledger.view().state, Role.MEMBER, 10))
        owner.submit(msg.Start())
        store = wiring.store(str(self.store))
        for id, key in enumerate(self.keys):
            home = self.folder / f"home{id}"
            ledger = self.ledger(key)
            self.nodes.append(member.open_node(self.federation, key, store, home, ledger, Own, Meter()))

    def run(self, until: Callable[[Any], bool] = lambda state: False, passes: int = 500) -> None:
        """Step until a state is reached, or the federation has stopped."""
        for _ in range(passes):
            state = self.nodes[0].world.ledger.view().state
            if until(state) or state.phase is Phase.STOPPED:
                return
            if isinstance(self.rpc, Chain):
                self.rpc.set_time(self.rpc.time + 1)
            for node in self.nodes:
                node.step()
        raise AssertionError(f"still in {state.phase.name} of round {state.round}")


def found(
    rpc: Rpc, folder: Path, clock: Callable[[], int], *, members: int = 4, rounds: int = 2, **changes: Any
) -> Shared:
    """A federation that has just been deployed."""
    for who in ("owner", *(f"m{id}" for id in range(members))):
        keystore.create(folder / f"{who}.key", PASSWORD, work=2**10)
    owner = keystore.load(folder / "owner.key", PASSWORD)
    keys = [keystore.load(folder / f"m{id}.key", PASSWORD) for id in range(members)]
    agreed = replace(terms([]), training=Training(rounds=rounds, min_members=4, deadline=600), **changes)
    deployment = evm.deploy(rpc, owner.signer, parameters(agreed), (), agreed.initial)
    federation = Federation(deployment, agreed)
    publish(wiring.store(str(folder / "store")), federation)
    return Shared(rpc, folder, owner, federation, keys, clock)


@contextmanager
def embedded(folder: Path) -> Iterator[Chain]:
    """A chain of this process, which the thread of `served` may ask too."""
    path, genesis = folder / "shared.sqlite", Genesis(CHAIN_ID, START)
    open_chain(path, genesis).close()
    with Chain(sqlite3.connect(path, isolation_level=None, check_same_thread=False), genesis) as chain:
        yield chain


@contextmanager
def served(rpc: Rpc) -> Iterator[str]:
    """The chain behind a URL on loopback, answering one call after the other."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            calls = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                answers = rpc.batch([(call["method"], call["params"]) for call in calls])
            content = json.dumps([_answer(*pair) for pair in zip(calls, answers, strict=True)]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def _answer(call: dict[str, Any], result: Any) -> dict[str, Any]:
    if isinstance(result, Fault):
        error = {"code": result.code, "message": result.message, "data": "0x" + result.data.hex()}
        return {"jsonrpc": "2.0", "id": call["id"], "error": error}
    return {"jsonrpc": "2.0", "id": call["id"], "result": result}
