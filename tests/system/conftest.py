"""Fixtures of the system tests: a shop with a broker of either kind, and a slow line in front of it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from edge.pos.supervisor import find_mosquitto


def _load(name: str) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


support_shop = _load("support_shop")
support_line = _load("support_line")


@pytest.fixture(params=["mosquitto", "embedded"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each of the two brokers."""
    if request.param == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (Debian: apt install mosquitto)")
    return str(request.param)


@pytest.fixture
def shop(tmp_path: Path, kind: str) -> "support_shop.Shop":  # type: ignore[name-defined]
    """A shop whose broker is not running yet."""
    return support_shop.Shop(tmp_path, kind)
