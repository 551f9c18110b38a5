"""Boxes of one network in one process: real folders, real cores, real sockets on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from support_linked_stores import linked
from support_shared import NOW, WEEK_NOW, payload_of

from edge.clock import WallTime
from edge.crypto.keys import KeyPair
from edge.hypercore.corestore import Corestore
from edge.networks.access import FEEDS, FeedKind
from edge.networks.authority import authority, found
from edge.networks.folder import NetworkFolder, signer_of
from edge.networks.following import Arrival
from edge.networks.joining import JoinRequest
from edge.networks.metrics import MetricsView
from edge.networks.node import NetworkNode
from edge.networks.outlet import PrivateOutlet
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import Role
from edge.networks.roster_bee import open_roster
from edge.networks.roster_changes import Guest
from edge.networks.settings import NetworkSettings
from edge.privacy.identifiers import Listed, PublicList
from edge.privacy.released import cleared
from edge.records.message import Network, decode
from edge.records.shared import Payload, TrendUpdate


class Hands:
    """A clock that somebody sets."""

    def __init__(self, at: WallTime = NOW) -> None:
        self.at = at

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> WallTime:
        return self.at


@dataclass
class Box:
    """One box in one network. `start` and `stop` as often as you like."""

    state: Path
    name: str = "chain"
    clock: Hands = field(default_factory=Hands)
    on_link: Callable[..., None] | None = None
    metrics: MetricsView | None = None
    node: NetworkNode | None = None
    peers: tuple[str, ...] = ()
    listen: str = "127.0.0.1:0"
    share: bool = True
    _running: asyncio.Task[None] | None = None

    @property
    def folder(self) -> NetworkFolder:
        return NetworkFolder.open(self.state, self.name)

    @property
    def store_directory(self) -> Path:
        return self.state / "networks" / self.name / "store"

    @property
    def identity(self) -> KeyPair:
        return NetworkFolder.store_of(self.state, self.name).identity()

    @property
    def version(self) -> int:
        """Of the roster that it goes by."""
        return 0 if self.node is None else self.node._applied

    @property
    def running(self) -> NetworkNode:
        assert self.node is not None
        return self.node

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.running.port}"

    async def start(self, *peers: "Box | str") -> NetworkNode:
        if peers:
            self.peers = tuple(peer if isinstance(peer, str) else peer.address for peer in peers)
        settings = NetworkSettings(listen=self.listen, peers=self.peers, share=self.share)
        self.node = await NetworkNode.open(
            self.folder, settings, clock=self.clock, metrics=self.metrics, random=lambda: 0.0, on_link=self.on_link
        )
        self._running = asyncio.create_task(self.node.run())
        await until(lambda: not self.listen or self.running.port > 0)
        self.listen = self.address if self.listen else ""  # the same one after a restart
        return self.node

    async def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        if self.node is not None:
            await self.node.close()
        self.node = self._running = None

    async def say(self, *categories: str, kind: type[Payload] = TrendUpdate) -> None:
        """Put messages into a feed of this box in a private network, each about one category."""
        outlet = self.running.outlet()
        assert isinstance(outlet, PrivateOutlet)
        tokens = []
        for category in categories:
            payload = payload_of(kind, category=category)
            tokens.append(cleared(self.running.feeds.network_id, payload, listed(payload)))
        await outlet.append_all(tokens)

    async def heard(self, count: int) -> list[Arrival]:
        """All that members said, once it is so much."""
        reader = Reader(self.running)
        async with asyncio.timeout(30):
            while len(reader.arrivals) < count:
                if not await reader.take():
                    await self.running.changed()
        return reader.arrivals


class Reader:
    """Reads a node as its owner does, and remembers."""

    def __init__(self, node: NetworkNode) -> None:
        self.node = node
        self.cursor: dict[bytes, int] = {}
        self.arrivals: list[Arrival] = []

    async def take(self, limit: int = 100) -> list[Arrival]:
        found = await self.node.next(self.cursor, limit)
        for arrival in found:
            assert arrival.sequence == self.cursor.get(arrival.feed_key, 0)  # no gap, nothing twice
            self.cursor[arrival.feed_key] = arrival.sequence + 1
        self.arrivals += found
        return found


def categories(arrivals: list[Arrival]) -> list[str]:
    """What they speak of."""
    return [decode(arrival.block).payload.category for arrival in arrivals]


class Founder(Box):
    """The box that signs the roster, and a shop like the others."""

    @classmethod
    async def found(
        cls,
        state: Path,
        network: Network = Network.PRIVATE,
        *,
        policy: NetworkPolicy | None = None,
        name: str = "chain",
        open_: bool = False,
    ) -> Self:
        box = cls(state, name)
        await found(state, name, network, policy or NetworkPolicy(), open_=open_)
        async with await Corestore.open(box.store_directory) as store:
            await box._admit(store, box, Role.SHOP, "acme")
        return box

    async def admit(self, *boxes: Box, role: Role = Role.SHOP, owner: str = "acme") -> None:
        """Make them members: a code, a request, the roster's blocks. This box must be running."""
        for box in boxes:
            await self._admit(self.running.store, box, role, owner)
            await bring_roster(self, box)
        await self.taken_in()

    async def _admit(self, store: Corestore, box: Box, role: Role, owner: str) -> None:
        async with authority(self.folder, store) as boss:
            (code,), _ = await boss.invite([Guest(owner, role)], expires=WEEK_NOW + 4, week=WEEK_NOW)
            identity = box.identity
            signers = {kind: signer_of(box.store_directory, kind) for kind in FEEDS[code.network]}
            NetworkFolder.create(box.state, box.name, code.network_id, code.network, code.root)
            await boss.admit(JoinRequest.make(code, identity, signers).encode(), week=WEEK_NOW)

    async def revoke(self, box: Box, lengths: dict[FeedKind, int]) -> None:
        async with authority(self.folder, self.running.store) as boss:
            await boss.revoke(box.identity.public_key, lengths, reason="sold")
        await self.taken_in()

    async def rotate(self) -> None:
        async with authority(self.folder, self.running.store) as boss:
            await boss.rotate()
        await self.taken_in()

    async def taken_in(self) -> None:
        """Wait until this box has read what it wrote."""
        accepted = self.folder.accepted()
        assert accepted is not None
        await until(lambda: self.version >= accepted.version)


async def trio(tmp_path: Path) -> tuple[Founder, Box, Box]:
    """A founder that runs, and two members that do not yet."""
    founder = await Founder.found(tmp_path / "a")
    await founder.start()
    boxes = Box(tmp_path / "b"), Box(tmp_path / "c")
    await founder.admit(*boxes)
    return founder, *boxes


async def bring_roster(founder: Box, box: Box) -> None:
    """Copy the roster's blocks, as joining does over a connection."""
    source = await open_roster(founder.folder, founder.running.store)
    async with await Corestore.open(box.store_directory) as store:
        core = await open_roster(box.folder, store)
        async with linked(founder.running.store, store), asyncio.timeout(20):
            while core.length < source.length:
                await core.changed(core.length, core.fork)
            await core.download(0, source.length).done
    await founder.running.store.release(source)


def listed(payload: Payload) -> PublicList:
    """A public list on which all of it stands."""
    return PublicList("EUR", [Listed(row.sku, payload.category, 199) for row in payload.rows])


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait until something outside has happened."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def stopped_at_the_end(*boxes: Box) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for box in boxes:
            with contextlib.suppress(asyncio.CancelledError):
                await box.stop()
