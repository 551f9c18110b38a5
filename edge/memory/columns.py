"""The container of a snapshot: a canonical CBOR header and named columns of little-endian numbers, under one hash.

    magic "POMONAPM" | u32 header length | header | columns, each padded to 8 bytes | SHA-256 of all before it

The header is a map: `version`, `columns` (an array of [name, dtype, count]) and the caller's own fields. It holds
numbers and short texts; longer lists travel as columns of CBOR bytes. Reading refuses anything damaged, unknown or not
canonical with `RemoteError`, and never trusts a length before the hash has been checked.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge.encoding import cbor
from edge.errors import RemoteError

MAGIC: Final = b"POMONAPM"
VERSION: Final = 1
_ALIGN: Final = 8
_DTYPES: Final = frozenset({"|u1", "|i1", "<i2", "<u2", "<i4", "<i8"})
_HASH_BYTES: Final = 32


def write_columns(fields: Mapping[str, object], columns: Mapping[str, NDArray[Any]]) -> bytes:
    """The container's bytes. `columns` are one-dimensional, of the integer types above; order is kept."""
    table = [[name, column.dtype.str, len(column)] for name, column in columns.items()]
    header = cbor.encode({**fields, "version": VERSION, "columns": table})
    parts: list[bytes | memoryview] = [MAGIC, len(header).to_bytes(4, "little"), header]
    parts.append(bytes(-sum(map(len, parts)) % _ALIGN))
    for column in columns.values():
        data = np.ascontiguousarray(column).view(np.uint8).data  # no copy: a full memory has 27 MB of them
        parts += [data, bytes(-len(data) % _ALIGN)]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return b"".join((*parts, digest.digest()))


def read_columns(data: bytes) -> tuple[dict[str, object], dict[str, NDArray[Any]]]:
    """Header fields, and columns that do not keep `data` alive. Raises `RemoteError` if anything is not as written."""
    body, digest = memoryview(data)[:-_HASH_BYTES], data[-_HASH_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise RemoteError("snapshot: the hash does not match", reason="damaged")
    if bytes(body[: len(MAGIC)]) != MAGIC:
        raise RemoteError("snapshot: not one of ours", reason="malformed")
    start = len(MAGIC) + 4
    end = start + int.from_bytes(body[len(MAGIC) : start], "little")
    header = cbor.decode(bytes(body[start:end]))
    if not isinstance(header, dict) or header.get("version") != VERSION:
        raise RemoteError("snapshot: of another version", reason="version")
    table = header.pop("columns", None)
    if not isinstance(table, list):
        raise RemoteError("snapshot: no table of columns")
    columns: dict[str, NDArray[Any]] = {}
    at = end + -end % _ALIGN
    for entry in table:
        name, dtype, count = _column(entry)
        size = np.dtype(dtype).itemsize * count
        if at + size > len(body):
            raise RemoteError(f"snapshot: column {name} ends outside")
        columns[name] = np.frombuffer(body, dtype, count, at).copy()
        at += size + -size % _ALIGN
    if at != len(body):
        raise RemoteError("snapshot: bytes after the last column")
    return header, columns


def _column(entry: object) -> tuple[str, str, int]:
    match entry:
        case [str(name), str(dtype), int(count)] if dtype in _DTYPES and count >= 0:
            return name, dtype, count
    raise RemoteError(f"snapshot: column {entry!r:.80} is malformed")
