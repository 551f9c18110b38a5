"""A roster on its log: a Hyperbee that the authority signs. Reads it whole, writes it whole, follows it forward.

    core = await open_roster(folder, store)              # fetched from peers like any core
    roster = await follow(folder, core)                  # checked, remembered, its secrets unsealed

Invariants
- A change is one batch, whose last block is the entry `version`. What is read is the newest state that ends with one,
  that a quorum has signed and that is held here: never half of a change.
- `follow` goes forward only: the accepted log is a beginning of every later one, version and epoch never fall, nobody
  who was revoked is a member again, and a policy that is not lawful for the owners who are there is refused. What was
  accepted is durable before anybody acts on it.

Keys are UTF-8, values canonical CBOR (`roster_codec`); the blocks are encrypted with the roster secret, so that whoever
carries them learns nothing of who belongs to the network. Only `follow` opens secrets, with the box's own identity.
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final

from edge.errors import ConfigError, RecordInvalid
from edge.hyperbee.bee import Hyperbee
from edge.hyperbee.encodings import BINARY, UTF8
from edge.hyperbee.entries import Entry
from edge.hyperbee.reader import Log
from edge.hypercore.corestore import Corestore
from edge.hypercore.hypercore import Hypercore
from edge.limits import ROSTER_INVITES_MAX, ROSTER_MEMBERS_MAX, ROSTER_REVOKED_MAX
from edge.networks import roster_codec as codec
from edge.networks.epochs import SECRET_BYTES, Epoch
from edge.networks.folder import Accepted, NetworkFolder
from edge.networks.policy import check_owners
from edge.networks.roster import Member, Revocation, Roster
from edge.networks.roster_codec import EPOCH_DIGITS, Founding, Invite, InviteState

Change = tuple[str, bytes | None]
"""A key of the roster, and its new value; None: it goes."""

_SEALED: Final = "sealed/"
_BEHIND_SEALED: Final = "sealed0"  # the key behind all that begin so


@dataclass(frozen=True, slots=True)
class RosterState:
    """Everything that one whole version says, but for sealed secrets."""

    roster: Roster
    invites: dict[bytes, Invite]  # by public key
    epoch_secret: bytes  # of an open network; empty otherwise
    length: int  # blocks of the log that say so


class RosterBee:
    """A roster's tree. Keeps nothing but what the tree itself caches."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._bee = Hyperbee(log, key_encoding=UTF8, value_encoding=BINARY)

    async def whole(self, limit: int) -> int | None:
        """The greatest length up to `limit` at which a change ends; None: there is none."""
        for seq in range(limit - 1, 0, -1):
            entry: Entry = await self._bee.get_by_seq(seq)
            if entry.key == "version" and entry.value is not None:
                return seq + 1
        return None

    async def read(self, length: int) -> RosterState:
        """What the roster says at `length`, at which a change ends. Raises `RecordInvalid` for what is no roster."""
        view = self._bee.checkout(length)
        found = _Found()
        async for entry in _outside_sealed(view):
            found.take(entry)
        return found.state(self._log.key, length)

    async def sealed(self, length: int, id_: bytes, epochs: Iterable[int]) -> dict[int, bytes]:
        """Secrets of these epochs that are sealed to `id_`, by epoch."""
        view = self._bee.checkout(length)
        found = {}
        for epoch in epochs:
            entry = await view.get(codec.sealed_key(epoch, id_))
            if entry is not None and entry.value is not None:
                found[epoch] = entry.value
        return found

    async def sealed_keys(self, length: int, before: int) -> list[str]:
        """Keys of what is sealed of epochs below `before`."""
        upto = f"{_SEALED}{before:0{EPOCH_DIGITS}}"
        return [entry.key async for entry in self._bee.checkout(length).range(gte=_SEALED, lt=upto)]

    async def write(self, version: int, changes: Iterable[Change]) -> int:
        """Make `changes` in one batch that ends with `version`; the length behind it, once it is durable."""
        async with self._bee.batch() as batch:
            for key, value in changes:
                if value is None:
                    await batch.delete(key)
                else:
                    await batch.put(key, value)
            await batch.put("version", codec.encode_version(version))
        return self._log.length


class _Found:
    """Entries of one version, as they come."""

    def __init__(self) -> None:
        self.plain: dict[str, bytes] = {}
        self.members: dict[str, bytes] = {}
        self.revoked: dict[str, bytes] = {}
        self.invites: dict[str, bytes] = {}

    def take(self, entry: Entry) -> None:
        key, value = entry.key, entry.value
        if value is None:
            raise RecordInvalid(f"roster: the entry {key[:90]!r} has no value", reason="roster")
        place, _, rest = key.partition("/")
        many = {"member": self.members, "revoked": self.revoked, "invite": self.invites}.get(place)
        if many is not None and rest:
            many[key] = value
        elif key in ("network", "policy", "epoch", "version"):
            self.plain[key] = value
        else:
            raise RecordInvalid(f"roster: the entry {key[:90]!r} is not known", reason="roster")
        if (
            len(self.members) > ROSTER_MEMBERS_MAX
            or len(self.revoked) > ROSTER_REVOKED_MAX
            or len(self.invites) > ROSTER_INVITES_MAX
        ):
            raise RecordInvalid("roster: more entries than any network has", reason="too_large")

    def state(self, network_id: bytes, length: int) -> RosterState:
        if len(self.plain) != 4:
            raise RecordInvalid("roster: entries are missing", reason="roster")
        founding: Founding = codec.decode_founding(self.plain["network"])
        policy = codec.decode_policy(self.plain["policy"])
        epoch, secret = codec.decode_epoch(self.plain["epoch"])
        if bool(secret) is not founding.open:
            raise RecordInvalid("roster: an epoch's secret stands in open networks alone", reason="roster")
        kind = founding.network
        members: dict[bytes, Member] = {}
        for key, value in self.members.items():
            member = codec.decode_member(key, value, kind)
            members[member.id] = member
        revoked: dict[bytes, Revocation] = {}
        for key, value in self.revoked.items():
            revocation = codec.decode_revocation(key, value, kind)
            revoked[revocation.member.id] = revocation
        invites = {codec.key_of(key, "invite/"): codec.decode_invite(key, value) for key, value in self.invites.items()}
        if not members.keys().isdisjoint(revoked):
            raise RecordInvalid("roster: somebody is a member and revoked", reason="roster")
        _check_signers(members, revoked)
        if any(member.since_epoch > epoch for member in members.values()) or any(
            each.epoch >= epoch for each in revoked.values()
        ):
            raise RecordInvalid("roster: an epoch that has not begun", reason="roster")
        try:
            check_owners(kind, policy, (member.owner for member in members.values()))
        except ConfigError as error:
            raise RecordInvalid(f"roster: {error}", reason="unlawful") from error
        roster = Roster(
            network_id=network_id,
            network=kind,
            name=founding.name,
            version=codec.decode_version(self.plain["version"]),
            epoch=epoch,
            policy=policy,
            members=members,
            revoked=revoked,
            invited=frozenset(key for key, invite in invites.items() if invite.state is InviteState.OPEN),
            authorities=founding.authorities,
            open=founding.open,
        )
        return RosterState(roster, invites, secret, length)


def _check_signers(members: dict[bytes, Member], revoked: dict[bytes, Revocation]) -> None:
    """Each key signs one member's feeds of one kind: a signature says who it is from."""
    people = [*members.values(), *(each.member for each in revoked.values())]
    keys = [key for member in people for key in member.signers.values()]
    if len(set(keys)) != len(keys):
        raise RecordInvalid("roster: two members sign with one key", reason="roster")


async def _outside_sealed(view: Hyperbee) -> AsyncIterator[Entry]:
    async for entry in view.range(lt=_SEALED):
        yield entry
    async for entry in view.range(gte=_BEHIND_SEALED):
        yield entry


# --- following -------------------------------------------------------------------------------------------------------


async def open_roster(folder: NetworkFolder, store: Corestore) -> Hypercore:
    """The roster's core, lent by `store` (give it back); room for it is made where it is not here yet."""
    return await store.get(key=folder.network_id, encryption_key=folder.roster_secret)


def readable(core: Hypercore) -> int:
    """How many blocks of a core are signed by a quorum and held here without a hole."""
    shown = core.shown
    return 0 if shown is None else min(shown[1], core.contiguous)


async def follow(folder: NetworkFolder, core: Hypercore) -> Roster | None:
    """The newest roster that `core` holds, accepted durably, and its epochs' secrets taken in; None: none came yet.

    Call it again whenever the core has grown. Raises `RecordInvalid`: reason `rollback` or `fork` for a log or a
    version that goes back, `unlawful` for a policy that its owners may not have, `roster` for what is none; nothing of
    it is remembered then.
    """
    state = await follow_state(folder, core)
    return None if state is None else state.roster


async def follow_state(folder: NetworkFolder, core: Hypercore) -> RosterState | None:
    """The same with what the authority needs beside."""
    if core.frozen is not None:
        raise RecordInvalid("the roster's authority has signed two histories", reason="fork")
    bee, accepted = RosterBee(core), folder.accepted()
    length = await bee.whole(readable(core))
    if accepted is not None:
        if core.length < accepted.length or core.tree_hash(accepted.length) != accepted.tree_hash:
            back = core.length < accepted.length
            raise RecordInvalid(
                f"the roster's log {'is shorter than' if back else 'is another than'} what was accepted of it",
                reason="rollback" if back else "fork",
            )
        if length is None or length < accepted.length:
            raise RecordInvalid("blocks of the accepted roster are missing here", reason="rollback")
    if length is None:
        return None
    state = await bee.read(length)
    if accepted is not None and length > accepted.length:
        check_successor((await bee.read(accepted.length)).roster, state.roster)
    folder.accept(Accepted(state.roster.version, length, core.tree_hash(length)))
    await _take_secrets(folder, bee, state)
    return state


def check_successor(before: Roster, after: Roster) -> None:
    """Raise `RecordInvalid` unless `after` can follow `before`."""
    if after.version <= before.version or after.epoch < before.epoch:
        raise RecordInvalid(
            f"roster version {after.version}, epoch {after.epoch} after version {before.version}, epoch {before.epoch}",
            reason="rollback",
        )
    if (after.network, after.open, after.name) != (before.network, before.open, before.name):
        raise RecordInvalid("the roster says that the network is another one now", reason="roster")
    if not before.revoked.keys() <= after.revoked.keys():
        raise RecordInvalid("the roster has forgotten that somebody was revoked", reason="rollback")


async def _take_secrets(folder: NetworkFolder, bee: RosterBee, state: RosterState) -> None:
    """Keep the secrets that are meant for us and that we do not have yet; never one that we destroyed."""
    roster, known = state.roster, folder.epochs()
    if state.epoch_secret:
        if roster.epoch not in known:
            folder.add_epoch(Epoch(roster.epoch, state.epoch_secret))
        return
    identity = folder.identity
    newest = max(known, default=0)
    sealed = await bee.sealed(state.length, identity.public_key, range(newest + 1, roster.epoch + 1))
    for number, data in sealed.items():
        secret = identity.unseal(data)
        if len(secret) != SECRET_BYTES:
            raise RecordInvalid(f"epoch {number} has a secret of {len(secret)} bytes", reason="sealed")
        folder.add_epoch(Epoch(number, secret))
