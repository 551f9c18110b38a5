"""How shoppers answer prices: a nested logit with an outside option, a pantry at home and a remembered price.

    u_i   = −kb_i x_i + f_i + eta_i [ (r_i − x_i)+ − nu (x_i − r_i)+ ]      price-driven utility, within the category
    w_i   = exp( ln s0_i + u_i − theta_i H_i + shock_i )
    odds  = o0 + lam ln Σ w − tc Σ s0_i theta_i H_i                        log odds of buying the category here at all
    q_i   = M · season · sigmoid(odds) · w_i / Σ w
    H_i'  = rho H_i + exp(clip(u_i, −2, 1.6)) − 1                          pantry, in normal weekly sales
    r_i'  = zeta r_i + (1 − zeta) x_i                                      remembered (reference) price

with x = log(price / reference price at the start). A low price fills pantries (H > 0) and is partly paid back in the
weeks after; shoppers who remember low prices feel a high one more (nu > 1: loss aversion). The outside option keeps
the category elastic: without it, leaving for another shop is invisible and every optimiser runs to its ceiling.

Sources: nested logit, Train, "Discrete Choice Methods with Simulation" (2009), ch. 4; stockpiling, Hendel and Nevo,
Econometrica 74 (2006) 1637; asymmetric reference price, Hardie, Johnson and Fader, Marketing Science 12 (1993) 378.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

UTILITY_MIN = -2.0  # how much stock a price can draw down or build up in one week is bounded
UTILITY_MAX = 1.6


@dataclass(frozen=True, slots=True)
class DemandParams:
    """What is true of a shop's shoppers and never changes within a run. `(S, n)` or `(S, 1)`."""

    share: Float  # (S, n) share of the category's units at reference prices; sums to 1
    sensitivity: Float  # (S, n) kb, price coefficient within the category; positive
    nest: Float  # (S, 1) lam, how much the category's attraction moves the odds of buying it here
    odds: Float  # (S, 1) o0, log odds of buying inside the category here, at reference prices
    volume: Float  # (S, 1) M, weekly units if every potential buyer bought here
    carry: Float  # (S, n) theta, how strongly a full pantry lowers demand; 0: no carry-over
    pantry_decay: Float  # (S, 1) rho, share of the pantry's surplus that lasts a week
    category_carry: Float  # (S, 1) tc, share of the pantry effect that also lowers category purchases
    reference_gain: Float  # (S, n) eta, effect of a price below the remembered one; 0: no reference effect
    loss_aversion: Float  # (S, 1) nu, how much more a price above it counts
    reference_memory: Float  # (S, 1) zeta, share of the remembered price that lasts a week

    @property
    def inside(self) -> Float:
        """Share of potential buyers who buy in the category here at reference prices, (S, 1)."""
        return sigmoid(self.odds)


@dataclass(frozen=True, slots=True)
class DemandState:
    """What shoppers carry from week to week."""

    pantry: Float  # (S, n) H, surplus at home in units of normal weekly sales; 0 at rest
    remembered: Float  # (S, n) r, remembered log price against the starting reference price


def rest(params: DemandParams) -> DemandState:
    """The state after long at reference prices."""
    return DemandState(np.zeros_like(params.share), np.zeros_like(params.share))


def sigmoid(value: Float) -> Float:
    """1 / (1 + e^−value), without overflow for large negative values."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * value)), dtype=np.float64)


def utility(log_price: Float, feature: Float, state: DemandState, params: DemandParams) -> Float:
    """Price-driven utility u, (S, n); `feature` is the utility of being advertised this week."""
    gain = state.remembered - log_price
    remembered = params.reference_gain * np.where(gain > 0, gain, params.loss_aversion * gain)
    return np.asarray(-params.sensitivity * log_price + feature + remembered, dtype=np.float64)


def expected_units(
    log_price: Float, state: DemandState, params: DemandParams, *, feature: Float, shock: Float, season: Float
) -> Float:
    """Units q that shoppers want at these prices, (S, n); `shock` adds to log attraction, `season` scales volume."""
    drained = params.carry * state.pantry
    attraction = params.share * np.exp(utility(log_price, feature, state, params) - drained + shock)
    total = attraction.sum(-1, keepdims=True)
    odds = params.odds + params.nest * np.log(total)
    odds = odds - params.category_carry * (params.share * drained).sum(-1, keepdims=True)
    return np.asarray(params.volume * season * sigmoid(odds) * attraction / total, dtype=np.float64)


def next_state(log_price: Float, feature: Float, state: DemandState, params: DemandParams) -> DemandState:
    """What shoppers carry into the next week, after buying at `log_price`."""
    surplus = np.exp(np.clip(utility(log_price, feature, state, params), UTILITY_MIN, UTILITY_MAX)) - 1.0
    memory = params.reference_memory
    return DemandState(
        pantry=params.pantry_decay * state.pantry + surplus,
        remembered=memory * state.remembered + (1.0 - memory) * log_price,
    )
