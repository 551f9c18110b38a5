"""The files of rounds: one each, named by the round's digest, in the network's folder, for their owner alone."""

import asyncio
import logging
from collections.abc import Collection
from pathlib import Path

from edge.atomic import replace_file
from edge.memory.sums.running import Kept, Running, decode_kept
from edge.storage.disk import storage_error

logger = logging.getLogger(__name__)


class RoundFiles:
    """In `directory`, which is made when it is needed; nothing else is in it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, digest: bytes) -> Kept | None:
        """What was kept of a round; None: nothing. Raises `StorageError`."""
        path = self._path(digest)
        try:
            return decode_kept(path.read_bytes(), digest)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(error, f"reading {path}") from error

    async def save(self, running: Running) -> None:
        """Have the file hold what the round is now, durably. Raises `StorageError`."""
        content, path = running.kept(), self._path(running.digest)
        if content == running.saved:
            return

        def write() -> None:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            replace_file(path, content)

        try:
            await asyncio.to_thread(write)
        except OSError as error:
            raise storage_error(error, f"writing {path}") from error
        running.saved = content

    def remove(self, running: Running) -> None:
        """Inputs and keys are kept no longer than they are needed."""
        if running.saved is not None:
            self._unlink(self._path(running.digest))
            running.saved = None

    def keep_only(self, digests: Collection[bytes]) -> None:
        """Remove the files of all other rounds."""
        wanted = {digest.hex() for digest in digests}
        for path in self._directory.glob("*"):
            if path.name not in wanted:
                self._unlink(path)

    def _unlink(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:  # removed the next time that files are tidied
            logger.warning("the file of a sum's round stays for now: %s", error)

    def _path(self, digest: bytes) -> Path:
        return self._directory / digest.hex()
