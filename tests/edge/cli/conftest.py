"""Fixtures of the command line's tests: a shop's folder, and a box that runs on it in this process."""

import shutil
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from support_shop_folder import Said, running, write_folder

from edge.__main__ import main
from edge.app import Box


@pytest.fixture(scope="session")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    return write_folder(tmp_path_factory.mktemp("shop"), port).parent


@pytest.fixture
def config(_folder: Path, tmp_path: Path) -> Path:
    """The configuration of a stopped box of the test's own."""
    shutil.copytree(_folder, tmp_path / "shop")
    return tmp_path / "shop" / "pomona.toml"


@pytest.fixture
def pomona(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run a command line in this process."""

    def run(*arguments: object) -> Said:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse: help and wrong usage
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


@pytest.fixture
async def box(config: Path) -> AsyncIterator[Box]:
    """The box of `config`, running."""
    async with running(config) as made:
        yield made
