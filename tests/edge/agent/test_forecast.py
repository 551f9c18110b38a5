"""The demand filter: converges on what lasts, fades what does not, ignores what says nothing."""

import numpy as np

from edge.agent.forecast import ForecastRules, log_residual, no_forecast, update_forecast

RULES = ForecastRules()
SEEN = np.ones(3, dtype=np.bool_)
WEIGHT = np.array([0.5, 0.3, 0.2])


def test_a_lasting_common_shift_is_found_and_shared() -> None:
    state = no_forecast((3,))
    for _ in range(50):
        state = update_forecast(state, np.full(3, 0.4), SEEN, WEIGHT, RULES)
    assert np.all(state.shift > 0.1)
    np.testing.assert_allclose(state.item, 0.0, atol=1e-12)
    blind = update_forecast(state, np.full(3, 0.4), np.array([True, False, False]), WEIGHT, RULES)
    assert np.all(blind.shift[1:] > 0.1)  # an item that was out of stock still hears of its category


def test_weeks_that_say_nothing_fade() -> None:
    state = update_forecast(no_forecast((3,)), np.array([0.4, 0.1, -0.2]), SEEN, WEIGHT, RULES)
    later = update_forecast(state, np.full(3, np.nan), ~SEEN, WEIGHT, RULES)
    np.testing.assert_allclose(later.shift, RULES.persistence * state.shift)


def test_it_beats_no_forecast_on_the_process_it_is_for() -> None:
    rng = np.random.default_rng(1)
    state, shift = no_forecast((200, 1, 3)[1:]), np.zeros((1, 3))
    misses, naive = [], []
    for _ in range(600):
        shift = 0.7 * shift + 0.2 * np.sqrt(1 - 0.49) * rng.normal(size=(1, 1)) * np.ones(3)
        residual = shift + 0.3 * rng.normal(size=(1, 3))
        misses.append(np.mean((residual - state.shift) ** 2))
        naive.append(np.mean(residual**2))
        state = update_forecast(state, residual, np.ones((1, 3), dtype=np.bool_), WEIGHT, RULES)
    assert np.mean(misses) < np.mean(naive)


def test_residuals_are_finite_and_extremes_are_clipped() -> None:
    assert np.all(np.isfinite(log_residual(np.array([0.0, 5.0, -3.0]), np.array([0.0, 0.0, 9.0]))))
    state = update_forecast(no_forecast((1,)), np.array([1e9]), np.array([True]), np.ones(1), RULES)
    assert abs(float(state.shift[0])) <= RULES.residual_max
