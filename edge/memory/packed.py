"""A shared record as the network memory keeps it: its SKUs in one string of bytes, its numbers in another.

A payload's own objects take ten times as much. Numbers are kept as little-endian floats, 32 bits for estimates (a part
in ten million) and 64 for money and units, which stay exact; NaN where a shop says nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from edge.networks.access import FeedKind
from edge.records.history import Float
from edge.records.shared import (
    TERMS,
    UNPROTECTED,
    DayRow,
    InsightRow,
    ItemDay,
    ModelInsight,
    Payload,
    PriceRow,
    PriceUpdate,
    RangeRow,
    RangeUpdate,
    TrendRow,
    TrendUpdate,
    week_behind,
)
from edge.records.shared_codec import word_of

RECORD_BYTES: Final = 720  # of a record beside its SKUs and numbers: objects, and its place in two indexes; measured
_NAN: Final = float("nan")


@dataclass(frozen=True, slots=True)
class Packed:
    """One record. `rows` and `numbers` unpack it."""

    kind: str  # the payload's word: insights, trends, ranges, prices, item_day
    category: str
    period: int  # the week; of an item day the day's ordinal
    week: int
    epoch: int  # its place in the member's feeds of that kind: what is later there holds
    sequence: int
    currency: str  # "" where the record has none
    shops: int
    owners: int
    deviation: float
    skus: bytes  # joined by newlines; "" is the category
    cells: bytes
    charge: int  # bytes it counts for: the most that any version of it took, so that the order of versions is no matter

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands in time."""
        return self.epoch, self.sequence

    @property
    def rows(self) -> list[str]:
        """SKUs of the rows, in their order."""
        return self.skus.decode().split("\n")

    @property
    def numbers(self) -> NDArray[np.float32] | Float:
        """(rows, columns of the kind); see COLUMNS."""
        form = FORMS[self.kind]
        return np.frombuffer(self.cells, form.dtype).reshape(-1, len(form.columns))


@dataclass(frozen=True, slots=True)
class Form:
    """How rows of one kind become numbers."""

    kind: type[Payload]
    columns: tuple[str, ...]
    dtype: str
    cells: Callable[..., tuple[float, ...]]


def _insight(row: InsightRow) -> tuple[float, ...]:
    known = dict(row.coefficients)
    found: list[float] = []
    for term in TERMS:
        one = known.get(term)
        found += (_NAN, _NAN) if one is None else (one.mean, one.error)
    return tuple(found)


def _trend(row: TrendRow) -> tuple[float, ...]:
    trend = row.trend
    return (
        trend.trend,
        row.trend_error,
        trend.volatility,
        row.volatility_error,
        float(np.log(trend.seasonality)),
        row.season_error,
    )


def _range(row: RangeRow) -> tuple[float, ...]:
    return row.range.min, row.range.max, row.log_mean, row.log_spread


def _price(row: PriceRow) -> tuple[float, ...]:
    point = row.point
    span = point.price_range
    return span.min, span.max, point.success_metric, point.confidence, row.reference_minor, row.units_milli


def _day(row: DayRow) -> tuple[float, ...]:
    return row.price_minor, row.units_milli, row.amount_minor


FORMS: Final[dict[str, Form]] = {
    word_of(form.kind): form
    for form in (
        Form(ModelInsight, tuple(f"{term} {part}" for term in TERMS for part in ("mean", "error")), "<f4", _insight),
        Form(
            TrendUpdate,
            ("trend", "trend error", "volatility", "volatility error", "log season", "season error"),
            "<f4",
            _trend,
        ),
        Form(RangeUpdate, ("min", "max", "log mean", "log spread"), "<f8", _range),
        Form(PriceUpdate, ("min", "max", "success", "confidence", "reference", "units"), "<f8", _price),
        Form(ItemDay, ("price", "units", "amount"), "<f8", _day),
    )
}
INSIGHTS, TRENDS, RANGES, PRICES, ITEM_DAYS = FORMS
FEED_OF: Final = {
    INSIGHTS: FeedKind.INSIGHTS,
    TRENDS: FeedKind.TRENDS,
    RANGES: FeedKind.PRICES,
    PRICES: FeedKind.PRICES,
    ITEM_DAYS: FeedKind.PRICES,
}


def pack(payload: Payload, epoch: int, sequence: int, *, bytes_max: int) -> Packed:
    """`payload` packed; of one that takes more than `bytes_max` the first rows, the category's own among them."""
    kind = word_of(type(payload))
    form = FORMS[kind]
    rows = cast("Sequence[DayRow | PriceRow | RangeRow | TrendRow | InsightRow]", payload.rows)
    cells = np.array([form.cells(row) for row in rows], dtype=form.dtype).tobytes()
    skus = "\n".join([row.sku for row in rows]).encode()
    width = len(cells) // len(rows)
    if RECORD_BYTES + len(cells) + len(skus) > bytes_max:
        room, kept = bytes_max - RECORD_BYTES, 0
        for row in rows:
            room -= width + len(row.sku) + 1
            if room < 0 and kept:
                break
            kept += 1
        cells, skus = cells[: kept * width], "\n".join([row.sku for row in rows[:kept]]).encode()
    protection = UNPROTECTED if isinstance(payload, ItemDay | PriceUpdate) else payload.protection
    return Packed(
        kind=kind,
        category=payload.category,
        period=payload.day.toordinal() if isinstance(payload, ItemDay) else payload.week,
        week=week_behind(payload),
        epoch=epoch,
        sequence=sequence,
        currency="" if isinstance(payload, TrendUpdate | ModelInsight) else payload.currency,
        shops=protection.shops,
        owners=protection.owners,
        deviation=protection.deviation,
        skus=skus,
        cells=cells,
        charge=RECORD_BYTES + len(cells) + len(skus),
    )
