"""Connected, partial, local only: the rule with its hysteresis, and what the box hears of it."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_network_boxes import Hands, until

import edge.networks.modes
from edge.health.checks import HealthChecks, HealthState
from edge.networks.links import newer_stays, retry_s
from edge.networks.modes import SETTLE_S, LinkEvent, Mode, ModeState, NetworkErrorHandler, advance, level


@pytest.mark.parametrize(
    ("mode", "connected", "expected", "wanted"),
    [
        (Mode.CONNECTED, 0, 4, Mode.LOCAL_ONLY),
        (Mode.LOCAL_ONLY, 1, 4, Mode.PARTIAL),
        (Mode.PARTIAL, 2, 4, Mode.CONNECTED),
        (Mode.CONNECTED, 2, 6, Mode.CONNECTED),  # a third is enough to stay ...
        (Mode.PARTIAL, 2, 6, Mode.PARTIAL),  # ... and not to become
        (Mode.CONNECTED, 1, 4, Mode.PARTIAL),
        (Mode.LOCAL_ONLY, 1, 0, Mode.CONNECTED),  # it dials nobody, and somebody came
    ],
)
def test_levels(mode: Mode, connected: int, expected: int, wanted: Mode) -> None:
    assert level(mode, connected, expected) is wanted


def test_a_change_counts_once_it_has_lasted() -> None:
    state = advance(ModeState(), 2, 2, 100.0)
    assert state == ModeState(Mode.LOCAL_ONLY, Mode.CONNECTED, 100.0 + SETTLE_S["better"])
    assert advance(state, 2, 2, state.due - 0.01) == state
    connected = advance(state, 2, 2, state.due)
    assert connected == ModeState(Mode.CONNECTED)
    falling = advance(connected, 0, 2, 200.0)
    assert (falling.mode, falling.pending) == (Mode.CONNECTED, Mode.LOCAL_ONLY)
    assert advance(falling, 2, 2, 201.0) == connected  # it was back in time: nothing happened
    assert advance(falling, 0, 2, falling.due).mode is Mode.LOCAL_ONLY


@given(st.lists(st.tuples(st.integers(0, 6), st.floats(0.0, 30.0)), max_size=40), st.integers(0, 6))
def test_modes_follow_from_events_and_never_flap_faster_than_they_settle(
    steps: list[tuple[int, float]], expected: int
) -> None:
    state, now, changes = ModeState(), 0.0, []
    for connected, wait_s in steps:
        now += wait_s
        after = advance(state, connected, expected, now)
        if after.mode is not state.mode:
            changes.append(now)
            assert after.mode is level(state.mode, connected, expected)
        if after.pending is None:
            assert after.mode is level(after.mode, connected, expected)
        state = after
    assert all(later - earlier >= min(SETTLE_S.values()) for earlier, later in pairwise(changes))


async def test_the_box_hears_that_it_is_alone_and_that_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge.networks.modes, "SETTLE_S", {"better": 0.02, "worse": 0.05})
    checks, modes, looks = HealthChecks(Hands()), list[Mode](), list[bool]()
    handler = NetworkErrorHandler("chain", checks, lambda: looks.append(True), modes.append)
    loop = asyncio.get_running_loop()

    def event(connected: int) -> LinkEvent:
        return LinkEvent(b"\x01" * 32, connected, 2, loop.time())

    assert checks.state is HealthState.DEGRADED
    assert await handler.handle_reconnect(event(1)) is Mode.LOCAL_ONLY  # not yet
    assert looks == [True]  # but what was missed is looked for at once
    await until(lambda: checks.state is HealthState.OK)
    assert await handler.handle_disconnect(event(0)) is Mode.CONNECTED
    await handler.handle_reconnect(event(1))
    await asyncio.sleep(0.1)
    assert modes == [Mode.CONNECTED]
    handler.on_link(event(0), False)
    await until(lambda: handler.mode is Mode.LOCAL_ONLY)
    assert modes == [Mode.CONNECTED, Mode.LOCAL_ONLY]
    (check,) = checks.checks
    assert (check.name, check.state) == ("network_chain", HealthState.DEGRADED)
    handler.close()


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.booleans())
def test_both_ends_keep_the_same_one_of_two_connections(one: bytes, other: bytes, newer_by_one: bool) -> None:
    """Whatever order they came in at either end."""
    if one == other:
        return
    here = newer_stays(one, other, newer_is_ours=newer_by_one, older_is_ours=not newer_by_one)
    there = newer_stays(other, one, newer_is_ours=not newer_by_one, older_is_ours=newer_by_one)
    crossed = newer_stays(other, one, newer_is_ours=newer_by_one, older_is_ours=not newer_by_one)
    assert here == there
    assert crossed != here  # the other end saw the older one last
    assert newer_stays(one, other, newer_is_ours=newer_by_one, older_is_ours=newer_by_one)


def test_attempts_become_rare_and_are_spread() -> None:
    waits = [retry_s(attempt, 0.5) for attempt in range(10)]
    assert waits == sorted(waits)
    assert waits[-1] == 60.0
    assert retry_s(3, 0.0) < retry_s(3, 0.99) < 3.1 * retry_s(3, 0.0)
