import pytest

from edge.hyperswarm.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("192.0.2.7:49737", "192.0.2.7", 49737, "192.0.2.7:49737"),
        ("[2001:db8::7]:1", "2001:db8::7", 1, "[2001:db8::7]:1"),
        ("localhost:0", "127.0.0.1", 0, "127.0.0.1:0"),
        ("::1:65535", "::1", 65535, "[::1]:65535"),
    ],
)
def test_an_address_is_read_and_shown(text: str, host: str, port: int, shown: str) -> None:
    found = parse_address(text)
    assert found == Address(host, port)
    assert str(found) == shown
    assert parse_address(str(found)) == found


@pytest.mark.parametrize(
    "text", ["", "192.0.2.7", ":5", "192.0.2.7:", "192.0.2.7:65536", "192.0.2.7:-1", "192.0.2.7:٣", "shop.example:5"]
)
def test_what_is_no_address_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"no port|not HOST:PORT"):
        parse_address(text)
