"""Cores in memory and the links between them, under one virtual clock."""

from collections.abc import Callable

from support_memory_core import MemoryCore
from support_network import Clock, Link

from edge.crypto.keys import KeyPair
from edge.hypercore.replicator import Replicator, Session


class World:
    """Cores and links between them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.replicators: dict[MemoryCore, Replicator] = {}

    def later(self, work: Callable[[], None]) -> None:
        self.clock.call_later(0.003, work)

    def writer(self, *blocks: bytes, compat: bool = False) -> MemoryCore:
        core = MemoryCore.writer(KeyPair.generate(), compat=compat)
        if blocks:
            core.append(blocks)
        return core

    def replica(self, of: MemoryCore, *, manifest: bool = False) -> MemoryCore:
        return MemoryCore(of.key, manifest=of.manifest if manifest or of.compat else None, later=self.later)

    def replicator(self, core: MemoryCore) -> Replicator:
        if core not in self.replicators:
            self.replicators[core] = Replicator(core, clock=self.clock.now, call_later=self.clock.call_later)
        return self.replicators[core]

    def connect(self, one: MemoryCore, other: MemoryCore, latency: float = 0.01) -> Link:
        link = Link(self.clock, latency=latency)
        for end, core in zip(link.ends, (one, other), strict=True):
            Session(end).attach(self.replicator(core))
        return link

    def run(self, seconds: float = 5.0) -> None:
        self.clock.run(seconds)


def numbered(count: int, start: int = 0) -> list[bytes]:
    """Blocks with different contents."""
    return [f"block {index}".encode() for index in range(start, start + count)]
