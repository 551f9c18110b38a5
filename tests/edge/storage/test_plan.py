"""What recovery decides, case by case, on bytes put together by hand."""

from dataclasses import replace

import pytest

from edge.errors import StorageError, StorageFault
from edge.storage.codec import (
    DATA_OFFSET,
    MARK_BYTES,
    WATERMARK_OFFSET,
    Footer,
    Header,
    Record,
    Walk,
    encode_footer,
    encode_header,
    encode_mark,
    encode_record,
    initial_chain,
    walk,
)
from edge.storage.plan import (
    Leftover,
    SegmentCorrupt,
    judge_footer,
    judge_header,
    judge_leftover,
    judge_tail,
    segment_name,
    segment_number,
    walk_sealed,
)

STORE = bytes(16)
SALT = initial_chain(STORE)
SIZE = 4096
HEADER = Header(STORE, 2, SIZE, 100, 0xABCD)


def segment(*groups: int, marked: bool = True, watermark: int | None = None) -> tuple[bytearray, Walk]:
    """A segment with groups of so many records; `marked`: the mark after the last group is there."""
    data = bytearray(encode_header(HEADER) + bytes(MARK_BYTES))
    if watermark is not None:
        data[WATERMARK_OFFSET:] = encode_mark(watermark, HEADER.number, WATERMARK_OFFSET, SALT)
    sequence, chain = HEADER.first_sequence, HEADER.seed
    for records in groups:
        data += encode_mark(sequence, HEADER.number, len(data), SALT)
        for _ in range(records):
            encoded, chain = encode_record(Record(sequence, 1, b"payload %d" % sequence), chain)
            data += encoded
            sequence += 1
    if marked:
        data += encode_mark(sequence, HEADER.number, len(data), SALT)
    data += bytes(SIZE - len(data))
    return data, walk(bytes(data), HEADER, SALT)


def test_a_segment_with_its_mark_and_zeros_after_it_is_clean() -> None:
    data, found = segment(3, 2)
    tail = judge_tail(bytes(data), HEADER, SALT)
    assert tail.clean
    assert tail.walk == found
    assert found.sequence == 105


def test_without_the_mark_the_last_group_may_be_in_the_page_cache_alone_and_is_written_again() -> None:
    data, found = segment(3, 2, marked=False)
    tail = judge_tail(bytes(data), HEADER, SALT)
    assert not tail.clean
    assert tail.rewrite_from == found.offsets[3] - MARK_BYTES
    assert tail.dirty == (found.end, found.end)


def test_the_first_group_is_written_again_with_the_header() -> None:
    data, _ = segment(3, marked=False)
    assert judge_tail(bytes(data), HEADER, SALT).rewrite_from == 0
    data, found = segment()
    assert found.end == DATA_OFFSET
    assert not judge_tail(bytes(data), HEADER, SALT).clean
    data, _ = segment(watermark=100)
    assert judge_tail(bytes(data), HEADER, SALT).clean


def test_a_torn_group_is_cut_and_its_valid_later_records_are_zeroed() -> None:
    data, found = segment(3, 4, marked=False)
    data[found.offsets[4] + 20] ^= 1
    tail = judge_tail(bytes(data), HEADER, SALT)
    assert tail.walk.sequence == 104
    assert tail.walk.end == found.offsets[4]
    assert tail.dirty == (found.offsets[4], found.end)


@pytest.mark.parametrize("damaged", [0, 2, 3, 6])
def test_damage_before_any_intact_mark_is_corruption(damaged: int) -> None:
    data, found = segment(3, 4)
    data[found.offsets[damaged] + 5] ^= 0x80
    with pytest.raises(SegmentCorrupt) as caught:
        judge_tail(bytes(data), HEADER, SALT)
    assert (caught.value.segment, caught.value.sequence) == (2, 100 + damaged)
    assert caught.value.fault is StorageFault.CORRUPT


def test_a_tail_that_vanished_without_a_trace_is_known_from_the_watermark() -> None:
    data, found = segment(3, 4, watermark=107)
    data[found.offsets[3] - MARK_BYTES :] = bytes(SIZE - found.offsets[3] + MARK_BYTES)
    with pytest.raises(SegmentCorrupt, match="below 107"):
        judge_tail(bytes(data), HEADER, SALT)


def test_a_last_segment_that_was_sealed_has_lost_its_successor() -> None:
    data, found = segment(3)
    footer = encode_footer(Footer(100, found.end, found.chain, found.offsets))
    data[-len(footer) :] = footer
    with pytest.raises(SegmentCorrupt, match="sealed"):
        judge_tail(bytes(data), HEADER, SALT)


def test_leftovers() -> None:
    data, _ = segment(2, 2)
    assert judge_leftover(bytes(SIZE), 2, SALT, 100) is Leftover.SPARE
    data[:64] = bytes(64)
    with pytest.raises(SegmentCorrupt, match="header"):
        judge_leftover(bytes(data), 2, SALT, 100)
    torn, _ = segment(2, marked=False)
    torn[:64] = bytes(64)
    assert judge_leftover(bytes(torn), 2, SALT, 100) is Leftover.TORN
    watermarked, _ = segment(2, marked=False, watermark=102)
    watermarked[:64] = bytes(64)
    with pytest.raises(SegmentCorrupt, match="header"):
        judge_leftover(bytes(watermarked), 2, SALT, 100)


def test_a_sealed_segment_ends_where_its_successor_begins_whatever_follows() -> None:
    data, found = segment(5, marked=False)
    ends_early = walk(bytes(data), HEADER, SALT, stop_sequence=103)
    successor = Header(STORE, 3, SIZE, 103, ends_early.chain)
    assert walk_sealed(bytes(data), HEADER, successor, SALT) == ends_early
    footer = Footer(100, ends_early.end, ends_early.chain, ends_early.offsets)
    assert judge_footer(footer, HEADER, successor)
    assert not judge_footer(Footer(100, found.end, found.chain, found.offsets), HEADER, successor)
    assert not judge_footer(None, HEADER, successor)


@pytest.mark.parametrize(("first", "seed"), [(106, None), (103, 1)])
def test_a_chain_that_does_not_meet_the_successor_is_corruption(first: int, seed: int | None) -> None:
    data, found = segment(5, marked=False)
    successor = Header(STORE, 3, SIZE, first, found.chain if seed is None else seed)
    with pytest.raises(SegmentCorrupt, match="does not reach segment 3"):
        walk_sealed(bytes(data), HEADER, successor, SALT)


def test_headers_of_another_log_place_size_or_version_are_refused() -> None:
    data = encode_header(HEADER)
    assert judge_header(data, 2, SIZE, STORE) == HEADER
    assert judge_header(bytes(64), 2, SIZE, STORE) is None
    for number, size, store in ((3, SIZE, STORE), (2, SIZE - 1, STORE), (2, SIZE, b"x" * 16)):
        with pytest.raises(SegmentCorrupt):
            judge_header(data, number, size, store)
    with pytest.raises(StorageError, match="format 3") as caught:
        judge_header(encode_header(replace(HEADER, version=3)), 2, SIZE, STORE)
    assert caught.value.fault is StorageFault.READ_ONLY


def test_names() -> None:
    assert segment_name(255) == "000000ff.seg"
    assert segment_number("000000ff.seg") == 255
    for name in ("spare.tmp", "ff.seg", "000000FF.seg", "tree", "000000ff"):
        assert segment_number(name) is None
