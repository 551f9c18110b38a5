"""The encrypted stream of messages over one ordered connection: bytes in, events out. No socket, no clock.

On the wire everything is a frame: three bytes of length (little endian) and so many bytes. First the messages of the
Noise handshake (`noise.py`), then from each side one header (stream id and nonce), then one frame a message, encrypted
by libsodium's secretstream. Spec: npm's @hyperswarm/secret-stream 6.9, `index.js`; libsodium, "Encrypting a stream".

Invariants: what the peer sends gives events or `RemoteError` (`SignatureError` where a tag or key is wrong); after an
error the stream is of no further use. Frames before the first message have exact lengths, later ones at most
`FRAME_BYTES_MAX`; an unfinished frame occupies what has arrived of it, not what it announced. Messages are delivered in
order, whole, each once; empty ones are keepalives and are not delivered.

Randomness comes in as `random`, for the ephemeral key; the nonce in the header is libsodium's own (it offers no other).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from nacl import bindings as sodium
from nacl.exceptions import CryptoError

from edge.crypto.hashing import HASH_BYTES, keyed256, namespace
from edge.crypto.keys import SEED_BYTES, KeyPair
from edge.errors import LocalError, RemoteError, SignatureError
from edge.hyperswarm.noise import XX, HandshakeState, Session
from edge.limits import FRAME_BYTES_MAX, KEEPALIVE_S

ABYTES: Final = sodium.crypto_secretstream_xchacha20poly1305_ABYTES  # tag and authenticator of a frame
HEADER_BYTES: Final = sodium.crypto_secretstream_xchacha20poly1305_HEADERBYTES
MESSAGE_BYTES_MAX: Final = FRAME_BYTES_MAX - ABYTES
_LENGTH_BYTES: Final = 3
_ID_BYTES: Final = HASH_BYTES
_CIPHER_BUFFER_BYTES_MAX: Final = 512 * 1024  # PyNaCl keeps its largest buffer; larger ones are let go
_INITIATOR, _RESPONDER = namespace("hyperswarm/secret-stream", 2)


class _State(Enum):
    HANDSHAKE = auto()
    HEADER = auto()
    OPEN = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Handshaken:
    """The peer proved to hold `remote_public_key`; from here on messages can be sent."""

    remote_public_key: bytes
    handshake_hash: bytes


class SecretStream:
    """One side of a stream. Events are `Handshaken`, once and first, and messages as plain bytes.

    Call `data_to_send` after every other call and hand the pieces to the transport in order.
    """

    __slots__ = (
        "_expected_key",
        "_frame_bytes",
        "_handshake",
        "_initiator",
        "_out",
        "_partial",
        "_pull",
        "_push",
        "_session",
        "_state",
        "_written_at",
        "bytes_received",
        "bytes_sent",
    )

    def __init__(
        self,
        initiator: bool,
        key_pair: KeyPair,
        *,
        random: Callable[[int], bytes],
        remote_public_key: bytes | None = None,
    ) -> None:
        """`remote_public_key`: refuse whoever proves to hold another."""
        self._initiator = initiator
        self._expected_key = remote_public_key
        self._handshake = HandshakeState(XX, initiator, key_pair, ephemeral_seed=random(SEED_BYTES))
        self._session: Session | None = None
        self._state = _State.HANDSHAKE
        self._out: list[bytes] = []
        self._partial = bytearray()  # a frame not complete yet, its length included
        self._frame_bytes = _LENGTH_BYTES  # what `_partial` needs before anything can be done with it
        self._push = sodium.crypto_secretstream_xchacha20poly1305_state()
        self._pull = sodium.crypto_secretstream_xchacha20poly1305_state()
        self._written_at: float | None = None
        self.bytes_received = 0
        self.bytes_sent = 0
        if initiator:
            self._send_frame(self._handshake.write_message())

    @property
    def established(self) -> bool:
        """Whether the peer's header has arrived too: its side of the handshake is proved to be fresh."""
        return self._state is _State.OPEN

    @property
    def partial_bytes(self) -> int:
        """Bytes held of an unfinished frame; 0 between frames."""
        return len(self._partial)

    @property
    def partial_size(self) -> int:
        """Size that the unfinished frame announced."""
        return self._frame_bytes

    def receive_data(self, data: bytes) -> list[Handshaken | bytes]:
        """Take bytes as they came, cut anywhere. Raises `RemoteError`."""
        if self._state is _State.FAILED:
            raise LocalError("the stream has failed before")
        self.bytes_received += len(data)
        events: list[Handshaken | bytes] = []
        try:
            if self._partial:
                self._partial += data
                data = self._complete_partial(events)
            self._split(data, events)
        except RemoteError:
            self._state = _State.FAILED
            raise
        return events

    def send_message(self, message: bytes, *, now: float) -> None:
        """Encrypt one message of at most `MESSAGE_BYTES_MAX` bytes."""
        if self._session is None:
            raise LocalError("messages can be sent once the handshake is done")
        if len(message) > MESSAGE_BYTES_MAX:
            raise LocalError(f"a message of {len(message)} bytes; at most {MESSAGE_BYTES_MAX}")
        self._send_frame(sodium.crypto_secretstream_xchacha20poly1305_push(self._push, message))
        if len(message) > _CIPHER_BUFFER_BYTES_MAX:
            self._push.rawbuf = None
        self._written_at = now

    def data_to_send(self) -> list[bytes]:
        """Pieces to be written, in order; each is returned once."""
        out, self._out = self._out, []
        return out

    def next_timer(self) -> float | None:
        """When to call `handle_timer`; None before anything could be sent. Put off by every message sent."""
        return None if self._written_at is None else self._written_at + KEEPALIVE_S

    def handle_timer(self, *, now: float) -> None:
        """Send an empty message if nothing was sent for `KEEPALIVE_S`."""
        timer = self.next_timer()
        if timer is not None and now >= timer:
            self.send_message(b"", now=now)

    def start_keepalive(self, *, now: float) -> None:
        """Count write idleness from `now`, when the stream becomes usable."""
        self._written_at = now

    # --- frames in ---------------------------------------------------------------------------------------------------

    def _complete_partial(self, events: list[Handshaken | bytes]) -> bytes:
        """Finish the frame in `_partial` if its end has arrived; returns what comes after it."""
        partial = self._partial
        if len(partial) < self._frame_bytes:
            return b""
        if self._frame_bytes == _LENGTH_BYTES:
            self._frame_bytes += self._checked_length(int.from_bytes(partial[:_LENGTH_BYTES], "little"))
            if len(partial) < self._frame_bytes:
                return b""
        with memoryview(partial) as view:
            frame = bytes(view[_LENGTH_BYTES : self._frame_bytes])
            rest = bytes(view[self._frame_bytes :])
        self._partial = bytearray()
        self._frame_bytes = _LENGTH_BYTES
        self._receive_frame(frame, events)
        return rest

    def _split(self, data: bytes, events: list[Handshaken | bytes]) -> None:
        """Every whole frame of `data`; the rest is kept."""
        position, end = 0, len(data)
        while end - position >= _LENGTH_BYTES:
            length = self._checked_length(data[position] | data[position + 1] << 8 | data[position + 2] << 16)
            start = position + _LENGTH_BYTES
            if start + length > end:
                self._frame_bytes = _LENGTH_BYTES + length
                break
            position = start + length
            self._receive_frame(data[start:position], events)
        if position < end:
            self._partial += data[position:] if position else data

    def _checked_length(self, length: int) -> int:
        if self._state is _State.OPEN:
            if not ABYTES <= length <= FRAME_BYTES_MAX:
                raise RemoteError(
                    f"a frame of {length} bytes; {ABYTES} to {FRAME_BYTES_MAX} are allowed", reason="frame_length"
                )
            return length
        exact = _ID_BYTES + HEADER_BYTES if self._state is _State.HEADER else self._handshake.message_bytes()
        if length != exact:
            raise RemoteError(f"a handshake frame of {length} bytes; it has {exact}", reason="handshake_length")
        return length

    def _receive_frame(self, frame: bytes, events: list[Handshaken | bytes]) -> None:
        if self._state is _State.OPEN:
            try:
                message, tag = sodium.crypto_secretstream_xchacha20poly1305_pull(self._pull, frame)
            except CryptoError:
                raise SignatureError("a frame does not authenticate", reason="frame_mac") from None
            if tag != 0:
                raise RemoteError(f"a frame carries tag {tag}; only plain messages exist", reason="frame_tag")
            if message:
                events.append(message)
                if len(message) > _CIPHER_BUFFER_BYTES_MAX:
                    self._pull.rawbuf = None
        elif self._state is _State.HEADER:
            self._receive_header(frame)
        else:
            self._receive_handshake(frame, events)

    def _receive_handshake(self, frame: bytes, events: list[Handshaken | bytes]) -> None:
        handshake = self._handshake
        handshake.read_message(frame)
        remote = handshake.remote_public_key
        if remote is not None and self._expected_key not in (None, remote):
            raise SignatureError("another key than expected answered", reason="wrong_key")
        if handshake.my_turn:
            self._send_frame(handshake.write_message())
        if handshake.complete:
            self._session = session = handshake.session()
            header = sodium.crypto_secretstream_xchacha20poly1305_init_push(self._push, session.send_key)
            self._send_frame(_stream_id(session.handshake_hash, self._initiator) + header)
            self._state = _State.HEADER
            events.append(Handshaken(session.remote_public_key, session.handshake_hash))

    def _receive_header(self, frame: bytes) -> None:
        session = self._session
        assert session is not None
        if frame[:_ID_BYTES] != _stream_id(session.handshake_hash, not self._initiator):
            raise SignatureError("the header belongs to another stream", reason="stream_id")
        sodium.crypto_secretstream_xchacha20poly1305_init_pull(self._pull, frame[_ID_BYTES:], session.receive_key)
        self._state = _State.OPEN

    def _send_frame(self, frame: bytes) -> None:
        self._out.append(len(frame).to_bytes(_LENGTH_BYTES, "little"))
        self._out.append(frame)
        self.bytes_sent += _LENGTH_BYTES + len(frame)


def _stream_id(handshake_hash: bytes, initiator: bool) -> bytes:
    return keyed256(handshake_hash, _INITIATOR if initiator else _RESPONDER)
