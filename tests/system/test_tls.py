"""The LAN listener of a real mosquitto: TLS with the box's own authority, a password a till, nothing without either."""

import asyncio
import socket
import ssl
import time
from pathlib import Path

import pytest

from edge.pos.broker import BrokerConfig, hash_password, write_configuration
from edge.pos.certificates import issue
from edge.pos.mqtt import MqttLink, MqttSettings
from edge.pos.supervisor import BrokerProcess, find_mosquitto
from edge.pos.topics import gln_of_store
from edge.pos.transport import connect

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed (Debian: apt install mosquitto)"),
]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_a_till_connects_over_tls_and_only_with_authority_and_password(tmp_path: Path) -> None:
    made = issue(tmp_path / "tls", ["127.0.0.1"], now_ms=time.time_ns() // 1_000_000)
    config = BrokerConfig(
        kind="mosquitto",
        port=free_port(),
        tls_host="127.0.0.1",
        tls_port=free_port(),
        tls_certificate=str(made.certificate),
        tls_key=str(made.key),
    )
    folder = tmp_path / "broker"
    users = {"1": hash_password("right")}
    write_configuration(folder, config, gln_of_store(1), users, data=folder, own_process=True)
    broker = BrokerProcess("mosquitto", folder, config)
    running = asyncio.create_task(broker.run())
    try:
        await broker.ready()

        async def connects(password: str, authority: str) -> bool:
            settings = MqttSettings(
                port=config.tls_port, username="1", client_id="1", password=password, tls_ca=authority
            )
            up = asyncio.Event()
            link = MqttLink(settings, on_message=lambda _message: None, on_up=lambda _session: up.set())
            task = asyncio.create_task(link.run())
            try:
                await asyncio.wait_for(up.wait(), 3.0)
            except TimeoutError:
                return False
            finally:
                await link.goodbye()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            return True

        assert await connects("right", str(made.authority))
        assert not await connects("wrong", str(made.authority))
        other = issue(tmp_path / "other", ["127.0.0.1"], now_ms=time.time_ns() // 1_000_000)
        with pytest.raises(ssl.SSLError):
            await connect("127.0.0.1", config.tls_port, ssl.create_default_context(cafile=str(other.authority)))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
