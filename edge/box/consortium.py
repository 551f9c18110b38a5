"""What a box releases to a consortium: windows of noised price ranges, each charged to the privacy ledger first.

Only where all members have one owner (`edge.privacy.anonymiser`); between owners nothing of a single shop is released.
"""

import logging
from collections.abc import Callable, Iterator

from edge.box.publisher import public_list
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

    async def prepare(self) -> None:
        """Release what has become due. Raises `StorageError` from the ledger: nothing has left then."""
        terms, closed = self._terms(), self._views.days.closed_through
        if terms is None or closed is None:
            return
        self._anonymiser.set_terms(terms)
        self._anonymiser.set_list(public_list(self._views))
        for request in self._anonymiser.due(week_of(closed)):
            try:
                await self._anonymiser.release(request)
            except PrivacyRefused as error:
                logger.warning("weeks from %d on are not released: %s", request.key.first, error)

    def due(self, week_now: int) -> Iterator[Due]:  # noqa: ARG002 - the ledger keeps what is recent
        """Everything that was released, sent already or not."""
        for token in self._anonymiser.releases():
            if token.records:
                yield Due(token.records, token)

    def told(self, due: Due) -> None:
        """It stands in a feed; the ledger keeps it as it is."""
