"""Blocks of a log as decoded blocks, keys and tree nodes, kept for reuse within a bound of bytes.

Everything here is synchronous: a block that the log does not hold raises `Missing`, whoever asked waits for `fetch` and
asks again. So the tree's algorithms have no await, and a tree that is held locally is read without one.

Invariants: what is kept belongs to the log's fork, and is let go once that changes; nodes have ascending keys; a node's
keys and children are in its own block or earlier ones, so what was read once stays right while the log grows.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from operator import attrgetter, lt
from typing import Final, Generic, Protocol, TypeVar

from edge.errors import BlockMissing, PomonaError, RemoteError
from edge.hyperbee.codec import OFFSET_BITS, OFFSET_MASK, Block, decode_block, decode_level
from edge.hyperbee.node import KEY_COST, Node, Pointer
from edge.limits import TREE_DEPTH_MAX

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

    async def append(self, blocks: Iterable[bytes], /, *, urgent: bool = False, whole: bool = False) -> int:
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
    """What was put last, within `bytes_max`: first in, first out.

    Whatever is in use comes back with its next miss; an order of use would make every hit pay for that.
    """

    def __init__(self, bytes_max: int, cost: Callable[[T], int]) -> None:
        self._bytes_max = bytes_max
        self._cost = cost
        self._items: dict[int, T] = {}
        self._bytes = 0
        self.get: Final = self._items.get

    def put(self, key: int, value: T) -> None:
        """Keep `value` for a while."""
        items = self._items
        if key in items:
            self.drop(key)
        items[key] = value
        self._bytes += self._cost(value)
        if self._bytes > self._bytes_max:
            self._shrink()

    def put_all(self, values: dict[int, T]) -> None:
        """Keep them all, whose keys are new, for a while."""
        self._items.update(values)
        self._bytes += sum(map(self._cost, values.values()))
        if self._bytes > self._bytes_max:
            self._shrink()

    def drop(self, key: int) -> None:
        """Let go of what is under `key`, if there is anything."""
        self.drop_all((key,))

    def drop_all(self, keys: Iterable[int]) -> None:
        """The same for several."""
        pop, cost = self._items.pop, self._cost
        for key in keys:
            value = pop(key, None)
            if value is not None:
                self._bytes -= cost(value)

    def grew(self, key: int, value: T, extra: int) -> None:
        """Count `extra` bytes more for `value`, if it is still what is under `key`."""
        if self._items.get(key) is value:
            self._bytes += extra

    def clear(self) -> None:
        """Keep nothing."""
        self._items.clear()
        self._bytes = 0

    def _shrink(self) -> None:
        """Let the oldest go, many at once: a dictionary passes by all that it has lost to find the oldest it has."""
        items = self._items
        while self._bytes > self._bytes_max:
            self.drop_all(list(islice(items, 1 + (len(items) >> 4))))


def root_pointer(version: int) -> Pointer | None:
    """Where a version's root is; None: its tree is empty."""
    return (version - 1) << OFFSET_BITS if version > 1 else None


def _block_cost(block: Block) -> int:
    key, value, levels = block
    return 300 + len(key) + len(levels) + (len(value) if value is not None else 0)


def _key_cost(key: bytes) -> int:
    return 150 + len(key)


class Reader:
    """Decoded blocks, keys and nodes of one log."""

    def __init__(self, log: Log, cache_bytes: int) -> None:
        self.log: Final = log
        self.fork = log.fork
        self._blocks: Cache[Block] = Cache(cache_bytes // 8, _block_cost)
        self._keys: Cache[bytes] = Cache(cache_bytes // 16, _key_cost)
        self._nodes: Cache[Node] = Cache(cache_bytes * 13 // 16, attrgetter("cost"))

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
        """The node at `pointer`, with all of its keys. Raises `Missing` with every block that they need."""
        node = self._nodes.get(pointer) or self._load(pointer)
        if node.unread:
            self._read_keys(pointer, node)
        return node

    def child(self, pointer: Pointer) -> Node:
        """The same for a node that is not the root, and so has keys."""
        node = self._nodes.get(pointer)
        if node is None or node.unread:
            node = self.node(pointer)
        if not node.keys:
            raise _empty(pointer)
        return node

    def find(self, pointer: Pointer | None, key: bytes) -> tuple[int, Block] | None:
        """The block that holds `key` under the node at `pointer`. Raises `Missing`, `RemoteError`."""
        if pointer is None:
            return None
        kept = self._nodes.get
        for _ in range(TREE_DEPTH_MAX):
            node = kept(pointer) or self._load(pointer)
            keys = node.keys
            index = self._search(pointer, node, key) if node.unread else bisect_left(keys, key)
            if index < len(keys) and keys[index] == key:
                seq = node.seqs[index]
                return seq, self._blocks.get(seq) or self.block(seq)
            if not node.children:
                return None
            pointer = node.children[index]
        raise too_deep()

    def root(self, version: int) -> Node | None:
        """The root of the tree at `version`; None: it is empty."""
        pointer = root_pointer(version)
        return None if pointer is None else self.node(pointer)

    def keep(self, nodes: dict[Pointer, Node], replaced: Iterable[Pointer]) -> None:
        """Nodes that were just written need not be decoded; those that they replace are seldom read again."""
        self._nodes.drop_all(replaced)
        self._nodes.put_all(nodes)

    async def fetch(self, missing: Missing) -> None:
        """Get blocks from wherever the log gets them, all at once."""
        fork, seqs = self.fork, missing.seqs
        fetched = await asyncio.gather(*map(self.log.fetch, seqs))
        if fork == self.log.fork == self.fork:  # kept here too: a log may have dropped it by the time it is asked
            for seq, data in zip(seqs, fetched, strict=True):
                self._decoded(seq, data)

    def _decoded(self, seq: int, data: bytes) -> Block:
        block = _decode(seq, data)
        self._blocks.put(seq, block)
        return block

    def _load(self, pointer: Pointer) -> Node:
        seq, offset = pointer >> OFFSET_BITS, pointer & OFFSET_MASK
        level = decode_level(self.block(seq).levels, offset, seq)
        if not level.seqs and level.children:
            raise _empty(pointer)
        node = Node.stored(level)
        self._nodes.put(pointer, node)
        return node

    def _read_keys(self, pointer: Pointer, node: Node) -> None:
        """Read every key of `node`, or raise `Missing` for all that are not held."""
        missing: list[int] = []
        fresh: dict[int, Block] = {}
        keys, unread, extra = node.keys, node.unread, 0
        known, kept, get = self._blocks.get, self._keys.get, self.log.get
        for index, seq in enumerate(node.seqs):
            if not unread >> index & 1:
                continue
            block = known(seq)
            key = kept(seq) if block is None else block.key
            if key is None:
                try:
                    data = get(seq)
                except BlockMissing:
                    missing.append(seq)
                    continue
                fresh[seq] = block = _decode(seq, data)
                key = block.key
            keys[index] = key  # type: ignore[index]  # a list while keys are unread
            extra += KEY_COST + len(key)
            unread ^= 1 << index
        if fresh:
            self._blocks.put_all(fresh)
        self._got_keys(pointer, node, unread, extra)
        if missing:
            raise Missing(missing)

    def _read_key(self, pointer: Pointer, node: Node, index: int) -> bytes:
        key = self.key(node.seqs[index])
        node.keys[index] = key  # type: ignore[index]  # a list while keys are unread
        self._got_keys(pointer, node, node.unread & ~(1 << index), KEY_COST + len(key))
        return key

    def _got_keys(self, pointer: Pointer, node: Node, unread: int, extra: int) -> None:
        """Keys of `extra` bytes were read, all but `unread` are there now."""
        self._nodes.grew(pointer, node, extra)
        node.cost += extra
        if not unread and not all(map(lt, node.keys, node.keys[1:])):  # it stays unread: nobody takes it for sound
            raise RemoteError(f"block {pointer >> OFFSET_BITS} has a node whose keys do not ascend", reason="tree")
        node.unread = unread
        if not unread:
            node.keys = tuple(node.keys)

    def _search(self, pointer: Pointer, node: Node, key: bytes) -> int:
        """`bisect_left` that reads the keys it meets: a third of a cold node's. If one must be fetched, all are."""
        low, high = 0, len(node.keys)
        while low < high:
            middle = (low + high) >> 1
            if node.unread >> middle & 1:
                try:
                    found = self._read_key(pointer, node, middle)
                except Missing:
                    self._read_keys(pointer, node)
                    raise
            else:
                found = node.keys[middle]
            if found == key:
                return middle
            if found < key:
                low = middle + 1
            else:
                high = middle
        return low


def _decode(seq: int, data: bytes) -> Block:
    try:
        return decode_block(data)
    except RemoteError as error:
        raise RemoteError(f"block {seq} is none of a tree: {error}") from error


def too_deep() -> RemoteError:
    """For a walk that has come to TREE_DEPTH_MAX."""
    return RemoteError("a tree deeper than any that is sound", reason="tree")


def _empty(pointer: Pointer) -> RemoteError:
    return RemoteError(f"block {pointer >> OFFSET_BITS} has a node without keys below the root", reason="tree")
