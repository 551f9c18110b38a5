"""Signatures of a core: what is signed, how the signers' parts are put together, and whether a signature holds.

What a signature covers (`signable`) binds tree hash, length, fork and the core, so no signature fits another state.
`compat` cores come from before manifests: their key is the signer's public key.

A signer who is ahead of the others has signed a longer tree. Where the manifest allows it, such a signature counts for
the shorter one too: its `patch` says how many blocks longer, and nodes at the end of the blob lead there, so the tree
at hand is proven to be a prefix of what was signed. Each node is carried once for all signers (by position in version
0). Nodes that no signature of the quorum needs are ignored, as stock peers do.
Spec: hypercore 11.37, lib/verifier.js, lib/multisig.js, lib/caps.js.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from edge.crypto.hashing import HASH_BYTES, TREE
from edge.crypto.keys import SIGNATURE_BYTES, KeyPair, signature_valid
from edge.encoding.compact import Reader, array, fixed, uint, uint64
from edge.errors import LocalError, SignatureError
from edge.hypercore import flat_tree
from edge.hypercore.growth import Growth, steps
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Node, NodeSource, Tree
from edge.limits import INTEGER_MAX, PATCH_NODES_MAX, SIGNERS_MAX

_NODE_BYTES_MIN: Final = HASH_BYTES + 2


@dataclass(frozen=True, slots=True)
class Part:
    """One signer's signature; over `patch` more blocks than the state at hand, to which `nodes` lead."""

    signer: int
    signature: bytes
    patch: int = 0
    nodes: tuple[Node, ...] = ()

    @classmethod
    def ahead(cls, signer: int, signature: bytes, *, signed: Tree, length: int, nodes: NodeSource) -> "Part":
        """The part for `length` blocks of somebody who signed `signed`, as long or longer."""
        roots = {root.index: root for root in signed.roots}
        if not 0 < length <= signed.length:
            raise LocalError(f"a signature over {signed.length} blocks says nothing of {length}")
        led = tuple(roots.get(index) or nodes(index) for index in steps(length, signed.length))
        return cls(signer, signature, signed.length - length, led)


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
        return self.assemble_parts(Part(signer, signature) for signer, signature in signatures.items())

    def assemble_parts(self, parts: Iterable[Part]) -> bytes:
        """The signature blob from a quorum of parts, of which some may be over a longer log if the manifest allows."""
        chosen = sorted(parts, key=lambda part: part.signer)
        if len({part.signer for part in chosen}) < max(self.manifest.quorum, 1):
            raise LocalError(f"{len(chosen)} signatures are no quorum of {self.manifest.quorum}")
        if any(part.patch for part in chosen) and not self.manifest.allow_patch:
            raise LocalError("the manifest wants all signers to sign the same length")
        if self.bare:
            return fixed(chosen[0].signature, SIGNATURE_BYTES)
        patch: list[Node] = []
        version_0 = self.manifest.version == 0
        encode = _encode_part_v0 if version_0 else _encode_part
        proofs = [encode(part, patch) for part in chosen[: self.manifest.quorum]]
        if len(patch) > PATCH_NODES_MAX:
            raise LocalError(f"{len(patch)} nodes in a signature; at most {PATCH_NODES_MAX}")
        return array(proofs) + array(uint(index) + uint(size) + digest for index, size, digest in patch)

    def sign(self, key_pair: KeyPair, tree_hash: bytes, length: int, fork: int) -> bytes:
        """The whole signature of a core with one signer."""
        if self.manifest.signer_index(key_pair.public_key) != 0 or self.manifest.quorum != 1:
            raise LocalError("this key pair alone cannot sign this core")
        return self.assemble({0: key_pair.sign(self.signable(tree_hash, length, fork))})

    def verify(self, signature: bytes, tree_hash: bytes, length: int, fork: int) -> None:
        """Raise `SignatureError` unless `signature` is a quorum's over this state; without the tree, no patches."""
        self._verify(signature, tree_hash, length, fork, None)

    def verify_tree(self, signature: bytes, tree: Tree, fork: int) -> None:
        """Raise `SignatureError` unless `signature` is a quorum's over `tree`, or over trees that continue it."""
        self._verify(signature, tree.hash(), tree.length, fork, tree)

    def _verify(self, signature: bytes, tree_hash: bytes, length: int, fork: int, tree: Tree | None) -> None:
        prologue = self.manifest.prologue
        if not self.compat and prologue and self.manifest.version and length <= prologue.length:
            if length != prologue.length or tree_hash != prologue.hash:
                raise SignatureError(f"length {length} is not the prologue of the manifest")
            return
        if self.manifest.quorum == 0:
            raise SignatureError("this core has no signers")
        proofs, nodes = self._proofs(signature)
        if len(proofs) < self.manifest.quorum:
            raise SignatureError(f"{len(proofs)} signatures; {self.manifest.quorum} are needed")
        seen: set[int] = set()
        for signer, single, patch in proofs[: self.manifest.quorum]:
            if signer >= len(self.manifest.signers) or signer in seen:
                raise SignatureError(f"signer {signer} is unknown or signs twice")
            seen.add(signer)
            if not patch:
                self.verify_single(signer, single, tree_hash, length, fork)
            elif tree is None or not self.manifest.allow_patch:
                raise SignatureError(f"signer {signer} signed a longer log, which is not accepted here")
            else:
                longer = _continue(tree, length + patch, nodes)
                self.verify_single(signer, single, longer.hash(), longer.length, fork)

    def verify_single(self, signer: int, signature: bytes, tree_hash: bytes, length: int, fork: int) -> None:
        """Raise `SignatureError` unless `signature` is signer number `signer`'s over this state."""
        signable = self.signable(tree_hash, length, fork, signer)
        if not signature_valid(self.manifest.signers[signer].public_key, signable, signature):
            raise SignatureError(f"signer {signer} did not sign length {length} at fork {fork}")

    def signers(self, signature: bytes) -> tuple[int, ...]:
        """The numbers of those whose parts `signature` holds; none for a prologue, which needs no signature."""
        if not signature:
            return ()
        return tuple(signer for signer, _, _ in self._proofs(signature)[0])

    def _proofs(self, blob: bytes) -> tuple[list["_Signature"], dict[int, Node]]:
        """The signatures in a blob, and the nodes that come with them; of two with one index the last one counts."""
        if self.bare:
            return [(0, blob, 0)], {}
        reader = Reader(blob)
        read = _read_part_v0 if self.manifest.version == 0 else _read_part
        proofs = reader.array(read, items_max=SIGNERS_MAX, item_bytes_min=SIGNATURE_BYTES + 2)
        patch = reader.array(_read_node, items_max=PATCH_NODES_MAX, item_bytes_min=_NODE_BYTES_MIN)
        reader.end()
        if patch and not self.manifest.allow_patch:
            raise SignatureError("the signature brings patch nodes, which the manifest does not allow")
        return proofs, {node.index: node for node in patch}


_Signature = tuple[int, bytes, int]  # signer, signature, patch


def _continue(tree: Tree, length: int, nodes: Mapping[int, Node]) -> Tree:
    """`tree` grown to `length` by `nodes`."""
    if not tree.length or length > INTEGER_MAX:
        raise SignatureError(f"a signature over {length} blocks cannot continue {tree.length}")

    def take(index: int) -> Node:
        node = nodes.get(index)
        if node is None:
            raise SignatureError(f"tree node {index} is missing in the signature")
        return node

    growth = Growth(tree)
    growth.reach(length, take)
    return growth.tree()


def _encode_part(part: Part, patch: list[Node]) -> bytes:
    """One signature; its nodes go to `patch` unless they are there."""
    there = {node.index for node in patch}
    patch += [node for node in part.nodes if part.patch and node.index not in there]
    return uint(part.signer) + fixed(part.signature, SIGNATURE_BYTES) + uint(part.patch)


def _encode_part_v0(part: Part, patch: list[Node]) -> bytes:
    """The older form: a list of positions in `patch` instead of a count alone."""
    single = uint(part.signer) + fixed(part.signature, SIGNATURE_BYTES)
    if not part.patch:
        return b"\x00" + single
    patch += [node for node in part.nodes if node not in patch]
    # Stock peers write the end of the patch as its start, and no reader looks at it.
    end = flat_tree.right_span(part.nodes[-1].index) // 2 + 1
    return b"\x01" + single + uint(end) + uint(part.patch) + array(uint(patch.index(node)) for node in part.nodes)


def _read_part(reader: Reader) -> _Signature:
    return reader.uint(), reader.raw(SIGNATURE_BYTES), reader.uint()


def _read_part_v0(reader: Reader) -> _Signature:
    flags = reader.uint()
    signer, signature = reader.uint(), reader.raw(SIGNATURE_BYTES)
    if not flags & 1:
        return signer, signature, 0
    reader.uint()  # the start: see `_encode_part_v0`
    patch = reader.uint()
    reader.array(lambda r: r.uint(), items_max=PATCH_NODES_MAX)  # positions; nodes are found by index
    return signer, signature, patch


def _read_node(reader: Reader) -> Node:
    return Node(reader.uint(), reader.uint(), reader.raw(HASH_BYTES))
