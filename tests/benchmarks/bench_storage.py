"""Durable append against raw writes of the same bytes into a zero-filled file, in the same run, as ratios.

Ours stages 150-byte records and commits them with one fdatasync, rolls over to new segments and prepares them. The
reference writes prepared groups of the same size with `pwrite` and `fdatasync` round and round into one file that was
zero-filled before: no checksums, no sequence numbers, no new segments. So it is a bound, not a log. Short turns
alternate, so that what else the machine does meets both alike.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from edge.limits import SEGMENT_BYTES
from edge.storage.codec import MARK_BYTES, RECORD_HEAD_BYTES
from edge.storage.files import OsDisk
from edge.storage.log import SegmentLog

RECORD_BYTES = 150
GROUPS = (1, 100, 1000)
RATIO_MIN = 0.8  # where one record waits for one sync, the log must not be what it waits for
BEYOND_RAW_US = 3.0  # per record, in larger groups: checksum, copy, and the zero-filling of the next segment
TURN_S = 0.25
OPEN_RECORDS = 100_000


class Raw:
    """The reference: prepared bytes, one pwrite, one fdatasync."""

    def __init__(self, path: Path, records: int) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(self._descriptor, bytes(SEGMENT_BYTES), 0)
        os.fsync(self._descriptor)
        self._group = os.urandom(MARK_BYTES + records * (RECORD_HEAD_BYTES + RECORD_BYTES))
        self._offset = 0

    def append(self) -> None:
        if self._offset + len(self._group) > SEGMENT_BYTES:
            self._offset = 0
        os.pwrite(self._descriptor, self._group, self._offset)
        os.fdatasync(self._descriptor)
        self._offset += len(self._group)

    def close(self) -> None:
        os.close(self._descriptor)


class Ours:
    """The log, its spare prepared in between as the committer does it."""

    def __init__(self, folder: Path, records: int) -> None:
        self._log = SegmentLog.open(OsDisk(folder, create=True), create=True)
        self._payloads = [(1, os.urandom(RECORD_BYTES)) for _ in range(records)]

    def append(self) -> None:
        self._log.stage_all(self._payloads)
        self._log.commit()
        if self._log.has_work:
            self._log.work()

    def close(self) -> None:
        self._log.close()


def rows(seconds: float) -> list[dict[str, object]]:
    """Append in groups of 1, 100 and 1000; then opening and random reads. Takes about `seconds`."""
    seconds = min(seconds, 60.0)
    parent = Path(os.environ.get("POMONA_BENCH_DIR", "build"))  # /tmp may be memory, where a sync costs nothing
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-storage-", dir=parent))
    try:
        found = [append_row(folder, records, seconds * 0.28) for records in GROUPS]
        return [*found, *reading_rows(folder)]
    finally:
        shutil.rmtree(folder)


def append_row(folder: Path, records: int, seconds: float) -> dict[str, object]:
    ours, raw = Ours(folder / f"log-{records}", records), Raw(folder / f"raw-{records}", records)
    turn(ours, records, TURN_S)
    turn(raw, records, TURN_S)
    pairs: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds - 2 * TURN_S
    while time.perf_counter() < end or len(pairs) < 3:
        pairs.append((turn(ours, records, TURN_S), turn(raw, records, TURN_S)))
    ours.close()
    raw.close()
    shutil.rmtree(folder / f"log-{records}")
    ratio = statistics.median(ours_rate / raw_rate for ours_rate, raw_rate in pairs)
    beyond_us = statistics.median(1e6 / ours_rate - 1e6 / raw_rate for ours_rate, raw_rate in pairs)
    found = row(f"durable append, groups of {records}", "records/s", statistics.median(pair[0] for pair in pairs))
    found["reference"] = statistics.median(pair[1] for pair in pairs)
    found["reference_name"] = "pwrite + fdatasync of as many bytes into a zero-filled file"
    found["ratio"] = ratio
    if records == 1:
        return {**found, "target": f"ratio >= {RATIO_MIN}", "met": ratio >= RATIO_MIN}
    target = f"<= {BEYOND_RAW_US:g} us a record beyond it (here {beyond_us:.2f})"
    return {**found, "target": target, "met": beyond_us <= BEYOND_RAW_US}


def turn(side: Ours | Raw, records: int, seconds: float) -> float:
    """Records a second over about `seconds`."""
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        side.append()
        done += records
    return done / spent


def reading_rows(folder: Path) -> list[dict[str, object]]:
    path = folder / "open"
    ours = Ours(path, 1000)
    for _ in range(OPEN_RECORDS // 1000):
        ours.append()
    ours.close()
    open_s = []
    for _ in range(5):
        start = time.perf_counter()
        log = SegmentLog.open(OsDisk(path), create=False)
        open_s.append(time.perf_counter() - start)
        log.close()
    log = SegmentLog.open(OsDisk(path), create=False)
    start = time.perf_counter()
    for index in range(20_000):
        log.read(index * 7919 % OPEN_RECORDS)
    reads = 20_000 / (time.perf_counter() - start)
    log.close()
    opening = row("open a log of 100,000 records", "s", statistics.median(open_s))
    return [
        {**opening, "better": "lower", "target": "<= 2 s", "met": statistics.median(open_s) <= 2},
        row("random reads, checked", "records/s", reads),
    ]


def row(name: str, unit: str, ours: float) -> dict[str, object]:
    """A row without a peer."""
    return {
        "name": f"storage: {name}",
        "unit": unit,
        "ours": ours,
        "reference": None,
        "reference_name": "",
        "ratio": None,
        "better": "higher",
        "target": None,
        "met": None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path, help="a file for the rows (default: stdout)")
    options = parser.parse_args()
    text = json.dumps(rows(options.seconds), indent=1) + "\n"
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
