"""The demand estimate against known truth: coverage, what no price variation may teach, gaps, slow sellers."""

from dataclasses import replace

import numpy as np
import pytest
from support_history import Truth, simulate

from edge.agent.estimate import (
    CARRY,
    PRICE,
    DemandPrior,
    backtest,
    design,
    estimate,
    forecast_error,
    predict,
    regular_reference,
    weeks_of,
)
from edge.records.history import CategoryHistory

PRIOR = DemandPrior()
PRIOR_SD = float(np.hypot(PRIOR.price.category_sd, PRIOR.price.item_sd))


def test_intervals_cover_the_truth() -> None:
    inside, carry_inside, errors = [], [], []
    for seed in range(20):
        history, truth = simulate(seed)
        posterior = estimate(history, PRIOR)
        assert posterior.converged
        error = posterior.mean[:, PRICE] - truth.elasticity
        inside.append(np.abs(error) < 1.96 * posterior.sd(PRICE))
        carry_inside.append(np.abs(posterior.mean[:, CARRY] - truth.carry) < 1.96 * posterior.sd(CARRY))
        errors.append(error)
    # 220 intervals: a rightly covering 95 % falls outside 0.90..0.99 less than once in a thousand
    assert 0.90 <= np.mean(inside) <= 0.99
    assert np.mean(carry_inside) >= 0.90
    assert abs(np.mean(errors)) < 0.1
    assert np.std(errors) < 0.5 * PRIOR_SD


def test_without_price_variation_nothing_is_learned_of_the_elasticity() -> None:
    history, _ = simulate(3, vary=False)
    posterior = estimate(history, PRIOR)
    np.testing.assert_allclose(posterior.sd(PRICE), PRIOR_SD, rtol=1e-3)
    np.testing.assert_allclose(posterior.mean[:, PRICE], PRIOR.price.mean, atol=1e-3)


def test_more_weeks_make_the_estimate_firmer() -> None:
    history, _ = simulate(4)
    sds = [np.mean(estimate(weeks_of(history, 0, weeks), PRIOR).sd(PRICE)) for weeks in (8, 26, 52, 104)]
    assert sds == sorted(sds, reverse=True)


def test_a_new_item_starts_from_its_category() -> None:
    history, truth = simulate(5)
    observed = history.observed.copy()
    observed[:, 0] = False
    posterior = estimate(replace(history, observed=observed), PRIOR)
    rest = np.mean(truth.elasticity[1:])
    assert abs(posterior.mean[0, PRICE] - rest) < abs(PRIOR.price.mean - rest) + 0.05
    assert posterior.sd(PRICE)[0] > 0.7
    assert posterior.weeks_used[0] == 0
    assert np.all(np.isnan(posterior.residual[:, 0]))


def test_stock_outs_are_left_out_and_unsold_weeks_are_not() -> None:
    history, truth = simulate(6)
    gone = np.random.default_rng(1).random(history.units.shape) < 0.3
    empty = np.where(gone, 0.0, history.units)
    masked = estimate(replace(history, units=empty, observed=~gone), PRIOR)
    counted = estimate(replace(history, units=empty), PRIOR)
    assert np.all(np.abs(masked.mean[:, PRICE] - truth.elasticity) < 4 * masked.sd(PRICE))
    assert np.mean(counted.mean[:, 0]) < np.mean(masked.mean[:, 0]) - 0.2  # taken for demand they lower the level
    assert np.mean(counted.dispersion) > 3 * np.mean(masked.dispersion)


def test_slow_sellers_stay_near_their_prior_and_finite() -> None:
    history, _ = simulate(7, units=0.3)
    posterior = estimate(history, PRIOR)
    assert posterior.converged
    assert np.all(posterior.sd(PRICE) <= PRIOR_SD + 1e-6)
    assert np.all(posterior.sd(PRICE) > 0.5)
    assert np.all(np.isfinite(posterior.covariance))


@pytest.mark.parametrize("items", [1, 2, 60])
def test_any_number_of_items(items: int) -> None:
    history, truth = simulate(8, items=items, weeks=60) if items > 1 else _single()
    posterior = estimate(history, PRIOR)
    assert np.all(np.abs(posterior.mean[:, PRICE] - truth.elasticity) < 5 * posterior.sd(PRICE))


def _single() -> tuple[CategoryHistory, Truth]:
    history, truth = simulate(8, items=2, weeks=60)
    columns = {
        name: getattr(history, name)[:, :1]
        for name in ("units", "price", "reference", "cost", "deal", "feature", "observed")
    }
    return replace(history, skus=history.skus[:1], **columns), replace(truth, elasticity=truth.elasticity[:1])


def test_one_week_is_enough_and_nothing_known_is_the_prior() -> None:
    history, _ = simulate(9)
    posterior = estimate(weeks_of(history, 0, 1), PRIOR)
    assert np.all(posterior.sd(PRICE) <= PRIOR_SD + 1e-6)
    blank = replace(history, observed=np.zeros_like(history.observed))
    nothing = estimate(blank, PRIOR)
    np.testing.assert_allclose(nothing.mean[:, PRICE], PRIOR.price.mean, atol=1e-6)
    np.testing.assert_allclose(nothing.sd(PRICE), PRIOR_SD, rtol=1e-6)


def test_the_same_history_gives_the_same_bits_and_a_warm_start_the_same_answer() -> None:
    history, _ = simulate(10)
    first, second = estimate(history, PRIOR), estimate(history, PRIOR)
    assert first.mean.tobytes() == second.mean.tobytes()
    earlier = estimate(weeks_of(history, 0, -1), PRIOR)
    warm = estimate(history, PRIOR, start=earlier)
    np.testing.assert_allclose(warm.mean, first.mean, atol=5e-3)


def test_the_regular_reference_is_the_newest_outside_promotions() -> None:
    history, truth = simulate(11)
    np.testing.assert_allclose(regular_reference(history), truth.regular)
    unknown = replace(history, reference=np.full_like(history.reference, np.nan))
    np.testing.assert_allclose(regular_reference(unknown), np.median(history.price, axis=0))


def test_the_design_fills_unknown_prices_forward_and_does_not_use_them() -> None:
    history, _ = simulate(12, weeks=10)
    price = history.price.copy()
    price[4, 2] = np.nan
    data = design(replace(history, price=price), 0.38)
    assert data.x[4, 2] == data.x[3, 2]
    assert not data.used[4, 2]
    assert np.all(np.isfinite(data.terms))


def test_forecasts_of_weeks_not_seen_beat_the_mean_and_name_their_error() -> None:
    errors, naive = [], []
    for seed in range(6):
        history, _ = simulate(seed, weeks=80)
        errors.append(backtest(history, PRIOR, weeks=6).wape)
        mean = np.broadcast_to(np.mean(history.units[:-6], axis=0), (6, 11))
        naive.append(forecast_error(history.units[-6:], mean, history.observed[-6:]).wape)
    assert np.mean(errors) < 0.85 * np.mean(naive)


def test_forecast_error_by_hand() -> None:
    error = forecast_error(np.array([[10.0, 0.0, 5.0]]), np.array([[8.0, 1.0, 99.0]]), np.array([[True, True, False]]))
    assert (error.wape, error.bias, error.cells) == (0.3, -0.1, 2)
    assert np.isnan(forecast_error(np.zeros((1, 1)), np.ones((1, 1)), np.ones((1, 1), dtype=np.bool_)).wape)


def test_predict_repeats_the_level_of_the_last_week() -> None:
    history, truth = simulate(13, weeks=60)
    posterior = estimate(history, PRIOR)
    last = predict(posterior, history)[-1]
    expected = np.exp(truth.level) * np.exp(truth.elasticity * np.log(history.price[-1] / truth.regular))
    assert np.all(np.abs(np.log(last / expected)) < 1.0)
