"""The item file on disk: read when it changed, refused by line, back when it is back."""

import os
from pathlib import Path

import pytest

from edge.box.itemfile import ItemFile
from edge.errors import ConfigError

GOOD = "sku,name,category,reference_price,cost\na,Apple,fruit,1.99,1.0\n"


def test_it_is_read_once_and_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text(GOOD)
    file = ItemFile(path, "EUR")
    first = file.changed()
    assert first is not None
    assert [item.sku for item in first] == ["a"]
    assert file.changed() is None
    path.write_text(GOOD + "b,Bread,bakery,2.49,1.0\n")
    second = file.changed()
    assert second is not None
    assert [item.sku for item in second] == ["a", "b"]


def test_no_file_is_configured() -> None:
    assert ItemFile(None, "EUR").changed() is None


def test_a_refused_file_is_named_once_with_its_line_and_heard_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text(GOOD + "b,Bread,bakery,2.499,1.0\n")
    file = ItemFile(path, "EUR")
    with pytest.raises(ConfigError, match=r"shop\.items: .*items\.csv: line 3, column reference_price"):
        file.changed()
    assert file.changed() is None
    path.write_text(GOOD)
    assert file.changed() is not None


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"shop\.items"):
        ItemFile(path, "EUR").changed()


def test_a_file_that_was_away_counts_as_changed_when_it_is_back(tmp_path: Path) -> None:
    path, aside = tmp_path / "items.csv", tmp_path / "aside"
    path.write_text(GOOD)
    file = ItemFile(path, "EUR")
    assert file.changed() is not None
    path.rename(aside)
    for _ in range(2):
        with pytest.raises(ConfigError, match="No such file"):
            file.changed()
    aside.rename(path)
    assert file.changed() is not None


def test_a_file_of_the_same_size_and_time_but_another_inode_is_read(tmp_path: Path) -> None:
    path, other = tmp_path / "items.csv", tmp_path / "other"
    path.write_text(GOOD)
    file = ItemFile(path, "EUR")
    assert file.changed() is not None
    other.write_text(GOOD.replace("1.99", "2.99"))
    found = path.stat()
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.replace(path)
    assert file.changed() is not None
