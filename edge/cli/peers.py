"""What the commands that talk to peers have in common: addresses, connecting and reconnecting, one store, one loop.

    async with connected(store, identity, options.connect):
        ...                                     # cores of the store replicate with every peer of the list

A first connection that fails ends the command with the reason; later ones are made again for as long as it runs.
"""

import argparse
import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from edge.atomic import replace_file
from edge.cli.loop import run
from edge.crypto.keys import KeyPair
from edge.errors import ConfigError, PomonaError, RemoteError
from edge.health.metrics import SharedMetrics, exposition
from edge.hypercore.corestore import Corestore
from edge.hypercore.replicator import ReplicationMetrics
from edge.hyperswarm.address import Address, parse_address
from edge.hyperswarm.connection import Connection, connect
from edge.hyperswarm.metrics import SwarmMetrics
from edge.storage.metrics import StorageMetrics

_RETRY_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)  # between attempts; the last one again and again
_METRICS_EVERY_S: Final = 10.0


def address(text: str) -> Address:
    """`parse_address` for `argparse`."""
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def connect_option(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Add `--connect`, which may be given several times."""
    parser.add_argument(
        "--connect",
        type=address,
        action="append",
        default=[],
        required=required,
        metavar="HOST:PORT",
        help="a peer to replicate with over TCP; several may be given",
    )


class Traffic:
    """The metrics of a command that talks to peers, and the two of them that it shows itself."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        shared = SharedMetrics(self.registry)  # the process's own figures too
        self.storage = StorageMetrics(self.registry, queue_depth=shared.queue_depth)
        self.replication = ReplicationMetrics(self.registry)
        self.swarm = SwarmMetrics(self.registry)

    @property
    def received_bytes(self) -> int:
        """Bytes of blocks taken from peers."""
        return int(self.registry.get_sample_value("pomona_replication_received_bytes_total") or 0)

    async def keep_written(self, path: Path) -> None:
        """Write all of them to `path` now and again, for Prometheus's textfile collector, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(replace_file, path, exposition(self.registry), 0o644)
            except OSError as error:
                raise ConfigError("--metrics", f"cannot write {path}: {error.strerror or error}") from None
            await asyncio.sleep(_METRICS_EVERY_S)


@contextlib.asynccontextmanager
async def connected(
    store: Corestore, identity: KeyPair, peers: Sequence[Address], metrics: SwarmMetrics | None = None
) -> AsyncIterator[None]:
    """Replicate `store` with all `peers` while inside. Raises `RemoteError` where a first connection fails."""
    first = [await _dial(identity, peer, metrics) for peer in peers]
    keepers = []
    for peer, connection in zip(peers, first, strict=True):
        store.replicate(connection)
        keepers.append(asyncio.create_task(_keep(store, identity, peer, connection, metrics)))
    try:
        yield
    finally:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)


async def _dial(identity: KeyPair, peer: Address, metrics: SwarmMetrics | None) -> Connection:
    try:
        return await connect(peer.host, peer.port, key_pair=identity, metrics=metrics)
    except TimeoutError:
        raise RemoteError(f"{peer} does not answer", reason="timeout") from None
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)  # the loop's own text repeats the address
        raise RemoteError(f"cannot connect to {peer}: {why}", reason="unreachable") from None


async def _keep(
    store: Corestore, identity: KeyPair, peer: Address, connection: Connection, metrics: SwarmMetrics | None
) -> None:
    """Replace the connection each time it ends."""
    try:
        while True:
            await connection.wait_closed()
            attempt = 0
            while connection.closed:
                await asyncio.sleep(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
                attempt += 1
                with contextlib.suppress(PomonaError):
                    connection = await _dial(identity, peer, metrics)
                    store.replicate(connection)
    finally:
        connection.close()
        await connection.wait_closed()


def run_until_stopped(main: Callable[[asyncio.Event], Awaitable[int]]) -> int:
    """Run `main` with an event that SIGINT and SIGTERM set; returns its exit code."""

    async def start() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        return await main(stop)

    return run(start())


async def first_of(stop: asyncio.Event, work: Awaitable[object]) -> bool:
    """Wait for `work` or for `stop`, whichever is first; whether the work was done. What `work` raises is raised."""
    doing = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            await doing
        return doing.done()
    finally:
        for task in (doing, stopping):
            task.cancel()
        await asyncio.gather(doing, stopping, return_exceptions=True)


def store_option(parser: argparse.ArgumentParser) -> None:
    """Add `--store` and `--json`."""
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="the folder that holds the feeds")
    parser.add_argument("--json", action="store_true", help="one JSON value a line")
