"""Which business days are over. Pure: till events in, closed days out; no clock.

A day is over on a lane when the lane said so (`ReceiptKind.DAY_END`) or rang something on a later day. It is over in
the shop when it is over on every lane that is in use: one that rang or ended a day within the last `LANE_IDLE_DAYS`. A
till that fell silent must not stop pricing for ever: `close_through` closes from outside, on the word of a wall clock.
"""

from datetime import date, timedelta
from typing import Final

from edge.errors import RemoteError
from edge.records.receipt import Receipt, ReceiptKind

LANE_IDLE_DAYS: Final = 7  # a lane unused for a week is not waited for
DAY_STEP_MAX: Final = 400  # a till whose calendar is off by more is not followed: a typing error must not close a year


class BusinessDays:
    """The shop's calendar as its tills tell it. Invariant: `closed_through` never goes back."""

    def __init__(self, closed_through: date | None = None) -> None:
        self.closed_through = closed_through
        self._first: date | None = None  # oldest day any lane has mentioned
        self._seen: dict[str, date] = {}  # lane → newest day it rang on or ended
        self._over: dict[str, date] = {}  # lane → newest day that is over on it

    @property
    def newest(self) -> date | None:
        """The newest business day any lane has mentioned."""
        return max(self._seen.values(), default=None)

    @property
    def first(self) -> date | None:
        """The oldest business day any lane has mentioned."""
        return self._first

    def observe(self, receipt: Receipt) -> None:
        """Take note of a durable receipt, in any order. Training receipts say nothing about the calendar."""
        if receipt.training:
            return
        lane, day = receipt.lane, receipt.business_day
        newest = self.newest
        if newest is not None and day > newest + timedelta(days=DAY_STEP_MAX):
            return
        self._first = day if self._first is None else min(day, self._first)
        self._seen[lane] = max(day, self._seen.get(lane, day))
        over = day if receipt.kind is ReceiptKind.DAY_END else day - timedelta(days=1)
        self._over[lane] = max(over, self._over.get(lane, over))

    def due(self) -> date | None:
        """The newest day that is over on every lane in use and later than `closed_through`, or None."""
        newest = self.newest
        if newest is None or self._first is None:
            return None
        idle = newest - timedelta(days=LANE_IDLE_DAYS)
        day = min(over for lane, over in self._over.items() if self._seen[lane] >= idle)
        if self.closed_through is None:
            # Of days before the first that a box ever saw it knows nothing, and so closes none of them.
            return day if day >= self._first else None
        return day if day > self.closed_through else None

    def newest_after(self, day: date) -> date:
        """The newest day, `day` or later, on which the shop is known to have opened: it is too late to price that one.

        A till whose calendar runs more than `LANE_IDLE_DAYS` ahead is not believed: it must not postpone every price.
        """
        last = day + timedelta(days=LANE_IDLE_DAYS)
        return max((seen for seen in self._seen.values() if day <= seen <= last), default=day)

    def waiting_for(self) -> dict[str, date]:
        """Lanes in use that keep the newest day open, with the newest day that is over on each."""
        newest = self.newest
        if newest is None:
            return {}
        idle = newest - timedelta(days=LANE_IDLE_DAYS)
        return {lane: over for lane, over in self._over.items() if self._seen[lane] >= idle and over < newest}

    def close_through(self, day: date) -> None:
        """Record that `day` is over in the shop, whatever lanes say."""
        if self.closed_through is not None and day < self.closed_through:
            raise RemoteError(f"business day {day} lies before {self.closed_through}, which is closed", reason="order")
        self.closed_through = day

    def snapshot(self) -> dict[str, object]:
        """Everything, in types that canonical CBOR knows (days as ordinals)."""
        return {
            "closed": 0 if self.closed_through is None else self.closed_through.toordinal(),
            "first": 0 if self._first is None else self._first.toordinal(),
            "seen": {lane: day.toordinal() for lane, day in self._seen.items()},
            "over": {lane: day.toordinal() for lane, day in self._over.items()},
        }

    @classmethod
    def restore(cls, state: dict[str, object]) -> "BusinessDays":
        """The inverse of `snapshot`."""
        closed, first, seen, over = state["closed"], state["first"], state["seen"], state["over"]
        assert isinstance(closed, int)
        assert isinstance(first, int)
        assert isinstance(seen, dict)
        assert isinstance(over, dict)
        days = cls(date.fromordinal(closed) if closed else None)
        days._first = date.fromordinal(first) if first else None
        days._seen = {lane: date.fromordinal(day) for lane, day in seen.items()}
        days._over = {lane: date.fromordinal(day) for lane, day in over.items()}
        return days
