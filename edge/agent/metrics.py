"""What the pricing agent shows of itself: decisions by source and outcome, the guard's rules, the forecast's error."""

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge

from edge.agent.estimate import ForecastError
from edge.agent.rules import ALARMS, Rule
from edge.records.decision import DecisionBatch


class DecisionMetrics:
    """Registered once in the box's registry; labels are few and closed but for the shop's own categories."""

    __slots__ = ("_bias", "_decisions", "_failures", "_rules", "_wape")

    def __init__(self, registry: CollectorRegistry) -> None:
        self._decisions = Counter(
            "pomona_price_decisions",
            "Price decisions by who asked and what came of it",
            ["source", "outcome"],
            registry=registry,
        )
        self._rules = Counter(
            "pomona_price_guard_triggered", "Decisions that a rule of the guard changed", ["rule"], registry=registry
        )
        self._failures = Counter(
            "pomona_price_fallbacks", "Decisions in which a stage of the chain failed", ["stage"], registry=registry
        )
        self._wape = Gauge(
            "pomona_demand_forecast_wape_ratio",
            "Absolute forecast error over units sold",
            ["category"],
            registry=registry,
        )
        self._bias = Gauge(
            "pomona_demand_forecast_bias_ratio",
            "Forecast less units over units sold",
            ["category"],
            registry=registry,
        )
        for rule in Rule:
            self._rules.labels(rule=str(rule.name).lower())

    def count(self, batch: DecisionBatch) -> None:
        """Take in a batch."""
        alarms = int(np.count_nonzero(batch.rules & int(ALARMS)))
        moved = int(np.count_nonzero((batch.published != batch.previous) & ((batch.rules & int(ALARMS)) == 0)))
        for outcome, count in (("alarm", alarms), ("changed", moved), ("held", len(batch) - alarms - moved)):
            self._decisions.labels(source=batch.source.value, outcome=outcome).inc(count)
        for rule in Rule:
            hits = int(np.count_nonzero(batch.rules & int(rule)))
            if hits:
                self._rules.labels(rule=str(rule.name).lower()).inc(hits)
        for failure in batch.failures:
            self.fell_back(failure)

    def fell_back(self, failure: str) -> None:
        """Take in one failure of a stage, `stage: what`."""
        self._failures.labels(stage=failure.partition(":")[0]).inc()

    def forecast(self, category: str, error: ForecastError) -> None:
        """The newest forecast error of a category; nothing is shown where nothing was sold."""
        if np.isfinite(error.wape):
            self._wape.labels(category=category).set(error.wape)
            self._bias.labels(category=category).set(error.bias)
