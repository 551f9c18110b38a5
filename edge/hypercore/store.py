"""The feeds of one folder on disk: names, keys derived from one primary key, and the folders that cores live in.

    DIR/primary-key                     32 bytes in hexadecimal, mode 0600; every key pair comes from it and a name
    DIR/feeds.json                      the catalog; replaced as a whole, durable before a name is announced
    DIR/feeds/<discovery key>/          one core: log/, derived/, and encryption-key (0600) where it is encrypted

A name's key pair is derived as stock Corestore does, so the same primary key gives the same feeds there; a name with
slashes stands in nested namespaces. Losing `primary-key` loses the right to append; the feeds stay readable.
`corestore.Corestore` keeps the cores of a store open and replicates them.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from edge.atomic import replace_file, sync_directory
from edge.crypto.hashing import HASH_BYTES, discovery_key, hash256, keyed256, namespace
from edge.crypto.keys import KeyPair, new_secret, parse_key, read_secret, write_secret
from edge.errors import ConfigError, StorageError, StorageFault
from edge.hypercore.catalog import LATER, Catalog, Feed, check_name, format_catalog, parse
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.manifest import Manifest, Signer
from edge.hypercore.place import fingerprint
from edge.limits import SEGMENT_BYTES
from edge.storage.disk import storage_error
from edge.storage.files import OsDisk
from edge.storage.metrics import StorageMetrics

_REGISTRY: Final = "feeds.json"
_PRIMARY: Final = "primary-key"
_ENCRYPTION: Final = "encryption-key"
(_CORESTORE,) = namespace("corestore", 1)
_DEFAULT_NAMESPACE: Final = bytes(HASH_BYTES)

__all__ = ["Feed", "FeedStore", "named_key_pair"]


def named_key_pair(primary_key: bytes, name: str) -> KeyPair:
    """The key pair of `name` under `primary_key`; parts before a slash are namespaces. Spec: corestore 7."""
    *spaces, last = name.split("/")
    space = _DEFAULT_NAMESPACE
    for part in spaces:
        space = hash256(space, part.encode())
    return KeyPair.from_seed(keyed256(primary_key, _CORESTORE, space, last.encode()))


class FeedStore:
    """The cores of one folder. Opening it changes nothing on disk; `create` makes what is missing."""

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        """`segment_bytes`: of the logs of cores that are made here; each takes one at once, filled with zeros."""
        self._directory = directory
        self._segment_bytes = segment_bytes

    def catalog(self) -> Catalog:
        """Everything the store knows of. Raises `StorageError` if it cannot be read or has been damaged."""
        path = self._directory / _REGISTRY
        try:
            text = path.read_text()
        except FileNotFoundError:
            return Catalog()
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"cannot read {path}: {error}", fault=StorageFault.IO) from error
        try:
            return parse(text)
        except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
            raise StorageError(f"{path} is damaged: {error}", fault=StorageFault.CORRUPT) from error

    def stamp(self) -> object:
        """Changes whenever the catalog does; None while there is none."""
        try:
            state = (self._directory / _REGISTRY).stat()
        except OSError:
            return None
        return state.st_ino, state.st_mtime_ns

    def feeds(self) -> list[Feed]:
        """All feeds that have a name, by it."""
        return self.catalog().named()

    def find(self, name_or_key: str) -> Feed:
        """The feed of that name, or of that key in hexadecimal; `ConfigError` if there is none."""
        catalog = self.catalog()
        feed = catalog.by_name(name_or_key)
        if feed is None and len(name_or_key) == 2 * HASH_BYTES:
            feed = catalog.by_key(parse_key(name_or_key, what=name_or_key))
        if feed is None:
            raise ConfigError(name_or_key, f"no such feed in {self._directory}")
        return feed

    def identity(self) -> KeyPair:
        """The key pair that this store shows to peers; made with the primary key where there is none yet."""
        primary = read_secret(self._directory / _PRIMARY)
        if primary is None:
            with self._locked():
                primary = self._primary_key()
        return KeyPair.from_seed(keyed256(primary, b"pomona peer"))

    # --- making feeds ------------------------------------------------------------------------------------------------

    async def create(self, name: str, *, encryption_key: bytes | None = None, compat: bool = False) -> Feed:
        """Make the core `name`; `ConfigError` if the name is taken or cannot be one."""
        check_name(name)
        with self._locked():
            pair = named_key_pair(self._primary_key(), name)
            manifest = None if compat else Manifest.single(pair.public_key)
            key = pair.public_key if manifest is None else manifest.key()
            feed = Feed(name, key, encryption_key is not None)
            await self._make(feed, pair, manifest, encryption_key, lambda catalog: catalog.with_feed(feed))
        return feed

    async def create_beside(self, owner: Feed, name: str, manifest: Manifest) -> Feed:
        """Make the core `name`, which the key pair of `owner` signs under another manifest; encrypted as `owner` is."""
        check_name(name)
        with self._locked():
            pair = named_key_pair(self._primary_key(), owner.signing_name)
            feed = Feed(name, manifest.key(), owner.encrypted, signer=owner.signing_name)
            secret = self.encryption_key(owner)
            await self._make(feed, pair, manifest, secret, lambda catalog: catalog.with_feed(feed))
        return feed

    async def create_under(self, name: str, manifest: Manifest, *, signer: str, encryption_key: bytes | None) -> Feed:
        """The core of `manifest`, kept as `name` and signed by the key pair of the name `signer`; made where it is not.

        Whoever knows the manifest knows the core's key before there is a core. So a copy of a store that was restored
        cannot tell a new core from one that the original has signed already: what it makes is held from the start.
        Raises `ConfigError` where the key pair is not a signer, or the name or the core is there for something else.
        """
        check_name(name)
        check_name(signer)
        with self._locked():
            pair = named_key_pair(self._primary_key(), signer)
            if manifest.signer_index(pair.public_key) is None:
                raise ConfigError(name, f"the key pair of {signer} is no signer of its manifest")
            feed = Feed(name, manifest.key(), encryption_key is not None, signer=signer)
            there = self.catalog().by_key(feed.key)
            if there is not None and there != feed:
                raise ConfigError(name, "there is another feed with the key of its manifest")
            if there is None:
                await self._make(
                    feed, pair, manifest, encryption_key, lambda catalog: catalog.with_feed(feed, later=True)
                )
        return feed

    async def add(self, key: bytes, *, encryption_key: bytes | None = None) -> Feed:
        """Make room for somebody else's core, known by its key; the one that is there already, if so."""
        with self._locked():
            there = self.catalog().by_key(key)
            if there is not None:
                return there
            feed = Feed("", key, encryption_key is not None)
            await self._make(feed, None, None, encryption_key, lambda catalog: catalog.with_feed(feed))
        return feed

    async def succeed(self, old: Feed) -> Feed:
        """A new feed in the place of `old`, which is never written again: its next epoch, linked to it by manifest.

        Linked cores stand in manifests of version 2 (hypercore 11: `linked`). Raises `ConfigError`.
        """
        with self._locked():
            if not old.name or old.signer:
                raise ConfigError(old.name or old.key.hex(), "only a named feed of one's own can be succeeded")
            feed = replace(old, epoch=old.epoch + 1, previous=old.key)
            pair = named_key_pair(self._primary_key(), feed.signing_name)
            manifest = Manifest(version=2, signers=(Signer(pair.public_key),), quorum=1, linked=(old.key,))
            feed = replace(feed, key=manifest.key())
            secret = self.encryption_key(old)
            await self._make(feed, pair, manifest, secret, lambda catalog: catalog.succeeded(old, feed))
        return feed

    def forget(self, feed: Feed) -> None:
        """Remove somebody else's core, its blocks too. It must not be open."""
        with self._locked(), _reporting(f"removing {feed.key.hex()} from {self._directory}"):
            if feed.name:
                raise ConfigError(feed.name, "a feed of one's own is never removed")
            self._write(self.catalog().without(feed))
            shutil.rmtree(self.folder(feed), ignore_errors=True)  # what stays behind is replaced by a later `add`

    def discard(self, feed: Feed) -> None:
        """Remove the blocks and the encryption key of a feed of our own; never made or written again. Not while open.

        The catalog remembers it, because a core made anew under its key would sign other content under indexes that
        peers have seen.
        """
        with self._locked(), _reporting(f"discarding {feed.name} in {self._directory}"):
            catalog = self.catalog()
            self._write(replace(catalog, held=catalog.held | {feed.key}))
            folder = self.folder(feed)
            (folder / _ENCRYPTION).unlink(missing_ok=True)  # first: without it the rest says nothing
            shutil.rmtree(folder, ignore_errors=True)

    # --- where the store is at home ----------------------------------------------------------------------------------

    def settle(self) -> list[Feed]:
        """Compare the place with the one of the last time; returns feeds that are held from now on: all of ours.

        The first call of a store that knows no place yet only remembers it.
        """
        with self._locked():
            catalog = self.catalog()
            with _reporting(f"looking at {self._directory}"):
                place = fingerprint(self._directory / _PRIMARY)
            if place is None or place == catalog.place:
                return []
            held = catalog.named() if catalog.place is not None else []
            later = {LATER} if catalog.place is not None else set()
            self._write(replace(catalog, place=place, held=catalog.held | {feed.key for feed in held} | later))
        return held

    def release(self, feed: Feed) -> None:
        """Somebody who knows says that this copy of `feed` is the newest and the only one: it may be written again."""
        with self._locked():
            catalog = self.catalog()
            self._write(replace(catalog, held=catalog.held - {feed.key}))

    def release_all(self) -> None:
        """The same of every feed, and of those of given manifests that are made later; discarded ones stay held."""
        with self._locked():
            catalog = self.catalog()
            gone = {feed.key for feed in catalog.named() if not self.folder(feed).exists()}
            self._write(replace(catalog, held=catalog.held & gone))

    # --- opening -----------------------------------------------------------------------------------------------------

    async def open(
        self,
        feed: Feed,
        *,
        write: bool = False,
        held: bool = False,
        encryption_key: bytes | None = None,
        metrics: StorageMetrics | None = None,
    ) -> Hypercore:
        """Open a feed, to append with `write`. An encryption key that was given at its creation is remembered.

        `held`: open it with its key pair but refuse to append. `Corestore` does that with feeds that the catalog holds,
        because peers may know more of them than this copy; a feed that no peer ever sees needs no hold.
        """
        pair = None
        if write:
            primary = read_secret(self._directory / _PRIMARY)
            if primary is None:
                raise ConfigError(str(self._directory / _PRIMARY), "missing; feeds here can be read but not written")
            pair = named_key_pair(primary, feed.signing_name)
        if feed.encrypted and encryption_key is None:
            encryption_key = self.encryption_key(feed)
        return await Hypercore.open(
            self.folder(feed), key=feed.key, key_pair=pair, encryption_key=encryption_key, held=held, metrics=metrics
        )

    def encryption_key(self, feed: Feed) -> bytes | None:
        """The key that was given when the feed was made; None where there is none here."""
        return read_secret(self.folder(feed) / _ENCRYPTION)

    def folder(self, feed: Feed) -> Path:
        """Where the core lies."""
        return self._directory / "feeds" / discovery_key(feed.key).hex()

    # --- within ------------------------------------------------------------------------------------------------------

    async def _make(
        self,
        feed: Feed,
        pair: KeyPair | None,
        manifest: Manifest | None,
        encryption_key: bytes | None,
        register: Callable[[Catalog], Catalog],
    ) -> None:
        """Create the core's folder complete, then its name: what an interruption leaves behind is found by nobody."""
        catalog = register(self.catalog())  # refuses before anything is written
        temporary = self._directory / "feeds" / f".{(feed.name or feed.key.hex()).replace('/', '~')}.new"
        with _reporting(f"creating feed {feed.name} in {self._directory}"):
            if temporary.exists():
                shutil.rmtree(temporary)  # what an interrupted creation left behind
        core = await Hypercore.open(
            temporary,
            create=True,
            key=feed.key,
            key_pair=pair,
            manifest=manifest,
            compat=pair is not None and manifest is None,
            encryption_key=encryption_key,
            segment_bytes=self._segment_bytes,
        )
        await core.close()
        if encryption_key is not None:
            write_secret(temporary / _ENCRYPTION, encryption_key)
        with _reporting(f"creating feed {feed.name} in {self._directory}"):
            folder = self.folder(feed)
            if folder.exists():
                shutil.rmtree(folder)  # complete, but its name was never told to anybody: it has no blocks
            temporary.rename(folder)
            sync_directory(folder.parent)
            if catalog.place is None:
                catalog = replace(catalog, place=fingerprint(self._directory / _PRIMARY))
            self._write(catalog)

    def _write(self, catalog: Catalog) -> None:
        with _reporting(f"writing {self._directory / _REGISTRY}"):
            replace_file(self._directory / _REGISTRY, format_catalog(catalog))

    def _primary_key(self) -> bytes:
        path = self._directory / _PRIMARY
        primary = read_secret(path)
        if primary is None:
            if self.feeds():
                raise ConfigError(str(path), "missing, but there are feeds; put it back before making more")
            primary = new_secret()
            write_secret(path, primary)
        return primary

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with _reporting(f"opening {self._directory}"):
            disk = OsDisk(self._directory, create=True)
            disk.lock()
        try:
            yield
        finally:
            disk.unlock()


@contextmanager
def _reporting(action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, action) from error
