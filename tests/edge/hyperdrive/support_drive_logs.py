"""Logs in memory for drives: whole ones, and ones that get their blocks from another when they are asked for."""

import asyncio
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from edge.crypto.hashing import keyed256, namespace
from edge.crypto.keys import KeyPair
from edge.errors import BlockMissing, LocalError
from edge.hypercore.manifest import Manifest
from edge.hyperdrive.content import content_manifest
from edge.hyperdrive.drive import DriveBatch, Hyperdrive
from edge.limits import BLOCK_BYTES_MAX, GROUP_BYTES_MAX

(_CORESTORE,) = namespace("corestore", 1)
PAIR = KeyPair.from_seed(bytes([9]) * 32)


class MemoryLog:
    """A log whose blocks are in a list; with `origin`, a replica of that one, which begins with none of its blocks."""

    def __init__(
        self, manifest: Manifest | None, *, key: bytes | None = None, origin: "MemoryLog | None" = None
    ) -> None:
        self.manifest = manifest
        self.key = key if key is not None else (manifest or Manifest.single(PAIR.public_key)).key()
        self.fork = 0
        self.writable = origin is None
        self.blocks: dict[int, bytes] = {}
        self.lengths: list[int] = []
        self.origin = origin
        self.fetched: list[int] = []
        self.in_flight = self.in_flight_most = 0
        self.appends: list[int] = []
        self._events: set[asyncio.Event] = set()

    @property
    def length(self) -> int:
        return len(self.lengths) if self.origin is None else self.origin.length

    @property
    def byte_length(self) -> int:
        return sum(self.lengths) if self.origin is None else self.origin.byte_length

    def has(self, index: int, /) -> bool:
        return index in self.blocks

    def get(self, index: int, /) -> bytes:
        if not 0 <= index < self.length:
            raise IndexError(index)
        if index not in self.blocks:
            raise BlockMissing(index)
        return self.blocks[index]

    async def fetch(self, index: int, /) -> bytes:
        if index in self.blocks:
            return self.blocks[index]
        if self.origin is None or index >= self.length:
            raise BlockMissing(index)
        self.in_flight += 1
        self.in_flight_most = max(self.in_flight, self.in_flight_most)
        try:
            await asyncio.sleep(0)
        finally:
            self.in_flight -= 1
        self.fetched.append(index)
        self.blocks[index] = self.origin.blocks[index]
        return self.blocks[index]

    async def append(self, blocks: Iterable[bytes], /, *, urgent: bool = False, whole: bool = False) -> int:
        del urgent
        added = list(blocks)
        if sum(map(len, added)) > GROUP_BYTES_MAX or any(len(block) > BLOCK_BYTES_MAX for block in added):
            raise LocalError("too much for one group")
        await asyncio.sleep(0)
        for block in added:
            self.blocks[self.length] = bytes(block)
            self.lengths.append(len(block))
        self.appends.append(len(added))
        self._tell()
        return self.length

    async def clear(self, start: int, end: int, /) -> None:
        for index in range(start, end):
            self.blocks.pop(index, None)

    async def seek(self, offset: int, /) -> tuple[int, int]:
        lengths = self.lengths if self.origin is None else self.origin.lengths
        for index, end in enumerate(accumulate(lengths)):
            if offset < end:
                return index, offset - (end - lengths[index])
        return len(lengths), 0

    async def truncate(self, length: int, /) -> None:
        for index in range(length, self.length):
            self.blocks.pop(index, None)
        del self.lengths[length:]
        self.fork += 1
        self._tell()

    async def changed(self, length: int, fork: int, /) -> None:
        while (self.length, self.fork) == (length, fork):
            event = asyncio.Event()
            origin = self if self.origin is None else self.origin
            origin._events.add(event)
            try:
                await event.wait()
            finally:
                origin._events.discard(event)

    def _tell(self) -> None:
        for event in self._events:
            event.set()


def logs() -> tuple[MemoryLog, MemoryLog]:
    """The two logs of a new drive."""
    manifest = Manifest.single(PAIR.public_key)
    return MemoryLog(manifest), MemoryLog(content_manifest(manifest, manifest.key()))


def new_drive() -> Hyperdrive:
    return Hyperdrive(*logs())


def replica(db: MemoryLog, blobs: MemoryLog) -> tuple[Hyperdrive, MemoryLog, MemoryLog]:
    """A reader's drive, which has nothing yet."""
    far_db = MemoryLog(db.manifest, key=db.key, origin=db)
    far_blobs = MemoryLog(blobs.manifest, key=blobs.key, origin=blobs)

    async def open_blobs(key: bytes) -> MemoryLog:
        assert key == far_blobs.key
        return far_blobs

    return Hyperdrive(far_db, open_blobs=open_blobs), far_db, far_blobs


def content(number: int, size: int, salt: int = 0) -> bytes:
    """The bytes that tests/interop/hyperdrive.mjs calls the same."""
    pattern = bytes((j * 7 + (j >> 8) * 13 + number * 31 + salt) & 0xFF for j in range(65537))
    return (pattern * (size // len(pattern) + 1))[:size]


async def apply(drive: Hyperdrive | DriveBatch, ops: list[Any], salt: int) -> None:
    """The operations of a plan, as tests/interop/hyperdrive.mjs does them."""
    for op, path, *rest in ops:
        value = rest[0] if rest else {}
        flags = {"executable": value.get("executable", False), "metadata": value.get("metadata")}
        if op in ("put", "stream"):
            await drive.put(path, content(value["file"], value["size"], salt), **flags)
        elif op == "link":
            await drive.symlink(path, value["target"], metadata=flags["metadata"])
        elif op == "delete":
            await drive.delete(path)
        elif op == "flags":
            entry = await drive.entry(path)
            assert entry is not None
            await drive.put_entry(path, linkname=entry.value.linkname, blob=entry.value.blob, **flags)
        else:
            assert op == "batch"
            assert isinstance(drive, Hyperdrive)
            async with drive.batch() as batch:
                await apply(batch, path, salt)


def named_key_pair(primary_key: bytes, name: str) -> KeyPair:
    """What a stock Corestore gives the core `name`."""
    return KeyPair.from_seed(keyed256(primary_key, _CORESTORE, bytes(32), name.encode()))


def content_name(key: bytes) -> str:
    """Under which name a stock Corestore keeps the content of a drive that is older than manifests."""
    digits = "ybndrfg8ejkmcpqxot1uwisza345h769"  # z-base-32: 256 bits in 52 digits of 5
    bits = int.from_bytes(key, "big") << 4
    return "".join(digits[bits >> 5 * place & 31] for place in reversed(range(52))) + "/blobs"
