"""Payloads of records: each comes back as it was, and any other bytes are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.crypto.keys import KeyPair
from edge.errors import LocalError, RemoteError
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Node, Tree
from edge.hypercore.records import (
    CoreHeader,
    Upgrade,
    decode_clear,
    decode_nodes,
    encode_clear,
    encode_nodes,
    encode_put,
    put_index,
    put_nodes,
    put_start,
)
from edge.hypercore.verifier import Verifier

VERIFIER = Verifier.of(Manifest.single(KeyPair.from_seed(bytes(32)).public_key))
counts = st.integers(0, 2**53 - 1)
nodes = st.lists(st.builds(Node, counts, counts, st.binary(min_size=32, max_size=32)), max_size=5)


@given(counts, nodes, st.binary(max_size=40))
def test_blocks_of_peers_come_back(index: int, beside: list[Node], stored: bytes) -> None:
    payload = encode_put(index, beside, stored)
    assert (put_index(payload), put_nodes(payload), payload[put_start(payload) :]) == (index, beside, stored)


@given(counts, counts, nodes, st.integers(0, 70), st.binary(max_size=99))
def test_other_records_come_back(one: int, other: int, given: list[Node], length: int, signature: bytes) -> None:
    assert decode_nodes(encode_nodes(given)) == given
    assert decode_clear(encode_clear(one, other, given)) == (one, other, given)
    tree, _ = Tree().append([b"x"] * length)
    upgrade = Upgrade(one, other, tree, signature, tuple(given))
    assert Upgrade.decode(upgrade.encode()) == upgrade


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_header_with_and_without_its_manifest(encrypted: bool) -> None:
    for header in (CoreHeader(VERIFIER, encrypted), CoreHeader(None, encrypted, b"\x05" * 32)):
        assert CoreHeader.decode(header.encode()) == header
    assert CoreHeader(VERIFIER, encrypted).key == VERIFIER.key
    with pytest.raises(LocalError):
        CoreHeader(None, encrypted)


@given(st.binary(max_size=120))
def test_any_bytes_give_a_record_or_remote_error(data: bytes) -> None:
    for decode in (CoreHeader.decode, Upgrade.decode, decode_nodes, decode_clear, put_index):
        try:
            decode(data)
        except RemoteError:
            continue
