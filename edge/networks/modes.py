"""How well a box is connected in one network, and what is done when that changes.

    connected     at least half of the peers that it dials, or anybody where it dials nobody
    partial       somebody
    local only    nobody: the box prices from its own data; what it shares waits in its own feeds

The rule is pure, with hysteresis twice over: a box that is connected stays so down to a third of its peers, and a
change counts only once it has lasted a while, so a flapping link wakes nobody. Selling does not depend on any of it.

What waits to be sent is what the own feeds hold and no peer has fetched: there is no second queue that could differ
from them, overflow, or be lost with the power.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Final

from edge.health.checks import HealthChecks, HealthState

_GAINED: Final = Fraction(1, 2)  # of the peers, from which on a box is connected ...
_LOST: Final = Fraction(1, 3)  # ... and below which it is no more
SETTLE_S: Final = {"better": 2.0, "worse": 15.0}  # how long a change must last; a reconnect takes some seconds


class Mode(StrEnum):
    """From best to worst."""

    CONNECTED = "connected"
    PARTIAL = "partial"
    LOCAL_ONLY = "local_only"


_ORDER: Final = tuple(Mode)


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """A connection with a member came or went."""

    member: bytes
    connected: int  # members connected after it
    expected: int  # peers that this box dials
    at: float  # monotonic seconds


@dataclass(frozen=True, slots=True)
class ModeState:
    """The mode, and the one that it will be if nothing changes back until `due`."""

    mode: Mode = Mode.LOCAL_ONLY
    pending: Mode | None = None
    due: float = 0.0  # monotonic seconds


def level(mode: Mode, connected: int, expected: int) -> Mode:
    """The mode that so many connections deserve, seen from `mode`."""
    if not connected:
        return Mode.LOCAL_ONLY
    bound = _LOST if mode is Mode.CONNECTED else _GAINED
    return Mode.CONNECTED if Fraction(connected, max(expected, 1)) >= bound else Mode.PARTIAL


def advance(state: ModeState, connected: int, expected: int, now: float) -> ModeState:
    """The state at `now` (monotonic seconds), with so many connections since the last call or before."""
    wanted = level(state.mode, connected, expected)
    if wanted is state.mode:
        return ModeState(state.mode)
    if wanted is not state.pending:
        better = _ORDER.index(wanted) < _ORDER.index(state.mode)
        return ModeState(state.mode, wanted, now + SETTLE_S["better" if better else "worse"])
    return ModeState(wanted) if now >= state.due else state


class NetworkErrorHandler:
    """Keeps the mode of one network, tells the box's health, and has what was missed fetched after a reconnection.

    `recover` starts that; `changed` hears each new mode. Time comes from the running loop.
    """

    def __init__(
        self,
        network: str,
        checks: HealthChecks,
        recover: Callable[[], None],
        changed: Callable[[Mode], None] | None = None,
    ) -> None:
        self._check = f"network_{network}"
        self._checks = checks
        self._recover = recover
        self._changed = changed
        self._state = ModeState()
        self._reach = (0, 0)  # connected, expected
        self._timer: asyncio.TimerHandle | None = None
        self._tell()

    @property
    def mode(self) -> Mode:
        """Now."""
        return self._state.mode

    async def handle_disconnect(self, event: LinkEvent) -> Mode:
        """A member is gone. Updates stay in the own feeds; if it was the last for a while, the mode is local only."""
        self.on_link(event, joined=False)
        return self.mode

    async def handle_reconnect(self, event: LinkEvent) -> Mode:
        """A member is back: peers fetch what waits by themselves, and what was missed is looked for at once."""
        self.on_link(event, joined=True)
        return self.mode

    def on_link(self, event: LinkEvent, joined: bool) -> None:
        """The same without a task, for `NetworkNode.open(on_link=...)`."""
        if joined:
            self._recover()
        self._reach = (event.connected, event.expected)
        self._advance(event.at)

    def close(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _advance(self, now: float) -> None:
        before = self._state.mode
        self._state = advance(self._state, *self._reach, now)
        self.close()
        self._timer = None
        if self._state.pending is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._state.due, lambda: self._advance(max(loop.time(), self._state.due)))
        if self._state.mode is not before:
            self._tell()
            if self._changed is not None:
                self._changed(self._state.mode)

    def _tell(self) -> None:
        connected, expected = self._reach
        if self.mode is Mode.CONNECTED:
            self._checks.report(self._check, HealthState.OK)
        elif self.mode is Mode.PARTIAL:
            self._checks.report(self._check, HealthState.DEGRADED, f"{connected} of {expected} peers are reached")
        else:
            why = "no peer is reached: prices are made from this shop's own data, updates wait"
            self._checks.report(self._check, HealthState.DEGRADED, why)
