"""Entry points for fuzzing: any bytes give a value or `RemoteError`, and no tree of any bytes is read without end."""

import contextlib
from typing import Final

from support_bee_log import MemoryLog

from edge.errors import RemoteError
from edge.hyperbee.bee import Hyperbee
from edge.hyperbee.codec import Header, Level, Metadata, decode_block, decode_level, encode_block, holds_own_key
from edge.hyperbee.encodings import JSON, UTF8

HEADER: Final = Header().encode()
ENTRIES_MAX: Final = 300  # a fuzzed log of so many blocks at most; each key once


def fuzz_block(data: bytes) -> None:
    """A node block and each of its levels."""
    try:
        block = decode_block(data)
    except RemoteError:
        return
    assert len(block.key) + len(block.levels) + len(block.value or b"") <= len(data)
    with contextlib.suppress(RemoteError):
        holds_own_key(block.levels, 1)
    levels: list[Level] = []
    try:
        for offset in range(len(block.levels) // 2):
            levels.append(decode_level(block.levels, offset, 2**53 - 1))
    except RemoteError:
        pass
    again = decode_block(encode_block(block.key, block.value, levels))
    assert again[:2] == block[:2]
    for offset, level in enumerate(levels):
        assert decode_level(again.levels, offset, 2**53 - 1) == level


def fuzz_header(data: bytes) -> None:
    """Block 0."""
    try:
        header = Header.decode(data)
    except RemoteError:
        return
    assert Header.decode(header.encode()) == header


def fuzz_encodings(data: bytes) -> None:
    """Keys and values as text and JSON."""
    for encoding in (UTF8, JSON):
        try:
            value = encoding.decode(data)
        except RemoteError:
            continue
        assert encoding is JSON or encoding.encode(value) == data


def fuzz_tree(data: bytes) -> None:
    """A whole log: each block is a length byte and so many bytes."""
    blocks = [HEADER]
    while data and len(blocks) < ENTRIES_MAX:
        blocks.append(data[1 : 1 + data[0]])
        data = data[1 + data[0] :]
    reading = read_all(blocks)
    while True:  # everything is held, so no event loop is needed, which would cost more than the tree
        try:
            reading.send(None)
        except StopIteration:
            return


async def read_all(blocks: list[bytes]) -> None:
    """Every way to read a tree, at every version; of a long log, at the newest ones and some before."""
    log = MemoryLog(blocks)
    for version in sorted({*range(2, len(blocks) + 1, len(blocks) // 8 + 1), *range(len(blocks), 1, -1)[:4]}):
        bee = Hyperbee(log).checkout(version)
        with contextlib.suppress(RemoteError):
            keys = [entry.key async for entry in bee.range()]
            assert keys == sorted(set(keys))
            for key in keys:
                entry = await bee.get(key)
                assert entry is not None
                assert entry.key == key
        with contextlib.suppress(RemoteError):
            keys = [entry.key async for entry in bee.range(reverse=True)]
            assert keys == sorted(set(keys), reverse=True)
        with contextlib.suppress(RemoteError):
            assert len([None async for _ in bee.diff(version - 1)]) <= 2 * len(blocks)
        with contextlib.suppress(RemoteError):
            assert len([None async for _ in bee.history()]) <= len(blocks)


def _bent() -> list[bytes]:
    """Trees that no honest writer makes: loops, a future, keys out of order, empty and overfull nodes."""
    bits = 20
    trees = [
        [encode_block(b"a", b"", [Level([1], [1 << bits, 1 << bits])])],  # its own child
        [encode_block(b"a", b"", [Level([1], [1 << bits | 1, 1 << bits | 1]), Level([1], [1 << bits, 1 << bits])])],
        [encode_block(b"a", b"", [Level([2], [])]), encode_block(b"b", b"", [Level([1, 2], [])])],
        [encode_block(b"b", b"", [Level([1], [])]), encode_block(b"a", b"", [Level([1, 2], [])])],
        [encode_block(b"a", b"", [Level([], [1 << bits])])],
        [encode_block(b"a", b"", [Level([1] * 8, [])])],
        [encode_block(b"a", b"", [Level([1], [1 << bits])])],
    ]
    return [b"".join(bytes([len(block)]) + block for block in tree) for tree in trees]


COSTLY: Final = {"fuzz_encodings": [b"[" + b",".join([b'{"":{}}'] * 7000) + b"]"]}
# A few bytes of JSON are an object of Python's; whoever chooses this encoding chooses that.
BOUNDS: Final[dict[str, tuple[int, int]]] = {"fuzz_encodings": (40, 128 * 1024)}
CORPUS: Final[dict[str, list[bytes]]] = {
    "fuzz_block": [
        encode_block(b"key", b"value", [Level([1], [])]),
        encode_block(b"", None, [Level([300, 70_000], [1 << 20, 2 << 20, 2**40 << 20 | 3]), Level([], [])]),
        b"\x12\x01k\x0a\x00\x20\x05",  # fields in another order, one that we do not know
        b"\x0a\x05\x0a\xff\xff\xff\x0f\x12\x00",
        b"\x0a\x80\x00\x12\x00",
    ],
    "fuzz_header": [HEADER, Header(metadata=Metadata(bytes(32), b"user")).encode(), b"\x0a\x02\xff\xff"],
    "fuzz_encodings": [b'{"a":[1,2.5,null]}', b"\xff", b"[" * 2000, b"NaN", b'"\\ud800"', b"9" * 5000],
    "fuzz_tree": _bent(),
}
