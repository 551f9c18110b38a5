"""Proofs of a log's blocks and lengths: `prove` makes them for others, `check` and its kin judge those of others.

The modules: `proving`, `checking`, `bisection` (how far two forks agree), `conflict` (proof of two histories).
"""

from edge.hypercore.bisection import Bisection
from edge.hypercore.checking import Known, Proven, Unanchored, check, check_block, check_whole, levels
from edge.hypercore.merkle import NodeSource
from edge.hypercore.proving import prove

__all__ = [
    "Bisection",
    "Known",
    "NodeSource",
    "Proven",
    "Unanchored",
    "check",
    "check_block",
    "check_whole",
    "levels",
    "prove",
]
