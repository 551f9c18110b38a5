"""The roster as a value: who is admitted, whose feeds count, and up to where."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_shared import network_of, shop_of

from edge.networks.access import FEEDS, FeedKind
from edge.networks.roster import Revocation, Role
from edge.records.message import Network

ONE, TWO, LATE = (shop_of(Network.PRIVATE, n, since_epoch=1 + 2 * (n == 3)) for n in (1, 2, 3))
SEEDER = shop_of(Network.PRIVATE, 4, role=Role.SEEDER)
READER = shop_of(Network.PRIVATE, 5, role=Role.READER)
CLOSER = shop_of(Network.PRIVATE, 6, role=Role.CLOSER)
GONE = Revocation(TWO.member, 3, {FeedKind.PRICES: 40}, "stolen")
ROSTER = network_of(Network.PRIVATE, [ONE, TWO, LATE, SEEDER, READER, CLOSER], epoch=5, revoked=[GONE])
PRICES, TRENDS = FeedKind.PRICES, FeedKind.TRENDS


def test_members_are_admitted_and_nobody_else() -> None:
    for shop in (ONE, LATE, SEEDER, READER, CLOSER):
        assert ROSTER.admits(shop.member.id)
    assert not ROSTER.admits(TWO.member.id)
    assert not ROSTER.admits(bytes(32))
    assert not ROSTER.admits(ONE.member.signers[PRICES])  # a key that signs a feed opens no connection


def test_authorities_are_admitted_and_in_an_open_network_everybody_who_is_not_revoked() -> None:
    signer = bytes([5]) * 32
    assert replace(ROSTER, authorities=(signer,)).admits(signer)
    public = replace(ROSTER, open=True)
    assert public.admits(bytes(32))
    assert not public.admits(TWO.member.id)
    assert public.limit(bytes(32), PRICES, 5) == 0


def test_revoked_means_revoked_even_where_it_is_still_listed() -> None:
    both = replace(ROSTER, members={**ROSTER.members, TWO.member.id: TWO.member})
    assert not both.admits(TWO.member.id)
    assert both.limit(TWO.member.id, PRICES, 5) == 0


@pytest.mark.parametrize(
    ("member", "kind", "epoch", "limit"),
    [
        (ONE, PRICES, 1, None),
        (ONE, PRICES, 5, None),
        (ONE, PRICES, 6, 0),  # of an epoch that is not yet
        (ONE, PRICES, 0, 0),
        (ONE, FeedKind.SUMS, 5, 0),  # a private network has none
        (LATE, PRICES, 2, 0),
        (LATE, PRICES, 3, None),
        (CLOSER, PRICES, 5, None),
        (SEEDER, PRICES, 5, 0),
        (READER, PRICES, 5, 0),
        (TWO, PRICES, 1, None),  # what it said before stays
        (TWO, PRICES, 3, 40),  # up to where it was closed
        (TWO, TRENDS, 3, 0),  # of a kind whose length was not told
        (TWO, PRICES, 4, 0),  # and nothing afterwards
        (TWO, PRICES, 5, 0),
    ],
)
def test_up_to_where_a_feed_counts(member: object, kind: FeedKind, epoch: int, limit: int | None) -> None:
    assert ROSTER.limit(member.member.id, kind, epoch) == limit  # type: ignore[attr-defined]


def test_nothing_of_a_stranger_counts() -> None:
    for kind in FeedKind:
        assert ROSTER.limit(bytes(32), kind, 5) == 0


@pytest.mark.parametrize("role", [Role.SEEDER, Role.READER])
def test_one_who_never_wrote_does_not_write_by_being_revoked(role: Role) -> None:
    idle = shop_of(Network.PRIVATE, 9, role=role)
    roster = network_of(Network.PRIVATE, [ONE], epoch=3, revoked=[Revocation(idle.member, 3, {PRICES: 10}, "left")])
    assert [roster.limit(idle.member.id, PRICES, epoch) for epoch in (1, 2, 3, 4)] == [0, 0, 0, 0]


@given(
    since=st.integers(1, 6),
    closed=st.integers(1, 8),
    length=st.integers(0, 1000),
    current=st.integers(1, 8),
    epoch=st.integers(-1, 10),
    kind=st.sampled_from(FEEDS[Network.PRIVATE]),
)
def test_revoking_never_lets_more_count(
    *, since: int, closed: int, length: int, current: int, epoch: int, kind: FeedKind
) -> None:
    shop = shop_of(Network.PRIVATE, 1, since_epoch=since)
    before = network_of(Network.PRIVATE, [shop], epoch=current)
    revocation = Revocation(shop.member, closed, {kind: length}, "left")
    after = network_of(Network.PRIVATE, [shop], epoch=current, revoked=[revocation])
    then, now = before.limit(shop.member.id, kind, epoch), after.limit(shop.member.id, kind, epoch)
    assert then in (None, 0)
    assert now == 0 if then == 0 else now in (None, length, 0)
    if epoch > closed:
        assert now == 0


def test_owners_are_counted_by_shops_that_write() -> None:
    shops = [shop_of(Network.CONSORTIUM, n, owner=f"owner {n % 3}") for n in range(7)]
    shops.append(shop_of(Network.CONSORTIUM, 7, owner="the auditor", role=Role.READER))
    roster = network_of(Network.CONSORTIUM, shops)
    assert roster.owners == {"owner 0": 3, "owner 1": 2, "owner 2": 2}
    assert not roster.one_owner
    assert ROSTER.one_owner
    office = shop_of(Network.PRIVATE, 8, owner="another", role=Role.READER)
    assert not network_of(Network.PRIVATE, [ONE, office]).one_owner  # who reads counts as well
    assert not network_of(Network.PRIVATE, []).one_owner


def test_writers_are_in_order_and_current() -> None:
    assert [member.id for member in ROSTER.writers] == sorted(s.member.id for s in (ONE, LATE, CLOSER))


@pytest.mark.parametrize("network", Network)
def test_feed_kinds_are_those_of_the_network(network: Network) -> None:
    assert network_of(network, []).feed_kinds == FEEDS[network]
