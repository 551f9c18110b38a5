"""The messages of the protocol `hypercore/alpha`: what two peers say about one core. Pure: values to bytes and back.

Each message is an immutable value with `encode()`; `decode_<name>` reads one. The message's type travels outside
(`MessageType`, the order in which stock peers register them). A field that is absent is None, 0 or False.

Any bytes become a message or a `RemoteError`. Bytes after the last known field and unknown flags are ignored, as stock
peers do, so that the protocol can grow; what is read is never larger than what was received, and a proof has at most
`PROOF_NODES_MAX` nodes of a kind. Whether a message makes sense is for whoever uses it to judge.

A log that is replicated block by block passes through `Request` and `Data` twice per block. These two and their parts
for a block are named tuples, because a frozen dataclass costs five times as much to make, and the common shapes - a
request for a block, a block with a few nodes - are read and written inline here before the general `Reader` is asked.
The messages about who holds which blocks are in `holdings`, and are named here too.
Spec: hypercore 11.37, lib/messages.js.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from edge.crypto.hashing import HASH_BYTES
from edge.encoding.compact import Reader, array, buffer, fixed, string, uint
from edge.errors import RemoteError
from edge.hypercore.holdings import (
    Bitfield,
    Range,
    Unwant,
    Want,
    decode_bitfield,
    decode_range,
    decode_unwant,
    decode_want,
    stretch,
)
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Node
from edge.limits import INTEGER_MAX, PROOF_NODES_MAX, SIGNATURE_BYTES_MAX

__all__ = [
    "INVALID_REQUEST",
    "NOT_AVAILABLE",
    "Bitfield",
    "BlockProof",
    "BlockRef",
    "Cancel",
    "Data",
    "Extension",
    "Handshake",
    "HashProof",
    "MessageType",
    "NoData",
    "Range",
    "Request",
    "SeekProof",
    "SeekRef",
    "Sync",
    "Unwant",
    "UpgradeProof",
    "UpgradeRef",
    "Want",
    "decode_bitfield",
    "decode_cancel",
    "decode_data",
    "decode_extension",
    "decode_handshake",
    "decode_no_data",
    "decode_range",
    "decode_request",
    "decode_sync",
    "decode_unwant",
    "decode_want",
    "read_upgrade",
]

_BYTE: Final = tuple(bytes((value,)) for value in range(0xFD))  # integers that take one byte, encoded
_BLOCK, _HASH, _SEEK, _UPGRADE, _MANIFEST, _PRIORITY = 1, 2, 4, 8, 16, 32
_NODE_BYTES_MIN: Final = HASH_BYTES + 2
_U32: Final = struct.Struct("<I").unpack_from
_U64: Final = struct.Struct("<Q").unpack_from


class MessageType(IntEnum):
    """The number of a message in its channel."""

    SYNC = 0
    REQUEST = 1
    CANCEL = 2
    DATA = 3
    NO_DATA = 4
    WANT = 5
    UNWANT = 6
    BITFIELD = 7
    RANGE = 8
    EXTENSION = 9


# --- what opens a channel --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Handshake:
    """Sent when a channel is opened; the capability proves that the sender knows the core's key."""

    seeks: bool
    capability: bytes

    def encode(self) -> bytes:
        """The bytes on the wire."""
        return _BYTE[self.seeks] + fixed(self.capability, HASH_BYTES)


def decode_handshake(payload: bytes) -> Handshake:
    """The handshake in `payload`."""
    reader = Reader(payload)
    return Handshake(bool(reader.uint() & 1), reader.raw(HASH_BYTES))


@dataclass(frozen=True, slots=True)
class Sync:
    """What the sender's log is, and what it last heard of the receiver's length."""

    fork: int
    length: int
    remote_length: int
    can_upgrade: bool
    uploading: bool
    downloading: bool
    has_manifest: bool
    allow_push: bool

    def encode(self) -> bytes:
        """The bytes on the wire."""
        flags = (
            self.can_upgrade
            | self.uploading << 1
            | self.downloading << 2
            | self.has_manifest << 3
            | self.allow_push << 4
        )
        return _BYTE[flags] + uint(self.fork) + uint(self.length) + uint(self.remote_length)


def decode_sync(payload: bytes) -> Sync:
    """The sync in `payload`."""
    reader = Reader(payload)
    flags = reader.uint()
    fork, length, remote_length = reader.uint(), reader.uint(), reader.uint()
    return Sync(
        fork,
        length,
        remote_length,
        bool(flags & 1),
        bool(flags & 2),
        bool(flags & 4),
        bool(flags & 8),
        bool(flags & 16),
    )


# --- asking ----------------------------------------------------------------------------------------------------------


class BlockRef(NamedTuple):
    """A block by number, or in a `hash` request a tree node by index; and how many levels above it are wanted."""

    index: int  # type: ignore[assignment]  # the field's word; hides tuple.index, which nobody needs here
    nodes: int


@dataclass(frozen=True, slots=True)
class SeekRef:
    """A byte offset; `padding` bytes of each block do not count (the header of an encrypted block)."""

    bytes: int
    padding: int


@dataclass(frozen=True, slots=True)
class UpgradeRef:
    """The tree from `start` blocks to `start + length`."""

    start: int
    length: int


class Request(NamedTuple):
    """What the sender wants; answered by `Data` or `NoData` with the same id."""

    id: int
    fork: int
    block: BlockRef | None = None
    hash: BlockRef | None = None
    seek: SeekRef | None = None
    upgrade: UpgradeRef | None = None
    manifest: bool = False
    priority: int = 0

    def encode(self) -> bytes:
        """The bytes on the wire."""
        number, fork, block, node, seek, upgrade, manifest, priority = self
        if block is not None and node is None and seek is None and upgrade is None and not manifest and not priority:
            return b"".join((b"\x01", uint(number), uint(fork), uint(block[0]), uint(block[1])))
        flags = _BLOCK if block else 0
        parts = [uint(number), uint(fork)]
        if block:
            parts += uint(block.index), uint(block.nodes)
        if node:
            flags |= _HASH
            parts += uint(node.index), uint(node.nodes)
        if seek:
            flags |= _SEEK
            parts += uint(seek.bytes), uint(seek.padding)
        if upgrade:
            flags |= _UPGRADE
            parts += uint(upgrade.start), uint(upgrade.length)
        if manifest:
            flags |= _MANIFEST
        if priority:
            flags |= _PRIORITY
            parts.append(uint(priority))
        return _BYTE[flags] + b"".join(parts)


def decode_request(payload: bytes) -> Request:
    """The request in `payload`."""
    if payload[:1] == b"\x01":  # a block and nothing else
        try:
            number, at = _uint(payload, 1)
            fork, at = _uint(payload, at)
            index, at = _uint(payload, at)
            nodes, at = _uint(payload, at)
        except (IndexError, struct.error):
            pass  # cut short: the reader says where
        else:
            return Request(number, fork, BlockRef(index, nodes))
    reader = Reader(payload)
    flags = reader.uint()
    return Request(
        reader.uint(),
        reader.uint(),
        BlockRef(reader.uint(), reader.uint()) if flags & _BLOCK else None,
        BlockRef(reader.uint(), reader.uint()) if flags & _HASH else None,
        SeekRef(reader.uint(), reader.uint()) if flags & _SEEK else None,
        UpgradeRef(*stretch(reader)) if flags & _UPGRADE else None,
        bool(flags & _MANIFEST),
        reader.uint() if flags & _PRIORITY else 0,
    )


@dataclass(frozen=True, slots=True)
class Cancel:
    """The request `id` needs no answer any more."""

    id: int

    def encode(self) -> bytes:
        """The bytes on the wire."""
        return uint(self.id)


def decode_cancel(payload: bytes) -> Cancel:
    """The cancel in `payload`."""
    return Cancel(Reader(payload).uint())


# --- answering -------------------------------------------------------------------------------------------------------


class BlockProof(NamedTuple):
    """A stored block, and the nodes that tie it to one that the receiver knows."""

    index: int  # type: ignore[assignment]  # as in BlockRef
    value: bytes
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class HashProof:
    """A tree node (the first of `nodes`), and those that tie it to one that the receiver knows."""

    index: int
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class SeekProof:
    """The node at a byte offset (the first of `nodes`), and those that tie it to the rest of the proof."""

    bytes: int
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class UpgradeProof:
    """A longer tree: nodes up to the length that was asked for, `additional` ones up to the length that was signed."""

    start: int
    length: int
    nodes: tuple[Node, ...]
    additional: tuple[Node, ...]
    signature: bytes

    def encode(self) -> bytes:
        """The bytes on the wire, within a `Data`."""
        return b"".join(
            (
                uint(self.start),
                uint(self.length),
                _nodes(self.nodes),
                _nodes(self.additional),
                buffer(self.signature),
            )
        )


class Data(NamedTuple):
    """The answer to request `id`; id 0 for what nobody asked for."""

    id: int
    fork: int
    block: BlockProof | None = None
    hash: HashProof | None = None
    seek: SeekProof | None = None
    upgrade: UpgradeProof | None = None
    manifest: Manifest | None = None

    def encode(self) -> bytes:
        """The bytes on the wire."""
        number, fork, block, node, seek, upgrade, manifest = self
        flags = 0
        parts = [uint(number), uint(fork)]
        if block is not None:
            flags |= _BLOCK
            value = block.value
            parts += uint(block[0]), uint(len(value)), value, _nodes(block.nodes)
        if node is not None:
            flags |= _HASH
            parts += uint(node.index), _nodes(node.nodes)
        if seek is not None:
            flags |= _SEEK
            parts += uint(seek.bytes), _nodes(seek.nodes)
        if upgrade is not None:
            flags |= _UPGRADE
            parts.append(upgrade.encode())
        if manifest is not None:
            flags |= _MANIFEST
            parts.append(manifest.encode())
        return _BYTE[flags] + b"".join(parts)


def decode_data(payload: bytes) -> Data:
    """The data in `payload`."""
    if payload[:1] == b"\x01":  # a block and nothing else
        try:
            return _decode_block(payload)
        except (IndexError, struct.error):
            pass  # cut short: the reader says where
    reader = Reader(payload)
    flags = reader.uint()
    return Data(
        reader.uint(),
        reader.uint(),
        BlockProof(reader.uint(), reader.buffer(), _read_nodes(reader)) if flags & _BLOCK else None,
        HashProof(reader.uint(), _read_nodes(reader)) if flags & _HASH else None,
        SeekProof(reader.uint(), _read_nodes(reader)) if flags & _SEEK else None,
        read_upgrade(reader) if flags & _UPGRADE else None,
        Manifest.decode(reader.rest()) if flags & _MANIFEST else None,
    )


def read_upgrade(reader: Reader) -> UpgradeProof:
    """The upgrade that stands next in a message."""
    start, length = stretch(reader)
    nodes, additional, signature = _read_nodes(reader), _read_nodes(reader), reader.buffer()
    if len(signature) > SIGNATURE_BYTES_MAX:
        raise RemoteError(f"a signature of {len(signature)} bytes; at most {SIGNATURE_BYTES_MAX}", reason="too_large")
    return UpgradeProof(start, length, nodes, additional, signature)


@dataclass(frozen=True, slots=True)
class NoData:
    """Request `id` is not answered: `NOT_AVAILABLE`, `INVALID_REQUEST`, or 0 where the sender gives no reason."""

    id: int
    reason: int

    def encode(self) -> bytes:
        """The bytes on the wire."""
        return uint(self.id) + (b"\x01" + uint(self.reason) if self.reason else b"\x00")


NOT_AVAILABLE: Final = 1
INVALID_REQUEST: Final = 2


def decode_no_data(payload: bytes) -> NoData:
    """The no-data in `payload`."""
    reader = Reader(payload)
    number = reader.uint()
    flags = reader.uint() if reader.left else 0
    return NoData(number, reader.uint() if flags & 1 else 0)


# --- anything else ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Extension:
    """Bytes for a named extension of the protocol; an empty name repeats the one before in this direction."""

    name: str
    payload: bytes

    def encode(self) -> bytes:
        """The bytes on the wire."""
        return string(self.name) + self.payload


def decode_extension(payload: bytes) -> Extension:
    """The extension message in `payload`."""
    reader = Reader(payload)
    return Extension(reader.string(), reader.rest())


# --- parts -----------------------------------------------------------------------------------------------------------


_TUPLE: Final = tuple.__new__  # makes a named tuple in half the time


def _decode_block(payload: bytes) -> Data:
    """A block and nothing else. Raises `IndexError` or `struct.error` if it is cut short."""
    number, at = _uint(payload, 1)
    fork, at = _uint(payload, at)
    index, at = _uint(payload, at)
    size, at = _uint(payload, at)
    value = payload[at : at + size]
    at += size
    count = payload[at]  # raises where the value was cut short, too
    at += 1
    if count > PROOF_NODES_MAX:
        raise IndexError  # the reader judges it
    end = len(payload)
    nodes = []
    for _ in range(count):
        place, at = _uint(payload, at)
        bytes_below, at = _uint(payload, at)
        start = at
        at += HASH_BYTES
        if at > end:
            raise IndexError
        nodes.append(_TUPLE(Node, (place, bytes_below, payload[start:at])))
    block = _TUPLE(BlockProof, (index, value, tuple(nodes)))
    return _TUPLE(Data, (number, fork, block, None, None, None, None))


def _uint(data: bytes, at: int) -> tuple[int, int]:
    """The integer at `at` and the offset behind it. Raises `IndexError` or `struct.error` if it is cut short."""
    first = data[at]
    if first < 0xFD:
        return first, at + 1
    if first == 0xFD:
        return data[at + 1] | data[at + 2] << 8, at + 3
    if first == 0xFE:
        return _U32(data, at + 1)[0], at + 5
    value: int = _U64(data, at + 1)[0]
    if value > INTEGER_MAX:
        raise RemoteError(f"integer {value} is beyond 2^53-1", reason="range")
    return value, at + 9


def _nodes(nodes: tuple[Node, ...]) -> bytes:
    return array(uint(index) + uint(size) + digest for index, size, digest in nodes)


def _read_nodes(reader: Reader) -> tuple[Node, ...]:
    return tuple(reader.array(_read_node, items_max=PROOF_NODES_MAX, item_bytes_min=_NODE_BYTES_MIN))


def _read_node(reader: Reader) -> Node:
    return Node(reader.uint(), reader.uint(), reader.raw(HASH_BYTES))
