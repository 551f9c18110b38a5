"""Blobs: cut, found, read in part, cleared, fetched; what a peer's false id leads to; and never all in memory."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_drive_logs import MemoryLog, content, logs
from support_fuzz_hyperdrive import CORPUS, fuzz_block_map

from edge.encoding import compact
from edge.errors import BlockMissing, LocalError, RemoteError
from edge.hyperdrive.blobs import Blobs, decode_block_map
from edge.hyperdrive.entry import BlobId
from edge.limits import BLOB_APPEND_BLOCKS, BLOB_BLOCK_BYTES, BLOB_READ_AHEAD_BLOCKS


def new_log() -> MemoryLog:
    return logs()[1]


def replica_of(log: MemoryLog) -> MemoryLog:
    return MemoryLog(log.manifest, key=log.key, origin=log)


async def later(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(1, 16))
def test_any_pieces_make_the_same_blocks(pieces: list[bytes], block_bytes: int) -> None:
    whole = b"".join(pieces)

    async def run() -> None:
        for given_as in (whole, pieces, iter(pieces), later(pieces)):
            log = new_log()
            await log.append([b"before"])
            blobs = Blobs(log, block_bytes=block_bytes)
            blob = await blobs.put(given_as)
            assert blob == BlobId(1, 6, -(-len(whole) // block_bytes), len(whole))
            expected = [whole[at : at + block_bytes] for at in range(0, len(whole), block_bytes)]
            assert [log.blocks[index] for index in range(1, log.length)] == expected
            assert await blobs.get(blob) == whole

    asyncio.run(run())


@given(st.data())
def test_any_part_is_read(data: st.DataObject) -> None:
    whole = data.draw(st.binary(max_size=60))
    start, length = data.draw(st.integers(0, 70)), data.draw(st.none() | st.integers(0, 70))

    async def run() -> None:
        log = new_log()
        blobs = Blobs(log, block_bytes=7)
        await blobs.put(b"other")
        blob = await blobs.put(whole)
        await blobs.put(b"another")
        end = None if length is None else start + length
        assert await blobs.get(blob, start=start, length=length) == whole[start:end]
        assert await Blobs(replica_of(log)).get(blob, start=start, length=length) == whole[start:end]

    asyncio.run(run())


async def test_groups_and_sizes_are_those_of_stock() -> None:
    log = new_log()
    blob = await Blobs(log).put(content(1, 20 * BLOB_BLOCK_BYTES + 1))
    assert (blob.block_length, log.appends) == (21, [BLOB_APPEND_BLOCKS, 5])
    assert log.lengths == [BLOB_BLOCK_BYTES] * 20 + [1]


async def test_blobs_are_written_one_after_the_other() -> None:
    log = new_log()
    blobs = Blobs(log, block_bytes=4)
    whole = [bytes([n]) * (100 + n) for n in range(8)]
    ids = await asyncio.gather(*(blobs.put(later([data[:50], data[50:]])) for data in whole))
    assert [await blobs.get(blob) for blob in ids] == whole


async def test_a_failed_source_leaves_the_blobs_usable() -> None:
    log = new_log()
    blobs = Blobs(log, block_bytes=1)

    def failing() -> Iterator[bytes]:
        yield bytes(40)
        raise ValueError("the source failed")

    with pytest.raises(ValueError, match="the source failed"):
        await blobs.put(failing())
    blob = await blobs.put(b"after")
    assert await blobs.get(blob) == b"after"


async def test_what_is_no_bytes_is_refused() -> None:
    bad: Any = ["text"]
    with pytest.raises(LocalError):
        await Blobs(new_log()).put(bad)
    with pytest.raises(LocalError):
        await Blobs(new_log()).get(BlobId(0, 0, 0, 0), start=-1)


async def test_another_writer_is_noticed() -> None:
    log = new_log()

    async def with_other() -> AsyncIterator[bytes]:
        yield bytes(20)
        await log.append([b"other"])
        yield b"end"

    with pytest.raises(LocalError, match="something else wrote"):
        await Blobs(log, block_bytes=1).put(with_other())


async def test_reading_ahead_is_bounded_and_ends_with_the_reader() -> None:
    log = new_log()
    blob = await Blobs(log, block_bytes=4).put(bytes(400))
    far = replica_of(log)
    async with aclosing(Blobs(far).read(blob)) as pieces:
        async for _ in pieces:
            break
    assert far.in_flight_most <= BLOB_READ_AHEAD_BLOCKS
    assert len(far.fetched) <= 2 * BLOB_READ_AHEAD_BLOCKS
    assert far.in_flight == 0
    assert await Blobs(far).get(blob) == bytes(400)
    assert far.in_flight_most <= BLOB_READ_AHEAD_BLOCKS
    assert len(set(far.fetched)) == len(far.fetched)  # nothing twice, but what a reader that left had asked for


async def test_without_waiting_what_is_missing_is_said() -> None:
    log = new_log()
    blob = await Blobs(log, block_bytes=4).put(bytes(9))
    far = replica_of(log)
    with pytest.raises(BlockMissing):
        await Blobs(far).get(blob, wait=False)
    await Blobs(far).download([blob])
    assert await Blobs(far).get(blob, wait=False) == bytes(9)


async def test_clear_and_has() -> None:
    log = new_log()
    blobs = Blobs(log, block_bytes=4)
    kept, cleared = await blobs.put(bytes(9)), await blobs.put(bytes(9))
    empty = await blobs.put(b"")
    assert await blobs.has(kept)
    assert await blobs.has(empty)
    await blobs.clear(cleared)
    await blobs.clear(empty)
    assert await blobs.has(kept)
    assert not await blobs.has(cleared)
    assert sorted(log.blocks) == [0, 1, 2]


@pytest.mark.parametrize("blob", [BlobId(0, 0, 2, 9), BlobId(0, 0, 3, 10), BlobId(1, 4, 2, 9), BlobId(0, 0, 0, 1)])
async def test_content_shorter_than_its_id_says(blob: BlobId) -> None:
    blobs = Blobs(new_log(), block_bytes=4)
    await blobs.put(bytes(9))
    with pytest.raises(RemoteError, match="early"):
        await blobs.get(blob)


async def test_a_part_that_lies_elsewhere() -> None:
    blobs = Blobs(new_log(), block_bytes=4)
    await blobs.put(bytes(20))
    with pytest.raises(RemoteError, match="lies in block"):
        await blobs.get(BlobId(0, 8, 2, 8), start=4)


async def test_more_than_may_be_returned_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.hyperdrive.blobs.BLOB_BYTES_AT_ONCE_MAX", 10)
    blobs = Blobs(new_log(), block_bytes=4)
    blob = await blobs.put(bytes(11))
    with pytest.raises(RemoteError, match="more than 10"):
        await blobs.get(blob)
    assert await blobs.get(blob, start=1) == bytes(10)


async def test_a_large_file_never_lies_in_memory_whole(tmp_path: Any) -> None:
    size = 20 * 1024 * 1024
    log = _OnDisk(tmp_path / "blocks")
    blobs = Blobs(log)  # type: ignore[arg-type]

    def source() -> Iterator[bytes]:
        for number in range(size // 1_000_000 + 1):
            yield bytes([number]) * min(1_000_000, size - number * 1_000_000)

    tracemalloc.start()
    try:
        blob = await blobs.put(source())
        total = 0
        async with aclosing(blobs.read(blob)) as pieces:
            async for piece in pieces:
                total += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    log.file.close()
    assert total == blob.byte_length == size
    assert peak < 6 * 1024 * 1024


class _OnDisk:
    """A log whose blocks are in a file, so that only what the blobs hold is in memory."""

    def __init__(self, path: Any) -> None:
        self.file = path.open("w+b")
        self.ends = [0]

    @property
    def length(self) -> int:
        return len(self.ends) - 1

    @property
    def byte_length(self) -> int:
        return self.ends[-1]

    def has(self, index: int) -> bool:
        return 0 <= index < self.length

    def get(self, index: int) -> bytes:
        self.file.seek(self.ends[index])
        data: bytes = self.file.read(self.ends[index + 1] - self.ends[index])
        return data

    async def append(self, blocks: list[bytes], *, urgent: bool) -> int:
        assert urgent
        for block in blocks:
            self.file.seek(self.ends[-1])
            self.file.write(block)
            self.ends.append(self.ends[-1] + len(block))
        return self.length


def block_map(blocks: list[tuple[int, int]]) -> bytes:
    return b"\0" + compact.array(compact.uint(index) + compact.uint(length) for index, length in blocks)


async def test_a_deduplicated_blob() -> None:
    log = new_log()
    parts = [b"alpha", b"be", b"gamma!", b"", b"d"]
    await log.append(parts)
    order = [0, 1, 0, 3, 2, 2, 4]
    whole = b"".join(parts[index] for index in order)
    maps = [block_map([(index, len(parts[index])) for index in half]) for half in (order[:3], order[3:])]
    await log.append(maps)
    blob = BlobId(5, sum(map(len, parts)), 2, sum(map(len, maps)), block_map=True)
    far = replica_of(log)
    for blobs in (Blobs(log), Blobs(far)):
        assert await blobs.get(blob) == whole
        assert await blobs.byte_length(blob) == len(whole)
        for start in range(len(whole) + 2):
            for length in (None, 0, 1, 5, 100):
                end = None if length is None else start + length
                assert await blobs.get(blob, start=start, length=length) == whole[start:end]
    assert await Blobs(far).has(blob)
    fresh = replica_of(log)
    assert not await Blobs(fresh).has(blob)
    await Blobs(fresh).download([blob])
    assert await Blobs(fresh).has(blob)
    assert len(fresh.blocks) == log.length
    await Blobs(fresh).clear(blob)
    assert fresh.blocks == {}


async def test_a_block_map_that_is_too_large() -> None:
    with pytest.raises(RemoteError, match="block map of 65"):
        await Blobs(new_log()).get(BlobId(0, 0, 65, 65, block_map=True))


@pytest.mark.parametrize(
    "data", [b"", b"\1\0", b"\0\2\1\1", b"\0\xfd\x01\x20" + bytes(2 * 8193), *CORPUS["fuzz_block_map"][2:]]
)
def test_what_is_no_block_map(data: bytes) -> None:
    with pytest.raises(RemoteError):
        decode_block_map(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_block_map_or_an_error(data: bytes) -> None:
    fuzz_block_map(data)


async def test_a_part_of_a_blob_of_which_nothing_is_known_yet() -> None:
    log = new_log()
    blobs, blob = Blobs(log, block_bytes=4), BlobId(0, 0, 3, 9)
    with pytest.raises(BlockMissing):
        await blobs.get(blob, start=5, wait=False)
    reading = asyncio.create_task(blobs.get(blob, start=5))
    await asyncio.sleep(0)
    await log.append([b"abcd"])
    await log.append([b"efgh", b"i"])
    assert await reading == b"fghi"
