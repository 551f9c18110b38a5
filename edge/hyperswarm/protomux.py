"""Protomux: many message channels over one ordered stream of frames. No socket, no clock. Spec: npm's protomux 3.12.

A frame is `uint channel, uint type, payload`, the channel numbered by its sender; 0 is the control channel (batch,
open, reject, close). A channel is up when both sides have opened the same (protocol, id); one's own open is the answer
to the other's. Opens of one (protocol, id) answer each other in the order in which they were sent, so a channel that
was closed before its answer came still takes that answer.

Invariants: what the peer sends calls handlers or raises `RemoteError`, after which the mux is of no further use; a
handler hears `opened` at most once, then `received`, then `closed` exactly once; messages of a channel arrive in
order, consecutive ones of a frame together, at most `BATCH_RUN_ITEMS_MAX` at once; nothing is delivered after `end`.
What a peer can make us hold is bounded: channels, unanswered requests, messages that came before our answer.

A handler that finds a message invalid says so by `Channel.invalid` and goes on with the next, or raises `RemoteError`,
which abandons the rest of that list. Either way the owner's `on_invalid` counts it, and may raise to end it all.

What is sent while frames are handled is gathered; `out.frames()` returns it as batches of about `BATCH_BYTES`.
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Final, Protocol

from edge.encoding.compact import Reader, buffer, string, uint
from edge.errors import LocalError, RemoteError
from edge.hyperswarm.batch import BatchWriter, read_uint
from edge.limits import (
    BATCH_ITEMS_MAX,
    BATCH_RUN_ITEMS_MAX,
    CHANNEL_HANDSHAKE_BYTES_MAX,
    CHANNEL_NAME_BYTES_MAX,
    CHANNELS_MAX,
    OPEN_REQUESTS_MAX,
    UNPAIRED_BYTES_MAX,
    UNPAIRED_MESSAGE_COST,
)

_BATCH, _OPEN, _REJECT, _CLOSE = range(4)
_CONTROL: Final = 0

Message = tuple[int, bytes]
Asked = Callable[[str, bytes | None], bool | None]


class Handler(Protocol):
    """What the owner of a channel gives to `open`."""

    def opened(self, channel: "Channel") -> None:
        """The peer opened it too; `channel.remote_handshake` is what it sent along."""

    def received(self, channel: "Channel", messages: list[Message]) -> None:
        """Consecutive messages of the peer, as (type, payload)."""

    def closed(self, channel: "Channel", error: Exception | None) -> None:
        """Closed by either side, refused by the peer (`opened` was never called), or the connection ended."""


class Channel:
    """One channel of ours. Sending on a closed one does nothing: the peer may close at any moment."""

    __slots__ = (
        "_mux",
        "_pair",
        "closed",
        "handler",
        "id",
        "local_id",
        "opened",
        "protocol",
        "remote_handshake",
        "remote_id",
    )

    def __init__(self, mux: "Mux", pair: "_Pair", protocol: str, channel_id: bytes | None, handler: Handler) -> None:
        self._mux = mux
        self._pair = pair
        self.protocol = protocol
        self.id = channel_id
        self.handler = handler
        self.local_id = 0
        self.remote_id = 0  # 0: not answered yet
        self.remote_handshake = b""
        self.opened = False
        self.closed = False

    def send(self, type: int, payload: bytes) -> None:  # noqa: A002 - the wire's word
        """Send one message; it leaves with the next flush."""
        if not self.closed:
            self._mux.out.push(self.local_id, type, payload)

    def invalid(self, error: RemoteError) -> None:
        """Count a message as invalid. May raise, to end the connection: let that pass."""
        self._mux.on_invalid(self, error)

    def close(self) -> None:
        """Tell the peer, and hear no more. `handler.closed` is called before this returns."""
        self._mux._close(self)


class _Pair:
    """What is known of one (protocol, id), under all its names."""

    __slots__ = ("channel", "incoming", "keys", "outgoing")

    def __init__(self) -> None:
        self.keys: list[tuple[str, bytes | None]] = []
        self.channel: Channel | None = None  # ours, not closed
        self.outgoing: deque[int] = deque()  # local ids whose open was not answered, closed ones among them
        self.incoming: deque[int] = deque()  # remote ids whose open we have not answered


class _Request:
    """A channel that the peer opened and we have not: what it sends is kept until we do, or refuse."""

    __slots__ = ("cost", "handshake", "messages", "pair")

    def __init__(self, pair: _Pair, handshake: bytes) -> None:
        self.pair = pair
        self.handshake = handshake
        self.messages: list[Message] = []
        self.cost = 0


class Mux:
    """All the channels of one stream.

    `on_open_request(protocol, id)` is asked for every channel that the peer opens and we have not. It answers by
    calling `open` before it returns, or leaves it, which refuses; or returns True and answers later by `open` or
    `refuse`. What is to be sent gathers in `out`.
    """

    __slots__ = (
        "_ended",
        "_free",
        "_local",
        "_local_ids",
        "_pairs",
        "_refused",
        "_remote",
        "_remote_ids",
        "_requests",
        "_settling",
        "_unpaired_bytes",
        "channels_opened",
        "messages_received",
        "on_invalid",
        "on_open_request",
        "out",
    )

    def __init__(
        self,
        *,
        on_open_request: Asked,
        on_invalid: Callable[[Channel, RemoteError], None],
        on_waiting: Callable[[], None] = lambda: None,
        on_batch: Callable[[], None] = lambda: None,
    ) -> None:
        """For a shell: `on_waiting` is called when there is something to send, `on_batch` when a full batch waits."""
        self.on_open_request = on_open_request
        self.on_invalid = on_invalid
        self.out = BatchWriter(on_waiting=on_waiting, on_batch=on_batch)
        self.messages_received = 0
        self.channels_opened = 0  # by both sides, and the handler believed the peer's handshake
        self._ended = False
        self._pairs: dict[tuple[str, bytes | None], _Pair] = {}
        self._local: dict[int, Channel] = {}  # closed ones too, until the peer has answered their open
        self._local_ids = 0
        self._free: list[int] = []  # last in, first out
        self._remote: dict[int, Channel | _Request] = {}
        self._remote_ids = 0
        self._requests = 0
        self._refused = 0
        self._unpaired_bytes = 0
        self._settling: deque[Channel] = deque()  # answers to requests, whose handlers have not heard yet

    @property
    def channels(self) -> int:
        """Channels of ours that are not closed."""
        return sum(not channel.closed for channel in self._local.values())

    # --- channels ----------------------------------------------------------------------------------------------------

    def open(
        self,
        protocol: str,
        channel_id: bytes | None,
        handshake: bytes,
        handler: Handler,
        *,
        aliases: Sequence[str] = (),
    ) -> Channel:
        """Open a channel, or answer the peer's request for it. `aliases` are other names it may use for the protocol.

        Opening what is open is our own mistake. Raises `RemoteError` if the peer is gone, or leaves too many opens
        unanswered. `handler.opened` comes after this has returned, with the next `settle` or `receive`.
        """
        if self._ended:
            raise RemoteError("the connection has ended", reason="closed")
        if len(handshake) > CHANNEL_HANDSHAKE_BYTES_MAX:
            raise LocalError(f"a channel's handshake of {len(handshake)} bytes")
        key = (protocol, channel_id or None)
        pair = self._pair(key, aliases)
        if pair.channel is not None:
            raise LocalError(f"channel {protocol} is open already")
        if not self._free and self._local_ids >= CHANNELS_MAX:
            raise RemoteError(f"{CHANNELS_MAX} channels are in use or wait for the peer", reason="channels")
        if self._free:
            local_id = self._free.pop()
        else:
            self._local_ids = local_id = self._local_ids + 1
        channel = Channel(self, pair, protocol, key[1], handler)
        channel.local_id = local_id
        self._local[local_id] = pair.channel = channel
        if pair.incoming:
            channel.remote_id = pair.incoming.popleft()
            self._requests -= 1
            self._settling.append(channel)
        else:
            pair.outgoing.append(local_id)
        self.out.push(_CONTROL, _OPEN, uint(local_id) + string(protocol) + buffer(key[1]) + handshake)
        return channel

    def refuse(self, protocol: str, channel_id: bytes | None) -> None:
        """Refuse what the peer requested and `on_open_request` has put off."""
        pair = self._pairs.get((protocol, channel_id or None))
        if pair is not None and not self._ended:
            self._refuse_all(pair)

    def settle(self) -> None:
        """Tell the handlers of channels that answered a request that they are open. Call after `open`."""
        while self._settling:
            channel = self._settling.popleft()
            if channel.closed:
                continue
            request = self._remote[channel.remote_id]
            assert isinstance(request, _Request)
            self._unpaired_bytes -= request.cost
            self._remote[channel.remote_id] = channel
            self._opened(channel, request.handshake)
            self._deliver(channel, request.messages)

    def end(self, error: Exception | None) -> None:
        """The stream is over: every channel hears `closed`, nothing else is heard."""
        if self._ended:
            return
        self._ended = True
        self._settling.clear()
        self._remote.clear()
        self._pairs.clear()
        channels = [channel for channel in self._local.values() if not channel.closed]
        self._local.clear()
        self.out.clear()
        for channel in channels:
            channel.closed = True
        problem: Exception | None = None
        for channel in channels:
            try:
                channel.handler.closed(channel, error)
            except Exception as caught:  # noqa: BLE001 - the other channels must hear of it too; raised below
                problem = problem or caught
        if problem is not None:
            raise problem

    # --- frames in ---------------------------------------------------------------------------------------------------

    def receive(self, frame: bytes) -> None:
        """Take one frame (one message of the stream). Raises `RemoteError`; what handlers raise beside it passes."""
        if self._settling:
            self.settle()
        if self._ended or not frame:
            return
        end = len(frame)
        remote_id, position = read_uint(frame, 0, end)
        kind, position = read_uint(frame, position, end)
        if remote_id != _CONTROL:
            self._deliver(self._target(remote_id), [(kind, frame[position:])])
        elif kind == _BATCH:
            self._receive_batch(frame, position, end)
        else:
            self._receive_control(kind, frame[position:])

    def _receive_batch(self, frame: bytes, position: int, end: int) -> None:
        """The hot loop: everything that is not the next small message of the same channel leaves it."""
        remote_id, position = read_uint(frame, position, end)
        target = self._target(remote_id)
        run: list[Message] = []
        append = run.append
        items_left = BATCH_ITEMS_MAX
        while position < end:
            for _ in repeat(None, BATCH_RUN_ITEMS_MAX):
                if position >= end:
                    break
                size = frame[position]
                position += 1
                if size > 0xFC:
                    size, position = read_uint(frame, position - 1, end)
                if size:
                    stop = position + size
                    if stop > end:
                        raise RemoteError(f"an item of a batch ends {stop - end} bytes behind it", reason="batch")
                    kind = frame[position]
                    position += 1
                    if kind > 0xFC:
                        kind, position = read_uint(frame, position - 1, stop)
                    if remote_id:
                        append((kind, frame[position:stop]))
                    else:
                        self._receive_control(kind, frame[position:stop])
                        if self._ended:
                            return
                    position = stop
                else:
                    if run:
                        self._deliver(target, run)
                        run = []
                        append = run.append
                    remote_id, position = read_uint(frame, position, end)
                    target = self._target(remote_id)
            if run:
                self._deliver(target, run)
                run = []
                append = run.append
                target = self._target(remote_id)
            items_left -= BATCH_RUN_ITEMS_MAX
            if items_left <= 0 and position < end:
                raise RemoteError(f"a batch of more than {BATCH_ITEMS_MAX} items", reason="batch")

    def _target(self, remote_id: int) -> Channel | _Request | None:
        if remote_id > self._remote_ids:
            raise RemoteError(f"a message for channel {remote_id}, which was never opened", reason="channel")
        return self._remote.get(remote_id)  # None: closed by us, and the peer does not know yet

    def _deliver(self, target: Channel | _Request | None, messages: list[Message]) -> None:
        if target is None or not messages or self._ended:
            return
        if isinstance(target, _Request):
            cost = sum(len(payload) + UNPAIRED_MESSAGE_COST for _, payload in messages)
            self._unpaired_bytes += cost
            if self._unpaired_bytes > UNPAIRED_BYTES_MAX:
                raise RemoteError("too many messages on channels that are not answered yet", reason="unpaired")
            target.cost += cost
            target.messages += messages
            return
        if target.closed:
            return
        self.messages_received += len(messages)
        try:
            target.handler.received(target, messages)
        except RemoteError as error:
            self.on_invalid(target, error)

    def _receive_control(self, kind: int, body: bytes) -> None:
        if self._settling:  # a handler answered an earlier request while it received
            self.settle()
        if kind == _OPEN:
            self._receive_open(Reader(body))
        elif kind == _CLOSE:
            self._receive_close(Reader(body).uint())
        elif kind == _REJECT:
            self._receive_reject(Reader(body).uint())
        elif kind == _BATCH:
            raise RemoteError("a batch within a batch", reason="batch")
        # Others are of a later version: the stock peers ignore them too.

    def _receive_open(self, body: Reader) -> None:
        remote_id = body.uint()
        protocol = body.string()
        channel_id = body.optional_buffer()
        handshake = body.rest()
        if remote_id == _CONTROL:
            self.out.push(_CONTROL, _REJECT, uint(_CONTROL))
            return
        if len(protocol) > CHANNEL_NAME_BYTES_MAX or len(channel_id or b"") > CHANNEL_NAME_BYTES_MAX:
            raise RemoteError("the name of a channel is too long", reason="too_large")
        if len(handshake) > CHANNEL_HANDSHAKE_BYTES_MAX:
            raise RemoteError(f"a channel's handshake of {len(handshake)} bytes", reason="too_large")
        if remote_id > self._remote_ids + 1 or remote_id > CHANNELS_MAX or remote_id in self._remote:
            raise RemoteError(f"channel {remote_id} cannot be opened now", reason="channel")
        self._remote_ids = max(self._remote_ids, remote_id)
        pair = self._pair((protocol, channel_id), ())
        if pair.outgoing:
            channel = self._local[pair.outgoing.popleft()]
            if channel.closed:  # the answer to an open that we have taken back; our close is under way
                self._release(channel)
                return
            channel.remote_id = remote_id
            self._remote[remote_id] = channel
            self._opened(channel, handshake)
            return
        self._remote[remote_id] = _Request(pair, handshake)
        pair.incoming.append(remote_id)
        self._requests += 1
        if pair.channel is not None or self._requests > OPEN_REQUESTS_MAX:
            self._refuse(pair, remote_id)
            return
        later = self.on_open_request(protocol, channel_id)
        if self._ended:
            return
        self.settle()
        if later is not True:
            self._refuse_all(pair)

    def _receive_close(self, remote_id: int) -> None:
        target = self._remote.get(remote_id)
        if isinstance(target, Channel):
            del self._remote[remote_id]
            self._ended_channel(target, None)
        elif target is not None:  # taken back before we answered; the peer still waits for an answer
            self._refuse(target.pair, remote_id)

    def _receive_reject(self, local_id: int) -> None:
        channel = self._local.get(local_id)
        if channel is None or local_id not in channel._pair.outgoing:
            raise RemoteError(f"channel {local_id} is rejected, which waits for no answer", reason="channel")
        channel._pair.outgoing.remove(local_id)
        if channel.closed:
            self._release(channel)
        else:
            self._ended_channel(channel, None)

    # --- pairing -----------------------------------------------------------------------------------------------------

    def _opened(self, channel: Channel, handshake: bytes) -> None:
        channel.opened = True
        channel.remote_handshake = handshake
        try:
            channel.handler.opened(channel)
        except RemoteError as error:  # a handshake that proves nothing: the channel is of no use
            channel.close()
            self.on_invalid(channel, error)
        else:
            self.channels_opened += 1

    def _close(self, channel: Channel) -> None:
        if channel.closed or self._ended:
            return
        self.out.push(_CONTROL, _CLOSE, uint(channel.local_id))
        if channel.remote_id:
            request = self._remote.pop(channel.remote_id)
            if isinstance(request, _Request):  # answered and closed before `settle`
                self._unpaired_bytes -= request.cost
            self._ended_channel(channel, None)
        else:  # its id is free once the peer has answered the open
            channel.closed = True
            channel._pair.channel = None
            channel.handler.closed(channel, None)

    def _ended_channel(self, channel: Channel, error: Exception | None) -> None:
        """`channel` is over on both sides."""
        channel.closed = True
        channel._pair.channel = None
        self._release(channel)
        channel.handler.closed(channel, error)

    def _release(self, channel: Channel) -> None:
        """The peer knows that `channel` is over: its id can be used again."""
        del self._local[channel.local_id]
        self._free.append(channel.local_id)
        self._forget_idle(channel._pair)

    def _refuse_all(self, pair: _Pair) -> None:
        while pair.incoming:
            self._refuse(pair, pair.incoming[0])
        self._forget_idle(pair)

    def _refuse(self, pair: _Pair, remote_id: int) -> None:
        request = self._remote.pop(remote_id)
        assert isinstance(request, _Request)
        self._unpaired_bytes -= request.cost
        self._requests -= 1
        self._refused += 1
        if self._refused > CHANNELS_MAX:
            raise RemoteError(f"asked for more than {CHANNELS_MAX} channels in vain", reason="scan")
        pair.incoming.remove(remote_id)
        self.out.push(_CONTROL, _REJECT, uint(remote_id))
        self._forget_idle(pair)

    def _pair(self, key: tuple[str, bytes | None], aliases: Sequence[str]) -> _Pair:
        names = [key, *((alias, key[1]) for alias in aliases)]
        pair = next((self._pairs[name] for name in names if name in self._pairs), None) or _Pair()
        for name in names:
            if name not in self._pairs:
                self._pairs[name] = pair
                pair.keys.append(name)
        return pair

    def _forget_idle(self, pair: _Pair) -> None:
        if pair.channel is None and not pair.outgoing and not pair.incoming:
            for key in pair.keys:
                self._pairs.pop(key, None)
