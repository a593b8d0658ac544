"""`hansa check` and `hansa explain`: the terms of an app before anyone joins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from hansa.cli.console import clock, console, grid

if TYPE_CHECKING:
    from hansa.records import Terms

App = Annotated[Path, typer.Argument(metavar="APP", help="Folder with federation.toml and app.py.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one key of federation.toml; repeatable."),
]

ON_CHAIN = (
    "addresses, public keys, reputation and standing of all members",
    "of each update: SHA-256, number of training rows, training time, when it was made",
    "who held which updates, every ballot and its ranking, every vote",
    "who was selected, who led, who was slashed and why",
    "SHA-256 of every model; never a model, an update or data",
)
"""What the contract's events and calldata hold, and nobody can delete."""


def check(app: App, settings: Settings = None) -> None:
    """Check an app and its terms, and estimate what a round costs. Starts nothing."""
    from hansa.cli import costs
    from hansa.protocol.model import parameters
    from hansa.protocol.terms import parameters as contract_parameters
    from hansa.protocol.terms import terms_digest

    terms, members = _load(app, settings)
    enforced = contract_parameters(terms)
    kept = f"the best {enforced.keep}" if enforced.keep else f"the best {enforced.keep_permille / 10:g} %"
    selection, training = terms.selection, terms.training
    table = grid()
    table.add_row("terms", f"sha256 {terms_digest(terms).hex()}")
    table.add_row("app", f"sha256 {terms.app.hex()}, {parameters(terms.layout):,} parameters")
    table.add_row("scheme", f"{terms.scheme.upper()}, governance {terms.governance.name.lower()}")
    table.add_row("members", f"{members} here, at least {training.min_members} a round")
    table.add_row("training", f"{training.rounds} rounds, {training.mode}, {_params(terms)}")
    chosen = f"{selection.rule} by {selection.metric}, keeps {kept}"
    table.add_row("selection", "none: every update counts" if selection.rule == "none" else chosen)
    optimizer = "" if terms.aggregation.optimizer == "none" else f", {terms.aggregation.optimizer}"
    table.add_row("aggregation", f"{terms.aggregation.rule}{optimizer}")
    table.add_row("privacy", f"differential privacy {terms.privacy}")
    table.add_row("refused pairs", Text("none: these terms can go together", style="green"))
    gas = costs.gas_of_a_round(terms, members)
    total = sum(gas.values())
    table.add_row(
        "gas a round", f"about {total:,}, {total // members:,} a member; whoever relays a batch pays"
    )
    largest = sorted(gas.items(), key=lambda item: -item[1])
    table.add_row("", ", ".join(f"{call} {each // 1000}k" for call, each in largest))
    table.add_row(
        "time a round", f"at most {clock(costs.longest_round(terms))}, if everyone is late in every phase"
    )
    console().print(table)


def explain(app: App, settings: Settings = None) -> None:
    """Say on one page who sees what, what stays for ever, and what a round costs."""
    from hansa.cli import costs

    terms, members = _load(app, settings)
    out = console()
    out.print(Text.assemble((terms.name, "bold"), f" · {terms.scheme.upper()} · {members} members\n"))
    up, model = costs.update_bytes(terms), costs.model_bytes(terms)
    gas = sum(costs.gas_of_a_round(terms, members).values())
    table = grid()
    table.add_row("Your data", "never leave your machine. What was learned from them does, as an update.")
    table.add_row(
        "Your update", f"is read by each of the {members} members of its round, once all are committed."
    )
    table.add_row("", "One curious member is enough: no coalition is needed.")
    table.add_row("", "An update can give away training data (gradient inversion, membership inference).")
    table.add_row(
        "The store", "sees sizes, times and how evaluators valued each update. Updates and models are sealed."
    )
    table.add_row("The leader", "sees nothing that other members do not see; they all check its result.")
    table.add_row("Outsiders", "see what is on the chain, and nothing else.")
    table.add_row("The chain", "keeps for ever, and nobody can delete:")
    for line in ON_CHAIN:
        table.add_row("", f"- {line}")
    table.add_row("The model", "of each round is sealed to the members of that round.")
    table.add_row("Diff. privacy", _noise(terms))
    table.add_row("Poisoning", _protection(terms))
    table.add_row(
        "A round costs",
        f"at most {_size(up)} up and {_size((members - 1) * up + model)} down for a member; "
        f"about {gas:,} gas for all; at most {clock(costs.longest_round(terms))}.",
    )
    out.print(table)


def _load(app: Path, settings: list[str] | None) -> tuple[Terms, int]:
    """Terms as a simulation of the app would found them, and its number of members."""
    from hansa.config import load_federation
    from hansa.founding import found

    file = load_federation(app, settings or ())
    founding = found(file)
    founding.trainer.close()
    return founding.terms, file.simulation.members


def _params(terms: Terms) -> str:
    return ", ".join(f"{name} {value}" for name, value in terms.training.params) or "no params"


def _noise(terms: Terms) -> Text:
    if terms.privacy == "off":
        return Text(
            "OFF: updates carry no noise, and there is no bound on what they give away.", style="yellow"
        )
    return Text(terms.privacy)


def _protection(terms: Terms) -> str:
    if terms.selection.rule == "none":
        return f"no update is judged; {terms.aggregation.rule} alone limits what one can do."
    return (
        f"members judge each other's updates on their own data ({terms.selection.rule} by "
        f"{terms.selection.metric}); the worst are left out. It fails when hostile members are many."
    )


def _size(count: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count //= 1000
    return f"{count} GB"
