"""Proofs of random trees to peers who hold random parts: what is shown is believed, and nothing that was changed."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.crypto.keys import KeyPair
from edge.errors import RemoteError, SignatureError
from edge.hypercore import flat_tree
from edge.hypercore.conflict import Conflict, decode_conflict
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Node, Tree
from edge.hypercore.messages import BlockRef, Data, Request, SeekRef, UpgradeRef, decode_data
from edge.hypercore.proof import Bisection, Unanchored, check, check_block, check_whole, levels, prove
from edge.hypercore.verifier import Verifier

PAIR = KeyPair.from_seed(b"p" * 32)
MANIFEST = Manifest.single(PAIR.public_key)
VERIFIER = Verifier.of(MANIFEST)


class Log:
    """A whole log, from numbers."""

    def __init__(self, length: int, seed: int = 0, shared: "Log | None" = None, keep: int = 0, fork: int = 0) -> None:
        rng = random.Random(seed)
        kept = shared.blocks[:keep] if shared else []
        self.blocks: list[bytes] = kept + [rng.randbytes(rng.randrange(30)) for _ in range(length - len(kept))]
        self.tree, born = Tree().append(self.blocks)
        self.nodes = {node.index: node for node in born}
        self.fork = fork
        self.signature = VERIFIER.sign(PAIR, self.tree.hash(), length, fork)

    def at(self, length: int) -> Tree:
        return self.tree.truncate(length, self.nodes.__getitem__)

    def answer(self, request: Request) -> Data:
        return prove(
            request,
            tree=self.tree,
            fork=self.fork,
            signature=self.signature,
            nodes=self.nodes.__getitem__,
            block=self.blocks.__getitem__,
            manifest=MANIFEST,
        )


@st.composite
def questions(draw: st.DrawFn) -> tuple[Log, int, dict[int, Node], Request]:
    """A log, a length that the asker has, what it knows, and a request that it can check."""
    log = Log(draw(st.integers(1, 70)), draw(st.integers(0, 50)))
    length = log.tree.length
    have = draw(st.integers(0, length))
    known = {root.index: root for root in log.at(have).roots}
    for block in draw(st.lists(st.integers(0, max(have - 1, 0)), max_size=4)) if have else []:
        at = 2 * block
        while at not in known:
            known[at] = log.nodes[at]
            known[flat_tree.sibling(at)] = log.nodes[flat_tree.sibling(at)]
            at = flat_tree.parent(at)
    upgrade = UpgradeRef(have, draw(st.integers(1, length - have))) if have < length and draw(st.booleans()) else None
    item = seek = None
    shape = draw(st.sampled_from(["block", "hash", "none", "new", "seek"]))
    if shape in ("block", "hash") and have:
        index = 2 * draw(st.integers(0, have - 1))
        item = BlockRef(index // 2 if shape == "block" else index, levels(index, known.get))
        top = index
        for _ in range(item.nodes):
            top = flat_tree.parent(top)
        start = sum(log.nodes[2 * block].size for block in range(flat_tree.left_span(top) // 2))
        if log.nodes[top].size and draw(st.booleans()):
            seek = SeekRef(start + draw(st.integers(0, log.nodes[top].size - 1)), 0)
    elif shape == "new" and upgrade:
        item = BlockRef(draw(st.integers(have, have + upgrade.length - 1)), 0)
    elif shape == "seek" and upgrade:
        seek = SeekRef(draw(st.integers(0, log.tree.byte_length + 2)), 0)
    if item is None and upgrade is None and length > have:
        upgrade = UpgradeRef(have, length - have)
    hashed = shape == "hash"
    return (
        log,
        have,
        known,
        Request(7, 0, None if hashed else item, item if hashed else None, seek, upgrade, draw(st.booleans())),
    )


@settings(max_examples=300)
@given(questions())
def test_what_is_shown_is_believed(question: tuple[Log, int, dict[int, Node], Request]) -> None:
    log, have, known, request = question
    data = decode_data(log.answer(request).encode())
    if not (data.block or data.hash or data.upgrade):
        return
    proven = check(data, tree=log.at(have), known=known.get, verifier=VERIFIER)
    assert all(log.nodes[node.index] == node for node in proven.nodes)
    assert (proven.tree is not None) == (request.upgrade is not None)
    if request.upgrade:
        assert (proven.tree, proven.signed_tree) == (log.at(have + request.upgrade.length), log.tree)
    if data.block and not data.upgrade and not data.seek:
        stored = {node.index for node in check_block(data.block.index, data.block.value, data.block.nodes, known.get)}
        assert 2 * data.block.index in stored


@settings(max_examples=300)
@given(questions(), st.randoms(use_true_random=False))
def test_what_was_changed_is_not_believed(
    question: tuple[Log, int, dict[int, Node], Request], rng: random.Random
) -> None:
    log, have, known, request = question
    data = log.answer(request._replace(manifest=False))
    if not (data.block or data.hash or data.upgrade):
        return
    wire = bytearray(data.encode())
    wire[rng.randrange(len(wire))] ^= 1 << rng.randrange(8)
    try:
        changed = decode_data(bytes(wire))
        changed = changed._replace(id=data.id)
        if changed.seek and data.seek:
            changed = changed._replace(seek=replace(changed.seek, bytes=data.seek.bytes))  # an echo of the request
        if not changed.upgrade:
            changed = changed._replace(fork=data.fork)  # the caller compares it: nothing is signed here
        if changed == data:
            return  # in a field that proves nothing, or after the last one
        proven = check(changed, tree=log.at(have), known=known.get, verifier=VERIFIER)
    except RemoteError:
        return
    # A flag that fell away takes a part of the answer with it; what is left must still be the truth.
    assert all(log.nodes[node.index] == node for node in proven.nodes)
    assert proven.block is None or log.blocks[proven.block[0]] == proven.block[1]
    assert proven.signed_tree in (None, log.tree)


@given(questions(), st.data())
def test_a_node_too_few_or_too_many_is_refused(
    question: tuple[Log, int, dict[int, Node], Request], draw: st.DataObject
) -> None:
    log, have, known, request = question
    data = log.answer(request)
    parts = [part for part in (data.block, data.hash, data.seek, data.upgrade) if part and part.nodes]
    if not parts:
        return
    part = draw.draw(st.sampled_from(parts))
    nodes = list(part.nodes)
    place = draw.draw(st.integers(0, len(nodes) - 1))
    if draw.draw(st.booleans()):
        nodes.insert(place, nodes[place])
    else:
        del nodes[place]
    if part is data.block and data.block:
        data = data._replace(block=data.block._replace(nodes=tuple(nodes)))
    elif part is data.hash and data.hash:
        data = data._replace(hash=replace(data.hash, nodes=tuple(nodes)))
    elif part is data.seek and data.seek:
        data = data._replace(seek=replace(data.seek, nodes=tuple(nodes)))
    elif data.upgrade:
        data = data._replace(upgrade=replace(data.upgrade, nodes=tuple(nodes)))
    with pytest.raises(SignatureError):
        check(data, tree=log.at(have), known=known.get, verifier=VERIFIER)


def test_an_unknown_end_is_not_a_lie() -> None:
    log = Log(9)
    data = log.answer(Request(1, 0, BlockRef(2, 1)))
    assert data.block
    nothing: dict[int, Node] = {}
    with pytest.raises(Unanchored) as open_end:
        check_block(2, data.block.value, data.block.nodes, nothing.get)
    assert open_end.value.index == 5
    with pytest.raises(SignatureError) as lie:
        check_block(2, b"other", data.block.nodes, log.nodes.get)
    assert lie.value.reason == "checksum"
    with pytest.raises(SignatureError, match="beside"):
        check_block(3, data.block.value, data.block.nodes, log.nodes.get)


@given(st.integers(0, 2**50), st.integers(0, 2**53 - 1), st.integers(1, 40), st.booleans())
def test_no_request_can_ask_too_much(index: int, levels_up: int, length: int, hashed: bool) -> None:
    log = Log(length)
    ref = BlockRef(index, levels_up)
    for request in (
        Request(1, 0, None if hashed else ref, ref if hashed else None),
        Request(1, 0, None, ref, SeekRef(index, 8), UpgradeRef(min(index, 60), levels_up or 1)),
    ):
        possible = False
        try:
            possible = bool(log.answer(request).encode())
        except RemoteError as refused:
            reason = refused.reason
        assert possible or reason == "invalid_request"


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 70), st.randoms(use_true_random=False))
def test_bisection_finds_what_two_forks_share(old: int, new: int, keep: int, rng: random.Random) -> None:
    ours = Log(old, 1)
    theirs = Log(new, 2, ours, min(keep, old, new), fork=1)
    whole = check_whole(theirs.answer(Request(1, 1, upgrade=UpgradeRef(0, new))), verifier=VERIFIER)
    assert whole.tree
    held = {index: node for index, node in ours.nodes.items() if rng.random() < 0.9}
    for nodes, exact in ((ours.nodes, True), (held, False)):
        search = Bisection(ours.tree, nodes.get, whole.tree)
        rounds = 0
        while (wanted := search.next_request()) is not None:
            answer = theirs.answer(Request(2, 1, hash=wanted)).hash
            assert answer
            with pytest.raises(SignatureError):
                search.receive(replace(answer, nodes=answer.nodes[:-1]))
            search.receive(answer)
            rounds += 1
            assert rounds <= 7
        common = next((i for i, (a, b) in enumerate(zip(ours.blocks, theirs.blocks, strict=False)) if a != b), None)
        truth = min(old, new) if common is None else common
        assert search.shared <= truth
        assert not exact or search.shared == truth
        assert all(theirs.nodes[node.index] == node for node in search.nodes)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 29))
def test_a_conflict_stands_for_itself(one: int, other: int, keep: int) -> None:
    first = Log(one, 1)
    second = Log(other, 2, first, min(keep, one, other))
    length = min(one, other)
    shown = [log.answer(Request(1, 0, upgrade=UpgradeRef(0, length))).upgrade for log in (first, second)]
    assert shown[0]
    assert shown[1]
    conflict = Conflict(VERIFIER.key, MANIFEST, 0, length, shown[0], shown[1])
    again = decode_conflict(conflict.encode())
    assert again == conflict
    if first.at(length) == second.at(length):
        with pytest.raises(SignatureError, match="same tree"):
            again.check()
        return
    again.check()
    for wrong in (
        replace(conflict, fork=1),
        replace(conflict, length=length + 1),
        replace(conflict, other=conflict.one),
    ):
        with pytest.raises(SignatureError):
            wrong.check()
    with pytest.raises(RemoteError):
        decode_conflict(conflict.encode() + b"\x00")
