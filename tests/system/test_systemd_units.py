"""The units as systemd reads them: no error, no loose end, and an exposure of 1.2 at most (0 is none, 10 is all)."""

import getpass
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
EXPOSURE_MAX = 1.2
START_S = 5.0
STOP_S = 20.0
# The text of Debian 12's own unit (package mosquitto 2.0.11), which our drop-in changes.
DEBIAN_MOSQUITTO = """\
[Unit]
Description=Mosquitto MQTT Broker
After=network.target
Wants=network.target

[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/sbin/mosquitto -c /etc/mosquitto/mosquitto.conf
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
ExecStartPre=/bin/mkdir -m 740 -p /var/log/mosquitto
ExecStartPre=/bin/chown mosquitto /var/log/mosquitto
ExecStartPre=/bin/mkdir -m 740 -p /run/mosquitto
ExecStartPre=/bin/chown mosquitto /run/mosquitto

[Install]
WantedBy=multi-user.target
"""
pytestmark = pytest.mark.system
needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: apt install systemd)"
)


def mosquitto() -> str | None:
    return shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/opt/homebrew/sbin")


needs_mosquitto = pytest.mark.skipif(
    mosquitto() is None, reason="mosquitto is not installed (Debian: apt install mosquitto)"
)


def settings(path: Path) -> dict[str, list[str]]:
    """Key → values in order. Continuation lines are not used in our units."""
    found: dict[str, list[str]] = {}
    for text in path.read_text().splitlines():
        key, equals, value = text.partition("=")
        if equals and not text.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A root folder with our units where a package would put them, and programs where they say."""
    library = tmp_path / "usr/lib/systemd/system"
    drop_in = tmp_path / "etc/systemd/system/mosquitto.service.d"
    for folder in (library, drop_in):
        folder.mkdir(parents=True)
    for target in ("network", "basic", "sysinit", "shutdown", "multi-user"):
        (library / f"{target}.target").write_text(f"[Unit]\nDescription={target}\n")
    (library / "mosquitto.service").write_text(DEBIAN_MOSQUITTO)
    shutil.copy(UNITS / "pomona.service", library)
    shutil.copy(UNITS / "mosquitto.service.d/pomona.conf", drop_in)
    for program in ("opt/pomona/venv/bin/pomona", "usr/sbin/mosquitto", "bin/sh", "bin/kill"):
        path = tmp_path / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    return tmp_path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={"LANG": "C.UTF-8"},
    )


@needs_analyze
@pytest.mark.parametrize("unit", ["pomona.service", "mosquitto.service"])
def test_exposure_is_low(image: Path, unit: str) -> None:
    result = analyze("security", "--offline=true", f"--root={image}", unit)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", result.stdout)
    assert found, result.stdout + result.stderr
    assert float(found[1]) <= EXPOSURE_MAX, result.stdout


@needs_analyze
@pytest.mark.parametrize("unit", ["pomona.service", "mosquitto.service"])
def test_systemd_understands_every_line(image: Path, unit: str) -> None:
    result = analyze("verify", "--man=no", f"--root={image}", unit)
    assert result.returncode == 0, result.stderr
    complaints = [text for text in result.stderr.splitlines() if "Unknown" in text or "ignoring" in text]
    assert complaints == []


@needs_analyze
def test_a_line_that_systemd_does_not_know_would_be_found(image: Path) -> None:
    unit = image / "usr/lib/systemd/system/pomona.service"
    unit.write_text(unit.read_text().replace("[Install]", "NoSuchSetting=yes\n[Install]"))
    result = analyze("verify", "--man=no", f"--root={image}", "pomona.service")
    assert "NoSuchSetting" in result.stderr


def test_the_service_is_what_the_program_expects() -> None:
    unit = settings(UNITS / "pomona.service")
    assert unit["Type"] == ["notify"]
    assert unit["Restart"] == ["always"]
    assert unit["WatchdogSec"] == ["20s"]
    assert unit["DynamicUser"] == ["yes"]
    assert unit["StateDirectory"] == ["pomona"]
    assert unit["UMask"] == ["0077"]
    assert unit["ExecStart"] == ["/opt/pomona/venv/bin/pomona run --config /etc/pomona/pomona.toml"]
    environment = dict(pair.split("=", 1) for value in unit["Environment"] for pair in value.split())
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["MALLOC_ARENA_MAX"] == "2"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"


def shell_of(key: str) -> str:
    """The command of a unit's one-line shell script, as systemd hands it to the shell."""
    values = [value for value in settings(UNITS / "mosquitto.service.d/pomona.conf")[key] if value]
    assert len(values) == 1
    found = re.fullmatch(r"/bin/sh -c '(.*)'", values[0])
    assert found
    return found[1].replace("$$", "$")


def run_shell(script: str, state: Path, **environment: str) -> None:
    environment = {"PATH": "/usr/bin:/bin", "STATE_DIRECTORY": str(state), **environment}
    subprocess.run(["/bin/sh", "-c", script], env=environment, check=True, timeout=20)


def starts(state: Path, port: int) -> bool:
    """Whether a real mosquitto with this state comes up; it is stopped again, and writes its database then."""
    program = mosquitto()
    assert program is not None
    configuration, log = state.parent / "mosquitto.conf", state.parent / "log"
    configuration.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {state}/\n"
        f"user {getpass.getuser()}\n"
    )
    with log.open("w") as stderr, subprocess.Popen([program, "-c", str(configuration)], stderr=stderr) as broker:
        try:
            deadline = time.monotonic() + START_S
            while " running" not in log.read_text() and broker.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            came_up = " running" in log.read_text()
            while broker.poll() is None and time.monotonic() < deadline + STOP_S:
                broker.terminate()  # once is not enough: 2.0.11 forgets a signal that comes while it says "running"
                time.sleep(0.02)
        finally:
            broker.kill()
    return came_up


@needs_mosquitto
@pytest.mark.parametrize("content", [bytes(65_536), b"\x00\xb5\x00mosquitto d", b"garbage"])
def test_a_database_that_is_none_is_moved_aside_and_the_broker_starts(
    tmp_path: Path, content: bytes, unused_tcp_port: int
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    database = state / "mosquitto.db"
    database.write_bytes(content)
    assert not starts(state, unused_tcp_port), "mosquitto has learnt to start on a broken database; drop our script"
    run_shell(shell_of("ExecStartPre"), state)
    assert not database.exists()
    assert (state / "mosquitto.db.broken").read_bytes() == content
    assert starts(state, unused_tcp_port)
    written = database.read_bytes()
    run_shell(shell_of("ExecStartPre"), state)
    assert database.read_bytes() == written  # its own database stays


@needs_mosquitto
@pytest.mark.parametrize("result", ["exit-code", "timeout"])
def test_a_database_damaged_further_in_is_moved_aside_after_the_failed_start(
    tmp_path: Path, result: str, unused_tcp_port: int
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    assert starts(state, unused_tcp_port)
    database = state / "mosquitto.db"
    database.write_bytes(database.read_bytes()[:15] + b"\xff" * 200)
    run_shell(shell_of("ExecStartPre"), state)
    assert database.exists()
    assert not starts(state, unused_tcp_port)
    run_shell(shell_of("ExecStopPost"), state, SERVICE_RESULT="signal")
    assert database.exists()  # killed: its sessions are worth keeping
    run_shell(shell_of("ExecStopPost"), state, SERVICE_RESULT=result)
    assert not database.exists()
    run_shell(shell_of("ExecStopPost"), state, SERVICE_RESULT="exit-code")  # nothing to move: no failure
    assert starts(state, unused_tcp_port)
