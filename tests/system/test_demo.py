"""`pomona demo`, as a person starts it: short, on both brokers, one shop and several, and with recorded sales."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge.pos.supervisor import find_mosquitto

pytestmark = pytest.mark.system


def demo(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "edge", "demo", *arguments], capture_output=True, text=True, timeout=110, check=False
    )


@pytest.mark.parametrize("broker", ["embedded", "mosquitto"])
def test_a_live_shop_proves_what_it_has_to(broker: str, tmp_path: Path) -> None:
    if broker == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (Debian: apt install mosquitto)")
    kept = tmp_path / "kept"
    done = demo("--shops", "1", "--weeks", "2", "--lanes", "2", "--broker", broker, "--keep", str(kept), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["networks"] is None
    (shop,) = answer["shops"]
    assert shop["networks"] == []
    assert shop["published"] == shop["acknowledged"] == shop["in_log"] > 500
    assert shop["decisions"] >= 22
    assert shop["outside_guard"] == []
    config = str(kept / "box-1" / "pomona.toml")
    why = subprocess.run(
        [sys.executable, "-m", "edge", "why", "own-label-64", "--config", config],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert why.returncode == 0, why.stderr
    assert "Own Label 64" in why.stdout


@pytest.mark.soak  # `make demo` is the same at full length, and every change runs it
def test_shops_of_one_company_hear_each_other_and_one_is_cut_off_meanwhile(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    done = demo("--weeks", "4", "--lanes", "1", "--broker", "embedded", "--keep", str(kept), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["good"]
    assert len(answer["shops"]) == 3
    for shop in answer["shops"]:
        assert shop["published"] == shop["acknowledged"] == shop["in_log"] > 200
        assert shop["outside_guard"] == []
        assert shop["networks"][0]["name"] == "shops"
        assert shop["networks"][0]["members"] == 3
    networks = answer["networks"]
    assert len(networks["heard"]) == 6
    assert all(row["blocks"] == row["told"] > 10 for row in networks["heard"])
    assert networks["faults"] == []
    assert networks["refused"] == {}
    cut = networks["cut_off"]
    assert (cut["store"], cut["mode"]) == (2, "local_only")
    assert min(cut["books"], cut["waiting"], cut["missed"]) > 0
    assert answer["consortium"]["agreed"]
    shown = [sys.executable, "-m", "edge", "roster", "show", "shops", "--state", str(kept / "office" / "state")]
    roster = subprocess.run(shown, capture_output=True, text=True, timeout=60, check=False)
    assert roster.returncode == 0, roster.stderr
    assert "shop 3" in roster.stdout


def test_recorded_sales_are_replayed_in_shadow_and_sum_exactly(tmp_path: Path) -> None:
    rows = ["store,week,sku,units,price_cents,unit_cost_cents,deal,feature"]
    units = 0
    for store in (4, 7):
        for week in range(40, 43):
            for number, sku in enumerate(("juice-a", "juice-b", "juice-c")):
                sold = 20 + 7 * number + week % 5
                units += sold if store == 4 else 0
                rows.append(f"{store},{week},{sku},{sold},{199 + 10 * number},120.5,{int(week == 41)},0.0")
    data = tmp_path / "sales.csv"
    data.write_text("\n".join(rows) + "\n", encoding="utf-8")
    done = demo("--data", str(data), "--stores", "2", "--messages-max", "600", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["shops"]) == 2
    assert sum(shop["published"] for shop in answer["shops"]) <= 600
    assert answer["shops"][0]["end"]["units"] == units
    for shop in answer["shops"]:
        assert shop["published"] == shop["acknowledged"] == shop["in_log"]
        assert shop["categories"][0]["mode"] == "shadow"


def test_wrong_use_is_one_clear_line(tmp_path: Path) -> None:
    missing = demo("--data", str(tmp_path / "absent.csv"))
    assert missing.returncode == 1
    assert "absent.csv" in missing.stderr
    assert len(missing.stderr.strip().splitlines()) == 1
    assert demo("--weeks", "0").returncode == 1
    assert demo("--shops", "0").returncode == 1
    assert demo("--nonsense").returncode == 2
