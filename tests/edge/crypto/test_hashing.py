"""BLAKE2b with known answers, and the tags that keep the uses of one hash apart."""

from edge.crypto import hashing


def test_blake2b_256_of_nothing() -> None:
    # The well-known digest of the empty message (libsodium generichash, 32 bytes).
    assert hashing.hash256().hex() == "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"


def test_parts_are_one_message() -> None:
    assert hashing.hash256(b"ab", b"", b"c") == hashing.hash256(b"abc")
    assert hashing.keyed256(b"k", b"ab", b"c") == hashing.keyed256(b"k", b"abc") != hashing.hash256(b"kabc")


def test_namespaces_differ_by_name_and_number() -> None:
    tags = hashing.namespace("hypercore", 6)
    assert (tags[0], tags[5]) == (hashing.TREE, hashing.DEFAULT_ENCRYPTION)
    assert len(set(tags) | set(hashing.namespace("corestore", 1))) == 7
    # hypercore: lib/caps.js documents no bytes; this one is in every signature that peers accept (tests/interop).
    assert hashing.TREE.hex().startswith("9fac70b5")


def test_discovery_key_does_not_give_the_key_away() -> None:
    key = bytes(range(32))
    assert len(hashing.discovery_key(key)) == 32
    assert hashing.discovery_key(key) not in (key, hashing.hash256(key), hashing.keyed256(b"hypercore", key))
