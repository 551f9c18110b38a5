"""Real cores on disk over real connections on the loopback: the whole stack, both ends ours."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.crypto.keys import KeyPair
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.replicator import Replicator, Session, replicate
from edge.hyperswarm.connection import Connection, connect
from edge.hyperswarm.server import serve


@asynccontextmanager
async def linked(server: list[Replicator] | Callable[[bytes], Any], client: list[Replicator]) -> AsyncIterator[Session]:
    """A connection on which both sides replicate."""
    accepted: list[Connection] = []

    def on_connection(connection: Connection) -> None:
        accepted.append(connection)
        replicate(connection, server)

    listening = await serve("127.0.0.1", 0, key_pair=KeyPair.generate(), on_connection=on_connection)
    connection = await connect("127.0.0.1", listening.port, key_pair=KeyPair.generate())
    session = replicate(connection, client)
    try:
        yield session
    finally:
        connection.close()
        await connection.wait_closed()
        await listening.close()


@asynccontextmanager
async def opened(folder: Path, **arguments: Any) -> AsyncIterator[tuple[Hypercore, Replicator]]:
    core = await Hypercore.open(folder, create=True, **arguments)
    replicator = Replicator(core)
    try:
        yield core, replicator
    finally:
        replicator.close()
        await core.close()


async def until(core: Hypercore, length: int, fork: int) -> None:
    async with asyncio.timeout(20):
        while (core.length, core.fork) != (length, fork):
            await core.changed(core.length, core.fork)


async def complete(replicator: Replicator) -> None:
    async with asyncio.timeout(20):
        while replicator.missing:
            await asyncio.sleep(0.01)


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [f"block {index}".encode() * 9 for index in range(start, start + count)]


async def test_download_append_truncate_and_go_on_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path / "writer", key_pair=KeyPair.generate()) as (writer, serving):
        await writer.append(numbered(3000))
        async with opened(tmp_path / "replica", key=writer.key) as (core, replicator), linked([serving], [replicator]):
            assert (await core.fetch(2999, timeout_s=20)) == numbered(1, 2999)[0]
            async with asyncio.timeout(20):
                await core.download(0, 1000).done
            assert replicator.missing == 1999
        async with opened(tmp_path / "replica", key=writer.key) as (core, replicator):
            assert replicator.missing == 1999
            live = core.download(0)
            async with linked([serving], [replicator]):
                await writer.append(numbered(10, 3000))
                await until(core, 3010, 0)
                await complete(replicator)
                assert list(core.blocks()) == numbered(3010)
                await writer.truncate(2990)
                await writer.append(numbered(5, 7000))
                await until(core, 2995, 1)
                await complete(replicator)
                assert list(core.blocks()) == numbered(2990) + numbered(5, 7000)
                assert core.tree_hash() == writer.tree_hash()
            live.cancel()


@pytest.mark.parametrize("slowly", [False, True])
async def test_a_server_finds_the_core_that_is_asked_for(tmp_path: Path, slowly: bool) -> None:
    async with opened(tmp_path / "writer", key_pair=KeyPair.generate()) as (writer, serving):
        await writer.append(numbered(20))

        def find(key: bytes) -> Replicator | None:
            return serving if key == writer.discovery_key else None

        async def find_slowly(key: bytes) -> Replicator | None:
            await asyncio.sleep(0.01)
            return find(key)

        async with (
            opened(tmp_path / "replica", key=writer.key) as (core, replicator),
            linked(find_slowly if slowly else find, [replicator]),
        ):
            assert (await core.fetch(7, timeout_s=20)) == numbered(1, 7)[0]
            assert await core.seek(200) == await writer.seek(200)


async def test_an_encrypted_core_is_carried_by_who_cannot_read_it(tmp_path: Path) -> None:
    secret = bytes(range(32))
    async with opened(tmp_path / "writer", key_pair=KeyPair.generate(), encryption_key=secret) as (writer, serving):
        await writer.append(numbered(50))
        async with (
            opened(tmp_path / "replica", key=writer.key) as (core, replicator),
            linked([serving], [replicator]),
        ):
            async with asyncio.timeout(20):
                await core.update()
                await core.download(0, 50).done
            assert core.tree_hash() == writer.tree_hash()
