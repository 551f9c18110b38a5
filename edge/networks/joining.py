"""Joining a network: the request that a new box signs, and the one exchange with the authority that takes it.

The request names the box's connection key and the key that signs each of its feeds, and is signed by every one of them
and by the invitation's key: who sends it holds them all. It can go by file or over a connection that the box opens
*with the invitation's key*: such a connection is admitted because that key is in the roster, and serves this exchange
alone. The authority proves itself by its connection key, whose fingerprint is in the code, and by the roster, whose key
is in the code. So no side believes anything because it was there first.

    box → authority   type 0   the request, canonical CBOR
    authority → box   type 1   the answer, canonical CBOR

on the channel `pomona/join`. FORMATS.md, "Joining a network".
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from edge.crypto.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, KeyPair, signature_valid
from edge.encoding import cbor
from edge.errors import ConfigError, LocalError, RecordInvalid, RemoteError, SignatureError, StorageError
from edge.hyperswarm.connection import Connection, connect
from edge.hyperswarm.protomux import Channel, Message
from edge.limits import INTEGER_MAX, JOIN_BYTES_MAX, JOIN_TIMEOUT_S, REASON_CHARS_MAX
from edge.networks.access import FEEDS, FeedKind
from edge.networks.invitation import Invitation
from edge.records.message import Network

logger = logging.getLogger(__name__)

PROTOCOL: Final = "pomona/join"
VERSION: Final = 1
_REQUEST, _ANSWER = 0, 1
_CONTEXT: Final = "pomona join request"


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """Who wants to join by which invitation. One that `decode` returned holds: every signature was checked."""

    network_id: bytes
    invite: bytes  # the invitation's public key
    id: bytes  # the box's connection key
    signers: Mapping[FeedKind, bytes]
    signatures: tuple[bytes, ...] = field(repr=False)  # of the invitation's key, the connection key, then by kind

    @classmethod
    def make(cls, invitation: Invitation, identity: KeyPair, signers: Mapping[FeedKind, KeyPair]) -> "JoinRequest":
        """A signed request; `signers` are the key pairs of every kind of feed that the network has."""
        if set(signers) != set(FEEDS[invitation.network]):
            raise LocalError("a request names a signing key for each kind of feed of its network")
        publics = {kind: signers[kind].public_key for kind in sorted(signers)}
        invite = invitation.key_pair
        message = _signable(invitation.network_id, invite.public_key, identity.public_key, publics)
        pairs = (invite, identity, *(signers[kind] for kind in sorted(signers)))
        signatures = tuple(pair.sign(message) for pair in pairs)
        return cls(invitation.network_id, invite.public_key, identity.public_key, publics, signatures)

    def encode(self) -> bytes:
        """Canonical CBOR."""
        return cbor.encode(
            {
                "version": VERSION,
                "network": self.network_id,
                "invite": self.invite,
                "id": self.id,
                "signers": {int(kind): key for kind, key in self.signers.items()},
                "signatures": list(self.signatures),
            }
        )

    @classmethod
    def decode(cls, data: bytes, network: Network) -> "JoinRequest":
        """Raises `RecordInvalid` for what is none of this kind of network, `SignatureError` for a forged one."""
        match cbor.decode(data, bytes_max=JOIN_BYTES_MAX):
            case {
                "version": int(version),
                "network": bytes(network_id),
                "invite": bytes(invite),
                "id": bytes(id_),
                "signers": dict(signers),
                "signatures": [*signatures],
                **rest,
            } if not rest:
                if type(version) is not int or version != VERSION:
                    raise RecordInvalid(f"a request of version {version}", reason="version")
                kinds = FEEDS[network]
                keys = [network_id, invite, id_, *signers.values()]
                if (
                    set(signers) != {int(kind) for kind in kinds}
                    or not all(_is_bytes(key, PUBLIC_KEY_BYTES) for key in keys)
                    or len(signatures) != len(kinds) + 2
                    or not all(_is_bytes(signature, SIGNATURE_BYTES) for signature in signatures)
                ):
                    raise RecordInvalid("the request to join is not one of this kind of network", reason="request")
                publics = {kind: signers[kind] for kind in sorted(kinds)}
                message = _signable(network_id, invite, id_, publics)
                for key, signature in zip((invite, id_, *publics.values()), signatures, strict=True):
                    if not signature_valid(key, message, signature):
                        raise SignatureError("a request to join is not signed by all of its keys")
                if len({id_, invite, *publics.values()}) != len(publics) + 2:
                    raise RecordInvalid("a request to join uses one key for two things", reason="request")
                return cls(network_id, invite, id_, publics, tuple(signatures))
        raise RecordInvalid("that is no request to join", reason="request")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the authority says. `reason` is empty where the box is a member now, else a short word."""

    reason: str
    text: str  # for people
    length: int = 0  # blocks of the roster in which the box is a member

    @property
    def accepted(self) -> bool:
        """Whether the box is a member."""
        return not self.reason

    def encode(self) -> bytes:
        """Canonical CBOR."""
        return cbor.encode({"reason": self.reason, "text": self.text[:REASON_CHARS_MAX], "length": self.length})

    @classmethod
    def decode(cls, data: bytes) -> "Answer":
        """Raises `RecordInvalid`."""
        match cbor.decode(data, bytes_max=JOIN_BYTES_MAX):
            case {"reason": str(reason), "text": str(text), "length": int(length), **rest} if not rest:
                short = len(reason) <= 40 and len(text) <= REASON_CHARS_MAX
                if short and (reason + text).isprintable() and type(length) is int and 0 <= length <= INTEGER_MAX:
                    return cls(reason, text, length)
        raise RecordInvalid("the authority's answer is not understood", reason="answer")


def _signable(network_id: bytes, invite: bytes, id_: bytes, signers: Mapping[FeedKind, bytes]) -> bytes:
    keys = {int(kind): key for kind, key in signers.items()}
    return cbor.encode([_CONTEXT, VERSION, network_id, invite, id_, keys])


def _is_bytes(value: object, size: int) -> bool:
    return isinstance(value, bytes) and len(value) == size


# --- the authority's side --------------------------------------------------------------------------------------------


class JoinDesk:
    """Takes one request over a connection that an invitation's key opened, answers it and ends the connection.

    `take` is given the bytes of the request and the key that the connection proved.
    """

    def __init__(self, take: Callable[[bytes, bytes], Awaitable[Answer]]) -> None:
        self._take = take
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, connection: Connection) -> None:
        """Own `connection` from now on: nothing but the channel `pomona/join` can be opened on it."""

        def asked(protocol: str, channel_id: bytes | None) -> None:
            if protocol == PROTOCOL and channel_id is None:
                connection.open(PROTOCOL, None, b"", _Taking(self, connection))

        connection.on_open_request = asked

    async def close(self) -> None:
        """Wait for answers that are on their way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, channel: Channel, connection: Connection, data: bytes) -> None:
        task = asyncio.create_task(self._answer(channel, connection, data))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, channel: Channel, connection: Connection, data: bytes) -> None:
        try:
            answer = await self._take(data, connection.remote_public_key)
        except RemoteError as error:
            answer = Answer(error.reason, str(error))
        except (ConfigError, StorageError) as error:  # ours to mend; the box may ask again
            logger.warning("a request to join cannot be answered: %s", error)
            connection.drop(error)
            return
        channel.send(_ANSWER, answer.encode())
        connection.close()


class _Taking:
    """Handler of the channel at the authority."""

    def __init__(self, desk: JoinDesk, connection: Connection) -> None:
        self._desk = desk
        self._connection = connection
        self._taken = False

    def opened(self, channel: Channel) -> None:
        """Nothing to say first."""

    def received(self, channel: Channel, messages: list[Message]) -> None:
        """The request, once."""
        for kind, payload in messages:
            if kind != _REQUEST or self._taken or len(payload) > JOIN_BYTES_MAX:
                raise RemoteError("not one request to join", reason="request")
            self._taken = True
            self._desk._begin(channel, self._connection, payload)

    def closed(self, channel: Channel, error: Exception | None) -> None:
        """The box has left; whatever it asked for goes on."""


# --- the joining side ------------------------------------------------------------------------------------------------


class _Asking:
    """Handler of the channel at the joining box."""

    def __init__(self, answer: "asyncio.Future[Answer]") -> None:
        self._answer = answer

    def opened(self, channel: Channel) -> None:
        """The request was sent along already."""

    def received(self, channel: Channel, messages: list[Message]) -> None:
        """The answer."""
        del channel
        for kind, payload in messages:
            if kind != _ANSWER:
                raise RemoteError("not an answer to a request to join", reason="answer")
            answer = Answer.decode(payload)
            if not self._answer.done():
                self._answer.set_result(answer)

    def closed(self, channel: Channel, error: Exception | None) -> None:
        """Without an answer the exchange has failed."""
        del channel
        if not self._answer.done():
            why = f": {error}" if error is not None else ""
            self._answer.set_exception(RemoteError(f"the authority hung up without an answer{why}", reason="closed"))


async def ask_to_join(host: str, port: int, invitation: Invitation, request: JoinRequest) -> Answer:
    """Hand `request` to the authority at `host`, `port`; its answer.

    Raises `OSError` where nobody answers, `SignatureError` (reason `authority`) where somebody else does, and
    `RemoteError` where it hangs up: an authority does so with a code that is not in its roster.
    """
    try:
        connection = await connect(host, port, key_pair=invitation.key_pair)
    except SignatureError:
        raise
    except RemoteError as error:
        raise _not_let_in(error) from error
    try:
        if not invitation.of_authority(connection.remote_public_key):
            raise SignatureError(
                "whoever listens there did not hand this code out: its connection key is another one",
                reason="authority",
            )
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        connection.on_open_request = lambda _protocol, _channel_id: None
        channel = connection.open(PROTOCOL, None, b"", _Asking(answer))
        channel.send(_REQUEST, request.encode())
        try:
            async with asyncio.timeout(JOIN_TIMEOUT_S):
                return await answer
        except TimeoutError:
            raise RemoteError("the authority does not answer", reason="timeout") from None
        except RemoteError as error:
            raise (_not_let_in(error) if error.reason == "closed" else error) from error
    finally:
        connection.close()
        await connection.wait_closed()


def _not_let_in(error: RemoteError) -> RemoteError:
    text = "the authority did not let this code in: it is of another network, or was removed"
    return RemoteError(f"{text} ({error})", reason="foreign")
