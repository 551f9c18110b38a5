"""Shops of one private network in one thread: real exchange, memory, validator and replication; links and crashes by
seed.

Cores are in memory, and what a copy has accepted is durable a moment later, as on a disk: a crash loses it. A crash
loses everything else that is not in a feed or in the last snapshot that was written, too. Appends of our own may be
cut off in the middle. Time is the simulated network's; the loop only gives the exchange its turns.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from support_memory_core import MemoryCore
from support_network import Clock, Link
from support_shared import NOW, WEEK_NOW, Shop, epoch_of, network_of, payload_of, shop_of

from edge.errors import StorageError, StorageFault
from edge.hypercore.replicator import Replicator, Session
from edge.memory.due import Due
from edge.memory.network import NetworkPriceMemory
from edge.memory.sync import Surroundings, SyncManager, Told
from edge.memory.validator import DataValidator
from edge.networks.access import FeedKind, feed_of
from edge.networks.feeds import PRIORITY
from edge.networks.following import Arrival
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import Roster
from edge.records.message import Network, decode
from edge.records.shared import ItemDay, Payload, PriceUpdate, TrendUpdate, week_behind

EPOCH = epoch_of(1)
KINDS = (FeedKind.TRENDS, FeedKind.PRICES)  # critical and bulk; a third kind costs half as much again
WAITING_MAX = 4  # blocks that nobody fetched, before a day's totals wait: small, so that it happens
CATEGORIES = ("bread", "dairy")


@dataclass
class Box:
    """One shop. What is in `cores` (as far as it is durable), `image` and `due` outlives a crash."""

    shop: Shop
    roster: Roster
    clock: Clock
    random: Random
    cores: dict[bytes, MemoryCore] = field(default_factory=dict)
    places: dict[bytes, tuple[bytes, FeedKind]] = field(default_factory=dict)  # member and kind, by feed key
    image: bytes | None = None
    payloads: list[Payload] = field(default_factory=list)  # what the shop has to tell; follows from its ledger
    replicators: dict[bytes, Replicator] = field(default_factory=dict)
    manager: SyncManager | None = None
    refusals: int = 0
    unfetched_max: int = 0
    fetched: dict[bytes, int] = field(default_factory=dict)
    crash_in_append: bool = False

    @property
    def id(self) -> bytes:
        return self.shop.member.id

    def make(self, everybody: Sequence[Shop]) -> None:
        """The cores of a new box: its own to write, everybody else's to follow."""
        for shop in everybody:
            for kind in KINDS:
                pair = shop.signers[kind]
                manifest = EPOCH.manifest(kind, pair.public_key)
                own = shop is self.shop
                core = MemoryCore(
                    manifest.key(),
                    manifest=manifest,
                    key_pair=pair if own else None,
                    later=lambda work: self.clock.call_later(self.random.uniform(0.0, 0.05), work),  # type: ignore[arg-type]
                )
                self.cores[core.key] = core
                self.places[core.key] = (shop.member.id, kind)

    async def start(self) -> None:
        """Run, with what a crash left."""
        self.fetched.clear()
        for key, core in self.cores.items():
            self.replicators[key] = Replicator(core, clock=self.clock.now, call_later=self.clock.call_later)
            if core.key_pair is None:
                core.demand.range(0)
        memory = NetworkPriceMemory(self.roster, currency="EUR", own=self.id)
        self.manager = SyncManager(
            memory,
            DataValidator(self.roster.network_id, lambda _reason: setattr(self, "refusals", self.refusals + 1)),
            self,
            lambda: Surroundings(self.roster, {1: EPOCH}, NOW, week_now=WEEK_NOW),
            outbox=self,
            publisher=self,
            waiting_max=WAITING_MAX,
        )
        await self.manager.start(self.image)

    def crash(self) -> None:
        """Lose what is not durable. Its links must have been cut."""
        for key, core in list(self.cores.items()):
            self.replicators.pop(key).close()
            kept = MemoryCore(key, manifest=core.manifest, key_pair=core.key_pair, later=core._later)
            kept.tree = kept.ahead = core.tree
            kept.signature, kept.fork = core.signature, core.fork
            kept.nodes, kept.blocks = dict(core.nodes), dict(core.blocks)
            for index in kept.blocks:
                kept._held.add(index, index + 1)
            core._todo.clear()  # it never gets to the disk
            self.cores[key] = kept
        self.manager = None

    # --- what the exchange asks of its surroundings ------------------------------------------------------------------

    async def next(self, cursor: Mapping[bytes, int], limit: int) -> list[Arrival]:
        found = []
        for kind in PRIORITY:
            for key, (member, its) in self.places.items():
                if its is kind and member != self.id:
                    core = self.cores[key]
                    found += [
                        Arrival(self.roster.network_id, member, kind, 1, key, index, core.blocks[index])
                        for index in range(cursor.get(key, 0), core.contiguous)
                    ]
        return found[: min(limit, 1 + self.random.randrange(limit))]

    async def changed(self) -> None:
        raise AssertionError("the simulation pulls by itself: nobody waits here")

    @property
    def member(self) -> bytes:
        return self.id

    @property
    def unfetched(self) -> int:
        """As `NetworkNode.queued`: by what connected peers show, and have shown since the start."""
        waiting = 0
        for core in self._own():
            peers = self.replicators[core.key].peers
            shown = [peer.has.edges[1] for peer in peers if peer.has.edges and peer.has.edges[0] == 0]
            had = self.fetched[core.key] = max([self.fetched.get(core.key, 0), *shown])
            waiting += core.length - had
        return waiting

    async def append(self, dues: Sequence[Due]) -> list[Told]:
        told: list[Told] = []
        for due in dues:
            if self.crash_in_append and self.random.random() < 0.3:
                raise StorageError("the power is cut", fault=StorageFault.IO)
            for payload in due.payloads:
                kind = feed_of(payload)
                core = next(core for core in self._own() if self.places[core.key][1] is kind)
                block = self.shop.block(self.roster, EPOCH, kind, core.length, payload)
                core.append([block])
                told.append(Told(1, core.length - 1, payload))
        if self.crash_in_append:
            raise StorageError("the power is cut", fault=StorageFault.IO)
        self.unfetched_max = max(self.unfetched_max, self.unfetched)
        return told

    async def tail(self, limit: int) -> list[Told]:
        return [
            Told(1, index, decode(core.blocks[index]).payload)
            for core in self._own()
            for index in range(max(core.length - limit, 0), core.length)
        ]

    def due(self, week_now: int) -> list[Due]:
        return [Due((payload,), None) for payload in self.payloads if week_behind(payload) < week_now]

    def told(self, due: Due) -> None:
        assert due.payloads[0] in self.payloads

    def _own(self) -> list[MemoryCore]:
        return [self.cores[key] for key, (member, _) in self.places.items() if member == self.id]


class Partition:
    """The shops, the links between them, and what happens to both."""

    def __init__(self, seed: int, *, shops: int, records: int) -> None:
        self.random = Random(seed)
        self.clock = Clock()
        self.boxes: list[Box] = []
        self.links: dict[tuple[int, int], Link] = {}
        self._shops, self._records = shops, records
        self.counts = {"cuts": 0, "crashes": 0, "told": 0, "images": 0}

    async def start(self) -> None:
        shops = [shop_of(Network.PRIVATE, number) for number in range(self._shops)]
        roster = network_of(Network.PRIVATE, shops, policy=NetworkPolicy(live_use=True))
        for shop in shops:
            box = Box(shop, roster, self.clock, self.random)
            box.make(shops)
            await box.start()
            self.boxes.append(box)
        for number in range(self._shops):
            self.connect(number, (number + 1) % self._shops)

    def connect(self, one: int, other: int) -> None:
        pair = (min(one, other), max(one, other))
        if pair in self.links or one == other or any(self.boxes[number].manager is None for number in pair):
            return
        link = self.links[pair] = Link(self.clock, latency=0.01, random=self.random)
        for end, number in zip(link.ends, pair, strict=True):
            session = Session(end)
            for replicator in self.boxes[number].replicators.values():
                session.attach(replicator)

    def cut(self, pair: tuple[int, int]) -> None:
        self.counts["cuts"] += 1
        self.links.pop(pair).cut()

    def crash(self, number: int) -> None:
        self.counts["crashes"] += 1
        for pair in [pair for pair in self.links if number in pair]:
            self.links.pop(pair).cut()
        self.boxes[number].crash()

    async def step(self) -> None:
        """A while in which a few things happen."""
        random = self.random
        for _ in range(random.randrange(1, 4)):
            await self._event()
        self.clock.run(random.choice([0.02, 0.1, 0.5]))
        for box in self.boxes:
            if box.manager is not None and random.random() < 0.5:
                await box.manager.pull()
            if box.manager is not None and random.random() < 0.15:
                self.counts["images"] += 1
                box.image = box.manager.snapshot().encode()

    async def _event(self) -> None:
        random, number = self.random, self.random.randrange(len(self.boxes))
        box, roll = self.boxes[number], self.random.random()
        if box.manager is None:
            await box.start()
        elif roll < 0.4:
            await self._sell(box, number)
        elif roll < 0.6 and self.links:
            self.cut(random.choice(sorted(self.links)))
        elif roll < 0.75:
            self.crash(number)
        else:
            self.connect(number, random.randrange(len(self.boxes)))

    async def _sell(self, box: Box, number: int) -> None:
        random = self.random
        for _ in range(random.randrange(1, self._records)):
            kind = random.choice((TrendUpdate, PriceUpdate, ItemDay, ItemDay))
            category, week = random.choice(CATEGORIES), WEEK_NOW - random.randrange(1, 4)
            payload = payload_of(kind, category=category, week=week, skus=random.sample(["A1", "B1", "C1", "D1"], 2))
            if isinstance(payload, ItemDay):
                payload = replace(payload, day=payload.day.fromordinal(payload.day.toordinal() + random.randrange(7)))
            if isinstance(payload, TrendUpdate):
                rows = [replace(row, trend_error=0.001 * (1 + number)) for row in payload.rows]
                payload = replace(payload, rows=tuple(rows))
            if payload not in box.payloads:
                box.payloads.append(payload)
        assert box.manager is not None
        box.crash_in_append = random.random() < 0.3
        self.counts["told"] += await box.manager.sync(WEEK_NOW)
        if box.crash_in_append and box.manager.counts.failures and random.random() < 0.5:  # or only the disk failed
            self.crash(number)
        box.crash_in_append = False

    async def heal(self) -> None:
        """Everybody is back and connected; until nothing moves any more."""
        for box in self.boxes:
            if box.manager is None:
                await box.start()
        for number in range(len(self.boxes)):
            for other in (number + 1, number + 4) if number % 3 == 0 else (number + 1,):
                self.connect(number, other % len(self.boxes))
        quiet = 0
        for _ in range(200):
            moved = 0
            for box in self.boxes:
                assert box.manager is not None
                moved += await box.manager.sync(WEEK_NOW)
                while count := await box.manager.pull():
                    moved += count
            self.clock.run(2.0)
            quiet = 0 if moved else quiet + 1
            if quiet > 6:  # longer than a peer that did not deliver is left alone
                return
        raise AssertionError("the shops never come to rest")


async def run_partition(seed: int, *, shops: int = 12, steps: int = 25, records: int = 7) -> Partition:
    """One seed from the beginning to peace."""
    world = Partition(seed, shops=shops, records=records)
    await world.start()
    for _ in range(steps):
        await world.step()
        await asyncio.sleep(0)
    await world.heal()
    return world
