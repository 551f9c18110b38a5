"""`pomona-trainer` as a person meets it: words, JSON, exit codes, and no torch where none is needed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "edge/agent/policy/pomona.onnx"


def simulate(path: Path) -> None:
    assert main(["simulate", "--out", str(path), "--stores", "2", "--weeks", "40", "--seed", "1"]) == 0


def test_simulate_writes_what_evaluate_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert SHIPPED.exists(), "the policy that the box ships with is missing: make train"
    path = tmp_path / "sales.csv.gz"
    simulate(path)
    assert "880 rows of 2 stores" in capsys.readouterr().out
    assert main(["evaluate", "--data", str(path), "--bootstrap", "5", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["kind"], answer["stores"], answer["skus"], answer["test_from"]) == ("replay", 2, 11, 33)
    assert list(answer["policies"])[-1] == "SAC"
    assert main(["evaluate", "--data", str(path), "--bootstrap", "5", "--test-from", "30", "--stores", "2"]) == 0
    table = capsys.readouterr().out
    assert "1 stores, 11 items, weeks 1–40, tested from week 30" in table
    for name in ("hold", "cost-plus", "static", "bandit", "short-run", "long-run", "look-ahead", "SAC"):
        assert name in table


def test_evaluate_in_the_simulator(capsys: pytest.CaptureFixture[str]) -> None:
    assert SHIPPED.exists(), "the policy that the box ships with is missing: make train"
    size = ["--seeds", "2", "--shops", "1", "--weeks", "3"]
    assert main(["evaluate", "--simulator", "--pack", "stockpiling", *size, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["pack"] == "stockpiling"
    assert {"SAC", "look-ahead", "planner (true model)"} <= set(answer["policies"])
    assert main(["evaluate", "--simulator", "--pack", "no-carry-over", "--model-error", "1", *size]) == 0
    assert "planner (true model)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "--data", "absent.csv"], "absent.csv"),
        (["evaluate", "--data", "x.csv", "--policy", "absent.onnx"], "absent.onnx"),
        (["evaluate", "--simulator", "--seeds", "0"], "--seeds"),
        (["evaluate", "--simulator", "--model-error", "9"], "--model-error"),
        (["simulate", "--out", "/proc/none/x.csv"], "cannot be written"),
        (["simulate"], "--out"),
        (["simulate", "--out", "x.csv", "--stores", "0"], "--stores"),
        (["train", "--steps", "0"], "--steps"),
        (["export", "--checkpoint", "absent.pt", "--out", "x.onnx"], "absent.pt"),
    ],
)
def test_a_refusal_is_one_line_and_exit_1(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("pomona-trainer: ")
    assert words in error or "ships none" in error


@pytest.mark.parametrize("arguments", [[], ["evaluate"], ["fly"], ["simulate", "--stores", "many"]])
def test_wrong_usage_is_exit_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_simulate_and_evaluate_never_load_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from trainer.__main__ import main;"
        f"main(['simulate', '--out', {str(tmp_path / 'a.csv')!r}, '--stores', '1', '--weeks', '30']);"
        "import trainer.contest, trainer.replay, trainer.evaluate, trainer.sim.shop;"
        "assert 'torch' not in sys.modules, 'torch was loaded'"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
