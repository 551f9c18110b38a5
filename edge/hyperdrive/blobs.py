"""Blobs of any size in an append-only log: cut into blocks, found again by where they begin. Spec: hyperblobs 2.12.

    blobs = Blobs(core)
    blob = await blobs.put(b"...")              # or an iterable, sync or async, of pieces
    async for piece in blobs.read(blob): ...    # a block at a time, whatever the size

Invariants
- The blocks of a blob follow each other: one blob is written at a time, and nobody else appends to the core.
- Content never lies in memory as a whole, except for `get`, which is bounded: writing holds BLOB_APPEND_BLOCKS blocks,
  reading BLOB_READ_AHEAD_BLOCKS that are on their way from peers.
- A blob's id comes from a peer, like its blocks: content shorter than the id says is an error, more is cut off.

Stock peers that deduplicate write a block map: the blob's blocks then list (index, length) of those with the content.
We read such blobs and never write them.
"""

import asyncio
from array import array
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Final, Protocol

from edge.encoding.compact import Reader
from edge.errors import BlockMissing, LocalError, RemoteError
from edge.hyperdrive.entry import BlobId
from edge.limits import (
    BLOB_APPEND_BLOCKS,
    BLOB_BLOCK_BYTES,
    BLOB_BYTES_AT_ONCE_MAX,
    BLOB_MAP_BLOCKS_MAX,
    BLOB_READ_AHEAD_BLOCKS,
)

Pieces = bytes | Iterable[bytes] | AsyncIterable[bytes]

_MAP_ITEMS_MAX: Final = 8192  # of one block of a block map; the stock encoder begins another one then
_TURN_BLOCKS: Final = 16  # blocks read from our own disk before the loop gets its turn


class BlobLog(Protocol):
    """What is needed of a core; a Hypercore has it."""

    @property
    def key(self) -> bytes:
        """The core's key."""
        ...

    @property
    def length(self) -> int:
        """Blocks."""
        ...

    @property
    def byte_length(self) -> int:
        """Bytes of all blocks."""
        ...

    @property
    def fork(self) -> int:
        """Changes when blocks are replaced."""
        ...

    @property
    def writable(self) -> bool:
        """Whether we can append."""
        ...

    def has(self, index: int, /) -> bool:
        """Whether the block is held here."""
        ...

    def get(self, index: int, /) -> bytes:
        """A block that is held here; raises where it is not."""
        ...

    async def fetch(self, index: int, /) -> bytes:
        """A block, from peers where it is not held here."""
        ...

    async def append(self, blocks: Iterable[bytes], /, *, urgent: bool = False) -> int:
        """Append in one group; the length once that is durable."""
        ...

    async def clear(self, start: int, end: int, /) -> None:
        """Forget the content of blocks."""
        ...

    async def seek(self, offset: int, /) -> tuple[int, int]:
        """The block that holds this byte of the core, and the byte's place within the block."""
        ...

    async def changed(self, length: int, fork: int, /) -> None:
        """Return once length or fork are others."""
        ...

    async def truncate(self, length: int, /) -> None:
        """Drop the blocks from `length` on."""
        ...


class Blobs:
    """The blobs of one core."""

    def __init__(self, core: BlobLog, *, block_bytes: int = BLOB_BLOCK_BYTES) -> None:
        self.core: Final = core
        self._block_bytes = block_bytes
        self._writing = asyncio.Lock()

    async def put(self, content: Pieces) -> BlobId:
        """Append a blob; durable when this returns. What was appended before an error stays behind, unnamed."""
        async with self._writing:
            block_offset, byte_offset = self.core.length, self.core.byte_length
            blocks = byte_length = 0
            async for group in _groups(content, self._block_bytes):
                await self.core.append(group, urgent=True)
                blocks += len(group)
                byte_length += sum(map(len, group))
            if self.core.length != block_offset + blocks:
                raise LocalError("something else wrote to the core of the blobs meanwhile")
            return BlobId(block_offset, byte_offset, blocks, byte_length)

    async def get(self, blob: BlobId, *, start: int = 0, length: int | None = None, wait: bool = True) -> bytes:
        """`length` bytes from `start` on (default: to the end), in one piece of at most BLOB_BYTES_AT_ONCE_MAX."""
        pieces: list[bytes] = []
        total = 0
        async with aclosing(self.read(blob, start=start, length=length, wait=wait)) as content:
            async for piece in content:
                total += len(piece)
                if total > BLOB_BYTES_AT_ONCE_MAX:
                    raise RemoteError(f"more than {BLOB_BYTES_AT_ONCE_MAX} bytes at once: read it", reason="too_large")
                pieces.append(piece)
        return b"".join(pieces)

    async def read(
        self, blob: BlobId, *, start: int = 0, length: int | None = None, wait: bool = True
    ) -> AsyncGenerator[bytes, None]:
        """The same in pieces of a block. `wait`: for peers, where a block is not here; else what `core.get` raises.

        Raises `RemoteError` if the blob is not what its id says.
        """
        if start < 0 or (length is not None and length < 0):
            raise LocalError(f"a blob has no {length} bytes at {start}")
        if blob.block_map:
            indexes, skip, left = await self._mapped(blob, start, length, wait=wait)
        else:
            left = max(0, blob.byte_length - start)
            first, skip = blob.block_offset, 0
            if start and left:
                await self._long_enough(blob, wait=wait)
                first, skip = await self.core.seek(blob.byte_offset + start)
                if not blob.block_offset <= first < blob.block_end:
                    raise RemoteError(f"byte {start} of {blob} lies in block {first}", reason="blob")
            indexes = range(first, blob.block_end)
            left = left if length is None else min(left, length)
        if not left:
            return
        async with aclosing(self._blocks(indexes, wait=wait)) as blocks:
            async for block in blocks:
                piece = block[skip : skip + left] if skip or len(block) > left else block
                skip = max(0, skip - len(block))
                left -= len(piece)
                if piece:
                    yield piece
                if not left:
                    return
        raise RemoteError(f"{blob} ends {left} bytes early", reason="blob")

    async def byte_length(self, blob: BlobId) -> int:
        """Bytes of content."""
        return sum((await self._map(blob, wait=True))[1]) if blob.block_map else blob.byte_length

    async def clear(self, blob: BlobId) -> None:
        """Forget the content of the blob here. Peers that hold it can bring it back."""
        if blob.block_map and self._held(range(blob.block_offset, blob.block_end)):
            for index in (await self._map(blob, wait=False))[0]:
                await self.core.clear(index, index + 1)
        if blob.block_length:
            await self.core.clear(blob.block_offset, blob.block_end)

    async def has(self, blob: BlobId) -> bool:
        """Whether all of the blob is here."""
        if not self._held(range(blob.block_offset, blob.block_end)):
            return False
        return not blob.block_map or self._held((await self._map(blob, wait=False))[0])

    async def download(self, blobs: Iterable[BlobId]) -> None:
        """Return once all of these blobs are here; peers are asked for what is not."""
        blobs = list(blobs)
        await self._bring(index for blob in blobs for index in range(blob.block_offset, blob.block_end))
        for blob in blobs:
            if blob.block_map:
                await self._bring((await self._map(blob, wait=True))[0])

    async def _bring(self, indexes: Iterable[int]) -> None:
        async for _ in self._blocks((index for index in indexes if not self.core.has(index)), wait=True):
            pass

    async def _long_enough(self, blob: BlobId, *, wait: bool) -> None:
        """A core that was just opened has no length yet: where a byte lies in it, peers must tell first."""
        while self.core.length < blob.block_end:
            if not wait:
                raise BlockMissing(blob.block_end - 1)
            await self.core.changed(self.core.length, self.core.fork)

    def _held(self, indexes: Iterable[int]) -> bool:
        return all(map(self.core.has, indexes))

    async def _blocks(self, indexes: Iterable[int], *, wait: bool) -> AsyncGenerator[bytes, None]:
        """Blocks in the given order; those not here are asked for ahead of their turn."""
        following = iter(indexes)
        ahead: deque[asyncio.Task[bytes] | int] = deque()
        local = 0
        try:
            while True:
                for index in islice(following, BLOB_READ_AHEAD_BLOCKS - len(ahead)):
                    here = not wait or self.core.has(index)
                    ahead.append(index if here else asyncio.create_task(_fetch(self.core, index)))
                if not ahead:
                    return
                block = ahead[0]
                if isinstance(block, asyncio.Task):
                    yield await block
                    ahead.popleft()
                    continue
                ahead.popleft()
                local += 1
                if local % _TURN_BLOCKS == 0:
                    await asyncio.sleep(0)
                if wait and not self.core.has(block):  # cleared meanwhile
                    yield await self.core.fetch(block)
                else:
                    yield self.core.get(block)
        finally:
            tasks = [block for block in ahead if isinstance(block, asyncio.Task)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _map(self, blob: BlobId, *, wait: bool) -> "tuple[array[int], array[int]]":
        """Indexes and lengths of the blocks with the content of a blob with a block map."""
        if blob.block_length > BLOB_MAP_BLOCKS_MAX:
            raise RemoteError(f"a block map of {blob.block_length} blocks", reason="too_large")
        indexes, lengths = array("Q"), array("Q")
        async for block in self._blocks(range(blob.block_offset, blob.block_end), wait=wait):
            for index, length in decode_block_map(block):
                indexes.append(index)
                lengths.append(length)
        return indexes, lengths

    async def _mapped(
        self, blob: BlobId, start: int, length: int | None, *, wait: bool
    ) -> tuple[Sequence[int], int, int]:
        """Blocks to read, bytes to skip, bytes to read."""
        indexes, lengths = await self._map(blob, wait=wait)
        left = max(0, sum(lengths) - start)
        first = 0
        while first < len(lengths) and start >= lengths[first]:
            start -= lengths[first]
            first += 1
        return indexes[first:], start, left if length is None else min(left, length)


def decode_block_map(block: bytes) -> list[tuple[int, int]]:
    """(index, length) of the blocks that one block of a block map lists. Raises `RemoteError`."""
    reader = Reader(block)
    if version := reader.uint():
        raise RemoteError(f"block map version {version} is unknown", reason="version")
    return reader.array(lambda r: (r.uint(), r.uint()), items_max=_MAP_ITEMS_MAX, item_bytes_min=2)


async def _fetch(core: BlobLog, index: int) -> bytes:
    return await core.fetch(index)


async def _groups(content: Pieces, block_bytes: int) -> AsyncIterator[list[bytes]]:
    """The content in blocks, some blocks at a time."""
    group: list[bytes] = []
    async for block in _cut(content, block_bytes):
        group.append(block)
        if len(group) == BLOB_APPEND_BLOCKS:
            yield group
            group = []
    if group:
        yield group


async def _cut(content: Pieces, block_bytes: int) -> AsyncIterator[bytes]:
    held = bytearray()
    async for piece in pieces_of(content):
        if held or len(piece) < block_bytes:
            held += piece
            while len(held) >= block_bytes:
                yield bytes(held[:block_bytes])
                del held[:block_bytes]
            continue
        whole = len(piece) - len(piece) % block_bytes
        for start in range(0, whole, block_bytes):
            yield piece[start : start + block_bytes]
        held += piece[whole:]
    if held:
        yield bytes(held)


async def pieces_of(content: Pieces) -> AsyncIterator[bytes]:
    """The content piece by piece, whichever way it is given."""
    if isinstance(content, bytes):
        yield content
    elif isinstance(content, AsyncIterable):
        async for piece in content:
            yield piece
    else:
        for piece in _checked(content):
            yield piece


def _checked(content: Iterable[bytes]) -> Iterator[bytes]:
    for piece in content:
        if not isinstance(piece, bytes):
            raise LocalError(f"a blob is made of bytes, not of {type(piece).__name__}")
        yield piece
