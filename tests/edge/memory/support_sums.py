"""Boxes of one consortium that sum: real desks, files and ledgers over feeds in memory that arrive late, or not yet."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

from support_privacy import Disk
from support_shared import NOW, Shop, epoch_of, network_of, shop_of

from edge.errors import StorageError, StorageFault
from edge.memory.network import NetworkPriceMemory
from edge.memory.sums import Moment, Subject, SumsDesk
from edge.memory.sums.terms import due_day
from edge.memory.sync import Surroundings
from edge.networks.access import FeedKind
from edge.networks.epochs import Epoch
from edge.networks.following import Arrival
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import Roster
from edge.privacy.aggregate import Window
from edge.privacy.budget import Caps, Spent, caps_of
from edge.privacy.secure_sum.messages import Message, encode
from edge.records.message import Network

WINDOW = Window(2925, 13)  # 13 divides 2925
CENTRE = -2.9
HOUR = 3600.0
EPOCHS = {number: epoch_of(number, Network.CONSORTIUM) for number in (1, 2)}


def franchise(shops: int, policy: NetworkPolicy | None = None) -> Roster:
    """Shops of one owner, in their second key epoch."""
    there = [shop_of(Network.CONSORTIUM, number) for number in range(shops)]
    return network_of(Network.CONSORTIUM, there, policy=policy, epoch=2)


def rivals(owners: int, shops_each: int = 1, policy: NetworkPolicy | None = None) -> Roster:
    """Shops of several owners, in their second key epoch."""
    there = [
        shop_of(Network.CONSORTIUM, owner * shops_each + shop, owner=f"owner {owner}")
        for owner in range(owners)
        for shop in range(shops_each)
    ]
    return network_of(Network.CONSORTIUM, there, policy=policy, epoch=2)


class Wire:
    """All feeds of sums, as their writers wrote them, and how much of each is with the others."""

    def __init__(self) -> None:
        self.feeds: dict[tuple[bytes, int], list[bytes]] = {}  # by member and epoch
        self.shown: dict[tuple[bytes, int], int] = {}
        self.offline: set[bytes] = set()

    def share(self) -> None:
        """Whoever is there hands on all that it has."""
        for place, blocks in self.feeds.items():
            if place[0] not in self.offline:
                self.shown[place] = len(blocks)


class MemoryFeed:
    """A box's own feed of sums on a `Wire`. `fail`: "before" or "after" the block is durable, at the next append."""

    def __init__(self, wire: Wire, member: bytes, epoch: Callable[[], int]) -> None:
        self._wire = wire
        self._member = member
        self._epoch = epoch
        self.fail = ""

    @property
    def member(self) -> bytes:
        return self._member

    async def append(self, round_digest: bytes, messages: Sequence[Message]) -> None:
        fail, self.fail = self.fail, ""
        if fail != "before":
            blocks = self._wire.feeds.setdefault((self._member, self._epoch()), [])
            blocks += [encode(message, round_digest) for message in messages]
        if fail:
            raise StorageError("the disk", fault=StorageFault.IO)

    async def own(self) -> list[bytes]:
        feeds = sorted((epoch, blocks) for (who, epoch), blocks in self._wire.feeds.items() if who == self._member)
        return [block for _, blocks in feeds for block in blocks]


@dataclass
class SummingBox:
    """One box. What is on its disk - folder, ledger, own feed - survives `restart`; memory and desk do not."""

    directory: Path
    wire: Wire
    member: bytes
    roster: Roster
    value: Sequence[float] | None
    seed: int
    categories: tuple[str, ...] = ("juice",)
    items: Callable[[str], Sequence[str]] | None = None
    policy: NetworkPolicy | None = None
    epochs: dict[int, Epoch] = field(default_factory=lambda: dict(EPOCHS))
    disk: Disk = field(default_factory=Disk)
    caps: Caps | None = None
    asked: list[tuple[Subject, Window]] = field(default_factory=list)
    snapshot: bool = False  # whether a restart brings the memory back

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.rng = random.Random(self.seed)
        self.feed = MemoryFeed(self.wire, self.member, lambda: self.roster.epoch)
        self.memory = NetworkPriceMemory(self.roster, currency="EUR", own=self.member)
        self.cursor: dict[tuple[bytes, int], int] = {}
        self._open()

    def _open(self) -> None:
        self.ledger = self.disk.ledger(self.caps or caps_of([self.roster.policy.privacy]))
        self.desk = SumsDesk(
            self.directory / "sums",
            self.memory,
            self.feed,
            lambda: Surroundings(self.roster, self.epochs, NOW, policy=self.policy),
            ledger=self.ledger,
            contribution=self._contribute,
            categories=lambda: self.categories,
            centre=CENTRE,
            random_bits=self.rng.getrandbits,
            items=self.items,
        )

    async def _contribute(self, subject: Subject, window: Window) -> Sequence[float] | None:
        self.asked.append((subject, window))
        return self.value

    async def restart(self) -> None:
        if not self.snapshot:
            self.memory = NetworkPriceMemory(self.roster, currency="EUR", own=self.member)
        self.cursor.clear()
        self._open()
        await self.desk.start(due_day(WINDOW, self.roster.policy))

    def move(self, roster: Roster, epochs: dict[int, Epoch]) -> None:
        """A newer roster has come."""
        self.roster, self.epochs = roster, epochs
        self.memory.set_roster(roster)

    def pull(self, rng: random.Random | None = None) -> None:
        """Hear what has come of others' feeds, feed by feed in any order."""
        places = [place for place in self.wire.shown if place[0] != self.member]
        if rng is not None:
            rng.shuffle(places)
        for place in places:
            blocks = self.wire.feeds[place][: self.wire.shown[place]]
            at = self.cursor.get(place, 0)
            for sequence, block in enumerate(blocks[at:], at):
                self.desk.hear(Arrival(self.roster.network_id, place[0], FeedKind.SUMS, place[1], b"", sequence, block))
            self.cursor[place] = len(blocks)

    @property
    def sum(self) -> tuple[float, int, int] | None:
        """Mean, shops and owners that the memory tells of the category."""
        found = self.memory.insights("juice", live=False).get("", {}).get("price")
        return None if found is None else (found.mean, found.shops, found.owners)

    @property
    def own_blocks(self) -> list[bytes]:
        return [block for (who, _), blocks in self.wire.feeds.items() if who == self.member for block in blocks]


class Consortium:
    """All boxes of a roster, their wire, the day and the hour."""

    def __init__(self, tmp_path: Path, roster: Roster, values: Sequence[Sequence[float] | None], seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.wire = Wire()
        self.roster = roster
        self.today: date = due_day(WINDOW, roster.policy)
        self.now_s = 1000.0
        self.boxes = [
            SummingBox(tmp_path / str(number), self.wire, member.id, roster, values[number], 1000 * seed + number)
            for number, member in enumerate(roster.writers)
        ]

    @property
    def online(self) -> list[SummingBox]:
        return [box for box in self.boxes if box.member not in self.wire.offline]

    async def step(self, boxes: Sequence[SummingBox] | None = None) -> None:
        """Each of these that is there hears and does what is due, in any order."""
        order = [box for box in (self.boxes if boxes is None else boxes) if box.member not in self.wire.offline]
        self.rng.shuffle(order)
        for box in order:
            self.wire.share()
            box.pull(self.rng)
            await box.desk.tick(Moment(self.today, self.now_s))

    async def hours(self, count: float) -> None:
        """Time passes; a day is over after 24 hours."""
        before = self.now_s
        self.now_s += count * HOUR
        self.today += timedelta(days=int(self.now_s // (24 * HOUR)) - int(before // (24 * HOUR)))

    async def settle(self, most: int = 40) -> None:
        """Until nobody who is there says anything more at this hour."""
        for _ in range(most):
            before = {place: len(blocks) for place, blocks in self.wire.feeds.items()}
            await self.step()
            if {place: len(blocks) for place, blocks in self.wire.feeds.items()} == before:
                return

    async def all_hear(self) -> None:
        """Everybody is back and has heard everything."""
        self.wire.offline.clear()
        await self.settle()
        await self.step()

    def sums(self) -> list[tuple[float, int, int] | None]:
        return [box.sum for box in self.boxes]


LIVE = NetworkPolicy(
    live_use=True,
    lag_weeks=0,
    owners_min=1,
    privacy=replace(NetworkPolicy().privacy, lag_weeks=0, owners_min=1, rho_milli=500, rho_year_milli=53_000),
)
SPENT = Caps(Spent(), Spent())
__all__ = ["Shop"]
