"""How much one release says: one mean of a category, or a mean for each item.

The same noise hides a vector as it hides one number, so a vector's items each carry the error that one category mean
would carry alone, and no more is known about each. Which of both helps a new shop more was simulated: its loss of gross
profit over 26 weeks, K owners, epsilon at delta 1e-5 (scalar better at K epsilon = 20, equal at 30 to 40, vector better
at 60 and above). The choice looks at public figures alone, K and epsilon, never at data: it needs no budget.
"""

from enum import StrEnum
from typing import Final

from edge.errors import LocalError

THRESHOLD: Final = 35.0  # middle of where the curves cross


class Dimension(StrEnum):
    """What a release holds."""

    CATEGORY_MEAN = "category_mean"
    ITEM_VECTOR = "item_vector"


def choose(owners: int, epsilon: float, *, noise_ratio: float = 1.0) -> Dimension:
    """What a release over so many owners should hold at this `epsilon` (inf: no noise).

    `noise_ratio`: standard deviation of its noise over that of one central sum over all owners; the figures are for 1.
    """
    if owners < 1 or not epsilon > 0.0 or not noise_ratio > 0.0:
        raise LocalError(f"{owners} owners, epsilon {epsilon}, noise ratio {noise_ratio}")
    return Dimension.ITEM_VECTOR if owners * epsilon / noise_ratio >= THRESHOLD else Dimension.CATEGORY_MEAN
