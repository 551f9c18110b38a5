"""Price endings: the allowed last digits of a price in minor units, batched over items.

`endings` are last digits (0..9), or last two digits where any of them is above 9; an empty tuple allows every price.
The reference price that the owner approved is always allowed, whatever its ending.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]


@lru_cache(maxsize=64)
def _steps(endings: tuple[int, ...]) -> tuple[int, Int, Int]:
    """(modulus, steps down to the nearest ending, steps up) by last digits."""
    modulus = 100 if max(endings) > 9 else 10
    digits = np.arange(modulus)
    allowed_digits = np.array(sorted({ending % modulus for ending in endings}))
    down = np.min((digits[:, None] - allowed_digits) % modulus, axis=1)
    up = np.min((allowed_digits - digits[:, None]) % modulus, axis=1)
    return modulus, down.astype(np.int64), up.astype(np.int64)


def allowed(price: Int, endings: tuple[int, ...]) -> Bool:
    """Whether each price has an allowed ending."""
    if not endings:
        return np.ones(price.shape, dtype=np.bool_)
    modulus, down, _ = _steps(endings)
    return np.asarray(down[price % modulus] == 0)


def nearest(wanted: Float | Int, low: Int, high: Int, endings: tuple[int, ...], *, own: Int | None = None) -> Int:
    """The price in low..high nearest to `wanted` (in log; ties go down) with an allowed ending, or `own` if nearer.

    Where no price in low..high has one, the nearest integer: the ending is the weakest rule.
    """
    plain = np.clip(np.rint(wanted).astype(np.int64), low, high)
    if not endings:
        return plain
    modulus, down_by, up_by = _steps(endings)
    below, above = np.floor(wanted).astype(np.int64), np.ceil(wanted).astype(np.int64)
    below, above = below - down_by[below % modulus], above + up_by[above % modulus]
    below_fits, above_fits = (below >= low) & (below >= 1), above <= high
    # Their geometric mean divides them in log space: wanted² ≤ below · above, written so that no large square rounds.
    under, over = wanted - below, above - wanted
    downward = below_fits & (~above_fits | (under * over <= wanted * (over - under)))
    best = np.where(downward, below, np.where(above_fits, above, plain))
    if own is not None:
        distance = np.abs(np.log(np.maximum(best, 1) / wanted))
        closer = (own >= low) & (own <= high) & (np.abs(np.log(own / wanted)) <= distance)
        best = np.where(closer, own, best)
    return best


def one_lower(price: Int, low: Int, endings: tuple[int, ...]) -> Int:
    """The next lower price with an allowed ending, or `price` where it would fall below `low`."""
    lower = price - 1
    if endings:
        modulus, down_by, _ = _steps(endings)
        lower = lower - down_by[lower % modulus]
    return np.where((lower >= low) & (lower >= 1), lower, price)
