"""The actions of `pomona roster` at an authority, and `show`."""

import argparse
import asyncio
import csv
import io
import logging
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from edge.atomic import replace_file
from edge.cli.loop import run
from edge.cli.peers import Traffic, first_of, run_until_stopped
from edge.cli.roster_common import hand_on, last_day, proposal_path, read_file, say, state_of, week_now, write_new
from edge.cli.roster_show import describe, difference, policy_lines, policy_values, summary
from edge.crypto.keys import KeyPair
from edge.errors import ConfigError, StorageError, StorageFault
from edge.hypercore.corestore import Corestore
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.lending import BorrowedCore, LendingDesk
from edge.hyperswarm.address import Address
from edge.limits import JOIN_BYTES_MAX, PROPOSAL_BYTES_MAX, ROSTER_INVITES_MAX
from edge.networks.access import FeedKind
from edge.networks.authority import (
    Authority,
    Signatory,
    authority,
    found,
    found_jointly,
    signatory,
    signing_pair,
)
from edge.networks.folder import NetworkFolder
from edge.networks.hosting import RosterHost
from edge.networks.invitation import Invitation
from edge.networks.policy import NetworkPolicy
from edge.networks.proposal import Desk, Proposal
from edge.networks.proposal import review as review_proposal
from edge.networks.proposal import sign as sign_proposal
from edge.networks.roster import Member, Role, Roster
from edge.networks.roster_bee import RosterBee, RosterState, follow_state, open_roster
from edge.networks.roster_changes import Guest
from edge.networks.roster_codec import InviteState
from edge.privacy.rules import PrivacyRules
from edge.records.message import Network
from edge.toml import build, read_toml

logger = logging.getLogger(__name__)
_ID_DIGITS_MIN: Final = 8


@asynccontextmanager
async def _opened(options: argparse.Namespace) -> AsyncIterator[tuple[NetworkFolder, Corestore]]:
    folder = NetworkFolder.open(state_of(options), options.name)
    async with await Corestore.open(folder.store_directory) as store:
        yield folder, store


@asynccontextmanager
async def _boss(options: argparse.Namespace) -> AsyncIterator[tuple[Authority, NetworkFolder, Corestore]]:
    """The authority; where several sign, there must be room for the change that the others get."""
    async with _opened(options) as (folder, store):
        replaces = getattr(options, "replace", False)
        async with authority(folder, store, replaces=replaces) as boss:
            if not boss.alone and hasattr(options, "out") and proposal_path(options).exists():
                raise ConfigError("--out", f"{proposal_path(options)} exists; choose a new file")
            yield boss, folder, store


# --- founding --------------------------------------------------------------------------------------------------------


def init(options: argparse.Namespace) -> int:
    """`pomona roster init`."""

    async def work() -> int:
        state, network = state_of(options), Network(options.kind)
        policy = _policy(options.policy, NetworkPolicy.for_new(network))
        if not options.signer:
            if options.quorum is not None:
                raise ConfigError("--quorum", "goes with --signer")
            folder = await found(state, options.name, network, policy, title=options.title, open_=options.open)
            key = folder.network_id.hex()
            say(options, key, network=key, kind=network.value, name=options.name)
            return 0
        if options.open:
            raise ConfigError("--open", "an open network has one signer")
        if proposal_path(options).exists():
            raise ConfigError("--out", f"{proposal_path(options)} exists; choose a new file")
        others = [Signatory.parse(card) for card in options.signer]
        folder, proposal = await found_jointly(
            state, options.name, network, policy, signatories=others, quorum=options.quorum, title=options.title
        )
        return hand_on(options, proposal, "", network=folder.network_id.hex())

    return run(work())


def key(options: argparse.Namespace) -> int:
    """`pomona roster key`."""
    card = signatory(state_of(options), options.name)
    say(options, str(card), card=str(card))
    return 0


def policy(options: argparse.Namespace) -> int:
    """`pomona roster policy`."""

    async def work() -> int:
        if options.policy is None:
            async with _opened(options) as (folder, store):
                found_policy = (await _newest(folder, store)).roster.policy
            say(options, "\n".join(policy_lines(found_policy)), policy=policy_values(found_policy))
            return 0
        async with _boss(options) as (boss, _, _):
            changed = _policy(options.policy, (await boss.state()).roster.policy)
            return hand_on(options, await boss.set_policy(changed), "the settings hold from now on")

    return run(work())


def sign(options: argparse.Namespace) -> int:
    """`pomona roster sign`."""

    async def work() -> int:
        state = state_of(options)
        signatory(state, options.name)
        pair = signing_pair(NetworkFolder.directory_of(state, options.name) / "store")
        proposal = Proposal.decode(read_file(options.file, PROPOSAL_BYTES_MAX), pair)
        if not options.yes:
            lines = await _reviewed(state, options.name, proposal, pair)
            shown = [*lines, f"signed by {len(proposal.signatures)}, {proposal.missing} missing; --yes signs it"]
            say(options, "\n".join(shown), changes=lines, missing=proposal.missing)
            return 0
        folder = NetworkFolder.create(state, options.name, proposal.network_id, proposal.network, proposal.root)
        async with await Corestore.open(folder.store_directory) as store:
            signed, valid = await sign_proposal(Desk(folder, store, pair), proposal, replaces=options.replace)
        out: Path = options.out or options.file
        try:
            replace_file(out, signed.encode())
        except OSError as error:
            raise ConfigError("--out", f"cannot write {out}: {error.strerror or error}") from None
        if valid:
            text = f"in force here; give {out} to the other signers, or let them fetch the roster"
        else:
            text = f"signed; {signed.missing} more must sign {out}"
        say(options, text, valid=valid, missing=signed.missing, change=str(out))
        return 0

    return run(work())


async def _reviewed(state: Path, name: str, proposal: Proposal, pair: KeyPair) -> list[str]:
    """What the change does. A network that is not here yet leaves nothing behind."""
    with tempfile.TemporaryDirectory() as elsewhere:
        place = state if name in NetworkFolder.names(state) else Path(elsewhere)
        folder = NetworkFolder.create(place, name, proposal.network_id, proposal.network, proposal.root)
        async with await Corestore.open(folder.store_directory) as store:
            before, after = await review_proposal(Desk(folder, store, pair), proposal)
        return difference(before, after)


# --- members ---------------------------------------------------------------------------------------------------------


def invite(options: argparse.Namespace) -> int:
    """`pomona roster invite`."""

    async def work() -> int:
        guests = _guests(options)
        if options.csv is not None and options.csv.exists():
            raise ConfigError("--csv", f"{options.csv} exists; choose a new file")
        week = week_now()
        expires = week + options.weeks
        async with _boss(options) as (boss, _, _):
            codes, proposal = await boss.invite(guests, expires=expires, week=week)
        until = last_day(expires)
        if options.csv is not None:
            write_new(options.csv, _table(guests, codes, until), "--csv")
            say(options, f"{len(codes)} codes, good until {until}, are in {options.csv}", codes=len(codes), until=until)
        else:
            for guest, code in zip(guests, codes, strict=True):
                lines = "\n".join("  " + " ".join(line) for line in code.lines())
                text = f"{guest.label or guest.role} of {guest.owner}, good until {until}:\n{lines}"
                values = {"label": guest.label, "owner": guest.owner, "role": guest.role.value, "until": until}
                say(options, text, code=code.text(), key=code.key_pair.public_key.hex(), **values)
        return 0 if proposal is None else hand_on(options, proposal, "")

    return run(work())


def withdraw(options: argparse.Namespace) -> int:
    """`pomona roster withdraw`."""

    async def work() -> int:
        async with _boss(options) as (boss, _, _):
            keys = [_invited(await boss.state(), text) for text in options.code]
            return hand_on(options, await boss.withdraw(keys), f"{len(keys)} withdrawn", withdrawn=len(keys))

    return run(work())


def admit(options: argparse.Namespace) -> int:
    """`pomona roster admit`."""

    async def work() -> int:
        data = read_file(options.file, JOIN_BYTES_MAX)
        async with _boss(options) as (boss, _, _):
            member, proposal = await boss.admit(data, week=week_now())
        text = f"{member.id.hex()[:8]} is a member: {member.label or 'no label'}, owner {member.owner}"
        return hand_on(options, proposal, text, member=member.id.hex(), label=member.label, owner=member.owner)

    return run(work())


def revoke(options: argparse.Namespace) -> int:
    """`pomona roster revoke`."""

    async def work() -> int:
        async with _boss(options) as (boss, folder, store):
            roster = (await boss.state()).roster
            member = _member(roster, options.member)
            lengths = await _known_lengths(folder, store, roster, member) | _lengths(options.length)
            proposal = await boss.revoke(member.id, lengths, reason=options.reason)
            counted = {kind.name.lower(): lengths.get(kind, 0) for kind in sorted(member.signers)}
            told = ", ".join(f"{length} of its {kind}" for kind, length in counted.items())
            text = f"{member.id.hex()[:8]} is revoked; blocks that count: {told or 'none'}; all others have new keys"
            return hand_on(options, proposal, text, member=member.id.hex(), epoch=roster.epoch + 1, lengths=counted)

    return run(work())


def rotate(options: argparse.Namespace) -> int:
    """`pomona roster rotate`."""

    async def work() -> int:
        async with _boss(options) as (boss, _, _):
            epoch = (await boss.state()).roster.epoch + 1
            return hand_on(options, await boss.rotate(), f"epoch {epoch} has begun", epoch=epoch)

    return run(work())


def show(options: argparse.Namespace) -> int:
    """`pomona roster show`."""

    async def work() -> int:
        state = state_of(options)
        if options.name is None:
            for name in NetworkFolder.names(state):
                folder = NetworkFolder.open(state, name)
                text = f"{name:<24} {folder.network:<12} {folder.network_id.hex()}"
                say(options, text, name=name, kind=folder.network.value, network=folder.network_id.hex())
            return 0
        async with _opened(options) as (folder, store):
            found_state = await _newest(folder, store)
        known = sorted(folder.epochs())
        text = "\n".join(describe(found_state, known, last_day, invitations=options.invitations))
        say(options, text, **summary(found_state, known, invitations=options.invitations))
        return 0

    return run(work())


def serve(options: argparse.Namespace) -> int:
    """`pomona roster serve`."""

    async def work(stop: asyncio.Event) -> int:
        traffic = Traffic()
        address: Address = options.listen
        async with _boss(options) as (boss, folder, store):
            core = await open_roster(folder, store)

            def tell(event: str, text: str) -> None:
                say(options, text, event=event, message=text)

            try:
                host = await RosterHost.start(
                    folder,
                    store,
                    core,
                    boss,
                    host=address.host,
                    port=address.port,
                    week=week_now,
                    say=tell,
                    metrics=traffic.swarm,
                )
            except OSError as error:
                raise ConfigError("--listen", f"cannot listen on {address}: {error.strerror or error}") from None
            assert host.server is not None
            here = Address(address.host, host.server.port)
            say(options, f"listening on {here}", event="listening", host=here.host, port=here.port)
            try:
                await first_of(stop, _serving(host, folder, store))
            finally:
                await host.close()
        return 0

    return run_until_stopped(work)


async def _serving(host: RosterHost, folder: NetworkFolder, store: Corestore) -> None:
    """Until cancelled; meanwhile other commands of this machine change the roster through this process."""

    async def borrow(key: bytes) -> Hypercore:
        return await store.get(key=key, create=False)

    async def lend() -> None:
        try:
            await LendingDesk(folder.store_directory, borrow, store.release).run(asyncio.Event())
        except OSError as error:  # a path too long for a socket: who is let in is let in without it
            logger.warning("other commands must wait until this one has ended: %s: %s", folder.store_directory, error)

    async with asyncio.TaskGroup() as group:
        group.create_task(lend())
        group.create_task(host.run())


# --- within ----------------------------------------------------------------------------------------------------------


async def _newest(folder: NetworkFolder, store: Corestore) -> RosterState:
    """The newest roster that is here; through the process that serves it, if there is one."""
    try:
        core = await open_roster(folder, store)
    except StorageError as error:
        borrowed = None
        if error.fault is StorageFault.LOCKED:
            borrowed = await BorrowedCore.borrow(folder.store_directory, folder.network_id)
        if borrowed is None:
            raise
        try:
            bee = RosterBee(borrowed)
            length = await bee.whole(borrowed.length)
            state = None if length is None else await bee.read(length)
        finally:
            await borrowed.close()
    else:
        state = await follow_state(folder, core)
        await store.release(core)
    if state is None:
        raise ConfigError(folder.name, "no roster has come yet; it is fetched from the authority or another member")
    return state


def _policy(path: Path | None, base: NetworkPolicy) -> NetworkPolicy:
    """`base` with what a TOML file says."""
    if path is None:
        return base
    table = read_toml(path)
    layers = table.pop("privacy", {})
    if not isinstance(layers, dict):
        raise ConfigError("privacy", "is a section")
    wanted = build(NetworkPolicy, {**_flat(base), **table, "privacy": {**_flat(base.privacy), **layers}}, "policy")
    return replace(wanted)


def _flat(settings: NetworkPolicy | PrivacyRules) -> dict[str, object]:
    return {name: getattr(settings, name) for name in type(settings).__dataclass_fields__ if name != "privacy"}


def _guests(options: argparse.Namespace) -> list[Guest]:
    if options.guests is not None:
        if options.owner is not None or options.count != 1 or options.label:
            raise ConfigError("--from", "names labels and owners itself: no --owner, --label or --count beside it")
        return _guests_of(options.guests)
    if not options.owner:
        raise ConfigError("--owner", "is needed: the company or person who answers for the box")
    labels = [options.label]
    if options.count > 1:
        labels = [f"{options.label} {number}".strip() for number in range(1, options.count + 1)]
    return [Guest(options.owner, Role(options.role), label) for label in labels]


def _guests_of(path: Path) -> list[Guest]:
    text = read_file(path, 1 << 20).decode("utf-8-sig", "replace")
    rows = list(csv.DictReader(io.StringIO(text)))
    if not 1 <= len(rows) <= ROSTER_INVITES_MAX or "owner" not in rows[0]:
        raise ConfigError(str(path), f"1 to {ROSTER_INVITES_MAX} rows with columns label, owner and perhaps role")
    found = []
    for number, row in enumerate(rows, 2):
        role = (row.get("role") or "shop").strip()
        if role not in list(Role):
            raise ConfigError(f"{path}:{number}", f"role {role!r}; known: {', '.join(Role)}")
        try:
            found.append(Guest((row.get("owner") or "").strip(), Role(role), (row.get("label") or "").strip()))
        except ConfigError as error:
            raise ConfigError(f"{path}:{number}", str(error)) from None
    return found


def _table(guests: Sequence[Guest], codes: Sequence[Invitation], until: str) -> bytes:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["label", "owner", "role", "until", "key", "code"])
    for guest, code in zip(guests, codes, strict=True):
        key_text = code.key_pair.public_key.hex()
        table.writerow([guest.label, guest.owner, guest.role.value, until, key_text, code.text()])
    return text.getvalue().encode()


def _invited(state: RosterState, text: str) -> bytes:
    """The public key of an open invitation, by its code, key or label."""
    waiting = {key: each for key, each in state.invites.items() if each.state is InviteState.OPEN}
    found_keys = [key for key, each in waiting.items() if text in (key.hex(), each.label)]
    if not found_keys and len(text) > 2 * 32:
        code = Invitation.parse(text).key_pair.public_key
        found_keys = [code] if code in waiting else []
    if len(found_keys) != 1:
        raise ConfigError(text[:32], "no such code is open" if not found_keys else "several codes have this label")
    return found_keys[0]


def _member(roster: Roster, text: str) -> Member:
    """The member of that label, or whose id begins so."""
    found_members = [each for each in roster.members.values() if each.label == text]
    if not found_members and len(text) >= _ID_DIGITS_MIN:
        found_members = [each for id_, each in roster.members.items() if id_.hex().startswith(text.lower())]
    if len(found_members) == 1:
        return found_members[0]
    gone = any(each.member.label == text or id_.hex().startswith(text) for id_, each in roster.revoked.items())
    why = "is revoked already" if gone and not found_members else "no member has this label or id"
    raise ConfigError(text[:64], "several members have this label; give the id" if found_members else why)


def _lengths(given: Sequence[str]) -> dict[FeedKind, int]:
    found_lengths = {}
    for text in given:
        kind, _, number = text.partition("=")
        if kind.upper() not in FeedKind.__members__ or not number.isdecimal() or not number.isascii():
            names = ", ".join(each.name.lower() for each in FeedKind)
            raise ConfigError("--length", f"{text!r} is not KIND=N with a kind of {names}")
        found_lengths[FeedKind[kind.upper()]] = int(number)
    return found_lengths


async def _known_lengths(
    folder: NetworkFolder, store: Corestore, roster: Roster, member: Member
) -> dict[FeedKind, int]:
    """Blocks of the member's feeds of this epoch that are here."""
    epoch = folder.epochs().get(roster.epoch)
    found_lengths: dict[FeedKind, int] = {}
    if epoch is None:
        return found_lengths
    for kind, signer in member.signers.items():
        try:
            core = await store.get(key=epoch.feed_key(kind, signer), create=False)
        except ConfigError:
            continue  # never fetched here
        found_lengths[kind] = core.contiguous
        await store.release(core)
    return found_lengths
