"""`hansa mpc`: what training on shares will be, and what it was."""

from __future__ import annotations

import typer

from hansa.cli import computed

app = typer.Typer(no_args_is_help=True, help="Training on shares: what it was.", rich_markup_mode=None)
app.command("report", short_help="Print what each layer took, and what was opened.")(computed.report)
