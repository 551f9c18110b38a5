"""One shop between three networks, its raw records full of canaries, and a search of everything that left.

A trial is drawn from one seed: rules and rosters, receipts in which every SKU, price, quantity, amount, lane, position
and time occurs once, and the raw payloads made of them. They go the real way out: `Anonymiser`, the privacy ledger,
`Released` and `Cleared`, the outlets, cores on a disk. What may not go that way is tried as well, and must be refused.
Then the decrypted blocks of the looser feeds, and every file of their stores, are searched for the canaries.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from support_privacy import Disk
from support_shared import NOW, epoch_of, monday_ms, network_of, shop_of

from edge.clock import WallTime
from edge.crypto.hashing import hash256
from edge.encoding import cbor
from edge.errors import LocalError, RecordInvalid
from edge.hypercore.corestore import Corestore
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.store import FeedStore
from edge.memory.validator import DataValidator
from edge.networks.access import FEEDS, FeedKind
from edge.networks.epochs import Epoch
from edge.networks.feeds import encryption_key
from edge.networks.folder import NetworkFolder, signer_of
from edge.networks.following import Arrival
from edge.networks.outlet import ConsortiumOutlet, OwnFeed, OwnFeeds, PrivateOutlet, PublicOutlet, outlet_of
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import Member, Role, Roster
from edge.privacy.aggregate import Window
from edge.privacy.anonymiser import Anonymiser, Terms
from edge.privacy.budget import caps_of
from edge.privacy.histogram import E4, Ladder
from edge.privacy.identifiers import Listed, PublicList
from edge.privacy.released import Released, cleared
from edge.privacy.rules import PrivacyRefused, PrivacyRules
from edge.records.history import week_start
from edge.records.market import MarketTrend, PricePoint, PriceRange
from edge.records.message import Network, decode
from edge.records.receipt import Receipt, ReceiptKind, ReceiptLine, TillPosition
from edge.records.shared import (
    DayRow,
    ItemDay,
    Payload,
    PriceRow,
    PriceUpdate,
    Protection,
    RangeUpdate,
    TrendRow,
    TrendUpdate,
    Unit,
)

CATEGORIES = ("dairy", "bakery", "drinks")
START = 2912  # a week that every window's length divides
PATTERN_BYTES_MIN = 8  # of what is searched for in bytes that look random: stores, where they are encrypted


class Hands:
    """A clock that stands still."""

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> WallTime:
        return NOW


@dataclass
class Canaries:
    """Values that occur nowhere but in raw records."""

    forbidden: frozenset[int]  # that a lawful release may happen to say
    count: int = 0
    texts: set[str] = field(default_factory=set)
    numbers: set[int] = field(default_factory=set)

    def text(self, prefix: str) -> str:
        self.count += 1
        found = f"{prefix}{self.count * 2_654_435_761 % 2**40:013}"
        self.texts.add(found)
        return found

    def number(self, low: int, high: int) -> int:
        """A new number of the range, at least 65,536: no float, length or week looks like it."""
        while True:
            self.count += 1
            found = low + self.count * 2_654_435_761 % (high - low)
            if found not in self.forbidden and found not in self.numbers:
                self.numbers.add(found)
                return found

    def patterns(self) -> dict[int, set[bytes]]:
        """Bytes to look for, by their length: as CBOR, as text, as words of either order."""
        found: dict[int, set[bytes]] = {}
        forms: list[bytes] = [text.encode() for text in self.texts]
        for number in self.numbers:
            forms += (str(number).encode(), cbor.encode(number))
            if number >= 2**32:
                forms += (number.to_bytes(8, "big"), number.to_bytes(8, "little"))
        for form in forms:
            found.setdefault(len(form), set()).add(form)
        return found


def hits(data: bytes, patterns: dict[int, set[bytes]], *, least: int = 0) -> int:
    """How many places of `data` hold a pattern of `least` bytes or more. Long runs of zeros are passed over."""
    found = 0
    for piece in re.split(rb"\x00{64,}", data):
        for size, wanted in patterns.items():
            if size >= least:
                found += sum(piece[at : at + size] in wanted for at in range(len(piece) - size + 1))
    return found


def numbers_in(value: object) -> Iterator[int]:
    """Every number of a decoded value, floats that are whole among them."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        for member in value:
            yield from numbers_in(member)
    elif isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        yield int(value)


class Side:
    """This shop's feeds in one network, on a disk of their own."""

    def __init__(self, directory: Path, network: Network, policy: NetworkPolicy, owners: int, *, open_: bool) -> None:
        self.directory, self.network = directory, network
        FeedStore(directory).identity()
        signers = {kind: signer_of(directory, kind).public_key for kind in FEEDS[network]}
        self.member = Member(hash256(b"this shop", network.encode()), "owner 0", Role.SHOP, signers, 1)
        others = [shop_of(network, n, owner=f"owner {n % owners}") for n in range(1, 7)]
        roster = network_of(network, others, policy=policy)
        self.roster: Roster = replace(roster, members={**roster.members, self.member.id: self.member}, open=open_)
        self.epoch: Epoch = epoch_of(1, network)
        self.cores: dict[FeedKind, Hypercore] = {}

    async def feeds(self, store: Corestore) -> OwnFeeds:
        """As a node makes them (`NetworkNode._own_feed`)."""
        feeds = OwnFeeds(self.roster.network_id, self.network, Hands())
        own = {}
        for kind in FEEDS[self.network]:
            signer = signer_of(self.directory, kind)
            self.cores[kind] = core = await store.get_under(
                f"epoch-1/{kind.name.lower()}",
                self.epoch.manifest(kind, signer.public_key),
                signer=NetworkFolder.signer_name(kind),
                encryption_key=encryption_key(self.roster, self.epoch),
            )
            own[kind] = OwnFeed(kind, 1, core, signer)
        await feeds.move(own)
        return feeds

    def blocks(self) -> list[tuple[FeedKind, int, bytes]]:
        """All that stands in the feeds, decrypted."""
        return [(kind, n, core.get(n)) for kind, core in self.cores.items() for n in range(core.length)]

    def said(self) -> bytes:
        """The blocks without their signatures, which are as good as random."""
        values: list[Any] = [cbor.decode(block) for _, _, block in self.blocks()]
        for value in values:
            value["data"]["signature"] = b""
        return b"".join(map(cbor.encode, values))

    def stored(self) -> bytes:
        """Every file."""
        return b"".join(path.read_bytes() for path in sorted(self.directory.rglob("*")) if path.is_file())

    def accept(self, week_now: int) -> int:
        """What another box's gate takes of it: everything, or it raises."""
        gate, blocks = DataValidator(self.roster.network_id), self.blocks()
        for kind, n, block in blocks:
            arrival = Arrival(self.roster.network_id, self.member.id, kind, 1, self.cores[kind].key, n, block)
            gate.validate_network_data(arrival, roster=self.roster, epochs={1: self.epoch}, wall=NOW, week_now=week_now)
        return len(blocks)


@dataclass(frozen=True)
class Outcome:
    """What a trial found."""

    raw: int  # receipts with canaries; the raw payloads made of them are not counted again
    canaries: int
    left: int  # messages in looser feeds
    left_bytes: int
    refused: int  # attempts that had to be
    found: int  # canaries in looser feeds, or in a store


class Trial:
    """One shop for one window."""

    def __init__(self, seed: int, receipts: int) -> None:
        rng = self.rng = Random(seed)
        item_level = rng.random() < 0.4
        lag = rng.choice((0, 4, 13))
        self.rules = PrivacyRules(
            epsilon_milli=rng.choice((100, 1000, 2000)),
            window_weeks=rng.choice((1, 4, 13)),
            lag_weeks=lag,
            receipts_min=rng.choice((1, 20, 200)),
            shops_min=rng.choice((1, 3)),
            receipt_cells_max=rng.choice((1, 4)),
            ladder_percent=rng.choice((30, 50, 90)),
            ladder_rungs=rng.choice((4, 16, 64)),
            item_level=item_level,
        )
        self.owners = rng.choice((1, 1, 1, 5))
        self.policy = NetworkPolicy(lag_weeks=lag, owners_min=1, item_level=item_level, privacy=self.rules)
        self.window = Window(START, self.rules.window_weeks)
        self.week_now = self.window.end + lag
        self.refused = 0
        lists = {name: [rng.randrange(2_000_000, 50_000_000) for _ in range(4)] for name in CATEGORIES}
        edges = Ladder(self.rules.ladder_percent, self.rules.ladder_rungs).edges_e4
        prices = [price for found in lists.values() for price in found]
        sayable = {value for price in prices for e in edges for value in (price * e // E4, -(-price * e // E4))}
        self.canaries = Canaries(frozenset(sayable | set(prices)))
        # What hangs at the shelf is public: its SKUs are canaries only where no item may be named.
        name = self.canaries.text if not item_level else (lambda prefix: f"{prefix}{rng.randrange(10**12):012}")
        self.listed = PublicList(
            "EUR", [Listed(name("P-"), category, price) for category, found in lists.items() for price in found]
        )
        self.receipts = [self._receipt(n) for n in range(receipts)]
        self.payloads = self._payloads()

    # --- raw records --------------------------------------------------------------------------------------------------

    def _receipt(self, number: int) -> Receipt:
        rng, canaries = self.rng, self.canaries
        lines = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            item = rng.choice(list(self.listed.items.values()))
            sku = item.sku if rng.random() < 0.85 else canaries.text("U-")
            near = rng.random() < 0.7  # about the list price, as honest prices are
            low, high = (item.list_minor // 2, item.list_minor * 3 // 2) if near else (70_000, 100_000_000)
            lines.append(
                ReceiptLine(
                    sku,
                    canaries.number(70_000, 100_000_000),
                    canaries.number(low, high),
                    canaries.number(5_000_000_000, 100_000_000_000),
                )
            )
        return Receipt(
            lane=canaries.text("LANE-"),
            position=TillPosition(canaries.number(2**40, 2**41), canaries.number(2**41, 2**42)),
            kind=ReceiptKind.SALE,
            business_day=week_start(START + number % self.rules.window_weeks),
            wall_ms=canaries.number(2**39, 2**40),
            currency="EUR",
            lines=tuple(lines),
            book=canaries.number(2**42, 2**43),
        )

    def _payloads(self) -> list[Payload]:
        """Raw payloads of the listed items' lines: day totals and a week's prices by category."""
        found: list[Payload] = []
        point_ms = monday_ms(START)
        for category in CATEGORIES:
            lines = [
                line
                for receipt in self.receipts[:400]
                for line in receipt.lines
                if line.sku in self.listed.items and self.listed.items[line.sku].category == category
            ]
            if not lines:
                continue
            rows = sorted((line.sku, line.unit_minor, line.quantity_milli, line.amount_minor) for line in lines)
            found.append(ItemDay(week_start(START), category, "EUR", tuple(DayRow(*row) for row in rows)))
            weeks = {
                line.sku: PriceRow(
                    line.sku,
                    PricePoint(point_ms, PriceRange(line.unit_minor, line.unit_minor), 0.5, 0.5),
                    line.unit_minor,
                    line.quantity_milli,
                )
                for line in lines
            }
            found.append(PriceUpdate(category, START, "EUR", tuple(weeks[sku] for sku in sorted(weeks))))
        return found

    # --- the way out --------------------------------------------------------------------------------------------------

    async def run(self, folder: Path) -> Outcome:
        """Send, try what is forbidden, search."""
        private = Side(folder / "private", Network.PRIVATE, NetworkPolicy(), 1, open_=False)
        consortium = Side(folder / "consortium", Network.CONSORTIUM, self.policy, self.owners, open_=False)
        public = Side(folder / "public", Network.PUBLIC, self.policy, 1, open_=self.rng.random() < 0.5)
        sides = (private, consortium, public)
        stores = [await Corestore.open(side.directory) for side in sides]
        try:
            feeds = [await side.feeds(store) for side, store in zip(sides, stores, strict=True)]
            inside, between, outside = (outlet_of(each) for each in feeds)
            assert isinstance(inside, PrivateOutlet)
            assert isinstance(between, ConsortiumOutlet)
            assert isinstance(outside, PublicOutlet)
            disk = Disk()
            ledger = disk.ledger(caps_of([self.rules]))
            ways = [self._way(side, ledger) for side in sides]
            for way in ways:
                for position, receipt in enumerate(self.receipts):
                    way.add(position, receipt)
            await inside.append_all([ways[0].clear(payload) for payload in self.payloads])
            released = await self._release(ways[1], between)
            await self._derive(ways[2], released, outside)
            await self._try(ways, feeds, between, outside)
            if self.owners == 1:
                accepted = consortium.accept(self.week_now), public.accept(self.week_now)
                assert accepted[0] == sum(len(token.records) for token in released)
            return self._searched(private, (consortium, public))
        finally:
            for store in stores:
                await store.close()

    def _way(self, side: Side, ledger: Any) -> Anonymiser:
        owners = len({member.owner for member in side.roster.members.values()})
        terms = Terms(side.roster.network_id, side.network, owners, len(side.roster.members), self.rules)
        return Anonymiser(terms, self.listed, ledger, self.rng.getrandbits, START)

    async def _release(self, way: Anonymiser, outlet: ConsortiumOutlet) -> list[Released]:
        found = []
        for request in way.due(self.week_now):
            token = await way.release(request)
            await outlet.append(token)
            found.append(token)
        assert bool(found) is (self.owners == 1)  # between owners nothing of one shop leaves
        return found

    async def _derive(self, way: Anonymiser, released: list[Released], outlet: PublicOutlet) -> None:
        """Public trends of what was released, by somebody who tries to let canaries through."""
        note = Protection(Unit.RECEIPT, self.rules.epsilon_milli * 1000, 0, 0.01, 12, 1)
        week = self.window.end - 1
        own = [token for token in released if token.records]
        heard = [RangeUpdate("dairy", week, 1, "EUR", self._any_range(released), note)] if own else []
        trend = MarketTrend(week, 0.01, 0.1, 1.0)
        for category in CATEGORIES if own else ():
            skus = sorted(item.sku for item in self.listed.items.values() if item.category == category)
            rows = tuple(TrendRow(sku, trend, 0.1, 0.1, 0.1) for sku in ("", *skus))
            made = TrendUpdate(category, week, rows, note)
            token = await way.derive(TrendUpdate, category, self.window, own=own, heard=heard, make=_always(made))
            await outlet.append(token)

    def _any_range(self, released: list[Released]) -> tuple[Any, ...]:
        (rows, *_) = [record.rows for token in released for record in token.records if isinstance(record, RangeUpdate)]
        return rows[:1]

    async def _try(
        self, ways: list[Anonymiser], feeds: list[OwnFeeds], between: ConsortiumOutlet, outside: PublicOutlet
    ) -> None:
        """All the ways by which a raw record could leave by mistake. Each is refused."""
        raw = self.payloads[: self.rng.randrange(1, 4)]
        for payload in raw:
            for way in ways[1:]:
                self._must(PrivacyRefused, lambda way=way, payload=payload: way.clear(payload))
            for own, outlet in ((feeds[1], between), (feeds[2], outside)):
                await self._must_async(RecordInvalid, own._append([payload]))
                for network in (feeds[0].network_id, own.network_id):  # a token of a private network, and one made up
                    token: Any = cleared(network, payload, self.listed)
                    await self._must_async((RecordInvalid, AttributeError), outlet.append(token))
                self._must(LocalError, lambda own=own: PrivateOutlet(own))
        unlisted = replace(self.payloads[0], category=self.canaries.text("CAT-"))
        self._must(PrivacyRefused, lambda: ways[0].clear(unlisted))

    def _must(self, error: type[Exception], call: Any) -> None:
        try:
            call()
        except error:
            self.refused += 1
            return
        raise AssertionError("a raw record was let through")

    async def _must_async(self, errors: Any, call: Any) -> None:
        try:
            await call
        except errors:
            self.refused += 1
            return
        raise AssertionError("a raw record was appended")

    # --- the search ---------------------------------------------------------------------------------------------------

    def _searched(self, private: Side, looser: Iterable[Side]) -> Outcome:
        patterns = self.canaries.patterns()
        planted = self._planted()
        assert planted, "there is nothing to find"
        assert hits(private.said(), patterns) >= planted, "the search does not find what is there"
        found = hits(private.stored(), patterns, least=PATTERN_BYTES_MIN)  # encrypted: nothing is there to be seen
        left = left_bytes = 0
        for side in looser:
            said = side.said()
            found += hits(said, patterns) + hits(side.stored(), patterns, least=PATTERN_BYTES_MIN)
            for _, _, block in side.blocks():
                message = decode(block)
                assert not isinstance(message.payload, ItemDay | PriceUpdate)
                value: Any = cbor.decode(block)
                found += sum(number in self.canaries.numbers for number in numbers_in(value["data"]["payload"]))
                left, left_bytes = left + 1, left_bytes + len(block)
        return Outcome(len(self.receipts), self.canaries.count, left, left_bytes, self.refused, found)

    def _planted(self) -> int:
        """Numbers of raw rows that stand in the private feeds, at least."""
        return sum(3 * len(payload.rows) for payload in self.payloads if isinstance(payload, ItemDay))


def _always(made: TrendUpdate) -> Callable[[object, object], TrendUpdate]:
    return lambda _records, _counts: made


def trial(seed: int, receipts: int, folder: Path) -> Outcome:
    """Run trial `seed`."""
    return asyncio.run(Trial(seed, receipts).run(folder))
