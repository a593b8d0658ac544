"""`python -m hansa.enclave --provider NAME`: an enclave that speaks with its host over standard input and output."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import suppress
from io import BufferedReader, FileIO

from hansa import errors
from hansa.enclave.providers import provider
from hansa.enclave.serving import serve

_BUFFER = 1 << 20


def main() -> int:
    """Serve the process that started this one until it goes. Exit code 2: there is no such processor here."""
    parser = argparse.ArgumentParser(prog="python -m hansa.enclave", description=__doc__)
    parser.add_argument("--provider", choices=("simulated", "gramine", "tdx"), required=True)
    options = parser.parse_args()
    try:
        quote, mode = provider(options.provider)
    except errors.Misconfigured as e:
        sys.stderr.write(f"{e}. {e.hint}\n")
        return 2
    # A host's Ctrl-C is the host's to handle; when it goes, standard input ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Nothing but answers may get to the host: what a library prints goes to standard error.
    with BufferedReader(FileIO(os.dup(0)), _BUFFER) as source, os.fdopen(os.dup(1), "wb", _BUFFER) as sink:
        os.dup2(2, 1)
        with suppress(BrokenPipeError):
            serve(source, sink, quote, mode)
    return 0


if __name__ == "__main__":
    sys.exit(main())
