"""The gate on the way in: honest messages pass, each attack is refused for its own reason, refusals change nothing."""

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from support_shared import (
    DAY_MS,
    NOW,
    WEEK_NOW,
    Shop,
    epoch_of,
    network_of,
    payload_of,
    shop_of,
    signed,
)

from edge.clock import ClockQuality, WallTime
from edge.crypto.keys import KeyPair
from edge.encoding import cbor
from edge.errors import LocalError, RemoteError
from edge.health.metrics import SharedMetrics, check_conventions, series
from edge.limits import EPOCHS_READ_MAX, MESSAGE_BYTES_MAX, STRIKES_MAX
from edge.memory.validator import FIRST_MS, REASONS, UNSURE_MS, DataValidator, Refused
from edge.networks.access import FeedKind
from edge.networks.epochs import Epoch
from edge.networks.following import Arrival
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import Revocation, Role, Roster
from edge.privacy.rules import PrivacyRules
from edge.records.message import Network, NetworkMessage, Place, encode
from edge.records.shared import (
    UNPROTECTED,
    ItemDay,
    ModelInsight,
    Payload,
    PriceUpdate,
    Protection,
    RangeUpdate,
    TrendUpdate,
    Unit,
)

PRICES, TRENDS, INSIGHTS, SUMS = FeedKind
OLD = WEEK_NOW - 14  # the newest week that is over for thirteen weeks
BETWEEN = Protection(Unit.OWNER_WEEK, 500_000, 1000, 0.02, 6, 5)
OF_RECEIPTS = Protection(Unit.RECEIPT, 1_000_000, 0, 0.02, 1, 1)
FREE = WallTime(NOW.ms, ClockQuality.FREE)


@dataclass
class World:
    """A network of one kind, its validator, and an honest writer in it."""

    network: Network
    shops: list[Shop]
    policy: NetworkPolicy = field(default_factory=NetworkPolicy)
    revoked: list[Revocation] = field(default_factory=list)
    epoch: int = 3
    wall: WallTime = NOW
    own_policy: NetworkPolicy | None = None
    week_now: int | None = None

    def __post_init__(self) -> None:
        self.roster: Roster = network_of(
            self.network, self.shops, policy=self.policy, epoch=self.epoch, revoked=self.revoked
        )
        self.epochs: Mapping[int, Epoch] = {n: epoch_of(n, self.network) for n in range(1, self.epoch + 1)}
        self.validator = DataValidator(self.roster.network_id)

    def arrival(
        self,
        payload: Payload,
        sequence: int = 0,
        *,
        shop: int = 0,
        kind: FeedKind = PRICES,
        epoch: int = 3,
        **more: Any,
    ) -> Arrival:
        who, secret = self.shops[shop], self.epochs.get(epoch, epoch_of(epoch, self.network))
        block = who.block(self.roster, secret, kind, sequence, payload, **more)
        key = secret.feed_key(kind, who.signers[kind].public_key)
        return Arrival(self.roster.network_id, who.member.id, kind, epoch, key, sequence, block)

    def give(self, arrival: Arrival, **more: Any) -> NetworkMessage:
        given: dict[str, Any] = {"wall": self.wall, "policy": self.own_policy, "week_now": self.week_now, **more}
        return self.validator.validate_network_data(arrival, roster=self.roster, epochs=self.epochs, **given)

    def refusal(self, arrival: Arrival, **more: Any) -> Refused:
        """Of what must be refused. Nothing but the counts may have changed."""
        validator = self.validator
        before, count = unstruck(validator), validator.refusals.copy()
        with pytest.raises(Refused) as caught:
            self.give(arrival, **more)
        assert unstruck(validator) == before
        assert validator.refusals - count == {caught.value.reason: 1}
        assert caught.value.reason in REASONS
        assert len(str(caught.value)) <= 200
        return caught.value


def unstruck(validator: DataValidator) -> Any:
    """The state of a validator, strikes and the bans that follow from them left out."""
    state = cbor.decode(validator.export())
    assert isinstance(state, dict)
    return {name: value for name, value in state.items() if name not in ("strikes", "banned")}


def private() -> World:
    return World(Network.PRIVATE, [shop_of(Network.PRIVATE, n) for n in range(3)])


def consortium(**more: Any) -> World:
    """Six shops of six owners."""
    return World(Network.CONSORTIUM, [shop_of(Network.CONSORTIUM, n, owner=f"owner {n}") for n in range(6)], **more)


def franchise(policy: NetworkPolicy) -> World:
    """A consortium of one owner."""
    return World(Network.CONSORTIUM, [shop_of(Network.CONSORTIUM, n) for n in range(3)], policy=policy)


def public() -> World:
    return World(Network.PUBLIC, [shop_of(Network.PUBLIC, n, owner=f"owner {n}") for n in range(2)])


def shared(kind: type[Payload], protection: Protection = BETWEEN, week: int = OLD, sku: str = "") -> Payload:
    return payload_of(kind, week=week, skus=(sku,), protection=protection)


OPEN = NetworkPolicy(lag_weeks=0, owners_min=1, live_use=True, privacy=PrivacyRules(lag_weeks=0))

# --- what passes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "feed"),
    [(ItemDay, PRICES), (PriceUpdate, PRICES), (RangeUpdate, PRICES), (TrendUpdate, TRENDS), (ModelInsight, INSIGHTS)],
)
def test_a_private_network_sees_everything_at_once(kind: type[Payload], feed: FeedKind) -> None:
    world = private()
    payload = payload_of(kind, week=WEEK_NOW)
    assert world.give(world.arrival(payload, kind=feed)).payload == payload
    assert world.validator.accepted(world.shops[0].member.id, feed, 3) == 0


@pytest.mark.parametrize(("kind", "feed"), [(RangeUpdate, PRICES), (TrendUpdate, TRENDS), (ModelInsight, INSIGHTS)])
def test_a_consortium_sees_old_protected_aggregates(kind: type[Payload], feed: FeedKind) -> None:
    world = consortium()
    assert world.give(world.arrival(shared(kind), kind=feed)).payload == shared(kind)


def test_a_network_of_one_owner_may_share_at_once_and_name_items() -> None:
    world = franchise(replace(OPEN, item_level=True))
    for n, sku in enumerate(("", "4012345678901")):
        payload = shared(ModelInsight, OF_RECEIPTS, WEEK_NOW - 1, sku)
        assert world.give(world.arrival(payload, n, kind=INSIGHTS)).payload == payload


def test_the_public_sees_trends_that_more_shops_stand_behind_than_are_on_its_roster() -> None:
    world = public()
    payload = shared(TrendUpdate, replace(BETWEEN, shops=80, owners=40))
    assert world.give(world.arrival(payload, kind=TRENDS)).payload == payload


def test_order_is_the_feeds_own_and_may_have_gaps() -> None:
    """The end of an old epoch's feed may arrive after the beginning of the new one's: nothing is lost by it."""
    world = private()
    for epoch, sequence in ((1, 0), (1, 1), (1, 7), (3, 5), (2, 0), (2, 4), (1, 8), (3, 6)):
        world.give(world.arrival(payload_of(PriceUpdate), sequence, epoch=epoch))
    world.give(world.arrival(payload_of(TrendUpdate), 0, epoch=1, kind=TRENDS))  # each kind for itself
    world.give(world.arrival(payload_of(PriceUpdate), 0, epoch=1, shop=1))  # and each member


def test_what_a_revoked_member_said_before_stays() -> None:
    gone = shop_of(Network.PRIVATE, 0)
    world = World(
        Network.PRIVATE,
        [gone, shop_of(Network.PRIVATE, 1)],
        revoked=[Revocation(gone.member, 2, {PRICES: 4}, "stolen")],
    )
    for epoch, sequence in ((1, 900), (2, 3)):
        world.give(world.arrival(payload_of(PriceUpdate), sequence, epoch=epoch))


# --- attacks ----------------------------------------------------------------------------------------------------------

Attack = tuple[World, Arrival]
ATTACKS: dict[str, tuple[Callable[[], Attack], str]] = {}


def attack(reason: str) -> Callable[[Callable[[], Attack]], Callable[[], Attack]]:
    def note(make: Callable[[], Attack]) -> Callable[[], Attack]:
        ATTACKS[make.__name__] = make, reason
        return make

    return note


def honest(world: World) -> Arrival:
    return world.arrival(payload_of(PriceUpdate))


def carried(world: World, block: bytes) -> Attack:
    """Bytes that are no message, where one should stand."""
    return world, replace(honest(world), block=block)


def rewritten(world: World, change: Callable[[dict[str, Any]], object], **more: Any) -> Attack:
    """A message whose decoded form was changed, then encoded again."""
    arrival = world.arrival(payload_of(PriceUpdate), **more)
    value: Any = cbor.decode(arrival.block)
    change(value)
    return world, replace(arrival, block=cbor.encode(value))


def spliced(find: bytes, put: bytes) -> Attack:
    """A message whose bytes were changed to what no encoder of ours writes."""
    world = private()
    arrival = world.arrival(payload_of(PriceUpdate))
    assert arrival.block.count(find) == 1
    return carried(world, arrival.block.replace(find, put))


# forged, replayed, from elsewhere


@attack("signature")
def a_signature_with_one_bit_changed() -> Attack:
    return rewritten(
        private(),
        lambda v: v["data"].update(signature=bytes([v["data"]["signature"][0] ^ 1]) + v["data"]["signature"][1:]),
    )


@attack("signature")
def a_signature_of_zeros() -> Attack:
    return rewritten(private(), lambda v: v["data"].update(signature=bytes(64)))


@attack("signature")
def a_price_changed_after_signing() -> Attack:
    return rewritten(private(), lambda v: v["data"]["payload"]["rows"][0].__setitem__(6, 1))


@attack("signature")
def another_members_key() -> Attack:
    world = private()
    theirs = replace(world.shops[0], signers=world.shops[1].signers)
    block = theirs.block(world.roster, world.epochs[3], PRICES, 0, payload_of(PriceUpdate))
    return world, replace(honest(world), block=block)


@attack("signature")
def the_members_key_of_another_kind() -> Attack:
    world = private()
    who = world.shops[0]
    place = who.place(world.roster.network_id, world.epochs[3], PRICES, 0)
    message = signed(NetworkMessage(Network.PRIVATE, NOW, payload_of(PriceUpdate)), place, who.signers[TRENDS])
    return world, replace(honest(world), block=encode(message))


@attack("signature")
def signed_for_another_place_in_the_feed() -> Attack:
    world = private()
    return world, replace(world.arrival(payload_of(PriceUpdate), 4), sequence=5)


@attack("signature")
def copied_from_the_feed_of_another_epoch() -> Attack:
    world = private()
    return world, replace(honest(world), block=world.arrival(payload_of(PriceUpdate), epoch=2).block)


@attack("signature")
def copied_from_another_members_feed() -> Attack:
    world = private()
    return world, replace(honest(world), block=world.arrival(payload_of(PriceUpdate), shop=1).block)


@attack("signature")
def copied_from_another_network_of_the_same_kind() -> Attack:
    world = private()
    who = world.shops[0]
    place = replace(who.place(world.roster.network_id, world.epochs[3], PRICES, 0), network_id=bytes([9]) * 32)
    message = signed(NetworkMessage(Network.PRIVATE, NOW, payload_of(PriceUpdate)), place, who.signers[PRICES])
    return world, replace(honest(world), block=encode(message))


@attack("signature")
def a_signature_without_the_context() -> Attack:
    """As if the same key had signed something else of the same length: here, the block's bytes."""
    world = private()
    return rewritten(world, lambda v: v["data"].update(signature=world.shops[0].signers[PRICES].sign(cbor.encode(v))))


@attack("roster")
def a_feed_that_the_epoch_does_not_give_the_member() -> Attack:
    world = private()
    return world, replace(honest(world), feed_key=world.arrival(payload_of(PriceUpdate), shop=1).feed_key)


@attack("roster")
def a_feed_of_another_kind_under_this_name() -> Attack:
    world = private()
    return world, replace(honest(world), kind=TRENDS)


@attack("order")
def a_replay() -> Attack:
    world = private()
    world.give(honest(world))
    return world, honest(world)


@attack("order")
def going_back_in_the_feed() -> Attack:
    world = private()
    world.give(world.arrival(payload_of(PriceUpdate), 9))
    return world, world.arrival(payload_of(PriceUpdate), 8)


@attack("order")
def going_back_in_an_old_epoch() -> Attack:
    world = private()
    for epoch, sequence in ((2, 99), (3, 0), (1, 5)):
        world.give(world.arrival(payload_of(PriceUpdate), sequence, epoch=epoch))
    return world, world.arrival(payload_of(PriceUpdate), 98, epoch=2)


@attack("order")
def going_back_to_an_epoch_older_than_all_that_are_read() -> Attack:
    world = World(Network.PRIVATE, [shop_of(Network.PRIVATE, 0)], epoch=EPOCHS_READ_MAX + 1)
    for epoch in range(2, EPOCHS_READ_MAX + 2):
        world.give(world.arrival(payload_of(PriceUpdate), 0, epoch=epoch))
    return world, world.arrival(payload_of(PriceUpdate), 0, epoch=1)


@attack("rate")
def a_flood_in_an_epoch_that_is_over() -> Attack:
    policy = NetworkPolicy(messages_per_week=5, epoch_weeks=2)
    world = World(Network.PRIVATE, [shop_of(Network.PRIVATE, 0)], policy=policy)
    for epoch, sequence in ((3, 0), (2, 9)):
        world.give(world.arrival(payload_of(PriceUpdate), sequence, epoch=epoch))
    return world, world.arrival(payload_of(PriceUpdate), 10, epoch=2)


@attack("roster")
def an_epoch_that_is_not_known() -> Attack:
    world = private()
    return world, world.arrival(payload_of(PriceUpdate), epoch=4)


@attack("roster")
def an_epoch_that_the_roster_has_not_reached() -> Attack:
    world = private()
    world.epochs = {**world.epochs, 4: epoch_of(4)}
    return world, world.arrival(payload_of(PriceUpdate), epoch=4)


@attack("roster")
def an_epoch_before_the_member_joined() -> Attack:
    world = World(Network.PRIVATE, [shop_of(Network.PRIVATE, 0, since_epoch=3)])
    return world, world.arrival(payload_of(PriceUpdate), epoch=2)


@attack("roster")
def a_negative_sequence() -> Attack:
    world = private()
    return world, replace(honest(world), sequence=-1)


@attack("roster")
def nobody_on_the_roster() -> Attack:
    world = private()
    stranger = shop_of(Network.PRIVATE, 77)
    block = stranger.block(world.roster, world.epochs[3], PRICES, 0, payload_of(PriceUpdate))
    key = world.epochs[3].feed_key(PRICES, stranger.signers[PRICES].public_key)
    return world, Arrival(world.roster.network_id, stranger.member.id, PRICES, 3, key, 0, block)


@attack("roster")
def a_reader_who_writes() -> Attack:
    reader = shop_of(Network.PRIVATE, 0)
    reader = replace(reader, member=replace(reader.member, role=Role.READER))
    world = World(Network.PRIVATE, [reader])
    return world, honest(world)


@attack("revoked")
def a_revoked_member_beyond_the_closed_length() -> Attack:
    gone = shop_of(Network.PRIVATE, 0)
    world = World(Network.PRIVATE, [gone], revoked=[Revocation(gone.member, 3, {PRICES: 4}, "stolen")])
    return world, world.arrival(payload_of(PriceUpdate), 4)


@attack("revoked")
def a_revoked_member_in_the_next_epoch() -> Attack:
    gone = shop_of(Network.PRIVATE, 0)
    world = World(Network.PRIVATE, [gone], revoked=[Revocation(gone.member, 2, {PRICES: 4}, "stolen")])
    return world, world.arrival(payload_of(PriceUpdate), 0, epoch=3)


@attack("network")
def a_message_that_says_it_is_of_another_kind_of_network() -> Attack:
    world = private()
    return world, world.arrival(payload_of(TrendUpdate), kind=TRENDS, network=Network.PUBLIC)


@attack("network")
def an_arrival_from_another_network() -> Attack:
    world = private()
    return world, replace(honest(world), network_id=bytes(32))


@attack("network")
def a_network_that_there_is_not() -> Attack:
    return rewritten(private(), lambda v: v["metadata"].update(network="internet"))


# what the network may not see


@attack("matrix")
def a_raw_record_in_a_consortium() -> Attack:
    world = consortium()
    return world, world.arrival(payload_of(PriceUpdate, week=OLD))


@attack("matrix")
def day_totals_in_a_consortium_of_one_owner() -> Attack:
    world = franchise(OPEN)
    return world, world.arrival(payload_of(ItemDay))


@attack("matrix")
def price_ranges_in_the_trends_feed_of_the_public() -> Attack:
    world = public()
    return world, world.arrival(shared(RangeUpdate), kind=TRENDS)


@attack("matrix")
def a_trend_in_the_feed_of_prices() -> Attack:
    world = private()
    return world, world.arrival(payload_of(TrendUpdate))


@attack("matrix")
def a_message_in_the_feed_of_sums() -> Attack:
    world = consortium()
    return world, world.arrival(shared(RangeUpdate), kind=SUMS)


@attack("matrix")
def items_where_only_categories_may_be_named() -> Attack:
    world = consortium()
    return world, world.arrival(shared(RangeUpdate, sku="4012345678901"))


@attack("protection")
def no_protection_in_a_consortium() -> Attack:
    world = franchise(OPEN)
    return world, world.arrival(shared(RangeUpdate, UNPROTECTED))


@attack("protection")
def no_protection_in_public() -> Attack:
    world = public()
    return world, world.arrival(shared(TrendUpdate, Protection(shops=9, owners=9)), kind=TRENDS)


@attack("protection")
def receipts_protected_between_owners() -> Attack:
    world = consortium()
    return world, world.arrival(shared(RangeUpdate, replace(BETWEEN, unit=Unit.RECEIPT)))


@attack("owners")
def too_few_owners() -> Attack:
    world = consortium()
    return world, world.arrival(shared(RangeUpdate, replace(BETWEEN, owners=4)))


@attack("owners")
def too_few_owners_whatever_the_roster_allows() -> Attack:
    world = consortium(policy=NetworkPolicy(owners_min=1, privacy=PrivacyRules(owners_min=1)))
    return world, world.arrival(shared(RangeUpdate, replace(BETWEEN, owners=4)))


@attack("owners")
def too_few_shops() -> Attack:
    world = franchise(replace(OPEN, shops_min=3))
    return world, world.arrival(shared(RangeUpdate, replace(OF_RECEIPTS, shops=2)))


@attack("owners")
def more_owners_than_there_are() -> Attack:
    world = consortium()
    return world, world.arrival(shared(RangeUpdate, replace(BETWEEN, shops=7, owners=5)))


@attack("owners")
def a_private_record_that_boasts() -> Attack:
    world = private()
    return world, world.arrival(payload_of(RangeUpdate, protection=replace(BETWEEN, shops=4, owners=1)))


@attack("lag")
def too_young_between_owners() -> Attack:
    world = consortium()
    return world, world.arrival(shared(RangeUpdate, week=OLD + 1))


@attack("lag")
def too_young_between_owners_whatever_the_roster_allows() -> Attack:
    world = consortium(policy=replace(OPEN, owners_min=5))
    return world, world.arrival(shared(RangeUpdate, week=WEEK_NOW - 1))


@attack("lag")
def too_young_because_a_revoked_owner_is_another() -> Attack:
    gone = shop_of(Network.CONSORTIUM, 9, owner="rival")
    shops = [gone, *(shop_of(Network.CONSORTIUM, n) for n in range(5))]
    revoked = [Revocation(gone.member, 3, {PRICES: 9}, "left")]
    world = World(Network.CONSORTIUM, shops, policy=OPEN, revoked=revoked)
    return world, world.arrival(shared(RangeUpdate, week=WEEK_NOW - 1))


@attack("lag")
def too_young_for_our_own_stricter_policy() -> Attack:
    world = franchise(OPEN)
    world.own_policy = replace(OPEN, lag_weeks=4, privacy=PrivacyRules(lag_weeks=4))
    return world, world.arrival(shared(RangeUpdate, OF_RECEIPTS, WEEK_NOW - 4))


# times


@attack("timestamp")
def written_in_1970() -> Attack:
    world = private()
    return world, world.arrival(payload_of(PriceUpdate), timestamp=WallTime(12, ClockQuality.FREE))


@attack("timestamp")
def written_the_moment_before_this_software() -> Attack:
    world = private()
    return world, world.arrival(payload_of(PriceUpdate), timestamp=WallTime(FIRST_MS - 1, ClockQuality.FLOOR))


@attack("timestamp")
def written_next_month_by_synchronised_clocks() -> Attack:
    world = private()
    at = WallTime(NOW.ms + 30 * DAY_MS, ClockQuality.SYNCED)
    return world, world.arrival(payload_of(PriceUpdate), timestamp=at)


@attack("timestamp")
def written_in_the_far_future_by_any_clock() -> Attack:
    world = private()
    world.wall = FREE
    at = WallTime(NOW.ms + UNSURE_MS + 1, ClockQuality.FREE)
    return world, world.arrival(payload_of(PriceUpdate), timestamp=at)


@attack("timestamp")
def a_negative_timestamp() -> Attack:
    return rewritten(private(), lambda v: v["data"].update(timestamp=[-1, 0]))


@attack("timestamp")
def a_clock_of_unknown_quality() -> Attack:
    return rewritten(private(), lambda v: v["data"].update(timestamp=[NOW.ms, 3]))


@attack("range")
def a_week_of_the_future() -> Attack:
    world = private()
    return world, world.arrival(payload_of(PriceUpdate, week=WEEK_NOW + 2))


@attack("range")
def a_week_that_nobody_keeps() -> Attack:
    world = private()
    return world, world.arrival(payload_of(PriceUpdate, week=WEEK_NOW - 105))


@attack("range")
def a_day_of_the_year_one() -> Attack:
    world = private()
    return world, world.arrival(payload_of(ItemDay, week=-102_000))


@attack("range")
def the_day_before_the_calendar() -> Attack:
    return rewritten(private(), lambda v: v["data"]["payload"].update(week=-1))


@attack("rate")
def a_flood() -> Attack:
    world = World(Network.PRIVATE, [shop_of(Network.PRIVATE, 0)], policy=NetworkPolicy(messages_per_week=5))
    for n in range(5):
        world.give(world.arrival(payload_of(PriceUpdate, week=WEEK_NOW - n), n))
    return world, world.arrival(payload_of(PriceUpdate), 5)


# numbers


@attack("range")
def a_minimum_above_the_maximum() -> Attack:
    return rewritten(private(), lambda v: v["data"]["payload"]["rows"][0].__setitem__(2, 5000))


@attack("range")
def a_negative_price() -> Attack:
    return rewritten(private(), lambda v: v["data"]["payload"]["rows"][0].__setitem__(2, -1))


@attack("range")
def negative_units() -> Attack:
    return rewritten(private(), lambda v: v["data"]["payload"]["rows"][0].__setitem__(7, -1))


@attack("range")
def not_a_number() -> Attack:
    return _float("7e00")


@attack("range")
def infinity() -> Attack:
    return _float("7c00")


def _float(half: str) -> Attack:
    """Half floats 0.25 (success metric) of both rows, where another stands in the first."""
    world = private()
    block = world.arrival(payload_of(PriceUpdate)).block
    return carried(world, block.replace(struct.pack(">Be", 0xF9, 0.25), b"\xf9" + bytes.fromhex(half), 1))


@attack("range")
def a_success_beyond_one() -> Attack:
    return rewritten(private(), lambda v: v["data"]["payload"]["rows"][0].__setitem__(4, 1.5))


@attack("range")
def rows_out_of_order() -> Attack:
    return rewritten(private(), lambda v: v["data"]["payload"]["rows"].reverse())


@attack("range")
def the_same_item_twice() -> Attack:
    return rewritten(private(), lambda v: v["data"]["payload"]["rows"].append(v["data"]["payload"]["rows"][-1]))


@attack("range")
def an_integer_beyond_64_bits() -> Attack:
    return carried(private(), b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff")


# forms


@attack("type")
def an_unknown_type() -> Attack:
    return rewritten(private(), lambda v: v.update(type="price_offer"))


@attack("type")
def an_unknown_payload() -> Attack:
    return rewritten(private(), lambda v: v["data"]["payload"].update(kind="receipts"))


@attack("type")
def a_payload_of_another_type() -> Attack:
    return rewritten(private(), lambda v: v.update(type="market_trend"))


@attack("type")
def a_later_version() -> Attack:
    return rewritten(private(), lambda v: v["metadata"].update(version=2))


@attack("format")
def an_additional_field() -> Attack:
    return rewritten(private(), lambda v: v["metadata"].update(receipt="2026-11-22/7/4711"))


@attack("format")
def an_additional_field_in_the_payload() -> Attack:
    return rewritten(private(), lambda v: v["data"]["payload"].update(customer="4711"))


@attack("format")
def a_missing_field() -> Attack:
    return rewritten(private(), lambda v: v["data"].pop("timestamp"))


@attack("format")
def an_integer_where_a_float_belongs() -> Attack:
    return rewritten(private(), lambda v: v["data"]["payload"]["rows"][0].__setitem__(4, 0))


@attack("format")
def a_boolean_where_an_integer_belongs() -> Attack:
    return rewritten(private(), lambda v: v["data"]["payload"]["rows"][0].__setitem__(7, True))


@attack("format")
def nothing() -> Attack:
    return carried(private(), b"")


@attack("format")
def bytes_behind_the_end() -> Attack:
    world = private()
    return carried(world, honest(world).block + b"\x00")


@attack("format")
def cut_short() -> Attack:
    world = private()
    return carried(world, honest(world).block[:-1])


@attack("format")
def a_key_that_stands_twice() -> Attack:
    return spliced(b"\xa2gnetworkgprivategversion\x01", b"\xa3gnetworkgprivategnetworkgprivategversion\x01")


@attack("format")
def keys_in_another_order() -> Attack:
    return spliced(b"\xa2gnetworkgprivategversion\x01", b"\xa2gversion\x01gnetworkgprivate")


@attack("format")
def a_longer_form_of_an_integer() -> Attack:
    return spliced(b"gversion\x01", b"gversion\x18\x01")


@attack("format")
def a_tagged_decimal_that_takes_a_minute() -> Attack:
    return spliced(b"gversion\x01", b"gversion" + bytes.fromhex("c4821a000f424001"))


@attack("format")
def a_tagged_regular_expression() -> Attack:
    return carried(private(), bytes.fromhex("d8236728612b292b2429"))


@attack("format")
def a_big_number() -> Attack:
    return carried(private(), b"\xc2\x5a\x00\x07\xff\xf0" + b"\xff" * 0x7FFF0)


@attack("format")
def arrays_in_arrays() -> Attack:
    return carried(private(), b"\x81" * 400_000)


@attack("format")
def maps_in_maps() -> Attack:
    return carried(private(), b"\xa1\x00" * 200_000)


@attack("format")
def an_array_of_four_thousand_million() -> Attack:
    return carried(private(), b"\x9b\x00\x00\x00\x01\x00\x00\x00\x00")


@attack("format")
def a_text_of_four_thousand_million() -> Attack:
    return carried(private(), b"\x7b\x00\x00\x00\x01\x00\x00\x00\x00")


@attack("format")
def a_million_small_items() -> Attack:
    return carried(private(), b"\x9a\x00\x07\xff\xf0" + b"\xf6" * 0x7FFF0)


@attack("format")
def an_endless_array() -> Attack:
    return carried(private(), b"\x9f" + b"\x00" * 1000 + b"\xff")


@attack("format")
def more_bytes_than_a_message_has() -> Attack:
    return carried(private(), bytes(MESSAGE_BYTES_MAX + 1))


@attack("format")
def a_text_that_is_not_utf_8() -> Attack:
    return spliced(b"gprivate", b"gpriv\xfft\x80")


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_refused_for_their_own_reason(name: str) -> None:
    make, reason = ATTACKS[name]
    world, arrival = make()
    assert world.refusal(arrival).reason == reason


WHY = {
    "a_feed_that_the_epoch_does_not_give_the_member": "not a block of the feed",
    "an_epoch_that_is_not_known": "secret of epoch 4",
    "an_epoch_that_the_roster_has_not_reached": "do not count in epoch 4",
    "an_epoch_before_the_member_joined": "do not count in epoch 2",
    "a_reader_who_writes": "a reader writes no",
    "a_minimum_above_the_maximum": "price range 5000..199",
    "not_a_number": "not finite",
    "infinity": "not finite",
    "an_integer_beyond_64_bits": "64 bits",
    "an_additional_field": "unknown",
    "an_additional_field_in_the_payload": "unknown field 'customer'",
    "a_boolean_where_an_integer_belongs": "True is no int",
    "bytes_behind_the_end": "after the end",
    "cut_short": "ends inside",
    "a_key_that_stands_twice": "repeated",
    "keys_in_another_order": "out of order",
    "a_longer_form_of_an_integer": "longer than needed",
    "a_tagged_decimal_that_takes_a_minute": "tag 4",
    "a_tagged_regular_expression": "tag 35",
    "a_big_number": "tag 2",
    "arrays_in_arrays": "nested deeper",
    "maps_in_maps": "nested deeper",
    "an_array_of_four_thousand_million": "more than",
    "a_text_of_four_thousand_million": "text of",
    "a_million_small_items": "more than",
    "an_endless_array": "indefinite",
    "more_bytes_than_a_message_has": "at most",
    "a_text_that_is_not_utf_8": "decod|UTF-8|utf-8",
}


@pytest.mark.parametrize("name", WHY)
def test_attacks_of_one_reason_are_told_apart(name: str) -> None:
    world, arrival = ATTACKS[name][0]()
    assert re.search(WHY[name], str(world.refusal(arrival)))


def test_there_is_an_attack_for_every_reason() -> None:
    assert {reason for _, reason in ATTACKS.values()} | {"banned"} == set(REASONS)
    assert len(ATTACKS) >= 25
    assert len(REASONS) <= 15  # label values of a metric


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_honest_passes_after_an_attack(name: str) -> None:
    """An attack cannot be used to shut somebody out."""
    world, arrival = ATTACKS[name][0]()
    for _ in range(3):
        world.refusal(arrival)
    if arrival.member in world.roster.members and world.network is Network.PRIVATE:
        index = next(n for n, shop in enumerate(world.shops) if shop.member.id == arrival.member)
        if world.shops[index].member.role is Role.SHOP and world.policy.messages_per_week > 5:
            world.give(world.arrival(payload_of(PriceUpdate), 1000, shop=index))


# --- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "ahead_days", "passes"),
    [
        (ClockQuality.SYNCED, ClockQuality.SYNCED, 6, True),
        (ClockQuality.SYNCED, ClockQuality.SYNCED, 8, False),
        (ClockQuality.SYNCED, ClockQuality.FREE, 900, True),
        (ClockQuality.FREE, ClockQuality.SYNCED, 900, True),
        (ClockQuality.FLOOR, ClockQuality.SYNCED, 900, True),
        (ClockQuality.FLOOR, ClockQuality.FLOOR, 4000, False),
    ],
)
def test_wall_time_is_refused_only_beyond_what_both_clocks_allow(
    ours: ClockQuality, theirs: ClockQuality, ahead_days: int, passes: bool
) -> None:
    world = private()
    world.wall = WallTime(NOW.ms, ours)
    at = WallTime(NOW.ms + ahead_days * DAY_MS, theirs)
    arrival = world.arrival(payload_of(PriceUpdate), timestamp=at)
    if passes:
        world.give(arrival)
    else:
        assert world.refusal(arrival).reason == "timestamp"
    world.give(world.arrival(payload_of(PriceUpdate), 1, timestamp=WallTime(FIRST_MS, theirs)))  # late is no fault


def test_a_clock_that_may_be_behind_does_not_say_what_is_not_yet() -> None:
    world = private()
    later = payload_of(PriceUpdate, week=WEEK_NOW + 100)
    assert world.refusal(world.arrival(later), wall=NOW).reason == "range"
    for n, quality in enumerate((ClockQuality.FREE, ClockQuality.FLOOR)):
        world.give(world.arrival(later, n), wall=WallTime(NOW.ms, quality))
    assert world.refusal(world.arrival(payload_of(PriceUpdate, week=WEEK_NOW + 600), 5), wall=FREE).reason == "range"


def test_the_floor_holds_where_the_clock_is_behind_it() -> None:
    world = consortium()
    arrival = world.arrival(shared(RangeUpdate))
    behind = WallTime(NOW.ms - 70 * DAY_MS, ClockQuality.FREE)
    refusal = world.refusal(arrival, wall=behind)
    assert (refusal.reason, refusal.later) == ("lag", True)
    world.give(arrival, wall=behind, floor_ms=NOW.ms)


def test_the_business_week_can_be_told() -> None:
    """Where tills live in another time: a replay of old sales, or twenty weeks in a minute."""
    world = private()
    for n, week in enumerate((1050, 1051)):
        world.give(world.arrival(payload_of(PriceUpdate, week=week), n), week_now=1050)
    assert world.refusal(world.arrival(payload_of(PriceUpdate, week=1052), 5), week_now=1050).reason == "range"
    assert world.refusal(world.arrival(payload_of(PriceUpdate, week=900), 5), week_now=1050).reason == "range"
    between = consortium()
    between.give(between.arrival(shared(RangeUpdate, week=1036)), week_now=1050)
    assert between.refusal(between.arrival(shared(RangeUpdate, week=1037), 1), week_now=1050).reason == "lag"


def test_catching_up_on_many_weeks_is_no_flood() -> None:
    world = World(Network.PRIVATE, [shop_of(Network.PRIVATE, 0)], policy=NetworkPolicy(messages_per_week=2))
    for n in range(60):
        world.give(world.arrival(payload_of(PriceUpdate, week=WEEK_NOW - 30 + n // 2), n))


# --- strikes ----------------------------------------------------------------------------------------------------------


def test_sixty_four_strikes_are_a_ban_and_a_ban_is_for_one_member() -> None:
    world = private()
    bad = replace(honest(world), block=b"\xff")
    member = world.shops[0].member.id
    for n in range(STRIKES_MAX):
        assert world.validator.banned == frozenset()
        assert world.validator.strikes(member) == n
        assert world.refusal(bad).reason == "format"
    assert world.validator.banned == {member}
    assert world.refusal(honest(world)).reason == "banned"
    assert world.refusal(bad).reason == "banned"
    world.give(world.arrival(payload_of(PriceUpdate), shop=1))
    world.validator.pardon(member)
    world.give(honest(world))
    assert world.validator.strikes(member) == 0


STRIKING = {"format", "network", "signature", "matrix", "range", "protection", "timestamp", "rate"}


@pytest.mark.parametrize("name", ATTACKS)
def test_only_what_no_race_and_no_clock_explains_is_a_strike(name: str) -> None:
    make, reason = ATTACKS[name]
    world, arrival = make()
    refusal = world.refusal(arrival)
    assert world.validator.strikes(arrival.member) == int(refusal.strike)
    assert not (refusal.strike and refusal.later)
    if refusal.strike:
        assert reason in STRIKING
    if reason in ("format", "signature"):
        assert refusal.strike
    if reason in ("roster", "lag"):
        assert refusal.later


def test_a_policy_that_was_tightened_bans_nobody() -> None:
    """What was right when it was sent is refused afterwards, and is no fault."""
    world = franchise(replace(OPEN, item_level=True))
    payload = shared(ModelInsight, OF_RECEIPTS, WEEK_NOW - 1, "4012345678901")
    later = replace(OPEN, item_level=True, lag_weeks=9, privacy=PrivacyRules(lag_weeks=9))
    for policy in (OPEN, replace(OPEN, item_level=True, shops_min=2), later):
        world.own_policy = policy
        for _ in range(STRIKES_MAX):
            assert not world.refusal(world.arrival(payload, kind=INSIGHTS)).strike
    world.own_policy = None
    world.give(world.arrival(payload, kind=INSIGHTS))


def test_strikes_of_earlier_epochs_are_forgiven() -> None:
    world = private()
    bad = replace(honest(world), block=b"\xff")
    for _ in range(STRIKES_MAX - 1):
        world.refusal(bad)
    world.roster = replace(world.roster, epoch=4)
    world.refusal(bad)
    assert world.validator.strikes(bad.member) == 1
    world.roster = replace(world.roster, epoch=3)  # an older roster does not wipe them again
    world.refusal(bad)
    assert world.validator.strikes(bad.member) == 2


def test_strangers_take_no_room() -> None:
    world = private()
    before = world.validator.export()
    for n in range(50):
        world.refusal(replace(honest(world), member=n.to_bytes(32, "big"), block=b"\xff"))
    assert world.validator.export() == before


def test_who_left_the_roster_is_forgotten() -> None:
    world = private()
    for n in range(3):
        for kind, payload in ((PRICES, PriceUpdate), (TRENDS, TrendUpdate), (INSIGHTS, ModelInsight)):
            world.give(world.arrival(payload_of(payload), kind=kind, shop=n))
    for n in range(40):  # rosters of one shop each, one after the other
        shop = shop_of(Network.PRIVATE, 100 + n)
        small = World(Network.PRIVATE, [shop])
        small.validator = world.validator
        small.give(small.arrival(payload_of(PriceUpdate)))
    state: Any = cbor.decode(world.validator.export())
    assert len(state["accepted"]) <= 2 * len(FeedKind)


# --- what outlives a restart ------------------------------------------------------------------------------------------


def test_a_restart_changes_nothing() -> None:
    world = private()
    for n in range(3):
        world.give(world.arrival(payload_of(PriceUpdate), n + 5, shop=n))
    for _ in range(STRIKES_MAX):
        world.refusal(replace(world.arrival(payload_of(PriceUpdate), shop=2), block=b""))
    world.refusal(replace(world.arrival(payload_of(PriceUpdate), shop=1), block=b""))
    old = world.validator
    world.validator = DataValidator(world.roster.network_id)
    world.validator.restore(old.export())
    assert world.validator.export() == old.export()
    assert world.validator.banned == old.banned == {world.shops[2].member.id}
    assert world.validator.strikes(world.shops[1].member.id) == 1
    assert world.validator.accepted(world.shops[0].member.id, PRICES, 3) == 5
    assert world.validator.accepted(world.shops[0].member.id, PRICES, 2) is None
    assert world.refusal(world.arrival(payload_of(PriceUpdate), 5)).reason == "order"
    world.give(world.arrival(payload_of(PriceUpdate), 6))


ID = bytes([1]) * 32


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": True},
        {"network": bytes(32)},
        {"more": 1},
        {"accepted": [[ID, 1, 1, 1]]},
        {"accepted": [[ID, 1, 1, 1, 1]]},
        {"accepted": [[ID, 9, 1, 1, 1, 1]]},
        {"accepted": [[ID, True, 1, 1, 1, 1]]},
        {"accepted": [[ID[:31], 1, 1, 1, 1, 1]]},
        {"accepted": [[ID, 1, -1, 1, 1, 1]]},
        {"accepted": [[ID, 1, 1, 1, 1, 1, 2, 1]]},
        {"accepted": [[ID, 1, 1, 1, 1, 1, 1, 1]]},
        {"accepted": [[ID, 1, 1, 1, *(n for epoch in range(20, 11, -1) for n in (epoch, 1))]]},
        {"accepted": [[ID, 1, 1, 1, 1, 1], [ID, 1, 1, 1, 2, 1]]},
        {"accepted": 1},
        {"strikes": [[ID, 1]]},
        {"strikes": [["x", 1, 1]]},
        {"strikes": [1]},
        {"banned": [b"x"]},
        {"banned": [ID, ID]},
    ],
)
def test_a_state_that_is_none_is_refused_and_changes_nothing(change: dict[str, Any]) -> None:
    world = private()
    world.give(honest(world))
    before = world.validator.export()
    state: Any = cbor.decode(before)
    with pytest.raises(RemoteError):
        world.validator.restore(cbor.encode(state | change))
    assert world.validator.export() == before


@given(st.binary(max_size=200))
def test_any_bytes_are_a_state_or_a_remote_error(data: bytes) -> None:
    with pytest.raises(RemoteError):
        DataValidator(bytes(32)).restore(data)


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_a_validator_serves_one_network() -> None:
    world, other = private(), consortium()
    with pytest.raises(LocalError, match="another network"):
        world.validator.validate_network_data(honest(world), roster=other.roster, epochs=other.epochs, wall=NOW)


def test_the_metric_has_a_series_for_each_reason_and_no_more() -> None:
    registry = CollectorRegistry()
    counter = SharedMetrics(registry).validation_failures
    for make, _ in ATTACKS.values():
        world, arrival = make()
        standing = world.validator.export()
        world.validator = DataValidator(
            world.roster.network_id, lambda reason: counter.labels(source="peer", reason=reason).inc()
        )
        world.validator.restore(standing)
        world.refusal(arrival)
    check_conventions(registry)
    totals = {s.labels["reason"]: s.value for s in series(registry) if s.name == "pomona_validation_failures_total"}
    assert set(totals) == set(REASONS) - {"banned"}
    assert sum(totals.values()) == len(ATTACKS)


def test_a_refusal_quotes_little_of_what_somebody_else_chose() -> None:
    world = private()
    refusal = world.refusal(
        rewritten(world, lambda v: v["data"]["payload"]["rows"][0].__setitem__(0, "\U0001f4a3" * 16_000))[1]
    )
    assert len(str(refusal)) <= 200
    assert str(refusal).isprintable()


SEES: dict[Network, dict[type[Payload], FeedKind]] = {
    Network.PRIVATE: {
        ItemDay: PRICES,
        PriceUpdate: PRICES,
        RangeUpdate: PRICES,
        TrendUpdate: TRENDS,
        ModelInsight: INSIGHTS,
    },
    Network.CONSORTIUM: {RangeUpdate: PRICES, TrendUpdate: TRENDS, ModelInsight: INSIGHTS},
    Network.PUBLIC: {TrendUpdate: TRENDS},
}


@settings(max_examples=400)
@given(
    network=st.sampled_from(Network),
    feed=st.sampled_from(FeedKind),
    kind=st.sampled_from([ItemDay, PriceUpdate, RangeUpdate, TrendUpdate, ModelInsight]),
    week=st.integers(WEEK_NOW - 120, WEEK_NOW + 3),
    note=st.sampled_from([UNPROTECTED, OF_RECEIPTS, BETWEEN]),
    sku=st.sampled_from(["", "4012345678901"]),
    one_owner=st.booleans(),
)
def test_nothing_passes_that_the_rules_do_not_allow(
    *,
    network: Network,
    feed: FeedKind,
    kind: type[Payload],
    week: int,
    note: Protection,
    sku: str,
    one_owner: bool,
) -> None:
    """The gate against the rules written down once more, plainly."""
    shops = [shop_of(network, n, owner="acme" if one_owner else f"owner {n}") for n in range(6)]
    if feed not in shops[0].signers or (kind in (ItemDay, PriceUpdate) and not sku):
        return
    if network is Network.PRIVATE and not one_owner:
        return  # no such roster is ever signed
    policy = replace(OPEN, item_level=True) if one_owner else NetworkPolicy()
    world = World(network, shops, policy=policy)
    protection = UNPROTECTED if kind in (ItemDay, PriceUpdate) else note
    arrival = world.arrival(payload_of(kind, week=week, skus=(sku,), protection=protection), kind=feed)
    lag = 0 if one_owner else 13
    owners = 5 if protection is BETWEEN else 1
    allowed = SEES[network].get(kind) is feed and WEEK_NOW - 104 <= week <= WEEK_NOW + 1
    if network is Network.PRIVATE:
        allowed &= owners == 1  # there is but one
    else:
        allowed &= week <= WEEK_NOW - lag - 1 and protection is not UNPROTECTED and (not sku or policy.item_level)
        allowed &= (owners <= 1 or network is Network.PUBLIC) if one_owner else protection is BETWEEN
    if allowed:
        world.give(arrival)
    else:
        world.refusal(arrival)


def test_somebody_elses_key_never_fits() -> None:
    world = private()
    place = Place(world.roster.network_id, honest(world).feed_key, 0)
    message = NetworkMessage(Network.PRIVATE, NOW, payload_of(PriceUpdate))
    for n in range(20):
        block = encode(signed(message, place, KeyPair.from_seed(bytes([n]) * 32)))
        assert world.refusal(replace(honest(world), block=block)).reason == "signature"
