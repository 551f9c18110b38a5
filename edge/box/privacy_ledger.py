"""The box's ledger of privacy: a Hypercore named `privacy` in the state folder, beside the box's own, never replicated.

What may leave is decided by `edge.privacy.budget`; this opens the log that it stands in, once a network needs it or
where a box has had one before. A ledger that cannot be read lets nothing leave, and stops nothing else.

One ledger serves all networks, under the strictest caps of all of them. Caps tighten when a network's do, at once; a
looser one counts from the next start.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge.errors import LocalError, PomonaError
from edge.health.checks import HealthChecks, HealthState
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.store import FeedStore
from edge.privacy.budget import Budget, BudgetLedger, caps_of
from edge.privacy.rules import PrivacyRules

NAME: Final = "privacy"
CHECK: Final = "privacy"


class PrivacyLedger:
    """The ledger of one box. Nothing is opened before somebody asks."""

    def __init__(self, state: Path, health: HealthChecks) -> None:
        self._store = FeedStore(state)
        self._health = health
        self._rules: list[PrivacyRules] = []
        self._core: Hypercore | None = None
        self._ledger: BudgetLedger | None = None
        self._turn = asyncio.Lock()

    @property
    def budget(self) -> Budget | None:
        """What was spent, as far as the ledger is open."""
        return None if self._ledger is None else self._ledger.budget

    async def look(self) -> None:
        """Open what an earlier life of the box has spent, if it has, so that it can be told."""
        if any(feed.name == NAME for feed in self._store.feeds()):
            await self.under(PrivacyRules())

    async def under(self, rules: PrivacyRules) -> BudgetLedger | None:
        """The ledger, made on first use, under these rules too; None: it cannot be read, and nothing may leave."""
        if rules not in self._rules:
            self._rules.append(rules)
        caps = caps_of(self._rules)
        async with self._turn:
            if self._ledger is None:
                try:
                    self._core, self._ledger = await self._open()
                except LocalError:
                    raise
                except PomonaError as error:
                    self._health.report(CHECK, HealthState.DEGRADED, f"nothing leaves: {error}")
                    return None
                self._health.report(CHECK, HealthState.OK)
            self._ledger.budget.caps = caps
        return self._ledger

    async def close(self) -> None:
        """Close the log."""
        if self._core is not None:
            await self._core.close()
            self._core = self._ledger = None

    async def _open(self) -> tuple[Hypercore, BudgetLedger]:
        store = self._store
        feed = next((feed for feed in store.feeds() if feed.name == NAME), None) or await store.create(NAME)
        core = await store.open(feed, write=True)

        async def append(block: bytes) -> None:
            await core.append([block], urgent=True)

        def blocks() -> Iterator[bytes]:
            return core.blocks()

        try:
            return core, BudgetLedger.opened(caps_of(self._rules), blocks(), append)
        except BaseException:
            await core.close()
            raise
