"""Boxes of one network, over loopback TCP: what reaches whom, by which way, and what does not."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from support_network_boxes import Box, Founder, Reader, categories, stopped_at_the_end, until

from edge.crypto.hashing import discovery_key
from edge.errors import RemoteError, StorageError, StorageFault
from edge.health.metrics import check_conventions
from edge.hypercore.corestore import Corestore
from edge.hyperswarm.address import parse_address
from edge.hyperswarm.connection import connect
from edge.networks.access import FeedKind
from edge.networks.feeds import feeds_of
from edge.networks.metrics import NetworkMetrics
from edge.networks.modes import LinkEvent
from edge.networks.roster import Role
from edge.records.message import Network
from edge.records.shared import ItemDay


async def trio(tmp_path: Path) -> tuple[Founder, Box, Box]:
    """A founder that runs, and two members that do not yet."""
    founder = await Founder.found(tmp_path / "a")
    await founder.start()
    boxes = Box(tmp_path / "b"), Box(tmp_path / "c")
    await founder.admit(*boxes)
    return founder, *boxes


async def test_a_full_mesh_hears_everything_once_and_what_is_critical_first(tmp_path: Path) -> None:
    a, b, c = await trio(tmp_path)
    async with stopped_at_the_end(a, b, c):
        await b.start(a)
        await c.start(a, b)
        for box in (a, b, c):
            name = box.state.name
            await box.say(f"{name}1", f"{name}2")
            await box.say(f"{name}3", kind=ItemDay)
        for box in (a, b, c):
            arrivals = await box.heard(6)
            others = [name for name in "abc" if name != box.state.name]
            assert sorted(categories(arrivals)) == sorted(f"{name}{n}" for name in others for n in (1, 2, 3))
            found = await Reader(box.running).take(100)
            assert [each.kind for each in found] == [FeedKind.TRENDS] * 4 + [FeedKind.PRICES] * 2
            await until(lambda box=box: len(box.running.peers()) == 2)  # type: ignore[misc]
            await until(lambda box=box: box.running.behind == box.running.queued == 0)  # type: ignore[misc]
            await until(lambda box=box: not any(peer.waiting for peer in box.running.peers()))  # type: ignore[misc]
            for peer in box.running.peers():
                assert (peer.owner, peer.behind) == ("acme", 0)
                assert min(peer.bytes_in, peer.bytes_out) > 1000


async def test_a_chain_stores_and_forwards(tmp_path: Path) -> None:
    """C is never connected to A, and A is gone when C comes."""
    a, b, c = await trio(tmp_path)
    async with stopped_at_the_end(a, b, c):
        await b.start(a)
        await a.say("of a")
        await b.heard(1)
        await a.stop()
        await c.start(b)
        assert categories(await c.heard(1)) == ["of a"]
        assert [peer.member for peer in c.running.peers()] == [b.identity.public_key.hex()[:8]]


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


async def test_two_that_dial_each_other_keep_one_connection(tmp_path: Path) -> None:
    a, b, c = await trio(tmp_path)
    async with stopped_at_the_end(a, b, c):
        await b.start(a)
        address = b.address
        await a.stop()
        await a.start(address)
        await a.say("one")
        assert categories(await b.heard(1)) == ["one"]
        await until(lambda: len(a.running.peers()) == len(b.running.peers()) == 1)
        await a.say("two")
        assert categories(await b.heard(2)) == ["one", "two"]


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


async def test_readers_and_those_who_share_nothing_write_no_feeds(tmp_path: Path) -> None:
    a, b, c = await Founder.found(tmp_path / "a"), Box(tmp_path / "b"), Box(tmp_path / "c", share=False)
    async with stopped_at_the_end(a, b, c):
        await a.start()
        await a.admit(b, role=Role.SEEDER)
        await a.admit(c)
        await b.start(a)
        await c.start(b)
        await a.say("for all")
        for box in (b, c):
            assert categories(await box.heard(1)) == ["for all"]
            assert box.running.feeds.epoch is None
            with pytest.raises(StorageError) as caught:
                await box.say("nothing")
            assert caught.value.fault is StorageFault.READ_ONLY


async def test_reading_shares_what_is_left_and_stays_within_its_bounds(tmp_path: Path) -> None:
    a, b, c = await trio(tmp_path)
    async with stopped_at_the_end(a, b, c):
        await b.start(a)
        await c.start(a)
        await b.say(*(f"b{n}" for n in range(40)))
        await c.say("c0", "c1")
        await until(lambda: a.running.behind == 0 and len(a.running.peers()) == 2)
        await a.heard(42)
        reader = Reader(a.running)
        first = await reader.take(10)
        assert len(first) == 10
        assert Counter(categories(first)) == Counter(["c0", "c1", *(f"b{n}" for n in range(8))])
        while await reader.take(7):
            pass
        assert len(reader.arrivals) == 42
        assert await a.running.next({}, 0) == []


async def test_an_open_network_is_read_by_anybody_and_written_by_members(tmp_path: Path) -> None:
    a = await Founder.found(tmp_path / "a", Network.PUBLIC, open_=True)
    async with stopped_at_the_end(a):
        await a.start()
        assert a.folder.roster_secret is None
        connection = await connect(*parse_address(a.address), key_pair=Box(tmp_path / "anybody").identity)
        async with await Corestore.open(tmp_path / "copy") as store, asyncio.timeout(20):
            store.replicate(connection)
            roster = await store.get(key=a.folder.network_id)
            while not roster.length:
                await roster.changed(roster.length, roster.fork)
            assert a.running.peers()[0].owner == ""
        connection.close()
        await connection.wait_closed()


async def test_metrics_tell_overhead_lag_and_peers_by_network(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    metrics = NetworkMetrics(registry)
    a, b, c = await trio(tmp_path)
    await a.stop()
    a.metrics, b.metrics = metrics.of("one"), metrics.of("two")
    async with stopped_at_the_end(a, b, c):
        await a.start()
        await b.start(a)
        await a.say(*(f"category {n}" for n in range(50)))
        await b.heard(50)

        def value(name: str, **labels: str) -> float:
            return registry.get_sample_value(name, labels) or 0.0

        payload = value("pomona_network_bytes_total", network="two", direction="in", layer="payload")
        wire = value("pomona_network_bytes_total", network="two", direction="in", layer="wire")
        assert 10_000 < payload < wire < 2 * payload
        assert value("pomona_network_bytes_total", network="one", direction="out", layer="payload") >= payload
        assert value("pomona_peer_connections", network="one", state="open") == 1
        assert value("pomona_sync_lag_blocks", network="two", feed_kind="trends") == 0
        check_conventions(registry)
    assert registry.get_sample_value("pomona_peer_connections", {"network": "one", "state": "open"}) == 0
