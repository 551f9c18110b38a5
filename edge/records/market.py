"""What the price memory says about one item in one week, and about the way a series of weeks is going.

Definitions, with formula, unit and range, stand on the fields; `edge.memory.statistics` computes them and FORMATS.md
repeats them. A period is a week number (`edge.records.history.week_of`): Monday to Sunday, business days.
"""

from dataclasses import dataclass

from edge.errors import RecordInvalid
from edge.limits import PRICE_MINOR_MAX
from edge.records.checks import real


@dataclass(frozen=True, slots=True)
class PriceRange:
    """Lowest and highest shelf price at which units (net of returns) were sold; minor units, tax as on the shelf."""

    min: int
    max: int

    def __post_init__(self) -> None:
        if not 0 <= self.min <= self.max <= PRICE_MINOR_MAX:
            raise RecordInvalid(f"price range {self.min}..{self.max} is empty or out of range")


@dataclass(frozen=True, slots=True)
class PricePoint:
    """One item in one week: what it was sold at and how that went.

    With `m` the week's gross margin (amount paid minus units times acquisition cost), and `b` the mean of `m` over
    those of the eight preceding weeks in which the shop was open and the item on sale:

        success_metric = (m - b) / (|m| + |b|)

    a ratio in -1..1: 0 as usual, +1/3 twice the usual margin, negative below it; 0 where it cannot be told.

        confidence = n / (n + 20),    1/n = 1/lines(week) + 1/lines(those preceding weeks)

    in 0..1 from the effective number of receipt lines behind the comparison: 1/2 at 20 lines, where the relative
    standard error of a Poisson count is 22 %; 0 where `success_metric` cannot be told.
    """

    timestamp: int  # milliseconds since the Unix epoch of the Monday's midnight, UTC: a business day, not a clock
    price_range: PriceRange
    success_metric: float
    confidence: float

    def __post_init__(self) -> None:
        real("success_metric", self.success_metric, -1.0, 1.0)
        real("confidence", self.confidence, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class MarketTrend:
    """Where the weekly units `u` of an item or a category are going, seen from week `period` back.

    Over the observed weeks (shop open, on sale), with y = log(u + 1/2) and s the seasonal part of y:

    - `seasonality` = exp(s[period]): index of this week of the year, 1 = an average week, 1.2 = 20 % above it; in
      1/4..4. s is the sum of two annual harmonics fitted to y by least squares beside a straight line; it takes at
      least 78 observed weeks, and with fewer s = 0 and the index is 1.
    - `trend`: Theil-Sen slope (median of the slopes of all pairs) of y - s over the last 26 weeks; log units per week,
      in -1..1: 0.01 is 1 % a week.
    - `volatility`: standard deviation of the week-to-week change of y - s minus `trend`, over neighbouring observed
      weeks among the last 26; log units, in 0..10.
    """

    period: int
    trend: float
    volatility: float
    seasonality: float

    def __post_init__(self) -> None:
        real("trend", self.trend, -1.0, 1.0)
        real("volatility", self.volatility, 0.0, 10.0)
        real("seasonality", self.seasonality, 0.25, 4.0)
