"""Codecs of the peer protocol: any bytes, bounds, and what a stock peer would also ignore."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_fuzz_hypercore import ENTRY_POINTS

from edge.errors import LocalError, RemoteError
from edge.hypercore import messages
from edge.hypercore.merkle import Node
from edge.hypercore.messages import BlockProof, BlockRef, Data, Request
from edge.limits import INTEGER_MAX, PROOF_NODES_MAX

VECTORS = json.loads((Path(__file__).parent / "proof_vectors.json").read_text())["messages"]
STARTS = st.sampled_from([bytes.fromhex(vector["bytes"]) for vector in VECTORS])
NUMBERS = st.integers(0, INTEGER_MAX)
NODES = st.builds(Node, NUMBERS, NUMBERS, st.binary(min_size=32, max_size=32))


@pytest.mark.parametrize("entry", ENTRY_POINTS, ids=lambda entry: entry.__name__)
@given(data=st.binary(max_size=300), start=STARTS, place=st.integers(0, 400), cut=st.integers(0, 400))
def test_any_bytes_are_a_message_or_an_error(
    entry: Callable[[bytes], None], data: bytes, start: bytes, place: int, cut: int
) -> None:
    entry(data)
    entry(start[:place] + data[:3] + start[place + 3 :])
    entry(start[:cut])


@given(
    st.tuples(NUMBERS, NUMBERS, NUMBERS), st.binary(max_size=400), st.lists(NODES, max_size=4), st.binary(max_size=3)
)
def test_a_block_reads_as_it_was_written(
    numbers: tuple[int, int, int], value: bytes, nodes: list[Node], more: bytes
) -> None:
    number, fork, index = numbers
    data = Data(number, fork, BlockProof(index, value, tuple(nodes)))
    written = data.encode()
    assert messages.decode_data(written + more) == data
    request = Request(number, fork, BlockRef(index, len(nodes)))
    assert messages.decode_request(request.encode() + more) == request
    for cut in range(0, len(written), 7):
        with pytest.raises(RemoteError):
            messages.decode_data(written[:cut])


def test_longer_forms_of_a_count_are_read() -> None:
    node = Node(3, 4, bytes(32))
    wire = b"\x01\x01\x00\x05\x01x\xfd\x01\x00" + bytes([3, 4]) + bytes(32)
    assert messages.decode_data(wire) == Data(1, 0, BlockProof(5, b"x", (node,)))


def test_no_proof_is_longer_than_a_tree_is_high() -> None:
    node = Node(1, 1, bytes(32))
    for count, fits in ((PROOF_NODES_MAX, True), (PROOF_NODES_MAX + 1, False)):
        wire = Data(1, 0, BlockProof(0, b"", (node,) * count)).encode()
        if fits:
            assert len((messages.decode_data(wire).block or BlockProof(0, b"", ())).nodes) == count
        else:
            with pytest.raises(RemoteError, match="129 items") as refused:
                messages.decode_data(wire)
            assert refused.value.reason == "too_large"


def test_nothing_reaches_past_the_largest_integer() -> None:
    edge = messages.Range(False, INTEGER_MAX - 1, 2).encode()
    with pytest.raises(RemoteError, match="past"):
        messages.decode_range(edge)
    with pytest.raises(RemoteError, match="past"):
        messages.decode_want(messages.Want(INTEGER_MAX, 32).encode())
    with pytest.raises(RemoteError, match="past"):
        messages.decode_bitfield(messages.Bitfield(INTEGER_MAX - 31, bytes(4)).encode())
    with pytest.raises(LocalError, match="whole number of words"):
        messages.Bitfield(0, bytes(3)).encode()
