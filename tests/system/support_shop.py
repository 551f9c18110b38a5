"""A shop for the system tests: a real broker, a real box side on a real log, real tills. Loaded by conftest.

The box can run in this process (`Box`) or as a child to be killed: `python tests/system/support_shop.py FILE.json`.
"""

import asyncio
import contextlib
import gc
import json
import random
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import date
from pathlib import Path

from prometheus_client import CollectorRegistry

from edge.clock import SystemClock
from edge.pos.book import PriceBook
from edge.pos.broker import BOX_USER, BrokerConfig, hash_password, write_configuration
from edge.pos.intake import Intake
from edge.pos.metrics import PosMetrics
from edge.pos.mqtt import MqttSettings
from edge.pos.service import PosService
from edge.pos.supervisor import BrokerProcess
from edge.pos.till import SpoolingTill, Transaction
from edge.pos.topics import gln_of_store
from edge.records.ledger import BASE, LedgerCodec, ReceiptRecord
from edge.records.receipt import ReceiptKind, ReceiptLine
from edge.storage.committer import GroupCommitter
from edge.storage.files import OsDisk
from edge.storage.log import SegmentLog

GLN = gln_of_store(7)
PASSWORD = "not-a-secret-in-a-test"
DAY = date(2026, 11, 22)
LANES = ("1", "2", "3")
CODEC = LedgerCodec(BASE)


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Shop:
    """One directory with a broker's configuration, a ledger and the tills' spools."""

    def __init__(self, root: Path, kind: str, *, port: int | None = None) -> None:
        self.root, self.kind = root, kind
        self.config = BrokerConfig(kind=kind, port=port or free_port())
        stored = hash_password(PASSWORD)
        credentials = dict.fromkeys((BOX_USER, *LANES), stored)
        self.data = root / "broker"
        write_configuration(self.data, self.config, GLN, credentials, data=self.data, own_process=True)
        self.ledger = root / "ledger"
        self.ledger.mkdir(exist_ok=True)

    def settings(self, user: str, **changes: object) -> MqttSettings:
        known: dict[str, object] = {"port": self.config.port, "username": user, "password": PASSWORD, "client_id": user}
        known |= {"reconnect_min_s": 0.02, "reconnect_max_s": 0.2} | changes
        return MqttSettings(**known)  # type: ignore[arg-type]

    def broker(self) -> BrokerProcess:
        return BrokerProcess(self.kind, self.data, self.config, data=self.data)

    @contextlib.asynccontextmanager
    async def brokered(self) -> AsyncIterator[BrokerProcess]:
        """The broker, running."""
        broker = self.broker()
        task = asyncio.create_task(broker.run())
        try:
            await broker.ready()
            yield broker
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def till(self, lane: str = "1", *, directory: Path | None = None, **changes: object) -> SpoolingTill:
        settings = self.settings(lane, **changes)
        return SpoolingTill(
            settings,
            gln=GLN,
            lane=lane,
            directory=directory or self.root / f"till-{lane}",
            currency="EUR",
            clock=SystemClock(),
            rng=random.Random(f"{lane}{self.root}"),
            repeat_s=0.5,
        )


class Box:
    """The box's side in this process: `PosService` on a `SegmentLog`."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.log = SegmentLog.open(OsDisk(shop.ledger, create=True), create=True)
        self.intake = Intake()
        self.book = PriceBook()
        for record in self.log.scan(0):
            self.intake.apply(CODEC.decode(record.payload))
        self.committer = GroupCommitter(self.log)
        self.registry = CollectorRegistry()
        self.fail: Exception | None = None
        self.service = PosService(
            shop.settings(BOX_USER),
            gln=GLN,
            intake=self.intake,
            append=self._append,
            clock=SystemClock(),
            metrics=PosMetrics(self.registry),
            book=self.book,
        )

    async def _append(self, blocks: Sequence[bytes], urgent: bool) -> int:
        if self.fail is not None:
            raise self.fail
        return await self.committer.append([(1, block) for block in blocks], urgent=urgent)

    def count(self, result: str) -> float:
        return self.registry.get_sample_value("pomona_sales_total", {"result": result}) or 0.0

    @contextlib.asynccontextmanager
    async def running(self, *, wait: bool = True) -> AsyncIterator["Box"]:
        tasks = [asyncio.create_task(self.committer.run()), asyncio.create_task(self.service.run())]
        try:
            # A broker that never heard of the box holds nothing for it; real tills repeat, those of some tests do not.
            for _ in range(500):
                if not wait or self.service.link.settled:
                    break
                await asyncio.sleep(0.01)
            yield self
        finally:
            for task in reversed(tasks):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            self.log.close()


def read_ledger(shop: Shop) -> list[object]:
    """Every record of a closed ledger."""
    log = SegmentLog.open(OsDisk(shop.ledger, create=True), create=False)
    try:
        return [CODEC.decode(record.payload) for record in log.scan(0)]
    finally:
        log.close()


def receipts(records: Sequence[object]) -> list[tuple[str, int, int]]:
    """(lane, epoch, sequence) of all receipts, in log order."""
    found = [record.receipt for record in records if isinstance(record, ReceiptRecord)]
    return [(r.lane, r.position.epoch, r.position.sequence) for r in found]


def sale(units: int = 1, sku: str = "apple") -> Transaction:
    """A sale of one line."""
    return Transaction(ReceiptKind.SALE, DAY, (ReceiptLine(sku, units * 1000, 100, units * 100),))


async def until(condition: object, timeout_s: float = 30.0) -> None:
    """Wait until `condition()` holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def serve_box(document: dict[str, object]) -> None:
    """The box of a test that kills it: runs until it is killed."""
    shop = Shop.__new__(Shop)
    shop.root, shop.kind = Path(str(document["root"])), str(document["kind"])
    shop.config = BrokerConfig(kind=shop.kind, port=int(str(document["port"])))
    shop.data, shop.ledger = shop.root / "broker", shop.root / "ledger"
    gc.freeze()  # as the service does: what the modules made is never garbage, and need not be looked through
    gc.set_threshold(20_000, 50, 100)
    async with Box(shop).running(wait=False):
        print("READY", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve_box(json.loads(Path(sys.argv[1]).read_text())))
