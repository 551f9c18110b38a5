import shutil
import subprocess
from pathlib import Path

import pytest

from edge.errors import ConfigError, RecordInvalid
from edge.pos.broker import BOX_USER, BrokerConfig, check_password, hash_password, may, write_configuration
from edge.pos.mqtt import MqttSettings
from edge.pos.supervisor import quarantine_database
from edge.pos.topics import Topics, check_gln, gln_of_store
from edge.pos.transport import check_host

GLN = gln_of_store(7)
TOPICS = Topics(GLN)


@pytest.mark.skipif(shutil.which("mosquitto_passwd") is None, reason="mosquitto_passwd is not installed")
def test_passwords_are_mosquittos_own(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(file), "1", "secret"], check=True, capture_output=True)
    stored = file.read_text().strip().split(":", 1)[1]
    assert check_password("secret", stored)
    assert not check_password("Secret", stored)


def test_stored_passwords() -> None:
    stored = hash_password("secret")
    assert stored != hash_password("secret")
    assert check_password("secret", stored)
    for damaged in ("", "$7$1$x", stored[:-4], stored.replace("$7$", "$6$"), "$7$0$AAAA$AAAA"):
        assert not check_password("secret", damaged)


@pytest.mark.parametrize(
    ("user", "action", "topic", "allowed"),
    [
        ("1", "write", TOPICS.sale("1"), True),
        ("1", "write", TOPICS.sale("2"), False),
        ("1", "write", TOPICS.ack("1"), False),
        ("1", "write", TOPICS.book, False),
        ("1", "write", Topics(gln_of_store(8)).sale("1"), False),
        ("1", "read", TOPICS.ack("1"), True),
        ("1", "read", TOPICS.ack("2"), False),
        ("1", "read", TOPICS.ack("+"), False),
        ("1", "read", TOPICS.sale("1"), False),
        ("1", "read", TOPICS.price("+"), True),
        ("1", "read", f"shelf/v1/{GLN}/#", True),
        ("1", "read", "shelf/#", False),
        ("1", "read", "#", False),
        (BOX_USER, "read", TOPICS.sale("+"), True),
        (BOX_USER, "read", f"pos/v1/{GLN}/#", False),
        (BOX_USER, "write", TOPICS.ack("1"), True),
        (BOX_USER, "write", TOPICS.price("a"), True),
        (BOX_USER, "write", TOPICS.sale("1"), False),
    ],
)
def test_the_rules(user: str, action: str, topic: str, allowed: bool) -> None:
    assert may(GLN, user, action, topic) is allowed


def test_the_plain_listener_is_for_loopback() -> None:
    for bad in ({"host": "192.168.1.2"}, {"host": "box.local"}, {"tls_host": "0.0.0.0"}, {"kind": "x"}, {"port": 0}):
        with pytest.raises(ConfigError):
            BrokerConfig(**bad)


def test_names_that_could_break_out_of_the_files_are_refused(tmp_path: Path) -> None:
    for user in ("a:b", "a\nb", "", "#", "a/b"):
        with pytest.raises(RecordInvalid):
            write_configuration(tmp_path, BrokerConfig(), GLN, {user: "x"})
    with pytest.raises(ConfigError):
        BrokerConfig(tls_host="0.0.0.0", tls_certificate="a\nallow_anonymous true", tls_key="b")


def test_a_box_looks_up_no_names() -> None:
    assert check_host("localhost") == "127.0.0.1"
    assert check_host("/run/mosquitto.sock") == "/run/mosquitto.sock"
    for host in ("broker.example", "", "300.1.1.1"):
        with pytest.raises(ConfigError):
            MqttSettings(host=host)


def test_gln_has_a_check_digit() -> None:
    assert check_gln("4012345000009") == "4012345000009"
    for bad in ("4012345000008", "401234500000", "40123450000x9"):
        with pytest.raises(RecordInvalid):
            check_gln(bad)


def test_a_damaged_database_is_moved_aside(tmp_path: Path) -> None:
    database = tmp_path / "mosquitto.db"
    assert quarantine_database(tmp_path) is None
    database.write_bytes(b"\x00\xb5\x00mosquitto db and so on")
    assert quarantine_database(tmp_path) is None
    database.write_bytes(bytes(4096))
    moved = quarantine_database(tmp_path)
    assert moved is not None
    assert moved.exists()
    assert not database.exists()
