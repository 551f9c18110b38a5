"""All networks of one box: opened together, at work side by side, asked as one.

The state folder says which networks there are (`edge.networks.folder`), the configuration where to meet their members.
One ledger of privacy and one set of figures serve them all. `context` is what prices may know, from a frozen picture
that is renewed whenever somebody was heard: safe in the thread that decides.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from edge.agent.network_state import TREND_PARTS, MarketContext, NetworkPicture, NetworkState
from edge.box.figures import Figures
from edge.box.ledger import Ledger
from edge.box.privacy_ledger import PrivacyLedger
from edge.box.share import Share, networks_of
from edge.box.views import Views
from edge.clock import Clock
from edge.errors import ConfigError, PomonaError
from edge.health.checks import HealthChecks, HealthState
from edge.memory.combine import Pooled
from edge.memory.network import NetworkPriceMemory
from edge.networks.metrics import NetworkMetrics
from edge.networks.modes import Mode
from edge.networks.settings import NetworkSettings
from edge.privacy.left import Account, accounts, left_this_shop
from edge.privacy.mechanism import epsilon_of_rho
from edge.privacy.rules import PrivacyRules
from edge.records.history import week_of, week_start
from edge.records.message import Network
from edge.records.shared import TERMS, Unit

logger = logging.getLogger(__name__)
PICTURE_S: Final = 1.0  # between two looks whether what is known has changed
WEEKS_SHOWN_MAX: Final = 260
INSIGHT_COLUMNS: Final = (
    *(("network", "text"), ("kind", "text"), ("category", "text"), ("sku", "text"), ("term", "text"), ("week", "int")),
    *(("mean", "float"), ("error", "float"), ("between", "float"), ("shops", "int"), ("owners", "int")),
    *(("unit", "text"), ("epsilon", "float"), ("delta", "float"), ("deviation", "float")),
)


class Sharing:
    """The networks of a box. Made by `open`; `run` until cancelled; `close`."""

    def __init__(self, shares: Sequence[Share], figures: Figures, ledger: PrivacyLedger | None, views: Views) -> None:
        self.shares: Final = tuple(shares)
        self._figures = figures
        self._ledger = ledger
        self._views = views
        self._state = NetworkState(0)
        self._seen: tuple[object, ...] = ()
        self._figures_position = 0

    @classmethod
    async def open(
        cls,
        state: Path,
        settings: Mapping[str, NetworkSettings],
        *,
        ledger: Ledger,
        views: Views,
        clock: Clock,
        health: HealthChecks,
        metrics: NetworkMetrics,
        on_refused: Callable[[str], object],
    ) -> "Sharing":
        """Open every network that the box was accepted into. One that cannot be opened is degraded, and left out.

        Raises `ConfigError` for a section of a network that this box is not in.
        """
        folders = {folder.name: folder for folder in networks_of(state)}
        for name in settings:
            if name not in folders:
                known = ", ".join(folders) or "none"
                raise ConfigError(
                    f"networks.{name}", f"this box was not accepted into it (`pomona roster accept`); known: {known}"
                )
        figures = Figures(ledger, views)
        shares: list[Share] = []
        for name, folder in folders.items():
            share = Share(
                folder,
                settings.get(name, NetworkSettings()),
                views=views,
                figures=figures,
                clock=clock,
                health=health,
                metrics=metrics.of(name),
                on_refused=on_refused,
            )
            try:
                await share.open()
            except PomonaError as error:
                health.report(f"network_{name}", HealthState.DEGRADED, f"left out: {error}")
                continue
            shares.append(share)
        privacy = await _privacy_ledger(state, shares, health)
        for share in shares:
            await share.prepare(privacy)
        sharing = cls(shares, figures, privacy, views)
        await figures.catch_up()
        views.on_counted = figures.counted
        sharing._look()
        return sharing

    async def run(self) -> None:
        """Until cancelled. A network that fails is degraded; the others go on."""
        async with asyncio.TaskGroup() as tasks:
            for share in self.shares:
                tasks.create_task(share.run(), name=f"network {share.name}")
            tasks.create_task(self._keep_looking(), name="market")

    async def close(self) -> None:
        """Keep what is known, and close everything."""
        if self.shares:
            await self._figures.save()
        for share in self.shares:
            await share.close()
        if self._ledger is not None:
            await self._ledger.close()

    def wake(self) -> None:
        """A business day has closed: something may have become due."""
        for share in self.shares:
            share.wake()

    # --- the market --------------------------------------------------------------------------------------------------

    def context(self, category: str) -> MarketContext | None:
        """What prices of `category` may know of other shops; from any thread."""
        state = self._state
        return state.get_context(category) if state.networks else None

    @property
    def mode(self) -> Mode:
        """How much of its networks the box can reach."""
        return self._state.mode

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(PICTURE_S)
            self._look()

    def _look(self) -> None:
        """Renew the picture if anybody was heard, came or went, or a week has begun."""
        newest = self._views.days.newest
        week = 0 if newest is None else week_of(newest)
        seen = (week, *(self._signs(share) for share in self.shares), tuple(self._views.shelf.categories()))
        if seen == self._seen:
            return
        self._seen = seen
        categories = tuple(self._views.shelf.categories())
        pictures: list[NetworkPicture] = []
        for share in self.shares:
            found = share.picture(week, categories)
            if found is not None:
                pictures.append(found)
        self._state = NetworkState(week, tuple(pictures))

    @staticmethod
    def _signs(share: Share) -> object:
        memory, node = share.memory, share.node
        if memory is None or node is None or node.roster is None:
            return None
        return memory.counts.taken, node.roster.version, len(node.peers())

    # --- what is asked of it -----------------------------------------------------------------------------------------

    def peers(self) -> dict[str, Any]:
        """For `pomona peers`."""
        return {"mode": self.mode.value, "networks": [share.tree() for share in self.shares]}

    def budget(self, weeks: int) -> dict[str, Any]:
        """For `pomona budget`: what left, and the accounts of the last `weeks` weeks."""
        if self._ledger is None:
            return {"left": [], "accounts": [], "floor": 0}
        budget = self._ledger.budget.budget
        names = {share.folder.network_id: share.name for share in self.shares}
        delta = PrivacyRules().delta
        newest = self._views.days.newest
        last = budget.floor if newest is None else week_of(newest)
        return {
            "left": [
                left.words(names.get(left.network, left.network.hex()[:8]), delta) for left in left_this_shop(budget)
            ],
            "accounts": [_account(each) for each in accounts(budget, last - weeks + 1, weeks)],
            "floor": budget.floor,
        }

    def insights(self) -> dict[str, Any]:
        """For `pomona export insights`: a row a number that the networks say, with what protects it."""
        rows = [row for share in self.shares if share.memory is not None for row in _rows(share, share.memory)]
        return {"columns": [list(column) for column in INSIGHT_COLUMNS], "rows": rows}


def _rows(share: Share, memory: NetworkPriceMemory) -> Iterator[list[Any]]:
    cost = _cost(share)
    for kind, terms in (("insights", TERMS), ("trends", TREND_PARTS)):
        for category in memory.categories(kind):
            for sku in memory.skus(kind, category):
                said = _said(memory, kind, category, sku)
                for term in terms:
                    pooled = said.get(term)
                    if pooled is not None:
                        what = [share.name, kind, category, sku, term, pooled.week, pooled.mean, pooled.error]
                        yield [*what, pooled.between, pooled.shops, pooled.owners, *cost, pooled.deviation]


def _said(memory: NetworkPriceMemory, kind: str, category: str, sku: str) -> Mapping[str, Pooled]:
    if kind == "insights":
        return memory.insights(category, live=False).get(sku, {})
    found = memory.trend(category, sku, live=False)
    return {} if found is None else {part: getattr(found, part) for part in TREND_PARTS}


def _cost(share: Share) -> tuple[str, float, float]:
    """Unit, epsilon and delta that one release to this network is charged."""
    policy, node = share.policy, share.node
    roster = None if node is None else node.roster
    if policy is None or roster is None or roster.network is Network.PRIVATE:
        return Unit.NONE.value, 0.0, 0.0
    rules = policy.privacy
    if roster.one_owner:
        return Unit.RECEIPT.value, float(rules.epsilon), 0.0
    return Unit.OWNER_WEEK.value, epsilon_of_rho(rules.rho, rules.delta), float(rules.delta)


def _account(each: Account) -> dict[str, Any]:
    numbers = {
        "epsilon": each.spent.epsilon,
        "epsilon_cap": each.cap.epsilon,
        "rho": each.spent.rho,
        "rho_cap": each.cap.rho,
        "year_epsilon": each.year.epsilon,
        "year_epsilon_cap": each.year_cap.epsilon,
        "year_rho": each.year.rho,
        "year_rho_cap": each.year_cap.rho,
    }
    found: dict[str, Any] = {name: float(value) for name, value in numbers.items()}
    pairs = ((name, f"{name}_cap") for name in ("epsilon", "rho", "year_epsilon", "year_rho"))
    found["share"] = max(found[spent] / found[cap] for spent, cap in pairs)
    return {"unit": each.unit.value, "week": each.week, "week_of": week_start(each.week).isoformat(), **found}


async def _privacy_ledger(state: Path, shares: Sequence[Share], health: HealthChecks) -> PrivacyLedger | None:
    """The ledger, where a network needs one; one that cannot be read lets nothing leave."""
    rules = [share.policy.privacy for share in shares if share.policy and share.folder.network is not Network.PRIVATE]
    if not rules:
        return None
    try:
        return await PrivacyLedger.open(state, rules)
    except PomonaError as error:
        health.report("privacy", HealthState.DEGRADED, f"nothing leaves: {error}")
        return None
