"""`pomona drive` and `bee` at a stock peer; the stock program of docs/peer-to-peer.md at `pomona feed serve`."""

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from support_processes import command, said, serving
from support_stock import HERE, StockPeer

pytestmark = pytest.mark.interop
PAGE = Path(__file__).parent.parent.parent / "docs" / "peer-to-peer.md"


async def run(*words: str | Path) -> str:
    process = await asyncio.create_subprocess_exec(*command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b""), err.decode()
    return out.decode()


async def test_a_stock_drive_is_read_from_the_command_line(tmp_path: Path) -> None:
    async with StockPeer() as peer:
        await peer.call("drive_open", drive="d")
        info = await peer.call("drive_put", drive="d", path="/a.txt", content=b"from stock\n")
        address = f"127.0.0.1:{await peer.call('listen')}"
        there = ("--store", tmp_path, info["key"].hex(), "--connect", address)
        assert await run("drive", "ls", *there, "--long") == "            11   /a.txt\n"
        assert await run("drive", "get", *there, "a.txt") == "from stock\n"
        entry = json.loads(await run("bee", "get", *there, "/a.txt", "--sub", "files", "--json"))
        assert (entry["seq"], json.loads(entry["value"])["blob"]["byteLength"]) == (1, 11)


def test_the_stock_program_of_the_page_reads_a_served_feed(tmp_path: Path) -> None:
    (program,) = re.findall(r"(?ms)^```js\n(.*?)^```$", PAGE.read_text())
    key = said("feed", "create", "--store", tmp_path / "s", "f").strip()
    said("feed", "append", "--store", tmp_path / "s", "f", given=b"hello\n")
    (tmp_path / "read.js").write_text(program)
    with serving(tmp_path / "s") as address:
        node = ["node", "read.js", address.rpartition(":")[2], key]
        environment = {**os.environ, "NODE_PATH": str(HERE / "node_modules")}
        done = subprocess.run(node, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr, done.returncode) == ("1 hello\n", "", 0)
