"""The shop's calendar as its tills tell it."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.box.days import BusinessDays
from edge.errors import RemoteError
from edge.records.receipt import Receipt, ReceiptKind, ReceiptLine, TillPosition

MONDAY = date(2026, 1, 5)


def ring(lane: str, day: int, *, end: bool = False, training: bool = False) -> Receipt:
    return Receipt(
        lane=lane,
        position=TillPosition(1, 1),
        kind=ReceiptKind.DAY_END if end else ReceiptKind.SALE,
        business_day=MONDAY + timedelta(days=day),
        wall_ms=0,
        currency="EUR",
        lines=() if end else (ReceiptLine("a", 1000, 100, 100),),
        training=training,
    )


def after(*receipts: Receipt, closed: int | None = None) -> date | None:
    days = BusinessDays(None if closed is None else MONDAY + timedelta(days=closed))
    for receipt in receipts:
        days.observe(receipt)
    return days.due()


def test_a_day_is_over_when_every_lane_in_use_ended_it() -> None:
    assert after() is None
    assert after(ring("1", 0)) is None
    assert after(ring("1", 0), ring("2", 0), ring("1", 0, end=True)) is None
    assert after(ring("1", 0), ring("2", 0), ring("1", 0, end=True), ring("2", 0, end=True)) == MONDAY


def test_ringing_on_a_later_day_ends_the_earlier_one() -> None:
    assert after(ring("1", 0), ring("1", 2), closed=-1) == MONDAY + timedelta(days=1)


def test_an_idle_lane_is_not_waited_for_and_a_silent_one_for_a_week() -> None:
    assert after(ring("1", 0), ring("2", 0, end=True), ring("2", 3, end=True), closed=-1) is None
    assert after(ring("1", 0), ring("2", 8, end=True), closed=-1) == MONDAY + timedelta(days=8)


def test_training_and_a_till_from_the_far_future_say_nothing() -> None:
    assert after(ring("1", 0, end=True), ring("1", 1, end=True, training=True), closed=-1) == MONDAY
    assert after(ring("1", 0, end=True), ring("1", 5000, end=True), closed=-1) == MONDAY


def test_a_closed_day_is_not_due_again_and_never_reopens() -> None:
    days = BusinessDays()
    days.observe(ring("1", 0, end=True))
    days.close_through(MONDAY)
    assert days.due() is None
    with pytest.raises(RemoteError, match="is closed"):
        days.close_through(MONDAY - timedelta(days=1))


def test_lanes_that_keep_a_day_open_are_named() -> None:
    days = BusinessDays()
    days.observe(ring("1", 1, end=True))
    days.observe(ring("2", 1))
    assert days.waiting_for() == {"2": MONDAY}


EVENTS = st.lists(st.tuples(st.sampled_from("123"), st.integers(0, 12), st.booleans()), max_size=30)


@given(events=EVENTS, data=st.data())
def test_order_of_arrival_does_not_matter_and_a_snapshot_restores(
    events: list[tuple[str, int, bool]], data: st.DataObject
) -> None:
    receipts = [ring(lane, day, end=end) for lane, day, end in events]
    shuffled = data.draw(st.permutations(receipts))
    assert after(*receipts, closed=-1) == after(*shuffled, closed=-1)
    days = BusinessDays()
    for receipt in receipts:
        days.observe(receipt)
    again = BusinessDays.restore(days.snapshot())
    assert (again.due(), again.waiting_for(), again.newest) == (days.due(), days.waiting_for(), days.newest)


def test_a_first_day_that_ended_before_the_box_looked_is_closed_though_all_lanes_went_on() -> None:
    """A backlog: the day end and the next day's receipts come in one group."""
    days = BusinessDays()
    for lane in ("1", "2"):
        days.observe(ring(lane, 0))
        days.observe(ring(lane, 0, end=True))
        days.observe(ring(lane, 1))
    assert days.due() == MONDAY
    assert BusinessDays.restore(days.snapshot()).due() == MONDAY
