"""The shipped artefact is the compiled source, fits the chain, is documented, and speaks the errors' codes."""

from __future__ import annotations

import ast
import json
import re

import eth_abi
import pytest
from eth_hash.auto import keccak
from harness import OWNER, REFUSED, Contract, who

from hansa import errors
from hansa.ledger import artefact, binding
from hansa.ledger.compile import SOURCE, compiled
from hansa.protocol import messages as msg
from hansa.protocol.events import EVENTS
from hansa.records import Governance, Motion, Parameters, Role, Slot, Standing

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


SIGNATURE = bytes(range(64))
DIGEST = bytes(range(32))
CLAIM = msg.Claim(1, DIGEST, bytes(32), SIGNATURE)
SAID = [
    msg.Invite(who(1)),
    msg.Join(who(1), DIGEST, bytes(32), 5, Role.SERVER, SIGNATURE),
    msg.Status(3, Standing.AWAY, SIGNATURE),
    msg.Move(Motion.EXCLUDE, who(2), DIGEST, ((1, SIGNATURE), (2, SIGNATURE[::-1]))),
    msg.Start(),
    msg.Commits(1, (msg.Commit(1, 2, DIGEST, 2**255, SIGNATURE), msg.Commit(2, 2, DIGEST, 0, SIGNATURE))),
    msg.Reveals(1, (msg.Reveal(1, DIGEST),)),
    msg.Availabilities(1, (msg.Availability(1, 1 | 2 << 256 | 3 << 512 | 4 << 1000, SIGNATURE),)),
    msg.Ballots(1, ()),
    msg.Ballots(1, (msg.Ballot(1, DIGEST, SIGNATURE),)),
    msg.Openings(
        1, (msg.Opening(1, 2, 3, True, DIGEST, bytes(32)), msg.Opening(2, 1, 3, False, DIGEST, DIGEST))
    ),
    msg.Select(1, 2, 3),
    msg.Precommits(1, (msg.Precommit(1, DIGEST, SIGNATURE),)),
    msg.Propose(1, 2, DIGEST, bytes(32), SIGNATURE),
    msg.Votes(1, 2, (msg.Vote(1, True, DIGEST, SIGNATURE), msg.Vote(2, False, DIGEST, SIGNATURE))),
    msg.OpeningVotes(1, (msg.OpeningVote(1, DIGEST, SIGNATURE),)),
    msg.Record(1, 2, 3, DIGEST, SIGNATURE),
    msg.Accuse(Slot.VOTE, 1, 2, CLAIM, CLAIM),
    msg.Advance(7),
]


def test_every_call_comes_back_from_its_bytes() -> None:
    assert {type(call) for call in SAID} == set(binding.FUNCTIONS)
    for call in SAID:
        found = binding.call_of(*artefact.decode_call(artefact.encode_call(*binding.arguments(call))))
        assert repr(found) == repr(call)


def test_a_word_that_is_no_flag_stays_what_it_is() -> None:
    name, (round, items) = binding.arguments(SAID[10])
    odd = [(*items[0][:3], 2, *items[0][4:])]
    assert binding.call_of(name, (round, odd)).items[0].stop == 2
    name, (id, _, r, vs) = binding.arguments(SAID[2])
    assert binding.call_of(name, (id, 99, r, vs)).standing == 99


SAMPLES = {"uint256": 7, "bytes32": DIGEST, "bool": True, "address": who(1), "uint256[4]": (1, 0, 0, 5)}
READ = {**SAMPLES, "uint256[4]": 1 | 5 << 768}


def test_every_event_is_read_from_its_log() -> None:
    for entry in (e for e in artefact.abi() if e["type"] == "event"):
        fields = {f["name"]: str(f["type"]) for f in entry["inputs"]}
        plain = [f["type"] for f in entry["inputs"] if not f["indexed"]]
        topics = [keccak(f"{entry['name']}({','.join(fields.values())})".encode())]
        topics += [eth_abi.encode([f["type"]], [SAMPLES[f["type"]]]) for f in entry["inputs"] if f["indexed"]]
        data = eth_abi.encode(plain, [SAMPLES[kind] for kind in plain])
        kind = EVENTS[entry["name"]]
        expected = kind(**{name: READ[type_] for name, type_ in fields.items()})
        assert binding.event_of(*artefact.decode_log(topics, data)) == expected
        spoiled = [
            (topics[:-1], data),
            ([*topics, bytes(32)], data),
            (topics, data + bytes(32)),
            (topics, data + b"\0"),
        ]
        spoiled += [([*topics[:-1], topics[-1][:-1]], data)]
        for bad_topics, bad_data in spoiled:
            with pytest.raises(errors.Untrusted):
                artefact.decode_log(bad_topics, bad_data)


def test_malformed_results_are_refused() -> None:
    codes = eth_abi.encode(["uint256[]"], [[0, 9]])
    assert artefact.decode_result("commits", codes) == ((0, 9),)
    for data in (b"", codes[:-1], codes[:-32], codes + bytes(32), b"\1" + codes[1:]):
        with pytest.raises(errors.Untrusted, match="result of commits"):
            artefact.decode_result("commits", data)


def test_what_the_contract_understands_the_audit_understands() -> None:
    """A list elsewhere than usual, or bytes behind it: the contract takes that, so it must be read."""
    contract = Contract(SOUND)
    call = ("reveals", (1, ((2, DIGEST),)))
    plain = artefact.encode_call(*call)
    moved = plain[:36] + (96).to_bytes(32, "big") + bytes(32) + plain[68:]
    endless = plain[:68] + (2**255).to_bytes(32, "big") + plain[100:]
    for data in (plain, plain + b"behind", moved):
        # The round has not begun: it refuses with a reason what it could read, and without one what not.
        assert contract._transact(OWNER, contract.address, data).output[:4] == REFUSED
        assert artefact.decode_call(data) == call
    for data in (plain[:4], plain[:35], endless):
        assert contract._transact(OWNER, contract.address, data).output == b""
        with pytest.raises(errors.Untrusted, match="call of reveals"):
            artefact.decode_call(data)
