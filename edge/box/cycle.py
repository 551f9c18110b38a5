"""The pricing cycle: when a business day is over, what the shelf shows from the next opening on.

    a day is over → item file → decisions of the categories whose week begins → price book → the day's record

Every step is appended to the ledger before the next one looks at it, so a crash in between is picked up where it
stopped: a category that already has decisions for the coming day is not asked again, and the day's record comes last.
Deciding runs in a worker thread on copies; receipts go on being acknowledged meanwhile.

Prices of a category that is not live are the owner's reference prices of the day. Of a live one they are the decided
prices; on days between decisions the same multiplier on a reference that moved, through the same guard.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Final

from edge.box.pricing import Pricer, reference_moved
from edge.box.records import (
    DEFAULT_CATEGORY,
    BoxRecord,
    DayCause,
    DayRecord,
    ExperimentRecord,
    SettingsRecord,
    encode,
)
from edge.box.shelf import DEFAULT_MODE
from edge.box.views import Views
from edge.clock import Clock, ClockQuality
from edge.config import PricingConfig
from edge.errors import PomonaError, StorageError
from edge.health.checks import HealthChecks, HealthState
from edge.records import ledger
from edge.records.decision import DecisionBatch, Mode, encode_decisions
from edge.records.item import Item

logger = logging.getLogger(__name__)
LOOK_S: Final = 20.0  # how often the item file and the wall clock are looked at while nothing happens
RETRY_S: Final = 2.0  # after a disk that did not take a step
WEEK: Final = 7
CLOSED_WEEKS: Final = 4
IN_FORCE_SINCE_EVER: Final = date(1970, 1, 1)  # the first book a shop ever has

Append = Callable[[Sequence[bytes]], Awaitable[Sequence[int]]]
ReadItems = Callable[[], "Sequence[Item] | None"]


class PricingCycle:
    """One task of the box. `append` makes blocks durable, in order, and returns the index of each."""

    def __init__(
        self,
        config: PricingConfig,
        *,
        currency: str,
        views: Views,
        append: Append,
        pricer: Pricer,
        read_items: ReadItems,
        clock: Clock,
        health: HealthChecks,
        on_book: Callable[[], None],
        on_closed: Callable[[], None] = lambda: None,
    ) -> None:
        """`read_items()` gives the item file's items if it changed since it was last asked, else None.

        `on_closed` hears that a business day has been closed.
        """
        self._config = config
        self._currency = currency
        self._views = views
        self._append = append
        self._pricer = pricer
        self._read_items = read_items
        self._clock = clock
        self._health = health
        self._on_book = on_book
        self._on_closed = on_closed
        self._unread: Sequence[Item] | None = None  # of an item file that the disk has not taken in full
        self._wake = asyncio.Event()

    def days_changed(self) -> None:
        """A till said something about the calendar."""
        if self._views.days.due() is not None:
            self._wake.set()

    async def prepare(self) -> None:
        """Bring settings, items and the first book up to date; before the box says that it is ready.

        A disk that refuses does not stop the box: tills keep what they sell, and `run` tries again.
        """
        try:
            await self._follow_owner()
        except StorageError as error:
            self._refused(error)

    async def run(self) -> None:
        """Serve until cancelled. A disk that refuses is tried again; prices stay as they are meanwhile."""
        while True:
            try:
                await self._advance()
                self._health.report("pricing", HealthState.OK)
            except StorageError as error:
                self._refused(error)
                await asyncio.sleep(RETRY_S)
                continue
            if self._views.days.due() is not None:
                continue
            self._wake.clear()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _refused(self, error: StorageError) -> None:
        self._health.report("pricing", HealthState.DEGRADED, f"prices stay as they are: {error}")

    async def _advance(self) -> None:
        await self._follow_owner()
        day = self._views.days.due()
        cause = DayCause.TILLS
        if day is None:
            day, cause = self._overdue(), DayCause.CLOCK
        if day is not None:
            await self._close(day, cause)

    def _overdue(self) -> date | None:
        """The newest day that tills left open although the clock says that it is long over, or None."""
        hours, newest = self._config.clock_closes_hours, self._views.days.newest
        wall = self._clock.wall()
        closed = self._views.days.closed_through
        if (
            not hours
            or newest is None
            or wall.quality is ClockQuality.FLOOR
            or (closed is not None and newest <= closed)
        ):
            return None
        midnight = datetime.combine(newest + timedelta(days=1), datetime.min.time()).astimezone()
        late = datetime.fromtimestamp(wall.ms / 1000).astimezone() - midnight
        return newest if late >= timedelta(hours=hours) else None

    # --- what the owner says -----------------------------------------------------------------------------------------

    async def _follow_owner(self) -> None:
        await self._follow_settings()
        await self._follow_items()

    async def _follow_settings(self) -> None:
        wanted = {DEFAULT_CATEGORY: DEFAULT_MODE, **self._config.modes}
        if wanted != self._views.shelf.modes:
            await self._store([SettingsRecord(self._clock.wall(), wanted)])
        rules, known = self._pricer.rules.experiment, self._views.shelf.experiment
        record = ExperimentRecord(
            recorded=self._clock.wall() if known is None else known.recorded,
            switchback=rules.switchback,
            seed=rules.key,
            block_weeks=rules.block_weeks,
            wash_out_weeks=rules.wash_out_weeks,
            treatment_share=rules.treatment_share,
            step_probability=rules.step_probability,
            step_log=rules.step_log,
        )
        if record != known:  # before the first week that they govern
            await self._store([replace(record, recorded=self._clock.wall())])

    async def _follow_items(self) -> None:
        try:
            items = self._read_items()
        except PomonaError as error:
            self._health.report("items", HealthState.DEGRADED, str(error))
            return
        if items is not None:
            self._unread = items
        items = self._unread
        if items is None:
            return
        self._health.report("items", HealthState.OK)
        shelf = self._views.shelf
        named = {item.sku: item for item in items}
        changed = [item for sku, item in named.items() if shelf.items.get(sku) != item]
        removed = sorted(shelf.items.keys() - named.keys())
        if changed or removed:
            logger.info("item file: %d items added or changed, %d removed", len(changed), len(removed))
            for record in ledger.items_records(changed, removed, "item file", self._clock.wall()):
                await self._store([record])
        await self._stock_new_items()
        self._unread = None

    async def _stock_new_items(self) -> None:
        """Items without a price get their reference price at once: an item that cannot be rung cannot be sold."""
        shelf = self._views.shelf
        prices = shelf.price_map()
        # Not before the newest book: the prices in it must not come into force before their day because of this one.
        valid_from = IN_FORCE_SINCE_EVER if shelf.book.manifest is None else shelf.book.manifest.valid_from
        day = max(valid_from, self._views.days.newest or valid_from)
        sold_from = self._today() if self._views.days.newest is None else day
        new = {sku: item.reference_on(sold_from) for sku, item in shelf.items.items() if sku not in prices}
        if new:
            closed = self._views.days.closed_through or IN_FORCE_SINCE_EVER
            await self._publish({**prices, **new}, valid_from=day, decided_through=closed)

    def _today(self) -> date:
        """The date on the wall: before the first sale nothing else tells which promotions are on."""
        return datetime.fromtimestamp(self._clock.wall().ms / 1000).astimezone().date()

    # --- a day is over -----------------------------------------------------------------------------------------------

    async def _close(self, day: date, cause: DayCause) -> None:
        await self._follow_items()
        opening = self._opening(day)
        shelf = self._views.shelf
        prices = {sku: item.reference_on(opening) for sku, item in sorted(shelf.items.items())}
        slots = self._config.guard.changes_per_day
        decided = 0
        for category, items in shelf.categories().items():
            if shelf.mode(category) == Mode.OFF:
                continue
            live = shelf.mode(category) == Mode.LIVE
            decided += self._begins(category, opening)
            found, slots = await self._decide(category, items, opening, slots)
            if live:
                prices.update(found)
        await self._publish(prices, valid_from=opening, decided_through=day)
        await self._store([DayRecord(day, cause, self._clock.wall())])
        self._on_closed()
        logger.info("business day %s closed (%s): %d categories decided", day, cause.name.lower(), decided)

    def _opening(self, day: date) -> date:
        """The next opening after `day` that is still ahead: rises take effect at an opening, never in mid-day.

        Weekdays on which the shop has not sold anything for `CLOSED_WEEKS` weeks are passed over, so that on Saturday
        evening a shop that rests on Sunday already gets Monday's prices.
        """
        first = self._views.days.newest_after(day) + timedelta(days=1)
        return next((d for d in (first + timedelta(days=n) for n in range(WEEK)) if not self._rests_on(d)), first)

    def _rests_on(self, day: date) -> bool:
        known = self._views.days.first
        before = [day - timedelta(days=WEEK * weeks) for weeks in range(1, CLOSED_WEEKS + 1)]
        if known is None or known > before[-1]:
            return False
        return all(self._views.memory.day_totals(past).receipts == 0 for past in before)

    async def _decide(
        self, category: str, items: Sequence[Item], opening: date, slots: int
    ) -> tuple[dict[str, int], int]:
        """Published prices of a category from `opening` on, and the label changes left; decided now if it is time."""
        views = self._views
        recorded = self._recorded(category, opening)
        slots = max(0, slots - sum(_labels(batch) for batch in recorded))
        found = {sku: price for batch in recorded for sku, price in _published(batch)}
        missing = [item for item in items if item.sku not in found]
        begins = self._begins(category, opening)
        if not begins and not found:
            moved = views.shelf.mode(category) == Mode.LIVE and reference_moved(views.shelf, items, opening)
            if not moved:
                kept = {item.sku: views.shelf.prices.get(item.sku) for item in items}
                return {sku: row.price_minor for sku, row in kept.items() if row is not None}, slots
        decide = self._pricer.decide if begins or found else self._pricer.hold
        for request in self._pricer.requests(
            views.memory, views.shelf, category, missing, opening, slots=slots, recorded=self._clock.wall()
        ):
            batch = await asyncio.to_thread(decide, request)
            await self._store_blocks([encode_decisions(batch)])
            found.update(_published(batch))
            slots = max(0, slots - _labels(batch))
        return {sku: price for sku, price in found.items() if price > 0}, slots

    def _recorded(self, category: str, opening: date) -> list[DecisionBatch]:
        """What was decided for `opening` before a crash kept it from being published."""
        shelf = self._views.shelf
        if shelf.decided_for.get(category) != opening.toordinal():
            return []
        return [self._views.decisions(index) for index in shelf.decisions[category]]

    def _begins(self, category: str, opening: date) -> bool:
        """Whether a week of `category` begins at `opening`: on its weekday, or late if that opening was missed."""
        last = self._views.shelf.decided_for.get(category)
        if last is None:
            return opening.weekday() == self._config.first_weekday
        since = opening.toordinal() - last
        return since > 0 and (opening.weekday() == self._config.first_weekday or since >= WEEK)

    # --- the ledger --------------------------------------------------------------------------------------------------

    async def _publish(self, prices: Mapping[str, int], *, valid_from: date, decided_through: date) -> None:
        shelf = self._views.shelf
        records = shelf.book.propose(
            prices,
            currency=self._currency,
            valid_from=valid_from,
            decided_through=decided_through,
            recorded=self._clock.wall(),
        )
        if shelf.book.manifest is not None and records[0].number == shelf.book.number:
            manifest = shelf.book.manifest
            if manifest.decided_through == decided_through:
                return
        await self._store(records)
        self._on_book()

    async def _store(self, records: Sequence[object]) -> None:
        blocks = [
            encode(record) if isinstance(record, BoxRecord) else ledger.encode(record)  # type: ignore[arg-type]
            for record in records
        ]
        await self._store_blocks(blocks)

    async def _store_blocks(self, blocks: Sequence[bytes]) -> None:
        for index, block in zip(await self._append(blocks), blocks, strict=True):
            self._views.replay(index, block)


def _published(batch: DecisionBatch) -> Iterable[tuple[str, int]]:
    return zip(batch.skus, batch.published.tolist(), strict=True)


def _labels(batch: DecisionBatch) -> int:
    """Labels that the batch changes; those of a category in shadow follow the owner and are not the box's."""
    return int((batch.published != batch.previous).sum()) if batch.mode is Mode.LIVE else 0
