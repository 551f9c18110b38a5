"""What docs/peer-to-peer.md shows is run as it stands, and prints what stands below it."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "peer-to-peer.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"(?ms)^### ([^\n]+)\n(?:(?!^### ).)*?^```python\n(.*?)^```\n```\n(.*?)^```$", PAGE)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


def test_every_python_example_shows_what_it_prints() -> None:
    assert len(EXAMPLES) == PAGE.count("```python\n") >= 5


@pytest.mark.parametrize(("title", "program", "printed"), EXAMPLES, ids=[title for title, _, _ in EXAMPLES])
def test_python_examples(title: str, program: str, printed: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == (printed, "", 0), title


def test_the_command_line_from_top_to_bottom(tmp_path: Path) -> None:
    """One shell runs every `$ ` line; what follows a line is all that it prints."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shown: list[tuple[str, str]] = []
    for body in re.findall(r"(?ms)^```console\n(.*?)^```$", PAGE):
        for line in body.splitlines(keepends=True):
            if line.startswith("$ "):
                shown.append((line[2:].strip(), ""))
            else:
                shown[-1] = (shown[-1][0], shown[-1][1] + line)
    assert len(shown) > 20
    pomona = tmp_path / "bin" / "pomona"
    pomona.parent.mkdir()
    pomona.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edge "$@"\n')
    pomona.chmod(0o755)
    script = ["exec 2>&1", "trap 'kill $(jobs -p) 2>/dev/null' EXIT"]
    for number, (line, _) in enumerate(shown):
        script += [f"echo '@@@ {number}'", line.replace("127.0.0.1:4977", f"127.0.0.1:{port}")]
        if background := re.search(r"> (\S+) &$", line):  # as soon as it has said that it is there
            script.append(f"for _ in $(seq 600); do test -s {background[1]} && break; sleep 0.1; done")
    command = ["bash", "-c", "\n".join([*script, "wait"])]
    environment = {**ENVIRONMENT, "PATH": f"{pomona.parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110)
    printed = re.split(r"(?m)^@@@ \d+\n", done.stdout)[1:]
    assert list(zip([line for line, _ in shown], printed, strict=True)) == shown
