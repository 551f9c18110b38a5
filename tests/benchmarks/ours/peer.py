"""What `tests/benchmarks/stock/*.mjs` do, done by Pomona: one job per process, one JSON object per line on stdout.

    python tests/benchmarks/ours/peer.py append --count 100000 --batch 1000 --parent build

Jobs: append, get, bee, serve (a core on a port, until stdin ends), client (fetches a core from a port), build (leaves a
core in --store), open (opens it). Everything is on disk, in a fresh folder under `--parent`, and durable: what counts
as done was synced (fdatasync).
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop

from edge.cli.loop import tune_collector
from edge.cli.peers import Traffic
from edge.crypto.keys import KeyPair
from edge.hyperbee.bee import Hyperbee
from edge.hypercore.corestore import Corestore
from edge.hypercore.hypercore import Hypercore
from edge.hyperswarm.connection import connect
from edge.hyperswarm.server import serve as listen

BUILD_BATCH = 1000


def generated(seed: int, index: int, size: int) -> bytes:
    """Block `index` of the series `seed`, as `tests/interop/generated.mjs` makes it."""
    digest = hashlib.blake2b(b"%d:%d" % (seed, index)).digest()
    return (digest * (size // 64 + 1))[:size]


def walk(seed: int, below: int) -> Iterator[int]:
    """The same pseudo-random indexes as `random` of `stock/common.mjs`."""
    state = seed
    while True:
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        yield state * below >> 32


class Cost:
    """Wall and CPU seconds of one piece of work, all threads."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), os.times()

    def __call__(self, prefix: str = "") -> dict[str, float]:
        wall, cpu = time.perf_counter() - self._wall, os.times()
        found = {"wall_s": wall, "user_s": cpu.user - self._cpu.user, "system_s": cpu.system - self._cpu.system}
        return {prefix + name: value for name, value in found.items()}


def peak_rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def show(**row: object) -> None:
    print(json.dumps(row), flush=True)


@contextlib.contextmanager
def folder_of(options: argparse.Namespace) -> Iterator[Path]:
    """`--store`, which stays, or a fresh folder, which does not."""
    if options.store is not None:
        yield options.store
        return
    options.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-ours-", dir=options.parent))
    try:
        yield folder / "store"
    finally:
        shutil.rmtree(folder)


async def filled(store: Corestore, count: int, size: int) -> Hypercore:
    """The core "bench" with `count` blocks; appended to if it has fewer."""
    core = await store.get("bench")
    for at in range(core.length, count, BUILD_BATCH):
        await core.append([generated(1, i, size) for i in range(at, min(at + BUILD_BATCH, count))], urgent=True)
    return core


# --- jobs ------------------------------------------------------------------------------------------------------------


async def append(options: argparse.Namespace, folder: Path) -> None:
    """Each append awaited, or `--ahead` of them under way at once; either way each is durable when it returns."""
    count, batch = options.count, options.batch
    async with await Corestore.open(folder) as store:
        core = await store.get("bench")
        blocks = [generated(1, i, options.size) for i in range(count)]
        groups = [blocks[at : at + batch] for at in range(0, count, batch)]
        cost = Cost()
        if options.ahead <= 1:
            for group in groups:
                await core.append(group, urgent=True)
        else:
            room = asyncio.Semaphore(options.ahead)
            async with asyncio.TaskGroup() as tasks:
                for group in groups:
                    await room.acquire()
                    task = tasks.create_task(core.append(group, urgent=True))
                    task.add_done_callback(lambda _: room.release())
        spent = cost()
        assert core.length == count
    show(name="append", count=count, batch=batch, ahead=options.ahead, **spent, per_second=count / spent["wall_s"])


async def get(options: argparse.Namespace, folder: Path) -> None:
    async with await Corestore.open(folder) as store:
        await filled(store, options.count, options.size)
    async with await Corestore.open(folder) as store:
        core = await store.get("bench")
        indexes, last, block = walk(7, options.count), 0, b""
        cost = Cost()
        for _ in range(options.gets):
            last = next(indexes)
            block = core.get(last)
        spent = cost()
        assert block == generated(1, last, options.size)
    show(name="get", count=options.count, gets=options.gets, **spent, per_second=options.gets / spent["wall_s"])


async def bee(options: argparse.Namespace, folder: Path) -> None:
    count, size = options.count, options.size
    order, swap = list(range(count)), walk(5, 2**31)
    for i in range(count - 1, 0, -1):
        j = next(swap) % (i + 1)
        order[i], order[j] = order[j], order[i]
    row: dict[str, Any] = {"name": "bee", "count": count, "batch": options.batch, "gets": options.gets}
    async with await Corestore.open(folder) as store:
        tree = Hyperbee(await store.get("bee"))
        cost = Cost()
        for at in range(0, count, options.batch):
            async with tree.batch() as some:
                for i in order[at : at + options.batch]:
                    await some.put(b"key-%09d" % i, generated(9, i, size))
        row |= cost("put_")
        row["core_bytes"] = tree.log.byte_length  # type: ignore[attr-defined]  # a Hypercore
    async with await Corestore.open(folder) as store:
        tree = Hyperbee(await store.get("bee"))
        indexes = walk(11, count)
        cost = Cost()
        for _ in range(options.gets):
            assert await tree.get(b"key-%09d" % next(indexes)) is not None
        row |= cost("get_")
        scanned = 0
        cost = Cost()
        async for entry in tree.range():
            scanned += len(entry.value) == size
        row |= cost("scan_")
        assert scanned == count
    show(**row, disk_bytes=disk_bytes(folder), peak_rss_mb=peak_rss_mb())


async def serve(options: argparse.Namespace, folder: Path) -> None:
    """First line: port, key, tree_hash. Last line: what serving cost, from the first connection to the last end."""
    traffic = Traffic()
    async with await Corestore.open(folder, replication_metrics=traffic.replication) as store:
        core = await filled(store, options.count, options.size)
        cost: Cost | None = None
        spent: dict[str, float] = {}
        left = 0

        def met(connection: Any) -> None:
            nonlocal cost
            cost = cost or Cost()
            store.replicate(connection)
            connection.on_closed = gone

        def gone(_error: object) -> None:
            nonlocal spent, left
            assert cost is not None
            spent, left = cost(), left + 1

        server = await listen("127.0.0.1", 0, key_pair=KeyPair.generate(), on_connection=met, metrics=traffic.swarm)
        show(port=server.port, key=core.key.hex(), length=core.length, tree_hash=core.tree_hash().hex())
        await stdin_ended()
        await server.close()
    show(name="serve", count=options.count, **spent, clients=left, peak_rss_mb=peak_rss_mb())


async def stdin_ended() -> None:
    """Wait for the end of stdin in a thread that costs nothing meanwhile."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, daemon=True).start()
    await ended.wait()


async def client(options: argparse.Namespace, folder: Path) -> None:
    """From dialling until every block is durable here."""
    traffic = Traffic()
    async with await Corestore.open(folder, replication_metrics=traffic.replication) as store:
        core = await store.get(key=bytes.fromhex(options.key))
        cost = Cost()
        connection = await connect("127.0.0.1", options.port, key_pair=KeyPair.generate(), metrics=traffic.swarm)
        store.replicate(connection)
        await core.update()
        await core.download(0, core.length).done
        spent = cost()
        assert core.contiguous == core.length
        row = {"count": core.length, "bytes": core.byte_length, "tree_hash": core.tree_hash().hex()}
        connection.close()
        await connection.wait_closed()
    show(
        name="client",
        **row,
        **spent,
        per_second=row["count"] / spent["wall_s"],  # type: ignore[operator]  # a number
        disk_bytes=disk_bytes(folder),
        peak_rss_mb=peak_rss_mb(),
    )


async def build(options: argparse.Namespace, folder: Path) -> None:
    async with await Corestore.open(folder) as store:
        core = await filled(store, options.count, options.size)
        row = {"key": core.key.hex(), "length": core.length}
    show(name="build", **row, disk_bytes=disk_bytes(folder), peak_rss_mb=peak_rss_mb())


async def open_(options: argparse.Namespace, folder: Path) -> None:
    """Opening the store and the core, in a process that has imported everything."""
    cost = Cost()
    async with await Corestore.open(folder, write=options.key is None) as store:
        core = await (store.get("bench") if options.key is None else store.get(key=bytes.fromhex(options.key)))
        spent = cost()
        row = {"length": core.length, "contiguous": core.contiguous}
    show(name="open", **row, **spent, peak_rss_mb=peak_rss_mb())


JOBS = {
    "append": append,
    "get": get,
    "bee": bee,
    "serve": serve,
    "client": client,
    "build": build,
    "open": open_,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=150)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--gets", type=int, default=20_000)
    parser.add_argument("--ahead", type=int, default=1, help="appends under way at once")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", help="in hexadecimal")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--parent", type=Path, default=Path("build"))
    options = parser.parse_args()
    with folder_of(options) as folder:
        tune_collector()  # as the commands that talk to peers do
        uvloop.run(JOBS[options.job](options, folder))


if __name__ == "__main__":
    main()
