"""Lines from standard input as they come: a slow pipe is not held back, a fast one does not fill the memory.

And `one_line`, for names that somebody else has chosen.
"""

import asyncio
import os
import threading
from typing import Final

from edge.errors import ConfigError
from edge.limits import BLOCK_BYTES_MAX

_READ_BYTES: Final = 1 << 20
_AHEAD: Final = 2  # pieces read but not yet asked for


def one_line(text: str) -> str:
    """`text` as a name in one line of a terminal, whatever its writer put into it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Lines:
    """Cuts a stream of bytes into lines without their newline. Raises `ConfigError` for a line no block can hold."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._rest_bytes = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes."""
        first, *others = chunk.split(b"\n")
        if not others:
            lines, rest = [], first
        else:
            lines, rest = [b"".join((*self._rest, first)), *others[:-1]], others[-1]
            self._rest, self._rest_bytes = [], 0
        self._rest.append(rest)
        self._rest_bytes += len(rest)
        if self._rest_bytes > BLOCK_BYTES_MAX or any(len(line) > BLOCK_BYTES_MAX for line in lines):
            raise ConfigError("stdin", f"a line is longer than a block may be ({BLOCK_BYTES_MAX} bytes)")
        return lines

    def end(self) -> list[bytes]:
        """The last line, where no newline ended it."""
        rest = b"".join(self._rest)
        self._rest, self._rest_bytes = [], 0
        return [rest] if rest else []


class Input:
    """Reads a file descriptor piece by piece, each as soon as there is something.

    A thread, because standard input may be a file, which no event loop can wait for; a daemon, because a read from a
    terminal cannot be interrupted, and Ctrl-C must still end the program. Make it while the loop runs.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[bytes | OSError] = asyncio.Queue()
        self._ahead = threading.Semaphore(_AHEAD)
        threading.Thread(target=self._read_all, name="stdin", daemon=True).start()

    async def read(self) -> bytes:
        """The next piece; empty at the end. Raises `ConfigError` if reading fails."""
        piece = await self._pieces.get()
        self._ahead.release()
        if isinstance(piece, OSError):
            raise ConfigError("stdin", f"cannot be read: {piece.strerror}")
        return piece

    def _read_all(self) -> None:
        piece: bytes | OSError = b"."
        while piece and not isinstance(piece, OSError):
            self._ahead.acquire()
            try:
                piece = os.read(self._descriptor, _READ_BYTES)
            except OSError as error:
                piece = error
            try:
                self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)
            except RuntimeError:  # the loop has ended, and so has the interest
                return
