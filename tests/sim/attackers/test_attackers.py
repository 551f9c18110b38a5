"""A short run of every attack, on a serving peer and on one that clones; figures are for `soak_attackers.py`."""

import asyncio
from pathlib import Path

import psutil
import pytest
from prometheus_client import CollectorRegistry
from support_attack_trial import trial
from support_attacks import RATES
from support_bad_servers import LIES, serve_lies

from edge.crypto.keys import KeyPair
from edge.errors import RemoteError
from edge.hypercore.corestore import Corestore
from edge.hypercore.replicator import ReplicationMetrics
from edge.hyperswarm.connection import Connection, connect
from edge.hyperswarm.metrics import SwarmMetrics
from edge.hyperswarm.server import serve

BLOCKS = 2000
GROWTH_MAX_MB = 64.0
LYING_S = 3.0
DROPPED = {"unsolicited", "enormous"}  # the others are left alone for longer each time, and get few words in


@pytest.mark.parametrize("scenario", ["several", "many"])
def test_a_serving_peer_under_attack(tmp_path: Path, scenario: str) -> None:
    """Honest clones complete, memory is bounded, and what was done is counted by its reason."""
    result = trial(tmp_path, scenario, seconds=5, phase_s=2, blocks=BLOCKS)
    assert result.growth_mb <= GROWTH_MAX_MB
    assert result.clones_attacked > 0
    assert set(result.attacks) >= {attack.__name__ for attack in RATES}
    counters = result.counters
    reasons = {name.partition("[")[2].rstrip("]") for name in counters if name.startswith("peer_strikes_total")}
    assert {"capability", "invalid_request", "unasked"} <= reasons
    assert counters["peer_bans_total[strikes]"] > 0
    assert counters["peer_handshakes_failed_total[handshake_length]"] > 0
    if scenario == "several":
        assert counters["peer_handshakes_failed_total[banned]"] > 0


@pytest.mark.parametrize("kind", LIES)
async def test_a_cloning_peer_and_a_server_that_lies(tmp_path: Path, kind: str) -> None:
    """The liar gets nowhere: what is believed is true, memory is bounded, and an honest peer completes the clone."""
    swarm = SwarmMetrics(CollectorRegistry())
    registry = CollectorRegistry()
    process = psutil.Process()
    async with (
        await Corestore.open(tmp_path / "served") as served,
        await Corestore.open(tmp_path / "clone", replication_metrics=ReplicationMetrics(registry)) as clone,
    ):
        core = await served.get("prices")
        await core.append([index.to_bytes(4) * 40 for index in range(BLOCKS)], urgent=True)
        liar = await serve_lies(core, LIES[kind]())
        copy = await clone.get(key=core.key)
        done = copy.download(0, BLOCKS).done
        before = process.memory_info().rss
        bad = await connect("127.0.0.1", liar.port, key_pair=KeyPair.generate(), metrics=swarm)
        clone.replicate(bad)
        gone = asyncio.ensure_future(bad.wait_closed())
        await asyncio.wait([done, gone], timeout=LYING_S, return_when=asyncio.FIRST_COMPLETED)
        strikes, error = bad.strikes, bad.error
        gone.cancel()
        honest = await serve(
            "127.0.0.1", 0, key_pair=KeyPair.generate(), on_connection=lambda connection: _attach(served, connection)
        )
        good = await connect("127.0.0.1", honest.port, key_pair=KeyPair.generate())
        clone.replicate(good)
        async with asyncio.timeout(60):
            while copy.length < BLOCKS:
                await copy.changed(copy.length, copy.fork)
            await copy.download(0, BLOCKS).done
        grown = (process.memory_info().rss - before) / 1024 / 1024
        assert grown <= GROWTH_MAX_MB
        assert (copy.length, copy.tree_hash()) == (BLOCKS, core.tree_hash())
        assert list(copy.blocks()) == list(core.blocks())
        assert copy.frozen is None
        assert strikes > 0
        if kind in DROPPED:
            assert isinstance(error, RemoteError)
            assert error.reason == "strikes"
        for connection in (bad, good):
            connection.close()
            await connection.wait_closed()
        await liar.close()
        await honest.close()


def _attach(store: Corestore, connection: Connection) -> None:
    store.replicate(connection)
