"""`pomona feed serve` and `pomona feed clone`: any Hypercore, from and to any peer, stock ones too, over TCP."""

import argparse
import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from edge.cli.peers import Traffic, connected, first_of, run_until_stopped
from edge.cli.progress import Progress
from edge.crypto.keys import parse_key
from edge.errors import ConfigError, RemoteError
from edge.hypercore.corestore import Corestore
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.lending import LendingDesk
from edge.hypercore.store import FeedStore
from edge.hyperswarm.address import Address
from edge.hyperswarm.connection import Connection
from edge.hyperswarm.server import serve as listen
from edge.storage.files import OsDisk

_SHOWN_EVERY_S: Final = 0.2


def serve(options: argparse.Namespace) -> int:
    """`pomona feed serve`."""
    return run_until_stopped(lambda stop: _serve(options, stop))


def clone(options: argparse.Namespace) -> int:
    """`pomona feed clone`."""
    return run_until_stopped(lambda stop: _clone(options, stop))


# --- serve -----------------------------------------------------------------------------------------------------------


async def _serve(options: argparse.Namespace, stop: asyncio.Event) -> int:
    directory: Path = options.store
    if not (directory / "feeds.json").is_file():
        raise ConfigError("--store", f"no feeds in {directory}")
    traffic = Traffic()
    with _serving_alone(directory):
        async with await Corestore.open(
            directory, storage_metrics=traffic.storage, replication_metrics=traffic.replication
        ) as store:
            identity = await asyncio.to_thread(FeedStore(directory).identity)
            met = _Meeting(store, as_json=options.json)
            address: Address = options.listen
            try:
                server = await listen(
                    address.host, address.port, key_pair=identity, on_connection=met, metrics=traffic.swarm
                )
            except OSError as error:
                raise ConfigError("--listen", f"cannot listen on {address}: {error.strerror or error}") from None
            try:
                async with _lending(store, directory):
                    met.listening(Address(address.host, server.port), identity.public_key, len(store.feeds()))
                    await _until(stop, traffic, options.metrics)
            finally:
                await server.close()
    return 0


async def _until(stop: asyncio.Event, traffic: Traffic, metrics: Path | None) -> None:
    if metrics is None:
        await stop.wait()
    else:
        await first_of(stop, traffic.keep_written(metrics))


class _Meeting:
    """Hands every peer to the store and says so."""

    def __init__(self, store: Corestore, *, as_json: bool) -> None:
        self._store = store
        self._json = as_json

    def __call__(self, connection: Connection) -> None:
        self._store.replicate(connection)
        peer = Address(*connection.remote_address)
        key = connection.remote_public_key.hex()
        connection.on_closed = lambda error: self._left(peer, key, error)
        self._say("connected", f"{peer} connected ({key[:8]})", peer=str(peer), public_key=key)

    def listening(self, address: Address, public_key: bytes, feeds: int) -> None:
        """The socket is there."""
        text = f"listening on {address}, {feeds} {'feed' if feeds == 1 else 'feeds'}; public key {public_key.hex()}"
        self._say("listening", text, host=address.host, port=address.port, public_key=public_key.hex(), feeds=feeds)

    def _left(self, peer: Address, key: str, error: Exception | None) -> None:
        why = f": {error}" if error is not None else ""
        self._say("disconnected", f"{peer} left{why}", peer=str(peer), public_key=key, error=error and str(error))

    def _say(self, event: str, text: str, **values: object) -> None:
        print(json.dumps({"event": event, **values}) if self._json else text, flush=True)


@contextlib.contextmanager
def _serving_alone(directory: Path) -> Iterator[None]:
    """Hold the folder's serving lock: its socket is one process's at a time."""
    disk = OsDisk(directory / "serving", create=True)
    disk.lock()
    try:
        yield
    finally:
        disk.unlock()


@contextlib.asynccontextmanager
async def _lending(store: Corestore, directory: Path) -> AsyncIterator[None]:
    """Let other processes of this machine use the cores that are open here."""
    desk = LendingDesk(directory, lambda key: store.get(key=key, create=False), store.release)
    listening = asyncio.Event()
    task = asyncio.create_task(desk.run(listening))
    try:
        await first_of(listening, asyncio.shield(task))
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# --- clone -----------------------------------------------------------------------------------------------------------


async def _clone(options: argparse.Namespace, stop: asyncio.Event) -> int:
    key = parse_key(options.key, what="KEY")
    traffic = Traffic()
    async with await Corestore.open(options.store, replication_metrics=traffic.replication) as store:
        core = await store.get(key=key, encryption_key=options.encryption_key)
        identity = await asyncio.to_thread(FeedStore(options.store).identity)
        async with connected(store, identity, options.connect, traffic.swarm):
            fetched = await _fetch(core, store, traffic, stop)
            if fetched:
                await _checked(core)
                _report(core, traffic, as_json=options.json)
            while fetched and options.live:
                fetched = await first_of(stop, core.changed(core.length, core.fork))
                fetched = fetched and await first_of(stop, _hold_all(core))
                if fetched:
                    _report(core, traffic, as_json=options.json)
    if not fetched and not options.live:
        raise RemoteError(f"stopped with {core.contiguous} of {core.length} blocks; run it again to go on")
    return 0


async def _fetch(core: Hypercore, store: Corestore, traffic: Traffic, stop: asyncio.Event) -> bool:
    """Learn the length and get every block; False if somebody stopped it."""
    if not await first_of(stop, core.update()):
        return False
    if core.manifest is None and core.length == 0:
        await store.forget(core)  # perhaps a mistyped key: nothing of it stays
        raise RemoteError(f"no peer has the feed {core.key.hex()}", reason="unknown")
    replicator = store.replicator(core)
    work = asyncio.ensure_future(_hold_all(core))
    try:
        with Progress("cloning") as progress:
            while not work.done() and not stop.is_set():
                length = core.length
                progress.update(length - replicator.missing, length, traffic.received_bytes)
                await asyncio.wait((work,), timeout=_SHOWN_EVERY_S)
        if work.done():
            await work
            return True
        return False
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def _hold_all(core: Hypercore) -> None:
    """Return once every block up to the length is here, however long the log has become meanwhile."""
    while core.contiguous < core.length:
        await core.download(0, core.length).done


async def _checked(core: Hypercore) -> None:
    with Progress("verifying", unit="records") as progress:
        await core.verify(progress.update)


def _report(core: Hypercore, traffic: Traffic, *, as_json: bool) -> None:
    if not as_json:
        print(core.length, flush=True)
        return
    values = {"key": core.key.hex(), "length": core.length, "fork": core.fork, "bytes": core.byte_length}
    print(json.dumps({**values, "received_bytes": traffic.received_bytes}), flush=True)
