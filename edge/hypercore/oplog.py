"""The state that replaying a core's records gives. Pure: records (`records.py`) in, state out.

`Oplog.apply` takes durable records in order. It keeps no object per block: where the held blocks lie is a few integer
arrays (`runs.py`). Records come from our own disk and passed its checks, so one that breaks a rule here is reported as
`StorageError` CORRUPT. Tree nodes are not kept here: see `replay` in `recovery.py`.
"""

from typing import Final

from edge.errors import RemoteError, SignatureError, StorageError, StorageFault
from edge.hypercore.conflict import Conflict, decode_conflict
from edge.hypercore.manifest import Manifest
from edge.hypercore.records import (
    BLOCK,
    PART,
    CoreHeader,
    Partial,
    RecordKind,
    Signed,
    Upgrade,
    decode_clear,
    decode_nodes,
    decode_truncate,
    put_index,
)
from edge.hypercore.runs import Runs, Stretch
from edge.hypercore.verifier import Verifier
from edge.limits import PARTIAL_SIGNATURES_MAX
from edge.storage.runs import DISCARDED
from edge.storage.spans import Spans

_FREED_BLOCK: Final = bytes((RecordKind.BLOCK,))
_FREED_PART: Final = bytes((RecordKind.PART,))
_FREED_PUT: Final = bytes((RecordKind.PUT,))


class Oplog:
    """The state of a core as far as its log says: header, length, fork, where each block lies, signatures."""

    def __init__(self) -> None:
        self.header: CoreHeader | None = None
        self.verifier: Verifier | None = None  # None: only the key is known
        self.next_sequence = 0
        self.length = 0
        self.fork = 0
        self.runs: Runs = Runs()
        self.signed: Signed | None = None  # the newest of the current fork
        self.partials: dict[tuple[int, int], bytes] = {}  # (length, signer) → signature, above the signed length
        self.foreign_signers: set[int] = set()  # who signed states that came from peers
        self.plain = True  # every block below the length was appended here and is held: blocks alone give the tree
        self.conflict: Conflict | None = None
        self.unfinished: int | None = None  # first block of an append whose last block is not there (yet)
        self.discarded = Spans()  # records of cleared blocks: their room may be used otherwise

    def apply(self, sequence: int, kind: int, payload: bytes) -> None:
        """Take the next record. Raises `StorageError` CORRUPT, leaving the state as it was."""
        try:
            if sequence != self.next_sequence:
                raise RemoteError(f"record {self.next_sequence} is missing")
            if (self.header is None) != (kind == RecordKind.HEADER):
                raise RemoteError("the header is not the first record, or there are two")
            if self.conflict is not None:
                raise RemoteError("it follows the proof of a conflict")
            if kind == BLOCK or (kind == DISCARDED and payload == _FREED_BLOCK):  # its CLEAR record comes later
                self.appended(sequence, 1)
                self.unfinished = None
                return
            if kind == PART or (kind == DISCARDED and payload == _FREED_PART):
                self.unfinished = self.length if self.unfinished is None else self.unfinished
                self.appended(sequence, 1)
                return
            if self.unfinished is not None and kind != RecordKind.TRUNCATE:
                raise RemoteError("it stands within an append")
            if kind == DISCARDED:
                if payload != _FREED_PUT:
                    raise RemoteError("it was discarded, but it held no block")
            else:
                self._apply_rare(sequence, kind, payload)
        except (RemoteError, SignatureError) as error:
            raise StorageError(f"core record {sequence}: {error}", fault=StorageFault.CORRUPT) from error
        self.next_sequence = sequence + 1

    def appended(self, first_sequence: int, count: int) -> None:
        """`count` blocks became durable in consecutive records from `first_sequence` on."""
        self.runs.add(self.length, first_sequence, count)
        self.length += count
        self.next_sequence = first_sequence + count

    def put(self, stretches: list[Stretch], count: int) -> None:
        """`count` blocks of peers became durable in the next records; `stretches` ascending, none of them held."""
        self.runs.add_all(stretches)
        self.plain = False
        self.next_sequence += count

    def sequence_of(self, index: int) -> int | None:
        """The record that holds block `index`; None if it is not held."""
        return self.runs.find(index)

    def index_of(self, sequence: int) -> int | None:
        """The block that record `sequence` holds; None if it holds none, or one that was given up."""
        return self.runs.index_of(sequence)

    def _apply_rare(self, sequence: int, kind: int, payload: bytes) -> None:
        if kind == RecordKind.PUT:
            index = put_index(payload)
            if index >= self.length:
                raise RemoteError(f"block {index} of {self.length}")
            self.runs.add(index, sequence, 1)
            self.plain = False
        elif kind == RecordKind.HEADER:
            self.header = CoreHeader.decode(payload)
            self.verifier = self.header.verifier
        elif kind == RecordKind.TRUNCATE:
            length, fork = decode_truncate(payload)
            if length > self.length or fork <= self.fork:
                raise RemoteError(f"truncation of {self.length} blocks, fork {self.fork}, to {length}, fork {fork}")
            self._cut(length, fork)
        elif kind == RecordKind.SIGNATURE:
            signed = Signed.decode(payload)
            self._check_state(signed.length, signed.fork)
            self._sign(signed)
        elif kind == RecordKind.PARTIAL:
            partial = Partial.decode(payload)
            self._check_state(partial.length, partial.fork)
            if len(self.partials) >= PARTIAL_SIGNATURES_MAX:
                del self.partials[min(self.partials)]
            self.partials[partial.length, partial.signer] = partial.signature
        elif kind == RecordKind.UPGRADE:
            self._upgrade(Upgrade.decode(payload))
        elif kind == RecordKind.NODES:
            decode_nodes(payload)
            self.plain = False
        elif kind == RecordKind.CLEAR:
            start, end, _ = decode_clear(payload)
            if end > self.length:
                raise RemoteError(f"blocks up to {end} of {self.length} were cleared")
            for first, last in self.runs.drop(start, end):
                self.discarded.add(first, last)
            self.plain = False
        elif kind == RecordKind.MANIFEST:
            assert self.header is not None
            if self.verifier is not None:
                raise RemoteError("the manifest is known already")
            self.verifier = Verifier(self.header.key, Manifest.decode(payload))
        elif kind == RecordKind.CONFLICT:
            self.conflict = decode_conflict(payload)
        else:
            raise RemoteError(f"kind {kind} is unknown", reason="version")

    def _check_state(self, length: int, fork: int) -> None:
        if fork != self.fork or length > self.length:
            raise RemoteError("it signs a state that the log did not have")

    def _sign(self, signed: Signed) -> None:
        self.signed = signed
        self.partials = {key: value for key, value in self.partials.items() if key[0] > signed.length}

    def _cut(self, length: int, fork: int) -> None:
        self.length, self.fork = length, fork
        self.signed = self.unfinished = None
        self.partials = {}
        self.runs.truncate(length)

    def _upgrade(self, upgrade: Upgrade) -> None:
        shared, length = upgrade.shared, upgrade.tree.length
        if self.verifier is None:
            raise RemoteError("a signed state, but nobody knows who signs")
        if shared > min(self.length, length) or upgrade.fork < self.fork:
            raise RemoteError(f"fork {upgrade.fork} with {shared} of {self.length} blocks, at fork {self.fork}")
        if upgrade.fork == self.fork and length <= self.length:
            raise RemoteError(f"growth of {self.length} blocks to {length}")
        signers = self.verifier.signers(upgrade.signature)
        if upgrade.fork > self.fork or shared < self.length:
            self._cut(shared, upgrade.fork)
        self.length = length
        self.plain = False
        self._sign(upgrade.signed)
        self.foreign_signers.update(signers)
