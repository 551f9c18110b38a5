"""How Pomona's figures grow with the size of a core: 10,000, 100,000 and 1,000,000 blocks of 150 bytes, and memory.

For `make bench-full`. One table: appending in batches of 1000, random gets, opening (our own core and a replica),
replicating between two processes, the peak memory of both sides, and the room on the disk. Stock peers are measured
beside it once, at the largest size.
"""

import json
import shutil
import sys
from typing import Any, Final

from bench_peers import GETS, SIZE, Jobs, Row, bound_row, jobs, stock_is_there

SIZES: Final = (10_000, 100_000, 1_000_000)
MEMORY_MB: Final = 120.0
OPEN_S: Final = 0.5
COLUMNS: Final = {
    "append": "append, blocks/s",
    "get": "random get, blocks/s",
    "open_ms": "open own, ms",
    "open_replica_ms": "open replica, ms",
    "replicate": "replicate, blocks/s",
    "replicate_cpu_us": "CPU of both, us/block",
    "client_rss_mb": "client, MB",
    "server_rss_mb": "server, MB",
    "disk_mb": "own core, MB",
}


def measured(started: Jobs, count: int) -> dict[str, float]:
    """One column of the table; the core is built first, so that serving it is measured without building it."""
    own, replica = started.parent / f"own-{count}", started.parent / f"replica-{count}"
    built = started.ours("build", count=count, size=SIZE, store=own)
    found: dict[str, float] = {
        "append": started.ours("append", count=count, size=SIZE, batch=1000)["per_second"],
        "get": started.ours("get", count=count, size=SIZE, gets=GETS)["per_second"],
        "disk_mb": built["disk_bytes"] / 1e6,
    }
    fetched = started.replicate("ours", "ours", count=count, store=own, client_store=replica)
    found |= {
        "replicate": fetched["per_second"],
        "replicate_cpu_us": fetched["cpu_s"] / count * 1e6,
        "client_rss_mb": fetched["client_rss_mb"],
        "server_rss_mb": fetched["server_rss_mb"],
    }
    opened = [started.ours("open", store=own)["wall_s"] for _ in range(3)]
    found["open_ms"] = 1000 * sorted(opened)[1]
    opened = [started.ours("open", store=replica, key=built["key"])["wall_s"] for _ in range(3)]
    found["open_replica_ms"] = 1000 * sorted(opened)[1]
    shutil.rmtree(own)
    shutil.rmtree(replica)
    return found


def rows(_seconds: float) -> list[Row]:
    """About three minutes on two quiet cores, and five more for the stock peers at the largest size."""
    with jobs() as started:
        table = {count: measured(started, count) for count in SIZES}
        print(markdown(table), file=sys.stderr)
        found = [
            {**bound_row(f"{COLUMNS[name]} ({count:,} blocks)", "", value, 0.0), "target": None, "met": None}
            for count, column in table.items()
            for name, value in column.items()
        ]
        largest = table[SIZES[-1]]
        name = f"{SIZES[-1]:,} blocks"
        found += [
            bound_row(f"peak memory, client, {name}", "MB", largest["client_rss_mb"], MEMORY_MB),
            bound_row(f"peak memory, server, {name}", "MB", largest["server_rss_mb"], MEMORY_MB),
            bound_row(f"open our own core, {name}", "s", largest["open_ms"] / 1000, OPEN_S),
            bound_row(f"open a replica, {name}", "s", largest["open_replica_ms"] / 1000, OPEN_S),
        ]
        if stock_is_there():
            found.append(beside_stock(started, largest))
        return found


def beside_stock(started: Jobs, largest: dict[str, float]) -> Row:
    count = SIZES[-1]
    stock = started.replicate("stock", "stock", count=count)
    row = bound_row(f"replicate {count:,} blocks, ours from ours", "blocks/s", largest["replicate"], 0.0)
    ratio = largest["replicate"] / stock["per_second"]
    return {
        **row,
        "better": "higher",
        "reference": stock["per_second"],
        "reference_name": "stock from stock",
        "ratio": ratio,
        "target": ">= 3 x",
        "met": ratio >= 3,
        "reference_cpu_us": stock["cpu_s"] / count * 1e6,
    }


def markdown(table: dict[int, dict[str, float]]) -> str:
    lines = ["| | " + " | ".join(f"{count:,}" for count in table) + " |", "|---|" + "---:|" * len(table)]
    for name, title in COLUMNS.items():
        lines.append(f"| {title} | " + " | ".join(f"{column[name]:,.3g}" for column in table.values()) + " |")
    return "\n".join(lines)


def main() -> None:
    sizes: list[int] = [int(word) for word in sys.argv[1:]] or list(SIZES)
    with jobs() as started:
        table: dict[int, Any] = {count: measured(started, count) for count in sizes}
    print(markdown(table))
    print(json.dumps(table))


if __name__ == "__main__":
    main()
