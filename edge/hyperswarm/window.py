"""How much may wait for a peer until it is thought not to read, and since when it has not.

Small for a new peer and doubled each time that it has taken so much: what is prepared for one that asks and never
reads costs little time and memory, and one that reads has the whole window after a few round trips. The system keeps
little beside what is on its way, so that its buffers do not hide that nobody reads.
"""

import asyncio
import contextlib
import socket

from edge.limits import WRITE_BYTES_MAX, WRITE_HIGH_BYTES, WRITE_LOW_BYTES, WRITE_START_BYTES, WRITE_UNSENT_BYTES


class WriteWindow:
    """Of one connection. `paused_at`: when it was last seen that nothing more leaves, None while something does."""

    __slots__ = ("_paused_bytes", "high", "paused_at")

    def __init__(self) -> None:
        self.high = WRITE_START_BYTES
        self.paused_at: float | None = None
        self._paused_bytes = 0

    def apply(self, transport: asyncio.Transport) -> None:
        """Set it for a new transport."""
        self._limit(transport)
        used: socket.socket | None = transport.get_extra_info("socket")
        if used is not None:
            with contextlib.suppress(OSError):  # a system without it is only less exact
                used.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, WRITE_UNSENT_BYTES)

    def grow(self, transport: asyncio.Transport) -> None:
        """The peer has read all that waited."""
        if self.high < WRITE_HIGH_BYTES:
            self.high = min(2 * self.high, WRITE_HIGH_BYTES)
            self._limit(transport)

    def paused(self, now: float) -> None:
        """More waits than should."""
        self.paused_at = now
        self._paused_bytes = WRITE_BYTES_MAX

    def resumed(self) -> None:
        """So little waits that more may come."""
        self.paused_at = None

    def look(self, waiting: int, now: float) -> None:
        """`waiting` bytes wait: where some have left since, the peer is slow but reads."""
        if self.paused_at is not None and waiting < self._paused_bytes:
            self.paused_at, self._paused_bytes = now, waiting

    def _limit(self, transport: asyncio.Transport) -> None:
        transport.set_write_buffer_limits(high=self.high, low=min(self.high // 4, WRITE_LOW_BYTES))
