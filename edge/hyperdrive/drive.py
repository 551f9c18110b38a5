"""A folder of files in two logs: a Hyperbee of entries, and the blobs that they name. Spec: hyperdrive 13.3, index.js.

    drive = Hyperdrive(db, blobs)                       # a writer has both cores
    drive = Hyperdrive(db, open_blobs=open_core)        # a reader learns the second one's key from the first
    await drive.put("/notes/today.txt", b"...")
    async for entry in drive.list("/notes"): ...

Invariants
- Content is durable before the entry that names it: a crash between leaves bytes that nobody names.
- The same operations write the same blocks as a stock drive, in both cores.
- One Hyperdrive writes to a pair of cores; others may read them.

Content given in pieces is cut into blocks of 64 KiB wherever it was cut before, as the stock `put` does.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Protocol

from edge.errors import ConfigError, LocalError
from edge.hyperbee.batch import Batch
from edge.hyperbee.bee import Hyperbee
from edge.hyperbee.codec import Metadata
from edge.hyperbee.reader import Log
from edge.hyperdrive.blobs import BlobLog, Pieces
from edge.hyperdrive.content import ManifestLog, content_manifest
from edge.hyperdrive.entry import BlobId, FileValue, Json
from edge.hyperdrive.paths import encode_key, file_key, folder_key, folder_range
from edge.hyperdrive.view import Content, DriveView, OpenBlobs, closing


class DatabaseLog(Log, ManifestLog, Protocol):
    """What is needed of the database's core; a Hypercore has it."""

    async def truncate(self, length: int, /) -> None:
        """Drop the blocks from `length` on."""
        ...


class DriveWriter(DriveView, ABC):
    """What drive and batch have in common: paths, content and flags become entries."""

    @abstractmethod
    async def _write(self, key: bytes, value: bytes | None) -> bool:
        """Put `value`, or delete with None; whether something changed."""

    async def put(self, path: str, content: Pieces, *, executable: bool = False, metadata: Json = None) -> None:
        """Write a file; the entry, and so the file, changes once all content is durable."""
        key = encode_key(file_key(path))
        FileValue(executable, metadata=metadata).encode()  # refused before anything is written
        blob = await (await self.blobs()).put(content)
        await self._write(key, FileValue(executable, blob=blob, metadata=metadata).encode())

    async def put_entry(
        self,
        path: str,
        *,
        executable: bool = False,
        linkname: str | None = None,
        blob: BlobId | None = None,
        metadata: Json = None,
    ) -> None:
        """Write an entry alone, for content that is there already."""
        await self._write(encode_key(file_key(path)), FileValue(executable, linkname, blob, metadata).encode())

    async def symlink(self, path: str, target: str, *, metadata: Json = None) -> None:
        """Make a symbolic link; the target is not looked at."""
        await self.put_entry(path, linkname=target, metadata=metadata)

    async def delete(self, path: str) -> bool:
        """Remove the entry; whether there was one. The content stays in the log: see `clear`."""
        return await self._write(encode_key(file_key(path)), None)


class Hyperdrive(DriveWriter):
    """A drive, at its newest version."""

    def __init__(self, db: DatabaseLog, blobs: BlobLog | None = None, *, open_blobs: OpenBlobs | None = None) -> None:
        """A drive on the core `db`; raises `ConfigError` if `blobs` is not the core that belongs to it.

        `open_blobs(key)` opens the content's core, when it is first needed, where it is not given.
        """
        manifest = content_manifest(db.manifest, db.key)
        named = None
        if blobs is not None and db.manifest is not None and manifest is not None:
            if manifest.key() != blobs.key:
                raise ConfigError("blobs", f"the content of this drive is in the core {manifest.key().hex()}")
        elif blobs is not None:
            named = blobs.key  # an old database says which core it is
        super().__init__(
            Hyperbee(db, metadata=Metadata(content_feed=named)),
            Content(db, blobs, open_blobs),
        )
        self._db = db

    @property
    def key(self) -> bytes:
        """Who knows it can find and read the drive: the key of the database's core."""
        return self._db.key

    @property
    def writable(self) -> bool:
        """Whether files can be put."""
        return self._db.writable

    def batch(self) -> "DriveBatch":
        """Changes of entries that become one append of the database, when the `async with` ends.

        Content is appended at once. Nobody else can change the drive while the batch has changes.
        """
        return DriveBatch(self._bee, self._content)

    async def clear(self, path: str) -> bool:
        """Forget the content of a file here; peers that hold it can bring it back. Whether there was some."""
        entry = await self.entry(path)
        if entry is None or entry.value.blob is None:
            return False
        await (await self.blobs()).clear(entry.value.blob)
        return True

    async def clear_all(self) -> None:
        """Forget all content here."""
        core = (await self.blobs()).core
        if core.length:
            await core.clear(0, core.length)

    async def truncate(self, version: int, *, blobs: int | None = None) -> None:
        """Go back to an earlier version, and to what its files need of the content, or to `blobs` blocks of it."""
        core = (await self.blobs()).core
        length = await self.checkout(version).blobs_length() if blobs is None else blobs
        if version > self._db.length or length > core.length:
            raise LocalError(f"a drive of {self._db.length} and {core.length} blocks has no {version} and {length}")
        await self._db.truncate(version)
        await core.truncate(length)

    async def watch(self, folder: str = "/") -> AsyncGenerator[tuple[DriveView, DriveView], None]:
        """(now, before) whenever something in `folder` has become otherwise, beginning with the first change.

        After a truncation the drive before cannot be read any more.
        """
        lower, upper = folder_range(folder_key(folder))
        async with closing(self._bee.watch(gt=lower, lt=upper)) as changes:
            async for now, before in changes:
                yield DriveView(now, self._content), DriveView(before, self._content)

    async def _write(self, key: bytes, value: bytes | None) -> bool:
        return await (self._bee.delete(key) if value is None else self._bee.put(key, value))


class DriveBatch(DriveWriter):
    """Changes that are written together. `diff`, `checkout` and `version` are the drive's, without them."""

    def __init__(self, bee: Hyperbee, content: Content) -> None:
        self._batch: Batch = bee.batch()
        super().__init__(bee, content, self._batch)

    async def __aenter__(self) -> "DriveBatch":
        await self._batch.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._batch.__aexit__(kind, error, trace)

    async def _write(self, key: bytes, value: bytes | None) -> bool:
        return await (self._batch.delete(key) if value is None else self._batch.put(key, value))
