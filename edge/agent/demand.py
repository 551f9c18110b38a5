"""How a category's sales answer to its prices: the planning model of the weekly optimiser.

A nested logit with an outside option, a pantry and a basket value. Item i of n, week t, x = log(price / regular
reference price):

    u_i  = −kappa_i x_i + feature_i                             utility within the category
    w_i  = exp(ln share_i + u_i − theta_i H_i + shift_i)        W = Σ w; shift: forecastable demand, season included
    odds = odds_0 + nest · ln W − traffic · Σ share_i theta_i H_i     log odds of buying in this category, here
    q_i  = volume · sigmoid(odds) · w_i / W                     units a week
    J    = Σ (p_i − c_i + basket · p0_i) q_i                    gross profit, and what a unit brings in the basket
    H_i' = decay · H_i + exp(clip(u_i, −2, 1.6)) − 1            pantry, in normal weekly sales: bought ahead

Nested logit: McFadden (1978), "Modelling the choice of residential location". Stockpiling as a stock that lowers
later purchases: Hendel & Nevo (2006), Econometrica 74(6). The basket value is no free parameter: it is what makes the
owner's reference price *level* long-run optimal (`basket_value`), so that no optimiser built on this model gains by
lifting all prices at once.

Every array is float64 with batch dimensions `...` first and items `n` last; numbers of the category have shape `...`.
A horizon is one more batch dimension in front. Nothing here does I/O or draws random numbers.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.errors import LocalError

Float = NDArray[np.float64]

UTILITY_CLIP: Final = (-2.0, 1.6)  # of what fills the pantry: a deal of 5 normal weeks' sales is the most a home stores
KAPPA_MIN: Final = 0.05  # demand that rises with price is an estimation error, never a plan
LONG_RUN_MIN: Final = 0.15  # of the short-run response: the part that the pantry never pays back
_ODDS_CLIP: Final = 50.0


@dataclass(frozen=True, slots=True)
class DemandModel:
    """A category's demand as far as the shop can know it. (..., n): a number per item, (...): of the category."""

    price: Float  # (..., n) regular reference price p0, currency units
    share: Float  # (..., n) share of the category's units at reference prices; sums to 1
    kappa: Float  # (..., n) price coefficient within the category, positive
    theta: Float  # (..., n) pantry strength: log units lost per normal week of stock at home
    decay: Float  # (...) share of the pantry left after a week, 0..1
    nest: Float  # (...) weight of the category's inclusive value in the choice of buying here, 0..1
    odds: Float  # (...) log odds of buying in the category here, at reference prices
    volume: Float  # (...) units a week if every shopper bought here; at reference `volume · sigmoid(odds)` are sold
    traffic: Float  # (...) how far full pantries keep shoppers out of the category altogether
    basket: Float  # (...) value of a unit in the rest of the basket, as a fraction of its regular price
    elasticity_sd: Float  # (..., n) posterior sd of the own elasticity
    carry_sd: Float  # (..., n) posterior sd of theta
    residual_sd: Float  # (..., n) sd of a week's log units around the model

    @property
    def items(self) -> int:
        """Number of items n."""
        return int(self.price.shape[-1])


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known or forecast of one week, or of several with a horizon dimension in front; shapes (..., n)."""

    reference: Float  # log(approved reference price of the day / regular reference price); 0 without a promotion
    feature: Float  # log uplift of the units by advertising
    shift: Float  # log demand against normal: season, trend and the filtered residual
    cost: Float  # unit cost, currency units

    def week(self, index: int) -> "Outlook":
        """Week `index` of a horizon."""
        return Outlook(self.reference[index], self.feature[index], self.shift[index], self.cost[index])

    def weeks_after(self, index: int) -> "Outlook":
        """The horizon from week `index` on."""
        return Outlook(self.reference[index:], self.feature[index:], self.shift[index:], self.cost[index:])


def steady_outlook(model: DemandModel, cost: Float) -> Outlook:
    """A normal week: no promotion, no advertising, demand as at reference."""
    zero = np.zeros(np.broadcast_shapes(model.price.shape, cost.shape))
    return Outlook(zero, zero, zero, cost + zero)


def calibrate(
    *,
    price: Float,
    cost: Float,
    units: Float,
    elasticity: Float,
    theta: Float,
    decay: Float,
    category_elasticity: Float,
    inside: Float,
    traffic: Float | None = None,
    elasticity_sd: Float | None = None,
    carry_sd: Float | None = None,
    residual_sd: Float | None = None,
) -> DemandModel:
    """The model whose short-run elasticities at reference prices are the given ones, basket value included.

    `elasticity` (..., n) own, negative; `category_elasticity` (...) of all units when all prices move together,
    negative; `units` (..., n) a week at reference; `inside` (...) share of shopping for the category done here.
    kappa solves |e_i| = kappa_i (1 − s_i (1 − E / Σ s kappa)) by fixed point, E the absolute category elasticity; where
    an item's share is so large that no kappa does, its own elasticity gives way. A lone item is its category.
    """
    total = np.sum(units, axis=-1, keepdims=True)
    if not bool(np.all(total > 0)):
        raise LocalError("calibrate: a category without units has no demand to model")
    share = np.maximum(units / total, 1e-6)
    share = share / np.sum(share, axis=-1, keepdims=True)
    own = np.maximum(np.abs(elasticity), KAPPA_MIN)
    pooled = np.abs(category_elasticity) if own.shape[-1] > 1 else own[..., 0]
    kappa = own / (1.0 - 0.44 * share)
    for _ in range(12):  # a contraction for category elasticities below the mean own one; 1e-6 after about eight
        mean = np.sum(share * kappa, axis=-1)
        kappa = own / np.maximum(1.0 - share * (1.0 - np.minimum(pooled / mean, 1.0))[..., None], 1 / 3)
    mean = np.sum(share * kappa, axis=-1)
    nest = np.minimum(pooled / mean, 1.0) / (1.0 - inside)
    shape = np.broadcast_shapes(share.shape, kappa.shape)
    zero_items, zero = np.zeros(shape), np.zeros(shape[:-1])
    model = DemandModel(
        price=price + zero_items,
        share=share + zero_items,
        kappa=kappa + zero_items,
        theta=theta + zero_items,
        decay=decay + zero,
        nest=nest + zero,
        odds=np.log(inside / (1.0 - inside)) + zero,
        volume=total[..., 0] / inside + zero,
        traffic=zero if traffic is None else traffic + zero,
        basket=zero,
        elasticity_sd=zero_items if elasticity_sd is None else elasticity_sd + zero_items,
        carry_sd=zero_items if carry_sd is None else carry_sd + zero_items,
        residual_sd=zero_items if residual_sd is None else residual_sd + zero_items,
    )
    return replace(model, basket=basket_value(model, cost))


@dataclass(frozen=True, slots=True)
class Response:
    """One evaluation of the model with what its derivatives need; made by `respond`."""

    units: Float  # (..., n) q
    share: Float  # (..., n) current share w / W
    total: Float  # (...) Σ q
    unit_value: Float  # (..., n) p − c + basket · p0, currency units
    mean_value: Float  # (...) share-weighted mean of unit_value
    pull: Float  # (...) 1 − nest (1 − P): how much of an item's loss stays in the category
    outside: Float  # (...) 1 − P
    utility: Float  # (..., n) u
    price: Float  # (..., n) p

    @property
    def profit(self) -> Float:
        """J of the week, (...)."""
        return self.total * self.mean_value


def respond(model: DemandModel, x: Float, outlook: Outlook, pantry: Float | None = None) -> Response:
    """Evaluate the model at log prices `x` (..., n) against the regular reference, in `outlook`, with `pantry`."""
    utility = outlook.feature - model.kappa * x
    log_weight = utility + outlook.shift
    odds = model.odds
    if pantry is not None:
        drag = model.theta * pantry
        log_weight = log_weight - drag
        odds = odds - model.traffic * np.sum(model.share * drag, axis=-1)
    weight = model.share * np.exp(log_weight)
    whole = np.sum(weight, axis=-1)
    odds = np.clip(odds + model.nest * np.log(whole), -_ODDS_CLIP, _ODDS_CLIP)
    outside = 1.0 / (1.0 + np.exp(odds))
    total = model.volume * (1.0 - outside)
    share = weight / whole[..., None]
    price = model.price * np.exp(x)
    value = price - outlook.cost + model.basket[..., None] * model.price
    return Response(
        units=total[..., None] * share,
        share=share,
        total=total,
        unit_value=value,
        mean_value=np.sum(share * value, axis=-1),
        pull=1.0 - model.nest * outside,
        outside=outside,
        utility=utility,
        price=price,
    )


def expected_units(model: DemandModel, x: Float, outlook: Outlook, pantry: Float | None = None) -> Float:
    """Units a week (..., n) at log prices `x`."""
    return respond(model, x, outlook, pantry).units


def profit(model: DemandModel, x: Float, outlook: Outlook, pantry: Float | None = None) -> Float:
    """J of a week (...), currency units: gross profit and basket value."""
    return respond(model, x, outlook, pantry).profit


def gross_profit(model: DemandModel, x: Float, outlook: Outlook, pantry: Float | None = None) -> Float:
    """Gross profit of a week (...), currency units, without basket value."""
    at = respond(model, x, outlook, pantry)
    return np.asarray(np.sum((at.price - outlook.cost) * at.units, axis=-1))


def price_gradient(model: DemandModel, at: Response) -> Float:
    """dJ/dx (..., n) of the week itself: Q s_j [p_j − kappa_j (v_j − pull · v̄)]."""
    return at.units * (at.price - model.kappa * (at.unit_value - (at.pull * at.mean_value)[..., None]))


def pantry_gradient(model: DemandModel, at: Response) -> Float:
    """dJ/dH (..., n): what a normal week's sales in the pantry cost this week; mostly negative."""
    within = at.units * (at.unit_value - (at.pull * at.mean_value)[..., None])
    kept_out = (at.outside * model.traffic * at.profit)[..., None] * model.share
    return -model.theta * (within + kept_out)


def next_pantry(model: DemandModel, x: Float, outlook: Outlook, pantry: Float) -> Float:
    """Pantry (..., n) at the start of the following week, in normal weekly sales."""
    return fill_pantry(model, outlook.feature - model.kappa * x, pantry)


def fill_pantry(model: DemandModel, utility: Float, pantry: Float) -> Float:
    """`next_pantry` from a utility already evaluated."""
    return model.decay[..., None] * pantry + np.exp(np.clip(utility, *UTILITY_CLIP)) - 1.0


def payback(model: DemandModel) -> Float:
    """Share of an item's price response that the pantry pays back in later weeks, (..., n), below 1."""
    return np.clip(model.theta / (1.0 - model.decay)[..., None], 0.0, 1.0 - LONG_RUN_MIN)


def long_run_model(model: DemandModel) -> DemandModel:
    """The static model with the same long-run response: own and carry-over elasticity, and no pantry of its own."""
    kept = model.kappa * (1.0 - payback(model))
    mean_kept = np.sum(model.share * kept, axis=-1)
    regained = model.traffic * np.sum(model.share * (model.kappa - kept), axis=-1)
    nest = np.maximum(model.nest - regained / mean_kept, LONG_RUN_MIN * model.nest)
    zero = np.zeros_like(model.theta)
    return replace(model, kappa=kept, nest=nest, theta=zero, traffic=np.zeros_like(model.traffic))


def own_elasticity(model: DemandModel) -> Float:
    """Short-run own elasticity at reference prices (..., n), negative. Of `long_run_model(m)`: the long-run one."""
    outside = 1.0 / (1.0 + np.exp(model.odds))
    pull = 1.0 - model.nest * outside
    return -model.kappa * (1.0 - model.share * pull[..., None])


def category_elasticity(model: DemandModel) -> Float:
    """Elasticity of the category's units when all its prices move together (...), at reference prices, negative."""
    outside = 1.0 / (1.0 + np.exp(model.odds))
    return np.asarray(-model.nest * outside * np.sum(model.share * model.kappa, axis=-1))


def basket_value(model: DemandModel, cost: Float) -> Float:
    """Basket value (...) at which the level of the reference prices is long-run optimal; 0 where that needs less.

    First-order condition of J in a common log shift δ at δ = 0, steady state: R + Σ (p − c + B p0) q_i ε_i = 0 with
    ε_i = d ln q_i / dδ of the long-run model, R the revenue.
    """
    lasting = long_run_model(model)
    outside = 1.0 / (1.0 + np.exp(model.odds))
    mean_kappa = np.sum(lasting.share * lasting.kappa, axis=-1)
    epsilon = -lasting.kappa + (mean_kappa * (1.0 - lasting.nest * outside))[..., None]
    revenue = np.sum(model.share * model.price, axis=-1)
    response = np.sum(model.share * (model.price - cost) * epsilon, axis=-1)
    slope = np.sum(model.share * model.price * epsilon, axis=-1)
    usable = slope < -1e-9
    value = np.where(usable, -(revenue + response) / np.where(usable, slope, -1.0), 0.0)
    return np.clip(value, 0.0, 3.0)
