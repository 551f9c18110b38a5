"""Reading a drive: as it is now, or as it was at a version. Spec: hyperdrive 13.3, index.js.

Everything that is not here comes from peers: the database's blocks as the tree asks for them, content a few blocks
ahead of the reader. `download` brings a whole folder at once.

Paths are resolved like the stock peers' (`paths.py`); a key that a peer wrote is given as it is, and whoever makes a
file of it checks it first (`mirror.py` does).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, TypeVar

from edge.crypto.hashing import HASH_BYTES
from edge.errors import ConfigError, LocalError, RemoteError
from edge.hyperbee.batch import Batch
from edge.hyperbee.bee import Hyperbee
from edge.hyperbee.entries import Entry
from edge.hyperdrive.blobs import BlobLog, Blobs
from edge.hyperdrive.content import ManifestLog, content_manifest
from edge.hyperdrive.entry import DriveEntry, FileValue
from edge.hyperdrive.paths import (
    Ignore,
    decode_key,
    encode_key,
    file_key,
    folder_key,
    folder_range,
    ignoring,
    resolve,
)
from edge.limits import SYMLINKS_FOLLOWED_MAX

T = TypeVar("T")

OpenBlobs = Callable[[bytes], Awaitable[BlobLog]]


class Content:
    """The core of a drive's blobs: given, or opened once the database says, or its manifest implies, which it is."""

    def __init__(self, db: ManifestLog, blobs: BlobLog | None, open_blobs: OpenBlobs | None) -> None:
        self._db = db
        self._blobs = None if blobs is None else Blobs(blobs)
        self._open_blobs = open_blobs
        self._checked = blobs is None
        self._opening = asyncio.Lock()

    @property
    def key(self) -> bytes | None:
        """The core's key; None: not opened yet."""
        return None if self._blobs is None else self._blobs.core.key

    async def blobs(self, bee: Hyperbee) -> Blobs:
        """The blobs; waits for the database's first block where they are not open. Raises `RemoteError`."""
        if self._blobs is None or not self._checked:
            async with self._opening:
                if self._blobs is None:
                    self._blobs = Blobs(await self._opened(bee))
                elif not self._checked and (await self._named(bee) or self._blobs.core.key) != self._blobs.core.key:
                    raise ConfigError("blobs", "this drive names another core for its content")
                self._checked = True
        return self._blobs

    async def _opened(self, bee: Hyperbee) -> BlobLog:
        if self._open_blobs is None:
            raise ConfigError("open_blobs", "this drive was opened without its content")
        key = await self._named(bee)
        if key is None:
            manifest = content_manifest(self._db.manifest, self._db.key)
            key = None if manifest is None else manifest.key()
        if key is None or len(key) != HASH_BYTES:
            raise RemoteError("the drive does not say which core holds its content", reason="content")
        core = await self._open_blobs(key)
        if core.key != key:
            raise LocalError("open_blobs opened another core than it was asked for")
        return core

    @staticmethod
    async def _named(bee: Hyperbee) -> bytes | None:
        """The key in the database's first block, if there is one."""
        header = await bee.header()
        named = header.metadata.content_feed if header is not None and header.metadata is not None else None
        return named[:HASH_BYTES] if named else None


@dataclass(frozen=True, slots=True)
class DriveChange:
    """A path whose entry is another one in two versions; `left` is the newer version's, None where it has none."""

    left: DriveEntry | None
    right: DriveEntry | None

    @property
    def key(self) -> str:
        """The path."""
        entry = self.left or self.right
        assert entry is not None
        return entry.key


class DriveView:
    """The files of one version of a drive."""

    supports_metadata: Final = True

    def __init__(self, bee: Hyperbee, content: Content, source: Hyperbee | Batch | None = None) -> None:
        """The drive of `bee`; entries are read from `source` where that is another one."""
        self._bee = bee
        self._content = content
        self._source: Hyperbee | Batch = bee if source is None else source

    @property
    def version(self) -> int:
        """Length of the database."""
        return self._bee.version

    @property
    def content_key(self) -> bytes | None:
        """Key of the core with the content; None until it is opened."""
        return self._content.key

    async def blobs(self) -> Blobs:
        """Where the content is."""
        return await self._content.blobs(self._bee)

    # --- one file ----------------------------------------------------------------------------------------------------

    async def entry(self, path: str, *, follow: bool = False) -> DriveEntry | None:
        """What the drive says of a path; None where there is nothing.

        `follow`: go on while it is a link, up to SYMLINKS_FOLLOWED_MAX times. As stock peers do, a relative target is
        taken from the link's own path, not from its folder.
        """
        entry = await self._entry(file_key(path))
        if not follow:
            return entry
        for _ in range(SYMLINKS_FOLLOWED_MAX):
            if entry is None or not entry.value.linkname:
                return entry
            try:
                target = file_key(resolve(entry.key, entry.value.linkname))
            except LocalError as error:
                raise RemoteError(f"link {entry.key!r} leads out of the drive: {error}", reason="link") from error
            entry = await self._entry(target)
        raise RemoteError(f"link {path!r} leads to too many others", reason="link")

    async def exists(self, path: str) -> bool:
        """Whether there is a file or link of that path."""
        return await self.entry(path) is not None

    async def get(self, path: str | DriveEntry, *, follow: bool = False, wait: bool = True) -> bytes | None:
        """Content of a file in one piece; None where there is no file. `wait`: for peers, if it is not here."""
        entry = path if isinstance(path, DriveEntry) else await self.entry(path, follow=follow)
        if entry is None or entry.value.blob is None:
            return None
        return await (await self.blobs()).get(entry.value.blob, wait=wait)

    async def read(
        self, path: str | DriveEntry, *, start: int = 0, length: int | None = None, wait: bool = True
    ) -> AsyncGenerator[bytes, None]:
        """Content of a file from `start` on, in pieces. Raises `ConfigError` where there is no file or link."""
        entry = path if isinstance(path, DriveEntry) else await self.entry(path)
        if entry is None:
            raise ConfigError(str(path), "no such file in the drive")
        if entry.value.blob is None:
            return
        blobs = await self.blobs()
        async with aclosing(blobs.read(entry.value.blob, start=start, length=length, wait=wait)) as pieces:
            async for piece in pieces:
                yield piece

    async def content_length(self, entry: DriveEntry) -> int:
        """Bytes of the file's content."""
        return 0 if entry.value.blob is None else await (await self.blobs()).byte_length(entry.value.blob)

    # --- folders -----------------------------------------------------------------------------------------------------

    async def list(
        self, folder: str = "/", *, recursive: bool = True, ignore: Iterable[str] | Ignore = ()
    ) -> AsyncGenerator[DriveEntry, None]:
        """Entries below `folder`, in order. Without `recursive`, the first one of each folder stands for it."""
        key, ignored = folder_key(folder), ignoring(ignore)
        if not recursive:
            async with aclosing(self._children(key)) as children:
                async for _, entry in children:
                    if not ignored(entry.key):
                        yield entry
            return
        lower, upper = folder_range(key)
        async with closing(self._source.range(gt=lower, lt=upper)) as entries:
            async for found in entries:
                entry = drive_entry(found)
                if not ignored(entry.key):
                    yield entry

    async def readdir(self, folder: str = "/") -> AsyncGenerator[str, None]:
        """Names of files and folders in `folder`; a name that is both may come twice, as with stock peers."""
        async with aclosing(self._children(folder_key(folder))) as children:
            async for name, _ in children:
                yield name

    async def has(self, path: str = "/") -> bool:
        """Whether all content of a file, or of a folder that is not empty, is here."""
        found = False
        async with aclosing(self._found(path)) as entries:
            async for entry in entries:
                found = True
                blob = entry.value.blob
                if blob is not None and not await (await self.blobs()).has(blob):
                    return False
        return found

    async def download(self, path: str = "/") -> None:
        """Return once the content of a file, or of everything in a folder, is here."""
        async with aclosing(self._found(path)) as entries:
            blobs = [entry.value.blob async for entry in entries if entry.value.blob is not None]
        if blobs:
            await (await self.blobs()).download(blobs)

    # --- versions ----------------------------------------------------------------------------------------------------

    def checkout(self, version: int) -> "DriveView":
        """The drive as it was when its database had that length."""
        return DriveView(self._bee.checkout(version), self._content)

    async def diff(self, version: int, folder: str = "/") -> AsyncGenerator[DriveChange, None]:
        """What is otherwise here (`left`) than at that version (`right`), in order."""
        lower, upper = folder_range(folder_key(folder))
        async with closing(self._bee.diff(version, gt=lower, lt=upper)) as changes:
            async for left, right in changes:
                yield DriveChange(left and drive_entry(left), right and drive_entry(right))

    async def download_diff(self, version: int, folder: str = "/") -> None:
        """Return once all content is here that this version has and that one has not."""
        async with aclosing(self.diff(version, folder)) as changes:
            entries = [change.left async for change in changes if change.left is not None]
        if wanted := [entry.value.blob for entry in entries if entry.value.blob is not None]:
            await (await self.blobs()).download(wanted)

    async def blobs_length(self) -> int:
        """How much of the content's core the files of this version need."""
        length = 0
        async with aclosing(self.list()) as entries:
            async for entry in entries:
                if entry.value.blob is not None:
                    length = max(length, entry.value.blob.block_end)
        return length

    @staticmethod
    def compare(a: DriveEntry, b: DriveEntry) -> int:
        """1, 0 or -1: whether `a` was put after, with or before `b`."""
        left, right = a.seq or 0, b.seq or 0
        return (left > right) - (left < right)

    # --- within ------------------------------------------------------------------------------------------------------

    async def _entry(self, key: str) -> DriveEntry | None:
        found = await self._source.get(encode_key(key))
        return None if found is None else drive_entry(found)

    async def _found(self, path: str) -> AsyncGenerator[DriveEntry, None]:
        """The file of that path, or else everything in the folder."""
        entry = None if folder_key(path) == "" or path.endswith("/") else await self.entry(path)
        if entry is not None:
            yield entry
            return
        async with aclosing(self.list(path)) as entries:
            async for entry in entries:
                yield entry

    async def _children(self, folder: str) -> AsyncGenerator[tuple[str, DriveEntry], None]:
        """The names in a folder with their first entries; one look-up for each, whatever lies below it."""
        after, upper = folder_range(folder)
        previous = None
        while (found := await self._source.peek(gte=after, lt=upper)) is not None:
            entry = drive_entry(found)
            name, below, _ = entry.key[len(folder) + 1 :].partition("/")
            # behind the file itself, or behind everything in the folder ("0" comes right behind "/")
            after = found.key + b"\0" if not below else folder_range(folder, f"/{name}0")[0]
            if name != previous:
                yield name, entry
            previous = name


def drive_entry(found: Entry) -> DriveEntry:
    """What the database found, as a file's entry. Raises `RemoteError`."""
    if found.value is None:
        raise RemoteError(f"drive entry {found.key[:64]!r} has no value")
    return DriveEntry(decode_key(found.key), FileValue.decode(found.value), found.seq)


def closing(entries: AsyncIterator[T]) -> aclosing[AsyncGenerator[T, None]]:
    """What a tree yields is a generator, which ends with its reader instead of some time later."""
    assert isinstance(entries, AsyncGenerator)
    return aclosing(entries)
