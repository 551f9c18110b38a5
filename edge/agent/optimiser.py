"""The weekly optimiser: short-run plug-in, long-run plug-in and one-step look-ahead, over whole batches at once.

All three maximise J of `demand` over log multipliers m (price = approved reference of the day · e^m) within

    low ≤ m ≤ high          the guard's bounds, item by item
    Σ weight_i m_i ≤ cap    the price index: revenue-weighted, an upper limit alone, no lower one

by a scaled projected gradient: the scale is a positive diagonal bound of the curvature (off the diagonal the logit
only lowers it, so a unit step cannot overshoot), the projection is exact for a box with one linear limit. A fixed
number of iterations, no random numbers, and the answer always lies within the limits, whatever the model says: an
item whose gradient is not finite stays where it is.

`look_ahead` is the box's fallback and the baseline that a learned policy must beat: it chooses this week's prices
knowing that what is stockpiled now is not bought in the `tail` weeks, which follow the long-run static book.
"""

from typing import Final

import numpy as np

from edge.agent.demand import (
    UTILITY_CLIP,
    DemandModel,
    Float,
    Outlook,
    Response,
    long_run_model,
    price_gradient,
    respond,
    steady_outlook,
)
from edge.agent.tail import TAIL_WEEKS, Tail, make_tail, tail_value

ITERATIONS: Final = 24
NO_CAP: Final = np.inf
_CAP_EXACT: Final = 1e-11  # log; far below what an integer price can express
_CURVATURE_MIN: Final = 0.3  # of price · units: keeps the step finite where demand is nearly inelastic


def revenue_weight(model: DemandModel, outlook: Outlook | None = None) -> Float:
    """Weights (..., n) of the price index: share of the revenue at (this week's) reference prices; sum 1."""
    revenue = model.share * model.price
    if outlook is not None:
        revenue = revenue * np.exp(outlook.reference)
    return np.asarray(revenue / np.sum(revenue, axis=-1, keepdims=True))


def project(
    wanted: Float, low: Float, high: Float, weight: Float, cap: Float | float, *, scale: Float | float = 1.0
) -> Float:
    """Nearest point (in Σ scale (m − wanted)²) of {low ≤ m ≤ high, Σ weight m ≤ cap}; m = low where no point exists."""
    inside = np.clip(wanted, low, high)
    excess = np.sum(weight * inside, axis=-1) - cap
    if not bool(np.any(excess > 0)):
        return inside
    slope = weight / scale  # m(mu) = clip(wanted − mu · slope); its index falls monotonically in mu
    room = np.where(slope > 0, (wanted - low) / np.where(slope > 0, slope, 1.0), 0.0)
    left, right = np.zeros_like(excess), np.maximum(np.max(room, axis=-1), 0.0)
    mu = np.zeros_like(excess)
    value = excess
    for _ in range(14):  # Newton on a piecewise linear function, inside a bracket whose right end is feasible
        moving = (wanted - mu[..., None] * slope > low) & (wanted - mu[..., None] * slope < high)
        rate = np.sum(np.where(moving, weight * slope, 0.0), axis=-1)
        newton = mu + value / np.maximum(rate, 1e-300)
        usable = (rate > 0) & (newton > left) & (newton < right)
        mu = np.where(usable, newton, 0.5 * (left + right))
        value = np.sum(weight * np.clip(wanted - mu[..., None] * slope, low, high), axis=-1) - cap
        left, right = np.where(value > 0, mu, left), np.where(value > 0, right, mu)
        if bool(np.all((np.abs(value) <= _CAP_EXACT) | (excess <= 0))):
            break
    right = np.where(excess > 0, np.where(np.abs(value) <= _CAP_EXACT, mu, right), 0.0)
    return np.clip(wanted - right[..., None] * slope, low, high)


def short_run(
    model: DemandModel,
    outlook: Outlook,
    low: Float,
    high: Float,
    *,
    weight: Float | None = None,
    cap: Float | float = NO_CAP,
    pantry: Float | None = None,
    iterations: int = ITERATIONS,
) -> Float:
    """Best log multipliers (..., n) for this week alone, with short-run elasticities."""
    weights = revenue_weight(model, outlook) if weight is None else weight
    return _climb(model, outlook, low=low, high=high, weight=weights, cap=cap, pantry=pantry, iterations=iterations)


def long_run(
    model: DemandModel,
    outlook: Outlook,
    low: Float,
    high: Float,
    *,
    weight: Float | None = None,
    cap: Float | float = NO_CAP,
    iterations: int = ITERATIONS,
) -> Float:
    """`short_run` with long-run elasticities: what a multiplier kept for ever would earn. Base of a residual policy."""
    lasting = long_run_model(model)
    # A promotion is dated: its own uplift is the short-run one, only our multiplier on it is judged by the long run.
    shift = outlook.shift - (model.kappa - lasting.kappa) * outlook.reference
    weights = revenue_weight(model, outlook) if weight is None else weight
    dated = Outlook(outlook.reference, outlook.feature, shift, outlook.cost)
    return _climb(lasting, dated, low=low, high=high, weight=weights, cap=cap, iterations=iterations)


def static_book(
    model: DemandModel,
    cost: Float,
    low: Float,
    high: Float,
    *,
    weight: Float | None = None,
    cap: Float | float = NO_CAP,
) -> Float:
    """The best book (..., n) to keep for ever in normal weeks."""
    return long_run(model, steady_outlook(model, cost), low, high, weight=weight, cap=cap)


def look_ahead(
    model: DemandModel,
    horizon: Outlook,
    pantry: Float,
    low: Float,
    high: Float,
    *,
    weight: Float | None = None,
    cap: Float | float = NO_CAP,
    book: Float | None = None,
    discount: float = 1.0,
    iterations: int = ITERATIONS,
) -> Float:
    """Best log multipliers (..., n) for the first week of `horizon` (1 + tail weeks, ..., n), then the static book.

    `book` (..., n): log multipliers of the tail; by default the best book to keep for ever at this week's cost.
    """
    now = horizon.week(0)
    weights = revenue_weight(model, now) if weight is None else weight
    if book is None:
        book = static_book(model, now.cost, low, high, weight=weights, cap=cap)
    tail = make_tail(model, horizon.weeks_after(1), book, discount) if horizon.reference.shape[0] > 1 else None
    start = project(book, low, high, weights, cap)
    return _climb(
        model,
        now,
        low=low,
        high=high,
        weight=weights,
        cap=cap,
        pantry=pantry,
        tail=tail,
        start=start,
        iterations=iterations,
    )


def repeat_outlook(outlook: Outlook, weeks: int = 1 + TAIL_WEEKS, persistence: float = 0.7) -> Outlook:
    """A horizon (weeks, ..., n) from this week: cost stays, promotion and advertising end, the demand shift fades."""
    fade = persistence ** np.arange(weeks).reshape((weeks,) + (1,) * outlook.shift.ndim)
    first = np.arange(weeks).reshape(fade.shape) == 0
    return Outlook(
        np.where(first, outlook.reference, 0.0),
        np.where(first, outlook.feature, 0.0),
        outlook.shift * fade,
        np.broadcast_to(outlook.cost, (weeks, *outlook.cost.shape)),
    )


def gradient(
    model: DemandModel, outlook: Outlook, m: Float, pantry: Float | None = None, tail: Tail | None = None
) -> Float:
    """d(J of the week and its tail)/dm, (..., n), currency units per log point."""
    return _slope(model, respond(model, outlook.reference + m, outlook, pantry), pantry, tail)[0]


def item_gain(
    model: DemandModel,
    outlook: Outlook,
    hold: Float,
    wanted: Float,
    *,
    pantry: Float | None = None,
    tail: Tail | None = None,
) -> Float:
    """What each item's move from `hold` to `wanted` brings in J, (..., n), currency units; sums to the book's gain.

    The line integral of the gradient along the straight path by the midpoint rule: exact to second order in the move.
    """
    return (wanted - hold) * gradient(model, outlook, 0.5 * (hold + wanted), pantry, tail)


def tail_slope(model: DemandModel, outlook: Outlook, m: Float, pantry: Float, tail: Tail) -> Float:
    """dV/dH_1 (..., n) of the tail after a week at `m`; it moves little with `m`, so small moves may share it."""
    return tail_value(tail, outlook.feature - model.kappa * (outlook.reference + m), pantry)[1]


def gradient_near(model: DemandModel, outlook: Outlook, m: Float, pantry: Float, later: Float) -> Float:
    """`gradient` with the tail's slope `later` already known from nearby (`tail_slope`)."""
    at = respond(model, outlook.reference + m, outlook, pantry)
    return price_gradient(model, at) - later * _fill(model, at.utility)


def _fill(model: DemandModel, utility: Float) -> Float:
    """−dH_1/dx (..., n): how fast a cut fills the pantry."""
    clipped = np.clip(utility, *UTILITY_CLIP)
    return np.where(clipped == utility, model.kappa * np.exp(clipped), 0.0)


def _slope(model: DemandModel, at: Response, pantry: Float | None, tail: Tail | None) -> tuple[Float, Float]:
    """Gradient, and the diagonal scale that bounds its curvature."""
    slope = price_gradient(model, at)
    scale = at.price * at.units * np.maximum(model.kappa - 1.0, _CURVATURE_MIN)
    if tail is not None:
        stock = np.zeros_like(model.theta) if pantry is None else pantry
        later = tail_value(tail, at.utility, stock)[1]
        fill = _fill(model, at.utility)
        slope = slope - later * fill
        scale = scale + np.maximum(-later, 0.0) * model.kappa * fill
    return slope, scale


def _climb(
    model: DemandModel,
    outlook: Outlook,
    *,
    low: Float,
    high: Float,
    weight: Float,
    cap: Float | float,
    iterations: int,
    pantry: Float | None = None,
    tail: Tail | None = None,
    start: Float | None = None,
) -> Float:
    shape = np.broadcast_shapes(model.price.shape, outlook.cost.shape, low.shape)
    m = project(np.zeros(shape) if start is None else start, low, high, weight, cap)
    with np.errstate(all="ignore"):  # a model gone wrong shows as a non-finite move, which is not made
        for _ in range(iterations):
            at = respond(model, outlook.reference + m, outlook, pantry)
            slope, scale = _slope(model, at, pantry, tail)
            # The metric of the projection is the scale in units of its own mean, so that mu stays well conditioned.
            metric = scale / np.mean(scale, axis=-1, keepdims=True)
            sound = np.isfinite(slope) & np.isfinite(metric) & (metric > 0)
            move = np.where(sound, slope / np.where(sound, scale, 1.0), 0.0)
            m = project(m + move, low, high, weight, cap, scale=np.where(sound, np.maximum(metric, 1e-9), 1.0))
    return m
