"""The screen: what a box says of its networks is on it, and a box without networks has no such table."""

import io
from typing import Any

from rich.console import Console

from edge.demo.show import Scene, network_words, render

NETWORK = {
    "name": "shops",
    "kind": "private",
    "mode": "local_only",
    "members": 3,
    "told": 1409,
    "queued": 40,
    "behind": 0,
    "heard": 2,
    "records": 303,
}


def scene(*networks: dict[str, Any]) -> Scene:
    status = {
        "metrics": {},
        "book": {"number": 7},
        "tills": [{"lane": "1", "through": 99, "missing": []}],
        "health": {"state": "ok"},
        "categories": [],
        "networks": list(networks),
    }
    return Scene("title", "USD", event="shop 2 is cut off", status={"2": status})


def drawn(shown: Scene) -> str:
    text = io.StringIO()
    Console(width=140, file=text).print(render(shown))
    return text.getvalue()


def test_a_network_is_a_row_with_its_mode_and_counts() -> None:
    text = drawn(scene(NETWORK))
    row = next(line for line in text.splitlines() if "local-only" in line)
    assert row.replace("│", " ").split() == ["2", "shops", "local-only", "1,409", "40", "303", "2", "of", "2"]
    assert "shop 2 is cut off" in text


def test_a_box_in_no_network_has_no_such_table() -> None:
    assert "records known" not in drawn(scene())


def test_in_a_line_it_says_the_same() -> None:
    words = network_words(NETWORK)
    assert words == "local-only; told 1,409 blocks, 40 of them waiting; knows 303 records of 2 of 2 other shops"
