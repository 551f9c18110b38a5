"""What a drive's database says of one file: the value of its key, in JSON, byte for byte as stock peers write it.

    {"executable":false,"linkname":null,"blob":{"blockOffset":0,"byteOffset":0,"blockLength":1,"byteLength":3},"metadata":null}

A file has a blob (where its bytes lie in the other log) or a linkname (it is a symbolic link). Metadata is any JSON.
Spec: `put` and `symlink` in hyperdrive 13.3, `BlobWriteStream` in hyperblobs 2.12, JSON.stringify of ECMAScript.

Decoding takes what a stock peer would take (fields may be missing, unknown ones are ignored) and raises `RemoteError`
for everything else. Encoding raises `LocalError` for metadata that would not come back equal from a stock peer.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Final

from edge.errors import LocalError, RemoteError
from edge.hyperbee.encodings import number
from edge.limits import DRIVE_ENTRY_BYTES_MAX, DRIVE_METADATA_DEPTH_MAX, INTEGER_MAX

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

_DOUBLE_MAX: Final = 10**21  # from here on JavaScript writes an exponent
_ARRAY_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_ARRAY_INDEX_MAX: Final = 2**32 - 2  # property names up to here come first and in order, whoever wrote them when


@dataclass(frozen=True, slots=True)
class BlobId:
    """Where a blob lies. With `block_map`, its blocks hold a list of the blocks that make up the content."""

    block_offset: int
    byte_offset: int
    block_length: int
    byte_length: int
    block_map: bool = False

    def __post_init__(self) -> None:
        for value in (self.block_offset, self.byte_offset, self.block_length, self.byte_length):
            if not 0 <= value <= INTEGER_MAX:
                raise LocalError(f"a blob cannot lie at {value}")
        if self.block_end > INTEGER_MAX or self.byte_offset + self.byte_length > INTEGER_MAX:
            raise LocalError(f"a blob cannot end behind block {INTEGER_MAX}")

    @property
    def block_end(self) -> int:
        """The block behind the last one."""
        return self.block_offset + self.block_length


@dataclass(frozen=True, slots=True)
class FileValue:
    """One entry's value."""

    executable: bool = False
    linkname: str | None = None
    blob: BlobId | None = None
    metadata: Json = None

    def encode(self) -> bytes:
        """The bytes in the database. Raises `LocalError` where there is no JSON of it, or too much."""
        blob: Json = None
        if self.blob is not None:
            blob = {
                "blockOffset": self.blob.block_offset,
                "byteOffset": self.blob.byte_offset,
                "blockLength": self.blob.block_length,
                "byteLength": self.blob.byte_length,
            }
            if self.blob.block_map:
                blob["blockMap"] = True
        fields: Json = {
            "executable": self.executable,
            "linkname": self.linkname,
            "blob": blob,
            "metadata": self.metadata,
        }
        pieces: list[str] = []
        _write(fields, pieces, DRIVE_METADATA_DEPTH_MAX)
        data = "".join(pieces).encode()
        if len(data) > DRIVE_ENTRY_BYTES_MAX:
            raise LocalError(f"an entry of {len(data)} bytes; at most {DRIVE_ENTRY_BYTES_MAX}")
        return data

    @classmethod
    def decode(cls, data: bytes) -> "FileValue":
        """The value in `data`, from any peer; `RemoteError` if it is none."""
        if len(data) > DRIVE_ENTRY_BYTES_MAX:
            raise RemoteError(f"an entry of {len(data)} bytes; at most {DRIVE_ENTRY_BYTES_MAX}", reason="too_large")
        try:
            fields = json.loads(data.decode(), parse_constant=_refuse, parse_int=_integer, parse_float=_double)
        except (ValueError, RecursionError) as error:
            raise RemoteError(f"drive entry is no JSON: {error}") from error
        if type(fields) is not dict:
            raise RemoteError("drive entry is no JSON object")
        executable, linkname = fields.get("executable") or False, fields.get("linkname")
        if type(executable) is not bool:
            raise RemoteError(f"drive entry: executable is {executable!r}")
        if linkname is not None and type(linkname) is not str:
            raise RemoteError(f"drive entry: linkname is {linkname!r}")
        return cls(executable, linkname, _blob(fields.get("blob")), fields.get("metadata"))


@dataclass(frozen=True, slots=True)
class DriveEntry:
    """A file or link of a drive or folder. `seq`: the version that put it; None in a folder, which has none."""

    key: str
    value: FileValue
    seq: int | None = None

    @property
    def byte_length(self) -> int:
        """Bytes of content as the entry names them (with a block map: of the map)."""
        return 0 if self.value.blob is None else self.value.blob.byte_length


def _blob(fields: object) -> BlobId | None:
    if fields is None:
        return None
    if type(fields) is not dict:
        raise RemoteError(f"drive entry: blob is {fields!r}")
    numbers = []
    for name in ("blockOffset", "byteOffset", "blockLength", "byteLength"):
        number = fields.get(name)
        if type(number) is float and number.is_integer():
            number = int(number)  # 3.0 and 3 are one number to JavaScript
        if type(number) is not int or not 0 <= number <= INTEGER_MAX:
            raise RemoteError(f"drive entry: {name} is {number!r}")
        numbers.append(number)
    block_map = fields.get("blockMap") or False
    if type(block_map) is not bool:
        raise RemoteError(f"drive entry: blockMap is {block_map!r}")
    try:
        return BlobId(numbers[0], numbers[1], numbers[2], numbers[3], block_map)
    except LocalError as error:
        raise RemoteError(f"drive entry: {error}") from error


def _refuse(constant: str) -> Json:
    raise ValueError(f"{constant} is none")


def _integer(text: str) -> float:
    value = int(text)
    return value if abs(value) <= INTEGER_MAX else _double(text)


def _double(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:32]} is beyond all numbers")
    return value


def _write(value: Json, pieces: list[str], depth: int) -> None:
    """JSON.stringify, without its silent losses: what would become null or another number raises `LocalError`."""
    if depth == 0:
        raise LocalError(f"metadata is nested deeper than {DRIVE_METADATA_DEPTH_MAX - 2}")
    if value is None:
        pieces.append("null")
    elif value is True or value is False:
        pieces.append("true" if value else "false")
    elif isinstance(value, str):
        pieces.append(_string(value))
    elif isinstance(value, int | float):
        pieces.append(_number(value))
    elif isinstance(value, list):
        pieces.append("[")
        for index, item in enumerate(value):
            if index:
                pieces.append(",")
            _write(item, pieces, depth - 1)
        pieces.append("]")
    elif isinstance(value, dict):
        pieces.append("{")
        for index, name in enumerate(_ordered(value)):
            pieces.append(f"{',' if index else ''}{_string(name)}:")
            _write(value[name], pieces, depth - 1)
        pieces.append("}")
    else:
        raise LocalError(f"metadata holds a {type(value).__name__}, which JSON has not")


def _ordered(fields: dict[str, Json]) -> list[str]:
    """Names in JavaScript's order: array indexes first, ascending; the others as they were added."""
    indexes = [name for name in fields if type(name) is str and _is_index(name)]
    if not indexes:
        return list(fields)
    return sorted(indexes, key=int) + [name for name in fields if not _is_index(name)]


def _is_index(name: str) -> bool:
    return _ARRAY_INDEX.fullmatch(name) is not None and int(name) <= _ARRAY_INDEX_MAX


def _string(text: str) -> str:
    if type(text) is not str:
        raise LocalError(f"metadata has {text!r} for a name")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise LocalError(f"{text!r} is no text") from error
    return json.dumps(text, ensure_ascii=False)


def _number(value: float) -> str:
    """As JavaScript writes it; an integer only where that loses none of its digits."""
    if isinstance(value, int):
        if abs(value) <= INTEGER_MAX:
            return str(value)
        text = _number(float(value)) if abs(value) < _DOUBLE_MAX else ""
        if text != f"{value:d}":
            raise LocalError("metadata holds an integer whose digits JavaScript loses")
        return text
    try:
        return number(value)
    except ValueError as error:
        raise LocalError(f"JSON has no {value}") from error
