"""Discarding records of a real log: a model beside it, what is freed and refused, damage, and a reader meanwhile."""

import errno
import os
import random
import resource
import shutil
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from edge.errors import LocalError, StorageError, StorageFault
from edge.storage import codec, compaction, plan
from edge.storage.codec import DATA_OFFSET, decode_header
from edge.storage.files import OsDisk
from edge.storage.log import DISCARDED, Record, RecordDiscarded, SegmentLog
from edge.storage.plan import REWRITE_NAME, SegmentCorrupt, judge_header, segment_name

SMALL = 16 * 1024


def opened(folder: Path, *, segment_bytes: int = SMALL) -> SegmentLog:
    return SegmentLog.open(OsDisk(folder, create=True), create=True, segment_bytes=segment_bytes)


def filled(folder: Path, groups: int = 120, seed: int = 1) -> tuple[SegmentLog, list[Record]]:
    rng = random.Random(seed)
    log = opened(folder)
    for _ in range(groups):
        for _ in range(rng.randint(1, 6)):
            log.stage(rng.randrange(3), rng.randbytes(rng.choice((0, 10, 100, 400))))
        log.commit()
        log.work()
    return log, list(log.scan())


def worked(log: SegmentLog) -> None:
    while log.work():
        pass


def gone(record: Record) -> Record:
    return Record(record.sequence, DISCARDED, bytes((record.kind,)))


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.seg"))


def first_of_segment(folder: Path, number: int) -> int:
    header = decode_header((folder / segment_name(number)).read_bytes()[: codec.HEADER_BYTES])
    assert header is not None
    return header.first_sequence


class Model(RuleBasedStateMachine):
    """The log beside a list and a set of what was given up, with reopening at any time."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(os.environ["POMONA_TEST_FOLDER"]) / os.urandom(8).hex()
        self.log = opened(self.folder, segment_bytes=2048)
        self.durable: list[Record] = []
        self.given_up: set[int] = set()

    @rule(records=st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=200)), min_size=1, max_size=6))
    def append(self, records: list[tuple[int, bytes]]) -> None:
        first = self.log.stage_all(records)
        self.log.commit()
        self.durable += [Record(first + index, *record) for index, record in enumerate(records)]

    @rule(place=st.floats(0, 1), count=st.integers(0, 30))
    def discard(self, place: float, count: int) -> None:
        first = int(place * len(self.durable))
        end = min(first + count, len(self.durable))
        fresh = set(range(first, end)) - self.given_up
        reported = self.log.discard([(first, end)])
        assert reported <= len(set(range(first, end)))
        assert reported >= len(fresh)  # after a reopening it may count again what was given up and not rewritten
        self.given_up |= fresh

    @rule(steps=st.integers(1, 6))
    def work(self, steps: int) -> None:
        for _ in range(steps):
            self.log.work()

    @rule()
    def work_it_all_off(self) -> None:
        worked(self.log)

    @rule(clean=st.booleans())
    def reopen(self, clean: bool) -> None:
        if clean:
            self.log.close()
        else:
            copy = self.folder.with_name(os.urandom(8).hex())
            shutil.copytree(self.folder, copy)
            self.log.close()
            self.folder = copy
        self.log = opened(self.folder)

    @rule(place=st.floats(0, 1))
    def read_on(self, place: float) -> None:
        start = int(place * len(self.durable))
        self.compare(start, list(self.log.scan(start)))

    @invariant()
    def every_record_is_as_it_was_or_gone(self) -> None:
        records = list(self.log.scan())
        self.compare(0, records)
        for record in records[:: max(1, len(records) // 8)]:
            if record.kind == DISCARDED:
                with pytest.raises(RecordDiscarded):
                    self.log.read(record.sequence)
            else:
                assert self.log.read(record.sequence) == record
        assert self.log.storage_bytes == on_disk(self.folder)

    def compare(self, start: int, records: list[Record]) -> None:
        assert len(records) == len(self.durable) - start
        for record, expected in zip(records, self.durable[start:], strict=True):
            assert record == expected or (record.sequence in self.given_up and record == gone(expected))

    def teardown(self) -> None:
        if hasattr(self, "log"):
            assert self.log.verify() == len(self.durable)
            self.log.close()


def test_the_log_behaves_as_a_list_with_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POMONA_TEST_FOLDER", str(tmp_path))
    monkeypatch.setattr(compaction, "STEP_BYTES", 300)
    run_state_machine_as_test(Model, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))


def test_a_segment_that_nobody_needs_shrinks_to_nearly_nothing_and_opens_again(tmp_path: Path) -> None:
    log, records = filled(tmp_path)
    end = first_of_segment(tmp_path, 1)
    before = on_disk(tmp_path)
    assert log.discard([(0, end)]) == end
    assert log.discard([(0, end)]) == 0
    assert log.read(3) == records[3]  # not rewritten yet
    worked(log)
    kinds = {record.kind for record in records[:end]}
    runs = sum(1 for a, b in pairwise(records[:end]) if a.kind != b.kind) + 1
    size = (tmp_path / segment_name(0)).stat().st_size
    assert kinds == {0, 1, 2}
    assert size == DATA_OFFSET + 25 * runs + 4 * 2 * runs + codec.TRAILER_BYTES
    assert log.storage_bytes == on_disk(tmp_path) == before - SMALL + size
    with pytest.raises(RecordDiscarded, match="record 3 was discarded") as caught:
        log.read(3)
    assert caught.value.fault is StorageFault.DISCARDED
    assert not caught.value.heals_by_itself
    log.close()

    log = opened(tmp_path)
    assert not log.repaired
    assert list(log.scan()) == [*map(gone, records[:end]), *records[end:]]
    assert log.discard([(0, end + 1)]) == 1  # it knows by itself what is gone
    assert log.storage_bytes == on_disk(tmp_path)
    assert log.verify() == len(records)
    log.close()


def test_less_than_a_quarter_waits_for_more(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for _ in range(60):
        log.stage(1, bytes(1000))
        log.commit()
    last = first_of_segment(tmp_path, 1) - 1
    log.discard([(0, 2)])
    worked(log)
    assert on_disk(tmp_path) == log.storage_bytes
    assert (tmp_path / segment_name(0)).stat().st_size == SMALL
    assert log.read(1).payload == bytes(1000)
    log.discard([(last - 1, last + 1)])  # four of sixteen in all
    worked(log)
    assert (tmp_path / segment_name(0)).stat().st_size < SMALL * 3 // 4
    for sequence in (0, 1, last - 1, last):
        with pytest.raises(RecordDiscarded):
            log.read(sequence)
    log.discard([(2, last - 1)])
    worked(log)
    assert (tmp_path / segment_name(0)).stat().st_size == DATA_OFFSET + 25 + 8 + codec.TRAILER_BYTES
    log.close()


def test_the_segment_in_use_waits_until_it_is_sealed(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for _ in range(10):
        log.stage(1, bytes(1000))
        log.commit()
    log.discard([(0, 10)])
    worked(log)
    assert log.read(9).payload == bytes(1000)
    for _ in range(10):
        log.stage(1, bytes(1000))
        log.commit()
    worked(log)
    assert [record.kind for record in log.scan()] == [DISCARDED] * 10 + [1] * 10
    log.close()


@pytest.mark.parametrize("span", [(-1, 2), (3, 2), (0, 11)])
def test_only_durable_records_can_be_given_up(tmp_path: Path, span: tuple[int, int]) -> None:
    log = opened(tmp_path)
    for _ in range(11):
        log.stage(1, b"x")
        if log.next_sequence == 10:
            log.commit()
    with pytest.raises(LocalError, match="not all in the log"):
        log.discard([(0, 1), span])
    assert log.discard([(0, 1)]) == 1  # the first of the refused spans was not taken
    log.close()
    with pytest.raises(LocalError, match="closed"):
        log.discard([(0, 1)])


def test_software_of_version_one_refuses_a_compacted_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = filled(tmp_path)
    log.discard([(0, 100)])
    worked(log)
    log.close()
    data = (tmp_path / segment_name(0)).read_bytes()
    header = decode_header(data[: codec.HEADER_BYTES])
    assert header is not None
    assert (header.version, header.segment_bytes) == (2, len(data))
    monkeypatch.setattr(plan, "COMPACTED_VERSION", 1)
    with pytest.raises(StorageError, match="segment 0 has format 2; this version reads 1"):
        judge_header(data[: codec.HEADER_BYTES], 0, len(data), header.store_id)


def damaged(folder: Path, offset: int, data: bytes) -> None:
    with (folder / segment_name(0)).open("r+b") as file:
        file.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
        file.write(data)


def compacted(folder: Path) -> tuple[list[Record], bytes]:
    """A log whose first segment has lost every other stretch of five; returns what is in it and the file's bytes."""
    log, records = filled(folder)
    end = first_of_segment(folder, 1)
    spans = [(first, min(first + 5, end)) for first in range(0, end, 10)]
    log.discard(spans)
    worked(log)
    log.close()
    for span in spans:
        records[slice(*span)] = map(gone, records[slice(*span)])
    return records, (folder / segment_name(0)).read_bytes()


def test_a_damaged_footer_is_made_again_from_runs_and_records(tmp_path: Path) -> None:
    records, before = compacted(tmp_path)
    for offset in (-1, -20, -codec.TRAILER_BYTES - 3):
        damaged(tmp_path, offset, b"\xee")
        log = opened(tmp_path)
        assert list(log.scan()) == records
        log.close()
        assert (tmp_path / segment_name(0)).read_bytes() == before


def test_no_flipped_byte_of_a_compacted_segment_is_taken_for_the_truth(tmp_path: Path) -> None:
    records, before = compacted(tmp_path)
    rng = random.Random(3)
    found_out = 0
    for offset in sorted(rng.sample(range(len(before)), 300)):
        damaged(tmp_path, offset, bytes((before[offset] ^ 1 << rng.randrange(8),)))
        try:
            log = opened(tmp_path)
        except StorageError:
            found_out += 1
        else:
            try:
                log.verify()
                assert list(log.scan()) == records
            except SegmentCorrupt:
                found_out += 1
            log.close()
        (tmp_path / segment_name(0)).write_bytes(before)
    assert found_out > 200


def test_a_compacted_segment_without_a_successor_is_corruption(tmp_path: Path) -> None:
    _, before = compacted(tmp_path)
    for path in tmp_path.glob("*.seg"):
        if path.name != segment_name(0):
            path.unlink()
    damaged(tmp_path, -1, b"\xee")  # the trailer must not be needed to see it
    with pytest.raises(SegmentCorrupt):
        opened(tmp_path)
    assert (tmp_path / segment_name(0)).read_bytes()[:-1] == before[:-1]


def test_an_interrupted_rewrite_leaves_a_file_that_the_next_start_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "STEP_BYTES", 1000)
    log, records = filled(tmp_path / "log")
    log.discard([(0, 60)])
    while not (tmp_path / "log" / REWRITE_NAME).exists():
        log.work()
    log.work()
    shutil.copytree(tmp_path / "log", tmp_path / "copy")
    log.close()
    assert not (tmp_path / "log" / REWRITE_NAME).exists()  # a close takes it away
    log = opened(tmp_path / "copy")
    assert not (tmp_path / "copy" / REWRITE_NAME).exists()
    assert list(log.scan()) == records
    log.discard([(0, 60)])
    worked(log)
    assert list(log.scan()) == [*map(gone, records[:60]), *records[60:]]
    log.close()


def test_a_damaged_segment_is_not_rewritten_and_its_reader_hears_of_it(tmp_path: Path) -> None:
    log, records = filled(tmp_path)
    assert len(records[40].payload) > 3
    place = (tmp_path / segment_name(0)).read_bytes().index(records[40].payload, DATA_OFFSET)
    damaged(tmp_path, place, b"\xff\xee\xdd")
    before = (tmp_path / segment_name(0)).read_bytes()
    log.discard([(0, 40)])
    worked(log)
    assert (tmp_path / segment_name(0)).read_bytes() == before
    assert not (tmp_path / REWRITE_NAME).exists()
    with pytest.raises(SegmentCorrupt):
        log.read(40)
    log.close()


def test_a_full_disk_delays_a_rewrite_and_harms_nothing(tmp_path: Path) -> None:
    log, records = filled(tmp_path)
    log.discard([(0, 60)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        worked(log)
        assert not log.has_work  # not before something was written, or discarded
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(log.scan()) == records
    assert not (tmp_path / REWRITE_NAME).exists()
    log.discard([])
    worked(log)
    assert list(log.scan()) == [*map(gone, records[:60]), *records[60:]]
    log.close()


def test_a_rewrite_that_would_not_shrink_is_left(tmp_path: Path) -> None:
    log = opened(tmp_path, segment_bytes=4096)
    while log.storage_bytes < 3 * 4096:
        log.stage_all([(1, b""), (2, b"x")] * 40)
        log.commit()
        log.work()
    end = first_of_segment(tmp_path, 1)
    log.discard([(sequence, sequence + 1) for sequence in range(1, end, 2)])
    worked(log)
    assert (tmp_path / segment_name(0)).stat().st_size == 4096
    assert log.read(1).payload == b"x"
    log.close()


class RenameFails(OsDisk):
    def rename(self, old: str, new: str) -> None:
        if old == REWRITE_NAME:
            raise OSError(errno.EIO, "injected")
        super().rename(old, new)


def test_a_failed_rename_leaves_the_old_segment(tmp_path: Path) -> None:
    log, records = filled(tmp_path)
    log.close()
    log = SegmentLog.open(RenameFails(tmp_path), create=False)
    log.discard([(0, 60)])
    worked(log)
    assert list(log.scan()) == records
    assert not (tmp_path / REWRITE_NAME).exists()
    log.close()


def test_a_file_that_was_cut_off_is_reported_and_not_waited_for(tmp_path: Path) -> None:
    filled(tmp_path)[0].close()
    log = opened(tmp_path)
    os.truncate(tmp_path / segment_name(0), SMALL - 1)
    for read in (lambda: log.read(0), lambda: list(log.scan()), log.verify):
        with pytest.raises(SegmentCorrupt, match="is not 16384 bytes long"):
            read()
    log.close()


def test_a_reader_in_another_thread_sees_every_record_or_that_it_is_gone(tmp_path: Path) -> None:
    log, records = filled(tmp_path, groups=400)
    rng = random.Random(5)
    done = threading.Event()
    problems: list[BaseException] = []
    reads = [0, 0]

    def read() -> None:
        own = random.Random(6)
        try:
            while not done.is_set() or reads[0] < 200:
                sequence = own.randrange(len(records))
                try:
                    assert log.read(sequence) == records[sequence]
                    reads[0] += 1
                except RecordDiscarded:
                    reads[1] += 1
                for record in log.scan(max(0, sequence - 100)):
                    assert record in (records[record.sequence], gone(records[record.sequence]))
        except BaseException as error:
            problems.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(40):
            first = rng.randrange(len(records) * 9 // 10)
            log.discard([(first, min(first + rng.choice((5, 20, 60)), len(records) * 9 // 10))])
            worked(log)
    finally:
        done.set()
        reader.join()
        sys.setswitchinterval(interval)
    assert problems == []
    assert log.verify() == len(records)
    assert log.storage_bytes == on_disk(tmp_path)
    log.close()
