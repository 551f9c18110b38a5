"""The acknowledgement that the box publishes for a lane: retained, cumulative per boot epoch, JSON.

    {"RetailStoreID": gln, "WorkstationID": lane,
     "Acknowledged": [{"BootEpoch": e, "ThroughSequenceNumber": n}, ...],      newest epoch first, at most 8
     "Refused": [{"BootEpoch": e, "SequenceNumber": n, "Reason": "personal_data", "Field": "CustomerID"}, ...]}

A till may forget every message of epoch e up to n: all of them are durable in the box's log, as receipts or as
refusals. `Refused` lists the last refusals of the lane, newest last, at most 16: they count nothing, and a till shows
them to its operator. An epoch that is not listed has nothing acknowledged yet.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from edge.errors import RemoteError
from edge.limits import INTEGER_MAX, RECEIPT_BYTES_MAX

ACK_EPOCHS_MAX: Final = 8
ACK_REFUSALS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that the box refused for good."""

    epoch: int
    sequence: int
    reason: str
    field: str


@dataclass(frozen=True, slots=True)
class Ack:
    """What is durable of one lane: `through[i]` = (epoch, last sequence of its contiguous durable prefix)."""

    lane: str
    through: tuple[tuple[int, int], ...]
    refused: tuple[Refusal, ...] = ()

    def through_of(self, epoch: int) -> int:
        """The last sequence of `epoch` that a till may forget; 0: none."""
        return next((sequence for known, sequence in self.through if known == epoch), 0)

    @property
    def newest_epoch(self) -> int:
        """The largest epoch the box knows of this lane; 0: none."""
        return max((epoch for epoch, _ in self.through), default=0)


def encode_ack(ack: Ack, gln: str) -> bytes:
    """The JSON of `ack` from the box of shop `gln`."""
    document = {
        "RetailStoreID": gln,
        "WorkstationID": ack.lane,
        "Acknowledged": [{"BootEpoch": epoch, "ThroughSequenceNumber": through} for epoch, through in ack.through],
        "Refused": [
            {"BootEpoch": r.epoch, "SequenceNumber": r.sequence, "Reason": r.reason, "Field": r.field}
            for r in ack.refused
        ],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def decode_ack(payload: bytes, *, gln: str, lane: str) -> Ack:
    """The acknowledgement in `payload`; raises `RemoteError` for anything but one of this shop and lane."""
    try:
        if len(payload) > RECEIPT_BYTES_MAX:
            raise RemoteError(f"acknowledgement of {len(payload)} bytes", reason="too_large")
        document: Any = json.loads(payload.decode())
        if document["RetailStoreID"] != gln or document["WorkstationID"] != lane:
            raise RemoteError("acknowledgement of another till", reason="wrong_lane")
        through = tuple(
            (_integer(entry["BootEpoch"]), _integer(entry["ThroughSequenceNumber"]))
            for entry in document["Acknowledged"]
        )
        refused = tuple(
            Refusal(_integer(r["BootEpoch"]), _integer(r["SequenceNumber"]), str(r["Reason"]), str(r["Field"]))
            for r in document["Refused"]
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RemoteError(f"not an acknowledgement: {error!r:.80}") from None
    return Ack(lane, through, refused)


def _integer(value: object) -> int:
    if type(value) is not int or not 0 <= value <= INTEGER_MAX:
        raise ValueError(f"{value!r:.20} is not an integer from 0")
    return value
