"""The price memory's metrics, read from it when somebody asks, so that the memory itself knows nothing of metrics."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge.memory.local import LocalPriceMemory


class MemoryCollector(Collector):
    """Gauges and counters of one `LocalPriceMemory`."""

    def __init__(self, memory: LocalPriceMemory, registry: CollectorRegistry) -> None:
        self._memory = memory
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The values of this moment."""
        memory, counts = self._memory, self._memory.counts
        yield GaugeMetricFamily("pomona_memory_bytes", "Held by the price memory", memory.bytes_used)
        yield GaugeMetricFamily("pomona_memory_limit_bytes", "What it may hold", memory.config.bytes_max)
        yield GaugeMetricFamily("pomona_memory_weeks", "Weeks remembered", len(memory.weeks))
        yield GaugeMetricFamily("pomona_memory_items", "SKUs known", len(memory.catalogue.skus))
        yield GaugeMetricFamily("pomona_memory_rows", "Sums held, by week, SKU and price", memory.sales.rows)
        receipts = CounterMetricFamily("pomona_memory_receipts", "Receipts given to it", labels=["result"])
        for result in ("counted", "cancelled", "duplicate", "uncounted", "forgotten", "unresolved", "currency"):
            receipts.add_metric([result], getattr(counts, result))
        yield receipts
        yield CounterMetricFamily(
            "pomona_memory_unlisted_lines", "Receipt lines of SKUs it had no room for", counts.unlisted_lines
        )
        yield CounterMetricFamily("pomona_memory_evicted_weeks", "Weeks forgotten for room", counts.evicted_weeks)
        queries = CounterMetricFamily("pomona_memory_queries", "Small questions by answer", labels=["result"])
        queries.add_metric(["hit"], memory.cache.hits)
        queries.add_metric(["miss"], memory.cache.misses)
        yield queries

    def describe(self) -> Iterator[Metric]:
        """Names for the registry's check for duplicates."""
        return self.collect()
