"""Decisions as rows: what other shops had to do with them is three columns, empty where nobody was heard."""

from dataclasses import replace
from pathlib import Path

from support_desk import Desk

from edge.box.tables import TABLES, rows
from edge.records.decision import PeersHeard, encode_decisions


async def test_what_peers_had_to_do_with_a_decision_is_in_its_row(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await desk.live(8)
    (batch, *_) = desk.batches("juice")
    heard = replace(batch, peers=PeersHeard(shops=4, week=2920, coefficients=7))
    table = TABLES["decisions"]
    names = [name for name, _ in table.columns]
    found = list(rows(table, enumerate([encode_decisions(batch), encode_decisions(heard)])))
    assert all(len(row) == len(names) for row in found)
    tails = [tuple(row[names.index(f"peers_{name}")] for name in ("shops", "week", "coefficients")) for row in found]
    assert tails == [(None, None, None)] * len(batch.skus) + [(4, 2920, 7)] * len(batch.skus)
