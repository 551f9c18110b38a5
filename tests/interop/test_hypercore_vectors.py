"""What stock hypercore computes, and what we compute: keys, manifests, tree hashes, signatures, ciphertext. All equal.

The vectors in tests/edge/hypercore/vectors.json are compared in every run. With Node and the pinned packages
(`make interop`) they are made again live, which must give the same file, and once more from other keys and blocks.
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from support_node import run_node

from edge.crypto.hashing import discovery_key
from edge.crypto.keys import KeyPair
from edge.encoding import compact
from edge.errors import SignatureError
from edge.hypercore import flat_tree
from edge.hypercore.encryption import BlockCipher
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Tree
from edge.hypercore.records import Partial
from edge.hypercore.verifier import Verifier

HERE = Path(__file__).parent
CHECKED_IN = HERE.parent / "edge" / "hypercore" / "vectors.json"
CORES = ["default", "compat", "encrypted", "encrypted_compat"]
MULTI = ["two_of_three", "three_of_four", "one_of_two", "user_data", "version_0"]

Vectors = dict[str, Any]


@pytest.fixture(scope="module", params=["checked in", pytest.param("live", marks=pytest.mark.interop)])
def vectors(request: pytest.FixtureRequest) -> Vectors:
    text = (
        CHECKED_IN.read_text()
        if request.param == "checked in"
        else run_node("vectors.mjs", random.SystemRandom().randrange(1, 256))
    )
    loaded: Vectors = json.loads(text)
    return loaded


def seed(vectors: Vectors, number: int) -> bytes:
    return bytes([number ^ vectors["salt"]]) * 32


def block(vectors: Vectors, index: int) -> bytes:
    return bytes((index + 3 * j + vectors["salt"]) & 0xFF for j in range(index * 7 % 200))


@pytest.mark.interop
def test_stock_peers_still_make_the_checked_in_vectors() -> None:
    assert json.loads(run_node("vectors.mjs", 0)) == json.loads(CHECKED_IN.read_text())


def test_vectors_name_their_source(vectors: Vectors) -> None:
    pinned = json.loads((HERE / "package.json").read_text())
    wanted = {**pinned["dependencies"], **{k: v for k, v in pinned["overrides"].items() if not v.startswith("$")}}
    assert {name: wanted[name] for name in vectors["versions"]} == vectors["versions"]


def test_lock_file_names_no_host_but_the_public_registry() -> None:
    lock = json.loads((HERE / "package-lock.json").read_text())
    resolved = [package["resolved"] for package in lock["packages"].values() if "resolved" in package]
    assert all(url.startswith("https://registry.npmjs.org/") for url in resolved)
    assert all("integrity" in package for name, package in lock["packages"].items() if name)


def test_compact_encoding(vectors: Vectors) -> None:
    for value, encoded in vectors["compact"]["uint"]:
        assert compact.uint(value).hex() == encoded
        assert compact.Reader(bytes.fromhex(encoded)).uint() == value
    for value, encoded in vectors["compact"]["uint64"]:
        assert compact.uint64(value).hex() == encoded
        assert compact.Reader(bytes.fromhex(encoded)).uint64() == value
    for text, encoded in vectors["compact"]["string"]:
        assert compact.string(text).hex() == encoded
        assert compact.Reader(bytes.fromhex(encoded)).string() == text
    for data, encoded in vectors["compact"]["buffer"]:
        assert compact.buffer(bytes.fromhex(data)).hex() == encoded
        assert compact.Reader(bytes.fromhex(encoded)).buffer().hex() == data
    for items, encoded in vectors["compact"]["uint_array"]:
        assert compact.array(map(compact.uint, items)).hex() == encoded
        assert compact.Reader(bytes.fromhex(encoded)).array(compact.Reader.uint, items_max=10) == items


def test_flat_tree(vectors: Vectors) -> None:
    for index, depth, offset, parent, sibling, left, right in vectors["flat_tree"]["nodes"]:
        assert flat_tree.depth(index) == depth
        assert flat_tree.offset(index) == offset
        assert flat_tree.node(depth, offset) == index
        assert flat_tree.parent(index) == parent
        assert flat_tree.sibling(index) == sibling
        assert flat_tree.left_span(index) == left
        assert flat_tree.right_span(index) == right
    for length, roots in vectors["flat_tree"]["full_roots"]:
        assert list(flat_tree.full_roots(length)) == roots


def test_manifests_decode_encode_and_hash_alike(vectors: Vectors) -> None:
    assert len(vectors["manifests"]) == 14
    for name, case in vectors["manifests"].items():
        data = bytes.fromhex(case["manifest"])
        manifest = Manifest.decode(data)
        assert manifest.encode() == data, name
        assert manifest.key().hex() == case["key"], name
        assert manifest.quorum == case["quorum"], name
    single = KeyPair.from_seed(seed(vectors, 1))
    assert Manifest.single(single.public_key).encode().hex() == vectors["manifests"]["v1_single"]["manifest"]
    four = tuple(KeyPair.from_seed(seed(vectors, n)).public_key for n in (1, 2, 3, 4))
    assert Manifest.multi(four).encode().hex() == vectors["manifests"]["v1_multi_default_quorum"]["manifest"]


@pytest.mark.parametrize("kind", CORES)
async def test_a_core_of_ours_becomes_the_stock_core(vectors: Vectors, kind: str, tmp_path: Path) -> None:
    """Through every length, three truncations with new content, and a restart at the end."""
    expected = vectors["cores"][kind]
    encryption_key = seed(vectors, 77) if "encrypted" in kind else None
    pair = KeyPair.from_seed(seed(vectors, 1))
    core = await Hypercore.open(
        tmp_path, create=True, key_pair=pair, compat="compat" in kind, encryption_key=encryption_key
    )
    cipher = BlockCipher.of(core.key, encryption_key, compat="compat" in kind) if encryption_key else None

    def assert_state(state: Vectors) -> None:
        assert core.signed is not None
        assert (core.length, core.fork) == (state["length"], state["fork"]) == (core.signed.length, core.signed.fork)
        assert core.tree_hash().hex() == state["tree_hash"]
        assert core.signed.signature.hex() == state["signature"]
        assert core.verifier is not None
        core.verifier.verify(bytes.fromhex(state["signature"]), core.tree_hash(), core.length, core.fork)

    def stored(index: int) -> str:
        plain = core.get(index, proven=True)
        return (cipher.encrypt(index, core.fork, plain) if cipher else plain).hex()

    assert core.key.hex() == expected["key"]
    assert core.discovery_key.hex() == expected["discovery_key"] == discovery_key(core.key).hex()
    if expected["manifest"]:
        assert core.manifest is not None
        assert core.manifest.encode().hex() == expected["manifest"]
    for state in expected["states"]:
        await core.append([block(vectors, i) for i in range(core.length, state["length"])], urgent=True)
        assert_state(state)
    for state in expected["states"]:
        assert core.tree_hash(state["length"]).hex() == state["tree_hash"]
    for index, raw in expected.get("raw", {}).items():
        assert stored(int(index)) == raw
    for step in expected["truncations"]:
        await core.truncate(step["to"])
        assert_state(step["truncated"])
        await core.append([block(vectors, 50 + i) for i in range(step["then"])], urgent=True)
        assert_state(step["appended"])
        for index, raw in step["raw"].items():
            assert stored(int(index)) == raw
    assert await core.verify() == core.length
    await core.close()

    core = await Hypercore.open(tmp_path, encryption_key=encryption_key)  # without the key pair
    assert_state(expected["truncations"][-1]["appended"])
    assert [core.get(i) for i in range(core.length)] == [block(vectors, 50), block(vectors, 51)]
    await core.close()


def test_a_block_key_derived_elsewhere(vectors: Vectors) -> None:
    cipher = BlockCipher.of_block_key(seed(vectors, 78))
    for index, raw in vectors["cores"]["block_key"]["raw"].items():
        plain = block(vectors, int(index))
        assert cipher.encrypt(int(index), 0, plain).hex() == raw
        assert cipher.decrypt(int(index), bytes.fromhex(raw)) == plain


@pytest.mark.parametrize("kind", MULTI)
def test_signatures_of_several(vectors: Vectors, kind: str) -> None:
    case = vectors["multi"][kind]
    manifest = Manifest.decode(bytes.fromhex(case["manifest"]))
    verifier = Verifier.of(manifest)
    pairs = [KeyPair.from_seed(seed(vectors, 10 + i)) for i in range(case["signers"])]
    assert verifier.key.hex() == case["key"]
    assert discovery_key(verifier.key).hex() == case["discovery_key"]
    assert manifest.quorum == case["quorum"]
    tree = Tree()
    for state in case["states"]:
        tree, _ = tree.append(block(vectors, i) for i in range(tree.length, state["length"]))
        assert tree.hash().hex() == state["tree_hash"]
        assert verifier.signable(tree.hash(), tree.length, 0).hex() == state["signable"]
        parts = {i: pairs[i].sign(verifier.signable(tree.hash(), tree.length, 0, i)) for i in case["chosen"]}
        assert [{"signer": i, "signature": part.hex()} for i, part in parts.items()] == state["parts"]
        signature = verifier.assemble(parts)
        assert signature.hex() == state["signature"]
        verifier.verify(signature, tree.hash(), tree.length, 0)
        with pytest.raises(SignatureError):
            verifier.verify(signature, tree.hash(), tree.length, 1)


@pytest.mark.parametrize("kind", ["two_of_three", "three_of_four", "user_data", "version_0"])
async def test_a_core_counts_as_signed_at_the_quorum(vectors: Vectors, kind: str, tmp_path: Path) -> None:
    case = vectors["multi"][kind]
    manifest = Manifest.decode(bytes.fromhex(case["manifest"]))
    own = case["chosen"][0]
    pair = KeyPair.from_seed(seed(vectors, 10 + own))
    core = await Hypercore.open(tmp_path, create=True, manifest=manifest, key_pair=pair)
    for state in case["states"]:
        await core.append([block(vectors, i) for i in range(core.length, state["length"])], urgent=True)
        before = core.signed
        assert await core.sign() == Partial(own, core.length, 0, bytes.fromhex(state["parts"][0]["signature"]))
        assert core.signed == before
        for part in state["parts"][1:]:
            await core.add_signature(Partial(part["signer"], core.length, 0, bytes.fromhex(part["signature"])))
        assert core.signed is not None
        assert core.signed.signature.hex() == state["signature"]
    assert await core.verify() == core.length
    await core.close()
