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

from edge.agent.network_state import TREND_PARTS, MarketContext, NetworkState
from edge.box.figures import Figures
from edge.box.ledger import Ledger
from edge.box.privacy_ledger import PrivacyLedger
from edge.box.share import SAVE_S, TROUBLE, Share
from edge.box.views import Views
from edge.clock import Clock
from edge.errors import ConfigError
from edge.health.checks import HealthChecks, HealthState
from edge.memory.combine import Pooled
from edge.memory.network import NetworkPriceMemory
from edge.memory.packed import INSIGHTS, TRENDS
from edge.networks.folder import NetworkFolder
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
INSIGHT_ROWS_MIN: Final = 500  # of a page, if there are as many: pooling takes the loop 0.1 ms a number
INSIGHT_COLUMNS: Final = (
    *(("network", "text"), ("kind", "text"), ("category", "text"), ("sku", "text"), ("term", "text"), ("week", "int")),
    *(("mean", "float"), ("error", "float"), ("between", "float"), ("shops", "int"), ("owners", "int")),
    *(("unit", "text"), ("epsilon", "float"), ("delta", "float"), ("deviation", "float")),
)


class Sharing:
    """The networks of a box. Made by `open`; `run` until cancelled; `close`."""

    def __init__(self, shares: Sequence[Share], figures: Figures, ledger: PrivacyLedger, views: Views) -> None:
        self.shares: Final = shares
        self._figures = figures
        self._ledger = ledger
        self._views = views
        self._state = NetworkState(0)
        self._seen: tuple[object, ...] = ()

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
        names = NetworkFolder.names(state)
        for name in settings:
            if name not in names:
                known = ", ".join(names) or "none"
                raise ConfigError(
                    f"networks.{name}", f"this box was not accepted into it (`pomona roster accept`); known: {known}"
                )
        figures, privacy = Figures(ledger, views), PrivacyLedger(state, health)
        shares: list[Share] = []
        sharing = cls(shares, figures, privacy, views)
        try:
            for name in names:
                try:
                    share = Share(
                        NetworkFolder.open(state, name),
                        settings.get(name, NetworkSettings()),
                        views=views,
                        figures=figures,
                        ledger=privacy,
                        clock=clock,
                        health=health,
                        metrics=metrics.of(name),
                        on_refused=on_refused,
                    )
                    await share.open()
                except TROUBLE as error:
                    health.report(f"network_{name}", HealthState.DEGRADED, f"left out: {error}")
                    continue
                shares.append(share)
                try:
                    await share.prepare()
                except TROUBLE as error:  # tried again while it runs
                    share.report_trouble(error)
            await privacy.look()
            await figures.catch_up()
            await sharing._look()
        except BaseException:
            await sharing.close()
            raise
        views.prices.exchanges.extend(shares)
        return sharing

    async def run(self) -> None:
        """Until cancelled. A network that fails is degraded; the others go on."""
        async with asyncio.TaskGroup() as tasks:
            for share in self.shares:
                tasks.create_task(share.run(), name=f"network {share.name}")
            tasks.create_task(self._keep_looking(), name="market")

    async def close(self) -> None:
        """Keep what is known, and close everything. Again: nothing."""
        await self._figures.save()
        for close in (*(share.close for share in self.shares), self._ledger.close):
            try:
                await close()
            except TROUBLE as error:
                logger.warning("networks: not everything is closed: %s", error)

    # --- the market --------------------------------------------------------------------------------------------------

    def context(self, category: str) -> MarketContext | None:
        """What prices of `category` may know of other shops; from any thread."""
        state = self._state
        return state.get_context(category) if state.networks else None

    @property
    def mode(self) -> Mode:
        """How well the box is connected in all its networks together."""
        modes = {share.modes.mode for share in self.shares}
        if len(modes) == 1:
            return modes.pop()
        return Mode.PARTIAL if modes else Mode.LOCAL_ONLY

    async def _keep_looking(self) -> None:
        saved = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(PICTURE_S)
            await self._look()
            if asyncio.get_running_loop().time() - saved >= SAVE_S:
                saved = asyncio.get_running_loop().time()
                await self._figures.save()

    async def _look(self) -> None:
        """Renew the picture if anybody was heard, came or went, or a week has begun."""
        newest = self._views.days.newest
        week = 0 if newest is None else week_of(newest)
        seen = (week, self._views.items_version, *(self._signs(share) for share in self.shares))
        if seen == self._seen:
            return
        categories = tuple(self._views.shelf.categories())
        found = [await share.picture(week, categories) for share in self.shares]
        self._state = NetworkState(week, tuple(each for each in found if each is not None))
        self._seen = seen

    @staticmethod
    def _signs(share: Share) -> object:
        memory, node = share.memory, share.node
        if memory is None or node is None or node.roster is None:
            return None
        return memory.counts.taken, memory.roster.version, node.roster.version, len(node.peers())

    # --- what is asked of it -----------------------------------------------------------------------------------------

    def peers(self) -> dict[str, Any]:
        """For `pomona peers`."""
        return {"mode": self.mode.value, "networks": [share.tree() for share in self.shares]}

    def budget(self, weeks: int) -> dict[str, Any]:
        """For `pomona budget`: what left, and the accounts of the last `weeks` weeks."""
        budget = self._ledger.budget
        if budget is None:
            return {"left": [], "accounts": [], "floor": 0}
        known = {share.folder.network_id: share for share in self.shares}
        newest = self._views.days.newest
        last = max(budget.floor, 0 if newest is None else week_of(newest))
        left = []
        for release in left_this_shop(budget):
            share = known.get(release.network)
            policy = None if share is None else share.policy
            name = release.network.hex()[:8] if share is None else share.name
            left.append(release.words(name, (PrivacyRules() if policy is None else policy.privacy).delta))
        return {
            "left": left,
            "accounts": [_account(each) for each in accounts(budget, last - weeks + 1, weeks)],
            "floor": budget.floor,
        }

    def insights(self, after: str = "") -> dict[str, Any]:
        """For `pomona export insights`: a row a number that the networks say, with what protects it.

        A page: of the categories that follow `after` (network, kind and category, a line each), one or more whole ones.
        `after` of the answer is that of the next page; None: there is none.
        """
        begin = tuple(after.split("\n"))
        places = sorted(
            ((share.name, kind, category), share, memory)
            for share in self.shares
            if (memory := share.memory) is not None
            for kind in (INSIGHTS, TRENDS)
            for category in memory.categories(kind)
            if (share.name, kind, category) > begin
        )
        page: dict[str, Any] = {"columns": [list(column) for column in INSIGHT_COLUMNS], "rows": [], "after": None}
        for number, (place, share, memory) in enumerate(places):
            page["rows"] += _rows(share, memory, *place[1:])
            if len(page["rows"]) >= INSIGHT_ROWS_MIN and number + 1 < len(places):
                return {**page, "after": "\n".join(place)}
        return page


def _rows(share: Share, memory: NetworkPriceMemory, kind: str, category: str) -> Iterator[list[Any]]:
    cost = _cost(share)
    for sku in memory.skus(kind, category):
        said = _said(memory, kind, category, sku)
        for term in TERMS if kind == INSIGHTS else TREND_PARTS:
            pooled = said.get(term)
            if pooled is not None:
                what = [share.name, kind, category, sku, term, pooled.week, pooled.mean, pooled.error]
                yield [*what, pooled.between, pooled.shops, pooled.owners, *cost, pooled.deviation]


def _said(memory: NetworkPriceMemory, kind: str, category: str, sku: str) -> Mapping[str, Pooled]:
    if kind == INSIGHTS:
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
