"""`hansa kgc` and `hansa server`: those who hold the halves that open a sum under scheme `secagg`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hansa import errors
from hansa.cli.connection import KeyFile, Name, Open, RpcUrl, StoreUrl
from hansa.cli.keys import PasswordFile
from hansa.cli.node import LOOK, Health, Home, JsonLogs, Look, Relay, Work, check_role, loader_of, serve
from hansa.records import Role

if TYPE_CHECKING:
    from hansa.ports import Trainer


def _command(role: Role, text: str) -> Callable[..., None]:
    """The command of a role, with the help that its users read."""

    def command(
        name: Name,
        rpc: RpcUrl,
        store: StoreUrl,
        key: KeyFile,
        home: Home = None,
        look: Look = LOOK,
        relay: Relay = True,
        health: Health = None,
        json_logs: JsonLogs = False,
        password_file: PasswordFile = None,
    ) -> None:
        work = Work(name, rpc, store, key, password_file, home, look, relay, health, json_logs)
        serve(work, lambda it, id: _trainer(it, id, role), loader_of)

    command.__doc__ = text
    return command


def _trainer(it: Open, id: int, role: Role) -> Trainer:
    """The trainer of a party that trains nothing. Raises `Misconfigured` for one of another role."""
    from hansa.trainers.absent import Absent

    terms = it.federation.terms
    if terms.secagg is None:
        raise errors.Misconfigured(
            f"the scheme of {terms.name} is {terms.scheme}, under which nobody holds halves",
            hint="Use `hansa node`: a server of other schemes needs the app, as members do.",
        )
    check_role(it, id, role)
    return Absent()


kgc = _command(
    Role.KEY_CENTRE,
    """Be a key centre: make the parameters of scheme secagg, certify members' keys, answer once a round.

    The first one that the terms name makes two safe primes when all key centres and servers of the terms have
    joined, deals the halves, and forgets the primes. A round's opening then takes its half and a server's. It sees
    ciphertexts only: no update, no sum, no model.

    SIGTERM and Ctrl-C end it after the current step; started again, it goes on from its journal.
    """,
)
server = _command(
    Role.SERVER,
    """Be a parameter server of scheme secagg: add up masked updates, give the server's half once a round.

    The first one to join answers at once, the others when it does not. It sees ciphertexts and masked updates only:
    no update, no sum, no model. Where the terms say [tee] inner = "secagg", it runs an enclave that opens the sums.

    SIGTERM and Ctrl-C end it after the current step; started again, it goes on from its journal.
    """,
)
