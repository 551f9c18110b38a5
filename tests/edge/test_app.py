"""The box in this process: from start to READY to an orderly stop; snapshots that help, and ones that must not."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support_shop_folder import running, write_folder

from edge.app import Box, serve
from edge.box import snapshot
from edge.config import load
from edge.errors import StorageError, StorageFault


@pytest.fixture(scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shop"), 9).parent  # port 9: nobody listens


@pytest.fixture
def config(_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(_folder, tmp_path / "shop")
    return tmp_path / "shop" / "pomona.toml"


def shown(box: Box) -> tuple[object, ...]:
    shelf = box.views.shelf
    return (
        box.views.length,
        shelf.prices,
        shelf.items,
        shelf.decisions,
        shelf.book.manifest,
        box.views.days.snapshot(),
    )


async def test_the_supervisor_hears_ready_and_stopping(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(config.parent / "notify"))
        supervisor.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(config.parent / "notify"))
        async with running(config) as box:
            said = ""
            while "READY=1" not in said:
                said += (await asyncio.get_running_loop().sock_recv(supervisor, 4096)).decode() + "\n"
            notifier = box._notify.__self__  # type: ignore[attr-defined]
        left = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                left += supervisor.recv(4096) + b"\n"
        assert b"STOPPING=1" in left
        notifier.socket.close()  # sdnotify never closes it


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data,
        lambda data: data[: len(data) // 2],
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
        lambda data: b"",
        None,
    ],
    ids=["whole", "torn", "flipped", "empty", "absent"],
)
async def test_the_views_are_the_same_whatever_became_of_the_snapshot(
    config: Path, damage: Callable[[bytes], bytes] | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(config) as box:
        before = shown(box)
        floor = box.views.newest_ms
    path = config.parent / "s" / snapshot.FILE_NAME
    data = path.read_bytes()
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(data))
    async with running(config) as box:
        assert shown(box) == before
        assert box.views.newest_ms == floor
    complained = "rebuilt from the ledger" in caplog.text
    assert complained == (damage is not None and damage(data) != data)


async def test_a_snapshot_of_another_ledger_is_not_used(config: Path, tmp_path: Path) -> None:
    other = write_folder_beside(config, tmp_path)
    async with running(other):
        pass
    shutil.copy(other.parent / "s" / snapshot.FILE_NAME, config.parent / "s" / snapshot.FILE_NAME)
    async with running(config) as box:
        assert box.views.length == box.ledger.length
        assert box.views.days.closed_through is not None


def write_folder_beside(config: Path, tmp_path: Path) -> Path:
    """Another shop with the same settings and an empty ledger of its own."""
    folder = tmp_path / "other"
    folder.mkdir()
    shutil.copy(config, folder)
    shutil.copy(config.parent / "items.csv", folder)
    return folder / "pomona.toml"


async def test_a_ledger_that_refuses_is_a_failed_box_until_it_takes_again(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(config) as box:
        append = box.ledger.append

        async def refuse(_blocks: object, _urgent: bool) -> int:
            raise StorageError("segment 3: no space left", fault=StorageFault.FULL)

        monkeypatch.setattr(box.ledger, "append", refuse)
        with pytest.raises(StorageError):
            await box._append([b"x"], True)
        assert box.health.tree()["state"] == "failed"
        assert "ledger: segment 3: no space left" in box.health.summary()
        monkeypatch.setattr(box.ledger, "append", append)
        await box._append([], True)
        assert box.health.tree()["state"] == "ok"


async def test_a_second_box_ends_with_the_plain_error(config: Path) -> None:
    async with running(config):
        with pytest.raises(StorageError) as caught:
            await serve(load(config))
        assert caught.value.fault is StorageFault.LOCKED
