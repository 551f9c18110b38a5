"""`pomona items check`: counts, or the first thing that is wrong with its line."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support_shop_folder import Said

Pomona = Callable[..., Said]
HEAD = "sku,name,category,reference_price,cost,promotions\n"


def test_a_good_file_is_counted(config: Path, pomona: Pomona) -> None:
    said = pomona("items", "check", config.parent / "items.csv", "--json")
    assert (said.code, said.tree) == (0, {"items": 6, "categories": 3, "promotions": 2})
    assert "6 items in 3 categories, 2 promotions; nothing wrong" in pomona(
        "items", "check", config.parent / "items.csv"
    ).out  # fmt: skip


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sku,name\n", "column category is missing"),
        (HEAD + "a,Apple,fruit,1.999,1,\n", "line 2, column reference_price"),
        (HEAD + "a,Apple,fruit,1.99,1,soon\n", "line 2, column promotions"),
        (HEAD + "a,A,f,1.99,1,\na,B,f,1.99,1,\n", "line 3, column sku: a is on line 2 already"),
    ],
)
def test_a_wrong_one_is_refused_in_one_line(tmp_path: Path, pomona: Pomona, text: str, named: str) -> None:
    path = tmp_path / "items.csv"
    path.write_text(text)
    said = pomona("items", "check", path)
    assert (said.code, said.out) == (1, "")
    (line,) = said.err.splitlines()
    assert line.startswith("pomona items: shop.items: ")
    assert named in line


def test_a_missing_file_and_an_unknown_currency(tmp_path: Path, pomona: Pomona) -> None:
    assert "No such file" in pomona("items", "check", tmp_path / "none.csv").err
    path = tmp_path / "items.csv"
    path.write_text(HEAD)
    said = pomona("items", "check", path, "--currency", "EURO")
    assert said.code == 1
    assert "EURO" in said.err


def test_without_an_action_it_is_wrong_usage(pomona: Pomona) -> None:
    assert pomona("items").code == 2
