"""Protomux batches: messages to be sent are gathered into few large frames, because each frame costs a cipher call.

A batch is `0, 0, uint channel`, then items of `uint size` and so many bytes (uint type, payload); a size of 0 is
followed by the channel of the items after it. A message by itself goes out as `uint channel, uint type, payload`.
Spec: npm's protomux 3.12, `_sendBatch`. The reading side is `protomux.Mux`.
"""

from collections.abc import Callable
from typing import Final

from edge.encoding.compact import uint
from edge.errors import LocalError, RemoteError
from edge.limits import BATCH_BYTES, FRAME_BYTES_MAX

PAYLOAD_BYTES_MAX: Final = FRAME_BYTES_MAX - 64  # room for the cipher's tag and the longest numbers before it
_ITEM_BYTES_MAX: Final = 20  # numbers before an item of a batch: a switch of channel, its size, its type
_BYTE: Final = [bytes((number,)) for number in range(0xFD)]


class BatchWriter:
    """Takes messages in order, gives frames in order.

    `on_waiting` is called when there is something to send again, `on_batch` when a full batch waits.
    """

    __slots__ = (
        "_batch",
        "_batch_bytes",
        "_channel",
        "_first",
        "_frames",
        "_items",
        "_on_batch",
        "_on_waiting",
        "waiting_bytes",
    )

    def __init__(self, *, on_waiting: Callable[[], None], on_batch: Callable[[], None]) -> None:
        self._on_waiting = on_waiting
        self._on_batch = on_batch
        self._frames: list[bytes] = []
        self.waiting_bytes = 0  # about, of frames and of the batch being gathered
        self._batch: list[bytes] = []
        self._batch_bytes = self._items = 0
        self._channel = self._first = -1

    def push(self, channel: int, message_type: int, payload: bytes) -> None:
        """Append one message of the channel with our number `channel`; 0 is the control channel."""
        kind = _BYTE[message_type] if message_type <= 0xFC else uint(message_type)
        size = len(payload) + len(kind)
        if size > PAYLOAD_BYTES_MAX:
            raise LocalError(f"a message of {size} bytes; at most {PAYLOAD_BYTES_MAX}")
        if self._items and self._batch_bytes + size > BATCH_BYTES:
            self._finish()
            self._on_batch()
        if not self.waiting_bytes:
            self._on_waiting()
        batch = self._batch
        if channel != self._channel:
            if self._items:
                batch.append(b"\0" + uint(channel))
            else:
                self._first = channel
            self._channel = channel
        batch.append((_BYTE[size] if size <= 0xFC else uint(size)) + kind)
        batch.append(payload)
        self._items += 1
        self._batch_bytes += size + _ITEM_BYTES_MAX
        self.waiting_bytes += size + _ITEM_BYTES_MAX

    def frames(self) -> list[bytes]:
        """What was pushed, as frames; each is returned once."""
        if self._items:
            self._finish()
        frames, self._frames = self._frames, []
        self.waiting_bytes = 0
        return frames

    def clear(self) -> None:
        """Forget what waits."""
        self._frames.clear()
        self._start()
        self.waiting_bytes = 0

    def _finish(self) -> None:
        batch = self._batch
        if self._items == 1:  # a message by itself needs no size
            prefix = batch[0]
            batch[0] = uint(self._first) + prefix[read_uint(prefix, 0, len(prefix))[1] :]
        else:
            batch.insert(0, b"\0\0" + uint(self._first))
        self._frames.append(b"".join(batch))
        self._start()

    def _start(self) -> None:
        self._batch = []
        self._batch_bytes = self._items = 0
        self._channel = self._first = -1


def read_uint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A variable integer that ends by `end`, and the position after it; `compact.Reader` without copying a frame.

    Not bounded by 2^53 - 1: who reads a number compares it with what it counts.
    """
    if position >= end:
        raise RemoteError("a frame ends within a number")
    first = data[position]
    if first <= 0xFC:
        return first, position + 1
    stop = position + 1 + (1 << first - 0xFC)
    if stop > end:
        raise RemoteError("a frame ends within a number")
    return int.from_bytes(data[position + 1 : stop], "little"), stop
