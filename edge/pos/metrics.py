"""What the tills' side reports about itself. One `PosMetrics` a registry; no till, item or shop is ever a label."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from edge.pos.intake import Verdict

_ACK_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_GROUP_RECEIPTS = (1, 2, 5, 10, 20, 50, 100, 500, 2000)


class PosMetrics:
    """Counters and histograms fed by `PosService`; gauges that ask it when they are read.

    `queue_depth` and `validation_failures` are the box's metrics of these names (labels `queue`; `source`, `reason`)
    where the registry already has them.
    """

    __slots__ = ("_queue", "ack_duration", "connected", "group", "lanes", "missing", "sales", "validation_failures")

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        queue_depth: Gauge | None = None,
        validation_failures: Counter | None = None,
    ) -> None:
        self.sales = Counter(
            "pomona_sales_total", "Messages of tills, by what became of them.", ["result"], registry=registry
        )
        for verdict in Verdict:
            self.sales.labels(result=verdict.value)
        self.validation_failures = validation_failures or Counter(
            "pomona_validation_failures_total", "Input refused.", ["source", "reason"], registry=registry
        )
        self.ack_duration = Histogram(
            "pomona_ack_duration_seconds",
            "From the oldest message an acknowledgement covers to its leaving, the disk's sync in between.",
            buckets=_ACK_SECONDS,
            registry=registry,
        )
        self.group = Histogram(
            "pomona_intake_group_receipts", "Receipts stored by one append.", buckets=_GROUP_RECEIPTS, registry=registry
        )
        self.connected = Gauge("pomona_mqtt_connected", "1 while the broker holds our connection.", registry=registry)
        self.lanes = Gauge("pomona_till_lanes", "Lanes that have ever sent something.", registry=registry)
        self.missing = Gauge(
            "pomona_till_missing_receipts", "Sequence numbers of tills that never came.", registry=registry
        )
        queue_depth = queue_depth or Gauge("pomona_queue_depth", "Entries waiting.", ["queue"], registry=registry)
        self._queue = queue_depth.labels(queue="intake")

    def watch(
        self,
        *,
        queue: Callable[[], int],
        connected: Callable[[], bool],
        lanes: Callable[[], int],
        missing: Callable[[], int],
    ) -> None:
        """Ask these when the gauges are read."""
        self._queue.set_function(queue)
        self.connected.set_function(connected)
        self.lanes.set_function(lanes)
        self.missing.set_function(missing)
