"""Blocks: exact bytes, round trips, and what is refused."""

import pytest
import support_fuzz_hyperbee as fuzz
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import RemoteError
from edge.hyperbee.codec import (
    KEYS_MAX,
    OFFSET_BITS,
    Header,
    Level,
    Metadata,
    decode_block,
    decode_level,
    encode_block,
    field,
    holds_own_key,
)
from edge.limits import INTEGER_MAX

LEVELS = st.lists(
    st.lists(st.integers(1, INTEGER_MAX), max_size=KEYS_MAX).flatmap(
        lambda seqs: st.lists(
            st.tuples(st.integers(1, INTEGER_MAX), st.integers(0, (1 << OFFSET_BITS) - 1)).map(
                lambda pair: pair[0] << OFFSET_BITS | pair[1]
            ),
            min_size=len(seqs) + 1,
            max_size=len(seqs) + 1,
        ).flatmap(lambda children: st.sampled_from([Level(seqs, children), Level(seqs, [])]))
    ),
    max_size=4,
)


@given(st.binary(max_size=300), st.none() | st.binary(max_size=300), LEVELS)
def test_blocks_round_trip(key: bytes, value: bytes | None, levels: list[Level]) -> None:
    data = encode_block(key, value, levels)
    block = decode_block(data)
    assert (block.key, block.value) == (key, value)
    assert [decode_level(block.levels, at, INTEGER_MAX) for at in range(len(levels))] == levels
    with pytest.raises(RemoteError, match="no such level"):
        decode_level(block.levels, len(levels), INTEGER_MAX)


def test_bytes_of_stock_blocks() -> None:
    """Field numbers and packing, as the schema says."""
    assert Header().encode().hex() == "0a08" + b"hyperbee".hex()
    header = Header(metadata=Metadata(b"\x01\x02", b"u"))
    assert header.encode().hex() == "0a08" + b"hyperbee".hex() + "1207" + "0a020102" + "120175"
    assert Header.decode(header.encode()) == header
    assert encode_block(b"k", b"v", [Level([1], [])]).hex() == "0a05" + "0a03" + "0a0101" + "12016b" + "1a0176"
    two = [Level([300], [1 << OFFSET_BITS, 5 << OFFSET_BITS | 1]), Level([], [])]
    assert encode_block(b"", None, two).hex() == "0a0e" + "0a0a" + "0a02ac02" + "120401000501" + "0a00" + "1200"


def test_fields_in_any_order_and_unknown_ones_are_taken() -> None:
    block = decode_block(b"\x1a\x01v\x20\x07\x29" + bytes(8) + b"\x35" + bytes(4) + b"\x12\x01k\x0a\x00")
    assert block == (b"k", b"v", b"")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "without key"),
        (b"\x0a\x00", "without key"),
        (b"\x0a\x05\x12\x00", "longer"),
        (b"\x08\x01\x12\x00", "not one of bytes"),
        (b"\x0a\x00\x12\x00\x23", "wire type"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "cut off or too large"),
        (b"\x0a\x00\x12\x00\x29\x00", "longer"),
        (b"\x0a\x00\x12\x80", "cut off"),
    ],
)
def test_what_is_no_block_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(RemoteError, match=what):
        decode_block(data)


@pytest.mark.parametrize(
    ("level", "what"),
    [
        (Level([1] * (KEYS_MAX + 1), []), "more keys"),
        (Level([1], [1 << OFFSET_BITS]), "1 keys and 1 children"),
        (Level([8], []), "key outside"),
        (Level([0], []), "key outside"),
        (Level([1], [8 << OFFSET_BITS, 1 << OFFSET_BITS]), "child outside"),
        (Level([1], [0, 1 << OFFSET_BITS]), "child outside"),
    ],
)
def test_levels_that_are_no_node_of_block_7_are_refused(level: Level, what: str) -> None:
    block = decode_block(encode_block(b"k", None, [level]))
    with pytest.raises(RemoteError, match=what):
        decode_level(block.levels, 0, 7)


def test_children_come_in_pairs_and_offsets_are_small() -> None:
    with pytest.raises(RemoteError, match="without its offset"):
        decode_level(field(0x0A, field(0x12, b"\x01")), 0, 7)
    with pytest.raises(RemoteError, match="no block has"):
        decode_level(field(0x0A, field(0x12, b"\x01\xff\xff\xff\x7f")), 0, 7)


def test_a_delete_is_told_from_a_put_without_value() -> None:
    assert holds_own_key(decode_block(encode_block(b"k", None, [Level([2], []), Level([9], [])])).levels, 9)
    assert not holds_own_key(decode_block(encode_block(b"k", None, [Level([2], [])])).levels, 9)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    fuzz.fuzz_block(data)
    fuzz.fuzz_header(data)
    fuzz.fuzz_encodings(data)


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_any_blocks_are_read_to_an_end(blocks: list[bytes]) -> None:
    fuzz.fuzz_tree(b"".join(bytes([len(block)]) + block for block in blocks))


@pytest.mark.parametrize(("name", "data"), [(name, data) for name, all_ in fuzz.CORPUS.items() for data in all_])
def test_corpus(name: str, data: bytes) -> None:
    getattr(fuzz, name)(data)


REFERENCES = st.tuples(st.integers(0, 6), st.integers(0, 3)).map(lambda pair: pair[0] << OFFSET_BITS | pair[1])
BENT = st.builds(
    encode_block,
    st.sampled_from([b"a", b"b", b"c", b"d"]),
    st.none() | st.just(b"v"),
    st.lists(
        st.lists(st.integers(0, 6), max_size=3).flatmap(
            lambda seqs: st.builds(
                Level,
                st.just(seqs),
                st.just([]) | st.lists(REFERENCES, min_size=len(seqs) + 1, max_size=len(seqs) + 1),
            )
        ),
        max_size=4,
    ),
)


@given(st.lists(BENT, min_size=1, max_size=5))
async def test_trees_of_a_hostile_writer_are_read_to_an_end(blocks: list[bytes]) -> None:
    await fuzz.read_all([fuzz.HEADER, *blocks])
