"""The whole core on a real folder: order of durable, signed and shown; restarts; a bad disk; flipped bits."""

import asyncio
import errno
import itertools
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support_faulty_disk import Faults, FaultyDisk

from edge.crypto.keys import KeyPair
from edge.errors import ConfigError, LocalError, RemoteError, SignatureError, StorageError, StorageFault
from edge.hypercore import state as state_module
from edge.hypercore.audit import BlockCorrupt
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.manifest import Manifest, Signer
from edge.hypercore.merkle import Tree
from edge.hypercore.records import BLOCK, PART, WHOLE_BLOCKS, CoreHeader, Partial, RecordKind, Signed
from edge.hypercore.verifier import Verifier
from edge.limits import BLOCK_BYTES_MAX, GROUP_RECORDS_MAX
from edge.storage.files import OsDisk
from edge.storage.log import SegmentLog

PAIR = KeyPair.from_seed(bytes(32))
PAIRS = [KeyPair.from_seed(bytes([n]) * 32) for n in range(3)]
HEADER = CoreHeader(Verifier.of(Manifest.single(PAIR.public_key)), encrypted=False)
ENCRYPTION_KEY = b"\x07" * 32

Open = Callable[..., Awaitable[Hypercore]]


@pytest.fixture
async def open_core(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the core in `tmp_path`; what a test that fails leaves open is closed."""
    async with AsyncExitStack() as stack:

        async def open_core(**options: object) -> Hypercore:
            arguments: dict[str, object] = {"create": True, "key_pair": PAIR, **options}
            core = await Hypercore.open(tmp_path, **arguments)  # type: ignore[arg-type]
            stack.push_async_callback(core.close)
            return core

        yield open_core


def blocks(count: int, start: int = 0) -> list[bytes]:
    return [b"block %d" % n for n in range(start, start + count)]


async def test_append_get_reopen(open_core: Open) -> None:
    core = await open_core()
    assert (core.length, core.byte_length, core.fork, core.signed, core.writable) == (0, 0, 0, None, True)
    assert await core.append([]) == 0
    assert await core.append(blocks(3), urgent=True) == 3
    assert await core.append([b""], urgent=True) == 4
    assert [core.get(i) for i in range(4)] == [*blocks(3), b""]
    assert list(core.blocks(1, 3)) == blocks(3)[1:]
    assert list(core.blocks()) == [*blocks(3), b""]
    assert core.signed is not None
    key, tree_hash, signed = core.key, core.tree_hash(), core.signed
    assert tree_hash == Tree().append([*blocks(3), b""])[0].hash()
    await core.close()
    await core.close()
    core = await open_core(create=False, key=key)
    assert (core.key, core.tree_hash(), core.signed, core.length) == (key, tree_hash, signed, 4)
    assert await core.append(blocks(1), urgent=True) == 5
    assert await core.verify() == 5
    for index in (-1, 5):
        with pytest.raises(IndexError):
            core.get(index)
    await core.close()


async def test_appends_of_many_callers_share_groups_and_keep_their_order(open_core: Open) -> None:
    core = await open_core()
    lengths = await asyncio.gather(*(core.append(blocks(3, 3 * n), urgent=n % 7 == 0) for n in range(50)))
    assert lengths == [3 * (n + 1) for n in range(50)]
    assert list(core.blocks()) == blocks(150)
    await core.close()


async def test_what_nobody_waits_for_becomes_durable_within_the_window(open_core: Open) -> None:
    core = await open_core(window_s=0.001)
    assert await core.append(blocks(1)) == 1
    await core.close()


async def test_closing_writes_what_waits(open_core: Open) -> None:
    core = await open_core(window_s=3600.0)
    waiting = asyncio.create_task(core.append(blocks(2)))
    await asyncio.sleep(0)
    await core.close()
    assert await waiting == 2
    with pytest.raises(StorageError) as caught:
        await core.append(blocks(1))
    assert caught.value.fault is StorageFault.READ_ONLY
    core = await open_core()
    assert core.length == 2
    await core.close()


async def test_watching_ends_with_the_core(open_core: Open) -> None:
    core = await open_core()
    watching = asyncio.create_task(core.watch())
    await core.append(blocks(1), urgent=True)
    assert not watching.done()
    await core.close()
    await watching


async def test_a_writer_that_ends_by_our_mistake_is_told_to_its_watcher_and_callers(
    open_core: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = await open_core()
    watching = asyncio.create_task(core.watch())
    monkeypatch.setattr(core._signing, "sign_own", lambda: 1 / 0)
    with pytest.raises(StorageError):
        await core.append(blocks(1), urgent=True)
    with pytest.raises(ZeroDivisionError):
        await watching
    with pytest.raises(StorageError):
        await core.append(blocks(1), urgent=True)
    with pytest.raises(ZeroDivisionError):
        await core.close()
    core = await open_core()  # durable, although the caller never heard
    assert list(core.blocks()) == blocks(1)
    await core.close()


async def test_too_large_is_our_own_mistake_and_leaves_the_core_alone(open_core: Open) -> None:
    core = await open_core()
    for too_much in ([bytes(BLOCK_BYTES_MAX + 1)], [b""] * GROUP_RECORDS_MAX, [bytes(BLOCK_BYTES_MAX)] * 2):
        with pytest.raises(LocalError):
            await core.append(too_much)
    assert await core.append([bytes(BLOCK_BYTES_MAX)], urgent=True) == 1
    assert await core.append([b""] * (GROUP_RECORDS_MAX - 1), urgent=True) == GROUP_RECORDS_MAX
    await core.close()


async def test_truncation_raises_the_fork_and_gives_indexes_new_content(open_core: Open) -> None:
    core = await open_core()
    await core.append(blocks(100), urgent=True)
    before = core.signed
    await core.truncate(37)
    assert (core.length, core.fork) == (37, 1)
    assert core.tree_hash() == Tree().append(blocks(37))[0].hash()
    assert core.signed != before
    assert core.signed is not None
    assert core.verifier is not None
    core.verifier.verify(core.signed.signature, core.tree_hash(), 37, 1)
    await core.append(blocks(5, 900), urgent=True)
    assert list(core.blocks()) == blocks(37) + blocks(5, 900)
    await core.truncate(0, fork=9)
    assert (core.length, core.fork, list(core.blocks())) == (0, 9, [])
    await core.append(blocks(2), urgent=True)
    assert await core.verify() == 2
    await core.close()
    core = await open_core()
    assert (core.length, core.fork, list(core.blocks())) == (2, 9, blocks(2))
    for length, fork in ((3, None), (-1, None), (1, 9), (1, 8), (1, 2**53)):
        with pytest.raises(LocalError):
            await core.truncate(length, fork)
    assert (core.length, core.fork) == (2, 9)
    await core.close()


async def test_encrypted_blocks_are_unreadable_at_rest_and_never_share_a_nonce(tmp_path: Path, open_core: Open) -> None:
    core = await open_core(encryption_key=ENCRYPTION_KEY)
    await core.append([b"a secret", b"another"], urgent=True)
    assert core.byte_length == len(b"a secretanother")
    await core.truncate(1)
    await core.append([b"another"], urgent=True)
    assert [core.get(0, proven=True), core.get(1, proven=True)] == [b"a secret", b"another"]
    await core.close()
    data = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"secret" not in data
    log = SegmentLog.open(OsDisk(tmp_path / "log"), create=False)
    stored = [record.payload for record in log.scan() if record.kind == BLOCK]
    log.close()
    assert len(set(stored)) == 3  # the same text at index 1 of forks 0 and 1 differs
    core = await open_core(create=False, key_pair=None)
    with pytest.raises(ConfigError, match="encrypted"):
        core.get(0)
    await core.close()
    core = await open_core(create=False, encryption_key=None)
    assert not core.writable
    with pytest.raises(StorageError, match="missing"):
        await core.append([b"plain"])
    await core.close()


async def test_a_core_opens_only_as_what_it_is(open_core: Open) -> None:
    core = await open_core()
    await core.append(blocks(1), urgent=True)
    with pytest.raises(StorageError) as caught:
        await open_core()
    assert caught.value.fault is StorageFault.LOCKED
    await core.close()
    for wrong in (
        {"create": False, "key": bytes(32)},
        {"create": False, "key_pair": PAIRS[1]},
        {"key_pair": PAIRS[1]},
        {"compat": True},
        {"create": False, "encryption_key": ENCRYPTION_KEY},
        {"encryption_key": ENCRYPTION_KEY},
    ):
        with pytest.raises(ConfigError):
            await open_core(**wrong)
    core = await open_core(create=False, key_pair=None)  # none of them kept the lock
    assert core.get(0) == blocks(1)[0]
    assert not core.writable
    for refused in (core.append(blocks(1)), core.truncate(0), core.sign()):
        with pytest.raises(StorageError) as caught:
            await refused
        assert caught.value.fault is StorageFault.READ_ONLY
    await core.close()


async def test_no_core_is_a_wrong_path_not_a_new_core(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no core"):
        await Hypercore.open(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


# --- derived files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage", ["none", "all", "checkpoint", "tree", "tree short", "checkpoint torn", "old checkpoint"]
)
async def test_derived_files_may_be_lost_at_any_time(tmp_path: Path, open_core: Open, damage: str) -> None:
    core = await open_core()
    await core.append(blocks(300), urgent=True)
    await core.truncate(200)
    await core.close()
    derived = tmp_path / "derived"
    shutil.copytree(derived, tmp_path / "old")
    core = await open_core()
    await core.append(blocks(100, 500), urgent=True)
    tree_hash, earlier = core.tree_hash(), [core.tree_hash(n) for n in range(0, 300, 7)]
    await core.close()
    checkpoint, tree = derived / "checkpoint", derived / "tree"
    if damage == "all":
        shutil.rmtree(derived)
    elif damage == "checkpoint":
        checkpoint.unlink()
    elif damage == "tree":
        tree.unlink()
    elif damage == "tree short":
        tree.write_bytes(tree.read_bytes()[:4000])
    elif damage == "checkpoint torn":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-40] + bytes(40))
    elif damage == "old checkpoint":
        shutil.rmtree(derived)
        (tmp_path / "old").rename(derived)
    core = await open_core()
    assert core.tree_hash() == tree_hash
    assert [core.tree_hash(n) for n in range(0, 300, 7)] == earlier
    assert list(core.blocks()) == blocks(200) + blocks(100, 500)
    assert all(core.get(index, proven=True) for index in range(300))
    assert await core.verify() == 300
    await core.close()


async def test_rotten_tree_nodes_are_noticed_and_made_again(tmp_path: Path, open_core: Open) -> None:
    core = await open_core()
    await core.append(blocks(64), urgent=True)
    await core.close()
    tree = tmp_path / "derived" / "tree"
    data = bytearray(tree.read_bytes())
    data[40 * 31 + 20] ^= 1  # an inner node: no opening looks at it
    tree.write_bytes(data)
    core = await open_core()
    assert core.tree_hash(48) == Tree().append(blocks(48))[0].hash()
    assert core.get(40, proven=True) == blocks(64)[40]
    await core.close()
    assert tree.read_bytes()[40 * 31 + 20] == data[40 * 31 + 20] ^ 1
    await core.close()


async def test_the_newest_signature_is_on_disk_after_closing_and_lags_little_before(
    tmp_path: Path, open_core: Open
) -> None:
    core = await open_core()
    for n in range(200):
        await core.append(blocks(1, n), urgent=True)
    await core.close()
    log = SegmentLog.open(OsDisk(tmp_path / "log"), create=False)
    lengths = [Signed.decode(record.payload).length for record in log.scan() if record.kind == RecordKind.SIGNATURE]
    log.close()
    assert lengths[-1] == 200
    assert all(0 < later - earlier <= 64 for earlier, later in itertools.pairwise([0, *lengths]))
    core = await open_core(key_pair=None, create=False)
    assert core.signed is not None
    assert core.verifier is not None
    core.verifier.verify(core.signed.signature, core.tree_hash(), 200, 0)
    await core.close()


async def test_checkpoints_are_left_while_running(
    tmp_path: Path, open_core: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "CHECKPOINT_EVERY_RECORDS", 10)
    core = await open_core()
    await core.append(blocks(4), urgent=True)
    assert not (tmp_path / "derived" / "checkpoint").exists()
    await core.append(blocks(20), urgent=True)
    await core.append(blocks(1), urgent=True)
    assert (tmp_path / "derived" / "checkpoint").exists()
    await core.close()


# --- a bad disk ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def on_faulty_disk(tmp_path: Path) -> AsyncIterator[tuple[Hypercore, Faults]]:
    faults = Faults()
    log, derived = FaultyDisk(tmp_path / "log", faults), FaultyDisk(tmp_path / "derived", faults)
    core = await Hypercore.open_on(log, derived, header=HEADER, key_pair=PAIR)
    yield core, faults
    faults.heal()
    await core.close()


@pytest.mark.parametrize(
    ("operation", "number", "fault"),
    [
        ("pwrite", errno.ENOSPC, StorageFault.FULL),
        ("pwrite", errno.EIO, StorageFault.IO),
        ("datasync", errno.EIO, StorageFault.IO),
    ],
)
async def test_a_failed_group_leaves_no_trace_and_the_next_one_works(
    tmp_path: Path, on_faulty_disk: tuple[Hypercore, Faults], operation: str, number: int, fault: StorageFault
) -> None:
    core, faults = on_faulty_disk
    await core.append(blocks(5), urgent=True)
    before = (core.length, core.fork, core.tree_hash(), core.signed)
    faults.fail(operation, number, suffix=".seg")
    results = await asyncio.gather(
        core.append([b"lost"], urgent=True), core.append([b"lost too"]), core.truncate(2), return_exceptions=True
    )
    assert [error.fault for error in results if isinstance(error, StorageError)] == [fault] * 3
    assert (core.length, core.fork, core.tree_hash(), core.signed) == before
    assert list(core.blocks()) == blocks(5)  # reading goes on
    faults.heal()
    assert await core.append(blocks(2, 5), urgent=True) == 7
    assert await core.verify() == 7
    await core.close()
    core = await Hypercore.open(tmp_path, key_pair=PAIR)
    assert list(core.blocks()) == blocks(7)
    await core.close()


async def test_nothing_is_signed_or_shown_before_it_is_durable(on_faulty_disk: tuple[Hypercore, Faults]) -> None:
    core, faults = on_faulty_disk
    faults.fail("datasync", suffix=".seg")
    waiting = asyncio.create_task(core.append(blocks(1), urgent=True))
    while not waiting.done():
        assert (core.length, core.signed) == (0, None)
        await asyncio.sleep(0)
    assert isinstance(waiting.exception(), StorageError)
    assert (core.length, core.signed) == (0, None)


async def test_derived_files_that_cannot_be_written_cost_no_append(
    tmp_path: Path, on_faulty_disk: tuple[Hypercore, Faults]
) -> None:
    core, faults = on_faulty_disk
    for operation, name in (("pwrite", "tree"), ("create", "checkpoint.tmp"), ("rename", "checkpoint")):
        faults.fail(operation, suffix=name)
    assert await core.append(blocks(3000), urgent=True) == 3000
    assert core.tree_hash(1999) == Tree().append(blocks(1999))[0].hash()
    await core.close()
    assert faults.hits > 0
    core = await Hypercore.open(tmp_path, key_pair=PAIR)
    assert core.tree_hash() == Tree().append(blocks(3000))[0].hash()
    await core.close()


# --- flipped bits --------------------------------------------------------------------------------------------------


def flip(path: Path, needle: bytes) -> None:
    data = bytearray(path.read_bytes())
    assert data.count(needle) == 1
    data[data.index(needle)] ^= 0x20
    path.write_bytes(data)


async def test_a_flipped_bit_is_found_and_named_and_other_blocks_are_still_served(
    tmp_path: Path, open_core: Open
) -> None:
    core = await open_core()
    await core.append(blocks(50), urgent=True)
    (segment,) = (tmp_path / "log").glob("*.seg")
    flip(segment, b"block 17")
    with pytest.raises(BlockCorrupt, match="block 17 is corrupt") as caught:
        core.get(17)
    assert (caught.value.index, caught.value.fault) == (17, StorageFault.CORRUPT)
    with pytest.raises(BlockCorrupt, match="block 17"):
        await core.verify()
    with pytest.raises(BlockCorrupt, match="block 17"):
        list(core.blocks())
    assert core.get(16) == b"block 16"
    assert core.get(18) == b"block 18"
    assert await core.append(blocks(1, 50), urgent=True) == 51
    await core.close()


async def test_a_flipped_bit_is_named_when_the_core_cannot_even_be_opened(tmp_path: Path, open_core: Open) -> None:
    core = await open_core()
    for n in range(100):
        await core.append(blocks(1, n), urgent=True)
    await core.close()
    (segment,) = (tmp_path / "log").glob("*.seg")
    flip(segment, b"block 42")
    with pytest.raises(BlockCorrupt, match="block 42 is corrupt"):
        await open_core()
    shutil.rmtree(tmp_path / "derived")
    with pytest.raises(StorageError) as caught:  # nobody knows the block's number now, but the place is told
        await open_core()
    assert caught.value.fault is StorageFault.CORRUPT
    await core.close()


def forge(folder: Path, index: int) -> None:
    """Write the log again with another block `index`: every checksum is good, the id is the same."""
    log = SegmentLog.open(OsDisk(folder / "log"), create=False)
    records, store_id = list(log.scan()), log.store_id
    log.close()
    shutil.rmtree(folder / "log")
    log = SegmentLog.open(OsDisk(folder / "log", create=True), create=True, store_id=store_id)
    count = 0
    for record in records:
        is_it = record.kind == BLOCK and count == index
        log.stage(record.kind, b"forged!!" if is_it else record.payload)
        count += record.kind == BLOCK
    log.commit()
    log.close()


async def test_a_forged_block_with_good_checksums_does_not_open_without_what_is_derived(
    tmp_path: Path, open_core: Open
) -> None:
    core = await open_core()
    await core.append(blocks(20), urgent=True)
    await core.close()
    forge(tmp_path, 11)
    shutil.rmtree(tmp_path / "derived")
    with pytest.raises(StorageError, match="does not carry its own signature") as caught:
        await open_core()
    assert caught.value.fault is StorageFault.CORRUPT
    await core.close()


async def test_a_forged_block_with_good_checksums_is_named_where_the_tree_is_still_there(
    tmp_path: Path, open_core: Open
) -> None:
    core = await open_core()
    await core.append(blocks(20), urgent=True)
    await core.close()
    forge(tmp_path, 11)
    core = await open_core()  # the checkpoint spares reading old blocks, so opening cannot know
    with pytest.raises(BlockCorrupt, match=r"block 11 .*not the block that was signed") as caught:
        await core.verify()
    assert caught.value.index == 11
    assert core.get(12, proven=True) == blocks(20)[12]
    with pytest.raises(StorageError) as refused:
        core.get(11, proven=True)
    assert refused.value.fault is StorageFault.CORRUPT
    await core.close()


# --- several signers -----------------------------------------------------------------------------------------------


def signed_length(core: Hypercore) -> int:
    return core.signed.length if core.signed else 0


async def test_a_quorum_signs_and_only_then_it_shows(tmp_path: Path) -> None:
    manifest = Manifest.multi(tuple(pair.public_key for pair in PAIRS))
    first = await Hypercore.open(tmp_path / "0", create=True, manifest=manifest, key_pair=PAIRS[0])
    second = await Hypercore.open(tmp_path / "1", create=True, manifest=manifest, key_pair=PAIRS[1])
    for core in (first, second):
        await core.append(blocks(5), urgent=True)
        await core.append(blocks(5, 5), urgent=True)
        assert core.signed is None
    assert first.signable(5) == second.signable(5)
    part = await second.sign(5)
    assert signed_length(second) == 0
    assert await first.add_signature(part) is False
    await first.sign(5)
    assert signed_length(first) == 5
    assert first.signed is not None
    assert first.verifier is not None
    first.verifier.verify(first.signed.signature, first.tree_hash(5), 5, 0)
    await first.sign()
    late = await second.sign()
    await first.close()
    first = await Hypercore.open(tmp_path / "0", key_pair=PAIRS[0])  # its own part for 10 is still there
    assert signed_length(first) == 5
    assert await first.add_signature(late) is True
    assert await first.verify() == 10
    for bad, error in (
        (Partial(2, 10, 0, late.signature), SignatureError),
        (Partial(3, 10, 0, late.signature), SignatureError),
        (Partial(1, 9, 0, late.signature), SignatureError),
        (Partial(1, 11, 0, late.signature), RemoteError),
        (Partial(1, 10, 1, late.signature), RemoteError),
    ):
        with pytest.raises(error):
            await first.add_signature(bad)
    await first.truncate(7)
    assert signed_length(first) == 0
    await first.sign()
    assert await first.add_signature(Partial(2, 7, 1, PAIRS[2].sign(first.signable()))) is True
    assert await first.verify() == 7
    await first.close()
    await second.close()


async def test_an_append_that_is_to_be_whole_is_cut_off_where_its_end_is_missing(tmp_path: Path) -> None:
    core = await Hypercore.open(tmp_path, create=True, key_pair=PAIRS[0])
    await core.append(blocks(3), urgent=True)
    assert await core.append(blocks(4, 3), urgent=True, whole=True) == 7
    assert await core.append(blocks(1, 7), urgent=True, whole=True) == 8
    await core.close()
    log = SegmentLog.open(OsDisk(tmp_path / "log"), create=False)
    kinds = [record.kind for record in log.scan() if record.kind in WHOLE_BLOCKS]
    assert kinds == [BLOCK] * 3 + [PART] * 3 + [BLOCK] * 2
    for block in blocks(2, 8):  # what a power cut may leave of an append of three or more
        log.stage(PART, block)
    log.commit()
    log.close()
    for _ in range(2):
        core = await Hypercore.open(tmp_path, key_pair=PAIRS[0])
        assert (core.length, core.fork, list(core.blocks())) == (8, 1, blocks(8))
        assert signed_length(core) == 8
        assert await core.verify() == 8
        await core.close()
    shutil.rmtree(tmp_path / "derived")
    core = await Hypercore.open(tmp_path, key_pair=PAIRS[0])
    assert await core.append(blocks(2, 8), urgent=True, whole=True) == 10
    assert await core.verify() == 10
    await core.clear(0, 10)
    await core.close()
    core = await Hypercore.open(tmp_path)
    assert (core.length, core.has(9)) == (10, False)
    await core.close()


async def test_who_signed_a_longer_log_counts_where_the_manifest_allows_it(tmp_path: Path) -> None:
    signers = tuple(Signer(pair.public_key) for pair in PAIRS[:3])
    for allowed in (True, False):
        manifest = Manifest(signers=signers, quorum=2, allow_patch=allowed)
        core = await Hypercore.open(tmp_path / f"{allowed}", create=True, manifest=manifest, key_pair=PAIRS[0])
        await core.append(blocks(20), urgent=True)
        await core.sign(6)
        assert await core.add_signature(Partial(1, 13, 0, PAIRS[1].sign(core.signable(13)))) is False
        assert signed_length(core) == (6 if allowed else 0)
        assert await core.add_signature(Partial(2, 11, 0, PAIRS[2].sign(core.signable(11)))) is allowed
        assert signed_length(core) == (11 if allowed else 0)
        await core.close()
        core = await Hypercore.open(tmp_path / f"{allowed}", key_pair=PAIRS[0])
        await core.sign(13)
        assert signed_length(core) == 13
        assert await core.verify() == 20
        await core.close()


@pytest.mark.parametrize("index", [-1, 2**53])
async def test_what_can_be_no_index_is_not_waited_for(tmp_path: Path, index: int) -> None:
    core = await Hypercore.open(tmp_path, create=True, key_pair=PAIRS[0])
    with pytest.raises(IndexError):
        await core.fetch(index)
    with pytest.raises(IndexError):
        core.get(index)
    await core.close()
