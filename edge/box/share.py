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
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from edge.agent.network_state import NetworkPicture, picture
from edge.atomic import replace_file
from edge.box.consortium import ConsortiumPublisher
from edge.box.figures import Figures
from edge.box.privacy_ledger import PrivacyLedger
from edge.box.publisher import PrivatePublisher, public_list
from edge.box.views import Views
from edge.clock import Clock
from edge.errors import PomonaError, StorageError
from edge.health.checks import HealthChecks, HealthState
from edge.memory.network import NetworkPriceMemory
from edge.memory.outbox import NodeOutbox
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


class Share:
    """A network of the box. `open` it, then `run` it until cancelled, then `close` it."""

    def __init__(
        self,
        folder: NetworkFolder,
        settings: NetworkSettings,
        *,
        views: Views,
        figures: Figures,
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
        self._clock = clock
        self._health = health
        self._metrics = metrics
        self._on_refused = on_refused
        self._links: deque[tuple[LinkEvent, bool]] = deque(maxlen=1024)
        self._link_news = asyncio.Event()
        self._wake = asyncio.Event()
        self._publisher: PrivatePublisher | ConsortiumPublisher | None = None
        self._roster: Roster | None = None
        self.node: NetworkNode | None = None
        self.sync: SyncManager | None = None
        self.memory: NetworkPriceMemory | None = None
        self.modes = NetworkErrorHandler(folder.name, health, self._recover)

    @property
    def name(self) -> str:
        """What the box calls the network."""
        return self.folder.name

    @property
    def policy(self) -> NetworkPolicy | None:
        """As this box holds it; None: there is no roster yet, or the box's own wishes are looser than the network's."""
        if self.node is None:
            return None
        try:
            return self.node.policy
        except PomonaError as error:
            self._health.report(f"network_{self.name}_policy", HealthState.DEGRADED, str(error))
            return None

    async def open(self) -> None:
        """Open what is on the disk. Raises `StorageError`, `ConfigError`."""
        self.node = await NetworkNode.open(
            self.folder, self.settings, clock=self._clock, metrics=self._metrics, on_link=self._linked
        )

    async def prepare(self, ledger: PrivacyLedger | None) -> None:
        """With the roster that is known, if one is: memory, gate, and what may go out. Raises `StorageError`."""
        node = self.node
        if node is None or node.roster is None or self.sync is not None:
            return
        roster = self._roster = node.roster
        memory = NetworkPriceMemory(roster, currency=self._views.memory.currency, own=node.member)
        validator = DataValidator(roster.network_id, self._refusal)
        self._publisher = self._way_out(roster, ledger)
        sync = SyncManager(
            memory,
            validator,
            node,
            self._surroundings,
            outbox=NodeOutbox(node, self.folder.epochs) if self.settings.share else None,
            publisher=self._publisher,
        )
        try:
            image = await asyncio.to_thread((self.folder.directory / MEMORY_FILE).read_bytes)
        except OSError:
            image = None
        await sync.start(image)
        self.memory, self.sync = memory, sync

    def _way_out(self, roster: Roster, ledger: PrivacyLedger | None) -> "PrivatePublisher | ConsortiumPublisher | None":
        policy = self.policy
        if not self.settings.share or policy is None:
            return None
        if roster.network is Network.PRIVATE:
            return PrivatePublisher(roster.network_id, self._views, self._figures.daybook)
        if ledger is None:
            return None
        newest = self._views.days.newest
        start = 0 if newest is None else week_of(newest)
        anonymiser = Anonymiser(
            terms_of(roster, policy), public_list(self._views), ledger.budget, secrets.randbits, start
        )
        self._figures.add(anonymiser, self.folder.directory)
        return ConsortiumPublisher(anonymiser, self._views, self._terms)

    def _terms(self) -> Terms | None:
        policy = self.policy
        roster = None if self.node is None else self.node.roster
        return None if policy is None or roster is None else terms_of(roster, policy)

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
        """Keep what is known, and close everything. Again: nothing."""
        self.modes.close()
        if self.sync is not None:
            await self._save()
        if self.node is not None:
            await self.node.close()
            self.node = None

    def wake(self) -> None:
        """Something may have become due."""
        self._wake.set()

    async def _stay_connected(self, node: NetworkNode) -> None:
        check = f"network_{self.name}_port"
        while True:
            try:
                await node.run()
            except* OSError as group:
                why = group.exceptions[0]
                self._health.report(check, HealthState.DEGRADED, f"cannot listen on {self.settings.listen}: {why}")
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
            await asyncio.sleep(ROSTER_LOOK_S)
            if node.roster is not None:
                await self.prepare(None)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.sync.run())
            tasks.create_task(self._tell())
            tasks.create_task(self._tidy(node))

    async def _tell(self) -> None:
        assert self.sync is not None
        check = f"network_{self.name}_sharing"
        while True:
            self._wake.clear()
            try:
                if self._publisher is not None:
                    await self._publisher.prepare()
                    await self.sync.sync(self._week_now())
                self._health.report(check, HealthState.OK)
            except PomonaError as error:
                self._health.report(check, HealthState.DEGRADED, f"what is due waits: {error}")
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _tidy(self, node: NetworkNode) -> None:
        """Follow the roster's newer versions; save now and again; end old epochs once a day."""
        assert self.sync is not None
        loop = asyncio.get_running_loop()
        saved = day = loop.time()
        while True:
            await asyncio.sleep(ROSTER_LOOK_S)
            if node.roster is not None and node.roster is not self._roster:
                self._roster = node.roster
                self.sync.retry()
                self.wake()
            if loop.time() - saved >= SAVE_S:
                saved = loop.time()
                await self._save()
            if loop.time() - day >= _DAY_S:
                day = loop.time()
                self.sync.retry()
                try:
                    await node.retain()
                except StorageError as error:
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
            policy=self.policy,
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

    def picture(self, week: int, categories: tuple[str, ...]) -> NetworkPicture | None:
        """What prices may know of the network now."""
        if self.memory is None or self.node is None:
            return None
        connected = len(self.node.peers())
        return picture(self.memory, connected=connected, week=week, categories=categories, policy=self.policy)

    def tree(self) -> dict[str, Any]:
        """For `pomona peers`."""
        node, memory = self.node, self.memory
        roster = None if node is None else node.roster
        return {
            "name": self.name,
            "kind": self.folder.network.value,
            "mode": self.modes.mode.value if node is not None else Mode.LOCAL_ONLY.value,
            "members": 0 if roster is None else len(roster.members),
            "owners": 0 if roster is None else len({member.owner for member in roster.members.values()}),
            "epoch": 0 if roster is None else roster.epoch,
            "version": 0 if roster is None else roster.version,
            "listening": 0 if node is None else node.port,
            "queued": 0 if node is None else node.queued,
            "behind": 0 if node is None else node.behind,
            "heard": 0 if memory is None else len(memory.peers()),
            "records": 0 if memory is None else sum(peer.records for peer in memory.peers()),
            "refused": dict(self.refused),
            "peers": [] if node is None else [_peer(peer) for peer in node.peers()],
        }


def _peer(peer: Any) -> dict[str, Any]:
    return {name: getattr(peer, name) for name in type(peer).__dataclass_fields__}


def terms_of(roster: Roster, policy: NetworkPolicy) -> Terms:
    """What the layers must know of a network."""
    owners = roster.owners
    return Terms(roster.network_id, roster.network, len(owners), sum(owners.values()), policy.privacy)


def networks_of(state: Path) -> list[NetworkFolder]:
    """The networks that a box was accepted into. Raises `StorageError`, `ConfigError`."""
    return [NetworkFolder.open(state, name) for name in NetworkFolder.names(state)]
