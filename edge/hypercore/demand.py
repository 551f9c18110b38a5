"""What somebody on this box wants of a core and does not have: blocks, ranges, news of a longer log, byte offsets.

    demand = Demand(core.held)              # the core makes it and says what arrived
    await demand.block(7)                   # returns once block 7 is durable here
    download = demand.range(0, None)        # everything, and whatever is appended later
    download.cancel()

No input or output happens here. The core tells it what became durable (`arrived`, `grown`, `truncated`); the
replicator reads what is open and what came new (`take_fresh`), and reports that nobody has more (`nothing_newer`).

Invariants
- A future is resolved once what it waits for is durable, never before; whoever cancels one withdraws the wish.
- A download's `cursor` is its first block that is not held; nothing is counted block by block.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from edge.limits import INTEGER_MAX

Held = Callable[[int, int], Iterator[tuple[int, int]]]
"""Gives the stretches of blocks that are held between two indexes, ascending."""


class Fresh(NamedTuple):
    """What is wanted since somebody last asked: stretches of blocks, single ones apart because they are urgent."""

    single: list[tuple[int, int]]
    ranges: list[tuple[int, int]]
    withdrawn: bool  # something is no longer wanted: what is open must be read anew


class Download:
    """The wish for all blocks from `start` to `end`; without an end, for all that will ever be appended too."""

    __slots__ = ("_withdraw", "cursor", "done", "end", "start")

    def __init__(self, start: int, end: int | None, withdraw: "Callable[[Download], None]") -> None:
        self.start: Final = start
        self.end: Final = end
        self.cursor = start
        self.done: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self._withdraw = withdraw

    @property
    def stop(self) -> int:
        """The end, or the largest index where there is none."""
        return INTEGER_MAX if self.end is None else self.end

    def cancel(self) -> None:
        """Want it no longer; `done` is cancelled unless it is already done."""
        self.done.cancel()
        self._withdraw(self)


class Seek:
    """The wish to learn in which block a byte lies; `padding` bytes of each block do not count."""

    __slots__ = ("future", "offset", "padding")

    def __init__(self, offset: int, padding: int) -> None:
        self.offset: Final = offset
        self.padding: Final = padding
        self.future: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()


class Demand:
    """All open wishes of one core. `listener` is called after each new or withdrawn one."""

    def __init__(self, held: Held, listener: Callable[[], None] | None = None) -> None:
        self._held = held
        self.listener = listener
        self.replicated = False  # somebody reads this demand; else an upgrade is not worth waiting for
        self._blocks: dict[int, list[asyncio.Future[None]]] = {}
        self._downloads: dict[Download, None] = {}  # a set that keeps its order
        self._seeks: list[Seek] = []
        self._upgrades: list[asyncio.Future[bool]] = []
        self._fresh = Fresh([], [], withdrawn=False)

    # --- wishes ------------------------------------------------------------------------------------------------------

    def block(self, index: int) -> asyncio.Future[None]:
        """Resolved once block `index` is held; cancel the future to withdraw."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._first_missing(index) != index:
            future.set_result(None)
            return future
        waiting = self._blocks.setdefault(index, [])
        waiting.append(future)
        future.add_done_callback(lambda done: self._leave_block(index, done))
        if len(waiting) == 1:
            self._fresh.single.append((index, index + 1))
            self._notify()
        return future

    def range(self, start: int, end: int | None = None) -> Download:
        """Blocks `start` to `end`, or with no end also everything that is appended later."""
        download = Download(start, end, self._drop_download)
        download.cursor = self._first_missing(start)
        if download.cursor >= download.stop:
            download.done.set_result(None)
            return download
        self._downloads[download] = None
        self._fresh.ranges.append((download.cursor, download.stop))
        self._notify()
        return download

    def upgrade(self) -> asyncio.Future[bool]:
        """True once the log has grown or changed its fork; False when no peer has a longer one."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if not self.replicated:
            future.set_result(False)
            return future
        self._upgrades.append(future)
        self._notify()
        return future

    def seek(self, offset: int, padding: int = 0) -> asyncio.Future[None]:
        """Resolved once the tree nodes that lead to byte `offset` are known."""
        seek = Seek(offset, padding)
        self._seeks.append(seek)
        seek.future.add_done_callback(lambda _: self._leave_seek(seek))
        self._notify()
        return seek.future

    # --- what the core reports ---------------------------------------------------------------------------------------

    def arrived(self, start: int, end: int) -> None:
        """Blocks `start` to `end` are durable."""
        blocks = self._blocks
        if blocks:
            indexes = range(start, end)
            for index in [index for index in blocks if index in indexes] if len(blocks) < end - start else indexes:
                for future in blocks.pop(index, ()):
                    if not future.done():
                        future.set_result(None)
        finished = []
        for download in self._downloads:
            if start <= download.cursor < end:
                download.cursor = self._first_missing(download.cursor)
                if download.cursor >= download.stop:
                    finished.append(download)
        for download in finished:
            del self._downloads[download]
            if not download.done.done():
                download.done.set_result(None)

    def grown(self) -> None:
        """The log is longer, or its fork is another."""
        upgrades, self._upgrades = self._upgrades, []
        for future in upgrades:
            if not future.done():
                future.set_result(True)

    def truncated(self, length: int) -> None:
        """What was held from `length` on is held no more."""
        for download in self._downloads:
            download.cursor = max(download.start, min(download.cursor, length))
        self._fresh = self._fresh._replace(withdrawn=True)

    def close(self, error: Exception) -> None:
        """The core closes or freezes: nobody waits any longer."""
        waiting: list[asyncio.Future[None]] = [future for futures in self._blocks.values() for future in futures]
        waiting += [seek.future for seek in self._seeks]
        waiting += [download.done for download in self._downloads]
        self._blocks, self._downloads, self._seeks = {}, {}, []
        upgrades, self._upgrades = self._upgrades, []
        for future in waiting:
            _fail(future, error)
        for upgrade in upgrades:
            _fail(upgrade, error)

    # --- what the replicator reads -----------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether anything is wanted."""
        return bool(self._blocks or self._downloads or self._seeks or self._upgrades)

    @property
    def seeks(self) -> list[Seek]:
        """The open seeks."""
        return self._seeks

    @property
    def upgrades_awaited(self) -> bool:
        """Whether somebody waits for a longer log."""
        return bool(self._upgrades)

    def wants_block(self, index: int) -> bool:
        """Whether somebody waits for this very block."""
        return index in self._blocks

    def covers(self, index: int) -> bool:
        """Whether a download still wants block `index`."""
        return any(download.start <= index < download.stop for download in self._downloads)

    def take_fresh(self) -> Fresh:
        """What came since the last call."""
        fresh, self._fresh = self._fresh, Fresh([], [], withdrawn=False)
        return fresh

    def everything(self) -> Fresh:
        """All that is open, as if it had just come."""
        self._fresh = Fresh([], [], withdrawn=False)
        single = [(index, index + 1) for index in self._blocks]
        return Fresh(single, [(item.cursor, item.stop) for item in self._downloads], withdrawn=False)

    def nothing_newer(self) -> None:
        """No peer has a longer log: whoever asked for one is told so."""
        upgrades, self._upgrades = self._upgrades, []
        for future in upgrades:
            if not future.done():
                future.set_result(False)

    # --- bookkeeping -------------------------------------------------------------------------------------------------

    def _first_missing(self, index: int) -> int:
        for start, end in self._held(index, INTEGER_MAX):
            return end if start <= index else index
        return index

    def _leave_block(self, index: int, future: asyncio.Future[None]) -> None:
        waiting = self._blocks.get(index)
        if waiting is not None and future in waiting:  # cancelled; what was resolved has left already
            waiting.remove(future)
            if not waiting:
                del self._blocks[index]
                self._withdraw()

    def _leave_seek(self, seek: Seek) -> None:
        if seek in self._seeks:
            self._seeks.remove(seek)

    def _drop_download(self, download: Download) -> None:
        if self._downloads.pop(download, 0) is None:
            self._withdraw()

    def _withdraw(self) -> None:
        self._fresh = self._fresh._replace(withdrawn=True)
        self._notify()

    def _notify(self) -> None:
        if self.listener is not None:
            self.listener()


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever awaits it still gets it; a download that nobody awaits is no accident
