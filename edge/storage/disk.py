"""The few file operations the log needs, as protocols: the real ones are in `files.py`, simulated ones in the tests.

A disk is one flat folder. Implementations raise `OSError` and nothing else; `storage_error` turns it into our words.
What a power cut may do: lose or keep, in any order and per 512-byte sector, whatever was written since the last
`datasync` of that file; lose directory operations since the last `sync_directory`. What it may not do: change a sector
that was synced and not written since.
"""

import errno
from typing import Protocol

from edge.errors import StorageError, StorageFault

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class File(Protocol):
    """One open file. Offsets and sizes are bytes."""

    def pread(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file."""
        ...

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write all of `data`, or raise."""
        ...

    def truncate(self, size: int) -> None:
        """Cut off what lies from byte `size` on. Only derived files are cut: how a power cut leaves it is unsaid."""
        ...

    def datasync(self) -> None:
        """Return only when everything written, and the size, has reached the device. After an error: never retry."""
        ...

    def size(self) -> int:
        """Length of the file."""
        ...

    def close(self) -> None:
        """Give the handle back. Does not sync."""
        ...


class Disk(Protocol):
    """One folder of files."""

    def describe(self) -> str:
        """The folder in a person's words, for messages."""
        ...

    def lock(self) -> None:
        """Hold the folder for this process; raises `StorageError` (LOCKED) naming the holder."""
        ...

    def unlock(self) -> None:
        """Let go of the folder; harmless when it is not held."""
        ...

    def list(self) -> list[str]:
        """Names of the files, sorted."""
        ...

    def open(self, name: str, *, create: bool = False) -> File:
        """Open for reading and writing; `create` makes it empty, also where it exists."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Atomic; replaces `new`."""
        ...

    def unlink(self, name: str) -> None:
        """Remove a file."""
        ...

    def sync_directory(self) -> None:
        """Return only when creations, renames and removals are durable."""
        ...


def storage_error(error: OSError, action: str) -> StorageError:
    """`error` in our words: FULL, READ_ONLY or IO, with what was being done."""
    if error.errno in _FULL:
        fault = StorageFault.FULL
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        fault = StorageFault.READ_ONLY
    else:
        fault = StorageFault.IO
    return StorageError(f"{action}: {error.strerror or error}", fault=fault)
