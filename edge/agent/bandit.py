"""A Thompson bandit over a ladder of prices: the simplest policy that learns, kept as a baseline to beat.

Each item draws one elasticity from its posterior and takes the rung of the ladder that would earn most if the draw were
true; what is uncertain is thereby tried about as often as it may be best (Thompson 1933; Russo et al. 2018, "A
Tutorial on Thompson Sampling"). Items are treated one by one and weeks as unconnected: no cross effects, no pantry.
"""

from typing import Final

import numpy as np

from edge.agent.demand import DemandModel, Float, Outlook, own_elasticity

RUNGS: Final = 9
_ELASTICITY_MAX: Final = -0.05  # a draw that demand rises with price is taken as flat


def rungs(low: Float, high: Float, count: int = RUNGS) -> Float:
    """`count` log multipliers from low to high, (count, ..., n)."""
    steps = np.linspace(0.0, 1.0, count).reshape((count,) + (1,) * low.ndim)
    return low + steps * (high - low)


def thompson(
    model: DemandModel, outlook: Outlook, low: Float, high: Float, rng: np.random.Generator, *, count: int = RUNGS
) -> Float:
    """Log multipliers (..., n) on the reference of the day; basket value counts, the index cap is left to the guard."""
    ladder = rungs(low, high, count)
    mean = own_elasticity(model)
    drawn = np.minimum(mean + model.elasticity_sd * rng.standard_normal(mean.shape), _ELASTICITY_MAX)
    x = outlook.reference + ladder
    value = model.price * np.exp(x) - outlook.cost + model.basket[..., None] * model.price
    earned = value * np.exp(drawn * ladder)
    best = np.argmax(np.where(np.isfinite(earned), earned, -np.inf), axis=0)
    return np.asarray(np.take_along_axis(ladder, best[None], axis=0)[0])
