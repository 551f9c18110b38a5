"""How an epoch ends for good: its feeds are removed and its secret destroyed once it has been closed long enough.

    STATE/networks/NAME/closed-epochs.json       {"version": 1, "closed": {EPOCH: WEEK}}

The week is the one in which this box first saw the network in a later epoch; FORMATS.md, "Closed epochs". Feeds hold
what members told each other, never receipts: those are in the ledger, which has its own retention.

Blocks go before the secret, which alone tells which feeds belong to the epoch; an interrupted end is taken up again.
A box that does not know the date (`ClockQuality.FLOOR`) notes nothing and ends nothing: a week too early would.
"""

import json
import logging
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edge.atomic import replace_file
from edge.clock import ClockQuality, WallTime
from edge.errors import ConfigError, StorageError, StorageFault
from edge.hypercore.corestore import Corestore
from edge.networks.epochs import Epoch
from edge.networks.folder import NetworkFolder
from edge.networks.roster import Roster
from edge.records.history import week_of
from edge.storage.disk import storage_error

logger = logging.getLogger(__name__)

VERSION: Final = 1
_FILE: Final = "closed-epochs.json"


def week_at(at: WallTime) -> int | None:
    """The week number of a wall time; None where the clock does not know the date."""
    if at.quality is ClockQuality.FLOOR:
        return None
    return week_of(datetime.fromtimestamp(at.ms / 1000, UTC).date())


def noted(closed: Mapping[int, int], known: Collection[int], current: int, week: int) -> dict[int, int]:
    """`closed`, with every known epoch before `current` that is not in it yet, as of `week`; without unknown ones."""
    return {epoch: min(closed.get(epoch, week), week) for epoch in sorted(known) if epoch < current}


def due(closed: Mapping[int, int], keep_weeks: int, week: int) -> list[int]:
    """Epochs that were closed at least `keep_weeks` weeks before `week`, oldest first."""
    return sorted(epoch for epoch, since in closed.items() if week - since >= keep_weeks)


def load(directory: Path) -> dict[int, int]:
    """When each epoch was closed, by number. A damaged file counts as none: epochs are kept for longer then."""
    path = directory / _FILE
    try:
        match json.loads(path.read_text()):
            case {"version": 1, "closed": dict(closed)} if all(type(week) is int for week in closed.values()):
                return {int(epoch): week for epoch, week in closed.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", fault=StorageFault.IO) from error
    except (ValueError, RecursionError):
        pass
    logger.warning("%s is damaged: epochs are kept as if they were closed now", path)
    return {}


def save(directory: Path, closed: Mapping[int, int]) -> None:
    """Write the file, durably. Raises `StorageError`."""
    document = {"version": VERSION, "closed": {str(epoch): week for epoch, week in sorted(closed.items())}}
    try:
        replace_file(directory / _FILE, json.dumps(document, indent=1).encode() + b"\n")
    except OSError as error:
        raise storage_error(error, f"writing {directory / _FILE}") from error


def note_and_find_due(folder: NetworkFolder, roster: Roster, keep_weeks: int, at: WallTime) -> list[Epoch]:
    """Note which epochs are closed; those whose time is over."""
    week = week_at(at)
    if week is None:
        return []
    epochs, before = folder.epochs(), load(folder.directory)
    closed = noted(before, epochs, roster.epoch, week)
    if closed != before:
        save(folder.directory, closed)
    return [epochs[number] for number in due(closed, keep_weeks, week)]


async def end_epoch(folder: NetworkFolder, store: Corestore, roster: Roster, epoch: Epoch) -> None:
    """Remove every feed of `epoch` from `store`, and destroy its secret. Nobody may use one of them any more."""
    own = folder.identity.public_key
    people = [*roster.members.values(), *(revocation.member for revocation in roster.revoked.values())]
    for member in people:
        for kind, signer in member.signers.items():
            try:
                core = await store.get(key=epoch.feed_key(kind, signer), create=False)
            except ConfigError:
                continue  # never here, or removed by an end that was interrupted
            await (store.discard(core) if member.id == own else store.forget(core))
    folder.destroy_epoch(epoch.number)
    logger.info("network %s: epoch %d is cleared, and its secret destroyed", folder.name, epoch.number)
