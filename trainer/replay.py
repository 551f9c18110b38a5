"""Real weeks priced again: what each policy would have asked, bounded by the guard, and what it would have earned.

The owner's historic price of a week is its approved reference; a policy chooses a multiplier on it, inside the band
and the index cap. Boxes estimate demand on the training weeks only (`edge.agent.estimate`), live through the test
weeks week by week, and see the sales that the scorer (fitted on the test weeks only) gives their prices.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from edge.agent import demand, estimate
from edge.agent.rules import GuardRules
from edge.agent.situation import PlanRules, model_of
from edge.errors import ConfigError
from trainer import desk
from trainer.ingest import Panel
from trainer.planner import fixed_book
from trainer.policies import Policy
from trainer.scorer import Scorer, scorer

Float = NDArray[np.float64]

TRAIN_WEEKS_MIN = 8
TEST_WEEKS_MIN = 4
AHEAD = 6  # this week and five more: promotions are dated ahead, other prices are taken to stay
DEAL_FLAG = 0.5  # share of a week under promotion from which the price counts as a dated one


@dataclass(frozen=True, slots=True)
class Split:
    """A panel cut into training and test weeks, gaps filled forward so that every week has a reference and a cost."""

    train: Panel
    test: Panel
    price: Float  # (w, S, n) all weeks, filled
    cost: Float  # (w, S, n)
    regular: Float  # (w, S, n) last price outside promotions
    first_test: int  # position of the first test week


@dataclass(frozen=True, slots=True)
class Run:
    """One policy through the test weeks of one panel."""

    multiplier: Float  # (w, S, n) executed log multipliers on the historic price
    residual: Float  # (w, S, n) distance to the long-run plug-in's wish in the same state
    asked_outside: float  # share of item-weeks in which the guard changed what was asked by more than rounding


def split(panel: Panel, test_from: int) -> Split:
    """Cut at week `test_from`; `ConfigError` where either side is too short to mean anything."""
    train = panel.between(int(panel.weeks[0]), test_from - 1)
    test = panel.between(test_from, int(panel.weeks[-1]))
    if len(train.weeks) < TRAIN_WEEKS_MIN or len(test.weeks) < TEST_WEEKS_MIN:
        raise ConfigError(
            "--test-from",
            f"week {test_from} leaves {len(train.weeks)} training and {len(test.weeks)} test weeks; "
            f"at least {TRAIN_WEEKS_MIN} and {TEST_WEEKS_MIN} are needed",
        )
    price = _fill(panel.price)
    regular = _fill(np.where(panel.deal < DEAL_FLAG, panel.price, np.nan))
    return Split(
        train, test, price, _fill(panel.cost), np.where(np.isfinite(regular), regular, price), len(train.weeks)
    )


def default_test_from(panels: list[Panel]) -> int:
    """The last fifth of the weeks is for testing."""
    first = min(int(panel.weeks[0]) for panel in panels)
    last = max(int(panel.weeks[-1]) for panel in panels)
    return last + 1 - max(round(0.2 * (last + 1 - first)), TEST_WEEKS_MIN)


@dataclass(frozen=True, slots=True)
class Beliefs:
    """What the boxes of a panel know after the training weeks."""

    model: demand.DemandModel
    feature: Float  # (S, n) log uplift of being advertised
    deal: Float  # (S, n) log uplift of a promotion beyond its price
    cost_share: Float  # (S, n) cost over price outside promotions


def believe(cut: Split) -> Beliefs:
    """Estimate every store's demand on its training weeks, as its box would."""
    posteriors = [
        estimate.estimate(cut.train.history(store), estimate.DemandPrior()) for store in range(len(cut.train.stores))
    ]
    before = np.s_[: cut.first_test]
    ratio = np.where(cut.train.deal < DEAL_FLAG, cut.train.cost / cut.train.price, np.nan)
    anything = cut.cost[before] / cut.price[before]
    cost_share = _mean_known(ratio, _mean_known(anything, np.full(anything.shape[1:], 0.7)))
    models = [
        model_of(posterior, posterior.regular, posterior.regular * share, PlanRules())
        for posterior, share in zip(posteriors, cost_share, strict=True)
    ]
    together = {part.name: np.stack([getattr(model, part.name) for model in models]) for part in fields(models[0])}
    mean = np.stack([posterior.mean for posterior in posteriors])
    return Beliefs(demand.DemandModel(**together), mean[..., estimate.FEATURE], mean[..., estimate.DEAL], cost_share)


def horizon(cut: Split, panel: Panel, beliefs: Beliefs, week: int) -> demand.Outlook:
    """What the boxes know at the start of week position `week` of `panel` (all weeks): (AHEAD, S, n)."""
    shape = (AHEAD, *cut.price.shape[1:])
    reference, feature, cost = np.empty(shape), np.empty(shape), np.empty(shape)
    for ahead in range(AHEAD):
        at = min(week + ahead, len(cut.price) - 1)
        dated = (panel.deal[at] >= DEAL_FLAG) if week + ahead == at else np.zeros(shape[1:], np.bool_)
        price = np.where(dated | (ahead == 0), cut.price[at], cut.regular[week])
        reference[ahead] = np.log(price / beliefs.model.price)
        uplift = beliefs.feature * np.nan_to_num(panel.feature[at]) + beliefs.deal * np.nan_to_num(panel.deal[at])
        feature[ahead] = np.where(dated | (ahead == 0), uplift, 0.0)
        # The maker's allowance on a later promotion is not in the file; its cost is taken to stay in proportion.
        cost[ahead] = cut.cost[week] * np.where(dated & (ahead > 0), np.minimum(price / cut.regular[week], 1.0), 1.0)
    return demand.Outlook(reference, feature, np.zeros(shape), cost)


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything a policy is played on: one panel, what its boxes believe, and the world that answers."""

    panel: Panel
    cut: Split
    beliefs: Beliefs
    world: Scorer
    historic: Float  # (w,) gross profit of the test weeks as they were

    def static(self, rules: GuardRules) -> Policy:
        """The one book that would have been best over the training weeks, by the boxes' own beliefs."""
        weeks = [horizon(self.cut, self.panel, self.beliefs, week).week(0) for week in range(self.cut.first_test)]
        past = demand.Outlook(
            *(np.stack([getattr(week, part.name) for week in weeks]) for part in fields(demand.Outlook))
        )
        revenue = np.nan_to_num(self.cut.train.units * self.cut.train.price).sum(0)
        weight = (revenue + 1e-9) / (revenue + 1e-9).sum(-1, keepdims=True)
        book = fixed_book(self.beliefs.model, past, band=rules.band, weight=weight, cap=rules.index_cap)
        return lambda situation: book  # noqa: ARG005  # whatever the week


def stage(panel: Panel, test_from: int) -> Stage:
    """Cut, estimate and fit."""
    cut = split(panel, test_from)
    margin = cut.price[cut.first_test :] - cut.cost[cut.first_test :]
    return Stage(
        panel,
        cut,
        believe(cut),
        scorer(cut.test, cut.price[cut.first_test - 1]),
        np.asarray((np.nan_to_num(cut.test.units) * margin).sum((1, 2)), dtype=np.float64),
    )


def play(on: Stage, policy: Policy, rules: GuardRules) -> Run:
    """Warm the desks up on the training weeks at historic prices, then let `policy` price the test weeks."""
    panel, cut, beliefs, world = on.panel, on.cut, on.beliefs, on.world
    shape = (len(panel.stores), len(panel.skus))
    coefficients = world.fit()
    at = desk.new_desk(shape)
    last = np.zeros(shape)
    executed, residual, bounded = [], [], []
    for week in range(len(cut.price)):
        testing = week >= cut.first_test
        situation = desk.prepare(
            at,
            beliefs.model,
            horizon(cut, panel, beliefs, week),
            cost_base=cut.regular[week] * beliefs.cost_share,
            regular=np.log(cut.regular[week] / beliefs.model.price),
            rules=rules,
        )
        asked = policy(situation) if testing else np.zeros(shape)
        result = situation.execute(asked)
        present = panel.observed[week]
        # A reference below the cost floor (7 % of real rows) is lifted by the guard for every policy alike; the
        # training weeks are history and stay as they were.
        multiplier = np.where(present, result.log_multiplier, 0.0) if testing else np.zeros(shape)
        sold = panel.units[week] * coefficients.effect(multiplier, last)
        at = desk.close_week(situation, result, sold, observed=present.astype(np.float64))
        last = multiplier
        if testing:
            executed.append(multiplier)
            residual.append(np.where(present, multiplier - situation.long_run(), 0.0))
            bounded.append(float(np.mean(np.abs(asked - result.log_multiplier) > BOUND_TOLERANCE)))
    return Run(np.stack(executed), np.stack(residual), float(np.mean(bounded)))


BOUND_TOLERANCE = 0.005  # log; about a cent on two dollars


def profit(on: Stage, run: Run, weeks: NDArray[np.int64] | None = None) -> Float:
    """Gross profit of each test week, (w,), by the world fitted on all test weeks or on a resample of them."""
    panel, cut = on.panel, on.cut
    coefficients = on.world.fit(weeks)
    m = run.multiplier
    last = np.concatenate([np.zeros_like(m[:1]), m[:-1]])
    rows = np.s_[cut.first_test :]
    units = np.nan_to_num(panel.units[rows]) * coefficients.effect(m, last)
    return np.asarray(((cut.price[rows] * np.exp(m) - cut.cost[rows]) * units).sum((1, 2)), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Result:
    """One policy on all panels."""

    percent: float  # gross profit, % of the historic one
    low: float  # 95 % interval by bootstrap over weeks, the scorer refitted each time
    high: float
    against_best: tuple[float, float, float]  # difference to the best plug-in: (mean, low, high), points
    residual_rms: float  # % of price
    guard_share: float  # share of item-weeks bounded by the guard
    draws: Float  # (bootstrap,) percent


def evaluate(
    panels: list[Panel],
    test_from: int,
    policies: Mapping[str, Callable[[], Policy]],
    rules: GuardRules,
    *,
    bootstrap: int = 400,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Result]:
    """Score every policy; `hold` must be among them (it is what 100 % is compared with) and the plug-ins too."""
    rng = np.random.default_rng(seed)
    stages = [stage(panel, test_from) for panel in panels]
    longest = max(len(on.historic) for on in stages)
    draws = [rng.integers(0, longest, longest) for _ in range(bootstrap)]
    points: dict[str, tuple[float, Float, float, float]] = {}
    for done, (name, make) in enumerate(policies.items()):
        total, resampled, runs = 0.0, np.zeros((2, bootstrap)), []
        for on in stages:
            run = play(on, on.static(rules) if name == "static" else make(), rules)
            runs.append(run)
            total += float(profit(on, run).sum())
            for index, weeks in enumerate(draws):
                inside = weeks[weeks < len(on.historic)]
                resampled[0, index] += profit(on, run, inside)[inside].sum()
                resampled[1, index] += on.historic[inside].sum()
        square = float(np.mean(np.square(np.concatenate([run.residual.ravel() for run in runs]))))
        points[name] = (
            100.0 * total / float(sum(on.historic.sum() for on in stages)),
            100.0 * resampled[0] / resampled[1],
            100.0 * float(np.sqrt(square)),
            float(np.mean([run.asked_outside for run in runs])),
        )
        if progress is not None:
            progress(done + 1, len(policies))
    best = max((name for name in points if name in PLUG_INS), key=lambda name: points[name][0])
    results = {}
    for name, (percent, spread, rms, share) in points.items():
        gap = spread - points[best][1]
        results[name] = Result(
            percent=percent,
            low=float(np.quantile(spread, 0.025)),
            high=float(np.quantile(spread, 0.975)),
            against_best=(
                percent - points[best][0],
                float(np.quantile(gap, 0.025)),
                float(np.quantile(gap, 0.975)),
            ),
            residual_rms=rms,
            guard_share=share,
            draws=spread,
        )
    return results


PLUG_INS = ("short-run plug-in", "long-run plug-in", "look-ahead")


def _fill(values: Float) -> Float:
    """Last known value of every cell, forward over weeks, then backward for the weeks before the first."""
    filled = values.copy()
    for week in range(1, len(filled)):
        filled[week] = np.where(np.isfinite(filled[week]), filled[week], filled[week - 1])
    for week in reversed(range(len(filled) - 1)):
        filled[week] = np.where(np.isfinite(filled[week]), filled[week], filled[week + 1])
    return filled


def _mean_known(values: Float, fallback: Float) -> Float:
    """Mean over weeks of what is known, else `fallback`."""
    known = np.isfinite(values)
    mean = np.where(known, values, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    return np.where(known.any(0), mean, fallback)
