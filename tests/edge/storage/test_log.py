"""The log over real files: a model beside it, rolling over, reopening, rot at rest, a full disk, a second process."""

import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from edge.errors import ConfigError, LocalError, StorageError, StorageFault
from edge.limits import RECORD_BYTES_MAX
from edge.storage.files import OsDisk
from edge.storage.log import RECORD_COST, Record, SegmentLog
from edge.storage.plan import SegmentCorrupt, segment_name

SMALL = 16 * 1024


def opened(folder: Path, *, segment_bytes: int = SMALL) -> SegmentLog:
    return SegmentLog.open(OsDisk(folder, create=True), create=True, segment_bytes=segment_bytes)


def filled(folder: Path, groups: int = 120, seed: int = 1) -> list[Record]:
    """A log of several segments, closed."""
    rng = random.Random(seed)
    log = opened(folder)
    for _ in range(groups):
        for _ in range(rng.randint(1, 6)):
            log.stage(rng.randrange(256), rng.randbytes(rng.choice((0, 10, 100, 400))))
        log.commit()
        log.work()
    records = list(log.scan())
    log.close()
    return records


class Model(RuleBasedStateMachine):
    """The log beside a list, with reopening at any time."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(os.environ["POMONA_TEST_FOLDER"]) / os.urandom(8).hex()
        self.log = opened(self.folder, segment_bytes=4096)
        self.durable: list[tuple[int, bytes]] = []
        self.staged: list[tuple[int, bytes]] = []

    @rule(kind=st.integers(0, 255), payload=st.binary(max_size=600))
    def stage(self, kind: int, payload: bytes) -> None:
        if len(payload) > self.log.room:
            with pytest.raises(LocalError):
                self.log.stage(kind, payload)
            return
        assert self.log.stage(kind, payload) == len(self.durable) + len(self.staged)
        self.staged.append((kind, payload))

    @rule(records=st.lists(st.tuples(st.integers(-1, 256), st.binary(max_size=300)), max_size=12))
    def stage_all(self, records: list[tuple[int, bytes]]) -> None:
        before = self.log.next_sequence
        try:
            assert self.log.stage_all(records) == before
        except LocalError:
            bad_kind = any(not 0 <= kind <= 255 for kind, _ in records)
            assert bad_kind or sum(len(payload) for _, payload in records) + RECORD_COST * len(records) > self.left()
        else:
            self.staged += records

    def left(self) -> int:
        used = sum(len(payload) + RECORD_COST for _, payload in self.staged)
        return self.log.group_bytes - used

    @rule()
    def commit(self) -> None:
        self.durable += self.staged
        self.staged = []
        assert self.log.commit() == len(self.durable)

    @rule()
    def work(self) -> None:
        self.log.work()

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.log.close()
        self.staged = []
        self.log = SegmentLog.open(OsDisk(self.folder), create=False)
        assert not self.log.repaired

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        sequence = data.draw(st.integers(-1, len(self.durable)))
        if 0 <= sequence < len(self.durable):
            assert self.log.read(sequence) == Record(sequence, *self.durable[sequence])
        else:
            with pytest.raises(IndexError):
                self.log.read(sequence)

    @rule(data=st.data())
    def scan(self, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(self.durable)))
        expected = [Record(start + index, *entry) for index, entry in enumerate(self.durable[start:])]
        assert list(self.log.scan(start)) == expected

    @invariant()
    def counts(self) -> None:
        assert self.log.durable_sequence == len(self.durable)
        assert self.log.next_sequence == len(self.durable) + len(self.staged)

    def teardown(self) -> None:
        if hasattr(self, "log"):
            assert self.log.verify() == len(self.durable)
            self.log.close()


def test_the_log_behaves_as_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POMONA_TEST_FOLDER", str(tmp_path))
    run_state_machine_as_test(Model, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))


def test_the_largest_record_fits_and_one_byte_more_is_our_own_mistake(tmp_path: Path) -> None:
    log = SegmentLog.open(OsDisk(tmp_path), create=True)
    payload = os.urandom(RECORD_BYTES_MAX)
    for _ in range(6):  # rolls over
        assert log.read(_stage_commit(log, payload)).payload == payload
    with pytest.raises(LocalError):
        log.stage(1, payload + b"x")
    log.close()


def _stage_commit(log: SegmentLog, payload: bytes) -> int:
    sequence = log.stage(1, payload)
    log.commit()
    return sequence


def test_a_log_that_is_not_there_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no log"):
        SegmentLog.open(OsDisk(tmp_path), create=False)
    SegmentLog.open(OsDisk(tmp_path), create=True).close()


def test_another_store_id_is_refused(tmp_path: Path) -> None:
    SegmentLog.open(OsDisk(tmp_path), create=True, store_id=b"a" * 16).close()
    with pytest.raises(StorageError) as caught:
        SegmentLog.open(OsDisk(tmp_path), create=True, store_id=b"b" * 16)
    assert caught.value.fault is StorageFault.CORRUPT


def test_footers_are_derived_and_come_back(tmp_path: Path) -> None:
    records = filled(tmp_path)
    names = sorted(path.name for path in tmp_path.glob("*.seg"))
    assert len(names) > 3
    intact = {name: (tmp_path / name).read_bytes() for name in names}
    for name in names:
        with (tmp_path / name).open("r+b") as file:
            file.seek(-20, os.SEEK_END)
            file.write(b"\xff" * 20 if intact[name][-20:] != bytes(20) else bytes(20))
    log = opened(tmp_path)
    assert list(log.scan()) == records
    log.close()
    assert {name: (tmp_path / name).read_bytes() for name in names} == intact


def test_opening_a_clean_log_writes_nothing(tmp_path: Path) -> None:
    filled(tmp_path)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.glob("*.seg")}
    log = opened(tmp_path)
    log.verify()
    log.close()
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.glob("*.seg")} == before


def rot(folder: Path, records: list[Record], intact: dict[str, bytes], rng: random.Random) -> str:
    """Damage one file; say whether that was detected or did no harm. Puts the file back."""
    name = rng.choice(sorted(intact))
    data = bytearray(intact[name])
    if rng.random() < 0.3:
        page = rng.randrange(0, len(data), 4096)
        data[page : page + 4096] = bytes(4096)
    else:
        for _ in range(rng.randint(1, 64)):
            bit = rng.randrange(len(data) * 8)
            data[bit // 8] ^= 1 << bit % 8
    (folder / name).write_bytes(data)
    outcome = judged(folder, records)
    for name, content in intact.items():
        path = folder / name
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
    return outcome


def judged(folder: Path, records: list[Record]) -> str:
    try:
        log = opened(folder)
    except SegmentCorrupt as error:
        return told(error)
    try:
        assert log.verify() == len(records)
        assert list(log.scan()) == records
    except SegmentCorrupt as error:
        return told(error)
    finally:
        log.close()
    return "harmless"


def told(error: SegmentCorrupt) -> str:
    place = f"segment {error.segment} is corrupt at byte {error.offset}, record {error.sequence}"
    return "detected" if error.fault is StorageFault.CORRUPT and place in str(error) else "unclear"


@pytest.mark.parametrize(
    "cases", [800, pytest.param(20_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])], ids=["some", "many"]
)
def test_rot_at_rest_is_detected_or_harmless(tmp_path: Path, cases: int) -> None:
    records = filled(tmp_path)
    intact = {path.name: path.read_bytes() for path in tmp_path.glob("*.seg")}
    rng = random.Random(7)
    outcomes = [rot(tmp_path, records, intact, rng) for _ in range(cases)]
    assert set(outcomes) == {"detected", "harmless"}  # harmless: beyond the last record, in a footer, in the spare
    assert outcomes.count("detected") > cases * 0.6


def test_rot_in_the_last_acknowledged_record_is_not_taken_for_a_torn_write(tmp_path: Path) -> None:
    records = filled(tmp_path)
    path = max(tmp_path.glob("*.seg"), key=lambda path: path.name if path.read_bytes().strip(b"\0") else "")
    data = bytearray(path.read_bytes())
    at = data.rindex(records[-1].payload or records[-1].sequence.to_bytes(8, "little"))
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(SegmentCorrupt, match=f"record {records[-1].sequence}"):
        opened(tmp_path)
    assert path.read_bytes() == bytes(data)  # nothing was changed


def test_rot_that_comes_while_the_log_is_open_is_reported_by_read_and_scan(tmp_path: Path) -> None:
    filled(tmp_path)
    log = opened(tmp_path)
    path = tmp_path / segment_name(1)
    data = bytearray(path.read_bytes())
    data[2000] ^= 4
    path.write_bytes(data)
    with pytest.raises(SegmentCorrupt) as caught:
        list(log.scan())
    with pytest.raises(SegmentCorrupt, match="segment 1"):
        log.read(caught.value.sequence)
    with pytest.raises(SegmentCorrupt):
        log.verify()
    assert log.read(0)
    log.close()


@pytest.mark.parametrize("gone", [0, 1, -1])
def test_a_missing_segment_is_corruption(tmp_path: Path, gone: int) -> None:
    filled(tmp_path)
    used = sorted(path for path in tmp_path.glob("*.seg") if path.read_bytes().strip(b"\0"))
    used[gone].unlink()
    with pytest.raises(SegmentCorrupt):
        opened(tmp_path)


def test_a_second_opener_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    log = opened(tmp_path)
    code = (
        "import sys; from pathlib import Path; from edge.errors import StorageError\n"
        "from edge.storage.files import OsDisk; from edge.storage.log import SegmentLog\n"
        "try: SegmentLog.open(OsDisk(Path(sys.argv[1])), create=False)\n"
        "except StorageError as error: print(error.fault, error)"
    )
    run = [sys.executable, "-c", code, str(tmp_path)]
    answer = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert answer.startswith("locked")
    assert f"pid {os.getpid()}" in answer
    with pytest.raises(StorageError) as caught:
        opened(tmp_path)
    assert caught.value.fault is StorageFault.LOCKED
    log.close()
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == ""


def test_a_full_disk_refuses_and_heals_by_itself(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for the full disk: the next segment cannot reach its size."""
    log = opened(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL // 2, before[1]))
        # Preallocated room goes on being used; only the step to a new segment fails.
        with pytest.raises(StorageError) as caught:
            append_for_ever(log, b"sale" * 25)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.fault is StorageFault.FULL
    assert caught.value.heals_by_itself
    kept = log.durable_sequence
    assert log.read(kept - 1).payload == b"sale" * 25
    assert _stage_commit(log, b"room again") == kept
    log.close()
    again = opened(tmp_path)
    assert again.verify() == kept + 1
    again.close()


def append_for_ever(log: SegmentLog, payload: bytes) -> None:
    while True:
        _stage_commit(log, payload)
        log.work()


def test_after_close_nothing_more_is_taken(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.close()
    assert log.room < 0
    assert not log.work()
    with pytest.raises(LocalError):
        log.stage(1, b"late")


def test_reading_forwards_backwards_and_about_while_the_log_grows(tmp_path: Path) -> None:
    rng = random.Random(11)
    log = opened(tmp_path, segment_bytes=512 * 1024)
    written: list[Record] = []
    for _ in range(60):
        sizes = rng.choice(((0, 5, 40), (100, 900), (5000, 17_000, 70_000)))
        for _ in range(rng.randint(1, 4)):
            payload = rng.randbytes(rng.choice(sizes))
            written.append(Record(log.stage(rng.randrange(256), payload), 0, payload))
        log.commit()
        place, step = rng.randrange(len(written)), rng.choice((-1, 1, 1, 1, 3))
        for _ in range(40):
            record = log.read(place)
            assert (record.sequence, record.payload) == (place, written[place].payload)
            place = (place + step) % len(written) if rng.random() < 0.9 else rng.randrange(len(written))
    log.close()
