"""Named cores under one folder, with keys derived from one primary key. For the command line's `--store DIR`.

    DIR/primary-key                     32 bytes in hexadecimal, mode 0600; every key pair comes from it and a name
    DIR/feeds.json                      names and keys; replaced as a whole, durable before a name is announced
    DIR/feeds/<discovery key>/          one core: log/, derived/, and encryption-key (0600) where it is encrypted

A name's key pair is derived as stock Corestore does (default namespace), so the same primary key gives the same feeds
there. Losing `primary-key` loses the right to append; the feeds stay readable.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.atomic import replace_file, sync_directory
from edge.crypto.hashing import HASH_BYTES, discovery_key, keyed256, namespace
from edge.crypto.keys import KeyPair, new_secret, parse_key, read_secret, write_secret
from edge.errors import ConfigError, StorageError, StorageFault
from edge.hypercore.hypercore import Hypercore
from edge.limits import FEEDS_MAX, LABEL_CHARS_MAX
from edge.storage.disk import storage_error
from edge.storage.files import OsDisk
from edge.storage.metrics import StorageMetrics

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REGISTRY: Final = "feeds.json"
_PRIMARY: Final = "primary-key"
_ENCRYPTION: Final = "encryption-key"
_VERSION: Final = 1
(_CORESTORE,) = namespace("corestore", 1)
_DEFAULT_NAMESPACE: Final = bytes(HASH_BYTES)


@dataclass(frozen=True, slots=True)
class Feed:
    """One named core of the store."""

    name: str
    key: bytes
    encrypted: bool


def named_key_pair(primary_key: bytes, name: str) -> KeyPair:
    """The key pair of `name` under `primary_key`. Spec: corestore 7, default namespace."""
    return KeyPair.from_seed(keyed256(primary_key, _CORESTORE, _DEFAULT_NAMESPACE, name.encode()))


class FeedStore:
    """The cores of one folder. Opening it changes nothing on disk; `create` makes what is missing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def feeds(self) -> list[Feed]:
        """All feeds, by name. Raises `StorageError` if the registry cannot be read or has been damaged."""
        path = self._directory / _REGISTRY
        try:
            text = path.read_text()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"cannot read {path}: {error}", fault=StorageFault.IO) from error
        try:
            return _parse(text)
        except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
            raise StorageError(f"{path} is damaged: {error}", fault=StorageFault.CORRUPT) from error

    def find(self, name_or_key: str) -> Feed:
        """The feed of that name, or of that key in hexadecimal; `ConfigError` if there is none."""
        for feed in self.feeds():
            if name_or_key == feed.name or name_or_key.lower() == feed.key.hex():
                return feed
        raise ConfigError(name_or_key, f"no such feed in {self._directory}")

    async def create(self, name: str, *, encryption_key: bytes | None = None) -> Feed:
        """Make the core `name`; `ConfigError` if the name is taken or cannot be one."""
        if len(name) > LABEL_CHARS_MAX or not _NAME.fullmatch(name) or _is_key(name):
            raise ConfigError(name, f"a feed's name is 1 to {LABEL_CHARS_MAX} letters, digits, '.', '_' or '-'")
        with self._locked():
            feeds = self.feeds()
            if any(feed.name == name for feed in feeds):
                raise ConfigError(name, f"there is already such a feed in {self._directory}")
            if len(feeds) >= FEEDS_MAX:
                raise ConfigError(name, f"{self._directory} holds {FEEDS_MAX} feeds already")
            pair = named_key_pair(self._primary_key(), name)
            temporary = self._directory / "feeds" / f".{name}.new"
            if temporary.exists():
                shutil.rmtree(temporary)  # what an interrupted creation left behind
            core = await Hypercore.open(temporary, create=True, key_pair=pair, encryption_key=encryption_key)
            feed = Feed(name, core.key, core.encrypted)
            await core.close()
            if encryption_key is not None:
                write_secret(temporary / _ENCRYPTION, encryption_key)
            with _reporting(f"creating feed {name} in {self._directory}"):
                folder = self._folder(feed)
                if folder.exists():
                    shutil.rmtree(folder)  # complete, but its name was never told to anybody: it has no blocks
                temporary.rename(folder)
                sync_directory(folder.parent)
                replace_file(self._directory / _REGISTRY, _format([*feeds, feed]))
        return feed

    async def open(
        self,
        feed: Feed,
        *,
        write: bool = False,
        encryption_key: bytes | None = None,
        metrics: StorageMetrics | None = None,
    ) -> Hypercore:
        """Open a feed, to append with `write`. An encryption key that was given at its creation is remembered."""
        folder = self._folder(feed)
        pair = None
        if write:
            primary = read_secret(self._directory / _PRIMARY)
            if primary is None:
                raise ConfigError(str(self._directory / _PRIMARY), "missing; feeds here can be read but not written")
            pair = named_key_pair(primary, feed.name)
        if feed.encrypted and encryption_key is None:
            encryption_key = read_secret(folder / _ENCRYPTION)
        return await Hypercore.open(folder, key=feed.key, key_pair=pair, encryption_key=encryption_key, metrics=metrics)

    def _folder(self, feed: Feed) -> Path:
        return self._directory / "feeds" / discovery_key(feed.key).hex()

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


def _is_key(text: str) -> bool:
    return len(text) == 2 * HASH_BYTES and all(digit in "0123456789abcdefABCDEF" for digit in text)


def _parse(text: str) -> list[Feed]:
    registry = json.loads(text)
    if registry["version"] != _VERSION or set(registry) != {"version", "feeds"}:
        raise ValueError("unknown version or fields")
    feeds = []
    for name, entry in registry["feeds"].items():
        if set(entry) != {"key", "encrypted"} or type(entry["encrypted"]) is not bool or not _NAME.fullmatch(name):
            raise ValueError(f"feed {name!r}")
        feeds.append(Feed(name, parse_key(entry["key"], what=name), entry["encrypted"]))
    return sorted(feeds, key=lambda feed: feed.name)


def _format(feeds: list[Feed]) -> bytes:
    entries = {feed.name: {"key": feed.key.hex(), "encrypted": feed.encrypted} for feed in feeds}
    return json.dumps({"version": _VERSION, "feeds": entries}, indent=1, sort_keys=True).encode() + b"\n"


@contextmanager
def _reporting(action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, action) from error
