"""Drives that stock Hyperdrive and ours write by turns: the same paths, entries, keys and blocks, in both cores.

The vectors in tests/edge/hyperdrive/vectors.json are compared in every run. With Node and the pinned packages they are
made again live, once as they are checked in and once from other keys and bytes; and drives of small and large files go
to and fro. A drive travels as the blocks of its cores, in files; both sides append them to cores of the same keys.
"""

import asyncio
import hashlib
import json
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from support_drive_logs import MemoryLog, apply, content_name, named_key_pair
from support_node import run_node

from edge.crypto.keys import KeyPair
from edge.errors import LocalError
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Tree
from edge.hyperdrive.content import content_manifest
from edge.hyperdrive.drive import Hyperdrive
from edge.hyperdrive.entry import FileValue
from edge.hyperdrive.mirror import Mirror
from edge.hyperdrive.paths import file_key, resolve
from edge.hyperdrive.view import DriveView

Vectors = dict[str, Any]


HERE = Path(__file__).parent
CHECKED_IN = HERE.parent / "edge" / "hyperdrive" / "vectors.json"


@pytest.fixture(scope="module", params=["checked in", pytest.param("live", marks=pytest.mark.interop)])
def vectors(request: pytest.FixtureRequest) -> Vectors:
    salt = str(random.SystemRandom().randrange(1, 256))
    text = CHECKED_IN.read_text() if request.param == "checked in" else run_node("hyperdrive.mjs", "vectors", salt)
    loaded: Vectors = json.loads(text)
    return loaded


@pytest.mark.interop
def test_stock_drives_still_make_the_checked_in_vectors() -> None:
    assert json.loads(run_node("hyperdrive.mjs", "vectors")) == json.loads(CHECKED_IN.read_text())


def test_vectors_name_their_source(vectors: Vectors) -> None:
    locked = json.loads((HERE / "package-lock.json").read_text())["packages"]
    assert {name: locked[f"node_modules/{name}"]["version"] for name in vectors["versions"]} == vectors["versions"]


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
    """What a reader sees, without a file in memory as a whole."""
    seen = []
    async for entry in view.list("/"):
        digest = hashlib.sha256()
        async for piece in view.read(entry):
            digest.update(piece)
        content = None if entry.value.linkname is not None else digest.hexdigest()
        seen.append({"key": entry.key, "seq": entry.seq, "value": json.loads(entry.value.encode()), "sha256": content})
    return seen


def check_log(log: MemoryLog, expected: Vectors, pair: KeyPair) -> None:
    blocks = [log.blocks[index] for index in range(log.length)]
    assert [sha256(block) for block in blocks] == expected["blocks"]
    assert log.key.hex() == expected["key"]
    assert Tree().append(blocks)[0].hash().hex() == expected["tree_hash"]
    if log.manifest is not None:
        assert log.manifest.encode().hex() == expected["manifest"]
        assert log.manifest.signers[0].public_key == pair.public_key


async def check_folders(drive: DriveView, folders: dict[str, Any]) -> None:
    for folder, expected in folders.items():
        assert [name async for name in drive.readdir(folder)] == expected["names"]
        assert [entry.key async for entry in drive.list(folder, recursive=False)] == expected["shallow"]


async def diff_of(drive: DriveView, version: int) -> list[list[Any]]:
    return [
        [change.key, change.left and change.left.seq, change.right and change.right.seq]
        async for change in drive.diff(version)
    ]


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
    await check_folders(drive, case["folders"])
    middle = case["middle"]["version"]
    assert await view_of(drive.checkout(middle)) == case["middle"]["view"]
    assert await diff_of(drive, middle) == case["middle"]["diff"]


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


# --- by turns --------------------------------------------------------------------------------------------------------

SIZES = [0, 1, 100, 65_535, 65_536, 65_537, 131_072, 1_000_000, 1_048_576, 1_048_577, 20 * 1024 * 1024]
FIRST: list[Any] = [
    *(
        [
            "put",
            f"/{('docs', 'data/raw', 'bin')[number % 3]}/{number:02}.dat",
            {
                "file": number,
                "size": SIZES[number] if number < len(SIZES) else number * 1017,
                "executable": number % 3 == 2,
            },
        ]
        for number in range(29)
    ),
    ["put", "/top", {"file": 99, "size": 12, "metadata": {"of": "JavaScript", "n": [1, 2.5, None]}}],
    ["link", "/docs/link", {"target": "../top"}],
]
SECOND: list[Any] = [
    ["put", "/docs/00.dat", {"file": 50, "size": 300_000}],
    ["put", "/ours/ü", {"file": 51, "size": 65_536, "metadata": {"of": "Python", "x": 1e21}}],
    ["delete", "/data/raw/01.dat"],
    ["flags", "/bin/02.dat", {"executable": False, "metadata": "changed"}],
    ["batch", [["put", "/b/1", {"file": 52, "size": 5}], ["delete", "/top"], ["link", "/b/2", {"target": "1"}]]],
    ["put", "/ours/large", {"file": 53, "size": 3_000_000}],
]
THIRD: list[Any] = [
    ["put", "/theirs", {"file": 60, "size": 140_000}],
    ["stream", "/mapped", {"file": 61, "size": 500_000, "dedup": True}],
    ["stream", "/mapped", {"file": 61, "size": 400_000, "dedup": True}],
    ["delete", "/ours/ü"],
]
RANGES: list[Any] = [
    ["/data/raw/10.dat", 0, 10],
    ["/data/raw/10.dat", 65_530, 10],
    ["/data/raw/10.dat", 20_971_500, 20],
    ["/ours/large", 1_000_000, 1_500_000],
]


class Pair:
    """The two cores of a drive on our disk, and its way to the stock peer: blocks in files."""

    def __init__(self, folder: Path, primary_key: bytes, encryption_key: bytes | None) -> None:
        self.folder = folder
        self._primary_key, self._encryption_key = primary_key, encryption_key
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Pair":
        pair = named_key_pair(self._primary_key, "db")
        self.db = await self._open("db", pair, Manifest.single(pair.public_key))
        manifest = content_manifest(self.db.manifest, self.db.key)
        assert manifest is not None
        self.blobs = await self._open("blobs", pair, manifest)
        self.drive = Hyperdrive(self.db, self.blobs)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _open(self, name: str, pair: KeyPair, manifest: Manifest) -> Hypercore:
        core = await Hypercore.open(
            self.folder / name, create=True, key_pair=pair, manifest=manifest, encryption_key=self._encryption_key
        )
        self._stack.push_async_callback(core.close)
        return core

    async def stock(self, ops: list[Any], **plan: Any) -> dict[str, Any]:
        """Let the stock peer read what we have, go on with `ops`, and take what it wrote."""
        for name, core in (("db", self.db), ("blobs", self.blobs)):
            if core.length:
                _dump(core, self.folder / f"{name}.in")
        encryption_key = None if self._encryption_key is None else self._encryption_key.hex()
        plan |= {"primary_key": self._primary_key.hex(), "encryption_key": encryption_key, "salt": 0, "ops": ops}
        (self.folder / "plan.json").write_text(json.dumps(plan))
        before = None if not self.db.length else await view_of(self.drive)
        await asyncio.to_thread(run_node, "hyperdrive.mjs", "run", self.folder)
        report: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        if before is not None:
            assert report["before"] == before
        for name, core in (("db", self.db), ("blobs", self.blobs)):
            await _take(core, self.folder / f"{name}.out")
        return report

    async def check(self, report: dict[str, Any]) -> None:
        """Both cores and all that they say are what the stock peer has."""
        for core, expected in ((self.db, report["db"]), (self.blobs, report["blobs"])):
            assert core.key.hex() == expected["key"]
            assert core.manifest is not None
            assert core.manifest.encode().hex() == expected["manifest"]
            assert (core.length, core.byte_length) == (expected["length"], expected["byte_length"])
            assert core.tree_hash().hex() == expected["tree_hash"]
            assert core.signed is not None
            assert core.signed.signature.hex() == expected["signature"]
        assert await view_of(self.drive) == report["view"]
        assert await self.drive.blobs_length() == report["blobs_length"]
        await check_folders(self.drive, report["folders"])


def _dump(core: Hypercore, path: Path) -> None:
    with path.open("wb") as file:
        for block in core.blocks():
            file.write(len(block).to_bytes(4, "little") + block)


async def _take(core: Hypercore, path: Path) -> None:
    """Append what is new; what we had must have stayed as it was."""
    had, index, data = list(core.blocks()) if core.length < 200 else None, 0, b""
    with path.open("rb") as file:
        while head := file.read(4):
            data = file.read(int.from_bytes(head, "little"))
            if index < core.length:
                assert data == (had[index] if had is not None else core.get(index))
            else:
                await core.append([data], urgent=True)
            index += 1
    assert index == core.length


def random_keys() -> tuple[bytes, bytes]:
    return random.SystemRandom().randbytes(32), random.SystemRandom().randbytes(32)


@pytest.mark.interop
async def test_thirty_files_to_and_fro(tmp_path: Path) -> None:
    async with Pair(tmp_path, random_keys()[0], None) as pair:
        report = await pair.stock(FIRST)
        assert len(report["view"]) == 31
        await pair.check(report)
        await apply(pair.drive, SECOND, 0)
        version = pair.db.length
        report = await pair.stock(THIRD, diff_from=version, ranges=RANGES)
        await pair.check(report)
        assert await diff_of(pair.drive, version) == report["diff"]
        for (path, start, length), digest in zip(RANGES, report["ranges"], strict=True):
            pieces = [piece async for piece in pair.drive.read(path, start=start, length=length)]
            assert sha256(b"".join(pieces)) == digest
            assert len(b"".join(pieces)) == length
        mapped = await pair.drive.entry("/mapped")
        assert mapped is not None
        assert mapped.value.blob is not None
        assert mapped.value.blob.block_map


@pytest.mark.interop
@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_drive_that_we_began(tmp_path: Path, encrypted: bool) -> None:
    primary_key, encryption_key = random_keys()
    small = [op for op in FIRST if op[0] != "put" or op[2]["size"] < 200_000]
    async with Pair(tmp_path, primary_key, encryption_key if encrypted else None) as pair:
        await apply(pair.drive, small, 0)
        await pair.check(await pair.stock(THIRD))
        await apply(pair.drive, SECOND, 0)
        await pair.check(await pair.stock([]))


@pytest.mark.interop
@pytest.mark.parametrize("encrypted", [False, True])
async def test_the_same_operations_make_the_same_cores(tmp_path: Path, encrypted: bool) -> None:
    primary_key, encryption_key = random_keys()
    key = encryption_key if encrypted else None
    ops = [*(op for op in FIRST if op[2]["size" if op[0] == "put" else "target"] != SIZES[-1]), *SECOND]
    for name in ("theirs", "ours"):
        (tmp_path / name).mkdir()
    async with Pair(tmp_path / "theirs", primary_key, key) as theirs, Pair(tmp_path / "ours", primary_key, key) as ours:
        report = await theirs.stock(ops)
        await apply(ours.drive, ops, 0)
        await ours.check(report)
        await theirs.check(report)
