"""`pomona` in a process of its own and in this one, which is quicker; and a store that is served to peers."""

import contextlib
import io
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from edge.__main__ import main


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "edge", *map(str, words)]


def pomona(*words: str | Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A real process."""
    return subprocess.run(command(*words), input=given, capture_output=True, timeout=60)


def here(*words: str | Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The same in this process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    with tempfile.TemporaryFile("w+b") as file:
        file.write(given)
        file.seek(0)
        with patch("sys.stdin", file), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(word) for word in words])
    return subprocess.CompletedProcess(words, code, _written(out), _written(err))


def _written(text: io.TextIOWrapper) -> bytes:
    text.flush()
    assert isinstance(text.buffer, io.BytesIO)
    return text.buffer.getvalue()


def said(*words: str | Path, given: bytes = b"") -> str:
    """What a command that succeeds prints."""
    done = here(*words, given=given)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
    return done.stdout.decode()


def refused(*words: str | Path, given: bytes = b"") -> str:
    """The one line that a refused command says."""
    done = here(*words, given=given)
    assert (done.returncode, done.stdout) == (1, b""), done.stdout.decode()
    assert done.stderr.count(b"\n") == 1, done.stderr.decode()
    return done.stderr.decode()


def key_of(store: Path, name: str) -> str:
    feeds = map(json.loads, said("feed", "list", "--store", store, "--json").splitlines())
    return next(str(feed["key"]) for feed in feeds if feed["name"] == name)


@contextlib.contextmanager
def serving(store: Path) -> Iterator[str]:
    """`pomona feed serve` on that store, and its address."""
    words = command("feed", "serve", "--store", store, "--listen", "127.0.0.1:0", "--json")
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            listening = json.loads(process.stdout.readline())
            assert listening["event"] == "listening"
            yield f"127.0.0.1:{listening['port']}"
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.read()
    assert process.returncode == 0
