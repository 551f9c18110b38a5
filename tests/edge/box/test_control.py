"""The control socket: answers, refusals, hostile clients."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge.box.control import REQUEST_BYTES_MAX, SOCKET_NAME, ControlServer, ask
from edge.errors import ConfigError, RecordInvalid, RemoteError, StorageError


def echo(request: Mapping[str, object]) -> object:
    return {"sku": request.get("sku")}


def refuse(_request: Mapping[str, object]) -> object:
    raise RecordInvalid("no such item")


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[None]:
    task = asyncio.create_task(ControlServer(directory, {"echo": echo, "refuse": refuse}).run())
    while not (directory / SOCKET_NAME).exists():
        await asyncio.sleep(0.001)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_request_is_answered_and_a_refusal_is_an_error(tmp_path: Path) -> None:
    async with serving(tmp_path):
        assert await asyncio.to_thread(ask, tmp_path, "echo", sku="a") == {"sku": "a"}
        with pytest.raises(RemoteError, match="no such item"):
            await asyncio.to_thread(ask, tmp_path, "refuse")
        with pytest.raises(RemoteError, match="unknown command 'nonsense'"):
            await asyncio.to_thread(ask, tmp_path, "nonsense")
    assert not (tmp_path / SOCKET_NAME).exists()


async def test_without_a_box_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no box can be asked on"):
        ask(tmp_path, "status")


@pytest.mark.parametrize("line", [b"not json", b"[1]", b'{"command": 3}', b"[" * 20_000])
async def test_malformed_requests_get_an_error_and_the_next_is_served(tmp_path: Path, line: bytes) -> None:
    async with serving(tmp_path):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET_NAME))
        writer.write(line + b'\n{"command": "echo", "sku": "b"}\n')
        assert json.loads(await reader.readline())["ok"] is False
        assert json.loads(await reader.readline()) == {"ok": True, "result": {"sku": "b"}}
        writer.close()
        await writer.wait_closed()


async def test_an_endless_line_ends_that_client_alone(tmp_path: Path) -> None:
    async with serving(tmp_path):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET_NAME))
        writer.write(b"x" * (3 * REQUEST_BYTES_MAX))
        assert await reader.read() == b""
        writer.close()
        assert await asyncio.to_thread(ask, tmp_path, "echo") == {"sku": None}


def test_a_state_folder_too_deep_for_a_socket_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shop\.state_dir"):
        ControlServer(tmp_path / ("x" * 120), {})
