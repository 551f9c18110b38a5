"""docs/restored-backup.md is what stock peers do: its experiment, run again."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    done = subprocess.run(["node", HERE / "restored_backup.mjs"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def frozen_at(side: dict[str, Any], length: int, fork: int = 0) -> bool:
    told = f"conflict({length}, {fork})" in side["events"]
    return bool(side["frozen"] and side["session_closed"] and not side["writable"] and told)


def test_a_copied_folder_is_refused(facts: dict[str, Any]) -> None:
    assert facts["refused"]["opened"] is False
    assert facts["refused"]["code"] == "DEVICE_FILE"


def test_connecting_first_brings_everything_back(facts: dict[str, Any]) -> None:
    case = facts["connects_first"]
    assert (case["before"]["length"], case["before"]["held"]) == (60, 60)
    assert (case["eager"]["restored"]["length"], case["eager"]["restored"]["held"]) == (100, 60)
    assert (case["fetched"]["restored"]["held"], case["fetched"]["restored"]["last_block"]) == (100, "sale 99")
    assert case["grown"]["reader"]["last_block"] == "new 100"
    assert not any(case[step]["id_0"] for step in ("eager", "fetched", "grown"))


def test_a_reader_that_lags_does_not_help(facts: dict[str, Any]) -> None:
    case = facts["connects_to_a_laggard"]
    assert case["first"]["restored"]["length"] == 80
    assert frozen_at(case["then"]["restored"], 81)
    assert frozen_at(case["then"]["reader"], 81)


@pytest.mark.parametrize(("name", "length"), [("appends_10", 70), ("appends_50", 100)])
def test_a_second_history_freezes_both_sides_until_they_restart(facts: dict[str, Any], name: str, length: int) -> None:
    case = facts[name]
    assert frozen_at(case["met"]["restored"], length)
    assert frozen_at(case["met"]["reader"], length)
    assert "SESSION_CLOSED" in case["append_after"]
    # The request that asks for the proof, and the proofs of both sides.
    assert sorted(message["kind"] for message in case["met"]["id_0"]) == ["data", "data", "request"]
    assert {tuple(message["upgrade"]) for message in case["met"]["id_0"]} == {(0, length)}
    for side in ("restored", "reader"):
        assert case["restart"][side]["frozen"] is False
        assert case["restart"][side]["held"] == case["restart"][side]["length"]
    assert case["appended"]["last_block"].startswith("after the restart")
    assert case["again"]["restored"]["frozen"]
    assert case["again"]["reader"]["frozen"]


def test_equal_lengths_hide_two_histories(facts: dict[str, Any]) -> None:
    case = facts["appends_40"]
    assert case["met"]["restored"]["last_block"] == "different 99"
    assert case["met"]["reader"]["last_block"] == "sale 99"
    assert not case["met"]["restored"]["frozen"]
    assert not case["met"]["reader"]["frozen"]
    assert case["append_after"] == "appended: length 101"
    assert frozen_at(case["again"]["reader"], 100)
    clones = facts["clones"]
    assert not clones["same_length"]["copy 1"]["frozen"]
    assert frozen_at(clones["longer"]["copy 1"], 70)
    assert frozen_at(clones["longer"]["copy 2"], 70)


def test_a_higher_fork_deletes_at_the_reader(facts: dict[str, Any]) -> None:
    case = facts["truncates"]
    assert (case["met"]["reader"]["length"], case["met"]["reader"]["fork"]) == (60, 1)
    assert "truncate(60, 1)" in case["met"]["reader"]["events"]
    assert case["grown"]["reader"]["last_block"] == "different 69"
    twice = facts["truncates_twice"]
    assert twice["two"]["reader"]["last_block"] == "first 69"
    assert not twice["two"]["reader"]["frozen"]
    assert frozen_at(twice["three"]["reader"], 70, 1)
