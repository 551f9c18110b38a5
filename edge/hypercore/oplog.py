"""What a core writes into its segment log, and the state that replaying it gives. Pure: records in, state out.

Record kinds (payloads: FORMATS.md, "Hypercore on the segment log"):

    HEADER     once, first: key and manifest
    BLOCK      one stored block; its index is the length at that point, so blocks carry no overhead
    TRUNCATE   new length and new, higher fork; blocks past it are history from here on
    SIGNATURE  a quorum's signature over the length, fork and tree at exactly this point of the log
    PARTIAL    one signer's part, of a core that needs several

`Oplog.apply` takes durable records in order. It keeps no object per block: stretches of consecutive blocks that lie in
consecutive records are one entry of two integer arrays. Records come from our own disk and passed its checks, so one
that breaks a rule here is reported as `StorageError` CORRUPT.
"""

from array import array as int_array
from bisect import bisect_right
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from edge.crypto.hashing import HASH_BYTES
from edge.crypto.keys import SIGNATURE_BYTES
from edge.encoding.compact import Reader, buffer, uint
from edge.errors import RemoteError, StorageError, StorageFault
from edge.hypercore.manifest import Manifest
from edge.hypercore.verifier import Verifier
from edge.limits import PARTIAL_SIGNATURES_MAX

FORMAT_VERSION: Final = 1
_ENCRYPTED: Final = 1


class RecordKind(IntEnum):
    """The kind byte of a record in the segment log."""

    HEADER = 1
    BLOCK = 2
    TRUNCATE = 3
    SIGNATURE = 4
    PARTIAL = 5


BLOCK: Final = int(RecordKind.BLOCK)


@dataclass(frozen=True, slots=True)
class CoreHeader:
    """What never changes about a core."""

    verifier: Verifier
    encrypted: bool

    def encode(self) -> bytes:
        """Payload of a HEADER record."""
        flags = _ENCRYPTED if self.encrypted else 0
        return uint(FORMAT_VERSION) + uint(flags) + self.verifier.key + buffer(self.verifier.manifest.encode())

    @classmethod
    def decode(cls, payload: bytes) -> "CoreHeader":
        """Raises `RemoteError`."""
        reader = Reader(payload)
        version = reader.uint()
        if version != FORMAT_VERSION:
            raise RemoteError(f"core format {version}; this software knows {FORMAT_VERSION}", reason="version")
        flags = reader.uint()
        if flags & ~_ENCRYPTED:
            raise RemoteError(f"core flags {flags:#x} are unknown", reason="version")
        key = reader.raw(HASH_BYTES)
        manifest = Manifest.decode(reader.buffer())
        reader.end()
        return cls(Verifier(key, manifest), bool(flags & _ENCRYPTED))


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


class Oplog:
    """The state of a core as far as its log says: header, length, fork, where each block lies, signatures."""

    def __init__(self) -> None:
        self.header: CoreHeader | None = None
        self.next_sequence = 0
        self.length = 0
        self.fork = 0
        self.signed: Signed | None = None  # the newest of the current fork
        self.partials: dict[tuple[int, int], bytes] = {}  # (length, signer) → signature, above the signed length
        self.run_indexes: int_array[int] = int_array("Q")  # first block of each stretch
        self.run_sequences: int_array[int] = int_array("Q")  # and its record

    def apply(self, sequence: int, kind: int, payload: bytes) -> None:
        """Take the next record. Raises `StorageError` CORRUPT, leaving the state as it was."""
        try:
            if sequence != self.next_sequence:
                raise RemoteError(f"record {self.next_sequence} is missing")
            if (self.header is None) != (kind == RecordKind.HEADER):
                raise RemoteError("the header is not the first record, or there are two")
            if kind == BLOCK:
                self.appended(sequence, 1)
                return
            self._apply_rare(kind, payload)
        except RemoteError as error:
            raise StorageError(f"core record {sequence}: {error}", fault=StorageFault.CORRUPT) from error
        self.next_sequence = sequence + 1

    def appended(self, first_sequence: int, count: int) -> None:
        """`count` blocks became durable in consecutive records from `first_sequence` on."""
        runs = self.run_indexes
        if not runs or self.run_sequences[-1] + self.length - runs[-1] != first_sequence:
            runs.append(self.length)
            self.run_sequences.append(first_sequence)
        self.length += count
        self.next_sequence = first_sequence + count

    def sequence_of(self, index: int) -> int:
        """The record that holds block `index`, which must be below the length."""
        run = bisect_right(self.run_indexes, index) - 1
        return self.run_sequences[run] + index - self.run_indexes[run]

    def index_of(self, sequence: int) -> int | None:
        """The block that record `sequence` holds; None if it holds none, or one that a truncation dropped."""
        run = bisect_right(self.run_sequences, sequence) - 1
        if run < 0:
            return None
        index = self.run_indexes[run] + sequence - self.run_sequences[run]
        end = self.run_indexes[run + 1] if run + 1 < len(self.run_indexes) else self.length
        return index if index < end else None

    def _apply_rare(self, kind: int, payload: bytes) -> None:
        if kind == RecordKind.HEADER:
            self.header = CoreHeader.decode(payload)
        elif kind == RecordKind.TRUNCATE:
            self._truncate(*decode_truncate(payload))
        elif kind == RecordKind.SIGNATURE:
            signed = Signed.decode(payload)
            if signed.fork != self.fork or signed.length > self.length:
                raise RemoteError("it signs a state that the log did not have")
            self.signed = signed
            self.partials = {key: value for key, value in self.partials.items() if key[0] > signed.length}
        elif kind == RecordKind.PARTIAL:
            partial = Partial.decode(payload)
            if partial.fork != self.fork or partial.length > self.length:
                raise RemoteError("it signs a state that the log did not have")
            if len(self.partials) >= PARTIAL_SIGNATURES_MAX:
                del self.partials[min(self.partials)]
            self.partials[partial.length, partial.signer] = partial.signature
        else:
            raise RemoteError(f"kind {kind} is unknown", reason="version")

    def _truncate(self, length: int, fork: int) -> None:
        if length > self.length or fork <= self.fork:
            raise RemoteError(f"truncation of {self.length} blocks, fork {self.fork}, to {length}, fork {fork}")
        self.length, self.fork = length, fork
        self.signed = None
        self.partials = {}
        while self.run_indexes and self.run_indexes[-1] >= length:
            self.run_indexes.pop()
            self.run_sequences.pop()
