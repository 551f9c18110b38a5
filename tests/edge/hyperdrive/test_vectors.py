"""Paths, entries, keys and whole drives: the same bytes as stock Hyperdrive 13.3.4 made them.

vectors.json is printed by tests/interop/hyperdrive.mjs; tests/interop/test_hyperdrive.py makes it again, live.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from support_drive_logs import MemoryLog, apply, named_key_pair

from edge.crypto.keys import KeyPair
from edge.errors import LocalError
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Tree
from edge.hyperdrive.content import content_manifest, content_name
from edge.hyperdrive.drive import Hyperdrive
from edge.hyperdrive.entry import DriveEntry, FileValue
from edge.hyperdrive.mirror import Mirror
from edge.hyperdrive.paths import file_key, resolve
from edge.hyperdrive.view import DriveView

Vectors = dict[str, Any]


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    loaded: Vectors = json.loads((Path(__file__).parent / "vectors.json").read_text())
    return loaded


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def path_or_none(*arguments: str) -> str | None:
    try:
        return file_key(*arguments) if len(arguments) == 1 else resolve(*arguments)
    except LocalError:
        return None


def test_paths(vectors: Vectors) -> None:
    assert len(vectors["normalised"]) > 30
    for path, key in vectors["normalised"]:
        assert path_or_none(path) == key, path
    for base, path, key in vectors["resolved"]:
        assert path_or_none(base, path) == key, (base, path)


def test_metadata(vectors: Vectors) -> None:
    for metadata, encoded in vectors["metadata"]:
        data = bytes.fromhex(encoded)
        value = FileValue.decode(data)
        exact = float(metadata) if type(metadata) is int and abs(metadata) > 2**53 else metadata
        assert value == FileValue(linkname="x", metadata=exact)
        assert value.encode() == data


def test_content_keys(vectors: Vectors) -> None:
    assert [case["content"] is None for case in vectors["manifests"]].count(True) == 1
    for case in vectors["manifests"]:
        manifest = Manifest.decode(bytes.fromhex(case["manifest"]))
        found = content_manifest(manifest, bytes.fromhex(case["key"]))
        assert (found and found.encode().hex(), found and found.key().hex()) == (case["content"], case["content_key"])


async def view_of(view: DriveView) -> list[dict[str, Any]]:
    async def described(entry: DriveEntry) -> dict[str, Any]:
        data = await view.get(entry)
        assert (data is None) == (entry.value.linkname is not None)
        value = json.loads(entry.value.encode())
        return {"key": entry.key, "seq": entry.seq, "value": value, "sha256": None if data is None else sha256(data)}

    return [await described(entry) async for entry in view.list("/")]


def check_log(log: MemoryLog, expected: Vectors, pair: KeyPair) -> None:
    blocks = [log.blocks[index] for index in range(log.length)]
    assert [sha256(block) for block in blocks] == expected["blocks"]
    assert log.key.hex() == expected["key"]
    assert Tree().append(blocks)[0].hash().hex() == expected["tree_hash"]
    if log.manifest is not None:
        assert log.manifest.encode().hex() == expected["manifest"]
        assert log.manifest.signers[0].public_key == pair.public_key


@pytest.mark.parametrize("kind", ["drive", "compat"])
async def test_drives(vectors: Vectors, kind: str) -> None:
    case = vectors[kind]
    primary_key = bytes.fromhex(case["primary_key"])
    pair = named_key_pair(primary_key, "db")
    if kind == "drive":
        db = MemoryLog(Manifest.single(pair.public_key))
        blobs = MemoryLog(content_manifest(db.manifest, db.key))
    else:
        db = MemoryLog(None, key=pair.public_key)
        pair = named_key_pair(primary_key, content_name(db.key))
        blobs = MemoryLog(Manifest.single(pair.public_key))
    drive = Hyperdrive(db, blobs)
    await apply(drive, case["ops"], vectors["salt"])
    check_log(blobs, case["blobs"], pair)
    check_log(db, case["db"], named_key_pair(primary_key, "db"))
    assert await view_of(drive) == case["view"]
    assert await drive.blobs_length() == case["blobs_length"]
    for folder, expected in case["folders"].items():
        assert [name async for name in drive.readdir(folder)] == expected["names"]
        assert [entry.key async for entry in drive.list(folder, recursive=False)] == expected["shallow"]
    middle = case["middle"]["version"]
    assert await view_of(drive.checkout(middle)) == case["middle"]["view"]
    found = [
        [change.key, change.left and change.left.seq, change.right and change.right.seq]
        async for change in drive.diff(middle)
    ]
    assert found == case["middle"]["diff"]


def new_drive(primary_key: bytes) -> tuple[Hyperdrive, MemoryLog, MemoryLog]:
    db = MemoryLog(Manifest.single(named_key_pair(primary_key, "db").public_key))
    blobs = MemoryLog(content_manifest(db.manifest, db.key))
    return Hyperdrive(db, blobs), db, blobs


@pytest.mark.parametrize("number", range(7))
async def test_mirrors(vectors: Vectors, number: int) -> None:
    cases = vectors["mirror"]
    assert len(cases["results"]) == 7
    expected = cases["results"][number]
    source, _, _ = new_drive(bytes(32))
    primary_key = bytes.fromhex(cases["primary_key"])
    destination, db, blobs = new_drive(primary_key)
    await apply(source, cases["source"], vectors["salt"])
    await apply(destination, cases["destination"], vectors["salt"])
    options = expected["options"]
    prefix = options.get("prefix", "/")
    mirror = Mirror(
        source,
        destination,
        prefixes=[prefix] if isinstance(prefix, str) else prefix,
        dry_run=options.get("dryRun", False),
        prune=options.get("prune", True),
        include_equal=options.get("includeEquals", False),
        ignore=options.get("ignore", ()),
        batch=options.get("batch", False),
    )
    changes = [[str(c.operation), c.key, c.bytes_added, c.bytes_removed] async for c in mirror]
    count = mirror.count
    assert changes == expected["changes"]
    found = {"files": count.files, "add": count.add, "remove": count.remove, "change": count.change}
    assert found == expected["count"]
    assert [count.bytes_added, count.bytes_removed] == expected["bytes"]
    pair = named_key_pair(primary_key, "db")
    check_log(blobs, expected["blobs"], pair)
    check_log(db, expected["db"], pair)
