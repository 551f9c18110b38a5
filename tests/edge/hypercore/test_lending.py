"""A core used through the process that has it open: appended to, read, followed; nonsense is refused and forgotten."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge.encoding import cbor
from edge.errors import BlockMissing, ConfigError, RemoteError, StorageError
from edge.hyperbee.bee import Hyperbee
from edge.hypercore.corestore import Corestore
from edge.hypercore.lending import SOCKET_NAME, BorrowedCore, LendingDesk


@asynccontextmanager
async def lending(store: Corestore, directory: Path) -> AsyncIterator[None]:
    listening = asyncio.Event()
    desk = LendingDesk(directory, lambda key: store.get(key=key, create=False), store.release)
    task = asyncio.create_task(desk.run(listening))
    await listening.wait()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_append_read_follow(tmp_path: Path) -> None:
    async with await Corestore.open(tmp_path) as store:
        core = await store.get("a")
        async with lending(store, tmp_path):
            assert (tmp_path / SOCKET_NAME).stat().st_mode & 0o777 == 0o600
            one, two = [await BorrowedCore.borrow(tmp_path, core.key) for _ in range(2)]
            assert one is not None
            assert two is not None
            assert (one.length, one.fork, one.writable) == (0, 0, True)
            news = asyncio.create_task(two.changed(0, 0))
            assert await one.append([b"x", b"y" * 100_000]) == core.length == 2
            await news
            assert (two.length, await two.fetch(1), core.get(0)) == (2, b"y" * 100_000, b"x")
            with pytest.raises(BlockMissing):
                one.get(0)
            with pytest.raises(RemoteError, match="too much for one group"):
                await one.append([bytes(1_000_000)] * 2 + [bytes(100_000)])
            for asked in (one.fetch(-1), one.seek(2**40)):
                with pytest.raises(RemoteError):
                    await asked
            assert await one.append([b"still there"]) == 3
            await one.close()
            await two.close()


async def test_a_bee_on_a_borrowed_core(tmp_path: Path) -> None:
    async with await Corestore.open(tmp_path) as store:
        core = await store.get("bee")
        async with lending(store, tmp_path):
            borrowed = await BorrowedCore.borrow(tmp_path, core.key)
            assert borrowed is not None
            bee = Hyperbee(borrowed)
            await bee.put(b"a", b"1")
            assert await bee.put(b"b", b"2")
            found = await Hyperbee(core).get(b"a")
            assert found is not None
            assert found.value == b"1"
            await borrowed.close()


async def test_nobody_there_unknown_feeds_and_nonsense(tmp_path: Path) -> None:
    async with await Corestore.open(tmp_path) as store:
        core = await store.get("a")
        assert await BorrowedCore.borrow(tmp_path, core.key) is None
        async with lending(store, tmp_path):
            with pytest.raises(ConfigError, match="no such feed"):
                await BorrowedCore.borrow(tmp_path, bytes(32))
            for nonsense in (b"\xff\xff\xff\xff", (3).to_bytes(4, "little") + b"abc", b"\x01\0\0\0\xa0"):
                reader, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET_NAME))
                writer.write(nonsense)
                assert await reader.read() == b""
                writer.close()
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET_NAME))
            body = cbor.encode(["append", [b"x"]])
            writer.write(len(body).to_bytes(4, "little") + body)
            head = await reader.readexactly(4)
            assert cbor.decode(await reader.readexactly(int.from_bytes(head, "little")))[0] == "error"  # type: ignore[index]
            writer.close()
            borrowed = await BorrowedCore.borrow(tmp_path, core.key)
            assert borrowed is not None
        with pytest.raises(StorageError, match="has ended"):
            await borrowed.append([b"x"])
        await borrowed.close()
        assert core.length == 0
