"""XSalsa20 with the published answer of its author, and its errors."""

import ctypes
import importlib.util

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.crypto import stream
from edge.errors import LocalError

# D. J. Bernstein, "Cryptography in NaCl", section 8 "first key/nonce" (also libsodium's test/default/stream.c).
KEY = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
NONCE = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")


def test_key_stream_of_the_paper() -> None:
    expected = "eea6a7251c1e72916d11c2cb214d3c252539121d8e234e652d651fa4c8cff880"
    assert stream.xor(bytes(32), NONCE, KEY).hex() == expected


@given(st.binary(max_size=500), st.binary(min_size=24, max_size=24), st.binary(min_size=32, max_size=32))
def test_twice_is_nothing(data: bytes, nonce: bytes, key: bytes) -> None:
    once = stream.xor(data, nonce, key)
    assert len(once) == len(data)
    assert stream.xor(once, nonce, key) == data


@pytest.mark.parametrize(("nonce", "key"), [(23, 32), (25, 32), (24, 31), (24, 33), (0, 0)])
def test_lengths_are_checked_before_a_pointer_is_passed(nonce: int, key: int) -> None:
    with pytest.raises(LocalError):
        stream.xor(b"data", bytes(nonce), bytes(key))


def test_a_libsodium_without_the_cipher_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: str) -> None:
        raise OSError(name)

    stream._xsalsa20_xor.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", no_library)
    try:
        with pytest.raises(LocalError, match=r"crypto_stream_xsalsa20_xor.*libsodium23"):
            stream.xor(b"", NONCE, KEY)
    finally:
        stream._xsalsa20_xor.cache_clear()


def test_the_systems_library_is_the_second_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    binding = importlib.util.find_spec("nacl._sodium")
    assert binding is not None
    assert binding.origin is not None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: binding.origin)
    stream._xsalsa20_xor.cache_clear()
    try:
        assert stream.xor(bytes(2), NONCE, KEY).hex() == "eea6"
    finally:
        stream._xsalsa20_xor.cache_clear()
