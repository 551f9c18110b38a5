"""Network messages: one encoding each, and a signature that fits nowhere but in its own place."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support_shared import (
    NOW,
    PAYLOADS,
    key_pairs,
    messages,
    payload_of,
    payloads,
    places,
    signed,
    wall_times,
)

from edge.clock import ClockQuality, WallTime
from edge.crypto.keys import KeyPair, signature_valid
from edge.encoding import cbor
from edge.errors import LocalError, RemoteError
from edge.limits import CATEGORY_ITEMS_MAX, INTEGER_MAX, MESSAGE_BYTES_MAX, SHARED_ROWS_MAX
from edge.records.market import PriceRange
from edge.records.message import MessageType, Network, NetworkMessage, Place, decode, encode, signable, type_of
from edge.records.shared import (
    TERMS,
    Coefficient,
    InsightRow,
    ItemDay,
    ModelInsight,
    Payload,
    PriceUpdate,
    RangeRow,
    RangeUpdate,
    TrendUpdate,
)

PAIR = KeyPair.from_seed(bytes([7]) * 32)
PLACE = Place(bytes([1]) * 32, bytes([2]) * 32, 5)
TREND = NetworkMessage(Network.PRIVATE, WallTime(1_795_000_000_000, ClockQuality.FREE), payload_of(TrendUpdate))


def valid(message: NetworkMessage, place: Place, pair: KeyPair = PAIR) -> bool:
    return signature_valid(pair.public_key, signable(message, place), message.signature)


def value_of(block: bytes) -> dict[str, Any]:
    value = cbor.decode(block)
    assert isinstance(value, dict)
    return value


# --- bytes ------------------------------------------------------------------------------------------------------------


@given(messages(), places, key_pairs)
def test_a_message_reads_back_with_its_signature(message: NetworkMessage, place: Place, pair: KeyPair) -> None:
    sent = signed(message, place, pair)
    block = encode(sent)
    assert decode(block) == sent
    assert encode(decode(block)) == block
    assert valid(decode(block), place, pair)


BLOCKS = [encode(signed(NetworkMessage(Network.PRIVATE, NOW, payload_of(kind)), PLACE, PAIR)) for kind in PAYLOADS]


@settings(max_examples=400)
@given(
    st.sampled_from(BLOCKS),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), st.binary(max_size=9)), max_size=3),
)
def test_what_decodes_encodes_to_the_same_bytes(block: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    """Or is refused: whatever was done to it."""
    data = bytearray(block)
    for at, cut, put in edits:
        data[at : at + cut] = put
    try:
        message = decode(bytes(data))
    except RemoteError:
        return
    assert encode(message) == bytes(data)


@given(st.binary(max_size=300))
@example(b"")
def test_any_bytes_are_a_message_or_a_remote_error(data: bytes) -> None:
    with pytest.raises(RemoteError):
        decode(data)


def test_a_golden_message() -> None:
    """What is stored and signed: a change here is a new format."""
    message = replace(TREND, payload=payload_of(TrendUpdate, week=2900, skus=("",)))
    assert signable(message, PLACE).hex() == (
        "8976706f6d6f6e61206e6574776f726b206d657373616765"
        f"5820{'01' * 32}5820{'02' * 32}05"
        "6c6d61726b65745f7472656e646770726976617465"
        "01821b000001a1ee565e0001"
        "a4646b696e64667472656e647364726f7773818760fb3f847ae147ae147bfb3fc999999999999afb3ff199999999999a"
        "fb3f70624dd2f1a9fcfb3fa999999999999afb3f9eb851eb851eb8647765656b190b546863617465676f7279656461697279"
    )
    assert encode(signed(message, PLACE, PAIR)).hex() == (
        "a36464617461a3677061796c6f6164"
        "a4646b696e64667472656e647364726f7773818760fb3f847ae147ae147bfb3fc999999999999afb3ff199999999999a"
        "fb3f70624dd2f1a9fcfb3fa999999999999afb3f9eb851eb851eb8647765656b190b546863617465676f7279656461697279"
        "697369676e6174757265584092f02529836f4438ae02ce54dfb557ed6454c696ca84f848f7beaf5070d42e0c"
        "b36b96d42df979cfc0b2e12fd22415a06ddbdb099a465936934f054fea5c3502"
        "6974696d657374616d70821b000001a1ee565e0001"
        "6474797065" + "6c6d61726b65745f7472656e64"
        "686d65746164617461a2676e6574776f726b6770726976617465"
        "6776657273696f6e01"
    )


@pytest.mark.parametrize(
    ("kind", "type_"),
    [
        (ItemDay, MessageType.PRICE_UPDATE),
        (PriceUpdate, MessageType.PRICE_UPDATE),
        (RangeUpdate, MessageType.PRICE_UPDATE),
        (TrendUpdate, MessageType.MARKET_TREND),
        (ModelInsight, MessageType.MODEL_INSIGHT),
    ],
)
def test_the_type_follows_from_the_payload(kind: type[Payload], type_: MessageType) -> None:
    message = NetworkMessage(Network.PRIVATE, NOW, payload_of(kind))
    assert message.type is type_of(message.payload) is type_
    assert value_of(encode(signed(message, PLACE, PAIR)))["type"] == type_.value
    for other in set(MessageType) - {type_}:
        value = value_of(encode(signed(message, PLACE, PAIR)))
        with pytest.raises(RemoteError, match="holds something else"):
            decode(cbor.encode({**value, "type": other.value}))


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        (None, {"type": "price_offer"}, "unknown_type"),
        (None, {"type": 3}, "malformed"),
        (None, {"more": 1}, "malformed"),
        (None, {"data": []}, "malformed"),
        ("data", {"more": 1}, "malformed"),
        ("data", {"signature": b"x" * 63}, "signature"),
        ("data", {"signature": "x" * 64}, "malformed"),
        ("data", {"timestamp": 5}, "malformed"),
        ("data", {"timestamp": [5]}, "malformed"),
        ("data", {"timestamp": [5, 0, 0]}, "malformed"),
        ("data", {"timestamp": [-1, 0]}, "timestamp"),
        ("data", {"timestamp": [INTEGER_MAX + 1, 0]}, "timestamp"),
        ("data", {"timestamp": [5, 3]}, "timestamp"),
        ("data", {"timestamp": [5, -1]}, "timestamp"),
        ("data", {"timestamp": [True, 0]}, "timestamp"),
        ("data", {"timestamp": [5, True]}, "timestamp"),
        ("data", {"timestamp": [5.0, 0]}, "malformed"),
        ("data", {"payload": None}, "malformed"),
        ("data", {"payload": {}}, "unknown_type"),
        ("metadata", {"more": 1}, "malformed"),
        ("metadata", {"version": 2}, "version"),
        ("metadata", {"version": 0}, "version"),
        ("metadata", {"version": True}, "version"),
        ("metadata", {"version": 1.0}, "malformed"),
        ("metadata", {"network": "internet"}, "unknown_network"),
        ("metadata", {"network": None}, "malformed"),
    ],
)
def test_what_is_refused(part: str | None, change: dict[str, object], reason: str) -> None:
    value = value_of(BLOCKS[3])
    if part is None:
        value |= change
    else:
        value[part] |= change
    with pytest.raises(RemoteError) as caught:
        decode(cbor.encode(value))
    assert caught.value.reason == reason


def test_nothing_may_be_missing() -> None:
    value = value_of(BLOCKS[3])
    for part in ("data", "metadata", "type"):
        with pytest.raises(RemoteError):
            decode(cbor.encode({name: cell for name, cell in value.items() if name != part}))
    for part in ("data", "metadata"):
        for missing in value[part]:
            inner = {name: cell for name, cell in value[part].items() if name != missing}
            with pytest.raises(RemoteError):
                decode(cbor.encode({**value, part: inner}))


def test_the_longest_category_fits_and_longer_messages_are_refused() -> None:
    terms = tuple((name, Coefficient(-1.23456789, 0.1234567)) for name in TERMS)
    names = [f"{n:04}{'x' * 60}" for n in range(SHARED_ROWS_MAX)]
    insights = tuple(InsightRow(name, 9999, terms) for name in names)
    span = PriceRange(10**7, 10**8)
    ranges = RangeUpdate("dairy", 2900, 4, "EUR", tuple(RangeRow(name, span, -1.1, 1.1) for name in names))
    for payload in (ranges, ModelInsight("dairy", 2900, insights[:CATEGORY_ITEMS_MAX])):
        sent = signed(NetworkMessage(Network.PRIVATE, NOW, payload), PLACE, PAIR)
        assert decode(encode(sent)) == sent
    with pytest.raises(LocalError, match="at most"):  # whoever publishes cuts it in two
        encode(signed(NetworkMessage(Network.PRIVATE, NOW, ModelInsight("dairy", 2900, insights)), PLACE, PAIR))
    with pytest.raises(RemoteError) as caught:
        decode(bytes(MESSAGE_BYTES_MAX + 1))
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("signature", [b"", b"x" * 63, b"x" * 65])
def test_what_is_not_signed_is_not_sent(signature: bytes) -> None:
    with pytest.raises(LocalError, match="signed"):
        encode(replace(TREND, signature=signature))


# --- signatures -------------------------------------------------------------------------------------------------------


def elsewhere(place: Place) -> list[Place]:
    return [
        replace(place, network_id=place.feed_key),
        replace(place, network_id=bytes(32)),
        replace(place, feed_key=place.network_id),
        replace(place, feed_key=bytes(31) + b"\x01"),
        replace(place, network_id=place.feed_key, feed_key=place.network_id),
        *(replace(place, sequence=n) for n in (place.sequence + 1, place.sequence ^ 64, 0, INTEGER_MAX)),
    ]


@given(messages(), st.integers(1, 2**40), key_pairs)
def test_a_signature_fits_no_other_place(message: NetworkMessage, sequence: int, pair: KeyPair) -> None:
    place = Place(bytes([1]) * 32, bytes([2]) * 32, sequence)
    sent = signed(message, place, pair)
    assert valid(sent, place, pair)
    for other in elsewhere(place):
        assert not valid(sent, other, pair)


@given(messages(), messages(), places)
def test_a_signature_fits_no_other_message(one: NetworkMessage, other: NetworkMessage, place: Place) -> None:
    sent = signed(one, place, PAIR)
    assert valid(replace(other, signature=sent.signature), place) is (one == other)


@given(messages(), places, st.sampled_from(Network), wall_times, payloads())
def test_a_signature_covers_every_field(
    message: NetworkMessage, place: Place, network: Network, at: WallTime, payload: Payload
) -> None:
    sent = signed(message, place, PAIR)
    for changed in (replace(sent, network=network), replace(sent, timestamp=at), replace(sent, payload=payload)):
        assert valid(changed, place) is (changed == sent)
    assert not valid(replace(sent, version=2), place)


@given(messages(), places, st.integers(0, 511))
def test_no_bit_of_a_signature_or_key_may_change(message: NetworkMessage, place: Place, bit: int) -> None:
    sent = signed(message, place, PAIR)
    forged = bytearray(sent.signature)
    forged[bit // 8] ^= 1 << bit % 8
    assert not valid(replace(sent, signature=bytes(forged)), place)
    assert not valid(sent, place, KeyPair.from_seed(bytes([8]) * 32))


def test_places_are_well_formed() -> None:
    wrongs: list[dict[str, Any]] = [
        {"network_id": b"x"},
        {"feed_key": bytes(33)},
        {"sequence": -1},
        {"sequence": INTEGER_MAX + 1},
    ]
    for wrong in wrongs:
        with pytest.raises(LocalError, match="place"):
            replace(PLACE, **wrong)
