"""A change of a roster that several must sign: a file that goes from signer to signer until a quorum has signed it.

    proposal = await propose(desk, changes)            # blocks that nobody has signed yet, and the proposer's signature
    before, after = await review(desk, proposal)       # what it would change, checked like a roster from anywhere
    proposal, valid = await sign(desk, proposal)       # one signature more; valid: a quorum, and the roster here has it

The blocks stand in no log of ours before a quorum has signed them: each signer rebuilds the log in a folder of its own,
signs there (`Hypercore.sign`), and what is complete goes into the roster's core as if a peer had sent it. So a change
that never finds its quorum leaves nothing behind.

A signer signs one continuation of a log. Two that both find a quorum would freeze the network at every member, for
good, so what was signed is remembered durably before the signature leaves, and another one is refused
(`replace=True`: somebody knows that the first cannot find its quorum any more).

Only the signers can read the file: its content is encrypted with a key that is sealed to each. FORMATS.md, "Roster".
"""

import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from edge.atomic import replace_file
from edge.crypto.hashing import hash256
from edge.crypto.keys import SIGNATURE_BYTES, KeyPair, new_secret, seal
from edge.crypto.stream import xor
from edge.encoding import cbor
from edge.errors import ConfigError, RecordInvalid, RemoteError, SignatureError, StorageError, StorageFault
from edge.hypercore.checking import levels
from edge.hypercore.corestore import Corestore
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.manifest import Manifest
from edge.hypercore.messages import BlockRef, Request, UpgradeRef
from edge.hypercore.records import Partial
from edge.limits import BLOCK_BYTES_MAX, GROUP_RECORDS_MAX, INTEGER_MAX, PROPOSAL_BYTES_MAX
from edge.networks.folder import ROOT_BYTES, NetworkFolder
from edge.networks.roster_bee import RosterBee, RosterState, check_successor, follow, open_roster, readable
from edge.networks.roster_changes import Changes
from edge.records.message import Network

VERSION: Final = 1
_NONCE: Final = bytes(24)  # the key is used once
_COPY_BLOCKS: Final = 128  # of a roster, at most 8 KiB each, in one group


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change that waits for signatures; `name` and `root` are for a signer who has no folder of the network yet."""

    manifest: Manifest
    network: Network
    name: str
    root: bytes | None = field(repr=False)
    start: int  # blocks of the roster that it follows on
    fork: int
    blocks: tuple[bytes, ...] = field(repr=False)
    signatures: dict[int, bytes] = field(default_factory=dict)  # by signer

    @property
    def network_id(self) -> bytes:
        """Key of the roster's core."""
        return self.manifest.key()

    @property
    def missing(self) -> int:
        """Signatures until it is valid."""
        return max(0, self.manifest.quorum - len(self.signatures))

    def encode(self) -> bytes:
        """The portable file."""
        content = {
            "kind": self.network.value,
            "name": self.name,
            "root": self.root or b"",
            "start": self.start,
            "fork": self.fork,
            "blocks": list(self.blocks),
        }
        body, key, manifest = cbor.encode(content), new_secret(), self.manifest.encode()
        return cbor.encode(
            {
                "version": VERSION,
                "manifest": manifest,
                "sealed": [seal(key, signer.public_key) for signer in self.manifest.signers],
                "content": xor(hash256(manifest, body) + body, _NONCE, key),
                "signatures": dict(self.signatures),
            }
        )

    @classmethod
    def decode(cls, data: bytes, reader: KeyPair) -> "Proposal":
        """What the signer `reader` reads in a file. Raises `RemoteError` for what is none, or is not for it."""
        match cbor.decode(data, bytes_max=PROPOSAL_BYTES_MAX):
            case {
                "version": int(version),
                "manifest": bytes(manifest),
                "sealed": [*sealed],
                "content": bytes(content),
                "signatures": dict(signatures),
                **rest,
            } if not rest and type(version) is int and version == VERSION:
                found = Manifest.decode(manifest)
                index = found.signer_index(reader.public_key)
                if index is None or len(sealed) != len(found.signers) or not isinstance(sealed[index], bytes):
                    raise SignatureError("this change is for the signers of another roster", reason="foreign")
                body = _opened(content, reader.unseal(sealed[index]), manifest)
                parts = {signer: part for signer, part in signatures.items() if _is_part(signer, part, found)}
                if len(parts) == len(signatures):
                    return _content(found, body, parts)
        raise RecordInvalid("that is no change of a roster", reason="proposal")


def _opened(content: bytes, key: bytes, manifest: bytes) -> bytes:
    if len(key) != 32:
        raise RecordInvalid("that is no change of a roster", reason="proposal")
    plain = xor(content, _NONCE, key)
    if hash256(manifest, plain[32:]) != plain[:32]:
        raise RecordInvalid("the file of this change is damaged", reason="proposal")
    return plain[32:]


def _is_part(signer: object, signature: object, manifest: Manifest) -> bool:
    known = isinstance(signer, int) and 0 <= signer < len(manifest.signers)
    return known and isinstance(signature, bytes) and len(signature) == SIGNATURE_BYTES


def _content(manifest: Manifest, body: bytes, signatures: dict[int, bytes]) -> Proposal:
    match cbor.decode(body, bytes_max=PROPOSAL_BYTES_MAX):
        case {
            "kind": str(kind),
            "name": str(name),
            "root": bytes(root),
            "start": int(start),
            "fork": int(fork),
            "blocks": [*blocks],
            **rest,
        } if not rest and kind in list(Network):
            sound = len(root) in (0, ROOT_BYTES) and 0 <= start <= INTEGER_MAX and 0 <= fork <= INTEGER_MAX
            whole = all(isinstance(block, bytes) and len(block) <= BLOCK_BYTES_MAX for block in blocks)
            if sound and whole and 0 < len(blocks) <= GROUP_RECORDS_MAX:
                return Proposal(manifest, Network(kind), name, root or None, start, fork, tuple(blocks), signatures)
    raise RecordInvalid("that is no change of a roster", reason="proposal")


@dataclass(frozen=True, slots=True)
class Desk:
    """Where one signer works: its folder of the network, its store, its signing key pair."""

    folder: NetworkFolder
    store: Corestore
    signer: KeyPair


# --- proposing, reviewing, signing -----------------------------------------------------------------------------------


async def propose(desk: Desk, manifest: Manifest, name: str, changes: Changes, *, replaces: bool = False) -> Proposal:
    """A proposal of `changes` to the newest roster that is here, with the desk's own signature."""
    core = await open_roster(desk.folder, desk.store)
    try:
        start = readable(core)
        folder = desk.folder
        draft = Proposal(manifest, folder.network, name, folder.root, start, core.fork if start else 0, ())
        async with _rebuilt(desk, core, draft) as scratch:
            bee = RosterBee(scratch)
            length = await bee.whole(start)
            version = 0 if length is None else (await bee.read(length)).roster.version
            end = await bee.write(version + 1, changes)
            await bee.read(end)  # no signature for what nobody would accept
            blocks = tuple(scratch.blocks(start, end))
            return await _signed(desk, scratch, replace(draft, blocks=blocks), replaces=replaces)
    finally:
        await desk.store.release(core)


async def review(desk: Desk, proposal: Proposal) -> tuple[RosterState | None, RosterState]:
    """The roster before and after. Raises `RecordInvalid` where no member would accept what it makes."""
    core = await open_roster(desk.folder, desk.store)
    try:
        _check_base(core, proposal)
        async with _rebuilt(desk, core, proposal) as scratch:
            return await _states(scratch, proposal)
    finally:
        await desk.store.release(core)


async def sign(desk: Desk, proposal: Proposal, *, replaces: bool = False) -> tuple[Proposal, bool]:
    """The proposal with our signature, and whether a quorum has signed: then the roster here has the change.

    Raises `SignatureError` for a signature that does not hold, `ConfigError` where it follows on another roster than
    ours or we have signed another continuation of it.
    """
    core = await open_roster(desk.folder, desk.store)
    try:
        if _in_force(core, proposal):
            return proposal, True
        _check_base(core, proposal)
        async with _rebuilt(desk, core, proposal) as scratch:
            await _states(scratch, proposal)
            length = scratch.length
            for signer, signature in sorted(proposal.signatures.items()):
                await scratch.add_signature(Partial(signer, length, scratch.fork, signature))
            signed = await _signed(desk, scratch, proposal, replaces=replaces)
            shown = scratch.shown
            if shown is None or shown[1] != length:
                return signed, False
            await _carry(scratch, core)
        await follow(desk.folder, core)
        return signed, True
    finally:
        await desk.store.release(core)


async def _states(scratch: Hypercore, proposal: Proposal) -> tuple[RosterState | None, RosterState]:
    bee = RosterBee(scratch)
    if await bee.whole(scratch.length) != scratch.length:
        raise RecordInvalid("the change is not whole", reason="proposal")
    after = await bee.read(scratch.length)
    if after.roster.network is not proposal.network or after.roster.open is not (proposal.root is None):
        raise RecordInvalid("the change says that the network is of another kind", reason="proposal")
    length = await bee.whole(proposal.start)
    if length is None:
        return None, after
    before = await bee.read(length)
    check_successor(before.roster, after.roster)
    return before, after


async def _signed(desk: Desk, scratch: Hypercore, proposal: Proposal, *, replaces: bool) -> Proposal:
    """`proposal` with our signature over `scratch`, remembered before it is made."""
    index = proposal.manifest.signer_index(desk.signer.public_key)
    if index is None:
        raise ConfigError("signer", "this box is no signer of this roster")
    if index in proposal.signatures:
        return proposal
    _remember(desk.folder.directory / "signed.json", proposal.start, scratch.tree_hash(), replaces=replaces)
    part = await scratch.sign()
    return replace(proposal, signatures={**proposal.signatures, index: part.signature})


def _remember(path: Path, start: int, tree_hash: bytes, *, replaces: bool) -> None:
    try:
        before = json.loads(path.read_text())
        other = before["start"] >= start and before["tree_hash"] != tree_hash.hex()
    except FileNotFoundError:
        other = False
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} is damaged: {error}", fault=StorageFault.CORRUPT) from error
    if other and not replaces:
        raise ConfigError(
            "change",
            "this box has signed another change that follows on the same roster. Should both find a quorum, every "
            "member freezes the network for good. Only if the other one can never be completed: --replace",
        )
    replace_file(path, json.dumps({"start": start, "tree_hash": tree_hash.hex()}).encode() + b"\n")


# --- within ----------------------------------------------------------------------------------------------------------


def _in_force(core: Hypercore, proposal: Proposal) -> bool:
    """Whether the roster here has the change already."""
    end = proposal.start + len(proposal.blocks)
    if readable(core) < end or core.fork != proposal.fork:
        return False
    return tuple(core.blocks(proposal.start, end)) == proposal.blocks


def _check_base(core: Hypercore, proposal: Proposal) -> None:
    if core.key != proposal.network_id:
        raise ConfigError("change", "it is one of another network")
    held = readable(core)
    if held < proposal.start:
        raise ConfigError("change", "it follows on a newer roster than the one here; fetch that first")
    if held > proposal.start or (held and core.fork != proposal.fork):
        raise ConfigError("change", "the roster has changed since; it must be proposed anew")


@asynccontextmanager
async def _rebuilt(desk: Desk, core: Hypercore, proposal: Proposal) -> AsyncIterator[Hypercore]:
    """The log as it would be, in a folder of its own that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix=".proposal-", dir=desk.folder.directory) as place:
        scratch = await Hypercore.open(
            Path(place) / "core",
            create=True,
            manifest=proposal.manifest,
            key_pair=desk.signer,
            encryption_key=desk.folder.roster_secret,
        )
        try:
            if proposal.fork:
                await scratch.truncate(0, proposal.fork)
            for start in range(0, proposal.start, _COPY_BLOCKS):
                await scratch.append(core.blocks(start, min(start + _COPY_BLOCKS, proposal.start)), urgent=True)
            for start in range(0, len(proposal.blocks), _COPY_BLOCKS):
                await scratch.append(proposal.blocks[start : start + _COPY_BLOCKS], urgent=True)
            if proposal.start and scratch.tree_hash(proposal.start) != core.tree_hash(proposal.start):
                raise RemoteError("the roster's log is not what its blocks say", reason="proposal")
            yield scratch
        finally:
            await scratch.close()


async def _carry(source: Hypercore, core: Hypercore) -> None:
    """Let `core` take what a quorum has signed, checked as if it came from a peer."""
    start, length = core.length, source.length
    core.accept(
        source.prove(Request(1, source.fork, upgrade=UpgradeRef(start, length - start), manifest=core.manifest is None))
    )
    for index in range(start, length):
        core.accept(source.prove(Request(1, source.fork, block=BlockRef(index, levels(2 * index, core.known)))))
    await core.flushed()
