"""Which feeds a folder holds: names, keys, epochs, and the place where the folder was last at home. Pure.

One JSON file, replaced as a whole; FORMATS.md, "Feed store". Version 1, which knew named feeds alone, is still read.

A name's feed can be *succeeded*: the name then stands for a new feed (its next epoch), and the old one stays readable
under its key. That is how writing goes on after a backup was restored: the old feed may have been signed further than
this copy knows, and a second signature over other content would freeze it at every peer.
"""

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any, Final

from edge.crypto.hashing import HASH_BYTES, hash256
from edge.crypto.keys import parse_key
from edge.errors import ConfigError
from edge.limits import FEED_EPOCHS_MAX, FEEDS_MAX, LABEL_CHARS_MAX

VERSION: Final = 2
LATER: Final = hash256(b"pomona held later")  # in `held`: feeds of given manifests that this copy makes are held too
_PART: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HEX: Final = re.compile(r"[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class Feed:
    """One core of the store. Without a name it is somebody else's, or an earlier epoch of one of ours."""

    name: str
    key: bytes
    encrypted: bool
    epoch: int = 1
    previous: bytes | None = None  # key of the epoch before
    signer: str = ""  # signed with another feed's key pair: a drive's two cores share one

    @property
    def signing_name(self) -> str:
        """The name that the key pair is derived from; '#' cannot occur in a name that somebody chose."""
        return self.signer or (self.name if self.epoch == 1 else f"{self.name}#{self.epoch}")


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every feed of a store. `place` is None until the store was first written to by a version that knows places."""

    feeds: tuple[Feed, ...] = ()
    place: str | None = None
    held: frozenset[bytes] = field(default=frozenset())  # keys that must not be appended to: this copy may be old

    def named(self) -> list[Feed]:
        """Feeds that have a name, sorted by it."""
        return sorted((feed for feed in self.feeds if feed.name), key=lambda feed: feed.name)

    def by_name(self, name: str) -> Feed | None:
        """The present epoch of `name`."""
        return next((feed for feed in self.feeds if feed.name == name), None) if name else None

    def by_key(self, key: bytes) -> Feed | None:
        """The feed with this key, of any epoch and whoever writes it."""
        return next((feed for feed in self.feeds if feed.key == key), None)

    def with_feed(self, feed: Feed, *, later: bool = False) -> "Catalog":
        """The same and `feed`; `ConfigError` where name, key or bounds do not allow it. `later`: see LATER."""
        if self.by_name(feed.name) or self.by_key(feed.key):
            raise ConfigError(feed.name or feed.key.hex(), "there is already such a feed")
        if len(self.feeds) >= FEEDS_MAX:
            raise ConfigError(feed.name or feed.key.hex(), f"the store holds {FEEDS_MAX} feeds already")
        held = {feed.key} if later and LATER in self.held else set()
        return replace(self, feeds=(*self.feeds, feed), held=self.held | held)

    def without(self, feed: Feed) -> "Catalog":
        """The same without `feed`."""
        return replace(self, feeds=tuple(each for each in self.feeds if each != feed), held=self.held - {feed.key})

    def succeeded(self, old: Feed, successor: Feed) -> "Catalog":
        """`successor` takes the name of `old`, which stays under its key and is never written again."""
        if successor.epoch > FEED_EPOCHS_MAX:
            raise ConfigError(old.name, f"it has had {FEED_EPOCHS_MAX} epochs already")
        feeds = tuple(each for each in self.feeds if each != old)
        retired = Feed("", old.key, old.encrypted)
        return replace(self, feeds=(*feeds, retired, successor), held=self.held | {old.key})


def check_name(name: str) -> str:
    """`name`; `ConfigError` where it cannot be one. Parts of a namespace are joined by '/'."""
    parts = name.split("/")
    if len(name) > LABEL_CHARS_MAX or _is_key(name) or not all(_PART.fullmatch(part) for part in parts):
        raise ConfigError(name, f"a feed's name is 1 to {LABEL_CHARS_MAX} letters, digits, '.', '_' or '-'")
    return name


def parse(text: str) -> Catalog:
    """The catalog in `text`; `ValueError` and its kin where it is damaged."""
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested without end") from error
    version = document.pop("version")
    if version == 1:
        return Catalog(tuple(_named(name, entry) for name, entry in _take(document, "feeds").items()))
    if version != VERSION:
        raise ValueError(f"unknown version {version!r}")
    place = document.pop("place")
    held = frozenset(parse_key(key, what="held") for key in document.pop("held"))
    others = tuple(_other(key, entry) for key, entry in document.pop("others").items())
    feeds = tuple(_named(name, entry) for name, entry in _take(document, "feeds").items())
    if place is not None and not (isinstance(place, str) and _HEX.fullmatch(place)):
        raise ValueError("place")
    if len({feed.key for feed in feeds + others}) < len(feeds + others):
        raise ValueError("a key stands there twice")
    return Catalog(feeds + others, place, held)


def format_catalog(catalog: Catalog) -> bytes:
    """The file's bytes; `parse` gives the same catalog again."""
    feeds: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for feed in catalog.feeds:
        if not feed.name:
            others[feed.key.hex()] = {"encrypted": feed.encrypted}
            continue
        entry: dict[str, Any] = {"key": feed.key.hex(), "encrypted": feed.encrypted}
        if feed.previous is not None:
            entry |= {"epoch": feed.epoch, "previous": feed.previous.hex()}
        if feed.signer:
            entry["signer"] = feed.signer
        feeds[feed.name] = entry
    held = sorted(key.hex() for key in catalog.held)
    document = {"version": VERSION, "place": catalog.place, "feeds": feeds, "others": others, "held": held}
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _take(document: dict[str, Any], last: str) -> dict[str, Any]:
    value = document.pop(last)
    if document:
        raise ValueError(f"unknown field {min(document)!r}")
    if not isinstance(value, dict):
        raise TypeError(f"{last} is no object")
    return value


def _named(name: str, entry: dict[str, Any]) -> Feed:
    check_name(name)
    if not set(entry) <= {"key", "encrypted", "epoch", "previous", "signer"}:
        raise ValueError(f"feed {name!r}")
    epoch, signer = entry.get("epoch", 1), entry.get("signer", "")
    if type(entry["encrypted"]) is not bool or type(epoch) is not int or not 1 <= epoch <= FEED_EPOCHS_MAX:
        raise ValueError(f"feed {name!r}")
    if ("epoch" in entry) != ("previous" in entry) or not isinstance(signer, str):
        raise ValueError(f"feed {name!r}")
    if signer:
        check_name(signer.partition("#")[0])
    previous = parse_key(entry["previous"], what=name) if "previous" in entry else None
    return Feed(name, parse_key(entry["key"], what=name), entry["encrypted"], epoch, previous, signer)


def _other(key: str, entry: dict[str, Any]) -> Feed:
    if set(entry) != {"encrypted"} or type(entry["encrypted"]) is not bool:
        raise ValueError(f"feed {key!r}")
    return Feed("", parse_key(key, what="others"), entry["encrypted"])


def _is_key(text: str) -> bool:
    return len(text) == 2 * HASH_BYTES and all(digit in "0123456789abcdefABCDEF" for digit in text)
