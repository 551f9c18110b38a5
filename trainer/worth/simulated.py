"""Simulated years: what a new shop loses for not knowing its demand, by how many peers have told it theirs.

Every arm is the same shop in the same weeks under the box's own estimate (a fit a week), look-ahead optimiser and
guard; only the prior that the estimate starts from differs. One more arm knows the shop's true demand. In the first
week a shop has no history and every arm charges the reference prices; the weeks after it count. The loss of an arm is
what the arm that knows everything earned more, in % of the gross profit at reference prices.

Cases:

    no-memory  demand without carry-over, which every box is told. The mean elasticity of the category lies around the
               shipped prior's as that prior says (sd 0.5), because most categories are not the one it was measured on.
    known      the same, but the category is the one that the shipped prior was measured on.
    pantry     that category with stockpiling and promotions.

Peers' evidence is drawn: their own elasticities with the error that evidence has on real weeks (`trainer.worth.real`),
sd 0.5 after two years, half of its square common to all. Simulated promotions have one depth a shop and are always
advertised, so a simulated past would tell price from promotion worse than any real one. Peers of no chain share less.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.agent import demand, estimate
from edge.agent.estimate import DemandPosterior, DemandPrior, Normal, PeerPrior
from edge.agent.situation import PlanRules, model_of
from edge.records.history import CategoryHistory
from edge.records.shared import TERMS
from trainer import belief, desk
from trainer.sim import market, shop
from trainer.sim.randomise import NO_CARRY_OVER, STOCKPILING, Pack, draw_shops
from trainer.sim.sales import draw_units
from trainer.worth import priors, release
from trainer.worth.priors import Evidence

Float = NDArray[np.float64]
T = TypeVar("T")

TRUTH: Final = "knows its demand"
HOLD: Final = "reference prices"
ALONE: Final = "no peers"
CHAIN_SD: Final = (0.35, 0.35)  # (a peer's own, all peers' common) error of an own elasticity, as on real stores
INDEPENDENT_SD: Final = (0.35, 0.15)  # the same of shops with promotion calendars of their own
_SALES: Final = 7  # tells the stream of till counts from the others of a seed


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of world, and what every box is told about it."""

    name: str
    pack: Pack
    prior: DemandPrior
    plan: PlanRules
    category_sd: float  # how far categories' mean elasticities lie around the shipped prior's


_MEMORYLESS: Final = DemandPrior(carry=Normal(0.0, 0.02, 0.02))
_STATIC: Final = PlanRules(category_elasticity=-1.75, traffic=0.0)
CASES: Final = {
    case.name: case
    for case in (
        Case("no-memory", NO_CARRY_OVER, _MEMORYLESS, _STATIC, DemandPrior().price.category_sd),
        Case("known", NO_CARRY_OVER, _MEMORYLESS, _STATIC, 0.0),
        Case("pantry", STOCKPILING, DemandPrior(), PlanRules(traffic=0.0), 0.0),
    )
}


@dataclass(frozen=True, slots=True)
class SimulatedConfig:
    """How much is simulated."""

    seeds: int = 30
    shops: int = 2  # new shops a seed
    weeks: int = 52  # after the first
    peers: tuple[int, ...] = (1, 5, 20, 60)
    owners: tuple[int, ...] = (5, 20, 60)  # one shop each
    epsilons: tuple[float, ...] = (0.5, 1.0, 2.0)
    taken_apart: tuple[int, float] = (20, 1.0)  # owners and ε at which every shape of a release is tried
    independent: tuple[int, ...] = (5, 20)  # peers that are no chain
    context: int = 20  # with so many peers also: the week's demand known exactly, the best a market context could tell
    first_seed: int = 2_000_000


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of starting; `peers` None: the shipped prior alone."""

    name: str
    peers: PeerPrior | None = None
    learns: bool = True
    context: bool = False

    @property
    def idle(self) -> bool:
        """It starts as a shop without peers does."""
        return self.learns and self.peers is None and not self.context


@dataclass(frozen=True, slots=True)
class Result:
    """Losses against `TRUTH`, (seeds, weeks) a week, % of gross profit at reference prices; by arm, in order."""

    case: Case
    config: SimulatedConfig
    value: Mapping[str, Float]  # of J: gross profit and basket value, which is what is optimised
    gross_profit: Mapping[str, Float]
    converged: float  # share of fits

    def loss(self, arm: str, weeks: int, *, of: str = "value") -> Float:
        """Mean loss over the first `weeks` counted weeks, (seeds,)."""
        table: Mapping[str, Float] = getattr(self, of)
        return np.asarray(table[arm][:, :weeks].mean(-1))


def run(case: Case, config: SimulatedConfig, progress: Callable[[int, int], None] | None = None) -> Result:
    """Every arm on every seed."""
    seeds = []
    for index in range(config.seeds):
        seeds.append(_seed(case, config, config.first_seed + index))
        if progress is not None:
            progress(index + 1, config.seeds)
    fits = np.sum([counted for _, _, counted in seeds], axis=0)
    return Result(
        case,
        config,
        value={name: np.stack([value[name] for value, _, _ in seeds]) for name in seeds[0][0]},
        gross_profit={name: np.stack([profit[name] for _, profit, _ in seeds]) for name in seeds[0][1]},
        converged=float(fits[0] / max(fits[1], 1.0)),
    )


def arms(rng: np.random.Generator, case: Case, config: SimulatedConfig, told: Mapping[str, Evidence]) -> list[Arm]:
    """What is compared, the truth first. `told`: evidence of at least as many shops as are asked, by its kind."""
    prior = case.prior
    result = [Arm(TRUTH, learns=False), Arm(HOLD, learns=False), Arm(ALONE)]
    for kind, everyone in told.items():
        for count in config.independent if kind else config.peers:
            known = priors.pool(everyone.of(range(count)), prior)
            result.append(Arm(f"{peers_named(count)}{kind}", known))
            if count == config.context and not kind:
                result.append(Arm(f"{peers_named(count)}, demand shocks known", known, context=True))
    plain = told[""]

    def released(owners: int, epsilon: float, shape: release.Shape, *, replaced: bool) -> PeerPrior | None:
        got = release.release(rng, plain.elasticity[:owners], epsilon, prior, shape, replaced=replaced)
        return release.use(got, prior, plain.skus)

    for owners in config.owners:
        for epsilon in config.epsilons:
            name, shape = f"{owners} owners, ε {epsilon:g}", release.dimension(owners, epsilon)
            result.append(Arm(f"{name}, {shape}", released(owners, epsilon, shape, replaced=True)))
            result.append(Arm(f"{name}, norm", released(owners, epsilon, "norm", replaced=False)))
            if (owners, epsilon) == config.taken_apart:
                result.append(Arm(f"{name}, vector", released(owners, epsilon, "vector", replaced=True)))
                result.append(Arm(f"{name}, norm, replaced", released(owners, epsilon, "norm", replaced=True)))
    return result


def peers_named(count: int) -> str:
    """What the arm of so many peers is called."""
    return f"{count} peer{'' if count == 1 else 's'}"


def _seed(case: Case, config: SimulatedConfig, seed: int) -> tuple[dict[str, Float], dict[str, Float], Float]:
    """Weekly losses of J and of gross profit by arm, and (converged, all) fits."""
    rng = np.random.default_rng(seed)
    pack = _shifted(case.pack, case.category_sd * rng.standard_normal())
    neighbours = max(*config.peers, *config.owners)
    told = _told(rng, pack, neighbours)
    every = arms(rng, case, config, told)
    # whoever was told nothing lives exactly as who has no peers
    lineup = [arm for arm in every if arm.name == ALONE or not arm.idle]
    one = draw_shops(rng, pack, config.shops)
    params = _tiled(one, len(lineup))
    state = _tiled(shop.reset(rng, one), len(lineup))
    at = desk.new_desk(params.price.shape)
    books = [_Book(case, arm, _rows(params, slice(row, row + 1)), row) for row, arm in _spread(lineup, config.shops)]
    truth = belief.true_model(params)
    value, profit = [], []
    for week in range(config.weeks + 1):
        shocks = _tiled(market.draw_shocks(rng, one.market, one.items), len(lineup))
        situation = desk.prepare(
            at,
            _believed(truth, books),
            belief.outlook(state, params),
            cost_base=belief.approved_cost(state, params),
            regular=state.market.log_reference,
            rules=desk.COMPARISON_RULES,
        )
        situation = _informed(situation, books, market.demand_shock(state.market, shocks, params.market)[1])
        prices = np.array([week > 0 and book.arm.name != HOLD for book in books])
        result = situation.execute(np.where(prices[:, None], situation.look_ahead(), 0.0))
        offered = market.offer(state.market, params.market)
        state, outcome, at = desk.live(state, situation, result, shocks, params)
        # the same stream for every arm, so that the same sales give the same counts
        units = np.concatenate(
            [
                draw_units(np.random.default_rng([seed, week, _SALES]), rows)
                for rows in np.split(outcome.units, len(lineup))
            ]
        )
        for row, book in enumerate(books):
            book.close(week, units[row], result.price[row] / desk.MINOR, offered, params)
        if week > 0:
            value.append(outcome.value)
            profit.append(outcome.gross_profit)
    unit = float(shop.reference_profit(one).mean())
    counted = np.array([[book.converged, book.fits] for book in books]).sum(0).astype(np.float64)
    rows = {arm.name: number for number, arm in enumerate(lineup)}
    lived = {arm.name: rows.get(arm.name, rows[ALONE]) for arm in every}
    return _losses(np.stack(value), lived, unit), _losses(np.stack(profit), lived, unit), counted


def _losses(earned: Float, lived: Mapping[str, int], unit: float) -> dict[str, Float]:
    """(weeks, arms · shops) money into weekly losses against the first arm, (weeks,) an arm; `lived`: an arm's row."""
    by_arm = earned.reshape(len(earned), max(lived.values()) + 1, -1).mean(-1)
    losses = 100.0 * (by_arm[:, :1] - by_arm) / unit
    return {name: losses[:, row] for name, row in lived.items()}


def _spread(lineup: list[Arm], shops: int) -> list[tuple[int, Arm]]:
    return list(enumerate(arm for arm in lineup for _ in range(shops)))


class _Book:
    """What one box has seen, and what it makes of it."""

    def __init__(self, case: Case, arm: Arm, params: shop.ShopParams, row: int) -> None:
        self.arm = arm
        self.fits = self.converged = 0
        self._case = case
        self._row = row
        self._regular, self._cost = params.price[0], params.cost[0]
        self._seen: list[_Week] = []
        self._fit: DemandPosterior | None = None

    def close(self, week: int, units: Float, price: Float, offered: market.Offer, params: shop.ShopParams) -> None:
        """The week is over."""
        if not self.arm.learns:
            return
        row = self._row
        reference = self._regular * np.exp(offered.log_reference[row])
        cost = params.cost[row] * np.exp(offered.log_cost[row])
        deal = offered.deal[0, row]
        self._seen.append(_Week(units.astype(np.float64), price, reference, cost, deal))
        self._fit = estimate.estimate(
            _history(self._seen, week), self._case.prior, start=self._fit, peers=self.arm.peers
        )
        self.fits += 1
        self.converged += self._fit.converged

    def model(self) -> demand.DemandModel | None:
        """The planning model; None before the first week and for who knows the truth."""
        return None if self._fit is None else model_of(self._fit, self._regular, self._cost, self._case.plan)


@dataclass(frozen=True, slots=True)
class _Week:
    """A week of one shop, (n,) each; currency units."""

    units: Float
    price: Float
    reference: Float
    cost: Float
    deal: Float


def _history(seen: Sequence[_Week], week: int) -> CategoryHistory:
    """The weeks up to `week`; every simulated promotion is advertised."""
    parts = {part.name: np.stack([getattr(row, part.name) for row in seen]) for part in fields(_Week)}
    shape = parts["units"].shape
    return CategoryHistory(
        category="simulated",
        skus=tuple(str(item) for item in range(shape[1])),
        weeks=np.arange(week + 1 - len(seen), week + 1),
        feature=parts["deal"],
        observed=np.ones(shape, dtype=np.bool_),
        **parts,
    )


def _believed(truth: demand.DemandModel, books: list[_Book]) -> demand.DemandModel:
    """The boxes' models stacked; the truth where a box has none."""
    parts = {part.name: getattr(truth, part.name).copy() for part in fields(demand.DemandModel)}
    for row, book in enumerate(books):
        model = book.model()
        if model is not None:
            for name, values in parts.items():
                values[row] = getattr(model, name)
    return demand.DemandModel(**parts)


def _informed(situation: desk.Situation, books: list[_Book], shock: Float) -> desk.Situation:
    """With this week's demand shock in the place of the forecast, for the arms that are told."""
    told = np.array([book.arm.context for book in books])
    shift = situation.horizon.shift.copy()
    shift[0] = np.where(told[:, None], shock, shift[0])
    return replace(situation, horizon=replace(situation.horizon, shift=shift))


def _told(rng: np.random.Generator, pack: Pack, count: int) -> dict[str, Evidence]:
    """What `count` neighbours would tell, by kind of evidence; the plain kind has no name."""
    params = draw_shops(rng, pack, count)
    true = demand.own_elasticity(belief.true_model(params))
    own, common = rng.standard_normal(true.shape), rng.standard_normal(true.shape[1])
    return {
        kind: _drawn(true + sds[0] * own + sds[1] * common, math.hypot(*sds))
        for kind, sds in (("", CHAIN_SD), (" of no chain", INDEPENDENT_SD))
    }


def _drawn(elasticity: Float, sd: float) -> Evidence:
    """Evidence of own elasticities (S, n) alone."""
    shops, items = elasticity.shape
    mean = np.full((shops, 1 + items, len(TERMS)), np.nan)
    error = np.full_like(mean, np.nan)
    mean[:, 1:, priors.PRICE_AT], error[:, 1:, priors.PRICE_AT] = elasticity, sd
    return Evidence(tuple(str(item) for item in range(items)), mean, error)


def _shifted(pack: Pack, shift: float) -> Pack:
    """The pack of a category whose mean elasticity lies `shift` off; none below what any price can serve."""
    facts = tuple(replace(fact, own_elasticity=max(fact.own_elasticity + shift, 1.3)) for fact in pack.facts)
    return replace(pack, facts=facts)


def _tiled(value: T, times: int) -> T:
    """`times` copies of every shop below each other; numbers stay."""
    return _mapped(value, lambda array: np.concatenate([array] * times))


def _rows(value: T, rows: slice) -> T:
    return _mapped(value, lambda array: array[rows])


def _mapped(value: T, change: Callable[[Float], Float]) -> T:
    if is_dataclass(value) and not isinstance(value, type):
        parts: dict[str, Any] = {part.name: _mapped(getattr(value, part.name), change) for part in fields(value)}
        return replace(value, **parts)
    return change(value) if isinstance(value, np.ndarray) else value  # type: ignore[return-value]
