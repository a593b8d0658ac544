"""How a run begins and ends on the screen."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from hansa.cli.console import columns, command, grid, percent, short
from hansa.config import FederationFile
from hansa.protocol.attested import NO_PROTECTION
from hansa.report.folder import PAGE
from hansa.summary import MODEL, SUMMARY, MemberRow, Summary


def first_line(file: FederationFile) -> Text:
    """Name, scheme, simulated, seed, members, and the malicious ones among them."""
    simulated = file.simulation
    hostile = ", ".join(f"{name} {attack}" for name, attack in simulated.malicious)
    text = Text.assemble((file.draft.name, "bold"), " · ", (file.draft.scheme.upper(), "bold"))
    if file.preset is not None:
        style = "bold red" if file.preset.unsafe else ""
        text.append(" · ").append(file.preset.label, style=style)
    text.append(f" · simulated · seed {simulated.seed} · {simulated.members} members")
    return text.append(
        f", {len(simulated.malicious)} malicious: {hostile}" if hostile else ", none malicious"
    )


def show_summary(out: Console, summary: Summary, *, verbose: bool, anchors: Path | None) -> None:
    """The end of `hansa run`."""
    style = "" if summary.finished else "bold yellow"
    failed = f"; {summary.failed_rounds} rounds failed" if summary.failed_rounds else ""
    out.print()
    out.print(Text(f"{_capital(summary.outcome)}{failed}. {summary.seconds:.0f} s.", style=style))
    if summary.rounds and summary.metric:
        _show_accuracy(out, summary)
    _show_members(out, summary)
    _show_failures(out, summary)
    if verbose:
        _show_gas(out, summary)
    out.print()
    _show_rest(out, summary, anchors)


def _show_accuracy(out: Console, summary: Summary) -> None:
    a = summary.accuracy
    hostile = sum(bool(m.hostile) for m in summary.members)
    unprotected = f"plain FedAvg, unprotected, {hostile} hostile" if hostile else "plain FedAvg"
    out.print()
    if a.pooled is None and a.alone_mean is None:
        said = Text(f"{_capital(summary.metric)} as the app reports it  ", style="bold")
        out.print(said.append(percent(summary.metric, a.joint), style="bold green"))
        return
    out.print(Text(f"{_capital(summary.metric)} on a test set that no member holds", style="bold"))
    table = columns(("", "left"), ("", "right"))
    table.show_header = False
    table.add_row(
        Text("  this federation", style="bold"), Text(percent(summary.metric, a.joint), style="bold green")
    )
    table.add_row("  each member alone, mean", percent(summary.metric, a.alone_mean))
    if summary.scheme != "mpc":
        table.add_row(f"  {unprotected}", percent(summary.metric, a.fedavg_unprotected))
    table.add_row("  all data pooled", percent(summary.metric, a.pooled))
    out.print(table)


def _show_members(out: Console, summary: Summary) -> None:
    out.print()
    heads = [("member", "left"), ("rows", "right"), ("left out", "right"), ("reputation", "right")]
    compared = any(row.alone is not None or row.joint is not None for row in summary.members)
    if compared:
        heads.append((f"own {summary.metric}, alone -> joint", "left"))
    table = columns(*heads)
    for row in summary.members:
        left_out = f"{row.left_out} of {summary.rounds}"
        own = (_own(summary, row),) if compared else ()
        table.add_row(row.name, str(row.rows), left_out, str(row.reputation), *own)
    out.print(table)
    remarks = [(row, text) for row in summary.members if (text := _remarks(row))]
    if remarks:
        out.print()
        notes = grid()
        for row, text in remarks:
            notes.add_row(Text(row.name, style="yellow" if row.hostile else ""), text)
        out.print(notes)


def _show_failures(out: Console, summary: Summary) -> None:
    """Why members sent nothing, each reason once."""
    whose: dict[str, list[str]] = {}
    for name, text in summary.failures:
        whose.setdefault(text, []).append(name)
    for text, names in whose.items():
        out.print()
        out.print(Text(", ".join(names), style="yellow").append(f"  {text}", style=""))


def _own(summary: Summary, row: MemberRow) -> Text:
    if row.alone is None and row.joint is None:
        return Text("")
    alone, joint = percent(summary.metric, row.alone), percent(summary.metric, row.joint)
    text = Text(f"{alone:>7} -> {joint:>7}")
    return text.append("  WORSE", style="bold red") if row.worse else text


def _remarks(row: MemberRow) -> str:
    """Why a member was left out and lost reputation; behind it, what the simulation had it do."""
    parts = [f"{reason} in {n} rounds" if n > 1 else f"{reason} once" for reason, n in row.why]
    parts += [f"{fault} ({n})" for fault, n in row.slashed if fault not in dict(row.why)]
    if row.hostile:
        return "; ".join(parts or ["never left out"]) + f" (malicious: {row.hostile})"
    return "; ".join(parts)


def _show_gas(out: Console, summary: Summary) -> None:
    out.print()
    table = columns(("gas by call", "left"), ("", "right"), ("", "right"))
    for name, gas in sorted(summary.gas_by_call, key=lambda item: -item[1]):
        table.add_row(name, f"{gas:,}", f"{100 * gas / summary.gas:.0f} %")
    table.add_row(Text("total", style="bold"), f"{summary.gas:,}", "")
    out.print(table)


def _gas(summary: Summary) -> str:
    rounds = max(1, summary.rounds + summary.failed_rounds)
    spent = sum(gas for name, gas in summary.gas_by_call if name not in SET_UP)
    return f"{summary.gas:,} in all, {spent // rounds // len(summary.members):,} a member and round"


SET_UP = ("deploy", "invite", "join", "start")
"""Calls that are made once, not every round."""


def _show_rest(out: Console, summary: Summary, anchors: Path | None) -> None:
    table = grid()
    a = summary.anchors
    table.add_row("gas", _gas(summary))
    if summary.preset is not None:
        table.add_row(
            "preset", Text(summary.preset, style="bold yellow" if "UNSAFE" in summary.preset else "")
        )
    table.add_row("privacy", summary.privacy)
    if summary.protection is not None:
        style = "bold yellow" if summary.protection == NO_PROTECTION else ""
        table.add_row("enclaves", Text(summary.protection, style=style))
    files = f"{summary.run}: {SUMMARY}, {MODEL}" if summary.rounds else f"{summary.run}: {SUMMARY}"
    table.add_row("files", files)
    if (page := Path(summary.run) / PAGE).is_file():
        table.add_row("report", f"{page}: open it in a browser; `hansa ui` serves it live")
    table.add_row("model", f"sha256 {summary.model_digest.hex()}")
    where = f"saved in {anchors}" if anchors else "kept nowhere else: --anchors FILE saves it"
    table.add_row(
        "anchor",
        f"chain {a.chain_id}, contract 0x{a.contract.hex()}, terms {short(a.terms)}, "
        f"block {a.block} {short(a.hash)}; {where}",
    )
    trust = ("--trust", anchors) if anchors else ()
    table.add_row("next", command("hansa", "audit", summary.run, *trust))
    out.print(table)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
