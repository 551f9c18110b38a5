"""Whole packs at the till from expected demand: gamma-mixed Poisson counts, as real scanner data are over-dispersed."""

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


def draw_units(rng: np.random.Generator, expected: Float, dispersion: float = 0.0) -> NDArray[np.int64]:
    """Integer sales with mean `expected` and variance `expected + dispersion · expected²`, same shape.

    `dispersion` 0 is Poisson; above, negative binomial. The simulator's weekly shocks already spread weekly demand, so
    0 is right beside them; the parameter is for callers that simulate single days from a smooth expectation.
    """
    if dispersion < 0.0:
        raise ValueError(f"dispersion {dispersion} is negative")
    mean = np.asarray(expected, dtype=np.float64)
    if dispersion > 0.0:
        mean = mean * rng.gamma(1.0 / dispersion, dispersion, mean.shape)
    return rng.poisson(mean).astype(np.int64)
