"""The box's side of the tills: messages in, one append to the ledger, acknowledgements out.

    service = PosService(settings, gln=..., intake=..., append=..., clock=..., metrics=..., on_durable=...)
    await service.run()

Whatever has arrived while the last group was being synced forms the next one: one append, one retained acknowledgement
a lane, then the broker's own PUBACKs. So the group grows with the load and nobody waits for a timer.

Invariants: an acknowledgement is published only after `append` returned; a failed append leaves the intake as if its
messages had never come, and the tills repeat them; the broker is answered either way, so that a full disk does not
clog its queue (what it forgets, the tills still hold).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from edge.clock import Clock
from edge.errors import RecordInvalid, StorageError
from edge.limits import INTAKE_QUEUE_MAX
from edge.pos.acks import encode_ack
from edge.pos.book import PriceBook
from edge.pos.intake import Intake, IntakeRecord, Verdict
from edge.pos.messages import MessageRefused, TillMessage, decode
from edge.pos.metrics import PosMetrics
from edge.pos.mqtt import LinkDown, MqttLink, MqttMessage, MqttSettings
from edge.pos.publisher import BookPublisher
from edge.pos.topics import Topics, check_lane
from edge.records.ledger import encode

logger = logging.getLogger(__name__)
GROUP_MESSAGES_MAX = 2000  # one append; with RECEIPT_BYTES_MAX of JSON each it is far below what a commit group holds
GROUP_MESSAGE_BYTES_MAX = 1024 * 1024
DISK_PAUSE_S = 0.5  # after a failed append, before the next one is tried


@dataclass(slots=True)
class _Arrived:
    message: MqttMessage
    lane: str
    at: float
    parsed: TillMessage | MessageRefused


class PosService:
    """Connects the broker, the intake and the ledger. Owns the box's one MQTT connection."""

    def __init__(
        self,
        settings: MqttSettings,
        *,
        gln: str,
        intake: Intake,
        append: Callable[[Sequence[bytes], bool], Awaitable[int]],
        clock: Clock,
        metrics: PosMetrics,
        on_durable: Callable[[int, Sequence[IntakeRecord]], None] = lambda _index, _records: None,
        book: PriceBook | None = None,
    ) -> None:
        """`append(blocks, urgent)` makes blocks durable and returns the first one's index, or raises `StorageError`.

        `on_durable(first_index, records)` runs on the loop after each group, before its acknowledgements.
        """
        self._topics = Topics(gln)
        self._gln = gln
        self._intake = intake
        self._append = append
        self._clock = clock
        self._metrics = metrics
        self._on_durable = on_durable
        self._arrived: list[_Arrived] = []
        self._wake = asyncio.Event()
        self.link = MqttLink(settings, on_message=self._received, on_up=self._up)
        self.publisher = BookPublisher(self.link, self._topics, book or PriceBook())
        metrics.watch(
            queue=lambda: len(self._arrived),
            connected=lambda: self.link.connected,
            lanes=lambda: len(intake.lanes()),
            missing=lambda: sum(last - first + 1 for s in intake.status() for first, last in s.missing),
        )

    @property
    def connected(self) -> bool:
        """Whether the broker holds our connection."""
        return self.link.connected

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.link.run(), name="mqtt")
            tasks.create_task(self.publisher.run(), name="book")
            tasks.create_task(self._serve(), name="intake")

    def book_changed(self) -> None:
        """The price book given at construction holds a new book that is durable: publish it."""
        self.publisher.changed()

    def _up(self, _session_present: bool) -> None:
        self.link.subscribe([self._topics.sale("+")])
        self.publisher.up()
        for lane in self._intake.lanes():  # the broker may have lost what it retained
            self._acknowledge(lane, ())

    def _received(self, message: MqttMessage) -> None:
        lane = self._topics.lane_of(message.topic)
        if lane is None:
            self.publisher.received(message)
            self.link.puback(message)
            return
        parsed = self._parse(message, lane)
        if parsed is None or len(self._arrived) >= INTAKE_QUEUE_MAX:
            self.link.puback(message)
            return
        self._arrived.append(_Arrived(message, lane, self._clock.monotonic(), parsed))
        self._wake.set()

    def _parse(self, message: MqttMessage, lane: str) -> TillMessage | MessageRefused | None:
        try:
            check_lane(lane)
            return decode(message.payload, gln=self._gln, lane=lane)
        except MessageRefused as refusal:
            self._refused(refusal.reason, lane, str(refusal))
            return refusal if refusal.position is not None else None
        except RecordInvalid as error:
            self._refused("wrong_lane", "?", str(error))
            return None

    def _refused(self, reason: str, lane: str, text: str) -> None:
        self._metrics.validation_failures.labels(source="mqtt", reason=reason).inc()
        logger.warning("till %s: message refused (%s): %s", lane, reason, text)

    async def _serve(self) -> None:
        while True:
            if not self._arrived:
                self._wake.clear()
                await self._wake.wait()
            if not await self._group(self._take()):
                await asyncio.sleep(DISK_PAUSE_S)

    def _take(self) -> list[_Arrived]:
        size = count = 0
        for arrived in self._arrived[:GROUP_MESSAGES_MAX]:
            size += len(arrived.message.payload)
            if count and size > GROUP_MESSAGE_BYTES_MAX:
                break
            count += 1
        group, self._arrived = self._arrived[:count], self._arrived[count:]
        return group

    async def _group(self, group: list[_Arrived]) -> bool:
        """Store one group and answer it; whether the disk took it."""
        received = self._clock.wall()
        records: list[IntakeRecord] = []
        verdicts: list[Verdict] = []
        touched: dict[str, set[int]] = {}
        oldest: dict[str, float] = {}
        for arrived in group:
            parsed = arrived.parsed
            if isinstance(parsed, TillMessage):
                position = parsed.receipt.position
                outcome = self._intake.offer(parsed, received)
            elif parsed.position is not None:
                position = parsed.position
                outcome = self._intake.refuse(arrived.lane, position, parsed.reason, parsed.field, received)
            else:
                continue
            records += outcome.records
            verdicts.append(outcome.verdict)
            touched.setdefault(arrived.lane, set()).add(position.epoch)
            oldest.setdefault(arrived.lane, arrived.at)
        stored = await self._store(records)
        if stored:
            for verdict, count in Counter(verdicts).items():
                self._metrics.sales.labels(result=verdict.value).inc(count)
            for lane, epochs in touched.items():
                self._acknowledge(lane, epochs)
            now = self._clock.monotonic()
            for at in oldest.values():
                self._metrics.ack_duration.observe(now - at)
        for arrived in group:
            self.link.puback(arrived.message)
        return stored

    async def _store(self, records: list[IntakeRecord]) -> bool:
        if not records:
            return True
        self._metrics.group.observe(len(records))
        try:
            index = await self._append([encode(record) for record in records], True)
        except StorageError as error:
            logger.error("receipts not stored, tills will repeat them: %s", error)
            self._intake.drop(records)
            return False
        except BaseException:
            # Cancelled, or a mistake of ours: whether the log took them is known only by reading it back.
            self._intake.drop(records)
            raise
        self._intake.commit(records)
        self._on_durable(index, records)
        return True

    def _acknowledge(self, lane: str, epochs: Iterable[int]) -> None:
        try:
            payload = encode_ack(self._intake.ack(lane, epochs), self._gln)
            self.link.publish_now(self._topics.ack(lane), payload, retain=True)
        except LinkDown:
            logger.debug("acknowledgement of lane %s waits for the broker", lane)
