"""Replication of cores with peers: protocol hypercore/alpha over the channels of an encrypted connection.

    session = replicate(connection, [Replicator(core)])

Next to read: `session` (channels), `replicator` (messages and events), `asking` and `planner` (what is asked of whom),
`serving` (answers), `forks` (reorganisations and conflicts).
"""

from edge.hypercore.replicator.metrics import ReplicationMetrics
from edge.hypercore.replicator.peer import Peer
from edge.hypercore.replicator.replicator import Replicator
from edge.hypercore.replicator.session import Lookup, Session, replicate

__all__ = ["Lookup", "Peer", "ReplicationMetrics", "Replicator", "Session", "replicate"]
