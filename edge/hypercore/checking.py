"""Proofs of others: whether blocks, nodes and longer trees belong to a log, before anything of them is believed. Pure.

A proof is a chain of computed nodes from what was sent to something that is trusted already: a node that we know, or
roots that a quorum signed. Each node must stand exactly where the chain needs the next one; one that is missing, out
of place or left over refutes the whole answer. A chain that ends at a node which we do not know (`Unanchored`) proves
nothing yet, and refutes nothing: the node may be on its way in another answer.

Invariants: what `Proven` lists has been tied to a trusted hash, sizes included. The work is bounded by the nodes of
the message. Every refusal is a `SignatureError` with a stable reason: `proof` (form of the chain), `checksum` (wrong
contents), `unanchored`, `stale` (an upgrade of another length than ours), `manifest`, `signature`.
Spec: hypercore 11.37, `verifyTree` and `verifyUpgrade` in lib/merkle-tree.js.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Final

from edge.crypto.hashing import HASH_BYTES
from edge.errors import SignatureError
from edge.hypercore import flat_tree
from edge.hypercore.growth import Growth
from edge.hypercore.merkle import Node, Tree, leaf, parent
from edge.hypercore.messages import Data, UpgradeProof
from edge.hypercore.records import Signed
from edge.hypercore.verifier import Verifier
from edge.limits import INTEGER_MAX

Known = Callable[[int], Node | None]
"""The node of a tree index if it is stored or has been accepted."""

_TYPED_SIZE: Final = Struct("<BQ")
_DIGEST: Final = HASH_BYTES
_NOTHING: Final[dict[int, Node]] = {}


class Unanchored(SignatureError):
    """The chain is sound so far but ends at node `index`, which is not known (yet)."""

    def __init__(self, index: int) -> None:
        super().__init__(f"the proof leads to tree node {index}, which is not known", reason="unanchored")
        self.index = index


@dataclass(frozen=True, slots=True)
class Proven:
    """What an answer has proven.

    `nodes` are all given and computed ones, children before parents. `tree` is the tree at the length that the upgrade
    names; `signed_tree` the one that `signed` covers, as long or longer. All three are None without an upgrade.
    """

    nodes: tuple[Node, ...]
    tree: Tree | None
    signed: Signed | None
    signed_tree: Tree | None
    block: tuple[int, bytes] | None


def check(data: Data, *, tree: Tree, known: Known, verifier: Verifier | None) -> Proven:
    """What `data` proves to whoever has `tree`, of the same fork. Raises `SignatureError`.

    `verifier` may be None while the manifest is not learned; then upgrades are refused.
    """
    chain = _Chain(data)
    computed = chain.computed
    growth = signed = upgraded = None
    if data.upgrade is not None:
        if data.upgrade.start != tree.length:
            raise SignatureError(f"an upgrade of {data.upgrade.start} blocks; we have {tree.length}", reason="stale")
        growth, upgraded, signed, used = _check_upgrade(data.upgrade, data.fork, tree, computed, verifier)
        computed = None if used else computed
    if computed is not None:
        _anchor(computed, tree, known)
    elif growth is None:
        raise SignatureError("the answer proves nothing", reason="proof")
    return Proven(
        tuple(chain.nodes + growth.born if growth else chain.nodes),
        upgraded,
        signed,
        growth.tree() if growth else None,
        (data.block.index, data.block.value) if data.block else None,
    )


def check_whole(data: Data, *, verifier: Verifier | None) -> Proven:
    """What an upgrade from nothing proves by itself: the roots of a fork that we do not follow (yet)."""
    if data.upgrade is None:
        raise SignatureError("no upgrade where one was asked for", reason="proof")
    return check(data, tree=Tree(), known=_NOTHING.get, verifier=verifier)


def check_block(index: int, value: bytes, nodes: Sequence[Node], known: Known) -> list[Node]:
    """The nodes to store with a block below our length: its leaf, and what is new up to a node that is known.

    Raises `SignatureError`. Written out flat: this runs for every block of a download.
    """
    size = len(value)
    digest = blake2b(_TYPED_SIZE.pack(0, size) + value, digest_size=_DIGEST).digest()
    at = 2 * index
    bit = 1  # 2^height of `at`
    found: list[Node] = []
    for other in nodes:
        found.append(Node(at, size, digest))
        found.append(other)
        beside, other_size, other_digest = other
        if beside != at ^ 2 * bit:
            raise SignatureError(f"tree node {beside} is not beside {at}", reason="proof")
        size += other_size
        pair = digest + other_digest if at < beside else other_digest + digest
        digest = blake2b(_TYPED_SIZE.pack(1, size) + pair, digest_size=_DIGEST).digest()
        at = at & ~(2 * bit) | bit
        bit *= 2
    top = known(at)
    if top is None:
        raise Unanchored(at)
    if top[1] != size or top[2] != digest:
        raise SignatureError(f"block {index} is not the block of this log", reason="checksum")
    return found or [top]


def levels(index: int, known: Known) -> int:
    """How many steps to climb from tree node `index` to a known one: what a request calls `nodes`.

    0 where no node above is known: the item is past our length, and an upgrade has to cover it.
    """
    count = 0
    while known(index) is None:
        index = flat_tree.parent(index)
        if index > INTEGER_MAX:
            return 0
        count += 1
    return count


class _Chain:
    """Nodes computed from a block or node, and a seek, upwards. `computed` is the last one; None if nothing came."""

    def __init__(self, data: Data) -> None:
        self.nodes: list[Node] = []
        self.computed: Node | None = None
        if data.seek is not None:
            if not data.seek.nodes:
                raise SignatureError("a seek without nodes", reason="proof")
            self._climb(data.seek.nodes[0], data.seek.nodes[1:], None)
        sought = self.computed
        if data.block is not None:
            if data.hash is not None:
                raise SignatureError("a block and a node in one answer", reason="proof")
            self._climb(leaf(data.block.index, data.block.value), data.block.nodes, sought)
        elif data.hash is not None:
            if not data.hash.nodes or data.hash.nodes[0].index != data.hash.index:
                raise SignatureError(f"tree node {data.hash.index} is not in its own proof", reason="proof")
            self._climb(data.hash.nodes[0], data.hash.nodes[1:], sought)

    def _climb(self, node: Node, others: Sequence[Node], sought: Node | None) -> None:
        """Up from `node`; where the chain meets the place of `sought`, that node is used instead of a given one."""
        self.nodes.append(node)
        rest = iter(others)
        left = len(others) + (sought is not None)
        while left:
            beside = flat_tree.sibling(node.index)
            if sought is not None and sought.index == beside:
                other, sought = sought, None  # already listed
            else:
                given = next(rest, None)
                if given is None or given.index != beside:
                    raise SignatureError(f"tree node {beside} is not where the proof needs it", reason="proof")
                other = given
                self.nodes.append(other)
            node = parent(node, other) if node.index < beside else parent(other, node)
            if node.index > INTEGER_MAX:
                raise SignatureError("a proof climbs past every tree", reason="proof")
            self.nodes.append(node)
            left -= 1
        self.computed = node


def _anchor(computed: Node, tree: Tree, known: Known) -> None:
    """Refuse what was computed unless it is a node that we know."""
    if flat_tree.right_span(computed.index) >= 2 * tree.length:
        raise SignatureError(f"tree node {computed.index} is past the length {tree.length}", reason="proof")
    expected = known(computed.index)
    if expected is None:
        expected = next((root for root in tree.roots if root.index == computed.index), None)
    if expected is None:
        raise Unanchored(computed.index)
    if expected != computed:
        raise SignatureError(f"tree node {computed.index} is not the node of this log", reason="checksum")


def _check_upgrade(
    upgrade: UpgradeProof, fork: int, tree: Tree, computed: Node | None, verifier: Verifier | None
) -> tuple[Growth, Tree, Signed, bool]:
    """Grow `tree`, and hold the signature against what it grew to; tells too whether `computed` was part of it."""
    if verifier is None:
        raise SignatureError("an upgrade came before the manifest", reason="manifest")
    target = upgrade.start + upgrade.length
    if upgrade.length <= 0 or target > INTEGER_MAX:
        raise SignatureError(f"an upgrade by {upgrade.length} blocks", reason="proof")
    prologue = None if verifier.compat else verifier.manifest.prologue
    if prologue and upgrade.start < prologue.length and (upgrade.start or target < prologue.length):
        raise SignatureError("an upgrade to a part of the prologue", reason="proof")
    rest = iter(upgrade.nodes)
    used = False

    def take(index: int) -> Node:
        nonlocal used
        if computed is not None and computed.index == index:
            used = True
            return computed
        given = next(rest, None)
        if given is None or given.index != index:
            raise SignatureError(f"tree node {index} is not where the upgrade needs it", reason="proof")
        return given

    growth = Growth(tree)
    growth.reach(target, take)
    if next(rest, None) is not None:
        raise SignatureError("an upgrade with nodes left over", reason="proof")
    upgraded = growth.tree()
    if prologue and target == prologue.length and upgraded.hash() != prologue.hash:
        raise SignatureError("the upgrade is not the prologue of the manifest", reason="checksum")
    for node in upgrade.additional:
        growth.extend(node)
    whole = growth.tree() if upgrade.additional else upgraded
    verifier.verify_tree(upgrade.signature, whole, fork)
    return growth, upgraded, Signed(whole.length, fork, upgrade.signature), used
