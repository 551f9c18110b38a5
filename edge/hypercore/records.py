"""What a core writes into its segment log: the kinds of records and their payloads. Pure: values to bytes and back.

    HEADER     once, first: key, and the manifest unless only the key is known
    BLOCK      one stored block of our own; its index is the length at that point, so it carries no overhead
    TRUNCATE   new length and new, higher fork; blocks past it are history from here on
    SIGNATURE  a quorum's signature over the length, fork and tree at exactly this point of the log
    PARTIAL    one signer's part, of a core that needs several
    MANIFEST   what the key alone did not say, once a peer has told it
    UPGRADE    a signed state that a peer proved: the log is so long, whether or not its blocks are here
    PUT        a block that a peer proved, at its index, with the tree nodes that came with it
    NODES      tree nodes that a peer proved otherwise
    CLEAR      blocks given up, with the tree nodes that others still need of them
    CONFLICT   the proof that two histories were signed; nothing follows it
    PART       a block of our own that counts only together with the next one: all of an append or nothing

Payloads are compact-encoding, or fixed little-endian where tree nodes stand; FORMATS.md, "A core on the segment log".
What came from a peer was proven before it was written, so nothing is proven again when it is read back.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from struct import error as struct_error
from typing import Final

from edge.crypto.hashing import HASH_BYTES
from edge.crypto.keys import SIGNATURE_BYTES
from edge.encoding.compact import Reader, buffer, uint
from edge.errors import LocalError, RemoteError
from edge.hypercore import flat_tree
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Node, Tree
from edge.hypercore.verifier import Verifier

FORMAT_VERSION: Final = 1
_ENCRYPTED, _KEY_ONLY = 1, 2
_PUT_HEAD: Final = Struct("<QB")
_NODE: Final = Struct("<QQ32s")
_RANGE: Final = Struct("<QQ")
NODE_BYTES: Final = _NODE.size
PUT_NODES_MAX: Final = 255


class RecordKind(IntEnum):
    """The kind byte of a record in the segment log."""

    HEADER = 1
    BLOCK = 2
    TRUNCATE = 3
    SIGNATURE = 4
    PARTIAL = 5
    MANIFEST = 6
    UPGRADE = 7
    PUT = 8
    NODES = 9
    CLEAR = 10
    CONFLICT = 11
    PART = 12


BLOCK: Final = int(RecordKind.BLOCK)
PART: Final = int(RecordKind.PART)
WHOLE_BLOCKS: Final = frozenset({BLOCK, PART})  # kinds whose payload is a stored block and nothing else
PUT: Final = int(RecordKind.PUT)


@dataclass(frozen=True, slots=True)
class CoreHeader:
    """What never changes about a core. Without a verifier only its `key` is known: the manifest comes later."""

    verifier: Verifier | None
    encrypted: bool
    key: bytes = b""  # given where there is no verifier

    def __post_init__(self) -> None:
        if self.verifier is not None:
            object.__setattr__(self, "key", self.verifier.key)
        if len(self.key) != HASH_BYTES:
            raise LocalError("a core has a verifier or a key of 32 bytes")

    def encode(self) -> bytes:
        """Payload of a HEADER record."""
        flags = (_ENCRYPTED if self.encrypted else 0) | (_KEY_ONLY if self.verifier is None else 0)
        manifest = b"" if self.verifier is None else buffer(self.verifier.manifest.encode())
        return uint(FORMAT_VERSION) + uint(flags) + self.key + manifest

    @classmethod
    def decode(cls, payload: bytes) -> "CoreHeader":
        """Raises `RemoteError`."""
        reader = Reader(payload)
        version = reader.uint()
        if version != FORMAT_VERSION:
            raise RemoteError(f"core format {version}; this software knows {FORMAT_VERSION}", reason="version")
        flags = reader.uint()
        if flags & ~(_ENCRYPTED | _KEY_ONLY):
            raise RemoteError(f"core flags {flags:#x} are unknown", reason="version")
        key = reader.raw(HASH_BYTES)
        verifier = None if flags & _KEY_ONLY else Verifier(key, Manifest.decode(reader.buffer()))
        reader.end()
        return cls(verifier, bool(flags & _ENCRYPTED), key)


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature and the state that it covers."""

    length: int
    fork: int
    signature: bytes

    def encode(self) -> bytes:
        """Payload of a SIGNATURE record."""
        return uint(self.length) + uint(self.fork) + buffer(self.signature)

    @classmethod
    def decode(cls, payload: bytes) -> "Signed":
        """Raises `RemoteError`."""
        reader = Reader(payload)
        signed = cls(reader.uint(), reader.uint(), reader.buffer())
        reader.end()
        return signed


@dataclass(frozen=True, slots=True)
class Partial:
    """One signer's signature over a state."""

    signer: int
    length: int
    fork: int
    signature: bytes

    def encode(self) -> bytes:
        """Payload of a PARTIAL record."""
        return uint(self.signer) + uint(self.length) + uint(self.fork) + self.signature

    @classmethod
    def decode(cls, payload: bytes) -> "Partial":
        """Raises `RemoteError`."""
        reader = Reader(payload)
        partial = cls(reader.uint(), reader.uint(), reader.uint(), reader.raw(SIGNATURE_BYTES))
        reader.end()
        return partial


def encode_truncate(length: int, fork: int) -> bytes:
    """Payload of a TRUNCATE record."""
    return uint(length) + uint(fork)


def decode_truncate(payload: bytes) -> tuple[int, int]:
    """New length and new fork; raises `RemoteError`."""
    reader = Reader(payload)
    length, fork = reader.uint(), reader.uint()
    reader.end()
    return length, fork


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A signed state of the log at `fork`, of which the first `shared` blocks are those that were here before.

    `nodes` tie what was here to the new roots.
    """

    fork: int
    shared: int
    tree: Tree
    signature: bytes
    nodes: tuple[Node, ...]

    @property
    def signed(self) -> Signed:
        """The signature and what it covers."""
        return Signed(self.tree.length, self.fork, self.signature)

    def encode(self) -> bytes:
        """Payload of an UPGRADE record."""
        head = uint(self.fork) + uint(self.shared) + uint(self.tree.length)
        roots = b"".join([uint(root.size) + root.hash for root in self.tree.roots])
        return head + roots + buffer(self.signature) + encode_nodes(self.nodes)

    @classmethod
    def decode(cls, payload: bytes) -> "Upgrade":
        """Raises `RemoteError`."""
        reader = Reader(payload)
        fork, shared, length = reader.uint(), reader.uint(), reader.uint()
        roots = tuple([Node(i, reader.uint(), reader.raw(HASH_BYTES)) for i in flat_tree.full_roots(length)])
        return cls(fork, shared, Tree(length, roots), reader.buffer(), tuple(decode_nodes(reader.rest())))


def encode_nodes(nodes: Iterable[Node]) -> bytes:
    """Payload of a NODES record: 48 bytes a node."""
    return b"".join([_NODE.pack(*node) for node in nodes])


def decode_nodes(payload: bytes, start: int = 0, end: int | None = None) -> list[Node]:
    """Raises `RemoteError`."""
    try:
        return [Node(*fields) for fields in _NODE.iter_unpack(payload[start:end])]
    except struct_error as error:
        raise RemoteError(f"tree nodes: {error}") from error


def encode_put(index: int, nodes: tuple[Node, ...] | list[Node], stored: bytes) -> bytes:
    """Payload of a PUT record. The hot path of a replica."""
    count = len(nodes)
    if count == 1:
        return b"".join((_PUT_HEAD.pack(index, 1), _NODE.pack(*nodes[0]), stored))
    if count > PUT_NODES_MAX:
        raise LocalError(f"{count} nodes beside one block")
    return b"".join((_PUT_HEAD.pack(index, count), *[_NODE.pack(*node) for node in nodes], stored))


def put_index(payload: bytes) -> int:
    """The block that a PUT record holds. Raises `RemoteError`."""
    if len(payload) < _PUT_HEAD.size or len(payload) < put_start(payload):
        raise RemoteError("a block with its nodes ends early")
    return int.from_bytes(payload[:8], "little")


def put_start(payload: bytes) -> int:
    """Where in a PUT record's payload the stored block begins."""
    return _PUT_HEAD.size + payload[8] * _NODE.size


def put_nodes(payload: bytes) -> list[Node]:
    """The tree nodes beside the block of a PUT record."""
    return decode_nodes(payload, _PUT_HEAD.size, put_start(payload))


def encode_clear(start: int, end: int, nodes: Iterable[Node]) -> bytes:
    """Payload of a CLEAR record."""
    return _RANGE.pack(start, end) + encode_nodes(nodes)


def decode_clear(payload: bytes) -> tuple[int, int, list[Node]]:
    """First block, the one behind the last, and the nodes; raises `RemoteError`."""
    if len(payload) < _RANGE.size:
        raise RemoteError("a range of cleared blocks ends early")
    start, end = _RANGE.unpack_from(payload)
    return start, end, decode_nodes(payload, _RANGE.size)
