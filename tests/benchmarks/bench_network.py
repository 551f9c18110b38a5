"""A network at work between two boxes on loopback: what encryption and proofs add to what is said, and how fast it is.

One shop says `MESSAGES` trends of a whole category (21 rows each), the other is connected and reads them through
`NetworkNode.next`. Overhead is bytes on the wire over bytes of blocks, less 1, as the box's own counters
(`pomona_network_bytes_total`) tell both: Noise and secret stream, Hypercore's proofs and messages, block encryption.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

HERE = Path(__file__).parent
for folder in ("support", "edge/networks", "edge/hypercore"):
    if str(HERE.parent / folder) not in sys.path:
        sys.path.append(str(HERE.parent / folder))

from support_network_boxes import Box, Founder, Reader, listed  # noqa: E402 - needs the path
from support_shared import payload_of  # noqa: E402

from edge.networks.metrics import NetworkMetrics  # noqa: E402
from edge.networks.outlet import PrivateOutlet  # noqa: E402
from edge.privacy.released import cleared  # noqa: E402
from edge.records.shared import TrendUpdate  # noqa: E402

MESSAGES = 4000
BATCH = 200
ROWS = ["", *(f"40123456{number:05}" for number in range(20))]


def rows(seconds: float) -> list[dict[str, object]]:
    """The benchmark's rows; takes about 15 s whatever `seconds` says."""
    del seconds
    return asyncio.run(measured())


async def measured() -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        registry = CollectorRegistry()
        one = await Founder.found(Path(folder) / "one")
        other = Box(Path(folder) / "other")
        other.metrics = NetworkMetrics(registry).of("chain")
        try:
            await one.start()
            await one.admit(other)
            await other.start(one)
            return await between(one, other, registry)
        finally:
            await other.stop()
            await one.stop()


async def between(one: Founder, other: Box, registry: CollectorRegistry) -> list[dict[str, object]]:
    outlet = one.running.outlet()
    assert isinstance(outlet, PrivateOutlet)
    tokens = []
    for _ in range(MESSAGES):
        payload = payload_of(TrendUpdate, skus=ROWS)
        tokens.append(cleared(one.running.feeds.network_id, payload, listed(payload)))
    reader = Reader(other.running)
    before = {layer: value(registry, layer) for layer in ("wire", "payload")}
    began, worked = time.perf_counter(), time.process_time()
    for at in range(0, MESSAGES, BATCH):
        await outlet.append_all(tokens[at : at + BATCH])
    said = time.perf_counter() - began
    while len(reader.arrivals) < MESSAGES:
        if not await reader.take(1000):
            await other.running.changed()
    heard, cpu = time.perf_counter() - began, time.process_time() - worked
    wire, payload_bytes = (value(registry, layer) - before[layer] for layer in ("wire", "payload"))
    size = len(reader.arrivals[0].block)
    return [
        row(f"say {MESSAGES:,} trends of {len(ROWS)} rows ({size} B)", "messages/s", MESSAGES / said, "higher"),
        row("said, replicated, verified and read by another box", "messages/s", MESSAGES / heard, "higher"),
        row("the same, both boxes in one process", "messages/CPU-s", MESSAGES / cpu, "higher"),
        row("encryption overhead: wire / payload - 1", "ratio", wire / payload_bytes - 1.0, "lower"),
    ]


def value(registry: CollectorRegistry, layer: str) -> float:
    labels = {"network": "chain", "direction": "in", "layer": layer}
    return registry.get_sample_value("pomona_network_bytes_total", labels) or 0.0


def row(name: str, unit: str, ours: float, better: str) -> dict[str, object]:
    return {
        "name": name,
        "unit": unit,
        "ours": ours,
        "reference": None,
        "reference_name": None,
        "ratio": None,
        "better": better,
        "target": None,
        "met": None,
    }
