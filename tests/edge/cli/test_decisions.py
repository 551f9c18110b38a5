"""`pomona why`, `decisions`, `labels`: the same of a running box and of a stopped one; refusals in one line."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from support_shop_folder import Said

from edge.app import Box
from edge.config import load

Pomona = Callable[..., Said]
QUESTIONS = [
    ("why", "juice-2"),
    ("why", "juice-2", "--json"),
    ("decisions",),
    ("decisions", "--json"),
    ("decisions", "--category", "milk"),
    ("labels",),
    ("labels", "--csv"),
    ("labels", "--json"),
    ("items", "list"),
    ("items", "list", "--category", "juice", "--json"),
]


async def ask_all(pomona: Pomona, config: Path) -> list[Said]:
    return [await asyncio.to_thread(pomona, *question, "--config", config) for question in QUESTIONS]


async def test_a_stopped_box_answers_as_the_running_one(config: Path, pomona: Pomona) -> None:
    stopped = await ask_all(pomona, config)
    assert [said.code for said in stopped] == [0] * len(QUESTIONS)
    assert [said.err for said in stopped] == [""] * len(QUESTIONS)
    box = Box(load(config))
    task = asyncio.create_task(box.run())
    while not (config.parent / "s" / "control.sock").exists():
        await asyncio.sleep(0.01)
    running = await ask_all(pomona, config)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert running == stopped
    assert await ask_all(pomona, config) == stopped  # now from the snapshot that the box left


def test_why_tells_who_asked_and_what_was_published(config: Path, pomona: Pomona) -> None:
    words = pomona("why", "juice-2", "--config", config).out
    assert "Juice 2" in words
    (decision,) = pomona("why", "juice-2", "--json", "--config", config).tree
    assert decision["sku"] == "juice-2"
    shown = {row["sku"]: row["price_minor"] for row in pomona("items", "list", "--json", "--config", config).tree}
    table = pomona("decisions", "--json", "--config", config).tree
    assert {row["category"] for row in table} == {"juice", "milk"}
    published = {row["sku"]: row["published_minor"] for row in table if row["mode"] == "live"}
    assert published.items() <= shown.items()


@pytest.mark.parametrize(
    ("question", "line"),
    [
        (("why", "nothing"), "pomona why: no item 'nothing' in the item file"),
        (("why", "bread-1"), "pomona why: no decision yet: category 'bread' is off, and no week of it has begun"),
        (("decisions", "--category", "x"), "pomona decisions: no category 'x'; there are: bread, juice, milk"),
        (("items", "list", "--category", "x"), "pomona items: no category 'x'; there are: bread, juice, milk"),
    ],
)
async def test_refusals_are_one_line_running_or_not(
    config: Path, pomona: Pomona, question: tuple[str, ...], line: str
) -> None:
    said = await asyncio.to_thread(pomona, *question, "--config", config)
    assert (said.code, said.out, said.err) == (1, "", line + "\n")


async def test_a_running_box_refuses_in_the_same_words(box: Box, config: Path, pomona: Pomona) -> None:
    said = await asyncio.to_thread(pomona, "why", "nothing", "--config", config)
    assert (said.code, said.err) == (1, "pomona why: no item 'nothing' in the item file\n")


def test_a_folder_where_no_box_ever_ran(config: Path, pomona: Pomona, tmp_path: Path) -> None:
    empty = tmp_path / "empty.toml"
    empty.write_text(config.read_text().replace('"s"', '"none"'))
    said = pomona("decisions", "--config", empty)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("pomona decisions: shop.state_dir: no box has ever run on ")
    assert len(said.err.splitlines()) == 1


def test_wrong_usage_is_exit_code_2(pomona: Pomona) -> None:
    assert pomona("why").code == 2
    assert pomona("labels", "--no-such-flag").code == 2
