"""Make one drive or folder hold what another one holds, changing only what differs. Spec: mirror-drive 2.

    mirror = Mirror(Folder(Path("/srv/files")), drive)
    async for change in mirror: ...             # or: count = await mirror.done()

First what is too much at the destination is removed, then files and links are added or changed, in the order of the
source. Files are the same if size, bytes, executable flag and (between drives) metadata are. A drive as the source is
read at the version that it has at the start.

Before anything is written into a folder, all names and links of a drive are looked at: one that would lead out of the
folder, or that is both a file and a folder, is a `RemoteError`, and nothing has happened. What is written is whole
under each name, but the folder as a whole changes file by file; begin again after an error.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from enum import StrEnum

from edge.errors import ConfigError, LocalError, RemoteError
from edge.hyperdrive.drive import DriveBatch, Hyperdrive
from edge.hyperdrive.entry import DriveEntry, Json
from edge.hyperdrive.folder import Folder
from edge.hyperdrive.paths import Ignore, Names, check_link, file_key, folder_key
from edge.hyperdrive.view import DriveView


class Operation(StrEnum):
    """What is done about one path."""

    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"
    EQUAL = "equal"


@dataclass(frozen=True, slots=True)
class Change:
    """One path, and by how much it makes the destination larger and smaller."""

    operation: Operation
    key: str
    bytes_added: int = 0
    bytes_removed: int = 0


@dataclass(slots=True)
class Count:
    """What was done. `files`: all at the source, the equal ones too."""

    files: int = 0
    add: int = 0
    change: int = 0
    remove: int = 0
    bytes_added: int = 0
    bytes_removed: int = 0


class Mirror:
    """One run from `source` to `destination`."""

    def __init__(
        self,
        source: DriveView | Folder,
        destination: Hyperdrive | Folder,
        *,
        prefixes: Sequence[str] = ("/",),
        dry_run: bool = False,
        prune: bool = True,
        include_equal: bool = False,
        ignore: Iterable[str] | Ignore = (),
        accept: Callable[[str], bool] | None = None,
        batch: bool = False,
    ) -> None:
        """A run that waits for being iterated.

        `prefixes`: files, or folders with all below them. `ignore`: left alone at both ends. `accept`: which files of
        the source count; others are neither copied nor, if the source has them, removed. `batch`: a drive's database
        gets everything at once, at the end.
        """
        if isinstance(destination, Hyperdrive) and not destination.writable:
            raise ConfigError("destination", "this drive cannot be written here")
        self.count = Count()
        self._source: DriveView | Folder = source
        if isinstance(source, Hyperdrive):
            self._source = source.checkout(source.version)
        self._destination = destination
        self._prefixes = [folder_key(prefix) for prefix in prefixes]
        self._dry_run, self._prune, self._include_equal, self._batch = dry_run, prune, include_equal, batch
        self._ignore, self._accept = ignore, accept
        self._changes = self._run()

    def __aiter__(self) -> AsyncGenerator[Change, None]:
        """What is done, as it is done."""
        return self._changes

    async def done(self) -> Count:
        """Do all of it."""
        async with aclosing(self._changes) as changes:
            async for _ in changes:
                pass
        return self.count

    async def _run(self) -> AsyncGenerator[Change, None]:
        if isinstance(self._source, DriveView):
            await self._check_source()
        folder = self._destination if isinstance(self._destination, Folder) and not self._dry_run else None
        async with AsyncExitStack() as stack:
            target: Hyperdrive | DriveBatch | Folder = self._destination
            if self._batch and isinstance(target, Hyperdrive):
                target = await stack.enter_async_context(target.batch())
            if folder is not None:
                await folder.prepare()
            if self._prune:
                async with aclosing(self._removals(target)) as removals:
                    async for change in removals:
                        yield change
            async with aclosing(self._copies(target)) as copies:
                async for change in copies:
                    yield change
        if folder is not None:
            await folder.sync()

    async def _check_source(self) -> None:
        names, into_folder = Names(), isinstance(self._destination, Folder)
        async with aclosing(self._entries(self._source, self._accept)) as entries:
            async for entry in entries:
                try:
                    normal = file_key(entry.key)
                except LocalError as error:
                    raise RemoteError(f"drive entry {entry.key!r}: {error}", reason="path") from error
                if normal != entry.key:
                    raise RemoteError(f"drive entry {entry.key!r} is no path inside a folder", reason="path")
                if into_folder:
                    names.add(entry.key)
                    if entry.value.linkname is not None:
                        check_link(entry.key, entry.value.linkname)

    async def _removals(self, target: Hyperdrive | DriveBatch | Folder) -> AsyncGenerator[Change, None]:
        async with aclosing(self._entries(self._destination, None)) as entries:
            async for entry in entries:
                if await self._source.entry(entry.key) is not None:
                    continue
                removed = await self._destination.content_length(entry)
                self.count.remove += 1
                self.count.bytes_removed += removed
                yield Change(Operation.REMOVE, entry.key, bytes_removed=removed)
                if not self._dry_run:
                    await target.delete(entry.key)

    async def _copies(self, target: Hyperdrive | DriveBatch | Folder) -> AsyncGenerator[Change, None]:
        async with aclosing(self._entries(self._source, self._accept)) as entries:
            async for entry in entries:
                self.count.files += 1
                old = await target.entry(entry.key)
                change, whole = await self._compared(entry, old, target)
                if change.operation is Operation.EQUAL:
                    if self._include_equal:
                        yield change
                    continue
                self.count.add += change.operation is Operation.ADD
                self.count.change += change.operation is Operation.CHANGE
                self.count.bytes_added += change.bytes_added
                self.count.bytes_removed += change.bytes_removed
                yield change
                if not self._dry_run:
                    await self._copy(entry, target, whole=whole, old=old)

    async def _compared(
        self, entry: DriveEntry, old: DriveEntry | None, target: Hyperdrive | DriveBatch | Folder
    ) -> tuple[Change, bool]:
        """What there is to do, and whether the content must be copied."""
        if old is None:
            return Change(Operation.ADD, entry.key, bytes_added=await self._source.content_length(entry)), True
        flags_equal = self._flags_equal(entry, old)
        if entry.value.linkname is not None or old.value.linkname is not None:
            same = entry.value.linkname == old.value.linkname
        else:
            same = await self._content_equal(entry, old, target)
        if same and (flags_equal or entry.value.linkname is not None):
            return Change(Operation.EQUAL, entry.key), False
        if same and not isinstance(target, Folder):
            return Change(Operation.CHANGE, entry.key), False
        added, removed = await self._source.content_length(entry), await target.content_length(old)
        return Change(Operation.CHANGE, entry.key, bytes_added=added, bytes_removed=removed), True

    def _flags_equal(self, entry: DriveEntry, old: DriveEntry) -> bool:
        if entry.value.executable != old.value.executable:
            return False
        if not (self._source.supports_metadata and self._destination.supports_metadata):
            return True
        ours, theirs = entry.value.metadata, old.value.metadata
        return _canonical(ours) == _canonical(theirs) if ours or theirs else True

    async def _content_equal(
        self, entry: DriveEntry, old: DriveEntry, target: Hyperdrive | DriveBatch | Folder
    ) -> bool:
        if (entry.value.blob is None) != (old.value.blob is None):
            return False
        mapped = [e.value.blob for e in (entry, old) if e.value.blob is not None and e.value.blob.block_map]
        if not mapped and entry.byte_length != old.byte_length:
            return False
        async with aclosing(self._source.read(entry)) as left, aclosing(target.read(old)) as right:
            return await _streams_equal(left, right)

    async def _copy(
        self, entry: DriveEntry, target: Hyperdrive | DriveBatch | Folder, *, whole: bool, old: DriveEntry | None
    ) -> None:
        value = entry.value
        if value.linkname is not None:
            await target.symlink(entry.key, value.linkname)
        elif whole or isinstance(target, Folder) or old is None:
            async with aclosing(self._source.read(entry)) as content:
                await target.put(entry.key, content, executable=value.executable, metadata=value.metadata)
        else:
            await target.put_entry(entry.key, executable=value.executable, blob=old.value.blob, metadata=value.metadata)

    async def _entries(
        self, of: DriveView | Folder, accept: Callable[[str], bool] | None
    ) -> AsyncGenerator[DriveEntry, None]:
        for prefix in self._prefixes:
            async with aclosing(of.list(prefix, ignore=self._ignore)) as listed:
                async for entry in listed:
                    if accept is None or accept(entry.key):
                        yield entry
            if prefix and (accept is None or accept(prefix)):
                alone = await of.entry(prefix)
                if alone is not None:
                    yield alone


def _canonical(metadata: Json) -> str:
    return json.dumps(metadata, sort_keys=True)


async def _streams_equal(left: AsyncIterator[bytes], right: AsyncIterator[bytes]) -> bool:
    """Whether two streams are the same bytes, however they are cut. Holds one piece of each."""
    a = b = memoryview(b"")
    while True:
        if not a:
            a = memoryview(await anext(left, b""))
        if not b:
            b = memoryview(await anext(right, b""))
        if not a or not b:
            return not a and not b
        common = min(len(a), len(b))
        if a[:common] != b[:common]:
            return False
        a, b = a[common:], b[common:]
