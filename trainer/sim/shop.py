"""A shop through one week: known offer, prices set, shoppers' answer, profit. The pure step of the simulator.

    J = Σ (p_i − c_i + B p0_i) q_i − F · (labels changed)          currency units a week

B p0_i is the basket value: what a buyer of item i brings in besides. It is solved so that the reference price level is
the best level in the long run (`calibration.basket_value`); without it the best level is the ceiling.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.sim import demand, market

Float = NDArray[np.float64]

LABEL_TOLERANCE = 1e-6  # log prices closer than this are the same label


@dataclass(frozen=True, slots=True)
class ShopParams:
    """Everything fixed about `S` shops of `n` items each."""

    demand: demand.DemandParams
    market: market.MarketParams
    price: Float  # (S, n) reference price at the start, currency units
    cost: Float  # (S, n) acquisition cost at the start, currency units
    basket: Float  # (S, 1) B, basket value as a share of the starting reference price
    menu_cost: Float  # (S, 1) F, currency units per changed label

    @property
    def shops(self) -> int:
        """Number of shops S."""
        return len(self.price)

    @property
    def items(self) -> int:
        """Number of items n."""
        return int(self.price.shape[-1])


@dataclass(frozen=True, slots=True)
class ShopState:
    """A shop at the start of a week."""

    market: market.MarketState
    demand: demand.DemandState
    log_label: Float  # (S, n) log(price on the label / starting reference), last week's


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a week brought. Money in currency units."""

    offer: market.Offer  # what was known before the week
    log_price: Float  # (S, n) log(price / starting reference)
    units: Float  # (S, n) expected units, the week's shocks included
    gross_profit: Float  # (S,) Σ (p − c) q
    value: Float  # (S,) J: gross profit + basket value − menu cost
    changes: Float  # (S,) labels changed against last week


def reset(rng: np.random.Generator, params: ShopParams) -> ShopState:
    """Week 0 after long at reference prices."""
    return ShopState(
        market.start(rng, params.market, params.items), demand.rest(params.demand), np.zeros_like(params.price)
    )


def respond(state: ShopState, shocks: market.Shocks, log_price: Float, params: ShopParams) -> tuple[ShopState, Outcome]:
    """The week of `state` under prices `log_price` (S, n) and the given surprises: next state and outcome."""
    offered = market.offer(state.market, params.market)
    _, shock = market.demand_shock(state.market, shocks, params.market)
    units = demand.expected_units(
        log_price, state.demand, params.demand, feature=offered.feature, shock=shock, season=offered.season
    )
    price = params.price * np.exp(log_price)
    cost = params.cost * np.exp(offered.log_cost)
    changes = (np.abs(log_price - state.log_label) > LABEL_TOLERANCE).sum(-1).astype(np.float64)
    gross_profit = ((price - cost) * units).sum(-1)
    basket = (params.basket * params.price * units).sum(-1)
    outcome = Outcome(
        offer=offered,
        log_price=log_price,
        units=units,
        gross_profit=gross_profit,
        value=gross_profit + basket - params.menu_cost[:, 0] * changes,
        changes=changes,
    )
    following = ShopState(
        market.advance(state.market, shocks, params.market),
        demand.next_state(log_price, offered.feature, state.demand, params.demand),
        log_price,
    )
    return following, outcome


def step(rng: np.random.Generator, state: ShopState, log_price: Float, params: ShopParams) -> tuple[ShopState, Outcome]:
    """Draw the week's surprises and live through it. Same generator state, same result."""
    return respond(state, market.draw_shocks(rng, params.market, params.items), log_price, params)


def reference_profit(params: ShopParams) -> Float:
    """Weekly gross profit at reference prices without shocks, (S,): the unit in which gains are reported."""
    zeros = np.zeros_like(params.price)
    units = demand.expected_units(
        zeros, demand.rest(params.demand), params.demand, feature=zeros, shock=zeros, season=np.ones_like(params.basket)
    )
    return np.asarray(((params.price - params.cost) * units).sum(-1), dtype=np.float64)
