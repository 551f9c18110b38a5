"""Draws of many different shops: the packs that policies are trained and judged on.

A pack says how far shops differ. Training uses `TRAINING`, wider than either test pack, so that one policy serves shops
nobody has measured (domain randomisation: Tobin et al. 2017, arXiv:1703.06907). Ranges are (low, high) of a uniform.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.sim import calibration
from trainer.sim.calibration import ORANGE_JUICE, ItemFacts
from trainer.sim.demand import DemandParams
from trainer.sim.market import MarketParams
from trainer.sim.shop import ShopParams

Float = NDArray[np.float64]
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Pack:
    """How shops of a pack are drawn; `facts` describes the middle of the distribution."""

    name: str
    facts: tuple[ItemFacts, ...] = ORANGE_JUICE
    elasticity_sd: float = 0.30  # s.d. between shops of an item's own elasticity, absolute
    share_sd: float = 0.20  # s.d. between shops of an item's log share
    volume: Range = (0.5, 2.0)  # factor on the facts' weekly units
    margin_shift: Range = (0.0, 0.0)  # added to every item's margin
    category_elasticity: Range = (1.75, 1.75)  # same-week, absolute
    carry_strength: Range = (0.0, 0.0)  # factor on the calibrated carry-over; (0, 0): demand has no memory
    pantry_decay: Range = (calibration.PANTRY_DECAY, calibration.PANTRY_DECAY)
    category_carry: Range = (0.0, 0.0)
    reference_strength: Range = (0.0, 0.0)  # eta = 0.25 · strength · kb
    loss_aversion: Range = (2.0, 2.0)
    reference_memory: Range = (0.7, 0.7)
    slow_shock_sd: Range = (0.20, 0.20)
    slow_shock_persistence: Range = (0.70, 0.70)
    shock_sd: Range = (0.30, 0.30)
    common_share: Range = (0.40, 0.40)
    season_amplitude: Range = (0.0, 0.10)
    cost_jump_sd: float = 0.05
    cost_jump_probability: float = 0.30
    cost_reversion: float = 0.05
    pass_through: float = 0.60
    deal_probability: float = 0.0  # that a shop runs promotions at all
    deal_period: tuple[int, int] = (8, 8)  # weeks, both included
    deal_depth: Range = (0.18, 0.18)
    deal_feature: Range = (0.5, 0.5)
    deal_allowance: Range = (0.12, 0.12)
    menu_cost: Range = (0.0, 0.0)  # 0 in every pack here: the guard's own menu-cost rule is not what is compared
    basket_error: Range = (1.0, 1.0)  # factor on the basket value of the first-order condition


NO_CARRY_OVER = Pack("no-carry-over")

STOCKPILING = Pack(
    "stockpiling",
    category_elasticity=(2.0, 2.0),
    carry_strength=(1.0, 1.0),
    deal_probability=1.0,
)

TRAINING = Pack(
    "training",
    share_sd=0.40,
    margin_shift=(-0.04, 0.06),
    category_elasticity=(1.4, 2.4),
    carry_strength=(0.0, 1.5),
    pantry_decay=(0.25, 0.60),
    category_carry=(0.0, 0.40),
    reference_strength=(0.0, 0.50),
    loss_aversion=(1.0, 2.5),
    reference_memory=(0.60, 0.85),
    slow_shock_sd=(0.10, 0.30),
    slow_shock_persistence=(0.40, 0.80),
    shock_sd=(0.20, 0.45),
    common_share=(0.20, 0.60),
    deal_probability=0.75,
    deal_period=(6, 12),
    deal_depth=(0.10, 0.25),
    deal_feature=(0.30, 0.80),
    deal_allowance=(0.06, 0.18),
    basket_error=(0.8, 1.2),
)

PACKS: dict[str, Pack] = {pack.name: pack for pack in (NO_CARRY_OVER, STOCKPILING, TRAINING)}


def draw_shops(rng: np.random.Generator, pack: Pack, shops: int) -> ShopParams:
    """Draw `shops` shops of `pack`; the order of draws is fixed, so one seed gives the same shops for ever."""
    facts = pack.facts
    items = len(facts)

    def one(bounds: Range) -> Float:
        return rng.uniform(bounds[0], bounds[1], (shops, 1))

    own = np.array([fact.own_elasticity for fact in facts]) + pack.elasticity_sd * rng.standard_normal((shops, items))
    own = np.maximum(own, 1.2)
    share = np.array([fact.weekly_units for fact in facts]) * np.exp(
        pack.share_sd * rng.standard_normal((shops, items))
    )
    units = share.sum(-1, keepdims=True)
    share = share / units
    category = np.minimum(one(pack.category_elasticity), 0.9 * (share * own).sum(-1, keepdims=True))
    sensitivity, nest = calibration.price_coefficients(own, share, category, calibration.INSIDE_SHARE)
    strength = one(pack.carry_strength)
    demand = DemandParams(
        share=share,
        sensitivity=sensitivity,
        nest=nest,
        odds=np.full((shops, 1), np.log(calibration.INSIDE_SHARE / (1.0 - calibration.INSIDE_SHARE))),
        volume=units / calibration.INSIDE_SHARE * one(pack.volume),
        carry=strength * calibration.calibrated_carry(facts),
        pantry_decay=one(pack.pantry_decay),
        category_carry=one(pack.category_carry),
        reference_gain=0.25 * one(pack.reference_strength) * sensitivity,
        loss_aversion=one(pack.loss_aversion),
        reference_memory=one(pack.reference_memory),
    )
    price = np.broadcast_to(np.array([fact.price for fact in facts]), (shops, items)).copy()
    margin = np.array([fact.margin for fact in facts]) + one(pack.margin_shift)
    cost = price * (1.0 - np.maximum(margin, 0.05))
    return ShopParams(
        demand=demand,
        market=_draw_market(rng, pack, shops, items),
        price=price,
        cost=cost,
        basket=calibration.basket_value(price, cost, demand) * one(pack.basket_error),
        menu_cost=one(pack.menu_cost),
    )


def _draw_market(rng: np.random.Generator, pack: Pack, shops: int, items: int) -> MarketParams:
    def one(bounds: Range) -> Float:
        return rng.uniform(bounds[0], bounds[1], (shops, 1))

    def fixed(value: float) -> Float:
        return np.full((shops, 1), value)

    period = rng.integers(pack.deal_period[0], pack.deal_period[1] + 1, (shops, 1)).astype(np.float64)
    promotes = rng.random((shops, 1)) < pack.deal_probability
    return MarketParams(
        shock_forecastable_sd=one(pack.slow_shock_sd),
        shock_persistence=one(pack.slow_shock_persistence),
        shock_sd=one(pack.shock_sd),
        common_share=one(pack.common_share),
        season_amplitude=one(pack.season_amplitude),
        season_phase=one((0.0, 2.0 * np.pi)),
        cost_jump_sd=fixed(pack.cost_jump_sd),
        cost_jump_probability=fixed(pack.cost_jump_probability),
        cost_reversion=fixed(pack.cost_reversion),
        pass_through=fixed(pack.pass_through),
        deal_period=np.broadcast_to(np.where(promotes, period, 0.0), (shops, items)).copy(),
        deal_offset=np.floor(rng.random((shops, items)) * period),
        deal_depth=one(pack.deal_depth),
        deal_feature=one(pack.deal_feature),
        deal_allowance=one(pack.deal_allowance),
    )
