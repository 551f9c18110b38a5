"""The oplog's state against a list, its records as bytes, and what a log of ours can never say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.crypto.keys import KeyPair
from edge.errors import RemoteError, StorageError, StorageFault
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Tree
from edge.hypercore.oplog import Oplog
from edge.hypercore.records import (
    BLOCK,
    CoreHeader,
    Partial,
    RecordKind,
    Signed,
    Upgrade,
    decode_truncate,
    encode_clear,
    encode_put,
    encode_truncate,
)
from edge.hypercore.verifier import Verifier
from edge.limits import PARTIAL_SIGNATURES_MAX
from edge.storage.runs import DISCARDED

VERIFIER = Verifier.of(Manifest.single(KeyPair.from_seed(bytes(32)).public_key))
HEADER = CoreHeader(VERIFIER, encrypted=True)
counts = st.integers(0, 2**53 - 1)


def fresh() -> Oplog:
    oplog = Oplog()
    oplog.apply(0, RecordKind.HEADER, HEADER.encode())
    return oplog


@given(st.lists(st.one_of(st.integers(1, 6), st.floats(0, 1), st.just("signature"))))
def test_where_each_block_lies(steps: list[int | float | str]) -> None:
    """Appends of n blocks, truncations to a share of the length, records in between; beside a plain list."""
    model: list[int] = []
    oplog, sequence = fresh(), 1
    for step in steps:
        if step == "signature":
            oplog.apply(sequence, RecordKind.SIGNATURE, Signed(len(model), oplog.fork, b"s").encode())
            sequence += 1
        elif isinstance(step, float):
            length = int(step * len(model))
            oplog.apply(sequence, RecordKind.TRUNCATE, encode_truncate(length, oplog.fork + 1))
            del model[length:]
            sequence += 1
        elif isinstance(step, int):
            for _ in range(step):
                oplog.apply(sequence, BLOCK, b"")
                model.append(sequence)
                sequence += 1
    assert oplog.next_sequence == sequence
    assert [oplog.sequence_of(index) for index in range(oplog.length)] == model
    held = [oplog.index_of(each) for each in range(sequence)]
    assert {each: index for each, index in enumerate(held) if index is not None} == {s: i for i, s in enumerate(model)}


def test_a_group_is_the_same_as_its_blocks_one_by_one() -> None:
    one, group = fresh(), fresh()
    for sequence in range(1, 8):
        one.apply(sequence, BLOCK, b"")
    group.appended(1, 7)
    assert (one.length, one.next_sequence, one.runs) == (group.length, group.next_sequence, group.runs)


@given(st.tuples(counts, counts, counts), st.binary(max_size=99), st.binary(min_size=64, max_size=64), st.booleans())
def test_records_come_back(numbers: tuple[int, int, int], data: bytes, signature: bytes, encrypted: bool) -> None:
    signed = Signed(numbers[0], numbers[1], data)
    assert Signed.decode(signed.encode()) == signed
    partial = Partial(*numbers, signature)
    assert Partial.decode(partial.encode()) == partial
    assert decode_truncate(encode_truncate(*numbers[:2])) == numbers[:2]
    header = CoreHeader(VERIFIER, encrypted)
    assert CoreHeader.decode(header.encode()) == header


@given(st.binary(max_size=150))
def test_any_bytes_give_a_record_or_remote_error(data: bytes) -> None:
    for decode in (Signed.decode, Partial.decode, CoreHeader.decode, decode_truncate):
        try:
            decode(data)
        except RemoteError:
            continue


@pytest.mark.parametrize(
    ("sequence", "kind", "payload", "why"),
    [
        (4, RecordKind.BLOCK, b"", "record 3 is missing"),
        (3, RecordKind.HEADER, HEADER.encode(), "header"),
        (3, 99, b"", "kind 99"),
        (3, RecordKind.TRUNCATE, encode_truncate(3, 1), "truncation of 2"),
        (3, RecordKind.TRUNCATE, encode_truncate(1, 0), "fork 0"),
        (3, RecordKind.TRUNCATE, b"", "ends 1 bytes early"),
        (3, RecordKind.SIGNATURE, Signed(3, 0, b"").encode(), "did not have"),
        (3, RecordKind.SIGNATURE, Signed(1, 1, b"").encode(), "did not have"),
        (3, RecordKind.PARTIAL, Partial(0, 3, 0, bytes(64)).encode(), "did not have"),
    ],
)
def test_what_no_log_of_ours_says(sequence: int, kind: int, payload: bytes, why: str) -> None:
    oplog = fresh()
    oplog.appended(1, 2)
    with pytest.raises(StorageError, match=why) as caught:
        oplog.apply(sequence, kind, payload)
    assert caught.value.fault is StorageFault.CORRUPT
    assert (oplog.next_sequence, oplog.length, oplog.fork) == (3, 2, 0)


def test_a_log_that_starts_with_a_block_is_no_core() -> None:
    with pytest.raises(StorageError, match="header"):
        Oplog().apply(0, BLOCK, b"")


def test_parts_wait_for_their_quorum_and_are_bounded() -> None:
    oplog = fresh()
    oplog.appended(1, PARTIAL_SIGNATURES_MAX + 9)
    sequence = oplog.next_sequence
    for length in range(1, PARTIAL_SIGNATURES_MAX + 9):
        oplog.apply(sequence, RecordKind.PARTIAL, Partial(0, length, 0, bytes(64)).encode())
        sequence += 1
    assert len(oplog.partials) == PARTIAL_SIGNATURES_MAX
    assert min(oplog.partials) == (9, 0)  # the oldest went
    oplog.apply(sequence, RecordKind.SIGNATURE, Signed(PARTIAL_SIGNATURES_MAX, 0, b"s").encode())
    assert min(oplog.partials) == (PARTIAL_SIGNATURES_MAX + 1, 0)
    oplog.apply(sequence + 1, RecordKind.TRUNCATE, encode_truncate(5, 1))
    assert oplog.partials == {}
    assert oplog.signed is None


def test_a_replica_in_records() -> None:
    """Key only, manifest, growth, blocks in any order, a fork that shares a part, and what such a log can never say."""
    oplog = Oplog()
    tree = [Tree().append([b"x"] * n)[0] for n in range(20)]
    signature = VERIFIER.assemble({0: bytes(64)})
    sequence = 0

    def upgrade(fork: int, shared: int, length: int) -> bytes:
        return Upgrade(fork, shared, tree[length], signature, ()).encode()

    def apply(kind: int, payload: bytes) -> None:
        nonlocal sequence
        oplog.apply(sequence, kind, payload)
        sequence += 1

    apply(RecordKind.HEADER, CoreHeader(None, encrypted=False, key=VERIFIER.key).encode())
    with pytest.raises(StorageError, match="nobody knows who signs"):
        oplog.apply(1, RecordKind.UPGRADE, upgrade(0, 0, 10))
    apply(RecordKind.MANIFEST, VERIFIER.manifest.encode())
    assert oplog.verifier == VERIFIER
    apply(RecordKind.UPGRADE, upgrade(0, 0, 10))
    for index in (7, 3, 4, 9):
        apply(RecordKind.PUT, encode_put(index, (), b"x"))
    assert (oplog.length, oplog.plain, oplog.foreign_signers) == (10, False, {0})
    assert [index for index in range(10) if oplog.sequence_of(index) is not None] == [3, 4, 7, 9]
    apply(RecordKind.CLEAR, encode_clear(0, 4, ()))
    assert list(oplog.discarded) == [(4, 5)]
    for kind, payload, why in (
        (RecordKind.MANIFEST, VERIFIER.manifest.encode(), "known already"),
        (RecordKind.UPGRADE, upgrade(0, 10, 10), "growth of 10"),
        (RecordKind.UPGRADE, upgrade(1, 11, 12), "11 of 10"),
        (RecordKind.PUT, encode_put(10, (), b""), "block 10 of 10"),
        (RecordKind.CLEAR, encode_clear(0, 11, ()), "11 of 10"),
        (RecordKind.NODES, b"x", "tree nodes"),
        (DISCARDED, bytes((RecordKind.NODES,)), "held no block"),
    ):
        with pytest.raises(StorageError, match=why):
            oplog.apply(sequence, kind, payload)
    apply(DISCARDED, bytes((RecordKind.PUT,)))
    apply(RecordKind.UPGRADE, upgrade(3, 8, 9))
    assert (oplog.length, oplog.fork, list(oplog.runs.held(0, 99))) == (9, 3, [(4, 5), (7, 8)])
    assert oplog.signed == Signed(9, 3, signature)
    assert oplog.next_sequence == sequence
