"""`hansa propose`, `vote` and `motions`: what members decide together, by a quorum of signatures."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from hansa import errors
from hansa.cli.connection import KeyFile, Name, Open, RpcUrl, StoreUrl, opened, reached, read_account
from hansa.cli.console import confirm, console, print_json
from hansa.cli.keys import Json, PasswordFile

if TYPE_CHECKING:
    from hansa import motions as mo
    from hansa.ports import Store
    from hansa.protocol.state import Member, State

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


class Kind(StrEnum):
    """What can be proposed."""

    INVITE = "invite"
    EXCLUDE = "exclude"
    REPLACE = "replace"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"


SUBJECTS = {Kind.INVITE: "ADDRESS", Kind.EXCLUDE: "ADDRESS", Kind.REPLACE: "OLD NEW"}


def propose(
    name: Name,
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help=", ".join(Kind))],
    rpc: RpcUrl,
    store: StoreUrl,
    key: KeyFile,
    about: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ADDRESS...",
            help="Whom to invite or exclude; to replace, the old address and the new one. An id will do for a "
            "member.",
        ),
    ] = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; those who vote read it in the store.")
    ] = "",
    yes: Yes = False,
    password_file: PasswordFile = None,
    as_json: Json = False,
) -> None:
    """Put a motion to the members, with your signature. Two thirds of the active members and one carry it.

    replace gives a member's id to a new key: the old key is worth nothing from then on, and the new one
    comes in with `hansa join`.
    """
    from hansa import motions as mo
    from hansa.records import ZERO_DIGEST, Motion

    subjects = about or []
    if len(subjects) != len(SUBJECTS.get(kind, "").split()):
        raise errors.Misconfigured(
            f"{kind} is about {SUBJECTS.get(kind, 'nobody in particular')}, not about {len(subjects)} addresses",
            hint=f"hansa propose FEDERATION {kind} {SUBJECTS.get(kind, '')}".rstrip(),
        )
    with opened(name, rpc, store, key, password_file) as it:
        state = it.ledger.view().state
        _voter(it, state)
        if kind is Kind.REPLACE:
            if reason:
                raise errors.Misconfigured(
                    "a replacement has no room for a reason", hint="Tell the members why by other means."
                )
            old = _member(state, _who(state, subjects[0]))
            what = mo.Proposed(Motion.REPLACE, _who(state, subjects[1]), old.id.to_bytes(32, "big"))
        else:
            who = _who(state, subjects[0]) if subjects else bytes(20)
            what = mo.Proposed(Motion[kind.name], who, ZERO_DIGEST)
        confirm(f"{meaning(state, what)}. Propose it?", yes)
        if reason:
            what = mo.Proposed(what.kind, what.who, mo.explain(it.store, reason))
        _sign(it, state, what, as_json=as_json)


def vote(
    name: Name,
    rpc: RpcUrl,
    store: StoreUrl,
    key: KeyFile,
    motion: Annotated[
        str | None,
        typer.Argument(
            metavar="MOTION", help="Its name, as `hansa motions` shows it; the only one by default."
        ),
    ] = None,
    yes: Yes = False,
    password_file: PasswordFile = None,
    as_json: Json = False,
) -> None:
    """Sign a motion that others proposed. The signature that completes the quorum brings it to the chain."""
    from hansa import motions as mo

    with opened(name, rpc, store, key, password_file) as it:
        state = it.ledger.view().state
        _voter(it, state)
        found = [m for m in mo.open_motions(it.store, state) if motion in (None, m.name)]
        if len(found) != 1:
            which = f"no motion {motion[:40]!r} is open" if motion else f"{len(found)} motions are open"
            raise errors.Misconfigured(
                which,
                hint="See hansa motions FEDERATION. A motion ends when any is carried; propose it again.",
            )
        (chosen,) = found
        confirm(f"{meaning(state, chosen.what)}{_because(it.store, chosen.what)}. Sign it?", yes)
        _sign(it, state, chosen.what, as_json=as_json)


def motions(
    name: Name,
    rpc: RpcUrl,
    store: StoreUrl,
    as_json: Json = False,
) -> None:
    """Show the motions that wait for signatures: what they would do, who signed, how many are missing."""
    from hansa import motions as mo
    from hansa.ledger.evm import Fold

    with reached(name, rpc, store) as it:
        state = Fold(it.rpc, it.federation.deployment).view(lambda: 0).state
        found = mo.open_motions(it.store, state)
        if as_json:
            print_json([fields(it.store, state, m) for m in found])
            return
        for m in found:
            signers = ", ".join(map(str, m.signatures))
            console().print(
                f"{m.name}  {meaning(state, m.what)}{_because(it.store, m.what)}\n"
                f"{' ' * len(m.name)}  signed by {signers}; {_waits(mo.missing(state, m))}",
                soft_wrap=True,
            )
        if not found:
            console().print("no motion is open")


def meaning(state: State, what: mo.Proposed) -> str:
    """What happens when the motion is carried."""
    from hansa.protocol.state import replaced_id
    from hansa.records import Motion

    match what.kind:
        case Motion.INVITE:
            return f"invite {_named(state, what.who)}: it may join"
        case Motion.EXCLUDE:
            own = "; as the owner it can invite nobody any more" if what.who == state.owner else ""
            return f"exclude {_named(state, what.who)} from the next round on; only a vote can invite it again{own}"
        case Motion.REPLACE:
            old = state.members[replaced_id(what.reason)]
            return (
                f"replace the key of {_named(state, old.address)} by 0x{what.who.hex()}: the old key is worth "
                "nothing from now on, the new one takes its place by joining"
            )
        case Motion.PAUSE:
            return "pause: the running round is lost; a motion to resume opens the next one"
        case Motion.RESUME:
            return "resume: the next round opens"
        case Motion.STOP:
            return f"stop for good: version {state.version} is the last model"


def _sign(it: Open, state: State, what: mo.Proposed, *, as_json: bool) -> None:
    """Sign, and bring the motion to the chain if that completes it."""
    from hansa import motions as mo

    mo.sign(it.store, state, what, state.ids[it.key.signer.address], it.key.signer)
    name = mo.name_of(state, what)
    (motion,) = (m for m in mo.open_motions(it.store, state) if m.name == name)
    missing = mo.missing(state, motion)
    if not missing:
        try:
            it.ledger.submit(mo.carried(motion))
        except errors.Refused:
            if it.ledger.view().state.motions == state.motions:
                raise
            console().print(f"motion {name} is over: it, or another one, was carried while you signed")
            return
    if as_json:
        print_json({"motion": name, "missing": missing, "carried": not missing})
        return
    console().print(f"motion {name}: {_waits(missing)}" if missing else f"motion {name} is carried")


def _voter(it: Open, state: State) -> None:
    id = state.ids.get(it.key.signer.address)
    if id is None or not state.members[id].member:
        raise errors.Misconfigured(
            f"0x{it.key.signer.address.hex()} is no member, and only members sign motions",
            hint="Use a member's key; the owner invites with hansa invite.",
        )


def _who(state: State, text: str) -> bytes:
    """An address; of a member, its id will do. Raises `Misconfigured`."""
    if text.isascii() and text.isdigit() and int(text) in state.members:
        return state.members[int(text)].address
    return read_account(text)


def _member(state: State, who: bytes) -> Member:
    if who not in state.ids:
        raise errors.Misconfigured(
            f"0x{who.hex()} is no id of this federation", hint="Name the old address first."
        )
    return state.members[state.ids[who]]


def _named(state: State, who: bytes) -> str:
    id = state.ids.get(who)
    role = "" if id is None else f"{state.members[id].role.name.lower().replace('_', ' ')} {id}, "
    return f"{role}0x{who.hex()}"


def _because(store: Store, what: mo.Proposed) -> str:
    from hansa import motions as mo
    from hansa.records import Motion

    text = "" if what.kind is Motion.REPLACE else mo.reason_of(store, what.reason)
    return f"; reason given: {text}" if text else ""


def _waits(missing: int) -> str:
    if not missing:
        return "complete: hansa vote brings it to the chain"
    return f"{missing} more must sign"


def fields(store: Store, state: State, motion: mo.Open) -> dict[str, object]:
    """A motion for programs."""
    from hansa import motions as mo

    return {
        "motion": motion.name,
        "number": state.motions,
        "kind": motion.what.kind.name.lower(),
        "who": "0x" + motion.what.who.hex(),
        "reason": "0x" + motion.what.reason.hex(),
        "means": meaning(state, motion.what) + _because(store, motion.what),
        "signed_by": list(motion.signatures),
        "missing": mo.missing(state, motion),
    }
