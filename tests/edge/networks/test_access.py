"""The matrix: every network, feed and payload, written out by hand."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_shared import PAYLOADS, payload_of, payloads

from edge.errors import RecordInvalid
from edge.networks.access import (
    FEEDS,
    MATRIX,
    ConsortiumPayload,
    FeedKind,
    PrivatePayload,
    PublicPayload,
    check,
    feed_of,
)
from edge.records.message import Network
from edge.records.shared import ItemDay, ModelInsight, Payload, PriceUpdate, RangeUpdate, Raw, TrendUpdate

PRICES, TRENDS, INSIGHTS, SUMS = FeedKind
ALLOWED = {
    (Network.PRIVATE, PRICES, ItemDay),
    (Network.PRIVATE, PRICES, PriceUpdate),
    (Network.PRIVATE, PRICES, RangeUpdate),
    (Network.PRIVATE, TRENDS, TrendUpdate),
    (Network.PRIVATE, INSIGHTS, ModelInsight),
    (Network.CONSORTIUM, PRICES, RangeUpdate),
    (Network.CONSORTIUM, TRENDS, TrendUpdate),
    (Network.CONSORTIUM, INSIGHTS, ModelInsight),
    (Network.PUBLIC, TRENDS, TrendUpdate),
}


@pytest.mark.parametrize("network", Network)
@pytest.mark.parametrize("feed", FeedKind)
@pytest.mark.parametrize("kind", PAYLOADS)
def test_every_combination(network: Network, feed: FeedKind, kind: type[Payload]) -> None:
    payload = payload_of(kind)
    if (network, feed, kind) in ALLOWED:
        check(network, feed, payload)
        return
    with pytest.raises(RecordInvalid) as caught:
        check(network, feed, payload)
    assert caught.value.reason == "matrix"


@given(st.sampled_from(Network), st.sampled_from(FeedKind), payloads())
def test_what_a_payload_holds_never_matters(network: Network, feed: FeedKind, payload: Payload) -> None:
    allowed = (network, feed, type(payload)) in ALLOWED
    try:
        check(network, feed, payload)
    except RecordInvalid:
        assert not allowed
    else:
        assert allowed


def test_each_payload_has_one_feed() -> None:
    assert {kind: feed_of(payload_of(kind)) for kind in PAYLOADS} == {
        ItemDay: PRICES,
        PriceUpdate: PRICES,
        RangeUpdate: PRICES,
        TrendUpdate: TRENDS,
        ModelInsight: INSIGHTS,
    }


def test_the_unions_say_what_the_table_says() -> None:
    assert set(get_args(PrivatePayload)) == MATRIX[Network.PRIVATE] == set(get_args(Payload))
    assert set(get_args(ConsortiumPayload)) == MATRIX[Network.CONSORTIUM]
    assert {PublicPayload} == MATRIX[Network.PUBLIC]
    assert not MATRIX[Network.CONSORTIUM] & set(get_args(Raw))


def test_looser_networks_see_less() -> None:
    assert MATRIX[Network.PUBLIC] < MATRIX[Network.CONSORTIUM] < MATRIX[Network.PRIVATE]


def test_networks_have_the_feeds_they_need_and_no_others() -> None:
    for network in Network:
        needed = {feed for found, feed, _ in ALLOWED if found is network}
        assert set(FEEDS[network]) - {SUMS} == needed
    assert SUMS in FEEDS[Network.CONSORTIUM]
    assert [int(kind) for kind in FeedKind] == [1, 2, 3, 4]  # they stand in keys


class Disguised(RangeUpdate):
    """A raw record dressed as a range: the gate goes by the exact type."""


def test_a_subclass_is_nothing_the_matrix_knows() -> None:
    given = payload_of(RangeUpdate)
    assert isinstance(given, RangeUpdate)
    fake = Disguised(given.category, given.week, given.weeks, given.currency, given.rows)
    for network in Network:
        with pytest.raises(RecordInvalid):
            check(network, PRICES, fake)
