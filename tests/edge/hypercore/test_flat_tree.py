"""Bin-numbers against their definition: the tree drawn as nested intervals."""

from hypothesis import given
from hypothesis import strategies as st

from edge.hypercore import flat_tree

indexes = st.integers(0, 2**53)


def test_the_drawing_of_rfc_7574() -> None:
    #                3
    #        1               5
    #    0       2       4       6
    assert [flat_tree.depth(i) for i in range(7)] == [0, 1, 0, 2, 0, 1, 0]
    assert flat_tree.children(3) == (1, 5)
    assert [flat_tree.parent(i) for i in (0, 2, 4, 6, 1, 5)] == [1, 1, 5, 5, 3, 3]
    assert [flat_tree.sibling(i) for i in (0, 2, 1)] == [2, 0, 5]
    assert (flat_tree.left_span(3), flat_tree.right_span(3)) == (0, 6)
    assert flat_tree.contains(3, 6)
    assert not flat_tree.contains(3, 8)
    assert not flat_tree.contains(5, 2)


@given(indexes)
def test_parent_and_children_agree(index: int) -> None:
    parent, sibling = flat_tree.parent(index), flat_tree.sibling(index)
    assert set(flat_tree.children(parent)) == {index, sibling}
    assert flat_tree.sibling(sibling) == index
    assert flat_tree.node(flat_tree.depth(index), flat_tree.offset(index)) == index
    assert flat_tree.contains(parent, index)
    assert not flat_tree.contains(index, parent) or index == parent
    leaves = flat_tree.right_span(index) - flat_tree.left_span(index)
    assert leaves == 2 * ((1 << flat_tree.depth(index)) - 1)


@given(st.integers(0, 2**40))
def test_full_roots_tile_the_log(length: int) -> None:
    position = 0
    roots = list(flat_tree.full_roots(length))
    for root in roots:
        assert flat_tree.left_span(root) == position
        position = flat_tree.right_span(root) + 2
    assert position == 2 * length
    depths = [flat_tree.depth(root) for root in roots]
    assert depths == sorted(set(depths), reverse=True)
