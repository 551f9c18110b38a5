"""Block encryption: its own laws. That the bytes are the stock ones: tests/interop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import LocalError, RemoteError
from edge.hypercore.encryption import HEADER_BYTES, BlockCipher

CORE, KEY = bytes(range(32)), bytes(32)
CIPHER = BlockCipher.of(CORE, KEY)
counts = st.integers(0, 2**53 - 1)


@given(counts, counts, st.binary(max_size=300))
def test_decryption_needs_no_fork(index: int, fork: int, block: bytes) -> None:
    stored = CIPHER.encrypt(index, fork, block)
    assert len(stored) == len(block) + HEADER_BYTES
    assert CIPHER.decrypt(index, stored) == block


def test_no_two_places_share_a_key_stream() -> None:
    blank = bytes(64)
    ciphers = (CIPHER, BlockCipher.of(CORE, KEY, compat=True), BlockCipher.of(KEY, KEY), BlockCipher.of_block_key(KEY))
    bodies = {c.encrypt(index, fork, blank)[HEADER_BYTES:] for c in ciphers for index in range(9) for fork in range(9)}
    assert len(bodies) == 4 * 81


def test_keys_stay_out_of_repr_and_have_32_bytes() -> None:
    assert repr(CIPHER) == "BlockCipher()"
    with pytest.raises(LocalError):
        BlockCipher.of(CORE, KEY[:31])


def test_a_block_shorter_than_its_header_is_refused() -> None:
    with pytest.raises(RemoteError):
        CIPHER.decrypt(0, bytes(HEADER_BYTES - 1))
