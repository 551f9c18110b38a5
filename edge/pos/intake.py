"""Which of the tills' messages are new: a pure state machine over (lane, boot epoch, sequence). No I/O, no clock.

Per lane and epoch it holds the contiguous durable prefix ("everything up to `through`"), the bounded set of durable
sequences beyond it, and what is staged, that is handed to the log and not yet known to be durable.

    offer / refuse   a message arrived: says what it is, and which records the log must take for it
    commit           those records are durable: only now do acknowledgements cover them
    drop             the log could not take them: they are forgotten, and the till's repeat is new again
    apply            a record read back from the log at start-up; `snapshot` and `restore` shorten that

Invariants: no position is committed twice, whatever the order, the duplicates and the delays; an acknowledgement covers
durable records only; the state after any delivery equals the state after the same messages in order; memory is bounded
by `LANES_MAX × EPOCHS_PER_LANE_MAX` prefixes and `REORDER_WINDOW` sequences each, and what does not fit is left
unacknowledged, so that the till keeps it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from edge.clock import WallTime
from edge.encoding import cbor
from edge.errors import RecordInvalid
from edge.limits import EPOCHS_PER_LANE_MAX, LANES_MAX, REORDER_WINDOW
from edge.pos.acks import ACK_EPOCHS_MAX, ACK_REFUSALS_MAX, Ack, Refusal
from edge.pos.messages import PreviousEpoch, TillMessage
from edge.records.ledger import MISSING_RANGES_MAX, GapRecord, ReceiptRecord, RefusedRecord
from edge.records.receipt import TillPosition

IntakeRecord = ReceiptRecord | RefusedRecord | GapRecord
_SNAPSHOT_VERSION: Final = 1
_SNAPSHOT_BYTES_MAX: Final = 64 * 1024 * 1024  # 256 lanes that reorder wildly; a shop's is a few hundred bytes


class Verdict(StrEnum):
    """What a message turned out to be; the label `result` of `pomona_sales_total`."""

    NEW = "new"
    LATE = (
        "late"  # new, but behind what its lane has already sent: reordered, repeated after a loss, or of an old epoch
    )
    DUPLICATE = "duplicate"  # durable or staged already
    REJECTED = "rejected"  # recorded as refused
    AHEAD = "ahead"  # too far beyond the prefix, or no room for its lane or epoch: not taken, the till repeats it


@dataclass(frozen=True, slots=True)
class Outcome:
    """`records` must go to the log, in order, then come back by `commit` or `drop`; empty: nothing to store."""

    verdict: Verdict
    records: tuple[IntakeRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class EpochStatus:
    """One epoch of one lane, for people. `missing` are (first, last) sequences that never came."""

    lane: str
    epoch: int
    through: int
    highest: int
    missing: tuple[tuple[int, int], ...]
    tail_unknown: bool  # a later epoch began and nobody knows whether receipts behind `highest` existed


@dataclass(slots=True)
class _Epoch:
    through: int = 0
    beyond: set[int] = field(default_factory=set)
    staged: set[int] = field(default_factory=set)
    last: int | None = None  # the epoch's last sequence, as stated by the till when it opened the next one
    opened: bool = False  # something of it is durable: its gap record, or a message where no gap record was due
    opening: bool = False  # the same, staged
    newest: int = 0  # largest sequence ever offered; only tells new from late

    def holds(self, sequence: int) -> bool:
        return sequence <= self.through or sequence in self.beyond

    def add(self, sequence: int) -> None:
        self.newest = max(self.newest, sequence)
        if sequence == self.through + 1:
            self.through = sequence
            while self.beyond and self.through + 1 in self.beyond:
                self.through += 1
                self.beyond.remove(self.through)
        elif sequence > self.through:
            self.beyond.add(sequence)

    def highest(self) -> int:
        return max(self.through, max(self.beyond, default=0))

    def missing(self) -> tuple[tuple[int, int], ...]:
        spans, expected = [], self.through + 1
        for sequence in sorted(self.beyond):
            if sequence > expected:
                spans.append((expected, sequence - 1))
            expected = sequence + 1
        if self.last is not None and self.last >= expected:
            spans.append((expected, self.last))
        return tuple(spans)

    @property
    def held(self) -> bool:
        """Whether it is known for more than a message that was dropped."""
        return bool(self.through or self.beyond or self.staged or self.opened or self.last is not None)


@dataclass(slots=True)
class _Lane:
    epochs: dict[int, _Epoch] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)


class Intake:
    """The dedup and acknowledgement state of one shop."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}

    def offer(self, message: TillMessage, received: WallTime) -> Outcome:
        """A decoded message arrived. New ones are staged until `commit` or `drop`."""
        receipt = message.receipt
        record = ReceiptRecord(receipt, received)
        return self._stage(receipt.lane, receipt.position, message.previous, record, received)

    def refuse(self, lane: str, position: TillPosition, reason: str, field_name: str, received: WallTime) -> Outcome:
        """A message that cannot be a receipt, but whose position can be read, arrived. Staged like a receipt."""
        record = RefusedRecord(lane, position, reason, field_name, received)
        outcome = self._stage(lane, position, None, record, received)
        return Outcome(Verdict.REJECTED, outcome.records) if outcome.records else outcome

    def commit(self, records: Iterable[IntakeRecord]) -> None:
        """The log holds `records` durably."""
        for record in records:
            if not isinstance(record, GapRecord):
                lane, position = _place(record)
                self._lanes[lane].epochs[position.epoch].staged.remove(position.sequence)
            self.apply(record)

    def drop(self, records: Iterable[IntakeRecord]) -> None:
        """The log did not take `records`: as if their messages had never arrived."""
        for record in records:
            if isinstance(record, GapRecord):
                self._lanes[record.lane].epochs[record.new_epoch].opening = False
            else:
                lane, position = _place(record)
                self._lanes[lane].epochs[position.epoch].staged.remove(position.sequence)
        for name in [name for name, lane in self._lanes.items() if _prune(lane)]:
            del self._lanes[name]

    def apply(self, record: object) -> None:
        """Take in a record of the log; kinds that are not the intake's are ignored."""
        if isinstance(record, GapRecord):
            lane = self._lanes.setdefault(record.lane, _Lane())
            old = lane.epochs.setdefault(record.old_epoch, _Epoch())
            old.opened = True
            old.last = record.last if old.last is None else old.last
            lane.epochs.setdefault(record.new_epoch, _Epoch()).opened = True
        elif isinstance(record, ReceiptRecord | RefusedRecord):
            name, position = _place(record)
            lane = self._lanes.setdefault(name, _Lane())
            epoch = lane.epochs.setdefault(position.epoch, _Epoch())
            epoch.opened = True
            epoch.add(position.sequence)
            if isinstance(record, RefusedRecord):
                refusal = Refusal(position.epoch, position.sequence, record.reason, record.field)
                lane.refused = [*lane.refused, refusal][-ACK_REFUSALS_MAX:]

    def ack(self, lane: str, touched: Iterable[int] = ()) -> Ack:
        """What may be acknowledged to `lane`: its newest epochs, and the `touched` ones however old."""
        state = self._lanes.get(lane, _Lane())
        wanted = sorted(set(touched) & state.epochs.keys(), reverse=True)[: ACK_EPOCHS_MAX - 1]
        newest = (epoch for epoch in sorted(state.epochs, reverse=True) if epoch not in wanted)
        chosen = sorted(
            [*wanted, *(epoch for epoch, _ in zip(newest, range(ACK_EPOCHS_MAX - len(wanted)), strict=False))]
        )
        through = tuple((epoch, state.epochs[epoch].through) for epoch in reversed(chosen))
        return Ack(lane, through, tuple(state.refused))

    def lanes(self) -> tuple[str, ...]:
        """The lanes ever heard of, sorted."""
        return tuple(sorted(self._lanes))

    def status(self, lane: str | None = None) -> Iterator[EpochStatus]:
        """Every epoch of `lane` (None: of all lanes), oldest first, with what is missing of it now."""
        for name in self.lanes() if lane is None else (lane,):
            epochs = self._lanes.get(name, _Lane()).epochs
            for number in sorted(epochs):
                epoch = epochs[number]
                unknown = epoch.last is None and number != max(epochs)
                yield EpochStatus(name, number, epoch.through, epoch.highest(), epoch.missing(), unknown)

    def snapshot(self) -> bytes:
        """The durable state in canonical CBOR; what is staged is left out. Each lane is a CBOR text of its own."""
        lanes = []
        for name in self.lanes():
            lane = self._lanes[name]
            epochs = [
                [number, epoch.through, _bitmap(epoch), epoch.last]
                for number, epoch in sorted(lane.epochs.items())
                if epoch.opened
            ]
            refused = [[r.epoch, r.sequence, r.reason, r.field] for r in lane.refused]
            lanes.append([name, cbor.encode([epochs, refused])])
        return cbor.encode([_SNAPSHOT_VERSION, lanes])

    @classmethod
    def restore(cls, snapshot: bytes) -> "Intake":
        """The state of a `snapshot`; raises `RemoteError` if it is not one: rebuild from the log then."""
        intake = cls()
        try:
            version, lanes = _list(cbor.decode(snapshot, bytes_max=_SNAPSHOT_BYTES_MAX))
            if version != _SNAPSHOT_VERSION:
                raise RecordInvalid(f"intake snapshot of version {version}")
            for name, body in lanes:
                epochs, refused = _list(cbor.decode(body))
                lane = intake._lanes.setdefault(str(name), _Lane())
                lane.refused = [Refusal(*cells) for cells in refused]
                for number, through, bits, last in epochs:
                    TillPosition(number, through + 1)
                    lane.epochs[number] = _Epoch(through, _from_bitmap(through, bits), last=last, opened=True)
                    lane.epochs[number].newest = lane.epochs[number].highest()
        except (TypeError, ValueError) as error:
            raise RecordInvalid(f"not an intake snapshot: {error}") from None
        return intake

    def _stage(
        self,
        name: str,
        position: TillPosition,
        previous: PreviousEpoch | None,
        record: ReceiptRecord | RefusedRecord,
        received: WallTime,
    ) -> Outcome:
        lane = self._lanes.get(name)
        epoch = lane.epochs.get(position.epoch) if lane else None
        if epoch and (epoch.holds(position.sequence) or position.sequence in epoch.staged):
            return Outcome(Verdict.DUPLICATE)
        if position.sequence > (epoch.through if epoch else 0) + REORDER_WINDOW:
            return Outcome(Verdict.AHEAD)
        if lane is None:
            if len(self._lanes) >= LANES_MAX:
                return Outcome(Verdict.AHEAD)
            lane = self._lanes[name] = _Lane()
        if epoch is None:
            if len(lane.epochs) >= EPOCHS_PER_LANE_MAX:
                return Outcome(Verdict.AHEAD)
            epoch = lane.epochs[position.epoch] = _Epoch()
        behind = position.epoch != max(lane.epochs)
        late = behind or position.sequence < epoch.newest
        gap = self._gap(name, lane, position.epoch, previous, received)
        if gap is not None or not epoch.opened:
            epoch.opening = True
        epoch.staged.add(position.sequence)
        epoch.newest = max(epoch.newest, position.sequence)
        verdict = Verdict.LATE if late else Verdict.NEW
        return Outcome(verdict, (record,) if gap is None else (gap, record))

    def _gap(
        self, name: str, lane: _Lane, new: int, previous: PreviousEpoch | None, received: WallTime
    ) -> GapRecord | None:
        """The gap record that is due: where an epoch opens behind another, or its till tells more of the last one."""
        epoch = lane.epochs[new]
        if previous is None and (epoch.opened or epoch.opening):
            return None
        older = [number for number in lane.epochs if number < new]
        if previous is not None and len(lane.epochs) < EPOCHS_PER_LANE_MAX:
            known = lane.epochs.get(previous.epoch, _Epoch())
            told = previous.last_sequence is not None and known.last is None
            old, last = previous.epoch, previous.last_sequence
        else:
            told, old, last = False, max(older, default=0), None
        if not told and (epoch.opened or epoch.opening or not old):
            return None
        before = lane.epochs.get(old, _Epoch())
        missing = _Epoch(before.through, before.beyond | before.staged, last=last).missing()
        if len(missing) > MISSING_RANGES_MAX:
            missing = (*missing[: MISSING_RANGES_MAX - 1], (missing[MISSING_RANGES_MAX - 1][0], missing[-1][1]))
        return GapRecord(name, old, new, before.through, missing, last, received)


def _place(record: ReceiptRecord | RefusedRecord) -> tuple[str, TillPosition]:
    if isinstance(record, ReceiptRecord):
        return record.receipt.lane, record.receipt.position
    return record.lane, record.position


def _prune(lane: _Lane) -> bool:
    """Forget epochs that hold nothing any more; whether the lane itself holds nothing."""
    for number in [number for number, epoch in lane.epochs.items() if not epoch.held]:
        del lane.epochs[number]
    return not lane.epochs


def _bitmap(epoch: _Epoch) -> bytes:
    """The sequences beyond the prefix as bits: bit 0 of byte 0 is `through` + 1."""
    bits = 0
    for sequence in epoch.beyond:
        bits |= 1 << (sequence - epoch.through - 1)
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _from_bitmap(through: int, data: bytes) -> set[int]:
    if len(data) > (REORDER_WINDOW + 7) // 8:
        raise ValueError("more sequences beyond a prefix than are ever held")
    bits = int.from_bytes(data, "little")
    return {through + 1 + place for place in range(bits.bit_length()) if bits >> place & 1}


def _list(value: object) -> list[Any]:
    if type(value) is not list:
        raise TypeError("a list is missing")
    return value
