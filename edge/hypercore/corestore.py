"""Many cores under one folder and one primary key: opened when somebody needs them, replicated over any connection.

    async with await Corestore.open(folder) as store:
        prices = await store.get("prices")          # ours: made on first use, with a key pair of its own
        other = await store.get(key=key)            # somebody else's
        session = store.replicate(connection)       # every core of the store, over this connection, while it lasts

The store owns its cores: `get` lends them, `release` gives them back, `close` closes all. A core that a peer asks for
by its discovery key is opened then, served but not followed, and may be closed again once nobody uses it: no more than
`limits.CORES_OPEN_MAX` idle ones keep descriptors, however many cores lie on the disk. Knowing a discovery key gives a
peer nothing; the replicator asks for proof that it knows the key.

A store that was copied, moved or restored from a backup *holds* its own feeds: they can be read, and fetch back what
peers still have, but not be written, because a peer may hold signatures that this copy does not know. Writing goes on
in `succeed`, a new epoch of the feed, or after `release_hold`, when a person knows better. Spec: corestore 7.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.crypto.hashing import discovery_key
from edge.errors import ConfigError, LocalError, RemoteError, StorageError
from edge.hypercore.catalog import Catalog, Feed
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.manifest import Manifest
from edge.hypercore.replicator import ReplicationMetrics, Replicator, Session
from edge.hypercore.replicator.contract import Connection
from edge.hypercore.store import FeedStore
from edge.limits import CORES_OPEN_MAX, SEGMENT_BYTES
from edge.storage.metrics import StorageMetrics

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Open:
    """A core that is open, and how many borrowed it."""

    feed: Feed
    core: Hypercore
    replicator: Replicator
    encryption_key: bytes | None = None  # that it was opened with
    users: int = 0
    lookups: int = 0  # of peers, that have not got it yet

    @property
    def idle(self) -> bool:
        """Whether nobody would miss it."""
        return not self.users and not self.lookups and self.replicator.idle


@dataclass(slots=True, eq=False)
class _Shared:
    """What a store and its namespaces have in common."""

    store: FeedStore
    write: bool
    storage_metrics: StorageMetrics | None
    replication_metrics: ReplicationMetrics | None
    cores_open_max: int
    catalog: Catalog = field(default_factory=Catalog)
    stamp: object = None  # of the catalog's file: another one means that another process has changed it
    by_discovery_key: dict[bytes, Feed] = field(default_factory=dict)
    open: OrderedDict[bytes, _Open] = field(default_factory=OrderedDict)  # by key, least recently used first
    turns: dict[bytes, asyncio.Lock] = field(default_factory=dict)  # one opening or closing of a core at a time
    sessions: list[Session] = field(default_factory=list)
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    trimming: asyncio.Task[None] | None = None
    closed: bool = False


class Corestore:
    """The cores of one folder. Made by `open`; a `namespace` shares everything with its parent but the names."""

    def __init__(self, shared: _Shared, prefix: str = "") -> None:
        self._shared = shared
        self._prefix = prefix

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        write: bool = True,
        storage_metrics: StorageMetrics | None = None,
        replication_metrics: ReplicationMetrics | None = None,
        cores_open_max: int = CORES_OPEN_MAX,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> Self:
        """Open the store in `directory`, which is made by the first core. No core is opened by this.

        `write`: open our own feeds for appending; without it everything can be read and replicated and nothing written.
        `segment_bytes`: of the logs of cores that are made here, see `FeedStore`. Raises `StorageError` for the disk,
        `ConfigError` for a damaged secret.
        """
        files = FeedStore(directory, segment_bytes=segment_bytes)
        shared = _Shared(files, write, storage_metrics, replication_metrics, cores_open_max)
        store = cls(shared)
        if write and (directory / "feeds.json").exists():
            await asyncio.to_thread(shared.store.settle)
        store._reload()
        return store

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def namespace(self, name: str) -> "Corestore":
        """The same store, in which every name stands under `name`: other names, other keys."""
        return Corestore(self._shared, f"{self._prefix}{name}/")

    # --- cores -------------------------------------------------------------------------------------------------------

    async def get(
        self,
        name: str | None = None,
        *,
        key: bytes | None = None,
        encryption_key: bytes | None = None,
        create: bool = True,
        compat: bool = False,
    ) -> Hypercore:
        """The core of that `name`, or of that `key`; with `create`, made where it is not there yet.

        An `encryption_key` (32 bytes) is remembered when the core is made here. Raises `ConfigError` where there is no
        such core, it was made otherwise, or somebody has borrowed it with another encryption key or without one;
        `StorageError` for the disk.
        """
        if (name is None) == (key is None):
            raise LocalError("a core is asked for by its name or by its key")
        feed = self._find(name, key)
        if feed is None:
            if not create:
                raise ConfigError(self._prefix + name if name is not None else (key or b"").hex(), "no such feed")
            feed = await self._create(name, key, encryption_key, compat=compat)
        return (await self._borrow(feed, encryption_key)).core

    async def get_beside(self, owner: bytes, name: str, manifest: Manifest) -> Hypercore:
        """The core of `manifest`, which the key pair of our core with the key `owner` signs; made where it is missing.

        It is kept as `name` under the owner's name. A drive keeps its content in one.
        """
        feed = self._shared.catalog.by_key(manifest.key())
        if feed is None:
            parent = self._shared.catalog.by_key(owner)
            if parent is None or not parent.name:
                raise ConfigError(owner.hex(), "its key pair is not here")
            async with self._shared.changing:
                feed = await self._shared.store.create_beside(parent, f"{parent.name}/{name}", manifest)
                self._reload()
        return (await self._borrow(feed, None)).core

    async def get_under(
        self, name: str, manifest: Manifest, *, signer: str, encryption_key: bytes | None = None
    ) -> Hypercore:
        """The core of `manifest`, which the key pair that this store derives for the name `signer` signs.

        It is kept as `name`, and made where it is missing; see `FeedStore.create_under`.
        """
        name, signer = self._prefix + name, self._prefix + signer
        feed = self._find(None, manifest.key())
        if feed is None or (feed.name, feed.signer) != (name, signer):
            async with self._shared.changing:
                feed = await self._shared.store.create_under(
                    name, manifest, signer=signer, encryption_key=encryption_key
                )
                self._reload()
        return (await self._borrow(feed, encryption_key)).core

    async def release(self, core: Hypercore) -> None:
        """Give a core back that `get` lent. It may be closed at any time from then on."""
        entry = self._shared.open.get(core.key)
        if entry is None or entry.core is not core or entry.users == 0:
            raise LocalError("a core is given back once, to the store that lent it")
        entry.users -= 1
        if not entry.users:
            entry.replicator.following = False
        await self._trim()

    async def forget(self, core: Hypercore) -> None:
        """Close somebody else's core, lent or not, and remove it from the disk."""
        await self._remove(core, self._shared.store.forget)

    async def discard(self, core: Hypercore) -> None:
        """Close a core of our own, lent or not, and remove its blocks and encryption key; it is never written again."""
        await self._remove(core, self._shared.store.discard)

    def feeds(self) -> list[Feed]:
        """Everything in this namespace that has a name, by it."""
        return [feed for feed in self._shared.catalog.named() if feed.name.startswith(self._prefix)]

    def replicator(self, core: Hypercore) -> Replicator:
        """The peers of a core that this store has open."""
        return self._shared.open[core.key].replicator

    # --- copies ------------------------------------------------------------------------------------------------------

    def held(self, name: str) -> bool:
        """Whether `name` must not be appended to, because this copy of the store may be old."""
        feed = self._find(name, None)
        return feed is not None and feed.key in self._shared.catalog.held

    async def succeed(self, name: str) -> Hypercore:
        """Begin a new epoch of `name`: an empty core that takes the name; the old one stays readable under its key."""
        feed = self._find(name, None)
        if feed is None:
            raise ConfigError(self._prefix + name, "no such feed")
        async with self._shared.changing:
            successor = await self._shared.store.succeed(feed)
            self._reload()
        return (await self._borrow(successor, None)).core

    async def release_hold(self, name: str) -> None:
        """A person says that this copy of `name` is the newest and the only one. Takes effect at the next opening."""
        feed = self._find(name, None)
        if feed is None:
            raise ConfigError(self._prefix + name, "no such feed")
        async with self._shared.changing:
            await asyncio.to_thread(self._shared.store.release, feed)
            self._reload()

    async def release_holds(self) -> None:
        """The same of all that this store holds, and of cores of given manifests that it makes later."""
        async with self._shared.changing:
            await asyncio.to_thread(self._shared.store.release_all)
            self._reload()

    # --- peers -------------------------------------------------------------------------------------------------------

    def replicate(self, connection: Connection) -> Session:
        """Replicate over `connection` what is open here, and whatever the peer asks for, until the connection ends."""
        if self._shared.closed:
            raise LocalError("the store is closed")
        session = Session(connection, self._lookup)
        self._shared.sessions = [each for each in self._shared.sessions if not each.connection.closed]
        self._shared.sessions.append(session)
        for entry in list(self._shared.open.values()):
            if entry.users:
                _attach(session, entry)
        return session

    async def close(self) -> None:
        """Close every core, lent or not, and leave every peer. A namespace closes its whole store. Again: nothing."""
        shared = self._shared
        if shared.closed:
            return
        shared.closed = True
        for session in shared.sessions:
            session.close()
        errors = []
        for key, turn in list(shared.turns.items()):
            async with turn:  # after whoever opens or closes it
                entry = shared.open.get(key)
                try:
                    if entry is not None:
                        await self._close(entry)
                except Exception as error:  # noqa: BLE001 - the other cores are closed first
                    errors.append(error)
        if shared.trimming is not None:
            await asyncio.wait([shared.trimming])
        if errors:
            raise errors[0]

    # --- within ------------------------------------------------------------------------------------------------------

    def _find(self, name: str | None, key: bytes | None) -> Feed | None:
        if self._shared.stamp != self._shared.store.stamp():
            self._reload()
        catalog = self._shared.catalog
        return catalog.by_name(self._prefix + name) if name is not None else catalog.by_key(key or b"")

    async def _create(self, name: str | None, key: bytes | None, encryption_key: bytes | None, *, compat: bool) -> Feed:
        async with self._shared.changing:
            self._reload()  # another process may have made it
            feed = self._find(name, key)
            if feed is None and name is not None:
                feed = await self._shared.store.create(
                    self._prefix + name, encryption_key=encryption_key, compat=compat
                )
            elif feed is None and key is not None:
                feed = await self._shared.store.add(key, encryption_key=encryption_key)
            self._reload()
        assert feed is not None
        return feed

    async def _remove(self, core: Hypercore, remove: Callable[[Feed], None]) -> None:
        entry = self._shared.open.get(core.key)
        if entry is None or entry.core is not core:
            raise LocalError("a core is removed by the store that lent it")
        async with self._shared.turns[core.key]:
            if self._shared.open.get(core.key) is entry:
                await self._close(entry)
        async with self._shared.changing:
            await asyncio.to_thread(remove, entry.feed)
            self._reload()

    async def _borrow(self, feed: Feed, encryption_key: bytes | None) -> _Open:
        entry = await self._opened(feed, encryption_key)
        entry.users += 1
        if entry.users == 1:
            entry.replicator.following = True
            for session in self._shared.sessions:
                if not session.connection.closed:
                    _attach(session, entry)
        await self._trim()
        return entry

    async def _opened(self, feed: Feed, encryption_key: bytes | None) -> _Open:
        shared = self._shared
        async with shared.turns.setdefault(feed.key, asyncio.Lock()):
            await self._check_open(feed)
            entry = shared.open.get(feed.key)
            if entry is not None and encryption_key not in (None, entry.encryption_key):
                if entry.users:
                    raise ConfigError("encryption key", "this core is in use with another one, or without")
                await self._close(entry)  # a peer had asked for it: served as it lies there, it needs no key
                entry = None
            if entry is None:
                write = shared.write and bool(feed.name)
                if encryption_key is None and feed.encrypted:
                    encryption_key = shared.store.encryption_key(feed)
                core = await shared.store.open(
                    feed,
                    write=write,
                    held=write and feed.key in shared.catalog.held,
                    encryption_key=encryption_key,
                    metrics=shared.storage_metrics,
                )
                await self._check_open(feed, core)
                replicator = Replicator(core, shared.replication_metrics, following=False)
                replicator.on_idle = self._on_idle
                entry = shared.open[feed.key] = _Open(feed, core, replicator, encryption_key)
            shared.open.move_to_end(feed.key)
            return entry

    async def _check_open(self, feed: Feed, core: Hypercore | None = None) -> None:
        if self._shared.closed:
            if core is not None:
                await core.close()
            raise ConfigError(feed.name or feed.key.hex(), "the store is closed")

    def _lookup(self, wanted: bytes) -> Awaitable[Replicator | None] | None:
        """For a session: a peer names a discovery key. One that is not ours is refused at once, without a task."""
        if wanted not in self._shared.by_discovery_key and self._shared.stamp != self._shared.store.stamp():
            self._reload()
        feed = self._shared.by_discovery_key.get(wanted)
        return None if feed is None or self._shared.closed else self._lookup_feed(feed)

    async def _lookup_feed(self, feed: Feed) -> Replicator | None:
        try:
            entry = await self._opened(feed, None)
        except (StorageError, ConfigError) as error:
            logger.warning("a peer asked for %s, which cannot be opened: %s", feed.name or feed.key.hex(), error)
            return None
        entry.lookups += 1
        try:
            await self._trim()
        finally:
            entry.lookups -= 1
        return entry.replicator  # the session opens its channel before anything else can happen

    def _on_idle(self) -> None:
        """The last peer of a core has left."""
        shared = self._shared
        if shared.trimming is None and not shared.closed and len(shared.open) > shared.cores_open_max:
            shared.trimming = asyncio.create_task(self._trim_later())

    async def _trim_later(self) -> None:
        try:
            await self._trim()
        finally:
            self._shared.trimming = None

    async def _trim(self) -> None:
        """Close what nobody uses, least recently used first, while more is open than should be."""
        shared = self._shared
        while len(shared.open) > shared.cores_open_max and not shared.closed:
            entry = next((entry for entry in shared.open.values() if entry.idle), None)
            if entry is None:
                return
            async with shared.turns[entry.feed.key]:
                if entry.idle and shared.open.get(entry.feed.key) is entry:
                    try:
                        await self._close(entry)
                    except StorageError as error:  # whoever asked for another core is not to blame
                        logger.warning("closing %s: %s", entry.feed.name or entry.feed.key.hex(), error)

    async def _close(self, entry: _Open) -> None:
        del self._shared.open[entry.feed.key]
        entry.replicator.close()
        await entry.core.close()

    def _reload(self) -> None:
        shared = self._shared
        shared.stamp = shared.store.stamp()
        shared.catalog = shared.store.catalog()
        shared.by_discovery_key = {discovery_key(feed.key): feed for feed in shared.catalog.feeds}


def _attach(session: Session, entry: _Open) -> None:
    try:
        session.attach(entry.replicator)
    except RemoteError as error:  # it has as many as it can have; others may have room
        logger.warning("%s: %s", entry.feed.name or entry.feed.key.hex(), error)
