"""Segment bytes: every codec gives back what it was given, and nothing else passes."""

from array import array
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.storage.codec import (
    DATA_OFFSET,
    HEADER_BYTES,
    MARK_BYTES,
    RECORD_HEAD_BYTES,
    Footer,
    Header,
    Record,
    decode_footer,
    decode_header,
    decode_mark,
    decode_record,
    encode_footer,
    encode_header,
    encode_mark,
    encode_record,
    find_mark,
    initial_chain,
    walk,
)

STORE = bytes(range(16))
SALT = initial_chain(STORE)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
headers = st.builds(Header, st.binary(min_size=16, max_size=16), u32, u32, u64, u32)
records = st.builds(Record, u64, st.integers(0, 255), st.binary(max_size=200))


@given(headers)
def test_header_round_trip(header: Header) -> None:
    data = encode_header(header)
    assert len(data) == HEADER_BYTES
    assert decode_header(data) == header


@given(headers, st.integers(0, HEADER_BYTES * 8 - 1))
def test_a_header_with_any_flipped_bit_is_none(header: Header, bit: int) -> None:
    data = bytearray(encode_header(header))
    data[bit // 8] ^= 1 << bit % 8
    assert decode_header(bytes(data)) is None


def test_header_vector() -> None:
    data = encode_header(Header(STORE, 2, 4096, 77, 0xDEADBEEF))
    assert data.hex() == (
        "504f4d4f4e4c4f47" "01000000" "000102030405060708090a0b0c0d0e0f" "02000000" "00100000" "4d00000000000000"
        "efbeadde" "000000000000000000000000"
    ) + crc32(data[:60]).to_bytes(4, "little").hex()  # fmt: skip


@given(records, u32)
def test_record_round_trip(record: Record, chain: int) -> None:
    data, after = encode_record(record, chain)
    assert len(data) == RECORD_HEAD_BYTES + len(record.payload)
    assert decode_record(data, 0, record.sequence, chain) == record
    assert after == crc32(data[8:], crc32(data[:4], chain))  # over all but the CRC itself, seeded with the one before


@given(records, u32, st.data())
def test_a_record_with_any_flipped_bit_after_another_chain_or_cut_is_none(
    record: Record, chain: int, draw: st.DataObject
) -> None:
    data, _ = encode_record(record, chain)
    bit = draw.draw(st.integers(0, len(data) * 8 - 1))
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    assert decode_record(bytes(flipped), 0, record.sequence, chain) is None
    assert decode_record(data, 0, record.sequence, chain ^ 1) is None
    assert decode_record(data[:-1], 0, record.sequence, chain) is None
    assert decode_record(data, 0, record.sequence ^ 1, chain) is None


@given(u64, u32, st.integers(0, 200))
def test_a_mark_is_valid_in_its_place_alone(sequence: int, number: int, offset: int) -> None:
    mark = encode_mark(sequence, number, offset, SALT)
    assert len(mark) == MARK_BYTES
    data = bytes(offset) + mark
    assert decode_mark(data, number, offset, SALT) == sequence
    assert find_mark(data, 0, number, SALT) == offset
    assert decode_mark(data, number ^ 1, offset, SALT) is None
    assert decode_mark(data, number, offset, SALT ^ 1) is None
    assert find_mark(b"\0" + data, 0, number, SALT) is None  # a copy elsewhere


@given(u64, st.lists(st.integers(0, 2**31 - 1), max_size=50), u32, u32)
def test_footer_round_trip(first: int, offsets: list[int], end: int, chain: int) -> None:
    footer = Footer(first, end, chain, array("I", offsets))
    data = encode_footer(footer)
    assert decode_footer(data) == footer
    flipped = bytearray(data)
    flipped[first % len(data)] ^= 0x10
    assert decode_footer(bytes(flipped)) is None


@given(st.binary(max_size=400))
def test_any_bytes_decode_or_are_none(data: bytes) -> None:
    decode_header(data)
    decode_footer(data)
    decode_record(data, 0, 0, 0)
    assert find_mark(data, 0, 0, SALT) is None
    assert walk(data, Header(STORE, 0, len(data), 0, SALT), SALT).sequence == 0


@given(st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=4), max_size=6), st.data())
def test_a_walk_stops_exactly_at_the_first_damage(groups: list[list[bytes]], draw: st.DataObject) -> None:
    header = Header(STORE, 3, 4096, 10, 99)
    data = bytearray(encode_header(header) + bytes(MARK_BYTES))
    starts: list[int] = []
    ends = [DATA_OFFSET]
    sequence, chain = header.first_sequence, header.seed
    for group in groups:
        data += encode_mark(sequence, header.number, len(data), SALT)
        for payload in group:
            starts.append(len(data))
            encoded, chain = encode_record(Record(sequence, 7, payload), chain)
            data += encoded
            ends.append(len(data))
            sequence += 1
    data += bytes(64)
    whole = walk(bytes(data), header, SALT)
    assert (list(whole.offsets), whole.sequence, whole.chain) == (starts, sequence, chain)
    assert whole.end == ends[-1]
    if starts:
        at = draw.draw(st.integers(DATA_OFFSET, ends[-1] - 1))
        data[at] ^= 1 << draw.draw(st.integers(0, 7))
        damaged = walk(bytes(data), header, SALT)
        intact = sum(end <= at for end in ends[1:])
        assert list(damaged.offsets) == starts[:intact]


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_a_walk_can_be_told_where_the_next_segment_begins(stop: int) -> None:
    header = Header(STORE, 0, 4096, 0, SALT)
    data = encode_header(header) + bytes(MARK_BYTES)
    chain = SALT
    for sequence in range(5):
        encoded, chain = encode_record(Record(sequence, 0, b"x"), chain)
        data += encoded
    assert walk(data, header, SALT, stop_sequence=stop).sequence == stop
