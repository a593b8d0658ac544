"""`hansa report` and `hansa ui` on folders of real runs: finished, killed, older, none, and while one goes on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.e2e.commands import DONE, driven, hansa, result
from tests.shared import embedded, found, served

from hansa import encoding
from hansa.report.folder import RunFacts
from hansa.runfolder import as_json, read_lines

pytestmark = pytest.mark.slow

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
FAST = (
    *("--members", "5", "--rounds", "2", "--set", "selection.keep=4"),
    *("--set", "simulation.malicious={ m3 = 'sign-flip:5' }"),
)
MISCONFIGURED = 2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def made(place: Path) -> Path:
    """A run that nobody disturbed, and what it printed in `printed`."""
    done = hansa("run", DIGITS, *FAST, "--out", "made", cwd=place)
    assert done.returncode == DONE, done.stderr
    (place / "printed").write_text(done.stdout)
    return place / "made"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def facts(folder: Path) -> dict[str, Any]:
    return as_json(RunFacts(folder).read())


def test_a_run_leaves_its_report_and_says_where(place: Path, made: Path) -> None:
    assert "made/report.html" in (place / "printed").read_text()
    page = (made / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert [row["round"] for row in read_lines(made / "seconds.jsonl")] == [1, 2]
    (one,) = result(hansa("report", made, "--json", cwd=place))["runs"]
    assert (one["state"], one["final"], one["scheme"]) == ("stopped", 2, "plaintext")
    summary = json.loads((made / "summary.json").read_text())
    assert one["rounds"][-1]["value"] == pytest.approx(summary["accuracy"]["joint"], abs=1e-6)
    assert one["baselines"]["pooled"][-1] == summary["accuracy"]["pooled"]
    assert [p["hostile"] for p in one["parties"]] == ["", "", "", "sign-flip:5", ""]
    assert sum(gas for _, gas in one["gas_by_call"]) == summary["gas"] == sum(c["gas"] for c in one["costs"])
    assert all(len(r["matrix"]) == 5 for r in one["rounds"])
    took = {c["phase"]: c["seconds"] for c in one["costs"]}
    assert took["COMMIT"] > 0
    update = next(f for f in one["flows"] if f["what"] == "one member's update")
    assert update["count"] == 10
    assert update["bytes"] > 10_000


def test_an_audit_marks_what_it_checked(run: Path) -> None:
    assert {link["verdict"] for link in facts(run)["evidence"]} == {"unchecked"}
    before = (run / "report.html").read_text()
    assert hansa("audit", run, cwd=run.parent).returncode == DONE
    assert (run / "report.html").read_text() != before
    links = {link["title"]: link["verdict"] for link in facts(run)["evidence"]}
    assert links.pop("Origin") == "unchecked"
    assert links.pop("Initial model") == "attested"
    assert set(links.values()) == {"verified"}
    assert "Other checks" not in links

    told = json.loads((run / "audit.json").read_text())
    (run / "audit.json").write_text(json.dumps(told | {"head": "00" * 32}))
    assert facts(run)["audited"] is None


def test_a_finding_is_shown_as_failed(run: Path) -> None:
    model = run / "model.safetensors"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(bytes(data))
    assert hansa("audit", run, cwd=run.parent).returncode == 1
    one = facts(run)
    assert {link["title"] for link in one["evidence"] if link["verdict"] == "failed"} == {"Model"}
    assert any("model.safetensors" in finding for finding in one["audited"]["findings"])


def test_several_runs_on_one_page(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "other")
    done = hansa("report", made, "other", "--out", "both.html", cwd=tmp_path)
    assert done.returncode == DONE, done.stderr
    assert "both.html" in done.stdout
    assert (tmp_path / "both.html").read_text().count('"subject":') == 2
    assert not (tmp_path / "report.html").exists()


def test_a_killed_run_is_shown_as_far_as_it_came_and_goes_on(tmp_path: Path) -> None:
    killed = driven(260, signal.SIGKILL, "run", DIGITS, *FAST, "--out", "run", cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    folder = tmp_path / "run"
    one = facts(folder)
    assert (one["state"], one["finished"]) == ("killed", False)
    assert one["rounds"][-1]["outcome"] == "running"
    assert hansa("report", folder, cwd=tmp_path).returncode == DONE
    assert (folder / "report.html").is_file()
    assert hansa("run", DIGITS, *FAST, "--out", "run", "--resume", cwd=tmp_path).returncode == DONE
    assert facts(folder)["state"] == "stopped"


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    for name in ("report", "ui"):
        done = hansa(name, tmp_path, cwd=tmp_path)
        assert done.returncode == MISCONFIGURED
        assert "holds no run" in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_another_version_is_met_with_a_paragraph_and_left_alone(run: Path) -> None:
    told = encoding.decode((run / "run.cbor").read_bytes())
    terms = encoding.decode(told["terms"])
    del terms["aggregation"]
    (run / "run.cbor").write_bytes(encoding.encode(told | {"terms": encoding.encode(terms)}))
    before = (run / "report.html").read_bytes()
    for name in ("report", "status"):
        done = hansa(name, run, cwd=run.parent)
        assert done.returncode == MISCONFIGURED
        assert "Another version of Hansa may have made this run" in done.stderr
    assert (run / "report.html").read_bytes() == before


def test_a_page_that_cannot_be_written_costs_the_run_nothing(run: Path) -> None:
    (run / "report.html").unlink()
    (run / "report.html").mkdir()
    (run / "report.html" / "in the way").touch()
    again = hansa("run", DIGITS, *FAST, "--out", "run", "--resume", cwd=run.parent)
    assert again.returncode == DONE, again.stderr
    assert "report.html could not be written" in again.stdout
    assert "hansa report run" in again.stdout


def started(*words: Any, cwd: Path) -> subprocess.Popen[str]:
    code = "from hansa.cli.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def address_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    text = ""
    while not text.endswith("}\n"):
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        text += line
    return json.loads(text)["url"]


def asking(address: str) -> Callable[[], dict[str, Any]]:
    def ask() -> dict[str, Any]:
        connection = HTTPConnection(urlsplit(address).netloc, timeout=60)
        connection.request("GET", "/facts.json")
        told = json.loads(connection.getresponse().read())
        connection.close()
        return told["runs"][0]

    return ask


def test_the_live_page_follows_a_run_of_another_process(tmp_path: Path) -> None:
    running = started("run", DIGITS, *FAST, "--out", "run", cwd=tmp_path)
    serving = None
    try:
        while not (tmp_path / "run" / "chain.sqlite").exists():
            assert running.poll() is None, running.communicate()
            time.sleep(0.05)
        serving = started("ui", "run", "--port", "0", "--json", cwd=tmp_path)
        ask = asking(address_of(serving))
        seen: list[tuple[int, int]] = []
        states = set()
        while True:
            one = ask()
            seen.append((one["round"], one["anchor"]["block"]))
            states.add(one["state"])
            if one["finished"] and one["running"] is False and running.poll() is not None:
                break
            time.sleep(0.2)
        assert seen == sorted(seen)
        assert len(set(seen)) > 1, "it went on while it was looked at"
        assert "running" in states
        assert (tmp_path / "run" / "report.html").is_file()
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(timeout=30) == DONE
    finally:
        for process in (running, serving):
            if process is not None:
                process.kill()
                process.communicate()


def test_a_federation_is_shown_by_its_chain_and_store(tmp_path: Path) -> None:
    with embedded(tmp_path) as chain:
        shared = found(chain, tmp_path, lambda: chain.time, members=5)
        shared.start()
        shared.run(until=lambda state: state.round == 2)
        with served(chain) as url:
            where = ("--rpc", url, "--store", shared.store, "--port", "0", "--json")
            serving = started("ui", shared.name, *where, cwd=tmp_path)
            try:
                one = asking(address_of(serving))()
            finally:
                serving.kill()
                serving.communicate()
    assert (one["subject"], one["kind"], one["round"]) == (shared.name, "federation", 2)
    assert [r["outcome"] for r in one["rounds"]] == ["final", "running"]
    assert len(one["rounds"][0]["matrix"]) == 5
    assert any("Accuracy" in text for text in one["absent"])


def test_two_pages_on_one_port(made: Path) -> None:
    serving = started("ui", made, "--port", "0", "--json", cwd=made.parent)
    try:
        port = urlsplit(address_of(serving)).port
        done = hansa("ui", made, "--port", port, cwd=made.parent)
        assert done.returncode == MISCONFIGURED
        assert f"port {port} of this machine is in use" in done.stderr
        assert "--port" in done.stderr
    finally:
        serving.kill()
        serving.communicate()
