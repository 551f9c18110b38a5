"""Fuzz entry points of the peer layer: any bytes give events or `RemoteError`, in bounded memory, and nothing else.

Each `fuzz_<machine>(data)` returns quietly or raises what is a defect. They are deterministic: same bytes, same course.
"""

import random
from functools import cache

from edge.crypto.keys import KeyPair
from edge.errors import RemoteError
from edge.hyperswarm.noise import XX, HandshakeState
from edge.hyperswarm.protomux import Channel, Message, Mux
from edge.hyperswarm.secret_stream import SecretStream
from edge.limits import BATCH_RUN_ITEMS_MAX, CHANNELS_MAX, OPEN_REQUESTS_MAX, UNPAIRED_BYTES_MAX


@cache
def _key(number: int) -> KeyPair:
    return KeyPair.from_seed(bytes([number]) * 32)


def _random(count: int) -> bytes:
    return random.Random(1).randbytes(count)


def fuzz_noise(data: bytes) -> None:
    """First byte: which message of the handshake, and which side; the rest is that message, or is laid over it."""
    which = data[0] if data else 0
    initiator = HandshakeState(XX, True, _key(1), ephemeral_seed=_key(2).public_key)
    responder = HandshakeState(XX, False, _key(3), ephemeral_seed=_key(4).public_key)
    turns = [(initiator, responder), (responder, initiator), (initiator, responder)]
    for number, (writer, reader) in enumerate(turns):
        message = writer.write_message()
        if number == which % 3:
            message = (
                data[1:] if which & 0x80 else bytes(a ^ b for a, b in zip(message, data[1:].ljust(96), strict=False))
            )
        try:
            reader.read_message(message)
            if reader.my_turn and number == which % 3:
                reader.write_message()
                return
        except RemoteError:
            return


def fuzz_secret_stream(data: bytes) -> None:
    """First byte: before or after the handshake, and how the rest is cut."""
    mode = data[0] if data else 0
    left = SecretStream(True, _key(1), random=_random)
    right = SecretStream(False, _key(3), random=_random)
    if mode & 1:
        for _ in range(2):
            right.receive_data(b"".join(left.data_to_send()))
            left.receive_data(b"".join(right.data_to_send()))
        if mode & 2:
            left.send_message(data[1:], now=0.0)
            sent = b"".join(left.data_to_send())
            data = sent if mode & 4 else sent + data
    step = (mode >> 4) * 7 or len(data) + 1
    received = 0
    try:
        for position in range(0, len(data), step):
            piece = data[position : position + step]
            received += len(piece)
            for event in right.receive_data(piece):
                assert event
            assert right.partial_bytes <= received
    except RemoteError:
        return


class _Checker:
    """A handler that closes, opens, answers and objects, as the messages say, and checks what it may hear."""

    def __init__(self, world: "_World") -> None:
        self.world = world
        self.state = "new"

    def opened(self, channel: Channel) -> None:
        assert self.state == "new"
        self.state = "open"
        if channel.remote_handshake[:1] == b"\xee":
            raise RemoteError("a handshake that proves nothing", reason="handshake")

    def received(self, channel: Channel, messages: list[Message]) -> None:
        assert self.state == "open"
        assert 0 < len(messages) <= max(BATCH_RUN_ITEMS_MAX, UNPAIRED_BYTES_MAX // 128)
        for kind, payload in messages:
            assert isinstance(payload, bytes)
            if kind == 0:
                channel.send(1, payload)
            elif kind == 2:
                channel.invalid(RemoteError("not liked", reason="disliked"))
            elif kind == 3:
                channel.close()
                return
            elif kind == 4:
                self.world.open("later", payload[:1] or None)
            elif kind == 5:
                raise RemoteError("the rest of the list too", reason="disliked")
            elif kind == 6:
                self.world.mux.end(None)
                return

    def closed(self, channel: Channel, error: Exception | None) -> None:
        assert self.state != "closed"
        assert channel.closed
        self.state = "closed"


class _World:
    """A mux and its owner: answers "now" at once, "later" later, refuses others."""

    def __init__(self) -> None:
        self.strikes = 0
        self.mux = Mux(on_open_request=self.ask, on_invalid=self.invalid)

    def ask(self, protocol: str, channel_id: bytes | None) -> bool:
        if protocol == "now":
            self.open(protocol, channel_id)
        return protocol == "later"

    def open(self, protocol: str, channel_id: bytes | None) -> None:
        pair = self.mux._pairs.get((protocol, channel_id))
        if not self.mux._ended and (pair is None or pair.channel is None):
            self.mux.open(protocol, channel_id, b"hello", _Checker(self))

    def invalid(self, _channel: Channel, error: RemoteError) -> None:
        self.strikes += 1
        if self.strikes >= 64:
            raise RemoteError("too many", reason="strikes") from error


def fuzz_protomux(data: bytes) -> None:
    """Frames, each after two bytes of length (little endian); the last one may be short."""
    world = _World()
    mux = world.mux
    for number in range(3):
        world.open("now", bytes([number]))
    position = 0
    try:
        while position < len(data):
            size = int.from_bytes(data[position : position + 2], "little")
            frame = data[position + 2 : position + 2 + size]
            position += 2 + size
            mux.receive(frame)
            check_mux(mux)
            mux.out.frames()
    except RemoteError:
        pass
    mux.end(None)
    assert mux.channels == 0


def check_mux(mux: Mux) -> None:
    """The invariants that hold between any two calls."""
    assert mux._requests <= OPEN_REQUESTS_MAX + 1
    assert 0 <= mux._unpaired_bytes <= UNPAIRED_BYTES_MAX
    assert len(mux._remote) <= mux._remote_ids <= CHANNELS_MAX
    assert len(set(mux._free)) == len(mux._free)
    if mux._ended:
        return
    assert not set(mux._free) & set(mux._local)
    assert len(mux._free) + len(mux._local) == mux._local_ids
    waiting = {number for pair in mux._pairs.values() for number in pair.outgoing}
    assert waiting == {number for number, channel in mux._local.items() if not channel.remote_id}
    for number, channel in mux._local.items():
        assert not channel.closed or number in waiting
    for pair in mux._pairs.values():
        assert pair.channel is not None or pair.outgoing or pair.incoming
