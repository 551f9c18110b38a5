"""Our side of an interop test: cores on a folder, and one connection that carries all of them."""

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support_stock import StockCore, StockPeer

from edge.crypto.keys import KeyPair
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.replicator import Replicator, Session, replicate
from edge.hyperswarm.connection import Connection, connect
from edge.hyperswarm.server import Server, serve

TIMEOUT_S = 30.0


class OurPeer:
    """Cores that are opened here are closed when the block is left, and so are connections."""

    def __init__(self, folder: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self.cores: dict[str, Hypercore] = {}
        self.connections: list[Connection] = []
        self.timeout_s = timeout_s
        self._folder = folder
        self._key_pair = KeyPair.generate()
        self._server: Server | None = None
        self._replicators: dict[str, Replicator] = {}
        self._sessions: list[Session] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()
        if self._server is not None:
            await self._server.close()
        for name, core in self.cores.items():
            self._replicators[name].close()
            await core.close()

    async def create(self, name: str, key_pair: KeyPair | None = None, **arguments: Any) -> Hypercore:
        """A core of our own."""
        arguments.setdefault("key_pair", key_pair or KeyPair.generate())
        return await self._add(name, create=True, **arguments)

    async def follow(self, name: str, key: bytes, **arguments: Any) -> Hypercore:
        """Somebody else's core, known by its key."""
        return await self._add(name, create=True, key=key, **arguments)

    async def reopen(self, name: str, **arguments: Any) -> Hypercore:
        """Close a core and open it from its folder."""
        self._replicators[name].close()
        await self.cores[name].close()
        return await self._add(name, **arguments)

    async def connect(self, stock: StockPeer) -> Connection:
        """We dial. One connection for all cores, those too that are opened later."""
        connection = await connect("127.0.0.1", await stock.listen(), key_pair=self._key_pair)
        self._attach(connection)
        return connection

    async def accept(self, stock: StockPeer) -> Connection:
        """The stock peer dials."""
        before = len(self.connections)
        if self._server is None:
            self._server = await serve("127.0.0.1", 0, key_pair=self._key_pair, on_connection=self._attach)
        await stock.connect(self._server.port)
        async with asyncio.timeout(self.timeout_s):
            while len(self.connections) == before:
                await asyncio.sleep(0.005)
        return self.connections[-1]

    async def meet(self, stock: StockPeer, *, dial: bool) -> Connection:
        return await (self.connect(stock) if dial else self.accept(stock))

    async def disconnect(self) -> None:
        connections, self.connections, self._sessions = self.connections, [], []
        for connection in connections:
            connection.close()
            await connection.wait_closed()

    async def download(self, name: str, start: int = 0, end: int | None = None) -> Hypercore:
        """Returns once the blocks are durable here; up to the length that is known now, where no end is given."""
        core = self.cores[name]
        async with asyncio.timeout(self.timeout_s):
            await core.download(start, core.length if end is None else end).done
        return core

    async def until(self, name: str, length: int, fork: int | None = None) -> Hypercore:
        """Wait for a length, and a fork where one is given."""
        core = self.cores[name]
        try:
            async with asyncio.timeout(self.timeout_s):
                while core.length != length or (fork is not None and core.fork != fork):
                    await core.changed(core.length, core.fork)
        except TimeoutError:
            raise AssertionError(f"still at length {core.length}, fork {core.fork}; {length}, {fork} wanted") from None
        return core

    async def fetched(self, name: str, index: int) -> bytes:
        async with asyncio.timeout(self.timeout_s):
            block: bytes = await self.cores[name].fetch(index)
        return block

    async def _add(self, name: str, **arguments: Any) -> Hypercore:
        core = await Hypercore.open(self._folder / name, **arguments)
        self.cores[name] = core
        self._replicators[name] = Replicator(core)
        for session in self._sessions:
            session.attach(self._replicators[name])
        return core

    def _attach(self, connection: Connection) -> None:
        self.connections.append(connection)
        self._sessions.append(replicate(connection, list(self._replicators.values())))


def assert_same(ours: Hypercore, stock: StockCore, length: int, fork: int = 0) -> None:
    """Both sides have this length and fork, and the same tree."""
    assert (ours.length, ours.fork) == (length, fork)
    assert (stock.length, stock.fork) == (length, fork)
    if length:
        assert stock.tree_hash == ours.tree_hash(length)
    assert ours.byte_length == stock.byte_length
