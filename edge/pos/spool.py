"""A till's spool: messages on disk, in sequence, until the box has acknowledged them. Synchronous; one owner.

Files `spool-{epoch}-{first}.log` (both numbers of 16 decimal digits) in the till's directory; `first` is the sequence
of the first record. A record is length (4 bytes, little-endian), CRC-32 (4 bytes, over the payload, seeded with the
CRC of the record before it in the file, 0 for the first), payload (the message as it is sent). A new file begins when
one is full or failed; a file goes once all of it is acknowledged and a newer one exists, so the epoch and the next
sequence are never forgotten.

Invariants: what `append` returned from is on disk; opening cuts a torn tail off and syncs before anything is appended,
so that no record that was never promised comes back; records of an older file at or behind a newer file's first
sequence were never promised either and do not count.
"""

import contextlib
import errno
import fcntl
import os
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge.atomic import sync_directory
from edge.errors import LocalError, StorageError, StorageFault
from edge.limits import RECEIPT_BYTES_MAX

FILE_BYTES_MAX: Final = 4 * 1024 * 1024
_HEAD: Final = struct.Struct("<II")
_NAME: Final = re.compile(r"spool-(\d{16})-(\d{16})\.log")


@dataclass(slots=True)
class _File:
    path: Path
    first: int
    descriptor: int
    offsets: list[int] = field(default_factory=list)  # of each record; the file ends at `end`
    end: int = 0
    crc: int = 0


class Spool:
    """The messages of one epoch of one till."""

    def __init__(self, directory: Path, epoch: int, files: list[_File], lock: int) -> None:
        self._directory, self._files, self._lock = directory, files, lock
        self.epoch = epoch
        self._failed = False

    @classmethod
    def open(cls, directory: Path) -> "Spool | None":
        """The spool in `directory`, or None where there is none (never was, or lost). Takes the directory's lock."""
        lock = _lock(directory)
        try:
            found = sorted(
                (int(match[1]), int(match[2]), path)
                for path in directory.iterdir()
                if (match := _NAME.fullmatch(path.name))
            )
            if not found:
                os.close(lock)
                return None
            epoch = found[-1][0]
            files = []
            starts = [first for known, first, _ in found if known == epoch]
            for number, (first, path) in enumerate((first, path) for known, first, path in found if known == epoch):
                limit = starts[number + 1] - first if number + 1 < len(starts) else None
                files.append(_recover(path, first, limit))
            sync_directory(directory)
        except OSError as error:
            os.close(lock)
            raise _failed(directory, error) from error
        return cls(directory, epoch, files, lock)

    @classmethod
    def create(cls, directory: Path, epoch: int) -> "Spool":
        """An empty spool of a new epoch. Spools of older epochs are left for a person to look at."""
        lock = _lock(directory)
        try:
            return cls(directory, epoch, [_create(directory, epoch, 1)], lock)
        except OSError as error:
            os.close(lock)
            raise _failed(directory, error) from error

    @property
    def next_sequence(self) -> int:
        """The sequence that the next appended message gets."""
        return self._files[-1].first + len(self._files[-1].offsets)

    @property
    def first_sequence(self) -> int:
        """The oldest sequence still held (acknowledged ones of a file that is not finished are held too)."""
        return self._files[0].first

    def append(self, payloads: Sequence[bytes]) -> int:
        """Store `payloads` with one sync; returns the first one's sequence. `StorageError`: none of them is stored."""
        try:
            if self._failed or self._files[-1].end >= FILE_BYTES_MAX:
                self._rotate()
            file = self._files[-1]
            crc, block, offsets = file.crc, bytearray(), []
            for payload in payloads:
                if not 0 < len(payload) <= RECEIPT_BYTES_MAX:
                    raise LocalError(f"message of {len(payload)} bytes in a spool")
                crc = zlib.crc32(payload, crc)
                offsets.append(file.end + len(block))
                block += _HEAD.pack(len(payload), crc) + payload
            self._failed = True  # until the sync says otherwise
            _write_all(file.descriptor, bytes(block), file.end)
            os.fdatasync(file.descriptor)
        except OSError as error:
            raise _failed(self._directory, error) from error
        self._failed = False
        sequence = self.next_sequence
        file.offsets += offsets
        file.end += len(block)
        file.crc = crc
        return sequence

    def read(self, sequence: int) -> bytes:
        """The message with `sequence`; `StorageError` where the disk does not give it back as it was."""
        file = next((f for f in reversed(self._files) if f.first <= sequence), None)
        if file is None or sequence >= self.next_sequence:
            raise LocalError(f"sequence {sequence} is not in the spool")
        at = file.offsets[sequence - file.first]
        before = sequence - file.first - 1
        try:
            length, crc = _HEAD.unpack(os.pread(file.descriptor, _HEAD.size, at))
            payload = os.pread(file.descriptor, length, at + _HEAD.size)
            seed = _HEAD.unpack(os.pread(file.descriptor, _HEAD.size, file.offsets[before]))[1] if before >= 0 else 0
        except (OSError, struct.error) as error:
            raise _failed(self._directory, error) from error
        if zlib.crc32(payload, seed) != crc:
            raise StorageError(f"{file.path} at byte {at}: bytes have changed", fault=StorageFault.CORRUPT)
        return payload

    def forget(self, through: int) -> None:
        """Everything up to `through` is acknowledged: remove files that hold nothing else."""
        while len(self._files) > 1 and self._files[1].first <= through + 1:
            file = self._files.pop(0)
            os.close(file.descriptor)
            file.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the files and the lock."""
        for file in self._files:
            os.close(file.descriptor)
        os.close(self._lock)

    def _rotate(self) -> None:
        if self._files[-1].offsets:
            self._files.append(_create(self._directory, self.epoch, self.next_sequence))
        else:  # a failed first write: the same name again, emptied
            os.close(self._files[-1].descriptor)
            self._files[-1] = _create(self._directory, self.epoch, self._files[-1].first)
        self._failed = False


def _create(directory: Path, epoch: int, first: int) -> _File:
    path = directory / f"spool-{epoch:016d}-{first:016d}.log"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.fsync(descriptor)
        sync_directory(directory)
    except OSError:
        os.close(descriptor)
        raise
    return _File(path, first, descriptor)


def _recover(path: Path, first: int, limit: int | None) -> _File:
    """Read a file up to its first bad record (or `limit` records) and cut the rest off."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    file = _File(path, first, descriptor)
    try:
        data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        while limit is None or len(file.offsets) < limit:
            if file.end + _HEAD.size > len(data):
                break
            length, crc = _HEAD.unpack_from(data, file.end)
            payload = data[file.end + _HEAD.size : file.end + _HEAD.size + length]
            if not 0 < length == len(payload) <= RECEIPT_BYTES_MAX or zlib.crc32(payload, file.crc) != crc:
                break
            file.offsets.append(file.end)
            file.end += _HEAD.size + length
            file.crc = crc
        if limit is not None and len(file.offsets) < limit:
            raise StorageError(f"{path}: {limit - len(file.offsets)} messages are damaged", fault=StorageFault.CORRUPT)
        if file.end < len(data):
            os.ftruncate(descriptor, file.end)
            os.fsync(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return file


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _lock(directory: Path) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _failed(directory, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise StorageError(f"{directory}: another till uses this spool", fault=StorageFault.LOCKED) from None
    return descriptor


def _failed(directory: Path, error: Exception) -> StorageError:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return StorageError(f"spool {directory}: {error}", fault=StorageFault.FULL if full else StorageFault.IO)
