"""Fetching collateral from an imitation of Intel's caching service on this machine, over the simulated maker's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import quote as escaped

import pytest
from tests.quoted import DOMAIN, ENCLAVE, NONCE, NOW, SIMULATED, STATEMENT, simulated

from hansa import errors
from hansa.attestation import report_data, verify
from hansa.attestation.service import from_service
from hansa.records import Evidence


class Service(BaseHTTPRequestHandler):
    """Intel's "PCCS" interface, version 4: bodies as they are signed, issuers' chains in headers."""

    def do_GET(self) -> None:
        tee = "tdx" if self.path.startswith("/tdx") else "sgx"
        parts = json.loads(simulated(DOMAIN if tee == "tdx" else ENCLAVE).quote(bytes(64)).collateral)
        name = self.path.partition("/certification/v4/")[2].partition("?")[0]
        signed = '{{"{}":{},"signature":"{}"}}'.format
        answers = {
            "tcb": (
                signed("tcbInfo", parts["tcb_info"], parts["tcb_info_signature"]),
                "TCB-Info",
                "tcb_info",
            ),
            "qe/identity": (
                signed("enclaveIdentity", parts["qe_identity"], parts["qe_identity_signature"]),
                "SGX-Enclave-Identity",
                "qe_identity",
            ),
            "pckcrl": (bytes.fromhex(parts["pck_crl"]), "SGX-PCK-CRL", "pck_crl"),
            "rootcacrl": (parts["root_ca_crl"], "Root", "pck_crl"),
        }
        body, header, chain = answers[name]
        data = body.encode() if isinstance(body, str) else body
        self.send_response(200)
        self.send_header(f"{header}-Issuer-Chain", escaped(parts[f"{chain}_issuer_chain"]))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("measured", [ENCLAVE, DOMAIN])
def test_what_is_fetched_verifies_the_quote(service: str, measured: object) -> None:
    made = simulated(measured).quote(report_data(STATEMENT, NONCE))
    fetched = from_service(service)(made.quote)
    assert verify(Evidence(made.quote, fetched), SIMULATED, NOW, STATEMENT, NONCE)
    assert json.loads(fetched) == json.loads(made.collateral)


def test_it_is_fetched_where_a_loop_runs_as_in_a_notebook(service: str) -> None:
    async def notebook() -> None:
        made = simulated().quote(bytes(64))
        assert json.loads(from_service(service)(made.quote)) == json.loads(made.collateral)

    asyncio.run(notebook())


def test_a_service_that_does_not_answer_is_worth_another_try() -> None:
    with pytest.raises(errors.Unavailable, match="gives nothing for this quote"):
        from_service("http://127.0.0.1:9")(simulated().quote(bytes(64)).quote)
