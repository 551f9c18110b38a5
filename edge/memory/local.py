"""LocalPriceMemory: what this shop sold, at what prices, week by week; a view of the ledger, never the truth itself.

It is fed every counted record once, in whatever order the tills deliver: the result depends on the set of receipts
alone. Receipts are summed by (week of the till's business day, SKU, shelf price); see `pages`. A receipt seen before
is ignored; training, voided and day-end receipts count nothing; a post-void cancels its receipt whether that came
before or comes after, by reading it again from the ledger and subtracting it.

Amounts are kept with tax as on the shelf. Where a till reports the other way, they are converted with the shop's one
`tax_permille` (0 unless set); the shelf price of a line is on the shelf's terms always.

Memory is bounded by `MemoryConfig.bytes_max` and `weeks_max`: whole weeks are forgotten, oldest first (see `sales`).
Queries are answered from the merged pages and, where small, from a cache that notices changes.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np

from edge.errors import LocalError
from edge.limits import HISTORY_WEEKS_MAX, MEMORY_BYTES_MAX
from edge.memory.arrivals import Arrivals
from edge.memory.cache import QueryCache
from edge.memory.catalogue import Catalogue
from edge.memory.image import MemoryImage
from edge.memory.pages import PRICE_BITS, Int
from edge.memory.sales import NO_HORIZON, SalesTable, WeeklySales
from edge.memory.statistics import BASELINE_WEEKS, confidence, market_trend, presumed_stockout, success_metric
from edge.records.history import Bool, CategoryHistory, Float, week_of, week_start
from edge.records.item import Item
from edge.records.market import MarketTrend, PricePoint, PriceRange
from edge.records.money import COST_PER_UNIT, minor_per_unit
from edge.records.receipt import MILLI_PER_UNIT, Receipt, ReceiptKind

_EPOCH: Final = date(1970, 1, 1).toordinal()
_DAY_MS: Final = 86_400_000
_DAY_BYTES: Final = 350  # a dictionary entry with a list of four integers
_FIRST_WEEK: Final = week_of(date.min) + HISTORY_WEEKS_MAX  # leaves room for looking back
_LAST_WEEK: Final = week_of(date.max) - 1
_TREND_WEEKS: Final = 130  # how far back a trend looks: two and a half years for the season

ReadReceipt = Callable[[int], Receipt | None]
# (ledger index, receipt, None): it counts; (index of the post-void, receipt, its own index): it is taken out again
OnCounted = Callable[[int, Receipt, int | None], None]


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """Settings of the price memory."""

    bytes_max: int = MEMORY_BYTES_MAX  # bytes; beyond it the oldest weeks go
    weeks_max: int = HISTORY_WEEKS_MAX  # weeks with receipts that are kept
    cache_answers: int = 2048  # small answers remembered, about 500 bytes each
    snapshot_records: int = 8192  # ledger records between two snapshots: at most so many are read again at start
    shelf_tax_included: bool = True  # whether prices on the shelf include tax
    tax_permille: int = 0  # one rate, thousandths: converts receipts that report tax the other way than the shelf

    def __post_init__(self) -> None:
        if self.bytes_max < 1 << 20:
            raise ValueError("bytes_max must be at least one MiB")
        if not 2 <= self.weeks_max <= HISTORY_WEEKS_MAX:
            raise ValueError(f"weeks_max must be 2 to {HISTORY_WEEKS_MAX}")
        if self.cache_answers < 1 or self.snapshot_records < 1:
            raise ValueError("cache_answers and snapshot_records must be positive")
        if not 0 <= self.tax_permille <= 1000:
            raise ValueError("tax_permille must be 0 to 1000")


@dataclass(frozen=True, slots=True)
class DayTotals:
    """One business day over all lanes: what counts after voids and returns. Amounts in minor units, tax as shelf."""

    receipts: int = 0
    lines: int = 0  # sale lines and return lines
    units_milli: int = 0
    amount_minor: int = 0


@dataclass(slots=True)
class MemoryCounts:
    """What the memory has been given since the process started; for metrics, not part of its content."""

    counted: int = 0  # receipts that were added
    cancelled: int = 0  # receipts taken out again, or kept out, by a post-void
    duplicate: int = 0  # seen before
    uncounted: int = 0  # training, void, day end
    forgotten: int = 0  # of a week that is no longer kept
    unresolved: int = 0  # post-voids whose receipt could not be found, or does not count
    currency: int = 0  # in another currency than the shop's
    unlisted_lines: int = 0  # lines of SKUs for which there was no room
    evicted_weeks: int = 0


class LocalPriceMemory:
    """The price memory of one shop. Not thread-safe; lives on the event loop.

    `read_receipt(ledger_index)` gives a receipt of the ledger again, for a post-void; None if it cannot be read.
    `on_counted` is told of every receipt that is counted, and of every one that is taken out again.
    """

    def __init__(
        self,
        config: MemoryConfig,
        *,
        currency: str,
        read_receipt: ReadReceipt,
        on_counted: OnCounted | None = None,
    ) -> None:
        self.config = config
        self.on_counted = on_counted
        self.currency = currency
        self.counts = MemoryCounts()
        self.arrivals = Arrivals()
        self.catalogue = Catalogue()
        self.sales = SalesTable(config.weeks_max)
        self.cache = QueryCache(config.cache_answers)
        self.days: dict[int, list[int]] = {}  # by date ordinal: receipts, lines, units_milli, amount_minor
        self._minor = minor_per_unit(currency)
        self._read_receipt = read_receipt
        self._versions: list[int] = []  # by SKU index: counts its changes
        self._structure = 0  # counts changes of what all items depend on: item files, books, days open, weeks kept

    # --- feeding -----------------------------------------------------------------------------------------------------

    def apply_receipt(self, receipt: Receipt, ledger_index: int) -> None:
        """Take in the receipt that is record `ledger_index` of the ledger. Any order; a second time changes nothing."""
        lane, position, kind = receipt.lane, receipt.position, receipt.kind
        if not self.arrivals.note(lane, position, ledger_index, readable=receipt.counts):
            self.counts.duplicate += 1
        elif receipt.counts:
            self._open_week(week_of(receipt.business_day))
            if self.arrivals.is_voided(lane, position):
                self.counts.cancelled += 1
                self._add(receipt, 0)
            else:
                self.counts.counted += 1
                self._add(receipt, 1)
                self._tell(ledger_index, receipt, None)
        elif kind is ReceiptKind.POST_VOID and not receipt.training:
            self._cancel(receipt, ledger_index)
        else:
            self.counts.uncounted += 1

    def apply_items(self, items: Iterable[Item], on_day: date, *, removed: Collection[str] = ()) -> int:
        """Take in item-file lines that hold from business day `on_day` on; how many differ from what held before.

        Items that are not named stay as they are; the SKUs in `removed` are no longer offered.
        """
        changed = self.catalogue.put_items(items, removed, on_day)
        self._versions += [0] * (len(self.catalogue.skus) - len(self._versions))
        self._follow_catalogue()
        return changed

    def apply_book(self, prices: Mapping[str, int], valid_from: date) -> None:
        """Take in published prices (minor units by SKU), in force from `valid_from` on; SKUs not named keep theirs."""
        self.catalogue.put_book(prices, valid_from)
        self._follow_catalogue()

    def _tell(self, ledger_index: int, receipt: Receipt, original: int | None) -> None:
        if self.on_counted is not None and receipt.currency == self.currency:
            self.on_counted(ledger_index, receipt, original)

    def _cancel(self, post_void: Receipt, ledger_index: int) -> None:
        target = post_void.voids
        if target is None:
            raise LocalError("a post-void without the receipt it cancels passed its own check")
        lane = post_void.lane
        if target >= post_void.position:  # it can only name the past; a till that errs must not cancel a future sale
            self.counts.unresolved += 1
        elif self.arrivals.void(lane, target) and self.arrivals.was_seen(lane, target):
            index = self.arrivals.ledger_index(lane, target)
            receipt = None if index is None else self._read_receipt(index)
            if receipt is None:
                self.counts.unresolved += 1
                return
            if (receipt.lane, receipt.position) != (lane, target):
                raise LocalError(f"ledger record {index} is not receipt {target} of lane {lane}")
            self.counts.cancelled += 1
            self._add(receipt, -1)
            self._tell(ledger_index, receipt, index)

    def _add(self, receipt: Receipt, sign: int) -> None:
        """Add (1) or take away (-1) a receipt's lines; 0 only notes that the shop's tills were on that day."""
        day = receipt.business_day.toordinal()
        week = week_of(receipt.business_day)
        if receipt.currency != self.currency:
            self.counts.currency += 1
            return
        if week < self.sales.horizon:
            self.counts.forgotten += 1
            return
        totals = self.days.get(day)
        if totals is None:
            totals = self.days[day] = [0, 0, 0, 0]
        if not sign:
            return
        convert = self.config.tax_permille != 0 and receipt.tax_included is not self.config.shelf_tax_included
        add, number, versions = self.sales.add, self.catalogue.number, self._versions
        units_all = amount_all = 0
        for line in receipt.lines:
            amount = self._as_shelf(line.amount_minor, included=receipt.tax_included) if convert else line.amount_minor
            units = line.quantity_milli
            units_all += units
            amount_all += amount
            item = number(line.sku)
            if item is None:
                self.counts.unlisted_lines += 1
                continue
            if item == len(versions):
                versions.append(0)
            versions[item] += 1
            add(week, item << PRICE_BITS | line.unit_minor, sign * units, sign * amount, sign if units > 0 else -sign)
        if totals[0] + sign in (0, 1):  # the day opened or closed
            self._structure += 1
        totals[0] += sign
        totals[1] += sign * len(receipt.lines)
        totals[2] += sign * units_all
        totals[3] += sign * amount_all
        if self.sales.wants_merge:
            self.sales.merge()
            self._stay_in_bounds()

    def _as_shelf(self, amount: int, *, included: bool) -> int:
        """`amount` with tax as on the shelf, halves away from zero so that a return mirrors its sale."""
        gross, net = 1000 + self.config.tax_permille, 1000
        factor, divisor = (net, gross) if included else (gross, net)
        size = (2 * abs(amount) * factor + divisor) // (2 * divisor)
        return size if amount >= 0 else -size

    def _follow_catalogue(self) -> None:
        if self.sales.horizon != NO_HORIZON:
            self.catalogue.forget_before(self.sales.horizon)
        self._structure += 1
        self._stay_in_bounds()

    def _open_week(self, week: int) -> None:
        horizon = self.sales.horizon
        self.sales.open_week(week)
        if self.sales.horizon != horizon:
            self._follow_horizon()

    def _stay_in_bounds(self) -> None:
        while self.bytes_used > self.config.bytes_max and self.sales.evict_oldest() is not None:
            self._follow_horizon()

    def _follow_horizon(self) -> None:
        """Forget what else belongs to a week that has just been forgotten."""
        self.counts.evicted_weeks += 1
        self.catalogue.forget_before(self.sales.horizon)
        first = week_start(self.sales.horizon).toordinal()
        for day in [day for day in self.days if day < first]:
            del self.days[day]
        self._structure += 1

    # --- snapshots ---------------------------------------------------------------------------------------------------

    def freeze(self, *, ledger: bytes, length: int) -> MemoryImage:
        """Everything it holds after the first `length` records of the ledger named `ledger`, as an immutable image.

        Takes milliseconds; `MemoryImage.encode` may then run in another thread.
        """
        self.sales.merge()
        return MemoryImage.take(self.arrivals, self.catalogue, self.sales, self.days, ledger=ledger, length=length)

    def snapshot(self, *, ledger: bytes = b"", length: int = 0) -> bytes:
        """The image as bytes (FORMATS.md): equal for equal content, whatever the order of arrival was."""
        return self.freeze(ledger=ledger, length=length).encode()

    def restore(self, image: MemoryImage) -> None:
        """Take over a decoded image; only on a memory that has been given nothing yet."""
        if self.arrivals.seen or self.catalogue.skus:
            raise LocalError("a snapshot can only be restored into an empty memory")
        image.fill(self.arrivals, self.catalogue, self.sales, self.days)
        self._versions = [0] * len(self.catalogue.skus)
        self._structure += 1
        self._stay_in_bounds()

    # --- what it holds -----------------------------------------------------------------------------------------------

    @property
    def bytes_used(self) -> int:
        """Bytes held by the content, counted from the arrays' sizes and measured sizes of Python objects."""
        days = len(self.days) * _DAY_BYTES
        return self.sales.nbytes + self.catalogue.nbytes + self.arrivals.nbytes + self.cache.nbytes + days

    @property
    def weeks(self) -> list[int]:
        """Week numbers for which receipts are remembered, ascending."""
        return self.sales.weeks

    def day_totals(self, day: date) -> DayTotals:
        """Totals of one business day; zeros for a day without receipts or no longer kept."""
        return DayTotals(*self.days.get(day.toordinal(), ()))

    # --- asking ------------------------------------------------------------------------------------------------------

    def price_point(self, sku: str, period: int) -> PricePoint | None:
        """`sku` in week `period`; None if nothing of it was sold then, or it or the week is not known."""
        _check_span(period, period)
        index = self.catalogue.index.get(sku)
        if index is None:
            return None
        version = (self._structure, self._versions[index])
        return self.cache.get(("point", sku, period), version, lambda: self._points(index, period, period)[0])

    def price_points(self, sku: str, first_week: int, last_week: int) -> tuple[PricePoint | None, ...]:
        """One entry a week from `first_week` to `last_week`, both included; at most HISTORY_WEEKS_MAX weeks."""
        index = self.catalogue.index.get(sku)
        weeks = _check_span(first_week, last_week)
        return (None,) * weeks if index is None else tuple(self._points(index, first_week, last_week))

    def trend(self, sku: str, period: int) -> MarketTrend | None:
        """Where `sku`'s weekly units are going at week `period`; None with fewer than 4 observed weeks."""
        _check_span(period, period)
        index = self.catalogue.index.get(sku)
        if index is None:
            return None
        version = (self._structure, self._versions[index])
        return self.cache.get(("trend", sku, period), version, lambda: self._trend([index], period))

    def category_trend(self, category: str, period: int) -> MarketTrend | None:
        """The same for the units of all items now in `category` together."""
        _check_span(period, period)
        members = self.catalogue.members(category)
        version = (self._structure, sum(self._versions[index] for index in members))
        return self.cache.get(("category", category, period), version, lambda: self._trend(members, period))

    def history(self, category: str, weeks: int, *, last_week: int | None = None) -> CategoryHistory:
        """The last `weeks` weeks of the items now in `category`, ending with `last_week` (None: the newest with sales).

        Items by SKU; none for a category that no item file names. `observed` is False where the shop was closed for
        more than half of its usual days, the item was not offered, or a steady seller sold nothing (`statistics.
        presumed_stockout`). Weeks with more returns than sales show 0 units.
        """
        members = self.catalogue.members(category)
        newest = max(self.sales.weeks, default=0) if last_week is None else last_week
        first = newest - weeks + 1
        _check_span(first, newest)
        items = np.array(members, np.int64)
        series = self._series(items, first, newest)
        return CategoryHistory(
            category=category,
            skus=tuple(self.catalogue.skus[index] for index in members),
            weeks=np.arange(first, newest + 1),
            units=series.units,
            price=series.price / self._minor,
            reference=series.reference / self._minor,
            cost=series.cost / COST_PER_UNIT,
            deal=series.deal,
            feature=series.feature,
            observed=series.observed,
        )

    def _points(self, index: int, first: int, last: int) -> list[PricePoint | None]:
        series = self._series(np.array([index]), first - BASELINE_WEEKS, last)
        sales = series.sales
        margin = (
            sales.amount[:, 0] - sales.units[:, 0] / MILLI_PER_UNIT * series.cost[:, 0] * self._minor / COST_PER_UNIT
        )
        usable = series.on_sale[:, 0] & ~np.isnan(margin)
        points: list[PricePoint | None] = []
        for row in range(BASELINE_WEEKS, len(usable)):
            low, high = int(sales.price_min[row, 0]), int(sales.price_max[row, 0])
            if low > high:
                points.append(None)
                continue
            before = np.flatnonzero(usable[row - BASELINE_WEEKS : row]) + row - BASELINE_WEEKS
            metric = certainty = 0.0
            if usable[row] and len(before):
                certainty = confidence(float(sales.lines[row, 0]), float(sales.lines[before, 0].sum()))
                metric = success_metric(float(margin[row]), float(margin[before].mean())) if certainty else 0.0
            monday = week_start(first - BASELINE_WEEKS + row).toordinal()
            points.append(PricePoint((monday - _EPOCH) * _DAY_MS, PriceRange(low, high), metric, certainty))
        return points

    def _trend(self, members: list[int], period: int) -> MarketTrend | None:
        first = period - _TREND_WEEKS + 1
        series = self._series(np.array(members, np.int64), first, period)
        weeks = np.flatnonzero(series.observed.any(axis=1))
        units = np.where(series.observed, series.units, 0.0).sum(axis=1)
        found = market_trend((weeks + first).astype(np.float64), units[weeks])
        return None if found is None or not len(weeks) else MarketTrend(period, *found)

    def _series(self, items: Int, first: int, last: int) -> "_Series":
        sales = self.sales.weekly(items, first, last)
        known = self.catalogue.weekly(items, first, last)
        units = np.maximum(sales.units, 0) / MILLI_PER_UNIT
        sold = units > 0
        # Before the first item file an item is on sale from its first to its last sale.
        until_now = np.logical_or.accumulate(sold, axis=0) & np.logical_or.accumulate(sold[::-1], axis=0)[::-1]
        on_sale = self._open_weeks(first, last)[:, None] & ((known.offered > 0) | until_now & np.isnan(known.reference))
        paid = np.divide(sales.amount, units, out=np.full(units.shape, np.nan), where=sold)
        return _Series(
            sales=sales,
            units=units,
            price=np.where(sold, paid, known.shelf),
            reference=known.reference,
            cost=known.cost,
            deal=known.deal,
            feature=known.feature,
            on_sale=on_sale,
            observed=on_sale & ~presumed_stockout(units, on_sale),
        )

    def _open_weeks(self, first: int, last: int) -> Bool:
        """(w,) whether the shop was open on at least half of the days that it usually is."""
        open_days: dict[int, int] = {}
        for day, totals in self.days.items():
            if totals[0] > 0:
                week = week_of(date.fromordinal(day))
                open_days[week] = open_days.get(week, 0) + 1
        usual = float(np.median(list(open_days.values()))) if open_days else 0.0
        return np.array([0 < open_days.get(w, 0) >= usual / 2 for w in range(first, last + 1)], np.bool_)


@dataclass(frozen=True, slots=True)
class _Series:
    """(w, n) arrays; money in minor units, costs in 1/10,000 currency unit."""

    sales: WeeklySales
    units: Float
    price: Float
    reference: Float
    cost: Float
    deal: Float
    feature: Float
    on_sale: Bool
    observed: Bool


def _check_span(first_week: int, last_week: int) -> int:
    """Number of weeks, which must be 1 to HISTORY_WEEKS_MAX, and within the calendar."""
    weeks = last_week - first_week + 1
    if not 1 <= weeks <= HISTORY_WEEKS_MAX or not _FIRST_WEEK <= first_week <= last_week <= _LAST_WEEK:
        raise LocalError(f"weeks {first_week}..{last_week}: ask for 1 to {HISTORY_WEEKS_MAX} of the calendar")
    return weeks
