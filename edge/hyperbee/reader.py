"""Blocks of a log as decoded blocks, keys and tree nodes, kept for reuse within a bound of bytes.

Everything here is synchronous: a block that the log does not hold raises `Missing`, whoever asked waits for `fetch` and
asks again. So the tree's algorithms have no await, and a tree that is held locally is read without one.

Invariants: what is kept belongs to the log's fork, and is let go once that changes; nodes have ascending keys; a node's
keys and children are in its own block or earlier ones, so what was read once stays right while the log grows.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from operator import lt
from typing import Final, Generic, Protocol, TypeVar

from edge.errors import BlockMissing, PomonaError, RemoteError
from edge.hyperbee.codec import OFFSET_BITS, OFFSET_MASK, Block, decode_block, decode_level
from edge.hyperbee.node import Node, Pointer

T = TypeVar("T")


class Log(Protocol):
    """What a Hyperbee needs of a log of blocks; `Hypercore` is one."""

    @property
    def key(self) -> bytes:
        """Names the log."""
        ...

    @property
    def length(self) -> int:
        """Durable blocks."""
        ...

    @property
    def fork(self) -> int:
        """Changes when blocks are replaced."""
        ...

    @property
    def writable(self) -> bool:
        """Whether `append` is ours to call."""
        ...

    def get(self, index: int, /) -> bytes:
        """A block that is held; `BlockMissing` otherwise."""
        ...

    async def fetch(self, index: int, /) -> bytes:
        """A block, from peers if it must be."""
        ...

    async def append(self, blocks: Iterable[bytes], /, *, urgent: bool = False) -> int:
        """All of them or none; the length behind them once they are durable."""
        ...

    async def changed(self, length: int, fork: int, /) -> None:
        """Return once length or fork are others."""
        ...


class Missing(PomonaError):
    """Blocks that are needed first. Never seen outside: the caller fetches them and tries again."""

    def __init__(self, seqs: Sequence[int]) -> None:
        super().__init__(f"blocks {list(seqs)} are not held here")
        self.seqs = seqs


class VersionGone(RemoteError):
    """The log was truncated or replaced since this version was taken; what it said can be read no more."""

    def __init__(self, fork: int, now: int) -> None:
        super().__init__(f"a version of fork {fork} cannot be read: the log is at fork {now}", reason="truncated")


class Cache(Generic[T]):
    """About the most recently used of what was put, within `bytes_max`.

    Two generations: what is used moves to the young one; when that has half of the bytes, the old one is dropped. A hit
    costs one lookup, where a list in order of use would cost three.
    """

    def __init__(self, bytes_max: int, cost: Callable[[T], int]) -> None:
        self._half = bytes_max // 2
        self._cost = cost
        self._young: dict[int, T] = {}
        self._old: dict[int, T] = {}
        self._bytes = 0

    def get(self, key: int) -> T | None:
        """What is kept under `key`."""
        value = self._young.get(key)
        if value is None and (value := self._old.get(key)) is not None:
            self.put(key, value)
        return value

    def put(self, key: int, value: T) -> None:
        """Keep `value` for a while."""
        if self._bytes >= self._half:
            self._old, self._young, self._bytes = self._young, {}, 0
        self._young[key] = value
        self._bytes += self._cost(value)

    def clear(self) -> None:
        """Keep nothing."""
        self._old, self._young, self._bytes = {}, {}, 0


def _block_cost(block: Block) -> int:
    return 300 + len(block.key) + len(block.levels) + (len(block.value) if block.value is not None else 0)


def _key_cost(key: bytes) -> int:
    return 150 + len(key)


def _node_cost(node: Node) -> int:
    keys = node.keys
    return 400 + 80 * len(keys) + 40 * len(node.children) + sum(map(len, keys))


class Reader:
    """Decoded blocks, keys and nodes of one log."""

    def __init__(self, log: Log, cache_bytes: int) -> None:
        self.log: Final = log
        self.fork = log.fork
        self._blocks: Cache[Block] = Cache(cache_bytes // 8, _block_cost)
        self._keys: Cache[bytes] = Cache(cache_bytes * 3 // 8, _key_cost)
        self._nodes: Cache[Node] = Cache(cache_bytes // 2, _node_cost)

    def at(self, fork: int) -> None:
        """Call before reading on, whenever something was awaited. Raises `VersionGone` if the log's fork is another."""
        self.refresh()
        if fork != self.fork:
            raise VersionGone(fork, self.fork)

    def refresh(self) -> int:
        """Let go of what belongs to another fork than the log's; returns the fork."""
        fork = self.log.fork
        if fork != self.fork:
            for cache in (self._blocks, self._keys, self._nodes):
                cache.clear()
            self.fork = fork
        return fork

    def block(self, seq: int) -> Block:
        """Block `seq`, decoded. Raises `Missing`, or `RemoteError` if it is none of a tree."""
        block = self._blocks.get(seq)
        if block is None:
            try:
                data = self.log.get(seq)
            except BlockMissing:
                raise Missing((seq,)) from None
            block = self._decoded(seq, data)
        return block

    def key(self, seq: int) -> bytes:
        """The key of block `seq`."""
        key = self._keys.get(seq)
        if key is None:
            key = self.block(seq).key
            self._keys.put(seq, key)
        return key

    def node(self, pointer: Pointer) -> Node:
        """The node at `pointer`, with its keys. Raises `Missing` with all blocks that its keys need."""
        node = self._nodes.get(pointer)
        if node is not None:
            return node
        seq, offset = pointer >> OFFSET_BITS, pointer & OFFSET_MASK
        level = decode_level(self.block(seq).levels, offset, seq)
        keys, missing = [], []
        for held in level.seqs:
            try:
                keys.append(self.key(held))
            except Missing:
                missing.append(held)
        if missing:
            raise Missing(missing)
        if not keys and level.children:
            raise RemoteError(f"block {seq} has a node with children and no key", reason="tree")
        if not all(map(lt, keys, keys[1:])):
            raise RemoteError(f"block {seq} has a node whose keys do not ascend", reason="tree")
        node = Node(level.seqs, keys, level.children)
        self._nodes.put(pointer, node)
        return node

    def child(self, pointer: Pointer) -> Node:
        """The same for a node that is not the root, and so has keys."""
        node = self.node(pointer)
        if not node.keys:
            raise RemoteError(f"block {pointer >> OFFSET_BITS} has an empty node below the root", reason="tree")
        return node

    def root(self, version: int) -> Node | None:
        """The root of the tree at `version`; None: it is empty."""
        return self.node((version - 1) << OFFSET_BITS) if version > 1 else None

    def keep(self, nodes: Iterable[tuple[Pointer, Node]], keys: Iterable[tuple[int, bytes]]) -> None:
        """Nodes and keys that were just written need not be decoded."""
        for pointer, node in nodes:
            self._nodes.put(pointer, node)
        for seq, key in keys:
            self._keys.put(seq, key)

    async def fetch(self, missing: Missing) -> None:
        """Get blocks from wherever the log gets them, all at once."""
        fork, seqs = self.fork, missing.seqs
        fetched = await asyncio.gather(*map(self.log.fetch, seqs))
        if fork == self.log.fork == self.fork:  # kept here too: a log may have dropped it by the time it is asked
            for seq, data in zip(seqs, fetched, strict=True):
                self._decoded(seq, data)

    def _decoded(self, seq: int, data: bytes) -> Block:
        try:
            block = decode_block(data)
        except RemoteError as error:
            raise RemoteError(f"block {seq} is none of a tree: {error}") from error
        self._blocks.put(seq, block)
        return block
