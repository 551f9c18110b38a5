"""`pomona peers`, `pomona budget` and `pomona export insights`: of a box in networks, and of one in none."""

import asyncio
import csv
import io
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support_network_boxes import until
from support_sharing import MONDAY, Shop, found_network
from support_shop_folder import Said, running

from edge.app import Box
from edge.box.sharing import INSIGHT_COLUMNS
from edge.cli.networks import render_budget, render_peers
from edge.config import load
from edge.errors import ConfigError
from edge.networks.settings import NetworkSettings

Pomona = Callable[..., Said]


async def test_of_a_box_in_a_network(config: Path, pomona: Pomona, tmp_path: Path) -> None:
    """The box of the folder, and a shop beside it that has sold a quarter."""
    beside = Shop(tmp_path / "beside" / "s", seed=1, day=MONDAY - timedelta(weeks=12))  # to the box's own last week
    await beside.start(run=False)
    await beside.sell(14 * 7)
    await beside.stop()
    member = Shop(config.parent / "s")
    await found_network(tmp_path, [member, beside])
    beside.settings = {"chain": NetworkSettings(listen="127.0.0.1:0")}
    await beside.start()
    await until(lambda: bool(beside.tree["listening"]))
    config.write_text(config.read_text() + f'[networks.chain]\npeers = ["{beside.address}"]\n')
    async with running(config) as box:
        await until(lambda: box.sharing.peers()["networks"][0]["heard"] == 1)
        await until(lambda: box.sharing.insights()["rows"] != [])
        await until(lambda: box.sharing.peers()["mode"] == "connected")

        said = await asyncio.to_thread(pomona, "peers", "--config", config)
        assert said.code == 0
        lines = said.out.splitlines()
        assert lines[0] == "chain (private): connected; 2 members of 1 owner, key epoch 1"
        assert lines[3].endswith("records of 1 shops; refused: none")
        assert [line.split()[:2] for line in lines if beside.address in line] == [
            [beside.sharing.shares[0].node.member.hex()[:8], "acme"]  # type: ignore[union-attr]
        ]
        tree = (await asyncio.to_thread(pomona, "peers", "--config", config, "--json")).tree
        assert (tree["mode"], tree["networks"][0]["name"]) == ("connected", "chain")

        said = await asyncio.to_thread(pomona, "budget", "--config", config)
        assert (said.code, said.out.splitlines()[1]) == (0, "  nothing")

        said = await asyncio.to_thread(pomona, "export", "insights", "--config", config)
        rows = list(csv.DictReader(io.StringIO(said.out)))
        assert said.code == 0
        assert {(row["network"], row["kind"], row["unit"]) for row in rows} >= {("chain", "insights", "none")}
        assert {row["category"] for row in rows} == {"juice", "milk"}

        said = await asyncio.to_thread(pomona, "status", "--config", config)
        assert "network    chain (private): connected" in said.out
    await beside.stop()


async def test_of_a_box_in_none(config: Path, pomona: Pomona) -> None:
    async with running(config):
        said = await asyncio.to_thread(pomona, "peers", "--config", config)
        assert said.code == 0
        assert said.out == "local-only: this box is in no network (see `pomona roster accept`)\n"
        said = await asyncio.to_thread(pomona, "budget", "--config", config)
        assert said.out.splitlines() == [
            "what left this shop, beyond its own company:",
            "  nothing",
            "",
            "no week's budget has been touched",
        ]
        assert (await asyncio.to_thread(pomona, "budget", "--config", config, "--json")).tree["accounts"] == []
        said = await asyncio.to_thread(pomona, "export", "insights", "--config", config)
        assert said.out.splitlines() == [",".join(name for name, _ in INSIGHT_COLUMNS)]


@pytest.mark.parametrize("weeks", ["0", "261", "-1"])
async def test_weeks_are_a_number_of_weeks(config: Path, pomona: Pomona, weeks: str) -> None:
    async with running(config):
        said = await asyncio.to_thread(pomona, "budget", "--config", config, "--weeks", weeks)
        assert said.code == 1
        assert "must be a whole number in 1..260" in said.err


async def test_a_section_of_no_network_is_named(config: Path) -> None:
    config.write_text(config.read_text() + "[networks.other]\n")
    with pytest.raises(ConfigError, match=r"networks\.other: this box was not accepted into it .*; known: none"):
        await Box(load(config)).run()


@pytest.mark.parametrize("command", ["peers", "budget"])
def test_without_a_box_it_is_one_line(config: Path, pomona: Pomona, command: str) -> None:
    said = pomona(command, "--config", config)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"pomona {command}: no box can be asked on ")


def test_nobody_connected_is_said_in_words() -> None:
    network: dict[str, Any] = {
        "name": "chain", "kind": "consortium", "mode": "local_only", "members": 3, "owners": 2, "epoch": 4,
        "queued": 1234, "behind": 0, "records": 0, "heard": 0, "refused": {"range": 2}, "sums": [], "peers": [],
    }  # fmt: skip
    assert render_peers({"mode": "local_only", "networks": [network]}).splitlines() == [
        "chain (consortium): local-only; 3 members of 2 owners, key epoch 4",
        "  to send    1,234 blocks that no peer has fetched",
        "  to fetch   0 blocks that members have shown",
        "  accepted   0 records of 0 shops; refused: range 2",
        "  nobody is connected: prices go on, what is shared waits here",
    ]


def test_an_account_that_is_nearly_spent_stands_out() -> None:
    row = {
        "unit": "receipt", "week": 2900, "week_of": "2025-07-28", "epsilon": 1.0, "epsilon_cap": 2.0, "rho": 0.0,
        "rho_cap": 0.5, "year_epsilon": 10.0, "year_epsilon_cap": 60.0, "year_rho": 0.0, "year_rho_cap": 13.25,
    }  # fmt: skip
    answer = {"left": ["price ranges"], "accounts": [{**row, "share": 0.5}, {**row, "share": 0.8}], "floor": 2901}
    lines = render_budget(answer).splitlines()
    assert lines[1] == "  price ranges"
    assert ["nearly spent" in line for line in lines[-2:]] == [False, True]
    assert lines[-1].split()[:5] == ["2025-07-28", "receipt", "1", "2", "0"]
