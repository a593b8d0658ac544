"""`deploy/` as far as it can be tried without containers: files that fit together, a script, a fork's EVM."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from eth.chains.base import MiningChain
from eth.consensus import NoProofConsensus
from eth.db.atomic import AtomicDB
from eth.vm.forks import BerlinVM, LondonVM
from eth.vm.message import Message
from eth.vm.transaction_context import BaseTransactionContext

from hansa.doctor.chain import SOUND
from hansa.ledger import artefact
from hansa.ledger.binding import parameter_fields
from hansa.ledger.evm import CALL_GAS

DEPLOY = Path(__file__).parents[2] / "deploy"
MADE = json.loads((DEPLOY / "qbft.json").read_text())
GENESIS = MADE["genesis"]
FORKS = (("londonBlock", LondonVM), ("berlinBlock", BerlinVM))
"""Newest first: Besu's name of a fork, and py-evm's."""

BESU = """#!/bin/sh
# Stands for `docker run ... besu operator generate-blockchain-config`.
echo "$@" > called
to=network/made
mkdir -p $to/keys
for k in 1 2 3 4; do
    mkdir $to/keys/0x000$k
    echo 0xsecret$k > $to/keys/0x000$k/key
    printf "0x%0128d" $k > $to/keys/0x000$k/key.pub
done
echo "{}" > $to/genesis.json
"""


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / name).read_text())


def test_the_genesis_is_of_qbft_without_fees_and_names_no_validator() -> None:
    config = GENESIS["config"]
    assert config["zeroBaseFee"] is True
    assert config["londonBlock"] == 0, "before London there is no base fee, and fees are asked for otherwise"
    assert set(config["qbft"]) == {"blockperiodseconds", "epochlength", "requesttimeoutseconds"}
    assert config["qbft"]["requesttimeoutseconds"] > config["qbft"]["blockperiodseconds"]
    assert "extraData" not in GENESIS, "Besu's tool writes the validators there"
    assert GENESIS["alloc"] == {}
    assert MADE["blockchain"]["nodes"] == {"generate": True, "count": 4}
    assert bytes.fromhex(GENESIS["mixHash"][2:]) == b"ctical byzantine fault tolerance", (
        "by which Besu knows it"
    )
    assert int(GENESIS["gasLimit"], 16) >= 3 * CALL_GAS


def test_the_contract_deploys_on_the_fork_of_the_genesis() -> None:
    config = GENESIS["config"]
    fork = next(machine for name, machine in FORKS if config.get(name) == 0)
    machine = fork.configure(consensus_class=NoProofConsensus)
    chain = MiningChain.configure(vm_configuration=((0, machine),), chain_id=config["chainId"])
    limit = int(GENESIS["gasLimit"], 16)
    begun = chain.from_genesis(AtomicDB(), {"timestamp": 1, "gas_limit": limit, "difficulty": 1})
    state = begun.get_vm().state
    sender, contract = bytes(19) + b"\x01", bytes(19) + b"\x02"
    code = artefact.creation_code(parameter_fields(SOUND), (), bytes(32))
    message = Message(
        gas=CALL_GAS, to=b"", sender=sender, value=0, data=b"", code=code, create_address=contract
    )
    context = BaseTransactionContext(gas_price=0, origin=sender)
    computation = state.computation_class.apply_create_message(state, message, context)
    assert not computation.is_error
    assert 20_000 < len(state.get_code(contract)) <= config["contractSizeLimit"]


def test_validators_differ_in_name_port_and_folder_only() -> None:
    services = read("compose.yaml")["services"]
    validators = [services[f"validator{k}"] for k in (1, 2, 3, 4)]
    for k, validator in enumerate(validators, start=1):
        assert validator["command"] == validators[0]["command"]
        assert validator["ports"] == [f"127.0.0.1:{8544 + k}:8545"]
        assert f"./network/validator{k}:/data" in validator["volumes"]
        assert validator["networks"]["consortium"]["ipv4_address"] == f"172.30.0.1{k}"
    assert {"--min-gas-price=0", "--profile=ENTERPRISE"} <= set(validators[0]["command"])


@pytest.mark.parametrize("name", ["compose.yaml", "members.yaml"])
def test_nothing_is_open_but_on_loopback_and_no_secret_is_written(name: str) -> None:
    for service in read(name)["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        for key, value in service.get("environment", {}).items():
            assert not re.search("KEY|PASSWORD", key) or value.startswith("${STORE_")


def test_members_find_the_services() -> None:
    services = read("compose.yaml")["services"]
    members = read("members.yaml")["services"]
    assert len(members) == 4
    for member in members.values():
        given = member["environment"]
        hosts = re.findall(r"http://(\w+):", given["HANSA_RPC"] + " " + given["HANSA_STORE"])
        assert hosts == ["validator1", "validator2", "store"]
        assert set(hosts) <= set(services)
        assert (DEPLOY / member["build"]["context"] / member["build"]["dockerfile"]).is_file()


def test_what_the_dockerfile_copies_is_there() -> None:
    for line in re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE):
        assert all((DEPLOY.parent / word).exists() for word in line.split())


def test_the_script_makes_a_network_once(tmp_path: Path) -> None:
    for name in ("network.sh", "qbft.json"):
        (tmp_path / name).write_bytes((DEPLOY / name).read_bytes())
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "docker").write_text(BESU)
    (programs / "docker").chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}

    def run() -> subprocess.CompletedProcess[str]:
        words = ["sh", str(tmp_path / "network.sh")]
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)

    done = run()
    assert done.returncode == 0, done.stderr
    called = (tmp_path / "called").read_text()
    assert "operator generate-blockchain-config --config-file=/deploy/qbft.json" in called
    lists = set()
    for k in (1, 2, 3, 4):
        folder = tmp_path / "network" / f"validator{k}"
        assert (folder / "key").read_text() == f"0xsecret{k}\n"
        assert (folder / "key").stat().st_mode & 0o077 == 0
        lists.add((folder / "static-nodes.json").read_text())
    (listed,) = lists
    for k, enode in enumerate(json.loads(listed), start=1):
        assert re.fullmatch(rf"enode://[0-9a-f]{{127}}{k}@172\.30\.0\.1{k}:30303", enode)
    assert (tmp_path / "network" / "genesis.json").exists()
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    settings = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines())
    assert len(settings["STORE_PASSWORD"]) == 32
    wanted = set(re.findall(r"\$\{(\w+):", (DEPLOY / "compose.yaml").read_text()))
    assert wanted <= set(settings)

    again = run()
    assert again.returncode == 1
    assert "is there already" in again.stderr


def test_what_it_makes_is_never_committed() -> None:
    ignored = (DEPLOY.parent / ".gitignore").read_text().splitlines()
    assert {"deploy/network/", "deploy/.env", "deploy/members/"} <= set(ignored)
