"""SyncManager: what this shop tells one network, and what it takes in from it.

Out, `sync`: what is due is asked for (`Publisher`), chosen (`due`) and appended to our own feeds; usually nothing is.
The queue while offline is the feeds themselves: members fetch what they missed when they are back. Nothing is queued
beside them, so a crash loses nothing, and the end of the feeds tells the next start what has been said.

In, `accept`: blocks of members' feeds are validated one by one and put into the memory; the cursor says how far each
feed has been read. Pull: nothing is held beyond what was read in one go, and the loop gets its turn in between.

Invariants
- A block moves the cursor of its feed once, whether it was accepted or refused. A refusal that may go away by itself
  (`Refused.later`) stops its feed there until `retry`: what stands behind it would make it too old to be accepted.
  Only a clock that is still wrong after TIMES_WRONG_MAX tries is passed over, or its feed would stand for ever.
- Memory, cursor and the validator's state are one snapshot. An older one only means that blocks are read again, which
  changes nothing: the newest place of a record wins.
- A memory that cannot be right any more (`incomplete`) is filled again from the feeds.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from edge.clock import WallTime
from edge.errors import RemoteError, StorageError
from edge.limits import ACCEPT_AT_ONCE_MAX, ACCEPT_STEP, BULK_WAITING_MAX, INTEGER_MAX, SAID_TAIL_MAX
from edge.memory.due import Choice, Due, Said, Urgency, choose
from edge.memory.network import NetworkPriceMemory
from edge.memory.network_image import NetworkImage, freeze, thaw
from edge.memory.standing import Standing
from edge.memory.validator import DataValidator, Refused
from edge.networks.access import FeedKind
from edge.networks.epochs import Epoch
from edge.networks.feeds import PRIORITY
from edge.networks.following import Arrival
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import Roster
from edge.records.shared import Payload

logger = logging.getLogger(__name__)

RETRY_S: Final = 5.0  # after the disk could not be read
TIMES_WRONG_MAX: Final = 14  # tries of a message from the future, one a day


class Reader(Protocol):
    """Where members' blocks come from; `edge.networks.node.NetworkNode`."""

    async def next(self, cursor: Mapping[bytes, int], limit: int) -> list[Arrival]:
        """Blocks behind the cursor, critical feeds first, of one feed in order and without a gap."""
        ...

    async def changed(self) -> None:
        """Return once there may be more."""
        ...


class Publisher(Protocol):
    """What this shop has to tell; asked again and again, it may name what it has named before."""

    def due(self, week_now: int) -> Iterable[Due]:
        """Everything that may be told now and is not older than `due.SAID_WEEKS`."""
        ...

    def told(self, due: Due) -> None:
        """This stands in a feed, durably."""
        ...


@dataclass(frozen=True, slots=True)
class Told:
    """A payload in a feed of our own, and where it stands."""

    epoch: int
    sequence: int
    payload: Payload


class Outbox(Protocol):
    """Our own feeds in the network; `edge.memory.outbox.NodeOutbox`."""

    @property
    def member(self) -> bytes:
        """Our id there."""
        ...

    @property
    def unfetched(self) -> int:
        """Blocks that no member has fetched."""
        ...

    async def append(self, dues: Sequence[Due]) -> list[Told]:
        """Through the gate into the feeds; where all of it stands, once it is durable. Raises `StorageError`."""
        ...

    async def tail(self, limit: int) -> list[Told]:
        """What stands at the end of our feeds, of each kind the newest `limit` at most."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the validator must know of the moment; see `DataValidator.validate_network_data`."""

    roster: Roster
    epochs: Mapping[int, Epoch]
    wall: WallTime
    floor_ms: int = 0
    policy: NetworkPolicy | None = None
    week_now: int | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of some arrivals."""

    accepted: int = 0
    refused: int = 0
    held: int = 0  # in feeds that wait for `retry`
    passed: int = 0  # blocks of sums, handed on


@dataclass(slots=True)
class SyncCounts:
    """Since the start; for metrics."""

    told: Counter[str] = field(default_factory=Counter)  # records by urgency
    waiting: int = 0  # bulk that was not told at the last look
    covered: int = 0
    failures: int = 0  # of the disk while telling


class SyncManager:
    """One network's exchange. Not thread-safe; lives on the event loop; one task at a time uses each half.

    `hear_sum` takes the blocks of the feeds of sums, which are no messages. `after` is called when a round of arrivals
    has changed what the memory holds; `waiting_max` as in `due`.
    """

    def __init__(
        self,
        memory: NetworkPriceMemory,
        validator: DataValidator,
        reader: Reader,
        surroundings: Callable[[], Surroundings],
        *,
        outbox: Outbox | None = None,
        publisher: Publisher | None = None,
        hear_sum: Callable[[Arrival], None] | None = None,
        after: Callable[[], Awaitable[None]] | None = None,
        waiting_max: int = BULK_WAITING_MAX,
    ) -> None:
        self.memory: Final = memory
        self.validator: Final = validator
        self.cursor: dict[bytes, int] = {}  # next sequence by feed key
        self.held: dict[bytes, str] = {}  # feeds that wait, and why
        self.counts = SyncCounts()
        self._reader = reader
        self._surroundings = surroundings
        self._outbox = outbox
        self._publisher = publisher
        self._hear_sum = hear_sum
        self._after = after
        self._waiting_max = waiting_max
        self._said: Said | None = None  # None: to be read from the feeds' ends
        self._tries: Counter[tuple[bytes, int]] = Counter()  # of what waits for a clock, by feed and sequence
        self._again = asyncio.Event()

    # --- start and end -----------------------------------------------------------------------------------------------

    async def start(self, image: bytes | None = None) -> bool:
        """Go on from a snapshot, or from nothing; True: from the snapshot. Raises `StorageError` for our own feeds."""
        restored = False
        if image is not None:
            try:
                cursor, state = thaw(image, self.memory)
                self.validator.restore(state)
                self.cursor, restored = cursor, True
            except RemoteError as error:
                logger.warning("what was known of a network is read again from its feeds: %s", error)
                self.memory.clear()
        await self._remember()
        return restored

    def snapshot(self) -> NetworkImage:
        """Everything that the next start needs, to be encoded and written anywhere."""
        return freeze(self.memory, self.cursor, self.validator.export())

    async def rebuild(self) -> None:
        """Forget what members said, to read all of it again. Strikes and bans stay."""
        standing = Standing.restore(self.validator.export(), self.validator.network_id)
        standing.marks.clear()
        self.validator.restore(standing.export(self.validator.network_id))
        self.memory.clear()
        self.cursor.clear()
        self.held.clear()
        await self._remember()

    # --- out ---------------------------------------------------------------------------------------------------------

    async def sync(self, week_now: int) -> int:
        """Tell what is due; how many records were told. What could not be told is due again next time."""
        outbox, publisher = self._outbox, self._publisher
        if outbox is None or publisher is None:
            return 0
        dues = list(publisher.due(week_now))
        if not dues:
            return 0
        told = 0
        try:
            said = self._said if self._said is not None else await self._remember()
            choice = choose(dues, said, unfetched=outbox.unfetched, week_now=week_now, waiting_max=self._waiting_max)
            self.counts.waiting, self.counts.covered = choice.waiting, choice.covered
            for batch in _batches(choice):
                self._said = None  # until it is known what of the batch is durable
                places = await outbox.append(batch)
                self._note(outbox.member, places, said)
                self._said = said
                for due in batch:
                    publisher.told(due)
                    self.counts.told[due.urgency.name.lower()] += len(due.payloads)
                told += len(places)
        except StorageError as error:
            self.counts.failures += 1
            logger.warning("what is due waits for the disk: %s", error)
        if told and self._after is not None:
            await self._after()
        return told

    # --- in ----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take in what members say, until cancelled."""
        while True:
            try:
                self._again.clear()
                if not await self.pull():
                    await _first(self._reader.changed(), self._again.wait())
            except StorageError as error:
                logger.warning("members' feeds cannot be read: %s", error)
                await asyncio.sleep(RETRY_S)

    async def pull(self) -> int:
        """Read once, and take in what came; how many blocks that were. 0: there is nothing more for now."""
        if self.memory.incomplete:
            await self.rebuild()
        behind = {**self.cursor, **dict.fromkeys(self.held, INTEGER_MAX)}
        arrivals = await self._reader.next(behind, ACCEPT_AT_ONCE_MAX)
        await self.accept(arrivals)
        return len(arrivals)

    async def accept(self, arrivals: Iterable[Arrival]) -> Taken:
        """Validate blocks and take in what they say; in any order of feeds, those of one feed in theirs.

        Blocks before the cursor are passed over, those behind a gap too: they will be read again.
        """
        accepted = refused = held = passed = 0
        now, changed = self._surroundings(), False
        if now.roster is not self.memory.roster:
            self.memory.set_roster(now.roster)
        for number, arrival in enumerate(sorted(arrivals, key=_turn)):
            if number and number % ACCEPT_STEP == 0:
                await asyncio.sleep(0)
            key, sequence = arrival.feed_key, arrival.sequence
            if key in self.held:
                held += 1
                continue
            if sequence != self.cursor.get(key, 0):
                continue
            if arrival.kind is FeedKind.SUMS:
                if self._hear_sum is not None:
                    self._hear_sum(arrival)
                passed += 1
            else:
                try:
                    message = self.validator.validate_network_data(
                        arrival,
                        roster=now.roster,
                        epochs=now.epochs,
                        wall=now.wall,
                        floor_ms=now.floor_ms,
                        policy=now.policy,
                        week_now=now.week_now,
                    )
                except Refused as refusal:
                    if refusal.later and not self._given_up(arrival, refusal):
                        self.held[key] = refusal.reason
                        held += 1
                        continue
                    refused += 1
                else:
                    accepted += 1
                    changed |= self.memory.apply(arrival.member, arrival.epoch, sequence, message.payload)
            self.cursor[key] = sequence + 1
        if changed and self._after is not None:
            await self._after()
        return Taken(accepted, refused, held, passed)

    def retry(self) -> None:
        """Try again what waits: after a new roster or epoch, when the clock was set, and once a day."""
        self.held.clear()
        self._again.set()

    # --- within ------------------------------------------------------------------------------------------------------

    def _given_up(self, arrival: Arrival, refusal: Refused) -> bool:
        if refusal.reason != "timestamp":
            return False
        what = (arrival.feed_key, arrival.sequence)
        self._tries[what] += 1
        if self._tries[what] <= TIMES_WRONG_MAX:
            return False
        del self._tries[what]
        return True

    async def _remember(self) -> Said:
        """Know what stands in our own feeds; the memory knows it too."""
        said = Said()
        if self._outbox is not None:
            self._note(self._outbox.member, await self._outbox.tail(SAID_TAIL_MAX), said)
        self._said = said
        return said

    def _note(self, member: bytes, told: Iterable[Told], said: Said) -> None:
        for each in told:
            said.note(each.payload)
            self.memory.apply(member, each.epoch, each.sequence, each.payload)


async def _first(*events: Coroutine[Any, Any, object]) -> None:
    """Return once one of them has happened."""
    tasks = [asyncio.create_task(event) for event in events]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _turn(arrival: Arrival) -> tuple[int, int, int]:
    """Critical feeds first; of a member's feeds the older epoch, whose records come before those of the newer one."""
    return PRIORITY.index(arrival.kind), arrival.epoch, arrival.sequence


def _batches(choice: Choice) -> list[list[Due]]:
    """What is appended together: neighbours of one urgency, which a group commit each makes durable."""
    found: list[list[Due]] = []
    urgency: Urgency | None = None
    for due in choice.now:
        if due.urgency is not urgency:
            urgency = due.urgency
            found.append([])
        found[-1].append(due)
    return found
