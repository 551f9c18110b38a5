"""Fuzz entry points of what a drive reads from peers: any bytes give a value or `RemoteError`."""

from contextlib import suppress
from typing import Final

from edge.errors import LocalError, RemoteError
from edge.hyperdrive.blobs import decode_block_map
from edge.hyperdrive.entry import FileValue
from edge.hyperdrive.paths import FILES, check_key, check_link, decode_key

CORPUS: Final[dict[str, list[bytes]]] = {
    "fuzz_drive_entry": [
        b'{"executable":false,"linkname":null,"blob":{"blockOffset":0,"byteOffset":0,"blockLength":1,"byteLength":3},"metadata":null}',
        b'{"executable":true,"linkname":"../x","blob":null,"metadata":{"a":[1,2.5e-9,"\\u00e4"]}}',
        b'{"blob":{"blockOffset":1,"byteOffset":2,"blockLength":3,"byteLength":4,"blockMap":true}}',
        b"[" * 5000,
        b"9" * 5000,
    ],
    "fuzz_drive_path": [FILES + b"/a/b", FILES + b"/a/../b", FILES + b"/\xc3\xa4", b"other\0/a"],
    "fuzz_block_map": [b"\0\0", b"\0\x02\x00\xfd\x00\x10\x01\x05", b"\x01", b"\0\xff" + b"\xff" * 8],
}
# A few bytes of JSON are an object of Python's: 40 × an entry, which has DRIVE_ENTRY_BYTES_MAX. It is read three times.
COSTLY: Final = {"fuzz_drive_entry": [b'{"metadata":[' + b",".join([b'{"":{}}'] * 7000) + b"]}"]}
BOUNDS: Final[dict[str, tuple[int, int]]] = {"fuzz_drive_entry": (128, 128 * 1024)}


def fuzz_drive_entry(data: bytes) -> None:
    """An entry's value; what can be written again says the same."""
    try:
        value = FileValue.decode(data)
    except RemoteError:
        return
    with suppress(LocalError):  # metadata that JavaScript would not give back
        assert FileValue.decode(value.encode()).encode() == value.encode()


def fuzz_drive_path(data: bytes) -> None:
    """A key of the database, and its use as a name and a link's target."""
    with suppress(RemoteError):
        key = decode_key(data)
        check_link("/a/b/c", key)
        check_key(key)
        assert ".." not in key.split("/")


def fuzz_block_map(data: bytes) -> None:
    """The list of a deduplicated blob's blocks."""
    with suppress(RemoteError):
        assert all(index >= 0 and length >= 0 for index, length in decode_block_map(data))
