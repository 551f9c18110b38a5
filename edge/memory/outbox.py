"""Our own feeds of a network as the sync sees them: written through the outlet, read back to know what was said."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from edge.errors import BlockMissing, ConfigError, LocalError, RemoteError
from edge.limits import ACCEPT_STEP
from edge.memory.due import Due
from edge.memory.sync import Told
from edge.networks.access import FeedKind, feed_of
from edge.networks.epochs import Epoch
from edge.networks.feeds import PRIORITY, encryption_key
from edge.networks.node import NetworkNode
from edge.networks.outlet import PrivateOutlet
from edge.privacy.released import Cleared, Released
from edge.records.message import Place, decode
from edge.records.shared import Payload


class NodeOutbox:
    """The feeds that `node` writes. `epochs`: those whose secrets are known, by number."""

    def __init__(self, node: NetworkNode, epochs: Callable[[], Mapping[int, Epoch]]) -> None:
        self._node = node
        self._epochs = epochs

    @property
    def member(self) -> bytes:
        """Our id there."""
        return self._node.member

    @property
    def unfetched(self) -> int:
        """Blocks that no member has fetched."""
        return self._node.queued

    async def append(self, dues: Sequence[Due]) -> list[Told]:
        """Through the outlet into the feeds; where all of it stands, once it is durable.

        Raises `StorageError`, and what the outlet raises for what may not enter.
        """
        outlet = self._node.outlet()
        told: list[Told] = []
        if isinstance(outlet, PrivateOutlet):
            tokens = [due.token for due in dues if isinstance(due.token, Cleared)]
            if len(tokens) != len(dues):
                raise LocalError("what enters a private network has been cleared for it")
            told += self._told(await outlet.append_all(tokens), [token.payload for token in tokens])
            return told
        for due in dues:
            if not isinstance(due.token, Released):
                raise LocalError("what enters this network has been released for it")
            told += self._told(await outlet.append(due.token), due.token.records)
        return told

    async def tail(self, limit: int) -> list[Told]:
        """What stands at the end of our feeds, of each kind the newest `limit` at most, epochs in their order."""
        roster, store = self._node.roster, self._node.store
        if roster is None:
            return []
        found: list[Told] = []
        for kind, signer in self._signers().items():
            left = limit
            for number, epoch in sorted(self._epochs().items(), reverse=True):
                try:
                    key = epoch.feed_key(kind, signer)
                    core = await store.get(key=key, encryption_key=encryption_key(roster, epoch), create=False)
                except ConfigError:  # we wrote nothing in that epoch
                    continue
                try:
                    for sequence in range(core.length - 1, max(core.length - left, 0) - 1, -1):
                        if sequence % ACCEPT_STEP == 0:
                            await asyncio.sleep(0)
                        try:
                            found.append(Told(number, sequence, decode(core.get(sequence)).payload))
                        except (BlockMissing, RemoteError):  # given up, or written by a newer version of ours
                            continue
                    left -= core.length
                finally:
                    await store.release(core)
                if left <= 0:
                    break
        return sorted(found, key=lambda told: (told.epoch, told.sequence))

    def _signers(self) -> Mapping[FeedKind, bytes]:
        """Our signing keys by kind of feed that holds messages."""
        roster = self._node.roster
        member = None if roster is None else roster.members.get(self.member)
        if member is None:
            return {}
        return {kind: member.signers[kind] for kind in PRIORITY if kind in member.signers and kind is not FeedKind.SUMS}

    def _told(self, places: Sequence[Place], payloads: Sequence[Payload]) -> list[Told]:
        """Places are told kind by kind of feed, in the order in which the kinds come first."""
        by_kind: dict[FeedKind, list[Payload]] = {}
        for payload in payloads:
            by_kind.setdefault(feed_of(payload), []).append(payload)
        signers = self._signers()
        numbers = {
            epoch.feed_key(kind, signers[kind]): number
            for number, epoch in self._epochs().items()
            for kind in by_kind
            if kind in signers
        }
        ordered = [payload for some in by_kind.values() for payload in some]
        return [
            Told(numbers[place.feed_key], place.sequence, payload)
            for place, payload in zip(places, ordered, strict=True)
        ]
