"""What earlier versions left on disk: every set under tests/fixtures opens, reads, verifies and takes more blocks."""

import json
import tarfile
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from edge.crypto.keys import KeyPair
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.manifest import Manifest
from edge.hypercore.store import FeedStore

FIXTURES = Path(__file__).parent.parent / "fixtures"
SETS = sorted(path.stem for path in FIXTURES.glob("*.json"))
CASES = [
    (name, group, core)
    for name in SETS
    for group, cores in json.loads((FIXTURES / f"{name}.json").read_text()).items()
    for core in cores
    if group != "partial"
]
PARTIAL = [name for name in SETS if "partial" in json.loads((FIXTURES / f"{name}.json").read_text())]


def unpacked(name: str, folder: Path) -> Path:
    with tarfile.open(FIXTURES / f"{name}.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    return folder


async def opened(folder: Path, group: str, name: str, expected: dict[str, Any]) -> Hypercore:
    if group == "store":
        store = FeedStore(folder / "store")
        feed = store.find(name)
        assert feed.key.hex() == expected["key"]
        return await store.open(feed, write=True)
    return await Hypercore.open(
        folder / "cores" / name,
        key=bytes.fromhex(expected["key"]),
        key_pair=KeyPair.from_seed(bytes([expected["seed"]]) * 32),
    )


def digest(blocks: list[bytes]) -> str:
    return blake2b(b"".join(len(block).to_bytes(4, "little") + block for block in blocks)).hexdigest()


def compare(core: Hypercore, expected: dict[str, Any]) -> None:
    assert (core.length, core.fork, core.byte_length) == (
        expected["length"],
        expected["fork"],
        expected["byte_length"],
    )
    assert core.tree_hash().hex() == expected["tree_hash"]
    assert core.signed is not None
    assert core.signed.length == expected["signed_length"]
    assert core.verifier is not None
    core.verifier.verify(
        core.signed.signature, core.tree_hash(core.signed.length), core.signed.length, core.signed.fork
    )
    assert digest(list(core.blocks())) == expected["blocks"]
    assert digest([core.get(index, proven=True) for index in range(core.length)]) == expected["blocks"]
    if "manifest" in expected:
        assert core.manifest == Manifest.decode(bytes.fromhex(expected["manifest"]))


def test_every_set_has_its_expectations_and_no_set_is_lost() -> None:
    assert "store-0.1" in SETS
    assert sorted(path.name.removesuffix(".tar.xz") for path in FIXTURES.glob("*.tar.xz")) == SETS


@pytest.mark.parametrize(("fixtures", "group", "name"), CASES, ids=["-".join(case) for case in CASES])
async def test_a_core_of_an_earlier_version_opens_reads_verifies_and_goes_on(
    fixtures: str, group: str, name: str, tmp_path: Path
) -> None:
    expected = json.loads((FIXTURES / f"{fixtures}.json").read_text())[group][name]
    folder = unpacked(fixtures, tmp_path)
    core = await opened(folder, group, name, expected)
    compare(core, expected)
    assert await core.verify() == expected["length"]
    before, more = list(core.blocks()), [b"appended by this version", b"", bytes(5000)]
    await core.append(more, urgent=True)
    await core.close()

    core = await opened(folder, group, name, expected)
    assert list(core.blocks()) == before + more
    assert core.fork == expected["fork"]
    assert await core.verify() == expected["length"] + len(more)
    await core.close()


@pytest.mark.parametrize("fixtures", SETS)
async def test_a_part_of_a_signature_waits_for_the_rest_in_every_version(fixtures: str, tmp_path: Path) -> None:
    expected = json.loads((FIXTURES / f"{fixtures}.json").read_text())["cores"]["signers"]
    folder = unpacked(fixtures, tmp_path)
    second = KeyPair.from_seed(bytes([2]) * 32)
    core = await Hypercore.open(folder / "cores" / "signers", key_pair=second)
    assert core.signed is not None
    assert core.signed.length < expected["partial_length"] == core.length
    await core.sign()  # the second of two: the first one's part is in the log
    assert core.signed.length == expected["partial_length"]
    await core.close()


@pytest.mark.parametrize("fixtures", SETS)
async def test_the_log_alone_is_enough_for_every_version(fixtures: str, tmp_path: Path) -> None:
    folder = unpacked(fixtures, tmp_path)
    for path in folder.rglob("derived/*"):
        path.unlink()
    for group, cores in json.loads((FIXTURES / f"{fixtures}.json").read_text()).items():
        for name, expected in cores.items():
            if group == "partial":
                continue
            core = await opened(folder, group, name, expected)
            compare(core, expected)
            await core.close()


@pytest.mark.parametrize("derived", [True, False])
@pytest.mark.parametrize("name", ["writer", "replica"])
@pytest.mark.parametrize("fixtures", PARTIAL)
async def test_a_core_with_holes_opens_in_every_version(
    fixtures: str, name: str, derived: bool, tmp_path: Path
) -> None:
    expected = json.loads((FIXTURES / f"{fixtures}.json").read_text())["partial"][name]
    folder = unpacked(fixtures, tmp_path) / "partial" / name
    if not derived:
        for path in folder.glob("derived/*"):
            path.unlink()
    pair = KeyPair.from_seed(bytes([expected["seed"]]) * 32) if "seed" in expected else None
    core = await Hypercore.open(folder, key=bytes.fromhex(expected["key"]), key_pair=pair)
    assert (core.length, core.fork, core.tree_hash().hex()) == (
        expected["length"],
        expected["fork"],
        expected["tree_hash"],
    )
    assert [list(stretch) for stretch in core.held(0, core.length)] == expected["held"]
    content = b"".join(core.get(index, proven=True) for start, end in expected["held"] for index in range(start, end))
    assert blake2b(content).hexdigest() == expected["blocks"]
    assert await core.verify() == expected["length"]
    if pair is not None:
        assert await core.append([b"more"], urgent=True) == expected["length"] + 1
    await core.close()
