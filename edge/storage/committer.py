"""Group commit for asyncio: many appends, one sync, one worker thread.

The window adapts. An urgent append (a till waits for its acknowledgement) starts a commit at once; whatever arrives
while that one runs forms the next group, so groups grow by themselves under load. Appends that nobody waits for are
gathered for up to `COMMIT_WINDOW_IDLE_S`, because each sync costs a whole page of flash.

Invariants: an append resolves only after its records are durable, or raises and none of them is in the log; an append
is never split over two groups; sequences follow the order of the calls. The queue is bounded in records and bytes;
beyond that `append` waits. While `run` is active nothing else appends to the log (reading is allowed, see `log.py`).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from edge.errors import LocalError, StorageError, StorageFault
from edge.limits import (
    COMMIT_QUEUE_BYTES_MAX,
    COMMIT_QUEUE_RECORDS_MAX,
    COMMIT_WINDOW_IDLE_S,
    GROUP_RECORDS_MAX,
    RECORD_BYTES_MAX,
)
from edge.storage.log import RECORD_COST, SegmentLog
from edge.storage.metrics import StorageMetrics
from edge.storage.spans import Span


@dataclass(slots=True, eq=False)
class _Append:
    records: Sequence[tuple[int, bytes]]
    cost: int
    urgent: bool
    since: float
    durable: asyncio.Future[int] = field(repr=False)


class GroupCommitter:
    """The asyncio shell of one `SegmentLog`. `run` it as a task; stop it with `close`, or by cancelling."""

    def __init__(
        self,
        log: SegmentLog,
        *,
        metrics: StorageMetrics | None = None,
        window_s: float = COMMIT_WINDOW_IDLE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._metrics = metrics
        self._window_s = window_s
        self._monotonic = monotonic
        self._queue: deque[_Append] = deque()
        self._queued_records = 0
        self._queued_bytes = 0
        self._queued_urgent = 0
        self._discards: list[Span] = []
        self._door = asyncio.Lock()
        self._room = asyncio.Event()
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self._running = False
        self._closing = False
        self._written_before = log.written_bytes

    @property
    def depth(self) -> int:
        """Records waiting for a sync."""
        return self._queued_records

    async def append(self, records: Sequence[tuple[int, bytes]], *, urgent: bool) -> int:
        """Make `records` ((kind, payload) each, at least one) durable, as one group; returns the first one's sequence.

        Raises `StorageError` when they are not durable and never will be; `LocalError` for more than one group holds.
        A cancelled append either happens as a whole or not at all.
        """
        cost = self._cost(records)
        loop = asyncio.get_running_loop()
        async with self._door:  # first come, first served: whoever waits for room holds the door
            while not self._has_room(len(records), cost):
                self._room.clear()
                await self._room.wait()
            if self._closing:
                raise _closed()
            entry = _Append(records, cost, urgent, self._monotonic(), loop.create_future())
            first = self._enqueue(entry)
        if first or urgent or self._group_is_full():
            self._wake.set()
        return await entry.durable

    def discard(self, spans: Iterable[Span]) -> None:
        """Have `SegmentLog.discard` called once no group is being written; room comes back by and by, in idle moments.

        Like the log, this forgets what was not done when it closes. Raises `LocalError` for records not durable yet.
        """
        checked = list(spans)
        for first, end in checked:
            if not 0 <= first <= end <= self._log.durable_sequence:
                raise LocalError(f"records {first} to {end - 1} are not all durable")
        self._discards += checked
        self._wake.set()

    async def run(self) -> None:
        """Commit until closed or cancelled. Cancelled: the group being written is finished, the waiting ones fail."""
        if self._running or self._closing:
            raise LocalError("this committer has run before")
        self._running = True
        if self._metrics is not None:
            self._metrics.watch(self, depth=lambda: self._queued_records, size=lambda: self._log.storage_bytes)
        worker = ThreadPoolExecutor(1, thread_name_prefix="commit")
        try:
            while await self._gather(worker):
                await self._commit(worker, self._take())
                await self._pass_discards_on(worker)
                if self._log.has_work:  # one bounded step a group, so that a spare is ready before it is needed
                    await _finish(worker, self._log.work)
        finally:
            self._closing = True
            self._fail_waiting()
            worker.shutdown(wait=True)
            if self._metrics is not None:
                self._metrics.forget(self)
            self._ended.set()

    async def close(self) -> None:
        """Take no more appends, commit what waits, end `run`. The log stays open; it is its owner's to close."""
        self._closing = True
        self._wake.set()
        self._room.set()
        if self._running:
            await self._ended.wait()
        else:
            self._fail_waiting()

    # --- the queue ---------------------------------------------------------------------------------------------------

    def _enqueue(self, entry: _Append) -> bool:
        """Returns whether it is the first in the queue."""
        first = not self._queue
        self._queue.append(entry)
        self._queued_records += len(entry.records)
        self._queued_bytes += entry.cost
        self._queued_urgent += entry.urgent
        return first

    def _cost(self, records: Sequence[tuple[int, bytes]]) -> int:
        cost = sum(len(payload) for _, payload in records) + RECORD_COST * len(records)
        if not records or len(records) > GROUP_RECORDS_MAX or cost > self._log.group_bytes:
            raise LocalError(f"{len(records)} records of {cost} bytes are not one group")
        for kind, payload in records:
            if not 0 <= kind <= 255 or len(payload) > RECORD_BYTES_MAX:
                raise LocalError(f"no record can have kind {kind} and {len(payload)} bytes")
        return cost

    def _has_room(self, records: int, cost: int) -> bool:
        if self._closing or not self._queue:
            return True
        return (
            self._queued_records + records <= COMMIT_QUEUE_RECORDS_MAX
            and self._queued_bytes + cost <= COMMIT_QUEUE_BYTES_MAX
        )

    def _group_is_full(self) -> bool:
        return self._queued_records >= GROUP_RECORDS_MAX or self._queued_bytes >= self._log.group_bytes

    async def _gather(self, worker: ThreadPoolExecutor) -> bool:
        """Wait until a group should be written; False: closed and nothing is left."""
        while not self._queue:
            if self._closing:
                return False
            self._wake.clear()  # before anything is waited for: who comes meanwhile is not to be missed
            await self._pass_discards_on(worker)
            if self._log.has_work:
                await _finish(worker, self._log.work)
                continue
            await self._wake.wait()
        while not (self._queued_urgent or self._closing or self._group_is_full()):
            left = self._queue[0].since + self._window_s - self._monotonic()
            if left <= 0:
                break
            self._wake.clear()
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                break
        return True

    def _take(self) -> list[_Append]:
        """The longest prefix of the queue that one group holds, without what was cancelled meanwhile."""
        group: list[_Append] = []
        records = cost = 0
        while self._queue:
            entry = self._queue[0]
            if group and (
                records + len(entry.records) > GROUP_RECORDS_MAX or cost + entry.cost > self._log.group_bytes
            ):
                break
            self._queue.popleft()
            self._queued_records -= len(entry.records)
            self._queued_bytes -= entry.cost
            self._queued_urgent -= entry.urgent
            if not entry.durable.cancelled():
                group.append(entry)
                records += len(entry.records)
                cost += entry.cost
        self._room.set()
        return group

    def _fail_waiting(self) -> None:
        for entry in self._queue:
            if not entry.durable.done():
                entry.durable.set_exception(_closed())
        self._queue.clear()
        self._queued_records = self._queued_bytes = self._queued_urgent = 0
        self._room.set()

    async def _pass_discards_on(self, worker: ThreadPoolExecutor) -> None:
        spans, self._discards = self._discards, []
        if spans:
            await _finish(worker, lambda: self._log.discard(spans))

    # --- the worker --------------------------------------------------------------------------------------------------

    async def _commit(self, worker: ThreadPoolExecutor, group: list[_Append]) -> None:
        """Write one group and tell its callers; they hear the outcome even where this task is being cancelled."""
        if not group:
            return
        started = self._monotonic()
        firsts: list[int] = []
        fault: BaseException | None = None
        try:
            await _finish(worker, lambda: self._write(group, firsts))
        except asyncio.CancelledError:
            self._settle(group, firsts, None if len(firsts) == len(group) else _closed())
            raise
        except StorageError as error:
            fault = error
        except BaseException as error:
            self._settle(group, [], error)
            raise
        self._settle(group, firsts, fault)
        if self._metrics is not None:
            self._report(group, self._monotonic() - started, fault)

    def _write(self, group: list[_Append], firsts: list[int]) -> None:
        """On the worker thread. `firsts` is filled only once everything is durable."""
        staged = [self._log.stage_all(entry.records) for entry in group]
        self._log.commit()
        firsts.extend(staged)

    def _settle(self, group: list[_Append], firsts: list[int], fault: BaseException | None) -> None:
        for index, entry in enumerate(group):
            if entry.durable.done():
                continue
            if fault is None:
                entry.durable.set_result(firsts[index])
            else:
                entry.durable.set_exception(fault)

    def _report(self, group: list[_Append], seconds: float, fault: StorageError | BaseException | None) -> None:
        assert self._metrics is not None
        written = self._log.written_bytes
        self._metrics.written_bytes.inc(written - self._written_before)
        self._written_before = written
        if isinstance(fault, StorageError):
            self._metrics.commit_failures.labels(fault=fault.fault).inc()
        else:
            self._metrics.commit_duration.observe(seconds)
            self._metrics.commit_records.observe(sum(len(entry.records) for entry in group))


async def _finish(worker: ThreadPoolExecutor, step: Callable[[], object]) -> None:
    """Run `step` on the worker and wait for its end even if cancelled: a write cannot be called back half way."""
    future = asyncio.get_running_loop().run_in_executor(worker, step)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        future.exception()  # retrieved, so that it is not reported as forgotten; the caller sees the cancellation
        raise cancelled
    future.result()


def _closed() -> StorageError:
    return StorageError("the log is closing", fault=StorageFault.READ_ONLY)
