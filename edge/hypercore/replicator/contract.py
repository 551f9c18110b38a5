"""What the replicator needs of a core, a channel and a connection. They are matched by their shape, not by their name.

`Core` is what `Hypercore` is to its peers. `length`, `has`, `prove` and `shown` speak of what is durable; `ahead`,
`known` and `pending` also of what was accepted from peers and is still being written.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol

from edge.errors import RemoteError
from edge.hypercore.conflict import Conflict
from edge.hypercore.demand import Demand
from edge.hypercore.events import Listener
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Node, Tree
from edge.hypercore.messages import Data, Request
from edge.hypercore.proof import Proven
from edge.hypercore.verifier import Verifier

Message = tuple[int, bytes]
"""Type and payload."""

Shown = tuple[int, int, Tree, bytes]
"""Fork, length, tree and signature of the newest state that peers may be told."""


class Core(Protocol):
    """One core, as its peers see it."""

    @property
    def key(self) -> bytes:
        """The public key."""

    @property
    def discovery_key(self) -> bytes:
        """The name by which channels ask for it."""

    @property
    def manifest(self) -> Manifest | None:
        """None until a peer has sent it."""

    @property
    def verifier(self) -> Verifier | None:
        """None until the manifest is known."""

    @property
    def compat(self) -> bool:
        """Whether the core is from before manifests."""

    @property
    def fork(self) -> int:
        """How often the log was truncated."""

    @property
    def length(self) -> int:
        """Blocks of the durable tree, held or not."""

    @property
    def contiguous(self) -> int:
        """Blocks held from 0 on without a hole."""

    @property
    def shown(self) -> Shown | None:
        """The newest state that has a signature."""

    @property
    def ahead(self) -> Tree:
        """The durable tree, or what accepted upgrades will make of it."""

    @property
    def backlog(self) -> int:
        """Bytes accepted and not yet durable."""

    @property
    def frozen(self) -> Conflict | None:
        """The proof that the writer signed two different logs."""

    @property
    def demand(self) -> Demand:
        """What is wanted here."""

    def has(self, index: int) -> bool:
        """Whether a block is held."""

    def held(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Stretches of held blocks, ascending."""

    def pending(self, index: int) -> bool:
        """Whether a block was accepted and is being written."""

    def known(self, index: int) -> Node | None:
        """The tree node of that index."""

    def prove(self, request: Request) -> Data:
        """The answer to a request; raises `BlockMissing` or `RemoteError`."""

    def accept(self, data: Data) -> None:
        """Check an answer and write what it brings; raises `SignatureError`, `Unanchored` or `RemoteError`."""

    def accept_reorg(self, whole: Proven, shared: int) -> None:
        """Follow another fork, of which the leading `shared` blocks are ours too."""

    def conflict(self, proof: Conflict) -> Awaitable[None]:
        """Keep the proof and freeze."""

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Hear events until the returned function is called."""


class Channel(Protocol):
    """One channel of a connection."""

    @property
    def remote_handshake(self) -> bytes:
        """What the peer sent along when it opened the channel."""

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""

    def send(self, type: int, payload: bytes) -> None:  # noqa: A002 - the wire's word
        """Send one message."""

    def invalid(self, error: RemoteError) -> None:
        """Count a message as invalid; may raise, to end the connection."""

    def close(self) -> None:
        """Close it; the handler's `closed` is called before this returns."""


class Connection(Protocol):
    """An encrypted connection to a peer, with many channels."""

    on_open_request: Any  # asked with (protocol, id) when the peer opens a channel

    @property
    def initiator(self) -> bool:
        """Whether we have connected to the peer."""

    @property
    def handshake_hash(self) -> bytes:
        """64 bytes that only the two ends of this connection have."""

    @property
    def remote_public_key(self) -> bytes:
        """Who the peer is."""

    @property
    def closed(self) -> bool:
        """Whether it is over."""

    @property
    def congested(self) -> bool:
        """Whether more waits to be sent than is useful."""

    def open(
        self, protocol: str, channel_id: bytes | None, handshake: bytes, handler: Any, *, aliases: Sequence[str] = ()
    ) -> Any:
        """Open a channel, or answer the peer's request for it."""

    def refuse(self, protocol: str, channel_id: bytes | None) -> None:
        """Refuse a request that was put off."""

    def on_drained(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back each time a congestion is over."""
