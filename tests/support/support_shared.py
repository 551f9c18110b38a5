"""Payloads, messages, members and rosters for tests: Hypothesis strategies, and plain makers for fixed cases.

payloads()                          any payload; or item_days(), price_updates(), range_updates(), ...
payload_of(kind, ...)               one small honest payload of a kind
Shop, network_of(...)               members with their keys, and the roster and the epochs they stand in
signed(message, place, key_pair)    the message with its signature
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from hypothesis import strategies as st

from edge.clock import BUILD_WALL_MS, ClockQuality, WallTime
from edge.crypto.hashing import hash256
from edge.crypto.keys import KeyPair
from edge.limits import INTEGER_MAX, PRICE_MINOR_MAX
from edge.networks.access import FEEDS, FeedKind
from edge.networks.epochs import Epoch
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import WRITERS, Member, Revocation, Role, Roster
from edge.records.history import week_of, week_start
from edge.records.market import MarketTrend, PricePoint, PriceRange
from edge.records.message import Network, NetworkMessage, Place, encode, signable
from edge.records.shared import (
    ERROR_MAX,
    TERMS,
    UNPROTECTED,
    WEEK_MAX,
    Coefficient,
    DayRow,
    InsightRow,
    ItemDay,
    ModelInsight,
    Payload,
    PriceRow,
    PriceUpdate,
    Protection,
    RangeRow,
    RangeUpdate,
    TrendRow,
    TrendUpdate,
    Unit,
)

PAYLOADS: tuple[type[Payload], ...] = (ItemDay, PriceUpdate, RangeUpdate, TrendUpdate, ModelInsight)
DAY_MS = 86_400_000
NOW = WallTime(BUILD_WALL_MS + 60 * DAY_MS, ClockQuality.SYNCED)
WEEK_NOW = week_of(date.fromordinal(date(1970, 1, 1).toordinal() + NOW.ms // DAY_MS))
SKU_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

# --- strategies -------------------------------------------------------------------------------------------------------

weeks = st.integers(0, WEEK_MAX)
prices = st.integers(0, PRICE_MINOR_MAX)
amounts = st.integers(-INTEGER_MAX, INTEGER_MAX)
currencies = st.sampled_from(("EUR", "USD", "JPY", "KWD"))
categories = st.text(st.characters(categories=("L", "N", "P"), include_characters=" "), min_size=1, max_size=64).filter(
    str.isprintable
)
skus = st.builds(str.__add__, st.sampled_from(SKU_LETTERS), st.text(st.sampled_from(SKU_LETTERS + "._-"), max_size=20))


def reals(low: float, high: float) -> st.SearchStrategy[float]:
    """Finite floats of a range, both ends and both zeros among them."""
    return st.floats(low, high, allow_nan=False)


def monday_ms(week: int) -> int:
    """A week's Monday at midnight, UTC: the timestamp of its price points."""
    return (week_start(week).toordinal() - date(1970, 1, 1).toordinal()) * DAY_MS


ranges = st.lists(prices, min_size=2, max_size=2).map(sorted).map(lambda ends: PriceRange(*ends))
protections = st.one_of(
    st.just(UNPROTECTED),
    st.integers(1, 1_000_000).flatmap(
        lambda shops: st.builds(
            Protection,
            unit=st.sampled_from((Unit.RECEIPT, Unit.OWNER_WEEK)),
            epsilon_micro=st.integers(1, 1_000_000_000),
            delta_pico=st.integers(0, 1_000_000_000_000),
            deviation=reals(0.0, ERROR_MAX),
            shops=st.just(shops),
            owners=st.integers(1, shops),
        )
    ),
)


def _rows(row: st.SearchStrategy[Any], most: int, *, category: bool) -> st.SearchStrategy[tuple[Any, ...]]:
    """Rows in ascending order of their SKUs, each once; with the row of the category itself among them, or not."""
    one = st.tuples(skus | st.just("") if category else skus, row)
    many = st.lists(one, min_size=1, max_size=most, unique_by=lambda pair: pair[0])
    return many.map(lambda pairs: tuple(make(sku) for sku, make in sorted(pairs, key=lambda pair: pair[0])))


def item_days(most: int = 5) -> st.SearchStrategy[ItemDay]:
    """Totals of a day; an item may have several prices."""
    row = st.builds(DayRow, skus, prices, amounts, amounts)
    rows = st.lists(row, min_size=1, max_size=most, unique_by=lambda row: (row.sku, row.price_minor))
    ordered = rows.map(lambda found: tuple(sorted(found, key=lambda row: (row.sku, row.price_minor))))
    return st.builds(ItemDay, st.dates(), categories, currencies, ordered)


def price_updates(most: int = 5) -> st.SearchStrategy[PriceUpdate]:
    """A week of prices; every point is of that week's Monday."""

    def of(week: int) -> st.SearchStrategy[PriceUpdate]:
        point = st.builds(PricePoint, st.just(monday_ms(week)), ranges, reals(-1.0, 1.0), reals(0.0, 1.0))
        row = st.builds(
            lambda point, reference, units: lambda sku: PriceRow(sku, point, reference, units),
            point,
            prices,
            st.integers(0, INTEGER_MAX),
        )
        return st.builds(PriceUpdate, categories, st.just(week), currencies, _rows(row, most, category=False))

    return weeks.flatmap(of)


def range_updates(most: int = 5) -> st.SearchStrategy[RangeUpdate]:
    """Price ranges over 1 to 53 weeks."""
    row = st.builds(
        lambda span, mean, spread: lambda sku: RangeRow(sku, span, mean, spread),
        ranges,
        reals(-5.0, 5.0),
        reals(0.0, 5.0),
    )
    rows = _rows(row, most, category=True)
    return st.builds(RangeUpdate, categories, weeks, st.integers(1, 53), currencies, rows, protections)


def trend_updates(most: int = 5) -> st.SearchStrategy[TrendUpdate]:
    """Trends, all of the update's own week."""

    def of(week: int) -> st.SearchStrategy[TrendUpdate]:
        trend = st.builds(MarketTrend, st.just(week), reals(-1.0, 1.0), reals(0.0, 10.0), reals(0.25, 4.0))
        errors = st.tuples(*[reals(0.0, ERROR_MAX)] * 3)
        row = st.builds(lambda trend, errors: lambda sku: TrendRow(sku, trend, *errors), trend, errors)
        return st.builds(TrendUpdate, categories, st.just(week), _rows(row, most, category=True), protections)

    return weeks.flatmap(of)


def model_insights(most: int = 5) -> st.SearchStrategy[ModelInsight]:
    """Estimates of some of the coefficients."""
    one = st.builds(Coefficient, reals(-20.0, 20.0), reals(1e-6, ERROR_MAX))
    some = st.dictionaries(st.sampled_from(TERMS), one, min_size=1)
    terms = some.map(lambda found: tuple((name, found[name]) for name in TERMS if name in found))
    row = st.builds(lambda weeks, terms: lambda sku: InsightRow(sku, weeks, terms), weeks, terms)
    return st.builds(ModelInsight, categories, weeks, _rows(row, most, category=True), protections)


def payloads(most: int = 5) -> st.SearchStrategy[Payload]:
    """Any payload, of `most` rows at most."""
    kinds = (item_days(most), price_updates(most), range_updates(most), trend_updates(most), model_insights(most))
    return st.one_of(*kinds)


wall_times = st.builds(WallTime, st.integers(0, INTEGER_MAX), st.sampled_from(ClockQuality))
key_pairs = st.binary(min_size=32, max_size=32).map(KeyPair.from_seed)
keys = st.binary(min_size=32, max_size=32)
places = st.builds(Place, keys, keys, st.integers(0, INTEGER_MAX))


def messages(payload: st.SearchStrategy[Payload] | None = None) -> st.SearchStrategy[NetworkMessage]:
    """Messages of any network, not signed. What the matrix says of them is not looked at."""
    return st.builds(NetworkMessage, st.sampled_from(Network), wall_times, payload or payloads())


# --- fixed cases ------------------------------------------------------------------------------------------------------


def signed(message: NetworkMessage, place: Place, key_pair: KeyPair) -> NetworkMessage:
    """The message as `key_pair` signs it at this place."""
    return replace(message, signature=key_pair.sign(signable(message, place)))


def payload_of(
    kind: type[Payload],
    *,
    week: int = WEEK_NOW - 1,
    category: str = "dairy",
    skus: Iterable[str] = ("4012345678901", "4012345678918"),
    protection: Protection = UNPROTECTED,
) -> Payload:
    """An honest payload. `skus` "" is the category's own row; raw kinds cannot have it."""
    names = sorted(skus)
    if kind is ItemDay:
        days = tuple(DayRow(sku, 199 + n, 12_000, 12 * (199 + n)) for n, sku in enumerate(names))
        return ItemDay(week_start(week), category, "EUR", days)
    if kind is PriceUpdate:
        points = [PricePoint(monday_ms(week), PriceRange(189 + n, 199 + n), 0.25, 0.5) for n in range(len(names))]
        rows = tuple(PriceRow(sku, point, 199, 84_000) for sku, point in zip(names, points, strict=True))
        return PriceUpdate(category, week, "EUR", rows)
    if kind is RangeUpdate:
        spans = tuple(RangeRow(sku, PriceRange(150, 250), -0.02, 0.07) for sku in names)
        return RangeUpdate(category, week, 4, "EUR", spans, protection)
    if kind is TrendUpdate:
        trend = MarketTrend(week, 0.01, 0.2, 1.1)
        return TrendUpdate(category, week, tuple(TrendRow(sku, trend, 0.004, 0.05, 0.03) for sku in names), protection)
    terms = (("price", Coefficient(-2.1, 0.3)), ("others", Coefficient(0.4, 0.2)))
    return ModelInsight(category, week, tuple(InsightRow(sku, 40, terms) for sku in names), protection)


@dataclass(frozen=True, slots=True)
class Shop:
    """A member with the keys that only it has."""

    member: Member
    connection: KeyPair
    signers: Mapping[FeedKind, KeyPair]

    def place(self, network_id: bytes, epoch: Epoch, kind: FeedKind, sequence: int) -> Place:
        """Where its message stands."""
        return Place(network_id, epoch.feed_key(kind, self.signers[kind].public_key), sequence)

    def block(
        self, roster: Roster, epoch: Epoch, kind: FeedKind, sequence: int, payload: Payload, **more: Any
    ) -> bytes:
        """The signed block of `payload`; `more` replaces fields of the message before it is signed."""
        message = replace(NetworkMessage(roster.network, NOW, payload), **more)
        place = self.place(roster.network_id, epoch, kind, sequence)
        return encode(signed(message, place, self.signers[kind]))


def shop_of(
    network: Network, number: int, *, owner: str = "acme", role: Role = Role.SHOP, since_epoch: int = 1
) -> Shop:
    """Shop `number`, whose keys follow from its number and network."""
    seed = f"{network}/{number}".encode()
    connection = KeyPair.from_seed(hash256(b"connection", seed))
    kinds = FEEDS[network] if role in WRITERS else ()
    signers = {kind: KeyPair.from_seed(hash256(b"signer", seed, bytes((kind,)))) for kind in kinds}
    publics = {kind: pair.public_key for kind, pair in signers.items()}
    return Shop(Member(connection.public_key, owner, role, publics, since_epoch), connection, signers)


def epoch_of(number: int, network: Network = Network.PRIVATE) -> Epoch:
    """Epoch `number`, whose secret follows from number and network."""
    return Epoch(number, hash256(b"epoch", network.encode(), number.to_bytes(4, "big")))


def network_of(
    network: Network,
    shops: Iterable[Shop],
    *,
    policy: NetworkPolicy | None = None,
    epoch: int = 1,
    revoked: Iterable[Revocation] = (),
) -> Roster:
    """The roster of these shops."""
    gone = {revocation.member.id: revocation for revocation in revoked}
    return Roster(
        network_id=hash256(b"roster", network.encode()),
        network=network,
        name=f"the {network} network",
        version=7,
        epoch=epoch,
        policy=policy or NetworkPolicy(),
        members={shop.member.id: shop.member for shop in shops if shop.member.id not in gone},
        revoked=gone,
    )
