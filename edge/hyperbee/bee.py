"""A sorted map from keys to values on a signed log: every version stays readable. The asyncio shell around the tree.

    bee = Hyperbee(core, key_encoding=UTF8, value_encoding=JSON)
    await bee.put("apple", {"price": 249})
    async for entry in bee.range(gte="a", lt="b"): ...
    prices = bee.sub("prices")                       # a part of the same tree with keys of its own

Invariants
- A version is a length of the log: each put and delete is one block, and the newest one holds the root.
- A read sees one version from its beginning to its end, however the log grows meanwhile.
- Blocks that are not held are fetched; nothing waits for a block that is.
- Whatever the writer of the log signed, a read ends: with entries, or with `RemoteError`.

A version in the middle of somebody's batch has no root of its own: check out what `version` or `watch` named.
Spec: hyperbee 2.27, and `hypercore-wire` for what it leaves open.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar

from edge.errors import BlockMissing, LocalError, RemoteError
from edge.hyperbee.batch import Batch
from edge.hyperbee.codec import PROTOCOL, Header, Metadata, holds_own_key
from edge.hyperbee.cursor import Cursor
from edge.hyperbee.diff import Diff, Found
from edge.hyperbee.encodings import BINARY, Encoding
from edge.hyperbee.entries import Cas, Change, Difference, Entry, Form
from edge.hyperbee.reader import Log, Missing, Reader, VersionGone, root_pointer
from edge.limits import TREE_CACHE_BYTES_MAX

T = TypeVar("T")
SEPARATOR = b"\x00"  # behind the name of a sub-tree


class Hyperbee:
    """A tree on `log`, newest version. Views of it come from `sub`, `checkout` and `snapshot`.

    Nobody else may append to the log meanwhile. `always_duplicate=False`: a put of the value that is there is skipped.
    """

    def __init__(
        self,
        log: Log,
        *,
        key_encoding: Encoding = BINARY,
        value_encoding: Encoding = BINARY,
        metadata: Metadata | None = None,
        always_duplicate: bool = True,
        cache_bytes: int = TREE_CACHE_BYTES_MAX,
    ) -> None:
        self._log = log
        self._reader = Reader(log, cache_bytes)
        self._lock = asyncio.Lock()
        self._form = Form(b"", key_encoding, value_encoding)
        self._metadata = metadata
        self._always_duplicate = always_duplicate
        self._checkout: tuple[int, int] | None = None  # version and fork

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def log(self) -> Log:
        """The log underneath."""
        return self._log

    @property
    def key(self) -> bytes:
        """The log's key."""
        return self._log.key

    @property
    def version(self) -> int:
        """The version that reads see: 1 for an empty tree."""
        return self._checkout[0] if self._checkout is not None else max(1, self._log.length)

    @property
    def writable(self) -> bool:
        """Whether this view can be written to, here."""
        return self._checkout is None and self._log.writable

    async def header(self) -> Header | None:
        """Block 0; None: there is none yet. Raises `RemoteError` if it is no header of a Hyperbee."""
        if not self._log.length:
            return None
        try:
            data = self._log.get(0)
        except BlockMissing:
            data = await self._log.fetch(0)
        header = Header.decode(data)
        if header.protocol != PROTOCOL:
            raise RemoteError(f"the log holds {header.protocol[:64]!r}, no Hyperbee", reason="protocol")
        return header

    # --- views -------------------------------------------------------------------------------------------------------

    def sub(
        self,
        name: str | bytes,
        *,
        separator: bytes = SEPARATOR,
        key_encoding: Encoding | None = None,
        value_encoding: Encoding | None = None,
        always_duplicate: bool = True,
    ) -> "Hyperbee":
        """The part of the tree whose keys begin with `name` and `separator`, as a tree of its own. May be nested."""
        if not separator:
            raise LocalError("a sub-tree's separator is at least one byte")
        name = name.encode() if isinstance(name, str) else name
        view = self._view(self._form.prefix + name + separator, key_encoding, value_encoding)
        view._always_duplicate = always_duplicate
        return view

    def checkout(
        self, version: int, *, key_encoding: Encoding | None = None, value_encoding: Encoding | None = None
    ) -> "Hyperbee":
        """The tree as it was at `version`, to be read. Raises `LocalError` for a version that is not there yet."""
        version = max(1, version)
        if version > max(1, self._log.length):
            raise LocalError(f"version {version} is not there yet: the log's length is {self._log.length}")
        view = self._view(self._form.prefix, key_encoding, value_encoding)
        view._checkout = version, self._begin()[1]
        return view

    def snapshot(self, *, key_encoding: Encoding | None = None, value_encoding: Encoding | None = None) -> "Hyperbee":
        """The tree as it is now, to be read."""
        return self.checkout(self.version, key_encoding=key_encoding, value_encoding=value_encoding)

    # --- writing -----------------------------------------------------------------------------------------------------

    def batch(self) -> Batch:
        """Writes that are appended together. Raises `LocalError` for a checkout."""
        if self._checkout is not None:
            raise LocalError("a checkout cannot be written to")
        return Batch(self._reader, self._form, self._lock, self._metadata, always_duplicate=self._always_duplicate)

    async def put(self, key: Any, value: Any, *, cas: Cas | None = None) -> bool:
        """Let `key` have `value`; see `Batch.put`. Durable when this returns."""
        async with self.batch() as batch:
            return await batch.put(key, value, cas=cas)

    async def delete(self, key: Any, *, cas: Cas | None = None) -> bool:
        """Let `key` have no entry; see `Batch.delete`. Durable when this returns."""
        async with self.batch() as batch:
            return await batch.delete(key, cas=cas)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def get(self, key: Any) -> Entry | None:
        """The entry of `key`."""
        data = self._form.key(key)
        reader = self._reader
        while True:
            version, fork = self._begin()
            try:
                found = reader.find(root_pointer(version), data)
            except Missing as missing:
                await reader.fetch(missing)
                try:
                    found = await self._run(fork, lambda: reader.find(root_pointer(version), data))  # noqa: B023 - now
                except VersionGone:
                    if self._checkout is not None:
                        raise
                    continue
            return None if found is None else self._form.entry(*found)

    async def get_by_seq(self, seq: int) -> Entry:
        """What block `seq` says, whether it still holds or not. Raises `LocalError` if this version has no such one."""
        version, fork = self._begin()
        if not 1 <= seq < version:
            raise LocalError(f"version {version} has no block {seq} with a key")
        return self._form.entry(seq, await self._run(fork, lambda: self._reader.block(seq)))

    async def peek(
        self, *, gt: Any = None, gte: Any = None, lt: Any = None, lte: Any = None, reverse: bool = False
    ) -> Entry | None:
        """The first entry of a range."""
        bounds = self._form.bounds(gt, gte, lt, lte)
        version, fork = self._begin()
        root = await self._run(fork, lambda: self._reader.root(version))
        found = await self._run(fork, Cursor(self._reader, root, bounds, reverse=reverse, limit=1).run)
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
        """Entries in order of their keys (as bytes), at most `limit`."""
        bounds = self._form.bounds(gt, gte, lt, lte)
        version, fork = self._begin()
        root = await self._run(fork, lambda: self._reader.root(version))
        cursor = Cursor(self._reader, root, bounds, reverse=reverse, limit=limit)
        entry = self._form.entry
        while run := await self._run(fork, cursor.run):
            for seq, block in run:
                yield entry(seq, block)

    async def history(
        self,
        *,
        gt: int | None = None,
        gte: int | None = None,
        lt: int | None = None,
        lte: int | None = None,
        reverse: bool = False,
        limit: int | None = None,
        live: bool = False,
    ) -> AsyncIterator[Change]:
        """Puts and deletes in the order of their blocks; bounds are block numbers, negative ones from the end.

        `live`: never end, but go on with what is appended. A sub-tree has its own changes alone.
        """
        if live and (reverse or self._checkout is not None):
            raise LocalError("a live history goes forward, of the newest version")
        version, fork = self._begin()
        length = self._log.length
        start, stop = _span(version, gt, gte, lt, lte)
        stop = version if live else stop
        seqs = range(stop - 1, start - 1, -1) if reverse else range(start, stop)
        while limit is None or limit > 0:
            for seq in seqs:
                block = await self._run(fork, partial(self._reader.block, seq))
                if not self._form.holds(block.key):
                    continue
                deleted = block.value is None and not holds_own_key(block.levels, seq)
                yield Change(*self._form.entry(seq, block), deleted)
                if limit is not None:
                    limit -= 1
                    if not limit:
                        return
            if not live:
                return
            await self._log.changed(length, fork)
            seen, length = length, self._log.length
            self._reader.at(fork)
            seqs = range(max(start, seen), length)

    async def diff(
        self,
        other: "Hyperbee | int",
        *,
        gt: Any = None,
        gte: Any = None,
        lt: Any = None,
        lte: Any = None,
        limit: int | None = None,
    ) -> AsyncIterator[Difference]:
        """The keys whose entry is another one here (left) than in `other` (right), a version or a view of the log."""
        bounds = self._form.bounds(gt, gte, lt, lte)
        version, fork = self._begin()
        right = self.checkout(other) if isinstance(other, int) else other
        if right._reader is not self._reader:
            raise LocalError("only views of the same tree can be compared")
        right_version, right_fork = right._begin()
        if right_fork != fork:
            raise VersionGone(right_fork, fork)
        form, walk = self._form, Diff(self._reader, root_pointer(version), root_pointer(right_version), bounds)
        while (limit is None or limit > 0) and (found := await self._run(fork, walk.next)) is not None:
            a, b = found
            yield Difference(_entry(form, a), _entry(form, b))
            limit = None if limit is None else limit - 1

    async def watch(
        self, *, gt: Any = None, gte: Any = None, lt: Any = None, lte: Any = None
    ) -> AsyncIterator[tuple["Hyperbee", "Hyperbee"]]:
        """The tree after and before, whenever an entry of the range has changed, or the log was truncated.

        Changes that follow each other quickly come as one. After a truncation the version before cannot be read.
        """
        if self._checkout is not None:
            raise LocalError("a checkout never changes")
        bounds = {"gt": gt, "gte": gte, "lt": lt, "lte": lte}
        self._form.bounds(**bounds)
        length, fork = self._log.length, self._log.fork
        current = self.snapshot()
        while True:
            await self._log.changed(length, fork)
            previous, before = current, fork
            length, fork = self._log.length, self._log.fork
            current = self.snapshot()
            changed = fork != before
            if not changed:
                try:
                    async for _ in current.diff(previous, **bounds, limit=1):
                        changed = True
                except VersionGone:  # truncated while we looked: the next turn says so
                    continue
            if changed:
                yield current, previous

    async def watch_key(self, key: Any) -> AsyncIterator[Entry | None]:
        """The entry of `key` now, and again whenever another block holds it, or none."""
        if self._checkout is not None:
            raise LocalError("a checkout never changes")
        seen: tuple[int, int | None] | None = None
        while True:
            length, fork = self._log.length, self._log.fork
            try:
                entry = await self.get(key)
            except VersionGone:
                continue
            state = fork, None if entry is None else entry.seq
            if state != seen:
                seen = state
                yield entry
            await self._log.changed(length, fork)

    # --- within ------------------------------------------------------------------------------------------------------

    def _view(self, prefix: bytes, key_encoding: Encoding | None, value_encoding: Encoding | None) -> "Hyperbee":
        """The same tree, reader and lock with another form."""
        view = copy.copy(self)
        form = self._form
        view._form = Form(prefix, key_encoding or form.key_encoding, value_encoding or form.value_encoding)
        return view

    def _begin(self) -> tuple[int, int]:
        """The version and fork that a read is about to see. Raises `VersionGone` for a checkout of another fork."""
        checkout = self._checkout
        if checkout is None:
            return self._log.length, self._reader.refresh()
        self._reader.at(checkout[1])
        return checkout

    async def _run(self, fork: int, step: Callable[[], T]) -> T:
        reader = self._reader
        while True:
            reader.at(fork)
            try:
                return step()
            except Missing as missing:
                await reader.fetch(missing)


def _entry(form: Form, found: Found | None) -> Entry | None:
    return None if found is None else form.entry(*found)


def _span(version: int, gt: int | None, gte: int | None, lt: int | None, lte: int | None) -> tuple[int, int]:
    """First block and the one behind the last, from bounds as stock peers understand them."""
    if gt is not None:
        start = (gt + version if gt < 0 else gt) + 1
    else:
        start = 1 if gte is None else (gte + version if gte < 0 else gte)
    if lte is not None:
        stop = (lte + version if lte < 0 else lte) + 1
    else:
        stop = version if lt is None else (lt + version if lt < 0 else lt)
    return max(1, start), min(version, stop)
