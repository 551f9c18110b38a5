"""What the peer layer reports about itself. One `SwarmMetrics` a registry; all connections of the process share it."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from edge.errors import RemoteError


class SwarmMetrics:
    """Counters of everything that peers send and break; labels are `RemoteError.reason`, a few dozen fixed words."""

    __slots__ = ("bans", "bytes_in", "bytes_out", "connections", "drops", "handshakes_failed", "messages", "strikes")

    def __init__(self, registry: CollectorRegistry) -> None:
        self.connections = Gauge("pomona_peer_connections", "Peers connected now.", registry=registry)
        self.handshakes_failed = Counter(
            "pomona_peer_handshakes_failed_total", "Connections that never became peers.", ["reason"], registry=registry
        )
        self.drops = Counter(
            "pomona_peer_drops_total", "Peers dropped for what they did.", ["reason"], registry=registry
        )
        wire = Counter("pomona_peer_wire_bytes_total", "Bytes of peer connections.", ["direction"], registry=registry)
        self.bytes_in = wire.labels(direction="in")
        self.bytes_out = wire.labels(direction="out")
        self.messages = Counter("pomona_peer_messages_total", "Messages received on channels.", registry=registry)
        self.strikes = Counter(
            "pomona_peer_strikes_total", "Invalid messages of peers that stayed.", ["reason"], registry=registry
        )
        self.bans = Counter(
            "pomona_peer_bans_total", "Keys and addresses banned for a time.", ["reason"], registry=registry
        )

    def ended(self, error: Exception | None, *, handshaken: bool) -> None:
        """A connection is over, before or after its handshake was done."""
        reason = error.reason if isinstance(error, RemoteError) else "closed"
        if not handshaken:
            self.handshakes_failed.labels(reason=reason).inc()
            return
        self.connections.dec()
        if isinstance(error, RemoteError):
            self.drops.labels(reason=reason).inc()
