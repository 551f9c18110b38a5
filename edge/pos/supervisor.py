"""A broker as a child process: started, watched, started again with back-off, its database moved aside if it is broken.

    broker = BrokerProcess(kind, directory, config)      # directory: as `broker.write_configuration` filled it
    task = asyncio.create_task(broker.run()); await broker.ready()

mosquitto refuses to start on a damaged database (a power cut can leave one full of NULs). Nothing in it is needed: the
tills repeat what is not acknowledged and the box publishes its book again. So such a database is moved aside, kept for
a look, and never stands in the way of selling.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Final

from edge.errors import ConfigError
from edge.pos.broker import BrokerConfig

logger = logging.getLogger(__name__)
_DATABASE: Final = "mosquitto.db"
_MAGIC: Final = b"\x00\xb5\x00mosquitto db"  # first bytes of a database; source: mosquitto `persist.h`
_EARLY_EXIT_S: Final = 2.0
_PAUSE_MAX_S: Final = 2.0
_STOP_S: Final = 5.0


def find_mosquitto() -> str | None:
    """The path of mosquitto, or None where it is not installed (Debian keeps it out of a user's PATH)."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def resolve_kind(kind: str) -> str:
    """`auto` decided: `mosquitto` or `embedded`."""
    return kind if kind != "auto" else "mosquitto" if find_mosquitto() else "embedded"


def quarantine_database(data: Path, *, force: bool = False) -> Path | None:
    """Move a database that cannot be mosquitto's out of the way; its new path, or None where there was no need."""
    database = data / _DATABASE
    try:
        with database.open("rb") as file:
            head = file.read(len(_MAGIC))
    except OSError:
        return None
    if not force and head == _MAGIC:
        return None
    aside = data / f"{_DATABASE}.bad-{int(time.time())}"
    database.replace(aside)
    logger.warning("the broker's database was damaged and lies now in %s", aside)
    return aside


class BrokerProcess:
    """The supervised child. `pid` is its process id while it runs."""

    def __init__(self, kind: str, directory: Path, config: BrokerConfig, *, data: Path | None = None) -> None:
        self.kind = resolve_kind(kind)
        self._config = config
        self._data = data or directory
        if self.kind == "mosquitto":
            program = find_mosquitto()
            if program is None:
                raise ConfigError("broker.kind", "mosquitto is not installed (Debian: apt install mosquitto)")
            self._command = [program, "-c", str(directory / "mosquitto.conf")]
        elif self.kind == "embedded":
            self._command = [sys.executable, "-m", "edge.pos.embedded_broker", str(directory / "embedded.json")]
        else:
            raise ConfigError("broker.kind", f"{self.kind} is not a broker that the box runs")
        self._process: asyncio.subprocess.Process | None = None
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """Process id, or None between two lives."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def run(self) -> None:
        """Keep it running until cancelled; then end it."""
        pause = 0.1
        while True:
            if self.kind == "mosquitto":
                quarantine_database(self._data)
            started = time.monotonic()
            try:
                code = await self._once()
            except OSError as error:
                raise ConfigError("broker", f"{self._command[0]} cannot be started: {error}") from None
            lived = time.monotonic() - started
            if self.kind == "mosquitto" and code > 0 and lived < _EARLY_EXIT_S:
                quarantine_database(self._data, force=True)
            pause = 0.1 if lived > _EARLY_EXIT_S else min(pause * 2, _PAUSE_MAX_S)
            self.restarts += 1
            logger.warning(
                "the broker ended with code %d after %.1f s; starting it again in %.1f s", code, lived, pause
            )
            await asyncio.sleep(pause)

    async def ready(self, timeout_s: float = 20.0) -> None:
        """Wait until it accepts connections; raises `ConfigError` if it does not in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(self._config.host, self._config.port)
                writer.close()
                await writer.wait_closed()
                return
            if time.monotonic() > deadline:
                raise ConfigError("broker.port", f"nothing answers on port {self._config.port}: see the log above")
            await asyncio.sleep(0.02)

    async def _once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edge.pos.tied", str(os.getpid()), *self._command),  # dies with us, even by kill -9
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._process = process
        try:
            assert process.stdout is not None
            async for line in process.stdout:
                logger.debug("%s: %s", self.kind, line.decode(errors="replace").rstrip())
            return await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                try:
                    async with asyncio.timeout(_STOP_S):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()
