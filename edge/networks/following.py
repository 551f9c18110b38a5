"""The members' feeds on this box: which are kept open and fetched, and how what was fetched is read.

Feeds of the present key epoch and of the one before are open and in touch with peers. Older ones are looked at now and
again (`catch_up`): opened, completed as far as peers have them, closed, so that years of epochs cost no descriptors.

Reading is pull. Replication stores on disk what comes; nothing of it is held in memory for a reader. A reader has a
cursor, the next sequence by feed, and gets what stands there without a gap, up to the feed's limit and no further.

Invariants
- Blocks behind a feed's limit are never read out, and given up where they are here, so no peer gets them from us.
- A feed whose writer went back on what it said (a fork, or two histories) is read no further: members only append.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from edge.errors import BlockMissing, ConfigError, RemoteError, StorageError
from edge.hypercore.corestore import Corestore
from edge.hypercore.demand import Download
from edge.hypercore.events import Cleared, Event
from edge.hypercore.hypercore import Hypercore
from edge.limits import NETWORK_CATCH_UP_S, NETWORK_FEEDS_OPEN_MAX, NETWORK_READ_BYTES
from edge.networks.access import FeedKind
from edge.networks.feeds import PRIORITY, NetworkFeed

logger = logging.getLogger(__name__)

EPOCHS_OPEN: Final = 2  # the present one, and the one before: who was away for a while still writes there


@dataclass(frozen=True, slots=True)
class Arrival:
    """One block of a member's feed, as it came: decrypted, its place proven, what it says not looked at."""

    network_id: bytes
    member: bytes  # id
    kind: FeedKind
    epoch: int
    feed_key: bytes
    sequence: int
    block: bytes


class _Followed:
    """One feed, open or not."""

    __slots__ = ("broken", "core", "download", "feed", "held", "unsubscribe")

    def __init__(self, feed: NetworkFeed) -> None:
        self.feed = feed
        self.core: Hypercore | None = None
        self.download: Download | None = None
        self.unsubscribe: Callable[[], None] | None = None
        self.held = 0  # blocks from 0 on, when it was last looked at
        self.broken = False

    @property
    def end(self) -> int:
        """Up to where it can be read now."""
        core, limit = self.core, self.feed.limit
        if self.broken:
            return 0
        if core is not None:
            self.held = core.contiguous
        return self.held if limit is None else min(self.held, limit)


class Following:
    """The feeds of others in one network. `news` is called whenever there may be more to read."""

    def __init__(self, network_id: bytes, store: Corestore, news: Callable[[], None]) -> None:
        self._network_id = network_id
        self._store = store
        self._news = news
        self._feeds: dict[bytes, _Followed] = {}
        self._changing = asyncio.Lock()  # what is open
        self._turn = 0  # which feed of a kind comes first
        self.broken: Callable[[NetworkFeed], None] | None = None  # called once for each feed found so

    # --- which feeds -------------------------------------------------------------------------------------------------

    async def follow(self, feeds: Mapping[bytes, NetworkFeed], epoch: int) -> None:
        """Follow these, in this order, and no others; `epoch` is the present one. Raises `StorageError`."""
        async with self._changing:
            for key in [key for key in self._feeds if key not in feeds]:
                await self._close(self._feeds.pop(key))
            order = {}
            for key, feed in feeds.items():
                order[key] = followed = self._feeds.get(key) or _Followed(feed)
                if followed.feed != feed:
                    followed.feed = feed
                    await self._limit(followed)
            self._feeds = order
            for followed in order.values():
                if not self._live(followed, epoch):
                    await self._close(followed)
            opened = sum(followed.core is not None for followed in order.values())
            for followed in sorted(order.values(), key=lambda each: -each.feed.epoch):
                if followed.core is None and self._live(followed, epoch) and opened < NETWORK_FEEDS_OPEN_MAX:
                    opened += await self._open(followed) is not None
        self._news()

    async def catch_up(self) -> None:
        """Complete the feeds that are not kept open, as far as peers of now have them. Raises `StorageError`."""
        for followed in list(self._feeds.values()):
            async with self._changing:  # who is there and not open, once whoever opens feeds now is done
                there = self._feeds.get(followed.feed.key) is followed and followed.core is None
                core = await self._open(followed) if there else None
            if core is None:
                continue
            try:
                async with asyncio.timeout(NETWORK_CATCH_UP_S):
                    await core.update()
                    limit = followed.feed.limit
                    await core.download(core.contiguous, core.length if limit is None else min(limit, core.length)).done
            except (TimeoutError, StorageError) as error:
                logger.debug("feed %s is not complete yet: %s", followed.feed.key.hex()[:8], error)
            finally:
                before = followed.held
                async with self._changing:
                    await self._close(followed)
                if followed.held > before:
                    self._news()

    async def forget(self, key: bytes) -> None:
        """Remove a feed, its blocks and encryption key from the disk. Raises `StorageError`."""
        async with self._changing:
            followed = self._feeds.pop(key, None)
            core = None if followed is None else followed.core
            if followed is None:
                return
            if core is None:
                core = await self._store.get(key=key, encryption_key=followed.feed.encryption_key)
            self._withdraw(followed)
            await self._store.forget(core)

    async def close(self) -> None:
        """Let go of everything."""
        async with self._changing:
            for followed in self._feeds.values():
                await self._close(followed)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def next(self, cursor: Mapping[bytes, int], limit: int) -> list[Arrival]:
        """Up to `limit` blocks that follow `cursor` (feed key to the next sequence; 0 where it says nothing).

        Critical kinds come first; feeds of one kind share what is left evenly and take turns in coming first, so that
        one member cannot hold up the others. The blocks of one feed are in order and without a gap. Fewer than `limit`
        come where they have many bytes; none comes only where there is none.
        """
        found: list[Arrival] = []
        size, self._turn = 0, self._turn + 1
        for kind in PRIORITY:
            waiting = [
                (followed, start)
                for followed in list(self._feeds.values())
                if followed.feed.kind is kind and (start := cursor.get(followed.feed.key, 0)) < followed.end
            ]
            if waiting:
                first = self._turn % len(waiting)
                waiting = waiting[first:] + waiting[:first]
            while waiting and len(found) < limit and size < NETWORK_READ_BYTES:
                share = max((limit - len(found)) // len(waiting), 1)
                rest = []
                for followed, start in waiting:
                    if len(found) >= limit or size >= NETWORK_READ_BYTES:
                        break
                    end = min(start + share, followed.end, start + limit - len(found))
                    blocks = await self._read(followed, start, end, NETWORK_READ_BYTES - size)
                    found += (self._arrival(followed.feed, start + n, block) for n, block in enumerate(blocks))
                    size += sum(map(len, blocks))
                    if len(blocks) == end - start and end < followed.end:
                        rest.append((followed, end))
                waiting = rest
            if len(found) >= limit or size >= NETWORK_READ_BYTES:
                break
        return found

    async def _read(self, followed: _Followed, start: int, end: int, room: int) -> list[bytes]:
        """Blocks from `start` on, at least one where there is one, then while they fit into `room` bytes."""
        core, feed = followed.core, followed.feed
        borrowed = None
        found: list[bytes] = []
        try:
            if core is None:
                core = borrowed = await self._store.get(key=feed.key, encryption_key=feed.encryption_key)
            for index in range(start, end):
                block = self._block(core, index)
                found.append(block)
                room -= len(block)
                if room <= 0:
                    break
        except (BlockMissing, IndexError):  # cleared, or truncated, a moment ago
            pass
        except (StorageError, ConfigError) as error:
            logger.warning("feed %s cannot be read from block %d on: %s", feed.key.hex()[:8], start + len(found), error)
        finally:
            if borrowed is not None:
                await self._store.release(borrowed)
        return found

    def _block(self, core: Hypercore, index: int) -> bytes:
        try:
            return core.get(index)
        except RemoteError:  # shorter than what encryption adds: no message, but its place is taken
            return b""

    def _arrival(self, feed: NetworkFeed, sequence: int, block: bytes) -> Arrival:
        return Arrival(self._network_id, feed.member, feed.kind, feed.epoch, feed.key, sequence, block)

    # --- figures -----------------------------------------------------------------------------------------------------

    def cores(self) -> list[tuple[NetworkFeed, Hypercore]]:
        """The feeds that are open."""
        return [(each.feed, each.core) for each in self._feeds.values() if each.core is not None]

    def feeds(self) -> list[NetworkFeed]:
        """All that are followed."""
        return [followed.feed for followed in self._feeds.values()]

    def behind(self, kinds: Collection[FeedKind]) -> int:
        """Blocks of open feeds of these kinds that peers have shown and that are not here."""
        return sum(self._behind(feed, core) for feed, core in self.cores() if feed.kind in kinds)

    def _behind(self, feed: NetworkFeed, core: Hypercore) -> int:
        shown = core.length + self._store.replicator(core).lag
        return max((shown if feed.limit is None else min(shown, feed.limit)) - core.contiguous, 0)

    # --- opening and closing -----------------------------------------------------------------------------------------

    def _live(self, followed: _Followed, epoch: int) -> bool:
        return followed.feed.epoch > epoch - EPOCHS_OPEN

    async def _open(self, followed: _Followed) -> Hypercore | None:
        feed = followed.feed
        try:
            core = await self._store.get(key=feed.key, encryption_key=feed.encryption_key)
        except ConfigError as error:
            logger.warning("feed %s cannot be followed: %s", feed.key.hex()[:8], error)
            return None
        followed.core = core
        followed.unsubscribe = core.subscribe(lambda event: self._heard(followed, event))
        await self._limit(followed)
        self._look(followed)
        return core

    async def _limit(self, followed: _Followed) -> None:
        """Want what counts and no more; give up what lies behind it."""
        core, limit = followed.core, followed.feed.limit
        if core is None or core.frozen is not None:
            return
        if followed.download is not None:
            followed.download.cancel()
        followed.download = core.download(min(core.contiguous, core.length), limit)
        if limit is not None and next(core.held(limit, max(core.length, limit)), None) is not None:
            await core.clear(limit, core.length)

    def _heard(self, followed: _Followed, event: Event) -> None:
        if not isinstance(event, Cleared):
            self._look(followed)
            self._news()

    def _look(self, followed: _Followed) -> None:
        core = followed.core
        if core is None or followed.broken or (core.frozen is None and not core.fork):
            return
        followed.broken = True
        if followed.download is not None:
            followed.download.cancel()
        logger.warning("feed %s: its writer went back on what it said; read no further", followed.feed.key.hex()[:8])
        if self.broken is not None:
            self.broken(followed.feed)

    def _withdraw(self, followed: _Followed) -> None:
        if followed.unsubscribe is not None:
            followed.unsubscribe()
        if followed.download is not None and not followed.download.done.done():
            followed.download.cancel()
        followed.core = followed.download = followed.unsubscribe = None

    async def _close(self, followed: _Followed) -> None:
        core = followed.core
        if core is None:
            return
        _ = followed.end  # remembers how much is held
        self._withdraw(followed)
        await self._store.release(core)
