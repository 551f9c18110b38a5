"""Snapshots of the price memory on disk: a crash while writing leaves the old ones, a bad one is skipped in reading.

A snapshot is a view like the memory itself. Losing all of them costs the time of reading the ledger again, never a
sale. File name: `memory-<length>.snapshot`, with the number of ledger records it contains; the newest two are kept,
because the newest may turn out damaged.
"""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from edge.errors import RemoteError, StorageError, StorageFault
from edge.memory.image import MemoryImage

_PREFIX: Final = "memory-"
_SUFFIX: Final = ".snapshot"
KEPT: Final = 2
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class SnapshotFolder:
    """The snapshots in one folder; the caller holds the box's lock on its state, so nobody else writes here."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.refused: list[str] = []  # why snapshots were not used at the last `load`, for the log and a metric

    def save(self, image: MemoryImage) -> int:
        """Write `image` and remove all but the newest two; its size in bytes. May run in a thread.

        Raises `StorageError`; the snapshots that were there are still there then.
        """
        data = image.encode()
        name = f"{_PREFIX}{image.length:016d}{_SUFFIX}"
        path = self._directory / name
        temporary = self._directory / f".{name}.tmp"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            self._sync_directory()
            for old in self._newest_first()[KEPT:]:
                old.unlink(missing_ok=True)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            fault = StorageFault.FULL if error.errno in _FULL else StorageFault.IO
            raise StorageError(f"{path}: {error.strerror}", fault=fault) from error
        return len(data)

    def load(self, *, ledger: bytes, length: int) -> MemoryImage | None:
        """The newest valid snapshot of the ledger named `ledger` that contains no more than its `length` records.

        None if there is none; `refused` then says why, snapshot by snapshot, and the ledger is read from its start.
        """
        self.refused = []
        for path in self._newest_first():
            try:
                image = MemoryImage.decode(path.read_bytes())
            except (RemoteError, OSError) as error:
                self.refused.append(f"{path.name}: {error}")
                continue
            if image.ledger != ledger:
                self.refused.append(f"{path.name}: of another ledger")
            elif image.length > length:
                self.refused.append(f"{path.name}: contains {image.length} records, the ledger has {length}")
            else:
                return image
        return None

    def _newest_first(self) -> list[Path]:
        return sorted(self._directory.glob(f"{_PREFIX}*{_SUFFIX}"), reverse=True)

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
