"""Fuzz entry points of what a core reads from its own disk and from the other processes of its machine.

What is on the disk is ours, but may have been damaged or swapped, so every reader of it has a stated error and raises
no other: `RemoteError` for a record or checkpoint, `StorageError` CORRUPT for a record that does not fit its log, and
for a catalog what `FeedStore.catalog` turns into one. A state that refuses a record is as it was before.
"""

import asyncio
import atexit
import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from edge.crypto.hashing import hash256
from edge.crypto.keys import KeyPair
from edge.encoding import cbor
from edge.errors import ConfigError, RemoteError, StorageError, StorageFault
from edge.hypercore import catalog, checkpoint, lending, records
from edge.hypercore.catalog import Catalog, Feed
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Tree
from edge.hypercore.oplog import Oplog
from edge.hypercore.records import CoreHeader, Partial, RecordKind, Signed, Upgrade
from edge.hypercore.verifier import Verifier
from edge.storage.codec import Record
from edge.storage.files import OsDisk
from edge.storage.runs import DISCARDED

_PAIR: Final = KeyPair.from_seed(b"\x06" * 32)
_MANIFEST: Final = Manifest.single(_PAIR.public_key)
_VERIFIER: Final = Verifier.of(_MANIFEST)
_HEADERS: Final = [CoreHeader(_VERIFIER, False), CoreHeader(None, True, _VERIFIER.key)]
_TREE, _BORN = Tree().append([bytes([index]) for index in range(11)])
_STORE: Final = b"s" * 16
_FREED: Final = 255
_RECORDS_MAX: Final = 60  # more of them are no other state
_PIECES_BYTES_MAX: Final = 2000  # the last record may begin here
_LAST: Final = Record(4, RecordKind.BLOCK, b"the last one")


# --- records ----------------------------------------------------------------------------------------------------------


def _truncate(payload: bytes) -> bytes:
    return records.encode_truncate(*records.decode_truncate(payload))


def _put(payload: bytes) -> bytes:
    index = records.put_index(payload)
    return records.encode_put(index, records.put_nodes(payload), payload[records.put_start(payload) :])


_READ_AND_WRITE: Final[list[Callable[[bytes], bytes]]] = [
    lambda payload: CoreHeader.decode(payload).encode(),
    lambda payload: Signed.decode(payload).encode(),
    lambda payload: Partial.decode(payload).encode(),
    lambda payload: Upgrade.decode(payload).encode(),
    lambda payload: records.encode_nodes(records.decode_nodes(payload)),
    lambda payload: records.encode_clear(*records.decode_clear(payload)),
    _truncate,
    _put,
]


def fuzz_records(data: bytes) -> None:
    """First byte: which record; the rest is its payload. What can be read is written the same way each time."""
    again = _READ_AND_WRITE[(data[0] if data else 0) % len(_READ_AND_WRITE)]
    written = again(data[1:])
    assert again(written) == written


def fuzz_oplog(data: bytes) -> None:
    """A log: records of a kind, two bytes of length and so many bytes, each, behind one of two headers.

    Kind 255 stands for a record whose room was freed.
    """
    oplog = Oplog()
    oplog.apply(0, RecordKind.HEADER, _HEADERS[(data[0] if data else 0) & 1].encode())
    position = 1
    while position < len(data) and oplog.next_sequence < _RECORDS_MAX and position < _PIECES_BYTES_MAX:
        kind, size = data[position], int.from_bytes(data[position + 1 : position + 3], "little")
        payload = data[position + 3 : position + 3 + size]
        position += 3 + size
        before = _state(oplog)
        try:
            oplog.apply(oplog.next_sequence, DISCARDED if kind == _FREED else kind, payload)
        except StorageError as error:
            if error.fault is not StorageFault.CORRUPT or _state(oplog) != before:
                raise AssertionError("a record was refused, but not without a trace") from error
            continue
        _check(oplog)


def _state(oplog: Oplog) -> list[Any]:
    runs = oplog.runs
    return [
        oplog.next_sequence,
        oplog.length,
        oplog.fork,
        list(runs.firsts),
        list(runs.sequences),
        list(runs.ends),
        runs.contiguous,
        oplog.signed,
        dict(oplog.partials),
        set(oplog.foreign_signers),
        oplog.verifier,
        oplog.conflict,
        list(oplog.discarded),
    ]


def _check(oplog: Oplog) -> None:
    runs, end = oplog.runs, 0
    for first, _, last in zip(runs.firsts, runs.sequences, runs.ends, strict=True):
        assert end <= first < last
        end = last
    assert end <= oplog.length
    held = next(runs.held(0, oplog.length), (1, 0))
    assert runs.contiguous == (0 if held[0] else held[1])
    assert oplog.signed is None or oplog.signed.length <= oplog.length


# --- files ------------------------------------------------------------------------------------------------------------


def _read(sequence: int) -> Record:
    if sequence != _LAST.sequence:
        raise IndexError(sequence)
    return _LAST


def fuzz_checkpoint(data: bytes) -> None:
    """First byte: as it is, or with the hash that makes it whole; a checkpoint is believed or refused."""
    body = data[1:]
    if data[:1] == b"\x01":
        body += hash256(body)
    for header in _HEADERS:
        with contextlib.suppress(RemoteError):
            oplog, tree = checkpoint.decode(body, header, _STORE, _read)
            assert oplog.length == tree.length
    checkpoint.block_of(body, 3)


def fuzz_catalog(data: bytes) -> None:
    """The store's list of feeds."""
    try:
        found = catalog.parse(data.decode())
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError):
        return
    written = catalog.format_catalog(found)
    assert catalog.format_catalog(catalog.parse(written.decode())) == written


# --- other processes --------------------------------------------------------------------------------------------------


class _Answers:
    """The other end's side of a socket: keeps what it is sent, frame by frame."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.frames.append(data)

    async def drain(self) -> None:
        """Everything is taken at once."""

    def close(self) -> None:
        self.closed = True

    async def wait_closed(self) -> None:
        """Nothing to wait for."""


def fuzz_lending(data: bytes) -> None:
    """What another process may send to the desk that lends a real core; the core takes it or gives an error."""
    _loop().run_until_complete(_borrow(data))


async def _borrow(data: bytes) -> None:
    core = await _lent()
    given: list[Hypercore] = []

    async def borrow(key: bytes) -> Hypercore:
        if key != core.key:
            raise ConfigError(key.hex()[:8], "no such core")
        return core

    async def give_back(lent: Hypercore) -> None:
        given.append(lent)

    desk = lending.LendingDesk(Path("/nowhere"), borrow, give_back)
    reader, answers = asyncio.StreamReader(limit=2**24), _Answers()
    reader.feed_data(data)
    reader.feed_eof()
    serving = asyncio.ensure_future(desk._serve(reader, answers))  # type: ignore[arg-type]
    for _ in range(20):
        await asyncio.sleep(0)
        if serving.done():
            break
    if not serving.done():  # it waits for a block or a change that does not come
        serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    assert not core.demand.open
    assert answers.closed
    assert len(given) <= 1
    for frame in answers.frames:
        assert len(frame) - 4 == int.from_bytes(frame[:4], "little")
        assert cbor.decode(frame[4:], bytes_max=2**24)[0] in ("ok", "error")  # type: ignore[index]


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One loop for all executions: making one costs more than most of them."""
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


_cores: dict[str, Hypercore] = {}


async def _lent() -> Hypercore:
    """A core of three blocks that is kept from being written, as after a copy; it goes with the process."""
    if "lent" not in _cores:
        directory = Path(tempfile.mkdtemp(prefix="pomona-fuzz-"))
        atexit.register(shutil.rmtree, directory)
        core = await Hypercore.open(directory, create=True, key_pair=_PAIR)
        await core.append([b"one", b"two", b"three"], urgent=True)
        await core.close()
        await asyncio.get_running_loop().shutdown_default_executor()
        disks = OsDisk(directory / "log"), OsDisk(directory / "derived")
        _cores["lent"] = core = await Hypercore.open_on(*disks, key_pair=_PAIR, held=True)
        atexit.register(lambda: _loop().run_until_complete(core.close()))
    return _cores["lent"]


# --- examples ---------------------------------------------------------------------------------------------------------


def _piece(kind: int, payload: bytes) -> bytes:
    return bytes((kind,)) + len(payload).to_bytes(2, "little") + payload


def _records() -> list[tuple[RecordKind, bytes]]:
    """The life of a core, ours and somebody else's."""
    upgrade = Upgrade(0, 0, _TREE, b"\x01\x00" + bytes(64) + b"\x00\x00", tuple(_BORN[:3]))
    return [
        (RecordKind.MANIFEST, _MANIFEST.encode()),
        (RecordKind.BLOCK, b"a block"),
        (RecordKind.BLOCK, b""),
        (RecordKind.SIGNATURE, Signed(2, 0, b"\x01\x00" + bytes(64) + b"\x00\x00").encode()),
        (RecordKind.PARTIAL, Partial(0, 2, 0, bytes(64)).encode()),
        (RecordKind.TRUNCATE, records.encode_truncate(1, 4)),
        (RecordKind.UPGRADE, Upgrade(5, 1, upgrade.tree, upgrade.signature, upgrade.nodes).encode()),
        (RecordKind.PUT, records.encode_put(7, _BORN[:2], b"stored")),
        (RecordKind.PUT, records.encode_put(8, _BORN[:1], b"")),
        (RecordKind.NODES, records.encode_nodes(_BORN[4:7])),
        (RecordKind.CLEAR, records.encode_clear(1, 8, _BORN[:1])),
    ]


def _logs() -> list[bytes]:
    every = [_piece(kind, payload) for kind, payload in _records()]
    freed = [_piece(_FREED, bytes((kind,))) for kind in (RecordKind.BLOCK, RecordKind.PUT)]
    return [b"\x00" + b"".join(every), b"\x01" + b"".join(every), b"\x01" + b"".join([*every[:3], *freed, *every[3:]])]


def _payloads() -> list[bytes]:
    found = dict(_records())
    kinds = [RecordKind.SIGNATURE, RecordKind.PARTIAL, RecordKind.UPGRADE, RecordKind.NODES, RecordKind.CLEAR]
    payloads = [header.encode() for header in _HEADERS[:1]] + [found[kind] for kind in kinds]
    payloads += [found[RecordKind.TRUNCATE], found[RecordKind.PUT]]
    return [bytes((number,)) + payload for number, payload in enumerate(payloads)] + [b"\x00" + _HEADERS[1].encode()]


def _checkpoints() -> list[bytes]:
    found = []
    for header in (0, 1):
        oplog, tree = Oplog(), Tree()
        oplog.apply(0, RecordKind.HEADER, _HEADERS[header].encode())
        if header:
            oplog.apply(1, RecordKind.MANIFEST, _MANIFEST.encode())
            for kind, payload in _records()[6:]:
                with contextlib.suppress(StorageError):
                    oplog.apply(oplog.next_sequence, kind, payload)
            tree = _TREE
        else:
            oplog.appended(1, 4)
            tree = Tree().append([b""] * 4)[0]
            oplog.apply(5, RecordKind.PARTIAL, Partial(0, 4, 0, bytes(64)).encode())
        oplog.next_sequence = _LAST.sequence + 1
        data = checkpoint.encode(oplog, tree, _STORE, _LAST)
        found += [b"\x00" + data, b"\x01" + data[:-32]]
    return found


def _catalogs() -> list[bytes]:
    feeds = (
        Feed("sales", bytes(32), False),
        Feed("a/b", b"\x01" * 32, True, 3, b"\x02" * 32),
        Feed("", b"\x03" * 32, True),
        Feed("c", b"\x04" * 32, False, signer="a/b#2"),
    )
    first = json.dumps({"version": 1, "feeds": {"old": {"key": "ab" * 32, "encrypted": False}}}).encode()
    return [
        first,
        *map(catalog.format_catalog, (Catalog(), Catalog(feeds, "0a" * 16, frozenset({bytes(32)})))),
        b"[" * 3000,
    ]


def _frames(*requests: object) -> bytes:
    bodies = [cbor.encode(request) for request in requests]
    return b"".join(len(body).to_bytes(4, "little") + body for body in bodies)


_OPEN: Final = ["open", _VERIFIER.key]
CORPUS: Final[dict[str, list[bytes]]] = {
    "fuzz_records": _payloads(),
    "fuzz_oplog": _logs(),
    "fuzz_checkpoint": _checkpoints(),
    "fuzz_catalog": _catalogs(),
    "fuzz_lending": [
        _frames(_OPEN, ["get", 0], ["get", 2], ["append", [b"x", b""]], ["changed", 1, 0], ["append", []]),
        _frames(_OPEN, ["changed", 3, 0]),
        _frames(_OPEN, ["get", 7]),
        _frames(_OPEN, ["get", -1], ["get", True], ["get", 2**63 - 1], ["get"], [None], {}, 0),
        _frames(["open", bytes(32)], _OPEN, ["append", ["text"]], _OPEN),
        _frames(["open", "text"], []),
        b"\xff\xff\xff\xff",
    ],
}
COSTLY: Final = {"fuzz_catalog": [b"[" * 3000], "fuzz_lending": [_frames(_OPEN, [{}] * 60_000)]}
# A byte of CBOR or JSON can be an object of Python's; CBOR_ITEMS_MAX bounds their number, and the files are our own.
BOUNDS: Final[dict[str, tuple[int, int]]] = {
    "fuzz_lending": (90, 256 * 1024),
    "fuzz_catalog": (90, 128 * 1024),
    "fuzz_checkpoint": (90, 128 * 1024),
    "fuzz_oplog": (12, 128 * 1024),  # the state before each record is kept beside it
}
