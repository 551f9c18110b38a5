"""Handlers that write down what they hear, and two muxes or connections joined together."""

from edge.errors import RemoteError
from edge.hyperswarm.protomux import Asked, Channel, Message, Mux


class Recorder:
    """A handler: every call, in order."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.messages: list[Message] = []
        self.runs: list[int] = []
        self.error: Exception | None = None
        self.channel: Channel | None = None

    def opened(self, channel: Channel) -> None:
        self.channel = channel
        self.heard.append("opened")

    def received(self, channel: Channel, messages: list[Message]) -> None:
        assert self.heard[-1] == "opened", self.heard
        self.messages += messages
        self.runs.append(len(messages))

    def closed(self, channel: Channel, error: Exception | None) -> None:
        assert "closed" not in self.heard
        self.error = error
        self.heard.append("closed")


class Strict(Recorder):
    """Finds every message invalid."""

    def received(self, channel: Channel, messages: list[Message]) -> None:
        super().received(channel, messages)
        for number, _ in enumerate(messages):
            channel.invalid(RemoteError(f"message {number} is not liked", reason="disliked"))


class Side:
    """A mux with an owner that accepts the protocols in `accepts`, and counts what it finds invalid."""

    def __init__(self, *accepts: str) -> None:
        self.accepts = set(accepts)
        self.asked: list[tuple[str, bytes | None]] = []
        self.handlers: list[Recorder] = []
        self.invalid: list[RemoteError] = []
        self.mux = Mux(on_open_request=self.ask, on_invalid=lambda _channel, error: self.invalid.append(error))

    def ask(self, protocol: str, channel_id: bytes | None) -> None:
        self.asked.append((protocol, channel_id))
        if protocol in self.accepts:
            self.open(protocol, channel_id)

    def open(self, protocol: str, channel_id: bytes | None = None, handshake: bytes = b"") -> Channel:
        self.handlers.append(Recorder())
        return self.mux.open(protocol, channel_id, handshake, self.handlers[-1])


def exchange(left: Mux, right: Mux) -> None:
    """Carry frames both ways until there are none."""
    while True:
        there = left.out.frames()
        for frame in there:
            right.receive(frame)
        back = right.out.frames()
        for frame in back:
            left.receive(frame)
        if not there and not back:
            return


def refuse_all(_protocol: str, _channel_id: bytes | None) -> None:
    """An owner that opens nothing."""


_: Asked = refuse_all
