"""What a connection asks and tells its listener, and how long it waits for a peer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.limits import CLOSE_TIMEOUT_S, FRAME_TIMEOUT_S, HANDSHAKE_TIMEOUT_S, IDLE_TIMEOUT_S, STALL_TIMEOUT_S

if TYPE_CHECKING:
    from edge.hyperswarm.connection import Connection


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a peer may take, in seconds."""

    handshake_s: float = HANDSHAKE_TIMEOUT_S
    idle_s: float = IDLE_TIMEOUT_S
    frame_s: float = FRAME_TIMEOUT_S
    stall_s: float = STALL_TIMEOUT_S
    close_s: float = CLOSE_TIMEOUT_S


class Watcher:
    """What a listener wants to know of its connections. This one lets everything pass; `Server` has its own."""

    def made(self, connection: "Connection") -> None:
        """The transport is there. Raises `RemoteError` to drop it before a byte is sent."""

    def handshaken(self, connection: "Connection") -> None:
        """The peer's key is known. Raises `RemoteError` to drop it before any channel is opened."""

    def turn(self, connection: "Connection") -> bool:
        """A peer that has proved nothing yet has sent something. False: keep it until `connection.go_on` is called."""
        return connection is not None

    def spent(self, connection: "Connection", seconds: float) -> None:
        """So much processor time was spent on what it sent."""

    def congested(self, connection: "Connection", *, yes: bool) -> None:
        """The peer began to read more slowly than we answer, or ended to."""

    def partial(self, change: int) -> None:
        """Bytes held of a connection's unfinished frame changed by `change`. May raise `RemoteError`."""

    def lost(self, connection: "Connection", error: Exception | None) -> None:
        """The connection is over; for a peer's fault `error` is a `RemoteError`."""

    def gone(self, connection: "Connection") -> None:
        """Its transport is closed: nothing follows."""
