"""Block encryption: XSalsa20 over each block, behind an eight-byte header that hides the fork.

The nonce of a block's body is (index, blinded fork), so other content at an index and fork already used would reuse a
key stream: two such ciphertexts give away the difference of their plaintexts. That is why a truncation always raises
the fork. The cipher authenticates nothing; integrity is the Merkle tree's, which hashes the stored form.
Spec: hypercore 11.37, lib/default-encryption.js.
"""

from dataclasses import dataclass, field
from typing import Final

from edge.crypto.hashing import DEFAULT_ENCRYPTION, HASH_BYTES, hash256, keyed256
from edge.crypto.stream import xor
from edge.encoding.compact import fixed, uint64
from edge.errors import RemoteError

HEADER_BYTES: Final = 8
_HEADER_NONCE_TAIL: Final = bytes(16)
_BODY_NONCE_TAIL: Final = bytes(8)


@dataclass(frozen=True, slots=True)
class BlockCipher:
    """The two keys of one core's blocks."""

    block_key: bytes = field(repr=False)
    blinding_key: bytes = field(repr=False)

    @classmethod
    def of(cls, core_key: bytes, encryption_key: bytes, *, compat: bool = False) -> "BlockCipher":
        """The cipher of the core `core_key` under a 32-byte `encryption_key`."""
        fixed(encryption_key, HASH_BYTES)
        if compat:
            return cls.of_block_key(keyed256(core_key, encryption_key))
        return cls.of_block_key(hash256(DEFAULT_ENCRYPTION, core_key, encryption_key))

    @classmethod
    def of_block_key(cls, block_key: bytes) -> "BlockCipher":
        """The cipher of a block key that was derived elsewhere: it opens one core and no other."""
        return cls(fixed(block_key, HASH_BYTES), hash256(block_key))

    def encrypt(self, index: int, fork: int, block: bytes) -> bytes:
        """The stored form: header and ciphertext, `HEADER_BYTES` longer than `block`."""
        place = uint64(index)
        header = xor(uint64(fork), place + _HEADER_NONCE_TAIL, self.blinding_key)
        return header + xor(block, place + header + _BODY_NONCE_TAIL, self.block_key)

    def decrypt(self, index: int, stored: bytes) -> bytes:
        """The block; `RemoteError` if `stored` is shorter than a header. A wrong key gives noise, not an error."""
        if len(stored) < HEADER_BYTES:
            raise RemoteError(f"encrypted block {index} has {len(stored)} bytes, less than its header")
        nonce = uint64(index) + stored[:HEADER_BYTES] + _BODY_NONCE_TAIL
        return xor(stored[HEADER_BYTES:], nonce, self.block_key)
