"""The box after 100,000 receipts: memory of its process, and time from start to READY with and without a snapshot.

The box is `pomona run` as systemd starts it; READY is read from the socket that systemd would read. The log is filled
through the box's own codec and log, in groups, as the tills' service does; then tills ring some thousand receipts more,
so that what is measured is a box at work. The peer is a process that only imports the box's libraries and loads the
same policy: what no service on this stack can go below.
"""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "system"))

from support_box import CURRENCY, GLN, BoxProcess

from edge.box import snapshot
from edge.box.ledger import Ledger
from edge.clock import ClockQuality, SystemClock, WallTime
from edge.pos.intake import IntakeRecord
from edge.pos.till import SpoolingTill, Transaction
from edge.records.item import Item
from edge.records.ledger import ReceiptRecord, encode
from edge.records.receipt import Receipt, ReceiptKind, ReceiptLine, TillPosition

RECEIPTS: Final = 100_000
ITEMS: Final = 500
LANES: Final = ("1", "2", "3")
DAYS: Final = 182
MORE: Final = 3_000  # rung over MQTT while the box runs
FIRST: Final = date(2026, 1, 5)
RSS_TARGET_MIB: Final = 110.0
READY_TARGET_S: Final = 2.0
PEER: Final = """
import resource, sys
import numpy, cbor2, nacl.bindings, onnxruntime, paho.mqtt.client, prometheus_client, sdnotify, tinydb, uvloop
from edge.agent.sac_agent import SACAgent
from edge.box.pricing import shipped_policy
SACAgent(shipped_policy())
print(open("/proc/self/status").read().split("VmRSS:")[1].split()[0])
"""


def items() -> list[Item]:
    """500 items in 10 categories."""
    return [
        Item(f"{4000000000000 + n:014d}", f"Item {n}", f"category {n % 10}", 150 + n, 10_000 + 40 * n)
        for n in range(ITEMS)
    ]


def lines(rng: random.Random, shelf: list[Item]) -> tuple[ReceiptLine, ...]:
    """One to five lines, as a till of a small shop rings them."""
    chosen = rng.sample(shelf, rng.randint(1, 5))
    return tuple(
        ReceiptLine(item.sku, 1000 * n, item.reference_minor, n * item.reference_minor)
        for item in chosen
        for n in (rng.randint(1, 3),)
    )


def receipts(count: int, rng: random.Random) -> Iterator[IntakeRecord]:
    """Half a year of receipts of three lanes, the last day still open."""
    shelf = items()
    sequences = dict.fromkeys(LANES, 0)
    for number in range(count):
        lane = LANES[number % len(LANES)]
        sequences[lane] += 1
        day = FIRST + timedelta(days=number * DAYS // count)
        position = TillPosition(1, sequences[lane])
        receipt = Receipt(lane, position, ReceiptKind.SALE, day, 0, CURRENCY, lines(rng, shelf))
        yield ReceiptRecord(receipt, WallTime(1_790_000_000_000 + number, ClockQuality.FREE))


async def fill(state: Path, count: int) -> None:
    """Append `count` receipts to the ledger under `state`."""
    ledger = await Ledger.open(state)
    try:
        await ledger.append_all([encode(record) for record in receipts(count, random.Random(1))])
    finally:
        await ledger.core.close()


async def ring(box: BoxProcess, count: int) -> None:
    """Ring `count` receipts more at all tills, and wait for their acknowledgement."""
    rng, shelf = random.Random(2), items()
    day = FIRST + timedelta(days=DAYS)
    async with contextlib.AsyncExitStack() as stack:
        for lane in LANES:
            till = SpoolingTill(
                box.settings(lane), gln=GLN, lane=lane, directory=box.root / f"till-{lane}", currency=CURRENCY,
                clock=SystemClock(), rng=random.Random(lane),
            )  # fmt: skip
            await stack.enter_async_context(till.running())
            wanted = [Transaction(ReceiptKind.SALE, day, lines(rng, shelf)) for _ in range(count // len(LANES))]
            await till.ring_all(wanted)
            await till.drained()


def peer() -> tuple[float, float]:
    """(seconds, MiB) of a process that imports the libraries, loads the policy and ends."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    begun = time.monotonic()
    result = subprocess.run([sys.executable, "-c", PEER], capture_output=True, text=True, env=environment, check=True)
    return time.monotonic() - begun, int(result.stdout) / 1024


def measure(root: Path, count: int) -> dict[str, float]:
    """Fill a box, start it with and without snapshot, let tills ring; RSS in MiB, times in seconds."""
    box = BoxProcess(root, "auto", lanes=LANES)
    box.write_items(items())
    box.start()  # makes the ledger, the items and the first book
    box.stop()
    asyncio.run(fill(box.state, count))
    found: dict[str, float] = {}
    try:
        (box.state / snapshot.FILE_NAME).unlink(missing_ok=True)
        found["rebuild"] = box.start()
        asyncio.run(ring(box, MORE))
        time.sleep(2.0)  # the day that the tills began closes those before it: prices are decided and published
        found["rss_rebuild"] = box.resident_bytes() / 2**20
        box.stop()  # writes the snapshot
        found["snapshot"] = min(box.start() for _ in range(3) if not box.stop())
        asyncio.run(ring(box, MORE))
        time.sleep(1.0)
        found["rss"] = box.resident_bytes() / 2**20
        found["records"] = float(box.status()["ledger"]["length"])
    finally:
        box.stop()
    return found


def rows(seconds: float) -> list[dict[str, Any]]:
    """The rows of this module. The number of receipts is the target's, however little time there is."""
    del seconds
    with tempfile.TemporaryDirectory() as directory:
        found = measure(Path(directory), RECEIPTS)
    peer_s, peer_mib = min(peer() for _ in range(3))
    name = "imports of the same libraries and policy"

    def row(title: str, unit: str, ours: float, reference: float, target: float) -> dict[str, Any]:
        return {
            "name": title,
            "unit": unit,
            "ours": ours,
            "reference": reference,
            "reference_name": name,
            "ratio": ours / reference,
            "better": "lower",
            "target": f"<= {target:g} {unit}",
            "met": ours <= target,
        }

    return [
        row("box: RSS, 100,000 receipts, snapshot read", "MiB", found["rss"], peer_mib, RSS_TARGET_MIB),
        row("box: RSS, 100,000 receipts, log replayed", "MiB", found["rss_rebuild"], peer_mib, RSS_TARGET_MIB),
        row("box: start to READY, 100,000 records, snapshot", "s", found["snapshot"], peer_s, READY_TARGET_S),
        row("box: start to READY, 100,000 records, no snapshot", "s", found["rebuild"], peer_s, READY_TARGET_S),
    ]
