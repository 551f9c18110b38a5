"""A server process that is attacked, and the process of an honest client that clones from it.

    python support_attacked_server.py serve FOLDER BLOCKS BLOCK_BYTES     prints {"port", "key"}
    python support_attacked_server.py clone FOLDER PORT KEY BLOCKS [ADDRESS]

Both answer each line on standard input with one line of JSON: the server its counters, the client what it has cloned
so far; they end at the end of their input.
"""

import asyncio
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from edge.crypto.keys import KeyPair
from edge.errors import RemoteError
from edge.hypercore.corestore import Corestore
from edge.hypercore.replicator import ReplicationMetrics
from edge.hyperswarm.connection import Connection
from edge.hyperswarm.metrics import SwarmMetrics
from edge.hyperswarm.server import serve

APPEND_BLOCKS = 1000
CLONE_TIMEOUT_S = 60.0


async def _answer(read: Any) -> None:
    """Answer every line of standard input with `read()`, as JSON."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        print(json.dumps(read()), flush=True)
    transport.close()


async def serve_core(folder: Path, blocks: int, block_bytes: int) -> None:
    """Serve one core until standard input ends."""
    registry = CollectorRegistry()
    swarm, replication = SwarmMetrics(registry), ReplicationMetrics(registry)

    def counters() -> dict[str, float]:
        found = {}
        for metric in registry.collect():
            for sample in metric.samples:
                label = ",".join(sample.labels.values())
                if sample.value and not sample.name.endswith("_created"):
                    found[sample.name.removeprefix("pomona_") + (f"[{label}]" if label else "")] = sample.value
        return found

    async with await Corestore.open(folder, replication_metrics=replication) as store:
        core = await store.get("prices")
        for start in range(core.length, blocks, APPEND_BLOCKS):
            await core.append(
                [index.to_bytes(4) * (block_bytes // 4) for index in range(start, min(start + APPEND_BLOCKS, blocks))],
                urgent=True,
            )
        server = await serve(
            "127.0.0.1",
            0,
            key_pair=KeyPair.generate(),
            on_connection=lambda connection: _attach(store, connection),
            metrics=swarm,
        )
        print(json.dumps({"port": server.port, "key": core.key.hex()}), flush=True)
        try:
            await _answer(counters)
        finally:
            await server.close()


def _attach(store: Corestore, connection: Connection) -> None:
    store.replicate(connection)


async def open_from(address: str, port: int, key_pair: KeyPair | None = None) -> Connection:
    """A connection with its handshake done, from one of the loopback's addresses."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        transport, connection = await loop.create_connection(
            lambda: Connection(True, key_pair or KeyPair.generate()), "127.0.0.1", port, local_addr=(address, 0)
        )
        try:
            await connection.wait_handshake()
        except BaseException:
            transport.abort()
            raise
    return connection


class Clones:
    """An honest client: clones the core again and again, each time into a new folder. What it counts, it has."""

    def __init__(self, folder: Path, port: int, key: bytes, blocks: int, address: str) -> None:
        self._folder, self._port, self._key, self._blocks, self._address = folder, port, key, blocks, address
        self._store: Any = None
        self._before = 0
        self.clones = self.refused = self.failed = 0
        self.longest_s = 0.0
        self.reasons: dict[str, int] = {}

    def counts(self) -> dict[str, Any]:
        return {
            "blocks": self._before + self._held(),
            "clones": self.clones,
            "refused": self.refused,
            "failed": self.failed,
            "reasons": self.reasons,
            "longest_s": self.longest_s,
        }

    def _held(self) -> int:
        return self._store.contiguous if self._store is not None else 0

    async def run(self) -> None:
        while True:
            since = time.monotonic()
            while not await self._clone():
                self.refused += 1
                await asyncio.sleep(0.05)
            self.longest_s = max(self.longest_s, time.monotonic() - since)
            self.clones += 1

    async def _clone(self) -> bool:
        """Clone once; whether it succeeded."""
        folder = self._folder / "clone"
        async with await Corestore.open(folder) as store:
            self._store = core = await store.get(key=self._key)
            connection = None
            try:
                async with asyncio.timeout(CLONE_TIMEOUT_S):
                    connection = await open_from(self._address, self._port)
                    store.replicate(connection)
                    while core.length < self._blocks:
                        await _while(connection, core.changed(core.length, core.fork))
                    await _while(connection, core.download(0, self._blocks).done)
            except (OSError, RemoteError, TimeoutError, ConnectionError) as error:
                reason = error.reason if isinstance(error, RemoteError) else type(error).__name__
                self.reasons[reason] = self.reasons.get(reason, 0) + 1
                return False
            finally:
                self._before += self._held()
                self._store = None
                if connection is not None:
                    connection.close()
                    await connection.wait_closed()
        await asyncio.to_thread(shutil.rmtree, folder)
        return True


async def _while(connection: Connection, awaited: Any) -> None:
    """Await it, but not beyond the end of the connection."""
    wanted, gone = asyncio.ensure_future(awaited), asyncio.ensure_future(connection.wait_closed())
    try:
        await asyncio.wait([wanted, gone], return_when=asyncio.FIRST_COMPLETED)
        if not wanted.done():
            raise ConnectionResetError("the connection ended")
        wanted.result()
    finally:
        gone.cancel()
        wanted.cancel()


async def clone_core(folder: Path, port: int, key: bytes, blocks: int, address: str) -> None:
    """Clone until standard input ends."""
    clones = Clones(folder, port, key, blocks, address)
    task = asyncio.ensure_future(clones.run())
    answering = asyncio.ensure_future(_answer(clones.counts))
    await asyncio.wait([task, answering], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    task.cancel()
    await asyncio.wait([task])


def main() -> None:
    """Do what the arguments say."""
    match sys.argv[1:]:
        case ["serve", folder, blocks, block_bytes]:
            asyncio.run(serve_core(Path(folder), int(blocks), int(block_bytes)))
        case ["clone", folder, port, key, blocks, *address]:
            asyncio.run(
                clone_core(Path(folder), int(port), bytes.fromhex(key), int(blocks), *(address or ["127.0.0.1"]))
            )
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
