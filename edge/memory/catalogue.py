"""What the owner said about the items, and what was published on the shelf, day by day.

Versions are kept as packed columns: an item file makes one version that holds the items whose reference price, cost,
category or promotions changed; a price book makes one that holds its prices. On business day d an item is as the last
version with `day` <= d says; of two versions of one day the one applied later wins. Applying is in the order of the
log, so there is one writer and no ambiguity.

The SKU's index (below 65,536) is given here, at its first sale or its first naming, and lives as long as the process.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.limits import ITEMS_MAX, MEMORY_UNLISTED_MAX
from edge.memory.pages import Int, Packed, pack
from edge.records.history import Float, week_start
from edge.records.item import Item, Promotion

SKU_BYTES: Final = 260  # name, dictionary entry, list slots and current values of one SKU; measured with CPython 3.11
VERSION_BYTES_FIXED: Final = 1500  # the headers of one version's arrays
UNLISTED: Final = -1  # category number of a SKU that no item file has named
_CHUNK: Final = 128  # items of the daily grid worked on at once: 160 weeks x 128 items x 5 grids = 6 MB
_NO_PRICE: Final = -1

assert ITEMS_MAX + MEMORY_UNLISTED_MAX < 2**16

# (item index, start, end, price, featured): what a promotion is in a version
PromotionRow = tuple[int, int, int, int, bool]


@dataclass(frozen=True, slots=True)
class ItemVersion:
    """Items as an item file put them from `day` (ordinal) on. `promotions` are grouped by item, first listed first."""

    day: int
    item: NDArray[np.uint16]  # ascending
    reference: Packed  # minor units; _NO_PRICE: no longer offered
    cost: Packed  # 1/10,000 currency unit
    promotions: Packed  # (p, 5) PromotionRow

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        columns = (self.item, self.reference, self.cost, self.promotions)
        return VERSION_BYTES_FIXED + sum(column.nbytes for column in columns)


@dataclass(frozen=True, slots=True)
class BookVersion:
    """Prices published for business day `day` (ordinal) and after it."""

    day: int
    item: NDArray[np.uint16]  # ascending
    price: Packed  # minor units

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return VERSION_BYTES_FIXED + self.item.nbytes + self.price.nbytes


V = TypeVar("V", ItemVersion, BookVersion)


@dataclass(frozen=True, slots=True)
class WeeklyCatalogue:
    """Weekly means over the days of the week on which the value is known, (w, n) float64; NaN where on none."""

    reference: Float  # minor units, promotions included
    cost: Float  # 1/10,000 currency unit
    shelf: Float  # minor units: published price, or else the reference
    deal: Float  # share of days under a promotion, 0..1
    feature: Float  # share of days advertised
    offered: Float  # share of days on which an item file names the item


class Catalogue:
    """SKU numbers, categories, and the versions of items and books."""

    def __init__(self) -> None:
        self.index: dict[str, int] = {}
        self.skus: list[str] = []
        self.categories: list[str] = []
        self.category_of: list[int] = []  # by SKU index; UNLISTED: not in any item file
        self.item_versions: list[ItemVersion] = []  # ascending by day, at most one a day
        self.book_versions: list[BookVersion] = []
        self.unlisted = 0
        self._category_index: dict[str, int] = {}
        self._current: dict[int, tuple[int, int, tuple[Promotion, ...]]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        versions = sum(v.nbytes for v in self.item_versions) + sum(v.nbytes for v in self.book_versions)
        return SKU_BYTES * len(self.skus) + versions

    def number(self, sku: str) -> int | None:
        """Index of `sku`, given now if it is new; None when there is no room for another SKU without an item file."""
        found = self.index.get(sku)
        if found is None and self.unlisted < MEMORY_UNLISTED_MAX:
            found = self._add(sku, UNLISTED)
            self.unlisted += 1
        return found

    def members(self, category: str) -> list[int]:
        """Indexes of the items on sale in `category` by the newest item file, in the order of their SKUs."""
        number = self._category_index.get(category)
        if number is None:
            return []
        found = [index for index in self._current if self.category_of[index] == number]
        return sorted(found, key=self.skus.__getitem__)

    def put_items(self, items: Iterable[Item], removed: Collection[str], day: date) -> int:
        """Add a version with those `items` that differ from what is in force; how many do."""
        ordinal = day.toordinal()
        newest = not self.item_versions or ordinal >= self.item_versions[-1].day
        rows: dict[int, tuple[int, int]] = {}
        promotions: list[PromotionRow] = []
        for item in items:
            index = self._list(item.sku, item.category)
            if index is None:
                continue
            state = (item.reference_minor, item.cost_e4, item.promotions)
            if newest and self._current.get(index) == state:
                continue
            self._current[index] = state
            rows[index] = (item.reference_minor, item.cost_e4)
            promotions += [
                (index, p.start.toordinal(), p.end.toordinal(), p.price_minor, p.featured) for p in item.promotions
            ]
        for sku in removed:
            index = self.index.get(sku)
            if index is not None and index in self._current:
                rows[index] = (_NO_PRICE, 0)
                del self._current[index]
        if rows:
            promotions = [row for row in promotions if rows[row[0]][0] != _NO_PRICE]
            promotions.sort(key=lambda row: row[0])  # stable: first listed stays first
            version = _item_version(ordinal, rows, promotions)
            _put(self.item_versions, version, _joined_items)
            if not newest:  # what is in force now may have changed in the middle
                self.restore_versions(self.item_versions, self.book_versions)
        return len(rows)

    def put_book(self, prices: Mapping[str, int], day: date) -> None:
        """Add the prices published for `day` and after it; SKUs that no item file named are left out."""
        numbers = ((self.index.get(sku), price) for sku, price in prices.items())
        found = {i: price for i, price in numbers if i is not None and self.category_of[i] != UNLISTED}
        if found:
            _put(self.book_versions, _book_version(day.toordinal(), found), _joined_books)

    def forget_before(self, week: int) -> None:
        """Keep of the versions older than `week` only what still holds when it begins, as one version of each kind."""
        day = week_start(week).toordinal()
        items = bisect_left(self.item_versions, day, key=lambda v: v.day)
        if items:
            self.item_versions[:items] = [_joined_items(self.item_versions[:items], from_day=day)]
        books = bisect_left(self.book_versions, day, key=lambda v: v.day)
        if books > 1:
            self.book_versions[:books] = [_joined_books(self.book_versions[:books])]

    def restore(self, skus: list[str], categories: list[str], category_of: list[int]) -> None:
        """Take the numbering of a snapshot; only on an empty catalogue, before its versions are put in."""
        for sku, category in zip(skus, category_of, strict=True):
            self._add(sku, category)
        self.categories = categories
        self._category_index = {name: number for number, name in enumerate(categories)}
        self.unlisted = sum(category == UNLISTED for category in category_of)

    def restore_versions(self, items: list[ItemVersion], books: list[BookVersion]) -> None:
        """Take the versions of a snapshot, ascending by day."""
        self.item_versions, self.book_versions = items, books
        self._current.clear()
        for version in items:
            promotions: dict[int, list[Promotion]] = {}
            for index, start, end, price, featured in version.promotions.tolist():
                promotion = Promotion(date.fromordinal(start), date.fromordinal(end), price, bool(featured))
                promotions.setdefault(index, []).append(promotion)
            columns = (version.item.tolist(), version.reference.tolist(), version.cost.tolist())
            for index, reference, cost in zip(*columns, strict=True):
                if reference == _NO_PRICE:
                    self._current.pop(index, None)
                else:
                    self._current[index] = (reference, cost, tuple(promotions.get(index, ())))

    def weekly(self, items: Int, first_week: int, last_week: int) -> WeeklyCatalogue:
        """What was in force for `items` (indexes, (n,)) in each week from first to last, both included."""
        parts = [
            self._weekly(items[start : start + _CHUNK], first_week, last_week)
            for start in range(0, max(len(items), 1), _CHUNK)
        ]
        return WeeklyCatalogue(*(np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True)))

    def _weekly(self, items: Int, first_week: int, last_week: int) -> tuple[Float, ...]:
        first = week_start(first_week).toordinal()
        days = 7 * (last_week - first_week + 1)
        shape = (days, len(items))
        reference, cost, book = (np.full(shape, np.nan) for _ in range(3))
        deal, feature = np.zeros(shape), np.zeros(shape)
        for version in self.item_versions:
            start = max(version.day - first, 0)
            if start >= days:
                break
            columns, rows = _common(items, version.item)
            price = version.reference[rows].astype(np.float64)
            reference[start:, columns] = np.where(price == _NO_PRICE, np.nan, price)
            cost[start:, columns] = np.where(price == _NO_PRICE, np.nan, version.cost[rows].astype(np.float64))
            deal[start:, columns] = feature[start:, columns] = 0.0
            column_of = dict(zip(items[columns].tolist(), columns.tolist(), strict=True))
            for index, begin, end, value, featured in reversed(version.promotions.tolist()):  # the first listed wins
                column = column_of.get(index)
                a, b = max(begin - first, start), end + 1 - first
                if column is not None and b > a:
                    reference[a:b, column], deal[a:b, column], feature[a:b, column] = value, 1.0, featured
        for books in self.book_versions:
            start = max(books.day - first, 0)
            if start >= days:
                break
            columns, rows = _common(items, books.item)
            book[start:, columns] = books.price[rows]
        known = ~np.isnan(reference)
        shelf = np.where(known & ~np.isnan(book), book, reference)
        offered = known.reshape(days // 7, 7, len(items)).mean(axis=1)
        return (
            _known_mean(reference, known),
            _known_mean(cost, known),
            _known_mean(shelf, known),
            deal.reshape(days // 7, 7, len(items)).mean(axis=1),
            feature.reshape(days // 7, 7, len(items)).mean(axis=1),
            offered,
        )

    def _list(self, sku: str, category: str) -> int | None:
        """Index of a SKU that an item file puts into `category`; None when ITEMS_MAX are listed."""
        number = self._category_index.get(category)
        if number is None:
            number = self._category_index[category] = len(self.categories)
            self.categories.append(category)
        index = self.index.get(sku)
        if index is None or self.category_of[index] == UNLISTED:
            if len(self.skus) - self.unlisted >= ITEMS_MAX:
                return None
            if index is None:
                return self._add(sku, number)
            self.unlisted -= 1
        self.category_of[index] = number
        return index

    def _add(self, sku: str, category: int) -> int:
        index = self.index[sku] = len(self.skus)
        self.skus.append(sku)
        self.category_of.append(category)
        return index


def _common(items: Int, of_version: NDArray[np.uint16]) -> tuple[Int, Int]:
    """Positions of the common item indexes within `items` (any order) and within `of_version` (ascending)."""
    wanted = items.astype(np.uint16)
    rows = np.searchsorted(of_version, wanted)
    hit = rows < len(of_version)
    hit[hit] = of_version[rows[hit]] == wanted[hit]
    return np.flatnonzero(hit), rows[hit]


def _known_mean(values: Float, known: NDArray[np.bool_]) -> Float:
    """Weekly means of daily `values` over the `known` days; NaN where there is none."""
    days = known.reshape(len(known) // 7, 7, known.shape[1]).sum(axis=1)
    total = np.where(known, values, 0.0).reshape(len(known) // 7, 7, known.shape[1]).sum(axis=1)
    return np.where(days > 0, total / np.maximum(days, 1), np.nan)


def _item_version(day: int, rows: Mapping[int, tuple[int, int]], promotions: Collection[Sequence[int]]) -> ItemVersion:
    order = sorted(rows)
    return ItemVersion(
        day=day,
        item=np.array(order, "<u2"),
        reference=pack(np.array([rows[i][0] for i in order], np.int64)),
        cost=pack(np.array([rows[i][1] for i in order], np.int64)),
        promotions=pack(np.array(list(promotions), np.int64).reshape(-1)).reshape(-1, 5),
    )


def _book_version(day: int, prices: Mapping[int, int]) -> BookVersion:
    order = sorted(prices)
    return BookVersion(day=day, item=np.array(order, "<u2"), price=pack(np.array([prices[i] for i in order], np.int64)))


def _joined_items(versions: Sequence[ItemVersion], *, from_day: int | None = None) -> ItemVersion:
    """One version that equals `versions`, oldest first, after the last of them; removals stay in it.

    With `from_day` it need only be right from that business day (ordinal) on, as the first version of all.
    """
    rows: dict[int, tuple[int, int]] = {}
    promotions: dict[int, list[list[int]]] = {}
    for version in versions:
        for index, *row in zip(version.item.tolist(), version.reference.tolist(), version.cost.tolist(), strict=True):
            rows[index] = (row[0], row[1])
            promotions.pop(index, None)
        for promotion in version.promotions.tolist():
            if from_day is None or promotion[2] >= from_day:
                promotions.setdefault(promotion[0], []).append(promotion)
    if from_day is not None:
        rows = {index: row for index, row in rows.items() if row[0] != _NO_PRICE}
    kept = [promotion for index in sorted(rows) for promotion in promotions.get(index, ())]
    return _item_version(versions[-1].day, rows, kept)


def _joined_books(versions: Sequence[BookVersion]) -> BookVersion:
    """One version that equals `versions`, oldest first, after the last of them."""
    prices: dict[int, int] = {}
    for version in versions:
        prices.update(zip(version.item.tolist(), version.price.tolist(), strict=True))
    return _book_version(versions[-1].day, prices)


def _put(versions: list[V], version: V, join: Callable[[Sequence[V]], V]) -> None:
    """Insert by day; into the version of the same day if there is one, so that there is one a day at most."""
    at = bisect_left(versions, version.day, key=lambda v: v.day)
    if at < len(versions) and versions[at].day == version.day:
        versions[at] = join((versions[at], version))
    else:
        versions.insert(at, version)
