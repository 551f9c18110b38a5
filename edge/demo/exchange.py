"""Whether shops have told each other everything, judged from their folders after their boxes have stopped.

Of every feed: the copy of each other shop is as long as the original, every block and signature of it verifies, its
Merkle root is the original's, and its box has taken in every block, once, in order (its cursor stands at the end). Then
what all of them know together is one set of records: the digests of their memories are one number.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge.box.share import MEMORY_FILE
from edge.demo.stage import NETWORK, BoxPlan
from edge.errors import ConfigError, RemoteError
from edge.hypercore.corestore import Corestore
from edge.memory.network import NetworkPriceMemory
from edge.memory.network_image import thaw
from edge.networks.feeds import NetworkFeed, feeds_of
from edge.networks.folder import NetworkFolder
from edge.networks.roster_bee import follow, open_roster


@dataclass(frozen=True, slots=True)
class Copy:
    """A feed as one shop holds it."""

    blocks: int  # held without a hole, each verified
    root: bytes
    taken: int  # by the box's memory; of its own feeds: all


@dataclass(frozen=True, slots=True)
class Shelf:
    """What one shop holds of its network."""

    member: bytes
    feeds: Mapping[bytes, NetworkFeed]
    copies: Mapping[bytes, Copy]
    records: int  # of other shops, that its prices may know
    digest: bytes  # of all records, its own too


@dataclass(slots=True)
class Exchange:
    """What was told and heard, by shop. `heard[a, b]`: blocks of b that a's box has taken in."""

    told: dict[int, int] = field(default_factory=dict)
    heard: dict[tuple[int, int], int] = field(default_factory=dict)
    records: dict[int, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


async def read_exchange(plans: Sequence[BoxPlan]) -> Exchange:
    """Judge the shops' folders. Raises `StorageError` for a block that is not as signed."""
    shelves = {plan.store: await read_shelf(plan.state, plan.currency) for plan in plans}
    return compare(shelves)


async def read_shelf(state: Path, currency: str) -> Shelf:
    """What a stopped box holds of its network."""
    folder = NetworkFolder.open(state, NETWORK)
    member = folder.identity.public_key
    async with await Corestore.open(folder.store_directory) as store:
        roster = await follow(folder, await open_roster(folder, store))
        if roster is None:
            raise ConfigError(str(state), "its network has no roster")
        feeds = feeds_of(roster, folder.epochs())
        memory = NetworkPriceMemory(roster, currency=currency, own=member)
        try:
            image = await asyncio.to_thread((folder.directory / MEMORY_FILE).read_bytes)
            cursor, _ = thaw(image, memory)
        except (OSError, RemoteError):  # it was never saved: nothing was taken in
            cursor = {}
        copies = {}
        for key, feed in feeds.items():
            try:
                core = await store.get(key=key, encryption_key=feed.encryption_key, create=False)
            except ConfigError:
                copies[key] = Copy(0, b"", 0)  # nothing of it is here
                continue
            blocks = core.contiguous
            if blocks == core.length:
                await core.verify()
            own = feed.member == member
            copies[key] = Copy(blocks, core.tree_hash(blocks), blocks if own else cursor.get(key, 0))
            await store.release(core)
    records = sum(peer.records for peer in memory.peers())
    return Shelf(member, feeds, copies, records, memory.digest())


def compare(shelves: Mapping[int, Shelf]) -> Exchange:
    """Hold the shops' folders, by store, against each other."""
    found = Exchange()
    nothing = Copy(0, b"", 0)
    for store, own in shelves.items():
        originals = {key: own.copies[key] for key, feed in own.feeds.items() if feed.member == own.member}
        found.told[store] = sum(copy.blocks for copy in originals.values())
        found.records[store] = own.records
        for other, shelf in shelves.items():
            if other == store:
                continue
            found.heard[other, store] = 0
            for key, original in originals.items():
                copy, kind = shelf.copies.get(key, nothing), own.feeds[key].kind.name.lower()
                found.heard[other, store] += copy.taken
                where = f"{kind} of shop {store} at shop {other}"
                if copy.blocks != original.blocks:
                    found.faults.append(f"{where}: {copy.blocks} of {original.blocks} blocks are there")
                elif copy.blocks and copy.root != original.root:
                    found.faults.append(f"{where}: another feed than the original")
                elif copy.taken != original.blocks:
                    found.faults.append(f"{where}: {copy.taken} of {original.blocks} blocks were taken in")
    if len({shelf.digest for shelf in shelves.values()}) > 1:
        found.faults.append("shops do not know the same records")
    return found
