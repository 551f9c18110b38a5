"""Puts and deletes that are appended together. The tree they make is the stock one, block for block.

    async with bee.batch() as batch:
        await batch.put(b"apple", b"2.49")
        await batch.delete(b"pear")
        await batch.get(b"apple")          # sees the batch's own writes
    # appended here, in one piece; after an exception nothing is

Invariants: from its first write to its end a batch holds the tree's lock, so batches and single writes follow each
other; every operation either happens as a whole or, where blocks must be fetched first, leaves no trace before it does.
Spec: hyperbee 2.27, index.js, `Batch`.
"""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from edge.errors import LocalError, StorageError, StorageFault
from edge.hyperbee.codec import KEYS_MAX, OFFSET_BITS, Block, Header, Metadata, join_block
from edge.hyperbee.cursor import Cursor
from edge.hyperbee.entries import Cas, Entry, Form
from edge.hyperbee.node import Branch, Child, Node, Pointer, compact, grow, place, place_path, rebalance, take_key
from edge.hyperbee.reader import Log, Missing, Reader, root_pointer, too_deep
from edge.limits import TREE_DEPTH_MAX

T = TypeVar("T")


class Writes:
    """The tree under change: synchronous; raises `Missing` before anything has changed."""

    def __init__(self, reader: Reader, *, always_duplicate: bool) -> None:
        self._reader = reader
        self._always_duplicate = always_duplicate
        self._root: Branch | None = None
        self._marked = False  # whether a refused put has left changed nodes behind, anywhere
        self._pending: list[tuple[bytes, bytes | None, list[Child]]] = []
        self.fork = reader.refresh()
        self.start = reader.log.length  # the first block that we will write

    def __len__(self) -> int:
        return len(self._pending)

    def put(self, key: bytes, value: bytes | None, judge: Callable[[int, Block], bool] | None) -> bool:
        """Write `key`; `judge` decides where it exists. Returns whether there is a new block."""
        pending = self._pending
        seq = self.start + len(pending)
        root = node = self._own_root() or Branch.fresh([], [], [])
        path = [Child(seq, 0, root)]
        load = self._reader.child
        while True:
            keys = node.keys
            index = bisect_left(keys, key)
            children = node.children
            if index < len(keys) and keys[index] == key:
                if not self._may_replace(node.seqs[index], value, judge):
                    self._marked = True
                    for child in path:  # a later put writes these nodes again
                        child.branch.changed = child.branch.changed or bool(child.branch.children)
                    return False
                seqs, own_keys = node.own()
                seqs[index] = seq
                own_keys[index] = key
                break
            if not children:
                seqs, own_keys = node.own()
                own_keys.insert(index, key)
                seqs.insert(index, seq)
                break
            below = children[index]
            if not isinstance(below, Child):
                if len(path) >= TREE_DEPTH_MAX:
                    raise too_deep()
                below = children[index] = node.adopt(index, load)
            path.append(below)
            node = below.branch
        if self._marked or len(own_keys) > KEYS_MAX:
            for child in path:
                child.branch.changed = True
            if len(own_keys) > KEYS_MAX:
                root = grow([child.branch for child in path[:-1]], node)
            self._append(root, key, value)
        else:
            place_path(path, seq)
            pending.append((key, value, path))
            self._root = root
        return True

    def delete(self, key: bytes, judge: Callable[[int, Block], bool] | None) -> bool:
        """Drop `key` if it exists and `judge` agrees. Returns whether there is a new block."""
        node = self._own_root()
        if node is None:
            return False
        stack = [node]
        while True:
            keys = node.keys
            index = bisect_left(keys, key)
            if index < len(keys) and keys[index] == key:
                break
            if not node.children:
                return False
            node = self._child(node, index, len(stack))
            stack.append(node)
        seq = node.seqs[index]
        if judge is not None and not judge(seq, self.block(seq)):
            return False
        take_key(stack, index, self._reader.child)
        self._append(rebalance(stack, self._reader.child), key, None)
        return True

    def find(self, key: bytes) -> tuple[int, Block] | None:
        """The block that holds `key` now."""
        node = self._root
        if node is None or not self._pending:
            return self._reader.find(root_pointer(self.start), key)
        while True:
            keys = node.keys
            index = bisect_left(keys, key)
            if index < len(keys) and keys[index] == key:
                seq = node.seqs[index]
                return seq, self.block(seq)
            if not node.children:
                return None
            child = node.children[index]
            if not isinstance(child, Child):  # from here on nothing has changed
                return self._reader.find(child, key)
            node = child.branch

    def root(self) -> Branch | Node | None:
        """The root as it is now."""
        return self._root or self._reader.root(self.start)

    def child(self, pointer: Pointer) -> Node:
        """A stored node."""
        return self._reader.child(pointer)

    def block(self, seq: int) -> Block:
        """A block of the log, or one of ours."""
        if seq < self.start:
            return self._reader.block(seq)
        key, value, _ = self._pending[seq - self.start]
        return Block(key, value, b"")

    def encode(self) -> "Encoded":
        """The blocks to append."""
        blocks: list[bytes] = []
        nodes: dict[Pointer, Node] = {}
        replaced: list[Pointer] = []
        last = self.start + len(self._pending) - 1
        for seq, (key, value, children) in enumerate(self._pending, self.start):
            if seq < last:
                compact(children, seq)
            bodies = []
            for pointer, child in enumerate(children, seq << OFFSET_BITS):
                branch = child.branch
                body, nodes[pointer] = branch.written()
                bodies.append(body)
                if branch.origin is not None:
                    replaced.append(branch.origin)
            blocks.append(join_block(key, value, bodies))
        return Encoded(blocks, nodes, replaced)

    # --- within ------------------------------------------------------------------------------------------------------

    def _own_root(self) -> Branch | None:
        if self._root is None:
            pointer = root_pointer(self.start)
            if pointer is None:
                return None
            self._root = Branch.of(self._reader.node(pointer), pointer)
        if not self._pending:
            self._root.changed = False  # refused puts mark nodes for the next block, but for the root before the first
        return self._root

    def _child(self, node: Branch, index: int, depth: int) -> Branch:
        if depth >= TREE_DEPTH_MAX:
            raise too_deep()
        return node.child(index, self._reader.child)

    def _may_replace(self, seq: int, value: bytes | None, judge: Callable[[int, Block], bool] | None) -> bool:
        if judge is None and self._always_duplicate:
            return True
        block = self.block(seq)
        if judge is not None and not judge(seq, block):
            return False
        return self._always_duplicate or block.value != value

    def _append(self, root: Branch, key: bytes, value: bytes | None) -> None:
        seq = self.start + len(self._pending)
        levels: list[Child] = []
        place(Child(seq, 0, root), levels, seq)
        self._pending.append((key, value, levels))
        self._root = root


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a batch appends, and what is known of it without decoding it."""

    blocks: list[bytes]
    nodes: dict[Pointer, Node]
    replaced: list[Pointer]


class Batch:
    """Writes of one view of a tree, appended together by `flush`. Made by `Hyperbee.batch`."""

    def __init__(
        self, reader: Reader, form: Form, lock: asyncio.Lock, metadata: Metadata | None, *, always_duplicate: bool
    ) -> None:
        self._reader = reader
        self._form = form
        self._lock = lock
        self._metadata = metadata
        self._always_duplicate = always_duplicate
        self._writes: Writes | None = None
        self._beginning = asyncio.Lock()
        self._ended = False

    async def __aenter__(self) -> "Batch":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._ended:
            await self.flush()
        else:
            self.close()

    @property
    def pending(self) -> int:
        """Blocks that `flush` will append."""
        return len(self._writes) if self._writes is not None else 0

    async def put(self, key: Any, value: Any, *, cas: Cas | None = None) -> bool:
        """Let `key` have `value` (None: no value). Returns whether there is a new block.

        There is none if `cas(entry, new)` says so, which is asked only where the key exists, or if the value is the
        same and the tree was opened without `always_duplicate`.
        """
        form = self._form
        data, content = form.key(key), form.value(value)
        writes = self._writes if self._writes is not None else await self._begin()
        judge = None if cas is None else self._judge(cas, key, value)
        self._reader.at(writes.fork)
        try:
            return writes.put(data, content, judge)
        except Missing as missing:
            await self._reader.fetch(missing)
        self._open()
        return await self._run(writes, lambda: writes.put(data, content, judge))

    async def delete(self, key: Any, *, cas: Cas | None = None) -> bool:
        """Let `key` have no entry. Returns whether it had one, and `cas(entry, new)` agreed if it was given."""
        data = self._form.key(key)
        writes = await self._begin()
        judge = None if cas is None else self._judge(cas, key, None)
        return await self._run(writes, lambda: writes.delete(data, judge))

    async def get(self, key: Any) -> Entry | None:
        """The entry of `key` as the batch has it."""
        data = self._form.key(key)
        writes = self._seen()
        found = await self._run(writes, lambda: writes.find(data))
        return None if found is None else self._form.entry(*found)

    async def peek(
        self, *, gt: Any = None, gte: Any = None, lt: Any = None, lte: Any = None, reverse: bool = False
    ) -> Entry | None:
        """The first entry of a range."""
        writes = self._seen()
        bounds = self._form.bounds(gt, gte, lt, lte)
        root = await self._run(writes, writes.root)
        found = await self._run(writes, Cursor(writes, root, bounds, reverse=reverse, limit=1).run)
        return self._form.entry(*found[0]) if found else None

    async def range(
        self,
        *,
        gt: Any = None,
        gte: Any = None,
        lt: Any = None,
        lte: Any = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[Entry]:
        """Entries in order, as the batch has them. Nothing may be written meanwhile."""
        writes = self._seen()
        count = len(writes)
        bounds = self._form.bounds(gt, gte, lt, lte)
        root = await self._run(writes, writes.root)
        cursor = Cursor(writes, root, bounds, reverse=reverse, limit=limit)
        while run := await self._run(writes, cursor.run):
            for seq, block in run:
                yield self._form.entry(seq, block)
                if len(writes) != count:
                    raise LocalError("the batch was written to while it was read in order")

    async def flush(self) -> None:
        """Append what was written, in one piece, and end. Raises what `append` raises; then nothing was written."""
        self._open()
        self._ended = True
        try:
            writes = self._writes
            if writes is not None and len(writes):
                log = self._reader.log
                if (log.length, log.fork) != (writes.start, writes.fork):
                    raise LocalError("somebody else wrote to the log of a tree while a batch was open")
                encoded = writes.encode()
                await log.append(encoded.blocks, urgent=True, whole=True)
                if self._reader.refresh() == writes.fork:
                    self._reader.keep(encoded.nodes, encoded.replaced)
        finally:
            self._release()

    def close(self) -> None:
        """Forget what was not flushed. Again: does nothing."""
        self._ended = True
        self._release()

    # --- within ------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._ended:
            raise LocalError("the batch has ended")

    async def _begin(self) -> Writes:
        """Our writes; before the first, take the lock and write the header where there is none yet."""
        if self._writes is not None:
            return self._writes
        async with self._beginning:
            self._open()
            if self._writes is None:
                log = self._reader.log
                if not log.writable:
                    raise StorageError("this tree cannot be written here", fault=StorageFault.READ_ONLY)
                await self._lock.acquire()
                try:
                    await self._write_header(log)
                    self._open()
                    self._writes = Writes(self._reader, always_duplicate=self._always_duplicate)
                except BaseException:
                    self._lock.release()
                    raise
            return self._writes

    async def _write_header(self, log: Log) -> None:
        if not log.length:
            await log.append([Header(metadata=self._metadata).encode()], urgent=True)

    def _seen(self) -> Writes:
        """What reads see: our writes or, before the first, the tree as it is."""
        self._open()
        if self._writes is not None:
            return self._writes
        return Writes(self._reader, always_duplicate=True)

    async def _run(self, writes: Writes, step: Callable[[], T]) -> T:
        while True:
            self._reader.at(writes.fork)
            try:
                return step()
            except Missing as missing:
                await self._reader.fetch(missing)
            self._open()

    def _judge(self, cas: Cas, key: Any, value: Any) -> Callable[[int, Block], bool]:
        form = self._form

        def judge(seq: int, block: Block) -> bool:
            writes = self._writes
            assert writes is not None
            return cas(form.entry(seq, block), Entry(writes.start + len(writes), key, value))

        return judge

    def _release(self) -> None:
        if self._writes is not None:
            self._writes = None
            self._lock.release()
