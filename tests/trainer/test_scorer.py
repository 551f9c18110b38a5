"""The scorer recovers price effects that are in the data, and is not led astray by what is missing."""

from dataclasses import replace

import numpy as np
import pytest

from trainer.ingest import Panel
from trainer.scorer import scorer


def panel(weeks: int = 40, stores: int = 30, seed: int = 0) -> tuple[Panel, np.ndarray, np.ndarray]:
    """Two items: own −3 and −2, cross 0.5, lag +0.4, promotion +0.3."""
    rng = np.random.default_rng(seed)
    effects = np.array([[-3.0, 0.5], [0.5, -2.0]])
    lag = np.array([0.4, 0.4])
    log_price = rng.normal(0.7, 0.15, (weeks + 1, stores, 2))
    deal = (rng.random((weeks, stores, 2)) < 0.2).astype(float)
    store = rng.normal(4.0, 0.5, (1, stores, 2))
    log_units = store + log_price[1:] @ effects.T + lag * log_price[:-1] + 0.3 * deal
    units = np.exp(log_units + rng.normal(0, 0.2, log_units.shape))
    price = np.exp(log_price)
    return (
        Panel(
            tuple(str(s) for s in range(stores)),
            ("a", "b"),
            np.arange(weeks),
            units,
            price[1:],
            0.7 * price[1:],
            deal,
            np.zeros_like(deal),
        ),
        price[0],
        effects,
    )


def test_effects_are_recovered() -> None:
    data, previous, effects = panel()
    fitted = scorer(data, previous).fit()
    np.testing.assert_allclose(fitted.price, effects, atol=0.15)
    np.testing.assert_allclose(fitted.lag, 0.4, atol=0.15)


def test_absent_store_weeks_do_not_bias() -> None:
    data, previous, effects = panel(seed=1)
    gone = np.random.default_rng(0).random(data.units.shape[:2]) < 0.2
    holes = [np.where(gone[..., None], np.nan, part) for part in (data.units, data.price, data.cost, data.deal)]
    part = replace(data, units=holes[0], price=holes[1], cost=holes[2], deal=holes[3])
    np.testing.assert_allclose(scorer(part, previous).fit().price, effects, atol=0.25)


def test_without_price_variation_the_prior_stands() -> None:
    data, previous, _ = panel()
    flat = replace(data, price=np.full_like(data.price, 2.0))
    fitted = scorer(flat, np.full_like(previous, 2.0)).fit()
    np.testing.assert_allclose(np.diag(fitted.price), -2.5, atol=1e-6)


def test_a_resample_of_every_week_once_is_the_fit_itself() -> None:
    data, previous, _ = panel(weeks=12)
    world = scorer(data, previous)
    np.testing.assert_allclose(world.fit(np.arange(12)).price, world.fit().price)
    assert not np.allclose(world.fit(np.zeros(12, np.int64)).price, world.fit().price)


def test_effect_multiplies_units() -> None:
    data, previous, _ = panel()
    fitted = scorer(data, previous).fit()
    zero = np.zeros((4, 2))
    np.testing.assert_allclose(fitted.effect(zero, zero), 1.0)
    up = np.array([[0.05, 0.0]])
    assert fitted.effect(up, np.zeros((1, 2)))[0, 0] == pytest.approx(np.exp(0.05 * fitted.price[0, 0]))
    assert fitted.effect(up, np.zeros((1, 2)))[0, 1] > 1.0
