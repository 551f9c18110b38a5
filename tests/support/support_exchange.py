"""Members' feeds in plain lists, and the two ends of a SyncManager: a reader of others', an outbox of our own."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from support_shared import NOW, Shop, epoch_of, network_of, shop_of

from edge.errors import StorageError, StorageFault
from edge.memory.due import Due
from edge.memory.network import NetworkPriceMemory
from edge.memory.sync import Surroundings, SyncManager, Told
from edge.memory.validator import DataValidator
from edge.networks.access import FEEDS, FeedKind, feed_of
from edge.networks.feeds import PRIORITY
from edge.networks.following import Arrival
from edge.networks.policy import NetworkPolicy
from edge.records.message import Network, decode
from edge.records.shared import Payload, week_behind

LIVE = NetworkPolicy(live_use=True)
EPOCH = epoch_of(1)


@dataclass
class Feed:
    """One feed: whose, which, its blocks."""

    shop: Shop
    kind: FeedKind
    epoch: int = 1
    blocks: list[bytes] = field(default_factory=list)

    @property
    def key(self) -> bytes:
        return epoch_of(self.epoch).feed_key(self.kind, self.shop.signers[self.kind].public_key)


class Town:
    """Shops of one private network with all their feeds."""

    def __init__(self, count: int) -> None:
        self.shops = [shop_of(Network.PRIVATE, number) for number in range(count)]
        self.roster = network_of(Network.PRIVATE, self.shops, policy=LIVE)
        self.feeds = {
            (shop.member.id, kind): Feed(shop, kind) for shop in self.shops for kind in FEEDS[Network.PRIVATE]
        }

    def say(self, number: int, payload: Payload, **more: object) -> Feed:
        """Shop `number` appends a message; `more` replaces fields of it before it is signed."""
        shop, kind = self.shops[number], feed_of(payload)
        feed = self.feeds[shop.member.id, kind]
        feed.blocks.append(shop.block(self.roster, EPOCH, kind, len(feed.blocks), payload, **more))
        return feed

    def surroundings(self) -> Surroundings:
        return Surroundings(self.roster, {1: EPOCH}, NOW)

    def manager(
        self,
        number: int,
        *,
        surroundings: Callable[[], Surroundings] | None = None,
        outbox: "ListOutbox | None" = None,
        publisher: "ListPublisher | None" = None,
        **more: object,
    ) -> SyncManager:
        """The exchange of shop `number`, which reads everybody else's feeds."""
        own = self.shops[number].member.id
        memory = NetworkPriceMemory(self.roster, currency="EUR", own=own)
        return SyncManager(
            memory,
            DataValidator(self.roster.network_id),
            ListReader(self, own),
            surroundings or self.surroundings,
            outbox=outbox,
            publisher=publisher,
            **more,  # type: ignore[arg-type]
        )


class ListReader:
    """Reads the feeds of all others, as `Following.next` does."""

    def __init__(self, town: Town, own: bytes) -> None:
        self.news = asyncio.Event()
        self._town = town
        self._own = own

    async def next(self, cursor: Mapping[bytes, int], limit: int) -> list[Arrival]:
        self.news.clear()
        found: list[Arrival] = []
        for kind in PRIORITY:
            for (member, its), feed in self._town.feeds.items():
                if its is kind and member != self._own:
                    start = cursor.get(feed.key, 0)
                    found += arrivals_of(self._town.roster.network_id, feed, start)
        return found[:limit]

    async def changed(self) -> None:
        await self.news.wait()


def arrivals_of(network_id: bytes, feed: Feed, start: int = 0) -> list[Arrival]:
    return [
        Arrival(network_id, feed.shop.member.id, feed.kind, feed.epoch, feed.key, at, feed.blocks[at])
        for at in range(start, len(feed.blocks))
    ]


class ListOutbox:
    """Our own feeds in lists. The next append fails with `failing` blocks of it written."""

    def __init__(self, town: Town, number: int) -> None:
        self.member = town.shops[number].member.id
        self.unfetched = 0
        self.failing: int | None = None
        self.appends: list[int] = []
        self._town = town
        self._number = number

    async def append(self, dues: Sequence[Due]) -> list[Told]:
        payloads = [payload for due in dues for payload in due.payloads]
        failing, self.failing = self.failing, None
        told = []
        for payload in payloads[:failing]:
            feed = self._town.say(self._number, payload)
            told.append(Told(feed.epoch, len(feed.blocks) - 1, payload))
        if failing is not None:
            raise StorageError("the disk is full", fault=StorageFault.FULL)
        self.appends.append(len(payloads))
        return told

    async def tail(self, limit: int) -> list[Told]:
        return [
            Told(feed.epoch, at, decode(feed.blocks[at]).payload)
            for (member, _), feed in self._town.feeds.items()
            if member == self.member
            for at in range(max(len(feed.blocks) - limit, 0), len(feed.blocks))
        ]

    def said(self) -> list[Payload]:
        return [
            decode(block).payload
            for (id_, _), f in self._town.feeds.items()
            if id_ == self.member
            for block in f.blocks
        ]


@dataclass
class ListPublisher:
    """Everything that may be told; of a week that is over."""

    payloads: list[Payload] = field(default_factory=list)
    heard: list[Due] = field(default_factory=list)

    def due(self, week_now: int) -> list[Due]:
        return [Due((payload,), None) for payload in self.payloads if week_behind(payload) < week_now]

    def told(self, due: Due) -> None:
        self.heard.append(due)
