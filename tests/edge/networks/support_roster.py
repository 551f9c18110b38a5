"""A roster without a disk: its log in memory, boxes that join it, and the operations of its authority."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edge.crypto.hashing import hash256
from edge.crypto.keys import KeyPair, seal
from edge.networks import roster_changes as changing
from edge.networks.access import FEEDS, FeedKind
from edge.networks.invitation import Invitation, fingerprint
from edge.networks.joining import JoinRequest
from edge.networks.policy import NetworkPolicy
from edge.networks.roster_bee import RosterBee, RosterState
from edge.networks.roster_changes import Changes, Guest
from edge.networks.roster_codec import Founding
from edge.records.message import Network

WEEK = 2950
ROOT = b"root of a roster"


class MemoryLog:
    """What a Hyperbee needs of a log."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.fork = 0
        self.writable = True
        self.blocks: list[bytes] = []

    @property
    def length(self) -> int:
        return len(self.blocks)

    def get(self, index: int) -> bytes:
        return self.blocks[index]

    async def fetch(self, index: int) -> bytes:
        return self.blocks[index]

    async def append(self, blocks: Iterable[bytes], *, urgent: bool = False, whole: bool = False) -> int:
        del urgent, whole
        self.blocks += blocks
        return len(self.blocks)

    async def changed(self, length: int, fork: int) -> None:
        del length, fork
        await asyncio.Event().wait()


@dataclass(frozen=True)
class Joiner:
    """A box with the keys that follow from its number."""

    number: int

    @property
    def identity(self) -> KeyPair:
        return pair("identity", self.number)

    def signers(self, network: Network) -> dict[FeedKind, KeyPair]:
        return {kind: pair(f"signer {kind}", self.number) for kind in FEEDS[network]}

    def request(self, code: Invitation) -> JoinRequest:
        return JoinRequest.make(code, self.identity, self.signers(code.network))


def pair(what: str, number: int) -> KeyPair:
    return KeyPair.from_seed(hash256(what.encode(), number.to_bytes(4, "big")))


def secret_of(epoch: int) -> bytes:
    return hash256(b"secret", epoch.to_bytes(4, "big"))


def code_of(number: int, network: Network, network_id: bytes, expires: int = WEEK + 4) -> Invitation:
    seed = hash256(b"seed", number.to_bytes(4, "big"))[:16]
    return Invitation(network, network_id, ROOT, seed, fingerprint(pair("authority", 0).public_key), expires)


@dataclass
class Office:
    """An authority and its roster."""

    network: Network = Network.CONSORTIUM
    policy: NetworkPolicy = field(default_factory=NetworkPolicy)
    open: bool = False
    log: MemoryLog = field(default_factory=lambda: MemoryLog(hash256(b"a roster")))
    codes: int = 0

    def __post_init__(self) -> None:
        self.bee = RosterBee(self.log)
        self.identity = pair("authority", 0)

    async def begin(self) -> None:
        content = Founding(self.network, "trade", self.open, (self.identity.public_key,))
        await self.bee.write(1, changing.founding(content, self.policy, secret_of(1), seal))

    async def state(self) -> RosterState:
        length = await self.bee.whole(self.log.length)
        assert length is not None
        return await self.bee.read(length)

    async def apply(self, changes: Changes) -> None:
        await self.bee.write((await self.state()).roster.version + 1, changes)

    async def invite(self, *guests: Guest, expires: int = WEEK + 4, week: int = WEEK) -> list[Invitation]:
        made = [code_of(self.codes + i, self.network, self.log.key, expires) for i in range(len(guests))]
        self.codes += len(guests)
        by_key = {code.key_pair.public_key: guest for code, guest in zip(made, guests, strict=True)}
        await self.apply(changing.invitation(await self.state(), by_key, expires, week))
        return made

    async def admit(self, request: JoinRequest, week: int = WEEK) -> bool:
        """Whether anything has changed."""
        state = await self.state()
        changes = changing.admission(state, request, secret_of(state.roster.epoch), week, seal)
        if changes:
            await self.apply(changes)
        return bool(changes)

    async def revoke(self, id_: bytes, lengths: Mapping[FeedKind, int] | None = None) -> None:
        state = await self.state()
        secret = secret_of(state.roster.epoch + 1)
        await self.apply(changing.revocation(state, id_, lengths or {}, reason="lost", secret=secret, seal=seal))

    async def rotate(self) -> None:
        state = await self.state()
        await self.apply(changing.rotation(state, secret_of(state.roster.epoch + 1), seal))
