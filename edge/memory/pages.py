"""One week's sales of the shop, packed: a page of the price memory.

A row is (item, shelf price) and holds what was sold at that price in that week: thousandths of a unit, amount paid and
net lines. All three are sums, so a cancelled receipt is a subtraction and no arrival order leaves a trace, which the
minimum or the mean of a price would. Rows are sorted by (item, price), all-zero rows do not exist, and every column
has the narrowest integer type that holds it: about 14 bytes a row in a grocery shop.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]
Packed = NDArray[Any]  # any integer dtype

PRICE_BITS: Final = 32  # a row's key is item << PRICE_BITS | price
PAGE_BYTES_FIXED: Final = 800  # five array headers, the page itself and its dictionary entry
_NARROW: Final = (np.dtype("<i1"), np.dtype("<i2"), np.dtype("<i4"))


def pack(column: NDArray[np.integer[Any]]) -> Packed:
    """The same integers in the narrowest signed little-endian type that holds them all."""
    if not len(column):
        return column.astype("<i1")
    low, high = int(column.min()), int(column.max())
    for dtype in _NARROW:
        info = np.iinfo(dtype)
        if info.min <= low and high <= info.max:
            return column.astype(dtype)
    return column.astype("<i8")


@dataclass(frozen=True, slots=True)
class WeekPage:
    """Columns of equal length, sorted by (item, price)."""

    item: NDArray[np.uint16]  # index of the SKU
    price: Packed  # shelf price, minor units
    units: Packed  # thousandths sold, net of returns
    amount: Packed  # paid, minor units, tax as shelf
    lines: Packed  # sale lines minus return lines

    @classmethod
    def empty(cls) -> "WeekPage":
        """A page of a week in which nothing has been counted."""
        none = np.zeros(0, np.int64)
        return cls.build(none, none, none, none)

    @classmethod
    def build(cls, keys: Int, units: Int, amount: Int, lines: Int) -> "WeekPage":
        """A page of these rows; rows with equal keys (item << PRICE_BITS | price) are summed, zero rows left out."""
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        if len(keys):
            starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
            keys = keys[starts]
            units, amount, lines = (np.add.reduceat(column[order], starts) for column in (units, amount, lines))
            kept = (units != 0) | (amount != 0) | (lines != 0)
            keys, units, amount, lines = keys[kept], units[kept], amount[kept], lines[kept]
        return cls(
            item=(keys >> PRICE_BITS).astype("<u2"),
            price=pack(keys & ((1 << PRICE_BITS) - 1)),
            units=pack(units),
            amount=pack(amount),
            lines=pack(lines),
        )

    def __len__(self) -> int:
        return len(self.item)

    @property
    def keys(self) -> Int:
        """(rows,) item << PRICE_BITS | price."""
        return (self.item.astype(np.int64) << PRICE_BITS) | self.price.astype(np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes this page holds, headers included."""
        columns = (self.item, self.price, self.units, self.amount, self.lines)
        return PAGE_BYTES_FIXED + sum(column.nbytes for column in columns)

    def merged(self, keys: Int, units: Int, amount: Int, lines: Int) -> "WeekPage":
        """This page with more rows added in."""
        return WeekPage.build(
            np.concatenate((self.keys, keys)),
            np.concatenate((self.units.astype(np.int64), units)),
            np.concatenate((self.amount.astype(np.int64), amount)),
            np.concatenate((self.lines.astype(np.int64), lines)),
        )

    def renumbered(self, rank: Int) -> "WeekPage":
        """This page with item i called rank[i]."""
        keys = (rank[self.item] << PRICE_BITS) | self.price.astype(np.int64)
        return WeekPage.build(
            keys, self.units.astype(np.int64), self.amount.astype(np.int64), self.lines.astype(np.int64)
        )

    def rows_of(self, items: Int) -> tuple[Int, Int]:
        """Rows of the wanted `items` (indexes, (n,)): their row numbers, and for each the position within `items`."""
        wanted = items.astype(np.uint16)
        left = np.searchsorted(self.item, wanted, side="left")
        counts = np.searchsorted(self.item, wanted, side="right") - left
        before = np.cumsum(counts) - counts
        rows = np.repeat(left - before, counts) + np.arange(int(counts.sum()))
        return rows, np.repeat(np.arange(len(items)), counts)
