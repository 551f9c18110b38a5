"""A shelf of eleven juices: prices, margins, weekly units and elasticities of the size that grocery data show."""

from dataclasses import replace

import numpy as np

from edge.agent.demand import DemandModel, calibrate

PRICE = np.array([2.87, 4.68, 2.86, 2.27, 2.24, 4.03, 2.32, 2.18, 2.07, 1.74, 3.67])
COST = PRICE * (1 - np.array([0.27, 0.27, 0.32, 0.29, 0.24, 0.26, 0.24, 0.31, 0.28, 0.30, 0.28]))
UNITS = np.array([217.0, 78, 51, 263, 285, 47, 86, 42, 53, 310, 63])
ELASTICITY = -np.array([2.72, 1.73, 3.37, 3.77, 2.89, 2.38, 3.56, 2.76, 4.01, 2.79, 1.75])
THETA = np.array([0.07, 0.3, 0.17, 0.19, 0.035, 0.11, 0.1, 0.043, 0.06, 0.18, 0.22])


def juice(
    *, shape: tuple[int, ...] = (), category: float = -2.0, basket: float | None = None, units: float = 1.0,
    pantry: float = 1.0,
) -> DemandModel:  # fmt: skip
    many = np.zeros((*shape, 11))
    model = calibrate(
        price=PRICE + many,
        cost=COST + many,
        units=UNITS * units + many,
        elasticity=ELASTICITY + many,
        theta=THETA * pantry + many,
        decay=np.full(shape, 0.38),
        category_elasticity=np.full(shape, category),
        inside=np.full(shape, 0.3),
        traffic=np.full(shape, 0.2),
        elasticity_sd=np.full(11, 0.4) + many,
        carry_sd=np.full(11, 0.05) + many,
    )
    return model if basket is None else replace(model, basket=np.full(shape, basket))
