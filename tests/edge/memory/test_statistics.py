import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.memory.statistics import (
    SEASON_WEEKS_MIN,
    confidence,
    market_trend,
    presumed_stockout,
    seasonal,
    success_metric,
    theil_sen,
)

WEEKS = np.arange(2900.0, 3030.0)


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_success_is_bounded_and_mirrors(margin: float, baseline: float) -> None:
    assert -1 <= success_metric(margin, baseline) <= 1
    assert success_metric(margin, baseline) == -success_metric(baseline, margin)


def test_success_of_known_margins() -> None:
    assert success_metric(200, 100) == pytest.approx(1 / 3)
    assert success_metric(-50, 100) == -1.0
    assert success_metric(0, 0) == 0.0


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_confidence_grows_with_either_side_and_never_reaches_one(lines: int, before: int) -> None:
    assert 0 < confidence(lines, before) < confidence(lines + 1, before) < 1
    assert confidence(lines, before) == pytest.approx(confidence(before, lines))


def test_confidence_is_one_half_at_twenty_effective_lines_and_nothing_without_lines() -> None:
    assert confidence(40, 40) == pytest.approx(0.5)
    assert confidence(0, 100) == confidence(100, 0) == confidence(-3, 100) == 0.0


def test_a_clean_exponential_is_its_slope_without_volatility_or_season() -> None:
    units = 1000 * np.exp(0.02 * np.arange(40.0)) - 0.5
    trend, volatility, season = market_trend(np.arange(40.0), units) or (0, 0, 0)
    assert trend == pytest.approx(0.02, abs=1e-12)
    assert volatility == pytest.approx(0, abs=1e-9)
    assert season == 1.0


def test_a_yearly_wave_is_season_and_not_trend() -> None:
    phase = 2 * np.pi * WEEKS / (365.2425 / 7)
    units = np.exp(5 + 0.3 * np.cos(phase) + 0.1 * np.sin(2 * phase)) - 0.5
    trend, volatility, season = market_trend(WEEKS, units) or (0, 0, 0)
    assert trend == pytest.approx(0, abs=1e-9)
    assert volatility == pytest.approx(0, abs=1e-9)
    assert season == pytest.approx(math.exp(0.3 * np.cos(phase[-1]) + 0.1 * np.sin(2 * phase[-1])))


def test_a_year_and_a_half_are_needed_for_a_season() -> None:
    y = np.sin(WEEKS / 8)
    assert not seasonal(WEEKS[: SEASON_WEEKS_MIN - 1], y[: SEASON_WEEKS_MIN - 1]).any()
    assert seasonal(WEEKS[:SEASON_WEEKS_MIN], y[:SEASON_WEEKS_MIN]).any()


def test_volatility_is_the_deviation_of_weekly_changes() -> None:
    rng = np.random.default_rng(5)
    level = np.cumsum(rng.normal(0, 0.1, 26))
    _, volatility, _ = market_trend(np.arange(26.0), np.exp(10 + level)) or (0, 0, 0)
    assert volatility == pytest.approx(np.diff(level).std(ddof=1), rel=1e-3)


def test_one_wild_week_hardly_moves_the_trend() -> None:
    units = 500 * np.exp(0.01 * np.arange(26.0))
    units[12] = 50_000
    trend, _, _ = market_trend(np.arange(26.0), units) or (0, 0, 0)
    assert trend == pytest.approx(0.01, abs=1e-3)


def test_gaps_do_not_make_changes_and_few_weeks_make_no_trend() -> None:
    weeks = np.array([0.0, 2.0, 4.0, 6.0])
    assert market_trend(weeks, np.array([1.0, 9.0, 2.0, 8.0])) is not None
    assert (market_trend(weeks, np.array([1.0, 9.0, 2.0, 8.0])) or (0, 1, 0))[1] == 0.0
    assert market_trend(weeks[:3], np.ones(3)) is None


@given(st.lists(st.floats(0, 1e6), min_size=4, max_size=130))
def test_trends_are_always_in_range(units: list[float]) -> None:
    found = market_trend(np.arange(float(len(units))), np.array(units))
    assert found is not None
    assert -1 <= found[0] <= 1
    assert 0 <= found[1] <= 10
    assert 0.25 <= found[2] <= 4


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30))
def test_slope_is_the_median_over_all_pairs(y: list[float]) -> None:
    slopes = [(y[j] - y[i]) / (j - i) for i in range(len(y)) for j in range(i + 1, len(y))]
    assert theil_sen(np.arange(float(len(y))), np.array(y)) == pytest.approx(float(np.median(slopes)))


@given(st.lists(st.tuples(st.sampled_from((0.0, 1.0, 10.0, 30.0)), st.booleans()), min_size=1, max_size=40))
def test_stockouts_as_counted_one_by_one(cells: list[tuple[float, bool]]) -> None:
    units = np.array([[u] for u, _ in cells])
    offered = np.array([[o] for _, o in cells])
    expected = []
    for week, (sold, on_sale) in enumerate(cells):
        beside = [cells[k] for k in range(max(week - 8, 0), min(week + 9, len(cells))) if k != week and cells[k][1]]
        steady = sum(u >= 10 for u, _ in beside)
        expected.append(on_sale and sold == 0 and steady >= 4 and steady >= 0.75 * len(beside))
    assert presumed_stockout(units, offered)[:, 0].tolist() == expected
