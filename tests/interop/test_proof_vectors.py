"""What stock hypercore writes, shows and signs in replication, and what we do: messages, proofs, patched signatures.

The vectors in tests/edge/hypercore/proof_vectors.json are compared in every run. With Node and the pinned packages
they are made again live, which must give the same file, and once more from other keys, blocks and requests.
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from support_node import run_node

from edge.crypto.hashing import hash256
from edge.crypto.keys import KeyPair
from edge.errors import BlockMissing, RemoteError, SignatureError
from edge.hypercore import flat_tree, messages
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Node, Tree
from edge.hypercore.messages import BlockProof, BlockRef, Data, HashProof, Request, SeekProof, SeekRef, UpgradeRef
from edge.hypercore.proof import check, check_block, check_whole, prove
from edge.hypercore.verifier import Part, Verifier

HERE = Path(__file__).parent
CHECKED_IN = HERE.parent / "edge" / "hypercore" / "proof_vectors.json"
CORES = ["default", "fork", "compat", "encrypted", "sparse", "prologue"]

Vectors = dict[str, Any]


@pytest.fixture(scope="module", params=["checked in", pytest.param("live", marks=pytest.mark.interop)])
def vectors(request: pytest.FixtureRequest) -> Vectors:
    text = (
        CHECKED_IN.read_text()
        if request.param == "checked in"
        else run_node("proof_vectors.mjs", random.SystemRandom().randrange(1, 256))
    )
    loaded: Vectors = json.loads(text)
    return loaded


@pytest.mark.interop
def test_stock_peers_still_make_the_checked_in_vectors() -> None:
    assert run_node("proof_vectors.mjs", 0) == CHECKED_IN.read_text()


# --- messages --------------------------------------------------------------------------------------------------------


def node_list(nodes: list[dict[str, Any]]) -> tuple[Node, ...]:
    return tuple(Node(node["index"], node["size"], bytes.fromhex(node["hash"])) for node in nodes)


def request_of(m: dict[str, Any]) -> Request:
    return Request(
        m["id"],
        m["fork"],
        BlockRef(**m["block"]) if m["block"] else None,
        BlockRef(**m["hash"]) if m["hash"] else None,
        SeekRef(**m["seek"]) if m["seek"] else None,
        UpgradeRef(**m["upgrade"]) if m["upgrade"] else None,
        m["manifest"],
        m["priority"],
    )


def data_of(m: dict[str, Any]) -> Data:
    block, node, seek, upgrade = m["block"], m["hash"], m["seek"], m["upgrade"]
    return Data(
        m["request"],
        m["fork"],
        BlockProof(block["index"], bytes.fromhex(block["value"]), node_list(block["nodes"])) if block else None,
        HashProof(node["index"], node_list(node["nodes"])) if node else None,
        SeekProof(seek["bytes"], node_list(seek["nodes"])) if seek else None,
        messages.UpgradeProof(
            upgrade["start"],
            upgrade["length"],
            node_list(upgrade["nodes"]),
            node_list(upgrade["additionalNodes"]),
            bytes.fromhex(upgrade["signature"] or ""),
        )
        if upgrade
        else None,
        Manifest.decode(bytes.fromhex(m["manifest"])) if m["manifest"] else None,
    )


MESSAGES: dict[str, tuple[Any, Any]] = {
    "handshake": (messages.decode_handshake, lambda m: messages.Handshake(m["seeks"], bytes.fromhex(m["capability"]))),
    "sync": (
        messages.decode_sync,
        lambda m: messages.Sync(
            m["fork"],
            m["length"],
            m["remoteLength"],
            m["canUpgrade"],
            m["uploading"],
            m["downloading"],
            m["hasManifest"],
            m["allowPush"],
        ),
    ),
    "request": (messages.decode_request, request_of),
    "cancel": (messages.decode_cancel, lambda m: messages.Cancel(m["request"])),
    "data": (messages.decode_data, data_of),
    "noData": (messages.decode_no_data, lambda m: messages.NoData(m["request"], m["reason"])),
    "want": (messages.decode_want, lambda m: messages.Want(**m)),
    "unwant": (messages.decode_unwant, lambda m: messages.Unwant(**m)),
    "bitfield": (messages.decode_bitfield, lambda m: messages.Bitfield(m["start"], bytes.fromhex(m["bitfield"]))),
    "range": (messages.decode_range, lambda m: messages.Range(**m)),
    "extension": (
        messages.decode_extension,
        lambda m: messages.Extension(m["name"], bytes.fromhex(m["message"])),
    ),
}


def test_messages_are_the_bytes_of_stock_peers(vectors: Vectors) -> None:
    seen = set()
    for vector in vectors["messages"]:
        decode, construct = MESSAGES[vector["name"]]
        data, message = bytes.fromhex(vector["bytes"]), construct(vector["message"])
        assert message.encode() == data, vector
        assert decode(data) == message, vector
        seen.add(vector["name"])
    assert seen == set(MESSAGES)


# --- proofs ----------------------------------------------------------------------------------------------------------


class Source:
    """One of the vectors' cores, rebuilt from its blocks."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self.vector = vector
        self.blocks = [bytes.fromhex(block) for block in vector["blocks"]]
        self.fork: int = vector["fork"]
        self.manifest = Manifest.decode(bytes.fromhex(vector["manifest"]))
        self.verifier = Verifier(bytes.fromhex(vector["key"]), self.manifest)
        self.whole, born = Tree().append(self.blocks)
        self.all = {node.index: node for node in born}
        self.held = self.all if vector["held"] is None else {index: self.all[index] for index in vector["held"]}

    def node(self, index: int) -> Node:
        if index not in self.held:
            raise BlockMissing(index // 2)
        return self.held[index]

    def answer(self, request: Request, tree: Tree, signature: bytes) -> Data:
        return prove(
            request,
            tree=tree,
            fork=self.fork,
            signature=signature,
            nodes=self.node,
            block=self.blocks.__getitem__,
            manifest=None if self.verifier.compat else self.manifest,
        )


@pytest.mark.parametrize("name", CORES)
def test_proofs_are_those_of_stock_peers(vectors: Vectors, name: str) -> None:
    source = Source(next(core for core in vectors["cores"] if core["name"] == name))
    proven = blind = 0
    for state in source.vector["states"]:
        tree = source.whole.truncate(state["length"], source.all.__getitem__)
        assert tree.hash().hex() == state["tree_hash"]
        signature = bytes.fromhex(state["signature"])
        source.verifier.verify_tree(signature, tree, source.fork)
        for wire, digest in state["answers"]:
            request = messages.decode_request(bytes.fromhex(wire))
            if blind_seek(request, tree):
                # Stock peers add up the bytes before later roots wrongly and leave the seek out of their answer.
                without = source.answer(request._replace(seek=None), tree, signature) if digest != "error" else None
                assert without is None or hash256(without.encode()).hex() == digest
                blind += 1
                try:
                    sought = source.answer(request, tree, signature)
                except (BlockMissing, RemoteError):
                    continue
                believe(source, request, sought, tree)
                continue
            if digest == "error":
                with pytest.raises((BlockMissing, RemoteError)) as refused:
                    source.answer(request, tree, signature)
                assert getattr(refused.value, "reason", "invalid_request") == "invalid_request"
                continue
            data = source.answer(request, tree, signature)
            assert hash256(data.encode()).hex() == digest, (state["length"], request, data)
            proven += believe(source, request, data, tree)
    assert proven > 5
    assert blind


def blind_seek(request: Request, tree: Tree) -> bool:
    """Whether a byte is sought next to an item that lies right of the first root."""
    if request.seek is None or not (request.block or request.hash):
        return False
    item = 2 * request.block.index if request.block else request.hash.index if request.hash else 0
    below = not request.upgrade or flat_tree.right_span(item) < 2 * request.upgrade.start
    return below and item > flat_tree.right_span(tree.roots[0].index)


def believe(source: Source, request: Request, data: Data, tree: Tree) -> bool:
    """Check an answer as somebody who has what the request presumes; whether there was anything to check."""
    upgrade = data.upgrade
    mine = source.whole.truncate(upgrade.start if upgrade else tree.length, source.all.__getitem__)
    known = {root.index: root for root in mine.roots}
    item = data.block or data.hash
    asked = request.block or request.hash
    if item and asked:
        top = 2 * item.index if data.block else item.index
        if flat_tree.right_span(top) < 2 * mine.length:
            for _ in range(asked.nodes):
                top = flat_tree.parent(top)
            if flat_tree.right_span(top) >= 2 * mine.length:  # asked for a node that only the upgrade completes
                with pytest.raises(SignatureError):
                    check(data, tree=mine, known=known.get, verifier=source.verifier)
                return False
            known = {top: source.all[top]}
    if not (item or upgrade or data.seek):
        return False
    found = check(data, tree=mine, known=known.get, verifier=source.verifier)
    assert all(source.all[node.index] == node for node in found.nodes)
    if upgrade:
        assert found.tree == source.whole.truncate(upgrade.start + upgrade.length, source.all.__getitem__)
        assert found.signed_tree == tree
        assert found.signed is not None
        assert (found.signed.length, found.signed.fork) == (tree.length, source.fork)
    if data.block:
        assert found.block == (data.block.index, source.blocks[data.block.index])
        if not upgrade and not data.seek:
            kept = check_block(data.block.index, data.block.value, data.block.nodes, known.get)
            assert set(kept) <= set(found.nodes)
    if upgrade and not upgrade.start and not item:
        assert check_whole(data, verifier=source.verifier) == found
    return True


# --- signatures over different lengths -------------------------------------------------------------------------------


def test_patched_signatures_are_those_of_stock_peers(vectors: Vectors) -> None:
    patched = vectors["patched"]
    whole, born = Tree().append(bytes.fromhex(block) for block in patched["blocks"])
    nodes = {node.index: node for node in born}
    pairs = [KeyPair.from_seed(bytes([(n + 1) ^ vectors["salt"]]) * 32) for n in range(3)]
    for case in patched["cases"]:
        verifier = Verifier(bytes.fromhex(case["key"]), Manifest.decode(bytes.fromhex(case["manifest"])))
        blob, length = bytes.fromhex(case["blob"]), case["length"]
        tree = whole.truncate(length, nodes.__getitem__)
        verifier.verify_tree(blob, tree, 0)
        parts = []
        for signer, to in case["signed"]:
            signed = whole.truncate(to, nodes.__getitem__)
            single = pairs[signer].sign(verifier.signable(signed.hash(), to, 0, signer))
            parts.append(Part.ahead(signer, single, signed=signed, length=length, nodes=nodes.__getitem__))
        assert verifier.assemble_parts(parts) == blob, case
        for other in (length - 1, length + 1):
            if other:
                with pytest.raises(SignatureError):
                    verifier.verify_tree(blob, whole.truncate(other, nodes.__getitem__), 0)
        with pytest.raises(SignatureError):
            verifier.verify_tree(blob, tree, 1)
