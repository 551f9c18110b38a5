import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.encoding import cbor
from edge.errors import LocalError, RemoteError
from edge.privacy.aggregate import Accumulator, Window, chosen, window_of
from edge.privacy.histogram import Ladder, Sums
from edge.privacy.identifiers import Cell, Contribution, PricePaid

LADDER = Ladder(50, 8)
CELLS = [Cell(name) for name in ("bakery", "dairy", "deli", "fish", "fruit", "meat")]
LINE = st.builds(PricePaid, st.sampled_from(CELLS), st.integers(1, 10**6), st.integers(1, 1000))
RECEIPT = st.builds(Contribution, st.integers(2890, 2915), st.lists(LINE, min_size=1, max_size=12).map(tuple))


def accumulator(weeks: int = 4, cells_max: int = 3, closed: int = 2896) -> Accumulator:
    return Accumulator(LADDER, weeks, cells_max, weeks_open=20, closed=closed)


def filled(receipts: Sequence[Contribution]) -> Accumulator:
    found = accumulator()
    for position, receipt in enumerate(receipts):
        found.add(position, receipt)
    return found


def distance(a: Accumulator, b: Accumulator) -> tuple[int, int, int]:
    """L1 distances of counts, log sums and square sums over all windows and cells."""
    counts = logs = squares = 0
    for window in {*a.windows, *b.windows}:
        for cell in CELLS:
            one, two = a.sums(window, cell), b.sums(window, cell)
            counts += sum(abs(x - y) for x, y in zip(one.counts, two.counts, strict=True))
            logs += abs(one.log_sum - two.log_sum)
            squares += abs(one.square_sum - two.square_sum)
    return counts, logs, squares


@given(st.integers(0, 10_000), st.sampled_from([1, 4, 13]))
def test_windows_tile_the_weeks(week: int, weeks: int) -> None:
    window = window_of(week, weeks)
    assert week in window
    assert window.first % weeks == 0
    assert {window_of(other, weeks) for other in window} == {window}
    assert window_of(window.end, weeks).first == window.end


@given(st.lists(RECEIPT, max_size=12), st.data())
def test_a_receipt_moves_the_sums_by_no_more_than_is_claimed(receipts: list[Contribution], data: st.DataObject) -> None:
    """The sensitivity that the noise is measured against, over all windows and cells together."""
    one = data.draw(RECEIPT)
    at = data.draw(st.integers(0, len(receipts)))
    counts, logs, squares = distance(filled(receipts), filled([*receipts[:at], one, *receipts[at:]]))
    assert counts <= 3
    assert logs <= 3 * LADDER.clip_milli
    assert squares <= 3 * LADDER.clip_milli**2


@given(st.lists(LINE, min_size=1, max_size=12), st.integers(1, 6))
def test_a_receipt_counts_once_in_a_cell_and_in_few_cells(lines: list[PricePaid], cells_max: int) -> None:
    kept = chosen(tuple(lines), cells_max)
    cells = [line.cell for line in kept]
    assert len(cells) == len(set(cells)) == min(cells_max, len({line.cell for line in lines}))
    assert all(line is next(other for other in lines if other.cell == line.cell) for line in kept)


@given(st.lists(RECEIPT, max_size=20), st.integers(0, 2**32))
def test_a_log_that_is_read_again_counts_nothing_twice(receipts: list[Contribution], seed: int) -> None:
    rng = random.Random(seed)
    twice = accumulator()
    for position, receipt in enumerate(receipts):
        twice.add(position, receipt)
        again = rng.randrange(position + 1)
        for older in range(again, position + 1):
            assert not twice.add(older, receipts[older])
    assert twice.windows == filled(receipts).windows


@given(st.lists(RECEIPT, min_size=1, max_size=20), st.data())
def test_a_cancelled_receipt_leaves_the_sums_as_if_it_had_not_been(
    receipts: list[Contribution], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(receipts) - 1))
    found = filled(receipts)
    taken = found.cancel(len(receipts), receipts[at], at)
    assert taken == (2896 <= receipts[at].week < 2916)
    assert not found.cancel(len(receipts) + 1, receipts[at], at)  # once
    assert distance(found, filled([*receipts[:at], *receipts[at + 1 :]])) == (0, 0, 0)


def test_a_cancellation_comes_after_its_receipt() -> None:
    found = accumulator()
    with pytest.raises(LocalError):
        found.cancel(5, Contribution(2900, ()), 5)


def test_weeks_that_are_closed_or_far_ahead_take_nothing() -> None:
    found = accumulator(closed=2900)
    line = (PricePaid(CELLS[0], 100, 100),)
    assert not found.add(0, Contribution(2899, line))
    assert found.add(1, Contribution(2900, line))
    assert found.add(2, Contribution(2919, line))
    assert not found.add(3, Contribution(2920, line))
    found.close(2904)
    assert not found.add(4, Contribution(2903, line))
    assert not found.cancel(5, Contribution(2900, line), 1)
    found.close(2900)  # a clock set back opens nothing again
    assert not found.add(6, Contribution(2903, line))
    assert list(found.windows) == [Window(2916, 4)]
    assert (found.counted.counted, found.counted.late, found.counted.early) == (2, 4, 1)
    assert found.sums(Window(2900, 4), CELLS[0]) == Sums([0] * 8)


@given(st.lists(RECEIPT, max_size=20))
def test_the_state_brings_everything_back(receipts: list[Contribution]) -> None:
    before = filled(receipts)
    if receipts:
        before.cancel(len(receipts), receipts[0], 0)
    after = accumulator(closed=0)
    assert after.restore(before.state())
    assert (after.windows, after.position, after.closed) == (before.windows, before.position, before.closed)
    assert after.state() == before.state()


def test_a_state_of_other_rules_is_not_taken_over() -> None:
    state = filled([Contribution(2900, (PricePaid(CELLS[0], 100, 100),))]).state()
    other = accumulator(weeks=13)
    assert not other.restore(state)
    assert other.windows == {}


@given(st.binary(max_size=40), st.integers(0, 200), st.integers(0, 255))
def test_other_bytes_are_refused_or_are_a_state(junk: bytes, at: int, value: int) -> None:
    state = bytearray(filled([Contribution(2900, (PricePaid(CELLS[0], 100, 100),))]).state())
    state[at % len(state)] = value
    for data in (
        junk,
        bytes(state),
        cbor.encode([1, [4, 3, list(LADDER.edges_e4)], 0, 0, [[1, [], [["a", "", [1], 0, 0]]]]]),
    ):
        found = accumulator()
        try:
            taken = found.restore(data)
        except RemoteError:
            taken = False
        if not taken:
            assert found.windows == {}
