"""A node that a batch writes again is patched, not encoded: the bytes are those of encoding it whole, always."""

from hypothesis import given
from hypothesis import strategies as st

from edge.hyperbee.codec import KEYS_MAX, OFFSET_BITS, OFFSET_MASK, USUAL_CHILD, level_body, pack, pack_children
from edge.hyperbee.node import Branch, Node

SEQS = st.one_of(
    st.sampled_from([1, 0x3FFF, 0x4000, 0x1F_FFFF, 0x20_0000, 2**40]), *[st.integers(0x4000, 0x1F_FFFF)] * 3
)
OFFSETS = st.one_of(st.sampled_from([0, 127, 128, OFFSET_MASK]), *[st.integers(0, 127)] * 3)
POINTERS = st.builds(lambda seq, offset: seq << OFFSET_BITS | offset, SEQS, OFFSETS)
LEAF = Node((1,), (b"x",), (), 1)


@st.composite
def inner_nodes(draw: st.DrawFn) -> Branch:
    count = draw(st.integers(1, KEYS_MAX))
    seqs = draw(st.lists(SEQS, min_size=count, max_size=count))
    children = draw(st.lists(POINTERS, min_size=count + 1, max_size=count + 1))
    return Branch.fresh(seqs, [b"%d" % index for index in range(count)], list(children))


@given(inner_nodes(), st.lists(st.dictionaries(st.integers(0, KEYS_MAX), POINTERS), max_size=4))
def test_a_node_whose_children_move_is_written_as_if_anew(branch: Branch, rounds: list[dict[int, int]]) -> None:
    seqs = list(branch.seqs)
    _, node = branch.written()
    for moves in rounds:
        expected = list(node.children)
        branch = Branch.of(node, 1 << OFFSET_BITS)
        for index, pointer in moves.items():
            if index < len(expected):
                child = branch.adopt(index, lambda _: LEAF)
                child.seq, child.offset = pointer >> OFFSET_BITS, pointer & OFFSET_MASK
                expected[index] = pointer
        body, node = branch.written()
        assert body == level_body(pack(seqs), pack_children(expected))
        assert list(node.children) == expected
        assert node.wire is None or node.wire == pack_children(expected)
        assert node.wire is None or len(node.wire) == USUAL_CHILD * len(expected)


@given(inner_nodes())
def test_what_was_stored_does_not_change_with_the_branch_made_of_it(branch: Branch) -> None:
    _, node = branch.written()
    before = list(node.seqs), list(node.keys), list(node.children), node.packed, node.wire
    again = Branch.of(node, 1 << OFFSET_BITS)
    again.insert(7, b"new")
    again.replace(0, 9, b"other")
    if len(again.keys) > 2:
        again.split()
    again.give(0)
    again.take(0, 3, b"", None)
    assert (list(node.seqs), list(node.keys), list(node.children), node.packed, node.wire) == before
