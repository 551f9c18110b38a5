"""Who belongs to a network and who does not, over loopback TCP: revoked members, strangers, other networks; and boxes
that were away.
"""

from pathlib import Path

from prometheus_client import CollectorRegistry
from support_network_boxes import Box, Founder, categories, stopped_at_the_end, trio, until

from edge.crypto.hashing import discovery_key
from edge.errors import RemoteError
from edge.hypercore.corestore import Corestore
from edge.hyperswarm.address import parse_address
from edge.hyperswarm.connection import connect
from edge.networks.access import FeedKind
from edge.networks.feeds import feeds_of
from edge.networks.metrics import NetworkMetrics
from edge.networks.modes import LinkEvent


async def test_who_is_revoked_is_dropped_and_finds_nothing_of_the_next_epoch(tmp_path: Path) -> None:
    a, b, c = await trio(tmp_path)
    async with stopped_at_the_end(a, b, c):
        await b.start(a)
        await c.start(a, b)
        await b.say("first", "second", "third")
        await a.heard(3)
        await c.heard(3)
        await until(lambda: len(a.running.peers()) == len(b.running.peers()) == 2)
        await a.revoke(b, {FeedKind.TRENDS: 2})
        await until(lambda: not b.running.peers() and c.version == a.version)
        await a.say("not for b")
        assert sorted(categories(await c.heard(3))) == ["first", "not for b", "second"]  # up to its length, no further
        assert a.running.feeds.epoch == 2

        assert set(b.folder.epochs()) == {1}
        assert b.version == 0 or b.version < a.version  # it never learns why
        await b.stop()
        roster = a.running.roster
        assert roster is not None
        secret = a.folder.epochs()[2]
        keys = [key for key, feed in feeds_of(roster, {2: secret}).items() if feed.member == a.identity.public_key]
        assert len(keys) == 3
        # Even were it told the keys, nobody would talk to it.
        async with await Corestore.open(b.store_directory) as store:
            copies = [await store.get(key=key) for key in keys]
            try:
                connection = await connect(*parse_address(a.address), key_pair=b.identity)
            except RemoteError:
                pass  # refused while it was still shaking hands
            else:
                store.replicate(connection)
                await connection.wait_closed()
            assert [(copy.length, copy.manifest) for copy in copies] == [(0, None)] * 3

        # Blocks behind its length are given up: nobody gets them from us.
        feeds = feeds_of(roster, a.folder.epochs()).values()
        revoked = next(feed for feed in feeds if feed.member == b.identity.public_key and feed.limit == 2)
        core = await c.running.store.get(key=revoked.key, create=False)
        assert (core.has(1), core.has(2)) == (True, False)


async def test_a_box_goes_on_after_a_restart_and_after_an_epoch_that_it_missed(tmp_path: Path) -> None:
    a, b, c = await trio(tmp_path)
    async with stopped_at_the_end(a, b, c):
        await b.start(a)
        await c.start(a)
        await b.say("before")
        await c.heard(1)
        await b.stop()
        await c.say("meanwhile")
        await a.heard(2)
        await a.rotate()
        await c.say("in the new epoch")
        await b.start()
        assert sorted(categories(await b.heard(2))) == ["in the new epoch", "meanwhile"]
        await until(lambda: b.running.feeds.epoch == 2)
        await b.say("after")
        arrivals = await c.heard(2)
        assert [(each.epoch, each.sequence) for each in arrivals] == [(1, 0), (2, 0)]
        assert categories(arrivals) == ["before", "after"]


async def test_feeds_of_older_epochs_are_completed_when_their_holder_comes_back(tmp_path: Path) -> None:
    a, b, c = await trio(tmp_path)
    async with stopped_at_the_end(a, b, c):
        await b.start(a)
        await b.say("told nobody but a")
        await a.heard(1)
        for _ in range(3):
            await a.rotate()
        await b.stop()
        await c.start(a)
        await until(lambda: c.version == a.version)
        assert categories(await c.heard(1)) == ["told nobody but a"]
        assert a.running.feeds.epoch == 4


async def test_a_peer_that_cannot_be_reached_comes_back(tmp_path: Path) -> None:
    a, b, c = await trio(tmp_path)
    events: list[tuple[int, bool]] = []
    async with stopped_at_the_end(a, b, c):

        def heard(event: LinkEvent, joined: bool) -> None:
            events.append((event.connected, joined))

        b.on_link = heard
        address = a.address
        await a.stop()
        await b.start(address)
        await b.say("waits")
        assert b.running.queued == 1
        await a.start()
        assert categories(await a.heard(1)) == ["waits"]
        await until(lambda: b.running.queued == 0)
        await a.stop()
        await until(lambda: not b.running.peers())
        await a.start()
        await until(lambda: bool(b.running.peers()))
    assert events[:3] == [(1, True), (0, False), (1, True)]


async def test_a_stranger_is_refused_before_anything_is_named(tmp_path: Path) -> None:
    a = await Founder.found(tmp_path / "a")
    registry = CollectorRegistry()
    a.metrics = NetworkMetrics(registry).of("chain")
    async with stopped_at_the_end(a):
        await a.start()
        await a.say("secret")
        seen: list[tuple[str, bytes | None]] = []
        stranger = Box(tmp_path / "stranger")
        try:
            connection = await connect(*parse_address(a.address), key_pair=stranger.identity)
            connection.on_open_request = lambda protocol, channel: seen.append((protocol, channel))
            await connection.wait_closed()
            received = connection.bytes_in
        except RemoteError:
            received = 0
        assert seen == []  # no channel, so no discovery key
        assert received <= 200  # the handshake and the stream's header
        name = "pomona_unauthorized_attempts_total"
        assert registry.get_sample_value(name, {"surface": "peer", "reason": "stranger"}) == 1
        assert not a.running.peers()


async def test_whoever_answers_at_a_peers_address_must_be_a_member(tmp_path: Path) -> None:
    """Here it is a box of another network: nothing is opened with it, by either side."""
    a, other = await Founder.found(tmp_path / "a"), await Founder.found(tmp_path / "other")
    registry = CollectorRegistry()
    a.metrics = NetworkMetrics(registry).of("chain")
    async with stopped_at_the_end(a, other):
        await other.start()
        await a.start(other)
        labels = {"surface": "peer", "reason": "stranger"}
        await until(lambda: bool(registry.get_sample_value("pomona_unauthorized_attempts_total", labels)))
        assert a.running.peers() == other.running.peers() == []


async def test_a_feed_never_crosses_the_networks_of_a_box(tmp_path: Path) -> None:
    """Two networks on one box: who is a member of one gets nothing of the other, not even by its key."""
    inner = await Founder.found(tmp_path / "a", name="inner")
    outer = await Founder.found(tmp_path / "a", name="outer")
    guest = Box(tmp_path / "guest", name="outer")
    async with stopped_at_the_end(inner, outer, guest):
        await inner.start()
        await outer.start()
        assert inner.identity != outer.identity
        await outer.admit(guest)
        await inner.say("inside")
        await outer.say("outside")
        await guest.start(outer)
        await guest.heard(1)
        key = next(iter(inner.running.feeds.keys()))
        stolen = await guest.running.store.get(key=key)  # asks every peer for it
        assert not await stolen.update()
        assert stolen.length == 0
        folders = {path.name for path in (inner.store_directory / "feeds").iterdir()}
        assert discovery_key(key).hex() in folders
        assert folders.isdisjoint({path.name for path in (outer.store_directory / "feeds").iterdir()})
