"""The real disk with faults that a test switches on: which operation fails, on which file, with which error."""

import errno
import os
from pathlib import Path

from edge.storage.files import OsDisk, OsFile


class Faults:
    """`fail("pwrite", ENOSPC)` makes each later pwrite raise until `heal`; `suffix` narrows it to some files."""

    def __init__(self) -> None:
        self._active: dict[str, tuple[int, str]] = {}
        self.hits = 0

    def fail(self, operation: str, number: int = errno.EIO, *, suffix: str = "") -> None:
        self._active[operation] = (number, suffix)

    def heal(self) -> None:
        self._active.clear()

    def check(self, operation: str, name: str) -> None:
        number, suffix = self._active.get(operation, (0, ""))
        if number and name.endswith(suffix):
            self.hits += 1
            raise OSError(number, os.strerror(number))


class FaultyFile:
    """Spec: `edge.storage.disk.File`."""

    def __init__(self, file: OsFile, faults: Faults, name: str) -> None:
        self._file = file
        self._faults = faults
        self._name = name

    def pread(self, size: int, offset: int) -> bytes:
        self._faults.check("pread", self._name)
        return self._file.pread(size, offset)

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        self._faults.check("pwrite", self._name)
        self._file.pwrite(data, offset)

    def truncate(self, size: int) -> None:
        self._faults.check("truncate", self._name)
        self._file.truncate(size)

    def datasync(self) -> None:
        self._faults.check("datasync", self._name)
        self._file.datasync()

    def size(self) -> int:
        return self._file.size()

    def close(self) -> None:
        self._file.close()


class FaultyDisk(OsDisk):
    """Spec: `edge.storage.disk.Disk`."""

    def __init__(self, directory: Path, faults: Faults) -> None:
        super().__init__(directory, create=True)
        self._faults = faults

    def open(self, name: str, *, create: bool = False) -> FaultyFile:  # type: ignore[override]
        self._faults.check("create" if create else "open", name)
        return FaultyFile(super().open(name, create=create), self._faults, name)

    def rename(self, old: str, new: str) -> None:
        self._faults.check("rename", new)
        super().rename(old, new)
