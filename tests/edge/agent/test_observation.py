"""What a policy sees: finite and in range whatever goes in, equal for one shop and for many, named once."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support_category import COST, PRICE, juice

from edge.agent import optimiser
from edge.agent.demand import steady_outlook
from edge.agent.guard import Bounds
from edge.agent.observation import FEATURE_NAMES, FEATURES, ObservationInputs, build, no_trail

ZERO = np.zeros(11)


def given_inputs(shape: tuple[int, ...] = ()) -> ObservationInputs:
    model = juice(shape=shape)
    many = np.zeros((*shape, 11))
    horizon = optimiser.repeat_outlook(steady_outlook(model, COST + many))
    limits = Bounds(many - 0.1, many + 0.1, many, optimiser.revenue_weight(model), np.full(shape, 0.005))
    return ObservationInputs(
        model, no_trail((*shape, 11)), many + 0.1, many - 0.2, many, COST + many, horizon, limits, many, many,
        np.full(shape, 5.0),
    )  # fmt: skip


def column(table: np.ndarray, name: str) -> np.ndarray:
    return table[..., FEATURE_NAMES.index(name)]


def test_names_are_unique_and_masks_follow_their_feature() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)
    for at, feature in enumerate(FEATURES):
        assert feature.low <= feature.fill <= feature.high
        assert feature.unit
        if feature.mask:
            assert FEATURE_NAMES[at + 1] == f"{feature.name}_missing"


def test_values_are_what_their_names_say() -> None:
    inputs = given_inputs()
    dearer = replace(inputs, horizon=optimiser.repeat_outlook(steady_outlook(inputs.model, COST * 1.05)))
    table = build(dearer)
    assert table.dtype == np.float32
    np.testing.assert_allclose(column(table, "cost"), np.log(1.05), rtol=1e-5)
    np.testing.assert_allclose(column(table, "margin"), 1 - 1.05 * COST / PRICE, rtol=1e-5)
    np.testing.assert_allclose(column(table, "residual"), 0.1, rtol=1e-5)
    np.testing.assert_allclose(column(table, "mean_forecast"), -0.2, rtol=1e-5)
    np.testing.assert_allclose(column(table, "slots"), 5 / 11, rtol=1e-5)
    np.testing.assert_allclose(column(table, "index_room"), 0.005, rtol=1e-5)
    np.testing.assert_allclose(column(table, "category_elasticity"), -2.0, rtol=1e-5)


def test_what_is_not_known_is_filled_and_said() -> None:
    inputs = given_inputs()
    gone = replace(inputs, residual=np.where(np.arange(11) == 2, np.nan, 0.1), cost_base=ZERO * np.nan)
    table = build(gone)
    assert column(table, "residual_missing").tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert column(table, "residual")[2] == 0.0
    assert np.all(column(table, "cost_missing") == 1)
    assert np.all(column(table, "mean_cost") == 0)
    assert np.all(column(table, "margin_missing") == 0)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_always_finite_and_in_range(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def wild(values: np.ndarray) -> np.ndarray:
        bad = rng.choice([np.nan, np.inf, -np.inf, 1e300, -1e300, 0.0], values.shape)
        return np.where(rng.random(values.shape) < 0.3, bad, values)

    inputs = given_inputs()
    inputs = replace(
        inputs,
        residual=wild(inputs.residual),
        forecast=wild(inputs.forecast),
        pantry=wild(inputs.pantry),
        cost_base=wild(inputs.cost_base),
        suggestion=wild(inputs.suggestion),
        look_ahead=wild(inputs.look_ahead),
        trail=replace(inputs.trail, last=wild(inputs.trail.last), fast=wild(inputs.trail.fast)),
    )
    with np.errstate(all="ignore"):
        table = build(inputs)
    assert np.all(np.isfinite(table))
    low, high = (np.array([getattr(feature, edge) for feature in FEATURES], np.float32) for edge in ("low", "high"))
    assert np.all((table >= low) & (table <= high))


def test_a_batch_of_shops_sees_what_each_shop_sees() -> None:
    together, alone = build(given_inputs((3,))), build(given_inputs())
    assert together.shape == (3, 11, len(FEATURES))
    for shop in range(3):
        np.testing.assert_array_equal(together[shop], alone)


def test_the_trail_follows_prices_and_ignores_what_is_not_known() -> None:
    trail = no_trail((2,)).week(np.array([0.1, np.nan]), np.array([0.1, np.nan]))
    assert trail.last.tolist() == [0.1, 0.0]
    np.testing.assert_allclose(trail.fast, [0.05, 0.0])
    np.testing.assert_allclose(trail.slow, [0.02, 0.0])
    assert trail.weeks_since_change.tolist() == [0.0, 1.0]
    later = trail.week(np.array([0.1, 0.0]), np.array([0.1, 0.0]))
    assert later.weeks_since_change.tolist() == [1.0, 2.0]
