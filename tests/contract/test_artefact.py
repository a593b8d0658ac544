"""The shipped artefact is the compiled source, fits the chain, is documented, and speaks the errors' codes."""

from __future__ import annotations

import ast
import json
import re

import pytest
from harness import Contract, who

from hansa import errors
from hansa.ledger import artefact
from hansa.ledger.compile import SOURCE, compiled
from hansa.protocol.events import EVENTS
from hansa.records import Governance, Parameters

SIZE_LIMIT = 24_576
"""EIP-170."""

TEXT = SOURCE.read_text()
FUNCTIONS = re.findall(r'^def (\w+)\(([^)]*)\)(?: -> ([^\n]+))?:\n    """\n(.*?)\n    """', TEXT, re.S | re.M)


def test_a_fresh_compile_gives_the_shipped_artefact() -> None:
    abi, code = compiled(TEXT)
    assert json.loads(json.dumps(abi)) == list(artefact.abi())
    assert bytes.fromhex(code[2:]) == artefact.bytecode()


def test_the_code_fits_on_any_chain() -> None:
    contract = Contract(Parameters(bytes(32), Governance.COMMITTEE), tuple(who(i) for i in range(64)))
    print(f"{contract.code_size} bytes, deployed for {contract.deployment_gas} gas with 64 seats")
    assert contract.code_size <= SIZE_LIMIT


def test_every_function_is_documented() -> None:
    assert len(FUNCTIONS) == TEXT.count("\ndef ")
    for name, arguments, result, text in FUNCTIONS:
        assert "@notice" in text, name
        named = re.findall(r"(\w+):", arguments)
        assert re.findall(r"@param (\w+)", text) == named, name
        assert ("@return" in text) == bool(result), name


def test_every_event_struct_and_public_variable_is_documented() -> None:
    lines = TEXT.split("\n")
    kinds = 0
    for number, line in enumerate(lines):
        if re.match(r"(event|struct) ", line):
            kinds += 1
            assert lines[number - 1].startswith("# "), line
            for field in lines[number + 1 :]:
                if not field.startswith("    "):
                    break
                assert re.search(r"  # .+", field), f"{line} {field}"
        elif ": public(" in line:
            assert lines[number - 1].startswith("# @notice "), line
    assert kinds > len(EVENTS)


def test_events_are_those_of_the_protocol() -> None:
    shipped = {e["name"]: [f["name"] for f in e["inputs"]] for e in artefact.abi() if e["type"] == "event"}
    assert shipped == {name: list(kind.__slots__) for name, kind in EVENTS.items()}


def test_refusals_are_the_errors() -> None:
    section = TEXT.split("# Refusals")[1].split("\n# ")[0]
    codes = {
        name: int(code) for name, code in re.findall(r"^(\w+): constant\(uint256\) = (\d+)$", section, re.M)
    }
    assert codes.pop("ACCEPTED") == 0
    body = TEXT.split("@deploy")[1]
    for name, code in codes.items():
        assert re.search(rf"\b{name}\b", body), f"{name} is never used"
        title = "".join(part.title() for part in name.split("_"))
        assert errors.REFUSALS[code].__name__ == title
    assert set(codes.values()) == set(errors.REFUSALS)


SOUND = Parameters(bytes(32), Governance.PEERS)
UNSOUND = {
    "governance": [4], "targets": [0, 17], "min_updates": [3], "min_quorum": [0], "attempts": [0], "rounds": [0],
    "penalty": [1001], "keep_permille": [0, 1001], "weight_cap": [0], "max_voids": [0], "max_absent": [0],
    "durations": [(1, 1, 1, 0, 1, 1, 1)],
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in UNSOUND.items() for v in values])
def test_unsound_terms_are_refused(field: str, value: object) -> None:
    terms = {**{f: getattr(SOUND, f) for f in SOUND.__slots__}, field: value}
    with pytest.raises(errors.BadTerms):
        Contract(Parameters(**terms))


@pytest.mark.parametrize("change", [{"committee": 0}, {"committee": 65}, {"epoch": 0}])
def test_unsound_committees_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(errors.BadTerms):
        Contract(Parameters(bytes(32), Governance.HYBRID, **change))


@pytest.mark.parametrize("governance", [Governance.SERVER, Governance.COMMITTEE])
def test_somebody_must_hold_a_seat(governance: Governance) -> None:
    with pytest.raises(errors.BadTerms):
        Contract(Parameters(bytes(32), governance))


def test_the_compiler_module_needs_no_compiler_to_be_imported() -> None:
    tree = ast.parse(SOURCE.with_name("compile.py").read_text())
    assert not [n for n in tree.body if isinstance(n, ast.ImportFrom) and str(n.module).startswith("vyper")]
