"""A tree beside a dictionary: every write to both, and every way to read must agree, at every version."""

import asyncio
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support_bee_log import MemoryLog

from edge.hyperbee.batch import Batch
from edge.hyperbee.bee import Hyperbee
from edge.hyperbee.codec import KEYS_MAX, KEYS_MIN, OFFSET_BITS
from edge.hyperbee.reader import Reader

KEYS = st.binary(max_size=2)
VALUES = st.none() | st.binary(max_size=3)
Model = dict[bytes, bytes | None]


def within(model: Model, bounds: dict[str, bytes]) -> list[tuple[bytes, bytes | None]]:
    return sorted(
        (key, value)
        for key, value in model.items()
        if ("gt" not in bounds or key > bounds["gt"])
        and ("gte" not in bounds or key >= bounds["gte"])
        and ("lt" not in bounds or key < bounds["lt"])
        and ("lte" not in bounds or key <= bounds["lte"])
    )


def check_shape(log: MemoryLog, version: int) -> None:
    """Every node but the root has enough keys, and all leaves are equally deep."""
    reader = Reader(log, 1 << 20)
    depths = set()

    def visit(pointer: int, depth: int, *, root: bool) -> None:
        node = reader.node(pointer)
        assert len(node.keys) <= KEYS_MAX
        assert root or len(node.keys) >= KEYS_MIN
        if not node.children:
            depths.add(depth)
        for child in node.children:
            visit(child, depth + 1, root=False)

    if version > 1:
        visit((version - 1) << OFFSET_BITS, 0, root=True)
        assert len(depths) == 1


class TreeBesideDictionary(RuleBasedStateMachine):
    """Rules run on an event loop of their own; the log forgets blocks now and then, so reads must fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.log = MemoryLog()
        self.model: Model = {}
        self.versions: dict[int, Model] = {}
        self.batch: Batch | None = None
        self.in_batch: Model = {}

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.loop.close()

    @initialize(duplicate=st.booleans())
    def open(self, duplicate: bool) -> None:
        self.duplicate = duplicate
        self.bee = Hyperbee(self.log, always_duplicate=duplicate)

    @precondition(lambda self: self.batch is None)
    @rule(keys=st.lists(KEYS, min_size=1, max_size=40), value=VALUES)
    def put_many(self, keys: list[bytes], value: bytes | None) -> None:
        for key in keys:
            wrote = self.do(self.bee.put(key, value))
            assert wrote == (self.duplicate or key not in self.model or self.model[key] != value)
            self.model[key] = value

    @precondition(lambda self: self.batch is None)
    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        assert self.do(self.bee.delete(key)) == (key in self.model)
        self.model.pop(key, None)

    @precondition(lambda self: self.batch is None and self.model)
    @rule(data=st.data())
    def delete_many(self, data: Any) -> None:
        for key in data.draw(st.lists(st.sampled_from(sorted(self.model)), unique=True)):
            assert self.do(self.bee.delete(key))
            del self.model[key]

    @precondition(lambda self: self.batch is None)
    @rule(key=KEYS, value=VALUES, agrees=st.booleans())
    def compare_and_swap(self, key: bytes, value: bytes | None, agrees: bool) -> None:
        asked = []

        def cas(before: Any, after: Any) -> bool:
            asked.append((before.key, before.value, after.key, after.value))
            return agrees

        wrote = self.do(self.bee.put(key, value, cas=cas))
        if key in self.model:
            assert asked == [(key, self.model[key], key, value)]
            assert wrote == (agrees and (self.duplicate or self.model[key] != value))
        else:
            assert wrote
            assert not asked
        if wrote:
            self.model[key] = value

    @precondition(lambda self: self.batch is None)
    @rule()
    def begin(self) -> None:
        self.batch, self.in_batch = self.bee.batch(), dict(self.model)

    @precondition(lambda self: self.batch is not None)
    @rule(puts=st.lists(st.tuples(KEYS, VALUES), max_size=30), deletes=st.lists(KEYS, max_size=10))
    def write_in_batch(self, puts: list[tuple[bytes, bytes | None]], deletes: list[bytes]) -> None:
        assert self.batch is not None
        for key, value in puts:
            self.do(self.batch.put(key, value))
            self.in_batch[key] = value
        for key in deletes:
            assert self.do(self.batch.delete(key)) == (key in self.in_batch)
            self.in_batch.pop(key, None)

    @precondition(lambda self: self.batch is not None)
    @rule(key=KEYS, reverse=st.booleans())
    def read_in_batch(self, key: bytes, reverse: bool) -> None:
        batch = self.batch
        assert batch is not None
        found = self.do(batch.get(key))
        assert (found is not None) == (key in self.in_batch)
        assert found is None or found.value == self.in_batch[key]

        async def read() -> list[tuple[bytes, bytes | None]]:
            return [(entry.key, entry.value) async for entry in batch.range(gte=key, reverse=reverse)]

        expected = within(self.in_batch, {"gte": key})
        assert self.do(read()) == (expected[::-1] if reverse else expected)

    @precondition(lambda self: self.batch is not None)
    @rule(keep=st.booleans())
    def end(self, keep: bool) -> None:
        assert self.batch is not None
        appends = self.log.appends
        if keep:
            count = self.batch.pending
            self.do(self.batch.flush())
            assert self.log.appends == appends + bool(count)
            self.model = self.in_batch
        else:
            self.batch.close()
            assert self.log.appends == appends
        self.batch = None

    @rule(held=st.sets(st.integers(1, 60)))
    def forget_blocks_and_reopen(self, held: set[int]) -> None:
        if self.batch is None:
            self.log.held = {index for index in held if index < self.log.length} | {0}
            self.bee = Hyperbee(self.log, always_duplicate=self.duplicate, cache_bytes=1 << 14)

    @precondition(lambda self: self.batch is None)
    @rule()
    def remember_version(self) -> None:
        self.versions[self.bee.version] = dict(self.model)

    @rule(
        bounds=st.fixed_dictionaries({}, optional={"gt": KEYS, "lt": KEYS})
        | st.fixed_dictionaries({}, optional={"gte": KEYS, "lte": KEYS}),
        reverse=st.booleans(),
        limit=st.none() | st.integers(0, 5),
    )
    def read_range(self, bounds: dict[str, bytes], reverse: bool, limit: int | None) -> None:
        async def read() -> list[tuple[bytes, bytes | None]]:
            return [(e.key, e.value) async for e in self.bee.range(**bounds, reverse=reverse, limit=limit)]

        expected = within(self.model, bounds)
        expected = expected[::-1] if reverse else expected
        assert self.do(read()) == expected[: len(expected) if limit is None else limit]
        first = self.do(self.bee.peek(**bounds, reverse=reverse))
        assert (first and (first.key, first.value)) == (expected[0] if expected else None)

    @precondition(lambda self: self.versions)
    @rule(data=st.data(), bounds=st.fixed_dictionaries({}, optional={"gte": KEYS, "lt": KEYS}))
    def compare_versions(self, data: Any, bounds: dict[str, Any]) -> None:
        version = data.draw(st.sampled_from(sorted(self.versions)))
        old = dict(within(self.versions[version], bounds))
        new = dict(within(self.model, bounds))

        async def read() -> tuple[list[Any], list[Any], Model]:
            there = [d async for d in self.bee.diff(version, **bounds)]
            back = [d async for d in self.bee.checkout(version).diff(self.bee, **bounds)]
            return there, back, {e.key: e.value async for e in self.bee.checkout(version).range()}

        there, back, at_version = self.do(read())
        assert at_version == self.versions[version]
        assert [(d.right, d.left) for d in back] == [tuple(d) for d in there]
        keys = [(d.left or d.right).key for d in there]
        assert keys == sorted(set(keys))
        for d in there:  # a put of the same value again is a difference too: its block is another one
            key = (d.left or d.right).key
            assert (d.left is not None) == (key in new)
            assert (d.right is not None) == (key in old)
            assert d.left is None or d.right is None or d.left.seq != d.right.seq
            assert d.left is None or d.left.value == new[key]
        assert {key for key in old.keys() | new.keys() if old.get(key, b"none") != new.get(key, b"none")} <= set(keys)

    @precondition(lambda self: self.batch is None)
    @rule()
    def replay_history(self) -> None:
        async def read() -> tuple[list[Any], list[Any]]:
            return [c async for c in self.bee.history()], [c async for c in self.bee.history(reverse=True)]

        forward, backward = self.do(read())
        assert forward == backward[::-1]
        assert [change.seq for change in forward] == list(range(1, self.bee.version))
        replayed: Model = {}
        for change in forward:
            if change.deleted or change.value is None:  # a batch may have dropped the level that tells them apart
                replayed.pop(change.key, None)
            else:
                replayed[change.key] = change.value
        assert replayed == {key: value for key, value in self.model.items() if value is not None}

    @invariant()
    def every_key_is_found(self) -> None:
        for key, value in list(self.model.items())[:5]:
            entry = self.do(self.bee.get(key))
            assert entry is not None
            assert (entry.key, entry.value) == (key, value)

    @invariant()
    def shape_is_sound(self) -> None:
        held, self.log.held = self.log.held, None
        check_shape(self.log, self.log.length)
        self.log.held = held


TestTreeBesideDictionary = TreeBesideDictionary.TestCase
TestTreeBesideDictionary.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_tree_beside_dictionary_often() -> None:
    long = settings(max_examples=2000, stateful_step_count=40, deadline=None)
    run_state_machine_as_test(TreeBesideDictionary, settings=long)
