"""kill -9 of a real process that appends, over and over on one folder; the oracle lives in this process."""

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from append_for_kill import payload

from edge.storage.files import OsDisk
from edge.storage.log import SegmentLog

CHILD = Path(__file__).with_name("append_for_kill.py")


def one_life(folder: Path, life: int, patience_s: float) -> tuple[int, int]:
    """Start the process, let it work, kill it. Returns (what its recovery showed, the last end it acknowledged)."""
    child = subprocess.Popen([sys.executable, str(CHILD), str(folder), str(life)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    output = child.stdout.fileno()
    heard = os.read(output, 65536)  # blocks until recovery is through
    deadline = time.monotonic() + patience_s
    while (left := deadline - time.monotonic()) > 0:
        if select.select([output], [], [], left)[0]:
            heard += os.read(output, 65536)
    child.send_signal(signal.SIGKILL)
    child.wait()
    while more := os.read(output, 65536):
        heard += more
    child.stdout.close()
    ends = [int(line) for line in heard.splitlines()]
    assert ends == sorted(ends)
    return ends[0], ends[-1]


@pytest.mark.parametrize(
    "kills", [24, pytest.param(250, marks=[pytest.mark.soak, pytest.mark.timeout(900)])], ids=["some", "many"]
)
def test_nothing_acknowledged_is_lost_or_changed_by_kill_9(tmp_path: Path, kills: int) -> None:
    rng = random.Random(kills)
    seen: list[tuple[int, bytes]] = []
    for life in range(kills):
        shown, acknowledged = one_life(tmp_path, life, rng.choice((0.0, 0.003, 0.02, 0.06)))
        log = SegmentLog.open(OsDisk(tmp_path), create=False)
        records = [(record.kind, record.payload) for record in log.scan()]
        log.close()
        assert shown == len(seen)
        assert len(records) >= acknowledged
        assert records[: len(seen)] == seen
        fresh = range(len(seen), len(records))
        assert records[len(seen) :] == [(life % 256, payload(life, sequence)) for sequence in fresh]
        seen = records
    assert len(seen) > kills * 10
    assert len(list(tmp_path.glob("*.seg"))) > 3
