"""A log in memory for trees: blocks may be missing until they are fetched, and it can be truncated.

No mock of the disk: a second implementation of the small protocol, where a test decides what is held.
"""

import asyncio
from collections.abc import Iterable

from edge.errors import BlockMissing


class MemoryLog:
    """Blocks in a list. `held` None: all of them; otherwise what is not in it must be fetched, which is counted."""

    key = bytes(32)

    def __init__(self, blocks: Iterable[bytes] = (), *, held: set[int] | None = None, writable: bool = True) -> None:
        self.blocks = list(blocks)
        self.held = held
        self.writable = writable
        self.fork = 0
        self.fetched: list[int] = []
        self.appends = 0
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def length(self) -> int:
        return len(self.blocks)

    def get(self, index: int, /) -> bytes:
        if not 0 <= index < len(self.blocks):
            raise IndexError(index)
        if self.held is not None and index not in self.held:
            raise BlockMissing(index)
        return self.blocks[index]

    async def fetch(self, index: int, /) -> bytes:
        await asyncio.sleep(0)
        if self.held is not None:
            self.held.add(index)
        self.fetched.append(index)
        return self.blocks[index]

    async def append(self, blocks: Iterable[bytes], /, *, urgent: bool = False, whole: bool = False) -> int:
        await asyncio.sleep(0)
        start = len(self.blocks)
        self.blocks += blocks
        self.appends += 1
        if self.held is not None:
            self.held |= set(range(start, len(self.blocks)))
        self._wake()
        return len(self.blocks)

    def truncate(self, length: int) -> None:
        del self.blocks[length:]
        self.fork += 1
        self._wake()

    async def changed(self, length: int, fork: int, /) -> None:
        while (len(self.blocks), self.fork) == (length, fork):
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()
