"""Which feeds a roster and the known epochs give, up to where, and in which order."""

from support_shared import epoch_of, network_of, shop_of

from edge.networks.access import FEEDS, FeedKind
from edge.networks.feeds import PRIORITY, feeds_of
from edge.networks.roster import Revocation, Role
from edge.records.message import Network

PRIVATE = Network.PRIVATE


def test_every_writer_has_a_feed_of_each_kind_in_each_epoch() -> None:
    shops = [shop_of(PRIVATE, n) for n in range(3)] + [shop_of(PRIVATE, 9, role=Role.SEEDER)]
    epochs = {number: epoch_of(number) for number in (1, 2)}
    found = feeds_of(network_of(PRIVATE, shops, epoch=2), epochs)
    assert len(found) == 3 * 3 * 2
    for key, feed in found.items():
        shop = next(shop for shop in shops if shop.member.id == feed.member)
        assert key == feed.key == epochs[feed.epoch].feed_key(feed.kind, shop.signers[feed.kind].public_key)
        assert feed.encryption_key == epochs[feed.epoch].encryption_key
        assert feed.limit is None
    kinds = [feed.kind for feed in found.values()]
    assert kinds == sorted(kinds, key=PRIORITY.index)
    assert set(PRIORITY) == set(FeedKind)
    assert kinds[0] is FeedKind.TRENDS
    assert kinds[-1] is FeedKind.PRICES


def test_nothing_is_listed_of_an_epoch_without_its_secret_or_before_a_member_came() -> None:
    shops = [shop_of(PRIVATE, 1), shop_of(PRIVATE, 2, since_epoch=2)]
    found = feeds_of(network_of(PRIVATE, shops, epoch=3), {1: epoch_of(1), 3: epoch_of(3)})
    late = shops[1].member.id
    assert {(feed.member == late, feed.epoch) for feed in found.values()} == {(False, 1), (False, 3), (True, 3)}


def test_a_revoked_members_feeds_end_at_its_lengths() -> None:
    gone, stays = shop_of(PRIVATE, 1), shop_of(PRIVATE, 2)
    revocation = Revocation(gone.member, 2, {FeedKind.PRICES: 7}, "sold")
    roster = network_of(PRIVATE, [gone, stays], epoch=3, revoked=[revocation])
    found = feeds_of(roster, {number: epoch_of(number) for number in (1, 2, 3)})
    of_gone = {(feed.epoch, feed.kind): feed.limit for feed in found.values() if feed.member == gone.member.id}
    assert of_gone == {(1, kind): None for kind in FEEDS[PRIVATE]} | {(2, FeedKind.PRICES): 7}
    assert sum(feed.member == stays.member.id for feed in found.values()) == 9


def test_only_an_open_network_is_not_encrypted() -> None:
    from dataclasses import replace  # noqa: PLC0415

    roster = network_of(Network.PUBLIC, [shop_of(Network.PUBLIC, 1)])
    epochs = {1: epoch_of(1, Network.PUBLIC)}
    (closed,) = feeds_of(roster, epochs).values()
    (opened,) = feeds_of(replace(roster, open=True), epochs).values()
    assert closed.key == opened.key
    assert closed.encryption_key == epochs[1].encryption_key
    assert opened.encryption_key is None
