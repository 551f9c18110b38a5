"""The tree as its users see it: views, versions, batches, watching, missing blocks, truncation, a real core."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support_bee_log import MemoryLog

from edge.crypto.keys import KeyPair
from edge.errors import LocalError, RemoteError, StorageError, StorageFault
from edge.hyperbee.bee import Hyperbee
from edge.hyperbee.codec import Header, Metadata, encode_block
from edge.hyperbee.encodings import JSON, UTF8
from edge.hyperbee.entries import Change, Entry, successor
from edge.hyperbee.reader import Cache, VersionGone
from edge.hypercore.hypercore import Hypercore


async def filled(count: int, **options: Any) -> tuple[MemoryLog, Hyperbee]:
    log = MemoryLog()
    bee = Hyperbee(log, **options)
    async with bee.batch() as batch:
        for number in range(count):
            await batch.put(b"%04d" % (number * 7919 % count), b"%d" % number)
    return log, bee


async def keys(entries: AsyncIterator[Entry]) -> list[Any]:
    return [entry.key async for entry in entries]


async def test_a_tree_on_a_real_core_survives_a_restart(tmp_path: Path) -> None:
    pair = KeyPair.generate()
    core = await Hypercore.open(tmp_path, create=True, key_pair=pair)
    bee = Hyperbee(core, key_encoding=UTF8, value_encoding=JSON)
    assert (bee.version, await bee.header(), await bee.get("x")) == (1, None, None)
    for number in range(30):
        await bee.put(f"item/{number:02}", {"price": number})
    assert await bee.delete("item/07")
    assert not await bee.delete("item/07")
    await core.close()
    core = await Hypercore.open(tmp_path, key_pair=pair)
    bee = Hyperbee(core, key_encoding=UTF8, value_encoding=JSON)
    assert await bee.get("item/08") == (9, "item/08", {"price": 8})
    assert await bee.get("item/07") is None
    assert await keys(bee.range(gt="item/05", lte="item/09")) == ["item/06", "item/08", "item/09"]
    assert bee.version == core.length == 32
    assert bee.key == core.key
    await core.close()


async def test_a_header_carries_metadata() -> None:
    log = MemoryLog()
    bee = Hyperbee(log, metadata=Metadata(content_feed=bytes(32), user_data=b"drive"))
    await bee.put(b"k", None)
    assert await bee.header() == Header(metadata=Metadata(bytes(32), b"drive"))
    assert await bee.get(b"k") == (1, b"k", None)
    with pytest.raises(RemoteError, match="no Hyperbee"):
        await Hyperbee(MemoryLog([Header("other").encode()])).header()
    with pytest.raises(RemoteError, match="none of a tree"):
        await Hyperbee(MemoryLog([Header().encode(), b"\x00"])).get(b"k")


async def test_sub_trees_keep_to_themselves() -> None:
    log = MemoryLog()
    bee = Hyperbee(log)
    prices = bee.sub("prices", key_encoding=UTF8, value_encoding=JSON)
    old = prices.sub(b"old")
    await bee.put(b"a", b"1")
    await bee.put(b"prices", b"2")
    await bee.put(b"z", b"3")
    for name in ("", "apple", "pear"):
        await prices.put(name, {"of": name})
    await old.put("apple", 1)
    assert await keys(bee.range(gte=b"prices\x00", lt=b"prices\x01")) == [
        b"prices\x00",
        b"prices\x00apple",
        b"prices\x00old\x00apple",
        b"prices\x00pear",
    ]
    assert await keys(prices.range()) == ["", "apple", "old\x00apple", "pear"]
    assert await keys(prices.range(reverse=True, limit=2)) == ["pear", "old\x00apple"]
    assert await keys(prices.range(gt="apple", lt="pear")) == ["old\x00apple"]
    assert await keys(old.range()) == ["apple"]
    assert await old.get("apple") == (7, "apple", 1)
    assert (await prices.peek(gte="b")) == (7, "old\x00apple", 1)
    assert [change.key async for change in old.history()] == ["apple"]
    then = prices.checkout(6)
    assert await keys(then.range()) == ["", "apple"]
    assert [d.left and d.left.key async for d in prices.diff(then)] == ["old\x00apple", "pear"]
    async with prices.batch() as batch:
        assert await batch.delete("apple")
        assert [entry.key async for entry in batch.range()] == ["", "old\x00apple", "pear"]
    assert await keys(bee.sub("prices", separator=b"\x00old\x00").range()) == [b"apple"]
    with pytest.raises(LocalError, match="separator"):
        bee.sub("x", separator=b"")


def test_what_follows_a_prefix() -> None:
    assert successor(b"a\x00") == b"a\x01"
    assert successor(b"a\xff\xff") == b"b"
    assert successor(b"\xff") is None
    assert successor(b"") is None


async def test_a_batch_is_one_append_and_sees_itself() -> None:
    log, bee = await filled(3)
    assert log.appends == 2  # the header and the batch
    async with bee.batch() as batch:
        await batch.put(b"new", b"1")
        await batch.delete(b"0001")
        assert await batch.get(b"new") == (4, b"new", b"1")
        assert await batch.get(b"0001") is None
        assert await batch.peek(gt=b"0001") == (2, b"0002", b"1")
        assert await batch.peek(gt=b"0002") == (4, b"new", b"1")
        assert await bee.get(b"new") is None
        assert batch.pending == 2
    assert log.appends == 3
    assert await bee.get(b"new") is not None
    with pytest.raises(LocalError, match="ended"):
        await batch.put(b"x", b"")


async def test_a_batch_that_fails_leaves_nothing() -> None:
    log, bee = await filled(3)
    before = list(log.blocks)

    async def fail() -> None:
        async with bee.batch() as batch:
            await batch.put(b"new", b"1")
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await fail()
    assert log.blocks == before
    batch = bee.batch()
    await batch.put(b"new", b"1")
    batch.close()
    batch.close()
    await bee.put(b"after", b"2")  # the lock is free
    assert await bee.get(b"new") is None


async def test_an_append_that_fails_frees_the_lock() -> None:
    class Full(MemoryLog):
        full = True

        async def append(self, blocks: Any, /, *, urgent: bool = False, whole: bool = False) -> int:
            if self.full and self.blocks:
                raise StorageError("no space", fault=StorageFault.FULL)
            return await super().append(blocks, urgent=urgent, whole=whole)

    log = Full()
    bee = Hyperbee(log)
    with pytest.raises(StorageError):
        await bee.put(b"k", b"v")
    log.full = False
    assert await bee.get(b"k") is None
    await bee.put(b"k", b"w")
    assert await bee.get(b"k") == (1, b"k", b"w")


async def test_writers_take_turns() -> None:
    _, bee = await filled(0)
    sub = bee.sub("s")

    async def write(number: int) -> None:
        async with (sub if number % 2 else bee).batch() as batch:
            await batch.put(b"%02d" % number, b"")
            await asyncio.sleep(0)
            await asyncio.gather(batch.put(b"x%02d" % number, b""), batch.put(b"y%02d" % number, b""))

    await asyncio.gather(*(write(number) for number in range(20)))
    assert len(await keys(bee.range())) == 60
    assert [change.seq async for change in bee.history()] == list(range(1, 61))


async def test_nobody_else_may_write_meanwhile() -> None:
    log, bee = await filled(3)
    batch = bee.batch()
    await batch.put(b"k", b"v")
    log.blocks.append(encode_block(b"z", b"", []))
    with pytest.raises(LocalError, match="somebody else"):
        await batch.flush()


async def test_what_cannot_be_written() -> None:
    log, bee = await filled(3)
    with pytest.raises(LocalError, match="checkout"):
        await bee.snapshot().put(b"k", b"v")
    with pytest.raises(LocalError, match="not there yet"):
        bee.checkout(5)
    with pytest.raises(LocalError, match="one beginning"):
        await bee.peek(gt=b"a", gte=b"a")
    assert not bee.snapshot().writable
    log.writable = False
    with pytest.raises(StorageError, match="cannot be written"):
        await bee.put(b"k", b"v")
    with pytest.raises(StorageError, match="cannot be written"):
        await bee.delete(b"k")


async def test_the_same_value_again_is_written_only_if_asked() -> None:
    log, bee = await filled(20, always_duplicate=False)
    length = log.length
    assert not await bee.put(b"0000", b"0")
    assert log.length == length
    assert await bee.put(b"0000", None)
    assert not await bee.put(b"0000", None)
    assert await bee.put(b"0000", b"")


async def test_history_bounds_and_kinds() -> None:
    _, bee = await filled(0)
    for number in range(4):
        await bee.put(b"%d" % number, b"v")
    await bee.delete(b"2")

    async def seqs(**bounds: Any) -> list[int]:
        return [change.seq async for change in bee.history(**bounds)]

    assert [change async for change in bee.history(gt=3)] == [
        Change(4, b"3", b"v", deleted=False),
        Change(5, b"2", None, deleted=True),
    ]
    assert await seqs(gte=2, lt=4) == [2, 3]
    assert await seqs(gt=2, lte=4) == [3, 4]
    assert await seqs(gte=-2) == [4, 5]
    assert await seqs(lt=-2) == [1, 2, 3]
    assert await seqs(reverse=True, limit=2) == [5, 4]
    assert await seqs(gt=99) == await seqs(lt=0) == await seqs(limit=0) == []
    with pytest.raises(LocalError, match="goes forward"):
        await seqs(live=True, reverse=True)


async def test_a_live_history_goes_on() -> None:
    _, bee = await filled(2)
    seen = []
    async with asyncio.timeout(10):
        history = bee.history(live=True)
        async for change in history:
            seen.append(change.key)
            if len(seen) in (2, 3):
                await bee.put(b"next%d" % len(seen), b"")
            if len(seen) == 4:
                break
        await history.aclose()  # type: ignore[attr-defined]
    assert seen == [b"0000", b"0001", b"next2", b"next3"]


async def test_watching_a_range() -> None:
    log, bee = await filled(20)
    seen: list[tuple[int, int]] = []

    async def watch() -> None:
        async for current, previous in bee.watch(gte=b"a", lt=b"b"):
            seen.append((current.version, previous.version))
            if len(seen) == 3:
                return

    task = asyncio.create_task(watch())
    await asyncio.sleep(0)
    await bee.put(b"a1", b"")  # 21
    await asyncio.sleep(0.01)
    await bee.put(b"c", b"")  # outside
    await asyncio.sleep(0.01)
    await bee.delete(b"a1")
    await asyncio.sleep(0.01)
    log.truncate(21)
    await asyncio.wait_for(task, 10)
    assert seen == [(22, 21), (24, 23), (21, 24)]


async def test_watching_a_key() -> None:
    _, bee = await filled(20)
    seen: list[Any] = []

    async def watch() -> None:
        async for entry in bee.watch_key(b"k"):
            seen.append(entry and entry.value)
            if len(seen) == 4:
                return

    task = asyncio.create_task(watch())
    for write in (bee.put(b"k", b"1"), bee.put(b"other", b""), bee.put(b"k", b"1"), bee.delete(b"k")):
        await asyncio.sleep(0.01)
        await write
    await asyncio.wait_for(task, 10)
    assert seen == [None, b"1", b"1", None]
    with pytest.raises(LocalError, match="never changes"):
        await anext(bee.snapshot().watch_key(b"k"))


async def test_a_reader_sees_one_version_while_the_log_grows() -> None:
    _, bee = await filled(200)
    seen = []
    async for entry in bee.range():
        seen.append(entry.key)
        if len(seen) % 10 == 0:
            await bee.delete(b"%04d" % (199 - len(seen) // 10))
            await bee.put(entry.key + b"new", b"")
    assert seen == [b"%04d" % number for number in range(200)]


async def test_missing_blocks_are_fetched_and_nothing_else() -> None:
    log, _ = await filled(500)
    remote = MemoryLog(log.blocks, held=set(), writable=False)
    bee = Hyperbee(remote)
    assert await bee.get(b"0123") is not None
    first = len(remote.fetched)
    assert first < 60  # the nodes on one way down, of 500
    assert await bee.get(b"0123") is not None
    assert len(remote.fetched) == first
    assert await bee.get(b"0124") is not None
    assert len(await keys(bee.range())) == 500
    assert sorted(remote.fetched) == sorted(set(remote.fetched))


async def test_a_sparse_writer_fetches_before_it_changes_anything() -> None:
    log, whole = await filled(500)
    sparse = MemoryLog(log.blocks, held=set())
    bee = Hyperbee(sparse, cache_bytes=1 << 14)
    for number in range(0, 500, 3):
        await whole.delete(b"%04d" % number)
        await bee.delete(b"%04d" % number)
        sparse.held = {sparse.length - 1}
    async with whole.batch() as one, bee.batch() as other:
        for number in range(0, 500, 2):
            await one.put(b"%04d" % number, b"again")
            await other.put(b"%04d" % number, b"again")
    assert sparse.blocks == log.blocks


async def test_a_truncation_ends_old_versions_and_empties_caches() -> None:
    log, bee = await filled(50)
    await bee.put(b"k", b"old")
    snapshot, reading = bee.snapshot(), bee.range()
    await anext(reading)
    log.truncate(51)
    assert await bee.get(b"k") is None
    await bee.put(b"k", b"new")
    assert await bee.get(b"k") == (51, b"k", b"new")
    with pytest.raises(VersionGone):
        await snapshot.get(b"k")
    with pytest.raises(VersionGone):
        await keys(reading)
    with pytest.raises(VersionGone):
        await anext(bee.diff(snapshot))


async def test_versions_compare_with_their_own_tree_alone() -> None:
    _, bee = await filled(3)
    _, other = await filled(3)
    with pytest.raises(LocalError, match="same tree"):
        await anext(bee.diff(other))


async def test_by_block() -> None:
    _, bee = await filled(3)
    assert await bee.get_by_seq(1) == (1, b"0000", b"0")
    for seq in (0, 4):
        with pytest.raises(LocalError, match="no block"):
            await bee.get_by_seq(seq)


async def test_a_tree_without_keys_that_had_some() -> None:
    _, bee = await filled(30)
    for number in range(30):
        assert await bee.delete(b"%04d" % number)
    assert await keys(bee.range()) == await keys(bee.range(reverse=True, gte=b"0")) == []
    assert await bee.get(b"0001") is None
    assert len([None async for _ in bee.diff(31)]) == 30
    await bee.put(b"0001", b"")
    assert await keys(bee.range()) == [b"0001"]


def test_a_cache_keeps_within_its_bytes() -> None:
    cache: Cache[bytearray] = Cache(100, len)
    for number in range(50):
        cache.put(number, bytearray(10))
        cache.put(number, bytearray(20))
    assert [number for number in range(50) if cache.get(number)] == [45, 46, 47, 48, 49]
    kept = cache.get(49)
    assert kept is not None
    kept += bytes(50)
    cache.grew(49, kept, 50)
    cache.drop(45)
    cache.put(50, bytearray(1))
    assert [number for number in range(51) if cache.get(number)] == [48, 49, 50]
    cache.put(51, bytearray(200))
    assert not [number for number in range(52) if cache.get(number)]
    cache.put(52, bytearray(100))
    assert cache.get(52)
