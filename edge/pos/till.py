"""A till that keeps its word: nothing rung is lost until the box has said that it is durable.

    till = SpoolingTill(settings, gln=..., lane=..., directory=..., ...)
    async with till.running():
        position = await till.ring(Transaction(ReceiptKind.SALE, day, lines))
        await till.drained()

A receipt is written to the spool and synced before it is sent; it is sent again after every reconnect, and whenever
acknowledgements stall, until the box's cumulative acknowledgement covers it. Receipts rung close together share one
sync. A till whose spool is gone opens a new, larger epoch and says what it still knows of the last one.

`pomona replay`, the shoppers of the demonstration and the tests use it; it shows a till's maker what to build.
"""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from edge.clock import Clock
from edge.errors import LocalError, RecordInvalid, RemoteError, StorageError
from edge.pos.acks import Ack, Refusal, decode_ack
from edge.pos.book import BookManifest
from edge.pos.messages import PreviousEpoch, TillMessage, encode
from edge.pos.mqtt import LinkDown, MqttLink, MqttMessage, MqttSettings
from edge.pos.receiver import BookReceiver, Subscribe
from edge.pos.spool import Spool
from edge.pos.topics import Topics, check_lane
from edge.records.receipt import Receipt, ReceiptKind, ReceiptLine, TillPosition

logger = logging.getLogger(__name__)
REPEAT_S = 5.0  # without progress of the acknowledgement: send the unacknowledged ones again
WINDOW = 512  # receipts sent and not acknowledged by the box
FIND_EPOCH_S = 1.0  # a till without a spool looks this long for its retained acknowledgement before it picks an epoch
EPOCH_RANDOM_BITS = 20
GROUP_MAX = 512  # receipts one sync of the spool covers
TICK_S = 0.1


def new_epoch(wall_ms: int, known: int, rng: random.Random) -> int:
    """An epoch larger than any `known`: seconds of the till's clock, then 20 random bits.

    The random bits keep two lives of a till apart whose clock stood still and which nobody could tell of the last one.
    """
    drawn = (max(0, wall_ms // 1000) << EPOCH_RANDOM_BITS) + rng.getrandbits(EPOCH_RANDOM_BITS) + 1
    return drawn if drawn > known else known + 1 + rng.getrandbits(EPOCH_RANDOM_BITS)


@dataclass(frozen=True, slots=True)
class Transaction:
    """What is rung: a receipt that has no position yet. `book` None: the book in force on `business_day`."""

    kind: ReceiptKind
    business_day: date
    lines: tuple[ReceiptLine, ...] = ()
    book: int | None = None
    wall_ms: int | None = None  # None: the till's clock
    tax_included: bool = True
    training: bool = False
    voids: TillPosition | None = None


class SpoolingTill:
    """One till of one lane. Everything runs on the loop but the spool's syncs, which have a thread of their own."""

    def __init__(
        self,
        settings: MqttSettings,
        *,
        gln: str,
        lane: str,
        directory: Path,
        currency: str,
        clock: Clock,
        rng: random.Random,
        on_book: Callable[[BookManifest], None] = lambda _manifest: None,
        on_refused: Callable[[Refusal], None] = lambda _refusal: None,
        with_book: bool = True,
        repeat_s: float = REPEAT_S,
    ) -> None:
        """`directory` holds the spool; `on_book` gets every verified manifest; `with_book` False: no prices."""
        self.lane = check_lane(lane)
        self._gln, self._topics, self._currency = gln, Topics(gln), currency
        self._directory, self._clock, self._rng = directory, clock, rng
        self._on_refused = on_refused
        self._with_book = with_book
        self._repeat_s = repeat_s
        self.book = BookReceiver(self._topics, on_book)
        self.link = MqttLink(settings, on_message=self._received, on_up=self._up, on_down=self._down, rng=rng)
        self._spool: Spool | None = None
        self._previous: PreviousEpoch | None = None
        self._rung: deque[tuple[Transaction, asyncio.Future[TillPosition]]] = deque()
        self._heard = Ack(lane, ())
        self._refusals: set[tuple[int, int]] = set()
        self._ack_seen = asyncio.Event()
        self._work = asyncio.Event()  # something to write
        self._send = asyncio.Event()  # something to send, or room to send it
        self._moved = asyncio.Event()  # the acknowledgement or the spool moved on
        self._next = 1  # sequence to send next
        self._progress_at = 0.0
        self.repeated = 0  # messages sent more than once, ever

    @property
    def epoch(self) -> int:
        """The boot epoch; 0 before the spool is open."""
        return self._spool.epoch if self._spool else 0

    @property
    def rung(self) -> int:
        """Receipts of this epoch that are safe in the spool or beyond it."""
        return self._spool.next_sequence - 1 if self._spool else 0

    @property
    def acknowledged(self) -> int:
        """The box has all receipts of this epoch up to this sequence."""
        return self._heard.through_of(self.epoch) if self._spool else 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["SpoolingTill"]:
        """The till at work for the length of a `with` block. What is not acknowledged at its end stays in the spool."""
        task = asyncio.create_task(self.run(), name=f"till {self.lane}")
        watcher = asyncio.create_task(self._moved.wait())
        try:
            while self._spool is None and not task.done():
                await asyncio.wait([task, watcher], return_when=asyncio.FIRST_COMPLETED, timeout=0.05)
            if task.done():
                task.result()
            yield self
        finally:
            watcher.cancel()
            await self.link.goodbye()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def run(self) -> None:
        """Serve until cancelled. Raises `StorageError` if the spool cannot be opened."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.link.run())
                await self._open()
                tasks.create_task(self._write())
                tasks.create_task(self._transmit())
                tasks.create_task(self._tick())
        except* (StorageError, LocalError) as group:
            raise group.exceptions[0] from None
        finally:
            for _, future in self._rung:
                future.cancel()
            if self._spool is not None:
                self._spool.close()

    async def ring(self, transaction: Transaction) -> TillPosition:
        """Ring one receipt; returns its position once it is safe in the spool. `StorageError`: it is not rung."""
        return await self._enqueue(transaction)

    async def ring_all(self, transactions: Sequence[Transaction]) -> list[TillPosition]:
        """Ring many; they share syncs."""
        return list(await asyncio.gather(*[self._enqueue(transaction) for transaction in transactions]))

    async def drained(self) -> None:
        """Wait until the box has acknowledged everything rung so far."""
        target = self.rung
        while self.acknowledged < target:
            self._moved.clear()
            await self._moved.wait()

    def price(self, sku: str, day: date) -> int | None:
        """The shelf price in force on `day`, in minor units, from the newest verified price book."""
        return self.book.price(sku, day)

    def _enqueue(self, transaction: Transaction) -> "asyncio.Future[TillPosition]":
        future: asyncio.Future[TillPosition] = asyncio.get_running_loop().create_future()
        self._rung.append((transaction, future))
        self._work.set()
        return future

    async def _open(self) -> None:
        spool = await asyncio.to_thread(Spool.open, self._directory)
        if spool is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIND_EPOCH_S):
                    await self._ack_seen.wait()
            known = self._heard.newest_epoch
            self._previous = PreviousEpoch(known) if known else None
            epoch = new_epoch(self._clock.wall().ms, known, self._rng)
            spool = await asyncio.to_thread(Spool.create, self._directory, epoch)
        self._spool = spool
        self._next = max(spool.first_sequence, self.acknowledged + 1)
        self._progress_at = self._clock.monotonic()
        self._send.set()
        self._moved.set()

    async def _write(self) -> None:
        """Rung receipts → spool, as many as there are with one sync."""
        spool = self._open_spool()
        worker = ThreadPoolExecutor(1, thread_name_prefix="spool")
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                while self._rung:
                    group = [self._rung.popleft() for _ in range(min(len(self._rung), GROUP_MAX))]
                    await self._store(spool, group, worker, loop)
        finally:
            worker.shutdown(wait=True)

    async def _store(
        self,
        spool: Spool,
        group: list[tuple[Transaction, "asyncio.Future[TillPosition]"]],
        worker: ThreadPoolExecutor,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        payloads: list[bytes] = []
        taken = []
        for transaction, future in group:
            sequence = spool.next_sequence + len(payloads)
            try:
                payloads.append(encode(self._message(transaction, TillPosition(spool.epoch, sequence)), self._gln))
            except RecordInvalid as error:
                if not future.done():
                    future.set_exception(error)
                continue
            taken.append(future)
        if not payloads:
            return
        try:
            first = await loop.run_in_executor(worker, spool.append, payloads)
        except StorageError as error:
            for future in taken:
                if not future.done():
                    future.set_exception(error)
            return
        for place, future in enumerate(taken):
            if not future.done():
                future.set_result(TillPosition(spool.epoch, first + place))
        self._send.set()

    def _message(self, transaction: Transaction, position: TillPosition) -> TillMessage:
        day, book = transaction.business_day, transaction.book
        receipt = Receipt(
            lane=self.lane,
            position=position,
            kind=transaction.kind,
            business_day=day,
            wall_ms=self._clock.wall().ms if transaction.wall_ms is None else transaction.wall_ms,
            currency=self._currency,
            lines=transaction.lines,
            book=self.book.number_on(day) if book is None else book,
            tax_included=transaction.tax_included,
            training=transaction.training,
            voids=transaction.voids,
        )
        return TillMessage(receipt, self._previous if position.sequence == 1 else None)

    async def _transmit(self) -> None:
        """Spool → broker: at most `WINDOW` messages ahead of the box's acknowledgement."""
        spool = self._open_spool()
        topic = self._topics.sale(self.lane)
        while True:
            if not self.link.connected or self._next >= min(spool.next_sequence, self.acknowledged + 1 + WINDOW):
                self._send.clear()
                await self._send.wait()
                continue
            try:
                await self.link.publish(topic, spool.read(self._next))
            except LinkDown:
                continue
            self._next += 1

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = self._clock.monotonic()
            if self._with_book:
                self.book.tick(now)
                self._act()
            if self._next <= self.acknowledged + 1:
                self._progress_at = now
            elif self.link.connected and now - self._progress_at > self._repeat_s:
                self._repeat(now)

    def _repeat(self, now: float) -> None:
        """Send everything unacknowledged again, from the first one."""
        self.repeated += max(0, self._next - self.acknowledged - 1)
        self._next = self.acknowledged + 1
        self._progress_at = now
        self._send.set()

    def _up(self, session_present: bool) -> None:
        self.link.subscribe([self._topics.ack(self.lane)])
        if self._with_book:
            self.book.up(session_present)
            self._act()
        if self._spool is not None:
            self._repeat(self._clock.monotonic())

    def _down(self) -> None:
        self._send.set()

    def _received(self, message: MqttMessage) -> None:
        self.link.puback(message)
        try:
            if message.topic == self._topics.ack(self.lane):
                self._acknowledged(decode_ack(message.payload, gln=self._gln, lane=self.lane))
            elif self._with_book:
                self.book.received(message.topic, message.payload, self._clock.monotonic())
                self._act()
        except RemoteError as error:
            logger.warning("till %s: %s: %s", self.lane, message.topic, error)

    def _acknowledged(self, ack: Ack) -> None:
        before = self.acknowledged
        if ack.newest_epoch >= self._heard.newest_epoch and ack.through_of(self.epoch) >= before:
            self._heard = ack
        for refusal in ack.refused:
            if (refusal.epoch, refusal.sequence) not in self._refusals:
                self._refusals.add((refusal.epoch, refusal.sequence))
                if refusal.epoch == self.epoch:
                    self._on_refused(refusal)
        self._ack_seen.set()
        if self._spool is not None and self.acknowledged > before:
            self._progress_at = self._clock.monotonic()
            self._next = max(self._next, self.acknowledged + 1)
            self._spool.forget(min(self.acknowledged, self.rung))
            self._send.set()
            self._moved.set()

    def _act(self) -> None:
        for action in self.book.take_actions():
            with contextlib.suppress(LinkDown):
                if isinstance(action, Subscribe):
                    self.link.subscribe(action.topics)
                else:
                    self.link.unsubscribe(action.topics)

    def _open_spool(self) -> Spool:
        if self._spool is None:
            raise LocalError("the till has no spool yet")
        return self._spool
