"""A derived summary of a core's log up to one record, so that opening need not read every block again.

It is never synced, and believed only if its own hash holds, it names this very log, and the log's record before its
position is still the one it saw. Anything else means: replay from the start. Format: FORMATS.md, "Core checkpoint".
"""

import sys
from array import array
from collections.abc import Callable
from typing import Final

from edge.crypto.hashing import HASH_BYTES, hash256
from edge.encoding import cbor
from edge.errors import LocalError, RemoteError, StorageError
from edge.hypercore.conflict import decode_conflict
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Node, Tree
from edge.hypercore.oplog import Oplog
from edge.hypercore.records import CoreHeader, Signed
from edge.hypercore.runs import Runs
from edge.hypercore.verifier import Verifier
from edge.storage.codec import Record
from edge.storage.disk import Disk

NAME: Final = "checkpoint"
_TEMPORARY: Final = "checkpoint.tmp"
_VERSION: Final = 2
_BYTES_MAX: Final = 64 * 1024 * 1024  # two and a half million stretches of blocks

ReadRecord = Callable[[int], Record]


def encode(oplog: Oplog, tree: Tree, store_id: bytes, last: Record) -> bytes:
    """The checkpoint of this state, of which `last` was the newest record."""
    signed, verifier = oplog.signed, oplog.verifier
    body = cbor.encode(
        [
            _VERSION,
            store_id,
            oplog.next_sequence,
            _digest(last),
            oplog.length,
            oplog.fork,
            [[root.index, root.size, root.hash] for root in tree.roots],
            _little_endian(oplog.runs.firsts),
            _little_endian(oplog.runs.sequences),
            _little_endian(oplog.runs.ends),
            [] if signed is None else [signed.length, signed.fork, signed.signature],
            [[length, signer, signature] for (length, signer), signature in sorted(oplog.partials.items())],
            b"" if verifier is None else verifier.manifest.encode(),
            sorted(oplog.foreign_signers),
            oplog.plain,
            b"" if oplog.conflict is None else oplog.conflict.encode(),
            [list(each) for each in oplog.discarded],
        ]
    )
    return body + hash256(body)


def decode(data: bytes, header: CoreHeader, store_id: bytes, read: ReadRecord) -> tuple[Oplog, Tree]:
    """State and roots; raises `RemoteError` where the checkpoint must not be believed."""
    oplog, tree, store, digest, manifest = _parse(data)
    if store != store_id:
        raise RemoteError("checkpoint: of another log")
    try:
        if _digest(read(oplog.next_sequence - 1)) != digest:
            raise RemoteError("checkpoint: the log has other content")
    except (IndexError, StorageError) as error:
        raise RemoteError(f"checkpoint: {error}") from error
    oplog.header = header
    oplog.verifier = header.verifier
    if header.verifier is None and manifest:
        oplog.verifier = Verifier(header.key, Manifest.decode(manifest))
    return oplog, tree


def block_of(data: bytes | None, sequence: int) -> int | None:
    """Which block record `sequence` held at the checkpoint: names a block of a log that cannot be opened."""
    if data is None:
        return None
    try:
        return _parse(data)[0].index_of(sequence)
    except RemoteError:
        return None


def _parse(data: bytes) -> tuple[Oplog, Tree, bytes, bytes, bytes]:
    """State without header, roots, the log's id, the digest of its last record, and the manifest."""
    body, own_hash = data[:-HASH_BYTES], data[-HASH_BYTES:]
    if hash256(body) != own_hash:
        raise RemoteError("checkpoint: damaged")
    match cbor.decode(body, bytes_max=_BYTES_MAX):
        case [
            2,
            bytes(store),
            int(sequence),
            bytes(digest),
            int(length),
            int(fork),
            list(roots),
            bytes(indexes),
            bytes(sequences),
            bytes(ends),
            list(signed),
            list(partials),
            bytes(manifest),
            list(signers),
            bool(plain),
            bytes(conflict),
            list(discards),
        ]:
            pass
        case _:
            raise RemoteError("checkpoint: another version", reason="version")
    oplog = Oplog()
    oplog.next_sequence, oplog.length, oplog.fork = sequence, length, fork
    try:
        if not len(indexes) == len(sequences) == len(ends):
            raise ValueError("stretches of blocks that miss a part")
        oplog.runs = Runs(_from_little_endian(indexes), _from_little_endian(sequences), _from_little_endian(ends))
        oplog.signed = Signed(*signed) if signed else None
        oplog.partials = {(at, signer): signature for at, signer, signature in partials}
        oplog.foreign_signers = set(signers)
        oplog.plain = plain
        oplog.conflict = decode_conflict(conflict) if conflict else None
        for first, end in discards:
            oplog.discarded.add(first, end)
        tree = Tree(length, tuple(Node(*root) for root in roots))
    except (LocalError, TypeError, ValueError, OverflowError) as error:  # its hash holds, and yet it is none of ours
        raise RemoteError(f"checkpoint: {error}") from error
    return oplog, tree, store, digest, manifest


def save(disk: Disk, data: bytes) -> None:
    """Replace the checkpoint in one step. Raises `OSError`; then the old one is still there."""
    file = disk.open(_TEMPORARY, create=True)
    try:
        file.pwrite(data, 0)
    finally:
        file.close()
    disk.rename(_TEMPORARY, NAME)


def load(disk: Disk) -> bytes | None:
    """The bytes of the checkpoint; None where there is none or it cannot be read."""
    try:
        if NAME not in disk.list():
            return None
        file = disk.open(NAME)
        try:
            return file.pread(min(file.size(), _BYTES_MAX), 0)
        finally:
            file.close()
    except OSError:
        return None


def _digest(record: Record) -> bytes:
    return hash256(bytes((record.kind,)), record.payload)


def _little_endian(numbers: "array[int]") -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _from_little_endian(data: bytes) -> "array[int]":
    numbers = array("Q")
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
