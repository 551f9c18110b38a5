"""`pomona export`: the ledger's records as tables, the same of a running box and of a stopped one."""

import asyncio
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet as pq
from support_shop_folder import Said

from edge.app import Box
from edge.box.ledger import Ledger
from edge.box.views import CODEC
from edge.config import load
from edge.records.decision import DecisionBatch
from edge.records.ledger import BookRecord, ReceiptRecord

Pomona = Callable[..., Said]


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def records(config: Path) -> list[Any]:
    async def read() -> list[Any]:
        ledger = await Ledger.open(load(config).state, create=False)
        try:
            return [CODEC.decode(block) for block in ledger.core.blocks()]
        finally:
            await ledger.core.close()

    return asyncio.run(read())


def test_every_line_of_every_receipt_is_a_row(config: Path, pomona: Pomona) -> None:
    rows = table(pomona("export", "sales", "--config", config).out)
    receipts = [record.receipt for record in records(config) if isinstance(record, ReceiptRecord)]
    lines = [(r.lane, r.position.sequence, line) for r in receipts for line in r.lines]
    assert len(lines) > 30
    assert [(row["lane"], row["sequence"], row["sku"], row["quantity_milli"], row["amount_minor"]) for row in rows] == [
        (lane, str(sequence), line.sku, str(line.quantity_milli), str(line.amount_minor))
        for lane, sequence, line in lines
    ]


def test_prices_and_decisions_are_those_of_the_ledger(config: Path, pomona: Pomona) -> None:
    found = records(config)
    prices = table(pomona("export", "prices", "--config", config).out)
    wanted = [change for record in found if isinstance(record, BookRecord) for change in record.changes]
    assert [(row["sku"], row["price_minor"]) for row in prices] == [
        (sku, "" if price is None else str(price)) for sku, price in wanted
    ]
    decisions = table(pomona("export", "decisions", "--config", config).out)
    rows = [decision for record in found if isinstance(record, DecisionBatch) for decision in record]
    assert [(row["sku"], int(row["published_minor"]), float(row["cost"])) for row in decisions] == [
        (row.sku, row.published_minor, row.cost) for row in rows
    ]


async def test_a_running_box_gives_the_same_rows(config: Path, pomona: Pomona) -> None:
    stopped = await asyncio.to_thread(pomona, "export", "sales", "--config", config)
    box = Box(load(config))
    task = asyncio.create_task(box.run())
    while not (config.parent / "s" / "control.sock").exists():
        await asyncio.sleep(0.01)
    running = await asyncio.to_thread(pomona, "export", "sales", "--config", config)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (running.code, running.out) == (0, stopped.out)


def test_a_parquet_file_holds_the_same_and_says_that_it_is_exact(config: Path, pomona: Pomona, tmp_path: Path) -> None:
    out = tmp_path / "decisions.parquet"
    said = pomona("export", "decisions", "--config", config, "--format", "parquet", "--out", out)
    rows = table(pomona("export", "decisions", "--config", config).out)
    read = pq.read_table(out)
    assert (said.code, said.out) == (0, "")
    assert said.err == f"{len(rows):,} rows in {out}\n"
    assert json.loads(read.schema.metadata[b"pomona.protection"])["unit"] == "none"
    assert [str(cell) for cell in read["published_minor"].to_pylist()] == [row["published_minor"] for row in rows]
    assert {field.name: str(field.type) for field in read.schema}["asked"] == "double"


def test_a_csv_file_has_its_note_beside_it(config: Path, pomona: Pomona, tmp_path: Path) -> None:
    out = tmp_path / "sales.csv"
    assert pomona("export", "sales", "--config", config, "--out", out).code == 0
    note = json.loads((tmp_path / "sales.csv.meta.json").read_text())
    assert note["rows"] == len(table(out.read_text())) > 0
    assert note["pomona.protection"]["epsilon"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("sales", "--format", "parquet"), "pomona export: --out: a Parquet file needs a name\n"),
        (("sales", "--out", "/no/such/folder/x.csv"), "pomona export: --out: /no/such/folder/x.csv cannot be written"),
        (
            ("sales", "--format", "parquet", "--out", "/no/such/folder/x"),
            "pomona export: --out: /no/such/folder/x cannot be written",
        ),
    ],
)
def test_refusals_are_one_line(config: Path, pomona: Pomona, arguments: tuple[str, ...], line: str) -> None:
    said = pomona("export", *arguments, "--config", config)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(line)
    assert len(said.err.splitlines()) == 1
