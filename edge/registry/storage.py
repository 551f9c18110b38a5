"""TinyDB's document on disk, replaced in one step: TinyDB's own storage writes in place, and a power cut leaves half.

The file is JSON `{"sha256": hex, "data": {...}}`; the checksum is over the canonical JSON of `data` (sorted keys, no
spaces). Writing makes a new file (never following a link), syncs it, keeps the present one as `.bak`, renames, and
syncs the folder. Reading falls back to `.bak` where the file is absent or damaged, and refuses where both are.

Invariants: at every instant one complete version is readable; one process writes at a time (an exclusive lock).
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any, Final

from tinydb.storages import Storage

from edge.atomic import sync_directory, write_beside
from edge.errors import StorageError, StorageFault

logger = logging.getLogger(__name__)
FILE_BYTES_MAX: Final = 4 * 1024 * 1024  # a registry is a few kB; what is larger is not one


class AtomicStorage(Storage):  # type: ignore[misc]  # TinyDB is not typed for us
    """For `TinyDB(path, storage=AtomicStorage)`."""

    def __init__(self, path: Path | str, *, read_only: bool = False) -> None:
        """`read_only`: no lock, and `write` raises."""
        self._path = Path(path)
        self._backup = self._path.with_name(self._path.name + ".bak")
        self._lock = -1 if read_only else _lock(self._path)

    def read(self) -> dict[str, Any] | None:
        """The document; None where there never was one. Raises `StorageError` if it and its backup are damaged."""
        damaged = False
        for path in (self._path, self._backup):
            try:
                return _read(path)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError) as error:
                damaged = True
                logger.error("registry %s is damaged (%s)", path, error)
        if damaged:
            raise StorageError(f"registry {self._path} and its backup are damaged", fault=StorageFault.CORRUPT)
        return None

    def write(self, data: dict[str, Any]) -> None:
        """Replace the document durably; on `StorageError` the present one stays."""
        if self._lock < 0:
            raise StorageError(f"registry {self._path} was opened for reading", fault=StorageFault.READ_ONLY)
        body = _canonical(data)
        text = json.dumps({"sha256": hashlib.sha256(body).hexdigest(), "data": data}, indent=1, sort_keys=True)
        try:
            temporary = write_beside(self._path, text.encode() + b"\n")
            if self._is_good():  # a damaged version must not push out the good backup
                self._backup.unlink(missing_ok=True)
                os.link(self._path, self._backup)
            temporary.replace(self._path)
            sync_directory(self._path.parent)
        except OSError as error:
            fault = StorageFault.FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageFault.IO
            raise StorageError(f"registry {self._path}: {error}", fault=fault) from error

    def close(self) -> None:
        """Release the lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _is_good(self) -> bool:
        try:
            _read(self._path)
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return True


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        raw = file.read(FILE_BYTES_MAX + 1)
    if len(raw) > FILE_BYTES_MAX:
        raise ValueError("too large")
    document = json.loads(raw)
    data = document["data"]
    if hashlib.sha256(_canonical(data)).hexdigest() != document["sha256"]:
        raise ValueError("checksum does not match")
    if not isinstance(data, dict):
        raise TypeError("not a document")
    return data


def _canonical(data: object) -> bytes:
    return json.dumps(data, separators=(",", ":"), sort_keys=True).encode()


def _lock(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"registry {path}: {error}", fault=StorageFault.IO) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise StorageError(f"registry {path} is in use by another process", fault=StorageFault.LOCKED) from None
    return descriptor
