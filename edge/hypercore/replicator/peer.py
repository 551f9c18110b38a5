"""What is known of one remote on one core: what it said, what we told it, what we asked, and what it asked.

Invariants
- `inflight` keeps the order in which requests were sent, so its first one is the oldest; ids are never used twice.
- `promised` are tree nodes that requests in `inflight` bring along if they are answered as asked, or have brought.
- Every block in `inflight` or `stash` stands in the planner's `asked` as this peer's, unless it is beside a conflict.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from edge.hypercore.messages import Data, MessageType, Request, Sync, decode_bitfield, decode_range
from edge.hypercore.replicator.contract import Channel, Message
from edge.hypercore.replicator.stretches import Stretches
from edge.hypercore.replicator.wants import RemoteWants, spans
from edge.limits import (
    PEER_BACKOFF_MAX_S,
    PEER_BACKOFF_S,
    REMOTE_EDGES_MAX,
    REQUEST_BYTES_IN_FLIGHT_MAX,
    REQUEST_TIMEOUT_MAX_S,
    REQUEST_TIMEOUT_MIN_S,
    REQUESTS_IN_FLIGHT_MAX,
    REQUESTS_IN_FLIGHT_START,
)

if TYPE_CHECKING:
    from edge.hypercore.replicator.replicator import Replicator
    from edge.hypercore.replicator.session import Session

_WINDOW_MIN: Final = 4


class Peer:
    """One remote on one core; the handler of their channel."""

    __slots__ = (
        "acked",
        "asked_from",
        "backoff",
        "block_bytes",
        "can_upgrade",
        "chain",
        "channel",
        "delivered",
        "downloading",
        "extension_in",
        "extension_out",
        "fork",
        "grown_at",
        "has",
        "has_manifest",
        "heard_at",
        "inflight",
        "length",
        "next_id",
        "open",
        "promised",
        "promised_before",
        "promised_until",
        "queue",
        "refusals",
        "replicator",
        "resting_until",
        "rtt",
        "sent_at",
        "session",
        "share",
        "stash",
        "stash_bytes",
        "suspected_at",
        "synced",
        "told",
        "told_contiguous",
        "uploading",
        "wanted",
        "wants",
        "wants_answered",
        "wants_since",
        "window",
    )

    def __init__(self, replicator: "Replicator", session: "Session") -> None:
        self.replicator = replicator
        self.session = session
        self.channel: Channel = None  # type: ignore[assignment]  # set before anything can be received
        self.open = False  # the capability is checked
        # what it said
        self.synced = False
        self.fork = self.length = self.acked = 0
        self.can_upgrade = self.has_manifest = False
        self.uploading = self.downloading = True
        self.has = Stretches(edges_max=REMOTE_EDGES_MAX)
        self.wants = RemoteWants()
        self.wants_answered, self.wants_since = 0, 0.0
        self.extension_in = self.extension_out = ""
        # what we told
        self.told: Sync | None = None
        self.told_contiguous = 0
        self.wanted: set[int] = set()  # starts of our wants
        # what we asked
        self.inflight: dict[int, Request] = {}
        self.next_id = 1
        self.sent_at: deque[tuple[int, float]] = deque()  # last id of each batch, and when it was sent
        self.promised: set[int] = set()
        self.promised_before: set[int] = set()  # by requests up to `promised_until`, and their predecessors
        self.promised_until = 0
        self.chain = -1  # the block after the one that was asked for last, if its promise stands
        self.stash: dict[int, tuple[Request, Data, int]] = {}  # and the tree node that it waits for
        self.stash_bytes = 0
        self.window = REQUESTS_IN_FLIGHT_START
        self.grown_at = 0  # answers since the window was last widened
        self.block_bytes = 0.0  # average size of its blocks
        self.delivered = 0
        self.rtt = 0.0
        self.heard_at = 0.0  # of its last useful answer
        self.refusals = 0
        self.backoff = PEER_BACKOFF_S
        self.resting_until = 0.0
        self.suspected_at: float | None = None  # it sent what cannot be right: asked for a proof of its log
        self.share = 0  # where in what is wanted it begins
        self.asked_from = 0  # where its last requests ended: the next ones continue there
        # what it asked, and waits for our stream
        self.queue: dict[int, Request] = {}

    # --- the channel's handler ---------------------------------------------------------------------------------------

    def opened(self, channel: Channel) -> None:
        """The peer has opened the channel too."""
        self.session.opened(self, channel)

    def received(self, channel: Channel, messages: list[Message]) -> None:
        """Messages, in order."""
        if self.open and not channel.closed:
            self.replicator.received(self, messages)

    def closed(self, _channel: Channel, error: Exception | None) -> None:
        """The channel is over."""
        self.session.closed(self, error)

    # --- questions ---------------------------------------------------------------------------------------------------

    def may_be_asked(self, now: float) -> bool:
        """Whether it serves, and is not left alone for what it did."""
        return self.open and self.synced and self.uploading and now >= self.resting_until and self.suspected_at is None

    @property
    def room(self) -> int:
        """How many more requests it may have."""
        window = self.window
        if self.block_bytes * window > REQUEST_BYTES_IN_FLIGHT_MAX:
            window = max(int(REQUEST_BYTES_IN_FLIGHT_MAX / self.block_bytes), _WINDOW_MIN)
        return window - len(self.inflight)

    def oldest_sent_at(self) -> float | None:
        """When the oldest unanswered request was sent; None if there is none."""
        if not self.inflight:
            self.sent_at.clear()
            return None
        oldest = next(iter(self.inflight))
        sent_at = self.sent_at
        while sent_at[0][0] < oldest:
            sent_at.popleft()
        return sent_at[0][1]

    @property
    def timeout_s(self) -> float:
        """How long it may be silent while it owes answers."""
        return min(max(REQUEST_TIMEOUT_MIN_S, 8 * self.rtt), REQUEST_TIMEOUT_MAX_S)

    # --- changes -----------------------------------------------------------------------------------------------------

    def answered(self, count: int, size: int, now: float) -> None:
        """It delivered `count` blocks of `size` bytes together."""
        self.heard_at = now
        self.delivered += count
        self.block_bytes += (size / count - self.block_bytes) * min(count / 128, 1.0)
        self.refusals = 0
        self.backoff = PEER_BACKOFF_S
        self.grown_at += count
        if self.grown_at >= self.window and self.window < REQUESTS_IN_FLIGHT_MAX:
            self.window, self.grown_at = min(2 * self.window, REQUESTS_IN_FLIGHT_MAX), 0

    def break_promises(self) -> None:
        """A request will not be answered as asked: what it would have brought is not to be relied on."""
        self.promised.clear()
        self.promised_before.clear()
        self.chain = -1

    def rest(self, now: float) -> None:
        """Leave it alone for a while, each time longer."""
        self.resting_until = now + self.backoff
        self.backoff = min(2 * self.backoff, PEER_BACKOFF_MAX_S)
        self.window = max(self.window // 4, _WINDOW_MIN)
        self.refusals = 0

    def send(self, kind: MessageType, payload: bytes) -> None:
        """Send one message."""
        self.channel.send(kind, payload)


def hear_bitfield(peer: Peer, payload: bytes, _now: float) -> None:
    """`peer` says which blocks of a stretch it holds."""
    bitfield = decode_bitfield(payload)
    held = ((start, end) for start, end, held in spans(bitfield) if held)
    peer.has.replace(bitfield.start, bitfield.start + 8 * len(bitfield.words), held)


def hear_range(peer: Peer, payload: bytes, _now: float) -> None:
    """`peer` says that it holds a stretch of blocks, or no longer."""
    said = decode_range(payload)
    if said.drop:
        peer.has.remove(said.start, said.start + said.length)
    else:
        peer.has.add(said.start, said.start + said.length)
