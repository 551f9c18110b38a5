"""A network in one thread with a clock of its own: real channels (`Mux`) over links that delay, and are cut.

Frames of one direction of a link arrive in order, as on an encrypted stream; everything else may overtake.
"""

import hashlib
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from edge.errors import RemoteError
from edge.hyperswarm.protomux import Asked, Channel, Handler, Mux
from edge.limits import STRIKES_MAX


@dataclass(order=True)
class Timer:
    at: float
    number: int
    call: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """Virtual seconds, and what is to happen."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._heap: list[Timer] = []
        self._count = 0

    def now(self) -> float:
        return self.time

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        self._count += 1
        timer = Timer(self.time + delay, self._count, call)
        heapq.heappush(self._heap, timer)
        return timer

    def run(self, seconds: float, *, steps_max: int = 500_000) -> None:
        """Let `seconds` pass."""
        end = self.time + seconds
        while self._heap and self._heap[0].at <= end:
            timer = heapq.heappop(self._heap)
            self.time = max(self.time, timer.at)
            if not timer.cancelled:
                timer.call()
                steps_max -= 1
                assert steps_max, "the network never comes to rest"
        self.time = end


class End:
    """One end of a link; what a session takes for a connection."""

    def __init__(self, link: "Link", initiator: bool, handshake_hash: bytes) -> None:
        self._link = link
        self.initiator = initiator
        self.handshake_hash = handshake_hash
        self.remote_public_key = bytes(32)
        self.closed = False
        self.congested = False
        self.on_closed: Any = None
        self.strikes: list[RemoteError] = []
        self.sent: list[bytes] = []
        self._drained: list[Callable[[], None]] = []
        self._flushing = False
        self._owner: Asked | None = None
        self._due = 0.0  # when the last frame arrives: the next one not before
        self.mux = Mux(on_open_request=lambda *_: None, on_invalid=self._invalid, on_waiting=self._soon)

    @property
    def on_open_request(self) -> Asked | None:
        return self._owner

    @on_open_request.setter
    def on_open_request(self, asked: Asked) -> None:
        self._owner = asked
        self.mux.on_open_request = asked

    def open(
        self,
        protocol: str,
        channel_id: bytes | None,
        handshake: bytes,
        handler: Handler,
        *,
        aliases: Sequence[str] = (),
    ) -> Channel:
        channel = self.mux.open(protocol, channel_id, handshake, handler, aliases=aliases)
        self._link.clock.call_later(0, self.mux.settle)
        return channel

    def refuse(self, protocol: str, channel_id: bytes | None) -> None:
        self.mux.refuse(protocol, channel_id)

    def on_drained(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._drained.append(callback)
        return lambda: self._drained.remove(callback) if callback in self._drained else None

    def drain(self) -> None:
        self.congested = False
        for callback in list(self._drained):
            callback()

    def receive(self, frame: bytes) -> None:
        if self.closed:
            return
        try:
            self.mux.receive(frame)
        except RemoteError as error:
            self.strikes.append(error)
            self._link.cut()

    def end(self) -> None:
        self.closed = True
        self.mux.end(None)
        if self.on_closed is not None:
            self.on_closed(None)

    def _invalid(self, _channel: Channel, error: RemoteError) -> None:
        self.strikes.append(error)
        if len(self.strikes) >= STRIKES_MAX:
            raise RemoteError("too many invalid messages", reason="strikes")

    def _soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._link.clock.call_later(0, self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self.closed:
            return
        other = self._link.other(self)
        for frame in self.mux.out.frames():
            self.sent.append(frame)
            self._due = max(self._due, self._link.clock.now() + self._link.delay())
            self._link.clock.call_later(self._due - self._link.clock.now(), lambda frame=frame: other.receive(frame))  # type: ignore[misc]


class Link:
    """Two ends. `random` makes delays differ; without it every frame takes `latency`."""

    _count = 0

    def __init__(self, clock: Clock, *, latency: float = 0.01, random: Random | None = None) -> None:
        self.clock = clock
        self.latency = latency
        self._random = random
        Link._count += 1
        secret = hashlib.blake2b(str(Link._count).encode(), digest_size=64).digest()
        self.ends = End(self, True, secret), End(self, False, secret)

    def other(self, end: End) -> End:
        return self.ends[end is self.ends[0]]

    def delay(self) -> float:
        return self.latency if self._random is None else self.latency * self._random.uniform(0.1, 3.0)

    def cut(self) -> None:
        for end in self.ends:
            if not end.closed:
                end.end()
