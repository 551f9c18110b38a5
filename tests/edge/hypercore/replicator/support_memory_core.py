"""A core in memory for tests of replication: proofs, signatures and forks are real, the disk is a list of things to do.

What is accepted becomes durable when `settle` is called; with `later`, that is arranged for each time.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from edge.crypto.hashing import discovery_key
from edge.crypto.keys import KeyPair
from edge.errors import BlockMissing, RemoteError, SignatureError
from edge.hypercore import flat_tree
from edge.hypercore.conflict import Conflict
from edge.hypercore.demand import Demand
from edge.hypercore.events import Cleared, Demanded, Event, Frozen, Grown, Listener, Stored, Truncated
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Node, Tree
from edge.hypercore.messages import Data, Request
from edge.hypercore.proof import Proven, check, check_block, prove
from edge.hypercore.replicator.stretches import Stretches
from edge.hypercore.verifier import Verifier

Later = Callable[[Callable[[], None]], None]


class MemoryCore:
    """One core. With a key pair it is the writer; without a manifest it has to learn it."""

    def __init__(
        self,
        key: bytes,
        *,
        manifest: Manifest | None = None,
        key_pair: KeyPair | None = None,
        later: Later | None = None,
    ) -> None:
        self.key = key
        self.discovery_key = discovery_key(key)
        self.manifest = manifest
        self.verifier = Verifier(key, manifest) if manifest else None
        self.compat = self.verifier is not None and self.verifier.compat
        self.key_pair = key_pair
        self.fork = 0
        self.tree = Tree()
        self.ahead = Tree()
        self.signature = b""
        self.nodes: dict[int, Node] = {}
        self.blocks: dict[int, bytes] = {}
        self.frozen: Conflict | None = None
        self.accepted = self.rejected = 0
        self._held = Stretches()
        self._pending: dict[int, bytes] = {}
        self._todo: list[Callable[[], None]] = []
        self._later = later or (lambda work: work())
        self._listeners: list[Listener] = []
        self.demand = Demand(self.held, lambda: self._emit(Demanded()))

    @classmethod
    def writer(cls, key_pair: KeyPair, *, compat: bool = False, later: Later | None = None) -> "MemoryCore":
        """A core that may append."""
        manifest = Manifest.single(key_pair.public_key)
        key = key_pair.public_key if compat else manifest.key()
        return cls(key, manifest=manifest, key_pair=key_pair, later=later)

    # --- what a writer does ------------------------------------------------------------------------------------------

    def append(self, blocks: Iterable[bytes]) -> int:
        """Append, sign and announce."""
        blocks = list(blocks)
        start = self.tree.length
        self.tree, born = self.tree.append(blocks)
        self.ahead = self.tree
        self.nodes.update((node.index, node) for node in born)
        self.blocks.update(enumerate(blocks, start))
        self._held.add(start, self.tree.length)
        self._sign()
        self.demand.grown()
        self.demand.arrived(start, self.length)
        self._emit(Grown())
        self._emit(Stored(start, self.length))
        return self.length

    def truncate(self, length: int) -> None:
        """Give up what follows, under a new fork."""
        self.fork += 1
        self._cut(length, self.tree.truncate(length, self.nodes.__getitem__))
        self._sign()
        self.demand.truncated(length)
        self._emit(Truncated(length, self.fork))
        self._emit(Grown())

    def clear(self, start: int, end: int) -> None:
        """Give up blocks, not their nodes."""
        for index in range(start, end):
            self.blocks.pop(index, None)
        self._held.remove(start, end)
        self._emit(Cleared(start, end))

    def _sign(self) -> None:
        assert self.key_pair is not None
        assert self.verifier is not None
        self.signature = self.verifier.sign(self.key_pair, self.tree.hash(), self.length, self.fork)

    # --- what peers see ----------------------------------------------------------------------------------------------

    @property
    def length(self) -> int:
        return self.tree.length

    @property
    def contiguous(self) -> int:
        return self._held.edges[1] if self._held.edges and self._held.edges[0] == 0 else 0

    @property
    def shown(self) -> tuple[int, int, Tree, bytes] | None:
        return (self.fork, self.length, self.tree, self.signature) if self.length or self.fork else None

    @property
    def backlog(self) -> int:
        return sum(map(len, self._pending.values()))

    def has(self, index: int) -> bool:
        return index in self._held

    def held(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        return self._held.within(start, end)

    def pending(self, index: int) -> bool:
        return index in self._pending

    def known(self, index: int) -> Node | None:
        return self.nodes.get(index)

    def prove(self, request: Request) -> Data:
        def node(index: int) -> Node:
            if index not in self.nodes:
                raise BlockMissing(index)
            return self.nodes[index]

        def block(index: int) -> bytes:
            if index not in self.blocks:
                raise BlockMissing(index)
            return self.blocks[index]

        if request.block is not None:
            block(request.block.index)
        return prove(
            request,
            tree=self.tree,
            fork=self.fork,
            signature=self.signature,
            nodes=node,
            block=block,
            manifest=None if self.compat else self.manifest,
        )

    def accept(self, data: Data) -> None:
        try:
            self._accept(data)
        except RemoteError:
            self.rejected += 1
            raise
        self.accepted += 1

    def _accept(self, data: Data) -> None:
        if self.frozen is not None:
            raise RemoteError("frozen", reason="frozen")
        if data.fork != self.fork:
            raise SignatureError("of another fork", reason="stale")
        if data.manifest is not None and self.manifest is None:
            self.verifier, self.manifest = Verifier(self.key, data.manifest), data.manifest
        if data.block is None and data.hash is None and data.seek is None and data.upgrade is None:
            return
        block, nodes, tree = data.block, None, None
        if data.upgrade is None and block is not None and data.seek is None:
            if block.index >= self.ahead.length:
                raise SignatureError("a block past the length", reason="proof")
            nodes = check_block(block.index, block.value, block.nodes, self.known)
        else:
            proven = check(data, tree=self.ahead, known=self.known, verifier=self.verifier)
            nodes, tree = list(proven.nodes), proven.signed_tree
            signed = proven.signed
        self.nodes.update((node.index, node) for node in nodes)
        if tree is not None:
            assert signed is not None
            self.nodes.update((root.index, root) for root in tree.roots)
            self.ahead = grown = tree
            signature = signed.signature
            self._do(lambda: self._grow(grown, signature))
        if block is not None:
            self._pending[block.index] = block.value
            index = block.index
            self._do(lambda: self._store(index))

    def accept_reorg(self, whole: Proven, shared: int) -> None:
        assert whole.signed is not None
        assert whole.signed_tree is not None
        assert whole.signed.fork > self.fork
        self.fork = whole.signed.fork
        self._todo.clear()
        self._cut(shared, whole.signed_tree)
        self.signature = whole.signed.signature
        self.nodes.update((node.index, node) for node in whole.nodes)
        self.nodes.update((root.index, root) for root in self.tree.roots)
        self.demand.truncated(shared)
        self.demand.grown()
        self._emit(Truncated(shared, self.fork))
        self._emit(Grown())

    async def conflict(self, proof: Conflict) -> None:
        proof.check()
        self.frozen = proof
        self._emit(Frozen())

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # --- the disk ----------------------------------------------------------------------------------------------------

    def _do(self, work: Callable[[], None]) -> None:
        self._todo.append(work)
        if len(self._todo) == 1:
            self._later(self.settle)

    def settle(self) -> None:
        """Make durable what was accepted."""
        todo, self._todo = self._todo, []
        for work in todo:
            work()

    def _grow(self, tree: Tree, signature: bytes) -> None:
        self.tree, self.signature = tree, signature
        self.demand.grown()
        self._emit(Grown())

    def _store(self, index: int) -> None:
        if index in self._pending:
            self.blocks[index] = self._pending.pop(index)
            self._held.add(index, index + 1)
            self.demand.arrived(index, index + 1)
            self._emit(Stored(index, index + 1))

    def _cut(self, length: int, tree: Tree) -> None:
        self._pending.clear()
        self.blocks = {index: value for index, value in self.blocks.items() if index < length}
        self._held.remove(length, 2**53)
        self.nodes = {i: node for i, node in self.nodes.items() if flat_tree.right_span(i) < 2 * length}
        self.nodes.update((root.index, root) for root in tree.roots)
        self.tree = self.ahead = tree

    def _emit(self, event: Event) -> None:
        for listener in list(self._listeners):
            listener(event)


async def turns(count: int = 20) -> None:
    """Let the loop run."""
    for _ in range(count):
        await asyncio.sleep(0)
