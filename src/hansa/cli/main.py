"""Entry point of `hansa`: the commands, and what an error looks like."""

from __future__ import annotations

import sys
import traceback
from importlib.metadata import version as version_of
from typing import Annotated

import typer

from hansa import errors
from hansa.cli import (
    attest,
    audit,
    compare,
    doctor,
    enclave,
    export,
    founding,
    halves,
    keys,
    leaving,
    membership,
    motions,
    mpc,
    new,
    node,
    party,
    protocols,
    reports,
    run,
    sandbox,
    status,
    terms,
    ui,
)
from hansa.cli.connection import configured
from hansa.cli.console import show_error

DONE, FAILED, MISCONFIGURED, LATER, HALTED, INTERRUPTED = 0, 1, 2, 3, 4, 130

EPILOG = """\b
exit codes
  0  done; for audit: every check holds
  1  failed: an audit found something, or bytes are not what they claim to be
  2  wrong command line, or files of yours that cannot be used
  3  something is unavailable, try again later; for audit: some checks could not be made
  4  the federation is paused: too many rounds in a row failed
130  interrupted

\b
--traceback, anywhere on the line, shows where an error came from.
Colours and live progress appear on a terminal only; NO_COLOR turns colours off.
"""

app = typer.Typer(
    name="hansa",
    help="Organisations that do not trust each other train one model together, with evidence on a chain.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hansa {version_of('hansa')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


app.command("run", short_help="Train with simulated members, end to end.")(run.run)
app.command("status", short_help="Show where a run stands and whom it waits for.")(configured(status.status))
app.command("ui", short_help="Serve the report of a run or a federation, live.")(configured(ui.ui))
app.command("audit", short_help="Replay a run or a federation and check everything.")(configured(audit.audit))
app.command("report", short_help="Show a run on one page, or several beside each other.")(reports.report)
app.command("export", short_help="Write the current model as safetensors.")(configured(export.export))
app.command("check", short_help="Check an app and its terms; estimate the costs.")(terms.check)
app.command("deploy", short_help="Put a federation on a chain, its terms into a store.")(
    configured(founding.deploy)
)
app.command("invite", short_help="Let addresses join. The owner's command.")(configured(founding.invite))
app.command("join", short_help="Become a member.")(configured(membership.join))
app.command("leave", short_help="Leave a federation.")(configured(leaving.leave))
app.command("away", short_help="Sit rounds out.")(configured(leaving.away))
app.command("back", short_help="Take part again.")(configured(leaving.back))
app.command("propose", short_help="Put a motion to the members: invite, exclude, replace...")(
    configured(motions.propose)
)
app.command("vote", short_help="Sign a motion of others.")(configured(motions.vote))
app.command("motions", short_help="Show the motions that wait for signatures.")(configured(motions.motions))
app.command("start", short_help="Begin the first round. The owner's command.")(configured(founding.start))
app.command("node", short_help="Take part until the federation stops.")(configured(node.node))
app.command("kgc", short_help="Be a key centre of scheme secagg.")(configured(halves.kgc))
app.command("server", short_help="Be a parameter server of scheme secagg.")(configured(halves.server))
app.command("party", short_help="Be a computing party of scheme mpc.")(configured(party.party))
app.command("enclave", short_help="Start an enclave of scheme tee here, and judge its quote.")(
    configured(enclave.enclave)
)
app.command("explain", short_help="Say who sees what, and what stays for ever.")(terms.explain)
app.command("compare", short_help="Run published systems under attack, over many seeds.")(compare.compare)
app.command("protocols", short_help="Show the five published systems, step by step.")(protocols.protocols)
app.command("new", short_help="Write a federation to begin with.")(new.new)
app.command("doctor", short_help="Check this machine, a chain and a store before a node runs.")(
    configured(doctor.doctor)
)
app.command("sandbox", short_help="Run a chain and a store for members on this machine.")(sandbox.sandbox)
app.add_typer(attest.app, name="attest", short_help="Look into a quote of SGX or TDX, and judge it by hand.")
app.add_typer(mpc.app, name="mpc", short_help="Look into training on shares, scheme mpc.")
app.add_typer(keys.app, name="keys", short_help="Make a member's key file; see what is public of one.")


def exit_code(error: errors.HansaError) -> int:
    """What a command exits with after an error."""
    match error:
        case errors.Misconfigured():
            return MISCONFIGURED
        case errors.Unavailable():
            return LATER
        case _:
            return FAILED


def main() -> None:
    """Run the command line and exit."""
    arguments = [a for a in sys.argv[1:] if a != "--traceback"]
    error: BaseException
    try:
        app(args=arguments)
        return
    except errors.HansaError as e:
        error, code, message, hint = e, exit_code(e), str(e), e.hint
    except KeyboardInterrupt as e:
        error, code, message, hint = e, INTERRUPTED, "interrupted", ""
    except Exception as e:
        error, code, message = e, FAILED, f"{type(e).__name__}: {e}"
        hint = "This is a fault of Hansa: please report it, with what --traceback shows."
    if len(arguments) < len(sys.argv) - 1:
        traceback.print_exception(error)
    show_error(message, hint)
    sys.exit(code)
