"""A core that is known by its key alone and filled by what another proves of itself."""

import asyncio
import errno
import random
import shutil
from pathlib import Path

import pytest
from support_faulty_disk import Faults, FaultyDisk
from support_replica import Open, ask_block, ask_upgrade, closing_cores, take, upgrade

from edge.crypto.keys import KeyPair
from edge.errors import BlockMissing, ConfigError, RemoteError, SignatureError, StorageError, StorageFault
from edge.hypercore.checking import Unanchored
from edge.hypercore.conflict import Conflict
from edge.hypercore.events import Cleared, Closed, Event, Forgotten, Frozen, Grown, Stored, Truncated
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.messages import BlockRef, Request, UpgradeRef
from edge.hypercore.records import CoreHeader, RecordKind
from edge.hypercore.signing import Standing
from edge.storage.files import OsDisk
from edge.storage.log import SegmentLog

PAIR = KeyPair.from_seed(bytes(32))
ENCRYPTION_KEY = b"\x07" * 32


def blocks(count: int, start: int = 0) -> list[bytes]:
    return [b"block %d" % n for n in range(start, start + count)]


@closing_cores
async def test_a_replica_knows_nothing_but_its_key_until_a_peer_proves_more(open_core: Open) -> None:
    writer = await open_core("writer", key_pair=PAIR)
    await writer.append(blocks(100), urgent=True)
    replica = await open_core("replica", key=writer.key)
    assert (replica.manifest, replica.verifier, replica.shown, replica.length) == (None, None, None, 0)
    assert (replica.standing, replica.writable) == (Standing.REPLICA, False)
    events: list[Event] = []
    replica.subscribe(events.append)
    replica.accept(ask_upgrade(writer, replica, block=99))
    assert (replica.length, replica.ahead.length, replica.has(99), replica.pending(99)) == (0, 100, False, True)
    assert replica.backlog > 0
    take(writer, replica, [3, 2, 50])
    await replica.flushed()
    assert (replica.backlog, replica.pending(99), replica.length, replica.fork) == (0, False, 100, 0)
    assert (replica.manifest, replica.shown) == (writer.manifest, writer.shown)
    assert list(replica.held(0, 100)) == [(2, 4), (50, 51), (99, 100)]
    assert events == [Grown(), Stored(2, 4), Stored(50, 51), Stored(99, 100)]
    assert [replica.get(i, proven=True) for i in (2, 3, 50, 99)] == [blocks(100)[i] for i in (2, 3, 50, 99)]
    with pytest.raises(BlockMissing):
        replica.get(4)
    with pytest.raises(IndexError):
        replica.get(100)
    with pytest.raises(StorageError, match="key is missing"):
        await replica.append([b""])
    assert await replica.verify() == 100
    await replica.close()
    assert events[-1] == Closed()


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("derived", ["kept", "lost"])
@closing_cores
async def test_a_replica_is_the_same_after_reopening_and_serves_what_it_holds(
    open_core: Open, tmp_path: Path, compat: bool, derived: str
) -> None:
    writer = await open_core("writer", key_pair=PAIR, compat=compat)
    replica = await open_core("replica", key=writer.key)
    order = list(range(300))
    random.Random(1).shuffle(order)
    for start in (0, 100, 200):
        await writer.append(blocks(100, start), urgent=True)
        upgrade(writer, replica)
        take(writer, replica, [i for i in order if start <= i < start + 100 and i % 5])
        await replica.flushed()
    held, shown = list(replica.held(0, 300)), replica.shown
    assert replica.compat is compat
    await replica.close()
    if derived == "lost":
        shutil.rmtree(tmp_path / "replica" / "derived")
    replica = await open_core("replica", key=writer.key)
    assert (list(replica.held(0, 300)), replica.shown, replica.manifest) == (held, shown, writer.manifest)
    second = await open_core("second", key=writer.key)
    second.accept(ask_upgrade(replica, second))
    take(replica, second, [i for i in order if i % 5])
    await second.flushed()
    assert [second.get(i) for i in range(300) if i % 5] == [blocks(300)[i] for i in range(300) if i % 5]
    with pytest.raises(BlockMissing):
        ask_block(replica, second, 5)
    take(writer, second, range(0, 300, 5))
    await second.flushed()
    assert (second.contiguous, list(second.blocks())) == (300, blocks(300))
    assert await second.verify() == await replica.verify() == 300


@closing_cores
async def test_what_is_not_proven_is_not_taken(open_core: Open) -> None:
    writer = await open_core("writer", key_pair=PAIR)
    other = await open_core("other", key_pair=KeyPair.from_seed(b"\x01" * 32))
    for core in (writer, other):
        await core.append(blocks(64), urgent=True)
    replica = await open_core("replica", key=writer.key)
    with pytest.raises(SignatureError):
        replica.accept(ask_upgrade(other, replica))
    with pytest.raises(RemoteError):
        replica.accept(ask_block(writer, replica, 7))
    assert (replica.manifest, replica.backlog, replica.ahead.length) == (None, 0, 0)
    replica.accept(ask_upgrade(writer, replica))
    good = ask_block(writer, replica, 7)
    assert good.block is not None
    with pytest.raises(SignatureError):
        replica.accept(good._replace(block=good.block._replace(value=b"forged")))
    with pytest.raises(Unanchored):
        replica.accept(good._replace(block=good.block._replace(nodes=good.block.nodes[:1])))
    with pytest.raises(RemoteError, match="fork"):
        replica.accept(good._replace(fork=1))
    assert not replica.pending(7)
    replica.accept(good)
    replica.accept(good)
    await replica.flushed()
    assert list(replica.held(0, 64)) == [(7, 8)]


@closing_cores
async def test_a_reorganisation_keeps_what_both_forks_share(open_core: Open) -> None:
    writer = await open_core("writer", key_pair=PAIR)
    await writer.append(blocks(40), urgent=True)
    replica = await open_core("replica", key=writer.key)
    upgrade(writer, replica)
    take(writer, replica, range(0, 40, 3))
    await replica.flushed()
    late = [ask_block(writer, replica, index) for index in (1, 39)]
    await writer.truncate(33)
    await writer.append(blocks(20, 900), urgent=True)
    for answer in late:
        replica.accept(answer)  # and given up before it is written
    events: list[Event] = []
    replica.subscribe(events.append)
    upgrade(writer, replica)
    assert (replica.ahead.length, replica.length, replica.fork) == (53, 40, 0)
    take(writer, replica, [39, 52])
    await replica.flushed()
    assert (replica.length, replica.fork, replica.shown) == (53, 1, writer.shown)
    assert events == [Truncated(32, 1), Grown(), Stored(39, 40), Stored(52, 53)]
    assert [i for start, end in replica.held(0, 53) for i in range(start, end)] == [*range(0, 32, 3), 39, 52]
    assert [replica.get(i, proven=True) for i in (30, 39, 52)] == [b"block 30", b"block 906", b"block 919"]
    take(writer, replica, range(53))
    await replica.flushed()
    assert list(replica.blocks()) == list(writer.blocks())
    assert await replica.verify() == 53


@closing_cores
async def test_a_restored_backup_takes_what_its_key_signed_and_writes_no_more(open_core: Open, tmp_path: Path) -> None:
    writer = await open_core("writer", key_pair=PAIR)
    await writer.append(blocks(10), urgent=True)
    await writer.close()
    shutil.copytree(tmp_path / "writer", tmp_path / "backup")
    writer = await open_core("writer", key_pair=PAIR)
    await writer.append(blocks(10, 10), urgent=True)
    backup = await open_core("backup", key_pair=PAIR)
    assert backup.writable
    waiting = asyncio.create_task(backup.append([b"too late"]))
    await asyncio.sleep(0)
    upgrade(writer, backup)
    assert backup.standing is Standing.BEHIND
    with pytest.raises(StorageError, match="restored backup") as caught:
        await waiting
    assert caught.value.fault is StorageFault.READ_ONLY
    await backup.flushed()
    assert (backup.length, backup.shown, list(backup.held(0, 20))) == (20, writer.shown, [(0, 10)])
    take(writer, backup, range(10, 20))
    await backup.flushed()
    assert list(backup.blocks()) == blocks(20)
    for refused in (backup.append([b""]), backup.truncate(3), backup.sign()):
        with pytest.raises(StorageError, match="restored backup"):
            await refused
    await backup.close()
    backup = await open_core("backup", key_pair=PAIR)
    assert (backup.standing, backup.length) == (Standing.BEHIND, 20)
    assert await backup.verify() == 20


@closing_cores
async def test_blocks_written_while_the_missing_history_arrives_give_way_to_it(open_core: Open, tmp_path: Path) -> None:
    writer = await open_core("writer", key_pair=PAIR)
    await writer.append(blocks(10), urgent=True)
    await writer.close()
    shutil.copytree(tmp_path / "writer", tmp_path / "backup")
    writer = await open_core("writer", key_pair=PAIR)
    await writer.append(blocks(10, 10), urgent=True)
    backup = await open_core("backup", key_pair=PAIR)
    answer = ask_upgrade(writer, backup)
    waiting = asyncio.create_task(backup.append([b"another eleventh"], urgent=True))
    for _ in range(4):  # the append is being written
        await asyncio.sleep(0)
    backup.accept(answer)
    with pytest.raises(StorageError):
        await waiting
    await backup.flushed()
    assert (backup.length, backup.shown, list(backup.held(0, 20))) == (20, writer.shown, [(0, 10)])
    take(writer, backup, range(10, 20))
    await backup.flushed()
    await backup.close()
    shutil.rmtree(tmp_path / "backup" / "derived")
    backup = await open_core("backup", key_pair=PAIR)
    assert list(backup.blocks()) == blocks(20)
    assert await backup.verify() == 20


@closing_cores
async def test_a_copy_is_not_written_until_it_is_released(open_core: Open) -> None:
    core = await open_core("core", key_pair=PAIR)
    await core.append(blocks(3), urgent=True)
    await core.close()
    core = await open_core("core", key_pair=PAIR, held=True)
    assert (core.standing, core.shown is not None) == (Standing.HELD, True)
    with pytest.raises(StorageError, match="old copy"):
        await core.append(blocks(1))
    core.release()
    assert await core.append(blocks(1), urgent=True) == 4


@closing_cores
async def test_a_conflict_freezes_for_good(open_core: Open, tmp_path: Path) -> None:
    core = await open_core("core", key_pair=PAIR)
    await core.append(blocks(5), urgent=True)
    await core.close()
    shutil.copytree(tmp_path / "core", tmp_path / "twin")
    core, twin = await open_core("core", key_pair=PAIR), await open_core("twin", key_pair=PAIR)
    await core.append([b"one"], urgent=True)
    await twin.append([b"other"], urgent=True)
    one, other = (each.prove(Request(0, 0, upgrade=UpgradeRef(0, 6))).upgrade for each in (core, twin))
    assert one is not None
    assert other is not None
    assert core.manifest is not None
    with pytest.raises(SignatureError):
        await core.conflict(Conflict(core.key, core.manifest, 0, 6, one, one))
    assert not core.frozen
    events: list[Event] = []
    core.subscribe(events.append)
    late = asyncio.create_task(core.fetch(9))
    follower = asyncio.create_task(core.changed(6, 0))
    await asyncio.sleep(0)
    conflict = Conflict(core.key, core.manifest, 0, 6, one, other)
    await core.conflict(conflict)
    await core.conflict(conflict)
    assert events[-1] == Frozen()
    for waiting in (late, follower):
        with pytest.raises(StorageError, match="frozen"):
            async with asyncio.timeout(10):
                await waiting
    for _ in range(2):
        assert (core.frozen, core.standing) == (conflict, Standing.FROZEN)
        assert core.shown is None
        with pytest.raises(StorageError, match="frozen"):
            await core.append([b""])
        with pytest.raises(RemoteError):
            core.prove(Request(1, 0, block=BlockRef(0, 0)))
        assert core.get(5) == b"one"
        for vain in (core.fetch(9), core.changed(6, 0)):
            with pytest.raises(StorageError, match="frozen"):
                async with asyncio.timeout(10):
                    await vain
        with pytest.raises(StorageError, match="frozen"):
            core.download(9)
        await core.close()
        core = await open_core("core", key_pair=PAIR)


@pytest.mark.parametrize("encrypted", [False, True])
@closing_cores
async def test_cleared_blocks_leave_room_and_proofs(open_core: Open, tmp_path: Path, encrypted: bool) -> None:
    key = ENCRYPTION_KEY if encrypted else None
    core = await open_core("core", key_pair=PAIR, encryption_key=key)
    events: list[Event] = []
    core.subscribe(events.append)
    await core.append(blocks(100), urgent=True)
    await core.clear(10, 20)
    await core.clear(15, 70)
    await core.clear(99)
    assert events[-3:] == [Cleared(10, 20), Cleared(20, 70), Cleared(99, 100)]
    shown = core.shown
    for _ in range(2):
        assert list(core.held(0, 100)) == [(0, 10), (70, 99)]
        assert (core.length, core.byte_length, core.shown) == (100, sum(map(len, blocks(100))), shown)
        with pytest.raises(BlockMissing):
            core.get(15)
        assert core.get(9, proven=True) == b"block 9"
        assert core.get(70, proven=True) == b"block 70"
        assert await core.verify() == 100
        await core.close()
        shutil.rmtree(tmp_path / "core" / "derived")
        core = await open_core("core", key_pair=PAIR, encryption_key=key)
    assert await core.append([b"more"], urgent=True) == 101
    replica = await open_core("replica", key=core.key, encryption_key=key)
    replica.accept(ask_upgrade(core, replica))
    take(core, replica, [0, 9, 70, 98, 100])
    await replica.flushed()
    assert [replica.get(i) for i in (0, 9, 70, 98, 100)] == [*(b"block %d" % i for i in (0, 9, 70, 98)), b"more"]
    await core.truncate(95)
    assert list(core.held(0, 100)) == [(0, 10), (70, 95)]


@closing_cores
async def test_a_cleared_block_can_be_fetched_again(open_core: Open, tmp_path: Path) -> None:
    writer = await open_core("writer", key_pair=PAIR)
    await writer.append(blocks(20), urgent=True)
    replica = await open_core("replica", key=writer.key)
    upgrade(writer, replica)
    take(writer, replica, range(20))
    await replica.flushed()
    await replica.clear(0, 20)
    assert (replica.contiguous, list(replica.held(0, 20))) == (0, [])
    fetching = asyncio.create_task(replica.fetch(7))
    await asyncio.sleep(0)
    take(writer, replica, [7])
    assert await fetching == b"block 7"
    await replica.close()
    shutil.rmtree(tmp_path / "replica" / "derived")
    replica = await open_core("replica", key=writer.key)
    assert list(replica.held(0, 20)) == [(7, 8)]
    take(writer, replica, [6, 19])
    await replica.flushed()
    assert await replica.verify() == 20


@closing_cores
async def test_a_blind_replica_keeps_what_it_cannot_read(open_core: Open) -> None:
    writer = await open_core("writer", key_pair=PAIR, encryption_key=ENCRYPTION_KEY)
    await writer.append(blocks(9), urgent=True)
    blind = await open_core("blind", key=writer.key, encrypted=True)
    reader = await open_core("reader", key=writer.key, encryption_key=ENCRYPTION_KEY)
    for replica in (blind, reader):
        upgrade(writer, replica)
        take(writer, replica, range(9))
        await replica.flushed()
        assert replica.byte_length == writer.byte_length
    assert list(reader.blocks()) == blocks(9)
    with pytest.raises(ConfigError, match="encrypted"):
        blind.get(0)
    await blind.close()
    blind = await open_core("blind", key=writer.key, encryption_key=ENCRYPTION_KEY)
    assert list(blind.blocks()) == blocks(9)


@closing_cores
async def test_seeking_needs_the_nodes_on_the_way_only(open_core: Open) -> None:
    writer = await open_core("writer", key_pair=PAIR, encryption_key=ENCRYPTION_KEY)
    content = [b"x" * (n % 7) for n in range(77)]
    await writer.append(content, urgent=True)
    offset = 0
    for index, block in enumerate(content):
        for within in range(len(block)):
            assert await writer.seek(offset + within) == (index, within)
        offset += len(block)
    assert await writer.seek(offset) == (77, 0)
    for wrong in (-1, offset + 1):
        with pytest.raises(IndexError):
            await writer.seek(wrong)
    replica = await open_core("replica", key=writer.key, encryption_key=ENCRYPTION_KEY)
    upgrade(writer, replica)
    take(writer, replica, [41])
    at = sum(map(len, content[:41]))
    assert await replica.seek(at) == (41, 0)
    waiting = asyncio.create_task(replica.seek(0))
    await asyncio.sleep(0)
    assert [(wish.offset, wish.padding) for wish in replica.demand.seeks] == [(0, 8)]
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


@closing_cores
async def test_what_the_disk_refuses_is_forgotten_and_may_come_again(tmp_path: Path, open_core: Open) -> None:
    writer = await open_core("writer", key_pair=PAIR)
    await writer.append(blocks(50), urgent=True)
    faults = Faults()
    log, derived = FaultyDisk(tmp_path / "log", faults), FaultyDisk(tmp_path / "derived", faults)
    replica = await Hypercore.open_on(log, derived, header=CoreHeader(None, encrypted=False, key=writer.key))
    try:
        upgrade(writer, replica)
        await replica.flushed()
        events: list[Event] = []
        replica.subscribe(events.append)
        faults.fail("datasync", errno.ENOSPC, suffix=".seg")
        take(writer, replica, range(10))
        with pytest.raises(StorageError) as caught:
            await replica.flushed()
        assert events == [Forgotten(caught.value)]
        assert (replica.backlog, replica.pending(3), replica.has(3), replica.length) == (0, False, False, 50)
        faults.heal()
        take(writer, replica, range(10))
        await replica.flushed()
        assert (events[1:], replica.contiguous) == ([Stored(0, 10)], 10)
        assert await replica.verify() == 50
    finally:
        await replica.close()


@closing_cores
async def test_damaged_nodes_are_made_again_before_a_peer_is_blamed(open_core: Open, tmp_path: Path) -> None:
    writer = await open_core("writer", key_pair=PAIR)
    await writer.append(blocks(64), urgent=True)
    replica = await open_core("replica", key=writer.key)
    upgrade(writer, replica)
    take(writer, replica, [0, 63])
    await replica.flushed()
    await replica.close()
    path = tmp_path / "replica" / "derived" / "tree"
    data = bytearray(path.read_bytes())
    data[40 * 5 + 20] ^= 1  # node 5, over blocks 2 and 3: known as a sibling of block 0's way
    path.write_bytes(data)
    replica = await open_core("replica", key=writer.key)
    take(writer, replica, [2])
    await replica.flushed()
    assert replica.get(2, proven=True) == b"block 2"
    bad = ask_block(writer, replica, 40)
    assert bad.block is not None
    with pytest.raises(SignatureError):
        replica.accept(bad._replace(block=bad.block._replace(value=b"forged")))
    await replica.close()
    path.write_bytes(bytes(len(data)))
    checkpoint = tmp_path / "replica" / "derived" / "checkpoint"
    assert checkpoint.exists()
    replica = await open_core("replica", key=writer.key)
    second = await open_core("second", key=writer.key)
    upgrade(replica, second)
    take(replica, second, [0, 2, 63])


@closing_cores
async def test_changed_and_fetch_wake_up(open_core: Open) -> None:
    writer = await open_core("writer", key_pair=PAIR)
    changed = asyncio.create_task(writer.changed(0, 0))
    fetched = asyncio.create_task(writer.fetch(1))
    await writer.append(blocks(2), urgent=True)
    await changed
    assert await fetched == b"block 1"
    await writer.changed(1, 0)
    with pytest.raises(BlockMissing):
        await writer.fetch(2, timeout_s=0.01)
    assert not await writer.update()
    waiting = [asyncio.create_task(writer.changed(2, 0)), asyncio.create_task(writer.fetch(9))]
    download = writer.download()
    await asyncio.sleep(0)
    await writer.close()
    for error in await asyncio.gather(*waiting, download.done, return_exceptions=True):
        assert isinstance(error, StorageError)


@pytest.mark.parametrize("ours", [True, False], ids=["writer", "replica"])
@closing_cores
async def test_the_room_of_cleared_blocks_is_freed_and_the_log_still_says_everything(
    open_core: Open, tmp_path: Path, ours: bool
) -> None:
    writer = await open_core("source", key_pair=PAIR)
    content = [b"%0100d" % n for n in range(3000)]
    folders = OsDisk(tmp_path / "log", create=True), OsDisk(tmp_path / "derived", create=True)
    header = CoreHeader(writer.verifier, encrypted=False)
    made = SegmentLog.open(folders[0], create=True, segment_bytes=64 * 1024)
    made.stage(RecordKind.HEADER, header.encode())
    made.commit()
    made.close()
    pair = PAIR if ours else None
    core = await Hypercore.open_on(*folders, header=header, key_pair=pair)
    for start in range(0, 3000, 250):
        if ours:
            await core.append(content[start : start + 250], urgent=True)
        else:
            await writer.append(content[start : start + 250], urgent=True)
            upgrade(writer, core)
            take(writer, core, [n for n in range(start, start + 250) if n % 3])
            await core.flushed()
    before = core._state.log.storage_bytes
    held = {n for n in range(3000) if ours or n % 3}
    for start, end in ((10, 800), (900, 2100), (2300, 2301), (2200, 2600)):
        await core.clear(start, end)
        held -= set(range(start, end))
    while core._state.log.storage_bytes > before * 0.7:
        await asyncio.sleep(0.01)
    shown = core.shown
    for lose in (False, True):
        await core.close()
        if lose:
            shutil.rmtree(tmp_path / "derived")
        folders = OsDisk(tmp_path / "log", create=False), OsDisk(tmp_path / "derived", create=True)
        core = await Hypercore.open_on(*folders, key_pair=pair)
        assert core.shown == shown
        assert {n for start, end in core.held(0, 3000) for n in range(start, end)} == held
        assert all(core.get(n, proven=True) == content[n] for n in held)
        assert await core.verify() == 3000
    second = await open_core("second", key=core.key)
    upgrade(core, second)
    take(core, second, held)
    await second.flushed()
    assert all(second.get(n, proven=True) == content[n] for n in held)
    if ours:
        assert await core.append([b"more"], urgent=True) == 3001
    else:
        take(writer, core, [n for n in range(3000) if n not in held])
        await core.flushed()
        assert list(core.blocks()) == content
    assert await core.verify() == core.length
    await core.close()
