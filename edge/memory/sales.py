"""The weekly sales of the shop: packed pages (`pages`), and a small table of changes not yet merged into them.

A receipt line costs one dictionary update. When CHANGES_MAX changes have gathered, or a query needs a week, they are
merged into that week's page; a late receipt rewrites only its own week.

Bounds: at most `weeks_max` weeks that had receipts are kept, and `evict_oldest` lets the owner free more. Weeks go
whole, oldest first, because dropping the weeks of slow sellers would bias every estimate towards the fast ones. What
arrives for a week below `horizon` is told to the caller and not stored: the outcome does not depend on arrival order.
A till with a wrong date adds one week to the table and so costs one old week, never the memory.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.memory.pages import Int, WeekPage

NO_HORIZON: Final = -(2**31)  # no week has been forgotten yet
CHANGES_MAX: Final = 4096  # about 1 MB; merging them takes a few ms
CHANGE_BYTES: Final = 300  # a dictionary entry, its key, a list of three integers; measured with CPython 3.11


@dataclass(frozen=True, slots=True)
class WeeklySales:
    """Sums per week and item, (w, n) int64 each; `price_min` > `price_max` where nothing (net) was sold."""

    units: Int  # thousandths, net of returns
    amount: Int  # minor units
    lines: Int
    price_min: Int  # minor units
    price_max: Int


class SalesTable:
    """Sales by (week, item, shelf price). Item indexes are below 65,536; weeks are `week_of` numbers."""

    def __init__(self, weeks_max: int) -> None:
        self.horizon = NO_HORIZON  # weeks below it are forgotten
        self._weeks_max = weeks_max
        self._pages: dict[int, WeekPage] = {}
        self._changes: dict[int, dict[int, list[int]]] = {}
        self._changed = 0  # entries in _changes
        self._page_bytes = 0

    @property
    def weeks(self) -> list[int]:
        """Weeks kept, ascending."""
        return sorted(self._pages)

    @property
    def rows(self) -> int:
        """Rows in the pages, merged or not yet."""
        return sum(map(len, self._pages.values())) + self._changed

    @property
    def nbytes(self) -> int:
        """Bytes held: pages and unmerged changes."""
        return self._page_bytes + self._changed * CHANGE_BYTES

    def open_week(self, week: int) -> bool:
        """Make sure that `week` is kept; False if it lies below the horizon and its sales cannot be stored."""
        if week in self._pages:
            return True
        if week < self.horizon:
            return False
        self._set(week, WeekPage.empty())
        if len(self._pages) > self._weeks_max:
            self.evict_oldest()
        return week >= self.horizon

    def add(self, week: int, key: int, units: int, amount: int, lines: int) -> None:
        """Add to the row `key` (item << PRICE_BITS | price) of a week that `open_week` accepted."""
        changes = self._changes.get(week)
        if changes is None:
            changes = self._changes[week] = {}
        row = changes.get(key)
        if row is None:
            changes[key] = [units, amount, lines]
            self._changed += 1
        else:
            row[0] += units
            row[1] += amount
            row[2] += lines

    @property
    def wants_merge(self) -> bool:
        """Whether enough changes have gathered."""
        return self._changed >= CHANGES_MAX

    def merge(self, first_week: int | None = None, last_week: int | None = None) -> None:
        """Move the changes of these weeks (both included; None: all) into their pages."""
        for week in sorted(self._changes):
            if (first_week is None or week >= first_week) and (last_week is None or week <= last_week):
                changes = self._changes.pop(week)
                self._changed -= len(changes)
                keys = np.fromiter(changes, np.int64, len(changes))
                values = np.array(list(changes.values()), np.int64).reshape(-1, 3)
                self._set(week, self._pages[week].merged(keys, values[:, 0], values[:, 1], values[:, 2]))

    def evict_oldest(self) -> int | None:
        """Forget the oldest week kept and everything before it; its number, or None if only one week is left."""
        if len(self._pages) < 2:
            return None
        week = min(self._pages)
        self._page_bytes -= self._pages.pop(week).nbytes
        self._changed -= len(self._changes.pop(week, ()))
        self.horizon = week + 1
        return week

    def page(self, week: int) -> WeekPage | None:
        """The merged page of `week`, or None if that week is not kept."""
        self.merge(week, week)
        return self._pages.get(week)

    def put_page(self, week: int, page: WeekPage) -> None:
        """Replace a whole week; for restoring a snapshot."""
        self._changed -= len(self._changes.pop(week, ()))
        self._set(week, page)

    def weekly(self, items: Int, first_week: int, last_week: int) -> WeeklySales:
        """Sums of `items` (indexes, (n,)) for each week from `first_week` to `last_week`, both included."""
        self.merge(first_week, last_week)
        shape = (last_week - first_week + 1, len(items))
        units, amount, lines, high = (np.zeros(shape, np.int64) for _ in range(4))
        low = np.full(shape, np.iinfo(np.int64).max, np.int64)
        for w in range(shape[0]):
            page = self._pages.get(first_week + w)
            if page is None or not len(page):
                continue
            rows, columns = page.rows_of(items)
            np.add.at(units[w], columns, page.units[rows])
            np.add.at(amount[w], columns, page.amount[rows])
            np.add.at(lines[w], columns, page.lines[rows])
            sold = page.units[rows] > 0
            prices = page.price[rows[sold]].astype(np.int64)
            np.minimum.at(low[w], columns[sold], prices)
            np.maximum.at(high[w], columns[sold], prices)
        return WeeklySales(units, amount, lines, low, high)

    def _set(self, week: int, page: WeekPage) -> None:
        old = self._pages.get(week)
        self._page_bytes += page.nbytes - (0 if old is None else old.nbytes)
        self._pages[week] = page
