"""Reports and the command: every figure once, tables that are tables, curves that are XML, refusals in one line."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from trainer.__main__ import main
from trainer.worth import curves, real, report, simulated
from trainer.worth.real import Interval, Row
from trainer.worth.simulated import ALONE, CASES, HOLD, TRUTH, SimulatedConfig

CONFIG = SimulatedConfig(seeds=4, weeks=30, peers=(1, 5))


def losses() -> simulated.Result:
    rng = np.random.default_rng(0)
    level = {TRUTH: 0.0, HOLD: 4.0, ALONE: 3.0, "1 peer": 2.0, "5 peers": 1.0}
    tables = [
        {name: np.where(value > 0, value + 0.1 * rng.standard_normal((4, 30)), 0.0) for name, value in level.items()}
        for _ in range(2)
    ]
    return simulated.Result(CASES["known"], CONFIG, tables[0], tables[1], 1.0)


def rows() -> real.Result:
    some = Interval(1.234, 1.0, 1.5)
    found = [
        Row(known, name, some, some, some, *((None,) * 3 if known == real.FIRST else (some,) * 3))
        for known in (real.FIRST, "0")
        for name in (real.SHIPPED, "5 peers")
    ]
    return real.Result(tuple(found), 61, 11, 236, (66, 78), 0.5, 0.4)


@pytest.mark.parametrize("text", [report.real_markdown(rows()), report.simulated_markdown(losses())])
def test_tables_are_tables(text: str) -> None:
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert blocks
    for block in blocks:
        assert len({line.count("|") for line in block}) == 1
        assert set(block[1]) <= set("|- ")


def test_spans_longer_than_the_study_are_left_out() -> None:
    text = report.simulated_markdown(losses())
    assert "weeks 1–26" in text
    assert "weeks 1–52" not in text
    assert set(report.simulated_json(losses())["arms"][ALONE]["loss"]) == {"8", "26"}


def test_saved_is_paired_by_seed() -> None:
    found = losses()
    by_hand = found.value[ALONE][:, :8].mean(1) - found.value["5 peers"][:, :8].mean(1)
    saved = report.saved(found, "5 peers", 8)
    assert saved.value == pytest.approx(by_hand.mean())
    assert saved.high - saved.value == pytest.approx(1.96 * by_hand.std(ddof=1) / 2.0)


def test_the_curve_ends_at_the_loss_of_all_weeks() -> None:
    mean, error = report.curve(losses(), "1 peer")
    assert mean[-1] == pytest.approx(losses().loss("1 peer", 30).mean())
    assert error[-1] == pytest.approx(report.standard_error(losses().loss("1 peer", 30)))


def test_json_is_json_and_holds_every_row() -> None:
    data = json.loads(json.dumps(report.real_json(rows())))
    assert [row["prior"] for row in data["rows"]] == [real.SHIPPED, "5 peers"] * 2
    assert data["rows"][0]["elasticity"] is None
    assert data["rows"][3]["wape"] == {"value": 1.234, "low": 1.0, "high": 1.5}
    assert json.loads(json.dumps(report.simulated_json(losses())))["case"] == "known"


def test_what_is_unknown_is_null_in_json() -> None:
    first = {name: table[:1] for name, table in losses().value.items()}
    one = simulated.Result(CASES["known"], SimulatedConfig(seeds=1, weeks=30), first, first, 1.0)
    arm = json.loads(json.dumps(report.simulated_json(one), allow_nan=False))["arms"]["5 peers"]
    assert arm["saved"]["8"]["value"] is not None
    assert arm["saved"]["8"]["low"] is None


def test_curves_are_one_svg_inside_its_box() -> None:
    drawing = ET.fromstring(curves.svg(losses()))
    space = "{http://www.w3.org/2000/svg}"
    lines = drawing.findall(f"{space}polyline")
    assert len(lines) == 4
    for line in [*lines, *drawing.findall(f"{space}polygon")]:
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert curves.LEFT <= x <= curves.WIDTH - curves.RIGHT
            assert 0 <= y <= curves.HEIGHT - curves.BOTTOM + 0.05
    labels = sorted(
        float(text.attrib["y"])
        for text in drawing.findall(f"{space}text")
        if text.text in (HOLD, ALONE, "1 peer", "5 peers")
    )
    assert len(labels) == 4
    assert min(np.diff(labels)) >= 15 - 0.11


def test_the_command_writes_what_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, drawing = tmp_path / "a.md", tmp_path / "a.svg"
    size = ["--seeds", "1", "--shops", "1", "--weeks", "2"]
    assert main(["worth", "simulated", *size, "--case", "known", "--out", str(table), "--svg", str(drawing)]) == 0
    assert capsys.readouterr().out == ""
    assert table.read_text().startswith("case known: 1 seeds")
    ET.fromstring(drawing.read_text())


def write_sales(path: Path, *, spread: float = 0.15) -> None:
    """Three stores, two items, 62 weeks; prices wander."""
    rng = np.random.default_rng(0)
    lines = ["store,week,sku,units,price_cents,unit_cost_cents,deal,feature"]
    for store in range(3):
        for week in range(62):
            for sku in "ab":
                x = spread * rng.standard_normal()
                lines.append(f"{store},{week},{sku},{rng.poisson(50 * np.exp(-2 * x))},{200 * np.exp(x):.0f},140,0,0")
    path.write_text("\n".join(lines) + "\n")


def test_the_command_reads_real_weeks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sales = tmp_path / "sales.csv"
    write_sales(sales)
    assert main(["worth", "real", "--data", str(sales), "--bootstrap", "20", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["kind"], answer["stores"], answer["opening_weeks"]) == ("worth-real", 3, [26])


def test_prices_that_never_moved_are_no_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sales = tmp_path / "sales.csv"
    write_sales(sales, spread=0.0)
    assert main(["worth", "real", "--data", str(sales)]) == 1
    assert "moves of its prices" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["real", "--data", "absent.csv"], "absent.csv"),
        (["real", "--data", "x.csv", "--bootstrap", "1"], "--bootstrap"),
        (["simulated", "--seeds", "0"], "--seeds"),
        (["simulated", "--weeks", "521"], "--weeks"),
        (
            ["simulated", "--seeds", "1", "--shops", "1", "--weeks", "1", "--out", "/proc/none/x.md"],
            "cannot be written",
        ),
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
    assert main(["worth", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
