"""Trees of stock Hyperbee and ours: for the same operations the same blocks, and each reads and continues the other's.

Digests of stock blocks are checked in (tests/edge/hyperbee/vectors.json) and compared in every run; with Node and the
pinned packages they are made again live, and the two take turns on one tree.
"""

import hashlib
import json
import random
import subprocess
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from support_bee_log import MemoryLog
from support_node import run_node

from edge.hyperbee.bee import Hyperbee
from edge.hyperbee.codec import Level, decode_block, decode_level, encode_block
from edge.hyperbee.entries import Difference, Entry

HERE = Path(__file__).parent
VECTORS = HERE.parent / "edge" / "hyperbee" / "vectors.json"
DIGEST_BLOCKS = 50  # blocks under one digest, so that a difference has a place

Work = dict[str, Any]


def operations(seed: int, count: int, key_space: int) -> list[Work]:
    """Groups of puts and deletes, single and in batches, in the tree and its sub-trees; some refused by their `cas`."""
    draw = random.Random(seed)
    keys = [f"k{draw.randrange(10 ** draw.randrange(1, 6))}".encode().hex() for _ in range(key_space)]
    groups, left, deletes = [], count, 0.1
    while left:
        size = min(left, draw.choice([1, 1, 2, 3, 10, 50, 200]))
        left -= size
        if draw.random() < 0.1:
            deletes = draw.random()
        ops = []
        for _ in range(size):
            cas = draw.choice([None] * 8 + [True, False])
            if draw.random() < deletes:
                ops.append(["del", draw.choice(keys), None, cas])
            else:
                ops.append(["put", draw.choice(keys), draw.choice(["", "61", "6262", None, "00" * 150]), cas])
        sub = draw.choice([[], [], [], ["sub"], ["sub", "nested"]])
        groups.append({"batch": size > 1 or draw.random() < 0.5, "sub": sub, "ops": ops})
    return groups


def run_work(work: Work, folder: Path) -> Work:
    result: Work = json.loads(run_node("hyperbee.mjs", folder, given=json.dumps(work)))
    return result


def data(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def sub_of(bee: Hyperbee, names: Iterable[str]) -> Hyperbee:
    for name in names:
        bee = bee.sub(name)
    return bee


async def apply(bee: Hyperbee, groups: list[Work]) -> None:
    for group in groups:
        target: Any = sub_of(bee, group["sub"])
        batch = target.batch() if group["batch"] else None
        for op, key, value, cas in group["ops"]:
            judge = None if cas is None else (lambda _before, _after, cas=cas: cas)
            if op == "put":
                await (batch or target).put(data(key), data(value), cas=judge)
            else:
                await (batch or target).delete(data(key), cas=judge)
        if batch is not None:
            await batch.flush()


def digests(blocks: list[bytes]) -> list[str]:
    found = []
    for start in range(0, len(blocks), DIGEST_BLOCKS):
        digest = hashlib.sha256()
        for block in blocks[start : start + DIGEST_BLOCKS]:
            digest.update(len(block).to_bytes(4, "little") + block)
        found.append(digest.hexdigest()[:16])
    return found


CASES = [
    {"seed": 1, "count": 5000, "key_space": 30, "always_duplicate": False},
    {"seed": 2, "count": 5000, "key_space": 400, "always_duplicate": True},
    {"seed": 3, "count": 5000, "key_space": 400, "always_duplicate": False},
    {"seed": 4, "count": 5000, "key_space": 4000, "always_duplicate": True},
]


def make_vectors(folder: Path) -> Work:
    """What the checked-in file holds: run as a program to write it."""
    cases, versions = [], {}
    for case in CASES:
        groups = operations(case["seed"], case["count"], case["key_space"])
        work = {"blocks": [], "alwaysDuplicate": case["always_duplicate"], "groups": groups, "reads": []}
        result = run_work(work, folder / str(case["seed"]))
        versions = result["versions"]
        blocks = [bytes.fromhex(block) for block in result["blocks"]]
        cases.append({**case, "length": len(blocks), "digests": digests(blocks)})
    return {"versions": versions, "cases": cases}


@pytest.mark.interop
def test_stock_peers_still_make_the_checked_in_vectors(tmp_path: Path) -> None:
    assert make_vectors(tmp_path) == json.loads(VECTORS.read_text())


@pytest.mark.interop
def test_node_still_writes_numbers_as_the_checked_in_file_says() -> None:
    made = subprocess.run(["node", "numbers.mjs"], cwd=HERE, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(made.stdout)["numbers"] == json.loads(VECTORS.with_name("numbers.json").read_text())["numbers"]


@pytest.mark.parametrize("number", range(len(CASES)))
async def test_the_same_operations_make_the_same_blocks(number: int) -> None:
    vectors = json.loads(VECTORS.read_text())
    pinned = json.loads((HERE / "package.json").read_text())
    assert pinned["dependencies"]["hyperbee"] == vectors["versions"]["hyperbee"]
    case = vectors["cases"][number]
    log = MemoryLog()
    bee = Hyperbee(log, always_duplicate=case["always_duplicate"])
    await apply(bee, operations(case["seed"], case["count"], case["key_space"]))
    assert log.length == case["length"]
    assert digests(log.blocks) == case["digests"]


@pytest.mark.interop
@pytest.mark.parametrize("always_duplicate", [False, True])
async def test_the_two_take_turns_on_one_tree(tmp_path: Path, always_duplicate: bool) -> None:
    """Stock, ours, stock: blocks equal after every turn, and every way of reading gives the same."""
    seed = random.SystemRandom().randrange(1 << 30)
    draw = random.Random(seed)
    ours = MemoryLog()
    bee = Hyperbee(ours, always_duplicate=always_duplicate)
    stock: list[str] = []
    ends = [1]
    for turn in range(3):
        groups = operations(seed + turn, 1200, draw.choice([30, 300, 3000]))
        reads = some_reads(draw, ends)
        work = {"blocks": stock, "alwaysDuplicate": always_duplicate, "groups": groups, "reads": reads}
        result = run_work(work, tmp_path / str(turn))
        blocks = [bytes.fromhex(block) for block in result["blocks"]]
        if turn == 1:  # it was ours to write
            await apply(bee, groups)
            assert ours.blocks == blocks, f"seed {seed}"
        else:
            ours.blocks = blocks
        for read, expected in zip(reads, result["reads"], strict=True):
            assert await answer(bee, read) == expected, f"seed {seed}: {read}"
        stock = [block.hex() for block in ours.blocks]
        ends.append(ours.length)
        for block in ours.blocks[1:]:
            assert rebuilt(block) == block


def some_reads(draw: random.Random, ends: list[int]) -> list[Work]:
    def key() -> str:
        return f"k{draw.randrange(10 ** draw.randrange(1, 6))}".encode().hex()

    reads: list[Work] = [{"kind": "history"}, {"kind": "history", "reverse": True, "limit": 5}]
    reads += [
        {"kind": "history", "bounds": bounds} for bounds in ({"gte": 3, "lt": 9}, {"gt": 3, "lte": -2}, {"gte": -9})
    ]
    for version in [0, *(end for end in ends if end > 1)]:
        reads += [{"kind": "range", "version": version}, {"kind": "range", "version": version, "reverse": True}]
        for other in ends:
            reads.append({"kind": "diff", "version": version, "other": other})
            bounds = {draw.choice(["gt", "gte"]): key(), draw.choice(["lt", "lte"]): key()}
            reads.append({"kind": "diff", "version": version, "other": other, "bounds": bounds})
        for _ in range(10):
            bounds = {draw.choice(["gt", "gte"]): key(), draw.choice(["lt", "lte"]): key()}
            reads.append({"kind": "range", "version": version, "bounds": bounds, "reverse": draw.random() < 0.5})
            reads.append({"kind": "range", "version": version, "bounds": {"gte": key()}, "limit": draw.randrange(9)})
            reads.append({"kind": "get", "version": version, "key": key()})
    for names in (["sub"], ["sub", "nested"], ["none"]):
        reads += [{"kind": "range", "sub": names}, {"kind": "range", "sub": names, "reverse": True, "limit": 3}]
        reads += [{"kind": "range", "sub": names, "bounds": {"gt": key()}}, {"kind": "get", "sub": names, "key": key()}]
    return reads


async def answer(bee: Hyperbee, read: Work) -> Any:
    tree = bee.checkout(read["version"]) if read.get("version") else sub_of(bee, read.get("sub", []))
    options: Work = {
        name: bound if isinstance(bound, int) else data(bound) for name, bound in read.get("bounds", {}).items()
    }
    options |= {name: read[name] for name in ("reverse", "limit") if name in read}
    if read["kind"] == "get":
        return plain(await tree.get(data(read["key"])))
    if read["kind"] == "range":
        return [plain(entry) async for entry in tree.range(**options)]
    if read["kind"] == "history":
        return [[c.deleted, *(plain(Entry(*c[:3])) or ())] async for c in tree.history(**options)]
    differences: AsyncIterator[Difference] = tree.diff(read["other"], **options)
    return [[plain(d.left), plain(d.right)] async for d in differences]


def plain(entry: Entry | None) -> list[Any] | None:
    return entry and [entry.seq, entry.key.hex(), None if entry.value is None else entry.value.hex()]


def rebuilt(data: bytes) -> bytes:
    """A stock block decoded and encoded again."""
    block = decode_block(data)
    levels: list[Level] = []
    while len(encode_block(block.key, block.value, levels)) < len(data):
        levels.append(decode_level(block.levels, len(levels), 2**53 - 1))
    return encode_block(block.key, block.value, levels)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        VECTORS.write_text(json.dumps(make_vectors(Path(scratch)), indent=1) + "\n")
