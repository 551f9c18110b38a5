"""What a shop tells others of demand: unbiased, calibrated, deaf to what others said, silent where it knows nothing."""

from dataclasses import replace

import numpy as np
import pytest
from support_history import simulate
from support_peers import ITEMS, network, pool

from edge.agent.estimate import PRICE, DemandPosterior, DemandPrior, Normal, PeerPrior, estimate, weeks_of
from edge.agent.evidence import ERROR_MAX, WEEKS_MIN, apart, category, evidence, own
from edge.agent.peer_prior import Insights, peer_prior
from edge.records.history import CategoryHistory
from edge.records.shared import TERMS, Coefficient, InsightRow, ModelInsight
from edge.records.shared_codec import from_value, to_value

PRIOR = DemandPrior()


def price_of(insight: ModelInsight | None) -> dict[str, Coefficient]:
    assert insight is not None
    return {row.sku: dict(row.coefficients)["price"] for row in insight.rows if "price" in dict(row.coefficients)}


def test_it_is_unbiased_and_says_how_sure_it_is() -> None:
    for weeks in (26, 104):
        off, errors = [], []
        for seed in range(20):
            history, truth = simulate(seed, weeks=weeks)
            mean, error = own(estimate(history, apart(PRIOR)), PRIOR)
            off.append(mean[:, 0] - truth.elasticity)
            errors.append(error[:, 0])
        known = np.isfinite(np.array(off))
        assert np.mean(known) > 0.9
        miss, error = np.array(off)[known], np.array(errors)[known]
        # a posterior under the shipped prior would be pulled to -2.9: here the error does not depend on the truth
        assert abs(np.mean(miss)) < 3 * np.std(miss) / np.sqrt(len(miss))
        assert 0.85 < np.std(miss / error) < 1.2


def test_it_does_not_depend_on_where_the_shipped_prior_lies() -> None:
    """With the prior taken out a centre one elasticity away moves the answer by a hundredth of that, not by a third."""
    history, _ = simulate(31, weeks=52)
    elsewhere = replace(PRIOR, price=Normal(-1.9, PRIOR.price.category_sd, PRIOR.price.item_sd))
    here, there = price_of(evidence(history, PRIOR)), price_of(evidence(history, elsewhere))
    assert len(here) >= 10
    moved = [abs(here[sku].mean - there[sku].mean) for sku in here if sku]
    assert max(moved) < 0.02
    shrunk = estimate(history, PRIOR).mean[:, PRICE] - estimate(history, elsewhere).mean[:, PRICE]
    assert np.mean(np.abs(shrunk)) > 0.1


def test_items_that_say_little_are_left_out() -> None:
    history, _ = simulate(32, weeks=52)
    price, observed = history.price.copy(), history.observed.copy()
    price[:, 3] = history.reference[0, 3]  # never moved
    observed[WEEKS_MIN - 1 :, 5] = False  # a week short
    found = evidence(replace(history, price=price, reference=price, observed=observed))
    assert found is not None
    told = {row.sku for row in found.rows}
    assert "sku-3" not in told
    assert "sku-5" not in told
    assert {"", "sku-0", "sku-1", "sku-2", "sku-4"} <= told


def test_nothing_is_said_where_nothing_is_known() -> None:
    history, _ = simulate(33, weeks=WEEKS_MIN - 1)
    assert evidence(history) is None
    still, _ = simulate(34, vary=False)
    assert evidence(still) is None
    assert evidence(replace(history, observed=np.zeros_like(history.observed))) is None


def test_coefficients_beyond_the_error_bound_are_left_out() -> None:
    history, _ = simulate(35, weeks=WEEKS_MIN)
    found = evidence(history)
    assert found is not None
    limit = {
        term: ERROR_MAX * np.hypot(normal.category_sd, normal.item_sd)
        for term, normal in zip(TERMS, PRIOR.normals, strict=True)
    }
    known = [(term, known) for row in found.rows if row.sku for term, known in row.coefficients]
    assert all(coefficient.error <= limit[term] for term, coefficient in known)
    assert len(known) < 5 * 11  # thirteen weeks do not tell all of it


def test_it_travels_and_repeats_to_the_byte() -> None:
    history, _ = simulate(36)
    first, again = evidence(history), evidence(history)
    assert first is not None
    assert first == again
    assert from_value(to_value(first)) == first
    assert [row.sku for row in first.rows] == sorted(row.sku for row in first.rows)
    assert first.rows[0].sku == ""
    assert (first.category, first.week) == (history.category, int(history.weeks[-1]))


def test_the_categorys_row_by_hand() -> None:
    mean = np.full((3, 5), np.nan)
    error = np.full((3, 5), np.nan)
    mean[:2, 0], error[:2, 0] = [-2.0, -4.0], [0.5, 1.0]
    mean[:2, 4], error[:2, 4] = [1.0, 2.0], [0.5, 0.5]
    found, spread = category(mean, error, PRIOR)
    first, second = 1 / (0.75**2 + 0.5**2), 1 / (0.75**2 + 1.0)
    assert found[0] == pytest.approx((-2 * first - 4 * second) / (first + second))
    assert spread[0] == pytest.approx(np.hypot(0.5 * first, 1.0 * second) / (first + second))
    assert found[4] == pytest.approx(1.5)
    assert spread[4] == pytest.approx(0.5)  # their errors are taken for one and the same
    assert np.all(np.isnan(found[1:4]))


def test_pooled_and_used_as_a_prior_it_is_unbiased() -> None:
    """Six networks of eight shops; the ninth, which is new, is not among them."""
    off, sds, alone = [], [], []
    for seed in range(6):
        shops = network(seed, 9)
        heard = [insight for history, _ in shops[:8] if (insight := evidence(history)) is not None]
        newcomer, truth = shops[8]
        week = int(newcomer.weeks[-1])
        told = peer_prior(pool(heard, week=week), newcomer.skus, PRIOR, pooled_in=week, week=week)
        assert told is not None
        assert told.shops == 8
        off.append(told.prior.mean[:, 0] - truth.elasticity)
        sds.append(told.prior.sd[:, 0])
        alone.append(PRIOR.price.mean - truth.elasticity)
    miss = np.concatenate(off)
    assert abs(np.mean(miss)) < 3 * np.std(miss) / np.sqrt(len(miss))
    assert 0.7 < np.std(miss / np.concatenate(sds)) < 1.2  # its sd says how far it is off
    assert np.std(miss) < 0.6 * np.std(np.concatenate(alone))


def rounds(*, echo: bool) -> tuple[list[float], list[float]]:
    """(mean, error) of one item's pooled elasticity in each of 20 weekly rounds in which boxes read each other.

    `echo`: they tell what they believe after reading, instead of what their own data say.
    """
    shops = [history for history, _ in network(7, 6)]
    means, errors = [], []
    pooled: Insights | None = None
    for turn in range(20):
        told: list[ModelInsight] = []
        for history in shops:
            until = weeks_of(history, 0, len(history.weeks) - 20 + turn)
            week = int(until.weeks[-1])
            found = None if pooled is None else peer_prior(pooled, until.skus, PRIOR, pooled_in=week, week=week)
            belief = estimate(until, PRIOR, peers=None if found is None else found.prior)
            said = _belief(belief, until) if echo else evidence(until)
            assert said is not None
            told.append(said)
        pooled = pool(told, week=told[0].week)
        means.append(pooled["sku-0"]["price"].mean)
        errors.append(pooled["sku-0"]["price"].error)
    return means, errors


def _belief(posterior: DemandPosterior, history: CategoryHistory) -> ModelInsight:
    rows = tuple(
        InsightRow(
            sku, 1, (("price", Coefficient(float(posterior.mean[item, PRICE]), float(posterior.sd(PRICE)[item]))),)
        )
        for item, sku in enumerate(posterior.skus)
    )
    return ModelInsight(history.category, int(history.weeks[-1]), rows)


def test_a_network_that_reads_itself_for_twenty_rounds_hears_no_echo() -> None:
    means, errors = rounds(echo=False)
    assert errors[-1] > 0.8 * errors[0]  # 104 weeks instead of 84 make it a little surer, and nothing else does
    assert abs(means[-1] - means[0]) < 1.5 * errors[0]
    # the mistake that it avoids: telling beliefs makes the network surer than its data are
    _, believed = rounds(echo=True)
    assert believed[-1] < 0.6 * errors[-1]


def test_what_others_say_cannot_reach_what_a_shop_tells() -> None:
    history, _ = simulate(37, items=ITEMS)
    before = evidence(history)
    certain = PeerPrior(np.full((ITEMS, 5), -1.0), np.full((ITEMS, 5), 0.01))
    believed = estimate(history, PRIOR, peers=certain)
    assert np.mean(believed.mean[:, PRICE]) > -1.1  # they were heard
    assert evidence(history) == before
