"""`pomona feed`: make, fill, read and check Hypercores in a folder. The same cores that a box keeps its records in."""

import argparse
import json
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge.cli import loop
from edge.cli.lines import Input, Lines
from edge.cli.progress import Progress
from edge.errors import ConfigError, StorageError, StorageFault

if TYPE_CHECKING:
    from edge.hypercore.catalog import Feed
    from edge.hypercore.hypercore import Hypercore
    from edge.hypercore.lending import BorrowedCore
    from edge.hypercore.store import FeedStore

_APPEND_BLOCKS: Final = 2048  # lines of one append; below what a group holds
_APPEND_BYTES: Final = 256 * 1024
_EXAMPLES: Final = """\
examples:
  pomona feed create --store ./feeds prices            prints the key, 64 hex digits
  echo hello | pomona feed append --store ./feeds prices
  pomona feed cat --store ./feeds prices --start 0 --end 10
  pomona feed verify --store ./feeds prices            reads everything back; names the first bad block
  pomona feed list --store ./feeds --json
  pomona feed serve --store ./feeds --listen 127.0.0.1:4977
  pomona feed clone --store ./copy KEY --connect 127.0.0.1:4977 --live
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `feed` and its actions."""
    parser = commands.add_parser(
        "feed",
        help="create, append to, read, verify, serve and clone Hypercores",
        description="Signed append-only logs in a folder, byte-equal to stock Hypercore 11.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    create = _action(actions, "create", "make a feed and print its key", _create)
    create.add_argument("name", metavar="NAME", help="letters, digits, '.', '_' and '-'")
    _encryption_key(create, "encrypt every block with this key; it is kept in the store, mode 0600")

    append = _action(actions, "append", "append the lines of standard input, one block each", _append)
    append.description = (
        "Appends each line of standard input as one block, as soon as it can be read. After each group that is on "
        "the disk it prints the new length: blocks below it survive a power cut."
    )
    append.add_argument("name", metavar="NAME")

    cat = _action(actions, "cat", "print blocks, one a line", _cat)
    cat.add_argument("feed", metavar="NAME_OR_KEY")
    cat.add_argument("--start", type=_count, default=0, metavar="N", help="first block (default 0)")
    cat.add_argument("--end", type=_count, metavar="M", help="block to stop before (default: the length)")
    _encryption_key(cat, "key of an encrypted feed, where the store does not have it")

    verify = _action(actions, "verify", "check every block and signature", _verify)
    verify.add_argument("feed", metavar="NAME_OR_KEY")

    _action(actions, "list", "the feeds of a store", _list)

    succeed = _action(actions, "succeed", "begin a new epoch of a feed, and print its key", _succeed)
    succeed.description = (
        "Makes a new, empty feed that takes the name; the old one stays readable under its key and is never written "
        "again. For a store that was restored from a backup: peers may hold blocks of the old feed that this copy "
        "lacks, and `clone` fetches them back."
    )
    succeed.add_argument("name", metavar="NAME")

    release = _action(actions, "release", "say that this copy of a feed is the newest and only one", _release)
    release.description = (
        "Lets a feed be appended to again that is held because its store was copied. Only for who knows that nothing "
        "was appended to any other copy: two histories under one key freeze the feed at every peer, for good."
    )
    release.add_argument("name", metavar="NAME")

    serve = _with_peers(actions, "serve", "replicate the feeds of a store with peers that connect over TCP")
    serve.description = (
        "Serves every feed of the store to peers that know its key, and takes what they have of it, until it is "
        "stopped. Stock peers connect with @hyperswarm/secret-stream. Meanwhile `append` and the commands of `bee` and "
        "`drive` on the same store go through this process."
    )
    serve.add_argument("--listen", type=_address, required=True, metavar="HOST:PORT", help="port 0: any free one")
    serve.add_argument(
        "--metrics",
        type=Path,
        metavar="FILE",
        help="write metrics there every 10 s, for Prometheus's textfile collector",
    )

    clone = _with_peers(actions, "clone", "fetch a feed by its key, check it, print its length")
    clone.description = (
        "Fetches every block of a feed from peers, reads all of it back and checks it, and prints the length. What is "
        "there already is not fetched again, so an interrupted clone goes on where it was."
    )
    clone.add_argument("key", metavar="KEY", help="64 hex digits")
    clone.add_argument(
        "--connect", type=_address, action="append", required=True, metavar="HOST:PORT", help="a peer; may be repeated"
    )
    clone.add_argument("--live", action="store_true", help="go on following it; print each new length")
    _encryption_key(clone, "decrypts the feed; kept in the store, mode 0600. Without it the ciphertext is kept")


def _action(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    run: Callable[[argparse.Namespace, "FeedStore"], Coroutine[None, None, int]],
) -> argparse.ArgumentParser:
    def start(options: argparse.Namespace) -> int:
        from edge.hypercore.store import FeedStore  # noqa: PLC0415 - help and usage errors need none of this

        return loop.run(run(options, FeedStore(options.store)))

    parser = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="the folder that holds the feeds")
    parser.add_argument("--json", action="store_true", help="one JSON value a line")
    parser.set_defaults(run=start)
    return parser


def _with_peers(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    def start(options: argparse.Namespace) -> int:
        from edge.cli import feed_peers  # noqa: PLC0415 - as below

        run: Callable[[argparse.Namespace], int] = getattr(feed_peers, name)
        return run(options)

    parser = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="the folder that holds the feeds")
    parser.add_argument("--json", action="store_true", help="one JSON value a line")
    parser.set_defaults(run=start)
    return parser


def _address(text: str) -> object:
    from edge.cli.peers import address  # noqa: PLC0415 - as below

    return address(text)


def _encryption_key(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--encryption-key", type=_key, metavar="HEX", help=f"64 hex digits: {text}")


def _key(text: str) -> bytes:
    from edge.crypto.keys import parse_key  # noqa: PLC0415 - as above

    try:
        return parse_key(text, what="key")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


async def _create(options: argparse.Namespace, store: "FeedStore") -> int:
    from edge.crypto.hashing import discovery_key  # noqa: PLC0415 - as above

    feed = await store.create(options.name, encryption_key=options.encryption_key)
    if options.json:
        values = {"name": feed.name, "key": feed.key.hex(), "discovery_key": discovery_key(feed.key).hex()}
        print(json.dumps({**values, "encrypted": feed.encrypted}))
    else:
        print(feed.key.hex())
    return 0


async def _append(options: argparse.Namespace, store: "FeedStore") -> int:
    core = await _to_append(options.store, store, options.name)
    try:
        source, lines, chunk = Input(sys.stdin.fileno()), Lines(), b"."
        while chunk:
            chunk = await source.read()
            for blocks in _groups(lines.feed(chunk) if chunk else lines.end()):
                length = await core.append(blocks, urgent=True)
                print(json.dumps({"length": length, "fork": core.fork}) if options.json else length, flush=True)
    finally:
        await core.close()
    return 0


async def _to_append(directory: Path, store: "FeedStore", name: str) -> "Hypercore | BorrowedCore":
    """The feed, from this process or through the one that serves the store. `ConfigError` for one that is held."""
    feed = store.find(name)
    if not feed.name:
        raise ConfigError(name, "somebody else writes this feed")
    for moved in store.settle():
        print(f"{moved.name} is held from now on: {directory} was copied or restored from a backup", file=sys.stderr)
    if feed.key in store.catalog().held:
        raise ConfigError(
            name,
            "held, because this store was copied or restored and peers may know more of the feed than it does; "
            "`pomona feed succeed` goes on in a new feed, `pomona feed release` if nothing else ever wrote to it since",
        )
    try:
        return await store.open(feed, write=True)
    except StorageError as error:
        if error.fault is not StorageFault.LOCKED:
            raise
        from edge.hypercore.lending import BorrowedCore  # noqa: PLC0415 - rarely needed

        borrowed = await BorrowedCore.borrow(directory, feed.key)
        if borrowed is None:
            raise
        return borrowed


async def _succeed(options: argparse.Namespace, store: "FeedStore") -> int:
    feed = await store.succeed(store.find(options.name))
    if options.json:
        previous = feed.previous.hex() if feed.previous else None
        print(json.dumps({"name": feed.name, "key": feed.key.hex(), "epoch": feed.epoch, "previous": previous}))
    else:
        print(feed.key.hex())
    return 0


async def _release(options: argparse.Namespace, store: "FeedStore") -> int:
    store.settle()
    feed = store.find(options.name)
    store.release(feed)
    print(json.dumps({"name": feed.name, "key": feed.key.hex(), "held": False}) if options.json else feed.key.hex())
    return 0


def _groups(lines: list[bytes]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    size = 0
    for line in lines:
        if group and (len(group) >= _APPEND_BLOCKS or size + len(line) > _APPEND_BYTES):
            yield group
            group, size = [], 0
        group.append(line)
        size += len(line)
    if group:
        yield group


async def _cat(options: argparse.Namespace, store: "FeedStore") -> int:
    core = await store.open(store.find(options.feed), encryption_key=options.encryption_key)
    try:
        end = core.length if options.end is None else options.end
        if options.start > core.length or end > core.length:
            raise ConfigError("--start" if options.start > core.length else "--end", f"the length is {core.length}")
        out = sys.stdout.buffer
        for index, block in enumerate(core.blocks(options.start, end), options.start):
            out.write(_as_json(index, block) if options.json else block + b"\n")
        out.flush()
    finally:
        await core.close()
    return 0


def _as_json(index: int, block: bytes) -> bytes:
    """Text where the block is UTF-8, else hexadecimal."""
    try:
        value = {"index": index, "text": block.decode()}
    except UnicodeDecodeError:
        value = {"index": index, "hex": block.hex()}
    return json.dumps(value).encode() + b"\n"


async def _verify(options: argparse.Namespace, store: "FeedStore") -> int:
    feed = store.find(options.feed)
    try:
        core = await store.open(feed)
        try:
            with Progress("verifying", unit="records") as progress:
                blocks = await core.verify(progress.update)
            report = {"blocks": blocks, "fork": core.fork, "signed": core.signed.length if core.signed else 0}
        finally:
            await core.close()
    except StorageError as error:
        if options.json:
            bad = getattr(error, "index", None)
            print(json.dumps({"ok": False, "name": feed.name, "first_bad_block": bad, "error": str(error)}))
        raise
    if options.json:
        print(json.dumps({"ok": True, "name": feed.name, "key": feed.key.hex(), **report}))
        return 0
    behind = blocks - report["signed"]
    tail = f"; the newest {behind} have no signature on disk yet" if behind else ""
    print(f"{feed.name}: {blocks} blocks good, fork {report['fork']}, signed to {report['signed']}{tail}")
    return 0


async def _list(options: argparse.Namespace, store: "FeedStore") -> int:
    catalog = store.catalog()
    for feed in [*catalog.named(), *sorted((f for f in catalog.feeds if not f.name), key=lambda feed: feed.key)]:
        core: Hypercore | None = None
        trouble = ""
        try:
            core = await store.open(feed)
        except (ConfigError, StorageError) as error:
            trouble = str(error)
        try:
            held = feed.key in catalog.held
            if options.json:
                print(json.dumps(_entry(feed, core, trouble, held=held)))
            else:
                size = trouble if core is None else f"{core.length} blocks, {core.byte_length} bytes, fork {core.fork}"
                notes = [size, *(["encrypted"] if feed.encrypted else []), *(["held: a copy"] if held else [])]
                print(f"{feed.name or '-'}  {feed.key.hex()}  {', '.join(notes)}")
        finally:
            if core is not None:
                await core.close()
    return 0


def _entry(feed: "Feed", core: "Hypercore | None", trouble: str, *, held: bool) -> dict[str, object]:
    state = None
    if core is not None:
        state = {"length": core.length, "bytes": core.byte_length, "fork": core.fork}
        if core.contiguous < core.length:
            state["contiguous"] = core.contiguous
    entry: dict[str, object] = {"name": feed.name or None, "key": feed.key.hex(), "encrypted": feed.encrypted}
    entry["state"] = state
    return entry | ({"error": trouble} if trouble else {}) | ({"held": True} if held else {})
