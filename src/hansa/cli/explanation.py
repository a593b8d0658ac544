"""What joining means, on one page: who sees what, what stays for ever, what a round costs.

Made from the terms alone. Its digest is what a member signs as consent.
"""

from __future__ import annotations

from hansa.cli import costs
from hansa.cli.console import clock
from hansa.protocol.terms import terms_digest
from hansa.records import Terms

ON_CHAIN = (
    "addresses, public keys, reputation and standing of all members",
    "of each update: SHA-256, number of training rows, training time, when it was made",
    "who held which updates, every ballot and its ranking, every vote",
    "who was selected, who led, who was slashed and why",
    "SHA-256 of every model; never a model, an update or data",
)
"""What the contract's events and calldata hold, and nobody can delete."""


def rows(terms: Terms, members: int) -> list[tuple[str, str]]:
    """Label and sentence of each line; a line that goes on has no label. `members` of a round, for its costs."""
    up, model = costs.update_bytes(terms), costs.model_bytes(terms)
    gas = sum(costs.gas_of_a_round(terms, members).values())
    return [
        ("Your data", "never leave your machine. What was learned from them does, as an update."),
        ("Your update", "is read by each member of its round, once all are committed."),
        ("", "One curious member is enough: no coalition is needed."),
        ("", "An update can give away training data (gradient inversion, membership inference)."),
        (
            "The store",
            "sees sizes, times and how evaluators valued each update. Updates and models are sealed.",
        ),
        ("", _retention(terms)),
        ("The leader", "sees nothing that other members do not see; they all check its result."),
        ("Outsiders", "see what is on the chain, and nothing else."),
        ("The chain", "keeps for ever, and nobody can delete:"),
        *(("", f"- {line}") for line in ON_CHAIN),
        ("The model", "of each round is sealed to the members of that round."),
        ("Diff. privacy", _noise(terms)),
        ("Poisoning", _protection(terms)),
        (
            "A round costs",
            f"at most {_size(up)} up and {_size((members - 1) * up + model)} down for a member; about {gas:,} gas "
            f"for all {members}; at most {clock(costs.longest_round(terms))}.",
        ),
    ]


def page(terms: Terms, members: int) -> str:
    """The page as plain text, with the digests of terms and app."""
    names = f"terms sha256 {terms_digest(terms).hex()}\napp sha256 {terms.app.hex()}"
    head = f"{terms.name}, {terms.scheme.upper()}\n{names}"
    return head + "\n\n" + "".join(f"{label:<15}{text}\n" for label, text in rows(terms, members))


def _retention(terms: Terms) -> str:
    if terms.retain_rounds:
        return f"What a round put there, its authors delete {terms.retain_rounds} rounds after its last use."
    return "Nothing in it is ever deleted."


def _noise(terms: Terms) -> str:
    if terms.privacy == "off":
        return "OFF: updates carry no noise, and there is no bound on what they give away."
    return terms.privacy


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
