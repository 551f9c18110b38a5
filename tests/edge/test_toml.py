"""Settings from TOML: what is accepted, and that everything refused is named by its path."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.toml import build, read_toml


@dataclass(frozen=True, slots=True)
class Inner:
    band: float = 0.1
    endings: tuple[int, ...] = (9,)
    limit: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.band < 1:
            raise ValueError(f"band {self.band} is outside 0..1")


@dataclass(frozen=True, slots=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    modes: Mapping[str, str] = field(default_factory=dict)
    on: bool = True


def test_builds_nested_sections_with_defaults() -> None:
    made = build(Outer, {"name": "a", "inner": {"band": 1e-1, "limit": 3}, "modes": {"juice": "live"}})
    assert made == Outer("a", Inner(0.1, (9,), 3), {"juice": "live"}, on=True)
    assert build(Outer, {"name": "a"}).inner == Inner()
    assert build(Inner, {"band": 0.5, "endings": [5, 9]}).endings == (5, 9)


@pytest.mark.parametrize(
    ("table", "path", "word"),
    [
        ({}, "name", "required"),
        ({"name": 3}, "name", "must be a string"),
        ({"name": "a", "nmae": 1}, "nmae", "unknown key"),
        ({"name": "a", "inner": {"bnad": 1}}, "inner.bnad", "unknown key"),
        ({"name": "a", "inner": {"band": "x"}}, "inner.band", "must be a number"),
        ({"name": "a", "inner": {"band": 2.0}}, "inner", "outside 0..1"),
        ({"name": "a", "inner": {"endings": [9, "x"]}}, "inner.endings[1]", "must be an integer"),
        ({"name": "a", "inner": {"endings": 9}}, "inner.endings", "must be a list"),
        ({"name": "a", "inner": 9}, "inner", "is a section"),
        ({"name": "a", "modes": {"juice": 1}}, "modes.juice", "must be a string"),
        ({"name": "a", "on": 1}, "on", "true or false"),
        ({"name": "a", "inner": {"limit": True}}, "inner.limit", "must be an integer"),
    ],
)
def test_refusals_name_the_key(table: dict[str, object], path: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        build(Outer, table)
    assert caught.value.path == path


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: no such file"):
        read_toml(tmp_path / "absent.toml")
    bad = tmp_path / "bad.toml"
    bad.write_bytes(b"a = \xff")
    with pytest.raises(ConfigError, match=r"bad\.toml"):
        read_toml(bad)
    bad.write_text("a = [1,")
    with pytest.raises(ConfigError, match=r"bad\.toml"):
        read_toml(bad)
