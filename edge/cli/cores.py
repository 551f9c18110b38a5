"""How a command gets at the cores that it names: out of the store, from peers with `--connect`; one place for all.

    async with cores_of(options) as cores:          # or write=True
        core = await cores.named(options.feed)      # at the newest length that can be had
        log = await cores.log(options.feed)         # the same, for who needs a log of blocks and no more

What is not here and no peer brings ends the command: at once where there are no peers, after `--wait` seconds without
any block where there are some. A wait for something that may never be written (`history --live`) is no such wait.
"""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge.errors import ConfigError, RemoteError, StorageError, StorageFault
from edge.limits import PEER_SILENCE_S

if TYPE_CHECKING:
    from edge.hypercore.corestore import Corestore
    from edge.hypercore.events import Event
    from edge.hypercore.hypercore import Hypercore
    from edge.hypercore.lending import BorrowedCore

_KEY_BYTES: Final = 32


# --- options ---------------------------------------------------------------------------------------------------------


def feed_options(parser: argparse.ArgumentParser) -> None:
    """Add `--store`, `--json`, `--encryption-key` and the feed itself."""
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="the folder that holds the feeds")
    parser.add_argument("--json", action="store_true", help="one JSON value a line")
    parser.add_argument(
        "--encryption-key",
        type=_key,
        metavar="HEX",
        help="64 hex digits: encrypts what is made now; decrypts what the store does not have the key of",
    )
    parser.set_defaults(connect=[], wait=PEER_SILENCE_S)
    parser.add_argument("feed", metavar="NAME_OR_KEY", help="a name of the store, or 64 hex digits")


def peer_options(parser: argparse.ArgumentParser) -> None:
    """Add what a command takes that may read from peers."""
    parser.add_argument(
        "--connect",
        type=_address,
        action="append",
        metavar="HOST:PORT",
        help="a peer to read from over TCP; may be repeated. Only the blocks that are needed are fetched, and kept",
    )
    parser.add_argument(
        "--wait",
        type=_seconds,
        metavar="SECONDS",
        help=f"give up after so long without a block from any peer (default {PEER_SILENCE_S:g})",
    )


def count(text: str) -> int:
    """A whole number from 0. For `argparse`."""
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _key(text: str) -> bytes:
    from edge.crypto.keys import parse_key  # noqa: PLC0415 - help and usage errors need none of this

    try:
        return parse_key(text, what="key")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _address(text: str) -> object:
    from edge.cli.peers import address  # noqa: PLC0415 - as above

    return address(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


class Intermixed(argparse.ArgumentParser):
    """Options may stand before, between and behind the positional arguments, although some of these can be left out."""

    _within = False

    def parse_known_args(  # type: ignore[override]  # the stubs know more overloads than there are ways to call it
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As `parse_known_intermixed_args`, which calls this for its parts."""
        if self._within:
            return super().parse_known_args(args, namespace)
        self._within = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._within = False


# --- opening ---------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def cores_of(options: argparse.Namespace, *, write: bool = False) -> AsyncIterator["Cores"]:
    """The cores that a command works with; closed at its end."""
    from edge.hypercore.corestore import Corestore  # noqa: PLC0415 - as above

    said = f"{options.feed}: {options.path}" if "path" in options else options.feed
    async with contextlib.AsyncExitStack() as stack:
        silence = await stack.enter_async_context(_no_silence(said, options.wait if options.connect else None))
        store = await stack.enter_async_context(await Corestore.open(options.store, write=write))
        if options.connect:
            from edge.cli.peers import connected  # noqa: PLC0415 - as above
            from edge.hypercore.store import FeedStore  # noqa: PLC0415 - as above

            identity = await asyncio.to_thread(FeedStore(options.store).identity)
            await stack.enter_async_context(connected(store, identity, options.connect))
        yield Cores(options, store, silence, stack)


class Cores:
    """Opens cores of one store for one command. Made by `cores_of`."""

    def __init__(
        self,
        options: argparse.Namespace,
        store: "Corestore",
        silence: "_Silence",
        stack: contextlib.AsyncExitStack,
    ) -> None:
        self._directory: Path = options.store
        self._encryption_key: bytes | None = options.encryption_key
        self._peers: bool = bool(options.connect)
        self._store = store
        self._silence = silence
        self._stack = stack

    async def log(self, name_or_key: str, *, create: bool = False) -> "Hypercore | BorrowedCore":
        """The core that the command is about, at its newest length; `create`: a name that is new makes one.

        Where another process serves the store and has the core open, through that process. Raises `ConfigError` for a
        name or key that is not there, `RemoteError` where no peer has it.
        """
        from edge.hypercore.store import FeedStore  # noqa: PLC0415 - as above

        try:
            return await self._named(name_or_key, create=create)
        except StorageError as error:
            return await self._borrowed(FeedStore(self._directory).find(name_or_key).key, error)

    async def _named(self, name_or_key: str, *, create: bool) -> "Hypercore":
        key = _as_key(name_or_key)
        if key is not None:
            core = await self.keyed(key)
        else:
            core = await self._store.get(name_or_key, encryption_key=self._encryption_key, create=create)
            self._silence.watch(core)
        if self._peers:
            await core.update()
            if not core.length:
                raise RemoteError(f"{name_or_key}: no peer has anything of it", reason="unknown")
        return core

    async def keyed(self, key: bytes) -> "Hypercore":
        """The core with that key. Where there are peers, room is made for one that the store does not have."""
        core = await self._store.get(key=key, encryption_key=self._encryption_key, create=self._peers)
        self._silence.watch(core)
        return core

    async def own_blobs(self, db: "Hypercore | BorrowedCore") -> "Hypercore | BorrowedCore | None":
        """The core beside the database of a drive of ours; None: it is none that can be written here."""
        from edge.hyperdrive.content import content_manifest  # noqa: PLC0415 - as above
        from edge.hyperdrive.opening import open_own_blobs  # noqa: PLC0415 - as above

        try:
            return await open_own_blobs(self._store, db)
        except StorageError as error:
            manifest = content_manifest(db.manifest, db.key)
            if manifest is None:
                raise
            return await self._borrowed(manifest.key(), error)

    async def companion(self, owner: "Hypercore | BorrowedCore", key: bytes) -> "Hypercore | BorrowedCore":
        """The core `key`, encrypted with the same key as `owner`; at its newest length."""
        if owner.encrypted and self._encryption_key is None:
            self._encryption_key = self._remembered(owner.key)
        try:
            core = await self.keyed(key)
        except StorageError as error:
            return await self._borrowed(key, error)
        if self._peers:
            await core.update()
        return core

    async def _borrowed(self, key: bytes, error: StorageError) -> "BorrowedCore":
        """The core, from the process that has it open; raises `error` where that is not why it cannot be had."""
        if error.fault is not StorageFault.LOCKED:
            raise error
        from edge.hypercore.lending import BorrowedCore  # noqa: PLC0415 - as above

        borrowed = await BorrowedCore.borrow(self._directory, key)
        if borrowed is None:
            raise error
        self._stack.push_async_callback(borrowed.close)
        return borrowed

    def _remembered(self, key: bytes) -> bytes | None:
        from edge.hypercore.store import FeedStore  # noqa: PLC0415 - as above

        store = FeedStore(self._directory)
        return store.encryption_key(store.find(key.hex()))


def check_writable(core: "Hypercore | BorrowedCore", name: str) -> None:
    """Raise `ConfigError` that says why `name` cannot be written here, if so."""
    if not core.writable:
        standing = getattr(core, "standing", "replica")
        raise ConfigError(name, f"cannot be written here; it is {_STANDING.get(standing, standing)}")


_STANDING: Final = {
    "replica": "somebody else's",
    "behind": "a copy that peers know more of than this store; begin a new feed",
    "held": "held, because this store was copied or restored and peers may know more of it: `pomona feed succeed` "
    "goes on in a new feed, `pomona feed release` if nothing else ever wrote to it since",
    "frozen": "frozen: two histories of it were signed",
    "writer": "encrypted, and the key is not here",
}


def _as_key(text: str) -> bytes | None:
    """The key that `text` is; None: it is a name, which never looks like one."""
    try:
        key = bytes.fromhex(text) if len(text) == 2 * _KEY_BYTES else b""
    except ValueError:
        return None
    return key if len(key) == _KEY_BYTES else None


class _Silence:
    """Ends the command when it waits for blocks and none come; without peers, as soon as it would wait."""

    def __init__(self, limit: asyncio.Timeout, wait_s: float) -> None:
        self._limit = limit
        self._wait_s = wait_s
        self._loop = asyncio.get_running_loop()
        self._cores: list[Hypercore] = []
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0

    def watch(self, core: "Hypercore") -> None:
        """Watch this core too."""
        self._cores.append(core)
        core.subscribe(self._on_event)

    def end(self) -> None:
        """Watch no more."""
        self._cores.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _on_event(self, event: "Event") -> None:
        from edge.hypercore.events import Demanded, Grown, Stored  # noqa: PLC0415 - as above

        if isinstance(event, Grown | Stored):
            self._heard_at = self._loop.time()
        elif isinstance(event, Demanded) and self._timer is None and self._cores:
            self._heard_at = self._loop.time()
            self._timer = self._loop.call_later(self._wait_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if not any(core.demand.open for core in self._cores):
            return
        now = self._loop.time()
        if now >= self._heard_at + self._wait_s:
            if not self._limit.expired():
                self._limit.reschedule(now)
        else:
            self._timer = self._loop.call_at(self._heard_at + self._wait_s, self._look)


@contextlib.asynccontextmanager
async def _no_silence(name: str, wait_s: float | None) -> AsyncIterator[_Silence]:
    """Raises `ConfigError` or `RemoteError` once nothing more can be expected; `wait_s` None: there are no peers."""
    try:
        async with asyncio.timeout(None) as limit:
            silence = _Silence(limit, wait_s or 0.0)
            try:
                yield silence
            finally:
                silence.end()
    except TimeoutError:
        if not limit.expired():
            raise
        if wait_s is None:
            raise ConfigError(name, "this part of it is not here; --connect a peer that has it") from None
        raise RemoteError(f"{name}: no peer has sent anything of it for {wait_s:g} s", reason="silent") from None
