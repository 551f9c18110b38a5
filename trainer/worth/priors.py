"""What peers tell a new shop about its demand, by the box's own path and nothing else.

A peer's evidence is `edge.agent.evidence`: what its own sales say, the prior taken out. K peers of one owner are pooled
by `edge.memory.combine` and become the prior of the new shop's estimate by `edge.agent.peer_prior`. Here they are only
kept as arrays, because a study pools the same peers in many ways. Rows of items start with the category as a whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.agent import evidence as box
from edge.agent.estimate import DemandPrior, PeerPrior, estimate
from edge.agent.peer_prior import CATEGORY, peer_prior
from edge.memory.combine import TERM_RULES, Pooled, Values, combine
from edge.records.history import CategoryHistory
from edge.records.shared import TERMS

Float = NDArray[np.float64]
Int = NDArray[np.int64]

PRICE_AT: Final = TERMS.index("price")


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What S shops say of the coefficients TERMS; NaN where they say nothing."""

    skus: tuple[str, ...]  # n
    mean: Float  # (S, 1 + n, 5), the category first
    error: Float  # (S, 1 + n, 5)

    def of(self, shops: Sequence[int] | Int) -> "Evidence":
        """Only these shops, in this order."""
        rows = np.asarray(shops, dtype=np.int64)
        return Evidence(self.skus, self.mean[rows], self.error[rows])

    @property
    def elasticity(self) -> Float:
        """Own elasticities, (S, n)."""
        return self.mean[:, 1:, PRICE_AT]


def evidence(histories: Sequence[CategoryHistory], prior: DemandPrior) -> Evidence:
    """What each shop would publish; at least one history, all of the same items."""
    names = (CATEGORY, *histories[0].skus)
    position = {sku: row for row, sku in enumerate(names)}
    mean = np.full((len(histories), len(names), len(TERMS)), np.nan)
    error = np.full_like(mean, np.nan)
    for shop, history in enumerate(histories):
        insight = box.evidence(history, prior)
        for row in insight.rows if insight is not None else ():
            for term, told in row.coefficients:
                at = shop, position[row.sku], TERMS.index(term)
                mean[at], error[at] = told.mean, told.error
    return Evidence(names[1:], mean, error)


def own_elasticities(history: CategoryHistory, prior: DemandPrior) -> Float:
    """(n,) what a store's own weeks say of them; NaN where next to nothing."""
    return box.own(estimate(history, box.apart(prior)), prior)[0][:, PRICE_AT]


def pool(peers: Evidence, prior: DemandPrior) -> PeerPrior | None:
    """The prior that a further shop of the same owner gets from at least one peer; None: they know nothing."""
    told: dict[str, dict[str, Pooled]] = {}
    for row, sku in enumerate((CATEGORY, *peers.skus)):
        for column, term in enumerate(TERMS):
            mean, error = peers.mean[:, row, column], peers.error[:, row, column]
            known = np.isfinite(mean)
            if known.any():
                told.setdefault(sku, {})[term] = combine(_values(mean[known], error[known]), TERM_RULES[term], week=0)
    return as_prior(told, peers.skus, prior)


def as_prior(told: Mapping[str, Mapping[str, Pooled]], skus: Sequence[str], prior: DemandPrior) -> PeerPrior | None:
    """Fresh insights as a prior."""
    used = peer_prior(told, skus, prior, pooled_in=0, week=0)
    return None if used is None else used.prior


def price_only(peers: PeerPrior | None) -> PeerPrior | None:
    """The own elasticities alone."""
    if peers is None:
        return None
    keep = np.arange(len(TERMS)) == PRICE_AT
    return PeerPrior(np.where(keep, peers.mean, np.nan), np.where(keep, peers.sd, np.nan))


def marginal(prior: DemandPrior, peers: PeerPrior | None, items: int) -> tuple[Float, Float]:
    """(mean, variance), (n, 5) each, of the coefficients of an item without any sales of its own."""
    mean = np.array([normal.mean for normal in prior.normals])
    category = np.array([normal.category_sd**2 for normal in prior.normals])
    item = np.array([normal.item_sd**2 for normal in prior.normals])
    if peers is not None and peers.category_mean is not None and peers.category_sd is not None:
        told = np.isfinite(peers.category_mean)
        weight = np.where(told, category / (category + np.square(np.where(told, peers.category_sd, 1.0))), 0.0)
        mean = mean + weight * (np.where(told, peers.category_mean, mean) - mean)
        category = category * (1.0 - weight)
    means, variances = np.tile(mean, (items, 1)), np.tile(category + item, (items, 1))
    if peers is None:
        return means, variances
    known = np.isfinite(peers.mean)
    return np.where(known, peers.mean, means), np.where(known, np.square(peers.sd), variances)


def _values(mean: Float, error: Float) -> Values:
    same, none = np.zeros(len(mean), np.int64), np.zeros(len(mean))
    one = np.ones(len(mean), np.int64)
    return Values(mean, error, none, owner=same, week=same, shops=one, owners=one)
