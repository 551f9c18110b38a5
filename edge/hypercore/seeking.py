"""From a byte's offset in a log to its block, by the sizes in the tree's nodes. Pure."""

from edge.hypercore import flat_tree
from edge.hypercore.checking import Known
from edge.hypercore.merkle import Tree


def seek(tree: Tree, offset: int, padding: int, known: Known) -> tuple[int, int] | None:
    """The block that byte `offset` lies in, and where in it; the length of the log for its very end.

    `padding` bytes at the head of each block do not count. None: a node on the way is not known. Raises `IndexError`.
    """
    left = offset
    for root in tree.roots:
        index, blocks = root.index, 1 << flat_tree.depth(root.index)
        size = root.size - padding * blocks
        if not 0 <= left < size:
            left -= size
            continue
        while index & 1:
            below, beyond = flat_tree.children(index)
            node = known(below)
            if node is None:
                return None
            blocks >>= 1
            size = node.size - padding * blocks
            if left < size:
                index = below
            else:
                left -= size
                index = beyond
        return index // 2, left
    if offset < 0 or left > 0:
        raise IndexError(f"byte {offset} is not in this log")
    return tree.length, 0
