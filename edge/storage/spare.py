"""The next segment, prepared ahead of need in small steps, so that rolling over costs no more than any other commit.

A file is zero-filled under a temporary name, synced, renamed and the folder synced: a file with a segment's name
therefore holds zeros or what the log wrote, never old disk blocks. Real zeros, not a hole: overwriting allocated
blocks needs no file-system journal, so a commit is one flush, and a full disk is met here and not in a commit.
"""

import contextlib

from edge.storage.disk import Disk, File
from edge.storage.plan import SPARE_NAME, segment_name

STEP_BYTES = 256 * 1024  # written and synced at a time: a till that starts to wait meanwhile waits ~20 ms on an SD card


class Spare:
    """One segment in preparation. Raises `OSError`; after an error `discard` it and start again later."""

    __slots__ = ("_disk", "_file", "_filled", "_segment_bytes", "number", "ready")

    def __init__(self, disk: Disk, number: int, segment_bytes: int, *, ready: bool = False) -> None:
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._file: File | None = None
        self._filled = 0
        self.number = number
        self.ready = ready

    def step(self) -> bool:
        """Do one bounded piece of the work; True once the segment is ready."""
        if self.ready:
            return True
        if self._file is None:
            self._file = self._disk.open(SPARE_NAME, create=True)
        size = min(STEP_BYTES, self._segment_bytes - self._filled)
        self._file.pwrite(bytes(size), self._filled)
        self._file.datasync()
        self._filled += size
        if self._filled == self._segment_bytes:
            self._publish()
        return self.ready

    def finish(self, head: bytes = b"") -> None:
        """All the remaining steps at once. `head` (a log's very first header) is in the file before it is named."""
        if head and not self.ready:
            while self._filled < self._segment_bytes - STEP_BYTES:
                self.step()
            self._last_step(head)
        while not self.step():
            pass

    def discard(self) -> None:
        """Give the space back. Harmless when there is nothing to discard."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                self._disk.unlink(SPARE_NAME)
        self._file, self._filled = None, 0

    def _last_step(self, head: bytes) -> None:
        if self._file is None:
            self._file = self._disk.open(SPARE_NAME, create=True)
        self._file.pwrite(bytes(self._segment_bytes - self._filled), self._filled)
        self._file.pwrite(head, 0)
        self._filled = self._segment_bytes
        self._file.datasync()
        self._publish()

    def _publish(self) -> None:
        assert self._file is not None
        self._file.close()
        self._disk.rename(SPARE_NAME, segment_name(self.number))
        self._disk.sync_directory()
        self._file, self.ready = None, True
