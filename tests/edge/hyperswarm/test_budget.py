"""The strangers' budget and the window of what waits for a peer: pure, the time is an argument."""

import asyncio
import itertools
import socket
from typing import Any, cast

import pytest

from edge.hyperswarm.budget import Budget
from edge.hyperswarm.window import WriteWindow
from edge.limits import SERVING_S, WRITE_HIGH_BYTES, WRITE_LOW_BYTES, WRITE_START_BYTES


def test_what_is_saved_may_be_spent_at_once_and_debts_are_waited_for() -> None:
    budget = Budget(share=0.1, quiet_share=0.5, burst_s=0.2)
    assert budget.wait_s(now=0.0) == 0.0
    budget.spend(0.25, now=0.0)
    assert budget.wait_s(now=0.0) == pytest.approx(0.1)  # 0.05 s owed, at half a core
    assert budget.wait_s(now=0.1) == pytest.approx(0.0)
    budget.spend(0.2, now=1000.0)  # no more than the burst was saved
    assert budget.wait_s(now=1000.0) == pytest.approx(0.0)


def test_while_peers_are_served_the_share_is_small() -> None:
    budget = Budget(share=0.1, quiet_share=0.5, burst_s=0.2)
    budget.served(0.0001, now=0.0)  # just talk
    budget.spend(0.25, now=0.0)
    assert budget.wait_s(now=0.0) == pytest.approx(0.1)
    budget.served(0.01, now=0.0)
    assert budget.wait_s(now=0.0) == pytest.approx(0.5)
    assert budget.wait_s(now=0.1) == pytest.approx(0.4)
    budget.spend(10.0, now=0.1)
    assert budget.wait_s(now=SERVING_S + 0.1) < 0.5 * budget.wait_s(now=SERVING_S - 0.1)


def test_time_that_does_not_move_on_gives_nothing() -> None:
    budget = Budget(share=0.1, quiet_share=0.5, burst_s=0.0)
    budget.spend(1.0, now=5.0)
    assert budget.wait_s(now=5.0) == budget.wait_s(now=4.0) == pytest.approx(2.0)


class _Transport:
    """What the window sets of a transport; its socket may be none."""

    def __init__(self, used: Any = None) -> None:
        self.limits: list[tuple[int, int]] = []
        self._used = used

    def set_write_buffer_limits(self, *, high: int, low: int) -> None:
        self.limits.append((high, low))

    def get_extra_info(self, _name: str) -> Any:
        return self._used


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX, None])
def test_the_window_grows_with_what_is_read(family: socket.AddressFamily | None) -> None:
    used = socket.socket(family) if family is not None else None
    transport = _Transport(used)
    window = WriteWindow()
    window.apply(cast("asyncio.Transport", transport))
    for _ in range(10):
        window.grow(cast("asyncio.Transport", transport))
    highs = [high for high, _ in transport.limits]
    assert highs[0] == WRITE_START_BYTES
    assert highs[-1] == window.high == WRITE_HIGH_BYTES
    assert all(after == 2 * before for before, after in itertools.pairwise(highs))
    assert all(low < high for high, low in transport.limits)
    assert transport.limits[-1][1] == WRITE_LOW_BYTES
    if used is not None:
        used.close()


def test_a_peer_that_reads_a_little_is_not_stalled() -> None:
    window = WriteWindow()
    since: list[float | None] = []
    window.look(100, now=1.0)
    since.append(window.paused_at)
    window.paused(2.0)
    for now, waiting in ((3.0, 1000), (4.0, 1000), (5.0, 999)):
        window.look(waiting, now)
        since.append(window.paused_at)
    window.resumed()
    since.append(window.paused_at)
    assert since == [None, 3.0, 3.0, 5.0, None]
