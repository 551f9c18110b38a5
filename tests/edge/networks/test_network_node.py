"""Boxes of one network, over loopback TCP: what reaches whom, by which way, in which order."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from support_network_boxes import Box, Founder, Reader, categories, stopped_at_the_end, trio, until

from edge.errors import StorageError, StorageFault
from edge.health.metrics import check_conventions
from edge.hypercore.corestore import Corestore
from edge.hyperswarm.address import parse_address
from edge.hyperswarm.connection import connect
from edge.networks.access import FeedKind
from edge.networks.metrics import NetworkMetrics
from edge.networks.roster import Role
from edge.records.message import Network
from edge.records.shared import ItemDay


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
