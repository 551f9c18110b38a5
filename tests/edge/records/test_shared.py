"""Payloads: the range of every number, the order of rows, and which week a payload speaks of."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from datetime import date

import pytest
from hypothesis import given
from support_shared import PAYLOADS, monday_ms, payload_of, payloads

from edge.errors import RecordInvalid
from edge.limits import INTEGER_MAX, LABEL_CHARS_MAX, PRICE_MINOR_MAX, SHARED_ROWS_MAX
from edge.records.history import week_of, week_start
from edge.records.market import MarketTrend, PricePoint, PriceRange
from edge.records.shared import (
    ERROR_MAX,
    UNPROTECTED,
    WEEK_MAX,
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
    week_behind,
)

SPAN = PriceRange(100, 200)
POINT = PricePoint(monday_ms(2900), SPAN, 0.1, 0.5)
TREND = MarketTrend(2900, 0.0, 0.1, 1.0)
ONE = Coefficient(-2.0, 0.5)
NAN, INF = float("nan"), float("inf")

BAD: list[Callable[[], object]] = [
    lambda: DayRow("a b", 1, 1, 1),
    lambda: DayRow("", 1, 1, 1),
    lambda: DayRow("a\n", 1, 1, 1),
    lambda: DayRow("a", -1, 1, 1),
    lambda: DayRow("a", PRICE_MINOR_MAX + 1, 1, 1),
    lambda: DayRow("a", 1, INTEGER_MAX + 1, 1),
    lambda: DayRow("a", 1, 1, -INTEGER_MAX - 1),
    lambda: PriceRow("", POINT, 1, 1),
    lambda: PriceRow("a", POINT, -1, 1),
    lambda: PriceRow("a", POINT, 1, -1),
    lambda: RangeRow("a/b", SPAN, 0.0, 0.0),
    lambda: RangeRow("a", SPAN, 5.1, 0.0),
    lambda: RangeRow("a", SPAN, 0.0, -0.1),
    lambda: RangeRow("a", SPAN, NAN, 0.0),
    lambda: RangeRow("a", SPAN, 0.0, INF),
    lambda: RangeRow("a", PriceRange(2, 1), 0.0, 0.0),
    lambda: RangeRow("a", PriceRange(-1, 1), 0.0, 0.0),
    lambda: TrendRow("a", TREND, -0.1, 0.0, 0.0),
    lambda: TrendRow("a", TREND, 0.0, NAN, 0.0),
    lambda: TrendRow("a", TREND, 0.0, 0.0, ERROR_MAX * 2),
    lambda: TrendRow("a", MarketTrend(2900, NAN, 0.1, 1.0), 0.0, 0.0, 0.0),
    lambda: TrendRow("a", MarketTrend(2900, 0.0, 0.1, 4.1), 0.0, 0.0, 0.0),
    lambda: Coefficient(20.1, 1.0),
    lambda: Coefficient(1.0, 0.0),
    lambda: Coefficient(1.0, -1.0),
    lambda: Coefficient(NAN, 1.0),
    lambda: Coefficient(1.0, INF),
    lambda: InsightRow("a", -1, (("price", ONE),)),
    lambda: InsightRow("a", 1, ()),
    lambda: InsightRow("a", 1, (("weather", ONE),)),
    lambda: InsightRow("a", 1, (("carry", ONE), ("price", ONE))),
    lambda: InsightRow("a", 1, (("price", ONE), ("price", ONE))),
    lambda: Protection(Unit.RECEIPT, -1),
    lambda: Protection(Unit.NONE, 1),
    lambda: Protection(Unit.RECEIPT, 0),
    lambda: Protection(Unit.RECEIPT, 1, -1),
    lambda: Protection(Unit.RECEIPT, 1, 0, NAN),
    lambda: Protection(Unit.RECEIPT, 1, 0, -1.0),
    lambda: Protection(shops=0, owners=0),
    lambda: Protection(shops=2, owners=3),
    lambda: Protection(shops=2, owners=0),
]


@pytest.mark.parametrize("make", BAD, ids=range(len(BAD)))
def test_what_is_out_of_range_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(RecordInvalid):
        make()


@pytest.mark.parametrize("kind", PAYLOADS)
@pytest.mark.parametrize("category", ["", "x" * (LABEL_CHARS_MAX + 1), "a\nb", "a\x00", "a\u2028b", "\u202edairy"])
def test_categories_are_short_and_printable(kind: type[Payload], category: str) -> None:
    with pytest.raises(RecordInvalid, match="category"):
        payload_of(kind, category=category)


@pytest.mark.parametrize("kind", PAYLOADS)
def test_rows_ascend_and_no_sku_stands_twice(kind: type[Payload]) -> None:
    payload = payload_of(kind, skus=("a", "b"))
    for rows in (payload.rows[::-1], (payload.rows[0], payload.rows[0]), ()):
        with pytest.raises(RecordInvalid, match="rows"):
            replace(payload, rows=rows)  # type: ignore[arg-type]


def test_a_payload_has_a_bounded_number_of_rows() -> None:
    rows = tuple(DayRow("a", price, 1, 1) for price in range(SHARED_ROWS_MAX + 1))
    assert len(ItemDay(date(2026, 1, 1), "dairy", "EUR", rows[:-1]).rows) == SHARED_ROWS_MAX
    with pytest.raises(RecordInvalid, match="rows"):
        ItemDay(date(2026, 1, 1), "dairy", "EUR", rows)


def test_an_item_may_have_several_prices_a_day_and_one_row_a_week() -> None:
    rows = (DayRow("a", 1, 1, 1), DayRow("a", 2, 1, 1), DayRow("b", 1, 1, 1))
    assert ItemDay(date(2026, 1, 1), "dairy", "EUR", rows).rows == rows


def test_raw_rows_are_of_items_others_may_be_of_the_category() -> None:
    for kind in (RangeUpdate, TrendUpdate, ModelInsight):
        assert payload_of(kind, skus=("", "a")).rows[0].sku == ""
    for raw in (ItemDay, PriceUpdate):
        with pytest.raises(RecordInvalid, match="sku"):
            payload_of(raw, skus=("",))


@pytest.mark.parametrize("kind", [PriceUpdate, RangeUpdate, TrendUpdate, ModelInsight])
@pytest.mark.parametrize("week", [-1, WEEK_MAX + 1])
def test_weeks_have_a_range(kind: type[Payload], week: int) -> None:
    with pytest.raises(RecordInvalid, match="week"):
        payload_of(kind, week=week)


@pytest.mark.parametrize("weeks", [0, 54])
def test_a_window_is_a_year_at_most(weeks: int) -> None:
    with pytest.raises(RecordInvalid, match="weeks"):
        RangeUpdate("dairy", 2900, weeks, "EUR", (RangeRow("a", SPAN, 0.0, 0.0),))


@pytest.mark.parametrize("currency", ["", "eur", "EURO", "EU", "EUR\n", "ÄÖÜ"])
def test_currencies_are_codes(currency: str) -> None:
    for kind in (ItemDay, PriceUpdate, RangeUpdate):
        payload = payload_of(kind)
        assert isinstance(payload, ItemDay | PriceUpdate | RangeUpdate)
        with pytest.raises(RecordInvalid, match="currency"):
            replace(payload, currency=currency)


def test_points_and_trends_are_of_the_updates_own_week() -> None:
    with pytest.raises(RecordInvalid, match="another week"):
        TrendUpdate("dairy", 2901, (TrendRow("a", TREND, 0.0, 0.0, 0.0),))
    for timestamp in (monday_ms(2901), monday_ms(2900) + 1, 0, -(2**63)):
        row = PriceRow("a", replace(POINT, timestamp=timestamp), 1, 1)
        with pytest.raises(RecordInvalid, match="another week"):
            PriceUpdate("dairy", 2900, "EUR", (row,))


@given(payloads())
def test_a_payload_speaks_of_one_week(payload: Payload) -> None:
    week = week_behind(payload)
    if isinstance(payload, ItemDay):
        assert week_start(week) <= payload.day
        assert week == week_of(payload.day)
    else:
        assert week == payload.week


def test_payloads_are_values() -> None:
    for kind in PAYLOADS:
        payload = payload_of(kind)
        assert payload == payload_of(kind)
        assert hash(payload) == hash(payload_of(kind))
        with pytest.raises(FrozenInstanceError):
            payload.category = "other"  # type: ignore[misc]
    assert Protection() == UNPROTECTED
