"""Trees: growth in any portions, truncation, paths, against a recursive definition. Stock hashes: tests/interop."""

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import LocalError, SignatureError
from edge.hypercore import flat_tree
from edge.hypercore.merkle import Node, Tree, climb, leaf, parent, path

blocks_lists = st.lists(st.binary(max_size=20), max_size=40)


def defined(blocks: list[bytes], index: int) -> Node:
    """A node from the definition of the hashes alone."""
    if flat_tree.depth(index) == 0:
        block = blocks[index // 2]
        digest = blake2b(b"\x00" + len(block).to_bytes(8, "little") + block, digest_size=32).digest()
        return Node(index, len(block), digest)
    left, right = (defined(blocks, child) for child in flat_tree.children(index))
    size = left.size + right.size
    data = b"\x01" + size.to_bytes(8, "little") + left.hash + right.hash
    return Node(index, size, blake2b(data, digest_size=32).digest())


@given(blocks_lists, st.data())
def test_growth_in_any_portions_is_the_definition(blocks: list[bytes], data: st.DataObject) -> None:
    tree, born, position = Tree(), [], 0
    while position < len(blocks):
        step = data.draw(st.integers(1, len(blocks) - position))
        tree, nodes = tree.append(blocks[position : position + step])
        born += nodes
        position += step
    assert tree.roots == tuple(defined(blocks, index) for index in flat_tree.full_roots(len(blocks)))
    assert tree.byte_length == sum(map(len, blocks))
    assert len(born) == len({node.index for node in born}) == 2 * len(blocks) - len(tree.roots)
    assert all(node == defined(blocks, node.index) for node in born)


@given(blocks_lists.filter(bool), st.data())
def test_truncation_is_the_smaller_tree(blocks: list[bytes], data: st.DataObject) -> None:
    tree, born = Tree().append(blocks)
    nodes = {node.index: node for node in born}
    length = data.draw(st.integers(0, len(blocks)))
    assert tree.truncate(length, nodes.__getitem__) == Tree().append(blocks[:length])[0]


@given(blocks_lists.filter(bool), st.data())
def test_every_block_leads_to_its_root_and_no_other_block_does(blocks: list[bytes], data: st.DataObject) -> None:
    tree, born = Tree().append(blocks)
    nodes = {node.index: node for node in born}
    index = data.draw(st.integers(0, len(blocks) - 1))
    node = leaf(index, blocks[index])
    root = tree.root_over(node.index)
    assert climb(node, path(node.index, root.index, nodes.__getitem__)) == root
    assert tree.proves(node, nodes.__getitem__)
    assert not tree.proves(leaf(index, blocks[index] + b"!"), nodes.__getitem__)
    for inner in born:
        assert tree.proves(inner, nodes.__getitem__)


def test_tree_hash_covers_place_and_size_of_each_root() -> None:
    tree, _ = Tree().append([b"a", b"b", b"c"])
    hashes = {tree.hash()}
    first, second = tree.roots
    for changed in (
        (first, Node(second.index + 2, second.size, second.hash)),
        (first, Node(second.index, second.size + 1, second.hash)),
        (second, first),
    ):
        hashes.add(Tree(3, changed).hash())
    assert len(hashes) == 4


def test_a_node_that_is_no_sibling_is_refused() -> None:
    _, born = Tree().append([b"a", b"b", b"c", b"d"])
    nodes = {node.index: node for node in born}
    assert parent(nodes[0], nodes[2]) == nodes[1]
    with pytest.raises(SignatureError, match="not beside"):
        climb(nodes[0], [nodes[4]])


def test_what_cannot_be() -> None:
    tree, _ = Tree().append([b"a"])
    with pytest.raises(LocalError):
        tree.truncate(2, lambda index: leaf(index, b""))
    with pytest.raises(LocalError):
        tree.root_over(2)
    with pytest.raises(LocalError):
        Tree(2, ())
