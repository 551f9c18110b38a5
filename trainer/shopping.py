"""Shoppers at real tills: the simulated shop of `shoppers`, rung over MQTT, in business days instead of hours.

    item file of the week → (the box prices) → book in force → the week's demand at those prices → receipts, day by day

Virtual time: each lane ends its business day once the box has acknowledged all of it; the next day begins when the
box's book says that it has looked at the day before. Progress is one JSON object a line, for a screen or a test. Where
several shops are to live through the same weeks together, somebody sets the pace: a line on stdin, a week.
"""

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import uvloop
from numpy.typing import NDArray

from edge.clock import SystemClock
from edge.errors import ConfigError, RemoteError
from edge.pos.item_file import format_items
from edge.pos.mqtt import MqttSettings
from edge.pos.till import SpoolingTill, Transaction
from edge.records.item import Item, Promotion
from edge.records.receipt import ReceiptKind, TillPosition
from trainer.shoppers import Draft, ShopWorld, WeekTruth, week_days
from trainer.sim.calibration import ORANGE_JUICE
from trainer.sim.randomise import PACKS, draw_shops

DECIDE_TIMEOUT_S: Final = 60.0  # how long the box may take to look at a day
FIRST_MONDAY: Final = date(2026, 1, 5)  # of a simulation, unless somebody says otherwise
Report = Callable[[dict[str, object]], None]
Pace = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ShoppingPlan:
    """What to simulate."""

    weeks: int = 26
    seed: int = 1
    pack: str = "stockpiling"
    category: str = "orange juice"
    currency: str = "USD"
    first_monday: date = FIRST_MONDAY
    minor: int = 100

    def __post_init__(self) -> None:
        if self.first_monday.weekday() != 0:
            raise ValueError(f"{self.first_monday} is no Monday")
        if not 1 <= self.weeks <= 520:
            raise ValueError(f"{self.weeks} weeks; 1 to 520 can be simulated")
        if self.pack not in PACKS:
            raise ValueError(f"pack {self.pack!r} is none of {', '.join(PACKS)}")


class Shop:
    """The owner's side of the simulated shop: the world, and the item file that follows it."""

    def __init__(self, plan: ShoppingPlan) -> None:
        rng = np.random.default_rng(plan.seed)
        self.plan = plan
        self.skus = tuple(fact.name for fact in ORANGE_JUICE)
        self.world = ShopWorld(rng, draw_shops(rng, PACKS[plan.pack], 1), self.skus, minor=plan.minor)

    def items(self) -> list[Item]:
        """The item file for the coming week: references, costs, and the promotions of the week if there are any."""
        plan, world = self.plan, self.world
        start = plan.first_monday + timedelta(days=7 * world.week)
        cells = zip(self.skus, world.regular_minor(), world.reference_minor(), world.cost_e4(), strict=True)
        return [
            Item(
                sku=sku,
                name=sku.replace("-", " ").title(),
                category=plan.category,
                reference_minor=int(regular),
                cost_e4=int(cost),
                promotions=()
                if promoted == regular
                else (Promotion(start, start + timedelta(days=6), int(promoted), featured=True),),
            )
            for sku, regular, promoted, cost in cells
        ]

    def write_items(self, path: Path) -> None:
        """Put the coming week's item file in place, all at once."""
        temporary = path.with_suffix(".new")
        temporary.write_text(format_items(self.items(), self.plan.currency), encoding="utf-8")
        temporary.replace(path)


class Shopping:
    """Rings a shop's weeks at its tills."""

    def __init__(
        self,
        shop: Shop,
        tills: Sequence[SpoolingTill],
        *,
        books: asyncio.Event,
        item_file: Path | None,
        report: Report,
        pace: Pace | None = None,
    ) -> None:
        """`books` is set by the tills whenever one of them has verified a book. `pace` is awaited before each week."""
        self._books = books
        self._shop = shop
        self._tills = tills
        self._item_file = item_file
        self._report = report
        self._pace = pace
        self._counts = {"receipts": 0, "day_ends": 0}
        self._truths: list[WeekTruth] = []

    async def run(self) -> None:
        """Live through all weeks. The tills must be running."""
        plan, world = self._shop.plan, self._shop.world
        await self._priced(None)
        for week in range(plan.weeks):
            if self._pace is not None:
                await self._pace()
            days = week_days(plan.first_monday, week)
            prices = self._shelf(days[0])
            sold, truth = world.live_week(prices)
            self._truths.append(truth)
            for day, units in zip(days, sold, strict=True):
                await self._ring(world.baskets(units, prices, len(self._tills)), day)
                if day is days[-1] and self._item_file is not None:
                    await asyncio.to_thread(self._shop.write_items, self._item_file)
                await self._end(day)
                await self._priced(day)
            self._report({"event": "week", "week": week, **asdict(truth), **self.counts()})
        self._report({"event": "end", **self.totals(), **self.counts()})

    def counts(self) -> dict[str, int]:
        """Messages rung and acknowledged so far, of all tills."""
        return {
            **self._counts,
            "published": sum(till.rung for till in self._tills),
            "acknowledged": sum(till.acknowledged for till in self._tills),
            "repeated": sum(till.repeated for till in self._tills),
        }

    def totals(self) -> dict[str, float]:
        """The simulator's truth over all weeks, in currency units."""
        names = ("gross_profit", "gross_profit_twin", "value", "value_twin")
        return {name: float(sum(getattr(truth, name) for truth in self._truths)) for name in names}

    def _shelf(self, day: date) -> NDArray[np.int64]:
        """Prices on the shelf on `day`: what the first till rings with; all tills read the same book."""
        found = [self._tills[0].price(sku, day) for sku in self._shop.skus]
        missing = [sku for sku, price in zip(self._shop.skus, found, strict=True) if price is None]
        if missing:
            raise RemoteError(f"no shelf price for {', '.join(missing[:5])} on {day}", reason="book")
        return np.array(found, np.int64)

    async def _ring(self, drafts: Sequence[Draft], day: date) -> None:
        positions: dict[int, TillPosition] = {}
        undo = {draft.undo_of for draft in drafts if draft.undo_of is not None}
        rung = []
        for index, draft in enumerate(drafts):
            till = self._tills[draft.lane]
            transaction = Transaction(
                kind=draft.kind,
                business_day=day,
                lines=draft.lines,
                training=draft.training,
                voids=None if draft.undo_of is None else positions[draft.undo_of],
            )
            if index in undo:
                positions[index] = await till.ring(transaction)
            else:
                rung.append(till.ring(transaction))
        await asyncio.gather(*rung)
        self._counts["receipts"] += len(drafts)
        await asyncio.gather(*(till.drained() for till in self._tills))
        self._report({"event": "day", "day": day.isoformat(), **self.counts()})

    async def _end(self, day: date) -> None:
        closing = Transaction(kind=ReceiptKind.DAY_END, business_day=day)
        await asyncio.gather(*(till.ring(replace(closing)) for till in self._tills))
        self._counts["day_ends"] += len(self._tills)
        await asyncio.gather(*(till.drained() for till in self._tills))

    async def _priced(self, day: date | None) -> None:
        """Wait until every till holds a verified book that the box made knowing `day` (None: any book)."""
        try:
            async with asyncio.timeout(DECIDE_TIMEOUT_S):
                while not all(self._has_book(till, day) for till in self._tills):
                    self._books.clear()
                    await self._books.wait()
        except TimeoutError:
            what = "no price book" if day is None else f"no price book that knows {day}"
            raise RemoteError(f"{what} within {DECIDE_TIMEOUT_S:.0f} s", reason="timeout") from None

    @staticmethod
    def _has_book(till: SpoolingTill, day: date | None) -> bool:
        manifest = till.book.manifest
        return manifest is not None and till.book.complete and (day is None or manifest.decided_through >= day)


async def shop_over_mqtt(
    plan: ShoppingPlan,
    *,
    settings: Sequence[MqttSettings],
    lanes: Sequence[str],
    gln: str,
    spool: Path,
    item_file: Path | None,
    report: Report,
    pace: Pace | None = None,
) -> None:
    """Simulate `plan` at one till a lane, each with its own `settings`. Ends when all is acknowledged."""
    shop = Shop(plan)
    if item_file is not None:
        shop.write_items(item_file)
    clock, books = SystemClock(), asyncio.Event()
    async with AsyncExitStack() as stack:
        tills = [
            await stack.enter_async_context(
                SpoolingTill(
                    own,
                    gln=gln,
                    lane=lane,
                    directory=spool / lane,
                    currency=plan.currency,
                    clock=clock,
                    rng=random.Random(f"{plan.seed}/{lane}"),
                    on_book=lambda _manifest: books.set(),
                ).running()
            )
            for own, lane in zip(settings, lanes, strict=True)
        ]
        await Shopping(shop, tills, books=books, item_file=item_file, report=report, pace=pace).run()


async def _lines_of_stdin() -> Pace:
    """Waits for the next line of stdin, each time. Raises `RemoteError` once whoever sets the pace is gone."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)

    async def pace() -> None:
        if not await lines.readline():
            raise RemoteError("nobody sets the pace any more", reason="pace")

    return pace


def print_report(row: dict[str, object]) -> None:
    """One line of JSON on stdout, flushed."""
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def run(options: argparse.Namespace) -> int:
    """`pomona-trainer simulate --mqtt`: one JSON object a line on stdout, the last one with the totals."""
    plan = ShoppingPlan(
        weeks=options.weeks,
        seed=options.seed,
        pack=options.pack,
        first_monday=options.first_monday or FIRST_MONDAY,
    )
    if options.only_items:
        if options.items is None:
            raise ConfigError("--only-items", "needs --items FILE.csv")
        Shop(plan).write_items(options.items)
        return 0
    if options.gln is None or options.spool is None:
        raise ConfigError("--mqtt", "needs --gln and --spool")
    host, _, port = options.mqtt.rpartition(":")
    if not port.isdecimal():
        raise ConfigError("--mqtt", f"{options.mqtt!r} is not HOST:PORT")
    lanes = options.lanes.split(",")
    passwords = {} if options.passwords is None else json.loads(options.passwords.read_text())
    settings = [
        MqttSettings(host=host, port=int(port), username=lane, password=passwords.get(lane, ""), client_id=lane)
        for lane in lanes
    ]

    async def work() -> None:
        await shop_over_mqtt(
            plan,
            settings=settings,
            lanes=lanes,
            gln=options.gln,
            spool=options.spool,
            item_file=options.items,
            report=print_report,
            pace=await _lines_of_stdin() if options.paced else None,
        )

    uvloop.run(work())
    return 0
