"""`hansa`, with a signal to itself at the n-th effect: python driver.py N SIGNAL FILE ARGUMENTS...

Effects are what a kill may fall between: entries of journals, calls to the chain, blobs and messages in a
store. Odd ones are hit before they happen, even ones after. Their number is written to FILE at the end.
"""

import os
import signal
import sys
from pathlib import Path

from hansa.cli.main import main
from hansa.ledger.evm import EvmLedger
from hansa.node.journal import Journal
from hansa.stores.onedisk import OneDisk

EFFECTS = ((Journal, "put"), (EvmLedger, "submit"), (OneDisk, "put"), (OneDisk, "put_at"))


def arm(target: int, number: int) -> list[int]:
    """Count effects; at the one numbered `target`, send ourselves the signal `number`."""
    count = [0]

    def wrap(function):
        def effect(*args, **kwargs):
            count[0] += 1
            mine = count[0]
            if mine == target and mine % 2:
                os.kill(os.getpid(), number)
            result = function(*args, **kwargs)
            if mine == target:
                os.kill(os.getpid(), number)
            return result

        return effect

    for owner, name in EFFECTS:
        setattr(owner, name, wrap(getattr(owner, name)))
    return count


if __name__ == "__main__":
    # A shell's background job inherits that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    effects = arm(int(sys.argv[1]), int(sys.argv[2]))
    file = Path(sys.argv[3])
    sys.argv[1:] = sys.argv[4:]
    try:
        main()
    finally:
        file.write_text(str(effects[0]))
