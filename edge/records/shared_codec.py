"""Payloads of network messages as CBOR values, and back: one form for each, checked cell by cell.

    to_value(payload)   a dict of text keys; rows are arrays
    from_value(value)   the payload; `RecordInvalid` where a key, a type or a range is not the documented one

FORMATS.md, "Network messages", lists the keys. Nothing that is not listed is let through: an unknown kind, a missing or
an additional key, and a number of another type are refused. The CBOR itself is checked by `edge.encoding.cbor`.
"""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final, cast

from edge.errors import RecordInvalid
from edge.records.market import MarketTrend, PricePoint, PriceRange
from edge.records.shared import (
    TERMS,
    UNPROTECTED,
    Coefficient,
    DayRow,
    InsightRow,
    ItemDay,
    ModelInsight,
    Payload,
    PriceRow,
    PriceUpdate,
    Protection,
    RangeRow,
    RangeUpdate,
    TrendRow,
    TrendUpdate,
    Unit,
)

_UNITS: Final = (Unit.NONE, Unit.RECEIPT, Unit.OWNER_WEEK)
_DAY_MAX: Final = date.max.toordinal()
_WORDS: Final[dict[type[Payload], str]] = {
    ItemDay: "item_day",
    PriceUpdate: "prices",
    RangeUpdate: "ranges",
    TrendUpdate: "trends",
    ModelInsight: "insights",
}


def word_of(kind: type[Payload]) -> str:
    """The word that names a kind of payload in messages, keys and commands: `item_day`, `prices`, `ranges`..."""
    return _WORDS[kind]


def to_value(payload: Payload) -> dict[str, object]:
    """The payload as a CBOR value."""
    value: dict[str, object] = {"kind": _WORDS[type(payload)], "category": payload.category}
    if isinstance(payload, ItemDay):
        rows = [[row.sku, row.price_minor, row.units_milli, row.amount_minor] for row in payload.rows]
        return {**value, "day": payload.day.toordinal(), "currency": payload.currency, "rows": rows}
    value["week"] = payload.week
    if isinstance(payload, PriceUpdate):
        return {**value, "currency": payload.currency, "rows": [_price_cells(row) for row in payload.rows]}
    if payload.protection != UNPROTECTED:
        value["protection"] = _protection_cells(payload.protection)
    if isinstance(payload, RangeUpdate):
        ranges = [[r.sku, r.range.min, r.range.max, float(r.log_mean), float(r.log_spread)] for r in payload.rows]
        return {**value, "weeks": payload.weeks, "currency": payload.currency, "rows": ranges}
    if isinstance(payload, TrendUpdate):
        return {**value, "rows": [_trend_cells(row) for row in payload.rows]}
    return {**value, "rows": [_insight_cells(row) for row in payload.rows]}


def from_value(value: object) -> Payload:
    """The payload that `value`, a decoded CBOR value, holds. Raises `RecordInvalid`."""
    cells = _map(value, "payload")
    reader = _READERS.get(cast("Any", cells.get("kind")) if isinstance(cells.get("kind"), str) else "")
    if reader is None:
        raise RecordInvalid(f"payload of unknown kind {cells.get('kind')!r:.40}", reason="unknown_type")
    return reader(cells)


def _read_item_day(cells: Mapping[str, object]) -> ItemDay:
    _keys(cells, "kind", "category", "day", "currency", "rows")
    day = _int(cells["day"], "day")
    if not 1 <= day <= _DAY_MAX:
        raise RecordInvalid(f"day {day} is outside the calendar")
    rows = tuple(DayRow(*_cells(row, "day row", str, int, int, int)) for row in _list(cells["rows"]))
    return ItemDay(date.fromordinal(day), _text(cells, "category"), _text(cells, "currency"), rows)


def _read_prices(cells: Mapping[str, object]) -> PriceUpdate:
    _keys(cells, "kind", "category", "week", "currency", "rows")
    rows = []
    for row in _list(cells["rows"]):
        sku, at, low, high, success, confidence, reference, units = _cells(
            row, "price row", str, int, int, int, float, float, int, int
        )
        rows.append(PriceRow(sku, PricePoint(at, PriceRange(low, high), success, confidence), reference, units))
    week = _int(cells["week"], "week")
    return PriceUpdate(_text(cells, "category"), week, _text(cells, "currency"), tuple(rows))


def _read_ranges(cells: Mapping[str, object]) -> RangeUpdate:
    _keys(cells, "kind", "category", "week", "weeks", "currency", "rows", optional=("protection",))
    rows = []
    for row in _list(cells["rows"]):
        sku, low, high, mean, spread = _cells(row, "range row", str, int, int, float, float)
        rows.append(RangeRow(sku, PriceRange(low, high), mean, spread))
    return RangeUpdate(
        category=_text(cells, "category"),
        week=_int(cells["week"], "week"),
        weeks=_int(cells["weeks"], "weeks"),
        currency=_text(cells, "currency"),
        rows=tuple(rows),
        protection=_protection(cells),
    )


def _read_trends(cells: Mapping[str, object]) -> TrendUpdate:
    _keys(cells, "kind", "category", "week", "rows", optional=("protection",))
    week = _int(cells["week"], "week")
    rows = []
    for row in _list(cells["rows"]):
        sku, slope, spread, season, *errors = _cells(row, "trend row", str, float, float, float, float, float, float)
        rows.append(TrendRow(sku, MarketTrend(week, slope, spread, season), *errors))
    return TrendUpdate(_text(cells, "category"), week, tuple(rows), _protection(cells))


def _read_insights(cells: Mapping[str, object]) -> ModelInsight:
    _keys(cells, "kind", "category", "week", "rows", optional=("protection",))
    rows = []
    for row in _list(cells["rows"]):
        sku, weeks, terms = _cells(row, "insight row", str, int, list)
        found = []
        for term in terms:
            number, mean, error = _cells(term, "coefficient", int, float, float)
            if not 0 <= number < len(TERMS):
                raise RecordInvalid(f"coefficient number {number} is unknown", reason="unknown_type")
            found.append((TERMS[number], Coefficient(mean, error)))
        rows.append(InsightRow(sku, weeks, tuple(found)))
    return ModelInsight(_text(cells, "category"), _int(cells["week"], "week"), tuple(rows), _protection(cells))


_READERS: Final[dict[str, Callable[[Mapping[str, object]], Payload]]] = {
    "item_day": _read_item_day,
    "prices": _read_prices,
    "ranges": _read_ranges,
    "trends": _read_trends,
    "insights": _read_insights,
}


def _price_cells(row: PriceRow) -> list[object]:
    point = row.point
    shape = [row.sku, point.timestamp, point.price_range.min, point.price_range.max]
    return [*shape, float(point.success_metric), float(point.confidence), row.reference_minor, row.units_milli]


def _trend_cells(row: TrendRow) -> list[object]:
    trend = row.trend
    numbers = (trend.trend, trend.volatility, trend.seasonality, row.trend_error, row.volatility_error)
    return [row.sku, *map(float, (*numbers, row.season_error))]


def _insight_cells(row: InsightRow) -> list[object]:
    terms = [[TERMS.index(name), float(value.mean), float(value.error)] for name, value in row.coefficients]
    return [row.sku, row.weeks, terms]


def _protection_cells(note: Protection) -> list[object]:
    charged = [note.epsilon_micro, note.delta_pico, float(note.deviation)]
    return [_UNITS.index(note.unit), *charged, note.shops, note.owners]


def _protection(cells: Mapping[str, object]) -> Protection:
    if "protection" not in cells:
        return UNPROTECTED
    unit, epsilon, delta, deviation, shops, owners = _cells(
        cells["protection"], "protection", int, int, int, float, int, int
    )
    if not 0 <= unit < len(_UNITS):
        raise RecordInvalid(f"protection unit {unit} is unknown", reason="unknown_type")
    note = Protection(_UNITS[unit], epsilon, delta, deviation, shops, owners)
    if note == UNPROTECTED:
        raise RecordInvalid("a protection that says nothing is left out", reason="malformed")
    return note


def _map(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise RecordInvalid(f"{what} is no map of named values", reason="malformed")
    return value


def _keys(cells: Mapping[str, object], *needed: str, optional: tuple[str, ...] = ()) -> None:
    for name in needed:
        if name not in cells:
            raise RecordInvalid(f"payload has no {name}", reason="malformed")
    unknown = sorted(cells.keys() - set(needed) - set(optional))
    if unknown:
        raise RecordInvalid(f"payload has an unknown field {unknown[0][:40]!r}", reason="malformed")


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise RecordInvalid("payload: rows are no array", reason="malformed")
    return value


def _cells(value: object, what: str, *types: type) -> list[Any]:
    if not isinstance(value, list) or len(value) != len(types):
        raise RecordInvalid(f"{what} is no array of {len(types)} cells", reason="malformed")
    for cell, wanted in zip(value, types, strict=True):
        if type(cell) is not wanted:
            raise RecordInvalid(f"{what}: {cell!r:.40} is no {wanted.__name__}", reason="malformed")
    return value


def _text(cells: Mapping[str, object], name: str) -> str:
    value = cells[name]
    if not isinstance(value, str):
        raise RecordInvalid(f"payload: {name} is no text", reason="malformed")
    return value


def _int(value: object, name: str) -> int:
    if type(value) is not int:
        raise RecordInvalid(f"payload: {name} is no integer", reason="malformed")
    return value
