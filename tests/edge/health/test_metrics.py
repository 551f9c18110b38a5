import json
import math

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from edge.errors import LocalError
from edge.health.metrics import SharedMetrics, check_conventions, exposition, series, status_tree
from edge.limits import METRIC_SERIES_MAX


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_the_text_is_what_prometheus_reads_and_has_no_creation_times(registry: CollectorRegistry) -> None:
    counter = Counter("pomona_sales_total", "Receipts.", ["result"], registry=registry)
    counter.labels(result="new").inc(3)
    text = exposition(registry).decode()
    assert "_created" not in text
    families = list(text_string_to_metric_families(text))
    assert [(f.name, f.type) for f in families] == [("pomona_sales", "counter")]
    assert families[0].samples[0].labels == {"result": "new"}
    assert families[0].samples[0].value == 3


def test_the_tree_is_json_and_names_every_metric(registry: CollectorRegistry) -> None:
    SharedMetrics(registry).queue_depth.labels(queue="commit").set(4)
    Gauge("pomona_lag_seconds", "Lag.", registry=registry).set(math.nan)
    Counter("pomona_sales_total", "Receipts.", registry=registry).inc(2)
    tree = status_tree(registry)
    assert tree["pomona_queue_depth"] == {"queue=commit": 4}
    assert tree["pomona_lag_seconds"] is None
    assert tree["pomona_sales_total"] == 2
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree


def test_a_histogram_becomes_its_count_sum_and_quantiles(registry: CollectorRegistry) -> None:
    histogram = Histogram("pomona_wait_seconds", "Wait.", buckets=(1, 2, 4), registry=registry)
    assert status_tree(registry)["pomona_wait_seconds"] == {"count": 0, "sum": 0, "p50": None, "p99": None}
    for value in (0.5, 1.5, 1.5, 3.0):
        histogram.observe(value)
    # p50 is rank 2 of 4: one below 1, two in 1..2, so half-way into that bucket.
    found = status_tree(registry)["pomona_wait_seconds"]
    assert found == {"count": 4, "sum": 6.5, "p50": 1.5, "p99": pytest.approx(2 + 2 * 0.96)}
    for _ in range(100):
        histogram.observe(99.0)
    again = status_tree(registry)["pomona_wait_seconds"]
    assert isinstance(again, dict)
    assert again["p99"] == 4  # beyond the last bound: that bound


def test_a_histogram_with_labels_has_one_summary_each(registry: CollectorRegistry) -> None:
    histogram = Histogram("pomona_wait_seconds", "Wait.", ["op"], buckets=(1,), registry=registry)
    histogram.labels(op="sign").observe(0.5)
    assert status_tree(registry)["pomona_wait_seconds"] == {
        "op=sign": {"count": 1, "sum": 0.5, "p50": 0.5, "p99": 0.99}
    }


def test_the_process_reports_itself(registry: CollectorRegistry) -> None:
    SharedMetrics(registry)
    tree = status_tree(registry)
    assert isinstance(tree["process_resident_memory_bytes"], int)
    assert tree["process_resident_memory_bytes"] > 1_000_000
    assert isinstance(tree["process_open_fds"], int)
    assert "process_cpu_seconds_total" in tree
    check_conventions(registry)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda r: Gauge("sales", "Receipts.", registry=r), "pomona_"),
        (lambda r: Gauge("pomona_lag_ms", "Lag.", registry=r), "base unit"),
        (lambda r: Gauge("pomona_lag_seconds", "", registry=r), "nothing"),
        (lambda r: Gauge("pomona_price", "Price.", ["sku"], registry=r).labels("a"), "labels sku"),
        (lambda r: Gauge("pomona_x", "X.", ["a", "b", "c", "d"], registry=r).labels(1, 2, 3, 4), "labels a, b"),
        (lambda r: Histogram("pomona_x_seconds", "X.", buckets=range(1, 12), registry=r), "11 buckets"),
    ],
)
def test_what_breaks_a_convention_is_named(registry: CollectorRegistry, make: object, word: str) -> None:
    assert callable(make)
    make(registry)
    with pytest.raises(LocalError, match=word):
        check_conventions(registry)


def test_too_many_series_fail_loudly(registry: CollectorRegistry) -> None:
    gauge = Gauge("pomona_x", "X.", ["reason"], registry=registry)
    for number in range(METRIC_SERIES_MAX):
        gauge.labels(str(number))
    check_conventions(registry)
    assert len(series(registry)) == METRIC_SERIES_MAX
    gauge.labels("one more")
    with pytest.raises(LocalError, match=f"{METRIC_SERIES_MAX + 1} series"):
        check_conventions(registry)
