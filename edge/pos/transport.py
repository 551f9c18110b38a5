"""A TCP, Unix or TLS connection to the broker, opened without blocking the loop, buffered both ways.

paho reads a packet in three or more `recv` calls and writes each packet with its own `send`. `BufferedSocket` stands
between: it fills a buffer with one system call and drains TLS completely (`SSLSocket.pending()`: what OpenSSL has
decrypted already will never make the file descriptor readable), and it gathers what is written until `flush`.

Host names are never looked up on a box: an address is an IP literal, `localhost` (taken as 127.0.0.1), or the path of a
Unix socket.
"""

import asyncio
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Final

from edge.errors import ConfigError

READ_BYTES: Final = 64 * 1024
WRITE_BUFFER_BYTES_MAX: Final = 256 * 1024  # beyond it paho keeps the packets itself
_WOULD_BLOCK: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def check_host(host: str) -> str:
    """The IP address or socket path meant by `host`; raises `ConfigError` for what would have to be looked up."""
    if host == "localhost":
        return "127.0.0.1"
    if host.startswith("/"):
        return host
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise ConfigError("broker.host", f"{host!r} is not an IP address (a box looks up no host names)") from None


def client_context(ca_file: str) -> ssl.SSLContext:
    """TLS 1.2 or later towards a broker whose certificate `ca_file` signed."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError("broker.tls_ca", f"{ca_file}: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def connect(host: str, port: int, context: ssl.SSLContext | None) -> "BufferedSocket":
    """An open connection; raises `OSError` (`ssl.SSLError` is one) where there is none to be had."""
    loop = asyncio.get_running_loop()
    address = check_host(host)
    family = socket.AF_UNIX if address.startswith("/") else socket.AF_INET6 if ":" in address else socket.AF_INET
    plain = socket.socket(family, socket.SOCK_STREAM)
    try:
        plain.setblocking(False)
        if family == socket.AF_UNIX:
            await loop.sock_connect(plain, str(Path(address)))
        else:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(plain, (address, port))
        if context is None:
            return BufferedSocket(plain)
        # wrap_socket takes the descriptor over: from here on `plain` is closed and the TLS socket owns it.
        secure = context.wrap_socket(plain, server_hostname=address, do_handshake_on_connect=False)
    except BaseException:
        plain.close()
        raise
    try:
        await _handshake(loop, secure)
    except BaseException:
        secure.close()
        raise
    return BufferedSocket(secure)


async def _handshake(loop: asyncio.AbstractEventLoop, secure: ssl.SSLSocket) -> None:
    while True:
        ready: asyncio.Future[None] = loop.create_future()
        try:
            secure.do_handshake()
        except ssl.SSLWantReadError:
            add, remove = loop.add_reader, loop.remove_reader
        except ssl.SSLWantWriteError:
            add, remove = loop.add_writer, loop.remove_writer
        else:
            return
        add(secure.fileno(), _wake, ready)
        try:
            await ready
        finally:
            remove(secure.fileno())


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


class BufferedSocket:
    """What paho takes for its socket. Non-blocking; `recv` and `send` keep the socket's own contract."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._in = b""
        self._at = 0
        self._out = bytearray()

    def fileno(self) -> int:
        """The descriptor, for the loop."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """Part of what paho calls; it asks for a non-blocking socket, which this one is from its birth."""
        self._sock.setblocking(flag)

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes; b"" at the end; raises `BlockingIOError` where nothing has arrived."""
        if self._at >= len(self._in):
            self._in, self._at = self._sock.recv(READ_BYTES), 0
        data = self._in[self._at : self._at + size]
        self._at += len(data)
        return data

    def pending(self) -> bool:
        """Whether `recv` would answer without the descriptor becoming readable."""
        if self._at < len(self._in):
            return True
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def send(self, data: bytes) -> int:
        """Take `data` for the next `flush`; raises `BlockingIOError` while too much is waiting."""
        if len(self._out) > WRITE_BUFFER_BYTES_MAX:
            raise BlockingIOError
        self._out += data
        return len(data)

    def flush(self) -> bool:
        """Write what is waiting; whether all of it went out."""
        while self._out:
            try:
                sent = self._sock.send(self._out)
            except _WOULD_BLOCK:
                return False
            del self._out[:sent]
        return True

    def close(self) -> None:
        """paho lets go of it. Its owner calls `release` once the loop has forgotten the descriptor: closed earlier, the
        number would be given to another socket while the loop still watches it for this one.
        """

    def release(self) -> None:
        """Close the socket; what was not flushed is lost."""
        self._sock.close()
