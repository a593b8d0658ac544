"""Regenerate the contract's artefact: `python -m hansa.ledger.compile`. Needs vyper (extra `dev`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("Federation.vy")
FOLDER = Path(__file__).with_name("contract")


def compiled(source: str) -> tuple[list[dict[str, Any]], str]:
    """ABI and creation bytecode (hex, 0x) of Vyper source; its pragmas fix compiler, EVM and optimiser."""
    from vyper.compiler import compile_code

    output = compile_code(source, output_formats=["abi", "bytecode"])
    return output["abi"], output["bytecode"]


def main() -> None:
    """Compile the source beside this module and write the artefact."""
    abi, code = compiled(SOURCE.read_text())
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "Federation.abi.json").write_text(json.dumps(abi, indent=1) + "\n")
    (FOLDER / "Federation.bin").write_text(code + "\n")


if __name__ == "__main__":
    main()
