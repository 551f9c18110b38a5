"""A category's weekly past, in arrays: what the memory hands to the pricing agent and the trainer's loader builds."""

from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.errors import LocalError

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
_EPOCH_MONDAY: Final = date(1970, 1, 5).toordinal()


def week_of(day: date) -> int:
    """Number of the week of business day `day`: whole weeks since Monday 5 January 1970, which is week 0."""
    return (day.toordinal() - _EPOCH_MONDAY) // 7


def week_start(week: int) -> date:
    """The Monday on which week number `week` begins; inverse of `week_of`."""
    return date.fromordinal(_EPOCH_MONDAY + 7 * week)


@dataclass(frozen=True, slots=True)
class CategoryHistory:
    """Weekly series of `n` items of one category over `w` consecutive weeks, oldest first. NaN means unknown.

    Money is in currency units (float), because estimation is floating-point work; prices that leave the agent are
    integers again.
    """

    category: str
    skus: tuple[str, ...]  # n
    weeks: NDArray[np.int64]  # (w,) week numbers (`week_of`), consecutive
    units: Float  # (w, n) units or kilograms sold, net of returns; 0 where an offered item did not sell
    price: Float  # (w, n) units-weighted price paid per unit; the shelf price where nothing sold; NaN unknown
    reference: Float  # (w, n) the approved reference price in force (promotions included); NaN unknown
    cost: Float  # (w, n) acquisition cost per unit; NaN unknown
    deal: Float  # (w, n) share of the week's days under a promotion, 0..1
    feature: Float  # (w, n) share of the week's days advertised, 0..1
    observed: Bool  # (w, n) False: closed, not offered or out of stock; that cell says nothing about demand

    def __post_init__(self) -> None:
        shape = (len(self.weeks), len(self.skus))
        for name in ("units", "price", "reference", "cost", "deal", "feature", "observed"):
            if getattr(self, name).shape != shape:
                raise LocalError(f"history.{name} has shape {getattr(self, name).shape}, not {shape}")
        if len(self.weeks) > 1 and not bool(np.all(np.diff(self.weeks) == 1)):
            raise LocalError("history.weeks are not consecutive")
