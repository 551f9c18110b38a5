"""What a box releases to a consortium: windows of noised price ranges, each charged to the privacy ledger first.

Only where all members have one owner (`edge.privacy.anonymiser`); between owners nothing of a single shop is released.
"""

import logging
from collections.abc import Callable, Iterator

from edge.box.publications import week_is_over
from edge.box.views import Views
from edge.memory.due import Due
from edge.privacy.anonymiser import Anonymiser, Terms
from edge.privacy.rules import PrivacyRefused
from edge.records.history import week_of

logger = logging.getLogger(__name__)


class ConsortiumPublisher:
    """For one consortium. `terms` tells what its roster says now; None: it cannot be told."""

    def __init__(self, anonymiser: Anonymiser, views: Views, terms: Callable[[], Terms | None]) -> None:
        self._anonymiser = anonymiser
        self._views = views
        self._terms = terms
        self._dues: list[Due] | None = None  # all that was released; None: to be read from the ledger
        self._refused: set[tuple[int, str]] = set()

    async def prepare(self) -> None:
        """Release what has become due. Raises `StorageError` from the ledger: nothing has left then."""
        terms, closed = self._terms(), self._views.days.closed_through
        if terms is None or closed is None:
            return
        self._anonymiser.set_terms(terms)
        self._anonymiser.set_list(self._views.public_list())
        floor = week_of(closed) + week_is_over(week_of(closed), closed.toordinal())
        for request in self._anonymiser.due(floor):
            try:
                await self._anonymiser.release(request)
                self._dues = None
            except PrivacyRefused as error:
                what = (request.key.first, error.reason)
                if what not in self._refused:  # it is tried again and again; once is enough in a log
                    self._refused.add(what)
                    logger.warning("weeks from %d on are not released: %s", request.key.first, error)

    def due(self, week_now: int) -> Iterator[Due]:  # noqa: ARG002 - the ledger keeps what is recent
        """Everything that was released, sent already or not."""
        if self._dues is None:
            self._dues = [Due(token.records, token) for token in self._anonymiser.releases() if token.records]
        yield from self._dues

    def told(self, due: Due) -> None:
        """It stands in a feed; the ledger keeps it as it is."""
