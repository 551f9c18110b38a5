"""Replacing a file: whole or not at all, with its mode from the first byte."""

import stat
from pathlib import Path

import pytest

from edge.atomic import TEMPORARY_SUFFIX, replace_file, write_beside


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")
    replace_file(path, b"new", 0o640)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_what_a_crash_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.with_name("file" + TEMPORARY_SUFFIX).write_bytes(b"half")
    replace_file(path, b"whole")
    assert path.read_bytes() == b"whole"


def test_until_the_rename_the_old_content_stands(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")
    temporary = write_beside(path, b"new")
    assert path.read_bytes() == b"old"
    assert temporary.read_bytes() == b"new"


def test_a_link_in_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_bytes(b"precious")
    path = tmp_path / "file"
    path.with_name("file" + TEMPORARY_SUFFIX).symlink_to(target)
    replace_file(path, b"data")
    assert target.read_bytes() == b"precious"


def test_a_folder_that_is_not_there_is_the_callers_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "absent" / "file", b"data")
