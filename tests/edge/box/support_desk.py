"""A box without tills and without a disk: the pricing cycle on real views, over a log that is a list and may refuse."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

from edge.agent.rules import GuardRules
from edge.box.cycle import PricingCycle
from edge.box.pricing import Pricer
from edge.box.views import CODEC, Views
from edge.clock import ClockQuality, WallTime
from edge.config import PricingConfig
from edge.errors import ConfigError, StorageError, StorageFault
from edge.health.checks import HealthChecks, HealthState
from edge.memory.local import MemoryConfig
from edge.records.decision import DecisionBatch
from edge.records.item import Item, Promotion
from edge.records.ledger import BookRecord, ReceiptRecord, encode
from edge.records.receipt import Receipt, ReceiptKind, ReceiptLine, TillPosition

MONDAY = date(2026, 1, 5)
WALL_MS = 1_800_000_000_000
CURRENCY = "EUR"


class HandClock:
    """Time as the test says."""

    def __init__(self) -> None:
        self.wall_time = WallTime(WALL_MS, ClockQuality.FREE)

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> WallTime:
        return self.wall_time


def shelf(*more: Item) -> list[Item]:
    """Three categories: juice, milk (on promotion below cost in its second week) and bread (likewise)."""
    week = MONDAY + timedelta(days=7)
    below_cost = (Promotion(week, week + timedelta(days=6), 50),)
    return [
        Item("juice-1", "Juice 1", "juice", 299, 15_000),
        Item("juice-2", "Juice 2", "juice", 349, 20_000),
        Item("juice-3", "Juice 3", "juice", 199, 12_000),
        Item("milk-1", "Milk 1", "milk", 119, 8_000, promotions=below_cost),
        Item("milk-2", "Milk 2", "milk", 139, 9_000),
        Item("bread-1", "Bread 1", "bread", 251, 10_000, promotions=below_cost),
        *more,
    ]


class Desk:
    """One box's log, and the life that works on it. `rise` begins a new life on what the log holds."""

    def __init__(
        self,
        state: Path,
        *,
        modes: Mapping[str, str] | None = None,
        items: Sequence[Item] | None = None,
        guard: GuardRules | None = None,
        clock_closes_hours: int = 0,
    ) -> None:
        self.state, self.log = state, list[bytes]()
        self.modes = {"juice": "live", "bread": "off"} if modes is None else dict(modes)
        self.guard, self.clock_closes_hours = guard or GuardRules(menu_cost_minor=0.0), clock_closes_hours
        self.items: Sequence[Item] | ConfigError | None = shelf() if items is None else items
        self.clock = HandClock()
        self.appends = 0
        self.fail_from: int | None = None  # number of the first append that the disk does not take
        self.books = 0  # times the tills' service was told of a book
        self._sequence = 0
        self.rise()

    def rise(self) -> None:
        """A new life: views read from the log, nothing remembered but the item file on disk."""
        self.views = Views(MemoryConfig(), currency=CURRENCY, read_block=self.log.__getitem__)
        for index, block in enumerate(self.log):
            self.views.replay(index, block)
        self.health = HealthChecks(self.clock)
        self._given: object = None
        config = PricingConfig(
            modes=self.modes,
            guard=self.guard,
            policy="none",
            step_probability=0.0,
            clock_closes_hours=self.clock_closes_hours,
        )
        self.cycle = PricingCycle(
            config,
            currency=CURRENCY,
            views=self.views,
            append=self._append,
            pricer=Pricer(config, state=self.state, currency=CURRENCY),
            read_items=self._read_items,
            clock=self.clock,
            health=self.health,
            on_book=self._on_book,
        )

    async def _append(self, blocks: Sequence[bytes]) -> list[int]:
        await asyncio.sleep(0)
        self.appends += 1
        if self.fail_from is not None and self.appends >= self.fail_from:
            raise StorageError("no space", fault=StorageFault.FULL)
        first = len(self.log)
        self.log += blocks
        return list(range(first, len(self.log)))

    def _read_items(self) -> Sequence[Item] | None:
        if self.items is self._given:
            return None
        self._given = self.items
        if isinstance(self.items, ConfigError):
            raise self.items
        return self.items

    def _on_book(self) -> None:
        self.books += 1

    def ring(self, day: date, units: Mapping[str, int] | None = None, *, lane: str = "1", end: bool = False) -> None:
        """A durable receipt of `day` at the prices that are published; or the end of that day."""
        self._sequence += 1
        wanted = {"juice-1": 4, "juice-2": 2, "milk-1": 3} if units is None else units
        lines = tuple(ReceiptLine(sku, 1000 * n, self.price(sku), n * self.price(sku)) for sku, n in wanted.items())
        kind = ReceiptKind.DAY_END if end else ReceiptKind.SALE
        receipt = Receipt(lane, TillPosition(1, self._sequence), kind, day, 0, CURRENCY, () if end else lines)
        self.log.append(encode(ReceiptRecord(receipt, self.clock.wall())))
        self.views.replay(len(self.log) - 1, self.log[-1])
        self.cycle.days_changed()

    def price(self, sku: str) -> int:
        return self.views.shelf.price_map()[sku]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the cycle run until `condition` holds, then end it as a crash would."""
        task = asyncio.create_task(self.cycle.run())
        try:
            async with asyncio.timeout(30):
                while not condition() and not task.done():
                    await asyncio.sleep(0.001)
            if task.done():
                task.result()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def close(self, day: date) -> None:
        """Sell on `day`, end it, and let the cycle look at it."""
        self.ring(day)
        self.ring(day, end=True)
        await self.closed(day)

    async def closed(self, day: date) -> None:
        """Let the cycle run until it has closed `day`."""
        await self.until(lambda: self.views.days.closed_through == day)

    async def refused(self) -> None:
        """Let the cycle run until the disk has refused a step."""
        await self.until(lambda: self.health.state is not HealthState.OK)

    async def live(self, days: int, first: date = MONDAY) -> None:
        """So many days from `first` on."""
        await self.cycle.prepare()
        for number in range(days):
            await self.close(first + timedelta(days=number))

    @property
    def records(self) -> list[object]:
        return [CODEC.decode(block) for block in self.log]

    def batches(self, category: str | None = None) -> list[DecisionBatch]:
        found = [record for record in self.records if isinstance(record, DecisionBatch)]
        return [batch for batch in found if category in (None, batch.category)]

    def book_numbers(self) -> list[int]:
        return [record.number for record in self.records if isinstance(record, BookRecord)]
