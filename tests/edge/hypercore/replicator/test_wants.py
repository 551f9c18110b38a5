import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import RemoteError
from edge.hypercore.messages import Bitfield, Unwant, Want
from edge.hypercore.replicator.stretches import Stretches
from edge.hypercore.replicator.wants import RemoteWants, bitfields, spans
from edge.limits import BITFIELD_BITS_MAX, BITFIELD_BYTES_MAX, INTEGER_MAX, WANT_BLOCKS, WANTS_MAX

ranges = st.lists(st.tuples(st.integers(0, 150_000), st.integers(1, 70_000)), max_size=8)


@given(ranges, st.integers(0, 100_000))
def test_bitfields_say_what_is_held(pieces: list[tuple[int, int]], start: int) -> None:
    held = Stretches((low, low + count) for low, count in pieces)
    expected = Stretches(held.within(start, 300_000))
    messages = list(bitfields(held.within(start, 300_000), start))
    said = Stretches()
    for message in messages:
        assert message.start % 32 == 0
        assert len(message.words) % 4 == 0
        assert 0 < len(message.words) <= BITFIELD_BITS_MAX // 8
        assert message.start // BITFIELD_BITS_MAX == (message.start + 8 * len(message.words) - 1) // BITFIELD_BITS_MAX
        for low, high, there in spans(message):
            if there:
                said.add(low, high)
    assert said.edges == expected.edges


@given(st.integers(0, 1000), st.binary(max_size=9000).map(lambda data: data[: len(data) // 4 * 4]))
def test_spans_of_any_bitfield(start: int, words: bytes) -> None:
    found = list(spans(Bitfield(32 * start, words)))
    at = 32 * start
    for low, high, held in found:
        assert low == at < high
        for index in {low, high - 1, (low + high) // 2}:
            bit = index - 32 * start
            assert bool(words[bit // 8] >> bit % 8 & 1) == held
        at = high
    assert at == 32 * start + 8 * len(words)


@pytest.mark.parametrize(
    ("bitfield", "reason"),
    [
        (Bitfield(1, bytes(4)), "bitfield"),
        (Bitfield(0, bytes(BITFIELD_BYTES_MAX + 4)), "too_large"),
        (Bitfield(INTEGER_MAX - INTEGER_MAX % 32, bytes(8)), "range"),
    ],
)
def test_bitfields_that_break_the_rules(bitfield: Bitfield, reason: str) -> None:
    with pytest.raises(RemoteError) as caught:
        list(spans(bitfield))
    assert caught.value.reason == reason


def test_wants_are_remembered_up_to_a_bound() -> None:
    wants = RemoteWants()
    assert not wants.touch(0, 100)
    wants.add(Want(64, 32))
    wants.add(Want(1000, 7, any=True))
    assert wants.touch(95, 96)
    assert not wants.touch(96, 1000)
    assert wants.touch(1006, 1007)
    wants.remove(Unwant(64, 32))
    wants.remove(Unwant(64, 32))
    assert not wants.touch(64, 96)
    for number in range(WANTS_MAX + 5):
        wants.add(Want(10_000 + 32 * number, 32))
    assert len(wants.spans) == WANTS_MAX
    assert wants.touch(0, 1)  # beyond the bound a peer hears of everything
    with pytest.raises(RemoteError):
        wants.add(Want(0, 2 * WANT_BLOCKS))
