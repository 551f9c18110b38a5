"""A network message: what one shop says in one feed of one network, signed so that it fits nowhere else.

    {"data": {"payload": {...}, "signature": 64 bytes, "timestamp": [wall ms, clock quality]},
     "metadata": {"network": "private", "version": 1},
     "type": "price_update"}

as canonical CBOR, one message a block. The signature is made by the key that signs the feed, over a context string, the
feed's key, the message's place in it, the network's identity and every other field (`signable`): the same bytes in
another feed, place or network do not verify. The log's own signature covers only that the blocks stand in this order;
this one goes with the message wherever it is copied.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from edge.clock import QUALITIES, WallTime
from edge.crypto.keys import SIGNATURE_BYTES
from edge.encoding import cbor
from edge.errors import LocalError, RecordInvalid
from edge.limits import INTEGER_MAX, MESSAGE_BYTES_MAX
from edge.records.shared import ModelInsight, Payload, TrendUpdate
from edge.records.shared_codec import from_value, to_value

VERSION: Final = 1
_CONTEXT: Final = "pomona network message"
NETWORK_ID_BYTES: Final = 32


class Network(StrEnum):
    """The three kinds of network, strictest first."""

    PRIVATE = "private"  # the stores of one company
    CONSORTIUM = "consortium"  # companies, anonymised
    PUBLIC = "public"  # basic signals between any nodes


class MessageType(StrEnum):
    """What a message is about."""

    PRICE_UPDATE = "price_update"
    MARKET_TREND = "market_trend"
    MODEL_INSIGHT = "model_insight"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message stands: network id, key of the feed, index of its block."""

    network_id: bytes
    feed_key: bytes
    sequence: int

    def __post_init__(self) -> None:
        if (
            len(self.network_id) != NETWORK_ID_BYTES
            or len(self.feed_key) != 32
            or not 0 <= self.sequence <= INTEGER_MAX
        ):
            raise LocalError("a message's place is two keys of 32 bytes and an index")


@dataclass(frozen=True, slots=True)
class NetworkMessage:
    """One message. `timestamp` is the sender's clock, for plausibility; order is the feed's."""

    network: Network
    timestamp: WallTime
    payload: Payload
    signature: bytes = b""  # of 64 bytes; empty: not signed yet
    version: int = VERSION

    @property
    def type(self) -> MessageType:
        """Follows from the payload."""
        return type_of(self.payload)


def type_of(payload: Payload) -> MessageType:
    """The message type that carries `payload`."""
    if isinstance(payload, TrendUpdate):
        return MessageType.MARKET_TREND
    return MessageType.MODEL_INSIGHT if isinstance(payload, ModelInsight) else MessageType.PRICE_UPDATE


def signable(message: NetworkMessage, place: Place) -> bytes:
    """What the signature covers: canonical CBOR of context, place and every field but the signature."""
    where = [place.network_id, place.feed_key, place.sequence]
    return cbor.encode([_CONTEXT, *where, message.type.value, *_header(message), to_value(message.payload)])


def encode(message: NetworkMessage) -> bytes:
    """The block of a signed message."""
    if len(message.signature) != SIGNATURE_BYTES:
        raise LocalError("a message is signed before it is sent")
    network, version, at = _header(message)
    data = {"payload": to_value(message.payload), "signature": message.signature, "timestamp": at}
    metadata = {"network": network, "version": version}
    block = cbor.encode({"data": data, "metadata": metadata, "type": message.type.value})
    if len(block) > MESSAGE_BYTES_MAX:
        raise LocalError(f"a message of {len(block)} bytes; at most {MESSAGE_BYTES_MAX}")
    return block


def decode(block: bytes) -> NetworkMessage:
    """The message in a block, its form and ranges checked, its signature not. Raises `RemoteError`."""
    match cbor.decode(block, bytes_max=MESSAGE_BYTES_MAX):
        case {
            "data": {"payload": payload, "signature": bytes(signature), "timestamp": [int(ms), int(quality)], **data},
            "metadata": {"network": str(network), "version": int(version), **metadata},
            "type": str(kind),
            **rest,
        } if not data and not metadata and not rest:
            pass
        case _:
            raise RecordInvalid("message: fields are missing, unknown or of another type", reason="malformed")
    if version != VERSION or isinstance(version, bool):
        raise RecordInvalid(f"message of version {version}", reason="version")
    if kind not in list(MessageType):
        raise RecordInvalid(f"message of unknown type {kind[:40]!r}", reason="unknown_type")
    if network not in list(Network):
        raise RecordInvalid(f"message of unknown network {network[:40]!r}", reason="unknown_network")
    if len(signature) != SIGNATURE_BYTES:
        raise RecordInvalid(f"message: a signature of {len(signature)} bytes", reason="signature")
    if isinstance(ms, bool) or not 0 <= ms <= INTEGER_MAX or quality not in (0, 1, 2) or isinstance(quality, bool):
        raise RecordInvalid("message: timestamp is out of range", reason="timestamp")
    found = from_value(payload)
    if type_of(found).value != kind:
        raise RecordInvalid(f"message of type {kind} holds something else", reason="unknown_type")
    return NetworkMessage(Network(network), WallTime(ms, QUALITIES[quality]), found, signature, version)


def _header(message: NetworkMessage) -> tuple[Any, ...]:
    at = [message.timestamp.ms, QUALITIES.index(message.timestamp.quality)]
    return message.network.value, message.version, at
