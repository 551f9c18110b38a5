"""The box's control socket: how `pomona status`, `why`, `decisions` and `labels` ask a running box.

A Unix socket in the state folder, readable by the service's user and root alone. One JSON object a line in, one out:
`{"command": "status", ...}` → `{"ok": true, "result": ...}` or `{"ok": false, "error": "..."}`. Nothing that can be
asked here changes prices or the log.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from edge.errors import ConfigError, PomonaError, RemoteError, StorageError, StorageFault

SOCKET_NAME: Final = "control.sock"
REQUEST_BYTES_MAX: Final = 64 * 1024
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
CLIENTS_MAX: Final = 16  # a person or a dashboard asks; nobody needs more at once
IDLE_S: Final = 30.0
ASK_TIMEOUT_S: Final = 30.0
SOCKET_PATH_BYTES_MAX: Final = 107  # sockaddr_un.sun_path less its NUL

Handler = Callable[[Mapping[str, object]], object]


class ControlServer:
    """Answers requests with the handlers it was given; a handler is quick and does not wait."""

    def __init__(self, directory: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = directory / SOCKET_NAME
        if len(str(self._path).encode()) > SOCKET_PATH_BYTES_MAX:
            raise ConfigError("shop.state_dir", f"{directory} is too long a path for a Unix socket in it")
        self._handlers = handlers
        self._clients = 0
        self.listening = asyncio.Event()  # the socket is there and can be asked

    async def run(self) -> None:
        """Serve until cancelled. The folder's lock is ours already, so a socket left by a crash may be removed."""
        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, path=str(self._path), limit=REQUEST_BYTES_MAX)
        self._path.chmod(0o600)
        self.listening.set()
        try:
            async with server:
                await server.serve_forever()
        finally:
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            while self._clients <= CLIENTS_MAX:
                line = await asyncio.wait_for(reader.readline(), IDLE_S)
                if not line:
                    break
                writer.write(json.dumps(self._answer(line), separators=(",", ":")).encode() + b"\n")
                await asyncio.wait_for(writer.drain(), IDLE_S)
        except (TimeoutError, ValueError, ConnectionError):
            pass  # a silent, talkative or vanished client; the next one is not affected
        finally:
            self._clients -= 1
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def _answer(self, line: bytes) -> dict[str, object]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"ok": False, "error": "the request is not a line of JSON"}
        if not isinstance(request, dict) or not isinstance(request.get("command"), str):
            return {"ok": False, "error": "the request has no command"}
        handler = self._handlers.get(request["command"])
        if handler is None:
            return {"ok": False, "error": f"unknown command {request['command']!r}; known: {sorted(self._handlers)}"}
        try:
            return {"ok": True, "result": handler(request)}
        except PomonaError as error:
            return {"ok": False, "error": str(error)}


def ask(directory: Path, command: str, **arguments: object) -> object:
    """Ask the box that runs on `directory`. Raises `StorageError` when none does, `RemoteError` when it refuses."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ASK_TIMEOUT_S)
            connection.connect(str(directory / SOCKET_NAME))
            connection.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            with connection.makefile("rb") as stream:
                answer = json.loads(stream.readline(ANSWER_BYTES_MAX))
    except TimeoutError:
        raise RemoteError(f"the box on {directory} did not answer in {ASK_TIMEOUT_S:.0f} s", reason="timeout") from None
    except OSError as error:
        why = error.strerror or error
        raise StorageError(f"no box can be asked on {directory} ({why})", fault=StorageFault.READ_ONLY) from None
    except ValueError:
        raise RemoteError(f"the box on {directory} ended before it had answered", reason="closed") from None
    if not answer["ok"]:
        raise RemoteError(answer["error"], reason="refused")
    return answer["result"]
