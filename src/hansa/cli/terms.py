"""`hansa check` and `hansa explain`: the terms of an app before anyone joins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from hansa import errors
from hansa.cli.console import clock, console, grid, print_json
from hansa.cli.keys import Json

if TYPE_CHECKING:
    from hansa.published.presets import Preset
    from hansa.records import Terms

App = Annotated[Path, typer.Argument(metavar="APP", help="Folder with federation.toml and app.py.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one key of federation.toml; repeatable."),
]
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset", metavar="A|B|C|D|E", help="Terms of a published system, hardened; see `hansa protocols`."
    ),
]
AsPublished = Annotated[
    bool, typer.Option("--as-published", help="The preset with its published faults, where it is unsafe.")
]


def chosen_preset(name: str | None, *, as_published: bool) -> Preset | None:
    """The preset of this name, if one is asked for. Raises `Misconfigured`."""
    from hansa.published.presets import preset

    if name is not None:
        return preset(name, as_published=as_published)
    if as_published:
        raise errors.Misconfigured(
            "--as-published says how a preset is run, and none is named",
            hint="For example: --preset B --as-published",
        )
    return None


def check(
    app: App,
    settings: Settings = None,
    preset: PresetName = None,
    as_published: AsPublished = False,
    as_json: Json = False,
) -> None:
    """Check an app and its terms, and estimate what a round costs. Starts nothing."""
    from hansa.cli import costs
    from hansa.protocol.attested import NO_PROTECTION, protection
    from hansa.protocol.model import parameters
    from hansa.protocol.terms import parameters as contract_parameters
    from hansa.protocol.terms import terms_digest

    terms, members = _load(app, settings, chosen_preset(preset, as_published=as_published))
    enforced = contract_parameters(terms)
    gas = costs.gas_of_a_round(terms, members)
    if as_json:
        print_json(
            {
                "name": terms.name,
                "terms": terms_digest(terms).hex(),
                "app": terms.app.hex(),
                "parameters": parameters(terms.layout),
                "scheme": terms.scheme,
                "governance": terms.governance.name.lower(),
                "protection": protection(terms),
                "members": members,
                "rounds": terms.training.rounds,
                "min_members": terms.training.min_members,
                "selection": terms.selection.rule,
                "aggregation": terms.aggregation.rule,
                "privacy": terms.privacy,
                "gas_by_call": gas,
                "seconds_at_most": costs.longest_round(terms),
            }
        )
        return
    kept = f"the best {enforced.keep}" if enforced.keep else f"the best {enforced.keep_permille / 10:g} %"
    selection, training = terms.selection, terms.training
    table = grid()
    table.add_row("terms", f"sha256 {terms_digest(terms).hex()}")
    table.add_row("app", f"sha256 {terms.app.hex()}, {parameters(terms.layout):,} parameters")
    table.add_row("scheme", f"{terms.scheme.upper()}, governance {terms.governance.name.lower()}")
    if said := protection(terms):
        table.add_row("enclaves", Text(said, style="yellow" if said == NO_PROTECTION else ""))
    table.add_row("members", f"{members} here, at least {training.min_members} a round")
    table.add_row("training", f"{training.rounds} rounds, {training.mode}, {_params(terms)}")
    chosen = f"{selection.rule} by {selection.metric}, keeps {kept}"
    table.add_row("selection", "none: every update counts" if selection.rule == "none" else chosen)
    optimizer = "" if terms.aggregation.optimizer == "none" else f", {terms.aggregation.optimizer}"
    table.add_row("aggregation", f"{terms.aggregation.rule}{optimizer}")
    table.add_row("privacy", f"differential privacy {terms.privacy}")
    table.add_row("refused pairs", Text("none: these terms can go together", style="green"))
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


def explain(
    app: App,
    settings: Settings = None,
    preset: PresetName = None,
    as_published: AsPublished = False,
    as_json: Json = False,
) -> None:
    """Say on one page who sees what, what stays for ever, and what a round costs."""
    from hansa.cli import explanation
    from hansa.protocol.attested import NO_PROTECTION
    from hansa.protocol.terms import terms_digest

    terms, members = _load(app, settings, chosen_preset(preset, as_published=as_published))
    rows = explanation.rows(terms, members)
    if as_json:
        digest = terms_digest(terms).hex()
        lines = [{"about": label, "text": text} for label, text in rows]
        print_json(
            {"name": terms.name, "scheme": terms.scheme, "members": members, "terms": digest, "page": lines}
        )
        return
    out = console()
    out.print(Text.assemble((terms.name, "bold"), f" · {terms.scheme.upper()} · {members} members\n"))
    table = grid()
    for label, text in rows:
        off = (label == "Diff. privacy" and terms.privacy == "off") or NO_PROTECTION in text
        table.add_row(label, Text(text, style="yellow" if off else ""))
    out.print(table)


def _load(app: Path, settings: list[str] | None, preset: Preset | None) -> tuple[Terms, int]:
    """Terms as a simulation of the app would found them, and its number of members."""
    from hansa.config import load_federation
    from hansa.founding import found

    file = load_federation(app, settings or (), preset)
    founding = found(file)
    founding.trainer.close()
    return founding.terms, file.simulation.members


def _params(terms: Terms) -> str:
    return ", ".join(f"{name} {value}" for name, value in terms.training.params) or "no params"
