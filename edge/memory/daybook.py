"""What was sold on each business day, by item and price, of the days that are still needed: for the totals that a shop
gives its own company's other shops.

Fed with every receipt that counts and every one that is taken back, in any order. What is behind a day is counted too
(`receipts`): a day book that began in the middle of a day has only a part of it, and whoever tells a day compares.
`changes` counts up with each change of a day, so that nobody need look at its rows to know.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from edge.limits import DAYBOOK_DAYS_MAX, SHARED_ROWS_MAX
from edge.records.receipt import Receipt
from edge.records.shared import DayRow, ItemDay

_Cell = list[int]  # units in thousandths, amount
_ZERO: Final = (0, 0)


@dataclass(slots=True)
class _Day:
    receipts: int = 0
    changes: int = 0
    cells: dict[tuple[str, int], _Cell] = field(default_factory=dict)  # by SKU and price


class DayBook:
    """Totals by (day, SKU, price). Not thread-safe; lives on the event loop."""

    def __init__(self) -> None:
        self._days: dict[int, _Day] = {}  # by date ordinal
        self._closed = 0  # days up to this one are forgotten for good

    @property
    def days(self) -> tuple[date, ...]:
        """The days held, oldest first."""
        return tuple(date.fromordinal(day) for day in sorted(self._days))

    def receipts(self, day: date) -> int:
        """Receipts behind the totals of `day`, less those taken back."""
        held = self._days.get(day.toordinal())
        return 0 if held is None else held.receipts

    def changes(self, day: date) -> int:
        """How often `day` has changed since the start."""
        held = self._days.get(day.toordinal())
        return 0 if held is None else held.changes

    def add(self, position: int, receipt: Receipt) -> bool:  # noqa: ARG002 - the caller sees to it that each comes once
        """Count a receipt; False where its day is forgotten or too long ago."""
        return self._count(receipt, 1)

    def cancel(self, position: int, receipt: Receipt, original: int) -> bool:  # noqa: ARG002 - as above
        """Take a receipt back; False where its day is forgotten or too long ago."""
        return self._count(receipt, -1)

    def _count(self, receipt: Receipt, sign: int) -> bool:
        ordinal = receipt.business_day.toordinal()
        if ordinal <= self._closed:
            return False
        day = self._days.get(ordinal)
        if day is None:
            if len(self._days) >= DAYBOOK_DAYS_MAX:
                oldest = min(self._days)
                self.close(date.fromordinal(min(oldest, ordinal)))
                if ordinal < oldest:
                    return False
            day = self._days[ordinal] = _Day()
        day.receipts += sign
        day.changes += 1
        for line in receipt.lines:
            cell = day.cells.setdefault((line.sku, line.unit_minor), [0, 0])
            cell[0] += sign * line.quantity_milli
            cell[1] += sign * line.amount_minor
        return True

    def close(self, day: date) -> None:
        """Forget everything up to `day`, for good."""
        self._closed = max(self._closed, day.toordinal())
        for held in [held for held in self._days if held <= self._closed]:
            del self._days[held]

    def totals(self, day: date, categories: Mapping[str, str], currency: str) -> Iterator[ItemDay]:
        """The day's totals, a payload or more for each category, by category and SKU; of items in `categories` alone.

        `categories`: SKU → category. Rows that came out at zero are left out.
        """
        held = self._days.get(day.toordinal(), _Day())
        found: dict[str, list[DayRow]] = {}
        for (sku, price), (units, amount) in sorted(held.cells.items()):
            category = categories.get(sku)
            if category is not None and (units, amount) != _ZERO:
                found.setdefault(category, []).append(DayRow(sku, price, units, amount))
        for category, rows in sorted(found.items()):
            for start in range(0, len(rows), SHARED_ROWS_MAX):
                yield ItemDay(day, category, currency, tuple(rows[start : start + SHARED_ROWS_MAX]))
