"""`pomona feed` as a person and a pipe use it: real processes, real files."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.__main__ import main
from edge.cli.lines import Lines
from edge.errors import ConfigError
from edge.hypercore.store import FeedStore
from edge.limits import BLOCK_BYTES_MAX

HEX = "0123456789abcdef" * 4


def feed(*words: str | Path, lines: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "edge", "feed", *map(str, words)]
    return subprocess.run(command, input=lines, capture_output=True, timeout=60)


def log_of(store: Path, name: str) -> Path:
    (segment,) = (FeedStore(store).folder(FeedStore(store).find(name)) / "log").glob("*.seg")
    return segment


def test_create_append_cat_verify_list(tmp_path: Path) -> None:
    made = feed("create", "--store", tmp_path, "prices")
    assert (made.returncode, made.stderr) == (0, b"")
    key = made.stdout.decode().removesuffix("\n")
    assert len(bytes.fromhex(key)) == 32
    appended = feed("append", "--store", tmp_path, "prices", lines=b"one\n\ntwo \r\n\xff\xfe\nlast")
    assert appended.returncode == 0
    assert appended.stdout.split()[-1] == b"5"
    assert feed("append", "--store", tmp_path, "prices", lines=b"").stdout == b""
    assert feed("cat", "--store", tmp_path, "prices").stdout == b"one\n\ntwo \r\n\xff\xfe\nlast\n"
    assert feed("cat", "--store", tmp_path, key, "--start", "1", "--end", "3").stdout == b"\ntwo \r\n"
    assert feed("cat", "--store", tmp_path, key, "--start", "5").stdout == b""
    listed = [json.loads(line) for line in feed("cat", "--store", tmp_path, key, "--json").stdout.splitlines()]
    assert listed[2:4] == [{"index": 2, "text": "two \r"}, {"index": 3, "hex": "fffe"}]
    verified = feed("verify", "--store", tmp_path, "prices")
    assert (verified.returncode, verified.stdout) == (0, b"prices: 5 blocks good, fork 0, signed to 5\n")
    (entry,) = map(json.loads, feed("list", "--store", tmp_path, "--json").stdout.splitlines())
    state = {"length": 5, "bytes": 14, "fork": 0}
    assert entry == {"name": "prices", "key": key, "encrypted": False, "state": state}
    assert feed("list", "--store", tmp_path).stdout.decode() == f"prices  {key}  5 blocks, 14 bytes, fork 0\n"


def test_json_of_create_append_and_verify(tmp_path: Path) -> None:
    made = json.loads(feed("create", "--store", tmp_path, "p", "--json").stdout)
    assert set(made) == {"name", "key", "discovery_key", "encrypted"}
    appended = feed("append", "--store", tmp_path, "p", "--json", lines=b"x\n").stdout
    assert json.loads(appended) == {"length": 1, "fork": 0}
    verified = json.loads(feed("verify", "--store", tmp_path, "p", "--json").stdout)
    assert verified == {"ok": True, "name": "p", "key": made["key"], "blocks": 1, "fork": 0, "signed": 1}


def test_encrypted_feeds_keep_their_key_and_show_nothing_on_disk(tmp_path: Path) -> None:
    feed("create", "--store", tmp_path, "secret", "--encryption-key", HEX)
    assert feed("append", "--store", tmp_path, "secret", lines=b"a plain secret\n").stdout == b"1\n"
    assert b"plain secret" not in log_of(tmp_path, "secret").read_bytes()
    assert feed("cat", "--store", tmp_path, "secret").stdout == b"a plain secret\n"
    (log_of(tmp_path, "secret").parent.parent / "encryption-key").unlink()
    refused = feed("cat", "--store", tmp_path, "secret")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"encrypted" in refused.stderr
    assert feed("cat", "--store", tmp_path, "secret", "--encryption-key", HEX).stdout == b"a plain secret\n"
    assert feed("verify", "--store", tmp_path, "secret").returncode == 0  # integrity needs no key


def test_a_slow_pipe_is_not_held_back_and_a_kill_loses_nothing_acknowledged(tmp_path: Path) -> None:
    feed("create", "--store", tmp_path, "slow")
    command = [sys.executable, "-m", "edge", "feed", "append", "--store", str(tmp_path), "slow"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for n in range(3):
            process.stdin.write(b"line %d\npart" % n)
            process.stdin.flush()
            assert process.stdout.readline() == b"%d\n" % (n + 1)  # would block here for ever if it were held back
        second = feed("append", "--store", tmp_path, "slow", lines=b"x\n")
        assert second.returncode == 1
        assert f"in use by another process (pid {process.pid})" in second.stderr.decode()
        busy = json.loads(feed("list", "--store", tmp_path, "--json").stdout)
        assert busy["state"] is None
        assert "in use" in busy["error"]
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert feed("cat", "--store", tmp_path, "slow").stdout == b"line 0\npartline 1\npartline 2\n"
    assert feed("append", "--store", tmp_path, "slow", lines=b"more\n").stdout == b"4\n"


def test_interrupting_a_waiting_append_ends_it(tmp_path: Path) -> None:
    feed("create", "--store", tmp_path, "waiting")
    command = [sys.executable, "-m", "edge", "feed", "append", "--store", str(tmp_path), "waiting"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"1\n"
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)  # although standard input is still open
        assert process.returncode == 130
    assert feed("verify", "--store", tmp_path, "waiting").stdout == b"waiting: 1 blocks good, fork 0, signed to 1\n"


def test_a_large_file_goes_in_groups(tmp_path: Path) -> None:
    feed("create", "--store", tmp_path, "large")
    lines = b"".join(b"%d\n" % n for n in range(30_000)) + b"x" * BLOCK_BYTES_MAX + b"\n"
    path = tmp_path / "lines.txt"
    path.write_bytes(lines)
    command = [sys.executable, "-m", "edge", "feed", "append", "--store", str(tmp_path), "large"]
    with path.open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, timeout=60)
    lengths = [int(line) for line in done.stdout.split()]
    assert lengths == sorted(set(lengths))
    assert lengths[-1] == 30_001
    assert feed("cat", "--store", tmp_path, "large").stdout == lines


def test_a_line_too_long_is_refused_and_what_came_before_stays(tmp_path: Path) -> None:
    feed("create", "--store", tmp_path, "p")
    command = [sys.executable, "-m", "edge", "feed", "append", "--store", str(tmp_path), "p"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"before\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"1\n"
        with contextlib.suppress(BrokenPipeError):  # it ends before it has read all of this
            process.stdin.write(b"x" * (4 * BLOCK_BYTES_MAX))
        assert process.wait(timeout=30) == 1
        assert b"longer than a block" in process.stderr.read()
    assert feed("cat", "--store", tmp_path, "p").stdout == b"before\n"


def test_verify_names_the_first_bad_block(tmp_path: Path) -> None:
    feed("create", "--store", tmp_path, "p")
    feed("append", "--store", tmp_path, "p", lines=b"".join(b"block %d\n" % n for n in range(50)))
    segment = log_of(tmp_path, "p")
    data = bytearray(segment.read_bytes())
    for block in (b"block 17", b"block 33"):
        data[data.index(block)] ^= 1
    segment.write_bytes(data)
    verified = feed("verify", "--store", tmp_path, "p", "--json")
    assert verified.returncode == 1
    assert b"block 17 is corrupt" in verified.stderr
    assert verified.stderr.count(b"\n") == 1
    report = json.loads(verified.stdout)
    assert (report["ok"], report["first_bad_block"]) == (False, 17)


@pytest.mark.parametrize(
    "words",
    [
        ("cat", "absent"),
        ("append", "absent"),
        ("verify", HEX),
        ("create", "a//b"),
        ("cat", "p", "--start", "1"),
        ("cat", "p", "--end", "1"),
        ("cat", "p", "--encryption-key", HEX),
        ("create", "p"),
    ],
)
def test_what_is_refused_says_so_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert main(["feed", "create", "--store", str(tmp_path), "p"]) == 0
    capsys.readouterr()
    assert main(["feed", words[0], "--store", str(tmp_path), *words[1:]]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pomona feed: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("cat", "p"),
        ("cat", "--store", "x"),
        ("cat", "--store", "x", "p", "--start", "-1"),
        ("create", "--store", "x", "p", "--encryption-key", "00"),
        ("serve",),
        (),
    ],
)
def test_wrong_usage_is_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["feed", *words])
    assert caught.value.code == 2
    assert capsys.readouterr().out == ""


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["feed", "--help"])
    assert caught.value.code == 0
    assert "pomona feed append --store ./feeds prices" in capsys.readouterr().out


def test_listing_an_empty_store_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["feed", "list", "--store", str(tmp_path / "absent")]) == 0
    assert capsys.readouterr().out == ""
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@given(st.binary(max_size=60), st.lists(st.integers(1, 9)))
def test_lines_do_not_depend_on_how_they_arrive(data: bytes, sizes: list[int]) -> None:
    lines, got, position = Lines(), [], 0
    for size in [*sizes, len(data)]:
        piece = data[position : position + size]
        got += lines.feed(piece) if piece else []
        position += size
    got += lines.end()
    expected = data.split(b"\n")
    assert got == (expected if expected[-1] else expected[:-1])


def test_a_line_is_bounded_however_it_arrives() -> None:
    lines = Lines()
    assert lines.feed(b"x" * BLOCK_BYTES_MAX) == []
    assert lines.feed(b"\n") == [b"x" * BLOCK_BYTES_MAX]
    with pytest.raises(ConfigError):
        lines.feed(b"x" * (BLOCK_BYTES_MAX + 1) + b"\n")
    lines = Lines()
    lines.feed(b"x" * BLOCK_BYTES_MAX)
    with pytest.raises(ConfigError):
        lines.feed(b"x")
