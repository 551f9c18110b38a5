"""What the networks of a box report about themselves. One `NetworkMetrics` a registry; each network has a view of it.

Connections and replication count where they are: a view gives them counters that bear the network's name. A box has few
networks, so the name is a label with few values; members, keys and addresses are none.

    pomona_network_bytes_total{network, direction, layer}      layer wire / layer payload - 1 is what encryption, proofs
                                                               and the protocol cost
"""

import copy
from collections.abc import Callable
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge

from edge.hypercore.replicator import ReplicationMetrics
from edge.hyperswarm.metrics import SwarmMetrics
from edge.networks.access import FeedKind


class _Counter(Protocol):
    def inc(self, amount: float = 1) -> None: ...


class _Both:
    """Raises two counters."""

    __slots__ = ("_one", "_other")

    def __init__(self, one: _Counter, other: _Counter) -> None:
        self._one, self._other = one, other

    def inc(self, amount: float = 1) -> None:
        self._one.inc(amount)
        self._other.inc(amount)


class NetworkMetrics:
    """`unauthorized_attempts` is the box's metric of this name (labels `surface`, `reason`), where there is one."""

    __slots__ = ("bytes", "conflicts", "connections", "lag", "replication", "swarm", "unauthorized_attempts")

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        replication: ReplicationMetrics | None = None,
        unauthorized_attempts: Counter | None = None,
    ) -> None:
        self.connections = Gauge(
            "pomona_peer_connections", "Peers, by network.", ["network", "state"], registry=registry
        )
        self.lag = Gauge(
            "pomona_sync_lag_blocks",
            "Blocks that peers have shown and we lack.",
            ["network", "feed_kind"],
            registry=registry,
        )
        self.bytes = Counter(
            "pomona_network_bytes", "Bytes to and from members.", ["network", "direction", "layer"], registry=registry
        )
        self.conflicts = Counter(
            "pomona_feed_conflicts", "Feeds whose writer signed two histories.", ["network"], registry=registry
        )
        self.unauthorized_attempts = unauthorized_attempts or Counter(
            "pomona_unauthorized_attempts", "Refused for who asked.", ["surface", "reason"], registry=registry
        )
        self.replication = replication or ReplicationMetrics(registry)
        others = CollectorRegistry()  # its gauge of all connections has the name of ours, which tells networks apart
        self.swarm = SwarmMetrics(others)
        for metric in (self.swarm.handshakes_failed, self.swarm.drops, self.swarm.strikes, self.swarm.bans):
            registry.register(metric)
        registry.register(self.swarm.messages)

    def of(self, network: str) -> "MetricsView":
        """The part of one network."""
        return MetricsView(self, network)


class MetricsView:
    """The metrics of one network."""

    __slots__ = ("_all", "_network", "replication", "swarm")

    def __init__(self, metrics: NetworkMetrics, network: str) -> None:
        self._all = metrics
        self._network = network
        counters = {
            (direction, layer): metrics.bytes.labels(network=network, direction=direction, layer=layer)
            for direction in ("in", "out")
            for layer in ("wire", "payload")
        }
        self.swarm = copy.copy(metrics.swarm)
        self.swarm.connections = metrics.connections.labels(network=network, state="open")
        self.swarm.bytes_in, self.swarm.bytes_out = counters["in", "wire"], counters["out", "wire"]
        self.replication = copy.copy(metrics.replication)
        shared = metrics.replication
        self.replication.bytes_received = _Both(shared.bytes_received, counters["in", "payload"])  # type: ignore[assignment]
        self.replication.bytes_sent = _Both(shared.bytes_sent, counters["out", "payload"])  # type: ignore[assignment]
        metrics.conflicts.labels(network=network)

    def watch(self, *, handshaking: Callable[[], int], banned: Callable[[], int]) -> None:
        """Read connections that are not open from the listener."""
        self._all.connections.labels(network=self._network, state="handshake").set_function(handshaking)
        self._all.connections.labels(network=self._network, state="banned").set_function(banned)

    def watch_lag(self, kind: FeedKind, lag: Callable[[], int]) -> None:
        """Read the lag of one kind of feed when somebody asks."""
        self._all.lag.labels(network=self._network, feed_kind=kind.name.lower()).set_function(lag)

    def conflict(self) -> None:
        """A member's feed shows two histories."""
        self._all.conflicts.labels(network=self._network).inc()

    def refused(self, reason: str) -> None:
        """Somebody wanted to connect who may not."""
        self._all.unauthorized_attempts.labels(surface="peer", reason=reason).inc()
