"""Fuzz entry points of network messages and of the gate that lets them in. Contract: tests/sim/support_fuzzing.py.

`decode` and `gate` get bytes in place of a block. `structured` takes its bytes as the seed of a mutator that knows the
form: it changes cells, keys, rows and nesting of an honest message, its place, its sender and the clocks, and signs
what is still a message, so that the rules behind the signature are reached as well. What is accepted is judged by the
rules written down once more.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any, Final

from support_shared import (
    DAY_MS,
    NOW,
    PAYLOADS,
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
from edge.memory.validator import REASONS, DataValidator, Refused
from edge.networks.access import FEEDS, FeedKind, feed_of
from edge.networks.epochs import Epoch
from edge.networks.following import Arrival
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import Revocation, Roster
from edge.privacy.rules import PrivacyRules
from edge.records.message import Network, Place, decode, encode
from edge.records.shared import (
    UNPROTECTED,
    ItemDay,
    ModelInsight,
    PriceUpdate,
    Protection,
    RangeUpdate,
    TrendUpdate,
    Unit,
    week_behind,
)

_OPEN: Final = NetworkPolicy(lag_weeks=0, owners_min=1, item_level=True, privacy=PrivacyRules(lag_weeks=0))
_NOTES: Final = (
    UNPROTECTED,
    Protection(Unit.OWNER_WEEK, 500_000, 1000, 0.02, 5, 5),
    Protection(Unit.RECEIPT, 1_000_000, 0, 0.02, 1, 1),
)
_NUMBERS: Final = (
    *(0, 1, -1, 2, 23, 24, 255, 256, 2966, 2967, 10_000, 10_001, 739_565, 100_000_000, 100_000_001),
    *(2**31, 2**32, 2**53 - 1, 2**53, 2**63 - 1, -(2**63), NOW.ms, NOW.ms + 8 * DAY_MS, 1_790_000_000_000),
    *(0.0, -0.0, 0.25, 0.5, 1.0, -1.0, 1.5, 4.0, 5.0, 10.0, 20.0, 1e6, 1e-6, 1e300, 5e-324, -1e-9),
)
_OTHERS: Final[tuple[Any, ...]] = (
    *(
        None,
        True,
        False,
        "",
        "a",
        "dairy",
        "EUR",
        "prices",
        "insights",
        "private",
        "public",
        "x" * 65,
        "\u202e",
        "a\x00",
    ),
    *(b"", b"x" * 64, [], {}, [[]], {"a": 1}, [0, 0], ["a", 1, 2, 3], {0: 1}, [None] * 40),
)


class _Side:
    """One network with its people, as the gate of a box sees it."""

    def __init__(self, network: Network, policy: NetworkPolicy, owners: int) -> None:
        self.network = network
        self.shops: list[Shop] = [shop_of(network, n, owner=f"owner {n % owners}") for n in range(5)]
        gone = Revocation(self.shops[4].member, 2, dict.fromkeys(FEEDS[network], 4), "left")
        self.roster: Roster = network_of(network, self.shops, policy=policy, epoch=3, revoked=[gone])
        self.epochs: Mapping[int, Epoch] = {n: epoch_of(n, network) for n in (1, 2, 3)}
        self.gate, self.new_gate = (DataValidator(self.roster.network_id) for _ in range(2))
        self.gate.restore(self._advanced())
        self.standing, self.new_standing = self.gate.export(), self.new_gate.export()

    def knows(self, member_id: bytes) -> bool:
        """Whether it is somebody of the roster, or was."""
        return member_id in self.roster.members or member_id in self.roster.revoked

    def _advanced(self) -> bytes:
        """The state of a gate that has accepted block 5 of epoch 2 of everybody."""
        state: dict[str, Any] = {"version": 1, "network": self.roster.network_id, "strikes": [], "banned": []}
        kinds = [kind for kind in FEEDS[self.network] if kind is not FeedKind.SUMS]
        ids = sorted(shop.member.id for shop in self.shops)
        busy = self.shops[0].member.id  # has said in its newest week all that it may
        counts = {id_: self.roster.policy.messages_per_week if id_ == busy else 1 for id_ in ids}
        accepted = [[id_, int(kind), WEEK_NOW - 30, counts[id_], 2, 5] for id_ in ids for kind in kinds]
        return cbor.encode({**state, "accepted": accepted})


_SIDES: Final = (
    _Side(Network.PRIVATE, NetworkPolicy(), 1),
    _Side(Network.CONSORTIUM, NetworkPolicy(), 5),
    _Side(Network.CONSORTIUM, _OPEN, 1),
    _Side(Network.PUBLIC, NetworkPolicy(), 5),
)


def fuzz_decode(data: bytes) -> None:
    """A message, or a `RemoteError`; and a message is encoded in one way alone."""
    message = decode(data)
    assert encode(message) == data, "another encoding of a message was accepted"


def fuzz_gate(data: bytes) -> None:
    """The bytes as the next block of a feed."""
    side, shop = _SIDES[0], _SIDES[0].shops[0]
    key = side.epochs[3].feed_key(FeedKind.PRICES, shop.signers[FeedKind.PRICES].public_key)
    _offer(side, Arrival(side.roster.network_id, shop.member.id, FeedKind.PRICES, 3, key, 0, data), NOW, 0)


def fuzz_structured(data: bytes) -> None:
    """The bytes as the seed of an arrival."""
    rng = Random(data)
    side = rng.choice(_SIDES)
    shop, epoch = rng.choice(side.shops), rng.choice((3, 3, 3, 2, 1, 4))
    kind = rng.choice(PAYLOADS)
    raw = kind in (ItemDay, PriceUpdate)
    skus = rng.choice((("",), ("4012345678901",), ("", "a-1", "b.2"))) if not raw else ("a", "b")
    week = rng.choice((WEEK_NOW, WEEK_NOW - 1, WEEK_NOW - 14, WEEK_NOW - 14, WEEK_NOW - 15, WEEK_NOW - 60, 5))
    payload = payload_of(kind, week=week, skus=skus, protection=UNPROTECTED if raw else rng.choice(_NOTES))
    feed = feed_of(payload) if rng.random() < 0.9 else rng.choice(tuple(FeedKind))
    if feed not in shop.signers:
        feed = rng.choice(tuple(shop.signers))
    secret = side.epochs.get(epoch, epoch_of(epoch, side.network))
    sequence = rng.choice((0, 3, 4, 5, 6, 6, 6, 1000, 2**53 - 1))
    place = shop.place(side.roster.network_id, secret, feed, sequence)
    value: Any = cbor.decode(shop.block(side.roster, secret, feed, sequence, payload))
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3))):
        value = _mutated(value, rng)
    block = _signed(value, place, shop.signers[feed], rng)
    arrival = Arrival(side.roster.network_id, shop.member.id, feed, epoch, place.feed_key, sequence, block)
    if rng.random() < 0.2:
        arrival = _misplaced(arrival, side, rng)
    wall = WallTime(NOW.ms + rng.choice((0, 0, 0, -100, 30, 4000)) * DAY_MS, rng.choice(tuple(ClockQuality)))
    _offer(side, arrival, wall, rng.choice((0, 0, NOW.ms)))


def _offer(side: _Side, arrival: Arrival, wall: WallTime, floor_ms: int) -> None:
    """What the gate says; whatever it says, only what is accepted may change it. Afterwards it is as it was."""
    new = arrival.sequence == 3  # some meet a gate that has seen nothing
    gate, before = (side.new_gate, side.new_standing) if new else (side.gate, side.standing)
    count = gate.refusals.copy()
    try:
        message = gate.validate_network_data(
            arrival, roster=side.roster, epochs=side.epochs, wall=wall, floor_ms=floor_ms
        )
    except Refused as refusal:
        _changed_nothing(side, gate, refusal, arrival.member)
        assert (gate.export(), gate.refusals - count) == (before, {refusal.reason: 1}), refusal.reason  # noqa: PT017
        raise
    assert gate.accepted(arrival.member, arrival.kind, arrival.epoch) == arrival.sequence
    gate.restore(before)
    assert encode(message) == arrival.block
    _lawful(side, arrival, message.payload, (max(wall.ms, floor_ms) // DAY_MS + 3) // 7)


def _changed_nothing(side: _Side, gate: DataValidator, refusal: Refused, member_id: bytes) -> None:
    """But the strikes of whom it knows."""
    assert refusal.reason in REASONS
    assert gate.strikes(member_id) == int(refusal.strike and side.knows(member_id))
    gate.pardon(member_id)


def _lawful(side: _Side, arrival: Arrival, payload: object, week_now: int) -> None:
    """The rules once more, of what was accepted."""
    assert isinstance(payload, ItemDay | PriceUpdate | RangeUpdate | TrendUpdate | ModelInsight)
    assert feed_of(payload) is arrival.kind
    age = week_now - 1 - week_behind(payload) + 1
    assert -523 <= age <= 105, age
    if side.network is Network.PRIVATE:
        return
    assert not isinstance(payload, ItemDay | PriceUpdate), "a raw record outside a private network"
    assert side.network is Network.CONSORTIUM or isinstance(payload, TrendUpdate), "more than trends in public"
    assert payload.protection.unit is not Unit.NONE
    if side.roster.policy is not _OPEN:
        assert payload.protection.owners >= 5
        assert payload.protection.unit is Unit.OWNER_WEEK
        assert age >= 14, age
        assert not any(row.sku for row in payload.rows)


# --- mutations --------------------------------------------------------------------------------------------------------


def _cell(rng: Random, was: Any = None) -> Any:
    """Another value, mostly of the same type."""
    if type(was) in (int, float, str) and rng.random() < 0.8:
        return rng.choice([each for each in (*_NUMBERS, *_OTHERS) if type(each) is type(was)])
    return rng.choice((*_NUMBERS, *_OTHERS))


def _mutated(value: Any, rng: Random) -> Any:
    """A copy with one change at a random depth."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        copied = dict(value)
        key = rng.choice(list(copied))
        way = rng.random()
        if way < 0.8:
            copied[key] = _mutated(copied[key], rng)
        elif way < 0.87:
            del copied[key]
        elif way < 0.94:
            copied[rng.choice(("more", "", "kind", "rows", "protection", "week", "customer"))] = _cell(rng)
        else:
            copied[f"{key}s"] = copied.pop(key)
        return copied
    if isinstance(value, list) and value and rng.random() < 0.9:
        items = list(value)
        at = rng.randrange(len(items))
        way = rng.random()
        if way < 0.75:
            items[at] = _mutated(items[at], rng)
        elif way < 0.8:
            del items[at]
        elif way < 0.85:
            items.insert(at, items[at])
        elif way < 0.9:
            items.reverse()
        elif way < 0.95:
            items.append(_cell(rng))
        else:
            items = items * rng.choice((2, 50))
        return items
    way = rng.random()
    if way < 0.3 and type(value) is int:
        return value + rng.choice((-1, 1, 7, -7, 256))
    if way < 0.4 and type(value) is float:
        return value * rng.choice((-1.0, 2.0, 0.5, 1e3))
    if way < 0.42:
        nested: Any = value
        for _ in range(rng.choice((1, 3, 12, 20))):
            nested = [nested]
        return nested
    return _cell(rng, value)


def _signed(value: Any, place: Place, pair: KeyPair, rng: Random) -> bytes:
    """The block of a mutated value: signed for its place where it is still a message, sometimes spoilt afterwards."""
    try:
        block = cbor.encode(value)
    except LocalError:  # nested too deep for our own encoder
        return b"\x81" * 30 + b"\x00"
    if rng.random() < 0.93:
        with contextlib.suppress(RemoteError):
            block = encode(signed(decode(block), place, pair))
    if rng.random() < 0.1:
        spoilt = bytearray(block)
        at = rng.randrange(len(spoilt))
        spoilt[at : at + rng.choice((0, 1, 1, 4))] = rng.randbytes(rng.choice((0, 1, 1, 3, 9)))
        block = bytes(spoilt)
    return block


def _misplaced(arrival: Arrival, side: _Side, rng: Random) -> Arrival:
    other = rng.choice(side.shops)
    changes: tuple[dict[str, Any], ...] = (
        {"network_id": bytes(32)},
        {"member": other.member.id},
        {"member": rng.randbytes(32)},
        {"kind": rng.choice(tuple(FeedKind))},
        {"epoch": rng.choice((0, 1, 2, 3, 4, -1, 2**60))},
        {"feed_key": rng.randbytes(rng.choice((32, 32, 0, 33)))},
        {"sequence": rng.choice((-1, 0, 7, 2**53, 2**64))},
    )
    return replace(arrival, **rng.choice(changes))


_BLOCKS: Final = [
    side.shops[0].block(
        side.roster,
        side.epochs[3],
        feed_of(payload_of(kind)),
        0,
        payload_of(kind, week=WEEK_NOW - 14),
    )
    for side in _SIDES
    for kind in PAYLOADS
    if feed_of(payload_of(kind)) in FEEDS[side.network]
]
_BOMBS: Final = [
    bytes.fromhex("c4821a000f424001"),  # a decimal that takes a minute
    bytes.fromhex("d8236728612b292b2429"),  # a regular expression
    b"\x81" * 400_000,
    b"\xa1\x00" * 200_000,
    b"\x9b\x00\x00\x00\x01\x00\x00\x00\x00",
    b"\x7b\x00\x00\x00\x01\x00\x00\x00\x00",
    b"\x9a\x00\x07\xff\xf0" + b"\xf6" * 0x7FFF0,
    b"\x9a\x00\x01\xff\xf0" + b"\x80" * 0x1FFF0,  # within all bounds: 131,056 empty arrays
]
CORPUS: dict[str, list[bytes]] = {
    "fuzz_decode": _BLOCKS,
    "fuzz_gate": _BLOCKS,
    "fuzz_structured": [n.to_bytes(4, "big") for n in range(64)],
}
COSTLY: dict[str, list[bytes]] = {"fuzz_decode": _BOMBS, "fuzz_gate": _BOMBS}
# A byte of CBOR can be an empty array: 56 bytes and a pointer to it. What a seed makes is some kilobytes.
BOUNDS: dict[str, tuple[int, int]] = {
    "fuzz_decode": (96, 256 * 1024),
    "fuzz_gate": (96, 256 * 1024),
    "fuzz_structured": (4, 1024 * 1024),
}
