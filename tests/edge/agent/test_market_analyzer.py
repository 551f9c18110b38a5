"""Trends with standard errors: the errors are right, records of every kind add up, nothing is computed twice."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray
from support_history import simulate

from edge.agent.market_analyzer import (
    CATEGORY,
    UNKNOWN_SEASON,
    UNKNOWN_VOLATILITY,
    MarketAnalyzer,
    season_error,
    slope_error,
    trend_row,
    volatility_error,
)
from edge.errors import LocalError, RecordInvalid
from edge.limits import SHARED_ROWS_MAX, TREND_CATEGORIES_MAX
from edge.memory.statistics import market_trend
from edge.records.history import week_start
from edge.records.market import PricePoint, PriceRange
from edge.records.shared import DayRow, ItemDay, PriceRow, PriceUpdate, TrendUpdate

Float = NDArray[np.float64]
FIRST = 2600


def noise(rng: np.random.Generator, weeks: int, rho: float, sd: float = 0.2) -> Float:
    steps = rng.normal(0.0, sd, weeks + 20)
    for week in range(1, len(steps)):
        steps[week] += rho * steps[week - 1]
    return np.asarray(steps[20:])


def price_update(week: int, units: dict[str, float], category: str = "juice") -> PriceUpdate:
    monday_ms = (week_start(week).toordinal() - date(1970, 1, 1).toordinal()) * 86_400_000
    point = PricePoint(monday_ms, PriceRange(100, 100), 0.0, 0.0)
    rows = tuple(PriceRow(sku, point, 100, round(1000 * units[sku])) for sku in sorted(units))
    return PriceUpdate(category, week, "EUR", rows)


# --- standard errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rho", "weeks"), [(0.0, 26), (0.3, 26), (0.3, 104)])
def test_standard_errors_say_how_far_off_the_numbers_are(rho: float, weeks: int) -> None:
    rng = np.random.default_rng(1)
    number = np.arange(FIRST, FIRST + weeks).astype(np.float64)
    season = 0.2 * np.cos(2 * np.pi * number / (365.2425 / 7)) if weeks >= 78 else np.zeros(weeks)
    changes_sd = 0.2 * np.sqrt(2 * (1 - rho) / (1 - rho**2))
    off: list[list[float]] = []
    for _ in range(250):
        units = np.exp(6 + 0.01 * np.arange(weeks) + season + noise(rng, weeks, rho))
        row = trend_row(CATEGORY, FIRST + weeks - 1, number, units)
        assert row is not None
        off.append([
            (row.trend.trend - 0.01) / row.trend_error,
            (row.trend.volatility - changes_sd) / row.volatility_error,
            (np.log(row.trend.seasonality) - season[-1]) / row.season_error,
        ])  # fmt: skip
    slope, spread, fitted = np.std(np.array(off), axis=0)
    # a standard deviation of 250 values is known to 5 %; Sen's interval is wide where weeks are independent
    assert 0.7 < slope < 1.25
    assert 0.75 < spread < 1.25
    assert fitted < 1.3
    assert fitted > 0.8 or weeks < 78


def test_the_numbers_are_those_of_the_price_memory() -> None:
    rng = np.random.default_rng(2)
    number = np.arange(FIRST, FIRST + 90).astype(np.float64)
    units = np.exp(5 + noise(rng, 90, 0.2))
    row = trend_row("a", FIRST + 89, number, units)
    assert row is not None
    assert (row.trend.trend, row.trend.volatility, row.trend.seasonality) == market_trend(number, units)
    assert trend_row("a", FIRST, number[:3], units[:3]) is None


def test_a_clean_line_has_a_slope_without_error_and_gaps_are_no_changes() -> None:
    weeks = np.arange(10.0)
    assert slope_error(weeks, 0.5 * weeks) == pytest.approx(0.0, abs=1e-12)
    assert volatility_error(weeks, 0.3) == pytest.approx(0.3 * np.sqrt(0.75 / 8))
    assert volatility_error(weeks * 2, 0.0) == UNKNOWN_VOLATILITY
    assert season_error(weeks, weeks) == UNKNOWN_SEASON


def test_more_weeks_make_the_slope_firmer_and_correlation_less_firm() -> None:
    rng = np.random.default_rng(3)
    lines = [np.mean([slope_error(np.arange(float(n)), noise(rng, n, 0.0)) for _ in range(40)]) for n in (8, 16, 26)]
    assert lines == sorted(lines, reverse=True)
    weeks = np.arange(26.0)
    free = np.mean([slope_error(weeks, noise(rng, 26, 0.0)) for _ in range(40)])
    tied = np.mean([slope_error(weeks, noise(rng, 26, 0.7, 0.2 * np.sqrt(1 - 0.49))) for _ in range(40)])
    assert tied > 1.3 * free


# --- records ---------------------------------------------------------------------------------------------------------


def test_days_add_up_to_weeks_and_a_day_again_replaces_itself() -> None:
    by_day, by_week = MarketAnalyzer(), MarketAnalyzer()
    rng = np.random.default_rng(4)
    for week in range(FIRST, FIRST + 12):
        sold = {"a": 0.0, "b": 0.0}
        for offset in range(6):
            units = {sku: int(rng.integers(1, 30)) for sku in sold}
            rows = tuple(DayRow(sku, 199, 1000 * units[sku], 0) for sku in sorted(units))
            day = ItemDay(week_start(week) + timedelta(days=offset), "juice", "EUR", rows)
            by_day.take(replace(day, rows=(replace(rows[0], units_milli=1),)))  # corrected by the next line
            by_day.take(day)
            sold = {sku: sold[sku] + units[sku] for sku in sold}
        by_week.take(price_update(week, sold))
    last = FIRST + 11
    assert by_day.rows("juice", last) == by_week.rows("juice", last)
    assert [row.sku for row in by_day.rows("juice", last)] == ["", "a", "b"]
    assert [row.sku for row in by_day.rows("juice", last, items=False)] == [""]
    TrendUpdate("juice", last, by_day.rows("juice", last))  # can be published as they are


def test_a_weeks_own_record_counts_more_than_its_days() -> None:
    analyzer, plain = MarketAnalyzer(), MarketAnalyzer()
    for week in range(FIRST, FIRST + 8):
        analyzer.take(ItemDay(week_start(week), "juice", "EUR", (DayRow("a", 199, 5_000, 0),)))
        for each in (analyzer, plain):
            each.take(price_update(week, {"a": 40.0 + week % 3}))
    assert analyzer.rows("juice", FIRST + 7) == plain.rows("juice", FIRST + 7)


def test_prices_of_one_day_are_summed_and_the_past_does_not_know_the_future() -> None:
    analyzer = MarketAnalyzer()
    for week in range(FIRST, FIRST + 10):
        rows = (DayRow("a", 149, 4_000, 0), DayRow("a", 199, 6_000, 0))
        analyzer.take(ItemDay(week_start(week), "juice", "EUR", rows))
    row = analyzer.trend("juice", FIRST + 5, "a")
    assert row is not None
    assert (row.trend.trend, row.trend.volatility) == (0.0, 0.0)
    analyzer.take(price_update(FIRST + 10, {"a": 900.0}))
    assert analyzer.trend("juice", FIRST + 5, "a") == row
    assert analyzer.trend("juice", FIRST + 2, "a") is None  # three weeks are too few


def test_an_item_counts_from_its_first_to_its_last_sale() -> None:
    analyzer = MarketAnalyzer()
    for week in range(FIRST, FIRST + 20):
        units = {"old": 10.0} | ({"new": 10.0} if week % 2 == 0 and 6 <= week - FIRST < 16 else {})
        analyzer.take(price_update(week, units))
    row = analyzer.trend("juice", FIRST + 19, "new")
    weeks = np.arange(FIRST + 6.0, FIRST + 15.0)
    wanted = trend_row("new", FIRST + 19, weeks, np.where((weeks - FIRST) % 2 == 0, 10.0, 0.0))
    assert row == wanted
    assert analyzer.trend("juice", FIRST + 19, "unknown") is None
    assert analyzer.trend("elsewhere", FIRST + 19) is None
    assert analyzer.rows("elsewhere", FIRST + 19) == ()


def test_a_history_says_the_same_and_unobserved_cells_say_nothing() -> None:
    history, _ = simulate(1, items=3, weeks=30)
    observed = history.observed.copy()
    observed[10:14, 1] = False
    observed[20] = False
    history = replace(history, observed=observed)
    analyzer = MarketAnalyzer()
    analyzer.take_history(history)
    last = int(history.weeks[-1])
    seen = observed[:, 1]
    wanted = trend_row("sku-1", last, history.weeks[seen].astype(np.float64), history.units[seen, 1])
    assert analyzer.trend("juice", last, "sku-1") == wanted
    open_weeks = observed.any(axis=1)
    total = np.where(observed, history.units, 0.0).sum(axis=1)
    whole = trend_row(CATEGORY, last, history.weeks[open_weeks].astype(np.float64), total[open_weeks])
    assert analyzer.trend("juice", last) == whole


def test_only_what_changed_is_computed_again() -> None:
    analyzer = MarketAnalyzer()
    for week in range(FIRST, FIRST + 8):
        for category in ("juice", "tea"):
            analyzer.take(price_update(week, {"a": 40.0 + week % 3}, category))
    juice, tea = analyzer.trend("juice", FIRST + 7), analyzer.trend("tea", FIRST + 7)
    analyzer.take(price_update(FIRST + 7, {"a": 80.0}, "tea"))
    assert analyzer.trend("juice", FIRST + 7) is juice
    assert analyzer.trend("tea", FIRST + 7) != tea
    assert analyzer.categories == ("juice", "tea")


def test_it_stays_within_its_bounds() -> None:
    analyzer = MarketAnalyzer(weeks_max=5)
    for week in range(FIRST, FIRST + 12):
        analyzer.take(price_update(week, {"a": 1.0 + week - FIRST}))
        analyzer.take(ItemDay(week_start(week), "tea", "EUR", (DayRow("a", 199, 1_000 * (1 + week - FIRST), 0),)))
    for category in ("juice", "tea"):
        weeks = np.arange(FIRST + 7.0, FIRST + 12.0)
        assert analyzer.trend(category, FIRST + 11, "a") == trend_row("a", FIRST + 11, weeks, weeks - FIRST + 1)
    for number in range(TREND_CATEGORIES_MAX - 2):
        analyzer.take(price_update(FIRST, {"a": 1.0}, f"c{number}"))
    with pytest.raises(RecordInvalid, match="categories"):
        analyzer.take(price_update(FIRST, {"a": 1.0}, "one more"))
    half = SHARED_ROWS_MAX // 2
    for start in (0, half):
        many = {f"s{number:05d}": 1.0 for number in range(start, start + half)}
        if start:
            with pytest.raises(RecordInvalid, match="items"):
                analyzer.take(price_update(FIRST + 20, many))
        else:
            analyzer.take(price_update(FIRST + 20, many))
    with pytest.raises(LocalError):
        MarketAnalyzer(weeks_max=0)
