"""Signatures of one and of several: what holds, and every way in which one does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.crypto.keys import KeyPair
from edge.encoding.compact import array, uint
from edge.errors import LocalError, RemoteError, SignatureError
from edge.hypercore.manifest import Manifest, Prologue, Signer
from edge.hypercore.verifier import Verifier

PAIRS = [KeyPair.from_seed(bytes([n]) * 32) for n in range(4)]
TREE_HASH = bytes(range(32))
THREE = Manifest.multi(tuple(pair.public_key for pair in PAIRS[:3]), quorum=2)


def proof(signer: int, signature: bytes, patch: int = 0) -> bytes:
    return uint(signer) + signature + uint(patch)


def signed(verifier: Verifier, signer: int, length: int = 7, fork: int = 2) -> bytes:
    return PAIRS[signer].sign(verifier.signable(TREE_HASH, length, fork, signer))


@pytest.mark.parametrize(
    "verifier", [Verifier.of(Manifest.single(PAIRS[0].public_key)), Verifier.of_compat(PAIRS[0].public_key)]
)
def test_one_signer(verifier: Verifier) -> None:
    signature = verifier.sign(PAIRS[0], TREE_HASH, 7, 2)
    assert len(signature) == (64 if verifier.compat else 68)
    verifier.verify(signature, TREE_HASH, 7, 2)
    for tree_hash, length, fork in ((TREE_HASH[::-1], 7, 2), (TREE_HASH, 8, 2), (TREE_HASH, 7, 3)):
        with pytest.raises(SignatureError):
            verifier.verify(signature, tree_hash, length, fork)
    with pytest.raises(LocalError):
        verifier.sign(PAIRS[1], TREE_HASH, 7, 2)


def test_a_signature_of_another_core_does_not_hold() -> None:
    one, other = Verifier.of(Manifest.single(PAIRS[0].public_key)), Verifier.of_compat(PAIRS[0].public_key)
    bare = other.sign(PAIRS[0], TREE_HASH, 1, 0)
    with pytest.raises(SignatureError):
        one.verify(array([proof(0, bare)]) + b"\x00", TREE_HASH, 1, 0)


def test_a_quorum_in_any_order_gives_the_same_blob() -> None:
    verifier = Verifier.of(THREE)
    parts = {signer: signed(verifier, signer) for signer in (2, 0)}
    blob = verifier.assemble(parts)
    assert blob == verifier.assemble(dict(sorted(parts.items())))
    verifier.verify(blob, TREE_HASH, 7, 2)
    with pytest.raises(LocalError, match="no quorum"):
        verifier.assemble({0: parts[0]})


def test_only_a_real_quorum_counts() -> None:
    verifier = Verifier.of(THREE)
    parts = [signed(verifier, signer) for signer in range(3)]
    stranger = PAIRS[3].sign(verifier.signable(TREE_HASH, 7, 2))
    for proofs in (
        [],
        [proof(0, parts[0])],
        [proof(0, parts[0]), proof(0, parts[0])],
        [proof(0, parts[0]), proof(1, parts[0])],
        [proof(0, parts[0]), proof(3, stranger)],
        [proof(0, parts[0]), proof(1, stranger)],
        [proof(0, parts[0]), proof(1, parts[1], patch=1)],
        [proof(0, stranger), proof(1, parts[1]), proof(2, parts[2])],  # the first two are looked at, as stock peers do
    ):
        with pytest.raises(SignatureError):
            verifier.verify(array(proofs) + b"\x00", TREE_HASH, 7, 2)
    good = array([proof(2, parts[2]), proof(1, parts[1])])
    verifier.verify(good + b"\x00", TREE_HASH, 7, 2)
    with pytest.raises(SignatureError, match="patch"):
        verifier.verify(good + b"\x01" + uint(0) + uint(0) + bytes(32), TREE_HASH, 7, 2)


def test_a_prologue_needs_no_signature_and_allows_no_other_content() -> None:
    manifest = Manifest((Signer(PAIRS[0].public_key),), 1, prologue=Prologue(TREE_HASH, 5))
    verifier = Verifier.of(manifest)
    verifier.verify(b"", TREE_HASH, 5, 0)
    for tree_hash, length in ((bytes(32), 5), (TREE_HASH, 4)):
        with pytest.raises(SignatureError):
            verifier.verify(b"", tree_hash, length, 0)
    verifier.verify(verifier.sign(PAIRS[0], TREE_HASH, 6, 0), TREE_HASH, 6, 0)
    static = Verifier.of(Manifest((), 0, prologue=Prologue(TREE_HASH, 5)))
    static.verify(b"", TREE_HASH, 5, 0)
    with pytest.raises(SignatureError, match="no signers"):
        static.verify(b"", TREE_HASH, 6, 0)


def test_a_manifest_of_another_key_is_refused() -> None:
    with pytest.raises(SignatureError, match="does not belong"):
        Verifier(bytes(32), THREE)


@given(st.binary(max_size=300), st.sampled_from([0, 1, 2]))
def test_any_bytes_are_no_signature(data: bytes, kind: int) -> None:
    old = Manifest(THREE.signers, 2, version=0)
    verifier = (Verifier.of(THREE), Verifier.of_compat(PAIRS[0].public_key), Verifier.of(old))[kind]
    with pytest.raises(RemoteError):
        verifier.verify(data, TREE_HASH, 7, 2)
