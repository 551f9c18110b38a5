"""Our own feed of sums: written through the outlet, read back to know what was said before a restart."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from edge.errors import BlockMissing, ConfigError, RemoteError
from edge.networks.access import FeedKind
from edge.networks.epochs import Epoch
from edge.networks.feeds import encryption_key
from edge.networks.node import NetworkNode
from edge.networks.outlet import SumsOutlet
from edge.privacy.secure_sum.messages import Message


class SumsFeed(Protocol):
    """What the desk writes to; `NodeSums`."""

    @property
    def member(self) -> bytes:
        """Our id in the network."""
        ...

    async def append(self, round_digest: bytes, messages: Sequence[Message]) -> None:
        """Returns once they are durable. Raises `StorageError`: they may be durable all the same."""
        ...

    async def own(self) -> list[bytes]:
        """Every block of our feeds of sums, epoch after epoch."""
        ...


class NodeSums:
    """The feed that `node` writes. `epochs`: those whose secrets are known, by number."""

    def __init__(self, node: NetworkNode, epochs: Callable[[], Mapping[int, Epoch]]) -> None:
        self._node = node
        self._epochs = epochs
        self._outlet = SumsOutlet(node.feeds)

    @property
    def member(self) -> bytes:
        """Our id in the network."""
        return self._node.member

    async def append(self, round_digest: bytes, messages: Sequence[Message]) -> None:
        """Returns once they are durable. Raises `StorageError`: they may be durable all the same."""
        await self._outlet.append(round_digest, messages)

    async def own(self) -> list[bytes]:
        """Every block of our feeds of sums that is still here, epoch after epoch. Raises `StorageError`."""
        roster, store = self._node.roster, self._node.store
        me = None if roster is None else roster.members.get(self.member)
        signer = None if me is None else me.signers.get(FeedKind.SUMS)
        if roster is None or signer is None:
            return []
        found: list[bytes] = []
        for _, epoch in sorted(self._epochs().items()):
            key = epoch.feed_key(FeedKind.SUMS, signer)
            try:
                core = await store.get(key=key, encryption_key=encryption_key(roster, epoch), create=False)
            except ConfigError:  # we wrote nothing in that epoch
                continue
            try:
                for index in range(core.length):
                    try:
                        found.append(core.get(index))
                    except (BlockMissing, RemoteError):  # given up since
                        continue
            finally:
                await store.release(core)
        return found
