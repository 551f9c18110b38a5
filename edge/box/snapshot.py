"""The views' content at one length of the ledger, in one file, so that a start reads the tail of the ledger alone.

Derived data: absent, damaged, foreign or from the future of the ledger means that the views are rebuilt from record 0.
The file is the columns container of `edge.memory.columns` (one SHA-256 over all of it): header fields of the shelf, and
as columns the intake's snapshot, the price memory's image, and the shelf's. It is replaced atomically.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge.box.days import BusinessDays
from edge.box.shelf import Shelf
from edge.errors import RecordInvalid, RemoteError
from edge.memory.columns import read_columns, write_columns
from edge.memory.image import MemoryImage
from edge.pos.intake import Intake

FILE_NAME: Final = "views.snapshot"
FORMAT: Final = 1  # of the fields below; the container has its own


@dataclass(frozen=True, slots=True)
class Frozen:
    """The views' content after the first `length` records of the ledger `key`, ready to be written elsewhere."""

    key: bytes
    length: int
    intake: bytes
    memory: MemoryImage
    fields: dict[str, object]
    columns: dict[str, NDArray[Any]]

    def encode(self) -> bytes:
        """The file's bytes; for a full memory a second's work on a small machine, so not on the loop."""
        fields = {"format": FORMAT, "ledger": self.key, "length": self.length, "shelf": self.fields}
        inner = {"intake": _column(self.intake), "memory": _column(self.memory.encode())}
        return write_columns(fields, {**inner, **self.columns})


@dataclass(frozen=True, slots=True)
class Thawed:
    """A snapshot read back."""

    length: int
    intake: Intake
    memory: MemoryImage
    shelf: Shelf
    days: BusinessDays
    newest_ms: int


def freeze(
    *,
    key: bytes,
    length: int,
    newest_ms: int,
    intake: Intake,
    memory: MemoryImage,
    shelf: Shelf,
    days: BusinessDays,
) -> Frozen:
    """An image of the views that no later change reaches."""
    fields, columns = shelf.snapshot()
    fields["days"] = days.snapshot()
    fields["newest_ms"] = newest_ms
    return Frozen(key, length, intake.snapshot(), memory, fields, columns)


def thaw(data: bytes, *, key: bytes, length_max: int) -> Thawed:
    """The views in a snapshot's bytes. Raises `RemoteError` when it is not one of ledger `key`, or ahead of it."""
    header, columns = read_columns(data)
    length, fields = header.get("length"), header.get("shelf")
    if header.get("format") != FORMAT or not isinstance(length, int) or not isinstance(fields, dict):
        raise RemoteError("view snapshot of another format", reason="version")
    if header.get("ledger") != key:
        raise RemoteError("view snapshot of another ledger", reason="foreign")
    if not 0 <= length <= length_max:
        raise RemoteError(f"view snapshot of {length} records; the ledger has {length_max}", reason="ahead")
    try:
        intake = Intake.restore(columns["intake"].tobytes())
        memory = MemoryImage.decode(columns["memory"].tobytes())
        days = BusinessDays.restore(fields["days"])
        newest_ms = fields["newest_ms"]
        assert isinstance(newest_ms, int)
    except (KeyError, AssertionError, RecordInvalid) as error:
        raise RemoteError(f"view snapshot: {error!r}") from None
    return Thawed(length, intake, memory, Shelf.restore(fields, columns), days, newest_ms)


def _column(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)
