"""`pomona feed serve` and `clone` as real processes: a copy, a live one, one that is appended to while it is served."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HEX = "0123456789abcdef" * 4
DEADLINE_S = 30.0


def feed(*words: str | Path, lines: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "edge", "feed", *map(str, words)]
    return subprocess.run(command, input=lines, capture_output=True, timeout=60)


@contextmanager
def running(*words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs until it is told to stop, and then ends well."""
    command = [sys.executable, "-m", "edge", "feed", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert (process.wait(DEADLINE_S), process.stderr.read()) == (0, b"")


def line_of(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().removesuffix("\n")


def created(store: Path, name: str, blocks: int, *options: str) -> str:
    made = feed("create", "--store", store, name, *options)
    lines = b"".join(b"block %d\n" % index for index in range(blocks))
    assert feed("append", "--store", store, name, lines=lines).returncode == 0
    return made.stdout.decode().strip()


def port_of(server: subprocess.Popen[bytes]) -> str:
    found = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+), \d+ feeds?; public key [0-9a-f]{64}", line_of(server))
    assert found
    return f"127.0.0.1:{found[1]}"


def test_a_feed_is_served_and_cloned_and_read_there(tmp_path: Path) -> None:
    key = created(tmp_path / "a", "prices", 300)
    metrics = tmp_path / "pomona.prom"
    with running("serve", "--store", tmp_path / "a", "--listen", "localhost:0", "--metrics", metrics) as server:
        peer = port_of(server)
        cloned = feed("clone", "--store", tmp_path / "b", key, "--connect", peer)
        assert (cloned.stdout, cloned.stderr, cloned.returncode) == (b"300\n", b"", 0)
        again = feed("clone", "--store", tmp_path / "b", key, "--connect", peer, "--json")
        told = json.loads(again.stdout)
        assert (told["length"], told["fork"], told["key"], told["received_bytes"]) == (300, 0, key, 0)
        assert line_of(server).endswith(")")
        refused = feed("clone", "--store", tmp_path / "b", HEX, "--connect", peer)
        assert (refused.returncode, refused.stdout) == (1, b"")
        assert refused.stderr == f"pomona feed: no peer has the feed {HEX}\n".encode()
        other = feed("serve", "--store", tmp_path / "a", "--listen", "127.0.0.1:0")
        assert other.returncode == 1
        assert b"in use" in other.stderr
        assert "pomona_peer_connections" in metrics.read_text()
    assert feed("cat", "--store", tmp_path / "b", key, "--start", "299").stdout == b"block 299\n"
    (entry,) = map(json.loads, feed("list", "--store", tmp_path / "b", "--json").stdout.splitlines())
    assert (entry["name"], entry["key"], entry["state"]["length"]) == (None, key, 300)
    appended = feed("append", "--store", tmp_path / "b", key, lines=b"x\n")
    assert appended.returncode == 1


def test_a_clone_follows_live_what_another_process_appends_to_the_served_store(tmp_path: Path) -> None:
    key = created(tmp_path / "a", "prices", 3)
    with running("serve", "--store", tmp_path / "a", "--listen", "127.0.0.1:0", "--json") as server:
        told = json.loads(line_of(server))
        assert (told["event"], told["feeds"]) == ("listening", 1)
        peer = f"{told['host']}:{told['port']}"
        with running("clone", "--store", tmp_path / "b", key, "--connect", peer, "--live") as clone:
            assert line_of(clone) == "3"
            appended = feed("append", "--store", tmp_path / "a", "prices", lines=b"four\nfive\n")
            assert (appended.stdout.split()[-1], appended.stderr) == (b"5", b"")
            while line_of(clone) != "5":
                pass
    assert feed("cat", "--store", tmp_path / "b", key).stdout == b"block 0\nblock 1\nblock 2\nfour\nfive\n"


def test_an_encrypted_feed_is_cloned_with_and_without_its_key(tmp_path: Path) -> None:
    key = created(tmp_path / "a", "secret", 5, "--encryption-key", HEX)
    with running("serve", "--store", tmp_path / "a", "--listen", "127.0.0.1:0") as server:
        peer = port_of(server)
        blind = feed("clone", "--store", tmp_path / "blind", key, "--connect", peer)
        assert (blind.returncode, blind.stdout) == (0, b"5\n")
        assert feed("clone", "--store", tmp_path / "b", key, "--connect", peer, "--encryption-key", HEX).returncode == 0
    assert feed("cat", "--store", tmp_path / "b", key, "--end", "1").stdout == b"block 0\n"
    assert b"block" not in feed("cat", "--store", tmp_path / "blind", key).stdout


def test_nobody_listens_there(tmp_path: Path) -> None:
    began = time.monotonic()
    failed = feed("clone", "--store", tmp_path, HEX, "--connect", "127.0.0.1:1")
    assert (failed.returncode, failed.stdout) == (1, b"")
    assert failed.stderr == b"pomona feed: cannot connect to 127.0.0.1:1: Connection refused\n"
    assert time.monotonic() - began < DEADLINE_S


@pytest.mark.parametrize("text", ["nowhere:1", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", ":1", "256.0.0.1:1"])
def test_addresses_that_are_none(tmp_path: Path, text: str) -> None:
    failed = feed("clone", "--store", tmp_path, HEX, "--connect", text)
    assert failed.returncode == 2
    assert b"--connect" in failed.stderr


def test_a_drive_is_written_and_a_feed_made_while_the_store_is_served(tmp_path: Path) -> None:
    def drive(*words: str | Path, lines: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "edge", "drive", *map(str, words)]
        return subprocess.run(command, input=lines, capture_output=True, timeout=60)

    first = drive("put", "--store", tmp_path / "a", "files", "/one", "-", lines=b"1" * 100_000)
    assert (first.stderr, first.returncode) == (b"", 0)
    (key,) = (line.split()[1].decode() for line in feed("list", "--store", tmp_path / "a").stdout.splitlines()[:1])
    with running("serve", "--store", tmp_path / "a", "--listen", "127.0.0.1:0") as server:
        peer = port_of(server)
        read = drive("get", "--store", tmp_path / "b", key, "/one", "-", "--connect", peer)
        assert (read.stdout, read.stderr) == (b"1" * 100_000, b"")
        second = drive("put", "--store", tmp_path / "a", "files", "/two", "-", lines=b"2" * 300_000)
        assert (second.stderr, second.returncode) == (b"", 0)
        assert drive("get", "--store", tmp_path / "a", "files", "/two", "-").stdout == b"2" * 300_000
        assert drive("get", "--store", tmp_path / "b", key, "/two", "-", "--connect", peer).stdout == b"2" * 300_000
        late = created(tmp_path / "a", "late", 2)
        assert feed("clone", "--store", tmp_path / "b", late, "--connect", peer).stdout == b"2\n"
