"""Shares on their way: each pair of shares is encrypted to its holder, and each share is fixed by a public digest.

The digests let anybody check a share that is revealed, and let its holder check it when it arrives; they tell nothing,
since a share is a field element of which every value is equally likely. Encryption is libsodium's `crypto_box` with
keys of this round only; its nonce is derived from round, sender and holder, which is used once under these keys.
"""

from dataclasses import dataclass
from typing import Final

from nacl.bindings import crypto_box_easy, crypto_box_NONCEBYTES, crypto_box_open_easy
from nacl.exceptions import CryptoError

from edge.crypto.hashing import HASH_BYTES, hash256
from edge.errors import RemoteError
from edge.privacy.secure_sum.shamir import ELEMENT_BYTES, from_bytes, to_bytes

SELF, MASK = 0, 1  # which share: of the self mask's seed, of the mask key's seed

_NONCE: Final = b"pomona/secure-sum/nonce/1"
_SHARE: Final = b"pomona/secure-sum/share/1"


@dataclass(frozen=True, slots=True)
class Passage:
    """From whom to whom."""

    context: bytes  # the round's digest
    dealer: int
    holder: int


def share_digest(passage: Passage, which: int, share: bytes) -> bytes:
    """By what a share is fixed."""
    return hash256(_SHARE, passage.context, bytes((passage.dealer, passage.holder, which)), share)


def seal(passage: Passage, shares: tuple[int, int], holder_key: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """The box with both shares for its holder, and their digests one after the other."""
    cells = [to_bytes(share) for share in shares]
    digests = [share_digest(passage, which, cell) for which, cell in enumerate(cells)]
    box = crypto_box_easy(b"".join(cells), _nonce(passage), holder_key, secret)
    return box, b"".join(digests)


def unseal(
    passage: Passage, box: bytes, digests: bytes, dealer_key: bytes, secret: bytes
) -> tuple[bytes, bytes] | None:
    """Both shares; None if the box cannot be opened or holds other shares than its dealer told everybody."""
    try:
        content = crypto_box_open_easy(box, _nonce(passage), dealer_key, secret)
        cells = content[:ELEMENT_BYTES], content[ELEMENT_BYTES:]
        for which, cell in enumerate(cells):
            from_bytes(cell)
            expected = digests[which * HASH_BYTES : (which + 1) * HASH_BYTES]
            if share_digest(passage, which, cell) != expected:
                return None
    except (CryptoError, RemoteError):
        return None
    return cells


def _nonce(passage: Passage) -> bytes:
    return hash256(_NONCE, passage.context, bytes((passage.dealer, passage.holder)))[:crypto_box_NONCEBYTES]
