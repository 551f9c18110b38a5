"""What replication reports about itself. One `ReplicationMetrics` a registry; every core of the process shares it."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from edge.hypercore.messages import Request


def kind_of(request: Request) -> str:
    """What a request is mainly about; a label."""
    if request.upgrade is not None:
        return "upgrade"
    if request.block is not None:
        return "block"
    if request.seek is not None:
        return "seek"
    return "hash" if request.hash is not None else "manifest"


class ReplicationMetrics:
    """Counters are raised once a batch of messages; the lag asks every watched core when it is read."""

    __slots__ = (
        "_lags",
        "blocks_received",
        "blocks_sent",
        "bytes_received",
        "bytes_sent",
        "conflicts",
        "duplicates",
        "hotswaps",
        "invalid",
        "refused",
        "reorgs",
        "requests_received",
        "requests_sent",
        "timeouts",
    )

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"pomona_replication_{name}_total", text, labels, registry=registry)

        self._lags: dict[object, Callable[[], int]] = {}
        self.blocks_received = counter("blocks_received", "Blocks taken from peers, checked.")
        self.blocks_sent = counter("blocks_sent", "Blocks given to peers.")
        self.bytes_received = counter("received_bytes", "Bytes of blocks taken from peers.")
        self.bytes_sent = counter("sent_bytes", "Bytes of blocks given to peers.")
        self.requests_sent = counter("requests_sent", "Requests to peers.", "kind")
        self.requests_received = counter("requests_received", "Requests of peers.", "kind")
        self.refused = counter("refused", "Requests of ours that a peer did not answer with data.")
        self.invalid = counter("invalid", "Messages of peers that break the rules.", "reason")
        self.duplicates = counter("duplicates", "Blocks that came though nobody waited for them any more.")
        self.hotswaps = counter("hotswaps", "Requests taken from a slow peer and given to an idle one.")
        self.timeouts = counter("timeouts", "Peers that owed answers and fell silent.")
        self.reorgs = counter("reorgs", "Forks that were followed.")
        self.conflicts = counter("conflicts", "Cores frozen because their writer signed two logs.")
        lag = Gauge("pomona_replication_lag_blocks", "Blocks that peers have shown and we lack.", registry=registry)
        lag.set_function(lambda: sum(read() for read in list(self._lags.values())))

    def watch(self, owner: object, *, lag: Callable[[], int]) -> None:
        """Count `owner`'s lag in the gauge, until `forget`."""
        self._lags[owner] = lag

    def forget(self, owner: object) -> None:
        """Leave `owner` out again."""
        self._lags.pop(owner, None)
