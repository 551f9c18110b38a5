"""Conventions of the box's metrics, and the three ways to show them: text for Prometheus, a tree for people, a check.

How a part has metrics: it owns a small class, `XMetrics(registry: CollectorRegistry)`, that makes its counters, gauges
and histograms with `registry=registry`, and is handed an instance. Values that already lie in an object are better
read when somebody asks: a `Collector` registered by the part (`edge.memory.metrics`). There is no default registry.
What several parts feed stands in `SharedMetrics`, one a registry, made by the application and handed to them.

Names are `pomona_…` in base units (seconds, bytes, ratio), counters end in `_total`; see prometheus.io/docs/practices/
naming. A label has few values, known beforehand: never a SKU, till, receipt, shop or key. `check_conventions` holds
all this; tests call it on a box's registry after it has worked.
"""

import math
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from edge.errors import LocalError
from edge.limits import METRIC_BUCKETS_MAX, METRIC_SERIES_MAX

Value = float | int | None
Tree = dict[str, "Value | dict[str, Value] | dict[str, dict[str, Value]]"]

_PREFIXES: Final = ("pomona_", "process_")
_NOT_BASE_UNITS: Final = frozenset(
    {"ms", "milliseconds", "us", "minutes", "hours", "kb", "kib", "mb", "mib", "percent"}
)
_LABELS_FORBIDDEN: Final = frozenset({"sku", "gtin", "item", "till", "lane", "receipt", "shop", "store", "gln", "key"})
_LABELS_MAX: Final = 3
_QUANTILES: Final = (("p50", 0.5), ("p99", 0.99))


class SharedMetrics:
    """Metrics that several parts feed, one label value or two each; and the process's own, read from /proc."""

    __slots__ = ("queue_depth", "unauthorized_attempts", "validation_failures")

    def __init__(self, registry: CollectorRegistry) -> None:
        self.queue_depth = Gauge("pomona_queue_depth", "Entries waiting.", ["queue"], registry=registry)
        self.validation_failures = Counter(
            "pomona_validation_failures_total", "Input refused.", ["source", "reason"], registry=registry
        )
        self.unauthorized_attempts = Counter(
            "pomona_unauthorized_attempts_total", "Refused for who asked.", ["surface", "reason"], registry=registry
        )
        ProcessCollector(
            registry=registry
        )  # process_resident_memory_bytes, process_cpu_seconds_total, process_open_fds


class _Clean(Collector):
    """A registry without the `_created` series, which would double the number of series and tell nobody anything."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """The families, each without its creation times."""
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


def exposition(registry: CollectorRegistry) -> bytes:
    """The Prometheus text format, version 0.0.4, UTF-8."""
    return generate_latest(_Clean(registry))


def series(registry: CollectorRegistry) -> list[Sample]:
    """Every series of this moment."""
    return [sample for family in _Clean(registry).collect() for sample in family.samples]


def status_tree(registry: CollectorRegistry) -> Tree:
    """The metrics for a person or a script: name → value, or name → {"label=value,…": value}.

    Histograms become {count, sum, p50, p99}: quantiles are interpolated within their bucket, and are the last finite
    bound where they lie beyond it. Values that JSON cannot hold (NaN, infinite) become None.
    """
    tree: Tree = {}
    for family in sorted(_Clean(registry).collect(), key=lambda family: family.name):
        name = family.name + ("_total" if family.type == "counter" else "")
        if family.type == "histogram":
            found = {key: _summary(samples) for key, samples in _by_labels(family).items()}
            tree[name] = found[""] if list(found) == [""] else found
        else:
            values = {_label_text(sample.labels): _plain(sample.value) for sample in family.samples}
            tree[name] = values[""] if list(values) == [""] else values
    return tree


def check_conventions(registry: CollectorRegistry) -> None:
    """Raise `LocalError` naming every metric that breaks the conventions above, or if there are too many series."""
    faults: list[str] = []
    count = 0
    for family in _Clean(registry).collect():
        count += len(family.samples)
        if not family.name.startswith(_PREFIXES):
            faults.append(f"{family.name}: must start with pomona_")
        if not family.documentation:
            faults.append(f"{family.name}: says nothing about itself")
        wrong = sorted(_NOT_BASE_UNITS.intersection(family.name.split("_")))
        if wrong:
            faults.append(f"{family.name}: {wrong[0]} is not a base unit")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        if labels & _LABELS_FORBIDDEN or len(labels) > _LABELS_MAX:
            faults.append(f"{family.name}: labels {', '.join(sorted(labels))}")
        if family.type == "histogram":
            bounds = {sample.labels["le"] for sample in family.samples if "le" in sample.labels}
            if len(bounds) > METRIC_BUCKETS_MAX + 1:
                faults.append(f"{family.name}: {len(bounds) - 1} buckets, at most {METRIC_BUCKETS_MAX}")
    if count > METRIC_SERIES_MAX:
        faults.append(f"{count} series, at most {METRIC_SERIES_MAX}")
    if faults:
        raise LocalError("metrics: " + "; ".join(faults))


def _label_text(labels: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()) if name != "le")


def _by_labels(family: Metric) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in family.samples:
        found.setdefault(_label_text(sample.labels), []).append(sample)
    return found


def _plain(value: float) -> Value:
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) and abs(value) < 2**53 else value


def _summary(samples: list[Sample]) -> dict[str, Value]:
    """{count, sum, p50, p99} of one histogram's samples."""
    buckets = [(float(s.labels["le"]), s.value) for s in samples if s.name.endswith("_bucket")]
    total = next(s.value for s in samples if s.name.endswith("_count"))
    amount = next(s.value for s in samples if s.name.endswith("_sum"))
    answer: dict[str, Value] = {"count": _plain(total), "sum": _plain(amount)}
    for name, quantile in _QUANTILES:
        answer[name] = _quantile(buckets, quantile * total) if total else None
    return answer


def _quantile(buckets: list[tuple[float, float]], rank: float) -> float:
    """Value at `rank` of cumulative `buckets` (upper bound, count), as Prometheus' histogram_quantile reckons it."""
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (rank - below) / (count - below) if count > below else bound
        low, below = bound, count
    return low
