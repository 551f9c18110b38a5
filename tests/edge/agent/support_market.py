"""Pictures of networks and contexts for tests."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edge.agent.network_state import MarketContext, NetworkPicture, NetworkState
from edge.memory.combine import Pooled
from edge.networks.policy import NetworkPolicy
from edge.records.message import Network

LIVE = NetworkPolicy(live_use=True)
NOW = 2660  # the week of the decisions of `support_requests`


def said(mean: float = -2.2, error: float = 0.1, between: float = 0.3, **changes: Any) -> Pooled:
    return replace(Pooled(mean, error, between, shops=8, owners=1, week=NOW - 2, deviation=0.0), **changes)


def picture(
    insights: Mapping[str, Mapping[str, Pooled]] | None = None,
    trends: Mapping[str, Mapping[str, Pooled]] | None = None,
    *,
    category: str = "juice",
    **changes: Any,
) -> NetworkPicture:
    """A private network of nine shops, eight of them heard and three reachable."""
    whole = NetworkPicture(
        name="the chain",
        network=Network.PRIVATE,
        one_owner=True,
        policy=LIVE,
        members=8,
        connected=3,
        peers=8,
        owners=1,
        heard_week=NOW - 1,
        pooled_in=NOW,
        insights={category: {} if insights is None else insights},
        trends={category: {} if trends is None else trends},
    )
    return replace(whole, **changes)


def price_of(skus: int, mean: float = -2.2, **changes: Any) -> dict[str, dict[str, Pooled]]:
    """What is said of the own elasticity of sku-0, sku-1, ..."""
    return {f"sku-{number}": {"price": said(mean, **changes)} for number in range(skus)}


def context(insights: Mapping[str, Mapping[str, Pooled]] | None = None, **changes: Any) -> MarketContext:
    """A context of juice in one network."""
    return replace(NetworkState(NOW, (picture(insights),)).get_context("juice"), **changes)
