"""The command line as a whole: help, versions, exit codes; what a command does not need is not loaded."""

import subprocess
import sys

import pytest

from edge import __version__
from edge.__main__ import COMMANDS, main
from edge.errors import ConfigError


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_is_exit_code_0(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    said = capsys.readouterr()
    assert said.out.startswith("usage: pomona")
    assert said.err == ""


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    words = capsys.readouterr().out
    for name, (_, text) in COMMANDS.items():
        assert name in words
        assert text.split(";")[0].split(":")[0] in words


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["--no-such-flag"], ["status", "nonsense"]])
def test_wrong_usage_is_exit_code_2_on_stderr(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "usage: pomona" in said.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"pomona {__version__}\n"


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (ConfigError("shop.gln", "is required"), 1, "pomona run: shop.gln: is required\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_end_as_one_line(
    raised: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_path: object) -> None:
        raise raised

    monkeypatch.setattr("edge.config.load", fail)
    assert main(["run", "--config", "x"]) == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("arguments", ["--help", "status --help", "run --help", "items --help"])
def test_help_loads_no_numbers_and_no_broker(arguments: str) -> None:
    code = (
        "import sys\nfrom edge.__main__ import main\n"
        f"try:\n    main({arguments.split()!r})\nexcept SystemExit:\n    pass\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'numpy', 'onnxruntime', 'paho', 'uvloop'}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
