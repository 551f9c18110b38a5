"""From what peers say to a prior: by hand, never too sure, never wider than the shipped one, deaf to nonsense."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.agent.estimate import TERMS as ESTIMATED
from edge.agent.estimate import DemandPrior
from edge.agent.peer_prior import CATEGORY, FLOOR, REACH, Told, peer_prior
from edge.errors import RecordInvalid
from edge.memory.combine import Pooled
from edge.records.shared import TERMS

PRIOR = DemandPrior()
WEEK = 2900
SKUS = ("a", "b", "c")


def said(mean: float = -2.2, error: float = 0.1, between: float = 0.3, **changes: object) -> Pooled:
    return replace(Pooled(mean, error, between, 8, 1, WEEK - 2, 0.0), **changes)  # type: ignore[arg-type]


def told(insights: dict[str, dict[str, Pooled]], *, week: int = WEEK) -> Told | None:
    return peer_prior(insights, SKUS, PRIOR, pooled_in=WEEK, week=week)


def test_the_names_are_those_of_the_estimate() -> None:
    assert ESTIMATED[1:] == TERMS


def test_by_hand() -> None:
    found = told({"b": {"price": said(), "deal": said(0.2, 0.02, 0.05, shops=3, week=WEEK - 9)}})
    assert found is not None
    whole = 0.5**2 + 0.75**2
    kept = (whole - 0.09) / (whole - 0.09 + 0.01)
    assert found.prior.mean[1, 0] == pytest.approx(-2.9 + kept * 0.7)
    assert found.prior.sd[1, 0] == pytest.approx(math.sqrt(0.09 + kept * 0.01))
    assert found.prior.sd[1, 0] == pytest.approx(math.hypot(0.3, 0.1), rel=1e-2)  # √(between² + error²)
    assert np.isfinite(found.prior.mean).sum() == 2
    assert found.prior.category_mean is None
    assert (found.shops, found.week, found.coefficients) == (8, WEEK - 9, 2)


def test_items_come_in_the_order_asked_for_and_strangers_are_not_used() -> None:
    insights = {"c": {"price": said(-2.0)}, "a": {"price": said(-4.0)}, "elsewhere": {"price": said(-1.0)}}
    found = told(insights)
    assert found is not None
    assert found.prior.mean[0, 0] < found.prior.mean[2, 0]
    assert np.isnan(found.prior.mean[1, 0])
    assert told({"elsewhere": {"price": said()}}) is None
    assert told({}) is None


def test_the_categorys_row_speaks_where_no_item_has_one() -> None:
    found = told({CATEGORY: {"price": said(-2.3, 0.1, 0.3), "carry": said(0.3, 0.02, 0.05)}, "a": {"price": said()}})
    assert found is not None
    assert found.prior.category_mean is not None
    assert found.prior.category_sd is not None
    assert np.isnan(found.prior.category_mean[0])  # an item of this shop has its own: it was made of the same sales
    assert found.prior.category_mean[1] == 0.3
    assert found.prior.category_sd[1] == pytest.approx(math.hypot(0.02, 0.05))
    scalar = told({CATEGORY: {"price": said(-2.3, 0.1, 0.3)}})
    assert scalar is not None
    assert scalar.prior.category_mean is not None
    assert scalar.prior.category_mean[0] == -2.3
    assert np.all(np.isnan(scalar.prior.mean))


def test_weeks_since_the_pooling_make_it_wider() -> None:
    spreads = []
    for week in (WEEK, WEEK + 13, WEEK + 52):
        found = told({"a": {"price": said()}}, week=week)
        assert found is not None
        spreads.append(found.prior.sd[0, 0])
    assert spreads == sorted(set(spreads))
    late = told({"a": {"price": said()}}, week=WEEK + 100_000)
    assert late is None  # by then peers know less than the shipped prior


def test_nobody_makes_it_surer_than_the_floor() -> None:
    found = told({"a": {"price": said(-4.0, 0.0, 0.0, shops=10**6)}, CATEGORY: {"carry": said(0.3, 0.0, 0.0)}})
    assert found is not None
    assert found.prior.sd[0, 0] == pytest.approx(FLOOR * PRIOR.price.item_sd)
    assert found.prior.category_sd is not None
    assert found.prior.category_sd[1] == pytest.approx(FLOOR * PRIOR.carry.category_sd)


def test_what_no_honest_pool_says_is_left_out() -> None:
    sd = math.hypot(PRIOR.price.category_sd, PRIOR.price.item_sd)
    for mean in (-2.9 - REACH * sd - 0.01, -2.9 + REACH * sd + 0.01):
        assert told({"a": {"price": said(mean)}}) is None
    assert told({"a": {"price": said(error=sd)}}) is None  # less than the shipped prior knows
    assert told({CATEGORY: {"price": said(-2.9 + REACH * PRIOR.price.category_sd + 0.01)}}) is None
    assert told({CATEGORY: {"price": said(-2.9, error=5.0)}}) is None


@pytest.mark.parametrize(
    "broken",
    [
        said(mean=math.nan), said(error=math.inf), said(between=math.nan), said(error=-0.1), said(between=-1.0),
        said(shops=0), said(owners=0), said(deviation=math.nan), said(deviation=-1.0),
        said(shops=10**6 + 1), said(week=-1), said(week=10_001),
    ],
)  # fmt: skip
def test_numbers_that_no_pooling_makes_are_refused(broken: Pooled) -> None:
    for sku in ("a", CATEGORY):
        with pytest.raises(RecordInvalid):
            told({sku: {"price": broken}})


@given(
    mean=st.floats(-20, 20),
    error=st.floats(0, 1e3),
    between=st.floats(0, 1),
    term=st.sampled_from(TERMS),
    weeks=st.integers(0, 300),
    sku=st.sampled_from(["a", CATEGORY]),
)
def test_no_prior_is_wider_than_the_shipped_one_nor_narrower_than_the_floor(
    *, mean: float, error: float, between: float, term: str, weeks: int, sku: str
) -> None:
    at = TERMS.index(term)
    normal = PRIOR.normals[at]
    between *= normal.item_sd
    found = told({sku: {term: said(mean, error, between)}}, week=WEEK + weeks)
    if found is None:
        return
    if sku == CATEGORY:
        assert found.prior.category_sd is not None
        assert found.prior.category_sd[at] >= FLOOR * normal.category_sd
        return
    sd, centre = found.prior.sd[0, at], found.prior.mean[0, at]
    whole = math.hypot(normal.category_sd, normal.item_sd)
    assert FLOOR * normal.item_sd <= sd <= whole * (1 + 1e-9)
    assert min(mean, normal.mean) - 1e-9 <= centre <= max(mean, normal.mean) + 1e-9
    assert abs(centre - normal.mean) <= REACH * whole * (1 + 1e-9)
