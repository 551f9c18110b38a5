"""`pomona status`: of a running box in words, as JSON and as metrics; one line where none runs."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from support_shop_folder import Said

from edge.app import Box
from edge.health.checks import HealthState

Pomona = Callable[..., Said]


async def test_a_running_box_tells_everything(box: Box, config: Path, pomona: Pomona) -> None:
    said = await asyncio.to_thread(pomona, "status", "--config", config, "--json")
    assert said.code == 0
    tree = said.tree
    assert tree["shop"]["gln"] == "2900000000018"
    assert tree["days"] == {"newest": "2026-01-19", "closed_through": "2026-01-19", "waiting_for": {}}
    assert tree["ledger"]["length"] == tree["ledger"]["signed"] == box.ledger.length
    assert [(row["name"], row["mode"], row["items"]) for row in tree["categories"]] == [
        ("bread", "off", 1),
        ("juice", "live", 3),
        ("milk", "shadow", 2),
    ]
    assert [row["source"] for row in tree["categories"]] == [None, "optimiser", "optimiser"]
    assert tree["tills"] == [
        {"lane": "1", "epoch": 1, "through": 30, "highest": 30, "missing": [], "tail_unknown": False}
    ]
    assert tree["policy"] is None
    assert tree["broker_connected"] is False
    assert "pomona_storage_bytes" in said.out


async def test_in_words_and_as_metrics(box: Box, config: Path, pomona: Pomona) -> None:
    said = await asyncio.to_thread(pomona, "status", "--config", config)
    assert said.code == 0
    assert said.out.startswith("shop 2900000000018: ok, up 0 min")
    for word in ("NOT connected", "closed through 2026-01-19", "6 items from", "juice", "live", "optimiser"):
        assert word in said.out
    metrics = await asyncio.to_thread(pomona, "status", "--metrics", "--config", config)
    assert metrics.code == 0
    assert "# TYPE pomona_health_state gauge" in metrics.out


async def test_a_failed_box_is_exit_code_1_and_says_why(box: Box, config: Path, pomona: Pomona) -> None:
    box.health.report("ledger", HealthState.FAILED, "no space left")
    said = await asyncio.to_thread(pomona, "status", "--config", config)
    assert said.code == 1
    assert "FAILED     ledger: no space left" in said.out


@pytest.mark.parametrize("flags", [(), ("--json",), ("--metrics",)])
def test_without_a_box_it_is_one_line(config: Path, pomona: Pomona, flags: tuple[str, ...]) -> None:
    said = pomona("status", "--config", config, *flags)
    assert (said.code, said.out) == (1, "")
    (line,) = said.err.splitlines()
    assert line.startswith("pomona status: no box can be asked on ")


def test_json_and_metrics_exclude_each_other(config: Path, pomona: Pomona) -> None:
    assert pomona("status", "--config", config, "--json", "--metrics").code == 2
