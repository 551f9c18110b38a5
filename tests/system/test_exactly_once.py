"""Every receipt counts once, whatever happens to messages, broker, box or till. On both brokers."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
from pathlib import Path

import pytest
from support_shop import DAY, GLN, PASSWORD, Box, Shop, read_ledger, receipts, sale, until

from edge.clock import SystemClock
from edge.errors import StorageError, StorageFault
from edge.pos.messages import TillMessage, encode
from edge.pos.mqtt import MqttLink, MqttMessage
from edge.pos.till import Transaction
from edge.pos.topics import Topics
from edge.records.ledger import GapRecord, RefusedRecord
from edge.records.receipt import Receipt, ReceiptKind, ReceiptLine, TillPosition

pytestmark = pytest.mark.system
TOPICS = Topics(GLN)


def message(epoch: int, sequence: int, lane: str = "1") -> bytes:
    line = ReceiptLine("apple", 1000, 100, 100)
    receipt = Receipt(lane, TillPosition(epoch, sequence), ReceiptKind.SALE, DAY, 0, "EUR", (line,))
    return encode(TillMessage(receipt), GLN)


@contextlib.asynccontextmanager
async def bare_till(shop: Shop, lane: str = "1"):  # type: ignore[no-untyped-def]
    """A till without a spool: what is published is up to the test. `heard` holds the acknowledgements."""
    heard: list[MqttMessage] = []
    link = MqttLink(
        shop.settings(lane),
        on_message=lambda m: (link.puback(m), heard.append(m)),  # type: ignore[arg-type, func-returns-value]
        on_up=lambda _session: link.subscribe([TOPICS.ack(lane)]),
    )
    task = asyncio.create_task(link.run())
    try:
        await until(lambda: link.connected)
        yield link, heard
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_duplicates_reordering_and_old_messages_change_nothing(shop: Shop) -> None:
    rng = random.Random(1)
    wanted = [(5, n) for n in range(1, 121)] + [(9, n) for n in range(1, 41)]
    sent = [place for place in wanted for _ in range(rng.choice((1, 1, 2, 5)))]
    rng.shuffle(sent)
    async with shop.brokered(), Box(shop).running() as box, bare_till(shop) as (link, _):
        for epoch, sequence in sent:
            await link.publish(TOPICS.sale("1"), message(epoch, sequence))
        await until(lambda: sum(box.count(r) for r in ("new", "late", "duplicate")) >= len(sent))
        assert box.intake.ack("1").through == ((9, 40), (5, 120))
    found = receipts(read_ledger(shop))
    assert sorted(found) == sorted(("1", *place) for place in wanted)


async def test_a_refused_message_is_recorded_once_and_the_till_is_told(shop: Shop) -> None:
    bad = message(5, 2).replace(b'"CurrencyCode"', b'"LoyaltyCardID"')
    async with shop.brokered(), Box(shop).running() as box, bare_till(shop) as (link, heard):
        for payload in (message(5, 1), bad, bad, b"\x00not json", message(5, 3)):
            await link.publish(TOPICS.sale("1"), payload)
        await until(lambda: box.intake.ack("1").through == ((5, 3),))
        await until(lambda: heard and b'"ThroughSequenceNumber":3' in heard[-1].payload)
        assert b'"Reason":"personal_data","Field":"LoyaltyCardID"' in heard[-1].payload
        name = "pomona_validation_failures_total"
        assert box.registry.get_sample_value(name, {"source": "mqtt", "reason": "personal_data"}) == 2
        assert box.registry.get_sample_value(name, {"source": "mqtt", "reason": "malformed"}) == 1
    refused = [r for r in read_ledger(shop) if isinstance(r, RefusedRecord)]
    assert [(r.position.sequence, r.reason) for r in refused] == [(2, "personal_data")]


async def test_a_full_disk_acknowledges_nothing_and_loses_nothing(shop: Shop) -> None:
    async with shop.brokered(), Box(shop).running() as box, shop.till().running() as till:
        await till.ring(sale())
        await till.drained()
        box.fail = StorageError("no space", fault=StorageFault.FULL)
        await till.ring_all([sale() for _ in range(50)])
        await asyncio.sleep(0.3)
        assert till.acknowledged == 1
        box.fail = None
        await till.drained()
    assert sorted(n for _, _, n in receipts(read_ledger(shop))) == list(range(1, 52))


async def test_the_broker_is_killed_while_tills_sell(shop: Shop) -> None:
    async with shop.brokered() as broker, Box(shop).running() as box:
        async with shop.till("1").running() as one, shop.till("2").running() as two:
            for round_number in range(6):
                await asyncio.gather(
                    one.ring_all([sale() for _ in range(40)]), two.ring_all([sale() for _ in range(40)])
                )
                if round_number % 2 == 0:
                    pid = broker.pid
                    if pid is not None:
                        os.kill(pid, signal.SIGKILL)
                    if shop.kind == "mosquitto" and round_number == 2:
                        (shop.data / "mosquitto.db").write_bytes(bytes(65536))  # what a power cut leaves on a card
            async with asyncio.timeout(60):
                await one.drained()
                await two.drained()
            wanted = {("1", one.epoch, n) for n in range(1, 241)} | {("2", two.epoch, n) for n in range(1, 241)}
        assert box.count("new") + box.count("late") == 480
    found = receipts(read_ledger(shop))
    assert len(found) == len(set(found))
    assert set(found) == wanted


async def test_the_box_is_down_and_comes_back(shop: Shop) -> None:
    async with shop.brokered(), shop.till().running() as till:
        async with Box(shop).running():
            await till.ring_all([sale() for _ in range(30)])
            await till.drained()
        await till.ring_all([sale() for _ in range(30)])  # nobody is listening
        assert till.acknowledged == 30
        async with Box(shop).running() as box:
            await till.drained()
            # Late is new too: what the broker kept may come after what the till repeats, and between it.
            assert box.count("new") + box.count("late") == 30
    assert sorted(n for _, _, n in receipts(read_ledger(shop))) == list(range(1, 61))


async def test_a_till_that_dies_goes_on_with_its_spool(shop: Shop) -> None:
    async with shop.brokered():
        async with shop.till().running() as till:
            await till.ring_all([sale() for _ in range(20)])
            epoch = till.epoch
        async with Box(shop).running(), shop.till().running() as till:
            assert (till.epoch, till.rung) == (epoch, 20)
            position = await till.ring(sale())
            assert position == TillPosition(epoch, 21)
            await till.drained()
    assert sorted(receipts(read_ledger(shop))) == [("1", epoch, n) for n in range(1, 22)]


async def test_a_till_that_lost_its_spool_opens_a_new_epoch_and_the_gap_is_shown(shop: Shop, tmp_path: Path) -> None:
    async with shop.brokered(), Box(shop).running() as box:
        async with shop.till().running() as till:
            await till.ring_all([sale() for _ in range(5)])
            await till.drained()
            first = till.epoch
        shutil.rmtree(tmp_path / "till-1")
        async with shop.till().running() as till:
            await till.ring(Transaction(ReceiptKind.DAY_END, DAY))
            await till.drained()
            second = till.epoch
        assert second > first
        assert [(s.epoch, s.through, s.tail_unknown) for s in box.intake.status("1")] == [
            (first, 5, True),
            (second, 1, False),
        ]
    gaps = [record for record in read_ledger(shop) if isinstance(record, GapRecord)]
    assert [(g.old_epoch, g.new_epoch, g.through, g.last) for g in gaps] == [(first, second, 5, None)]


async def test_a_week_of_receipts_arrives_late_and_out_of_two_epochs(shop: Shop) -> None:
    """An old spool, found again, is sent after its till has long moved on to another."""
    async with shop.brokered(), Box(shop).running() as box, bare_till(shop) as (link, _):
        for epoch, sequences in ((9, range(1, 31)), (5, range(30, 0, -1))):
            for sequence in sequences:
                await link.publish(TOPICS.sale("1"), message(epoch, sequence))
        await until(lambda: box.intake.ack("1").through == ((9, 30), (5, 30)))
        assert box.count("late") == 30


async def test_who_may_say_what(shop: Shop) -> None:
    """A till publishes on its own topic alone, hears its own acknowledgement alone, and needs its password."""
    async with shop.brokered(), Box(shop).running() as box, bare_till(shop, "2") as (link, heard):
        await link.publish(TOPICS.sale("1"), message(5, 1, "1"))  # another lane's topic
        await link.publish(TOPICS.ack("1"), b"{}", retain=True)
        await link.publish(TOPICS.book, b"{}", retain=True)
        await link.publish(TOPICS.sale("2"), message(5, 1, "2"))
        await until(lambda: box.intake.lanes() == ("2",))
        await until(lambda: bool(heard))
        if link.connected:
            link.subscribe([TOPICS.ack("1"), "pos/v1/#"])
        async with bare_till(shop, "1") as (other, _):
            await other.publish(TOPICS.sale("1"), message(5, 1, "1"))
            await until(lambda: box.intake.lanes() == ("1", "2"))
        await asyncio.sleep(0.2)
        assert {m.topic for m in heard} <= {TOPICS.ack("2")}
        for changes in ({"password": "wrong"}, {"username": "9", "client_id": "9"}, {"username": "", "client_id": "x"}):
            stranger = MqttLink(shop.settings("1", **changes), on_message=lambda _m: None)
            task = asyncio.create_task(stranger.run())
            await until(lambda stranger=stranger: stranger.last_error != "")
            assert not stranger.connected
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    assert PASSWORD not in (shop.data / "passwords").read_text()
    assert SystemClock().wall().ms > 0
