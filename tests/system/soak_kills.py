"""Kill -9 of the box and of its broker, hundreds of times, with tills at full speed: nothing lost, nothing doubled.

    python tests/system/soak_kills.py [--kills 200] [--kind mosquitto] [--seconds 840] [--seed N]

The oracle is a file outside of everything that is killed: each till's position and content, written by this driver once
the till has it in its spool. At the end the ledger must hold exactly these receipts, once each, in the till's words.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import uvloop
from support_shop import Shop, read_ledger, sale

from edge.pos.supervisor import resolve_kind
from edge.pos.till import SpoolingTill
from edge.records.ledger import ReceiptRecord

LANES = ("1", "2")
SPEED = 100  # receipts a till rings at a time


class BoxProcess:
    """The box as a child that is started again whenever it dies."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._process: asyncio.subprocess.Process | None = None
        self.ready = asyncio.Event()
        self.starts = 0

    async def run(self) -> None:
        path = self._shop.root / "box.json"
        document = {"root": str(self._shop.root), "kind": self._shop.kind, "port": self._shop.config.port}
        path.write_text(json.dumps(document))
        script = str(Path(__file__).with_name("support_shop.py"))
        while True:
            process = await asyncio.create_subprocess_exec(
                sys.executable, script, str(path), stdout=asyncio.subprocess.PIPE
            )
            self._process, self.starts = process, self.starts + 1
            try:
                assert process.stdout is not None
                if (await process.stdout.readline()).strip() == b"READY":
                    self.ready.set()
                code = await process.wait()
                if code != -signal.SIGKILL:
                    raise RuntimeError(f"the box ended by itself, with code {code}")
            finally:
                self.ready.clear()
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    def kill(self) -> bool:
        if self._process is None or self._process.returncode is not None:
            return False
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
            return True
        return False


async def sell(till: SpoolingTill, oracle: Path, rng: random.Random, stop: asyncio.Event) -> None:
    """Ring at full speed, never more than some thousand ahead of the box; each receipt goes to the oracle once rung."""
    with oracle.open("a") as file:
        while not stop.is_set():
            units = [rng.randint(1, 9) for _ in range(SPEED)]
            positions = await till.ring_all([sale(n) for n in units])
            for position, n in zip(positions, units, strict=True):
                file.write(f"{till.lane} {position.epoch} {position.sequence} {n}\n")
            file.flush()
            while till.rung - till.acknowledged > 2000 and not stop.is_set():
                await asyncio.sleep(0.01)


async def soak(root: Path, options: argparse.Namespace) -> tuple[dict[str, int], Path, Shop]:
    rng = random.Random(options.seed)
    shop = Shop(root, resolve_kind(options.kind))
    oracle = root / "oracle.txt"
    stop = asyncio.Event()
    box, kills = BoxProcess(shop), {"box": 0, "broker": 0}
    deadline = time.monotonic() + options.seconds
    async with contextlib.AsyncExitStack() as stack:
        broker = await stack.enter_async_context(shop.brokered())
        running = asyncio.create_task(box.run())
        tills = [await stack.enter_async_context(shop.till(lane).running()) for lane in LANES]
        sellers = [asyncio.create_task(sell(till, oracle, random.Random(till.lane), stop)) for till in tills]
        await asyncio.wait_for(box.ready.wait(), 30)
        while sum(kills.values()) < options.kills and time.monotonic() < deadline:
            await asyncio.sleep(rng.choice((0.02, 0.2, 1.0)) * rng.random())
            if rng.random() < 0.5:
                await asyncio.wait_for(box.ready.wait(), 60)
                await asyncio.sleep(rng.random() * 0.8)
                kills["box"] += box.kill()
            elif broker.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(broker.pid, signal.SIGKILL)
                    kills["broker"] += 1
            done = sum(kills.values())
            if done % 20 == 0:
                taken = " ".join(f"lane {till.lane}: {till.acknowledged}/{till.rung}" for till in tills)
                print(f"{done} kills, {taken}", file=sys.stderr, flush=True)
            for task in (running, *sellers):
                if task.done():
                    task.result()
        stop.set()
        await asyncio.gather(*sellers)
        async with asyncio.timeout(180):
            for till in tills:
                await till.drained()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    return kills, oracle, shop


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--kind", default="auto", choices=("auto", "mosquitto", "embedded"))
    parser.add_argument("--seconds", type=float, default=840.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        kills, oracle, shop = uvloop.run(soak(Path(directory), options))
        wanted = [tuple(map(int, line.split())) for line in oracle.read_text().splitlines()]
        found = [
            (int(r.receipt.lane), r.receipt.position.epoch, r.receipt.position.sequence, line.quantity_milli // 1000)
            for r in read_ledger(shop)
            if isinstance(r, ReceiptRecord)
            for line in r.receipt.lines
        ]
    lost, foreign = set(wanted) - set(found), set(found) - set(wanted)
    doubled = len(found) - len(set(found))
    print(
        f"seed {options.seed}, {shop.kind}: {kills['box']} kills of the box, {kills['broker']} of the broker; "
        f"{len(wanted)} receipts rung, {len(found)} in the log: "
        f"{len(lost)} lost, {doubled} doubled, {len(foreign)} foreign"
    )
    enough = sum(kills.values()) >= options.kills
    if not enough:
        print(f"only {sum(kills.values())} of {options.kills} kills in {options.seconds:.0f} s", file=sys.stderr)
    return 0 if enough and not lost and not doubled and not foreign else 1


if __name__ == "__main__":
    sys.exit(main())
