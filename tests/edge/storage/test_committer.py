"""Group commit: what resolves is durable, order is kept, the window adapts, the queue is bounded, failures are told."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from edge.errors import LocalError, StorageError, StorageFault
from edge.limits import COMMIT_QUEUE_BYTES_MAX, COMMIT_QUEUE_RECORDS_MAX, GROUP_RECORDS_MAX
from edge.storage.committer import GroupCommitter
from edge.storage.files import OsDisk
from edge.storage.log import RecordDiscarded, SegmentLog
from edge.storage.metrics import StorageMetrics

NEVER = 3600.0  # a window that no test waits for


class Groups(SegmentLog):
    """The real log; it also notes the groups, and can be told to hold a commit or to fail one."""

    def prepare(self) -> "Groups":
        self.groups: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.outcomes: list[StorageError | None] = []  # of the next commits; beyond them all succeed
        return self

    def commit(self) -> int:
        self.gate.wait()
        self.groups.append(self.next_sequence - self.durable_sequence)
        failure = self.outcomes.pop(0) if self.outcomes else None
        if failure is not None:
            self._drop_staged()
            raise failure
        return super().commit()


@contextlib.asynccontextmanager
async def running(
    folder: Path, *, window_s: float = NEVER, metrics: StorageMetrics | None = None
) -> AsyncIterator[tuple[Groups, GroupCommitter]]:
    log = Groups.open(OsDisk(folder), create=True, segment_bytes=4 * 1024 * 1024).prepare()
    committer = GroupCommitter(log, window_s=window_s, metrics=metrics)
    task = asyncio.create_task(committer.run())
    try:
        yield log, committer
    finally:
        log.gate.set()
        await committer.close()
        await task
        log.close()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_an_urgent_append_is_durable_when_it_returns(tmp_path: Path) -> None:
    async with running(tmp_path) as (log, committer):
        assert await committer.append([(1, b"a"), (2, b"b")], urgent=True) == 0
        assert log.durable_sequence == 2
        assert await committer.append([(3, b"c")], urgent=True) == 2
        assert [record.payload for record in log.scan()] == [b"a", b"b", b"c"]


async def test_what_arrives_during_a_commit_forms_the_next_group_in_order(tmp_path: Path) -> None:
    async with running(tmp_path) as (log, committer):
        log.gate.clear()
        appends = [asyncio.create_task(committer.append([(1, b"%d" % index)], urgent=True)) for index in range(50)]
        await settle()
        log.gate.set()
        assert await asyncio.gather(*appends) == list(range(50))
        assert sum(log.groups) == 50
        assert len(log.groups) <= 2
        assert [record.payload for record in log.scan()] == [b"%d" % index for index in range(50)]


async def test_appends_that_nobody_waits_for_are_gathered_until_an_urgent_one_comes(tmp_path: Path) -> None:
    async with running(tmp_path) as (log, committer):
        patient = [asyncio.create_task(committer.append([(1, b"x")], urgent=False)) for _ in range(9)]
        await settle()
        assert log.groups == []
        assert committer.depth == 9
        assert await committer.append([(1, b"now")], urgent=True) == 9
        assert await asyncio.gather(*patient) == list(range(9))
        assert log.groups == [10]


async def test_the_window_ends_by_itself(tmp_path: Path) -> None:
    async with running(tmp_path, window_s=0.01) as (log, committer):
        first, second = await asyncio.gather(
            committer.append([(1, b"x")], urgent=False), committer.append([(1, b"y")], urgent=False)
        )
        assert (first, second, log.groups) == (0, 1, [2])


async def test_a_full_group_does_not_wait_for_the_window(tmp_path: Path) -> None:
    async with running(tmp_path) as (log, committer):
        half = [(1, b"x")] * (GROUP_RECORDS_MAX // 2)
        await asyncio.gather(committer.append(half, urgent=False), committer.append(half, urgent=False))
        assert log.groups == [GROUP_RECORDS_MAX]


async def test_an_append_is_never_split_and_the_queue_is_bounded_in_bytes_and_records(tmp_path: Path) -> None:
    async with running(tmp_path) as (log, committer):
        log.gate.clear()
        deepest = 0
        appends = [
            asyncio.create_task(committer.append([(1, b"%d" % index)] * 1000, urgent=True)) for index in range(40)
        ]
        appends += [asyncio.create_task(committer.append([(1, bytes(1_000_000))], urgent=True)) for _ in range(20)]
        while not all(append.done() for append in appends):
            await settle()
            deepest = max(deepest, committer.depth)
            assert committer._queued_bytes <= COMMIT_QUEUE_BYTES_MAX
            log.gate.set()
            await asyncio.sleep(0.001)
        firsts = [append.result() for append in appends]
        assert firsts == sorted(firsts)
        assert 16_000 <= deepest <= COMMIT_QUEUE_RECORDS_MAX
        assert sum(log.groups) == 40_020
        assert max(log.groups) <= GROUP_RECORDS_MAX
        assert log.verify() == 40_020


@pytest.mark.parametrize(
    "records",
    [[], [(1, b"x")] * (GROUP_RECORDS_MAX + 1), [(256, b"x")], [(1, bytes(1_100_000))], [(0, bytes(9**6))] * 4],
)
async def test_what_cannot_be_one_group_is_the_callers_mistake(
    tmp_path: Path, records: list[tuple[int, bytes]]
) -> None:
    async with running(tmp_path) as (log, committer):
        with pytest.raises(LocalError):
            await committer.append(records, urgent=True)
        assert await committer.append([(1, b"fine")], urgent=True) == 0
        assert log.groups == [1]


async def test_a_failed_group_is_told_to_each_of_its_callers_and_the_next_goes_on(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    async with running(tmp_path, metrics=StorageMetrics(registry)) as (log, committer):
        log.gate.clear()
        first = asyncio.create_task(committer.append([(1, b"in flight")], urgent=True))
        await settle()
        group = [asyncio.create_task(committer.append([(1, b"lost")], urgent=True)) for _ in range(3)]
        await settle()
        log.outcomes = [None, StorageError("no space", fault=StorageFault.FULL)]
        log.gate.set()
        assert await first == 0
        outcomes = await asyncio.gather(*group, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StorageError] * 3
        assert registry.get_sample_value("pomona_commit_failures_total", {"fault": "full"}) == 1
        assert await committer.append([(1, b"next")], urgent=True) == 1
        assert [record.payload for record in log.scan()] == [b"in flight", b"next"]


async def test_failure_of_a_lone_append(tmp_path: Path) -> None:
    async with running(tmp_path) as (log, committer):
        log.outcomes = [StorageError("failing", fault=StorageFault.IO)]
        with pytest.raises(StorageError, match="failing"):
            await committer.append([(1, b"lost")], urgent=True)
        assert await committer.append([(1, b"kept")], urgent=True) == 0
        assert log.read(0).payload == b"kept"


async def test_close_commits_what_waits_and_refuses_what_comes(tmp_path: Path) -> None:
    async with running(tmp_path) as (log, committer):
        waiting = asyncio.create_task(committer.append([(1, b"x")], urgent=False))
        await settle()
        await committer.close()
        assert await waiting == 0
        assert log.durable_sequence == 1
        with pytest.raises(StorageError) as caught:
            await committer.append([(1, b"late")], urgent=True)
        assert caught.value.fault is StorageFault.READ_ONLY


async def test_cancelling_run_finishes_the_group_in_flight_and_fails_the_rest(tmp_path: Path) -> None:
    log = Groups.open(OsDisk(tmp_path), create=True).prepare()
    committer = GroupCommitter(log, window_s=NEVER)
    task = asyncio.create_task(committer.run())
    log.gate.clear()
    first = asyncio.create_task(committer.append([(1, b"in flight")], urgent=True))
    await settle()
    second = asyncio.create_task(committer.append([(1, b"waiting")], urgent=True))
    await settle()
    task.cancel()
    await settle()
    log.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await first == 0
    with pytest.raises(StorageError, match="closing"):
        await second
    assert [record.payload for record in log.scan()] == [b"in flight"]
    log.close()


async def test_a_cancelled_append_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async with running(tmp_path) as (log, committer):
        gone = asyncio.create_task(committer.append([(1, b"gone")], urgent=False))
        await settle()
        gone.cancel()
        await settle()
        assert await committer.append([(1, b"kept")], urgent=True) == 0
        assert [record.payload for record in log.scan()] == [b"kept"]
        assert committer.depth == 0


async def test_reading_goes_on_beside_commits_across_segments(tmp_path: Path) -> None:
    async with running(tmp_path) as (log, committer):
        payloads: list[bytes] = []
        for index in range(300):
            payload = b"%d" % index * 8000
            payloads.append(payload)
            append = asyncio.create_task(committer.append([(1, payload)], urgent=True))
            while not append.done():
                if log.durable_sequence:
                    sequence = index * 7919 % log.durable_sequence
                    assert log.read(sequence).payload == payloads[sequence]
                await asyncio.sleep(0)
            assert append.result() == index
        assert [record.payload for record in log.scan(290)] == payloads[290:]
        assert len(list(tmp_path.glob("*.seg"))) > 2


async def test_metrics(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    async with running(tmp_path, metrics=StorageMetrics(registry)) as (_, committer):
        waiting = asyncio.create_task(committer.append([(1, b"x"), (1, b"y")], urgent=False))
        await settle()
        assert registry.get_sample_value("pomona_queue_depth", {"queue": "commit"}) == 2
        await committer.append([(1, b"z")], urgent=True)
        await waiting
        assert registry.get_sample_value("pomona_queue_depth", {"queue": "commit"}) == 0
        assert registry.get_sample_value("pomona_storage_bytes") == 4 * 1024 * 1024
        assert registry.get_sample_value("pomona_commit_records_sum") == 3
        assert registry.get_sample_value("pomona_commit_duration_seconds_count") == 1
        assert (registry.get_sample_value("pomona_storage_written_bytes_total") or 0) >= 16 + 3 * 18
    assert registry.get_sample_value("pomona_storage_bytes") == 0


async def test_a_committer_runs_once(tmp_path: Path) -> None:
    async with running(tmp_path) as (log, committer):
        await committer.append([(1, b"x")], urgent=True)
        with pytest.raises(LocalError):
            await committer.run()
        await GroupCommitter(log).close()  # never started: nothing to wait for


async def test_discarding_goes_through_the_worker_and_frees_the_disk(tmp_path: Path) -> None:
    log = SegmentLog.open(OsDisk(tmp_path / "log", create=True), create=True, segment_bytes=16 * 1024)
    committer = GroupCommitter(log)
    running = asyncio.create_task(committer.run())
    for _ in range(40):
        await committer.append([(1, bytes(1000))], urgent=True)
    with pytest.raises(LocalError, match="not all durable"):
        committer.discard([(0, 41)])
    before = log.storage_bytes
    committer.discard([(0, 4), (4, 15)])
    async with asyncio.timeout(20):
        while log.storage_bytes == before:
            await asyncio.sleep(0.001)
    with pytest.raises(RecordDiscarded):
        log.read(14)
    assert log.read(15).payload == bytes(1000)
    await committer.close()
    await running
    log.close()


@pytest.mark.parametrize("late", ["close", "append"])
async def test_who_comes_while_the_worker_discards_is_not_missed(tmp_path: Path, late: str) -> None:
    async with running(tmp_path) as (log, committer):
        await committer.append([(1, b"x")], urgent=True)
        async with asyncio.timeout(20):
            while log.has_work:  # then there is nothing left that would make the committer look again
                await asyncio.sleep(0.001)
        gate = threading.Event()

        def held_up(_spans: object) -> int:
            gate.wait()
            return 0  # and no work comes of it

        log.discard = held_up  # type: ignore[method-assign, assignment]
        committer.discard([(0, 1)])
        await settle()
        coming = asyncio.create_task(
            committer.close() if late == "close" else committer.append([(1, b"y")], urgent=True)
        )
        await settle()
        gate.set()
        async with asyncio.timeout(20):
            await coming
