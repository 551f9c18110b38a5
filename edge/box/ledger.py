"""The box's one local log: a Hypercore named `ledger` in the state folder, which never leaves this box.

`append` is what the till service calls; `append_all` splits what would not fit one group (an item file of 20,000
lines). Any tool that reads Hypercores reads it: `pomona feed verify --store STATE_DIR ledger`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge.errors import ConfigError
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.store import FeedStore
from edge.limits import GROUP_BYTES_MAX, GROUP_RECORDS_MAX
from edge.storage.metrics import StorageMetrics

NAME: Final = "ledger"
_CHUNK_RECORDS: Final = GROUP_RECORDS_MAX // 2
_CHUNK_BYTES: Final = GROUP_BYTES_MAX // 2


class Ledger:
    """The open ledger. `core` is its Hypercore."""

    def __init__(self, core: Hypercore) -> None:
        self.core = core

    @classmethod
    async def open(cls, state: Path, *, create: bool = True, metrics: StorageMetrics | None = None) -> "Ledger":
        """Open the ledger under `state`. Raises `StorageError`: LOCKED where a box runs on it already."""
        store = FeedStore(state)
        feed = next((feed for feed in store.feeds() if feed.name == NAME), None)
        if feed is None:
            if not create:
                raise ConfigError("shop.state_dir", f"no box has ever run on {state}")
            feed = await store.create(NAME)
        return cls(await store.open(feed, write=True, metrics=metrics))

    @property
    def key(self) -> bytes:
        """The core's key: names this ledger in snapshots."""
        return self.core.key

    @property
    def length(self) -> int:
        """Durable records."""
        return self.core.length

    async def append(self, blocks: Sequence[bytes], urgent: bool) -> int:
        """Append all or none; the index of the first once all are durable."""
        return await self.core.append(blocks, urgent=urgent) - len(blocks)

    async def append_all(self, blocks: Sequence[bytes]) -> list[int]:
        """Append in order, in as many groups as needed; the index of each. Others may append between two groups."""
        indexes: list[int] = []
        for chunk in chunks(blocks):
            first = await self.append(chunk, urgent=True)
            indexes += range(first, first + len(chunk))
        return indexes

    def get(self, index: int) -> bytes:
        """One record's block."""
        return self.core.get(index)


def chunks(blocks: Sequence[bytes]) -> list[list[bytes]]:
    """Runs of blocks that each fit one commit group."""
    found: list[list[bytes]] = []
    size = 0
    for block in blocks:
        if not found or len(found[-1]) >= _CHUNK_RECORDS or size + len(block) > _CHUNK_BYTES:
            found.append([])
            size = 0
        found[-1].append(block)
        size += len(block)
    return found
