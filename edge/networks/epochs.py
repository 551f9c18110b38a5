"""Key epochs: everything that is secret or found by others in a network for a while comes from one secret of 32 bytes.

    feed namespace   hash256("pomona/epoch/feed/1", secret, kind)      stands in the manifest of every feed of that kind
    encryption key   hash256("pomona/epoch/encryption/1", secret)      of the blocks of all these feeds
    topic            hash256("pomona/epoch/topic/1", secret)           under which members look for each other

A feed's key is the hash of its manifest, which holds the member's signing key and the namespace. So whoever knows the
roster and the epoch's secret computes the key of every member's feed, without being told it; whoever does not know the
secret can neither find nor read any of them, whatever he knew of earlier epochs. When a member is revoked, and each
quarter, the network moves on to a new secret; it is sealed to each member that stays (`edge.crypto.keys.seal`, to the
member's connection key).
"""

from dataclasses import dataclass, field
from typing import Final

from edge.crypto.hashing import hash256
from edge.encoding.compact import fixed
from edge.errors import LocalError
from edge.hypercore.manifest import Manifest, Signer
from edge.limits import INTEGER_MAX
from edge.networks.access import FeedKind

SECRET_BYTES: Final = 32
_FEED: Final = b"pomona/epoch/feed/1"
_ENCRYPTION: Final = b"pomona/epoch/encryption/1"
_TOPIC: Final = b"pomona/epoch/topic/1"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of a network: its number, from 1, and its secret."""

    number: int
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        fixed(self.secret, SECRET_BYTES)
        if not 1 <= self.number <= INTEGER_MAX:
            raise LocalError(f"epoch {self.number}; epochs count from 1")

    def manifest(self, kind: FeedKind, signer: bytes) -> Manifest:
        """The manifest of the feed of `kind` of the member who signs with the public key `signer`."""
        return Manifest(signers=(Signer(signer, hash256(_FEED, self.secret, bytes((kind,)))),), quorum=1)

    def feed_key(self, kind: FeedKind, signer: bytes) -> bytes:
        """The key of that feed."""
        return self.manifest(kind, signer).key()

    @property
    def encryption_key(self) -> bytes:
        """Of the blocks of this epoch's feeds; each core mixes its own key in."""
        return hash256(_ENCRYPTION, self.secret)

    @property
    def topic(self) -> bytes:
        """Where members look for each other."""
        return hash256(_TOPIC, self.secret)
