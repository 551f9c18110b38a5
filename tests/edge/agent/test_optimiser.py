"""The weekly optimiser: inside its limits whatever happens, at the optimum where the optimum is known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_category import COST, juice

from edge.agent import optimiser
from edge.agent.demand import Float, Outlook, next_pantry, profit, respond, steady_outlook
from edge.agent.tail import make_tail, tail_value

MODEL = juice()
NORMAL = steady_outlook(MODEL, COST)
LOW, HIGH = np.full(11, -0.1), np.full(11, 0.1)
WEIGHT = optimiser.revenue_weight(MODEL)
CAP = 0.005
ZERO = np.zeros(11)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_projection_is_the_nearest_point_of_the_box_under_the_cap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 8))
    low = rng.uniform(-0.3, 0.05, n)
    high = low + rng.uniform(0, 0.3, n) * (rng.random(n) < 0.8)
    weight, scale = rng.random(n), rng.uniform(0.1, 10, n)
    wanted, cap = rng.normal(0, 0.4, n), float(rng.uniform(-0.1, 0.1))
    found = optimiser.project(wanted, low, high, weight, cap, scale=scale)
    assert np.all((found >= low - 1e-12) & (found <= high + 1e-12))
    if np.sum(weight * low) > cap:
        np.testing.assert_allclose(found, low, atol=1e-9)
        return
    assert np.sum(weight * found) <= cap + 1e-10
    best = np.sum(scale * (found - wanted) ** 2)
    for _ in range(50):  # no feasible point of a random search is nearer
        other = np.clip(found + rng.normal(0, 0.05, n), low, high)
        if np.sum(weight * other) <= cap:
            assert np.sum(scale * (other - wanted) ** 2) >= best - 1e-9


@pytest.mark.parametrize("elasticity", [-2.5, -3.0, -4.0])
def test_a_lone_item_of_constant_elasticity_is_priced_at_the_monopolists_markup(elasticity: float) -> None:
    """With one item, no outside option to speak of and no basket, p = c · e / (1 + e)."""
    model = juice(basket=0.0, pantry=0.0)
    price, cost = np.array([3.0]), np.array([2.0])
    one = replace(
        model, price=price, share=np.ones(1), kappa=np.array([-elasticity]), theta=np.zeros(1), nest=np.array(1.0),
        odds=np.array(-25.0), elasticity_sd=np.zeros(1), carry_sd=np.zeros(1), residual_sd=np.zeros(1),
    )  # fmt: skip
    week = steady_outlook(one, cost)
    wide = np.full(1, 1.0)
    found = optimiser.short_run(one, week, -wide, wide, iterations=200)
    assert price * np.exp(found) == pytest.approx(cost * elasticity / (1 + elasticity), rel=0.01)


def _random_search(value: object, found: Float, rng: np.random.Generator) -> float:
    """The best that random feasible moves around `found` reach."""
    best = -np.inf
    for _ in range(600):
        step = rng.normal(0, 0.03, 11) * (rng.random(11) < 0.4)
        other = optimiser.project(found + step, LOW, HIGH, WEIGHT, CAP)
        best = max(best, float(value(other)))  # type: ignore[operator]
    return best


def test_short_run_is_this_weeks_best() -> None:
    pantry = np.random.default_rng(1).uniform(0, 1, 11)
    found = optimiser.short_run(MODEL, NORMAL, LOW, HIGH, cap=CAP, pantry=pantry)
    value = float(profit(MODEL, found, NORMAL, pantry))
    assert value >= _random_search(lambda m: profit(MODEL, m, NORMAL, pantry), found, np.random.default_rng(2)) - 1e-6


def test_look_ahead_is_the_best_first_week_before_the_static_tail() -> None:
    horizon = optimiser.repeat_outlook(Outlook(np.full(11, -0.05), ZERO, ZERO, COST))
    pantry = np.random.default_rng(3).uniform(0, 1, 11)
    book = optimiser.static_book(MODEL, COST, LOW, HIGH, cap=CAP)
    tail = make_tail(MODEL, horizon.weeks_after(1), book)

    def value(m: Float) -> float:
        at = respond(MODEL, horizon.reference[0] + m, horizon.week(0), pantry)
        return float(at.profit + tail_value(tail, at.utility, pantry)[0])

    found = optimiser.look_ahead(MODEL, horizon, pantry, LOW, HIGH, weight=WEIGHT, cap=CAP, book=book)
    assert value(found) >= _random_search(value, found, np.random.default_rng(4)) - 1e-6
    step = 1e-6
    slopes = [(value(found + step * row) - value(found - step * row)) / (2 * step) for row in np.eye(11)]
    np.testing.assert_allclose(
        optimiser.gradient(MODEL, horizon.week(0), found, pantry, tail), slopes, rtol=1e-4, atol=1e-3
    )


def _run(policy: str, weeks: int = 60) -> float:
    """J of a shop with stockpiling and deals under a policy, summed over `weeks`."""
    rng = np.random.default_rng(5)
    deal = rng.random((weeks + 6, 11)) < 0.12
    reference, feature = np.where(deal, -0.18, 0.0), np.where(deal, 0.5, 0.0)
    pantry, total = ZERO, 0.0
    book = optimiser.static_book(MODEL, COST, LOW, HIGH, weight=WEIGHT, cap=CAP)
    for week in range(weeks):
        rows = slice(week, week + 6)
        horizon = Outlook(reference[rows], feature[rows], np.zeros((6, 11)), np.broadcast_to(COST, (6, 11)))
        now = horizon.week(0)
        if policy == "hold":
            m = ZERO
        elif policy == "short":
            m = optimiser.short_run(MODEL, now, LOW, HIGH, weight=WEIGHT, cap=CAP)
        elif policy == "long":
            m = optimiser.long_run(MODEL, now, LOW, HIGH, weight=WEIGHT, cap=CAP)
        else:
            m = optimiser.look_ahead(MODEL, horizon, pantry, LOW, HIGH, weight=WEIGHT, cap=CAP, book=book)
        x = now.reference + m
        total += float(profit(MODEL, x, now, pantry))
        pantry = next_pantry(MODEL, x, now, pantry)
    return total


def test_where_demand_has_memory_looking_ahead_beats_the_long_run_beats_the_short_run() -> None:
    hold, short, long, ahead = (_run(policy) for policy in ("hold", "short", "long", "ahead"))
    assert ahead > long > short
    assert long > hold


def test_without_memory_looking_ahead_is_the_myopic_optimum() -> None:
    model = juice(pantry=0.0)
    horizon = optimiser.repeat_outlook(NORMAL)
    myopic = optimiser.short_run(model, NORMAL, LOW, HIGH, cap=CAP)
    np.testing.assert_allclose(optimiser.long_run(model, NORMAL, LOW, HIGH, cap=CAP), myopic, atol=1e-6)
    np.testing.assert_allclose(optimiser.look_ahead(model, horizon, ZERO, LOW, HIGH, cap=CAP), myopic, atol=1e-4)


def test_the_price_level_does_not_run_to_the_ceiling() -> None:
    free = optimiser.long_run(MODEL, NORMAL, LOW, HIGH)
    assert abs(np.sum(WEIGHT * free)) < 0.06
    capped = optimiser.long_run(MODEL, NORMAL, LOW, HIGH, cap=CAP)
    assert np.sum(WEIGHT * capped) <= CAP + 1e-9


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_always_finite_and_within_the_limits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wild = rng.choice([0.0, 1.0, -1.0, 1e6, -1e6, 1e300, np.inf, -np.inf, np.nan], (4, 11))
    sane = rng.random((4, 11)) < 0.7
    model = replace(
        MODEL,
        kappa=np.where(sane[0], MODEL.kappa, wild[0]),
        theta=np.where(sane[1], MODEL.theta, wild[1]),
        basket=np.array(rng.choice([0.3, np.nan, 1e300])),
    )
    week = Outlook(ZERO, ZERO, np.where(sane[2], 0.0, wild[2]), np.where(sane[3], COST, wild[3]))
    low = rng.uniform(-0.1, 0.02, 11)
    high = low + rng.uniform(0, 0.1, 11)
    pantry = rng.uniform(-1, 5, 11)
    with np.errstate(all="ignore"):
        for found in (
            optimiser.short_run(model, week, low, high, weight=WEIGHT, cap=CAP, pantry=pantry),
            optimiser.long_run(model, week, low, high, weight=WEIGHT, cap=CAP),
            optimiser.look_ahead(model, optimiser.repeat_outlook(week), pantry, low, high, weight=WEIGHT, cap=CAP),
        ):
            assert np.all(np.isfinite(found))
            assert np.all((found >= low - 1e-12) & (found <= high + 1e-12))
            assert np.sum(WEIGHT * found) <= max(CAP, float(np.sum(WEIGHT * low))) + 1e-9


def test_item_gains_add_up_to_the_books_gain() -> None:
    wanted = np.random.default_rng(6).uniform(-0.1, 0.1, 11)
    gains = optimiser.item_gain(MODEL, NORMAL, ZERO, wanted)
    whole = profit(MODEL, wanted, NORMAL) - profit(MODEL, ZERO, NORMAL)
    assert np.sum(gains) == pytest.approx(float(whole), rel=0.02, abs=0.02)


def test_a_batch_of_shops_gives_what_each_shop_gives() -> None:
    batch = juice(shape=(4,))
    costs = COST * np.array([0.9, 1.0, 1.05, 1.1])[:, None]
    low, high = np.broadcast_to(LOW, (4, 11)), np.broadcast_to(HIGH, (4, 11))
    together = optimiser.long_run(batch, steady_outlook(batch, costs), low, high, cap=CAP)
    for shop in range(4):
        alone = optimiser.long_run(MODEL, steady_outlook(MODEL, costs[shop]), LOW, HIGH, cap=CAP)
        np.testing.assert_allclose(together[shop], alone, atol=1e-6)
