"""What owners who do not trust each other may release of their elasticities: clipped means under Gaussian noise.

Every owner contributes its own elasticities as deviations from the shipped category mean, bounded; what leaves is the
mean of K owners plus normal noise that makes it (ε, δ)-private (Balle and Wang, ICML 2018, Theorem 8: the exact
condition, not the classical tail bound). Shapes, with the most that one owner can move the mean:

                                                     replaced by another   left out
    scalar   the category's mean, clipped to ±0.5      1 / K                 0.5 / K
    vector   n items' means, each clipped to ±1        2 √n / K              √n / K
    norm     the same, the vector's length cut to 2.5  5 / K                 2.5 / K

`dimension` picks between the first two by K · ε. The third bounds what privacy pays for, the length, and no item alone;
receivers divide by how much an ordinary vector is shortened. Sums between owners charge a contribution against none
(`edge.privacy`), which is `left out`; `replaced` hides also what was said instead, and costs twice the noise.

The noise here is a simulation's: floating-point and seeded. What a box releases goes through `edge.privacy`, with
integers and the system's generator.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from edge.agent.estimate import DemandPrior, PeerPrior
from edge.agent.peer_prior import CATEGORY
from edge.memory.combine import ELASTICITY, Pooled
from trainer.worth.priors import as_prior

Float = NDArray[np.float64]
Shape = Literal["scalar", "vector", "norm"]

DELTA: Final = 1e-5
CLIP_MEAN: Final = 0.5
CLIP_ITEM: Final = 1.0
CLIP_NORM: Final = 2.5
VECTOR_FROM: Final = 35.0  # K · ε from which the vector's noise is below what items differ by
EVIDENCE_SD: Final = 0.5  # of one shop's own elasticity after a year, as measured on real stores; receivers assume it


@dataclass(frozen=True, slots=True)
class Release:
    """What K owners released; all of it is public."""

    shape: Shape
    value: Float  # (n,) or (1,): mean deviation from the shipped category mean
    noise_sd: float
    owners: int


def gaussian_sd(sensitivity: float, epsilon: float, delta: float = DELTA) -> float:
    """Least sd of normal noise that is (ε, δ)-private at this L2 sensitivity."""
    if not (sensitivity > 0 and epsilon > 0 and 0 < delta < 1):
        raise ValueError("sensitivity and epsilon must be positive, delta between 0 and 1")

    def leaked(sd: float) -> float:
        a, b = sensitivity / (2.0 * sd), epsilon * sd / sensitivity
        return _phi(a - b) - math.exp(epsilon) * _phi(-a - b)

    low, high = 1e-3 * sensitivity, sensitivity
    while leaked(high) > delta:
        high *= 2.0
    for _ in range(80):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if leaked(middle) > delta else (low, middle)
    return high


def _phi(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2.0))


def dimension(owners: int, epsilon: float) -> Shape:
    """The category's mean for little K · ε, the items' vector for much."""
    return "vector" if owners * epsilon >= VECTOR_FROM else "scalar"


def release(
    rng: np.random.Generator,
    elasticity: Float,
    epsilon: float,
    prior: DemandPrior,
    shape: Shape,
    *,
    replaced: bool = True,
) -> Release:
    """Release the elasticities (K, n) of K owners; what an owner does not know counts as the shipped mean.

    Infinite ε: clipped, without noise.
    """
    owners, items = elasticity.shape
    off = np.nan_to_num(elasticity - prior.price.mean)
    if shape == "scalar":
        bounded, bound = np.clip(off.mean(-1, keepdims=True), -CLIP_MEAN, CLIP_MEAN), CLIP_MEAN
    elif shape == "vector":
        bounded, bound = np.clip(off, -CLIP_ITEM, CLIP_ITEM), CLIP_ITEM * math.sqrt(items)
    else:
        length = np.linalg.norm(off, axis=-1, keepdims=True)
        bounded, bound = off * np.minimum(1.0, CLIP_NORM / np.maximum(length, 1e-12)), CLIP_NORM
    sensitivity = (2.0 if replaced else 1.0) * bound / owners
    sd = gaussian_sd(sensitivity, epsilon) if math.isfinite(epsilon) else 0.0
    return Release(shape, bounded.mean(0) + sd * rng.standard_normal(bounded.shape[1]), sd, owners)


def use(got: Release, prior: DemandPrior, skus: tuple[str, ...]) -> PeerPrior | None:
    """What a new shop starts from that received `got`; None where noise leaves less than the shipped prior knows."""
    between, items = ELASTICITY.between, len(skus)
    estimation = EVIDENCE_SD**2 * (ELASTICITY.shared + (1.0 - ELASTICITY.shared) / got.owners)
    if got.shape == "scalar":
        error = math.sqrt(got.noise_sd**2 + (estimation + between**2 / got.owners) / items)
        whole = _pooled(float(got.value[0]), error, between / math.sqrt(items), got, prior)
        return as_prior({CATEGORY: {"price": whole}}, skus, prior)
    kept = _kept(prior, items) if got.shape == "norm" else 1.0
    error = math.sqrt((got.noise_sd / kept) ** 2 + estimation + between**2 / got.owners)
    told = {
        sku: {"price": _pooled(float(value) / kept, error, between, got, prior)}
        for sku, value in zip(skus, got.value, strict=True)
    }
    return as_prior(told, skus, prior)


def _kept(prior: DemandPrior, items: int) -> float:
    """What the cut leaves of an ordinary vector's length, by the shipped prior and what shops' estimates scatter."""
    scatter = prior.price.category_sd**2 + prior.price.item_sd**2 + ELASTICITY.between**2 + EVIDENCE_SD**2
    return min(1.0, CLIP_NORM / math.sqrt(items * scatter))


def _pooled(value: float, error: float, between: float, got: Release, prior: DemandPrior) -> Pooled:
    return Pooled(
        mean=prior.price.mean + value,
        error=error,
        between=between,
        shops=got.owners,
        owners=got.owners,
        week=0,
        deviation=got.noise_sd,
    )
