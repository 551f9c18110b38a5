"""`pomona run --check`, and what a wrong configuration ends with. The running service: tests/system/test_box.py."""

from collections.abc import Callable
from pathlib import Path

from support_shop_folder import Said

Pomona = Callable[..., Said]


def test_check_reads_configuration_and_items_and_starts_nothing(config: Path, pomona: Pomona) -> None:
    before = sorted(path.name for path in (config.parent / "s").iterdir())
    said = pomona("run", "--check", "--config", config)
    assert said.code == 0
    assert "shop 2900000000018, EUR; 6 items; nothing wrong" in said.out
    assert sorted(path.name for path in (config.parent / "s").iterdir()) == before


def test_check_names_what_is_wrong(config: Path, pomona: Pomona) -> None:
    (config.parent / "items.csv").write_text("sku\n")
    said = pomona("run", "--check", "--config", config)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("pomona run: shop.items: ")
    config.write_text(config.read_text() + "[shelf]\n")
    said = pomona("run", "--check", "--config", config)
    assert said.code == 1
    assert said.err.startswith("pomona run: shelf: unknown key")


def test_a_missing_configuration_is_named(tmp_path: Path, pomona: Pomona) -> None:
    said = pomona("run", "--config", tmp_path / "none.toml")
    assert (said.code, len(said.err.splitlines())) == (1, 1)
    assert "none.toml: no such file" in said.err


def test_wrong_usage(pomona: Pomona) -> None:
    assert pomona("run").code == 2
    assert pomona("run", "--config", "x", "--log-level", "loud").code == 2
