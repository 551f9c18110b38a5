"""`pomona bee`: in this process, and in real ones where pipes, signals and peers matter."""

import asyncio
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support_processes import command, here, key_of, pomona, refused, said, serving

from edge.__main__ import main
from edge.hyperbee.bee import Hyperbee
from edge.hyperbee.codec import Header
from edge.hypercore.store import FeedStore
from edge.limits import BLOCK_BYTES_MAX

SECRET = "0123456789abcdef" * 4


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_pipes(tmp_path: Path) -> None:
    put = pomona("bee", "put", "--store", tmp_path, "n", "--batch", "2", given=b"a\t1\nb\t\xff\nc\t3")
    assert (put.returncode, put.stdout, put.stderr) == (0, b"3\n4\n", b"")
    assert pomona("bee", "put", "--store", tmp_path, "n", "a", "-", given=b"all\nof it").stdout == b"5\n"
    assert pomona("bee", "range", "--store", tmp_path, "n").stdout == b"a\tall\nof it\nb\t\xff\nc\t3\n"
    absent = pomona("bee", "get", "--store", tmp_path, "n", "d")
    assert (absent.returncode, absent.stdout, absent.stderr) == (1, b"", b"pomona bee: d: no such key\n")
    assert pomona("bee", "put", "--store", tmp_path, "n").returncode == 2


def test_put_get_del_and_every_version(tmp_path: Path) -> None:
    store = ("--store", tmp_path)
    assert said("bee", "put", *store, "stock", "apple", "120") == "2\n"
    assert lines(said("bee", "put", *store, "stock", "pear", "80", "--json")) == [{"version": 3}]
    assert said("bee", "put", *store, "stock", "apple", "-", given=b"a\nb\n") == "4\n"
    assert said("bee", "get", *store, "stock", "apple") == "a\nb\n\n"
    assert lines(said("bee", "get", *store, key_of(tmp_path, "stock"), "apple", "--json")) == [
        {"seq": 3, "key": "apple", "value": "a\nb\n"}
    ]
    assert said("bee", "get", *store, "stock", "apple", "--at", "2") == "120\n"
    assert said("bee", "del", *store, "stock", "pear") == "5\n"
    assert refused("bee", "get", *store, "stock", "pear") == "pomona bee: pear: no such key\n"
    assert refused("bee", "del", *store, "stock", "pear") == "pomona bee: pear: no such key\n"
    assert said("bee", "get", *store, "stock", "pear", "--at", "4") == "80\n"
    assert "newest version is 5" in refused("bee", "get", *store, "stock", "pear", "--at", "6")


def test_conditions(tmp_path: Path) -> None:
    put = ("bee", "put", "--store", tmp_path)
    assert "no such feed" in refused(*put, "stock", "apple", "1", "--if-equals", "0")  # nothing is made for it
    assert said(*put, "stock", "apple", "1", "--if-absent") == "2\n"
    assert "apple: is there already" in refused(*put, "stock", "apple", "2", "--if-absent")
    assert "apple: has another value" in refused(*put, "stock", "apple", "2", "--if-equals", "0")
    assert said(*put, "stock", "apple", "2", "--if-equals", "1") == "3\n"
    delete = ("bee", "del", "--store", tmp_path, "stock", "apple", "--if-equals")
    assert "has another value" in refused(*delete, "1")
    assert said(*delete, "2") == "4\n"
    assert "no such key" in refused(*put, "stock", "apple", "2", "--if-equals", "2")


def test_batches_are_written_together_and_ranges_read_in_order(tmp_path: Path) -> None:
    store = ("--store", tmp_path)
    given = b"".join(b"%03d\tv%d\n" % (n, n) for n in range(250))
    assert said("bee", "put", *store, "n", "--batch", "100", given=given) == "101\n201\n251\n"
    assert said("bee", "range", *store, "n").encode() == given
    assert said("bee", "range", *store, "n", "--gt", "010", "--lte", "012") == "011\tv11\n012\tv12\n"
    assert said("bee", "range", *store, "n", "--gte", "247", "--lt", "249", "--reverse") == "248\tv248\n247\tv247\n"
    assert said("bee", "range", *store, "n", "--prefix", "24", "--limit", "1") == "240\tv240\n"
    assert "lies within a batch" in refused("bee", "range", *store, "n", "--at", "102")
    assert len(lines(said("bee", "range", *store, "n", "--at", "101", "--json"))) == 100


def test_a_batch_with_a_bad_line_is_not_written_and_those_before_it_stay(tmp_path: Path) -> None:
    done = pomona("bee", "put", "--store", tmp_path, "n", "--batch", "2", given=b"a\t1\nb\t2\nc\t3\nd 4\n")
    assert (done.returncode, done.stdout) == (1, b"3\n")
    assert done.stderr == b"pomona bee: stdin, line 4: no tab between key and value\n"
    assert said("bee", "range", "--store", tmp_path, "n") == "a\t1\nb\t2\n"
    assert "more than" in refused(
        "bee",
        "put",
        "--store",
        tmp_path,
        "n",
        "--batch",
        "3",
        given=b"".join(b"%d\t" % n + b"x" * 600_000 + b"\n" for n in range(3)),
    )
    assert "at most" in refused("bee", "put", "--store", tmp_path, "n", "k", "-", given=b"x" * BLOCK_BYTES_MAX)


def test_the_largest_batch_fits(tmp_path: Path) -> None:
    for start in range(0, 3000, 1000):
        given = b"".join(b"%d\t" % (n * 7919 % 3001) + b"x" * 1000 + b"\n" for n in range(start, start + 1000))
        assert said("bee", "put", "--store", tmp_path, "n", "--batch", "1000", given=given) == f"{start + 1001}\n"


def test_binary_keys_values_and_sub_bees(tmp_path: Path) -> None:
    store = ("--store", tmp_path)
    assert said("bee", "put", *store, "b", "--hex", "ff00", "00fe") == "2\n"
    assert said("bee", "put", *store, "b", "é", "ü") == "3\n"
    assert said("bee", "put", *store, "b", "k", "in", "--sub", "x", "--sub", "y") == "4\n"
    assert said("bee", "get", *store, "b", "--hex", "FF00") == "00fe\n"
    assert pomona("bee", "get", *store, "b", "é").stdout == "ü\n".encode()
    whole = lines(said("bee", "range", *store, "b", "--json"))
    assert whole[0] == {"seq": 3, "key": "x\0y\0k", "value": "in"}
    assert whole[2] == {"seq": 1, "key": {"hex": "ff00"}, "value": {"hex": "00fe"}}
    assert lines(said("bee", "range", *store, "b", "--sub", "x", "--sub", "y", "--json")) == [
        {"seq": 3, "key": "k", "value": "in"}
    ]
    assert said("bee", "range", *store, "b", "--hex", "--prefix", "ff") == "ff00\t00fe\n"
    assert said("bee", "put", *store, "b", "--batch", "9", "--hex", given=b"01\t02\n") == "5\n"
    assert "not hexadecimal" in refused("bee", "put", *store, "b", "--hex", "xy", "00")
    assert "not UTF-8" in refused("bee", "get", *store, "b", "\udcff")


def test_diff_and_history(tmp_path: Path) -> None:
    store = ("--store", tmp_path)
    for words in (("a", "1"), ("b", "2"), ("a", "3")):
        said("bee", "put", *store, "d", *words)
    said("bee", "del", *store, "d", "b")
    assert said("bee", "diff", *store, "d", "3") == "- a\t1\n+ a\t3\n- b\t2\n"
    assert said("bee", "diff", *store, "d", "2", "3") == "+ b\t2\n"
    assert lines(said("bee", "diff", *store, "d", "3", "--json"))[1] == {
        "key": "b",
        "old": "2",
        "new": None,
        "old_seq": 2,
        "new_seq": None,
    }
    assert said("bee", "history", *store, "d", "--reverse", "--limit", "2") == "4\tdel\tb\n3\tput\ta\t3\n"
    assert lines(said("bee", "history", *store, "d", "--limit", "1", "--json")) == [
        {"seq": 1, "type": "put", "key": "a", "value": "1"}
    ]


def test_encrypted_bees(tmp_path: Path) -> None:
    said("bee", "put", "--store", tmp_path, "s", "name", "a plain secret", "--encryption-key", SECRET)
    assert said("bee", "get", "--store", tmp_path, "s", "name") == "a plain secret\n"
    assert not any(b"plain secret" in path.read_bytes() for path in (tmp_path / "feeds").rglob("*.seg"))
    key = key_of(tmp_path, "s")
    with serving(tmp_path) as address:
        given = ("bee", "get", "--store", tmp_path / "copy", key, "name")
        assert said(*given, "--connect", address, "--encryption-key", SECRET) == "a plain secret\n"
        assert said(*given) == "a plain secret\n"  # block and key were kept


def test_somebody_elses_bee_is_read_in_part(tmp_path: Path) -> None:
    given = b"".join(b"%05d\t%d\n" % (n, n) for n in range(3000))
    said("bee", "put", "--store", tmp_path / "ours", "n", "--batch", "1000", given=given)
    key, copy = key_of(tmp_path / "ours", "n"), tmp_path / "copy"
    with serving(tmp_path / "ours") as address:
        there = ("--store", copy, key, "--connect", address)
        assert said("bee", "get", *there, "01234") == "1234\n"
        assert said("bee", "range", *there, "--gte", "02000", "--limit", "2") == "02000\t2000\n02001\t2001\n"
        assert said("bee", "get", *there, "01234", "--at", "2001") == "1234\n"
        assert "no such key" in refused("bee", "get", *there, "x")
        unknown = refused("bee", "get", "--store", copy, SECRET, "x", "--connect", address)
        assert "no peer has anything of it" in unknown
    assert 0 < held(copy, key) < 200
    assert said("bee", "get", "--store", copy, key, "01234") == "1234\n"
    partly = here("bee", "range", "--store", copy, key)
    assert (partly.returncode, b"this part of it is not here" in partly.stderr) == (1, True)
    assert "somebody else's" in refused("bee", "put", "--store", copy, key, "a", "b")
    assert f"cannot connect to {address}" in refused("bee", "get", *there, "01234")


def held(store: Path, key: str) -> int:
    async def look() -> int:
        core = await FeedStore(store).open(FeedStore(store).find(key))
        try:
            return sum(end - start for start, end in core.held(0, core.length))
        finally:
            await core.close()

    return asyncio.run(look())


def test_a_live_history_goes_on_with_what_is_written_elsewhere(tmp_path: Path) -> None:
    said("bee", "put", "--store", tmp_path / "ours", "n", "a", "1")
    key = key_of(tmp_path / "ours", "n")
    with serving(tmp_path / "ours") as address:
        words = ("bee", "history", "--store", tmp_path / "copy", key, "--live", "--connect", address, "--wait", "1")
        with subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"1\tput\ta\t1\n"
            for number in range(2, 4):  # through the process that serves, which has the feed open
                assert said("bee", "put", "--store", tmp_path / "ours", "n", "a", str(number)) == f"{number + 1}\n"
                assert process.stdout.readline() == b"%d\tput\ta\t%d\n" % (number, number)
            assert said("bee", "get", "--store", tmp_path / "ours", "n", "a") == "3\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
            assert process.stderr.read() == b""


def test_a_peer_that_falls_silent_is_not_waited_for_without_end(tmp_path: Path) -> None:
    """The peer knows the length, but holds none of the blocks."""

    async def forget() -> None:
        store = FeedStore(tmp_path / "ours")
        core = await store.open(store.find("n"), write=True)
        bee = Hyperbee(core)
        await bee.put(b"a", b"1")
        await core.clear(1, 2)
        await core.close()

    said("feed", "create", "--store", tmp_path / "ours", "n")
    asyncio.run(forget())
    with serving(tmp_path / "ours") as address:
        words = ("bee", "get", "--store", tmp_path / "copy", key_of(tmp_path / "ours", "n"), "a")
        assert "no peer has sent anything" in refused(*words, "--connect", address, "--wait", "0.5")


def test_a_feed_that_is_no_bee_is_left_alone(tmp_path: Path) -> None:
    said("feed", "create", "--store", tmp_path, "lines")
    said("feed", "append", "--store", tmp_path, "lines", given=b"hello\n")
    for words in (("put", "a", "1"), ("get", "a"), ("range",), ("history",)):
        assert "lines: is no Hyperbee" in refused("bee", words[0], "--store", tmp_path, "lines", *words[1:])
    assert said("feed", "cat", "--store", tmp_path, "lines") == "hello\n"
    assert Header().encode()  # what stands in block 0 of one


@pytest.mark.parametrize(
    "words",
    [
        ("get", "absent", "a"),
        ("range", "absent"),
        ("del", "absent", "a"),
        ("history", "absent"),
        ("get", SECRET, "a"),
        ("put", "a//b", "a", "1"),
        ("diff", "p", "9"),
        ("diff", "p", "1", "9"),
        ("get", "p", "a", "--at", "9"),
        ("get", "p", "a", "--encryption-key", SECRET),
        ("get", "p", "b"),
        ("put", "p", "a", "--hex", "0"),
        ("get", "p", "a", "--connect", "127.0.0.1:1"),
    ],
)
def test_what_is_refused_says_so_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert main(["bee", "put", "--store", str(tmp_path), "p", "a", "1"]) == 0
    before = FeedStore(tmp_path).catalog()
    capsys.readouterr()
    assert main(["bee", words[0], "--store", str(tmp_path), *words[1:]]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pomona bee: ")
    assert err.count("\n") == 1
    assert FeedStore(tmp_path).catalog() == before


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("get", "--store", "x", "p"),
        ("put", "--store", "x", "p"),
        ("put", "--store", "x", "p", "key"),
        ("put", "--store", "x", "p", "key", "value", "--batch", "2"),
        ("put", "--store", "x", "p", "--batch", "0"),
        ("put", "--store", "x", "p", "--batch", "1001"),
        ("put", "--store", "x", "p", "--batch", "2", "--if-absent"),
        ("put", "--store", "x", "p", "k", "v", "--if-absent", "--if-equals", "1"),
        ("put", "--store", "x", "p", "k", "v", "--connect", "127.0.0.1:1"),
        ("range", "--store", "x", "p", "--gt", "a", "--gte", "a"),
        ("range", "--store", "x", "p", "--gt", "a", "--prefix", "a"),
        ("get", "--store", "x", "p", "k", "--connect", "example.org:1"),
        ("get", "--store", "x", "p", "k", "--connect", "127.0.0.1"),
        ("get", "--store", "x", "p", "k", "--wait", "0"),
        ("get", "--store", "x", "p", "k", "--at", "-1"),
        ("history", "--store", "x", "p", "--live", "--reverse"),
        ("diff", "--store", "x", "p"),
    ],
)
def test_wrong_usage_is_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bee", *words])
    assert caught.value.code == 2
    assert capsys.readouterr().out == ""
