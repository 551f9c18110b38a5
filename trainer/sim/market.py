"""What happens to a shop whatever it charges: demand shocks, season, costs, re-approved references and promotions.

A week has two halves. `offer` says what is known when prices are set: cost, approved reference price, promotions now
and in the next weeks. `draw_shocks` and `advance` are what happens then; they never look at the shop's own prices,
so a twin shop can live through exactly the same weeks under another pricing rule.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

REAPPROVAL_WEEKS = 13  # the owner looks at reference prices once a quarter
PROMOTIONS_AHEAD = 6  # the owner dates promotions ahead: this week and the next five are known


@dataclass(frozen=True, slots=True)
class MarketParams:
    """The statistics of a shop's weeks. `(S, 1)` unless said."""

    shock_forecastable_sd: Float  # stationary s.d. of the slow demand shock d, log units
    shock_persistence: Float  # its weekly autocorrelation
    shock_sd: Float  # s.d. of the weekly demand shock e, log units
    common_share: Float  # share of both variances that all items have in common
    season_amplitude: Float  # log amplitude of the yearly wave in volume
    season_phase: Float  # radians
    cost_jump_sd: Float  # s.d. of a jump of log cost
    cost_jump_probability: Float  # of a jump in a week, per item
    cost_reversion: Float  # share of a cost deviation that disappears in a week
    pass_through: Float  # share of the cost deviation that a re-approved reference price takes over
    deal_period: Float  # (S, n) weeks from one promotion to the next; 0: never promoted
    deal_offset: Float  # (S, n) weeks
    deal_depth: Float  # (S, 1) promoted price = reference × (1 − depth)
    deal_feature: Float  # (S, 1) utility of being advertised, in promoted weeks
    deal_allowance: Float  # (S, 1) share of the cost that the maker pays in promoted weeks


@dataclass(frozen=True, slots=True)
class MarketState:
    """Where the shop's exogenous processes stand at the start of a week."""

    week: int
    slow_shock: Float  # (S, n) d of the week before
    log_cost: Float  # (S, n) log(cost / cost at the start), promotions' allowances apart
    log_reference: Float  # (S, n) log(regular reference / reference at the start)


@dataclass(frozen=True, slots=True)
class Shocks:
    """One week's draws from the generator, independent of every price. Standard normal unless said."""

    slow: Float  # (S, n)
    fast: Float  # (S, n)
    cost: Float  # (S, n)
    cost_jumps: Float  # (S, n) uniform on [0, 1)


@dataclass(frozen=True, slots=True)
class Offer:
    """What is known when the week's prices are set."""

    week: int
    log_cost: Float  # (S, n) log(cost / cost at the start), after the maker's allowance
    log_reference: Float  # (S, n) log(approved reference of this week / reference at the start), promotion included
    log_regular: Float  # (S, n) the same without the promotion
    deal: Float  # (PROMOTIONS_AHEAD, S, n) 1 in promoted weeks: this week first
    feature: Float  # (S, n) utility of being advertised this week
    season: Float  # (S, 1) volume factor


def start(rng: np.random.Generator, params: MarketParams, items: int) -> MarketState:
    """Week 0: cost and reference at their starting values, the slow shock drawn from its stationary distribution."""
    shops = len(params.shock_sd)
    slow = params.shock_forecastable_sd * _share_common(rng.standard_normal((shops, items)), params)
    return MarketState(0, slow, np.zeros((shops, items)), np.zeros((shops, items)))


def deals(week: int, params: MarketParams) -> Float:
    """1 where an item is promoted in `week`, else 0, (S, n)."""
    period = np.maximum(params.deal_period, 1.0)
    return np.asarray((params.deal_period > 0) & (np.mod(week + params.deal_offset, period) == 0), dtype=np.float64)


def offer(state: MarketState, params: MarketParams) -> Offer:
    """What the shop knows before pricing the week of `state`."""
    calendar = np.stack([deals(state.week + ahead, params) for ahead in range(PROMOTIONS_AHEAD)])
    now = calendar[0]
    wave = np.sin(2.0 * np.pi * state.week / 52.0 + params.season_phase)
    return Offer(
        week=state.week,
        log_cost=state.log_cost + now * np.log1p(-params.deal_allowance),
        log_reference=state.log_reference + now * np.log1p(-params.deal_depth),
        log_regular=state.log_reference,
        deal=calendar,
        feature=now * params.deal_feature,
        season=np.exp(params.season_amplitude * wave),
    )


def draw_shocks(rng: np.random.Generator, params: MarketParams, items: int) -> Shocks:
    """The week's surprises. One call takes the same number of draws whatever the parameters say."""
    shape = (len(params.shock_sd), items)
    return Shocks(
        slow=_share_common(rng.standard_normal(shape), params),
        fast=_share_common(rng.standard_normal(shape), params),
        cost=rng.standard_normal(shape),
        cost_jumps=rng.random(shape),
    )


def demand_shock(state: MarketState, shocks: Shocks, params: MarketParams) -> tuple[Float, Float]:
    """(slow, slow + fast) shock of log attraction in the week of `state`, (S, n) each."""
    innovation = params.shock_forecastable_sd * np.sqrt(1.0 - params.shock_persistence**2)
    slow = params.shock_persistence * state.slow_shock + innovation * shocks.slow
    return slow, slow + params.shock_sd * shocks.fast


def advance(state: MarketState, shocks: Shocks, params: MarketParams) -> MarketState:
    """The start of the next week."""
    slow, _ = demand_shock(state, shocks, params)
    jump = np.where(shocks.cost_jumps < params.cost_jump_probability, params.cost_jump_sd * shocks.cost, 0.0)
    log_cost = (1.0 - params.cost_reversion) * state.log_cost + jump
    week = state.week + 1
    reapproved = week % REAPPROVAL_WEEKS == 0
    log_reference = params.pass_through * log_cost if reapproved else state.log_reference
    return MarketState(week, slow, log_cost, log_reference)


def _share_common(normal: Float, params: MarketParams) -> Float:
    """Standard normals of which `common_share` of the variance is the same for all items of a shop.

    The common part is the normalised sum of the items' own draws, so no extra draw is needed; the result keeps
    variance 1 and has correlation `common_share` between items.
    """
    items = normal.shape[-1]
    mean = normal.mean(-1, keepdims=True)
    inside = np.sqrt(1.0 - params.common_share)
    # Var(mean) = 1/n; the coefficient on the mean that lifts every pairwise correlation to common_share:
    lift = np.sqrt(items) * np.sqrt(params.common_share + (1.0 - params.common_share) / items) - inside
    return np.asarray(inside * normal + lift * mean, dtype=np.float64)
