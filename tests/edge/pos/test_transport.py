"""The connection to the broker: TLS that is drained, a certificate of our own, a descriptor let go in order."""

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.clock import BUILD_WALL_MS
from edge.errors import ConfigError
from edge.pos.certificates import issue
from edge.pos.transport import BufferedSocket, client_context, connect

NOW_MS = BUILD_WALL_MS


@contextlib.asynccontextmanager
async def server(directory: Path, payload: bytes) -> AsyncIterator[int]:
    """Sends `payload` in one TLS record stream, then waits."""
    made = issue(directory, ["127.0.0.1"], now_ms=NOW_MS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(payload)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.drain()
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await asyncio.sleep(0.05)


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


async def take(sock: BufferedSocket, count: int) -> bytes:
    """Read as the link does: on readability, then as long as something is pending; one byte or a few at a time."""
    found, loop = bytearray(), asyncio.get_running_loop()
    rng = random.Random(1)
    while len(found) < count:
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(sock.fileno(), _wake, ready)
        async with asyncio.timeout(5):
            await ready
        loop.remove_reader(sock.fileno())
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            while True:
                found += sock.recv(rng.choice((1, 2, 100)))
                if not sock.pending():
                    break
    return bytes(found)


async def test_what_tls_has_decrypted_already_is_not_left_lying(tmp_path: Path) -> None:
    payload = random.Random(2).randbytes(300_000)  # many records, more than one read
    async with server(tmp_path, payload) as port:
        sock = await connect("127.0.0.1", port, client_context(str(tmp_path / "ca.pem")))
        assert await take(sock, len(payload)) == payload
        sock.release()


async def test_a_broker_with_another_certificate_or_name_is_refused(tmp_path: Path) -> None:
    other = issue(tmp_path / "other", ["127.0.0.1"], now_ms=NOW_MS)
    async with server(tmp_path / "own", b"x") as port:
        with pytest.raises(ssl.SSLError):
            await connect("127.0.0.1", port, client_context(str(other.authority)))
        with pytest.raises(ssl.SSLError):
            await connect("::ffff:127.0.0.1", port, client_context(str(tmp_path / "own" / "ca.pem")))


async def test_nobody_there_is_an_os_error(unused_tcp_port: int) -> None:
    with pytest.raises(OSError):
        await connect("127.0.0.1", unused_tcp_port, None)
    with pytest.raises(ConfigError):
        await connect("broker.example", 1883, None)
    with pytest.raises(ConfigError):
        client_context("/nowhere/ca.pem")


def test_keys_are_private_and_the_authority_stays(tmp_path: Path) -> None:
    first = issue(tmp_path, ["127.0.0.1", "pomona.local"], now_ms=NOW_MS)
    second = issue(tmp_path, ["192.168.1.2"], now_ms=NOW_MS)
    assert first.fingerprint == second.fingerprint
    assert first.key.stat().st_mode & 0o077 == 0
    assert (tmp_path / "ca.key").stat().st_mode & 0o077 == 0
    for names in ([], ["a b"], [""]):
        with pytest.raises(ConfigError):
            issue(tmp_path, names, now_ms=NOW_MS)
