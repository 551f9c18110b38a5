"""One network of one box, running: its roster followed, its feeds written and fetched, its members connected.

    async with await NetworkNode.open(folder, settings, clock=clock) as node:
        async with asyncio.TaskGroup() as group:
            group.create_task(node.run())                 # until cancelled
            ...
            arrivals = await node.next(cursor, 100)       # what members said and we have not taken yet
            if not arrivals:
                await node.changed()

What it does follows from the roster: it admits who is on it and ends the connections of who is not any more; it moves
its own feeds to the present key epoch once it has the epoch's secret; it follows every feed that counts, up to where it
counts. Seeders and readers write no feeds. Every network has a store of its own, so nothing of one can be asked for
over a connection of another.

One task at a time changes what is open. A `node` has one reader (`next`, `changed`).
"""

import asyncio
import contextlib
import logging
import random as randomness
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from edge.clock import Clock
from edge.errors import ConfigError, RecordInvalid, RemoteError, StorageError, StorageFault
from edge.hypercore.corestore import Corestore
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.lending import LendingDesk
from edge.hyperswarm.address import parse_address
from edge.hyperswarm.connection import Connection
from edge.limits import FEED_SEGMENT_BYTES, NETWORK_LOOK_S
from edge.networks import retention
from edge.networks.access import FeedKind
from edge.networks.epochs import Epoch
from edge.networks.feeds import encryption_key, feeds_of
from edge.networks.folder import NetworkFolder
from edge.networks.following import Arrival, Following
from edge.networks.joining import JoinDesk
from edge.networks.links import Link, Links
from edge.networks.metrics import MetricsView
from edge.networks.modes import LinkEvent
from edge.networks.outlet import Outlet, OwnFeed, OwnFeeds, outlet_of
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import WRITERS, Roster
from edge.networks.roster_bee import follow, open_roster
from edge.networks.settings import NetworkSettings

logger = logging.getLogger(__name__)

_RETRY_S: Final = 1.0  # after the disk was full, or a command had the catalog
_SHORT: Final = 8  # digits of a member's id, for people


@dataclass(frozen=True, slots=True)
class PeerState:
    """A member that is connected."""

    member: str  # beginning of its id
    owner: str
    label: str
    address: str
    connected_s: float  # since when, in seconds before now
    bytes_in: int
    bytes_out: int
    behind: int  # blocks that it has shown and we do not have
    waiting: int  # blocks of our own feeds that it does not have


class NetworkNode:
    """A network of this box. Made by `open`, at work while `run` is, ended by `close`.

    `on_link` hears of each member that comes (True) or goes (False): feed it to `edge.networks.modes`. `desk` owns the
    connections that an open invitation's key has made, where this box is the authority (`edge.networks.joining`).
    """

    def __init__(
        self,
        folder: NetworkFolder,
        settings: NetworkSettings,
        store: Corestore,
        *,
        clock: Clock,
        metrics: MetricsView | None,
        random: Callable[[], float],
        on_link: Callable[[LinkEvent, bool], None] | None,
        desk: JoinDesk | None,
    ) -> None:
        """Use `open`."""
        self._folder = folder
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._identity = folder.identity
        self._on_link = on_link
        self._desk = desk
        self._roster: Roster | None = None
        self._applied = 0  # version of the roster that everything here goes by
        self._roster_core: Hypercore | None = None
        self._roster_news = asyncio.Event()
        self._news = asyncio.Event()
        self._look = asyncio.Event()
        self._changing = asyncio.Lock()
        self._own: dict[FeedKind, OwnFeed] = {}
        self._fetched: dict[bytes, int] = {}  # blocks of each own feed that some peer has had
        self.store: Final = store
        self.feeds: Final = OwnFeeds(folder.network_id, folder.network, clock)
        self._following = Following(folder.network_id, store, self._news.set)
        if metrics is not None:
            self._following.broken = lambda _: metrics.conflict()
        self._links = Links(
            self._identity,
            refusal=self._refusal,
            joined=self._joined,
            parted=self._parted,
            random=random,
            metrics=metrics,
            guest=self._guest,
        )

    @classmethod
    async def open(
        cls,
        folder: NetworkFolder,
        settings: NetworkSettings,
        *,
        clock: Clock,
        metrics: MetricsView | None = None,
        random: Callable[[], float] = randomness.random,
        on_link: Callable[[LinkEvent, bool], None] | None = None,
        desk: JoinDesk | None = None,
    ) -> Self:
        """Open what is on the disk; connects to nobody yet. Raises `StorageError`, `ConfigError`."""
        store = await Corestore.open(
            folder.store_directory,
            replication_metrics=None if metrics is None else metrics.replication,
            segment_bytes=FEED_SEGMENT_BYTES,
        )
        try:
            node = cls(folder, settings, store, clock=clock, metrics=metrics, random=random, on_link=on_link, desk=desk)
            core = node._roster_core = await open_roster(folder, store)
            core.subscribe(lambda _: node._roster_news.set())
            await node._read_roster(core)
        except BaseException:
            await store.close()
            raise
        node._watch()
        return node

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def run(self) -> None:
        """Be part of the network until cancelled. Raises `OSError` where the address to listen on cannot be had."""
        listen = parse_address(self._settings.listen) if self._settings.listen else None
        async with asyncio.TaskGroup() as group:
            group.create_task(self._links.run(listen, [parse_address(peer) for peer in self._settings.peers]))
            group.create_task(self._follow_roster())
            group.create_task(self._catch_up())
            group.create_task(self._lend_roster())

    async def close(self) -> None:
        """Close every core. `run` must have ended. Again: does nothing."""
        async with self._changing:
            await self.feeds.move({})
            await self.store.close()

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What this box calls the network."""
        return self._folder.name

    @property
    def member(self) -> bytes:
        """Our own id here."""
        return self._identity.public_key

    @property
    def roster(self) -> Roster | None:
        """The newest one; None: none has come yet."""
        return self._roster

    @property
    def policy(self) -> NetworkPolicy | None:
        """The network's policy, as this box has tightened it."""
        if self._roster is None:
            return None
        return self._settings.stricter.policy(self._roster.policy, f"networks.{self.name}.stricter")

    @property
    def port(self) -> int:
        """That it listens on; 0: on none."""
        return self._links.port

    def outlet(self) -> Outlet:
        """The only way into the feeds of this box here."""
        return outlet_of(self.feeds)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def next(self, cursor: Mapping[bytes, int], limit: int) -> list[Arrival]:
        """Up to `limit` blocks that follow `cursor`, critical kinds first; see `Following.next`."""
        self._news.clear()
        return await self._following.next(cursor, limit)

    async def changed(self) -> None:
        """Return once there may be more than the last `next` gave."""
        await self._news.wait()

    # --- figures -----------------------------------------------------------------------------------------------------

    @property
    def behind(self) -> int:
        """Blocks that members have shown and that are not here."""
        return self._following.behind(tuple(FeedKind))

    @property
    def queued(self) -> int:
        """Blocks of our own feeds of the present epoch that no peer has fetched, as far as is known since the start."""
        waiting = 0
        for feed in self._own.values():
            peers = self.store.replicator(feed.core).peers
            had = max([self._fetched.get(feed.core.key, 0), *(_holds(peer.has.edges) for peer in peers)])
            self._fetched[feed.core.key] = had
            waiting += feed.core.length - had
        return waiting

    def peers(self) -> list[PeerState]:
        """Who is connected, longest first."""
        now = asyncio.get_running_loop().time()
        return [self._peer(link, now) for link in sorted(self._links.all(), key=lambda link: link.since)]

    def _peer(self, link: Link, now: float) -> PeerState:
        member = None if self._roster is None else self._roster.members.get(link.member)
        behind = waiting = 0
        for feed, core in self._following.cores():
            for peer in self.store.replicator(core).peers:
                if peer.session.connection is link.connection:
                    shown = peer.length if feed.limit is None else min(peer.length, feed.limit)
                    behind += max(shown - core.contiguous, 0)
        for own in self._own.values():
            found = self.store.replicator(own.core).peers
            had = [_holds(peer.has.edges) for peer in found if peer.session.connection is link.connection]
            waiting += own.core.length - max(had, default=0)
        return PeerState(
            link.member.hex()[:_SHORT],
            "" if member is None else member.owner,
            "" if member is None else member.label,
            link.address,
            now - link.since,
            link.connection.bytes_in,
            link.connection.bytes_out,
            behind,
            waiting,
        )

    def _watch(self) -> None:
        if self._metrics is not None and self._roster is not None:
            for kind in self._roster.feed_kinds:
                self._metrics.watch_lag(kind, lambda kind=kind: self._following.behind((kind,)))  # type: ignore[misc]

    # --- members -----------------------------------------------------------------------------------------------------

    def _refusal(self, key: bytes) -> str | None:
        roster = self._roster
        if roster is None:
            return "no_roster"
        if self.member in roster.revoked:
            return "left"
        if roster.admits(key):
            return None
        return "revoked" if key in roster.revoked else "stranger"

    def _guest(self, key: bytes) -> Callable[[Connection], None] | None:
        invited = self._roster is not None and key in self._roster.invited
        return self._desk.serve if self._desk is not None and invited else None

    def _joined(self, link: Link) -> None:
        self.store.replicate(link.connection)
        self._look.set()
        self._tell(link, joined=True)

    def _parted(self, link: Link) -> None:
        self._tell(link, joined=False)

    def _tell(self, link: Link, *, joined: bool) -> None:
        if self._on_link is not None:
            now = asyncio.get_running_loop().time()
            expected = len(self._settings.peers)
            self._on_link(LinkEvent(link.member, len(self._links.all()), expected, now), joined)

    def look(self) -> None:
        """Look for what was missed, soon."""
        self._look.set()

    async def _catch_up(self) -> None:
        """Complete the feeds that are not kept open: after each connection, and now and again."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NETWORK_LOOK_S):
                    await self._look.wait()
            self._look.clear()
            try:
                await self._following.catch_up()
            except StorageError as error:
                logger.warning("network %s: older feeds cannot be looked at: %s", self.name, error)

    # --- the roster --------------------------------------------------------------------------------------------------

    async def _follow_roster(self) -> None:
        core = self._roster_core
        assert core is not None
        download = None if core.writable else core.download(0)
        try:
            while True:
                await self._roster_news.wait()
                self._roster_news.clear()
                try:
                    await self._read_roster(core)
                except StorageError as error:
                    if not error.heals_by_itself and error.fault is not StorageFault.LOCKED:
                        raise
                    logger.warning("network %s: the roster waits: %s", self.name, error)
                    await asyncio.sleep(_RETRY_S)
                    self._roster_news.set()
        finally:
            if download is not None:
                download.cancel()

    async def _lend_roster(self) -> None:
        """Let the authority's commands change the roster while this process has it open. Nothing else is lent: what
        enters the other feeds of this box has passed the outlet.
        """

        async def borrow(key: bytes) -> Hypercore:
            if key != self._folder.network_id:
                raise ConfigError(key.hex()[:_SHORT], "only the roster is lent")
            return await open_roster(self._folder, self.store)

        try:
            await LendingDesk(self._folder.store_directory, borrow, self.store.release).run(asyncio.Event())
        except OSError as error:  # a path too long for a socket: the commands must wait until this box is stopped
            logger.warning("network %s: the roster cannot be lent to other processes: %s", self.name, error)

    async def _read_roster(self, core: Hypercore) -> None:
        """Take in what the roster says now. What cannot be accepted changes nothing: the last one goes on."""
        try:
            roster = await follow(self._folder, core)
        except (RecordInvalid, RemoteError) as error:
            logger.warning("network %s: the roster is refused: %s", self.name, error)
            return
        if roster is None or roster.version <= self._applied:
            return
        self._roster = roster
        self._links.drop_refused()
        async with self._changing:
            epochs = self._folder.epochs()
            await self._write_feeds(roster, epochs)
            feeds = {key: feed for key, feed in feeds_of(roster, epochs).items() if feed.member != self.member}
            await self._following.follow(feeds, roster.epoch)
        self._applied = roster.version
        self._watch()
        self._look.set()

    async def _write_feeds(self, roster: Roster, epochs: Mapping[int, Epoch]) -> None:
        """Have our own feeds be those of the present epoch; none where we are no writer, or have not got its secret."""
        me, epoch = roster.members.get(self.member), epochs.get(roster.epoch)
        born: dict[FeedKind, OwnFeed] = {}
        if self._settings.share and me is not None and me.role in WRITERS and epoch is not None:
            for kind in roster.feed_kinds:
                there = self._own.get(kind)
                if there is not None and there.epoch == epoch.number:
                    born[kind] = there
                elif (feed := await self._own_feed(roster, epoch, kind)) is not None:
                    born[kind] = feed
        old, self._own = self._own, born
        await self.feeds.move(born)
        for kind, feed in old.items():
            if born.get(kind) is not feed:
                await self.store.release(feed.core)  # peers still get it; nobody writes it any more

    async def _own_feed(self, roster: Roster, epoch: Epoch, kind: FeedKind) -> OwnFeed | None:
        signer = self._folder.signer(kind)
        if roster.members[self.member].signers.get(kind) != signer.public_key:
            logger.warning("network %s: the roster names another key for our %s", self.name, kind.name.lower())
            return None
        try:
            core = await self.store.get_under(
                f"epoch-{epoch.number}/{kind.name.lower()}",
                epoch.manifest(kind, signer.public_key),
                signer=self._folder.signer_name(kind),
                encryption_key=encryption_key(roster, epoch),
            )
        except ConfigError as error:
            logger.warning("network %s: our %s cannot be opened: %s", self.name, kind.name.lower(), error)
            return None
        return OwnFeed(kind, epoch.number, core, signer)

    # --- retention ---------------------------------------------------------------------------------------------------

    async def retain(self) -> list[int]:
        """End the epochs that were closed long enough ago, ours and everybody's feeds alike; their numbers.

        Called once a day. Raises `StorageError`.
        """
        roster, policy = self._roster, self.policy
        if roster is None or policy is None:
            return []
        async with self._changing:
            over = retention.note_and_find_due(self._folder, roster, policy.keep_weeks, self._clock.wall())
            if over:
                gone = {epoch.number for epoch in over}
                left = {number: epoch for number, epoch in self._folder.epochs().items() if number not in gone}
                feeds = {key: feed for key, feed in feeds_of(roster, left).items() if feed.member != self.member}
                await self._following.follow(feeds, roster.epoch)
                for epoch in over:
                    await retention.end_epoch(self._folder, self.store, roster, epoch)
        return [epoch.number for epoch in over]


def _holds(edges: list[int]) -> int:
    """Blocks from 0 on that a peer has said it holds; `edges` of its stretches."""
    return edges[1] if edges and edges[0] == 0 else 0
