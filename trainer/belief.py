"""What a box believes about a simulated shop: the truth, or an estimate that is wrong by a realistic amount.

A policy trained on boxes that know the truth would trust its inputs too much. Here every shop's beliefs carry an error
whose s.d. the box also reports, as the on-box estimate does.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.agent import demand
from trainer.sim import market
from trainer.sim.shop import ShopParams, ShopState

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ignorance:
    """S.d. of a box's errors at strength 1; each shop's strength is uniform on [low, high]."""

    low: float = 0.0
    high: float = 1.0
    elasticity_sd: float = 0.5  # of an own elasticity, absolute: a year of own data or a peer prior
    carry_sd: float = 0.5  # of theta, log
    category_sd: float = 0.12  # of the category elasticity, log
    decay_sd: float = 0.08  # of the pantry's decay, absolute


REALISTIC = Ignorance()
KNOWS_ALL = Ignorance(0.0, 0.0)


def true_model(params: ShopParams) -> demand.DemandModel:
    """The simulator's truth in the box's form; reference effects, which the box does not model, are left out."""
    truth = params.demand
    zero = np.zeros_like(params.price)
    return demand.DemandModel(
        price=params.price,
        share=truth.share,
        kappa=truth.sensitivity,
        theta=truth.carry,
        decay=truth.pantry_decay[:, 0],
        nest=truth.nest[:, 0],
        odds=truth.odds[:, 0],
        volume=truth.volume[:, 0],
        traffic=truth.category_carry[:, 0],
        basket=params.basket[:, 0],
        elasticity_sd=zero,
        carry_sd=zero,
        residual_sd=zero + np.sqrt(params.market.shock_sd**2 + params.market.shock_forecastable_sd**2),
    )


def believed_model(rng: np.random.Generator, params: ShopParams, ignorance: Ignorance) -> demand.DemandModel:
    """The truth with the errors of `ignorance`; what the box is told of its own uncertainty is the errors' s.d."""
    truth = true_model(params)
    shape = params.price.shape
    strength = rng.uniform(ignorance.low, ignorance.high, (shape[0], 1))
    elasticity_error = rng.standard_normal(shape) * ignorance.elasticity_sd * strength
    carry_error = rng.standard_normal(shape) * ignorance.carry_sd * strength
    category_error = (rng.standard_normal((shape[0], 1)) * ignorance.category_sd * strength)[:, 0]
    decay_error = (rng.standard_normal((shape[0], 1)) * ignorance.decay_sd * strength)[:, 0]
    if ignorance.high == 0.0:
        return truth
    theta = truth.theta * np.exp(carry_error)
    return demand.calibrate(
        price=params.price,
        cost=params.cost,
        units=truth.share * (truth.volume / (1.0 + np.exp(-truth.odds)))[:, None],
        elasticity=-np.maximum(-demand.own_elasticity(truth) + elasticity_error, 1.1),
        theta=theta,
        decay=np.clip(truth.decay + decay_error, 0.1, 0.8),
        category_elasticity=demand.category_elasticity(truth) * np.exp(category_error),
        inside=1.0 / (1.0 + np.exp(-truth.odds)),
        traffic=truth.traffic,
        elasticity_sd=ignorance.elasticity_sd * strength + np.zeros(shape),
        carry_sd=ignorance.carry_sd * strength * theta,
        residual_sd=truth.residual_sd,
    )


def outlook(state: ShopState, params: ShopParams) -> demand.Outlook:
    """What the shop knows of this week and the next ones: dated promotions, this week's cost; (weeks, S, n)."""
    now = market.offer(state.market, params.market)
    calendar = now.deal
    regular_cost = params.cost * np.exp(state.market.log_cost)
    return demand.Outlook(
        reference=now.log_regular + calendar * np.log1p(-params.market.deal_depth),
        feature=calendar * params.market.deal_feature,
        shift=np.zeros_like(calendar),
        cost=regular_cost * (1.0 - calendar * params.market.deal_allowance),
    )


def approved_cost(state: ShopState, params: ShopParams) -> Float:
    """Cost when the reference price in force was approved, (S, n): the pass-through rule read backwards."""
    share = np.where(params.market.pass_through > 0, params.market.pass_through, 1.0)
    return np.asarray(params.cost * np.exp(state.market.log_reference / share), dtype=np.float64)
