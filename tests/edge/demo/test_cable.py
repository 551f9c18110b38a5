"""A cable carries bytes both ways, ends what was connected when it is pulled, and carries again afterwards."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from edge.demo.cable import Cable

HOST = "127.0.0.1"


@asynccontextmanager
async def echo_behind_a_cable() -> AsyncIterator[Cable]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, HOST, 0)
    cable = await Cable.lay(HOST, server.sockets[0].getsockname()[1])
    try:
        yield cable
    finally:
        await cable.close()
        server.close()


async def said_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    writer.write(data)
    async with asyncio.timeout(20):
        try:
            return await reader.read(len(data))
        except ConnectionError:
            return b""


@pytest.mark.parametrize("size", [1, 200_000])
async def test_bytes_come_back_as_they_went(size: int) -> None:
    async with echo_behind_a_cable() as cable:
        reader, writer = await asyncio.open_connection(HOST, cable.port)
        data = bytes(index % 251 for index in range(size))
        writer.write(data)
        async with asyncio.timeout(20):
            assert await reader.readexactly(size) == data
        writer.close()


async def test_pulled_it_ends_what_is_connected_and_lets_nobody_through_until_it_is_plugged_in() -> None:
    async with echo_behind_a_cable() as cable:
        before = await asyncio.open_connection(HOST, cable.port)
        assert await said_back(*before, b"one") == b"one"
        cable.pull()
        assert await said_back(*before, b"lost") == b""
        during = await asyncio.open_connection(HOST, cable.port)
        assert await said_back(*during, b"two") == b""
        cable.plug()
        after = await asyncio.open_connection(HOST, cable.port)
        assert await said_back(*after, b"three") == b"three"
        for _, writer in (before, during, after):
            writer.close()


async def test_where_nobody_listens_the_dialler_finds_a_closed_connection() -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    cable = await Cable.lay(HOST, port)
    dialled = await asyncio.open_connection(HOST, cable.port)
    assert await said_back(*dialled, b"anybody?") == b""
    dialled[1].close()
    await cable.close()
