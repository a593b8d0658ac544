"""The record of a federation in the store, held against the chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.shared import Shared, embedded, found

from hansa import errors, wiring
from hansa.federation import Address, Federation, _key, find, publish, read_address
from hansa.ports import Store


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("federation")
    with embedded(folder) as chain:
        yield found(chain, folder, lambda: chain.time)


@pytest.fixture
def store() -> Store:
    return wiring.store("memory:///")


def test_a_published_federation_is_found(shared, store):
    publish(store, shared.federation)
    assert find(store, shared.rpc, shared.federation.address) == shared.federation


def test_an_address_is_read_as_it_is_written(shared):
    address = shared.federation.address
    assert read_address(f" {address} ") == address
    for text in (
        "",
        "eip155:1",
        f"eip155:01:0x{'1' * 40}",
        f"eip155:1:0x{'1' * 39}",
        f"solana:1:0x{'1' * 40}",
    ):
        with pytest.raises(errors.Misconfigured, match="is no federation"):
            read_address(text)


def lie(federation: Federation, what: str) -> Federation:
    d, terms = federation.deployment, federation.terms
    match what:
        case "owner":
            return replace(federation, deployment=replace(d, owner=b"\1" * 20))
        case "seats":
            return replace(federation, deployment=replace(d, seats=(b"\1" * 20,)))
        case "model":
            return replace(federation, deployment=replace(d, model=b"\1" * 32))
        case "block":
            return replace(federation, deployment=replace(d, block=d.block - 1))
        case "late block":
            return replace(federation, deployment=replace(d, block=10**6))
        case _:
            return replace(federation, terms=replace(terms, name="another"))


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("owner", "names another owner"),
        ("seats", "not made from this version's code"),
        ("model", "not made from this version's code"),
        ("block", "holds no transaction that made"),
        ("late block", "holds no transaction that made"),
        ("terms", "not made from this version's code"),
    ],
)
def test_a_record_that_does_not_fit_the_chain_is_untrusted(shared, store, what, says):
    publish(store, lie(shared.federation, what))
    with pytest.raises(errors.Untrusted, match=says):
        find(store, shared.rpc, shared.federation.address)


def test_a_record_of_another_federation_is_untrusted(shared, store):
    publish(store, shared.federation)
    data = store.get_at(_key(shared.federation.address), limit=10**6)
    other = replace(shared.federation.deployment, contract=b"\1" * 20)
    publish(store, replace(shared.federation, deployment=other))
    stray = store.get_at(_key(Address(other.chain_id, other.contract)), limit=10**6)
    store.put_at(_key(shared.federation.address), stray)
    with pytest.raises(errors.Untrusted, match="is that of"):
        find(store, shared.rpc, shared.federation.address)
    for broken in (b"", b"\x80", data[:-1]):
        store.put_at(_key(shared.federation.address), broken)
        with pytest.raises(errors.Untrusted):
            find(store, shared.rpc, shared.federation.address)


def test_where_nothing_is_says_whose_fault_it_is(shared, store):
    with pytest.raises(errors.Misconfigured, match="there is no contract"):
        find(store, shared.rpc, Address(shared.federation.deployment.chain_id, b"\1" * 20))
    with pytest.raises(errors.Unavailable) as caught:
        find(store, shared.rpc, shared.federation.address)
    assert "check --store" in caught.value.hint
