"""What a week says: prices of what sold, trends, demand, and nothing where too little was seen."""

from datetime import date
from pathlib import Path

import pytest
from support_sharing import ITEMS, MONDAY, Shop

from edge.box.publications import categories_of, history_of, insight, price_updates, trend_update, week_is_over
from edge.records.history import week_of

WEEK = week_of(MONDAY)


async def sold(state: Path, weeks: int) -> Shop:
    shop = Shop(state)
    await shop.start(run=False)
    await shop.sell(7 * weeks)
    return shop


@pytest.mark.parametrize(("day", "over"), [(date(2026, 1, 10), False), (date(2026, 1, 11), True)])
def test_a_week_is_over_with_its_sunday(day: date, over: bool) -> None:
    assert week_is_over(WEEK, day.toordinal()) is over


async def test_prices_are_of_what_sold_in_that_week(tmp_path: Path) -> None:
    shop = await sold(tmp_path / "s", 2)
    memory = shop.views.memory
    (found,) = await price_updates(memory, "juice", WEEK)
    assert (found.category, found.week, found.currency) == ("juice", WEEK, "EUR")
    assert [row.sku for row in found.rows] == ["juice-1", "juice-2"]
    for row in found.rows:
        assert row.point == memory.price_point(row.sku, WEEK)
        history = memory.history("juice", 1, last_week=WEEK)
        assert row.units_milli == round(1000 * history.units[0, history.skus.index(row.sku)])
    assert await price_updates(memory, "juice", WEEK + 5) == []
    assert await price_updates(memory, "no such", WEEK) == []
    await shop.stop()


async def test_a_quarter_says_where_units_go_and_how_they_answer_prices(tmp_path: Path) -> None:
    shop = await sold(tmp_path / "s", 14)
    memory = shop.views.memory
    early, late = history_of(memory, "juice", WEEK + 2), history_of(memory, "juice", WEEK + 13)
    assert (trend_update(early), insight(early)) == (None, None)
    trend, said = trend_update(late), insight(late)
    assert trend is not None
    assert (trend.week, [row.sku for row in trend.rows]) == (WEEK + 13, ["", "juice-1", "juice-2"])
    assert said is not None
    assert said.week == WEEK + 13
    coefficients = {row.sku: dict(row.coefficients) for row in said.rows}
    assert coefficients["juice-1"]["price"].mean < -1.0
    await shop.stop()


async def test_categories_are_those_of_the_shelf(tmp_path: Path) -> None:
    shop = await sold(tmp_path / "s", 0)
    assert categories_of(shop.views.shelf) == {item.sku: item.category for item in ITEMS}
    await shop.stop()
