import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.memory.arrivals import Arrivals, SequenceRanges
from edge.records.receipt import TillPosition


@given(st.lists(st.integers(1, 40), max_size=80))
def test_ranges_are_a_set(numbers: list[int]) -> None:
    ranges, model = SequenceRanges(), set[int]()
    for number in numbers:
        assert ranges.add(number) is (number not in model)
        model.add(number)
        assert {n for n in range(45) if n in ranges} == model
    gaps = zip(ranges.last, ranges.first[1:], strict=False)
    assert all(next_first > last + 1 for last, next_first in gaps)  # as few ranges as possible


@given(st.permutations(list(range(1, 30))))
def test_ledger_indexes_are_found_whatever_the_order(order: list[int]) -> None:
    arrivals = Arrivals()
    for sequence in order:
        assert arrivals.note("1", TillPosition(1, sequence), 100 + sequence, readable=sequence % 3 != 0)
    for sequence in range(1, 30):
        expected = None if sequence % 3 == 0 else 100 + sequence
        assert arrivals.ledger_index("1", TillPosition(1, sequence)) == expected
    assert arrivals.ledger_index("2", TillPosition(1, 1)) is None
    assert len(arrivals.seen["1", 1].first) == 1


def test_only_the_newest_ledger_indexes_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.memory.arrivals.MEMORY_POSITIONS_MAX", 40)
    arrivals = Arrivals()
    for number in range(100):
        lane = str(number % 3)
        arrivals.note(lane, TillPosition(1, 1 + number // 3), number, readable=True)
        assert arrivals.held <= 40
    held = sorted(index for positions in arrivals.positions.values() for index in positions.indexes)
    assert held == list(range(100 - len(held), 100))
    assert len(held) >= 30
    assert arrivals.ledger_index("0", TillPosition(1, 1)) is None
    assert arrivals.was_seen("0", TillPosition(1, 1))


def test_cancellations_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.memory.arrivals.MEMORY_VOIDS_MAX", 2)
    arrivals = Arrivals()
    assert arrivals.void("1", TillPosition(1, 1))
    assert not arrivals.void("1", TillPosition(1, 1))
    assert arrivals.void("1", TillPosition(2, 1))
    assert not arrivals.void("1", TillPosition(1, 9))
    assert not arrivals.is_voided("1", TillPosition(1, 9))
