"""Crash states of the log: none breaks an invariant, and every seeded bug is found by the same trials."""

import errno
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from support_crash_disk import CrashDisk, CrashFile, Cut
from support_crash_trial import STORE_ID, Trial, Violation

from edge.errors import StorageError, StorageFault
from edge.storage import codec, compaction, discarding, plan, recovery
from edge.storage import log as log_module
from edge.storage.compaction import Compaction
from edge.storage.disk import Disk, File
from edge.storage.log import SegmentLog
from edge.storage.plan import SegmentCorrupt, Tail
from edge.storage.recovery import Segment
from edge.storage.spans import Span

STATES_PER_PART = 17_000
PARTS = 6  # more than 100,000 states in all
DISCARDING_PARTS = 2
TRIALS_PER_MUTANT = 400


@pytest.mark.parametrize("part", range(PARTS))
def test_no_crash_state_breaks_an_invariant(part: int) -> None:
    states: Counter[str] = Counter()
    seed = part * 1_000_000
    while states.total() < STATES_PER_PART:
        Trial(seed, faulty=seed % 2 == 1, states=states).run()
        seed += 1
    assert all(states[cut] > STATES_PER_PART / 20 for cut in Cut)


@pytest.mark.parametrize("part", range(DISCARDING_PARTS))
def test_no_crash_state_of_a_rewrite_loses_a_record_that_was_not_given_up(
    part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "STEP_BYTES", 512)  # so that a rewrite takes several steps here
    states: Counter[str] = Counter()
    seed = part * 1_000_000
    rewriting = gone = 0
    while states.total() < STATES_PER_PART:
        trial = Trial(seed, faulty=seed % 2 == 1, discarding=True, states=states)
        trial.run()
        rewriting, gone, seed = rewriting + trial.rewriting, gone + trial.gone, seed + 1
    assert rewriting > STATES_PER_PART / 10
    assert gone > STATES_PER_PART / 4


class UnsyncedFile:
    def __init__(self, file: File) -> None:
        self.pwrite, self.close = file.pwrite, file.close

        self.pread = file.pread

    def datasync(self) -> None:
        pass


def acknowledges_without_a_sync(patch: pytest.MonkeyPatch) -> None:
    opened = SegmentLog._open_writer
    patch.setattr(SegmentLog, "_open_writer", lambda self, active: UnsyncedFile(opened(self, active)))


def never_syncs_the_folder(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CrashDisk, "sync_directory", lambda self: None)


def leaves_the_tail(patch: pytest.MonkeyPatch) -> None:
    judge = plan.judge_tail

    def mutant(data: bytes, header: codec.Header, salt: int) -> Tail:
        tail = judge(data, header, salt)
        return replace(tail, dirty=(tail.walk.end, tail.walk.end))

    patch.setattr(plan, "judge_tail", mutant)


def leaves_the_tail_and_does_not_chain(patch: pytest.MonkeyPatch) -> None:
    def crc32(data: bytes | memoryview, seed: int = 0) -> int:
        of_a_record_head = len(data) in (4, codec.RECORD_PREFIX.size)
        return zlib.crc32(data, 0 if of_a_record_head else seed)

    patch.setattr(codec, "crc32", crc32)
    patch.setattr(log_module, "crc32", crc32)
    patch.setattr(plan, "_dirty", lambda data, start: (start, start))


def trusts_the_page_cache(patch: pytest.MonkeyPatch) -> None:
    judge = plan.judge_tail

    def mutant(data: bytes, header: codec.Header, salt: int) -> Tail:
        tail = judge(data, header, salt)
        return replace(tail, rewrite_from=tail.walk.end)

    patch.setattr(plan, "judge_tail", mutant)


def shows_before_it_syncs(patch: pytest.MonkeyPatch) -> None:
    repair = recovery._repair

    patch.setattr(recovery, "_repair", lambda file, *rest: repair(UnsyncedFile(file), *rest))  # type: ignore[arg-type]


def retries_in_the_same_segment(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SegmentLog, "_abandon", lambda self: None)


def promises_too_early(patch: pytest.MonkeyPatch) -> None:
    stage = SegmentLog.stage

    def mutant(self: SegmentLog, kind: int, payload: bytes) -> int:
        sequence = stage(self, kind, payload)
        if self._active is not None:
            place = (self._active.number, codec.WATERMARK_OFFSET)
            writer = self._open_writer(self._active)
            writer.pwrite(codec.encode_mark(self.next_sequence, *place, self._salt), codec.WATERMARK_OFFSET)
        return sequence

    patch.setattr(SegmentLog, "stage", mutant)


def names_a_rewrite_before_it_syncs(patch: pytest.MonkeyPatch) -> None:
    finish, write = Compaction._finish, Compaction._write

    patch.setattr(Compaction, "_finish", lambda self, target: finish(self, UnsyncedFile(target)))  # type: ignore[arg-type]
    patch.setattr(Compaction, "_write", lambda self, target: write(self, UnsyncedFile(target)))  # type: ignore[arg-type]


def rewrites_in_place(patch: pytest.MonkeyPatch) -> None:
    def publish(self: Compaction, swap: Callable[[], None]) -> None:
        source, target = self._disk.open(plan.REWRITE_NAME), self._disk.open(plan.segment_name(self.segment.number))
        target.pwrite(source.pread(source.size(), 0), 0)
        target.datasync()
        swap()

    patch.setattr(Compaction, "publish", publish)


def leaves_out_one_too_many(patch: pytest.MonkeyPatch) -> None:
    class Mutant(Compaction):
        def __init__(self, disk: Disk, store_id: bytes, segment: Segment, gone: list[Span], chain: int) -> None:
            more = [(first, min(end + 1, segment.end_sequence)) for first, end in gone]
            super().__init__(disk, store_id, segment, more, chain)

    patch.setattr(discarding, "Compaction", Mutant)


MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], bool, str]] = [  # mutant, on a failing disk, what is seen
    (acknowledges_without_a_sync, False, "came back, or changed|raised"),
    (never_syncs_the_folder, False, "came back, or changed|was durable"),
    (leaves_the_tail, False, "second recovery"),
    (leaves_the_tail_and_does_not_chain, False, "nobody submitted|second recovery"),  # ghosts
    (trusts_the_page_cache, True, "was durable|came back"),
    (shows_before_it_syncs, False, "was durable|came back|raised"),
    (retries_in_the_same_segment, True, "came back|nobody submitted|raised"),
    (promises_too_early, False, "raised"),
]


DISCARDING_MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], str]] = [
    (names_a_rewrite_before_it_syncs, "raised"),
    (rewrites_in_place, "raised"),
    (leaves_out_one_too_many, "came back, or changed"),
]


@pytest.mark.parametrize(
    ("mutate", "message"), DISCARDING_MUTANTS, ids=[each.__name__ for each, _ in DISCARDING_MUTANTS]
)
def test_the_discarding_trials_find_a_seeded_bug(
    mutate: Callable[[pytest.MonkeyPatch], None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "STEP_BYTES", 512)
    mutate(monkeypatch)
    with pytest.raises(Violation, match=message):
        run_trials(TRIALS_PER_MUTANT, faulty=False, discarding=True)


@pytest.mark.parametrize(("mutate", "faulty", "message"), MUTANTS, ids=[mutate.__name__ for mutate, *_ in MUTANTS])
def test_the_trials_find_a_seeded_bug(
    mutate: Callable[[pytest.MonkeyPatch], None], faulty: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(Violation, match=message):
        run_trials(TRIALS_PER_MUTANT, faulty)


def run_trials(number: int, faulty: bool, discarding: bool = False) -> None:
    for seed in range(number):
        Trial(seed, faulty=faulty, discarding=discarding).run()


def test_a_disk_that_lies_about_syncing_yields_a_prefix_or_corrupt_and_is_mostly_found_out() -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(300):
        rng = Random(seed)
        disk = CrashDisk(rng)
        log = SegmentLog.open(disk, create=True, store_id=STORE_ID, segment_bytes=4096)
        written: list[bytes] = []
        honest = rng.randrange(3, 8)
        for group in range(12):
            if group == honest:
                disk.sync_directory = lambda: None  # type: ignore[method-assign]
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(CrashFile, "datasync", lambda self: None)
                    group_of(log, written, rng)
                    group_of(log, written, rng)
            else:
                group_of(log, written, rng)
        found = disk.after(Cut.REORDERED, rng)
        try:
            again = SegmentLog.open(found, create=False)
        except SegmentCorrupt:
            outcomes["found out"] += 1
            continue
        payloads = [record.payload for record in again.scan()]
        assert payloads == written[: len(payloads)]
        outcomes["complete" if len(payloads) == len(written) else "silently rolled back"] += 1
    assert outcomes["silently rolled back"] == 0  # honest syncs followed, so proofs of the lost groups are on the disk


def group_of(log: SegmentLog, written: list[bytes], rng: Random) -> None:
    for _ in range(rng.randint(1, 4)):
        written.append(rng.randbytes(rng.randint(0, 120)))
        log.stage(7, written[-1])
    log.commit()


@pytest.mark.parametrize("operation", ["pwrite", "datasync", "create", "rename", "sync_directory"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_one_failing_operation_loses_nothing_that_was_acknowledged_and_the_log_goes_on(
    operation: str, code: int
) -> None:
    for at in range(60):
        rng = Random(at)
        disk = CrashDisk(rng)
        log = SegmentLog.open(disk, create=True, store_id=STORE_ID, segment_bytes=2048)
        countdown = iter(range(10_000))

        def fails(name: str, at: int = at, countdown: object = countdown) -> OSError | None:
            hit = name == operation and next(countdown) == at  # type: ignore[call-overload]
            return OSError(code, "injected") if hit else None

        disk.faults = fails
        acknowledged: list[bytes] = []
        refused: list[list[bytes]] = []
        faults: list[StorageError] = []
        for _ in range(30):
            payloads = [rng.randbytes(rng.randint(1, 300)) for _ in range(rng.randint(1, 3))]
            for payload in payloads:
                log.stage(1, payload)
            try:
                log.commit()
                acknowledged += payloads
                refused.clear()  # an acknowledged group after a refused one says that the refused one never was
            except StorageError as error:
                refused.append(payloads)
                faults.append(error)
            assert log.next_sequence == log.durable_sequence == len(acknowledged)
            log.work()
        assert len(faults) <= 1
        expected = StorageFault.FULL if code == errno.ENOSPC else StorageFault.IO
        assert all(error.fault is expected and error.heals_by_itself for error in faults)
        assert [record.payload for record in log.scan()] == acknowledged
        for cut in Cut:
            found = SegmentLog.open(disk.after(cut, rng), create=False)
            records = [record.payload for record in found.scan()]
            rest = records[len(acknowledged) :]
            assert records[: len(acknowledged)] == acknowledged
            assert not rest or rest == refused[0][: len(rest)]


def test_a_full_disk_refuses_groups_until_there_is_room_again() -> None:
    for seed in range(40):
        rng = Random(seed)
        disk = CrashDisk(rng)
        log = SegmentLog.open(disk, create=True, store_id=STORE_ID, segment_bytes=2048)
        disk.room = rng.randint(2048, 9000)
        acknowledged: list[bytes] = []
        refusals = 0
        for turn in range(120):
            if turn == 80:
                disk.room = None
            payload = rng.randbytes(rng.randint(0, 300))
            log.stage(1, payload)
            try:
                log.commit()
                acknowledged.append(payload)
            except StorageError as error:
                refusals += error.fault is StorageFault.FULL
            log.work()
        assert refusals > 0
        assert len(acknowledged) >= 40
        assert len(acknowledged) + refusals == 120
        for cut in Cut:
            again = SegmentLog.open(disk.after(cut, rng), create=False)
            assert [record.payload for record in again.scan()] == acknowledged


def test_after_a_failed_sync_the_segment_is_never_written_again() -> None:
    disk = CrashDisk(Random(5))
    log = SegmentLog.open(disk, create=True, store_id=STORE_ID, segment_bytes=4096)
    log.stage(1, b"kept")
    log.commit()
    disk.faults = lambda name: OSError(errno.EIO, "injected") if name == "datasync" else None
    log.stage(1, b"refused")
    with pytest.raises(StorageError):
        log.commit()
    disk.faults = None
    abandoned = disk.live["00000000.seg"]
    before = bytes(abandoned.volatile)
    log.stage(1, b"in the next segment")
    log.commit()
    log.close()
    assert bytes(abandoned.volatile) == before
    header = codec.decode_header(disk.live["00000001.seg"].durable)
    assert header is not None
    assert header.first_sequence == 1
    assert [record.payload for record in SegmentLog.open(disk, create=False).scan()] == [
        b"kept",
        b"in the next segment",
    ]
