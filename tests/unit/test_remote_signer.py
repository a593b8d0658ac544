"""A remote signer against signing services that are honest, absent, slow, wrong or broken.

The service in these tests speaks the ETH1 API of Web3Signer and signs with eth-account, not with our code.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from eth_account import Account as Wallet
from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey
from tests.authority import Authority

import hansa.ledger.embedded  # noqa: F401, takes back the recursion limit that eth-account raised
from hansa import encoding, errors
from hansa.crypto import signatures
from hansa.ledger.transactions import Call, Fee, sign_transaction
from hansa.ports import Signer
from hansa.signers import remote
from hansa.signers.remote import RemoteSigner, remote_signer
from hansa.web import Route, trust

SECRET = bytes(range(1, 33))
OTHER = bytes(range(2, 34))
ADDRESS = signatures.address(SECRET)
DOMAIN = encoding.domain_separator(7, b"\xaa" * 20, b"\x07" * 32)

Answer = Callable[["Service", bytes], tuple[int, bytes]]


def signed(service: Service, data: bytes, secret: bytes = SECRET) -> tuple[int, bytes]:
    """What Web3Signer answers: r || s || v over the hash of the data."""
    return 200, ("0x" + Wallet.unsafe_sign_hash(keccak(data), secret).signature.hex()).encode()


def public(secret: bytes) -> str:
    return "0x" + PrivateKey(secret).public_key.to_bytes().hex()


class Service:
    """A signing service whose behaviour a test swaps."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.keys: tuple[int, bytes] = 200, json.dumps([public(OTHER), public(SECRET)]).encode()
        self.answer: Answer = signed
        self.asked: list[str] = []
        self.drip = 0
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                found = self.path in ("/api/v1/eth1/publicKeys", "/kms/api/v1/eth1/publicKeys")
                self.reply(*(service.keys if found else (404, b"not found")))

            def do_POST(self) -> None:
                service.asked.append(self.path)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert list(body) == ["data"]
                if not self.path.endswith("/api/v1/eth1/sign/" + public(SECRET)):
                    self.reply(404, b"")
                    return
                self.reply(*service.answer(service, bytes.fromhex(body["data"].removeprefix("0x"))))

            def reply(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.send_header("Content-Length", str(len(content) + service.drip))
                self.end_headers()
                self.wfile.write(content)
                for _ in range(service.drip):
                    time.sleep(0.02)
                    self.wfile.write(b" ")

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *arguments: Any) -> None:
                """Clients that hang up are what these tests are about."""

        self.server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server.server_port}"

    def signer(self, **options: Any) -> RemoteSigner:
        return remote_signer(self.url, ADDRESS, **options)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


def test_a_message_signed_remotely_is_signed_as_locally(service):
    """Both are RFC 6979: the same key gives the same bytes."""
    signer: Signer = service.signer()
    data = encoding.message_bytes(DOMAIN, "Vote", 3, 0, b"r" * 32, True)
    signature = signer.sign(data)
    assert signature == signatures.account(SECRET).sign(data)
    assert (
        signatures.recover(encoding.message_hash(DOMAIN, "Vote", 3, 0, b"r" * 32, True), signature) == ADDRESS
    )
    assert service.asked == ["/api/v1/eth1/sign/" + public(SECRET)]


def test_both_parities_come_through(service):
    signer, local = service.signer(), signatures.account(SECRET)
    made = [signer.sign(bytes([n])) for n in range(16)]
    assert made == [local.sign(bytes([n])) for n in range(16)]
    assert {signatures.split(signature)[0] for signature in made} == {0, 1}


@pytest.mark.parametrize("fee", [Fee(9, 2), Fee(9, legacy=True), Fee()])
def test_a_remote_key_pays_for_transactions(service, fee):
    call = Call(b"\xbb" * 20, b"data", gas=50_000, value=3)
    raw = sign_transaction(service.signer(), 7, 1, call, fee)
    assert bytes.fromhex(Wallet.recover_transaction(raw)[2:]) == ADDRESS
    assert raw == sign_transaction(signatures.account(SECRET), 7, 1, call, fee)


@pytest.mark.parametrize(
    "form", [public(SECRET), public(SECRET)[2:], public(SECRET).upper().replace("X", "x")]
)
def test_forms_in_which_keys_are_listed(service, form):
    service.keys = 200, json.dumps([form]).encode()
    assert service.signer().address == ADDRESS


def test_a_service_may_lie_below_a_path(service):
    remote_signer(service.url + "/kms/", ADDRESS).sign(b"data")
    assert service.asked == ["/kms/api/v1/eth1/sign/" + public(SECRET)]


@pytest.mark.parametrize(
    "listed",
    [[], [public(OTHER)], [5, None, "x", {}], ["../../x"], ["0x" + "00" * 64], ["0x" + ADDRESS.hex()]],
)
def test_a_service_without_the_key(service, listed):
    service.keys = 200, json.dumps(listed).encode()
    with pytest.raises(errors.Misconfigured, match=f"holds no key of 0x{ADDRESS.hex()}"):
        service.signer()


@pytest.mark.parametrize("content", [b"", b"<html>", b"{}", b"\xff", b"[" * 100_000])
def test_a_program_that_is_no_signing_service(service, content):
    service.keys = 200, content
    with pytest.raises(errors.Untrusted, match="no Web3Signer") as caught:
        service.signer()
    assert caught.value.hint


def by_another_key(service: Service, data: bytes) -> tuple[int, bytes]:
    return signed(service, data, OTHER)


def over_other_data(service: Service, data: bytes) -> tuple[int, bytes]:
    return signed(service, data + b"!")


def over_the_hash_itself(service: Service, data: bytes) -> tuple[int, bytes]:
    return signed(service, keccak(data))


def with_the_prefix_of_eip_191(service: Service, data: bytes) -> tuple[int, bytes]:
    return signed(service, b"\x19Ethereum Signed Message:\n%d" % len(data) + data)


def with_high_s(service: Service, data: bytes) -> tuple[int, bytes]:
    right = bytes.fromhex(signed(service, data)[1][2:].decode())
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    s = order - int.from_bytes(right[32:64], "big")
    return 200, b"0x" + (right[:32] + s.to_bytes(32, "big") + bytes([55 - right[64]])).hex().encode()


def with_v(v: int) -> Answer:
    return lambda service, data: (200, signed(service, data)[1][:-2] + b"%02x" % v)


@pytest.mark.parametrize(
    "answer",
    [
        by_another_key,
        over_other_data,
        over_the_hash_itself,
        with_the_prefix_of_eip_191,
        with_high_s,
        with_v(0),
        with_v(29),
        with_v(255),
        lambda *_: (200, b"0x" + b"00" * 65),
        lambda *_: (200, b"0x" + b"ff" * 65),
    ],
)
def test_a_wrong_signature_is_not_used(service, answer):
    service.answer = answer
    with pytest.raises(errors.Untrusted, match="not one of 0x") as caught:
        service.signer().sign(b"data")
    assert "nothing was sent" in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"",
        lambda text: text[2:],
        lambda text: text[:-2],
        lambda text: text + b"00",
        lambda text: b'{"signature": "' + text + b'"}',
        lambda text: b"0x" + b"zz" * 65,
        lambda text: b"\xff" * 132,
    ],
)
def test_a_malformed_answer(service, change):
    service.answer = lambda *asked: (200, change(signed(*asked)[1]))
    with pytest.raises(errors.Untrusted, match="something else than a signature"):
        service.signer().sign(b"data")


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (404, errors.Misconfigured, "holds no key"),
        (400, errors.Misconfigured, "refuses: HTTP status 400"),
        (403, errors.Misconfigured, "refuses: HTTP status 403"),
        (302, errors.Misconfigured, "refuses: HTTP status 302"),
        (500, errors.Unavailable, "answers with HTTP status 500"),
        (503, errors.Unavailable, "answers with HTTP status 503"),
    ],
)
def test_refusals(service, status, error, message):
    signer = service.signer()
    service.answer = lambda *asked: (status, signed(*asked)[1])
    with pytest.raises(error, match=message) as caught:
        signer.sign(b"data")
    assert caught.value.hint
    service.answer = signed
    assert signer.sign(b"data") == signatures.account(SECRET).sign(b"data")


def test_refusals_at_the_start(service):
    service.keys = 404, b""
    with pytest.raises(errors.Misconfigured, match="HTTP status 404"):
        service.signer()
    service.keys = 503, b""
    with pytest.raises(errors.Unavailable, match="HTTP status 503"):
        service.signer()


def test_a_service_that_hangs(service):
    released = threading.Event()
    service.answer = lambda *asked: (released.wait(60), signed(*asked))[1]
    try:
        with pytest.raises(errors.Unavailable, match=r"did not answer within 0\.2 s"):
            service.signer(timeout=0.2).sign(b"data")
    finally:
        released.set()


def test_a_service_that_drips(service):
    """Each byte comes in time; all of them would take a minute."""
    signer = service.signer(timeout=0.2)
    service.drip = 3000
    with pytest.raises(errors.Unavailable, match="did not answer within"):
        signer.sign(b"data")


def test_a_service_that_floods(service, monkeypatch):
    monkeypatch.setattr(remote, "ANSWER_LIMIT", 1000)
    service.answer = lambda *_: (200, b"0" * 1001)
    with pytest.raises(errors.Untrusted, match="more than 1000 bytes"):
        service.signer().sign(b"data")


def test_a_service_that_is_not_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(errors.Unavailable, match=r"cannot reach the signer at 127\.0\.0\.1") as caught:
        remote_signer(url, ADDRESS)
    assert caught.value.hint


def test_a_service_that_restarts(service):
    signer = service.signer()
    service.close()
    with pytest.raises(errors.Unavailable):
        signer.sign(b"data")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "signer:9000",
        "ftp://signer",
        "http://",
        "http://[::1",
        "http://signer:port",
        "http://user:pass@signer",
        "http://signer/?token=x",
        "http://signer/a b",
        "http://signer/\r\nHost: x",
    ],
)
def test_what_is_no_address_of_a_service(url):
    with pytest.raises(errors.Misconfigured, match="no plain URL") as caught:
        remote_signer(url, ADDRESS)
    assert "pass" not in str(caught.value)


def test_no_representation_shows_more_than_the_host(service):
    service.keys = 200, json.dumps([public(SECRET)]).encode()
    shown = repr(remote_signer(service.url + "/kms/", ADDRESS))
    assert "127.0.0.1" in shown
    assert "kms" not in shown


def test_tls_with_certificates_on_both_sides(tmp_path):
    authority = Authority(tmp_path)
    service = Service(authority.inside(clients=True))
    try:
        with pytest.raises(errors.Unavailable, match="cannot reach"):
            service.signer(route=Route(tls=trust(authority.file)))
        mine = Route(tls=trust(authority.file, authority.sign("member")))
        assert service.signer(route=mine).sign(b"data") == signatures.account(SECRET).sign(b"data")
        with pytest.raises(errors.Unavailable, match="certificate of the signer at .* is not trusted"):
            service.signer()
    finally:
        service.close()
