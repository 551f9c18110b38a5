"""Sums on boxes: the same result on all, whoever was away, restarted or failed; paid once; nothing from who may not."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from random import getrandbits
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_privacy import PowerCut, Step
from support_shared import epoch_of, network_of, shop_of
from support_sums import CENTRE, EPOCHS, LIVE, SPENT, WINDOW, Consortium, SummingBox, franchise, rivals

from edge.encoding import cbor
from edge.errors import StorageError
from edge.memory.network import NetworkPriceMemory
from edge.memory.network_image import freeze, thaw
from edge.memory.sums import Moment
from edge.memory.sums.running import LISTEN_S, Running, decode_kept
from edge.memory.sums.terms import asked, due_day, plan_of
from edge.networks.access import FeedKind
from edge.networks.following import Arrival
from edge.networks.roster import Revocation, Role, Roster
from edge.privacy.budget import Caps, Spent
from edge.privacy.left import left_this_shop
from edge.privacy.reservation import SUMS, ReleaseKey
from edge.privacy.secure_sum.messages import Kind
from edge.records.message import Network
from edge.records.shared import Unit


def spread(count: int) -> list[Sequence[float]]:
    """What shops know: within the clip of the centre."""
    return [(CENTRE + 0.3 + 0.01 * (number - count / 2),) for number in range(count)]


def cells(block: bytes) -> list[Any]:
    found: Any = cbor.decode(block)
    return list(found)


def kinds(box: SummingBox) -> dict[tuple[bytes, int], set[bytes]]:
    """What a box said as a member: all blocks of a round and kind."""
    found: dict[tuple[bytes, int], set[bytes]] = {}
    for block in box.own_blocks:
        kind, _, digest, *_ = cells(block)
        if kind not in (Kind.CUT, Kind.ABORT):
            found.setdefault((digest, kind), set()).add(block)
    return found


def paid(box: SummingBox) -> Fraction:
    return box.ledger.budget.spent(Unit.OWNER_WEEK, WINDOW.first).rho


def groups(roster: Roster) -> list[list[bytes]]:
    plan = plan_of(roster, EPOCHS[2], WINDOW)
    return [[member.id for member in group] for group in plan.groups]


def away(roster: Roster, each: int) -> set[bytes]:
    """Members of different owners, so many in each group."""
    found = set()
    for group in groups(roster):
        owners = {roster.members[id_].owner: id_ for id_ in group}
        found |= set(list(owners.values())[:each])
    return found


# --- the result ------------------------------------------------------------------------------------------------------


async def test_thirty_boxes_of_fifteen_owners_find_the_same(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path, rivals(15, 2), spread(30))
    await consortium.settle()
    (found,) = set(consortium.sums())
    assert found is not None
    assert found[1:] == (30, 15)
    pooled = consortium.boxes[0].memory.insights("juice", live=False)[""]["price"]
    assert abs(found[0] - CENTRE - 0.3) < 5 * pooled.deviation
    assert 0.05 < pooled.deviation < pooled.error
    assert len({box.memory.digest() for box in consortium.boxes}) == 1
    for box in consortium.boxes:
        assert box.memory.peers() == ()  # nobody's word
        assert paid(box) == Fraction(1, 8)
        assert list((box.directory / "sums").glob("*")) == []  # inputs and keys are gone
        assert not box.memory.insights("juice", live=True)  # rivals' figures reach no price
        (left,) = left_this_shop(box.ledger.budget)
        words = left.words("the consortium", Fraction(1, 10**9))
        assert words.startswith("a masked part of a sum of juice, ")
        assert "rho 0.125" in words
        masked = [block for (_, kind), blocks in kinds(box).items() if kind == Kind.MASKED for block in blocks]
        reservation = box.ledger.budget.reservation(
            ReleaseKey(box.roster.network_id, SUMS, "juice", WINDOW.first, WINDOW.weeks)
        )
        assert reservation is not None
        assert [reservation.payload] == masked


@pytest.mark.parametrize("stage", range(4))
async def test_some_of_each_group_are_away_at_a_stage_and_return(tmp_path: Path, stage: int) -> None:
    """And one of those who stay restarts at every step."""
    roster = rivals(15, 2)
    consortium = Consortium(tmp_path, roster, spread(30), seed=stage)
    gone = away(roster, 2)
    for now in range(6):
        consortium.wire.offline = gone if now == stage else set()
        for _ in range(2):
            await consortium.step()
            await consortium.rng.choice(consortium.online).restart()
        await consortium.hours(25)
        consortium.wire.offline = gone if now == stage else set()
    await consortium.all_hear()
    (found,) = set(consortium.sums())
    assert found is not None  # those who are left are enough
    assert found[1] >= 24
    assert len({box.memory.digest() for box in consortium.boxes}) == 1
    assert all(len(blocks) == 1 for box in consortium.boxes for blocks in kinds(box).values())
    assert all(paid(box) in (0, Fraction(1, 8)) for box in consortium.boxes)


async def test_where_too_many_of_a_group_are_away_it_is_refused_on_all(tmp_path: Path) -> None:
    roster = rivals(15)
    consortium = Consortium(tmp_path, roster, spread(15))
    closers = {box.member for box in consortium.boxes[:3]}
    group = next(group for group in groups(roster) if not closers & set(group))
    consortium.wire.offline = set(group[:2])
    for _ in range(9):
        await consortium.settle()
        await consortium.hours(24)
    await consortium.all_hear()
    assert set(consortium.sums()) == {None}
    for box in consortium.boxes:
        refused = {state.group: state.refused for state in box.desk.states() if state.refused}
        assert set(refused.values()) == {"aborted"}
    assert all(paid(box) == 0 for box in consortium.boxes if box.member in group)  # nothing of theirs has left


SEEDS = [*range(12), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(12, 400))]


@pytest.mark.parametrize("seed", SEEDS)
async def test_random_absences_restarts_and_disk_faults_never_give_two_results(tmp_path: Path, seed: int) -> None:
    """Seven shops of a franchise, anything may happen to anybody at any time."""
    consortium = Consortium(tmp_path, franchise(7, LIVE), spread(7), seed=seed)
    rng = consortium.rng
    for _ in range(24):
        consortium.wire.offline = {box.member for box in consortium.boxes if rng.random() < 0.25}
        for box in consortium.online:
            if rng.random() < 0.15:
                box.feed.fail = rng.choice(["before", "after"])
        await consortium.step([box for box in consortium.boxes if rng.random() < 0.7])
        for box in consortium.boxes:
            if rng.random() < 0.1:
                await box.restart()
        await consortium.hours(rng.choice([1, 8, 25]))
    await consortium.all_hear()
    assert len(set(consortium.sums())) == 1
    assert len({box.memory.digest() for box in consortium.boxes}) == 1
    assert all(len(blocks) == 1 for box in consortium.boxes for blocks in kinds(box).values())
    spent = sum(paid(box) == Fraction(1, 2) for box in consortium.boxes)
    if consortium.sums()[0] is not None:
        assert spent >= consortium.sums()[0][1] >= 5  # type: ignore[index]


async def test_most_of_the_random_weeks_end_in_a_sum(tmp_path: Path) -> None:
    """So that the test above says something."""
    ended = 0
    for seed in range(4):
        consortium = Consortium(tmp_path / str(seed), franchise(7, LIVE), spread(7), seed=seed)
        for _ in range(6):
            await consortium.step([box for box in consortium.boxes if consortium.rng.random() < 0.8])
            await consortium.hours(8)
            await consortium.rng.choice(consortium.boxes).restart()
        await consortium.all_hear()
        ended += consortium.sums()[0] is not None
    assert ended == 4


# --- record, then send -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["before", "after"])
@pytest.mark.parametrize("said", range(5))
async def test_a_box_that_falls_between_durable_and_send_says_the_same(tmp_path: Path, said: int, fault: str) -> None:
    consortium = Consortium(tmp_path, franchise(6, LIVE), spread(6), seed=said)
    box = consortium.boxes[4]  # closes nothing
    fallen = False
    for _ in range(20):
        if not fallen and len(box.own_blocks) == said:
            box.feed.fail = fault
        await consortium.step()
        if not fallen and len(box.own_blocks) >= said and not box.feed.fail and box.desk.failures:
            fallen = True
            await box.restart()
    assert fallen
    await consortium.all_hear()
    (found,) = set(consortium.sums())
    assert found is not None
    assert found[1] == 6
    assert [len(blocks) for blocks in kinds(box).values()] == [1] * 5
    assert paid(box) == Fraction(1, 2)


@pytest.mark.parametrize("cut", [Step.BEFORE, Step.AFTER])
async def test_power_goes_while_the_charge_is_written(tmp_path: Path, cut: Step) -> None:
    consortium = Consortium(tmp_path, franchise(6, LIVE), spread(6))
    box = consortium.boxes[5]
    for _ in range(3):
        await consortium.step([each for each in consortium.boxes if len(box.own_blocks) < 2])
    box.disk.cut = cut
    fallen = 0
    for _ in range(6):
        try:
            await consortium.step()
        except PowerCut:
            fallen += 1
            box.disk.cut = None
            await box.restart()
    assert fallen == 1
    await consortium.all_hear()
    (found,) = set(consortium.sums())
    assert found is not None
    assert found[1] == 6
    assert paid(box) == Fraction(1, 2)
    assert [len(blocks) for blocks in kinds(box).values()] == [1] * 5


async def test_an_append_that_failed_and_stands_all_the_same_is_found_before_the_round_is_closed(
    tmp_path: Path,
) -> None:
    consortium = Consortium(tmp_path, franchise(6, LIVE), spread(6))
    box = consortium.boxes[4]
    while len(box.own_blocks) < 2:
        await consortium.step()
    box.feed.fail = "after"
    while not box.desk.failures:
        await consortium.step()
    assert {kind for _, kind in kinds(box)} == {Kind.KEYS, Kind.SHARES, Kind.MASKED}
    for _ in range(4):
        await consortium.step([each for each in consortium.boxes if each is not box])  # they close with it
    await consortium.all_hear()
    (found,) = set(consortium.sums())
    assert found is not None
    assert found[1] == 6


async def test_an_older_copy_of_its_state_never_says_another_masked_input(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path, franchise(7, LIVE), spread(7))
    box = consortium.boxes[6]
    while len(box.own_blocks) < 2:
        await consortium.step()
    (file,) = (box.directory / "sums").glob("*")
    older = file.read_bytes()
    box.feed.fail = "before"
    while not box.desk.failures:
        await consortium.step()
    assert paid(box) == Fraction(1, 2)
    file.write_bytes(older)
    await box.restart()
    for _ in range(5):
        await consortium.settle()
        await consortium.hours(25)
    await consortium.all_hear()
    (found,) = set(consortium.sums())
    assert found is not None
    assert found[1] == 6
    assert Kind.MASKED not in {kind for _, kind in kinds(box)}
    assert Kind.REVEAL in {kind for _, kind in kinds(box)}  # it holds others' shares, and helps


async def test_without_its_state_a_box_says_no_more_in_a_round(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path, franchise(7, LIVE), spread(7))
    box = consortium.boxes[6]
    await consortium.step()
    said = len(box.own_blocks)
    assert said >= 1
    (file,) = (box.directory / "sums").glob("*")
    assert file.stat().st_mode & 0o777 == 0o600
    file.unlink()
    await box.restart()
    for _ in range(4):
        await consortium.settle()
        await consortium.hours(25)
    await consortium.all_hear()
    assert len(box.own_blocks) == said
    assert box.desk.states() == [] or {state.why_not for state in box.desk.states()} == {"no_state"}
    (found,) = set(consortium.sums())
    assert found is not None
    assert found[1] == 6
    assert paid(box) == 0


# --- who takes part --------------------------------------------------------------------------------------------------


async def test_a_box_whose_budget_is_spent_stays_out_and_still_learns(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path, franchise(7, LIVE), spread(7))
    box = consortium.boxes[6]
    box.caps = SPENT
    await box.restart()
    for _ in range(4):
        await consortium.settle()
        await consortium.hours(25)
    assert box.own_blocks == []
    assert box.desk.refused == Counter(week_spent=1)
    (found,) = set(consortium.sums())
    assert found is not None
    assert found[1] == 6


async def test_what_is_left_of_a_budget_is_not_promised_to_two_rounds(tmp_path: Path) -> None:
    rules = replace(LIVE.privacy, rho_week_milli=1000, rho_year_milli=1_000_000)
    consortium = Consortium(tmp_path, franchise(7, replace(LIVE, privacy=rules)), spread(7))
    for each in consortium.boxes:
        each.categories = ("juice", "tea")
    box = consortium.boxes[6]
    box.caps = Caps(Spent(Fraction(2), Fraction(1, 2)), Spent(Fraction(60), Fraction(1000)))
    await box.restart()
    for _ in range(5):
        await consortium.settle()
        await consortium.hours(25)
    assert len({digest for digest, _ in kinds(box)}) == 1
    assert len({digest for digest, _ in kinds(consortium.boxes[5])}) == 2
    for each in consortium.boxes:
        told = {name: each.memory.insights(name, live=False)[""]["price"].shops for name in ("juice", "tea")}
        assert sorted(told.values()) == [6, 7]


def test_who_closes_listens_first_after_a_restart() -> None:
    roster = franchise(6, LIVE)
    one = asked(roster, plan_of(roster, EPOCHS[2], WINDOW), epoch=2, window=WINDOW, category="a", items=(), centre=0.0)
    today = due_day(WINDOW, LIVE)
    running = Running(one, 0, one.rounds[0].closers[0])
    assert running.waited(0, today, 5.0, 24) == 0.0
    assert running.waited(0, today, 5.0 + 36 * 3600, 24) == 1.5
    again = Running(one, 0, one.rounds[0].closers[0])
    again.restore(decode_kept(running.kept(), running.digest), [], getrandbits)
    assert again.waited(0, today + timedelta(days=3), 7.0, 24) == 0.0
    assert again.waited(0, today + timedelta(days=3), 7.0 + LISTEN_S, 24) == 2.0  # a day more must pass than was asked
    assert again.waited(1, today + timedelta(days=3), 7.0 + LISTEN_S, 24) == 0.0
    with pytest.raises(StorageError):
        decode_kept(running.kept(), bytes(32))
    with pytest.raises(StorageError):
        decode_kept(b"\xff", running.digest)


async def test_a_box_with_stricter_wishes_or_nothing_to_say_stays_out(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path, franchise(9, LIVE), spread(9))
    stricter, silent, unsure = consortium.boxes[6:]
    stricter.policy = replace(LIVE, privacy=replace(LIVE.privacy, rho_milli=100))
    silent.value, unsure.value = None, (float("nan"),)
    for _ in range(4):
        await consortium.settle()
        await consortium.hours(25)
    assert [box.own_blocks for box in (stricter, silent, unsure)] == [[], [], []]
    assert stricter.asked == []
    assert len(silent.asked) <= 5  # once a day
    (found,) = set(consortium.sums())
    assert found is not None
    assert found[1] == 6


async def test_nothing_is_asked_before_its_day_or_in_the_first_epoch_or_of_too_few(tmp_path: Path) -> None:
    early = Consortium(tmp_path / "early", franchise(6, LIVE), spread(6))
    await early.hours(-24)
    await early.settle()
    assert {window.end for box in early.boxes for _, window in box.asked} == {WINDOW.first}  # the one before, still
    await early.hours(24)
    await early.settle()
    assert {window for box in early.boxes for _, window in box.asked[1:]} == {WINDOW}
    first = Consortium(tmp_path / "first", replace(franchise(6, LIVE), epoch=1), spread(6))
    await first.settle()
    assert first.wire.feeds == {}
    for roster in (franchise(4, LIVE), rivals(4, 5)):
        few = Consortium(tmp_path / f"few-{len(roster.members)}", roster, spread(20))
        await few.settle()
        assert few.wire.feeds == {}


async def test_the_second_closer_goes_on_where_the_first_is_silent(tmp_path: Path) -> None:
    roster = franchise(7, LIVE)
    last = max(roster.members)
    members = {**roster.members, last: replace(roster.members[last], role=Role.CLOSER)}
    named = Consortium(tmp_path / "named", replace(roster, members=members), spread(7))
    await named.settle()
    (found,) = set(named.sums())
    assert found is not None
    cuts = {box.member for box in named.boxes if any(cells(block)[0] == Kind.CUT for block in box.own_blocks)}
    assert cuts == {last}  # the roster says who closes
    unnamed = Consortium(tmp_path / "unnamed", roster, spread(7))
    unnamed.wire.offline = {unnamed.boxes[0].member}
    for _ in range(8):
        await unnamed.settle()
        await unnamed.hours(25)
    await unnamed.all_hear()
    (found,) = set(unnamed.sums())
    assert found is not None
    assert found[1] == 6


# --- rosters and epochs ----------------------------------------------------------------------------------------------


async def test_the_network_moves_to_new_keys_while_a_round_runs(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path, franchise(6, LIVE), spread(6))
    await consortium.step()
    await consortium.step()
    assert any(cells(block)[0] == Kind.CUT for box in consortium.boxes for block in box.own_blocks)
    later = replace(consortium.roster, epoch=3, version=8)
    for box in consortium.boxes:
        box.move(later, {**EPOCHS, 3: epoch_of(3, Network.CONSORTIUM)})
    await consortium.all_hear()
    (found,) = set(consortium.sums())
    assert found is not None
    assert found[1] == 6
    assert {epoch for _, epoch in consortium.wire.feeds} == {2, 3}
    assert all(paid(box) == Fraction(1, 2) for box in consortium.boxes)


async def test_who_was_away_for_all_of_it_and_for_a_revocation_finds_the_same(tmp_path: Path) -> None:
    roster = franchise(7, LIVE)
    consortium = Consortium(tmp_path, roster, spread(7))
    sleeper, revoked = consortium.boxes[6], consortium.boxes[5]
    consortium.wire.offline = {sleeper.member}
    for _ in range(5):
        await consortium.settle()
        await consortium.hours(25)
    assert len({box.sum for box in consortium.boxes if box is not sleeper}) == 1
    newcomer = shop_of(Network.CONSORTIUM, 50, since_epoch=2)
    shops = [*(shop_of(Network.CONSORTIUM, number) for number in range(7)), newcomer]
    gone = Revocation(roster.members[revoked.member], 2, dict.fromkeys(FeedKind, 99), "sold")
    later = network_of(Network.CONSORTIUM, shops, policy=LIVE, epoch=3, revoked=[gone])
    epochs = {**EPOCHS, 3: epoch_of(3, Network.CONSORTIUM)}
    await consortium.hours(24 * 100)  # a window later
    for box in consortium.boxes:
        box.move(replace(later, version=9), epochs)
    await sleeper.restart()
    consortium.wire.offline.clear()
    consortium.wire.share()
    sleeper.pull()
    await sleeper.desk.tick(Moment(consortium.today, consortium.now_s))
    assert sleeper.sum is not None
    assert sleeper.memory.digest() == consortium.boxes[0].memory.digest()


async def test_a_memory_that_is_told_again_has_it_once(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path, franchise(6, LIVE), spread(6))
    await consortium.settle()
    box = consortium.boxes[0]
    told, digest = box.sum, box.memory.digest()
    assert told is not None
    await consortium.hours(24)
    await box.desk.tick(Moment(consortium.today, consortium.now_s))
    assert box.desk.states() == []  # the round is over, and its blocks are let go
    box.memory.clear()  # as the sync does where it cannot be right any more
    assert not box.memory.insights("juice", live=False)
    box.cursor.clear()
    box.pull()
    await box.desk.tick(Moment(consortium.today, consortium.now_s))
    assert box.sum == told
    image = freeze(box.memory, {}, b"").encode()
    again = NetworkPriceMemory(box.roster, currency="EUR", own=box.member)
    thaw(image, again)
    assert (again.digest(), again.sum_epoch("juice", WINDOW.end - 1)) == (digest, 2)
    box.memory, box.snapshot = again, True
    await box.restart()
    box.pull()
    await box.desk.tick(Moment(consortium.today, consortium.now_s))
    assert box.memory.digest() == digest
    assert box.desk.results == 0  # it was known
    assert box.own_blocks == consortium.wire.feeds[box.member, 2]


# --- what is said to it ----------------------------------------------------------------------------------------------


NOISE = st.one_of(st.binary(max_size=80), st.builds(cbor.encode, st.lists(st.integers(0, 9), max_size=6)))


def heard(box: SummingBox, sender: bytes, block: bytes) -> None:
    box.desk.hear(Arrival(box.roster.network_id, sender, FeedKind.SUMS, 2, b"", 0, block))


@given(st.lists(NOISE, max_size=20))
async def test_bytes_of_all_kinds_change_nothing(tmp_path_factory: pytest.TempPathFactory, blocks: list[bytes]) -> None:
    consortium = Consortium(tmp_path_factory.mktemp("box"), franchise(5, LIVE), spread(5))
    box = consortium.boxes[0]
    for block in blocks:
        heard(box, consortium.boxes[1].member, block)
    assert box.desk.states() == []
    assert sum(box.desk.refused.values()) == len(blocks)


async def test_what_others_say_twice_or_for_others_is_counted_and_ignored(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path, franchise(6, LIVE), spread(6))
    await consortium.step()
    box, liar = consortium.boxes[0], consortium.boxes[1]
    consortium.wire.share()
    box.pull()
    for block in liar.own_blocks:
        kind, version, digest, *body = cells(block)
        heard(box, liar.member, cbor.encode([kind, version, digest, *body[:-1], b"\7" * 32]))
        heard(box, bytes(32), block)
        heard(box, liar.member, cbor.encode([99, version, digest, *body]))
    assert {"equivocation", "not_a_member", "unknown_kind"} <= set(box.desk.refused)
    await consortium.settle()
    (found,) = set(consortium.sums())
    assert found is not None
    assert found[1] == 6
    assert abs(found[0] - fmean(value[0] for value in spread(6))) < 0.5
