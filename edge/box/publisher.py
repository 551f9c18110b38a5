"""What a box would tell its company's other shops now: every day and week that is over, cleared for that network.

A week is prepared once, when its last business day has closed, category by category; trends and estimates are made in a
worker thread. The weeks shortly before are prepared again after a start: what of it stands in our feeds already is left
out by who asks (`edge.memory.due`).

A day is told from the day book, and again where a late receipt or a post-void has changed it, as long as its week or
the one before is not told as a whole. The day book begins somewhere in the ledger: a day of which it has fewer receipts
than the price memory is not told, because half a day would look like a bad one.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Final

from edge.box.publications import categories_of, history_of, insight, price_updates, trend_update, week_is_over
from edge.box.views import Views
from edge.errors import RecordInvalid
from edge.memory.daybook import DayBook
from edge.memory.due import Due
from edge.privacy.identifiers import PublicList
from edge.privacy.released import cleared
from edge.privacy.rules import PrivacyRefused
from edge.records.history import CategoryHistory, week_of, week_start
from edge.records.shared import Payload

logger = logging.getLogger(__name__)
WEEKS_AGAIN: Final = 4  # that are prepared after a start; a box that was off for longer begins with those
DAYS_WEEKS: Final = 2  # whose days are told, besides the present one's; after that the weeks speak for them
_REFUSALS_LOGGED_MAX: Final = 64


class PrivatePublisher:
    """For one private network. Lives on the event loop."""

    def __init__(self, network_id: bytes, views: Views, daybook: DayBook) -> None:
        self._network_id = network_id
        self._views = views
        self._daybook = daybook
        self._weeks: dict[int, list[Due]] = {}
        self._days: dict[date, tuple[tuple[int, int], list[Due]]] = {}  # with what they were made of
        self._refused: set[str] = set()

    async def prepare(self) -> None:
        """Make ready what has become tellable; cheap where nothing has."""
        closed = self._views.days.closed_through
        if closed is None:
            return
        await self._prepare_days(closed)
        last = week_of(closed) if week_is_over(week_of(closed), closed.toordinal()) else week_of(closed) - 1
        known = [week for week in self._views.memory.weeks if last - WEEKS_AGAIN < week <= last]
        for week in reversed(known):  # the newest one is worth most
            if week not in self._weeks:
                self._weeks[week] = await self._week(week)
        for week in [week for week in self._weeks if week <= last - WEEKS_AGAIN]:
            del self._weeks[week]

    def due(self, week_now: int) -> Iterator[Due]:  # noqa: ARG002 - what is prepared is all recent
        """Everything tellable, told already or not."""
        for dues in self._weeks.values():
            yield from dues
        for _, dues in self._days.values():
            yield from dues

    def told(self, due: Due) -> None:
        """It stands in a feed; whoever asks again leaves it out."""

    async def _prepare_days(self, closed: date) -> None:
        views, book = self._views, self._daybook
        book.close(week_start(week_of(closed) - DAYS_WEEKS) - timedelta(days=1))
        for day in [day for day in self._days if day not in book.days]:
            del self._days[day]
        categories: dict[str, str] | None = None
        for day in book.days:
            made_of = (book.changes(day), views.items_version)
            if day > closed or self._days.get(day, (None,))[0] == made_of:
                continue
            if book.receipts(day) != views.memory.day_totals(day).receipts:
                self._days.pop(day, None)
                continue
            categories = categories_of(views.shelf) if categories is None else categories
            self._days[day] = (made_of, await self._told_of_day(day, categories))

    async def _told_of_day(self, day: date, categories: dict[str, str]) -> list[Due]:
        """The totals as they are now; the loop gets its turn after each category."""
        found: list[Due] = []
        listed = self._views.public_list()
        try:
            for payload in self._daybook.totals(day, categories, self._views.memory.currency):
                found += self._cleared([payload], listed)
                await asyncio.sleep(0)
        except RecordInvalid as error:  # numbers beyond any shop's: a till gone mad
            self._note_refusal(error)
            return []
        return found

    async def _week(self, week: int) -> list[Due]:
        """All categories of one week: trends, estimates, prices."""
        found: list[Due] = []
        memory = self._views.memory
        for category in self._views.shelf.categories():
            history = history_of(memory, category, week)
            try:
                prices = await price_updates(memory, category, week)
            except RecordInvalid as error:
                self._note_refusal(error)
                prices = []
            found += await asyncio.to_thread(self._told_of_week, history, prices, self._views.public_list())
        return found

    def _told_of_week(self, history: CategoryHistory, prices: Sequence[Payload], listed: PublicList) -> list[Due]:
        """In a worker thread."""
        made: list[Payload | None] = [insight(history)]
        try:
            made.append(trend_update(history))
        except RecordInvalid as error:
            self._note_refusal(error)
        return self._cleared([*(payload for payload in made if payload is not None), *prices], listed)

    def _cleared(self, payloads: Sequence[Payload], listed: PublicList) -> list[Due]:
        found = []
        for payload in payloads:
            try:
                found.append(Due((payload,), cleared(self._network_id, payload, listed)))
            except (PrivacyRefused, RecordInvalid) as error:
                self._note_refusal(error)
        return found

    def _note_refusal(self, error: PrivacyRefused | RecordInvalid) -> None:
        """An item that left the list, say: once is enough in a log."""
        if str(error) not in self._refused and len(self._refused) < _REFUSALS_LOGGED_MAX:
            self._refused.add(str(error))
            logger.info("kept here: %s", error)
