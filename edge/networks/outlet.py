"""The gate on the way out, by type: what may enter a feed of which network.

    PrivateOutlet       Cleared        any payload, identifiers off
    ConsortiumOutlet    Released       noised and paid for, in the privacy ledger
    PublicOutlet        Released       made from what had been released before
    SumsOutlet          Message        of a round of a sum between owners, into the feed of sums alone

`Cleared` and `Released` come from `edge.privacy.released` alone, each for one network. A replicated block cannot be
recalled, so what the types say is checked again when it runs: the token's network, and the matrix (`edge.networks.
access`). There is no other way to a feed of our own: `OwnFeeds` does not hand its cores out to be appended to.

Invariants
- A message's signature covers its place, which holds its index: so the appends of one feed stand in a row, each after
  the one before is durable, and a batch is one group commit. Whoever stops waiting does not stop the append.
- What is appended lands in the feed of the epoch that is current when its turn has come.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from edge.clock import Clock
from edge.crypto.keys import KeyPair
from edge.errors import LocalError, RecordInvalid, StorageError, StorageFault
from edge.hypercore.hypercore import Hypercore
from edge.limits import SUM_MESSAGE_BYTES_MAX
from edge.networks.access import FeedKind, check, feed_of
from edge.privacy.released import Cleared, Released
from edge.privacy.secure_sum import messages as sums
from edge.records.message import Network, NetworkMessage, Place, encode, signable
from edge.records.shared import Payload


@dataclass(frozen=True, slots=True)
class OwnFeed:
    """A feed of our own in one epoch, and the key pair that signs it and its messages."""

    kind: FeedKind
    epoch: int
    core: Hypercore
    signer: KeyPair = field(repr=False)


class OwnFeeds:
    """The feeds that this box writes in one network, as the epochs go by. The node moves them, an outlet writes."""

    def __init__(self, network_id: bytes, network: Network, clock: Clock) -> None:
        self.network_id: Final = network_id
        self.network: Final = network
        self._clock = clock
        self._feeds: dict[FeedKind, OwnFeed] = {}
        self._turns = {kind: asyncio.Lock() for kind in FeedKind}
        self._writing: set[asyncio.Task[list[Place]]] = set()

    @property
    def epoch(self) -> int | None:
        """The epoch that is written; None: none, this box is no writer now."""
        return next((feed.epoch for feed in self._feeds.values()), None)

    def lengths(self) -> dict[FeedKind, int]:
        """Blocks of each feed of the present epoch."""
        return {kind: feed.core.length for kind, feed in self._feeds.items()}

    def keys(self) -> list[bytes]:
        """Of each feed of the present epoch."""
        return [feed.core.key for feed in self._feeds.values()]

    async def move(self, feeds: Mapping[FeedKind, OwnFeed]) -> None:
        """Write to these from now on, once what is being written is durable."""
        for kind, turn in self._turns.items():
            async with turn:
                feed = feeds.get(kind)
                if feed is not None:
                    self._feeds[kind] = feed
                else:
                    self._feeds.pop(kind, None)

    async def _append(self, payloads: Sequence[Payload]) -> list[Place]:
        by_kind: dict[FeedKind, list[Payload]] = {}
        for payload in payloads:
            check(self.network, feed_of(payload), payload)
            by_kind.setdefault(feed_of(payload), []).append(payload)
        places: list[Place] = []
        for kind, some in by_kind.items():
            task = asyncio.create_task(self._in_turn(kind, some))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
            places += await asyncio.shield(task)  # cancelled or not, the next one's indexes are known after this one's
        return places

    async def _append_sums(self, blocks: Sequence[bytes]) -> None:
        task = asyncio.create_task(self._sums_in_turn(blocks))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        await asyncio.shield(task)

    async def _sums_in_turn(self, blocks: Sequence[bytes]) -> list[Place]:
        async with self._turns[FeedKind.SUMS]:
            core = self._feed(FeedKind.SUMS).core
            length = await core.append(blocks, urgent=True)
            return [Place(self.network_id, core.key, length - len(blocks) + n) for n in range(len(blocks))]

    def _feed(self, kind: FeedKind) -> OwnFeed:
        feed = self._feeds.get(kind)
        if feed is None:
            raise StorageError(
                f"no {kind.name.lower()} feed can be written: this box is no writer of the network now, or has not "
                "got the secret of its present epoch",
                fault=StorageFault.READ_ONLY,
            )
        return feed

    async def _in_turn(self, kind: FeedKind, payloads: Sequence[Payload]) -> list[Place]:
        async with self._turns[kind]:
            feed = self._feed(kind)
            core, at = feed.core, self._clock.wall()
            places = [Place(self.network_id, core.key, core.length + n) for n in range(len(payloads))]
            blocks = []
            for payload, place in zip(payloads, places, strict=True):
                message = NetworkMessage(self.network, at, payload)
                blocks.append(encode(replace(message, signature=feed.signer.sign(signable(message, place)))))
            length = await core.append(blocks, urgent=True)
            if length != places[-1].sequence + 1:
                raise LocalError(f"a feed of ours has {length} blocks, where {places[-1].sequence + 1} were signed for")
            return places


class _Outlet:
    _network: Network

    def __init__(self, feeds: OwnFeeds) -> None:
        """Raises `LocalError` for the feeds of another kind of network."""
        if feeds.network is not self._network:
            raise LocalError(f"feeds of a {feeds.network} network behind the outlet of a {self._network} one")
        self._feeds = feeds

    def _check_network(self, network_id: bytes) -> None:
        if network_id != self._feeds.network_id:
            raise RecordInvalid("what was cleared for one network may not enter another", reason="network")


class PrivateOutlet(_Outlet):
    """Into the feeds of a private network."""

    _network = Network.PRIVATE

    async def append(self, cleared: Cleared) -> Place:
        """Sign and append one payload; where it stands, once it is durable.

        Raises `RecordInvalid` (reasons `network`, `matrix`) for what may not, `StorageError`: READ_ONLY where this box
        writes no feed now, FULL and IO may pass; `LocalError` where it is too large for a message.
        """
        return (await self.append_all((cleared,)))[0]

    async def append_all(self, cleared: Iterable[Cleared]) -> list[Place]:
        """The same for several: one group commit for each kind of feed. Where they stand, kind by kind."""
        tokens = tuple(cleared)
        for token in tokens:
            if type(token) is not Cleared:
                raise RecordInvalid("only what the first layer has cleared may enter here", reason="matrix")
            self._check_network(token.network)
        return await self._feeds._append([token.payload for token in tokens])


class _ReleaseOutlet(_Outlet):
    async def append(self, released: Released) -> list[Place]:
        """Sign and append the records of one release; where they stand, kind by kind, once they are durable.

        Raises like `PrivateOutlet.append`. Appending a release again after a crash repeats its records, and tells
        nobody more.
        """
        if type(released) is not Released:  # the type checker says so first; what leaves cannot be called back
            raise RecordInvalid("only what was released through the privacy ledger may enter here", reason="matrix")
        self._check_network(released.network)
        return await self._feeds._append(released.records)


class ConsortiumOutlet(_ReleaseOutlet):
    """Into the feeds of a consortium."""

    _network = Network.CONSORTIUM


class PublicOutlet(_ReleaseOutlet):
    """Into the feeds of a public network."""

    _network = Network.PUBLIC


class SumsOutlet(_Outlet):
    """Into the feed of sums of a consortium: messages of rounds (`edge.privacy.secure_sum`), nothing else by its type.

    Blocks of this feed carry no signature of their own: a round names its members, and a feed is one member's.
    """

    _network = Network.CONSORTIUM

    async def append(self, round_digest: bytes, messages: Iterable[sums.Message]) -> None:
        """Append messages of the round with this digest, one block each; returns once they are durable.

        Raises `StorageError` like `PrivateOutlet.append`, after which they may be durable all the same: to append the
        same messages again changes nothing for who reads them.
        """
        blocks = [sums.encode(message, round_digest) for message in messages]
        if any(len(block) > SUM_MESSAGE_BYTES_MAX for block in blocks):
            raise LocalError("a message of a sum is too large for its feed")
        if blocks:
            await self._feeds._append_sums(blocks)


Outlet = PrivateOutlet | ConsortiumOutlet | PublicOutlet


def outlet_of(feeds: OwnFeeds) -> Outlet:
    """The outlet of this kind of network."""
    if feeds.network is Network.PRIVATE:
        return PrivateOutlet(feeds)
    return ConsortiumOutlet(feeds) if feeds.network is Network.CONSORTIUM else PublicOutlet(feeds)
