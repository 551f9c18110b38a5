"""What prices may know of the market: one owner's fresh numbers and nothing else, whatever the memories hold."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_market import LIVE, NOW, picture, price_of, said
from support_peers import network
from support_shared import network_of, shop_of

from edge.agent.evidence import evidence
from edge.agent.market_analyzer import MarketAnalyzer
from edge.agent.network_state import (
    TREND_PARTS,
    ContextRules,
    MarketContext,
    Masked,
    NetworkPicture,
    NetworkState,
    Refusal,
)
from edge.agent.network_state import picture as picture_of
from edge.memory.combine import Pooled
from edge.memory.network import NetworkPriceMemory
from edge.networks.modes import Mode
from edge.networks.policy import NetworkPolicy
from edge.records.message import Network
from edge.records.shared import TrendUpdate

TREND = {"trend": said(0.01), "volatility": said(0.2, deviation=0.4), "season": said(0.1, week=NOW - 5)}


def context_of(*networks: NetworkPicture, rules: ContextRules | None = None) -> MarketContext:
    return NetworkState(NOW, networks, rules or ContextRules()).get_context("juice")


def test_a_box_without_networks_gets_an_empty_context() -> None:
    found = NetworkState(NOW).get_context("juice")
    assert (found.category, found.week, found.mode, found.usable) == ("juice", NOW, Mode.LOCAL_ONLY, False)
    assert (found.peers, found.owners, found.heard_week, found.age_weeks, found.noise) == (0, 0, None, None, 0.0)
    assert (dict(found.insights), dict(found.trends), found.mask) == ({}, {}, ())


def test_a_context_says_who_how_old_and_how_noisy() -> None:
    found = context_of(picture(price_of(2), {"": TREND}))
    assert found.usable
    assert set(found.insights) == {"sku-0", "sku-1"}
    assert found.trends[""]["trend"].mean == 0.01
    assert (found.peers, found.owners, found.heard_week, found.pooled_in) == (8, 1, NOW - 1, NOW)
    assert (found.age_weeks, found.noise, found.mask) == (5, 0.4, ())
    elsewhere = NetworkState(NOW, (picture(price_of(2)),)).get_context("tea")
    assert not elsewhere.usable
    assert elsewhere.peers == 0


@pytest.mark.parametrize(
    ("changes", "number", "reason"),
    [
        ({"one_owner": False}, {}, Refusal.OWNERS),
        ({"owners": 2}, {}, Refusal.OWNERS),  # a revoked member had another owner
        ({}, {"owners": 2}, Refusal.OWNERS),
        ({"network": Network.PUBLIC}, {}, Refusal.OWNERS),
        ({"policy": NetworkPolicy()}, {}, Refusal.POLICY),
        ({}, {"week": NOW - 54}, Refusal.OLD),
        ({}, {"week": NOW + 2}, Refusal.FUTURE),
        ({"policy": NetworkPolicy(live_use=True, shops_min=9, privacy=replace(LIVE.privacy, shops_min=9))}, {},
         Refusal.FEW),
    ],
)  # fmt: skip
def test_what_prices_may_not_know_is_masked_with_its_reason(
    changes: dict[str, Any], number: dict[str, Any], reason: Refusal
) -> None:
    found = context_of(picture(price_of(3, **number), **changes))
    assert not found.usable
    assert found.mask == (Masked("the chain", reason, 3),)
    assert (found.peers, found.owners, found.heard_week) == (0, 0, None)


def test_the_consortium_of_one_owner_is_as_good_as_the_private_network() -> None:
    """A franchise or a co-op under one charter."""
    assert context_of(picture(price_of(1), network=Network.CONSORTIUM)).usable


def test_only_what_is_refused_is_missing() -> None:
    insights = {"sku-0": {"price": said(), "deal": said(0.1, week=NOW - 60)}, "sku-1": {"price": said(shops=1)}}
    found = context_of(picture(insights, {"": {"trend": said(0.0, week=NOW - 14)}}), rules=ContextRules(shops_min=2))
    assert {sku: set(terms) for sku, terms in found.insights.items()} == {"sku-0": {"price"}}
    assert dict(found.trends) == {}
    assert found.mask == (Masked("the chain", Refusal.FEW, 1), Masked("the chain", Refusal.OLD, 2))


def test_nothing_of_rivals_is_in_a_context_beside_ones_own_network() -> None:
    canary = -1.2345
    rivals = picture(
        {"sku-0": {"price": said(canary, 0.001)}, "sku-9": {"price": said(canary)}},
        {"": {"trend": said(canary)}},
        name="the consortium", network=Network.CONSORTIUM, one_owner=False, owners=12,
    )  # fmt: skip
    for order in ((picture(price_of(1)), rivals), (rivals, picture(price_of(1)))):
        found = context_of(*order)
        assert str(canary) not in repr(found)
        assert found.peers == 8
        assert found.insights["sku-0"]["price"].mean == -2.2
        assert found.mask == (Masked("the consortium", Refusal.OWNERS, 3),)


def test_of_two_networks_the_surer_number_is_taken() -> None:
    first = picture({"sku-0": {"price": said(-2.0, 0.3)}, "sku-1": {"price": said(-2.0, 0.1)}}, pooled_in=NOW - 3)
    second = picture({"sku-0": {"price": said(-3.0, 0.1)}, "sku-1": {"price": said(-3.0, math.nan)}}, name="other")
    for order in ((first, second), (second, first)):
        found = context_of(*order)
        assert {sku: terms["price"].mean for sku, terms in found.insights.items()} == {"sku-0": -3.0, "sku-1": -2.0}
        assert found.pooled_in == NOW - 3


@pytest.mark.parametrize(
    ("connected", "mode"),
    [
        ([], Mode.LOCAL_ONLY), ([0, 0], Mode.LOCAL_ONLY), ([1, 0], Mode.PARTIAL),
        ([1, 3], Mode.CONNECTED),
    ],
)  # fmt: skip
def test_the_mode_says_how_much_can_be_reached(connected: list[int], mode: Mode) -> None:
    networks = tuple(picture(connected=count, name=str(number)) for number, count in enumerate(connected))
    assert NetworkState(NOW, networks).mode is mode
    lonely = picture(members=0, connected=0, name="nobody yet")
    assert NetworkState(NOW, (*networks, lonely)).mode is mode
    # what was heard before the cut is still known
    cut = context_of(picture(price_of(1), connected=0))
    assert (cut.mode, cut.usable) == (Mode.LOCAL_ONLY, True)


NUMBERS = st.builds(
    said,
    st.floats(-6, 0),
    st.floats(0, 1),
    owners=st.integers(1, 3),
    shops=st.integers(1, 9),
    week=st.integers(NOW - 80, NOW + 5),
)
PICTURES = st.builds(
    picture,
    st.dictionaries(st.sampled_from(["", "a", "b"]), st.dictionaries(st.sampled_from(["price", "deal"]), NUMBERS)),
    st.dictionaries(st.sampled_from(["", "a"]), st.dictionaries(st.sampled_from(["trend"]), NUMBERS)),
    name=st.sampled_from(["x", "y"]),
    network=st.sampled_from(list(Network)),
    one_owner=st.booleans(),
    owners=st.integers(0, 3),
    policy=st.sampled_from([LIVE, NetworkPolicy()]),
)


@given(st.lists(PICTURES, max_size=4))
def test_every_number_in_a_context_is_lawful_and_every_other_is_counted(networks: list[NetworkPicture]) -> None:
    found = context_of(*networks)
    lawful = [
        each for each in networks
        if each.one_owner and each.owners <= 1 and each.network is not Network.PUBLIC and each.policy.live_use
    ]  # fmt: skip
    given_away = [id(p) for each in lawful for said_ in _numbers(each) for p in said_]
    kept = [p for parts in (found.insights, found.trends) for terms in parts.values() for p in terms.values()]
    assert all(id(p) in given_away and p.owners == 1 and p.week <= NOW + 1 for p in kept)
    assert all(NOW - p.week <= 53 for terms in found.insights.values() for p in terms.values())
    assert all(NOW - p.week <= 13 for terms in found.trends.values() for p in terms.values())
    total = sum(len(numbers) for each in networks for numbers in _numbers(each))
    assert len(kept) + sum(masked.count for masked in found.mask) <= total
    if len(networks) == 1:
        assert len(kept) + sum(masked.count for masked in found.mask) == total


def _numbers(each: NetworkPicture) -> Iterable[list[Pooled]]:
    for said_ in (each.insights["juice"], each.trends["juice"]):
        for terms in said_.values():
            yield list(terms.values())


# --- from a memory ---------------------------------------------------------------------------------------------------


def remembered(policy: NetworkPolicy, *owners: str) -> NetworkPriceMemory:
    """What the first of some shops holds after all of them told what they sold."""
    shops = [shop_of(Network.CONSORTIUM, number, owner=owner) for number, owner in enumerate(owners)]
    roster = network_of(Network.CONSORTIUM, shops, policy=policy)
    memory = NetworkPriceMemory(roster, currency="EUR", own=shops[0].member.id)
    for shop, (history, _) in zip(shops, network(3, len(shops), weeks=52), strict=True):
        told = evidence(history)
        assert told is not None
        assert memory.apply(shop.member.id, 1, 0, told)
        analyzer = MarketAnalyzer()
        analyzer.take_history(history)
        assert memory.apply(shop.member.id, 1, 1, TrendUpdate("juice", told.week, analyzer.rows("juice", told.week)))
    return memory


def test_from_sales_of_shops_of_one_owner_to_a_context() -> None:
    memory = remembered(LIVE, *["acme"] * 5)
    week = memory.week
    found = picture_of(memory, connected=2, week=week, categories=["juice", "tea"])
    assert (found.name, found.one_owner, found.policy) == (memory.roster.name, True, LIVE)
    assert (found.members, found.connected, found.peers, found.owners) == (4, 2, 4, 1)
    assert (found.heard_week, found.pooled_in) == (week, week)
    state = NetworkState(week, (found,))
    heard = state.get_context("juice")
    assert {terms["price"].shops for terms in heard.insights.values()} == {4}  # its own is not among them
    assert set(heard.insights) == {"", *(f"sku-{item}" for item in range(6))}
    assert set(heard.trends[""]) == set(TREND_PARTS)
    assert heard.mask == ()
    memory.clear()  # the memory goes on; the picture stays
    assert state.get_context("juice") == heard
    stricter = picture_of(memory, connected=0, week=week, categories=["juice"], policy=NetworkPolicy())
    assert stricter.policy.live_use is False
    assert not NetworkState(week, (stricter,)).get_context("juice").usable


def test_between_owners_the_memory_is_not_even_asked_for_numbers() -> None:
    memory = remembered(NetworkPolicy(), *(f"owner {number}" for number in range(5)))
    assert memory.insights("juice", live=False)
    found = picture_of(memory, connected=2, week=memory.week, categories=["juice"])
    assert (dict(found.insights["juice"]), dict(found.trends)) == ({}, {})
    assert (found.one_owner, found.owners) == (False, 4)
    # and if a picture held them all the same, the context would refuse them
    forced = replace(found, policy=LIVE, insights={"juice": memory.insights("juice", live=False)})
    context = NetworkState(memory.week, (forced,)).get_context("juice")
    assert not context.usable
    assert {masked.reason for masked in context.mask} == {Refusal.OWNERS}
