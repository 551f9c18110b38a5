"""The scripts of this folder, run by Node with the pinned packages. Where those are missing, a test fails."""

import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def check_packages() -> None:
    """Raise where the packages are not installed. `make interop` installs them before any test that needs them."""
    assert (HERE / "node_modules").is_dir(), "the pinned npm packages are not installed: run `make interop`"


def run_node(script: str, *arguments: object, given: str | None = None) -> str:
    """What the script prints; fails with its standard error."""
    check_packages()
    command = ["node", script, *map(str, arguments)]
    done = subprocess.run(command, cwd=HERE, input=given, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout
