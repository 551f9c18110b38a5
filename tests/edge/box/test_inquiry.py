"""What a ledger can be asked: labels of the newest book, items, decisions; hostile arguments."""

import base64
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from support_desk import CURRENCY, MONDAY, Desk, shelf

from edge.box import inquiry
from edge.box.inquiry import Shelves
from edge.box.ledger import Ledger
from edge.errors import RecordInvalid
from edge.records.decision import decode_decisions


class ReadableLog:
    """The part of a ledger that is asked."""

    def __init__(self, desk: Desk) -> None:
        self.get = desk.log.__getitem__


def shelves(desk: Desk) -> Shelves:
    log: Ledger = ReadableLog(desk)  # type: ignore[assignment]  # the log of a desk is a list
    return Shelves(desk.views, log, CURRENCY)


async def test_the_print_list_is_what_the_newest_book_changes(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    assert shelves(desk).labels() == {"book": 0, "valid_from": None, "labels": []}
    await desk.live(6)
    before = desk.views.shelf.price_map()
    await desk.close(MONDAY + timedelta(days=6))
    after = desk.views.shelf.price_map()
    found = shelves(desk).labels()
    assert found["valid_from"] == "2026-01-12"
    rows = found["labels"]
    assert isinstance(rows, list)
    changed = {sku: (before[sku], after[sku]) for sku in after if after[sku] != before[sku]}
    assert {"milk-1", "bread-1"} <= changed.keys()  # their promotion begins
    assert {row["sku"]: (row["old_minor"], row["new_minor"]) for row in rows} == changed
    assert [row["category"] for row in rows] == sorted(row["category"] for row in rows)


async def test_decisions_are_handed_out_as_they_were_recorded(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await desk.live(7)
    answer = shelves(desk).decisions(None, None)
    blocks = answer["blocks"]
    assert isinstance(blocks, list)
    assert [decode_decisions(base64.b64decode(block)).category for block in blocks] == ["juice", "milk"]
    of_item = shelves(desk).decisions(None, "milk-1")
    assert of_item["blocks"] == blocks[1:]
    assert of_item["names"] == {item.sku: item.name for item in shelf() if item.category == "milk"}


@pytest.mark.parametrize(
    "request_",
    [
        {"command": "decisions", "category": 3},
        {"command": "decisions", "sku": ["a"]},
        {"command": "decisions", "sku": "../../etc"},
        {"command": "items", "category": {}},
    ],
)
async def test_arguments_of_any_shape_are_refused(tmp_path: Path, request_: Mapping[str, object]) -> None:
    desk = Desk(tmp_path)
    await desk.cycle.prepare()
    handler = shelves(desk).handlers()[str(request_["command"])]
    with pytest.raises(RecordInvalid):
        handler(request_)


async def test_the_ledger_is_handed_out_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path)
    await desk.live(7)
    log: Ledger = ReadableLog(desk)  # type: ignore[assignment]
    log.length = len(desk.log)  # type: ignore[misc]
    monkeypatch.setattr(inquiry, "PAGE_RECORDS_MAX", 7)
    asked = Shelves(desk.views, log, CURRENCY)
    found: list[bytes] = []
    while len(found) < len(desk.log):
        page = asked.blocks(len(found))
        assert page["length"] == len(desk.log)
        assert isinstance(page["blocks"], list)
        assert 0 < len(page["blocks"]) <= 7
        found += [base64.b64decode(block) for block in page["blocks"]]
    assert found == desk.log
    assert asked.blocks(len(desk.log))["blocks"] == []
    for start in (-1, len(desk.log) + 1, "0", None, True):
        with pytest.raises(RecordInvalid, match="start"):
            asked.blocks(start)
