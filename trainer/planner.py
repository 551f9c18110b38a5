"""The planner that knows the truth: certainty-equivalent model-predictive control over several weeks.

It plans the multipliers of this week and the next ones together, with the true demand model and the true pantry, and
carries out the first. No policy that learns can beat it by more than noise; one that seems to has seen what it should
not. A yardstick of the evaluation, never a part of the box.
"""

import numpy as np
from numpy.typing import NDArray

from edge.agent import demand, optimiser
from edge.agent.demand import UTILITY_CLIP, DemandModel, Outlook

Float = NDArray[np.float64]

ITERATIONS = 40
_CURVATURE_MIN = 0.3


def plan(
    model: DemandModel,
    horizon: Outlook,
    pantry: Float,
    *,
    low: Float,
    high: Float,
    band: float,
    weight: Float,
    cap: Float,
    free_weeks: int = 6,
    tail_weeks: int = 5,
) -> Float:
    """Best log multipliers (..., n) of the first week when `free_weeks` are planned and a static tail follows.

    `low`, `high`, `cap` bound the first week (the guard's corridor), ±`band` and the same cap the later ones. Weeks
    beyond `horizon` are normal weeks at its last cost. Projected gradient; the gradient through the pantry is the
    adjoint recursion λ_k = dJ_k/dH_k + decay · λ_{k+1}, dH_{k+1}/dm_k = −kappa e^{u_k} inside the clip.
    """
    weeks = free_weeks + tail_weeks
    horizon = _extend(horizon, weeks)
    book = optimiser.static_book(model, horizon.cost[0], low, high, weight=weight, cap=cap)
    lows = np.broadcast_to(np.full_like(book, -band), (weeks, *book.shape)).copy()
    highs = np.broadcast_to(np.full_like(book, band), (weeks, *book.shape)).copy()
    lows[0], highs[0] = low, high
    m = np.broadcast_to(book, (weeks, *book.shape)).copy()
    m[0] = optimiser.project(m[0], low, high, weight, cap)
    decay = model.decay[..., None]
    for _ in range(ITERATIONS):
        x = horizon.reference + m
        utility = horizon.feature - model.kappa * x
        filled = np.exp(np.clip(utility, *UTILITY_CLIP))
        stock = np.empty_like(x)
        stock[0] = pantry
        for week in range(1, weeks):
            stock[week] = decay * stock[week - 1] + filled[week - 1] - 1.0
        at = demand.respond(model, x, horizon, stock)
        slope = demand.price_gradient(model, at)
        by_stock = demand.pantry_gradient(model, at)
        fill_slope = np.where(np.clip(utility, *UTILITY_CLIP) == utility, model.kappa * filled, 0.0)
        scale = at.price * at.units * np.maximum(model.kappa - 1.0, _CURVATURE_MIN)
        later = np.zeros_like(book)
        for week in reversed(range(weeks)):
            slope[week] -= later * fill_slope[week]
            scale[week] += np.maximum(-later, 0.0) * model.kappa * fill_slope[week]
            later = by_stock[week] + decay * later
        metric = scale / np.mean(scale, axis=-1, keepdims=True)
        m[:free_weeks] = optimiser.project(
            (m + slope / scale)[:free_weeks],
            lows[:free_weeks],
            highs[:free_weeks],
            weight,
            cap,
            scale=metric[:free_weeks],
        )
    return np.asarray(m[0])


def _extend(horizon: Outlook, weeks: int) -> Outlook:
    """`horizon` cut or continued to `weeks`: no promotion, no advertising, normal demand, the last regular cost."""
    known = len(horizon.reference)
    if known >= weeks:
        return Outlook(horizon.reference[:weeks], horizon.feature[:weeks], horizon.shift[:weeks], horizon.cost[:weeks])
    quiet = np.zeros((weeks - known, *horizon.cost.shape[1:]))
    cost = np.broadcast_to(np.max(horizon.cost, axis=0), quiet.shape)  # allowances only lower it
    return Outlook(
        np.concatenate([horizon.reference, quiet]),
        np.concatenate([horizon.feature, quiet]),
        np.concatenate([horizon.shift, quiet]),
        np.concatenate([horizon.cost, cost]),
    )


def fixed_book(
    model: DemandModel, weeks: Outlook, *, band: float, weight: Float, cap: float, iterations: int = 60
) -> Float:
    """The one book (..., n) of log multipliers that would have been best in all of `weeks` (w, ..., n) together.

    Long-run demand, as a book that stays is judged; `weight` (..., n) are the index weights. What a shop does that sets
    its prices once, from its past.
    """
    lasting = demand.long_run_model(model)
    # As in `optimiser.long_run`: a dated promotion's own uplift is the short-run one.
    shift = weeks.shift - (model.kappa - lasting.kappa) * weeks.reference
    dated = Outlook(weeks.reference, weeks.feature, shift, weeks.cost)
    m = np.zeros(weeks.reference.shape[1:])
    low, high = np.full_like(m, -band), np.full_like(m, band)
    for _ in range(iterations):
        at = demand.respond(lasting, weeks.reference + m, dated)
        slope = demand.price_gradient(lasting, at).sum(0)
        scale = (at.price * at.units * np.maximum(lasting.kappa - 1.0, _CURVATURE_MIN)).sum(0)
        metric = scale / np.mean(scale, axis=-1, keepdims=True)
        m = optimiser.project(m + slope / scale, low, high, weight, cap, scale=metric)
    return np.asarray(m)
