"""The intake beside a model: a set of positions, and the order they would have had."""

import random
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge.clock import ClockQuality, WallTime
from edge.errors import RemoteError
from edge.limits import EPOCHS_PER_LANE_MAX, LANES_MAX, REORDER_WINDOW
from edge.pos.intake import Intake, Outcome, Verdict
from edge.pos.messages import PreviousEpoch, TillMessage
from edge.records.ledger import BASE, GapRecord, LedgerCodec, encode
from edge.records.receipt import Receipt, ReceiptKind, TillPosition

WALL = WallTime(1, ClockQuality.FREE)
CODEC = LedgerCodec(BASE)


def message(epoch: int, sequence: int, lane: str = "1", previous: PreviousEpoch | None = None) -> TillMessage:
    position = TillPosition(epoch, sequence)
    return TillMessage(Receipt(lane, position, ReceiptKind.DAY_END, date(2026, 1, 1), 0, "EUR"), previous)


def deliver(intake: Intake, *places: tuple[int, int]) -> list[Verdict]:
    verdicts = []
    for place in places:
        outcome = intake.offer(message(*place), WALL)
        intake.commit(outcome.records)
        verdicts.append(outcome.verdict)
    return verdicts


def test_verdicts() -> None:
    intake = Intake()
    places = ((5, 1), (5, 3), (5, 3), (5, 2), (5, 1), (9, 1), (5, 4), (9, REORDER_WINDOW + 2))
    assert deliver(intake, *places) == ["new", "new", "duplicate", "late", "duplicate", "new", "late", "ahead"]
    assert intake.ack("1").through == ((9, 1), (5, 4))


def test_nothing_is_acknowledged_before_it_is_durable_and_a_duplicate_in_flight_is_not_stored_twice() -> None:
    intake = Intake()
    first = intake.offer(message(5, 1), WALL)
    assert first.verdict is Verdict.NEW
    assert intake.offer(message(5, 1), WALL) == Outcome(Verdict.DUPLICATE)
    assert intake.ack("1").through == ((5, 0),)
    intake.commit(first.records)
    assert intake.ack("1").through == ((5, 1),)


def test_a_group_that_the_log_did_not_take_is_forgotten() -> None:
    intake = Intake()
    deliver(intake, (5, 1), (5, 2))
    before = intake.snapshot()
    group = [*intake.offer(message(9, 1), WALL).records, *intake.offer(message(5, 3), WALL).records]
    other = intake.offer(message(1, 1, "2"), WALL)
    intake.drop([*group, *other.records])
    assert intake.snapshot() == before
    assert intake.lanes() == ("1",)
    again = intake.offer(message(9, 1), WALL)
    assert [type(record).__name__ for record in again.records] == ["GapRecord", "ReceiptRecord"]


def test_a_refused_message_takes_its_place_and_is_told() -> None:
    intake = Intake()
    deliver(intake, (5, 1))
    outcome = intake.refuse("1", TillPosition(5, 2), "personal_data", "CardID", WALL)
    assert outcome.verdict is Verdict.REJECTED
    intake.commit(outcome.records)
    ack = intake.ack("1")
    assert ack.through == ((5, 2),)
    assert [(r.sequence, r.reason, r.field) for r in ack.refused] == [(2, "personal_data", "CardID")]
    assert intake.refuse("1", TillPosition(5, 2), "malformed", "", WALL).verdict is Verdict.DUPLICATE
    assert deliver(intake, (5, 2)) == ["duplicate"]
    assert Intake.restore(intake.snapshot()).ack("1") == ack


def test_a_new_epoch_records_what_is_missing_of_the_last() -> None:
    intake = Intake()
    deliver(intake, (5, 1), (5, 2), (5, 5))
    outcome = intake.offer(message(9, 1, previous=PreviousEpoch(5, 7)), WALL)
    gap = outcome.records[0]
    assert isinstance(gap, GapRecord)
    assert (gap.old_epoch, gap.new_epoch, gap.through, gap.missing, gap.last) == (5, 9, 2, ((3, 4), (6, 7)), 7)
    intake.commit(outcome.records)
    deliver(intake, (5, 4), (5, 3))
    old, new = intake.status("1")
    assert (old.missing, old.tail_unknown, new.missing, new.tail_unknown) == (((6, 7),), False, (), False)


def test_a_till_that_knows_nothing_leaves_the_tail_unknown() -> None:
    intake = Intake()
    deliver(intake, (5, 1), (9, 1))
    assert [(s.epoch, s.missing, s.tail_unknown) for s in intake.status()] == [(5, (), True), (9, (), False)]


def test_lanes_and_epochs_are_bounded() -> None:
    intake = Intake()
    assert set(deliver(intake, *((epoch, 1) for epoch in range(1, EPOCHS_PER_LANE_MAX + 2)))) == {"new", "ahead"}
    assert len(list(intake.status("1"))) == EPOCHS_PER_LANE_MAX
    for lane in range(2, LANES_MAX + 5):
        intake.commit(intake.offer(message(1, 1, str(lane)), WALL).records)
    assert len(intake.lanes()) == LANES_MAX
    assert len(intake.ack("1", (1, 2, 3)).through) == 8
    assert (1, 1) in intake.ack("1", (1,)).through
    assert Intake.restore(intake.snapshot()).snapshot() == intake.snapshot()


@pytest.mark.parametrize("snapshot", [b"", b"\x82\x02\x80", b"\x82\x01\x81\x01", b"\x82\x01\x81\x82\x61\x31\x41\x00"])
def test_a_damaged_snapshot_is_refused(snapshot: bytes) -> None:
    with pytest.raises(RemoteError):
        Intake.restore(snapshot)


def check_any_delivery(seed: int) -> None:
    """Duplicates up to ten, a shuffle, two lanes, three epochs: the end is that of the same messages in order."""
    rng = random.Random(seed)
    places = [(lane, e, n) for lane in "12" for e in (3, 5, 9) for n in range(1, rng.randrange(2, 12))]
    sent = [place for place in places for _ in range(rng.randrange(1, 11))]
    rng.shuffle(sent)
    intake, log = Intake(), list[bytes]()
    for lane, epoch, sequence in sent:
        outcome = intake.offer(message(epoch, sequence, lane), WALL)
        if rng.random() < 0.1:
            intake.drop(outcome.records)
            outcome = intake.offer(message(epoch, sequence, lane), WALL)
        log += [encode(record) for record in outcome.records]
        intake.commit(outcome.records)
        if rng.random() < 0.05:
            intake = Intake.restore(intake.snapshot())
    ordered = Intake()
    for lane, epoch, sequence in places:
        ordered.commit(ordered.offer(message(epoch, sequence, lane), WALL).records)
    assert intake.snapshot() == ordered.snapshot()
    rebuilt = Intake()
    for block in log:
        rebuilt.apply(CODEC.decode(block))
    assert rebuilt.snapshot() == ordered.snapshot()
    assert sum(block[1] == 1 for block in log) == len(places)


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_any_delivery_ends_like_one_in_order(seed: int) -> None:
    check_any_delivery(seed)


@pytest.mark.soak
def test_ten_thousand_deliveries_end_like_those_in_order() -> None:
    for seed in range(10_000):
        check_any_delivery(seed)


class IntakeMachine(RuleBasedStateMachine):
    """Groups that are committed or dropped, with duplicates inside and outside of them."""

    def __init__(self) -> None:
        super().__init__()
        self.intake = Intake()
        self.durable: set[tuple[int, int]] = set()
        self.stored: list[tuple[int, int]] = []
        self.staged: dict[tuple[int, int], Outcome] = {}

    @rule(epoch=st.integers(1, 3), sequence=st.integers(1, 8))
    def offer(self, epoch: int, sequence: int) -> None:
        outcome = self.intake.offer(message(epoch, sequence), WALL)
        known = (epoch, sequence) in self.durable or (epoch, sequence) in self.staged
        assert (outcome.verdict is Verdict.DUPLICATE) == known
        if not known:
            self.staged[epoch, sequence] = outcome

    @rule(keep=st.booleans())
    def finish(self, keep: bool) -> None:
        records = [record for outcome in self.staged.values() for record in outcome.records]
        if keep:
            self.intake.commit(records)
            self.durable |= self.staged.keys()
            self.stored += self.staged.keys()
        else:
            self.intake.drop(records)
        self.staged = {}

    @invariant()
    def acknowledgements_cover_durable_receipts_alone(self) -> None:
        assert len(self.stored) == len(set(self.stored))
        for epoch, through in self.intake.ack("1").through:
            assert all((epoch, n) in self.durable for n in range(1, through + 1))
            assert (epoch, through + 1) not in self.durable


TestIntakeMachine = IntakeMachine.TestCase
TestIntakeMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
