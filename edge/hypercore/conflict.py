"""Proof that a log has two histories: a quorum signed two different trees for the same length of the same fork.

It stands for itself: whoever has these bytes can check them without the log, without asking anybody. So a core that
is frozen can say why, years later, and a peer that never saw the fork can be shown it.

Layout (compact-encoding): version (1), key (32 bytes), manifest (buffer), fork, length, then twice the upgrade of a
`data` message: start (0), length, nodes, additional nodes, signature. Nothing may follow. Spec: FORMATS.md, section 5.
"""

from dataclasses import dataclass
from typing import Final

from edge.crypto.hashing import HASH_BYTES
from edge.encoding.compact import Reader, buffer, fixed, uint
from edge.errors import RemoteError, SignatureError
from edge.hypercore.checking import check_whole
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Tree
from edge.hypercore.messages import Data, UpgradeProof, read_upgrade
from edge.hypercore.verifier import Verifier
from edge.limits import CONFLICT_BYTES_MAX

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two signed upgrades from nothing to `length` blocks of `fork`, whose trees differ there."""

    key: bytes
    manifest: Manifest
    fork: int
    length: int
    one: UpgradeProof
    other: UpgradeProof

    def encode(self) -> bytes:
        """The portable form."""
        return b"".join(
            (
                uint(_VERSION),
                fixed(self.key, HASH_BYTES),
                buffer(self.manifest.encode()),
                uint(self.fork),
                uint(self.length),
                self.one.encode(),
                self.other.encode(),
            )
        )

    def check(self) -> None:
        """Raise `SignatureError` unless both signatures hold and the trees differ."""
        verifier = Verifier(self.key, self.manifest)
        if self._tree(self.one, verifier).hash() == self._tree(self.other, verifier).hash():
            raise SignatureError(f"both sides have the same tree at length {self.length}", reason="no_conflict")

    def _tree(self, upgrade: UpgradeProof, verifier: Verifier) -> Tree:
        tree = check_whole(Data(0, self.fork, upgrade=upgrade), verifier=verifier).tree
        if tree is None or tree.length != self.length:
            raise SignatureError(f"an upgrade of another length than {self.length}", reason="no_conflict")
        return tree


def decode_conflict(data: bytes) -> Conflict:
    """The conflict in `data`, not yet checked; `RemoteError` for anything else."""
    if len(data) > CONFLICT_BYTES_MAX:
        raise RemoteError(f"a conflict of {len(data)} bytes; at most {CONFLICT_BYTES_MAX}", reason="too_large")
    reader = Reader(data)
    version = reader.uint()
    if version != _VERSION:
        raise RemoteError(f"conflict version {version} is unknown", reason="version")
    key, manifest = reader.raw(HASH_BYTES), Manifest.decode(reader.buffer())
    conflict = Conflict(key, manifest, reader.uint(), reader.uint(), read_upgrade(reader), read_upgrade(reader))
    reader.end()
    return conflict
