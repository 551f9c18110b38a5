"""Key epochs: what follows from a secret, what does not, and golden values made with `hashlib` alone."""

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_shared import key_pairs

from edge.crypto.keys import KeyPair
from edge.errors import LocalError
from edge.hypercore.manifest import Manifest
from edge.networks.access import FeedKind
from edge.networks.epochs import Epoch

SECRET = bytes(range(32))
SIGNER = KeyPair.from_seed(bytes([7]) * 32).public_key
GOLDEN = {  # the epoch of SECRET, the feeds of SIGNER
    "PRICES": "90fc09a973486b2bf86e48faf1b1728f719e318af84eb0ae2a9c6caf7f3aa38f",
    "TRENDS": "24d16e909697ca0a63a4afd8b3564e4133ef67b9f12c25d4bf66bea2bb30f096",
    "INSIGHTS": "890f94fd0670aca308155b0faa93e6ba719f3394951a40c609461a4871b5ff14",
    "SUMS": "721f8df0905c4503ef3fc9fd37ba69b2ca93484d13e0015d78c51676dd8af240",
    "encryption": "0820128e68b25bd92c8c7bca8cb5e7b5d9fb2f04120d9850359a917d07549208",
    "topic": "cf52961a14d4296216c3fa3ee048d03398d2cf0b94c22437c0692d3f1cfed920",
}
secrets = st.binary(min_size=32, max_size=32)


def hashed(*parts: bytes) -> bytes:
    return blake2b(b"".join(parts), digest_size=32).digest()


def test_golden_values() -> None:
    epoch = Epoch(3, SECRET)
    found = {kind.name: epoch.feed_key(kind, SIGNER).hex() for kind in FeedKind}
    assert {**found, "encryption": epoch.encryption_key.hex(), "topic": epoch.topic.hex()} == GOLDEN


@given(secrets, key_pairs, st.sampled_from(FeedKind))
def test_everything_is_a_hash_as_documented(secret: bytes, pair: KeyPair, kind: FeedKind) -> None:
    epoch = Epoch(1, secret)
    assert epoch.encryption_key == hashed(b"pomona/epoch/encryption/1", secret)
    assert epoch.topic == hashed(b"pomona/epoch/topic/1", secret)
    # hypercore: manifest version 1, flags, hash, quorum 1, one signer: Ed25519, namespace, public key
    space = hashed(b"pomona/epoch/feed/1", secret, bytes([kind.value]))
    manifest = bytes([1, 0, 0, 1, 1, 0]) + space + pair.public_key
    tag = hashed(hashed(b"hypercore"), bytes([3]))
    assert epoch.manifest(kind, pair.public_key).encode() == manifest
    assert epoch.feed_key(kind, pair.public_key) == hashed(tag, manifest)


def everything(epoch: Epoch, signers: list[bytes]) -> list[bytes]:
    """All that a stranger could see or would need: keys, namespaces, the topic."""
    found = [epoch.encryption_key, epoch.topic, epoch.secret]
    for kind in FeedKind:
        found.append(epoch.manifest(kind, signers[0]).signers[0].namespace)
        found += [epoch.feed_key(kind, signer) for signer in signers]
    return found


@given(st.lists(secrets, min_size=2, max_size=4, unique=True), st.lists(key_pairs, min_size=1, max_size=3))
def test_nothing_of_one_epoch_kind_or_member_is_anything_of_another(epochs: list[bytes], pairs: list[KeyPair]) -> None:
    signers = sorted({pair.public_key for pair in pairs})
    found = [key for number, secret in enumerate(epochs) for key in everything(Epoch(number + 1, secret), signers)]
    assert len(set(found)) == len(found)


@given(secrets, st.integers(0, 255))
def test_one_bit_of_the_secret_changes_half_of_everything(secret: bytes, bit: int) -> None:
    other = bytearray(secret)
    other[bit // 8] ^= 1 << bit % 8
    before, after = (everything(Epoch(1, each), [SIGNER]) for each in (secret, bytes(other)))
    del before[2], after[2]  # the secret itself
    for one, two in zip(before, after, strict=True):
        changed = (int.from_bytes(one, "big") ^ int.from_bytes(two, "big")).bit_count()
        assert 70 < changed < 186  # of 256: seven standard deviations about the half


def test_a_feed_has_one_writer_and_needs_no_announcement() -> None:
    manifest = Epoch(1, SECRET).manifest(FeedKind.TRENDS, SIGNER)
    assert isinstance(manifest, Manifest)
    assert (len(manifest.signers), manifest.quorum, manifest.version) == (1, 1, 1)
    assert manifest.signers[0].public_key == SIGNER
    assert Manifest.decode(manifest.encode()) == manifest


def test_the_number_is_a_name_and_not_part_of_any_key() -> None:
    assert everything(Epoch(1, SECRET), [SIGNER]) == everything(Epoch(2, SECRET), [SIGNER])


def test_what_is_no_epoch_is_our_own_mistake() -> None:
    for number, secret in ((0, SECRET), (-1, SECRET), (2**53, SECRET), (1, b""), (1, SECRET + b"x")):
        with pytest.raises(LocalError):
            Epoch(number, secret)


def test_a_secret_is_not_shown() -> None:
    assert repr(Epoch(4, SECRET)) == "Epoch(number=4)"
