"""Pomona beside the stock JavaScript peers: appending, reading, replicating, Hyperbee. Same work, same disk, same run.

Every job is a process of its own (`ours/peer.py`, `stock/*.mjs`); ours and stock take turns, `ROUNDS` times. A ratio is
the median over the rounds of the ratio within one round; the smallest and the largest are its spread.

Durability differs, to our cost: what ours reports as done was synced to the disk (fdatasync), group by group. Stock
storage writes its log and never syncs it: what it reports as done survives the end of the process, not a power cut.
Sizes of a million are in `bench_growth.py`.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
PACKAGES: Final = HERE.parent / "interop" / "node_modules"
ROUNDS: Final = 3
COUNT: Final = 100_000
SIZE: Final = 150
GETS: Final = 20_000
NOTE: Final = (
    "peers: ours syncs every group with fdatasync before it counts as done; stock never syncs "
    "(its appends survive the end of the process, not a power cut). Ratios are medians, spreads in the JSON."
)
OURS_DURABILITY: Final = "synced: fdatasync of each group before it counts as done"
STOCK_DURABILITY: Final = "not synced: in the page cache when it counts as done"

Row = dict[str, Any]
Measured = dict[str, Any]


class Jobs:
    """Starts the processes, all of them on the disk under `parent`."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self._environment = {**os.environ, "TMPDIR": str(parent)}

    def ours(self, job: str, **options: object) -> Measured:
        return self._run(self._our_command(job, options))

    def stock(self, job: str, **options: object) -> Measured:
        return self._run(self._stock_command(job, options))

    def replicate(
        self, server: str, client: str, *, count: int, store: Path | None = None, client_store: Path | None = None
    ) -> Measured:
        """Fetch a core of `count` blocks; each side is `ours` or `stock`. CPU and peak memory of both.

        `store`, `client_store`: of ours, folders that are there already and that stay.
        """
        serving = {"count": count, "size": SIZE} | ({} if store is None else {"store": store})
        command = self._our_command("serve", serving) if server == "ours" else self._stock_command("serve", serving)
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                ready = json.loads(process.stdout.readline())
                arguments = {"port": ready["port"], "key": ready["key"]}
                arguments |= {} if client_store is None else {"store": client_store}
                fetched = self.ours("client", **arguments) if client == "ours" else self.stock("client", **arguments)
                process.stdin.close()
                served = json.loads(process.stdout.readline())
            finally:
                process.stdin.close()
                if process.poll() is None:
                    try:
                        process.wait(30)
                    except subprocess.TimeoutExpired:
                        process.kill()
        if fetched["tree_hash"] != ready["tree_hash"] or fetched["count"] != count:
            raise RuntimeError(f"the {client} client fetched another log than the {server} server has")
        return {
            "per_second": fetched["per_second"],
            "wall_s": fetched["wall_s"],
            "cpu_s": cpu(fetched) + cpu(served),
            "client_cpu_s": cpu(fetched),
            "server_cpu_s": cpu(served),
            "client_rss_mb": fetched.get("peak_rss_mb"),
            "server_rss_mb": served.get("peak_rss_mb"),
        }

    def _our_command(self, job: str, options: Mapping[str, object]) -> list[str]:
        script = str(HERE / "ours" / "peer.py")
        return [sys.executable, script, job, "--parent", str(self.parent), *flags(options)]

    def _stock_command(self, job: str, options: Mapping[str, object]) -> list[str]:
        return ["node", str(HERE / "stock" / f"{job}.mjs"), *flags(options)]

    def _run(self, command: list[str]) -> Measured:
        found = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=self._environment)
        if found.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {found.returncode}")
        measured: Measured = json.loads(found.stdout.splitlines()[-1])
        return measured


def flags(options: Mapping[str, object]) -> list[str]:
    return [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def cpu(measured: Measured, prefix: str = "") -> float:
    """User and system seconds of the process, all threads."""
    return float(measured[f"{prefix}user_s"] + measured[f"{prefix}system_s"])


@contextmanager
def jobs() -> Iterator[Jobs]:
    """In a fresh folder, on a disk: /tmp may be memory, where a sync costs nothing."""
    parent = Path(os.environ.get("POMONA_BENCH_DIR", "build")).absolute()
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-peers-", dir=parent))
    try:
        yield Jobs(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stock_is_there() -> bool:
    if shutil.which("node") is None or not PACKAGES.is_dir():
        print("bench_peers: Node 20 or the stock packages are missing (run `make interop` once)", file=sys.stderr)
        return False
    return True


# --- rows ------------------------------------------------------------------------------------------------------------

Reading = Callable[[Measured], float]


class Contest:
    """Rounds of the same work by both sides, and the rows that come of them."""

    def __init__(self, ours: list[Measured], stock: list[Measured]) -> None:
        self._ours = ours
        self._stock = stock

    @classmethod
    def of(cls, ours: Callable[[], Measured], stock: Callable[[], Measured]) -> "Contest":
        """Take turns; the first turn changes, so that neither always finds the other's heat."""
        first: list[Measured] = []
        second: list[Measured] = []
        for number in range(ROUNDS):
            if number % 2:
                second.append(stock())
                first.append(ours())
            else:
                first.append(ours())
                second.append(stock())
        return cls(first, second)

    def row(
        self,
        name: str,
        unit: str,
        reading: Reading,
        *,
        reference_name: str,
        better: str = "higher",
        target: float | None = None,
        goal: float | None = None,
        spent: Reading | None = None,
    ) -> Row:
        """`spent`: CPU seconds of the work. Their ratio hardly depends on what else the machine does."""
        ours, stock = list(map(reading, self._ours)), list(map(reading, self._stock))
        ratios = [a / b for a, b in zip(ours, stock, strict=True)]
        ratio = statistics.median(ratios)
        sign = ">=" if better == "higher" else "<="
        wanted = [f"{word}{sign} {bound:g} x" for word, bound in (("", target), ("goal ", goal)) if bound is not None]
        met = None if target is None else ratio >= target if better == "higher" else ratio <= target
        burnt = {}
        if spent is not None:
            burnt = {"ours_cpu_s": self._median(self._ours, spent), "reference_cpu_s": self._median(self._stock, spent)}
        return {
            "name": f"peers: {name}",
            "unit": unit,
            "ours": statistics.median(ours),
            "reference": statistics.median(stock),
            "reference_name": reference_name,
            "ratio": ratio,
            "spread": [min(ratios), max(ratios)],
            "better": better,
            "target": ", ".join(wanted) or None,
            "met": met,
            **burnt,
            "ours_durability": OURS_DURABILITY,
            "reference_durability": STOCK_DURABILITY,
        }

    @staticmethod
    def _median(side: list[Measured], reading: Reading) -> float:
        return statistics.median(map(reading, side))


def bound_row(name: str, unit: str, ours: float, most: float) -> Row:
    """A figure of ours against an absolute bound."""
    return {
        "name": f"peers: {name}",
        "unit": unit,
        "ours": ours,
        "reference": None,
        "reference_name": "",
        "ratio": None,
        "better": "lower",
        "target": f"<= {most:g}",
        "met": ours <= most,
    }


def rate(measured: Measured) -> float:
    return float(measured["per_second"])


def rows(_seconds: float) -> list[Row]:
    """About five minutes on two quiet cores, most of it the stock side's."""
    if not stock_is_there():
        return []
    with jobs() as started:
        return [*append_rows(started), *get_rows(started), *bee_rows(started), *replicate_rows(started)]


def append_rows(started: Jobs) -> list[Row]:
    found = []
    stock_name = "stock Hypercore, each append awaited"
    for batch, count, target, goal in ((1, 5_000, None, None), (100, 50_000, None, None), (1000, 100_000, 1.0, 2.0)):
        same = {"count": count, "size": SIZE, "batch": batch}
        contest = Contest.of(lambda: started.ours("append", **same), lambda: started.stock("append", **same))  # noqa: B023
        name = f"append, batches of {batch}, each awaited (ours: synced)"
        found.append(
            contest.row(
                name,
                "blocks/s",
                rate,
                reference_name=f"{stock_name} (not synced)",
                target=target,
                goal=goal,
                spent=cpu,
            )
        )
    same = {"count": 20_000, "size": SIZE, "batch": 1}
    contest = Contest.of(lambda: started.ours("append", **same, ahead=1000), lambda: started.stock("append", **same))
    name = "append, single blocks, 1000 under way (ours: groups synced)"
    found.append(contest.row(name, "blocks/s", rate, reference_name=f"{stock_name} (not synced)", spent=cpu))
    return found


def get_rows(started: Jobs) -> list[Row]:
    same = {"count": COUNT, "size": SIZE, "gets": GETS}
    contest = Contest.of(lambda: started.ours("get", **same), lambda: started.stock("get", **same))
    return [contest.row("random get, 100,000 blocks", "blocks/s", rate, reference_name="stock Hypercore", spent=cpu)]


def bee_rows(started: Jobs) -> list[Row]:
    same = {"count": COUNT, "size": 100, "batch": 100, "gets": GETS}
    contest = Contest.of(lambda: started.ours("bee", **same), lambda: started.stock("bee", **same))
    name = "Hyperbee of 100,000 keys: "

    def reading(prefix: str, operations: int) -> Reading:
        return lambda measured: operations / measured[f"{prefix}_wall_s"]

    return [
        contest.row(
            name + title,
            "entries/s",
            reading(prefix, count),
            reference_name="stock Hyperbee",
            target=3.0,
            goal=4.0,
            spent=partial(cpu, prefix=f"{prefix}_"),
        )
        for title, prefix, count in (
            ("put, batches of 100", "put", COUNT),
            ("random get", "get", GETS),
            ("full scan", "scan", COUNT),
        )
    ]


def replicate_rows(started: Jobs) -> list[Row]:
    pairs = [("ours", "ours"), ("stock", "stock"), ("ours", "stock"), ("stock", "ours")]
    found: dict[tuple[str, str], list[Measured]] = {pair: [] for pair in pairs}
    for number in range(ROUNDS):
        for server, client in pairs[:: -1 if number % 2 else 1]:
            found[server, client].append(started.replicate(server, client, count=COUNT))
    stock = found["stock", "stock"]
    both = Contest(found["ours", "ours"], stock)
    name, reference = "replicate 100,000 blocks, ", "stock from stock"
    return [
        both.row(f"{name}ours from ours", "blocks/s", rate, reference_name=reference, target=3.0, goal=4.0),
        both.row(
            f"{name}CPU of both sides",
            "s",
            lambda measured: float(measured["cpu_s"]),
            reference_name=reference,
            better="lower",
            target=0.2,
        ),
        Contest(found["ours", "stock"], stock).row(
            f"{name}stock from ours", "blocks/s", rate, reference_name=reference, target=1.0
        ),
        Contest(found["stock", "ours"], stock).row(
            f"{name}ours from stock", "blocks/s", rate, reference_name=reference
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; may be repeated")
    options = parser.parse_args()
    print(NOTE, file=sys.stderr)
    if not stock_is_there():
        sys.exit(1)
    with jobs() as started:
        for part in options.part or PARTS:
            began = time.monotonic()
            for row in PARTS[part](started):
                print(json.dumps(row), flush=True)
            print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr)


PARTS: Final = {"append": append_rows, "get": get_rows, "bee": bee_rows, "replicate": replicate_rows}

if __name__ == "__main__":
    main()
