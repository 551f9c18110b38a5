"""The filtered forecast of next week's demand, from how far last weeks' sales lay from the model.

A week's log residual is a fading part (an AR(1) with `persistence`), common to the category for a good share, and
white noise. The filter is the steady-state Kalman filter of that split, once for the category's mean residual and once
for each item's distance from it. Used by the box after every week and by the simulator in every step.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.agent.demand import Float

Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ForecastRules:
    """How residuals are filtered. The defaults fit weekly grocery residuals (lag-one correlation 0.1 to 0.25)."""

    persistence: float = 0.7  # of the fading part, a week
    gain_common: float = 0.35  # weight of a new residual: of the category's mean
    gain_item: float = 0.20  # of an item's distance from it, which is noisier
    residual_max: float = 2.0  # log; a week further off says more about the data than about demand


@dataclass(frozen=True, slots=True)
class Forecast:
    """State of the filter: what is expected of the coming week, in logs."""

    common: Float  # (...)
    item: Float  # (..., n)

    @property
    def shift(self) -> Float:
        """Forecast log demand shift of each item, (..., n)."""
        return self.common[..., None] + self.item


def no_forecast(shape: tuple[int, ...]) -> Forecast:
    """The filter before any week was seen; `shape` is (..., n)."""
    return Forecast(np.zeros(shape[:-1]), np.zeros(shape))


def log_residual(units: Float, expected: Float) -> Float:
    """log of units against `expected` units; half a unit on both sides keeps a week without sales finite."""
    return np.log((np.maximum(units, 0.0) + 0.5) / (np.maximum(expected, 0.0) + 0.5))


def update_forecast(before: Forecast, residual: Float, observed: Bool, weight: Float, rules: ForecastRules) -> Forecast:
    """Take in a week's `residual` (..., n), measured against the model *without* the shift; weights (..., n) ≥ 0.

    Items not observed (closed, out of stock) say nothing and keep fading; so does a category without any item seen.
    """
    seen = observed & np.isfinite(residual)
    value = np.where(seen, np.clip(residual, -rules.residual_max, rules.residual_max), 0.0)
    mass = np.where(seen, weight, 0.0)
    total = np.sum(mass, axis=-1)
    mean = np.sum(mass * value, axis=-1) / np.where(total > 0, total, 1.0)
    common = before.common + np.where(total > 0, rules.gain_common * (mean - before.common), 0.0)
    own = value - mean[..., None]
    item = before.item + np.where(seen, rules.gain_item * (own - before.item), 0.0)
    return Forecast(rules.persistence * common, rules.persistence * item)
