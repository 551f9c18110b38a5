"""The box as its owner runs it: `pomona run` as a process, tills, a real broker; kills, a full disk, bad settings.

What tills rang is known outside of the box (their spools count it); what the box kept is read from its ledger after it
has ended.
"""

import asyncio
import contextlib
import random
import resource
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from support_box import CURRENCY, GLN, BoxProcess, rung
from support_shop import until

from edge.box.records import DayRecord
from edge.clock import SystemClock
from edge.pos.book import digest_of
from edge.pos.till import SpoolingTill, Transaction
from edge.records.decision import DecisionBatch
from edge.records.item import Item
from edge.records.ledger import BookRecord
from edge.records.receipt import ReceiptKind, ReceiptLine
from trainer.shopping import Shop, ShoppingPlan, shop_over_mqtt

pytestmark = pytest.mark.system
MONDAY = date(2026, 1, 5)
CATEGORY = "orange juice"
LANES = ("1", "2")


@pytest.fixture
def box(tmp_path: Path, kind: str) -> Iterator[BoxProcess]:
    made = BoxProcess(tmp_path, kind, lanes=LANES, modes={CATEGORY: "live"})
    yield made
    if not made.ended:
        made.kill()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[BoxProcess]:
    """A box of which the broker does not matter."""
    made = BoxProcess(tmp_path, "auto", lanes=LANES)
    yield made
    if not made.ended:
        made.kill()


def items(count: int = 4) -> list[Item]:
    return [Item(f"item-{n}", f"Item {n}", "shelf", 199 + n, 10_000) for n in range(count)]


def sale(day: date = MONDAY, units: int = 1) -> Transaction:
    return Transaction(ReceiptKind.SALE, day, (ReceiptLine("item-1", units * 1000, 200, units * 200),))


@contextlib.asynccontextmanager
async def tills(box: BoxProcess) -> AsyncIterator[list[SpoolingTill]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                SpoolingTill(
                    box.settings(lane),
                    gln=GLN,
                    lane=lane,
                    directory=box.root / f"till-{lane}",
                    currency=CURRENCY,
                    clock=SystemClock(),
                    rng=random.Random(lane),
                    repeat_s=0.5,
                ).running()
            )
            for lane in box.lanes
        ]


async def shopping(box: BoxProcess, weeks: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    await shop_over_mqtt(
        ShoppingPlan(weeks=weeks),
        settings=[box.settings(lane) for lane in box.lanes],
        lanes=list(box.lanes),
        gln=GLN,
        spool=box.root / "spool",
        item_file=box.items,
        report=rows.append,
    )
    return rows


async def test_weeks_of_shopping_are_all_in_the_ledger_and_priced(box: BoxProcess) -> None:
    weeks = 2
    Shop(ShoppingPlan()).write_items(box.items)
    await asyncio.to_thread(box.start)
    rows = await shopping(box, weeks)
    before = box.status()
    answers = {name: box.pomona(name, "--json").stdout for name in ("decisions",)}
    answers["why"] = box.pomona("why", "--json", Shop(ShoppingPlan()).skus[0]).stdout
    assert box.pomona("status").returncode == 0
    assert await asyncio.to_thread(box.stop) == 0

    end = rows[-1]
    records = await box.read()
    found = rung(records)
    assert end["published"] == end["acknowledged"] == len(found) == len(set(found))
    days = [record.day for record in records if isinstance(record, DayRecord)]
    assert days == [MONDAY + timedelta(days=n) for n in range(7 * weeks)]
    begins = [record.business_day for record in records if isinstance(record, DecisionBatch)]
    assert {MONDAY + timedelta(days=7 * n) for n in range(1, weeks + 1)} <= set(begins)
    books = [record for record in records if isinstance(record, BookRecord)]
    shown: dict[str, int | None] = {}
    for book in books:  # each book is what its changes add up to, and says so with its digest
        shown.update(book.changes)
        sold = {sku: price for sku, price in shown.items() if price is not None}
        assert digest_of(sold) == book.digest
    decided = {sku: price for batch in records if isinstance(batch, DecisionBatch) and batch.business_day == begins[-1]
               for sku, price in zip(batch.skus, batch.published.tolist(), strict=True)}  # fmt: skip
    assert decided.items() <= sold.items()

    # The same answers from the stopped box's ledger, and a box that goes on where it stopped.
    for name, answer in answers.items():
        arguments = ("why", Shop(ShoppingPlan()).skus[0]) if name == "why" else (name,)
        again = box.pomona(*arguments, "--json")
        assert (again.returncode, again.stdout) == (0, answer), name
    assert box.pomona("status").returncode == 1
    verified = box.pomona("feed", "verify", "--store", str(box.state), "ledger", config=False)
    assert verified.returncode == 0, verified.stderr
    await asyncio.to_thread(box.start)
    after = box.status()
    for part in ("tills", "days"):
        assert after[part] == before[part], part
    assert {**after["book"], "published": 0} == {**before["book"], "published": 0}
    assert after["ledger"]["length"] == before["ledger"]["length"]
    rows = [
        {key: row[key] for key in ("name", "items", "mode", "decided_for", "source")} for row in after["categories"]
    ]
    assert rows == [{key: row[key] for key in rows[0]} for row in before["categories"]]


async def test_kill_9_twice_while_tills_sell_changes_nothing(box: BoxProcess) -> None:
    box.write_items(items())
    await asyncio.to_thread(box.start)
    rounds, each = 6, 60
    async with tills(box) as open_tills:
        for number in range(rounds):
            day = MONDAY + timedelta(days=number)
            await asyncio.gather(*(till.ring_all([sale(day) for _ in range(each)]) for till in open_tills))
            if number in (1, 3):
                box.kill()
                await asyncio.to_thread(box.start)
            closing = Transaction(ReceiptKind.DAY_END, day)
            await asyncio.gather(*(till.ring(closing) for till in open_tills))
        async with asyncio.timeout(60):
            await asyncio.gather(*(till.drained() for till in open_tills))
        wanted = {(till.lane, till.epoch, n) for till in open_tills for n in range(1, rounds * (each + 1) + 1)}
        last = MONDAY + timedelta(days=rounds - 1)
        await until(lambda: box.status()["days"]["closed_through"] == last.isoformat())
        assert box.status()["health"]["checks"]["ledger"]["state"] == "ok"
    box.stop()
    records = await box.read()
    found = rung(records)
    assert len(found) == len(set(found))
    assert set(found) == wanted
    days = [record.day for record in records if isinstance(record, DayRecord)]
    assert days == sorted(set(days))  # no day is closed twice
    rounds_of = [(b.category, b.business_day, b.skus) for b in records if isinstance(b, DecisionBatch)]
    assert len(rounds_of) == len(set(rounds_of))  # nothing is decided twice


async def test_a_full_disk_stops_neither_box_nor_till_and_heals_by_itself(alone: BoxProcess) -> None:
    box = alone
    box.write_items(items())
    await asyncio.to_thread(box.start)
    _, hard = resource.prlimit(box.pid, resource.RLIMIT_FSIZE)
    async with tills(box) as (one, two):
        await one.ring(sale())
        await one.drained()
        resource.prlimit(box.pid, resource.RLIMIT_FSIZE, (1, hard))  # every write from now on is one too far
        await one.ring_all([sale() for _ in range(20)])
        await two.ring_all([sale() for _ in range(20)])
        await until(lambda: box.status()["health"]["checks"].get("ledger", {}).get("state") == "failed")
        assert (one.acknowledged, two.acknowledged) == (1, 0)
        assert box.pomona("status").returncode == 1
        resource.prlimit(box.pid, resource.RLIMIT_FSIZE, (hard, hard))
        async with asyncio.timeout(60):
            await asyncio.gather(one.drained(), two.drained())
        await until(lambda: box.status()["health"]["checks"]["ledger"]["state"] == "ok")
        assert not box.ended
    assert box.stop() == 0
    assert len(rung(await box.read())) == 41


def test_a_second_box_on_the_same_folder_is_refused(alone: BoxProcess) -> None:
    alone.write_items(items())
    alone.start()
    second = alone.pomona("run")
    assert second.returncode == 1
    assert len([line for line in second.stderr.splitlines() if line.startswith("pomona run: ")]) == 1
    assert "another process" in second.stderr
    assert "Traceback" not in second.stderr
    assert alone.status()["health"]["checks"]["ledger"]["state"] == "ok"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("[pricing]\nstep_probabilty = 0.1\n", "pricing.step_probabilty: unknown key"),
        ("[pricing.guard]\nband = 9.0\n", "guard.band"),
        ("[tills]\nport = true\n", "tills.port: must be an integer"),
        ('[pricing.modes]\nmilk = "on"\n', "mode of 'milk' is 'on'"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_line(tmp_path: Path, line: str, named: str) -> None:
    box = BoxProcess(tmp_path, "embedded")
    box.config.write_text(f'[shop]\ngln = "{GLN}"\nstate_dir = "s"\n{line}')
    result = box.pomona("run")
    assert (result.returncode, result.stdout) == (1, "")
    (text,) = result.stderr.splitlines()
    assert text.startswith("pomona run: ")
    assert named in text


def test_the_broker_does_not_outlive_a_killed_box(box: BoxProcess) -> None:
    box.write_items(items())
    box.start()
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(box.pid)], capture_output=True, text=True
    ).stdout.split()
    assert len(children) == 1
    box.stop(signal.SIGKILL)
    for _ in range(200):
        state = Path(f"/proc/{children[0]}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        asyncio.run(asyncio.sleep(0.02))
    pytest.fail("the broker still runs")
