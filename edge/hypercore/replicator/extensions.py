"""Messages of extensions: named bytes that travel beside replication, of which we know nothing else.

On the wire an empty name repeats the one before, in that direction of that channel. Unknown extensions are passed over.
"""

from collections.abc import Callable, Iterable

from edge.errors import LocalError, RemoteError
from edge.hypercore.messages import Extension, MessageType, decode_extension
from edge.hypercore.replicator.peer import Peer
from edge.limits import EXTENSION_NAME_CHARS_MAX

OnExtension = Callable[[bytes, Peer], None]
"""Hears the payload, and who sent it."""


class Extensions:
    """The extensions of one core that somebody here listens to."""

    def __init__(self) -> None:
        self._listeners: dict[str, OnExtension] = {}

    def listen(self, name: str, received: OnExtension | None) -> None:
        """Hear an extension's messages; None to hear no more."""
        if not 0 < len(name) <= EXTENSION_NAME_CHARS_MAX:
            raise LocalError(f"an extension needs a name of 1 to {EXTENSION_NAME_CHARS_MAX} characters")
        if received is None:
            self._listeners.pop(name, None)
        else:
            self._listeners[name] = received

    def send(self, name: str, payload: bytes, peers: Iterable[Peer]) -> None:
        """Send a message to these peers."""
        for peer in peers:
            if peer.open:
                repeated = name == peer.extension_out
                peer.extension_out = name
                peer.send(MessageType.EXTENSION, Extension("" if repeated else name, payload).encode())

    def received(self, peer: Peer, payload: bytes, _now: float) -> None:
        """Pass a message on. Raises `RemoteError` for a name that nobody would want to remember."""
        message = decode_extension(payload)
        if len(message.name) > EXTENSION_NAME_CHARS_MAX:
            raise RemoteError(f"an extension's name has {len(message.name)} characters", reason="too_large")
        peer.extension_in = message.name or peer.extension_in
        listener = self._listeners.get(peer.extension_in)
        if listener is not None:
            listener(message.payload, peer)
