"""What the networks know of a category at one moment, as far as prices may know it. Frozen values, no I/O.

Whoever owns the network memories makes a `NetworkPicture` of each (`picture`) and of all of them a `NetworkState`;
`get_context` answers from that copy, in any thread, whatever the memories do meanwhile. What it refuses is not in the
context: the mask says how much was refused and why, not what it was.

    several owners    an input of live prices never is what rivals said: roster, policy and every single number must
                      say that one owner stands behind it
    policy            the network, or this member's stricter wish, keeps what comes back away from prices
    too old, future   half of its weight speaks of a week longer ago than the rules allow, or of one to come
    too few           fewer shops stand behind it than the policy or the rules ask for

Where two networks of one owner speak of the same number, the surer one is taken and not both: the same shops may be
members of both. A box whose links are cut goes on with what it has heard, until that is too old: `mode` says so.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from edge.agent.peer_prior import Insights
from edge.memory.combine import Pooled
from edge.memory.network import NetworkPriceMemory
from edge.networks.modes import Mode
from edge.networks.policy import NetworkPolicy
from edge.records.message import Network

TREND_PARTS: Final = ("trend", "volatility", "season")
_NOTHING: Final[Mapping[str, Mapping[str, Pooled]]] = MappingProxyType({})
_AHEAD_MAX: Final = 1  # weeks: a peer's week begins while ours ends


class Refusal(StrEnum):
    """Why something that peers said is not in a context."""

    OWNERS = "several owners"
    POLICY = "policy"
    OLD = "too old"
    FUTURE = "future"
    FEW = "too few"


@dataclass(frozen=True, slots=True)
class ContextRules:
    """What is still of use."""

    insight_weeks_max: int = 53  # demand changes slowly, and staleness makes the prior wider before that
    trend_weeks_max: int = 13
    shops_min: int = 1  # one honest neighbour already saves most of what peers can save


@dataclass(frozen=True, slots=True)
class NetworkPicture:
    """One network as its memory saw it at one moment."""

    name: str
    network: Network
    one_owner: bool  # of all members on the roster
    policy: NetworkPolicy  # as this member holds it: the network's, or stricter
    members: int  # others on the roster who write
    connected: int  # of those, reachable now
    peers: int  # of those, ever heard
    owners: int  # behind the peers heard
    heard_week: int | None  # the newest week that any of them spoke of
    pooled_in: int  # week in which the numbers below were pooled
    insights: Mapping[str, Insights]  # by category
    trends: Mapping[str, Mapping[str, Mapping[str, Pooled]]]  # by category, SKU and TREND_PARTS


@dataclass(frozen=True, slots=True)
class Masked:
    """How many numbers of a network were refused, and why."""

    network: str
    reason: Refusal
    count: int


@dataclass(frozen=True, slots=True)
class MarketContext:
    """What prices of one category may know of the market in one week."""

    category: str
    week: int  # now
    mode: Mode
    peers: int  # heard, in networks that prices may listen to
    owners: int  # behind them: 1, or 0 where there is nobody
    heard_week: int | None  # the newest week that any of them spoke of
    pooled_in: int  # the week in which what follows was pooled; the oldest of several networks'
    insights: Insights
    trends: Mapping[str, Mapping[str, Pooled]]  # by SKU and TREND_PARTS
    age_weeks: int | None  # of the oldest number here; None: there is none
    noise: float  # greatest s.d. of noise added on purpose that is left in any number here, log units
    mask: tuple[Masked, ...]  # what is not here

    @property
    def usable(self) -> bool:
        """Whether there is anything that a demand estimate can start from."""
        return bool(self.insights)


@dataclass(frozen=True, slots=True)
class NetworkState:
    """All networks of a box at one moment. `NetworkState(week)` is a box without any."""

    week: int  # now, by the box's business days
    networks: tuple[NetworkPicture, ...] = ()
    rules: ContextRules = field(default_factory=ContextRules)

    @property
    def mode(self) -> Mode:
        """How much can be reached: connected where somebody is in every network that has other members."""
        reached = [each.connected > 0 for each in self.networks if each.members]
        if not any(reached):
            return Mode.LOCAL_ONLY
        return Mode.CONNECTED if all(reached) else Mode.PARTIAL

    def get_context(self, category: str) -> MarketContext:
        """What prices of `category` may know. Always answers; a context without numbers is an answer too."""
        mask: dict[tuple[str, Refusal], int] = {}
        insights: dict[str, dict[str, Pooled]] = {}
        trends: dict[str, dict[str, Pooled]] = {}
        heard = []
        for each in self.networks:
            parts = (
                (insights, each.insights.get(category, _NOTHING), self.rules.insight_weeks_max),
                (trends, each.trends.get(category, _NOTHING), self.rules.trend_weeks_max),
            )
            used = 0
            for into, said, weeks_max in parts:
                for sku, term, pooled in _each(said):
                    refusal = self._refusal(each, pooled, weeks_max)
                    if refusal is not None:
                        key = (each.name, refusal)
                        mask[key] = mask.get(key, 0) + 1
                    else:
                        _keep(into.setdefault(sku, {}), term, pooled)
                        used += 1
            if used:
                heard.append(each)
        numbers = [pooled for said in (insights, trends) for _, _, pooled in _each(said)]
        weeks = [each.heard_week for each in heard if each.heard_week is not None]
        return MarketContext(
            category=category,
            week=self.week,
            mode=self.mode,
            peers=max((each.peers for each in heard), default=0),  # shops may be in several networks
            owners=1 if heard else 0,
            heard_week=max(weeks, default=None),
            pooled_in=min((each.pooled_in for each in heard), default=self.week),
            insights=_frozen(insights),
            trends=_frozen(trends),
            age_weeks=max((max(self.week - pooled.week, 0) for pooled in numbers), default=None),
            noise=max((pooled.deviation for pooled in numbers), default=0.0),
            mask=tuple(Masked(network, reason, count) for (network, reason), count in sorted(mask.items())),
        )

    def _refusal(self, each: NetworkPicture, pooled: Pooled, weeks_max: int) -> Refusal | None:
        if not each.one_owner or each.owners > 1 or each.network is Network.PUBLIC or pooled.owners != 1:
            return Refusal.OWNERS
        if not each.policy.live_use:
            return Refusal.POLICY
        if pooled.week > self.week + _AHEAD_MAX:
            return Refusal.FUTURE
        if self.week - pooled.week > weeks_max:
            return Refusal.OLD
        return Refusal.FEW if pooled.shops < max(each.policy.shops_min, self.rules.shops_min) else None


def picture(
    memory: NetworkPriceMemory,
    *,
    connected: int,
    week: int,
    categories: Iterable[str],
    policy: NetworkPolicy | None = None,
) -> NetworkPicture:
    """A copy of what `memory` knows of `categories` in week `week`, for prices: rivals' numbers are not even asked for.

    `connected`: members reachable now; `policy`: this member's own, where it is stricter than the network's. Runs
    where the memory lives; what it returns may go to any thread.
    """
    roster = memory.roster
    heard = tuple(memory.peers())
    insights, trends = {}, {}
    for category in categories:
        insights[category] = _frozen(memory.insights(category, live=True, now=week))
        found = memory.trend(category, "", live=True, now=week)
        if found is not None:
            parts = dict(zip(TREND_PARTS, (found.trend, found.volatility, found.season), strict=True))
            trends[category] = _frozen({"": parts})
    return NetworkPicture(
        name=roster.name,
        network=roster.network,
        one_owner=roster.one_owner,
        policy=roster.policy if policy is None else policy,
        members=sum(member.id != memory.own for member in roster.writers),
        connected=connected,
        peers=len(heard),
        owners=len({peer.owner for peer in heard}),
        heard_week=max((peer.week for peer in heard), default=None),
        pooled_in=week,
        insights=MappingProxyType(insights),
        trends=MappingProxyType(trends),
    )


def _each(said: Mapping[str, Mapping[str, Pooled]]) -> Iterable[tuple[str, str, Pooled]]:
    return ((sku, term, pooled) for sku, parts in said.items() for term, pooled in parts.items())


def _keep(parts: dict[str, Pooled], term: str, pooled: Pooled) -> None:
    """Of two networks' numbers the surer one; what is not finite never wins over what is."""
    before = parts.get(term)
    if before is None or _spread(pooled) < _spread(before) or math.isnan(_spread(before)):
        parts[term] = pooled


def _spread(pooled: Pooled) -> float:
    return math.hypot(pooled.error, pooled.between)


def _frozen(said: Mapping[str, Mapping[str, Pooled]]) -> Mapping[str, Mapping[str, Pooled]]:
    return MappingProxyType({sku: MappingProxyType(dict(parts)) for sku, parts in said.items()})
