"""`pomona roster accept`: a box joins a network with its code, over the network or by a file."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Final

from edge.cli.loop import run
from edge.cli.peers import connected
from edge.cli.roster_common import say, state_of, week_now, write_new
from edge.errors import ConfigError, RemoteError
from edge.hypercore.corestore import Corestore
from edge.hypercore.hypercore import Hypercore
from edge.hyperswarm.address import Address
from edge.limits import JOIN_TIMEOUT_S
from edge.networks.access import FEEDS
from edge.networks.folder import NetworkFolder, signer_of
from edge.networks.invitation import Invitation
from edge.networks.joining import JoinRequest, ask_to_join
from edge.networks.roster import Roster
from edge.networks.roster_bee import follow, open_roster

_CODE_BYTES_MAX: Final = 4096


def accept(options: argparse.Namespace) -> int:
    """`pomona roster accept`."""
    return run(_accept(options))


async def _accept(options: argparse.Namespace) -> int:
    code = Invitation.parse(_standard_input() if options.code == "-" else options.code)
    if code.expires < week_now():
        raise ConfigError("invitation code", "it has expired; ask for a new one")
    state, name = state_of(options), options.name or code.network.value
    _check_name(state, name, code)
    request = await asyncio.to_thread(_request, state, name, code)
    if options.request is not None:
        write_new(options.request, request.encode(), "--request")
        NetworkFolder.create(state, name, code.network_id, code.network, code.root)
        text = f"take {options.request} to the authority: pomona roster admit {name} {options.request.name}"
        say(options, text, request=str(options.request), id=request.id.hex(), network=code.network_id.hex())
        return 0
    address: Address = options.connect
    try:
        answer = await ask_to_join(address.host, address.port, code, request)
    except TimeoutError:
        raise RemoteError(f"{address} does not answer", reason="timeout") from None
    except OSError as error:
        raise RemoteError(f"cannot connect to {address}: {error.strerror or error}", reason="unreachable") from None
    if not answer.accepted:
        raise RemoteError(f"refused ({answer.reason}): {answer.text}", reason=answer.reason)
    folder = NetworkFolder.create(state, name, code.network_id, code.network, code.root)
    roster = await _fetched(folder, address, answer.length)
    member = roster.members.get(request.id)
    if member is None:
        raise RemoteError("the authority said yes, but its roster does not have this box", reason="roster")
    text = f"this box is a member of {name} ({roster.network}), as {member.label or 'no label'} of {member.owner}"
    say(options, text, name=name, network=roster.network_id.hex(), id=member.id.hex(), label=member.label)
    return 0


def _standard_input() -> str:
    with open(sys.stdin.fileno(), "rb", closefd=False) as given:
        return given.read(_CODE_BYTES_MAX).decode("utf-8", "replace")


def _check_name(state: Path, name: str, code: Invitation) -> None:
    """Raise unless the name is free or stands for this network already."""
    if name in NetworkFolder.names(state) and NetworkFolder.open(state, name).network_id != code.network_id:
        raise ConfigError("--name", f"{name} is another network of this box; choose another name")


def _request(state: Path, name: str, code: Invitation) -> JoinRequest:
    identity = NetworkFolder.store_of(state, name).identity()
    store = NetworkFolder.directory_of(state, name) / "store"
    return JoinRequest.make(code, identity, {kind: signer_of(store, kind) for kind in FEEDS[code.network]})


async def _fetched(folder: NetworkFolder, address: Address, length: int) -> Roster:
    """The roster up to `length` at least, from the authority, with the box's own key."""
    async with await Corestore.open(folder.store_directory) as store:
        core = await open_roster(folder, store)
        identity = await asyncio.to_thread(lambda: folder.identity)
        async with connected(store, identity, [address]):
            try:
                async with asyncio.timeout(JOIN_TIMEOUT_S):
                    await _hold(core, length)
            except TimeoutError:
                text = (
                    "this box is a member, but its roster has not come yet; it is fetched when it next meets a member"
                )
                raise RemoteError(text, reason="timeout") from None
        roster = await follow(folder, core)
    if roster is None:
        raise RemoteError("what the authority serves is no roster", reason="roster")
    return roster


async def _hold(core: Hypercore, length: int) -> None:
    while core.length < length or core.contiguous < core.length:
        if core.length < length:
            await core.update()
        await core.download(0, core.length).done
