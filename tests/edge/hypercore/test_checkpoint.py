"""Checkpoints: the state comes back, and anything that is not exactly this log's checkpoint is not believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.crypto.hashing import hash256
from edge.crypto.keys import KeyPair
from edge.encoding import cbor
from edge.errors import RemoteError, StorageError, StorageFault
from edge.hypercore import checkpoint
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Tree
from edge.hypercore.oplog import Oplog
from edge.hypercore.records import BLOCK, CoreHeader, Partial, RecordKind, Signed, encode_truncate
from edge.hypercore.verifier import Verifier
from edge.storage.codec import Record

HEADER = CoreHeader(Verifier.of(Manifest.single(KeyPair.from_seed(bytes(32)).public_key)), encrypted=False)
STORE_ID = bytes(range(16))
SIGNED = Signed(4, 1, b"a signature")
PARTIAL = Partial(0, 5, 1, b"\x01" * 64)
RECORDS = [
    (RecordKind.HEADER, HEADER.encode()),
    *[(RecordKind.BLOCK, b"block %d" % n) for n in range(6)],
    (RecordKind.TRUNCATE, encode_truncate(4, 1)),
    (RecordKind.SIGNATURE, SIGNED.encode()),
    *[(RecordKind.BLOCK, b"later %d" % n) for n in range(3)],
    (RecordKind.PARTIAL, PARTIAL.encode()),
]


def read(sequence: int) -> Record:
    return Record(sequence, *RECORDS[sequence])


def made() -> tuple[Oplog, Tree, bytes]:
    oplog = Oplog()
    for sequence, (kind, payload) in enumerate(RECORDS):
        oplog.apply(sequence, kind, payload)
    tree, _ = Tree().append([payload for kind, payload in RECORDS if kind == BLOCK][:7])
    return oplog, tree, checkpoint.encode(oplog, tree, STORE_ID, read(len(RECORDS) - 1))


def test_the_state_comes_back() -> None:
    oplog, tree, data = made()
    found, roots = checkpoint.decode(data, HEADER, STORE_ID, read)
    assert roots == tree
    for name in ("header", "next_sequence", "length", "fork", "signed", "partials", "runs", "verifier"):
        assert getattr(found, name) == getattr(oplog, name)
    assert (found.signed, found.length, found.fork) == (SIGNED, 7, 1)


def test_another_log_is_not_believed() -> None:
    _, _, data = made()

    def changed(sequence: int) -> Record:
        return Record(sequence, RecordKind.PARTIAL, PARTIAL.encode()[:-1] + b"\x02")

    def shorter(sequence: int) -> Record:
        raise IndexError("the log ends before")

    def corrupt(sequence: int) -> Record:
        raise StorageError("unreadable", fault=StorageFault.CORRUPT)

    for reader in (changed, shorter, corrupt):
        with pytest.raises(RemoteError):
            checkpoint.decode(data, HEADER, STORE_ID, reader)
    with pytest.raises(RemoteError, match="another log"):
        checkpoint.decode(data, HEADER, bytes(16), read)


def test_another_version_is_not_believed() -> None:
    body = cbor.encode([1, STORE_ID])
    with pytest.raises(RemoteError, match="another version"):
        checkpoint.decode(body + hash256(body), HEADER, STORE_ID, read)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (4, 6),
        (5, "five"),
        (6, [[1, 2]]),
        (7, b"seven b"),
        (9, bytes(24)),
        (10, [1]),
        (11, [1]),
        (13, [[]]),
        (16, [[-1, 5]]),
    ],
)
def test_nonsense_with_a_hash_that_holds_is_not_believed(place: int, value: object) -> None:
    _, _, data = made()
    fields = cbor.decode(data[:-32])
    assert isinstance(fields, list)
    fields[place] = value
    body = cbor.encode(fields)
    with pytest.raises(RemoteError, match="checkpoint"):
        checkpoint.decode(body + hash256(body), HEADER, STORE_ID, read)
    assert checkpoint.block_of(body + hash256(body), 3) is None


@given(st.data())
def test_every_damaged_byte_is_noticed(draw: st.DataObject) -> None:
    _, _, data = made()
    position = draw.draw(st.integers(0, len(data) - 1))
    damaged = data[:position] + bytes([data[position] ^ draw.draw(st.integers(1, 255))]) + data[position + 1 :]
    for wrong in (damaged, data[:position], data + b"\0"):
        with pytest.raises(RemoteError):
            checkpoint.decode(wrong, HEADER, STORE_ID, read)
        assert checkpoint.block_of(wrong, 3) is None


def test_blocks_of_a_log_that_cannot_be_read_are_named() -> None:
    _, _, data = made()
    named = [checkpoint.block_of(data, sequence) for sequence in range(len(RECORDS) + 1)]
    assert named == [None, 0, 1, 2, 3, None, None, None, None, 4, 5, 6, None, None]
    assert checkpoint.block_of(None, 1) is None
