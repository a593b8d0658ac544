"""What joining means, on one page: who sees what, what stays for ever, what a round costs.

Made from the terms alone. Its digest is what a member signs as consent.
"""

from __future__ import annotations

from hansa.cli import costs
from hansa.cli.console import clock
from hansa.protocol.attested import NO_PROTECTION, protection
from hansa.protocol.mpc import mpc_of
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
    data = [("Your data", "never leave your machine. What was learned from them does, as an update.")]
    return [
        *(data if terms.mpc is None else _shared(terms)),
        *(_updates(terms) if terms.mpc is None else ()),
        ("Retention", _retention(terms)),
        ("Outsiders", "see what is on the chain, and nothing else."),
        ("The chain", "keeps for ever, and nobody can delete:"),
        *(("", f"- {line}") for line in _on_chain(terms)),
        ("The model", _readers(terms)),
        ("Diff. privacy", _noise(terms)),
        ("Poisoning", _protection(terms)),
        ("A round costs", _costs(terms, members)),
    ]


def page(terms: Terms, members: int) -> str:
    """The page as plain text, with the digests of terms and app."""
    names = f"terms sha256 {terms_digest(terms).hex()}\napp sha256 {terms.app.hex()}"
    head = f"{terms.name}, {terms.scheme.upper()}\n{names}"
    return head + "\n\n" + "".join(f"{label:<15}{text}\n" for label, text in rows(terms, members))


def _updates(terms: Terms) -> list[tuple[str, str]]:
    """Who sees single updates, the store and the leader in particular."""
    if terms.secagg is not None:
        where = (
            "by the members in it" if terms.tee is None else "in a server's enclave, for the round's members"
        )
        broken = []
        if terms.tee is not None:
            why = f"They are {NO_PROTECTION}." if protection(terms) == NO_PROTECTION else ""
            broken = [("", f"Who breaks an enclave sees sums, and no single update. {why}".strip())]
        return [
            (
                "Your update",
                "is seen by nobody: it is masked, and only sums of a round's updates are opened.",
            ),
            (
                "",
                f"A sum has at least {terms.training.min_members} of them, and is opened {where}.",
            ),
            *broken,
            ("", "A key centre and a server together could open every single update, now or later."),
            ("", "The other members of a sum, all together, could compute yours."),
            ("", "Sum and model can give away training data too."),
            ("The store", "sees sizes and times. What lies there is masked, encrypted or sealed."),
            ("Servers", "and key centres see ciphertexts only. Each answers once a round."),
        ]
    if terms.tee is not None:
        return _in_enclaves(terms)
    return [
        ("Your update", "is read by each member of its round, once all are committed."),
        ("", "One curious member is enough: no coalition is needed."),
        ("", "An update can give away training data (gradient inversion, membership inference)."),
        (
            "The store",
            "sees sizes, times and how evaluators valued each update. Updates and models are sealed.",
        ),
        ("The leader", "sees nothing that other members do not see; they all check its result."),
    ]


def _shared(terms: Terms) -> list[tuple[str, str]]:
    """Who sees what of the rows that are shared."""
    agreed = mpc_of(terms)
    parties = len(terms.govern.seats)
    both = "any two of them" if agreed.protocol == "ABY3" else "both of them"
    layers = [("", f"- {line}") for line in agreed.network]
    opened = [
        (
            "",
            f"- {r.boundary}: to {'every party' if r.to < 0 else f'party {r.to}'}, once a {r.per}, "
            + (f"clipped at {r.clip:g}, noise {r.noise:g}" if r.noise else "AS IT IS, with no noise"),
        )
        for r in agreed.reveals
    ]
    leaks = [("", "THE TERMS ACCEPT LEAKAGE: see docs/mpc.md for what such boundaries gave away.")]
    return [
        (
            "Your data",
            f"leave your machine as shares for {parties} computing parties; one share tells nothing.",
        ),
        ("", f"{both.capitalize()} together could read all rows of all owners, now or later."),
        ("", "The parties are trusted to compute as agreed: a wrong training would pass."),
        ("The network", "has these layers:"),
        *layers,
        ("Opened", "is nothing while training." if not opened else "while training:"),
        *opened,
        *(leaks if agreed.accept_leakage else ()),
        ("The store", "sees sizes and times, and how many rows each owner has. What lies there is sealed."),
    ]


def _in_enclaves(terms: Terms) -> list[tuple[str, str]]:
    hosts = len(terms.govern.seats) or terms.govern.committee
    if protection(terms) == NO_PROTECTION:
        held = [
            ("", f"But they are {NO_PROTECTION}."),
            (
                "",
                "Each host can read every update that was sealed to its enclave. For trials, not for real data.",
            ),
        ]
    else:
        held = [
            ("", "Members pinned the program; a quorum of them checks the processor's word that it runs."),
            (
                "",
                "Who breaks the processor of one host (side channels, a probe on its memory bus) reads them all.",
            ),
        ]
    return [
        (
            "Your update",
            f"is opened inside enclaves only: those of the {hosts} members with a seat, the hosts.",
        ),
        *held,
        ("", "The model that comes out can give away training data too."),
        ("The store", "sees sizes, times, and quotes with what identifies a processor. The rest is sealed."),
        (
            "The leader",
            "hands sealed updates to its enclave, which signs the result. Members check the signature,",
        ),
        ("", "the quote and the set; they cannot make the result again."),
    ]


def _on_chain(terms: Terms) -> tuple[str, ...]:
    found: tuple[str, ...] = ON_CHAIN
    if terms.tee is not None:
        found = *found, "SHA-256 of what each enclave's quote proved, and who vouched for it"
    if terms.mpc is not None:
        found = (
            *found,
            "SHA-256 of shares and of their parts; which party refused whose, what was opened how often",
        )
    if terms.secagg is not None:
        found = *found, "SHA-256 of keys, certificates, openings and halves; whose sums were refused"
    return found


def _readers(terms: Terms) -> str:
    if terms.mpc is not None:
        return (
            "is put together by the owners whose rows were trained on. The computing parties do not see it."
        )
    if terms.secagg is not None and terms.tee is None:
        return "of each round is opened by those in its sum; others ask for it, as often as the terms say."
    return "of each round is sealed to the members of that round."


def _costs(terms: Terms, members: int) -> str:
    gas = sum(costs.gas_of_a_round(terms, members).values())
    if terms.mpc is not None:
        return (
            f"{costs.share_bytes(terms)} bytes up for each number that you share, and as many down for each of the "
            f"others'; about {gas:,} gas for all {members}; at most {clock(costs.longest_round(terms))}."
        )
    verifies, other = costs.down_bytes(terms, members)
    down = f"{_size(verifies)} down for a member"
    if other != verifies:
        down = f"{_size(other)} down for a member, {_size(verifies)} down with a seat"
    return (
        f"at most {_size(costs.update_bytes(terms))} up and {down}; about {gas:,} gas for all {members}; "
        f"at most {clock(costs.longest_round(terms))}."
    )


def _retention(terms: Terms) -> str:
    if terms.retain_rounds:
        return f"What a round put into the store, its authors delete {terms.retain_rounds} rounds after its last use."
    return "Nothing in the store is ever deleted."


def _noise(terms: Terms) -> str:
    if terms.mpc is not None:
        return (
            "OFF: the model carries no noise."
            if not any(r.noise for r in terms.mpc.reveals)
            else ("at the boundaries above only: the model carries no noise.")
        )
    if terms.privacy == "off":
        return "OFF: updates carry no noise, and there is no bound on what they give away."
    return terms.privacy


def _protection(terms: Terms) -> str:
    if terms.mpc is not None:
        return "nobody sees rows, so nobody can judge them: an owner can poison the model with rows that it made up."
    if terms.selection.rule == "none":
        where = " in the enclave" if terms.tee is not None and terms.secagg is None else ""
        return f"no update is judged; {terms.aggregation.rule}{where} alone limits what one can do."
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
