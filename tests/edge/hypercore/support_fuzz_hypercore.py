"""Entry points for a fuzzer: any bytes give a value or a `RemoteError`, and what was read is read again the same.

Examples are what stock peers wrote. Beside the codecs: no bytes prove anything that is not in the log, and whatever a
request makes us prove is true.
"""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from edge.crypto.keys import KeyPair
from edge.errors import RemoteError
from edge.hypercore import messages
from edge.hypercore.conflict import Conflict, decode_conflict
from edge.hypercore.manifest import Manifest, Prologue, Signer
from edge.hypercore.merkle import Node, Tree
from edge.hypercore.proof import check, check_block, check_whole, prove
from edge.hypercore.verifier import Verifier

_TREE: Final = Tree().append([b"a", b"b", b"c"])[0]
_SIGNERS: Final = (Signer(bytes(32)), Signer(bytes([1]) * 32))
VERIFIERS: Final = [
    Verifier.of(Manifest(_SIGNERS, 2, version=version, allow_patch=allow))
    for version in (0, 1)
    for allow in (False, True)
]

_PAIR: Final = KeyPair.from_seed(b"\x05" * 32)
_BLOCKS: Final = [bytes([index]) * (index % 7) for index in range(45)]
_GROWN, _BORN = Tree().append(_BLOCKS)
_NODES: Final = {node.index: node for node in _BORN}
_KNOWN: Final = 21  # blocks that the receiver of proofs has
_HALF: Final = _GROWN.truncate(_KNOWN, _NODES.__getitem__)
_HALF_NODES: Final = {node.index: node for node in Tree().append(_BLOCKS[:_KNOWN])[1]}
_MANIFEST: Final = Manifest.single(_PAIR.public_key)
_VERIFIER: Final = Verifier.of(_MANIFEST)
_SIGNATURE: Final = _VERIFIER.sign(_PAIR, _GROWN.hash(), _GROWN.length, 0)


def _prove(request: messages.Request) -> messages.Data:
    return prove(
        request,
        tree=_GROWN,
        fork=0,
        signature=_SIGNATURE,
        nodes=_NODES.__getitem__,
        block=_BLOCKS.__getitem__,
        manifest=_MANIFEST,
    )


def _again(decode: Callable[[bytes], Any], data: bytes) -> None:
    try:
        value = decode(data)
    except RemoteError:
        return
    written = value.encode()
    del value  # so that what is measured is one decoding, not two
    assert decode(written).encode() == written


def fuzz_handshake(data: bytes) -> None:
    _again(messages.decode_handshake, data)


def fuzz_sync(data: bytes) -> None:
    _again(messages.decode_sync, data)


def fuzz_request(data: bytes) -> None:
    _again(messages.decode_request, data)


def fuzz_cancel(data: bytes) -> None:
    _again(messages.decode_cancel, data)


def fuzz_data(data: bytes) -> None:
    _again(messages.decode_data, data)


def fuzz_no_data(data: bytes) -> None:
    _again(messages.decode_no_data, data)


def fuzz_want(data: bytes) -> None:
    _again(messages.decode_want, data)


def fuzz_unwant(data: bytes) -> None:
    _again(messages.decode_unwant, data)


def fuzz_bitfield(data: bytes) -> None:
    _again(messages.decode_bitfield, data)


def fuzz_range(data: bytes) -> None:
    _again(messages.decode_range, data)


def fuzz_extension(data: bytes) -> None:
    _again(messages.decode_extension, data)


def fuzz_manifest(data: bytes) -> None:
    _again(Manifest.decode, data)


def fuzz_conflict(data: bytes) -> None:
    _again(decode_conflict, data)


def fuzz_signature(data: bytes) -> None:
    for verifier in VERIFIERS:
        try:
            verifier.verify_tree(data, _TREE, 0)
        except RemoteError:
            continue
        raise AssertionError("bytes of nobody's verify")


def fuzz_check(data: bytes) -> None:
    """What is said to be proven to whoever has half of a log is in that log."""
    try:
        given = messages.decode_data(data)
    except RemoteError:
        return
    found: list[Node] = []
    with contextlib.suppress(RemoteError):
        proven = check(given, tree=_HALF, known=_HALF_NODES.get, verifier=_VERIFIER)
        assert proven.block is None or _BLOCKS[proven.block[0]] == proven.block[1]
        assert proven.signed is None or (proven.signed.length, proven.signed.fork) == (_GROWN.length, 0)
        found += proven.nodes
    with contextlib.suppress(RemoteError):
        proven = check_whole(given, verifier=_VERIFIER)
        assert proven.signed_tree == _GROWN
        found += proven.nodes
    if given.block is not None:
        with contextlib.suppress(RemoteError):
            found += check_block(*given.block, _HALF_NODES.get)
            assert _BLOCKS[given.block.index] == given.block.value
    assert all(_NODES[node.index] == node for node in found)


def fuzz_prove(data: bytes) -> None:
    """Whatever is asked, the answer is true, and as small as a proof is."""
    try:
        request = messages.decode_request(data)
        answer = _prove(request)
    except RemoteError:
        return
    again = messages.decode_data(answer.encode())
    assert again == answer
    assert answer.block is None or answer.block.value == _BLOCKS[answer.block.index]
    upgrade = answer.upgrade
    lists = [part.nodes for part in (answer.block, answer.hash, answer.seek) if part is not None]
    lists += [upgrade.nodes, upgrade.additional] if upgrade else []
    assert all(len(nodes) <= 2 * _GROWN.length.bit_length() for nodes in lists)
    assert all(_NODES[node.index] == node for nodes in lists for node in nodes)


ENTRY_POINTS: Final = [value for name, value in sorted(globals().items()) if name.startswith("fuzz_")]


# --- examples ---------------------------------------------------------------------------------------------------------

_HERE: Final = Path(__file__).parent
_WIRE: Final = {"noData": "no_data"}  # where our names differ


def _of_stock_peers() -> dict[str, list[bytes]]:
    """Messages and manifests that stock JavaScript peers encoded."""
    found: dict[str, list[bytes]] = {}
    for vector in json.loads((_HERE / "proof_vectors.json").read_text())["messages"]:
        found.setdefault(f"fuzz_{_WIRE.get(vector['name'], vector['name'])}", []).append(bytes.fromhex(vector["bytes"]))
    manifests = json.loads((_HERE / "vectors.json").read_text())["manifests"].values()
    return found | {"fuzz_manifest": [bytes.fromhex(each["manifest"]) for each in manifests]}


def _answers() -> list[bytes]:
    """Every kind of proof of the log that `fuzz_check` knows half of."""
    ref, upgrade, seek = messages.BlockRef, messages.UpgradeRef, messages.SeekRef
    requests = [
        messages.Request(1, 0, block=ref(3, 0), manifest=True),
        messages.Request(2, 0, block=ref(7, 4)),
        messages.Request(3, 0, hash=ref(15, 0)),
        messages.Request(4, 0, hash=ref(4, 3), seek=seek(20, 0)),
        messages.Request(5, 0, upgrade=upgrade(_KNOWN, len(_BLOCKS) - _KNOWN)),
        messages.Request(6, 0, block=ref(30, 0), upgrade=upgrade(_KNOWN, 12)),
        messages.Request(7, 0, seek=seek(90, 0), upgrade=upgrade(_KNOWN, len(_BLOCKS) - _KNOWN)),
        messages.Request(8, 0, upgrade=upgrade(0, len(_BLOCKS)), manifest=True),
        messages.Request(9, 0, block=ref(44, 0), upgrade=upgrade(0, len(_BLOCKS))),
    ]
    return [_prove(request).encode() for request in requests]


def _requests() -> list[bytes]:
    decoded = [messages.decode_data(answer) for answer in _answers()]
    made = [
        messages.Request(
            1,
            0,
            block=messages.BlockRef(data.block.index, len(data.block.nodes)) if data.block else None,
            hash=messages.BlockRef(data.hash.index, len(data.hash.nodes) - 1) if data.hash else None,
            seek=messages.SeekRef(data.seek.bytes, 0) if data.seek else None,
            upgrade=messages.UpgradeRef(data.upgrade.start, data.upgrade.length) if data.upgrade else None,
            manifest=data.manifest is not None,
            priority=2,
        )
        for data in decoded
    ]
    return [request.encode() for request in made]


def _conflicts() -> list[bytes]:
    whole = messages.decode_data(_answers()[7]).upgrade
    assert whole is not None
    bare = messages.UpgradeProof(0, 1, (Node(0, 5, bytes(32)),), (Node(1, 2**40, bytes(32)),), bytes(64))
    manifests = [_MANIFEST, Manifest(_SIGNERS, 2, version=2, prologue=Prologue(bytes(32), 3), user_data=b"x" * 40)]
    return [Conflict(bytes(32), manifest, 1, 45, whole, bare).encode() for manifest in manifests]


def _most_nodes() -> bytes:
    """The message that costs most memory for its bytes: full lists of nodes whose numbers are small, yet objects."""
    nodes = tuple([Node(300 + number, 400 + number, bytes(32)) for number in range(128)])
    upgrade = messages.UpgradeProof(300, 300, nodes, nodes, bytes(64))
    seek, item = messages.SeekProof(300, nodes), messages.HashProof(300, nodes)
    return messages.Data(1, 0, messages.BlockProof(300, b"", nodes), item, seek, upgrade).encode()


def _signatures() -> list[bytes]:
    part, other = b"\x00" + bytes(64) + b"\x00", b"\x01" + bytes(64) + b"\x05"
    node = b"\x06\x09" + bytes(32)
    return [
        bytes(64),
        b"\x02" + part + other + b"\x00",
        b"\x02" + part + other + b"\x02" + node + node,
        b"\x02\x00" + part[:-1] + b"\x01" + other[:-1] + b"\x04\x05\x01\x00" + b"\x01" + node,
    ]


_examples: Final = _of_stock_peers()
CORPUS: Final[dict[str, list[bytes]]] = {
    **_examples,
    "fuzz_check": [*_answers(), *_examples["fuzz_data"][:20]],
    "fuzz_prove": [*_requests(), *_examples["fuzz_request"][:20]],
    "fuzz_conflict": _conflicts(),
    "fuzz_signature": _signatures(),
}
COSTLY: Final = {"fuzz_data": [_most_nodes()]}
