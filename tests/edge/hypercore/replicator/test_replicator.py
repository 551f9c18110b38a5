import asyncio

import pytest
from prometheus_client import CollectorRegistry
from support_memory_core import MemoryCore, turns
from support_network import Link
from support_world import World, numbered

from edge.crypto.keys import KeyPair
from edge.errors import StorageError, StorageFault
from edge.hypercore.merkle import Node
from edge.hypercore.replicator import ReplicationMetrics, Replicator, Session


async def test_a_replica_downloads_everything_and_learns_the_manifest() -> None:
    world = World()
    writer = world.writer(*numbered(1000))
    replica = world.replica(writer)
    link = world.connect(replica, writer)
    download = replica.demand.range(0, 1000)
    world.run()
    assert download.done.done()
    assert replica.blocks == writer.blocks
    assert replica.manifest == writer.manifest
    assert replica.rejected == 0
    assert link.ends[0].strikes == link.ends[1].strikes == []


async def test_appended_blocks_follow_live() -> None:
    world = World()
    writer = world.writer()
    replica = world.replica(writer)
    world.connect(replica, writer)
    replica.demand.range(0)
    world.run(0.2)
    for count in range(1, 30):
        writer.append(numbered(count))
        world.run(0.2)
        assert replica.blocks == writer.blocks
    assert replica.rejected == 0


async def test_a_compat_core_needs_no_manifest() -> None:
    world = World()
    writer = world.writer(*numbered(20), compat=True)
    replica = world.replica(writer)
    world.connect(replica, writer)
    replica.demand.range(0, 20)
    world.run()
    assert replica.blocks == writer.blocks


async def test_single_blocks_come_without_the_rest() -> None:
    world = World()
    writer = world.writer(*numbered(500))
    replica = world.replica(writer)
    world.connect(replica, writer)
    wanted = [replica.demand.block(index) for index in (499, 3, 250)]
    world.run()
    assert all(future.done() for future in wanted)
    assert sorted(replica.blocks) == [3, 250, 499]


async def test_an_upgrade_says_whether_there_is_more() -> None:
    world = World()
    writer = world.writer(*numbered(5))
    replica = world.replica(writer)
    world.replicator(replica)
    assert await replica.demand.upgrade() is False  # nobody is connected
    world.connect(replica, writer)
    newer = replica.demand.upgrade()
    world.run()
    assert newer.result() is True
    again = replica.demand.upgrade()
    world.run()
    assert again.result() is False


@pytest.mark.parametrize("padding", [0, 3])
async def test_a_seek_brings_only_the_nodes_on_the_way(padding: int) -> None:
    world = World()
    writer = world.writer(*[bytes(10 + index % 7) for index in range(300)])
    replica = world.replica(writer)
    world.connect(replica, writer)
    world.run(0.5)
    seek = replica.demand.seek(2000, padding)
    world.run()
    assert seek.done()
    assert not replica.blocks
    assert replica.rejected == 0


async def test_a_seek_among_holes_asks_who_holds_what() -> None:
    world = World()
    writer = world.writer(*numbered(900))
    sparse = world.replica(writer)
    world.connect(sparse, writer)
    for index in range(5, 40):
        sparse.demand.block(index)
    world.run()
    replica = world.replica(writer)
    world.connect(replica, sparse)
    world.run(0.5)
    seek = replica.demand.seek(sum(map(len, numbered(20))))
    world.run()
    assert seek.done()
    assert not replica.blocks


async def test_news_are_not_awaited_of_who_has_truncated_all_away() -> None:
    world = World()
    writer = world.writer(*numbered(20))
    replica = world.replica(writer)
    world.connect(replica, writer)
    replica.demand.range(0)
    world.run()
    writer.truncate(0)
    world.run()
    newer = replica.demand.upgrade()
    world.run()
    assert newer.result() is False


async def test_a_tree_that_cannot_be_read_is_not_the_peers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    writer = world.writer(*numbered(300))
    replica = world.replica(writer)
    link = world.connect(replica, writer)
    world.run(0.5)
    known, calls = replica.known, 0

    def failing(index: int) -> Node | None:
        nonlocal calls
        calls += 1
        if calls % 40 == 39:
            raise StorageError("unreadable", fault=StorageFault.IO)
        return known(index)

    monkeypatch.setattr(replica, "known", failing)
    replica.demand.range(0)
    replica.demand.seek(2500)
    world.run(20.0)
    writer.append(numbered(100, 300))
    writer.truncate(200)
    world.run(20.0)
    monkeypatch.setattr(replica, "known", known)
    world.run(300.0)
    assert not link.ends[0].closed
    assert not link.ends[1].strikes
    assert replica.blocks == writer.blocks


async def test_two_sources_share_the_work_and_no_block_comes_twice() -> None:
    world = World()
    writer = world.writer(*numbered(3000))
    mirror = world.replica(writer)
    world.connect(mirror, writer)
    mirror.demand.range(0, 3000)
    world.run()
    replica = world.replica(writer)
    first, second = world.connect(replica, writer), world.connect(replica, mirror)
    replica.demand.range(0, 3000)
    world.run()
    assert replica.blocks == writer.blocks
    assert replica.accepted <= 3000 + 2
    sent = [sum(map(len, link.ends[1].sent)) for link in (first, second)]
    assert min(sent) > max(sent) / 4
    assert replica.rejected == 0


async def test_a_silent_peer_is_not_waited_for() -> None:
    world = World()
    writer = world.writer(*numbered(2000))
    mirror = world.replica(writer)
    world.connect(mirror, writer)
    mirror.demand.range(0, 2000)
    world.run()
    replica = world.replica(writer)
    silent = world.connect(replica, mirror)
    world.run(0.5)
    silent.latency = 10_000.0
    download = replica.demand.range(0, 2000)
    world.run(1.0)
    assert not replica.blocks
    world.connect(replica, writer)
    world.run(20.0)
    assert download.done.done()
    assert replica.blocks == writer.blocks


async def test_a_slow_peer_hands_its_requests_over_to_an_idle_one() -> None:
    world = World()
    writer = world.writer(*numbered(400))
    mirror = world.replica(writer)
    world.connect(mirror, writer)
    mirror.demand.range(0, 400)
    world.run()
    metrics = ReplicationMetrics(CollectorRegistry())
    replica = world.replica(writer)
    world.replicators[replica] = Replicator(replica, metrics, clock=world.clock.now, call_later=world.clock.call_later)
    world.connect(replica, mirror, latency=1.4)
    world.connect(replica, writer, latency=0.01)
    world.run(6.0)
    replica.demand.range(0, 400)
    world.run(3.0)
    assert replica.blocks == writer.blocks
    assert metrics.hotswaps._value.get() > 0


async def test_a_log_with_holes_says_what_it_holds_when_asked() -> None:
    world = World()
    writer = world.writer(*numbered(900))
    sparse = world.replica(writer)
    world.connect(sparse, writer)
    for index in (*range(5, 40), *range(100, 900, 7)):
        sparse.demand.block(index)
    world.run()
    held = dict(sparse.blocks)
    replica = world.replica(writer)
    link = world.connect(replica, sparse)
    download = replica.demand.range(0, 900)
    world.run()
    assert replica.blocks == held
    assert not download.done.done()
    sparse.demand.block(50)
    world.run()
    assert 50 in replica.blocks  # it was announced, because it was wanted
    world.connect(replica, writer)
    world.run()
    assert replica.blocks == writer.blocks
    assert not link.ends[0].strikes
    assert not link.ends[1].strikes


async def test_a_want_is_taken_back_once_nothing_is_wanted() -> None:
    world = World()
    writer = world.writer(*numbered(900))
    sparse = world.replica(writer)
    world.connect(sparse, writer)
    for index in range(0, 900, 2):
        sparse.demand.block(index)
    world.run()
    replica = world.replica(writer)
    world.connect(replica, sparse)
    download = replica.demand.range(0, 900)
    world.run()
    (wanting,) = [peer for peer in world.replicator(sparse).peers if peer.wants.spans]
    download.cancel()
    world.run()
    assert not wanting.wants.spans
    assert len(replica.blocks) == 450


async def test_the_last_block_of_a_slow_peer_is_not_waited_for() -> None:
    world = World()
    writer = world.writer(*numbered(10))
    mirror = world.replica(writer)
    world.connect(mirror, writer)
    mirror.demand.range(0, 10)
    world.run()
    replica = world.replica(writer)
    silent = world.connect(replica, mirror)
    world.run(1.0)
    silent.latency = 10_000.0
    block = replica.demand.block(7)
    world.run(0.1)
    world.connect(replica, writer)
    world.run(3.0)
    assert block.done()


async def test_cleared_blocks_are_not_asked_of_who_cleared_them() -> None:
    world = World()
    writer = world.writer(*numbered(100))
    replica = world.replica(writer)
    link = world.connect(replica, writer)
    world.run(0.5)
    writer.clear(10, 60)
    world.run(0.5)
    sent = len(link.ends[0].sent)
    replica.demand.block(20)
    world.run(2.0)
    replica.demand.range(0, 100)
    world.run()
    assert sorted(replica.blocks) == [*range(10), *range(60, 100)]
    assert len(link.ends[0].sent) < sent + 12


async def test_a_truncation_is_followed_and_what_is_shared_stays() -> None:
    world = World()
    writer = world.writer(*numbered(200))
    replica = world.replica(writer)
    world.connect(replica, writer)
    replica.demand.range(0)
    world.run()
    accepted = replica.accepted
    writer.truncate(150)
    writer.append(numbered(80, 1000))
    world.run()
    assert replica.fork == writer.fork == 1
    assert replica.blocks == writer.blocks
    assert replica.accepted < accepted + 100  # the 150 that are shared did not come again
    for length in (149, 3, 0):
        writer.truncate(length)
        world.run(0.3)
        writer.append(numbered(7, 2000))
        world.run()
        assert replica.fork == writer.fork
        assert replica.blocks == writer.blocks


async def test_a_first_sight_of_a_log_that_was_truncated_before() -> None:
    world = World()
    writer = world.writer(*numbered(20))
    writer.truncate(12)
    replica = world.replica(writer)
    world.connect(replica, writer)
    replica.demand.range(0)
    world.run()
    assert replica.fork == 1
    assert replica.blocks == writer.blocks


async def test_a_restored_writer_gets_its_own_longer_log_back() -> None:
    world = World()
    pair = KeyPair.generate()
    writer = MemoryCore.writer(pair)
    writer.append(numbered(50))
    restored = MemoryCore.writer(pair)
    restored.append(numbered(30))
    replica = world.replica(writer)
    world.connect(replica, writer)
    replica.demand.range(0)
    world.run()
    world.connect(restored, replica)
    world.run(1.0)
    assert restored.length == 50
    assert world.replicator(restored).missing == 20
    restored.demand.range(0, 50)
    world.run()
    assert restored.blocks == writer.blocks
    assert world.replicator(restored).missing == 0


async def test_two_logs_of_one_writer_freeze_whoever_sees_both() -> None:
    world = World()
    pair = KeyPair.generate()
    one, other = MemoryCore.writer(pair), MemoryCore.writer(pair)
    one.append(numbered(40))
    other.append([*numbered(20), *numbered(30, 500)])
    replica = world.replica(one)
    world.connect(replica, one)
    replica.demand.range(0)
    world.run()
    world.connect(replica, other)
    for _ in range(50):
        world.run(0.1)
        await turns(3)
    assert replica.frozen is not None
    replica.frozen.check()
    assert other.frozen is not None  # it was told, and could check for itself
    assert one.frozen is not None


async def test_unused_channels_are_closed_and_opened_again_on_demand() -> None:
    world = World()
    writer = world.writer(*numbered(10))
    replica = world.replica(writer)
    link = world.connect(replica, writer)
    world.replicator(writer).following = False
    world.run(1.0)
    world.replicator(replica).following = False
    world.run(30.0)
    assert link.ends[0].mux.channels == link.ends[1].mux.channels == 0
    block = replica.demand.block(3)
    world.run(1.0)
    assert block.done()
    world.run(30.0)
    assert link.ends[0].mux.channels == 0
    world.replicator(replica).following = True
    world.run(1.0)
    writer.append(numbered(1, 10))
    world.run(1.0)
    assert replica.length == 11


async def test_who_does_not_upload_is_not_asked() -> None:
    world = World()
    writer = world.writer(*numbered(10))
    world.replicator(writer).uploading = False
    replica = world.replica(writer)
    link = world.connect(replica, writer)
    replica.demand.range(0, 10)
    world.run()
    assert not replica.blocks
    world.replicator(writer).uploading = True
    world.run()
    assert replica.blocks == writer.blocks
    assert not link.ends[1].strikes


async def test_answers_wait_while_the_peer_does_not_read() -> None:
    world = World()
    writer = world.writer(*numbered(600))
    replica = world.replica(writer)
    link = world.connect(replica, writer)
    world.run(0.5)
    link.ends[1].congested = True
    replica.demand.range(0, 600)
    world.run(1.0)
    assert not replica.blocks
    link.ends[1].drain()
    world.run(1.0)
    assert replica.blocks == writer.blocks


async def test_nothing_is_requested_while_the_disk_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.hypercore.replicator.asking.BACKLOG_BYTES_MAX", 200)
    world = World()
    writer = world.writer(*numbered(600))
    replica = MemoryCore(writer.key, later=lambda work: None)  # its disk stands still
    world.connect(replica, writer)
    replica.demand.range(0, 600)
    world.run(0.5)
    replica.settle()
    most = 0
    for _ in range(200):
        world.run(0.1)
        most = max(most, replica.backlog)
        replica.settle()
    assert replica.blocks == writer.blocks
    assert 200 < most < 200 + 600 * 10


async def test_extensions_pass_through_by_name() -> None:
    world = World()
    writer = world.writer(*numbered(1))
    replica = world.replica(writer)
    world.connect(replica, writer)
    heard: list[tuple[str, bytes]] = []
    for name in ("one", "two"):
        world.replicator(replica).on_extension(name, lambda payload, _, name=name: heard.append((name, payload)))  # type: ignore[misc]
    world.run(0.5)
    for name, payload in (("one", b"a"), ("one", b"b"), ("two", b"c"), ("three", b"d"), ("one", b"")):
        world.replicator(writer).send_extension(name, payload)
    world.run(0.5)
    assert heard == [("one", b"a"), ("one", b"b"), ("two", b"c"), ("one", b"")]


async def test_cores_are_looked_up_when_a_peer_asks() -> None:
    world = World()
    writer, unknown = world.writer(*numbered(5)), world.writer()
    replica, stranger = world.replica(writer), world.replica(unknown)
    link = Link(world.clock)
    asked: list[bytes] = []

    def lookup(key: bytes) -> Replicator | None:
        asked.append(key)
        return world.replicator(writer) if key == writer.discovery_key else None

    Session(link.ends[1], lookup)
    session = Session(link.ends[0])
    session.attach(world.replicator(replica))
    session.attach(world.replicator(stranger))
    replica.demand.range(0, 5)
    world.run()
    assert replica.blocks == writer.blocks
    assert set(asked) == {writer.discovery_key, unknown.discovery_key}


async def test_a_core_may_be_opened_slowly() -> None:
    world = World()
    writer, unknown = world.writer(*numbered(5)), world.writer()
    replica, stranger = world.replica(writer), world.replica(unknown)
    link = Link(world.clock)

    async def lookup(key: bytes) -> Replicator | None:
        await asyncio.sleep(0)
        return world.replicator(writer) if key == writer.discovery_key else None

    Session(link.ends[1], lookup)
    session = Session(link.ends[0])
    session.attach(world.replicator(replica))
    session.attach(world.replicator(stranger))
    replica.demand.range(0, 5)
    world.run(0.5)
    await turns()
    world.run()
    assert replica.blocks == writer.blocks
    assert link.ends[0].mux.channels == 1


async def test_a_cut_link_gives_the_work_to_others() -> None:
    world = World()
    writer = world.writer(*numbered(5000))
    replica = world.replica(writer)
    download = replica.demand.range(0, 5000)
    for _ in range(3):
        link = world.connect(replica, writer)
        world.run(0.1)
        link.cut()
        assert world.replicator(replica).peers == []
        world.run(0.1)
    assert replica.blocks
    assert not download.done.done()
    world.connect(replica, writer)
    world.run()
    assert replica.blocks == writer.blocks


async def test_answers_out_of_order_are_kept_until_they_can_be_checked() -> None:
    world = World()
    writer = world.writer(*numbered(700))
    replica = world.replica(writer)
    link = world.connect(replica, writer)
    world.run(0.5)
    peer = world.replicator(replica).peers[0]
    received = peer.replicator.received
    replica.demand.range(0, 700)

    def shuffled(peer, messages):  # type: ignore[no-untyped-def]
        received(peer, messages[::-1])

    peer.replicator.received = shuffled  # type: ignore[method-assign]
    world.run()
    assert replica.blocks == writer.blocks
    assert replica.rejected > 0  # some had to wait
    assert not link.ends[0].strikes


async def test_metrics_count_what_went_over_the_wire() -> None:
    registry = CollectorRegistry()
    metrics = ReplicationMetrics(registry)
    world = World()
    writer = world.writer(*numbered(300))
    replica = world.replica(writer)
    for core in (writer, replica):
        world.replicators[core] = Replicator(core, metrics, clock=world.clock.now, call_later=world.clock.call_later)
    world.connect(replica, writer)
    replica.demand.range(0, 300)
    world.run()
    value = registry.get_sample_value
    size = sum(map(len, writer.blocks.values()))
    assert value("pomona_replication_blocks_received_total") == value("pomona_replication_blocks_sent_total") == 300
    assert value("pomona_replication_received_bytes_total") == value("pomona_replication_sent_bytes_total") == size
    assert value("pomona_replication_requests_sent_total", {"kind": "upgrade"}) == 1
    assert value("pomona_replication_lag_blocks") == 0
    world.replicator(replica).close()
    world.replicator(writer).close()
    world.run(1.0)
