"""SumsDesk: the sums of one consortium on one box. It opens what is due, carries it over feeds, remembers results.

    desk = SumsDesk(...)                                      # SyncManager(..., hear_sum=desk.hear)
    await sync.start(image)
    await desk.start(today); desk.rewind(sync.cursor)         # then sync.run()
    await desk.tick(Moment(today, clock.monotonic()))         # now and again, and whenever desk.news is set

A round is a function of the roster (`terms`), what was said in it stands in the feeds, and what this box must not
forget in a file of the round (`running`): so a start reads the feeds of sums again, and whoever was away catches up.

Invariants
- Record, then send: what this box says in a round is in the round's file before it is in its feed, and a masked input
  is charged to the privacy ledger, durably, before it is there too. One charge for each window and subject: the very
  bytes that were charged leave, or nothing does.
- A box whose file of a round is gone, or that said what the file does not know, takes no further part in it.
- What comes late, twice, in any order, or is not understood, changes no result (`secure_sum.board`).
- A result is handed to the memory once all groups of its sum have one; every member finds the same.

No clock is read: `Moment` says which business day has begun, and the monotonic time. Lives on the event loop.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from edge.encoding import cbor
from edge.errors import RemoteError, StorageError
from edge.limits import SUM_EARLY_BYTES_MAX, SUM_MESSAGE_BYTES_MAX
from edge.memory.network import NetworkPriceMemory
from edge.memory.sums.book import Book, Wares, book_of
from edge.memory.sums.feed import SumsFeed
from edge.memory.sums.files import RoundFiles
from edge.memory.sums.result import insight_of
from edge.memory.sums.running import CLOSED, STAGES_MAX, Running
from edge.memory.sums.terms import Asked, Subject
from edge.memory.sync import Surroundings
from edge.networks.access import FeedKind
from edge.networks.feeds import feeds_of
from edge.networks.following import Arrival
from edge.networks.policy import NetworkPolicy
from edge.privacy.aggregate import Window
from edge.privacy.budget import BudgetLedger
from edge.privacy.mechanism import RandomBits
from edge.privacy.reservation import SUMS, ReleaseKey, owner_charges
from edge.privacy.rules import PrivacyRefused
from edge.privacy.secure_sum import Participant, RoundRefused
from edge.privacy.secure_sum.messages import Kind, decode
from edge.records.history import week_of
from edge.records.message import Network

logger = logging.getLogger(__name__)

_MASKED: Final = (Kind.MASKED.value,)

Contribution = Callable[[Subject, Window], Awaitable[Sequence[float] | None]]
"""This shop's own price coefficients from the sales of the window's weeks alone: one of the category, or one of each of
the subject's items, NaN where it knows none; None: it has nothing to say."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Now. `today`: the first business day that is not over; `now_s`: monotonic seconds."""

    today: date
    now_s: float


@dataclass(frozen=True, slots=True)
class RoundState:
    """One group's round, for people."""

    category: str
    window: Window
    epoch: int
    group: int
    members: int
    taking_part: bool
    why_not: str
    refused: str  # why it ended without a sum; empty: it has not


class SumsDesk:
    """See the module. `directory`: of the rounds' files alone, `sums` in the network's folder; made when it is needed.

    `ledger` None: this box contributes nothing; it still closes and works out.

    `categories` are those that this shop sells, `items` a category's items on the list that all members share (none by
    default: then only means of categories are summed). `centre` is the shipped prior's own price coefficient.
    """

    def __init__(
        self,
        directory: Path,
        memory: NetworkPriceMemory,
        feed: SumsFeed,
        surroundings: Callable[[], Surroundings],
        *,
        ledger: BudgetLedger | None,
        contribution: Contribution,
        categories: Callable[[], Sequence[str]],
        centre: float,
        random_bits: RandomBits,
        items: Callable[[str], Sequence[str]] | None = None,
        after: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.news: Final = asyncio.Event()  # something was heard: `tick` may have to say something
        self.refused: Final[Counter[str]] = Counter()  # blocks that were not taken, and parts not taken, by reason
        self.failures = 0  # of the disk
        self.results = 0  # handed to the memory since the start
        self._files = RoundFiles(directory)
        self._today = date.min
        self._memory = memory
        self._feed = feed
        self._surroundings = surroundings
        self._ledger = ledger
        self._contribution = contribution
        self._categories = categories
        self._items = items
        self._centre = centre
        self._random_bits = random_bits
        self._after = after
        self._turn = asyncio.Lock()
        self._known: tuple[object, ...] = ()  # what the book was made from
        self._book = Book()
        self._running: dict[bytes, Running] = {}
        self._ended: dict[bytes, str] = {}  # why a round has no sum, as far as was heard
        self._own: dict[bytes, list[bytes]] = {}  # what our own feed held at the start, by round
        self._early: deque[tuple[bytes, bytes, bytes]] = deque()  # round, sender, block
        self._early_bytes = 0
        self._unsure = False  # whether our own feed may hold more than is known here
        self._dirty: set[bytes] = set()
        self._said_nothing: dict[tuple[str, int], date] = {}  # when a subject was asked for and nothing was known

    # --- start -------------------------------------------------------------------------------------------------------

    async def start(self, today: date) -> None:
        """Know what there is to be heard, and what we said; before anything is heard. Raises `StorageError`."""
        await self._read_own()
        self._today = max(self._today, today)
        self._register(self._surroundings(), self._today)

    async def _read_own(self) -> None:
        for block in await self._feed.own():
            try:
                own = self._own.setdefault(_round_of(block), [])
            except RemoteError:  # of a newer version of ours
                continue
            if block not in own:
                own.append(block)
                running = self._running.get(_round_of(block))
                if running is not None:  # said by this desk, and not known to be durable until now
                    running.receive(self._feed.member, block)
                    self._dirty.add(running.digest)
        self._unsure = False

    def rewind(self, cursor: dict[bytes, int]) -> None:
        """Have the feeds of sums read again from their beginning; `cursor` is the sync's, after its own start."""
        around = self._surroundings()
        for key, feed in feeds_of(around.roster, around.epochs).items():
            if feed.kind is FeedKind.SUMS:
                cursor.pop(key, None)

    # --- hearing -----------------------------------------------------------------------------------------------------

    def hear(self, arrival: Arrival) -> None:
        """A block of a member's feed of sums; never raises for what it says."""
        try:
            digest = _round_of(arrival.block)
        except RemoteError as error:
            self.refused[error.reason] += 1
            return
        self._hear(digest, arrival.member, arrival.block)

    def _hear(self, digest: bytes, sender: bytes, block: bytes) -> None:
        if digest not in self._book.asked and digest not in self._running:
            self._early.append((digest, sender, block))
            self._early_bytes += len(block)
            while self._early_bytes > SUM_EARLY_BYTES_MAX:
                self._early_bytes -= len(self._early.popleft()[2])
            return
        running = self._run(digest)
        if running is None:
            return
        try:
            running.receive(sender, block)
        except RemoteError as error:
            self.refused[error.reason] += 1
            return
        self._dirty.add(digest)
        self.news.set()

    # --- at work -----------------------------------------------------------------------------------------------------

    async def tick(self, moment: Moment) -> None:
        """Do what is due now. What the disk refuses is tried again at the next call."""
        async with self._turn:
            self.news.clear()
            around = self._surroundings()
            if around.roster.network is not Network.CONSORTIUM:
                return
            self._today = max(self._today, moment.today)  # a day that has begun stays so
            moment = Moment(self._today, moment.now_s)
            self._register(around, moment.today)
            try:
                if self._unsure:
                    await self._read_own()
                await self._take_part(around, moment.today)
                while await self._speak(around, moment):
                    pass
            except StorageError as error:
                self.failures += 1
                logger.warning("sums wait for the disk: %s", error)
            await self._work_out()

    def states(self) -> list[RoundState]:
        """Rounds of which anything is known, newest window first."""
        found = []
        for digest, running in self._running.items():
            asked, why = running.asked, running.declined
            if running.participant is not None and running.participant.stopped is not None:
                why = running.participant.stopped
            found.append(
                RoundState(
                    asked.subject.category,
                    asked.window,
                    asked.epoch,
                    running.round.group,
                    len(running.round.members),
                    running.participant is not None and not why,
                    why,
                    self._ended.get(digest, ""),
                )
            )
        return sorted(found, key=lambda state: (-state.window.first, state.category, state.epoch, state.group))

    # --- which rounds there are --------------------------------------------------------------------------------------

    def _register(self, around: Surroundings, today: date) -> None:
        """Know all rounds that this box may hear of; what was heard early finds its round."""
        roster = around.roster
        wares = Wares.of(self._categories(), self._items, self._centre)
        known = (roster.version, tuple(sorted(around.epochs)), today, wares)
        if known == self._known:
            return
        self._known = known
        self._book = book = book_of(roster, around.epochs, today, wares)
        live = (book.window, book.newest)
        for digest, running in list(self._running.items()):  # a round goes on under the rules that it began with
            over = digest not in book.asked and running.asked.window not in live
            if over or (self._settled(running.asked) and not running.active):
                del self._running[digest]
        rounds = [(digest, asked.window) for digest, (asked, _) in book.asked.items()]
        rounds += [(digest, running.asked.window) for digest, running in self._running.items()]
        self._files.keep_only([digest for digest, window in rounds if window in live])
        early, self._early, self._early_bytes = self._early, deque(), 0
        for digest, sender, block in early:
            self._hear(digest, sender, block)

    def _run(self, digest: bytes) -> Running | None:
        """The round with this digest, begun or taken up again; None where its result is known."""
        running = self._running.get(digest)
        if running is not None:
            return running
        asked, group = self._book.asked[digest]
        if self._settled(asked):
            return None
        running = self._running[digest] = Running(asked, group, self._feed.member)
        try:
            running.restore(self._files.read(digest), self._own.get(digest, ()), self._random_bits)
        except (StorageError, RemoteError) as error:
            logger.warning("a round of a sum is left alone: %s", error)
            running.declined, running.participant = "no_state", None
        self._dirty.add(digest)
        return running

    def _settled(self, asked: Asked) -> bool:
        epoch = self._memory.sum_epoch(asked.subject.category, asked.window.end - 1)
        return epoch is not None and epoch >= asked.epoch

    # --- our own part ------------------------------------------------------------------------------------------------

    async def _take_part(self, around: Surroundings, today: date) -> None:
        ledger, policy = self._ledger, around.policy or around.roster.policy
        for asked in () if ledger is None else self._book.now:
            round_ = next((each for each in asked.rounds if each.number(self._feed.member) is not None), None)
            running = None if round_ is None else self._run(round_.digest)
            if running is None or running.participant is not None or running.declined:
                continue
            if running.engaged or running.board.abort() is not None:
                running.declined = "late"
            elif not _willing(asked, policy, around.roster.policy):
                running.declined = "stricter"
            elif not self._elsewhere(asked):
                assert ledger is not None
                await self._join(running, ledger, today)

    def _elsewhere(self, asked: Asked) -> bool:
        """Whether this box is bound by the same sum in an earlier epoch. One that never began is left for this one."""
        for running in self._running.values():
            other = running.asked
            same = (other.window, other.subject.category) == (asked.window, asked.subject.category)
            if same and other.epoch < asked.epoch and running.active:
                if running.engaged:
                    return True
                running.participant, running.declined = None, "moved"
                self._files.remove(running)
        return False

    async def _join(self, running: Running, ledger: BudgetLedger, today: date) -> None:
        asked, subject = running.asked, running.asked.subject
        tried = (subject.category, asked.window.first)
        if self._said_nothing.get(tried) == today:
            return
        await ledger.raise_floor(week_of(today))
        others = [each.asked for each in self._running.values() if each.active and each.asked.window == asked.window]
        pending = sum(ledger.budget.reservation(_key(other)) is None for other in others)
        try:
            ledger.budget.check(_key(asked), owner_charges(asked.rho * (pending + 1)))
        except PrivacyRefused as refusal:
            running.declined = refusal.reason
            self.refused[refusal.reason] += 1
            return
        known = await self._contribution(subject, asked.window)
        number = running.round.number(self._feed.member)
        assert number is not None
        shops = running.round.shops[number]
        steps = None if known is None else subject.steps(known, asked.centre, shops)
        if steps is None:
            self._said_nothing[tried] = today
            return
        if running.engaged:
            running.declined = "late"
            return
        running.participant = Participant(running.board, self._feed.member, steps, self._random_bits)

    async def _speak(self, around: Surroundings, moment: Moment) -> bool:
        """Say what there is to say; whether anything was."""
        said, now = False, {round_.digest for asked in self._book.now for round_ in asked.rounds}
        for digest in now - self._running.keys():  # a closer waits for others' words even before any came
            if self._feed.member in self._book.asked[digest][0].rounds[0].closers:
                self._run(digest)
        for digest, running in list(self._running.items()):
            if running.asked.window != self._book.window:
                continue  # over, or not begun: nothing is said in it
            if digest in now or running.engaged:
                said |= await self._close(running, around.roster.policy, moment)
            said |= await self._say(running)
        return said

    async def _say(self, running: Running) -> bool:
        participant = running.participant
        if participant is None:
            return False
        chosen = participant.next()
        await self._files.save(running)
        masked = [block for block in chosen if _kind(block) in _MASKED]
        if masked and not await self._charge(running, masked[0]):
            chosen.remove(masked[0])
        there = participant.next()  # what was heard meanwhile may have counted us out
        blocks = [block for block in chosen if block in there]
        if not blocks:
            if participant.done and not there:
                self._files.remove(running)
            return False
        await self._publish(running, blocks)
        return True

    async def _charge(self, running: Running, masked: bytes) -> bool:
        """Whether exactly these bytes are paid for, durably. Raises `StorageError`."""
        if self._ledger is None:
            return False
        asked = running.asked
        try:
            reservation = await self._ledger.release(_key(asked), owner_charges(asked.rho), lambda: masked)
        except PrivacyRefused as refusal:
            self.refused[refusal.reason] += 1
            return False
        return reservation.payload == masked

    # --- closing -----------------------------------------------------------------------------------------------------

    async def _close(self, running: Running, policy: NetworkPolicy, moment: Moment) -> bool:
        if running.closer is None:
            return False
        if running.waiting is None:
            running.waiting = await self._cut(running, policy, moment)
        block = running.waiting
        if block is None:
            return False
        await self._publish(running, [block])
        running.waiting = None
        return True

    async def _cut(self, running: Running, policy: NetworkPolicy, moment: Moment) -> bytes | None:
        """The cut that is due, or the end of a round that will not come together; None: neither."""
        assert running.closer is not None
        if running.board.abort() is not None:
            return None
        stage, came, there = running.place()
        if stage == CLOSED:
            if not running.active:
                self._files.remove(running)
            return None
        waited = running.waited(stage, moment.today, moment.now_s, policy.round_hours)
        await self._files.save(running)  # since when
        turn = running.turn()
        if waited < turn and not (came == there and turn == 1):
            return None
        try:
            return running.closer.cut()
        except RoundRefused as refusal:
            return running.closer.abort(refusal.reason) if waited >= STAGES_MAX * turn else None

    async def _publish(self, running: Running, blocks: Sequence[bytes]) -> None:
        """Into our own feed; then it is heard here like anybody else's. Raises `StorageError`."""
        digest = running.digest
        self._unsure = True
        await self._feed.append(digest, [decode(block, digest) for block in blocks])
        for block in blocks:
            self._own.setdefault(digest, []).append(block)
            running.receive(self._feed.member, block)
        self._unsure = False
        self._dirty.add(digest)

    # --- results -----------------------------------------------------------------------------------------------------

    async def _work_out(self) -> None:
        """Hand what has come to an end to the memory."""
        dirty, self._dirty = self._dirty, set()
        changed = False
        heard = [self._running[digest].asked for digest in dirty if digest in self._running]
        for asked in {asked.rounds[0].digest: asked for asked in heard}.values():
            changed |= self._worked_out(asked)
        if changed and self._after is not None:
            await self._after()

    def _worked_out(self, asked: Asked) -> bool:
        if self._settled(asked):
            return False
        sums = []
        for round_ in asked.rounds:
            running = self._running.get(round_.digest)
            try:
                found = None if running is None else running.tally.result()
            except RoundRefused as refusal:
                self._ended[round_.digest] = refusal.reason
                continue
            if found is not None:
                self._ended.pop(round_.digest, None)
                sums.append(found)
        if len(sums) < len(asked.rounds):
            return False
        try:
            insight = insight_of(asked, sums)
        except RoundRefused as refusal:
            self._ended[asked.rounds[0].digest] = refusal.reason
            return False
        self.results += 1
        return self._memory.apply_sum(insight, asked.epoch, asked.window.first)


def _willing(asked: Asked, own: NetworkPolicy, network: NetworkPolicy) -> bool:
    """Whether a sum under the network's rules is strict enough for this box's own: a round has one rule for all."""
    mine, theirs = own.privacy, network.privacy
    return (
        mine.rho_milli >= theirs.rho_milli
        and mine.lag_weeks <= theirs.lag_weeks
        and mine.shops_min <= theirs.shops_min
        and mine.item_level >= bool(asked.subject.items)
        and max(own.owners_min, mine.owners_min) <= max(asked.rounds[0].owners_min, theirs.owners_min)
        and own.owner_share_max >= network.owner_share_max
    )


def _key(asked: Asked) -> ReleaseKey:
    network = asked.rounds[0].network
    return ReleaseKey(network, SUMS, asked.subject.category, asked.window.first, asked.window.weeks)


def _round_of(block: bytes) -> bytes:
    """The round that a block names. Raises `RemoteError`."""
    value: Any = cbor.decode(block, bytes_max=SUM_MESSAGE_BYTES_MAX)
    match value:
        case [int(), int(), bytes(digest), *_] if len(digest) == 32:
            return digest
    raise RemoteError("not a message of a sum")


def _kind(block: bytes) -> int:
    value: Any = cbor.decode(block, bytes_max=SUM_MESSAGE_BYTES_MAX)
    return int(value[0])
