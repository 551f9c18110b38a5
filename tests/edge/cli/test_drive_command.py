"""`pomona drive`: in this process, and in real ones where pipes, signals and peers matter."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support_processes import command, here, key_of, pomona, refused, said, serving

from edge.__main__ import main
from edge.cli.drive_mirror import _Meter
from edge.cli.progress import Progress
from edge.hypercore.store import FeedStore
from edge.hyperdrive.paths import PARTIAL_PREFIX

SECRET = "0123456789abcdef" * 4
LARGE = random.Random(7).randbytes(3_000_000)


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def make_files(root: Path) -> Path:
    (root / "docs" / "deep").mkdir(parents=True)
    (root / "docs" / "a.txt").write_text("hello\n")
    (root / "docs" / "deep" / "empty").touch()
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "large").write_bytes(LARGE)
    (root / "docs" / "link").symlink_to("../large")
    return root


def tree(root: Path) -> dict[str, tuple[bytes, bool]]:
    found = {}
    for path in root.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(root))] = os.fsencode(path.readlink()), False
        elif path.is_file():
            found[str(path.relative_to(root))] = path.read_bytes(), bool(path.stat().st_mode & 0o100)
    return found


def test_pipes(tmp_path: Path) -> None:
    store = ("--store", tmp_path / "s", "d")
    put = pomona("drive", "put", *store, "/large", given=LARGE)
    assert (put.returncode, put.stdout, put.stderr) == (0, b"2\n", b"")
    got = pomona("drive", "get", *store, "large", "-")
    assert (got.returncode, got.stdout == LARGE, got.stderr) == (0, True, b"")
    absent = pomona("drive", "get", *store, "/other")
    assert (absent.returncode, absent.stdout) == (1, b"")
    assert absent.stderr == b"pomona drive: /other: no such file in the drive\n"
    assert pomona("drive", "mirror", *store).returncode == 2


def test_put_get_ls_rm_and_every_version(tmp_path: Path) -> None:
    store, files = ("--store", tmp_path / "s", "d"), make_files(tmp_path / "files")
    assert said("drive", "put", *store, "/docs/a.txt", files / "docs" / "a.txt") == "2\n"
    assert lines(said("drive", "put", *store, "run.sh", "--json", files / "run.sh")) == [
        {"path": "/run.sh", "bytes": 10, "version": 3}
    ]
    assert said("drive", "put", *store, "/docs/new", "--executable", given=b"x") == "4\n"
    assert said("drive", "ls", *store) == "/docs/\n/run.sh\n"
    assert said("drive", "ls", *store, "docs") == "/docs/a.txt\n/docs/new\n"
    assert said("drive", "ls", *store, "/docs/new") == "/docs/new\n"
    assert said("drive", "ls", *store, "--recursive", "--long", "--at", "3") == (
        "             6   /docs/a.txt\n            10 x /run.sh\n"
    )
    folder, file = lines(said("drive", "ls", *store, "--json"))
    assert folder == {"path": "/docs", "type": "folder"}
    assert {name: file[name] for name in ("path", "type", "size", "executable", "seq")} == {
        "path": "/run.sh",
        "type": "file",
        "size": 10,
        "executable": True,
        "seq": 2,
    }
    assert said("drive", "rm", *store, "/docs/a.txt") == "5\n"
    assert "no such file" in refused("drive", "rm", *store, "/docs/a.txt")
    assert "no such file" in refused("drive", "get", *store, "/docs/a.txt")
    assert said("drive", "get", *store, "/docs/a.txt", "--at", "4") == "hello\n"
    assert said("drive", "diff", *store, "3") == "- /docs/a.txt\n+ /docs/new\n"
    assert lines(said("drive", "diff", *store, "3", "4", "--json")) == [{"path": "/docs/new", "change": "added"}]
    said("drive", "put", *store, "/docs/new", given=b"y")
    assert said("drive", "diff", *store, "5") == "~ /docs/new\n"


def test_get_writes_a_file_that_appears_whole(tmp_path: Path) -> None:
    store, target = ("--store", tmp_path / "s", "d"), tmp_path / "out"
    said("drive", "put", *store, "/large", "--executable", given=LARGE)
    target.write_text("before")
    assert said("drive", "get", *store, "/large", target) == ""
    assert target.read_bytes() == LARGE
    assert target.stat().st_mode & 0o100
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "read").open("wb") as read, subprocess.Popen(["cat", tmp_path / "pipe"], stdout=read) as reader:
        said("drive", "get", *store, "/large", tmp_path / "pipe")  # not replaced by a file
        assert reader.wait(timeout=30) == 0
    assert (tmp_path / "read").read_bytes() == LARGE
    assert (tmp_path / "pipe").is_fifo()
    assert "is a folder" in refused("drive", "get", *store, "/large", tmp_path)
    assert "no such folder" in refused("drive", "get", *store, "/large", tmp_path / "absent" / "out")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(PARTIAL_PREFIX)] == []


def test_a_folder_goes_in_and_comes_out_the_same(tmp_path: Path) -> None:
    store, files, out = ("--store", tmp_path / "s", "d"), make_files(tmp_path / "files"), tmp_path / "new" / "out"
    there = ("drive", "mirror", *store, "--from", files)
    size = sum(len(content) for content, _ in tree(files).values()) - len(b"../large")
    assert said(*there, "--dry-run").splitlines()[0] == "add    /docs/a.txt"
    assert said("drive", "ls", *store) == ""
    assert said(*there) == f"added 5, changed 0, removed 0, {size / 1e6:.1f} MB\n"
    assert said(*there) == "added 0, changed 0, removed 0, 0.0 MB\n"
    back = ("drive", "mirror", *store, "--to", out)
    assert said(*back, "--dry-run").count("add ") == 5
    assert not out.exists()
    *changes, summary = lines(said(*back, "--json"))
    assert {change["operation"] for change in changes} == {"add"}
    assert summary == {
        "files": 5,
        "added": 5,
        "changed": 0,
        "removed": 0,
        "bytes_added": size,
        "bytes_removed": 0,
        "version": 6,
        "dry_run": False,
    }
    assert tree(out) == tree(files)
    assert said("drive", "get", *store, "/docs/link", tmp_path / "linked") == ""
    assert (tmp_path / "linked").read_bytes() == LARGE
    (files / "docs" / "a.txt").write_text("changed\n")
    (files / "run.sh").unlink()
    assert said(*there, "docs").startswith("added 0, changed 1, removed 0, ")
    assert said(*there, "--prune", "--at-once").startswith("added 0, changed 0, removed 1, ")
    (out / "own").write_text("kept without --prune")
    assert said(*back).startswith("added 0, changed 1, removed 0, ")
    assert said(*back, "--prune", "--dry-run").startswith("remove /own\nremove /run.sh\n")
    assert said(*back, "--prune").startswith("added 0, changed 0, removed 2, ")
    assert tree(out) == tree(files)
    assert said(*back, "--at", "6", "--prune").startswith("added 1, changed 1, removed 0, ")
    assert (out / "docs" / "a.txt").read_text() == "hello\n"


def test_names_stay_within_a_line(tmp_path: Path) -> None:
    store = ("--store", tmp_path, "d")
    said("drive", "put", *store, "/a\n\x1b[31mb", given=b"x")
    assert said("drive", "ls", *store) == "/a\\n\\x1b[31mb\n"
    assert lines(said("drive", "ls", *store, "--json"))[0]["path"] == "/a\n\x1b[31mb"


def test_somebody_elses_drive(tmp_path: Path) -> None:
    files, copy, out = make_files(tmp_path / "files"), tmp_path / "copy", tmp_path / "out"
    said("drive", "mirror", "--store", tmp_path / "s", "d", "--from", files)
    there = ("--store", copy, key_of(tmp_path / "s", "d"))
    with serving(tmp_path / "s") as address:
        assert said("drive", "ls", *there, "--connect", address) == "/docs/\n/large\n/run.sh\n"
        assert said("drive", "get", *there, "docs/a.txt", "--connect", address) == "hello\n"
        assert "no such file" in refused("drive", "get", *there, "/x", "--connect", address)
        assert said("drive", "get", *there, "docs/a.txt") == "hello\n"  # kept
        partly = here("drive", "get", *there, "/large", tmp_path / "partial")
        assert (partly.returncode, b"/large: this part of it is not here" in partly.stderr) == (1, True)
        assert not (tmp_path / "partial").exists()
        assert said("drive", "mirror", *there, "--to", out, "--connect", address).startswith("added 5, changed 0")
    assert tree(out) == tree(files)
    assert said("drive", "get", *there, "/large", tmp_path / "all") == ""
    assert "somebody else's" in refused("drive", "put", *there, "/x", given=b"x")


def test_encrypted_drives(tmp_path: Path) -> None:
    ours = ("--store", tmp_path / "s", "d")
    said("drive", "put", *ours, "/secret name", "--encryption-key", SECRET, given=b"a plain secret")
    for path in (tmp_path / "s" / "feeds").rglob("*.seg"):
        assert b"plain secret" not in path.read_bytes()
        assert b"secret name" not in path.read_bytes()
    assert said("drive", "get", *ours, "/secret name") == "a plain secret"
    there = ("--store", tmp_path / "copy", key_of(tmp_path / "s", "d"))
    with serving(tmp_path / "s") as address:
        assert said("drive", "ls", *there, "--connect", address, "--encryption-key", SECRET) == "/secret name\n"
        # the second core is opened with the key that the first one was given
        assert said("drive", "get", *there, "/secret name", "--connect", address) == "a plain secret"


def test_an_interrupted_mirror_leaves_whole_files_and_goes_on(tmp_path: Path) -> None:
    files, out = tmp_path / "files", tmp_path / "out"
    files.mkdir()
    for number in range(400):
        (files / f"{number:03}").write_bytes(LARGE[number : number + 20_000])
    store = ("--store", tmp_path / "s", "d")
    assert said("drive", "mirror", *store, "--from", files, "--at-once").startswith("added 400, ")
    words = command("drive", "mirror", *store, "--to", out)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not (out.exists() and any(out.iterdir())):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) in ((130, b""), (0, b"")), stdout
    there = tree(out)
    assert there.items() <= tree(files).items()
    said("drive", "mirror", *store, "--to", out)
    assert tree(out) == tree(files)


def test_a_feed_that_is_no_drive_is_left_alone(tmp_path: Path) -> None:
    said("feed", "create", "--store", tmp_path, "lines")
    said("feed", "append", "--store", tmp_path, "lines", given=b"hello\n")
    for words in (("put", "/a"), ("get", "/a"), ("ls",), ("rm", "/a"), ("mirror", "--from", tmp_path)):
        assert "is no Hyperdrive" in refused("drive", words[0], "--store", tmp_path, "lines", *words[1:])
    assert said("feed", "list", "--store", tmp_path).count("\n") == 1  # no content was made for it


def test_the_meter_counts_files_and_bytes() -> None:
    seen: list[tuple[int, int | None, int]] = []

    class Seen(Progress):
        def update(self, done: int, total: int | None = None, size_bytes: int = 0) -> None:
            seen.append((done, total, size_bytes))

    meter = _Meter(Seen("x"), 2)
    meter.begun()
    meter.moved(10)
    meter.begun()
    assert seen == [(0, 2, 0), (1, 2, 10), (1, 2, 10)]


@pytest.mark.parametrize(
    "words",
    [
        ("get", "absent", "/a"),
        ("ls", "absent"),
        ("rm", "absent", "/a"),
        ("mirror", "absent", "--to", "out"),
        ("get", SECRET, "/a"),
        ("put", "a//b", "/a"),
        ("put", "p", "/"),
        ("put", "p", "/../a"),
        ("put", "p", "/a", "no such file"),
        ("get", "p", "/"),
        ("get", "p", "/b"),
        ("get", "p", "/a", "--at", "9"),
        ("diff", "p", "9"),
        ("ls", "p", "/b"),
        ("ls", "p", "/b", "--at", "9"),
        ("mirror", "p", "--from", "no such folder"),
        ("ls", "p", "--encryption-key", SECRET),
        ("ls", "p", "--connect", "127.0.0.1:1"),
    ],
)
def test_what_is_refused_says_so_in_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    said("drive", "put", "--store", tmp_path, "p", "/a", given=b"1")
    before = FeedStore(tmp_path).catalog()
    assert refused("drive", words[0], "--store", tmp_path, *words[1:]).startswith("pomona drive: ")
    assert FeedStore(tmp_path).catalog() == before
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("get", "--store", "x", "p"),
        ("put", "--store", "x", "p"),
        ("put", "--store", "x", "p", "/a", "--connect", "127.0.0.1:1"),
        ("mirror", "--store", "x", "p"),
        ("mirror", "--store", "x", "p", "--from", ".", "--to", "."),
        ("mirror", "--store", "x", "p", "--from", ".", "--at", "2"),
        ("mirror", "--store", "x", "p", "--from", ".", "--connect", "127.0.0.1:1"),
        ("mirror", "--store", "x", "p", "--to", ".", "--at-once"),
        ("ls", "--store", "x", "p", "--connect", "127.0.0.1:65536"),
        ("diff", "--store", "x", "p", "-1"),
    ],
)
def test_wrong_usage_is_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["drive", *words])
    assert caught.value.code == 2
    assert capsys.readouterr().out == ""
