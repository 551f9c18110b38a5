"""Paths as stock peers resolve them (all cases: test_vectors.py), and what of a peer's names may reach a disk."""

import os.path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_fuzz_hyperdrive import fuzz_drive_path

from edge.errors import LocalError, RemoteError
from edge.hyperdrive.paths import (
    FILES,
    PARTIAL_PREFIX,
    Names,
    check_key,
    check_link,
    decode_key,
    encode_key,
    file_key,
    folder_key,
    folder_range,
    ignoring,
    resolve,
)
from edge.limits import DRIVE_FILES_MAX, PATH_BYTES_MAX

PARTS = st.text(st.sampled_from("ab./\\:é\0"), max_size=12)


@given(PARTS)
def test_a_resolved_path_is_itself_resolved(path: str) -> None:
    try:
        key = resolve("/", path)
    except LocalError:
        return
    assert resolve("/", key) == key
    assert key == os.path.normpath(key.replace("//", "/"))
    if key != "/" and "\0" not in key:
        assert check_key(key) == key
        assert decode_key(encode_key(key)) == key


@pytest.mark.parametrize("path", ["/", "", ".", "a/..", "..", "/a/../..", "\ud800", "x" * PATH_BYTES_MAX])
def test_what_is_no_file(path: str) -> None:
    with pytest.raises(LocalError):
        file_key(path)


def test_keys_of_a_folder_lie_in_its_range() -> None:
    assert folder_key("/") == ""
    for folder in ("/", "/a", "a/b/"):
        lower, upper = folder_range(folder_key(folder))
        inside = [f"{folder_key(folder)}/{name}" for name in ("a", "0", "~", "é", "b/c", "\x01")]
        assert all(lower < encode_key(key) < upper for key in inside)
    lower, upper = folder_range("/a")
    assert not any(lower < encode_key(key) < upper for key in ("/a", "/a-b", "/a0", "/b", "/A/x", "/aa/x"))


@pytest.mark.parametrize("data", [b"", b"files", b"filez\0/a", FILES + b"/\xff", FILES + b"/" + b"x" * PATH_BYTES_MAX])
def test_keys_that_are_no_paths(data: bytes) -> None:
    with pytest.raises(RemoteError):
        decode_key(data)


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "a", "//a", "/a/", "/a//b", "/./a", "/..", "/a/../b", "/a/..", "../a", "/a\0b", "/a\\b"),
        *("/" + "x" * 256, "/\ud800", f"/{PARTIAL_PREFIX}x", f"/{PARTIAL_PREFIX}x/y"),
    ],
)
def test_names_that_do_not_reach_a_disk(key: str) -> None:
    with pytest.raises(RemoteError):
        check_key(key)


@pytest.mark.parametrize("key", ["/a", "/...", "/a/..b", "/-", "/a b/ü/😀", "/" + "x" * 255, "/.pomona"])
def test_names_that_may(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("/a", "/etc/passwd"),
        ("/a", "/"),
        ("/a", ".."),
        ("/a", "../b"),
        ("/f/a", "../../b"),
        ("/f/a", "x/../../../b"),
        ("/f/a", "x/.."),
        ("/f/a", "./../x"),
        ("/f/a", "../x/.."),
        ("/a", ""),
        ("/a", "b\0"),
        ("/a", "\udcff"),
        ("/a", "x/" * PATH_BYTES_MAX),
    ],
)
def test_links_that_lead_out(key: str, target: str) -> None:
    with pytest.raises(RemoteError):
        check_link(key, target)


@pytest.mark.parametrize(
    ("key", "target"),
    [("/a", "b"), ("/a", "./b"), ("/f/a", "../b"), ("/f/a", ".."), ("/f/g/a", "../../b/c"), ("/a", "..b")],
)
def test_links_that_stay(key: str, target: str) -> None:
    assert check_link(key, target) == target


@pytest.mark.parametrize("keys", [["/a", "/a/b"], ["/a/b", "/a"], ["/a/b/c/d", "/a/b"], ["/a/b", "/a/b/c/d"]])
def test_a_file_is_no_folder(keys: list[str]) -> None:
    names = Names()
    names.add(keys[0])
    with pytest.raises(RemoteError, match="a file and a folder"):
        names.add(keys[1])


def test_too_many_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert DRIVE_FILES_MAX > 3
    monkeypatch.setattr("edge.hyperdrive.paths.DRIVE_FILES_MAX", 3)
    names = Names()
    for key in ("/a/b", "/a/c", "/ab"):
        names.add(key)
    with pytest.raises(RemoteError, match="more than 3 files"):
        names.add("/d")


def test_ignoring() -> None:
    ignored = ignoring(["a", "/b/c/"])
    assert [key for key in ("/a", "/a/x", "/ab", "/b", "/b/c", "/b/c/d", "/b/cd") if ignored(key)] == [
        "/a",
        "/a/x",
        "/b/c",
        "/b/c/d",
    ]
    assert ignoring(lambda key: key == "/q")("/q")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_path_or_an_error(data: bytes) -> None:
    fuzz_drive_path(data)
