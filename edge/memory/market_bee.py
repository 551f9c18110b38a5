"""What a network's members say together, as a Hyperbee that stock peers can read: one log a network.

    insights/dairy/4012345678901/02935   {"price": {"mean": -2.4, "error": 0.21, ..., "noise": 0}, ...}
    trends/dairy/*/02935                 {"trend": {...}, "volatility": {...}, "season": {...}}
    ranges/dairy/*/02935                 {"min": 189, "max": 249, "currency": "EUR", "log_mean": {...}, ...}

Keys are UTF-8 text: kind, category, item, period. In the category "%" is written "%25" and "/" "%2F"; the item is a
SKU, which has neither, or "*" for the category itself; the period is the week (`edge.records.history.week_of`) in five
digits, so that keys sort by time: the newest week that anybody's record of that kind and category speaks of. Values are
JSON, because a stock Hyperbee reads it (`valueEncoding: 'json'`) and knows no CBOR; numbers have six digits.

One batch a round of arrivals, of the keys whose values are others than before. What earlier weeks said stays as it was.

Between owners only that is put here which as many owners stand behind as the network's policy wants.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final

from edge.errors import LocalError
from edge.hyperbee.bee import Hyperbee
from edge.hyperbee.encodings import JSON, UTF8
from edge.hyperbee.reader import Log
from edge.memory.combine import Pooled
from edge.memory.network import NetworkPriceMemory, PooledRange, PooledTrend
from edge.memory.packed import INSIGHTS, RANGES, TRENDS

CATEGORY_ITEM: Final = "*"  # no SKU
_KINDS: Final = (INSIGHTS, RANGES, TRENDS)
_DIGITS: Final = 6  # of a number: enough for anybody, and what is further behind does not rewrite keys
_WRITTEN_MAX: Final = 16_384  # values remembered, to know what changed; 200 bytes each
_PERIOD_MAX: Final = 99_999


def key_of(kind: str, category: str, sku: str, period: int) -> str:
    """The key of an entry; `sku` "" is the category."""
    if not 0 <= period <= _PERIOD_MAX:
        raise LocalError(f"period {period} has more than five digits")
    escaped = category.replace("%", "%25").replace("/", "%2F")
    return f"{kind}/{escaped}/{sku or CATEGORY_ITEM}/{period:05}"


class MarketBee:
    """Writes what changed in `memory` into the tree on `log`, which nobody else appends to."""

    def __init__(self, memory: NetworkPriceMemory, log: Log) -> None:
        self.bee: Final = Hyperbee(log, key_encoding=UTF8, value_encoding=JSON, always_duplicate=False)
        self._memory = memory
        self._written: dict[str, Mapping[str, Any]] = {}  # by key
        self._looked = False

    async def update(self) -> int:
        """Write what has changed since the last time; how many entries. Durable when this returns.

        The first time everything is looked at. Raises `StorageError`: then the next time brings it.
        """
        memory = self._memory
        if not self._looked:
            memory.changed.update((kind, category) for kind in _KINDS for category in memory.categories(kind))
            self._looked = True
        if not memory.changed:
            return 0
        changed, memory.changed = memory.changed, set()
        entries: dict[str, Mapping[str, Any]] = {}
        before = self.bee.version
        try:
            for kind, category in sorted(changed):
                found = self._entries(kind, category)
                entries.update((key, value) for key, value in found if self._written.get(key) != value)
                await asyncio.sleep(0)  # pooling a category takes the loop tens of milliseconds
            async with self.bee.batch() as batch:
                for key, value in sorted(entries.items()):
                    await batch.put(key, value)  # one that is there already is passed over
        except BaseException:
            memory.changed |= changed
            raise
        if len(self._written) + len(entries) > _WRITTEN_MAX:
            self._written.clear()
        self._written.update(entries)
        return self.bee.version - before

    def _entries(self, kind: str, category: str) -> Iterator[tuple[str, dict[str, Any]]]:
        memory = self._memory
        records = memory.heard.newest.get((kind, category), {})
        if not records:
            return
        period = max(record.week for record in records.values())
        for sku in memory.skus(kind, category):
            value = self._value(kind, category, sku)
            if value:
                yield key_of(kind, category, sku, period), value

    def _value(self, kind: str, category: str, sku: str) -> dict[str, Any]:
        memory = self._memory
        if kind == INSIGHTS:
            terms = memory.insights(category, live=False, with_own=True).get(sku, {})
            return {term: _told(pooled) for term, pooled in terms.items() if self._may_tell(pooled)}
        if kind == TRENDS:
            trend = memory.trend(category, sku, live=False, with_own=True)
            return {} if trend is None else self._all_or_nothing(_parts(trend))
        spans = memory.ranges(category, sku, live=False, with_own=True)
        if spans is None:
            return {}
        told = self._all_or_nothing(_parts(spans))
        return told and {"currency": memory.currency, "max": spans.max, "min": spans.min, **told}

    def _all_or_nothing(self, parts: dict[str, Pooled]) -> dict[str, Any]:
        told = all(self._may_tell(pooled) for pooled in parts.values())
        return {name: _told(pooled) for name, pooled in parts.items()} if told else {}

    def _may_tell(self, pooled: Pooled) -> bool:
        roster = self._memory.roster
        return roster.one_owner or pooled.owners >= roster.policy.owners_min


def _parts(found: PooledTrend | PooledRange) -> dict[str, Pooled]:
    if isinstance(found, PooledTrend):
        return {"trend": found.trend, "volatility": found.volatility, "season": found.season}
    return {"log_mean": found.log_mean, "log_spread": found.log_spread}


def _told(pooled: Pooled) -> dict[str, Any]:
    return {
        "mean": _short(pooled.mean),
        "error": _short(pooled.error),
        "between": _short(pooled.between),
        "noise": _short(pooled.deviation),
        "shops": pooled.shops,
        "owners": pooled.owners,
        "week": pooled.week,
    }


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}") + 0.0  # no negative zero: JSON has none that everybody reads alike
