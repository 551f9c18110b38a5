"""Where a category's units are going, and how firmly that is known: `MarketTrend` with standard errors. Pure.

The trend itself is that of `edge.memory.statistics` (definitions in `edge.records.market`). With n weeks behind it and
r the lag-one correlation of what it leaves over, held to 0..R_MAX, the standard errors are

- of the slope: half the width of Sen's interval over z. Kendall's S has variance n(n−1)(2n+5)/18 − ties; the interval
  lies between the ranks (N ∓ z √Var S) / 2 of the N slopes of pairs (Sen, JASA 63 (1968) 1379). Serial correlation
  makes S vary by more: Var S is multiplied by 1 + 2/(n(n−1)(n−2)) Σ_k (n−k)(n−k−1)(n−k−2) r^k (Hamed & Rao, J. Hydrol.
  204 (1998) 182, for the ranks of a process of first order).
- of the volatility: σ √(3 / (4 (m−1))) from m changes. Var s² = 2 σ⁴/m Σ ρ_k² for a normal process (Priestley,
  Spectral Analysis and Time Series, 1981, 5.3); the correlation of neighbouring changes lies between 0 (levels that
  wander) and −1/2 (levels that are noise), and −1/2 gives the larger one.
- of the log seasonality: of the fitted season in that week, from the least-squares fit of line and harmonics, its
  residual variance multiplied by (1 + r) / (1 − r). Where no season could be fitted the index is 1 and the error is the
  half-width of its range: nothing is known.

`MarketAnalyzer` keeps the weekly units of categories and answers from them; what did not change is not computed again.
"""

import math
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import numpy as np

from edge.errors import LocalError, RecordInvalid
from edge.limits import HISTORY_WEEKS_MAX, SHARED_ROWS_MAX, TREND_CATEGORIES_MAX
from edge.memory.statistics import SEASON_WEEKS_MIN, TREND_WEEKS, market_trend, seasonal
from edge.records.history import CategoryHistory, Float, week_of
from edge.records.market import MarketTrend
from edge.records.shared import ItemDay, PriceUpdate, TrendRow

CATEGORY: Final = ""
R_MAX: Final = 0.9
UNKNOWN_SEASON: Final = math.log(4.0)  # half the width of the index's range, in logs
UNKNOWN_VOLATILITY: Final = 10.0  # the whole range
_Z: Final = 1.959964  # of a 95 % interval
_MILLI: Final = 1000.0


def trend_row(sku: str, week: int, weeks: Float, units: Float) -> TrendRow | None:
    """The trend at `week` of units (w,) in `weeks` (ascending, the observed ones alone), with its standard errors.

    None with fewer weeks than `market_trend` needs.
    """
    found = market_trend(weeks, units)
    if found is None:
        return None
    y = np.log(np.maximum(units, 0.0) + 0.5)
    level = y - seasonal(weeks, y)
    recent = slice(-TREND_WEEKS, None)
    return TrendRow(
        sku,
        MarketTrend(week, *found),
        trend_error=slope_error(weeks[recent], level[recent]),
        volatility_error=volatility_error(weeks[recent], found[1]),
        season_error=season_error(weeks, y),
    )


def slope_error(weeks: Float, level: Float) -> float:
    """Standard error of the Theil-Sen slope of `level` over `weeks`, log units a week."""
    count = len(weeks)
    first, second = np.triu_indices(count, k=1)
    slopes = (level[second] - level[first]) / (weeks[second] - weeks[first])
    r = _correlation(weeks, level - float(np.median(slopes)) * weeks)
    lag = np.arange(1, count - 2)
    longer = float(np.sum((count - lag) * (count - lag - 1) * (count - lag - 2) * r**lag))
    inflation = 1.0 + 2.0 * longer / (count * (count - 1) * (count - 2))
    variance = count * (count - 1) * (2 * count + 5) / 18.0 * inflation  # ties would make it smaller
    reach = min(0.5 * _Z * math.sqrt(variance) / len(slopes), 0.5)
    low, high = np.quantile(slopes, [0.5 - reach, 0.5 + reach])
    return float(high - low) / (2.0 * _Z)


def volatility_error(weeks: Float, volatility: float) -> float:
    """Standard error of a volatility measured over neighbours among `weeks`; unknown with fewer than two changes."""
    changes = int(np.count_nonzero(np.diff(weeks) == 1))
    return volatility * math.sqrt(0.75 / (changes - 1)) if changes > 1 else UNKNOWN_VOLATILITY


def season_error(weeks: Float, y: Float) -> float:
    """Standard error of the log seasonality in the last of `weeks`."""
    count = len(weeks)
    if count < SEASON_WEEKS_MIN:
        return UNKNOWN_SEASON
    weight = seasonal(weeks, np.eye(count))[-1]  # the fit is linear in y: what each week adds to the last one's season
    level = y - seasonal(weeks, y)
    time = weeks - np.mean(weeks)
    left = level - np.mean(level) - time * float(time @ level) / float(time @ time)
    r = _correlation(weeks, left)
    freedom = count - 6  # a line and two harmonics
    variance = float(left @ left) / freedom * (1.0 + r) / (1.0 - r)
    return min(math.sqrt(variance * float(weight @ weight)), UNKNOWN_SEASON)


def _correlation(weeks: Float, left: Float) -> float:
    """Lag-one correlation of what is left over, over neighbouring weeks, with its small-sample bias put back."""
    off = left - np.mean(left)
    square = float(off @ off) / len(off)
    beside = np.diff(weeks) == 1
    pairs = int(np.count_nonzero(beside))
    if square <= 0 or not pairs:
        return 0.0
    r = float(np.sum((off[:-1] * off[1:])[beside])) / pairs / square
    return min(max(r + (1.0 + 4.0 * r) / len(off), 0.0), R_MAX)  # Marriott & Pope, Biometrika 41 (1954) 390


class MarketAnalyzer:
    """Trends of all categories of one shop, or of whatever else hands over weekly units or days' totals."""

    def __init__(self, weeks_max: int = HISTORY_WEEKS_MAX) -> None:
        """Keeps the newest `weeks_max` weeks of a category."""
        if weeks_max < 1:
            raise LocalError("market analyzer: no weeks to keep")
        self._weeks_max = weeks_max
        self._series: dict[str, _Series] = {}

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories of which anything was seen, in order."""
        return tuple(sorted(self._series))

    def take(self, record: ItemDay | PriceUpdate) -> None:
        """Take in a day's or a week's sales. The same day or week again replaces what was said of it before.

        A week's own record counts more than its days'. Items that a record leaves out sold nothing, between their
        first and their last sale. Raises `RecordInvalid` (reason `limit`) for more categories or items than are kept.
        """
        series = self._of(record.category)
        units: dict[str, float] = {}
        if isinstance(record, ItemDay):
            for row in record.rows:
                units[row.sku] = units.get(row.sku, 0.0) + row.units_milli / _MILLI
            series.put(series.days, record.day.toordinal(), units)
        else:
            series.put(series.weeks, record.week, {row.sku: row.units_milli / _MILLI for row in record.rows})
        series.forget(self._weeks_max)

    def take_history(self, history: CategoryHistory) -> None:
        """Take in weekly series; cells that are not observed say nothing."""
        series = self._of(history.category)
        for at, week in enumerate(history.weeks.tolist()):
            seen = np.where(history.observed[at], history.units[at], np.nan)
            if bool(np.any(np.isfinite(seen))):
                series.put(series.weeks, week, dict(zip(history.skus, seen.tolist(), strict=True)))
        series.forget(self._weeks_max)

    def trend(self, category: str, week: int, sku: str = CATEGORY) -> TrendRow | None:
        """The trend of an item, or of the category as a whole, in week `week`; None where too little was seen."""
        series = self._series.get(category)
        return None if series is None else series.row(sku, week)

    def rows(self, category: str, week: int, *, items: bool = True) -> tuple[TrendRow, ...]:
        """What can be told of a category in week `week`, as it is published: ascending by SKU, the category first."""
        series = self._series.get(category)
        if series is None:
            return ()
        skus = (CATEGORY, *sorted(series.columns)) if items else (CATEGORY,)
        return tuple(row for sku in skus if (row := series.row(sku, week)) is not None)[:SHARED_ROWS_MAX]

    def _of(self, category: str) -> "_Series":
        series = self._series.get(category)
        if series is None:
            if len(self._series) >= TREND_CATEGORIES_MAX:
                raise RecordInvalid(f"more than {TREND_CATEGORIES_MAX} categories", reason="limit")
            series = self._series[category] = _Series()
        return series


Rows = dict[int, Float]  # by week or day: units by column, short where columns came later; NaN: says nothing


@dataclass(slots=True)
class _Series:
    """One category."""

    columns: dict[str, int] = field(default_factory=dict)  # by SKU
    weeks: Rows = field(default_factory=dict)
    days: Rows = field(default_factory=dict)
    answers: dict[tuple[str, int], TrendRow | None] = field(default_factory=dict)
    table: tuple[Float, Float] | None = None  # (weeks (w,), units (w, n)) as `answers` were made of

    def put(self, rows: Rows, number: int, units: dict[str, float]) -> None:
        """Set the units of a week or day."""
        new = [sku for sku in units if sku not in self.columns]
        if len(self.columns) + len(new) >= SHARED_ROWS_MAX:
            raise RecordInvalid(f"more than {SHARED_ROWS_MAX} items of a category", reason="limit")
        for sku in new:
            self.columns[sku] = len(self.columns)
        row = np.zeros(len(self.columns))
        for sku, value in units.items():
            row[self.columns[sku]] = value
        rows[number] = row
        self.table = None
        self.answers.clear()

    def forget(self, weeks_max: int) -> None:
        """Drop what is older than the newest `weeks_max` weeks."""
        known = sorted({*self.weeks, *map(_week_of_day, self.days)})
        if len(known) > weeks_max:
            first = known[-weeks_max]
            for week in [week for week in self.weeks if week < first]:
                del self.weeks[week]
            for day in [day for day in self.days if _week_of_day(day) < first]:
                del self.days[day]

    def row(self, sku: str, week: int) -> TrendRow | None:
        """The trend of `sku` at `week`, computed once."""
        key = (sku, week)
        if key not in self.answers:
            if len(self.answers) >= 2 * SHARED_ROWS_MAX:
                self.answers.clear()
            self.answers[key] = self._row(sku, week)
        return self.answers[key]

    def _row(self, sku: str, week: int) -> TrendRow | None:
        if self.table is None:
            self.table = self._table()
        weeks, units = self.table
        until = weeks <= week
        if sku == CATEGORY:
            seen = until & np.any(np.isfinite(units), axis=1)
            return trend_row(sku, week, weeks[seen], np.nansum(units[seen], axis=1))
        column = self.columns.get(sku)
        if column is None:
            return None
        own = units[:, column]
        sold = np.flatnonzero(until & (own > 0))
        if not len(sold):
            return None
        span = slice(sold[0], sold[-1] + 1)
        seen = np.isfinite(own[span])
        return trend_row(sku, week, weeks[span][seen], own[span][seen])

    def _table(self) -> tuple[Float, Float]:
        count = len(self.columns)
        rows: Rows = {}
        for day, row in self.days.items():
            week = _week_of_day(day)
            if week not in self.weeks:
                before = rows.get(week, np.zeros(count))
                rows[week] = before + _padded(row, count)
        for week, row in self.weeks.items():
            rows[week] = _padded(row, count)
        weeks = sorted(rows)
        units = np.array([np.maximum(rows[week], 0.0) for week in weeks]).reshape(len(weeks), count)
        return np.array(weeks, dtype=np.float64), units


def _padded(row: Float, count: int) -> Float:
    return np.concatenate([row, np.zeros(count - len(row))])


def _week_of_day(day: int) -> int:
    return week_of(date.fromordinal(day))
