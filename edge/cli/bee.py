"""`pomona bee`: a sorted map from keys to values, in a feed. Ours is written, anybody's read; every version stays."""

import argparse
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from edge.cli import loop
from edge.cli.cores import Intermixed, check_writable, cores_of, count, feed_options, peer_options
from edge.cli.lines import Input, Lines
from edge.errors import ConfigError, RemoteError
from edge.limits import BLOCK_BYTES_MAX, GROUP_BYTES_MAX

if TYPE_CHECKING:
    from edge.hyperbee.batch import Batch
    from edge.hyperbee.bee import Hyperbee

_BATCH_MAX: Final = 1000  # puts of one batch: with the tree nodes that they change they fit into one group
_BATCH_BYTES_MAX: Final = GROUP_BYTES_MAX // 2
_ENTRY_BYTES_MAX: Final = BLOCK_BYTES_MAX - 16 * 1024  # key and value; the rest of the block is the tree's
_EXAMPLES: Final = """\
examples:
  pomona bee put --store ./feeds stock apple 120       makes the feed where there is none; prints the version
  pomona bee get --store ./feeds stock apple
  pomona bee range --store ./feeds stock --gte a --lt b
  pomona bee put --store ./feeds stock apple 119 --if-equals 120
  pomona bee put --store ./feeds stock --batch 500 < stock.tsv
  pomona bee diff --store ./feeds stock 2              what has changed since version 2
  pomona bee get --store ./copy KEY apple --connect 192.0.2.7:4977
`pomona feed list` shows the key that others need to read a bee.
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `bee` and its actions."""
    parser = commands.add_parser(
        "bee",
        help="sorted maps in a feed: put, get, del, range, diff, history",
        description="Sorted maps from keys to values in Hypercores, block for block those of stock Hyperbee 2.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, parser_class=Intermixed)

    put = _action(actions, "put", "let a key have a value", _put)
    put.description = (
        "Writes one key, or the lines of standard input, and prints the new version once it is on the disk. A name "
        "that is new makes a feed; nothing more is printed then."
    )
    put.add_argument("key", metavar="KEY", nargs="?")
    put.add_argument("value", metavar="VALUE", nargs="?", help="'-': all of standard input, as it is")
    put.add_argument(
        "--batch",
        type=_batch,
        metavar="N",
        help=f"read lines 'key<TAB>value'; N of them (at most {_BATCH_MAX}) are written together, wholly or not at all",
    )
    conditions = put.add_mutually_exclusive_group()
    conditions.add_argument("--if-equals", metavar="VALUE", help="only where the key has this value now")
    conditions.add_argument("--if-absent", action="store_true", help="only where the key is not there")

    get = _reading(actions, "get", "print the value of a key", _get)
    get.add_argument("key", metavar="KEY")
    _at(get)

    delete = _action(actions, "del", "let a key have no value", _delete)
    delete.add_argument("key", metavar="KEY")
    delete.add_argument("--if-equals", metavar="VALUE", help="only where the key has this value now")

    scan = _reading(actions, "range", "print keys and values in order", _range)
    lower, upper = scan.add_mutually_exclusive_group(), scan.add_mutually_exclusive_group()
    lower.add_argument("--gt", metavar="KEY", help="keys behind this one")
    lower.add_argument("--gte", metavar="KEY", help="keys from this one on")
    upper.add_argument("--lt", metavar="KEY", help="keys before this one")
    upper.add_argument("--lte", metavar="KEY", help="keys up to this one")
    scan.add_argument("--prefix", metavar="KEY", help="keys that begin like this")
    scan.add_argument("--reverse", action="store_true", help="last key first")
    scan.add_argument("--limit", type=count, metavar="N", help="at most so many")
    _at(scan)

    diff = _reading(actions, "diff", "print what is otherwise between two versions", _diff)
    diff.add_argument("old", type=count, metavar="VERSION")
    diff.add_argument("new", type=count, metavar="VERSION2", nargs="?", help="default: the newest")

    history = _reading(actions, "history", "print puts and deletes as they were made", _history)
    history.add_argument("--reverse", action="store_true", help="newest first")
    history.add_argument("--limit", type=count, metavar="N", help="at most so many")
    history.add_argument("--live", action="store_true", help="go on with what is written, until it is stopped")


def _action(
    actions: "argparse._SubParsersAction[Intermixed]",
    name: str,
    text: str,
    run: Callable[[argparse.Namespace], Coroutine[None, None, int]],
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    feed_options(parser)
    parser.add_argument("--sub", action="append", default=[], metavar="NAME", help="a sub-bee; again: one inside it")
    parser.add_argument("--hex", action="store_true", help="keys and values are hexadecimal (without it: UTF-8)")
    parser.set_defaults(run=lambda options: loop.run(run(options)), usage=parser.error)
    return parser


def _reading(
    actions: "argparse._SubParsersAction[Intermixed]",
    name: str,
    text: str,
    run: Callable[[argparse.Namespace], Coroutine[None, None, int]],
) -> argparse.ArgumentParser:
    parser = _action(actions, name, text, run)
    peer_options(parser)
    return parser


def _at(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--at", type=count, metavar="VERSION", help="as it was at that version")


def _batch(text: str) -> int:
    number = count(text)
    if not 1 <= number <= _BATCH_MAX:
        raise argparse.ArgumentTypeError(f"a batch has 1 to {_BATCH_MAX} puts")
    return number


# --- writing ---------------------------------------------------------------------------------------------------------


async def _put(options: argparse.Namespace) -> int:
    if options.batch is None and (options.key is None or options.value is None):
        options.usage("KEY and VALUE are required, or --batch")
    if options.batch is not None:
        if options.key is not None or options.if_absent or options.if_equals is not None:
            options.usage("--batch reads keys and values from standard input, and takes no conditions")
        async with _bee(options, write=True) as bee:
            await _put_lines(bee, options)
        return 0
    key = _given(options, "KEY", options.key)
    value = await _whole_input() if options.value == "-" else _given(options, "VALUE", options.value)
    _check_size("VALUE", key, value)
    async with _bee(options, write=True) as bee:
        async with bee.batch() as batch:
            await _check_condition(batch, key, options, absent=options.if_absent)
            await batch.put(key, value)
        _say_version(bee, options)
    return 0


async def _delete(options: argparse.Namespace) -> int:
    key = _given(options, "KEY", options.key)
    async with _bee(options, write=True) as bee:
        async with bee.batch() as batch:
            await _check_condition(batch, key, options)
            if not await batch.delete(key):
                raise _absent(options, key)
        _say_version(bee, options)
    return 0


async def _check_condition(batch: "Batch", key: bytes, options: argparse.Namespace, *, absent: bool = False) -> None:
    """Raises `ConfigError` where `--if-equals` or `--if-absent` does not hold."""
    if options.if_equals is None and not absent:
        return
    entry = await batch.get(key)
    if absent:
        if entry is not None:
            raise ConfigError(_named(options, key), "is there already")
    elif entry is None:
        raise _absent(options, key)
    elif entry.value != _given(options, "--if-equals", options.if_equals):
        raise ConfigError(_named(options, key), "has another value")


async def _put_lines(bee: "Hyperbee", options: argparse.Namespace) -> None:
    source, lines, chunk = Input(sys.stdin.fileno()), Lines(), b"."
    waiting: list[tuple[bytes, bytes]] = []
    number = 0
    while chunk:
        chunk = await source.read()
        for line in lines.feed(chunk) if chunk else lines.end():
            number += 1
            waiting.append(_parted(options, line, number))
            if len(waiting) == options.batch:
                await _put_together(bee, waiting, options)
                waiting = []
    if waiting:
        await _put_together(bee, waiting, options)


async def _put_together(bee: "Hyperbee", entries: list[tuple[bytes, bytes]], options: argparse.Namespace) -> None:
    if sum(len(key) + len(value) for key, value in entries) > _BATCH_BYTES_MAX:
        raise ConfigError("--batch", f"{len(entries)} lines have more than {_BATCH_BYTES_MAX} bytes: take fewer")
    async with bee.batch() as batch:
        for key, value in entries:
            await batch.put(key, value)
    _say_version(bee, options)


def _parted(options: argparse.Namespace, line: bytes, number: int) -> tuple[bytes, bytes]:
    what = f"stdin, line {number}"
    key, tab, value = line.partition(b"\t")
    if not tab:
        raise ConfigError(what, "no tab between key and value")
    if options.hex:
        key, value = (_given(options, what, part.decode(errors="replace")) for part in (key, value))
    _check_size(what, key, value)
    return key, value


def _check_size(what: str, key: bytes, value: bytes) -> None:
    if len(key) + len(value) > _ENTRY_BYTES_MAX:
        raise ConfigError(what, f"key and value have more than {_ENTRY_BYTES_MAX} bytes")


async def _whole_input() -> bytes:
    source, pieces, size = Input(sys.stdin.fileno()), [b""], 0
    while piece := await source.read():
        pieces.append(piece)
        size += len(piece)
        if size > _ENTRY_BYTES_MAX:
            raise ConfigError("stdin", f"a value has at most {_ENTRY_BYTES_MAX} bytes")
    return b"".join(pieces)


def _say_version(bee: "Hyperbee", options: argparse.Namespace) -> None:
    print(json.dumps({"version": bee.version}) if options.json else bee.version, flush=True)


# --- reading ---------------------------------------------------------------------------------------------------------


async def _get(options: argparse.Namespace) -> int:
    key = _given(options, "KEY", options.key)
    async with _bee(options) as bee:
        view = await _at_version(bee, options.at, "--at")
        entry = await view.get(key)
        if entry is None:
            raise _absent(options, key)
        if options.json:
            _print_json(_as_json(options, seq=entry.seq, key=entry.key, value=entry.value))
        else:
            _print(options, entry.value)
    return 0


async def _range(options: argparse.Namespace) -> int:
    bounds = {
        name: _given(options, f"--{name}", value)
        for name in ("gt", "gte", "lt", "lte")
        if (value := getattr(options, name)) is not None
    }
    if options.prefix is not None:
        if bounds:
            options.usage("--prefix stands for both bounds")
        from edge.hyperbee.entries import successor  # noqa: PLC0415 - help and usage errors need none of this

        prefix = _given(options, "--prefix", options.prefix)
        end = successor(prefix)
        bounds = {"gte": prefix} if end is None else {"gte": prefix, "lt": end}
    async with _bee(options) as bee:
        view = await _at_version(bee, options.at, "--at")
        async for entry in view.range(**bounds, reverse=options.reverse, limit=options.limit):
            if options.json:
                _print_json(_as_json(options, seq=entry.seq, key=entry.key, value=entry.value))
            else:
                _print(options, entry.key, entry.value)
    return 0


async def _diff(options: argparse.Namespace) -> int:
    async with _bee(options) as bee:
        old = await _at_version(bee, options.old, "VERSION")
        new = await _at_version(bee, options.new, "VERSION2")
        async for now, before in new.diff(old):
            if options.json:
                entry = now or before
                assert entry is not None
                values = {"old": before and before.value, "new": now and now.value}
                seqs = {"old_seq": before and before.seq, "new_seq": now and now.seq}
                _print_json({**_as_json(options, key=entry.key, **values), **seqs})
                continue
            for sign, side in ((b"-", before), (b"+", now)):
                if side is not None:
                    _print(options, side.key, side.value, first=sign + b" ")
    return 0


async def _history(options: argparse.Namespace) -> int:
    if options.live and options.reverse:
        options.usage("--live goes forward")
    async with _bee(options) as bee:
        async for change in bee.history(reverse=options.reverse, limit=options.limit, live=options.live):
            kind = "del" if change.deleted else "put"
            if options.json:
                said = _as_json(options, key=change.key, value=change.value)
                _print_json({"seq": change.seq, "type": kind, **said})
            else:
                values = (change.key,) if change.deleted else (change.key, change.value)
                _print(options, *values, first=f"{change.seq}\t{kind}\t".encode())
            if options.live:
                sys.stdout.flush()
    return 0


# --- both ------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _bee(options: argparse.Namespace, *, write: bool = False) -> AsyncIterator["Hyperbee"]:
    """The bee, or sub-bee, that the options name."""
    from edge.hyperbee.bee import Hyperbee  # noqa: PLC0415 - as above

    make = write and "value" in options and options.if_equals is None  # a put
    async with cores_of(options, write=write) as cores:
        core = await cores.log(options.feed, create=make)
        bee = Hyperbee(core)
        try:
            await bee.header()
        except RemoteError as error:
            raise ConfigError(options.feed, f"is no Hyperbee: {error}") from error
        if write:
            check_writable(core, options.feed)
        for name in options.sub:
            bee = bee.sub(_utf8("--sub", name))
        yield bee


async def _at_version(bee: "Hyperbee", version: int | None, what: str) -> "Hyperbee":
    if version is None:
        return bee.snapshot()
    if version > bee.version:
        raise ConfigError(what, f"the newest version is {bee.version}")
    view = bee.checkout(version)
    try:
        async for _ in view.range(limit=0):  # reads the root
            pass
    except RemoteError as error:
        raise ConfigError(what, f"{version} is no version: it lies within a batch ({error})") from error
    return view


def _given(options: argparse.Namespace, what: str, text: str) -> bytes:
    """The bytes that an argument stands for."""
    if not options.hex:
        return _utf8(what, text)
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigError(what, f"{text[:64]!r} is not hexadecimal") from None


def _utf8(what: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ConfigError(what, "is not UTF-8; use --hex") from None


def _absent(options: argparse.Namespace, key: bytes) -> ConfigError:
    return ConfigError(_named(options, key), "no such key")


def _named(options: argparse.Namespace, key: bytes) -> str:
    try:
        text = "" if options.hex else key.decode()
    except UnicodeDecodeError:
        text = ""
    return text if text.isprintable() and text else key.hex() or "''"


def _print(options: argparse.Namespace, *values: bytes | None, first: bytes = b"") -> None:
    """One line: the bytes as they are, with tabs between them."""
    said = (b"" if value is None else value.hex().encode() if options.hex else value for value in values)
    sys.stdout.buffer.write(first + b"\t".join(said) + b"\n")


def _as_json(options: argparse.Namespace, seq: int | None = None, **values: bytes | None) -> dict[str, Any]:
    """Text where the bytes are UTF-8, else hexadecimal."""
    found: dict[str, Any] = {} if seq is None else {"seq": seq}
    for name, value in values.items():
        try:
            found[name] = None if value is None else {"hex": value.hex()} if options.hex else value.decode()
        except UnicodeDecodeError:
            found[name] = {"hex": value.hex()} if value is not None else None
    return found


def _print_json(value: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(value).encode() + b"\n")
