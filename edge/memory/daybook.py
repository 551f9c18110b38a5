"""What was sold on each business day, by item and price, of the days that are still needed: for the totals that a shop
gives its own company's other shops.

Fed with every receipt that counts (1) and every one that is taken back (-1), in any order. A day
is forgotten once its totals are out; what comes in later for it (a late receipt, a post-void of last week) is in the
week's figures, not in a second message about the day.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Final

from edge.limits import DAYBOOK_DAYS_MAX, SHARED_ROWS_MAX
from edge.records.receipt import Receipt
from edge.records.shared import DayRow, ItemDay

_Cell = list[int]  # units in thousandths, amount
_ZERO: Final = (0, 0)


class DayBook:
    """Totals by (day, SKU, price). Not thread-safe; lives on the event loop."""

    def __init__(self) -> None:
        self._days: dict[int, dict[tuple[str, int], _Cell]] = {}  # by date ordinal
        self._closed = 0  # days up to this one are out

    @property
    def days(self) -> tuple[date, ...]:
        """The days held, oldest first."""
        return tuple(date.fromordinal(day) for day in sorted(self._days))

    def add(self, receipt: Receipt, sign: int) -> None:
        """Add (1) or take away (-1) a receipt's lines; of a day that is out or too long ago: nothing."""
        day = receipt.business_day.toordinal()
        if day <= self._closed:
            return
        cells = self._days.get(day)
        if cells is None:
            cells = self._days[day] = {}
            if len(self._days) > DAYBOOK_DAYS_MAX:
                self.close(date.fromordinal(min(self._days)))
        for line in receipt.lines:
            cell = cells.setdefault((line.sku, line.unit_minor), [0, 0])
            cell[0] += sign * line.quantity_milli
            cell[1] += sign * line.amount_minor

    def close(self, day: date) -> None:
        """Forget everything up to `day`, for good."""
        self._closed = max(self._closed, day.toordinal())
        for held in [held for held in self._days if held <= self._closed]:
            del self._days[held]

    def totals(self, day: date, categories: Mapping[str, str], currency: str) -> Iterator[ItemDay]:
        """The day's totals, a payload or more for each category, by category and SKU; of items in `categories` alone.

        `categories`: SKU → category. Rows that came out at zero are left out.
        """
        found: dict[str, list[DayRow]] = {}
        for (sku, price), (units, amount) in sorted(self._days.get(day.toordinal(), {}).items()):
            category = categories.get(sku)
            if category is not None and (units, amount) != _ZERO:
                found.setdefault(category, []).append(DayRow(sku, price, units, amount))
        for category, rows in sorted(found.items()):
            for start in range(0, len(rows), SHARED_ROWS_MAX):
                yield ItemDay(day, category, currency, tuple(rows[start : start + SHARED_ROWS_MAX]))
