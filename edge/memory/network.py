"""NetworkPriceMemory: what the members of one network said, and what follows from all of it together. A derived view.

It is given every record that was accepted, once or more often, in any order; what it holds depends on the set of them
alone (`heard`), bounded in bytes. What shops together say (`Pooled`, see `combine`) is worked out when somebody asks,
kept for the categories asked for last, and worked out again only for the items that new records touched.

**Who may see it.** Questions with `live=True`, which is what prices are made from, are answered only where the roster
has one owner and its policy allows it; between owners what members said never reaches a price. Everything else - what
people look at, what is published to the members again - asks with `live=False`.

**What members added up together** (`apply_sum`) is nobody's word: every member works it out from the same feeds. It is
held like the records of a member without a name, and answered beside what members said one by one: where both speak of
a number, the surer one is taken and not both, because the same shops stand behind them.

Weeks are numbers of `edge.records.history`; "now" is the newest week that anybody spoke of, unless the caller says.
Not thread-safe; lives on the event loop.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.errors import LocalError
from edge.limits import NETWORK_MEMORY_BYTES_MAX, POOLED_ANSWERS_MAX
from edge.memory.combine import SPREAD_RULES, TERM_RULES, TREND_RULES, CombineRules, Pooled, Values, combine
from edge.memory.heard import Heard, HeardCounts
from edge.memory.packed import FEED_OF, INSIGHTS, RANGES, TRENDS, Packed, pack
from edge.networks.policy import OWNER_SHARE_MAX, OWNERS_MIN
from edge.networks.roster import Roster
from edge.records.history import Float
from edge.records.shared import TERMS, ModelInsight, Payload
from edge.records.shared_codec import word_of

SUMS_MEMBER: Final = b""  # in place of a member: all of them together; ids of members have 32 bytes
AGE_WEEKS_MAX: Final = 104  # what is older says nothing of today
_TREND_PARTS: Final = ("trend", "volatility", "season")
_RANGE_PARTS: Final = ("log mean", "log spread")
_RULES: Final[Mapping[str, Mapping[str, CombineRules]]] = {
    INSIGHTS: TERM_RULES,
    TRENDS: {"trend": TREND_RULES, "volatility": SPREAD_RULES, "season": SPREAD_RULES},
    RANGES: {"log mean": SPREAD_RULES, "log spread": SPREAD_RULES},
}


@dataclass(frozen=True, slots=True)
class PooledTrend:
    """Where a category or an item goes in the whole network; see `MarketTrend`. `season` is of log seasonality."""

    trend: Pooled
    volatility: Pooled
    season: Pooled


@dataclass(frozen=True, slots=True)
class PooledRange:
    """Where prices lie: medians of the shops' lowest and highest, minor units, and log(price / list price)."""

    min: int
    max: int
    log_mean: Pooled
    log_spread: Pooled


@dataclass(frozen=True, slots=True)
class PeerHeard:
    """One member, as far as it was heard."""

    member: bytes
    owner: str
    week: int  # the newest that it spoke of
    records: int


@dataclass(slots=True)
class _Pool:
    """Answers for one kind and category, as seen in `week`; None in `stale`: all of them."""

    week: int
    answers: dict[str, Mapping[str, Pooled]] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)  # of ranges: lowest and highest price
    stale: set[str] | None = None


@dataclass(slots=True)
class _Gathered:
    """Rows of members about some items, side by side."""

    row_of: dict[str, list[int]]  # positions below, by SKU
    numbers: Float  # (r, columns)
    told: NDArray[np.int64]  # (r, 4) owner's number, week, shops and owners behind it
    deviation: Float  # (r,)


class NetworkPriceMemory:
    """What one network's members said. `own` is this box's member id there: its own records are not news to it."""

    def __init__(
        self, roster: Roster, *, currency: str, own: bytes = b"", bytes_max: int = NETWORK_MEMORY_BYTES_MAX
    ) -> None:
        self.currency = currency
        self.own = own
        self.heard = Heard(bytes_max, self._changed)
        self.week = 0  # the newest that anybody spoke of
        self.incomplete = False  # something that should be here is not: to be told everything again
        self.changed: set[tuple[str, str]] = set()  # kinds and categories whose answers changed; the publisher's
        self.revisions: dict[str, int] = {}  # by category: counts what changed of it since the start
        self._pools: OrderedDict[tuple[str, str, bool], _Pool] = OrderedDict()
        self._owners: dict[bytes, str] = {}
        self._roster = roster
        self.set_roster(roster)

    # --- feeding -----------------------------------------------------------------------------------------------------

    @property
    def roster(self) -> Roster:
        """The roster that it goes by."""
        return self._roster

    @property
    def counts(self) -> HeardCounts:
        """What happened to records; for metrics."""
        return self.heard.counts

    @property
    def bytes_used(self) -> int:
        """Bytes charged for the records held; answers that are kept for questions come on top."""
        return self.heard.bytes_used

    def set_roster(self, roster: Roster) -> None:
        """Go by this roster from now on. What it counts no longer goes; `incomplete` where more should be here."""
        if roster.network_id != self._roster.network_id:
            raise LocalError("a network memory belongs to one network")
        owners = {id_: member.owner for id_, member in roster.members.items()}
        owners |= {id_: revocation.member.owner for id_, revocation in roster.revoked.items()}
        self._roster = roster
        if owners != self._owners:
            self._owners = owners
            self._pools.clear()
        dropped = self.heard.drop(lambda member, record: not self._counts_for(member, record))
        if self.heard.divide(max(1, len(owners))) or dropped:
            self.incomplete = True

    def apply(self, member: bytes, epoch: int, sequence: int, payload: Payload) -> bool:
        """Take in what `member` said at block `sequence` of its feed of `epoch`; it has been validated.

        False where it changes nothing: said before, replaced by something later, too old to be kept, or not counted by
        the roster.
        """
        if member == SUMS_MEMBER:
            raise LocalError("a sum is nobody's word")
        room = self.heard.room(word_of(type(payload)))
        record = pack(payload, epoch, sequence, bytes_max=room)
        if not self._counts_for(member, record):
            return False
        taken = self.heard.put(member, record)
        if taken:
            self.week = max(self.week, record.week)
        return taken

    def apply_sum(self, insight: ModelInsight, epoch: int, sequence: int) -> bool:
        """Take in what members added up together in a round of `epoch`; of one category and week the later place holds.

        Every member that has read the round's feeds hands in the same record. False where it changes nothing.
        """
        if not self._roster.one_owner and insight.protection.owners < OWNERS_MIN:
            raise LocalError(f"a sum over {insight.protection.owners} of several owners")
        record = pack(insight, epoch, sequence, bytes_max=self.heard.room(INSIGHTS))
        taken = self.heard.put(SUMS_MEMBER, record)
        if taken:
            self.week = max(self.week, record.week)
        return taken

    def sum_epoch(self, category: str, week: int) -> int | None:
        """The epoch of the sum that is held of a category's week; None: none is."""
        shelf = self.heard.shelves.get((SUMS_MEMBER, INSIGHTS))
        record = None if shelf is None else shelf.records.get((category, week))
        return None if record is None else record.epoch

    def clear(self) -> None:
        """Forget everything, to be told again."""
        self.heard.clear()
        self.week = 0
        self.incomplete = False

    def digest(self) -> bytes:
        """32 bytes that are equal where the same records were accepted, in whatever order."""
        return self.heard.digest()

    # --- asking ------------------------------------------------------------------------------------------------------

    def may_use(self, *, live: bool) -> bool:
        """Whether questions are answered: always where nothing live comes of it."""
        return not live or (self._roster.one_owner and self._roster.policy.live_use)

    def insights(
        self, category: str, *, live: bool = True, now: int | None = None, with_own: bool = False
    ) -> Mapping[str, Mapping[str, Pooled]]:
        """How demand answers prices: by SKU ("" is the category), then by term of `edge.records.shared.TERMS`.

        Terms that nobody spoke of are missing. `with_own`: this shop's own records count too.
        """
        return self._answers(INSIGHTS, category, live=live, now=now, with_own=with_own)

    def trend(
        self, category: str, sku: str = "", *, live: bool = True, now: int | None = None, with_own: bool = False
    ) -> PooledTrend | None:
        """Where units go; None where nobody spoke of it."""
        parts = self._answers(TRENDS, category, live=live, now=now, with_own=with_own).get(sku)
        return None if parts is None else PooledTrend(*(parts[name] for name in _TREND_PARTS))

    def ranges(
        self, category: str, sku: str = "", *, live: bool = True, now: int | None = None, with_own: bool = False
    ) -> PooledRange | None:
        """Where prices lie, of those who have this shop's currency; None where nobody spoke of it."""
        parts = self._answers(RANGES, category, live=live, now=now, with_own=with_own).get(sku)
        if parts is None:
            return None
        low, high = self._pools[RANGES, category, with_own].spans[sku]
        return PooledRange(low, high, *(parts[name] for name in _RANGE_PARTS))

    def skus(self, kind: str, category: str) -> tuple[str, ...]:
        """SKUs of which anybody's newest record of a kind speaks, ascending; "" is the category."""
        records = self.heard.newest.get((kind, category), {})
        return tuple(sorted({sku for record in records.values() for sku in record.rows}))

    def categories(self, kind: str) -> tuple[str, ...]:
        """Categories of which there are records of a kind, ascending."""
        return tuple(sorted(category for word, category in self.heard.newest if word == kind))

    def freshness(self) -> Mapping[str, int]:
        """By kind, the week of which half of the members (of those who spoke at all) have spoken, or a later one."""
        weeks: dict[str, dict[bytes, int]] = {}
        for (kind, _), records in self.heard.newest.items():
            by_member = weeks.setdefault(kind, {})
            for member, record in records.items():
                by_member[member] = max(record.week, by_member.get(member, 0))
        return {kind: sorted(found.values())[len(found) // 2] for kind, found in sorted(weeks.items())}

    def peers(self) -> tuple[PeerHeard, ...]:
        """Members that were heard, this box itself left out, by their ids."""
        found: dict[bytes, tuple[int, int]] = {}
        for (member, _), shelf in self.heard.shelves.items():
            if member not in (self.own, SUMS_MEMBER) and shelf.order:
                week, count = found.get(member, (0, 0))
                found[member] = max(week, shelf.order[-1][0]), count + len(shelf.records)
        return tuple(
            PeerHeard(member, self._owners.get(member, ""), week, count)
            for member, (week, count) in sorted(found.items())
        )

    # --- within ------------------------------------------------------------------------------------------------------

    def _counts_for(self, member: bytes, record: Packed) -> bool:
        if member == SUMS_MEMBER:
            return record.epoch <= self._roster.epoch
        limit = self._roster.limit(member, FEED_OF[record.kind], record.epoch)
        return limit is None or record.sequence < limit

    def _changed(self, kind: str, category: str, before: Packed | None, after: Packed | None) -> None:
        if kind not in _RULES:
            return
        self.changed.add((kind, category))
        self.revisions[category] = self.revisions.get(category, 0) + 1
        for with_own in (False, True):
            pool = self._pools.get((kind, category, with_own))
            if pool is not None and pool.stale is not None:
                for record in (before, after):
                    pool.stale.update(() if record is None else record.rows)

    def _answers(
        self, kind: str, category: str, *, live: bool, now: int | None, with_own: bool
    ) -> Mapping[str, Mapping[str, Pooled]]:
        if not self.may_use(live=live):
            return {}
        week = self.week if now is None else now
        key = (kind, category, with_own)
        pool = self._pools.get(key)
        if pool is None or pool.week != week:
            pool = self._pools[key] = _Pool(week)
        self._pools.move_to_end(key)
        if pool.stale is None or pool.stale:
            found = self._gather(kind, category, pool.stale, week, with_own=with_own)
            for sku in pool.stale or ():
                pool.answers.pop(sku, None)
            summed = self._summed(category, pool.stale, week) if kind == INSIGHTS else {}
            for sku in found.row_of.keys() | summed.keys():
                rows = found.row_of.get(sku, [])
                said = self._pooled(kind, found, rows, week) if rows else {}
                pool.answers[sku] = MappingProxyType(_surer(said, summed.get(sku, {})))
                if kind == RANGES:
                    low, high = np.sort(found.numbers[rows, :2], axis=0)[(len(rows) - 1) // 2]  # said: no half cents
                    pool.spans[sku] = int(low), int(high)
            pool.stale = set()
            while len(self._pools) > 1 and sum(len(each.answers) for each in self._pools.values()) > POOLED_ANSWERS_MAX:
                self._pools.popitem(last=False)
        return MappingProxyType(pool.answers)

    def _gather(self, kind: str, category: str, skus: set[str] | None, week: int, *, with_own: bool) -> _Gathered:
        """Rows about `skus` (None: all) in members' newest records, by member."""
        owners = {owner: number for number, owner in enumerate(sorted(set(self._owners.values())))}
        row_of: dict[str, list[int]] = {}
        parts: list[Float] = []
        told: list[tuple[int, int, int, int]] = []
        deviation: list[float] = []
        count: list[int] = []
        filled = 0
        said: set[tuple[int, bytes, bytes]] = set()
        for member, record in sorted(self.heard.newest.get((kind, category), {}).items()):
            if member == SUMS_MEMBER or (member == self.own and not with_own) or week - record.week > AGE_WEEKS_MAX:
                continue
            if kind == RANGES and record.currency != self.currency:
                continue
            if record.owners > 1:  # what several owners added up together: news once, whoever says it
                what = (record.week, record.skus, record.cells)
                if what in said:
                    continue
                said.add(what)
            rows = record.rows
            taken = range(len(rows)) if skus is None else [at for at, sku in enumerate(rows) if sku in skus]
            for at in taken:
                row_of.setdefault(rows[at], []).append(filled)
                filled += 1
            if len(taken):
                parts.append(record.numbers[taken].astype(np.float64))
                told.append((owners[self._owners[member]], record.week, record.shops, record.owners))
                deviation.append(record.deviation)
                count.append(len(taken))
        numbers = np.concatenate(parts) if parts else np.empty((0, 0))
        return _Gathered(
            row_of,
            numbers,
            np.repeat(np.array(told, dtype=np.int64).reshape(-1, 4), count, axis=0),
            np.repeat(np.array(deviation, dtype=np.float64), count),
        )

    def _summed(self, category: str, skus: set[str] | None, week: int) -> dict[str, dict[str, Pooled]]:
        """What the newest sum says of `skus` (None: all); it is a mean over shops already."""
        record = self.heard.newest.get((INSIGHTS, category), {}).get(SUMS_MEMBER)
        if record is None or week - record.week > AGE_WEEKS_MAX:
            return {}
        found: dict[str, dict[str, Pooled]] = {}
        age = max(week - record.week, 0)
        for sku, row in zip(record.rows, record.numbers.astype(np.float64), strict=True):
            if skus is not None and sku not in skus:
                continue
            for at, term in enumerate(TERMS):
                mean, error = row[2 * at : 2 * at + 2].tolist()
                if not math.isnan(mean):
                    rules = TERM_RULES[term]
                    spread = math.sqrt(error**2 + record.deviation**2 + rules.drift**2 * age)
                    found.setdefault(sku, {})[term] = Pooled(
                        mean, spread, rules.between, record.shops, record.owners, record.week, record.deviation
                    )
        return found

    def _pooled(self, kind: str, found: _Gathered, rows: list[int], week: int) -> dict[str, Pooled]:
        """One item's answers, by part."""
        numbers = found.numbers[rows]
        told, deviation = found.told[rows], found.deviation[rows]
        answers = {}
        for at, (name, rules) in enumerate(_RULES[kind].items()):
            if kind == RANGES:
                mean, error = numbers[:, 2 + at], np.zeros(len(rows))
            else:
                mean, error = numbers[:, 2 * at], numbers[:, 2 * at + 1]
            known = ~np.isnan(mean)
            if not known.any():
                continue
            owner, weeks, shops, owners = told[known].T
            values = Values(mean[known], error[known], deviation[known], owner, weeks, shops, owners)
            share = min(OWNER_SHARE_MAX, self._roster.policy.owner_share_max)
            answers[name] = combine(values, replace(rules, share_max=share), week=week)
        return answers


def _surer(said: dict[str, Pooled], summed: Mapping[str, Pooled]) -> dict[str, Pooled]:
    """Of each number the one that is known better, as said one by one or as added up."""
    for term, pooled in summed.items():
        there = said.get(term)
        if there is None or math.hypot(pooled.error, pooled.between) < math.hypot(there.error, there.between):
            said[term] = pooled
    return said
