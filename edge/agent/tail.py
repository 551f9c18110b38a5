"""What this week's prices do to the weeks after it: the static book rolled out over a short horizon.

The pantry is the only thing that this week hands to the next ones, and it decays by a fixed factor, so the whole
effect of this week's log prices x on the tail is

    dV/dx_j = Σ_k discount^k decay^(k−1) dJ_k/dH_j · dH_1j/dx_j,   dH_1j/dx_j = −kappa_j exp(u_j)

with every week of the tail evaluated at once along a leading horizon dimension. Five weeks are enough: with a decay
of 0.4 a week, 99 % of what is in the pantry is gone by then.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.agent.demand import UTILITY_CLIP, DemandModel, Float, Outlook, fill_pantry, pantry_gradient, respond

TAIL_WEEKS: Final = 5


@dataclass(frozen=True, slots=True)
class Tail:
    """The book and the outlook of the weeks after this one; built once a decision, used in every iteration."""

    model: DemandModel
    outlook: Outlook  # (h, ..., n)
    x: Float  # (h, ..., n) log prices of the static book against the regular reference
    inflow: Float  # (h, ..., n) what the book itself adds to the pantry each week
    discount: float


def make_tail(model: DemandModel, outlook: Outlook, book: Float, discount: float = 1.0) -> Tail:
    """`outlook` (h, ..., n) of the weeks after this one, `book` (..., n) log multipliers on their references."""
    x = outlook.reference + book
    utility = outlook.feature - model.kappa * x
    return Tail(model, outlook, x, np.exp(np.clip(utility, *UTILITY_CLIP)) - 1.0, discount)


def tail_value(tail: Tail, utility: Float, pantry: Float) -> tuple[Float, Float]:
    """(value (...), dV/dH_1 (..., n)) of the tail after a week of `utility` (..., n) begun with `pantry` (..., n)."""
    model = tail.model
    weeks = tail.x.shape[0]
    decay = model.decay[..., None]
    stock = np.empty(np.broadcast_shapes(tail.x.shape, utility.shape))
    stock[0] = fill_pantry(model, utility, pantry)
    for week in range(1, weeks):
        stock[week] = decay * stock[week - 1] + tail.inflow[week - 1]
    at = respond(model, tail.x, tail.outlook, stock)
    slope = pantry_gradient(model, at)
    value, gradient = np.zeros(at.profit.shape[1:]), np.zeros(slope.shape[1:])
    for week in reversed(range(weeks)):  # Horner's rule in the discount and in the decay
        value = tail.discount * (value + at.profit[week])
        gradient = tail.discount * (decay * gradient + slope[week])
    return value, gradient
