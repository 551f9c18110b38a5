"""Drives of a store: the stock keys, both cores lent and given back, read by another store over loopback TCP."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from support_drive_logs import apply, content
from support_linked_stores import linked

from edge.crypto.keys import write_secret
from edge.errors import ConfigError, StorageError
from edge.hypercore.corestore import Corestore
from edge.hyperdrive.drive import Hyperdrive
from edge.hyperdrive.opening import open_drive

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
ENCRYPTION_KEY = b"\x05" * 32


async def reached(drive: Hyperdrive, version: int) -> None:
    async with asyncio.timeout(20):
        while drive.version < version:
            await asyncio.sleep(0.005)


async def test_a_store_with_a_stock_primary_key_has_the_stock_drive(tmp_path: Path) -> None:
    case = VECTORS["drive"]
    write_secret(tmp_path / "primary-key", bytes.fromhex(case["primary_key"]))
    async with await Corestore.open(tmp_path) as store, open_drive(store, "db") as drive:
        await apply(drive, case["ops"], VECTORS["salt"])
        assert (drive.key.hex(), drive.version) == (case["db"]["key"], case["db"]["length"])
        blobs = (await drive.blobs()).core
        assert (blobs.key.hex(), blobs.length) == (case["blobs"]["key"], case["blobs"]["length"])
        assert drive.content_key == blobs.key


async def test_a_drive_that_is_older_than_manifests(tmp_path: Path) -> None:
    async with await Corestore.open(tmp_path / "a") as ours, await Corestore.open(tmp_path / "b") as theirs:
        await ours.release(await ours.get("db", compat=True))
        for number in range(2):  # its header names the content from the first write on
            async with open_drive(ours, "db") as drive:
                await drive.put(f"/{number}", b"old")
        async with open_drive(ours, "db") as drive, linked(ours, theirs), open_drive(theirs, key=drive.key) as far:
            await reached(far, drive.version)
            assert [await far.get(f"/{number}") for number in range(2)] == [b"old", b"old"]
            assert far.content_key == drive.content_key


@pytest.mark.parametrize("encryption_key", [None, ENCRYPTION_KEY])
async def test_a_drive_read_from_another_store(tmp_path: Path, encryption_key: bytes | None) -> None:
    async with await Corestore.open(tmp_path / "a") as ours, await Corestore.open(tmp_path / "b") as theirs:
        async with open_drive(ours, "files", encryption_key=encryption_key) as drive:
            await drive.put("/a", content(1, 200_000))
            async with (
                linked(ours, theirs),
                open_drive(theirs, key=drive.key, encryption_key=encryption_key) as far,
            ):
                await reached(far, drive.version)
                assert not far.writable
                assert await far.get("/a") == content(1, 200_000)
                await drive.put("/b", b"later")
                await reached(far, drive.version)
                assert await far.get("/b") == b"later"
        async with open_drive(theirs, key=drive.key) as far:  # the store remembers the encryption key
            assert await far.get("/b", wait=False) == b"later"
        async with open_drive(ours, "files") as drive:
            assert await drive.get("/a") == content(1, 200_000)
        with pytest.raises(ConfigError, match="no such feed"):
            await open_drive(ours, "other", create=False).__aenter__()


async def test_a_copied_store_reads_and_begins_anew(tmp_path: Path) -> None:
    async with await Corestore.open(tmp_path / "a") as store, open_drive(store, "files") as drive:
        await drive.put("/a", b"old")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    async with await Corestore.open(tmp_path / "copy") as copy:
        assert copy.held("files")
        async with open_drive(copy, "files") as held:
            assert await held.get("/a") == b"old"
            with pytest.raises(StorageError):
                await held.put("/b", b"refused")
        await copy.release(await copy.succeed("files"))
        async with open_drive(copy, "files") as new, open_drive(copy, key=drive.key) as old:
            await new.put("/a", b"new")
            assert (await new.get("/a"), await old.get("/a")) == (b"new", b"old")
            assert len({new.key, new.content_key, old.key, old.content_key}) == 4
