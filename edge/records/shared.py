"""What shops tell each other: the payloads of network messages, as types, so that a gate can go by the type.

    ItemDay, PriceUpdate      raw: what one shop charged and sold, item by item
    RangeUpdate               the span and the mean of prices, of an item or a category
    TrendUpdate               where units are going, with standard errors
    ModelInsight              how demand answers prices, with standard errors

A payload speaks of one category and one week (`edge.records.history.week_of`), and holds a row an item; the row with
SKU "" is of the category as a whole. Standard errors are of estimation alone; what was added on purpose to protect
somebody is in `Protection`. Every number has a range here; what lies outside is `RecordInvalid`, ours or theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from itertools import pairwise
from typing import Final

from edge.errors import RecordInvalid
from edge.limits import INTEGER_MAX, LABEL_CHARS_MAX, PRICE_MINOR_MAX, SHARED_ROWS_MAX
from edge.records.checks import real, whole
from edge.records.history import week_of, week_start
from edge.records.item import check_sku
from edge.records.market import MarketTrend, PricePoint, PriceRange
from edge.records.money import minor_per_unit

WEEK_MAX: Final = 10_000  # of the calendar; the year 2161
ERROR_MAX: Final = 1e6  # a standard error or a noise s.d.; beyond it a number says nothing
TERMS: Final = ("price", "carry", "feature", "deal", "others")  # coefficients of the demand estimate that are shared
_COEFFICIENT_MAX: Final = 20.0  # log units; elasticities beyond it are estimation failures
_WINDOW_WEEKS_MAX: Final = 53
_UNIX_EPOCH: Final = date(1970, 1, 1).toordinal()
_DAY_MS: Final = 86_400_000


class Unit(StrEnum):
    """Whose presence a record hides: the unit of differential privacy."""

    NONE = "none"
    RECEIPT = "receipt"
    OWNER_WEEK = "owner-week"


@dataclass(frozen=True, slots=True)
class Protection:
    """What was done to a record before it left, and how many stand behind it.

    `epsilon_micro` and `delta_pico` are what the release was charged, in 1e-6 and 1e-12; `deviation` is the standard
    deviation of the added noise in the record's own main number (log units; 0: none was added).
    """

    unit: Unit = Unit.NONE
    epsilon_micro: int = 0
    delta_pico: int = 0
    deviation: float = 0.0
    shops: int = 1
    owners: int = 1

    def __post_init__(self) -> None:
        whole("protection epsilon_micro", self.epsilon_micro, 0, 1_000_000_000)
        whole("protection delta_pico", self.delta_pico, 0, 1_000_000_000_000)
        real("protection deviation", self.deviation, 0.0, ERROR_MAX)
        whole("protection shops", self.shops, 1, 1_000_000)
        whole("protection owners", self.owners, 1, self.shops)
        if (self.unit is Unit.NONE) != (self.epsilon_micro == 0):
            raise RecordInvalid("protection: a unit and an epsilon go together")


UNPROTECTED: Final = Protection()


@dataclass(frozen=True, slots=True)
class DayRow:
    """One item at one price on one day: what was sold, net of returns."""

    sku: str
    price_minor: int
    units_milli: int
    amount_minor: int

    def __post_init__(self) -> None:
        check_sku(self.sku)
        whole("day row price_minor", self.price_minor, 0, PRICE_MINOR_MAX)
        whole("day row units_milli", self.units_milli, -INTEGER_MAX, INTEGER_MAX)
        whole("day row amount_minor", self.amount_minor, -INTEGER_MAX, INTEGER_MAX)


@dataclass(frozen=True, slots=True)
class ItemDay:
    """A business day's totals by item and price. Raw."""

    day: date
    category: str
    currency: str
    rows: tuple[DayRow, ...]

    def __post_init__(self) -> None:
        _category(self.category)
        minor_per_unit(self.currency)
        _rows(self.rows)


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One item's week: its price point, reference price and units sold. Raw."""

    sku: str
    point: PricePoint
    reference_minor: int
    units_milli: int

    def __post_init__(self) -> None:
        check_sku(self.sku)
        whole("price row reference_minor", self.reference_minor, 0, PRICE_MINOR_MAX)
        whole("price row units_milli", self.units_milli, 0, INTEGER_MAX)


@dataclass(frozen=True, slots=True)
class PriceUpdate:
    """A category's week, item by item. Raw."""

    category: str
    week: int
    currency: str
    rows: tuple[PriceRow, ...]

    def __post_init__(self) -> None:
        _category(self.category)
        _week(self.week)
        minor_per_unit(self.currency)
        _rows(self.rows)
        monday_ms = (week_start(self.week).toordinal() - _UNIX_EPOCH) * _DAY_MS
        if any(row.point.timestamp != monday_ms for row in self.rows):
            raise RecordInvalid(f"price update of week {self.week} holds a point of another week")


@dataclass(frozen=True, slots=True)
class RangeRow:
    """Where prices lay. `log_mean` and `log_spread` are of log(price / list price): mean and s.d., log units."""

    sku: str  # "" : the category
    range: PriceRange  # minor units; the ladder's edges that hold the central 80 % where noise was added
    log_mean: float
    log_spread: float

    def __post_init__(self) -> None:
        _sku_or_category(self.sku)
        real("range row log_mean", self.log_mean, -5.0, 5.0)
        real("range row log_spread", self.log_spread, 0.0, 5.0)


@dataclass(frozen=True, slots=True)
class RangeUpdate:
    """Price ranges of a category over the `weeks` weeks that end with `week`."""

    category: str
    week: int
    weeks: int
    currency: str
    rows: tuple[RangeRow, ...]
    protection: Protection = UNPROTECTED

    def __post_init__(self) -> None:
        _category(self.category)
        _week(self.week)
        whole("range weeks", self.weeks, 1, _WINDOW_WEEKS_MAX)
        minor_per_unit(self.currency)
        _rows(self.rows)


@dataclass(frozen=True, slots=True)
class TrendRow:
    """A trend and how firmly it is known: standard errors of `trend`, `volatility` and log `seasonality`."""

    sku: str  # "" : the category
    trend: MarketTrend
    trend_error: float
    volatility_error: float
    season_error: float

    def __post_init__(self) -> None:
        _sku_or_category(self.sku)
        for name in ("trend_error", "volatility_error", "season_error"):
            real(f"trend row {name}", getattr(self, name), 0.0, ERROR_MAX)


@dataclass(frozen=True, slots=True)
class TrendUpdate:
    """Trends of a category in week `week`."""

    category: str
    week: int
    rows: tuple[TrendRow, ...]
    protection: Protection = UNPROTECTED

    def __post_init__(self) -> None:
        _category(self.category)
        _week(self.week)
        _rows(self.rows)
        if any(row.trend.period != self.week for row in self.rows):
            raise RecordInvalid(f"trend update of week {self.week} holds another week")


@dataclass(frozen=True, slots=True)
class Coefficient:
    """One coefficient of the demand estimate from own data alone: mean and standard error, log units."""

    mean: float
    error: float

    def __post_init__(self) -> None:
        real("coefficient mean", self.mean, -_COEFFICIENT_MAX, _COEFFICIENT_MAX)
        real("coefficient error", self.error, 1e-6, ERROR_MAX)


@dataclass(frozen=True, slots=True)
class InsightRow:
    """What an item's own sales say about its demand; `coefficients` by the names of TERMS, those that are known."""

    sku: str  # "" : the category
    weeks: int  # of sales behind it
    coefficients: tuple[tuple[str, Coefficient], ...]

    def __post_init__(self) -> None:
        _sku_or_category(self.sku)
        whole("insight weeks", self.weeks, 0, WEEK_MAX)
        names = [name for name, _ in self.coefficients]
        if not names or any(name not in TERMS for name in names) or names != sorted(set(names), key=TERMS.index):
            raise RecordInvalid(f"insight of {self.sku or 'the category'}: coefficients {names}")


@dataclass(frozen=True, slots=True)
class ModelInsight:
    """How a category's demand answers prices, as estimated after week `week`.

    Estimates of own data under a wide prior: never a posterior that already holds what others said, which would come
    back to them as if it were news.
    """

    category: str
    week: int
    rows: tuple[InsightRow, ...]
    protection: Protection = UNPROTECTED

    def __post_init__(self) -> None:
        _category(self.category)
        _week(self.week)
        _rows(self.rows)


Payload = ItemDay | PriceUpdate | RangeUpdate | TrendUpdate | ModelInsight
Raw = ItemDay | PriceUpdate


def week_behind(payload: Payload) -> int:
    """The week number that a payload speaks of."""
    return week_of(payload.day) if isinstance(payload, ItemDay) else payload.week


def _category(category: str) -> None:
    if not 0 < len(category) <= LABEL_CHARS_MAX or not category.isprintable():
        raise RecordInvalid(f"category {category[:20]!r}: 1 to {LABEL_CHARS_MAX} printable characters")


def _sku_or_category(sku: str) -> None:
    if sku:
        check_sku(sku)


def _week(week: int) -> None:
    whole("week", week, 0, WEEK_MAX)


def _rows(rows: Sequence[DayRow | PriceRow | RangeRow | TrendRow | InsightRow]) -> None:
    if not 1 <= len(rows) <= SHARED_ROWS_MAX:
        raise RecordInvalid(f"{len(rows)} rows; 1 to {SHARED_ROWS_MAX}")
    keys = [(row.sku, row.price_minor if isinstance(row, DayRow) else 0) for row in rows]
    if any(before >= after for before, after in pairwise(keys)):
        raise RecordInvalid("rows are not in ascending order of their SKUs, each once")
