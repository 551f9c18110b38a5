"""A sum in the network's memory: nobody's word, beside what members said, never counted twice."""

import math
from dataclasses import replace

import pytest
from support_shared import WEEK_NOW, network_of, shop_of
from support_sums import LIVE, franchise, rivals

from edge.errors import LocalError
from edge.memory.combine import TERM_RULES
from edge.memory.network import SUMS_MEMBER, NetworkPriceMemory
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import Roster
from edge.records.message import Network
from edge.records.shared import Coefficient, InsightRow, ModelInsight, Protection, Unit

WEEK = WEEK_NOW - 14


def said(
    mean: float, error: float, *, week: int = WEEK, shops: int = 20, owners: int = 1, sku: str = ""
) -> ModelInsight:
    row = InsightRow(sku, 13, (("price", Coefficient(mean, error)),))
    return ModelInsight("juice", week, (row,), Protection(Unit.OWNER_WEEK, 3_000_000, 1000, 0.1, shops, owners))


def memory_of(roster: Roster) -> NetworkPriceMemory:
    return NetworkPriceMemory(roster, currency="EUR", own=min(roster.members))


def test_it_is_told_as_what_it_is_and_grows_old() -> None:
    memory = memory_of(franchise(20, LIVE))
    assert memory.apply_sum(said(-2.5, 0.2), 2, 0)
    assert not memory.apply_sum(said(-2.5, 0.2), 2, 0)
    pooled = memory.insights("juice", now=WEEK)[""]["price"]
    assert (pooled.mean, pooled.shops, pooled.owners, pooled.week) == (-2.5, 20, 1, WEEK)
    assert pooled.error == pytest.approx(math.hypot(0.2, 0.1))
    assert pooled.deviation == pytest.approx(0.1)
    assert pooled.between == TERM_RULES["price"].between
    later = memory.insights("juice", now=WEEK + 25)[""]["price"]
    assert later.error == pytest.approx(math.sqrt(0.2**2 + 0.1**2 + 25 * TERM_RULES["price"].drift ** 2))
    assert memory.insights("juice", now=WEEK + 105) == {}
    assert (memory.peers(), memory.week, memory.sum_epoch("juice", WEEK)) == ((), WEEK, 2)


def test_the_later_epoch_and_the_newer_week_hold() -> None:
    memory = memory_of(replace(franchise(20, LIVE), epoch=3))
    memory.apply_sum(said(-2.0, 0.2), 3, 0)
    assert not memory.apply_sum(said(-9.0, 0.2), 2, 0)
    memory.apply_sum(said(-2.2, 0.2, week=WEEK + 1), 2, 0)
    memory.apply_sum(said(-9.0, 0.2, week=WEEK - 1), 3, 0)
    assert memory.insights("juice")[""]["price"].mean == pytest.approx(-2.2)


def test_where_both_speak_the_surer_one_is_taken_and_not_both() -> None:
    roster = franchise(6, LIVE)
    others = sorted(roster.members)[1:]
    memory = memory_of(roster)
    for member in others[:2]:
        memory.apply(member, 2, 0, said(-4.0, 0.3, shops=1))
    alone = memory.insights("juice")[""]["price"]
    memory.apply_sum(said(-2.5, 0.05), 2, 0)
    assert memory.insights("juice")[""]["price"].mean == -2.5
    assert memory.insights("juice")[""]["price"].shops == 20
    memory.apply_sum(said(-2.5, 5.0), 2, 1)
    assert memory.insights("juice")[""]["price"] == alone
    memory.apply(
        others[0], 2, 1, said(-4.1, 0.3, week=WEEK + 1, sku="a")
    )  # and what only one of them speaks of is kept
    memory.apply_sum(said(-2.0, 0.05, week=WEEK + 1, sku="b"), 2, 2)
    assert set(memory.insights("juice")) == {"", "a", "b"}


def test_between_owners_it_has_five_behind_it_and_reaches_no_price() -> None:
    memory = memory_of(rivals(6))
    with pytest.raises(LocalError):
        memory.apply_sum(said(-2.5, 0.2, owners=4), 2, 0)
    memory.apply_sum(said(-2.5, 0.2, owners=6), 2, 0)
    assert memory.insights("juice", live=False)[""]["price"].owners == 6
    assert memory.insights("juice", live=True) == {}
    kept = memory_of(franchise(6, NetworkPolicy()))  # one owner, whose policy keeps it from prices
    kept.apply_sum(said(-2.5, 0.2), 2, 0)
    assert kept.insights("juice", live=True) == {}
    watched = memory_of(franchise(6, LIVE))
    watched.apply_sum(said(-2.5, 0.2), 2, 0)
    stranger = shop_of(Network.CONSORTIUM, 77, owner="a rival")
    shops = [*(shop_of(Network.CONSORTIUM, number) for number in range(6)), stranger]
    watched.set_roster(network_of(Network.CONSORTIUM, shops, epoch=2))
    assert watched.insights("juice", live=False)
    assert watched.insights("juice", live=True) == {}


def test_no_member_can_speak_in_its_place_and_it_stays_within_bounds() -> None:
    memory = NetworkPriceMemory(franchise(6, LIVE), currency="EUR", bytes_max=64 * 12 * 720)
    with pytest.raises(LocalError):
        memory.apply(SUMS_MEMBER, 2, 0, said(-2.5, 0.2))
    for week in range(40):
        memory.apply_sum(said(-2.5, 0.2, week=WEEK + week), 2, week)
    assert 1 <= len(list(memory.heard.records())) <= 5
    assert memory.insights("juice")[""]["price"].week == WEEK + 39
    assert memory.sum_epoch("juice", WEEK) is None
