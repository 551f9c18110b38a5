"""One network of one box, at work: its node, what its members said, and the way out.

    members' feeds ─▶ NetworkNode ─▶ DataValidator ─▶ NetworkPriceMemory ─▶ the market's picture for prices
                                                                        └▶ a Hyperbee of accepted insights
    days and weeks that are over, windows that are due ─▶ cleared or noised and charged ─▶ outlet ─▶ our own feeds

A network in trouble (its disk, its roster, its port) is degraded and tried again; it stops neither the others nor the
tills.
"""

import asyncio
import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from edge.agent.network_state import NetworkPicture, picture
from edge.atomic import replace_file
from edge.box.consortium import ConsortiumPublisher
from edge.box.figures import Figures
from edge.box.market import MarketTree
from edge.box.privacy_ledger import PrivacyLedger
from edge.box.publisher import PrivatePublisher
from edge.box.sums import make_desk, moment
from edge.box.telling import of_memory, of_node, of_sum
from edge.box.views import Views
from edge.clock import Clock
from edge.errors import ConfigError, LocalError, PomonaError, RemoteError, StorageError, StorageFault, first_cause
from edge.health.checks import HealthChecks, HealthState
from edge.memory.due import Due
from edge.memory.network import NetworkPriceMemory
from edge.memory.outbox import NodeOutbox
from edge.memory.sums.desk import SumsDesk
from edge.memory.sync import Surroundings, SyncManager
from edge.memory.validator import DataValidator
from edge.networks.folder import NetworkFolder
from edge.networks.metrics import MetricsView
from edge.networks.modes import LinkEvent, Mode, NetworkErrorHandler
from edge.networks.node import NetworkNode
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import Roster
from edge.networks.settings import NetworkSettings
from edge.privacy.anonymiser import Anonymiser, Terms
from edge.records.history import week_of
from edge.records.message import Network

logger = logging.getLogger(__name__)
MEMORY_FILE: Final = "memory"
LOOK_S: Final = 20.0  # how often it is looked whether something has become due
SAVE_S: Final = 600.0  # between two snapshots of what members said; a later start reads so much again
RETRY_S: Final = 10.0  # after a network could not go on
ROSTER_LOOK_S: Final = 0.5  # while no roster has come
_DAY_S: Final = 86_400.0
_SHAPE: Final = (
    "window_weeks",
    "receipt_cells_max",
    "ladder_percent",
    "ladder_rungs",
)  # of figures
TROUBLE: Final = (OSError, StorageError, RemoteError, ConfigError)  # what a network can be in, and a box lives with

Publisher = PrivatePublisher | ConsortiumPublisher


class Share:
    """A network of the box. `open` it, then `run` it until cancelled, then `close` it."""

    def __init__(
        self,
        folder: NetworkFolder,
        settings: NetworkSettings,
        *,
        views: Views,
        figures: Figures,
        ledger: PrivacyLedger,
        clock: Clock,
        health: HealthChecks,
        metrics: MetricsView,
        on_refused: Callable[[str], object],
    ) -> None:
        self.folder: Final = folder
        self.settings: Final = settings
        self.refused: Final[Counter[str]] = Counter()
        self._views = views
        self._figures = figures
        self._ledger = ledger
        self._clock = clock
        self._health = health
        self._metrics = metrics
        self._on_refused = on_refused
        self._links: deque[tuple[LinkEvent, bool]] = deque(maxlen=1024)
        self._link_news = asyncio.Event()
        self._wake = asyncio.Event()
        self._publisher: Publisher | None = None
        self._shape: tuple[int, ...] = ()  # of the figures that the publisher makes
        self._roster: Roster | None = None
        self._unlawful = ""  # why our own wishes cannot be followed
        self._pictures: dict[str, tuple[object, NetworkPicture]] = {}  # by category, with what they were taken of
        self.node: NetworkNode | None = None
        self.sync: SyncManager | None = None
        self.memory: NetworkPriceMemory | None = None
        self._tree: MarketTree | None = None
        self._desk: SumsDesk | None = None
        self.modes = NetworkErrorHandler(folder.name, health, self._recover)

    @property
    def name(self) -> str:
        """What the box calls the network."""
        return self.folder.name

    @property
    def policy(self) -> NetworkPolicy | None:
        """As this box holds it; None: there is no roster yet, or the box's own wishes are looser than the network's."""
        check = f"network_{self.name}_policy"
        try:
            found = None if self.node is None else self.node.policy
        except ConfigError as error:
            if self._unlawful != str(error):
                self._unlawful = str(error)
                self._health.report(check, HealthState.DEGRADED, f"nothing is shared: {error}")
            return None
        if self._unlawful:
            self._unlawful = ""
            self._health.report(check, HealthState.OK)
        return found

    @property
    def _reading(self) -> NetworkPolicy | None:
        """The policy for what comes in: the network's where our own cannot be, but never more live than we wished."""
        policy, roster = self.policy, None if self.node is None else self.node.roster
        if policy is not None or roster is None:
            return policy
        return replace(roster.policy, live_use=roster.policy.live_use and self.settings.stricter.live_use is not False)

    async def open(self) -> None:
        """Open what is on the disk. Raises `StorageError`, `ConfigError`."""
        self.node = await NetworkNode.open(
            self.folder, self.settings, clock=self._clock, metrics=self._metrics, on_link=self._linked
        )

    async def prepare(self) -> None:
        """With the roster that is known, if one is: memory, gate, and the way out. Raises `StorageError`."""
        node = self.node
        if node is None or node.roster is None or self.sync is not None:
            return
        roster = self._roster = node.roster
        memory = NetworkPriceMemory(roster, currency=self._views.memory.currency, own=node.member)
        tree = self._tree = MarketTree(self.folder, node, memory)
        desk = await self._find_desk(node, memory, tree) if roster.network is Network.CONSORTIUM else None
        sync = SyncManager(
            memory,
            DataValidator(roster.network_id, self._refusal),
            node,
            self._surroundings,
            outbox=NodeOutbox(node, self.folder.epochs) if self.settings.share else None,
            publisher=self if self.settings.share else None,
            hear_sum=None if desk is None else desk.hear,
            after=tree.update,
        )
        try:
            image = await asyncio.to_thread((self.folder.directory / MEMORY_FILE).read_bytes)
        except OSError:
            image = None
        await sync.start(image)
        if desk is not None:
            await desk.start(moment(self._views).today)
            desk.rewind(sync.cursor)
        await self._find_way_out()
        self.memory, self.sync, self._desk = memory, sync, desk

    async def _find_desk(self, node: NetworkNode, memory: NetworkPriceMemory, tree: MarketTree) -> SumsDesk:
        """What carries this shop's part of sums; without a lawful policy it contributes nothing, and still hears."""
        policy = self.policy if self.settings.share else None
        return make_desk(
            self.folder,
            node,
            memory,
            self._views,
            self._surroundings,
            ledger=None if policy is None else await self._ledger.under(policy.privacy),
            item_level=policy is not None and policy.item_level,
            after=tree.update,
        )

    async def _find_way_out(self) -> None:
        """Have a publisher that fits the roster and our own wishes; none where there is no lawful one now."""
        policy, roster = self.policy, None if self.node is None else self.node.roster
        if not self.settings.share or policy is None or roster is None:
            self._publisher = None
        elif roster.network is Network.PRIVATE:
            if self._publisher is None:
                self._figures.want_days()
                self._publisher = PrivatePublisher(roster.network_id, self._views, self._figures.daybook)
        else:
            await self._find_layers(roster, policy)

    async def _find_layers(self, roster: Roster, policy: NetworkPolicy) -> None:
        ledger, newest = await self._ledger.under(policy.privacy), self._views.days.newest
        shape = _shape_of(policy)
        if ledger is None or newest is None:  # weeks are counted from the first that is sold in
            self._publisher = None
        elif self._publisher is None or shape != self._shape:
            changed, self._shape = self._shape not in ((), shape), shape
            start = week_of(newest) + 1  # the first that is whole
            terms, listed = terms_of(roster, policy), self._views.public_list()
            anonymiser = Anonymiser(terms, listed, ledger, secrets.randbits, start)
            self._figures.add(anonymiser, self.folder.directory, fresh=changed)
            self._publisher = ConsortiumPublisher(anonymiser, self._views, self._terms)

    def _terms(self) -> Terms | None:
        policy = self.policy
        roster = None if self.node is None else self.node.roster
        if policy is None or roster is None or _shape_of(policy) != self._shape:
            return None
        return terms_of(roster, policy)

    # --- what the exchange asks --------------------------------------------------------------------------------------

    def due(self, week_now: int) -> Iterator[Due]:
        """Everything that may be told now."""
        if self._publisher is not None:
            yield from self._publisher.due(week_now)

    def told(self, due: Due) -> None:
        """It stands in a feed."""
        if self._publisher is not None:
            self._publisher.told(due)

    # --- at work -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Be part of the network until cancelled."""
        node = self.node
        assert node is not None
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._stay_connected(node))
            tasks.create_task(self._follow_links())
            tasks.create_task(self._exchange(node))

    async def close(self) -> None:
        """Keep what is known, and close everything. Again: nothing. Raises `StorageError`."""
        self.modes.close()
        if self.sync is not None:
            await self._save()
            self.sync = None
        node, self.node = self.node, None
        if node is not None:
            await node.close()

    def wake(self) -> None:
        """Something may have become due, and what spoke of a week to come may speak of this one."""
        if self.sync is not None and self.sync.held:
            self.sync.retry()
        if self._desk is not None:
            self._desk.news.set()
        self._wake.set()

    async def _stay_connected(self, node: NetworkNode) -> None:
        check, loop = f"network_{self.name}_port", asyncio.get_running_loop()
        trouble = False
        while True:
            well = loop.call_later(RETRY_S, lambda: self._health.report(check, HealthState.OK)) if trouble else None
            try:
                await node.run()
            except* TROUBLE as group:
                why = first_cause(group)
                where = f"cannot listen on {self.settings.listen}: " if isinstance(why, OSError) else ""
                self._health.report(check, HealthState.DEGRADED, f"{where}{why}; tried again")
                trouble = True
            finally:
                if well is not None:
                    well.cancel()
            await asyncio.sleep(RETRY_S)

    async def _follow_links(self) -> None:
        while True:
            await self._link_news.wait()
            self._link_news.clear()
            while self._links:
                event, joined = self._links.popleft()
                handle = self.modes.handle_reconnect if joined else self.modes.handle_disconnect
                await handle(event)

    async def _exchange(self, node: NetworkNode) -> None:
        """Once a roster has come: take in what members say, tell what is due, keep both over a restart."""
        while self.sync is None:
            try:
                await self.prepare()
            except TROUBLE as error:
                self.report_trouble(error)
                await asyncio.sleep(RETRY_S)
            else:
                if self.sync is None:
                    await asyncio.sleep(ROSTER_LOOK_S)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.sync.run())
            tasks.create_task(self._tell(self.sync))
            tasks.create_task(self._tidy(node, self.sync))
            if self._desk is not None:
                tasks.create_task(self._add_up(self._desk))

    def report_trouble(self, error: BaseException) -> None:
        """What is shared, and what members say, waits for this."""
        self._health.report(f"network_{self.name}_sharing", HealthState.DEGRADED, f"what is due waits: {error}")

    async def _tell(self, sync: SyncManager) -> None:
        while True:
            self._wake.clear()
            failures = sync.counts.failures
            try:
                await self._find_way_out()
                await self._figures.catch_up()
                if self._publisher is not None:
                    await self._publisher.prepare()
                await sync.sync(self._week_now())
                if sync.counts.failures == failures:
                    self._health.report(f"network_{self.name}_sharing", HealthState.OK)
                else:
                    self.report_trouble(StorageError("our own feeds cannot be written", fault=StorageFault.IO))
            except LocalError:
                raise
            except PomonaError as error:
                self.report_trouble(error)
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _add_up(self, desk: SumsDesk) -> None:
        """Take part in sums: when a day has closed, when somebody was heard, and now and again."""
        while True:
            desk.news.clear()
            try:
                await desk.tick(moment(self._views))
            except LocalError:
                raise
            except PomonaError as error:
                self.report_trouble(error)
            try:
                async with asyncio.timeout(LOOK_S):
                    await desk.news.wait()
            except TimeoutError:
                pass

    async def _tidy(self, node: NetworkNode, sync: SyncManager) -> None:
        """Follow the roster's newer versions; save now and again; end old epochs once a day."""
        loop = asyncio.get_running_loop()
        saved = day = loop.time()
        while True:
            await asyncio.sleep(ROSTER_LOOK_S)
            if node.roster is not None and node.roster is not self._roster:
                self._roster = node.roster
                sync.retry()
                self.wake()
            if loop.time() - saved >= SAVE_S:
                saved = loop.time()
                await self._save()
            if loop.time() - day >= _DAY_S:
                day = loop.time()
                sync.retry()
                try:
                    await node.retain()
                except TROUBLE as error:
                    logger.warning("network %s: closed epochs are not cleared: %s", self.name, error)

    async def _save(self) -> None:
        assert self.sync is not None
        image = self.sync.snapshot()
        try:
            await asyncio.to_thread(lambda: replace_file(self.folder.directory / MEMORY_FILE, image.encode()))
        except OSError as error:
            logger.warning("network %s: what members said is not saved: %s", self.name, error.strerror)

    def _surroundings(self) -> Surroundings:
        assert self.node is not None
        roster = self.node.roster
        assert roster is not None
        return Surroundings(
            roster,
            self.folder.epochs(),
            self._clock.wall(),
            floor_ms=self._views.newest_ms,
            policy=self._reading,
            week_now=self._week_now() or None,
        )

    def _week_now(self) -> int:
        newest = self._views.days.newest
        return 0 if newest is None else week_of(newest)

    def _linked(self, event: LinkEvent, joined: bool) -> None:
        self._links.append((event, joined))
        self._link_news.set()

    def _recover(self) -> None:
        if self.node is not None:
            self.node.look()
        if self.sync is not None:
            self.sync.retry()

    def _refusal(self, reason: str) -> None:
        self.refused[reason] += 1
        self._on_refused(reason)

    # --- what is asked of it -----------------------------------------------------------------------------------------

    async def picture(self, week: int, categories: tuple[str, ...]) -> NetworkPicture | None:
        """What prices may know of the network now. Only categories of which something was said are pooled again, and
        the loop gets its turn after each.
        """
        memory, policy = self.memory, self._reading
        if memory is None or self.node is None or policy is None:
            return None
        whole = picture(memory, connected=0, week=week, categories=(), policy=policy)
        insights, trends = dict(whole.insights), dict(whole.trends)
        for category in [category for category in self._pictures if category not in categories]:
            del self._pictures[category]
        for category in categories:
            taken_of = (memory.revisions.get(category, 0), memory.roster.version, week, policy)
            before, found = self._pictures.get(category, (None, whole))
            if before != taken_of:
                found = picture(memory, connected=0, week=week, categories=(category,), policy=policy)
                self._pictures[category] = (taken_of, found)
                await asyncio.sleep(0)
            insights |= found.insights
            trends |= found.trends
        connected = 0 if self.node is None else len(self.node.peers())
        return replace(whole, connected=connected, insights=MappingProxyType(insights), trends=MappingProxyType(trends))

    def tree(self) -> dict[str, Any]:
        """For `pomona peers`."""
        market = None if self._tree is None else self._tree.key
        return {
            "name": self.name,
            "kind": self.folder.network.value,
            "mode": self.modes.mode.value if self.node is not None else Mode.LOCAL_ONLY.value,
            **of_node(self.node),
            **of_memory(self.memory),
            "refused": dict(self.refused),
            "sums": [] if self._desk is None else [of_sum(each) for each in self._desk.states()],
            "market": None if market is None else market.hex(),
        }


def _shape_of(policy: NetworkPolicy) -> tuple[int, ...]:
    return tuple(getattr(policy.privacy, name) for name in _SHAPE)


def terms_of(roster: Roster, policy: NetworkPolicy) -> Terms:
    """What the layers must know of a network."""
    owners = roster.owners
    return Terms(roster.network_id, roster.network, len(owners), sum(owners.values()), policy.privacy)
