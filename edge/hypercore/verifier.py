"""Signatures of a core: what is signed, how the signers' parts are put together, and whether a signature holds.

What a signature covers (`signable`) binds tree hash, length, fork and the core, so no signature fits another state.
`compat` cores come from before manifests: their key is the signer's public key. Signatures that need extra tree nodes
("patches", by a signer who is ahead of the others) are refused: our signers sign the same length.
Spec: hypercore 11.37, lib/verifier.js, lib/multisig.js, lib/caps.js.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.crypto.hashing import HASH_BYTES, TREE
from edge.crypto.keys import SIGNATURE_BYTES, KeyPair, signature_valid
from edge.encoding.compact import Reader, array, fixed, uint, uint64
from edge.errors import LocalError, SignatureError
from edge.hypercore.manifest import Manifest
from edge.limits import SIGNERS_MAX


@dataclass(frozen=True, slots=True)
class Verifier:
    """A core's key and manifest together: what is signed, how signatures are put together, and whether they hold."""

    key: bytes
    manifest: Manifest
    compat: bool = field(init=False)

    def __post_init__(self) -> None:
        signers = self.manifest.signers
        compat = len(signers) == 1 and signers[0].public_key == self.key
        if not compat and self.manifest.key() != self.key:
            raise SignatureError("the manifest does not belong to this key")
        object.__setattr__(self, "compat", compat)

    @classmethod
    def of(cls, manifest: Manifest) -> "Verifier":
        """The verifier of the core that `manifest` defines."""
        return cls(manifest.key(), manifest)

    @classmethod
    def of_compat(cls, public_key: bytes) -> "Verifier":
        """The verifier of a core whose key is its writer's public key."""
        return cls(public_key, Manifest.single(public_key))

    @property
    def bare(self) -> bool:
        """Whether a signature is 64 bare bytes instead of a list of proofs."""
        manifest = self.manifest
        return self.compat or (manifest.version == 0 and len(manifest.signers) == 1 and not manifest.allow_patch)

    def signable(self, tree_hash: bytes, length: int, fork: int, signer: int = 0) -> bytes:
        """What signer number `signer` signs for this state: 112 bytes, 80 for compat cores."""
        state = fixed(tree_hash, HASH_BYTES) + uint64(length) + uint64(fork)
        if self.compat:
            return TREE + state
        context = self.manifest.signers[signer].namespace if self.manifest.version == 0 else self.key
        return TREE + context + state

    def assemble(self, signatures: Mapping[int, bytes]) -> bytes:
        """The signature blob from single signatures by signer number; a quorum of them, lowest numbers first."""
        if len(signatures) < max(self.manifest.quorum, 1):
            raise LocalError(f"{len(signatures)} signatures are no quorum of {self.manifest.quorum}")
        if self.bare:
            return fixed(signatures[0], SIGNATURE_BYTES)
        chosen = sorted(signatures.items())[: self.manifest.quorum]
        if self.manifest.version == 0:
            proofs = [b"\x00" + uint(signer) + fixed(signature, SIGNATURE_BYTES) for signer, signature in chosen]
        else:
            proofs = [uint(signer) + fixed(signature, SIGNATURE_BYTES) + b"\x00" for signer, signature in chosen]
        return array(proofs) + b"\x00"  # no patch nodes

    def sign(self, key_pair: KeyPair, tree_hash: bytes, length: int, fork: int) -> bytes:
        """The whole signature of a core with one signer."""
        if self.manifest.signer_index(key_pair.public_key) != 0 or self.manifest.quorum != 1:
            raise LocalError("this key pair alone cannot sign this core")
        return self.assemble({0: key_pair.sign(self.signable(tree_hash, length, fork))})

    def verify(self, signature: bytes, tree_hash: bytes, length: int, fork: int) -> None:
        """Raise `SignatureError` unless `signature` is a quorum's over this state."""
        prologue = self.manifest.prologue
        if not self.compat and prologue and self.manifest.version and length <= prologue.length:
            if length != prologue.length or tree_hash != prologue.hash:
                raise SignatureError(f"length {length} is not the prologue of the manifest")
            return
        if self.manifest.quorum == 0:
            raise SignatureError("this core has no signers")
        proofs = [(0, signature)] if self.bare else self._proofs(signature)
        if len(proofs) < self.manifest.quorum:
            raise SignatureError(f"{len(proofs)} signatures; {self.manifest.quorum} are needed")
        seen: set[int] = set()
        for signer, single in proofs[: self.manifest.quorum]:
            if signer >= len(self.manifest.signers) or signer in seen:
                raise SignatureError(f"signer {signer} is unknown or signs twice")
            seen.add(signer)
            self.verify_single(signer, single, tree_hash, length, fork)

    def verify_single(self, signer: int, signature: bytes, tree_hash: bytes, length: int, fork: int) -> None:
        """Raise `SignatureError` unless `signature` is signer number `signer`'s over this state."""
        signable = self.signable(tree_hash, length, fork, signer)
        if not signature_valid(self.manifest.signers[signer].public_key, signable, signature):
            raise SignatureError(f"signer {signer} did not sign length {length} at fork {fork}")

    def _proofs(self, blob: bytes) -> list[tuple[int, bytes]]:
        reader = Reader(blob)
        read = _read_proof_v0 if self.manifest.version == 0 else _read_proof
        proofs = reader.array(read, items_max=SIGNERS_MAX, item_bytes_min=SIGNATURE_BYTES + 2)
        if reader.uint() != 0:
            raise SignatureError("the signature brings patch nodes")
        reader.end()
        return proofs


def _read_proof(reader: Reader) -> tuple[int, bytes]:
    signer, signature = reader.uint(), reader.raw(SIGNATURE_BYTES)
    if reader.uint() != 0:
        raise SignatureError(f"signer {signer} signed a longer log (patched signatures are refused)")
    return signer, signature


def _read_proof_v0(reader: Reader) -> tuple[int, bytes]:
    if reader.uint() != 0:
        raise SignatureError("patched signatures are refused")
    return reader.uint(), reader.raw(SIGNATURE_BYTES)
