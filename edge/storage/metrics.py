"""What the storage reports about itself. One `StorageMetrics` a registry; every log of the process shares it."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_COMMIT_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0)  # NVMe to a worn SD card
_COMMIT_RECORDS = (1, 2, 5, 10, 20, 50, 100, 500, 1000, 4096)


class StorageMetrics:
    """Histograms are fed by the committers; the gauges ask every watched log when they are read.

    `queue_depth` is the box's gauge of that name (label `queue`), where the registry already has one.
    """

    __slots__ = ("_depths", "_sizes", "commit_duration", "commit_failures", "commit_records", "written_bytes")

    def __init__(self, registry: CollectorRegistry, *, queue_depth: Gauge | None = None) -> None:
        self._depths: dict[object, Callable[[], int]] = {}
        self._sizes: dict[object, Callable[[], int]] = {}
        self.commit_duration = Histogram(
            "pomona_commit_duration_seconds",
            "Time to write and sync one group of records.",
            buckets=_COMMIT_SECONDS,
            registry=registry,
        )
        self.commit_records = Histogram(
            "pomona_commit_records", "Records that one sync made durable.", buckets=_COMMIT_RECORDS, registry=registry
        )
        self.commit_failures = Counter(
            "pomona_commit_failures_total", "Groups dropped because the disk failed.", ["fault"], registry=registry
        )
        self.written_bytes = Counter(
            "pomona_storage_written_bytes_total", "Bytes handed to the disk, zero-filling included.", registry=registry
        )
        size = Gauge("pomona_storage_bytes", "Bytes of the log's files.", registry=registry)
        size.set_function(lambda: sum(read() for read in list(self._sizes.values())))
        if queue_depth is None:
            queue_depth = Gauge("pomona_queue_depth", "Entries waiting.", ["queue"], registry=registry)
        depth = queue_depth.labels(queue="commit")
        depth.set_function(lambda: sum(read() for read in list(self._depths.values())))

    def watch(self, owner: object, *, depth: Callable[[], int], size: Callable[[], int]) -> None:
        """Count `owner`'s waiting records and bytes in the gauges, until `forget`."""
        self._depths[owner] = depth
        self._sizes[owner] = size

    def forget(self, owner: object) -> None:
        """Leave `owner` out again."""
        self._depths.pop(owner, None)
        self._sizes.pop(owner, None)
