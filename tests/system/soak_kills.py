"""Kill -9 of the box and of its broker, hundreds of times, with tills at full speed: nothing lost, nothing doubled.

    python tests/system/soak_kills.py [--kills 200] [--kind mosquitto] [--seconds 840] [--seed N]

The box is `pomona run`; some kills find it while it starts. The oracle is a file outside of everything that is killed:
each till's position and content, written by this driver once the till has it in its spool. At the end the ledger must
hold exactly these receipts, once each, in the till's words; no business day closed twice, nothing decided twice; and
`pomona feed verify` must find every block and signature in order.
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import uvloop
from support_box import CURRENCY, GLN, BoxProcess

from edge.box.records import DayRecord
from edge.clock import SystemClock
from edge.pos.supervisor import resolve_kind
from edge.pos.till import SpoolingTill, Transaction
from edge.records.decision import DecisionBatch
from edge.records.item import Item
from edge.records.ledger import ReceiptRecord
from edge.records.receipt import ReceiptKind, ReceiptLine

LANES = ("1", "2")
SPEED = 100  # receipts a till rings at a time
DAY_BATCHES = 10  # such batches a business day
FIRST = date(2026, 1, 5)
SKU = "item-1"


class Keeper:
    """Starts the box again whenever it dies, as a supervisor does."""

    def __init__(self, box: BoxProcess) -> None:
        self.box = box
        self.starts = 0

    async def run(self) -> None:
        while True:
            self.starts += 1
            with contextlib.suppress(RuntimeError):  # killed while it started
                await asyncio.to_thread(self.box.start)
            while not self.box.ended:
                await asyncio.sleep(0.005)

    def kill_box(self) -> bool:
        """Whether there was one to kill; it may be starting, or not have begun to serve."""
        if self.box.ended:
            return False
        os.kill(self.box.pid, signal.SIGKILL)
        return True

    def kill_broker(self) -> bool:
        """Kill the box's only child, if it has one now."""
        if self.box.ended:
            return False
        with contextlib.suppress(OSError, ValueError):
            for children in Path(f"/proc/{self.box.pid}/task").glob("*/children"):
                for pid in children.read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
                    return True
        return False


async def sell(till: SpoolingTill, oracle: Path, rng: random.Random, stop: asyncio.Event) -> None:
    """Ring at full speed, never more than some thousand ahead of the box; each receipt goes to the oracle once rung."""
    batch = 0
    with oracle.open("a") as file:
        while not stop.is_set():
            day = FIRST + timedelta(days=batch // DAY_BATCHES)
            units = [rng.randint(1, 9) for _ in range(SPEED)]
            wanted = [Transaction(ReceiptKind.SALE, day, (ReceiptLine(SKU, n * 1000, 100, n * 100),)) for n in units]
            batch += 1
            if batch % DAY_BATCHES == 0:
                wanted.append(Transaction(ReceiptKind.DAY_END, day))
                units.append(0)
            positions = await till.ring_all(wanted)
            for position, n in zip(positions, units, strict=True):
                file.write(f"{till.lane} {position.epoch} {position.sequence} {n}\n")
            file.flush()
            while till.rung - till.acknowledged > 2000 and not stop.is_set():
                await asyncio.sleep(0.01)


async def soak(box: BoxProcess, oracle: Path, options: argparse.Namespace) -> dict[str, int]:
    """Kill as often as asked; returns when everything that was rung is acknowledged."""
    rng = random.Random(options.seed)
    stop, keeper, kills = asyncio.Event(), Keeper(box), {"box": 0, "broker": 0}
    deadline = time.monotonic() + options.seconds
    async with contextlib.AsyncExitStack() as stack:
        running = asyncio.create_task(keeper.run())
        tills = [
            await stack.enter_async_context(
                SpoolingTill(
                    box.settings(lane),
                    gln=GLN,
                    lane=lane,
                    directory=box.root / f"till-{lane}",
                    currency=CURRENCY,
                    clock=SystemClock(),
                    rng=random.Random(f"{lane}/{options.seed}"),
                    repeat_s=0.5,
                ).running()
            )
            for lane in LANES
        ]
        sellers = [asyncio.create_task(sell(till, oracle, random.Random(till.lane), stop)) for till in tills]
        try:
            while sum(kills.values()) < options.kills and time.monotonic() < deadline:
                await asyncio.sleep(rng.choice((0.2, 1.0, 3.0)) * rng.random())
                if rng.random() < 0.5:
                    kills["box"] += keeper.kill_box()
                else:
                    kills["broker"] += keeper.kill_broker()
                if (done := sum(kills.values())) % 10 == 0:
                    taken = " ".join(f"lane {till.lane}: {till.acknowledged}/{till.rung}" for till in tills)
                    print(f"{done} kills, {keeper.starts} starts, {taken}", file=sys.stderr, flush=True)
                for seller in sellers:
                    if seller.done():
                        seller.result()
            stop.set()
            await asyncio.gather(*sellers)
            async with asyncio.timeout(180):
                for till in tills:
                    await till.drained()
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
    return kills


def doubled(found: Sequence[Any]) -> int:
    """How many too many."""
    return len(found) - len(set(found))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--kind", default="auto", choices=("auto", "mosquitto", "embedded"))
    parser.add_argument("--seconds", type=float, default=840.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    kind = resolve_kind(options.kind)
    with tempfile.TemporaryDirectory() as directory:
        box, oracle = (
            BoxProcess(Path(directory), kind, lanes=LANES, modes={"shelf": "live"}),
            Path(directory) / "oracle",
        )
        box.write_items([Item(SKU, "Item 1", "shelf", 100, 5_000), Item("item-2", "Item 2", "shelf", 200, 9_000)])
        try:
            kills = uvloop.run(soak(box, oracle, options))
        finally:
            box.stop()
        verified = box.pomona("feed", "verify", "--store", str(box.state), "ledger", config=False)
        records = box.records()
        wanted = [tuple(map(int, line.split())) for line in oracle.read_text().splitlines()]
    rung = [record.receipt for record in records if isinstance(record, ReceiptRecord)]
    found = [
        (int(r.lane), r.position.epoch, r.position.sequence, sum(line.quantity_milli for line in r.lines) // 1000)
        for r in rung
    ]
    lost, foreign = set(wanted) - set(found), set(found) - set(wanted)
    days = [record.day for record in records if isinstance(record, DayRecord)]
    rounds = [(b.category, b.business_day, b.skus) for b in records if isinstance(b, DecisionBatch)]
    wrong = len(lost) + len(foreign) + doubled(found) + doubled(days) + doubled(rounds) + verified.returncode
    print(
        f"seed {options.seed}, {kind}: {kills['box']} kills of the box, {kills['broker']} of the broker; "
        f"{len(wanted)} receipts rung, {len(found)} in the ledger: {len(lost)} lost, {doubled(found)} doubled, "
        f"{len(foreign)} foreign; {len(days)} days closed, {doubled(days)} twice; {len(rounds)} rounds decided, "
        f"{doubled(rounds)} twice; {verified.stdout.strip() or verified.stderr.strip()}"
    )
    if sum(kills.values()) < options.kills:
        print(f"only {sum(kills.values())} of {options.kills} kills in {options.seconds:.0f} s", file=sys.stderr)
        return 1
    return 0 if not wrong and days and rounds else 1


if __name__ == "__main__":
    sys.exit(main())
