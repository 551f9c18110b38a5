"""Invitation codes: what is written is read, and what was mistyped is named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.crypto.keys import KeyPair
from edge.errors import ConfigError
from edge.networks.invitation import Invitation, fingerprint
from edge.records.message import Network

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@st.composite
def invitations(draw: st.DrawFn) -> Invitation:
    network = draw(st.sampled_from(Network))
    is_open = network is Network.PUBLIC and draw(st.booleans())
    root = None if is_open else draw(st.binary(min_size=16, max_size=16))
    seed, authority = draw(st.binary(min_size=16, max_size=16)), draw(st.binary(min_size=16, max_size=16))
    network_id = draw(st.binary(min_size=32, max_size=32))
    return Invitation(network, network_id, root, seed, authority, draw(st.integers(0, 65535)))


CODE = Invitation(Network.PRIVATE, bytes(range(32)), b"r" * 16, b"s" * 16, b"a" * 16, 2954)


@given(invitations())
def test_a_code_is_read_as_it_was_written(code: Invitation) -> None:
    assert Invitation.parse(code.text()) == code
    printed = "\n".join(" ".join(line) for line in code.lines())
    assert Invitation.parse(printed.lower().replace("0", "o").replace("1", "l")) == code
    assert len(code.text()) == 150 + 29


@given(invitations(), st.integers(0, 149), st.integers(1, 31))
def test_one_mistyped_character_is_named_with_what_it_should_be(code: Invitation, at: int, by: int) -> None:
    text = code.text().replace("-", "")
    right, wrong = text[at], ALPHABET[ALPHABET.index(text[at]) ^ by]
    place = f"character {at % 5 + 1} of group {at // 5 + 1} (line {at // 25 + 1}, group {at % 25 // 5 + 1})"
    with pytest.raises(ConfigError) as caught:
        Invitation.parse(text[:at] + wrong + text[at + 1 :])
    assert f"{place} is mistyped: {wrong!r} should probably be {right!r}" in str(caught.value)


@given(invitations(), st.lists(st.tuples(st.integers(0, 149), st.sampled_from(ALPHABET)), min_size=2, max_size=10))
def test_a_code_that_was_mistyped_in_any_way_is_never_another_one(
    code: Invitation, typed: list[tuple[int, str]]
) -> None:
    characters = list(code.text().replace("-", ""))
    for at, character in typed:
        characters[at] = character
    text = "".join(characters)
    if text == code.text().replace("-", ""):
        return
    with pytest.raises(ConfigError):
        Invitation.parse(text)


def test_the_example_of_the_formats() -> None:
    lines = (Path(__file__).parents[3] / "FORMATS.md").read_text(encoding="utf-8").splitlines()
    at = lines.index("205RM 00108 1G818 60W40 J2GQV")
    assert Invitation.parse("\n".join(lines[at : at + 6])) == CODE
    assert [" ".join(line) for line in CODE.lines()] == lines[at : at + 6]


def test_lines_in_another_order_are_noticed() -> None:
    first, second, *others = ["".join(line) for line in CODE.lines()]
    with pytest.raises(ConfigError, match="do not belong together"):
        Invitation.parse("\n".join([second, first, *others]))


def test_lines_of_two_codes_are_noticed() -> None:
    other = Invitation(Network.PRIVATE, bytes(range(32)), b"r" * 16, b"t" * 16, b"a" * 16, 2954)
    mixed = [*CODE.lines()[:4], *other.lines()[4:]]
    with pytest.raises(ConfigError, match="do not belong together"):
        Invitation.parse("\n".join("".join(line) for line in mixed))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (CODE.text()[:-1], "149 characters instead of 150; look at the group"),
        (CODE.text() + "0", "151 characters instead of 150; look at the group"),
        (CODE.text().replace(CODE.text()[3], "U", 1), "which no code has"),
        ("", "0 characters"),
        ("!" + CODE.text(), "character 1 of group 1 .* is '!', which no code has"),
    ],
)
def test_what_is_no_code_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Invitation.parse(text)


@given(st.text(max_size=300))
def test_any_text_is_a_code_or_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        Invitation.parse(text)


def test_a_code_has_its_own_key_pair_and_knows_its_authority() -> None:
    authority, other = KeyPair.from_seed(bytes(32)).public_key, KeyPair.from_seed(b"1" * 32).public_key
    one, two = (Invitation.new(Network.PRIVATE, bytes(32), bytes(16), authority, 2954) for _ in range(2))
    assert one.key_pair.public_key != two.key_pair.public_key
    assert (one.of_authority(authority), one.of_authority(other)) == (True, False)
    assert one.authority == fingerprint(authority)
    assert "seed" not in repr(one)
    assert "root" not in repr(one)
