"""Real weeks: how much better a new shop foresees its sales when its peers have told it what they know.

Every store in turn is the new shop, at several opening weeks. The others are its peers and know the weeks before the
opening, so that no week is both evidence and test; the new shop knows its first w weeks. Judged are the eight weeks
after those, at the prices that were charged:

    WAPE          Σ |units − forecast| / Σ units
    log score     mean log density of ln(units) in the predictive normal, its parameters' uncertainty included
    elasticity    rms distance to what the store's own weeks say with the prior taken out: all of its weeks, and also
                  those from the opening on alone, which share no week with what its peers knew. Changes are of its
                  square: there the yardstick's own error cancels, as far as it is independent of what is compared

`FIRST`: the same week by week, each week foreseen from those before it, from the second week to the eighth. At w = 0 a
shop has sold nothing; levels are then fitted on the weeks judged, for every prior alike, so that only the responses to
price, promotion and advertising are compared.

Intervals resample stores and calendar weeks independently (pigeonhole bootstrap: Owen, Ann. Appl. Stat. 1 (2007) 386),
because a chain's week is common to its stores.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.agent.estimate import DemandPosterior, DemandPrior, PeerPrior, design, estimate, predict, weeks_of
from edge.errors import ConfigError
from edge.memory.combine import ELASTICITY
from edge.records.history import CategoryHistory
from trainer.ingest import Panel
from trainer.worth import priors, release
from trainer.worth.priors import Evidence

Float = NDArray[np.float64]

SHIPPED: Final = "shipped prior"
FIRST: Final = "first 8"
AHEAD: Final = 8  # weeks judged
PEER_WEEKS_MIN: Final = 13  # a peer with fewer weeks before the opening says nothing
OPEN_MIN: Final = 0.75  # of the new shop's weeks; a closed shop is no test


@dataclass(frozen=True, slots=True)
class RealConfig:
    """What is measured."""

    openings: tuple[int, ...] = (26, 38, 50, 62)  # positions of the opening week in the file
    weeks: tuple[int, ...] = (0, 4, 8, 13, 26)  # known to the new shop
    peers: tuple[int, ...] = (5, 20, 60)
    alone: int = 20  # with so many peers also: what their own elasticities alone are worth
    owners: tuple[int, ...] = (5, 10, 30)
    epsilons: tuple[float, ...] = (0.5, 1.0, 2.0)
    bootstrap: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One prior at one number of known weeks; changes are against the shipped prior in the same resamples."""

    known: str
    prior: str
    wape: Interval  # %
    wape_change: Interval  # points
    score_change: Interval  # nats a cell
    elasticity: Interval | None  # rms distance to the store's own estimate from all its weeks
    square_change: Interval | None  # change of its square
    later_square_change: Interval | None  # the same against the estimate from the weeks since the opening


@dataclass(frozen=True, slots=True)
class Result:
    """All rows, and what they rest on."""

    rows: tuple[Row, ...]
    stores: int
    items: int
    cases: int
    openings: tuple[int, ...]  # week numbers of the file
    evidence_error: float  # mean standard error of a peer's own elasticity
    chain_error: float  # s.d. by which an item's elasticity, pooled over all stores, differs from one half to the other


@dataclass(frozen=True, slots=True)
class _Case:
    store: int
    opening: int
    given: Mapping[str, PeerPrior | None]
    truth: Float  # (2, n) own elasticities, by all its weeks and by those from the opening on


@dataclass(frozen=True, slots=True)
class _Tally:
    """One prior at one number of known weeks: sums over items by case and judged week, (cases, AHEAD)."""

    cases: int
    miss: Float = field(init=False)
    units: Float = field(init=False)
    score: Float = field(init=False)
    cells: Float = field(init=False)
    error: Float = field(init=False)  # (cases, 2) mean square distances of own elasticities

    def __post_init__(self) -> None:
        for name in ("miss", "units", "score", "cells"):
            object.__setattr__(self, name, np.zeros((self.cases, AHEAD)))
        object.__setattr__(self, "error", np.zeros((self.cases, 2)))

    def note(self, at: tuple[int, slice], judged: CategoryHistory, expected: Float, variance: Float) -> None:
        """Weeks `judged` of case at[0] into columns at[1]; `variance` of log units."""
        seen = judged.observed & np.isfinite(judged.units) & np.isfinite(expected)
        units = np.where(seen, judged.units, 0.0)
        off = np.log((units + 0.5) / (expected + 0.5)) + 0.5 * variance  # a lognormal's mean lies above its median
        density = -0.5 * (np.square(off) / variance + np.log(2.0 * np.pi * variance))
        self.miss[at] = np.where(seen, np.abs(units - expected), 0.0).sum(-1)
        self.units[at] = units.sum(-1)
        self.score[at] = np.where(seen, density, 0.0).sum(-1)
        self.cells[at] = seen.sum(-1)

    def copy(self, other: "_Tally", number: int) -> None:
        """One case as `other` has it."""
        for name in ("miss", "units", "score", "cells", "error"):
            getattr(self, name)[number] = getattr(other, name)[number]

    def draws(self, weight: Float, stores: Float) -> dict[str, Float]:
        """Every measure in every resample; `weight` (b, cases, AHEAD), `stores` (b, cases)."""

        def total(values: Float) -> Float:
            return np.asarray(np.einsum("bcw,cw->b", weight, values))

        square = (stores @ self.error) / np.maximum(stores.sum(-1), 1e-9)[:, None]
        return {
            "wape": 100.0 * total(self.miss) / np.maximum(total(self.units), 1e-9),
            "score": total(self.score) / np.maximum(total(self.cells), 1e-9),
            "square": square[:, 0],
            "later_square": square[:, 1],
        }


def lineup(rng: np.random.Generator, peers: Evidence, config: RealConfig) -> dict[str, PeerPrior | None]:
    """Every prior that is compared, for one new shop. Peers are drawn without replacement, in one random order."""
    shipped = DemandPrior()
    peers = peers.of(rng.permutation(len(peers.mean)))
    given: dict[str, PeerPrior | None] = {SHIPPED: None}
    for count in config.peers:
        told = priors.pool(peers.of(range(min(count, len(peers.mean)))), shipped)
        given[f"{count} peers"] = told
        if count == config.alone:
            given[f"{count} peers, elasticities alone"] = priors.price_only(told)
    elasticity = np.where(np.isfinite(peers.elasticity), peers.elasticity, shipped.price.mean)

    def one(owners: int, epsilon: float, shape: release.Shape, *, replaced: bool) -> PeerPrior | None:
        contributions = np.stack([part.mean(0) for part in np.array_split(elasticity, owners)])
        got = release.release(rng, contributions, epsilon, shipped, shape, replaced=replaced)
        return release.use(got, shipped, peers.skus)

    for owners in config.owners:
        if owners > len(elasticity):
            continue
        for epsilon in config.epsilons:
            shape = release.dimension(owners, epsilon)
            given[f"{owners} owners, ε {epsilon:g}, {shape}"] = one(owners, epsilon, shape, replaced=True)
            given[f"{owners} owners, ε {epsilon:g}, norm"] = one(owners, epsilon, "norm", replaced=False)
        if owners == max(config.owners):
            given[f"{owners} owners, no noise"] = one(owners, math.inf, "norm", replaced=False)
    return given


def measure(panel: Panel, config: RealConfig, progress: Callable[[int, int], None] | None = None) -> Result:
    """Everything; `ConfigError` where the file is too small for any case."""
    cases, error = _cases(panel, config)
    if not cases:
        raise ConfigError(
            "--data", "no store has enough weeks, and enough moves of its prices, around any opening week"
        )
    names = [name for name in cases[0].given if all(name in case.given for case in cases)]
    knowns = [FIRST, *(str(weeks) for weeks in config.weeks)]
    tallies = {(known, name): _Tally(len(cases)) for known in knowns for name in names}
    for number, case in enumerate(cases):
        history = weeks_of(panel.history(case.store), case.opening, None)
        for name in names:
            into = {known: tallies[known, name] for known in knowns}
            if name != SHIPPED and case.given[name] is None:  # noise left nothing of it
                for known, tally in into.items():
                    tally.copy(tallies[known, SHIPPED], number)
            else:
                _judge(case, number, history, into, case.given[name])
        if progress is not None:
            progress(number + 1, len(cases))
    return Result(
        tuple(_rows(cases, config, tallies)),
        stores=len({case.store for case in cases}),
        items=len(panel.skus),
        cases=len(cases),
        openings=tuple(sorted({int(panel.weeks[case.opening]) for case in cases})),
        evidence_error=error,
        chain_error=chain_error(panel),
    )


def chain_error(panel: Panel) -> float:
    """S.d. of an item's own elasticity, pooled over all stores, between the two halves of the weeks; NaN if unknown.

    The stores' own errors average out of it. What is left is what they have in common.
    """
    shipped = DemandPrior()
    middle = len(panel.weeks) // 2
    pooled = []
    for start, stop in ((0, middle), (middle, len(panel.weeks))):
        told = priors.evidence(
            [weeks_of(panel.history(store), start, stop) for store in range(len(panel.stores))], shipped
        )
        weight = 1.0 / (np.square(told.error[:, 1:, priors.PRICE_AT]) + ELASTICITY.between**2)
        mass = np.nansum(weight, axis=0)
        total = np.nansum(weight * told.elasticity, axis=0)
        pooled.append(np.where(mass > 0, total / np.where(mass > 0, mass, 1.0), np.nan))
    square = np.square(pooled[1] - pooled[0])
    return (
        float(np.sqrt(np.nansum(square) / (2 * np.isfinite(square).sum()))) if np.isfinite(square).any() else math.nan
    )


def _cases(panel: Panel, config: RealConfig) -> tuple[list[_Case], float]:
    """New shops with what their peers know; the peers' evidence is fitted once an opening week."""
    shipped = DemandPrior()
    need = max(config.weeks) + AHEAD
    present = np.any(panel.observed, axis=-1)
    cases: list[_Case] = []
    errors: list[float] = []
    for opening in config.openings:
        if opening + need > len(panel.weeks):
            continue
        able = np.flatnonzero(present[:opening].sum(0) >= PEER_WEEKS_MIN)
        later = present[opening : opening + need]
        if len(able) < 2:
            continue
        told = priors.evidence([weeks_of(panel.history(int(store)), 0, opening) for store in able], shipped)
        error = told.error[:, 1:, priors.PRICE_AT]
        if not np.isfinite(error).any():
            continue
        errors.append(float(np.nanmean(error)))
        for store in np.flatnonzero((later.mean(0) >= OPEN_MIN) & later[0]):
            own = panel.history(int(store))
            truth = np.stack([priors.own_elasticities(weeks_of(own, at, None), shipped) for at in (0, opening)])
            if not np.isfinite(truth).any(-1).all():
                continue
            rng = np.random.default_rng([config.seed, opening, int(store)])
            cases.append(_Case(int(store), opening, lineup(rng, told.of(np.flatnonzero(able != store)), config), truth))
    return cases, float(np.mean(errors)) if errors else float("nan")


def _judge(
    case: _Case, number: int, history: CategoryHistory, into: Mapping[str, _Tally], peers: PeerPrior | None
) -> None:
    """One case under one prior, at every number of known weeks. `history` starts with the opening."""
    prior = DemandPrior()
    for key, tally in into.items():
        if key == FIRST:
            for known in range(1, AHEAD):
                fit = estimate(weeks_of(history, 0, known), prior, peers=peers)
                expected, variance = _foresee(fit, weeks_of(history, 0, known + 1), prior, 1)
                tally.note((number, slice(known, known + 1)), weeks_of(history, known, known + 1), expected, variance)
            continue
        known = int(key)
        judged = weeks_of(history, known, known + AHEAD)
        if known == 0:
            expected, variance, own = _unseen(judged, prior, peers)
        else:
            fit = estimate(weeks_of(history, 0, known), prior, peers=peers)
            expected, variance = _foresee(fit, weeks_of(history, 0, known + AHEAD), prior, AHEAD)
            own = fit.mean[:, 1]
        tally.note((number, slice(0, AHEAD)), judged, expected, variance)
        tally.error[number] = np.nanmean(np.square(own - case.truth), axis=-1)


def _foresee(fit: DemandPosterior, history: CategoryHistory, prior: DemandPrior, weeks: int) -> tuple[Float, Float]:
    """Expected units and predictive variance of their logs, (weeks, n), of the last `weeks` of `history`."""
    expected = predict(fit, history)[-weeks:]
    terms = design(history, fit.decay, fit.regular).terms[-weeks:]
    belief = np.einsum("wnk,nkl,wnl->wn", terms, fit.covariance, terms)
    return expected, belief + _noise(expected, fit.dispersion, prior)


def _noise(expected: Float, dispersion: Float, prior: DemandPrior) -> Float:
    """Variance of a cell's log units around its own expectation."""
    return np.asarray(np.log1p(dispersion + 1.0 / np.maximum(expected, 0.5)) + prior.week_sd**2)


def _unseen(history: CategoryHistory, prior: DemandPrior, peers: PeerPrior | None) -> tuple[Float, Float, Float]:
    """(expected, variance, elasticity) before any sale: the prior's responses, levels fitted on the weeks judged."""
    items = len(history.skus)
    mean, variance = priors.marginal(prior, peers, items)
    laid = design(history, prior.decay)
    terms, used = laid.terms[..., 1:], laid.used
    shape = np.exp(np.einsum("wnk,nk->wn", terms, mean))
    level = np.where(used, laid.units, 0.0).sum(0) / np.maximum(np.where(used, shape, 0.0).sum(0), 1e-9)
    expected = level * shape
    centred = terms - np.where(used[..., None], terms, 0.0).sum(0) / np.maximum(used.sum(0), 1)[:, None]
    belief = np.einsum("wnk,nk->wn", np.square(centred), variance)
    return expected, belief + _noise(expected, np.full(items, prior.dispersion), prior), mean[:, priors.PRICE_AT]


def _rows(cases: list[_Case], config: RealConfig, tallies: Mapping[tuple[str, str], _Tally]) -> list[Row]:
    rng = np.random.default_rng([config.seed, 1])
    store = np.array([case.store for case in cases])
    opening = np.array([case.opening for case in cases])
    _, position = np.unique(store, return_inverse=True)
    stores = _resamples(rng, int(position.max()) + 1, config.bootstrap)[:, position]
    rows = []
    for known in dict.fromkeys(key[0] for key in tallies):
        week = opening[:, None] + (0 if known == FIRST else int(known)) + np.arange(AHEAD)
        _, slot = np.unique(week, return_inverse=True)
        weeks = _resamples(rng, int(slot.max()) + 1, config.bootstrap)[:, slot.reshape(week.shape)]
        weight = stores[:, :, None] * weeks
        base = tallies[known, SHIPPED].draws(weight, stores)
        for name in [key[1] for key in tallies if key[0] == known]:
            found = tallies[known, name].draws(weight, stores)
            learnt = known != FIRST
            rows.append(
                Row(
                    known,
                    name,
                    wape=_interval(found["wape"]),
                    wape_change=_interval(found["wape"] - base["wape"]),
                    score_change=_interval(found["score"] - base["score"]),
                    elasticity=_interval(np.sqrt(found["square"])) if learnt else None,
                    square_change=_interval(found["square"] - base["square"]) if learnt else None,
                    later_square_change=_interval(found["later_square"] - base["later_square"]) if learnt else None,
                )
            )
    return rows


def _resamples(rng: np.random.Generator, count: int, draws: int) -> Float:
    """(1 + draws, count) how often each of `count` is drawn; the first row is the sample itself."""
    return np.concatenate([np.ones((1, count)), rng.multinomial(count, np.full(count, 1.0 / count), draws)])


def _interval(draws: Float) -> Interval:
    low, high = np.quantile(draws[1:], [0.025, 0.975])
    return Interval(float(draws[0]), float(low), float(high))
