"""The order of a core's writes: what waits, when a group is due, and what goes into it.

One group is in flight at a time, and a block's index is given out only when its group is formed: an index depends on
every write before it having succeeded, and the nonce of an encrypted block depends on the index. So when a group fails
nothing behind it has to be called back. The window is the committer's: at once where somebody waits, else gathered.

An edit (truncation, signature) is a group of its own; appends share one. What comes from peers gathers in one entry
until that is taken, without a future for each block. Order is first come, first served.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from edge.errors import StorageError, StorageFault
from edge.hypercore.events import Event
from edge.hypercore.merkle import Node, Tree
from edge.limits import COMMIT_QUEUE_BYTES_MAX, COMMIT_QUEUE_RECORDS_MAX, RECEIVE_WINDOW_S

Records = list[tuple[int, bytes]]


@dataclass(slots=True, eq=False)
class Append:
    """Blocks to append, all or none. `done` gets the length behind them."""

    blocks: list[bytes]
    cost: int
    urgent: bool
    since: float
    done: asyncio.Future[int] = field(repr=False)
    whole: bool = False  # after a power cut too


@dataclass(slots=True, eq=False)
class Edit:
    """Anything else. `prepare`, called when its turn comes, raises or gives records and what to do once durable."""

    prepare: Callable[[], tuple[Records, Callable[[int], list[Event]]]]
    since: float
    done: asyncio.Future[int] = field(repr=False)
    urgent: bool = True
    cost: int = 0


@dataclass(slots=True, eq=False)
class Received:
    """What peers proved and is to be written together: records in order, then blocks, and the nodes they bring."""

    since: float
    urgent: bool = False
    cost: int = 0
    records: Records = field(default_factory=list)
    puts: dict[int, bytes] = field(default_factory=dict)  # by block: the payload of its record
    nodes: dict[int, Node] = field(default_factory=dict)
    base: tuple[int, int] | None = None  # fork and length that the first upgrade among the records continues
    tree: Tree | None = None  # after the last upgrade
    fork: int | None = None  # of a reorganisation
    taken: bool = False  # nothing is added any more
    done: asyncio.Future[int] | None = field(default=None, repr=False)


Write = Append | Edit | Received


class Room(NamedTuple):
    """What one group holds."""

    records: int
    cost: int


class WriteQueue:
    """What waits to be written. `room` bounds one group of appends."""

    def __init__(self, room: Room, *, window_s: float, monotonic: Callable[[], float]) -> None:
        self._records_max, self._cost_max = room
        self._window_s = window_s
        self._monotonic = monotonic
        self._queue: deque[Write] = deque()
        self._blocks = 0
        self._cost = 0
        self._urgent = 0
        self._closed = False
        self._wake = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def depth(self) -> int:
        """Blocks that wait."""
        return self._blocks

    def fits(self, blocks: int, cost: int) -> bool:
        """Whether one group can hold so much."""
        return blocks <= self._records_max and cost <= self._cost_max

    async def room_for(self, blocks: int, cost: int) -> None:
        """Wait until the queue takes so much more; a queue that is empty takes anything."""
        while self._queue and not self._closed:
            if self._blocks + blocks <= COMMIT_QUEUE_RECORDS_MAX and self._cost + cost <= COMMIT_QUEUE_BYTES_MAX:
                return
            self._room.clear()
            await self._room.wait()

    def put(self, write: Write) -> None:
        """Add a write. Raises `StorageError` READ_ONLY after `close`."""
        if self._closed:
            raise closing()
        self._queue.append(write)
        if isinstance(write, Received):
            self._wake.set()
            return
        if isinstance(write, Append):
            self._blocks += len(write.blocks)
            self._cost += write.cost
        self._urgent += write.urgent
        self._wake.set()

    def hurry(self, write: Received) -> None:
        """Somebody waits for it, or it is full."""
        if not (write.urgent or write.taken):
            write.urgent = True
            self._urgent += 1
            self._wake.set()

    def withdraw(self, write: Received) -> None:
        """Forget what was not taken yet."""
        if not write.taken:
            self._queue.remove(write)
            self._urgent -= write.urgent
            write.taken = True

    async def next_group(self) -> list[Write]:
        """Wait until a group is due and take it; empty once closed and drained."""
        while True:
            while not self._queue:
                if self._closed:
                    return []
                self._wake.clear()
                await self._wake.wait()
            await self._window()
            if group := self._take():  # else everybody who waited has gone
                return group

    def close(self) -> None:
        """Take no more; what waits is still handed out."""
        self._closed = True
        self._wake.set()
        self._room.set()

    def fail(self, error: BaseException) -> None:
        """End everything that waits with `error`."""
        self.close()
        while self._queue:
            settle(self._queue.popleft(), error)
        self._blocks = self._cost = self._urgent = 0

    async def _window(self) -> None:
        """Gather until somebody waits, a group is full, or the oldest write has waited long enough."""
        while self._queue and not (self._urgent or self._closed or self._is_full()):
            head = self._queue[0]
            window_s = min(RECEIVE_WINDOW_S, self._window_s) if isinstance(head, Received) else self._window_s
            left = head.since + window_s - self._monotonic()
            if left <= 0:
                break
            self._wake.clear()
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                break

    def _is_full(self) -> bool:
        return self._blocks >= self._records_max or self._cost >= self._cost_max

    def _take(self) -> list[Write]:
        group: list[Write] = []
        blocks = cost = 0
        while self._queue:
            write = self._queue[0]
            if not isinstance(write, Append):
                if group:
                    break
            elif group and not self.fits(blocks + len(write.blocks), cost + write.cost):
                break
            self._queue.popleft()
            self._urgent -= write.urgent
            if isinstance(write, Append):
                self._blocks -= len(write.blocks)
                self._cost -= write.cost
            if isinstance(write, Received):
                write.taken = True
            elif write.done.cancelled():
                continue
            group.append(write)
            if not isinstance(write, Append):
                break
            blocks += len(write.blocks)
            cost += write.cost
        self._room.set()
        return group


def settle(write: Write, outcome: int | BaseException) -> None:
    """Tell the caller, unless it has gone."""
    if write.done is None or write.done.done():
        return
    if isinstance(outcome, BaseException):
        write.done.set_exception(outcome)
    else:
        write.done.set_result(outcome)


def frozen() -> StorageError:
    """What is heard of a core whose writer signed two histories."""
    return StorageError("the core is frozen", fault=StorageFault.READ_ONLY)


def closing() -> StorageError:
    """What late callers hear."""
    return StorageError("the core is closing", fault=StorageFault.READ_ONLY)
