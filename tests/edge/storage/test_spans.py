"""Spans beside a set, and runs beside the lists they are packed from."""

from array import array
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge.storage.runs import RUN_BYTES, RUN_TAG, Run, decode_run, encode_run, pack_index, unpack_index
from edge.storage.spans import Span, Spans, gaps

spans = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(st.tuples(st.booleans(), spans), max_size=30), spans)
def test_spans_are_a_set(steps: list[tuple[bool, Span]], asked: Span) -> None:
    found, model = Spans(), set[int]()
    for adding, (first, end) in steps:
        numbers = set(range(first, end))
        if adding:
            assert found.add(first, end) == len(numbers - model)
            model |= numbers
        else:
            found.remove(first, end)
            model -= numbers
        kept = list(found)
        assert {number for start, stop in kept for number in range(start, stop)} == model
        assert all(start < stop for start, stop in kept)
        assert all(stop < start for (_, stop), (start, _) in pairwise(kept))
        assert len(found) == len(kept)
        inside = [number for start, stop in found.within(*asked) for number in range(start, stop)]
        assert inside == sorted(model & set(range(*asked)))
        outside = [number for start, stop in gaps(kept, *asked) for number in range(start, stop)]
        assert outside == sorted(set(range(*asked)) - model)


@given(st.integers(0, 2**64 - 1), st.integers(1, 2**32 - 1), st.integers(0, 255), st.integers(0, 2**32 - 1), st.data())
def test_a_run_round_trips_and_no_flipped_bit_passes(
    first: int, count: int, kind: int, chain: int, data: st.DataObject
) -> None:
    run = Run(first, count, kind, chain)
    encoded = encode_run(run)
    assert len(encoded) == RUN_BYTES
    assert int.from_bytes(encoded[:4], "little") == RUN_TAG
    assert decode_run(b"before" + encoded + b"after", 6) == run
    flipped = bytearray(encoded)
    bit = data.draw(st.integers(0, 8 * RUN_BYTES - 1))
    flipped[bit // 8] ^= 1 << bit % 8
    assert decode_run(bytes(flipped), 0) is None
    assert decode_run(encoded[:-1], 0) is None


@given(st.integers(0, 1000), st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=12))
def test_an_index_with_runs_round_trips(first: int, entries: list[tuple[bool, int]]) -> None:
    offsets, found, place = array("I"), list[Span](), 80
    for is_run, size in entries:
        sequence = first + len(offsets)
        if is_run:
            offsets.extend([place] * size)
            found.append((sequence, sequence + size))
        else:
            offsets.append(place)
        place += 17 + size
    words = pack_index(offsets, first, found)
    assert len(words) == sum(1 + is_run for is_run, _ in entries)
    assert unpack_index(words, first) == (offsets, tuple(found))


def test_an_index_that_ends_within_a_run_is_none() -> None:
    assert unpack_index(array("I", [80, 2**31 | 97]), 0) is None
