"""The bytes that a network memory is kept in between two runs, with how far every feed was read. Derived: may be lost.

The three belong together: what is held, the next block of each feed, and what the validator remembers. Kept apart, a
crash between two files would leave records that were neither read again nor there. Whoever finds the bytes damaged,
foreign or of another version starts from nothing and reads the feeds again. Layout: FORMATS.md, "Network memory
snapshot"; container: `columns`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge.encoding import cbor
from edge.errors import RemoteError
from edge.limits import BLOCK_BYTES_MAX, NETWORK_MEMORY_BYTES_MAX
from edge.memory.columns import read_columns, write_columns
from edge.memory.heard import Priority, cells_of, record_of
from edge.memory.network import NetworkPriceMemory
from edge.memory.packed import FORMS, Packed

FORMAT: Final = 1
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class NetworkImage:
    """What `freeze` took: nothing in it changes any more, so that `encode` may run in another thread."""

    network: bytes
    currency: str
    members: int  # that the room was divided among
    week: int
    incomplete: bool
    shelves: tuple[tuple[bytes, str, Priority | None, tuple[Packed, ...]], ...]  # member, kind, horizon, records
    cursor: tuple[tuple[bytes, int], ...]  # feed key, next sequence
    validator: bytes

    def encode(self) -> bytes:
        """Canonical bytes; a second for a full memory on a small box."""
        shelves = [
            cbor.encode(
                [
                    member,
                    kind,
                    None if horizon is None else list(horizon),
                    [[record.charge, *cells_of(record)] for record in records],
                ]
            )
            for member, kind, horizon, records in self.shelves
        ]
        fields: dict[str, object] = {
            "format": FORMAT,
            "network": self.network,
            "currency": self.currency,
            "members": self.members,
            "week": self.week,
            "incomplete": self.incomplete,
        }
        columns: dict[str, NDArray[Any]] = {
            "shelves": _bytes(b"".join(shelves)),
            "shelf_bytes": np.array([len(shelf) for shelf in shelves], dtype="<i8"),
            "feeds": _bytes(b"".join(key for key, _ in self.cursor)),
            "next": np.array([sequence for _, sequence in self.cursor], dtype="<i8"),
            "validator": _bytes(self.validator),
        }
        return write_columns(fields, columns)


def freeze(memory: NetworkPriceMemory, cursor: Mapping[bytes, int], validator: bytes) -> NetworkImage:
    """Everything that `memory` holds, the next sequence by feed key, and the validator's own state; milliseconds."""
    heard = memory.heard
    return NetworkImage(
        network=memory.roster.network_id,
        currency=memory.currency,
        members=heard.members,
        week=memory.week,
        incomplete=memory.incomplete,
        shelves=tuple(
            (member, kind, shelf.horizon, tuple(record for _, record in sorted(shelf.records.items())))
            for (member, kind), shelf in sorted(heard.shelves.items())
        ),
        cursor=tuple(sorted(cursor.items())),
        validator=validator,
    )


def thaw(data: bytes, memory: NetworkPriceMemory) -> tuple[dict[bytes, int], bytes]:
    """Fill the empty `memory`; the cursor and the validator's state.

    Raises `RemoteError` where the bytes are not of this network, currency and version: `memory` may be filled in part.
    """
    fields, columns = read_columns(data)
    match fields:
        case {
            "format": int(form),
            "network": bytes(network),
            "currency": str(currency),
            "members": int(members),
            "week": int(week),
            "incomplete": bool(incomplete),
            "version": int(),
            **rest,
        } if not rest and form == FORMAT:
            pass
        case _:
            raise RemoteError("network memory of another format", reason="version")
    if network != memory.roster.network_id or currency != memory.currency:
        raise RemoteError("network memory of another network or currency", reason="foreign")
    try:
        keys, following = columns["feeds"].tobytes(), columns["next"].tolist()
        blob, ends = columns["shelves"].tobytes(), [0, *accumulate(columns["shelf_bytes"].tolist())]
        state = columns["validator"].tobytes()
    except KeyError as error:
        raise RemoteError(f"network memory without {error}") from error
    if (
        len(keys) != _KEY_BYTES * len(following)
        or ends[-1] != len(blob)
        or members < 1
        or min(following, default=0) < 0
    ):
        raise RemoteError("network memory whose parts do not fit together")
    memory.heard.members = members
    for start, end in pairwise(ends):
        _fill(memory, cbor.decode(blob[start:end], bytes_max=max(BLOCK_BYTES_MAX, NETWORK_MEMORY_BYTES_MAX)))
    memory.week, memory.incomplete = week, incomplete
    memory.set_roster(memory.roster)  # which may be a newer one
    return {keys[_KEY_BYTES * n : _KEY_BYTES * (n + 1)]: after for n, after in enumerate(following)}, state


def _fill(memory: NetworkPriceMemory, value: object) -> None:
    match value:
        case [bytes(member), str(kind), horizon, list(records)] if kind in FORMS:
            edge = None
            if isinstance(horizon, list):
                week, lot, period, category = horizon
                edge = (week, lot, period, category)
            try:
                memory.heard.load((member, kind), edge, [record_of(cells, charge) for charge, *cells in records])
            except (TypeError, ValueError) as error:
                raise RemoteError(f"network memory: a record of {kind} is malformed") from error
        case _:
            raise RemoteError("network memory: a shelf is malformed")


def _bytes(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)
