"""Apps that cannot be run are refused when they are loaded, each with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.flowers import CLIENT, PROJECT, write_app

from hansa import errors
from hansa.trainers.flower.apps import load_apps

NUMPY_CLIENT = """
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp


def client_fn(context):
    return NumPyClient().to_client()


app = ClientApp(client_fn=client_fn)
"""
SERVER_FN = """
from flwr.serverapp import ServerApp

app = ServerApp(server_fn=lambda context: None)
"""


def refused(folder: Path) -> errors.Misconfigured:
    with pytest.raises(errors.Misconfigured) as e:
        load_apps(folder)
    assert e.value.hint
    return e.value


def test_an_app_of_the_older_api(tmp_path: Path) -> None:
    error = refused(write_app(tmp_path / "one", client=NUMPY_CLIENT))
    assert "client_fn and NumPyClient" in str(error)
    assert "@app.train()" in error.hint
    assert "server_fn" in str(refused(write_app(tmp_path / "two", server=SERVER_FN)))


def test_an_app_of_another_version(tmp_path: Path) -> None:
    error = refused(write_app(tmp_path, client="from flwr.client.message import Gone\n" + CLIENT))
    assert "imports flwr.client.message, which flwr 1.41 does not have" in str(error)


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ("tinyapp.client_app:app", "tinyapp.client:app", "no module 'tinyapp.client'"),
        ("tinyapp.client_app:app", "tinyapp.client_app:nothing", "is not there, and a ClientApp is due"),
        ("tinyapp.server_app:app", "tinyapp.client_app:app", "is ClientApp, and a ServerApp is due"),
    ],
)
def test_a_component_that_leads_nowhere(tmp_path: Path, was: str, now: str, said: str) -> None:
    assert said in str(refused(write_app(tmp_path, project=PROJECT.replace(was, now))))


def test_a_client_that_does_not_train(tmp_path: Path) -> None:
    assert "no @app.train()" in str(refused(write_app(tmp_path, client=CLIENT.replace("@app.train()", ""))))


def test_a_package_that_is_not_installed(tmp_path: Path) -> None:
    assert "needs surely_missing" in str(refused(write_app(tmp_path, before="import surely_missing")))


def test_a_module_that_fails(tmp_path: Path) -> None:
    error = str(refused(write_app(tmp_path, before="raise ValueError('half written')")))
    assert "half written" in error
    assert "server_app.py" in error
    assert "importlib" not in error


def test_another_app_than_the_terms_pin(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match="the terms pin 0000"):
        load_apps(write_app(tmp_path), digest=bytes(32))


def test_two_apps_with_modules_of_one_name(tmp_path: Path) -> None:
    first = load_apps(write_app(tmp_path / "one"))
    second = load_apps(write_app(tmp_path / "two"))
    for found, folder in ((first, "one"), (second, "two")):
        assert found.server._main is not None
        assert found.server._main.__code__.co_filename.startswith(str(tmp_path / folder))
