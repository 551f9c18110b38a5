"""Noise handshakes over Ed25519 keys: a pure state machine, no I/O and no randomness of its own.

Spec: The Noise Protocol Framework, revision 34, section 5; the choice of primitives is npm's noise-handshake 4 with
noise-curve-ed 2: `Noise_XX_Ed25519_ChaChaPoly_BLAKE2b`. Keys are Ed25519 SIGNING keys, static and ephemeral alike, and
Diffie-Hellman happens on that curve (`KeyPair.agree`).

Invariants: messages alternate and come in the pattern's order (out of turn is our own mistake: `LocalError`); nothing
is accepted that does not have the exact length, a valid point and a valid tag (`SignatureError`); the ephemeral seed is
used for one handshake. A `HandshakeState` that raised is of no further use.
"""

import hmac
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Final

from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from edge.crypto.keys import PUBLIC_KEY_BYTES, KeyPair
from edge.errors import LocalError, SignatureError

HASH_BYTES: Final = 64
CIPHER_KEY_BYTES: Final = 32
MAC_BYTES: Final = 16


class Token(StrEnum):
    """What a message consists of, in the words of the spec (section 7.1)."""

    E = "e"
    S = "s"
    EE = "ee"
    ES = "es"
    SE = "se"
    SS = "ss"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A handshake pattern: the tokens of each message, the initiator's first."""

    name: str
    messages: tuple[tuple[Token, ...], ...]


XX: Final = Pattern("XX", ((Token.E,), (Token.E, Token.EE, Token.S, Token.ES), (Token.S, Token.SE)))


class CipherState:
    """A key and a counter. Without a key everything passes as it is (section 5.1)."""

    __slots__ = ("_key", "_nonce")

    def __init__(self) -> None:
        self._key: bytes | None = None
        self._nonce = 0

    @property
    def overhead(self) -> int:
        """Bytes that encryption adds."""
        return 0 if self._key is None else MAC_BYTES

    def initialize_key(self, key: bytes) -> None:
        """Take `key` and count from 0."""
        self._key = key
        self._nonce = 0

    def encrypt_with_ad(self, ad: bytes, plaintext: bytes) -> bytes:
        """Ciphertext and tag."""
        if self._key is None:
            return plaintext
        return crypto_aead_chacha20poly1305_ietf_encrypt(plaintext, ad, self._next_nonce(), self._key)

    def decrypt_with_ad(self, ad: bytes, ciphertext: bytes) -> bytes:
        """The plaintext; raises `SignatureError` if the tag does not match."""
        if self._key is None:
            return ciphertext
        try:
            return crypto_aead_chacha20poly1305_ietf_decrypt(ciphertext, ad, self._next_nonce(), self._key)
        except CryptoError:
            raise SignatureError("a handshake message does not authenticate", reason="handshake_mac") from None

    def _next_nonce(self) -> bytes:
        nonce = bytes(4) + self._nonce.to_bytes(8, "little")
        self._nonce += 1
        return nonce


class SymmetricState:
    """Chaining key and transcript hash (section 5.2)."""

    __slots__ = ("_chaining_key", "cipher", "hash")

    def __init__(self, protocol_name: bytes) -> None:
        if len(protocol_name) > HASH_BYTES:
            raise LocalError(f"protocol name {protocol_name!r} would have to be hashed")
        self.hash = protocol_name.ljust(HASH_BYTES, b"\0")
        self._chaining_key = self.hash
        self.cipher = CipherState()

    def mix_hash(self, data: bytes) -> None:
        """Append `data` to the transcript."""
        self.hash = blake2b(self.hash + data).digest()

    def mix_key(self, material: bytes) -> None:
        """Derive a new chaining key and cipher key from a Diffie-Hellman result."""
        self._chaining_key, key = _hkdf2(self._chaining_key, material)
        self.cipher.initialize_key(key[:CIPHER_KEY_BYTES])

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        """Encrypt under the transcript, and append the ciphertext to it."""
        ciphertext = self.cipher.encrypt_with_ad(self.hash, plaintext)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        """The reverse; raises `SignatureError`."""
        plaintext = self.cipher.decrypt_with_ad(self.hash, ciphertext)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The keys of the two directions, the initiator's first."""
        first, second = _hkdf2(self._chaining_key, b"")
        return first[:CIPHER_KEY_BYTES], second[:CIPHER_KEY_BYTES]


@dataclass(frozen=True, slots=True)
class Session:
    """What a finished handshake leaves: keys to send and to receive with, and what both sides know of it."""

    send_key: bytes
    receive_key: bytes
    handshake_hash: bytes
    remote_public_key: bytes


class HandshakeState:
    """One side of one handshake (section 5.3)."""

    __slots__ = (
        "_ephemeral",
        "_ephemeral_seed",
        "_index",
        "_initiator",
        "_pattern",
        "_remote_e",
        "_remote_s",
        "_s",
        "_symmetric",
    )

    def __init__(
        self, pattern: Pattern, initiator: bool, static: KeyPair, *, ephemeral_seed: bytes, prologue: bytes = b""
    ) -> None:
        self._pattern = pattern
        self._initiator = initiator
        self._s = static
        self._ephemeral_seed = ephemeral_seed
        self._ephemeral: KeyPair | None = None
        self._remote_s: bytes | None = None
        self._remote_e: bytes | None = None
        self._index = 0  # of the next message
        self._symmetric = SymmetricState(f"Noise_{pattern.name}_Ed25519_ChaChaPoly_BLAKE2b".encode())
        self._symmetric.mix_hash(prologue)

    @property
    def _e(self) -> KeyPair:
        """Our ephemeral key; computed when it is needed, because many who connect never say a word."""
        if self._ephemeral is None:
            self._ephemeral = KeyPair.from_seed(self._ephemeral_seed)
        return self._ephemeral

    @property
    def complete(self) -> bool:
        """Whether every message has been written or read."""
        return self._index == len(self._pattern.messages)

    @property
    def my_turn(self) -> bool:
        """Whether `write_message` is next."""
        return not self.complete and (self._index % 2 == 0) == self._initiator

    @property
    def remote_public_key(self) -> bytes | None:
        """The peer's static key, once a message has told it."""
        return self._remote_s

    def message_bytes(self) -> int:
        """Exact size of the next message with an empty payload."""
        size, overhead = 0, self._symmetric.cipher.overhead
        for token in self._pattern.messages[self._index]:
            if token is Token.E:
                size += PUBLIC_KEY_BYTES
            elif token is Token.S:
                size += PUBLIC_KEY_BYTES + overhead
            else:
                overhead = MAC_BYTES
        return size + overhead

    def write_message(self, payload: bytes = b"") -> bytes:
        """The next message of ours."""
        if not self.my_turn:
            raise LocalError("it is the peer's turn to send a handshake message")
        symmetric, out = self._symmetric, []
        for token in self._pattern.messages[self._index]:
            if token is Token.E:
                out.append(self._e.public_key)
                symmetric.mix_hash(self._e.public_key)
            elif token is Token.S:
                out.append(symmetric.encrypt_and_hash(self._s.public_key))
            else:
                symmetric.mix_key(self._agree(token))
        out.append(symmetric.encrypt_and_hash(payload))
        self._index += 1
        return b"".join(out)

    def read_message(self, message: bytes) -> bytes:
        """Take the peer's next message; returns its payload. Raises `SignatureError`."""
        if self.complete or self.my_turn:
            raise LocalError("it is our turn to send a handshake message")
        if len(message) < self.message_bytes():
            raise SignatureError(
                f"a handshake message of {len(message)} bytes; it has {self.message_bytes()}", reason="handshake_length"
            )
        symmetric, position = self._symmetric, 0
        for token in self._pattern.messages[self._index]:
            if token is Token.E:
                self._remote_e = message[position : position + PUBLIC_KEY_BYTES]
                position += PUBLIC_KEY_BYTES
                symmetric.mix_hash(self._remote_e)
            elif token is Token.S:
                end = position + PUBLIC_KEY_BYTES + symmetric.cipher.overhead
                self._remote_s = symmetric.decrypt_and_hash(message[position:end])
                position = end
            else:
                symmetric.mix_key(self._agree(token))
        payload = symmetric.decrypt_and_hash(message[position:])
        self._index += 1
        return payload

    def session(self) -> Session:
        """The result; the handshake must be complete."""
        if not self.complete or self._remote_s is None:
            raise LocalError("the handshake is not complete")
        first, second = self._symmetric.split()
        send, receive = (first, second) if self._initiator else (second, first)
        return Session(send, receive, self._symmetric.hash, self._remote_s)

    def _agree(self, token: Token) -> bytes:
        # A token's letters name the initiator's key, then the responder's.
        first, second = token.value[0], token.value[1]
        ours, theirs = (first, second) if self._initiator else (second, first)
        remote = self._remote_s if theirs == "s" else self._remote_e
        if remote is None:
            raise LocalError(f"pattern {self._pattern.name} uses a key before it is sent")
        return (self._s if ours == "s" else self._e).agree(remote)


def _hkdf2(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """HKDF with two outputs (section 4.3)."""
    temporary = hmac.digest(chaining_key, material, blake2b)
    first = hmac.digest(temporary, b"\x01", blake2b)
    return first, hmac.digest(temporary, first + b"\x02", blake2b)
