"""The real disk: the only module of the box's log that opens, writes and syncs files.

Descriptors are close-on-exec (the default of `os.open`), files are private to the service's user. The lock is an
`flock` on a file of its own: it ends with the process however the process ends.
"""

import contextlib
import fcntl
import os
from pathlib import Path

from edge.errors import StorageError, StorageFault

LOCK_NAME = "lock"


class OsFile:
    """One file descriptor. Spec of the methods: `disk.File`."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def pread(self, size: int, offset: int) -> bytes:
        """One system call as a rule; more where the kernel answers short."""
        data = os.pread(self._descriptor, size, offset)
        while len(data) < size and (more := os.pread(self._descriptor, size - len(data), offset + len(data))):
            data += more
        return data

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write all; a short write (a limit, a nearly full disk) goes on and meets the error."""
        written = os.pwrite(self._descriptor, data, offset)
        while written < len(data):
            written += os.pwrite(self._descriptor, memoryview(data)[written:], offset + written)

    def truncate(self, size: int) -> None:
        """ftruncate(2)."""
        os.ftruncate(self._descriptor, size)

    def datasync(self) -> None:
        """fdatasync(2): data, and the size where it changed."""
        os.fdatasync(self._descriptor)

    def size(self) -> int:
        """Bytes, from fstat(2)."""
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Close once; later calls do nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class OsDisk:
    """A folder of the file system. Spec of the methods: `disk.Disk`. `create` makes the folder (mode 0700)."""

    def __init__(self, directory: Path, *, create: bool = False) -> None:
        self._directory = directory
        self._lock: int | None = None
        if create and not directory.is_dir():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync_folder(directory.parent)

    def describe(self) -> str:
        """The path."""
        return str(self._directory)

    def lock(self) -> None:
        """Take the lock and write our pid into the lock file, for the message of whoever comes second."""
        if self._lock is not None:
            raise StorageError(f"{self._directory}: already open in this process", fault=StorageFault.LOCKED)
        descriptor = os.open(self._directory / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StorageError(
                f"{self._directory}: in use by another process (pid {holder})", fault=StorageFault.LOCKED
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        with contextlib.suppress(OSError):  # the pid is for people; a full disk must not keep the log from opening
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        self._lock = descriptor

    def unlock(self) -> None:
        """The lock file stays: removing it would race with a process that just opened it."""
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            os.close(descriptor)

    def list(self) -> list[str]:
        """Every name but the lock's."""
        return sorted(name for name in (entry.name for entry in self._directory.iterdir()) if name != LOCK_NAME)

    def open(self, name: str, *, create: bool = False) -> OsFile:
        """Mode 0600 for what is created."""
        flags = os.O_RDWR | ((os.O_CREAT | os.O_TRUNC) if create else 0)
        return OsFile(os.open(self._directory / name, flags, 0o600))

    def rename(self, old: str, new: str) -> None:
        """rename(2)."""
        (self._directory / old).replace(self._directory / new)

    def unlink(self, name: str) -> None:
        """unlink(2)."""
        (self._directory / name).unlink()

    def sync_directory(self) -> None:
        """Open the folder and fsync(2) it."""
        _sync_folder(self._directory)


def _sync_folder(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
