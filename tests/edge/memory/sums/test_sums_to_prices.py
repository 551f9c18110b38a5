"""From shops' sales to what prices may know: twenty shops of a franchise, and the same shops as rivals."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from support_peers import LAST_WEEK
from support_peers import network as shops_of
from support_sums import CENTRE, LIVE, Consortium, franchise, rivals

from edge.agent.estimate import DemandPrior
from edge.agent.evidence import evidence
from edge.agent.network_state import NetworkState, picture
from edge.agent.peer_prior import peer_prior
from edge.memory.sums.terms import SUM_WEEKS, due_day
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import Roster
from edge.privacy.aggregate import Window
from edge.records.history import CategoryHistory
from edge.records.shared import Unit

SHOPS = 20
SOLD = Window(LAST_WEEK - SUM_WEEKS + 1, SUM_WEEKS)


def within(history: CategoryHistory, window: Window) -> CategoryHistory:
    """The window's weeks alone: no other week is charged for what a sum says."""
    keep = np.isin(history.weeks, list(window))
    columns = ("weeks", "units", "price", "reference", "cost", "deal", "feature", "observed")
    return replace(history, **{name: getattr(history, name)[keep] for name in columns})


def known(history: CategoryHistory, window: Window) -> Sequence[float] | None:
    """What the box hands to its desk: the category's own price coefficient, as the window's sales say it."""
    told = evidence(within(history, window))
    rows = () if told is None else [dict(row.coefficients) for row in told.rows if not row.sku]
    return [terms["price"].mean for terms in rows if "price" in terms] or None


def consortium(tmp_path: Path, roster: Roster) -> tuple[Consortium, list[float]]:
    """Shops that sold; and what each of them knows."""
    histories = [history for history, _ in shops_of(11, SHOPS)]
    values = [known(history, SOLD) for history in histories]
    found = Consortium(tmp_path, roster, values)
    found.today = due_day(SOLD, roster.policy)
    return found, [value[0] for value in values if value is not None]


async def test_a_franchise_learns_from_its_shops_and_no_shop_is_seen(tmp_path: Path) -> None:
    group, values = consortium(tmp_path, franchise(SHOPS, LIVE))
    assert len(values) == SHOPS
    await group.settle()
    assert len({box.memory.digest() for box in group.boxes}) == 1
    week = LAST_WEEK + 1
    clipped = fmean(min(max(value, CENTRE - 0.5), CENTRE + 0.5) for value in values)
    for box in group.boxes:
        seen = picture(box.memory, connected=3, week=week, categories=["juice"])
        context = NetworkState(week, (seen,)).get_context("juice")
        assert context.usable
        assert set(context.insights) == {""}
        said = context.insights[""]["price"]
        assert (said.shops, said.owners, said.week, context.owners) == (SHOPS, 1, LAST_WEEK, 1)
        assert abs(said.mean - clipped) < 5 * said.deviation
        assert said.error >= said.deviation > 0
        assert context.noise == said.deviation
        skus = ["sku-0", "sku-1"]
        prior = peer_prior(context.insights, skus, DemandPrior(), pooled_in=context.pooled_in, week=week)
        assert prior is not None
        assert prior.shops == SHOPS
        assert prior.prior.category_mean is not None
        assert prior.prior.category_mean[0] == pytest.approx(said.mean)


async def test_between_rivals_the_same_sum_is_for_people_and_for_no_price(tmp_path: Path) -> None:
    group, _ = consortium(tmp_path, rivals(SHOPS))
    await group.settle()
    assert len({box.memory.digest() for box in group.boxes}) == 1
    box = group.boxes[0]
    assert box.sum is not None
    assert box.sum[1:] == (SHOPS, SHOPS)
    week = LAST_WEEK + 1 + 13
    seen = picture(box.memory, connected=3, week=week, categories=["juice"])
    assert dict(seen.insights["juice"]) == {}
    assert not NetworkState(week, (seen,)).get_context("juice").usable
    forced = replace(seen, policy=LIVE, one_owner=True, insights={"juice": box.memory.insights("juice", live=False)})
    assert not NetworkState(week, (forced,)).get_context("juice").usable  # its own number says twenty owners


def test_the_centre_of_sums_is_the_shipped_priors() -> None:
    assert DemandPrior().price.mean == CENTRE
    assert Unit.OWNER_WEEK.value == "owner-week"
    assert NetworkPolicy().live_use is False
