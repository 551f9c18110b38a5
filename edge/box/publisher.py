"""What a box would tell its company's other shops now: every day and week that is over, cleared for that network.

A week is prepared once, when its last business day has closed, category by category; estimates run in a worker thread.
The weeks shortly before are prepared again after a start: what of it stands in our feeds already is left out by who
asks (`edge.memory.due`). Days come from the day book and are forgotten there once they are told.
"""

import asyncio
import logging
from collections.abc import Iterator
from typing import Final

from edge.box.publications import categories_of, history_of, insight, price_updates, trend_update, week_is_over
from edge.box.views import Views
from edge.errors import RecordInvalid
from edge.memory.daybook import DayBook
from edge.memory.due import Due
from edge.privacy.identifiers import Listed, PublicList
from edge.privacy.released import cleared
from edge.privacy.rules import PrivacyRefused
from edge.records.history import week_of
from edge.records.shared import Payload

logger = logging.getLogger(__name__)
WEEKS_AGAIN: Final = 4  # that are prepared after a start; a box that was off for longer begins with those
_REFUSALS_LOGGED_MAX: Final = 64


class PrivatePublisher:
    """For one private network. Lives on the event loop."""

    def __init__(self, network_id: bytes, views: Views, daybook: DayBook) -> None:
        self._network_id = network_id
        self._views = views
        self._daybook = daybook
        self._weeks: dict[int, list[Due]] = {}
        self._refused: set[str] = set()

    async def prepare(self) -> None:
        """Make ready what has become tellable; cheap where nothing has."""
        closed = self._views.days.closed_through
        if closed is None:
            return
        last = week_of(closed) if week_is_over(week_of(closed), closed.toordinal()) else week_of(closed) - 1
        known = [week for week in self._views.memory.weeks if last - WEEKS_AGAIN < week <= last]
        for week in known:
            if week not in self._weeks:
                self._weeks[week] = await self._week(week)
        for week in [week for week in self._weeks if week <= last - WEEKS_AGAIN]:
            del self._weeks[week]

    def due(self, week_now: int) -> Iterator[Due]:  # noqa: ARG002 - the prepared weeks are all recent
        """Everything tellable, told already or not."""
        for dues in self._weeks.values():
            yield from dues
        closed = self._views.days.closed_through
        if closed is None:
            return
        shelf, memory, listed = self._views.shelf, self._views.memory, public_list(self._views)
        categories = categories_of(shelf)
        for day in self._daybook.days:
            if day <= closed:
                for payload in self._daybook.totals(day, categories, memory.currency):
                    yield from self._cleared(payload, listed)

    def told(self, due: Due) -> None:
        """It stands in a feed. The day book keeps its days until they are past correcting (`DayBook.close`)."""

    async def _week(self, week: int) -> list[Due]:
        """All categories of one week: trends, estimates, prices."""
        found: list[Due] = []
        memory, listed = self._views.memory, public_list(self._views)
        for category in self._views.shelf.categories():
            history = history_of(memory, category, week)
            payloads: list[Payload | None] = [trend_update(history), await asyncio.to_thread(insight, history)]
            payloads += price_updates(memory, category, week)
            for payload in payloads:
                if payload is not None:
                    found += self._cleared(payload, listed)
        return found

    def _cleared(self, payload: Payload, listed: PublicList) -> Iterator[Due]:
        try:
            yield Due((payload,), cleared(self._network_id, payload, listed))
        except (PrivacyRefused, RecordInvalid) as error:  # an item that left the list, say: once is enough in a log
            if str(error) not in self._refused and len(self._refused) < _REFUSALS_LOGGED_MAX:
                self._refused.add(str(error))
                logger.info("kept here: %s", error)


def public_list(views: Views) -> PublicList:
    """What everybody may read at the shelf: items with their category and regular price."""
    items = views.shelf.items.values()
    return PublicList(views.memory.currency, [Listed(i.sku, i.category, i.reference_minor) for i in items])
