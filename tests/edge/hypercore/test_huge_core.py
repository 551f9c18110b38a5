"""A hostile writer signs a log of a huge length with hardly a block in it: nothing loops over it or fills disks."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from support_replica import closing_cores

from edge.crypto.hashing import HASH_BYTES
from edge.crypto.keys import KeyPair
from edge.errors import RemoteError
from edge.hypercore import flat_tree
from edge.hypercore.checking import check_whole
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Node, Tree, leaf, parent
from edge.hypercore.messages import BlockProof, BlockRef, Data, Request, UpgradeProof
from edge.hypercore.replicator.wants import bitfields
from edge.hypercore.verifier import Verifier
from edge.limits import CORE_BLOCKS_MAX, INTEGER_MAX

Open = Callable[..., Awaitable[Hypercore]]

PAIR = KeyPair.from_seed(bytes(32))
VERIFIER = Verifier.of(Manifest.single(PAIR.public_key))
LENGTH = CORE_BLOCKS_MAX - 1


class Forger:
    """A log of which block 0 exists, and of all others only as many nodes as the roots need."""

    def __init__(self, length: int, fork: int = 0) -> None:
        first, *others = flat_tree.full_roots(length)
        node = leaf(0, b"block 0")
        self.beside = []
        while node.index != first:
            other = Node(flat_tree.sibling(node.index), 1 << 20, bytes(HASH_BYTES - 1) + b"\x01")
            self.beside.append(other)
            node = parent(node, other)
        self.tree = Tree(length, (node, *(Node(index, 7, b"\x02" * HASH_BYTES) for index in others)))
        self.signature = VERIFIER.sign(PAIR, self.tree.hash(), length, fork)
        self.fork = fork

    def upgrade(self) -> Data:
        proof = UpgradeProof(0, self.tree.length, self.tree.roots, (), self.signature)
        return Data(1, self.fork, upgrade=proof, manifest=VERIFIER.manifest)

    def block(self) -> Data:
        return Data(2, self.fork, block=BlockProof(0, b"block 0", tuple(self.beside)))


@closing_cores
async def test_a_log_of_a_huge_length_costs_no_more_than_its_blocks(open_core: Open, tmp_path: Path) -> None:
    forger = Forger(LENGTH)
    core = await open_core("replica", key=VERIFIER.key)
    core.accept(forger.upgrade())
    core.accept(forger.block())
    await core.flushed()
    assert (core.length, core.contiguous) == (LENGTH, 1)
    assert list(core.held(0, INTEGER_MAX)) == [(0, 1)]
    assert [field.words for field in bitfields(core.held(0, LENGTH), 0)] == [b"\x01\x00\x00\x00"]
    assert core.prove(Request(1, 0, block=BlockRef(0, 3))).block is not None
    assert await core.seek(3) == (0, 3)
    download = core.download(0)
    assert download.cursor == 1
    download.cancel()
    assert await core.verify() == LENGTH
    await core.clear(0, LENGTH)
    core.accept(forger.block())
    await core.flushed()
    await core.close()
    core = await Hypercore.open(tmp_path / "replica")
    assert core.get(0, proven=True) == b"block 0"
    shorter = Forger(1, fork=1)
    core.accept_reorg(check_whole(shorter.upgrade(), verifier=VERIFIER), 1)
    await core.flushed()
    assert (core.length, core.fork) == (1, 1)
    await core.close()
    tree = (tmp_path / "replica" / "derived" / "tree").stat()
    assert 512 * tree.st_blocks < 1 << 20


@closing_cores
async def test_a_length_that_no_node_file_can_hold_is_refused(open_core: Open) -> None:
    core = await open_core("replica", key=VERIFIER.key)
    with pytest.raises(RemoteError, match="blocks; at most"):
        core.accept(Forger(CORE_BLOCKS_MAX + 1).upgrade())
    core.accept(Forger(3).upgrade())
    with pytest.raises(RemoteError, match="blocks; at most"):
        core.accept_reorg(check_whole(Forger(INTEGER_MAX // 2, fork=1).upgrade(), verifier=VERIFIER), 0)
    await core.flushed()
    assert (core.length, core.fork) == (3, 0)
