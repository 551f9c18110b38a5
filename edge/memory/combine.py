"""One number out of what many shops say of it: robust random-effects pooling, pure.

Shop i says x_i with sampling error e_i; d_i is the standard deviation of the noise that was added to it on purpose, and
a_i its age in weeks. Shops differ by `between` (tau), so

    s_i^2 = e_i^2 + d_i^2 + drift^2 a_i + tau^2            what x_i says of the mean of all shops

- Staleness is a random walk: what was true a weeks ago has moved by drift sqrt(a) since: at the 0.03 of an elasticity
  by 0.22 in a year, as far as two shops lie apart.
- tau solves Paule and Mandel's equation (J. Res. Natl. Bur. Stand. 87 (1982) 377), with its squares cut off at clip^2
  where values are many enough, so that one liar cannot make everybody else look uncertain. It is pulled towards a
  guess, because few shops say little about it, and has a floor.
- Weights are 1 / s_i^2, cut to caps: of an owner's shops none has more than `share_max` of the owner's weight, and no
  owner more than `share_max` of all; where there are too few of them for that, they count alike.
- From VISIBLE values on the mean solves Huber's equation sum w_i psi((x_i - m) / s_i) = 0 (Ann. Math. Stat. 35 (1964)
  73), psi cut off at `clip`, and is held within the values that remain when the heaviest share is taken off both ends.

**Bound.** From VISIBLE values on, of one owner or of OWNERS_MIN and more, one shop (there: one owner) can say what it
likes: the mean stays within the range of what the others say. Below VISIBLE values nothing is cut: a liar moves the
mean by its share of its lie. Between two and four owners a shop counts up to 1 / owners, and the bound holds where
nobody has half.

The error of the mean adds what all shops of a chain share and no number of them averages out (they put the same items
on offer in the same weeks): `shared` of their squared sampling error, an owner, as measured on real stores.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.errors import LocalError
from edge.networks.policy import OWNER_SHARE_MAX, OWNERS_MIN

Float = NDArray[np.float64]
Int = NDArray[np.int64]

VISIBLE: Final = 5  # single values from which one that is far off can be told
_EFFICIENCY: Final = 0.964  # of Huber's estimate at clip 1.5 where errors are normal
_STEPS: Final = 48  # of a bisection: below 1e-13 of the interval
_TINY: Final = 1e-9  # of a share: rounding


@dataclass(frozen=True, slots=True)
class CombineRules:
    """How one kind of number is pooled; all in that number's own units."""

    between: float = 0.3  # guess of the s.d. between shops: of own elasticities, as measured on real stores
    between_floor: float = 0.2  # shops never lie closer together than this
    between_max: float = 1.0
    between_weight: float = 10.0  # how many shops that guess is worth
    drift: float = 0.03  # s.d. of how far the truth moves in a week
    shared: float = 0.5  # of the squared sampling error that a chain's shops have in common
    clip: float = 1.5  # s.d.s from the mean beyond which a value counts no further
    share_max: float = OWNER_SHARE_MAX  # of the weight, of an owner and of a shop among its owner's

    def scaled(self, factor: float) -> "CombineRules":
        """The same for a number that lies `factor` times as far apart."""
        return CombineRules(
            self.between * factor,
            self.between_floor * factor,
            self.between_max * factor,
            self.between_weight,
            self.drift * factor,
            self.shared,
            self.clip,
            self.share_max,
        )


ELASTICITY: Final = CombineRules()
# Between-shop s.d. of each coefficient, as a share of the own elasticity's, go as the item s.d.s of the shipped prior.
TERM_RULES: Final[Mapping[str, CombineRules]] = MappingProxyType(
    {
        "price": ELASTICITY,
        "carry": ELASTICITY.scaled(0.2),
        "feature": ELASTICITY.scaled(1 / 3),
        "deal": ELASTICITY.scaled(0.2),
        "others": ELASTICITY.scaled(0.4),
    }
)
TREND_RULES: Final = CombineRules(0.01, 0.004, 0.2, drift=0.003)  # log units a week; gone after a few months
SPREAD_RULES: Final = CombineRules(0.1, 0.03, 2.0, drift=0.01)  # volatility, log seasonality, log mean of prices


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """What n shops say of one number; (n,) each, in any order."""

    mean: Float
    error: Float  # standard error of estimation, not negative
    deviation: Float  # s.d. of the noise added on purpose; 0: none
    owner: Int  # any number that tells owners apart
    week: Int  # the week that it speaks of
    shops: Int  # how many stand behind it; 1: the shop itself
    owners: Int


@dataclass(frozen=True, slots=True)
class Pooled:
    """What shops together say of one number.

    A shop that is not among them lies around `mean` with variance error^2 + between^2.
    """

    mean: float
    error: float  # standard error of `mean`; noise and what a chain shares are in it
    between: float  # s.d. between shops
    shops: int  # behind it
    owners: int
    week: int  # half of the weight speaks of this week or a later one
    deviation: float  # s.d. of the added noise that is left in `mean`; part of `error`


def combine(values: Values, rules: CombineRules = ELASTICITY, *, week: int) -> Pooled:
    """Pool `values` as seen in week `week`. The order of the values does not matter, to the last bit."""
    count = len(values.mean)
    if count < 1:
        raise LocalError("combine: nobody said anything")
    order = np.lexsort(
        (values.owners, values.shops, values.week, values.owner, values.deviation, values.error, values.mean)
    )
    mean, error, deviation = values.mean[order], values.error[order], values.deviation[order]
    owner, weeks, shops, owners = (column[order] for column in (values.owner, values.week, values.shops, values.owners))
    age = np.maximum(week - weeks, 0)
    variance: Float = np.square(error) + np.square(deviation) + rules.drift**2 * age
    _, chain = np.unique(owner, return_inverse=True)
    chains = int(chain.max()) + 1

    share = _shares(variance + rules.between**2, chain, chains, rules)
    visible = count >= VISIBLE
    start = _middle(mean, share) if visible else float(share @ mean)
    between = _between(mean - start, variance, share, rules, cut=visible)
    spread = variance + between**2
    share = _shares(spread, chain, chains, rules)
    pooled, efficiency = float(share @ mean), 1.0
    if visible:
        heaviest = float((np.bincount(chain, share) if chains >= OWNERS_MIN else share).max())
        pooled = _held(_huber(mean, share, np.sqrt(spread) * rules.clip), mean, share, heaviest)
        efficiency = _EFFICIENCY
    common = np.bincount(chain, share * np.square(error)) * np.bincount(chain, share)  # share_o^2 * mean error^2 there
    own = float(np.square(share) @ spread) / efficiency
    return Pooled(
        mean=pooled,
        error=math.sqrt(own + rules.shared * float(common.sum())),
        between=between,
        shops=max(count, int(np.sort(shops)[(count - 1) // 2])),  # what most of them claim at least
        owners=max(chains, int(np.sort(owners)[(count - 1) // 2])),
        week=_newest_half(weeks, share),
        deviation=math.sqrt(float(np.square(share) @ np.square(deviation))),
    )


def _shares(spread: Float, chain: Int, chains: int, rules: CombineRules) -> Float:
    """Weights (n,) that sum to 1, precision-weighted within the caps; `chain` numbers the owners from 0."""
    weight: Float = 1.0 / spread
    if chains == 1:
        return _capped(weight, rules.share_max)
    inner = np.ones_like(weight)
    for number in range(chains) if chains < len(weight) else ():
        inside = chain == number
        inner[inside] = _capped(weight[inside], rules.share_max)
    outer = _capped(np.bincount(chain, weight).astype(np.float64), rules.share_max)
    return inner * outer[chain]


def _capped(weight: Float, cap: float) -> Float:
    """Shares in proportion to `weight`, none above `cap`; all alike where that cannot be."""
    count = len(weight)
    if cap * count <= 1.0:
        return np.full(count, 1.0 / count)
    order = np.argsort(-weight, kind="stable")
    falling = weight[order]
    rest = np.cumsum(falling[::-1])[::-1]  # of this one and all lighter ones
    for capped in range(count):
        left = 1.0 - capped * cap
        if falling[capped] * left <= cap * rest[capped]:
            share = np.full(count, cap)
            share[order[capped:]] = falling[capped:] * (left / rest[capped])
            return share
    raise LocalError("combine: shares within a cap do not add up")


def _between(off: Float, variance: Float, share: Float, rules: CombineRules, *, cut: bool) -> float:
    """Tau from values `off` from their middle: Paule-Mandel with cut squares, pulled towards the guess."""
    room = 1.0 - float(np.square(share).sum())  # 1 - 1/n for equal shares
    found, freedom = rules.between**2, 0.0
    if room > _TINY:
        freedom = room / (1.0 - room)  # n - 1 for equal shares
        ceiling = rules.clip**2 if cut else math.inf
        expected = room * (_cut_square(rules.clip) if cut else 1.0)
        square, low, high = np.square(off), 0.0, rules.between_max**2
        for _ in range(_STEPS):
            found = (low + high) / 2
            above = float(share @ np.minimum(square / np.maximum(variance + found, 1e-300), ceiling)) > expected
            low, high = (found, high) if above else (low, found)
    pulled = (rules.between_weight * rules.between**2 + freedom * found) / (rules.between_weight + freedom)
    return min(max(math.sqrt(pulled), rules.between_floor), rules.between_max)


def _cut_square(clip: float) -> float:
    """E min(Z^2, clip^2) of a standard normal Z."""
    inside = math.erf(clip / math.sqrt(2.0))
    return inside - 2.0 * clip * math.exp(-clip * clip / 2.0) / math.sqrt(2.0 * math.pi) + clip * clip * (1.0 - inside)


def _huber(mean: Float, share: Float, reach: Float) -> float:
    """The root m of sum share clip(mean - m, -reach, reach) = 0, the middle one where there are many.

    The sum is a falling, piecewise linear function of m: it is followed from knot to knot, and the root is exact.
    (Newton's steps from piece to piece can go round in a circle.)
    """
    knots = np.concatenate((mean - reach, mean + reach))
    order = np.argsort(knots, kind="stable")
    knots = knots[order]
    slope = np.cumsum(np.concatenate((-share, share))[order])[:-1]
    total = float(share @ reach)
    pull = total + np.concatenate(([0.0], np.cumsum(slope * np.diff(knots))))
    small = _TINY * total
    first = int(np.argmax(pull <= small))  # the last knot has a pull of -total
    last = len(pull) - 1 - int(np.argmax(pull[::-1] >= -small))
    return (_crossing(knots, pull, max(first, 1)) + _crossing(knots, pull, min(last + 1, len(pull) - 1))) / 2


def _crossing(knots: Float, pull: Float, right: int) -> float:
    """Where the line from knot `right` - 1 to knot `right` is 0; within the two."""
    high, low = float(pull[right - 1]), float(pull[right])
    part = high / (high - low) if high > low else 0.0
    return float(knots[right - 1] + min(max(part, 0.0), 1.0) * (knots[right] - knots[right - 1]))


def _held(value: float, mean: Float, share: Float, heaviest: float) -> float:
    """`value` within the ascending `mean`s that remain when the share `heaviest` is taken off both ends."""
    if heaviest >= 0.5 - _TINY:
        return value
    low = mean[np.argmax(np.cumsum(share) > heaviest + _TINY)]
    high = mean[len(mean) - 1 - np.argmax(np.cumsum(share[::-1]) > heaviest + _TINY)]
    return float(min(max(value, low), high))


def _middle(mean: Float, share: Float) -> float:
    """The median of the ascending `mean`s by their shares."""
    total = np.cumsum(share)
    lower = mean[np.argmax(total >= 0.5 - _TINY)]
    upper = mean[np.argmax(total > 0.5 + _TINY)]
    return float(lower + upper) / 2


def _newest_half(weeks: Int, share: Float) -> int:
    order = np.argsort(-weeks, kind="stable")
    return int(weeks[order][np.argmax(np.cumsum(share[order]) >= 0.5 - _TINY)])
