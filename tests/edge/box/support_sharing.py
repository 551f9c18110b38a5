"""Shops that share: a state folder with a ledger, its views and its networks; without tills, broker and prices.

Days are made by `sell`: every item at a price that differs from week to week, at quantities that answer it, so that a
quarter of a year says something about demand.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from random import Random
from types import SimpleNamespace

from prometheus_client import CollectorRegistry
from support_network_boxes import Hands, bring_roster, until

from edge.box.ledger import Ledger
from edge.box.records import DayCause, DayRecord, encode
from edge.box.sharing import Sharing
from edge.box.startup import read_views
from edge.box.views import Views
from edge.config import Config, ShopConfig
from edge.health.checks import HealthChecks
from edge.hypercore.corestore import Corestore
from edge.networks.access import FEEDS
from edge.networks.authority import authority, found
from edge.networks.folder import NetworkFolder, signer_of
from edge.networks.joining import JoinRequest
from edge.networks.metrics import NetworkMetrics
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import Role
from edge.networks.roster_changes import Guest
from edge.networks.settings import NetworkSettings
from edge.records import ledger as records
from edge.records.item import Item
from edge.records.ledger import ReceiptRecord
from edge.records.message import Network
from edge.records.receipt import Receipt, ReceiptKind, ReceiptLine, TillPosition

MONDAY = date(2026, 1, 5)
GLN = "2900000000018"
CLOCK = Hands()
ITEMS = (
    Item("juice-1", "Juice 1", "juice", 299, 15_000),
    Item("juice-2", "Juice 2", "juice", 349, 20_000),
    Item("milk-1", "Milk 1", "milk", 119, 8_000),
)


@dataclass
class Shop:
    """One shop. `start` and `stop` as often as you like; `stop(crash=True)` keeps nothing that was not kept before."""

    state: Path
    seed: int = 0
    settings: Mapping[str, NetworkSettings] = field(default_factory=dict)
    day: date = MONDAY  # the next to be sold
    refused: list[str] = field(default_factory=list)
    _sequence: int = 0
    _running: "asyncio.Task[None] | None" = None

    async def start(self, *, run: bool = True) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        self.ledger = await Ledger.open(self.state)
        shop = ShopConfig(gln=GLN, currency="EUR", state_dir=str(self.state))
        self.views: Views = (await read_views(Config(shop), self.ledger))[0]
        self.health = HealthChecks(CLOCK)
        if not self.ledger.length:
            for record in records.items_records(ITEMS, [], "item file", CLOCK.wall()):
                await self.log(records.encode(record))
        try:
            self.sharing = await Sharing.open(
                self.state,
                self.settings,
                ledger=self.ledger,
                views=self.views,
                clock=CLOCK,
                health=self.health,
                metrics=NetworkMetrics(CollectorRegistry()),
                on_refused=self.refused.append,
            )
        except BaseException:
            await self.ledger.core.close()
            raise
        if run:
            self._running = asyncio.create_task(self.sharing.run())

    async def stop(self, *, crash: bool = False) -> None:
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
        self._running = None
        if crash:  # what a power cut leaves: nothing is saved, and the files are let go of
            for share in self.sharing.shares:
                share.sync = None
                share._figures._anonymisers.clear()
        await self.sharing.close()
        await self.ledger.core.close()

    # --- selling ------------------------------------------------------------------------------------------------------

    async def log(self, block: bytes) -> int:
        """Make a record durable and apply it, as the box does."""
        index = await self.ledger.append([block], urgent=True)
        self.views.replay(index, block)
        return index

    async def ring(self, *lines: ReceiptLine, day: date | None = None, voids: int | None = None) -> int:
        """A receipt, or the post-void of the one of that number; its own number."""
        self._sequence += 1
        kind = ReceiptKind.SALE if voids is None else ReceiptKind.POST_VOID
        target = None if voids is None else TillPosition(1, voids)
        given = Receipt("1", TillPosition(1, self._sequence), kind, day or self.day, 0, "EUR", lines, voids=target)
        await self.log(records.encode(ReceiptRecord(given, CLOCK.wall())))
        self.views.prices.sync()
        return self._sequence

    async def sell(self, days: int, *, receipts: int = 1) -> None:
        """So many days, each closed."""
        for _ in range(days):
            week = (self.day - MONDAY).days // 7
            random = Random(f"{self.seed} {week}")
            prices = {item.sku: round(item.reference_minor * random.uniform(0.85, 1.1)) for item in ITEMS}
            for number in range(receipts):
                lines = []
                for item in ITEMS:
                    answer = (prices[item.sku] / item.reference_minor) ** -2.0
                    pieces = max(1, round(12 * answer * random.uniform(0.9, 1.1) / receipts)) if number < 12 else 1
                    lines.append(ReceiptLine(item.sku, 1000 * pieces, prices[item.sku], pieces * prices[item.sku]))
                await self.ring(*lines)
            await self.close_day()

    async def close_day(self) -> None:
        await self.log(encode(DayRecord(self.day, DayCause.TILLS, CLOCK.wall())))
        self.day += timedelta(days=1)
        self.views.prices.day_closed()

    # --- what it knows ------------------------------------------------------------------------------------------------

    @property
    def tree(self) -> dict[str, object]:
        """Of its only network, as `pomona peers` tells it."""
        (found,) = self.sharing.peers()["networks"]
        return dict(found)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.tree['listening']}"

    def own_feeds(self) -> dict[str, int]:
        """Blocks of each feed that it writes."""
        node = self.sharing.shares[0].node
        assert node is not None
        return {kind.name: length for kind, length in node.feeds.lengths().items()}

    def check(self, name: str) -> tuple[str, str]:
        """State and reason of a health check; empty where it was never made."""
        found = self.health.tree()["checks"].get(name, {})  # type: ignore[attr-defined]
        return found.get("state", ""), found.get("reason", "")


async def found_network(
    root: Path,
    shops: Sequence[Shop],
    network: Network = Network.PRIVATE,
    *,
    policy: NetworkPolicy | None = None,
    owners: Sequence[str] = (),
    name: str = "chain",
    open_: bool = False,
) -> None:
    """An office founds a network and takes the shops in; each has the roster then."""
    folder = await found(root / "office", name, network, policy or NetworkPolicy.for_new(network), open_=open_)
    async with await Corestore.open(folder.store_directory) as store, authority(folder, store) as boss:
        for number, shop in enumerate(shops):
            owner = owners[number] if owners else "acme"
            (code,), _ = await boss.invite([Guest(owner, Role.SHOP)], expires=2904, week=2900)
            stored = NetworkFolder.directory_of(shop.state, name) / "store"
            identity = NetworkFolder.store_of(shop.state, name).identity()
            NetworkFolder.create(shop.state, name, code.network_id, code.network, code.root)
            signers = {kind: signer_of(stored, kind) for kind in FEEDS[code.network]}
            await boss.admit(JoinRequest.make(code, identity, signers).encode(), week=2900)
    async with await Corestore.open(folder.store_directory) as store:
        office = SimpleNamespace(folder=folder, running=SimpleNamespace(store=store))
        for shop in shops:
            member = NetworkFolder.open(shop.state, name)
            box = SimpleNamespace(folder=member, store_directory=member.store_directory)
            await bring_roster(office, box)  # type: ignore[arg-type]


async def open_all(shops: Sequence[Shop], name: str = "chain", **more: object) -> None:
    """Start them, each dialling those before it."""
    peers: list[str] = []
    for shop in shops:
        shop.settings = {name: NetworkSettings(listen="127.0.0.1:0", peers=tuple(peers), **more)}  # type: ignore[arg-type]
        await shop.start()
        await until(lambda shop=shop: bool(shop.tree["listening"]))  # type: ignore[misc]
        peers.append(shop.address)


async def stop_all(shops: Sequence[Shop]) -> None:
    for shop in shops:
        await shop.stop()
