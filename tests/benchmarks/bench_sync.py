"""The accept path into the network memory, and what a thousand peers take of a box's RAM.

Messages are signed beforehand; the time is that of `SyncManager.accept`: decoding, every rule of the gate, the
signature, and the memory. The reference is the signature check alone, in the same run: what no accept
path can do without. The memory of a thousand peers is measured in a process of its own, which holds nothing else: as a
box's process would, it asks for all pooled answers once.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
if str(HERE.parent / "support") not in sys.path:
    sys.path.append(str(HERE.parent / "support"))

from support_shared import NOW, WEEK_NOW, epoch_of, network_of, payload_of, shop_of  # noqa: E402 - needs the path

from edge.crypto.keys import signature_valid  # noqa: E402
from edge.memory.network import NetworkPriceMemory  # noqa: E402
from edge.memory.sync import Surroundings, SyncManager  # noqa: E402
from edge.memory.validator import DataValidator  # noqa: E402
from edge.networks.access import feed_of  # noqa: E402
from edge.networks.following import Arrival  # noqa: E402
from edge.networks.policy import NetworkPolicy  # noqa: E402
from edge.records.message import Network, decode, signable  # noqa: E402
from edge.records.shared import ModelInsight, Payload, RangeUpdate, TrendUpdate  # noqa: E402

PEERS = 1000
CATEGORIES = 20
ITEMS = 20  # of a category, beside its own row
RSS_MB_MAX = 130
KINDS: tuple[type[Payload], ...] = (ModelInsight, TrendUpdate, RangeUpdate)
POLICY = NetworkPolicy(live_use=True)


class NoReader:
    """Arrivals are handed over."""

    async def next(self, cursor: Mapping[bytes, int], limit: int) -> list[Arrival]:
        return []

    async def changed(self) -> None:
        return None


def skus(items: int) -> list[str]:
    return ["", *(f"40123456{number:05}" for number in range(items))]


def accept_row(kind: type[Payload], items: int, seconds: float) -> dict[str, object]:
    """Messages a second of one kind and size, by CPU time."""
    shops = [shop_of(Network.PRIVATE, number) for number in range(16)]
    roster, epoch = network_of(Network.PRIVATE, shops, policy=POLICY), epoch_of(1)
    arrivals, checks = [], []
    for shop in shops:
        for sequence in range(24):
            week = WEEK_NOW - 1 - sequence % 4
            payload = payload_of(kind, week=week, category=f"category {sequence}", skus=skus(items))
            feed = feed_of(payload)
            place = shop.place(roster.network_id, epoch, feed, sequence)
            block = shop.block(roster, epoch, feed, sequence, payload)
            arrivals.append(Arrival(roster.network_id, shop.member.id, feed, 1, place.feed_key, sequence, block))
            message = decode(block)
            checks.append((shop.signers[feed].public_key, signable(message, place), message.signature))
    surroundings = Surroundings(roster, {1: epoch}, NOW)
    used, bare, count, turns = 0.0, 0.0, 0, 0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends or not turns:
        memory = NetworkPriceMemory(roster, currency="EUR")
        manager = SyncManager(memory, DataValidator(roster.network_id), NoReader(), lambda: surroundings)
        started = time.process_time()
        taken = asyncio.run(manager.accept(arrivals))
        used += time.process_time() - started
        assert taken.accepted == len(arrivals), taken
        assert memory.counts.taken == len(arrivals)
        started = time.process_time()
        assert all(signature_valid(*check) for check in checks)
        bare += time.process_time() - started
        count, turns = count + len(arrivals), turns + 1
    ours, reference = count / used, count / bare
    size = sum(len(arrival.block) for arrival in arrivals) // len(arrivals)
    return {
        "name": f"accept into the memory, {kind.__name__} of {items + 1} rows ({size} bytes)",
        "unit": "messages/s a core",
        "ours": ours,
        "reference": reference,
        "reference_name": "Ed25519 check of the same bytes alone",
        "ratio": ours / reference,
        "better": "higher",
        "target": None,
        "met": None,
    }


def resident_mb() -> float:
    """Of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS in /proc/self/status")


def hold() -> dict[str, float]:
    """What a thousand peers' records take, in this process."""
    shops = [shop_of(Network.PRIVATE, number) for number in range(PEERS)]
    roster = network_of(Network.PRIVATE, shops, policy=POLICY)
    before = resident_mb()
    memory = NetworkPriceMemory(roster, currency="EUR")
    applied, started = 0, time.process_time()
    for week in (WEEK_NOW - 2, WEEK_NOW - 1):
        for category in range(CATEGORIES):
            for kind in KINDS:
                payload = payload_of(kind, week=week, category=f"category {category}", skus=skus(ITEMS))
                for shop in shops:
                    memory.apply(shop.member.id, 1, applied, payload)
                    applied += 1
    applying = time.process_time() - started
    started = time.process_time()
    answers = sum(len(memory.insights(category)) for category in memory.categories("insights"))
    for name in memory.categories("trends"):
        memory.trend(name)
        memory.ranges(name)
    return {
        "before": before,
        "rss": resident_mb(),
        "charged": memory.bytes_used / 2**20,
        "held": sum(1 for _ in memory.heard.records()),
        "applied": applied,
        "apply_us": applying / applied * 1e6,
        "answers": answers,
        "peers": statistics.mean(memory.insights(name)[""]["price"].shops for name in memory.categories("insights")),
        "ask_s": time.process_time() - started,
    }


def memory_rows() -> list[dict[str, object]]:
    """In a process of its own."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__)), "--hold"], capture_output=True, text=True, check=True, timeout=600
    )
    found: dict[str, Any] = json.loads(done.stdout)
    what = f"{PEERS} peers, {CATEGORIES} categories of {ITEMS} items"
    return [
        {
            "name": f"RSS of a process with the memory of {what}",
            "unit": f"MB ({found['before']:.0f} before; {found['charged']:.0f} MB charged, {found['held']} records)",
            "ours": found["rss"],
            "reference": RSS_MB_MAX,
            "reference_name": "limit",
            "ratio": found["rss"] / RSS_MB_MAX,
            "better": "lower",
            "target": f"at most {RSS_MB_MAX} MB",
            "met": found["rss"] <= RSS_MB_MAX,
        },
        {
            "name": "a record into that memory",
            "unit": "us CPU",
            "ours": found["apply_us"],
            "better": "lower",
        },
        {
            "name": f"all pooled answers of that memory, {found['answers']} items, of {found['peers']:.0f} peers",
            "unit": "s CPU",
            "ours": found["ask_s"],
            "better": "lower",
        },
    ]


def rows(seconds: float) -> list[dict[str, object]]:
    """Three sizes of messages, then the memory; about `seconds`."""
    share = min(seconds, 60.0) / 8
    sizes = ((TrendUpdate, 0), (ModelInsight, ITEMS), (RangeUpdate, ITEMS))
    return [*(accept_row(kind, items, share) for kind, items in sizes), *memory_rows()]


if __name__ == "__main__":
    if "--hold" in sys.argv:
        print(json.dumps(hold()))
    else:
        print(json.dumps(rows(20.0), indent=1))
