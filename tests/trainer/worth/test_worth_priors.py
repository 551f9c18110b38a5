"""Evidence and pooling as arrays: the box's own path, nothing added and nothing lost."""

import numpy as np
import pytest

from edge.agent import evidence as box
from edge.agent.estimate import DemandPrior, PeerPrior, estimate
from edge.records.history import CategoryHistory
from edge.records.shared import TERMS
from trainer.worth import priors
from trainer.worth.priors import Evidence

PRIOR = DemandPrior()
ITEMS = 3


def history(seed: int, own: float = -2.5, weeks: int = 60) -> CategoryHistory:
    """A shop whose prices wander; promotions and advertising are none."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.0, 0.12, (weeks, ITEMS))
    units = rng.poisson(60.0 * np.exp(own * x + 0.15 * rng.standard_normal((weeks, ITEMS)))).astype(np.float64)
    still, price = np.zeros((weeks, ITEMS)), 2.0 * np.exp(x)
    return CategoryHistory(
        category="juice",
        skus=tuple("abc"),
        weeks=np.arange(weeks),
        units=units,
        price=price,
        reference=np.full((weeks, ITEMS), 2.0),
        cost=np.full((weeks, ITEMS), 1.4),
        deal=still,
        feature=still,
        observed=np.ones((weeks, ITEMS), dtype=np.bool_),
    )


@pytest.fixture(scope="module")
def told() -> Evidence:
    return priors.evidence([history(seed) for seed in range(8)], PRIOR)


def test_evidence_is_what_the_box_would_publish(told: Evidence) -> None:
    insight = box.evidence(history(3), PRIOR)
    assert insight is not None
    published = {(row.sku, term): value for row in insight.rows for term, value in row.coefficients}
    for row, sku in enumerate(("", *told.skus)):
        for column, term in enumerate(TERMS):
            value = published.get((sku, term))
            assert np.isnan(told.mean[3, row, column]) == (value is None)
            if value is not None:
                assert (told.mean[3, row, column], told.error[3, row, column]) == (value.mean, value.error)
    assert told.elasticity.shape == (8, ITEMS)


def test_a_shop_too_young_to_speak_is_a_row_of_nothing() -> None:
    young = priors.evidence([history(1), history(2, weeks=5)], PRIOR)
    assert np.isfinite(young.elasticity[0]).all()
    assert np.isnan(young.mean[1]).all()
    assert priors.pool(young.of([1]), PRIOR) is None


def test_more_peers_know_more_and_lie_near_the_truth(told: Evidence) -> None:
    one, all_of_them = priors.pool(told.of([0]), PRIOR), priors.pool(told, PRIOR)
    assert one is not None
    assert all_of_them is not None
    assert np.all(all_of_them.sd[:, 0] < one.sd[:, 0])
    assert np.all(np.abs(all_of_them.mean[:, 0] + 2.5) < 2.0 * all_of_them.sd[:, 0])
    assert np.isnan(all_of_them.mean[:, TERMS.index("feature")]).all()  # nobody advertised: nobody knows


def test_the_order_of_peers_does_not_matter(told: Evidence) -> None:
    forward, backward = priors.pool(told, PRIOR), priors.pool(told.of(range(7, -1, -1)), PRIOR)
    assert forward is not None
    assert backward is not None
    np.testing.assert_array_equal(forward.mean, backward.mean)
    np.testing.assert_array_equal(forward.sd, backward.sd)


def test_elasticities_alone_are_elasticities_alone(told: Evidence) -> None:
    everything = priors.pool(told, PRIOR)
    assert everything is not None
    alone = priors.price_only(everything)
    assert alone is not None
    np.testing.assert_array_equal(alone.mean[:, 0], everything.mean[:, 0])
    assert np.isnan(alone.mean[:, 1:]).all()
    assert priors.price_only(None) is None


def test_the_marginal_is_the_estimate_of_an_item_that_never_sold() -> None:
    """A week without a usable cell leaves the estimate at its prior: the marginal must be that."""
    blank = history(0, weeks=1)
    unseen = CategoryHistory(
        **{name: getattr(blank, name) for name in CategoryHistory.__slots__ if name != "observed"},
        observed=np.zeros((1, ITEMS), dtype=np.bool_),
    )
    nothing = np.full((ITEMS, 5), np.nan)
    rows, spread = nothing.copy(), nothing.copy()
    rows[:, 0], spread[:, 0] = (-2.0, -3.0, -4.0), 0.4
    column, width = np.full(5, np.nan), np.full(5, np.nan)
    column[0], width[0] = -2.2, 0.3
    for peers in (None, PeerPrior(rows, spread), PeerPrior(nothing, nothing.copy(), column, width)):
        fit = estimate(unseen, PRIOR, peers=peers)
        mean, variance = priors.marginal(PRIOR, peers, ITEMS)
        np.testing.assert_allclose(fit.mean[:, 1], mean[:, 0], atol=1e-6)
        np.testing.assert_allclose(fit.sd(1) ** 2, variance[:, 0], rtol=1e-6)


def test_own_elasticities_leave_the_shipped_prior_out() -> None:
    found = priors.own_elasticities(history(4, own=-5.0, weeks=100), PRIOR)
    assert found == pytest.approx(np.full(ITEMS, -5.0), abs=0.6)
