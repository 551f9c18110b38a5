"""The box's ledger of privacy: a Hypercore named `privacy` in the state folder, beside the box's own, never replicated.

What may leave is decided by `edge.privacy.budget`; this opens the log that it stands in. A ledger that cannot be read
lets nothing leave, and stops nothing else.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from edge.hypercore.hypercore import Hypercore
from edge.hypercore.store import FeedStore
from edge.privacy.budget import BudgetLedger, caps_of
from edge.privacy.rules import PrivacyRules

NAME: Final = "privacy"


class PrivacyLedger:
    """The open ledger: `budget` is what the layers work with."""

    def __init__(self, core: Hypercore, budget: BudgetLedger) -> None:
        self.core = core
        self.budget = budget

    @classmethod
    async def open(cls, state: Path, rules: Iterable[PrivacyRules]) -> "PrivacyLedger":
        """Open it, made on first use, under the strictest caps of `rules`. Raises `StorageError`, `RecordInvalid`."""
        store = FeedStore(state)
        feed = next((feed for feed in store.feeds() if feed.name == NAME), None) or await store.create(NAME)
        core = await store.open(feed, write=True)

        async def append(block: bytes) -> None:
            await core.append([block], urgent=True)

        def blocks() -> Iterator[bytes]:
            return core.blocks()

        try:
            return cls(core, BudgetLedger.opened(caps_of(rules), blocks(), append))
        except BaseException:
            await core.close()
            raise

    async def close(self) -> None:
        """Close the log."""
        await self.core.close()
