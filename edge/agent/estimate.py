"""A category's demand, estimated on the box from its own weekly history: hierarchical, with posterior sd, repeatable.

Units of item i in week t are negative binomial with mean μ and variance μ + dispersion_i μ², and

    ln μ_it = β_i0 + β_i1 x_it + β_i2 L_it + β_i3 feature_it + β_i4 deal_it + β_i5 others_it + season_t + week_t

x is the log price over the item's regular reference, L its geometrically discounted past (L' = decay · L + x: what
lies in the pantries, to first order), `others` the share-weighted mean log price of the category's other items,
season two harmonics of the year and a trend. The
β_i1.. of one category scatter around a mean of the category, which scatters around the shipped prior: an item without
price variation keeps the prior's mean and sd, a new item starts from its category. week_t is a random effect of the
whole category, so that a shock common to all items is not counted once an item.

Where other shops have said what an item's coefficient is (`PeerPrior`), β_ik starts from their mean with their sd, and
no longer from the category: what peers know of the item holds whatever its category does. The category learns from it
as from one more item: their mean is an observation of the category's mean with variance item_sd² + sd², because the
item lies item_sd around its category and peers are off by sd. It is not their word *and* the item's own sales, which
given the item's mean over shops say nothing more about the category. An item that peers know nothing of starts from the
category so informed. Without peers nothing of this is computed: the estimate is what it always was, to the bit.

The mode is found by Newton's method on all parameters at once; the Hessian is an arrow (a small block an item, one
block shared), solved by its Schur complement, and its inverse is the posterior covariance (Laplace). Cells that say
nothing about demand (`observed` False, price unknown) are left out; a week in which an offered item did not sell
counts as what it is. Negative binomial regression: Lawless (1987), Can. J. Statistics 15(3).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.errors import LocalError
from edge.records.history import CategoryHistory

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

TERMS: Final = ("level", "price", "carry", "feature", "deal", "others")
LEVEL, PRICE, CARRY, FEATURE, DEAL, OTHERS = range(6)
_SEASON: Final = 4  # two harmonics of the year
_TREND: Final = _SEASON  # position of the trend among the shared coefficients
_SHARED: Final = _SEASON + 1
_WEEKS_A_YEAR: Final = 365.25 / 7
_NEWTON_STEPS: Final = 40  # eight are usual; a store with noisy weeks needs more until its dispersion settles
_STEP_MAX: Final = 1.5  # log units; keeps the first steps of a far start within what exp() bears
_DISPERSION: Final = (1e-4, 4.0)


@dataclass(frozen=True, slots=True)
class Normal:
    """A coefficient's prior: the category's mean lies around `mean`, an item around its category's mean."""

    mean: float
    category_sd: float
    item_sd: float


@dataclass(frozen=True, slots=True)
class DemandPrior:
    """What is believed of a grocery category before its own sales are seen; logs, weekly."""

    price: Normal = Normal(-2.9, 0.5, 0.75)  # own elasticity
    carry: Normal = Normal(0.36, 0.15, 0.15)  # log units per unit of L: a fifth of a price response is paid back
    feature: Normal = Normal(0.6, 0.25, 0.25)  # log uplift of a week's advertising
    deal: Normal = Normal(0.1, 0.15, 0.15)  # log uplift of a promotion beyond its price
    others: Normal = Normal(1.2, 0.5, 0.3)  # units won when all others get dearer
    decay: float = 0.38  # of L a week; weekly data identify its coefficient, hardly itself
    level_sd: float = 3.0  # log units of an item around its own mean: as good as free
    season_sd: float = 0.15  # log amplitude of a harmonic
    trend_sd: float = 0.10  # log a year
    week_sd: float = 0.20  # log shock of one week common to the category
    dispersion: float = 0.12  # of the negative binomial; squared log sd of an item's own weekly noise
    dispersion_weeks: float = 20.0  # how many weeks of data that belief is worth

    @property
    def normals(self) -> tuple[Normal, ...]:
        """The priors of TERMS[1:], in order."""
        return self.price, self.carry, self.feature, self.deal, self.others


@dataclass(frozen=True, slots=True, eq=False)
class PeerPrior:
    """What other shops' data say of each item's coefficients TERMS[1:] in this shop; logs, rows in a history's order.

    `sd` covers how far shops lie apart and how well peers know their mean. NaN in `mean`: they say nothing of that
    coefficient. `category_mean` and `category_sd` (5,) are what they say of the category's mean beyond its items'
    rows; whoever fills both must not say the same thing twice. Raises `LocalError` for shapes and sds that are none.
    """

    mean: Float  # (n, 5)
    sd: Float  # (n, 5)
    category_mean: Float | None = None  # (5,)
    category_sd: Float | None = None

    def __post_init__(self) -> None:
        if self.mean.ndim != 2 or self.mean.shape[1] != len(TERMS) - 1 or self.sd.shape != self.mean.shape:
            raise LocalError(f"peers' prior has shapes {self.mean.shape} and {self.sd.shape}")
        if (self.category_mean is None) != (self.category_sd is None):
            raise LocalError("peers' prior: a category's mean and its sd go together")
        _check_known(self.mean, self.sd)
        if self.category_mean is not None and self.category_sd is not None:
            if self.category_mean.shape != (len(TERMS) - 1,) or self.category_sd.shape != self.category_mean.shape:
                raise LocalError(f"peers' prior has a category of shape {self.category_mean.shape}")
            _check_known(self.category_mean, self.category_sd)


def _check_known(mean: Float, sd: Float) -> None:
    known = ~np.isnan(mean)
    if not bool(np.all(np.isfinite(mean[known]) & np.isfinite(sd[known]) & (sd[known] > 0))):
        raise LocalError("peers' prior: a mean is infinite, or its sd is no positive number")


@dataclass(frozen=True, slots=True)
class Design:
    """The regressors of a history, (w, n) each, and what cells count."""

    terms: Float  # (w, n, len(TERMS))
    units: Float
    used: Bool
    regular: Float  # (n,) regular reference price, currency units
    share: Float  # (n,) share of revenue over the history: weights of `others`
    x: Float  # (w, n) log price over `regular`; filled forward where unknown
    carry_next: Float  # (n,) L of the week after the last


@dataclass(frozen=True, slots=True)
class DemandPosterior:
    """What is believed after the history; `mean` and `covariance` are of the coefficients TERMS of each item."""

    category: str
    skus: tuple[str, ...]
    regular: Float  # (n,) currency units: x is measured against it
    share: Float  # (n,)
    mean: Float  # (n, 6)
    covariance: Float  # (n, 6, 6)
    category_mean: Float  # (5,) of TERMS[1:]: where a new item starts
    season: Float  # (5,) harmonics and trend a year
    last_week: int
    dispersion: Float  # (n,)
    residual: Float  # (w, n) log units over what is expected without week effects; NaN where not used
    weeks_used: NDArray[np.int64]  # (n,)
    decay: float
    converged: bool

    def sd(self, term: int) -> Float:
        """Posterior sd of a coefficient, (n,)."""
        return np.asarray(np.sqrt(self.covariance[:, term, term]))

    def season_log(self, week: int) -> float:
        """Season and trend of a week, log, as a deviation from the last week seen."""
        rows = _calendar(np.array([self.last_week, week]), self.last_week)
        return float((rows[1] - rows[0]) @ self.season)


def regular_reference(history: CategoryHistory) -> Float:
    """The newest reference price outside promotions (n,); where there is none, the median price; else 1."""
    usable = np.isfinite(history.reference) & (history.reference > 0)
    regular = np.full(len(history.skus), np.nan)
    for wanted in (usable, usable & (history.deal <= 0)):  # the second, better choice overwrites the first
        newest = history.reference[::-1][np.argmax(wanted[::-1], axis=0), np.arange(len(regular))]
        regular = np.where(np.any(wanted, axis=0), newest, regular)
    price = np.where(np.isfinite(history.price) & (history.price > 0), history.price, np.nan)
    for item in np.flatnonzero(~np.isfinite(regular)):
        known = price[np.isfinite(price[:, item]), item]
        regular[item] = np.median(known) if len(known) else 1.0
    return regular


def design(history: CategoryHistory, decay: float, regular: Float | None = None) -> Design:
    """Lay out a history for the regression."""
    weeks, items = history.units.shape
    if weeks < 1 or items < 1:
        raise LocalError("estimate: a history needs at least one week and one item")
    base = regular_reference(history) if regular is None else regular
    priced = np.isfinite(history.price) & (history.price > 0)
    raw = np.where(priced, np.log(np.where(priced, history.price, 1.0) / base), np.nan)
    x = np.empty((weeks, items))
    last = np.zeros(items)
    carry = np.empty((weeks, items))
    stock = np.zeros(items)
    for week in range(weeks):  # over weeks, not items: a recursion, and at most three years of it
        last = np.where(np.isfinite(raw[week]), raw[week], last)
        x[week], carry[week] = last, stock
        stock = decay * stock + last
    units = np.maximum(np.where(np.isfinite(history.units), history.units, 0.0), 0.0)
    revenue = np.sum(np.where(history.observed & priced, units * np.where(priced, history.price, 0.0), 0.0), axis=0)
    share = (revenue + 1e-9) / np.sum(revenue + 1e-9)
    others = (x @ share)[:, None] - x * share
    others = others / np.maximum(1.0 - share, 1e-6) if items > 1 else np.zeros_like(x)
    terms = np.stack([np.ones_like(x), x, carry, _known(history.feature), _known(history.deal), others], axis=-1)
    used = history.observed & priced & np.isfinite(history.units)
    return Design(terms, units, used, base, share, x, stock)


def estimate(
    history: CategoryHistory,
    prior: DemandPrior,
    *,
    start: DemandPosterior | None = None,
    peers: PeerPrior | None = None,
) -> DemandPosterior:
    """The posterior given a history of at least one week.

    `start`: last week's posterior, for speed. `peers`: what other shops know of these items, in the history's order.
    """
    data = design(history, prior.decay)
    if peers is not None and len(peers.mean) != len(history.skus):
        raise LocalError(f"peers' prior is of {len(peers.mean)} items, the history of {len(history.skus)}")
    solver = _Newton(data, prior, history.weeks, peers)
    if start is not None and start.skus == history.skus and bool(np.all(start.regular == data.regular)):
        solver.beta, solver.dispersion = start.mean.copy(), start.dispersion.copy()
    converged = False
    for step in range(_NEWTON_STEPS):
        moved = solver.step()
        solver.update_dispersion()
        if moved < 1e-4 and step >= 3:
            converged = True
            break
    covariance = solver.covariance()
    expected = np.exp(np.clip(solver.linear(week_effects=False), -30.0, 30.0))
    residual = np.where(data.used, np.log((data.units + 0.5) / (expected + 0.5)), np.nan)
    return DemandPosterior(
        category=history.category,
        skus=history.skus,
        regular=data.regular,
        share=data.share,
        mean=solver.beta,
        covariance=covariance,
        category_mean=solver.category,
        season=solver.shared[:_SHARED],
        last_week=int(history.weeks[-1]),
        dispersion=solver.dispersion,
        residual=residual,
        weeks_used=np.sum(data.used, axis=0),
        decay=prior.decay,
        converged=converged,
    )


def predict(posterior: DemandPosterior, history: CategoryHistory) -> Float:
    """Expected units (w, n) of a history's weeks at its prices, by season, trend and coefficients alone."""
    data = design(history, posterior.decay, posterior.regular)
    season = np.array([posterior.season_log(int(week)) for week in history.weeks])
    # the level is that of the last week fitted: the calendar of the fit is zero there by construction
    linear = np.einsum("wnk,nk->wn", data.terms, posterior.mean) + season[:, None]
    return np.asarray(np.exp(np.clip(linear, -30.0, 30.0)))


@dataclass(frozen=True, slots=True)
class ForecastError:
    """How far forecasts lay from sales, over items and weeks of a category."""

    wape: float  # Σ |units − expected| / Σ units
    bias: float  # Σ (expected − units) / Σ units
    cells: int


def forecast_error(units: Float, expected: Float, observed: Bool) -> ForecastError:
    """WAPE and bias of `expected` against `units`; NaN where nothing was sold."""
    seen = observed & np.isfinite(units) & np.isfinite(expected)
    sold = float(np.sum(units[seen]))
    if sold <= 0:
        return ForecastError(float("nan"), float("nan"), int(np.sum(seen)))
    miss = expected[seen] - units[seen]
    return ForecastError(float(np.sum(np.abs(miss))) / sold, float(np.sum(miss)) / sold, int(np.sum(seen)))


def backtest(
    history: CategoryHistory, prior: DemandPrior, weeks: int = 4, *, peers: PeerPrior | None = None
) -> ForecastError:
    """Fit on all but the last `weeks` and forecast those at the prices they had: an honest WAPE before any decision."""
    if len(history.weeks) <= weeks:
        return ForecastError(float("nan"), float("nan"), 0)
    posterior = estimate(weeks_of(history, 0, -weeks), prior, peers=peers)
    expected = predict(posterior, history)[-weeks:]
    return forecast_error(history.units[-weeks:], expected, history.observed[-weeks:])


def weeks_of(history: CategoryHistory, start: int | None, stop: int | None) -> CategoryHistory:
    """The history's rows start..stop."""
    rows = slice(start, stop)
    return CategoryHistory(
        category=history.category,
        skus=history.skus,
        weeks=history.weeks[rows],
        units=history.units[rows],
        price=history.price[rows],
        reference=history.reference[rows],
        cost=history.cost[rows],
        deal=history.deal[rows],
        feature=history.feature[rows],
        observed=history.observed[rows],
    )


def _known(values: Float) -> Float:
    return np.where(np.isfinite(values), values, 0.0)


def _calendar(weeks: NDArray[np.int64], last: int) -> Float:
    """(w, 5) harmonics of the year and years since `last`; zero effect of the trend in week `last`."""
    angle = 2.0 * np.pi * weeks / _WEEKS_A_YEAR
    years = (weeks - last) / _WEEKS_A_YEAR
    return np.stack([np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle), years], axis=-1)


class _Newton:
    """The joint mode of all coefficients. Blocks: β of each item (K), shared = season, trend, weeks, category means."""

    def __init__(self, data: Design, prior: DemandPrior, weeks: NDArray[np.int64], peers: PeerPrior | None) -> None:
        self._data = data
        self._prior = prior
        self._w, self._n, self._k = data.terms.shape
        calendar = _calendar(weeks, int(weeks[-1]))
        self._calendar = calendar - calendar[-1]  # so that β_i0 is the level of the last week
        normals = prior.normals
        self._category_prior = np.array([normal.mean for normal in normals])
        self._category_precision = np.array([normal.category_sd**-2 for normal in normals])
        precision = np.array([prior.level_sd**-2, *(normal.item_sd**-2 for normal in normals)])
        self._item_precision = precision[1:]
        self._precision = np.tile(precision, (self._n, 1))
        self._given = np.zeros((self._n, self._k - 1), dtype=np.bool_)  # coefficients that peers know
        self._peers = np.zeros((self._n, self._k - 1))
        if peers is not None:
            self._take(peers)
        deviations = [prior.season_sd] * _SEASON + [prior.trend_sd] + [prior.week_sd] * self._w
        self._shared_precision = np.array(deviations) ** -2.0
        mean_units = np.sum(np.where(data.used, data.units, 0.0), axis=0) / np.maximum(np.sum(data.used, axis=0), 1)
        self._level = np.log(mean_units + 0.1)
        self.beta = np.tile(np.concatenate([[0.0], self._category_prior]), (self._n, 1))
        self.beta[:, LEVEL] = self._level
        self.beta[:, 1:] = np.where(self._given, self._peers, self.beta[:, 1:])
        self.category = self._category_prior.copy()
        self.shared = np.zeros(_SHARED + self._w)
        self.dispersion = np.full(self._n, prior.dispersion)
        self._inverse: Float | None = None
        self._cross: Float | None = None
        self._schur: Float | None = None

    def _take(self, peers: PeerPrior) -> None:
        """Centre what peers know where they say, and tell the category of it."""
        said, sd = [peers.mean], [np.hypot(peers.sd, self._item_precision**-0.5)]
        if peers.category_mean is not None and peers.category_sd is not None:
            said.append(peers.category_mean[None])
            sd.append(peers.category_sd[None])
        heard = np.concatenate(said)
        known = ~np.isnan(heard)
        weight = np.where(known, np.where(known, np.concatenate(sd), 1.0) ** -2.0, 0.0)
        total = self._category_precision + np.sum(weight, axis=0)
        moved = np.sum(weight * (np.where(known, heard, 0.0) - self._category_prior), axis=0) / total
        self._category_prior = self._category_prior + moved
        self._category_precision = total
        self._given = ~np.isnan(peers.mean)
        self._peers = np.where(self._given, peers.mean, 0.0)
        own = np.where(self._given, peers.sd, 1.0) ** -2.0
        self._precision[:, 1:] = np.where(self._given, own, self._precision[:, 1:])

    def linear(self, *, week_effects: bool = True) -> Float:
        """ln μ (w, n)."""
        common = self._calendar @ self.shared[:_SHARED]
        if week_effects:
            common = common + self.shared[_SHARED:]
        return np.asarray(np.einsum("wnk,nk->wn", self._data.terms, self.beta) + common[:, None])

    def step(self) -> float:
        """One Newton step; the greatest change of any linear predictor."""
        terms, used = self._data.terms, self._data.used
        eta = np.clip(self.linear(), -30.0, 30.0)
        mu = np.exp(eta)
        spread = 1.0 + self.dispersion * mu
        score = np.where(used, (self._data.units - mu) / spread, 0.0)
        weight = np.where(used, mu / spread, 0.0)
        means_now = np.where(self._given, self._peers, self.category)
        centre = np.concatenate([self._level[:, None], means_now], axis=1)
        pull = self._precision * (self.beta - centre)
        weighted = terms * weight[..., None]
        own = np.einsum("wnk,wnl->nkl", weighted, terms) + self._precision[:, :, None] * np.eye(self._k)
        own_slope = np.einsum("wnk,wn->nk", terms, score) - pull
        size = _SHARED + self._w + self._k - 1
        cross = np.zeros((self._n, self._k, size))
        cross[:, :, :_SHARED] = np.einsum("wnk,wg->nkg", weighted, self._calendar)
        cross[:, :, _SHARED : _SHARED + self._w] = weighted.transpose(1, 2, 0)
        terms_after_level = np.arange(1, self._k)
        tied = np.where(self._given, 0.0, self._item_precision)  # to the category: what peers know is not
        cross[:, terms_after_level, _SHARED + self._w + terms_after_level - 1] = -tied
        calendar = np.concatenate([self._calendar, np.eye(self._w)], axis=1)
        total = np.sum(weight, axis=1)
        shared = np.zeros((size, size))
        week_part = slice(0, _SHARED + self._w)
        shared[week_part, week_part] = calendar.T @ (total[:, None] * calendar) + np.diag(self._shared_precision)
        means = slice(_SHARED + self._w, size)
        shared[means, means] = np.diag(np.sum(~self._given, axis=0) * self._item_precision + self._category_precision)
        shared_slope = np.concatenate(
            [
                calendar.T @ np.sum(score, axis=1) - self._shared_precision * self.shared,
                np.sum(np.where(self._given, 0.0, pull[:, 1:]), axis=0)
                - self._category_precision * (self.category - self._category_prior),
            ]
        )
        inverse = np.linalg.inv(own)
        folded = inverse @ cross  # (n, K, size)
        flat_cross, flat_folded = cross.reshape(-1, size), folded.reshape(-1, size)
        schur = shared - flat_cross.T @ flat_folded
        own_step = (inverse @ own_slope[..., None])[..., 0]
        shared_step = np.linalg.solve(schur, shared_slope - flat_cross.T @ own_step.reshape(-1))
        beta_step = own_step - folded @ shared_step
        change = np.einsum("wnk,nk->wn", terms, beta_step) + (calendar @ shared_step[week_part])[:, None]
        largest = float(np.max(np.abs(change)))
        scale = min(1.0, _STEP_MAX / max(largest, 1e-12))
        self.beta = self.beta + scale * beta_step
        self.shared = self.shared + scale * shared_step[week_part]
        self.category = self.category + scale * shared_step[means]
        self._inverse, self._cross, self._schur = inverse, folded, schur
        return largest * scale

    def update_dispersion(self) -> None:
        """Moment estimate of each item's dispersion, pulled towards the category's and the prior's."""
        used = self._data.used
        mu = np.exp(np.clip(self.linear(), -30.0, 30.0))
        weight = np.where(used, (mu / (1.0 + self.dispersion * mu)) ** 2, 0.0)
        excess = np.sum(weight * ((self._data.units - mu) ** 2 - mu) / np.maximum(mu, 1e-9) ** 2, axis=0)
        mass = np.sum(weight, axis=0)
        cells = np.sum(used, axis=0)
        # Fitted residuals are smaller than true ones: an item's own coefficients and its part of the week effects.
        lost = self._k - 1 + self._w / max(self._n, 1)
        grown = cells / np.maximum(cells - lost, 0.4 * cells + 1.0)
        own = np.where(mass > 0, excess / np.maximum(mass, 1e-12) * grown, self._prior.dispersion)
        own = np.clip(own, *_DISPERSION)
        strength = self._prior.dispersion_weeks
        pooled = (np.sum(cells * own) + strength * self._prior.dispersion) / (np.sum(cells) + strength)
        wanted = (cells * own + strength * pooled) / (cells + strength)
        self.dispersion = np.clip(0.5 * self.dispersion + 0.5 * wanted, *_DISPERSION)

    def covariance(self) -> Float:
        """Posterior covariance of each item's coefficients, (n, K, K), the shared ones integrated out."""
        self.step()
        assert self._inverse is not None
        assert self._cross is not None
        assert self._schur is not None
        spread = np.linalg.solve(self._schur, self._cross.reshape(-1, self._schur.shape[0]).T)
        size = self._schur.shape[0]
        spread = spread.T.reshape(self._n, self._k, size)
        joint = np.einsum("nks,nls->nkl", self._cross, spread)
        covariance = self._inverse + joint
        return np.asarray(0.5 * (covariance + covariance.transpose(0, 2, 1)))
