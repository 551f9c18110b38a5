"""A network's node, memory and sums as plain values, for `pomona peers` and whoever reads JSON. Pure."""

from dataclasses import fields
from datetime import timedelta
from typing import Any

from edge.memory.network import NetworkPriceMemory
from edge.memory.sums.desk import RoundState
from edge.networks.node import NetworkNode
from edge.records.history import week_start


def of_node(node: NetworkNode | None) -> dict[str, Any]:
    """Who belongs to the network, who is connected, and what waits either way."""
    roster = None if node is None else node.roster
    return {
        "members": 0 if roster is None else len(roster.members),
        "owners": 0 if roster is None else len({member.owner for member in roster.members.values()}),
        "epoch": 0 if roster is None else roster.epoch,
        "version": 0 if roster is None else roster.version,
        "listening": 0 if node is None else node.port,
        "told": 0 if node is None else sum(node.feeds.lengths().values()),
        "queued": 0 if node is None else node.queued,
        "behind": 0 if node is None else node.behind,
        "peers": []
        if node is None
        else [{field.name: getattr(peer, field.name) for field in fields(peer)} for peer in node.peers()],
    }


def of_memory(memory: NetworkPriceMemory | None) -> dict[str, Any]:
    """How many shops were heard, and how much of what they said is held."""
    heard = () if memory is None else memory.peers()
    return {"heard": len(heard), "records": sum(peer.records for peer in heard)}


def of_sum(state: RoundState) -> dict[str, Any]:
    """One group's round: its days, how many take part, whether this box does, and why not or why it ended."""
    first, last = week_start(state.window.first), week_start(state.window.end) - timedelta(days=1)
    return {
        "category": state.category,
        "from": first.isoformat(),
        "to": last.isoformat(),
        "members": state.members,
        "taking_part": state.taking_part,
        "why_not": state.why_not,
        "refused": state.refused,
    }
