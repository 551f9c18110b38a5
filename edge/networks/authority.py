"""The authority of a network: who signs its roster, and the operations it has on it.

    folder = await found(state, "shops", Network.PRIVATE, NetworkPolicy())
    async with await Corestore.open(folder.store_directory) as store, authority(folder, store) as boss:
        codes = await boss.invite([Guest("acme", label="front street")] * 200, expires=week + 4, week=week)
        await boss.admit(request, week=week)            # one batch: a member more, a code less
        await boss.revoke(member, {}, reason="stolen")  # one batch: closed, and all others on new keys

With one signer an operation is in force when it returns; it returns None. With several it returns a `Proposal`, which
a quorum of them must sign first. Operations of this box exclude each other, also across processes; while another one
serves the roster, its core is borrowed from there.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.crypto.keys import PUBLIC_KEY_BYTES, KeyPair, new_secret, read_secret, seal
from edge.errors import ConfigError, RecordInvalid, StorageError, StorageFault
from edge.hypercore.corestore import Corestore
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.lending import BorrowedCore
from edge.hypercore.manifest import Manifest
from edge.hypercore.store import named_key_pair
from edge.limits import ROSTER_AUTHORITIES_MAX, ROSTER_CHANGE_WAIT_S
from edge.networks import roster_changes as changing
from edge.networks.access import FeedKind
from edge.networks.epochs import SECRET_BYTES
from edge.networks.folder import NetworkFolder, new_root
from edge.networks.invitation import Invitation
from edge.networks.joining import JoinRequest
from edge.networks.policy import NetworkPolicy
from edge.networks.proposal import Desk, Proposal, propose
from edge.networks.roster import Member
from edge.networks.roster_bee import RosterBee, RosterState, follow_state, open_roster, readable
from edge.networks.roster_changes import Changes, Guest
from edge.networks.roster_codec import Founding
from edge.records.message import Network

ROSTER: Final = "roster"  # the core's name in the authority's store
SIGNER: Final = "authority"  # the name whose key pair signs it
_RETRY_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Signatory:
    """One who signs a roster: its signing key, and the connection key of its box. As text: both in hexadecimal."""

    signing_key: bytes
    connection_key: bytes

    def __str__(self) -> str:
        return (self.signing_key + self.connection_key).hex()

    @classmethod
    def parse(cls, text: str) -> "Signatory":
        """Raises `ConfigError`."""
        try:
            data = bytes.fromhex(text)
        except ValueError:
            data = b""
        if len(data) != 2 * PUBLIC_KEY_BYTES:
            raise ConfigError("--signer", "what `pomona roster key` printed on the other box: 128 hexadecimal digits")
        return cls(data[:PUBLIC_KEY_BYTES], data[PUBLIC_KEY_BYTES:])


def signing_pair(store_directory: Path) -> KeyPair:
    """The key pair that this box signs rosters of the network with."""
    primary = read_secret(store_directory / "primary-key")
    if primary is None:
        raise ConfigError(str(store_directory / "primary-key"), "missing: this box signs nothing here")
    return named_key_pair(primary, SIGNER)


def signatory(state: Path, name: str) -> Signatory:
    """What the others must know of this box before it can sign with them; its keys are made if need be."""
    identity = NetworkFolder.store_of(state, name).identity()
    pair = signing_pair(NetworkFolder.directory_of(state, name) / "store")
    return Signatory(pair.public_key, identity.public_key)


# --- founding --------------------------------------------------------------------------------------------------------


async def found(
    state: Path, name: str, network: Network, policy: NetworkPolicy, *, title: str = "", open_: bool = False
) -> NetworkFolder:
    """A new network that this box alone signs for. `title`: its name for all members; default: `name`.

    After an interruption the same call goes on. Raises `ConfigError` where there is such a network already.
    """
    ours = await asyncio.to_thread(signatory, state, name)
    manifest = Manifest.single(ours.signing_key)
    folder, content = _begin(
        state, name, network, manifest, Founding(network, title or name, open_, (ours.connection_key,))
    )
    async with await Corestore.open(folder.store_directory) as store:
        core = await store.get_under(ROSTER, manifest, signer=SIGNER, encryption_key=folder.roster_secret)
        with folder.changing():
            bee = RosterBee(core)
            if await bee.whole(readable(core)) is not None:
                raise ConfigError(name, "the network is there already")
            await bee.write(1, changing.founding(content, policy, new_secret(), seal))
            await follow_state(folder, core)
    return folder


async def found_jointly(
    state: Path,
    name: str,
    network: Network,
    policy: NetworkPolicy,
    *,
    signatories: Sequence[Signatory],
    quorum: int | None = None,
    title: str = "",
) -> tuple[NetworkFolder, Proposal]:
    """A new network that several sign for, this box among them; it exists once a quorum has signed the proposal.

    `quorum`: how many must sign; default: more than half.
    """
    ours = await asyncio.to_thread(signatory, state, name)
    everyone = sorted({ours, *signatories}, key=lambda each: each.signing_key)
    if not 2 <= len(everyone) <= ROSTER_AUTHORITIES_MAX:
        raise ConfigError("--signer", f"2 to {ROSTER_AUTHORITIES_MAX} different signers, this box among them")
    if quorum is not None and not len(everyone) // 2 < quorum <= len(everyone):
        raise ConfigError("--quorum", f"more than half of {len(everyone)}: two halves could sign two rosters")
    manifest = Manifest.multi(tuple(each.signing_key for each in everyone), quorum)
    keys = tuple(each.connection_key for each in everyone)
    folder, content = _begin(state, name, network, manifest, Founding(network, title or name, False, keys))
    async with await Corestore.open(folder.store_directory) as store:
        desk = Desk(folder, store, signing_pair(folder.store_directory))
        changes = changing.founding(content, policy, new_secret(), seal)
        return folder, await propose(desk, manifest, content.name, changes)


def _begin(
    state: Path, name: str, network: Network, manifest: Manifest, content: Founding
) -> tuple[NetworkFolder, Founding]:
    if content.open and network is not Network.PUBLIC:
        raise ConfigError("--open", "only a public network may be open to readers who are no members")
    root = None if content.open else NetworkFolder.read_root(NetworkFolder.directory_of(state, name)) or new_root()
    return NetworkFolder.create(state, name, manifest.key(), network, root), content


# --- operations ------------------------------------------------------------------------------------------------------


class Authority:
    """Operations on the roster of one folder. Made by `authority`."""

    def __init__(
        self, folder: NetworkFolder, store: Corestore, core: Hypercore | BorrowedCore, pair: KeyPair, *, replaces: bool
    ) -> None:
        self._replaces = replaces
        self._folder = folder
        self._store = store
        self._core = core
        self._pair = pair
        manifest = core.manifest
        if manifest is None or manifest.signer_index(pair.public_key) is None:
            raise ConfigError(folder.name, "this box is no authority of the network: it signs no roster")
        self._manifest: Final = manifest

    @property
    def alone(self) -> bool:
        """Whether our signature is enough."""
        return len(self._manifest.signers) == 1

    async def state(self) -> RosterState:
        """The newest version. Raises `ConfigError` where there is none yet."""
        if isinstance(self._core, Hypercore):
            state = await follow_state(self._folder, self._core)
        else:
            bee = RosterBee(self._core)
            length = await bee.whole(self._core.length)
            state = None if length is None else await bee.read(length)
        if state is None:
            raise ConfigError(self._folder.name, "the network has no roster yet: a quorum of its signers must sign it")
        return state

    async def invite(
        self, guests: Sequence[Guest], *, expires: int, week: int
    ) -> tuple[list[Invitation], Proposal | None]:
        """A one-time code for each of `guests`, good up to week `expires`; `week` is now."""
        folder, own = self._folder, self._folder.identity.public_key
        made = [Invitation.new(folder.network, folder.network_id, folder.root, own, expires) for _ in guests]
        by_key = {code.key_pair.public_key: guest for code, guest in zip(made, guests, strict=True)}
        async with self._turn() as state:
            return made, await self._commit(state, changing.invitation(state, by_key, expires, week))

    async def withdraw(self, keys: Sequence[bytes]) -> Proposal | None:
        """Invitations, by their public keys, that nobody may use any more."""
        async with self._turn() as state:
            return await self._commit(state, changing.withdrawal(state, keys))

    async def admit(self, data: bytes, *, week: int, invite: bytes | None = None) -> tuple[Member, Proposal | None]:
        """Take a request to join; `invite` is the key of the invitation whose holder has brought it, if that is known.

        The same request again is answered with the same member. Raises `RecordInvalid`, `SignatureError` with the
        reason that the box may be told.
        """
        request = JoinRequest.decode(data, self._folder.network)
        if invite not in (None, request.invite):
            raise RecordInvalid("the request is by another invitation than the connection", reason="foreign")
        async with self._turn() as state:
            epoch = self._folder.epochs().get(state.roster.epoch)
            secret = None if epoch is None else epoch.secret
            changes = changing.admission(state, request, secret, week, seal)
            proposal = await self._commit(state, changes) if changes else None
            if proposal is not None:
                guest = state.invites[request.invite]
                return Member(request.id, guest.owner, guest.role, {}, state.roster.epoch, guest.label), proposal
            return (await self.state()).roster.members[request.id], None

    async def consider(self, data: bytes, *, week: int, invite: bytes | None = None) -> Member | None:
        """The member that a request to join is of already; None: it could be admitted. Raises as `admit` does."""
        request = JoinRequest.decode(data, self._folder.network)
        if invite not in (None, request.invite):
            raise RecordInvalid("the request is by another invitation than the connection", reason="foreign")
        state = await self.state()
        changing.admission(state, request, bytes(SECRET_BYTES), week, lambda _message, _key: b"")
        return state.roster.members.get(request.id)

    async def revoke(self, id_: bytes, lengths: Mapping[FeedKind, int], *, reason: str) -> Proposal | None:
        """Close a member's feeds at `lengths`, and move the network to keys that it does not have."""
        async with self._turn() as state:
            changes = changing.revocation(state, id_, lengths, reason=reason, secret=new_secret(), seal=seal)
            return await self._commit(state, changes + await self._forgotten(state))

    async def rotate(self) -> Proposal | None:
        """Move the network to a new key epoch; quarterly, as the policy says."""
        async with self._turn() as state:
            changes = changing.rotation(state, new_secret(), seal)
            return await self._commit(state, changes + await self._forgotten(state))

    async def set_policy(self, policy: NetworkPolicy) -> Proposal | None:
        """Other settings for all."""
        async with self._turn() as state:
            return await self._commit(state, changing.new_policy(state, policy))

    # --- within ------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[RosterState]:
        """The newest state, while nobody else of this box changes it."""
        deadline = asyncio.get_running_loop().time() + ROSTER_CHANGE_WAIT_S
        with contextlib.ExitStack() as turn:
            while True:
                try:
                    turn.enter_context(self._folder.changing())
                    break
                except StorageError as error:
                    if error.fault is not StorageFault.LOCKED or asyncio.get_running_loop().time() > deadline:
                        raise
                await asyncio.sleep(_RETRY_S)
            yield await self.state()

    async def _commit(self, state: RosterState, changes: Changes) -> Proposal | None:
        if not self.alone:
            desk = Desk(self._folder, self._store, self._pair)
            return await propose(desk, self._manifest, state.roster.name, changes, replaces=self._replaces)
        await RosterBee(self._core).write(state.roster.version + 1, changes)
        await self.state()
        return None

    async def _forgotten(self, state: RosterState) -> Changes:
        """Sealed secrets of epochs so old that nobody is helped by them any more."""
        before = changing.oldest_sealed(state.roster.epoch + 1)
        return [(key, None) for key in await RosterBee(self._core).sealed_keys(state.length, before)]


@asynccontextmanager
async def authority(folder: NetworkFolder, store: Corestore, *, replaces: bool = False) -> AsyncIterator[Authority]:
    """The authority of `folder`, on the store of its folder or, while another process serves that, on its core.

    `replaces`: proposals may take the place of one that this box has signed (`edge.networks.proposal`).
    Raises `ConfigError` where this box signs nothing there.
    """
    pair = signing_pair(folder.store_directory)
    try:
        core = await open_roster(folder, store)
    except StorageError as error:
        if error.fault is not StorageFault.LOCKED:
            raise
        borrowed = await BorrowedCore.borrow(folder.store_directory, folder.network_id)
        if borrowed is None:
            raise
        try:
            yield Authority(folder, store, borrowed, pair, replaces=replaces)
        finally:
            await borrowed.close()
        return
    try:
        yield Authority(folder, store, core, pair, replaces=replaces)
    finally:
        await store.release(core)
