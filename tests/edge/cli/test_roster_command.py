"""`pomona roster` from founding to revocation, in this process and, where a listener runs, beside it."""

import csv
import json
import re
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support_processes import command, here

from edge.networks.invitation import Invitation

DEADLINE_S = 30.0


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short one: commands beside a listener meet it at a socket in the store, whose path must fit 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="roster-") as folder:
        yield Path(folder)


def roster(*words: str | Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return here("roster", *words, given=given)


def done(*words: str | Path) -> str:
    result = roster(*words)
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout.decode().strip()


def refused(*words: str | Path) -> str:
    result = roster(*words)
    assert (result.returncode, result.stdout) == (1, b"")
    return result.stderr.decode().strip()


def values(*words: str | Path) -> Any:
    return json.loads(done(*words, "--json"))


def codes_in(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@contextmanager
def listening(state: Path, name: str = "shops") -> Iterator[str]:
    words = command("roster", "serve", name, "--state", state, "--listen", "localhost:0", "--json")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            first = json.loads(process.stdout.readline())
            yield f"{first['host']}:{first['port']}"
        finally:
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert (process.wait(DEADLINE_S), process.stderr.read()) == (0, b"")


def test_a_company_sets_up_its_shops_and_loses_one(tmp_path: Path) -> None:
    office, sheet = tmp_path / "office", tmp_path / "codes.csv"
    network = done("init", "shops", "--state", office, "--kind", "private", "--title", "Acme shops")
    assert re.fullmatch("[0-9a-f]{64}", network)
    made = done(
        "invite", "shops", "--state", office, "--owner", "acme", "--label", "shop", "--count", "200", "--csv", sheet
    )
    assert made.startswith("200 codes, good until")
    assert stat.S_IMODE(sheet.stat().st_mode) == 0o600
    rows = codes_in(sheet)
    assert [row["label"] for row in rows[:2]] == ["shop 1", "shop 2"]
    assert len({row["code"] for row in rows}) == 200
    assert all(Invitation.parse(row["code"]).network_id.hex() == network for row in rows)
    with listening(office) as peer:
        for number in (1, 2):
            state = tmp_path / str(number)
            joined = done("accept", rows[number]["code"], "--state", state, "--name", "shops", "--connect", peer)
            assert joined == f"this box is a member of shops (private), as shop {number + 1} of acme"
        again = refused("accept", rows[1]["code"], "--state", tmp_path / "3", "--connect", peer)
        assert again == "pomona roster: refused (used): this code was used already; each is for one box"
        assert done("show", "--state", tmp_path / "3") == ""
        told = done("revoke", "shops", "shop 3", "--state", office, "--reason", "stolen", "--length", "prices=12")
        assert "12 of its prices, 0 of its trends, 0 of its insights; all others have new keys" in told
        back = refused("accept", rows[2]["code"], "--state", tmp_path / "2", "--name", "shops", "--connect", peer)
        assert "refused (revoked): the box that used this code was revoked" in back
        assert values("rotate", "shops", "--state", office) == {"epoch": 3}
        shown = values("show", "shops", "--state", office)
    assert shown == values("show", "shops", "--state", office), "the same without the listener"
    assert (shown["version"], shown["epoch"], shown["epochs_here"]) == (6, 3, [1, 2, 3])
    assert [member["label"] for member in shown["members"]] == ["shop 2"]
    (gone,) = shown["revoked"]
    assert (gone["label"], gone["reason"], gone["lengths"]) == (
        "shop 3",
        "stolen",
        {"prices": 12, "trends": 0, "insights": 0},
    )
    assert shown["open_invitations"] == 198
    text = done("show", "shops", "--state", office)
    assert f"Acme shops: private network {network}" in text
    assert "1 member, 1 revoked, 198 open invitations" in text
    assert done("show", "--state", tmp_path / "1").startswith("shops                    private      " + network)


def test_boxes_are_let_in_although_the_path_is_too_long_for_the_socket_of_other_commands(tmp_path: Path) -> None:
    office = tmp_path / ("long" * 25)
    done("init", "shops", "--state", office, "--kind", "private")
    code = values("invite", "shops", "--state", office, "--owner", "acme", "--label", "harbour")["code"]
    words = command("roster", "serve", "shops", "--state", office, "--listen", "localhost:0", "--json")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            first = json.loads(process.stdout.readline())
            peer = f"{first['host']}:{first['port']}"
            joined = done("accept", code, "--state", tmp_path / "box", "--name", "shops", "--connect", peer)
        finally:
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert process.wait(DEADLINE_S) == 0
        assert b"other commands must wait" in process.stderr.read()
    assert joined == "this box is a member of shops (private), as harbour of acme"


def test_a_box_without_a_network_joins_by_files(tmp_path: Path) -> None:
    office, box, request = tmp_path / "office", tmp_path / "box", tmp_path / "box.request"
    done("init", "shops", "--state", office, "--kind", "private")
    code = values("invite", "shops", "--state", office, "--owner", "acme", "--label", "harbour")["code"]
    done("accept", code, "--state", box, "--name", "shops", "--request", request)
    assert refused("show", "shops", "--state", box).endswith("it is fetched from the authority or another member")
    told = values("admit", "shops", request, "--state", office)
    assert (told["label"], told["owner"]) == ("harbour", "acme")
    assert values("show", "shops", "--state", office)["members"][0]["id"] == told["member"]
    assert "exists" in refused("accept", code, "--state", box, "--name", "shops", "--request", request)
    other = tmp_path / "other.request"
    done("accept", code, "--state", tmp_path / "other", "--request", other)
    assert "used already" in refused("admit", "shops", other, "--state", office)
    other.write_bytes(b"nothing")
    assert roster("admit", "shops", other, "--state", office).returncode == 1


def test_codes_are_read_from_standard_input_and_withdrawn(tmp_path: Path) -> None:
    office = tmp_path / "office"
    done("init", "shops", "--state", office, "--kind", "private")
    guests = tmp_path / "guests.csv"
    guests.write_text("label,owner,role\nnorth,acme,shop\nsouth,acme,closer\noffice,acme,reader\n")
    lines = done("invite", "shops", "--state", office, "--from", guests, "--json").splitlines()
    made = [json.loads(line) for line in lines]
    assert [(each["label"], each["role"]) for each in made] == [
        ("north", "shop"),
        ("south", "closer"),
        ("office", "reader"),
    ]
    request = tmp_path / "request"
    result = roster("accept", "-", "--state", tmp_path / "box", "--request", request, given=made[0]["code"].encode())
    assert result.returncode == 0
    assert done("withdraw", "shops", "north", made[1]["code"], made[2]["key"], "--state", office) == "3 withdrawn"
    assert "this code was withdrawn" in refused("admit", "shops", request, "--state", office)
    assert "no such code is open" in refused("withdraw", "shops", "north", "--state", office)
    invitations = values("show", "shops", "--state", office, "--invitations")["invitations"]
    assert {each["state"] for each in invitations} == {"withdrawn"}
    guests.write_text("label,owner,role\nnorth,acme,king\n")
    assert "guests.csv:2" in refused("invite", "shops", "--state", office, "--from", guests)


def test_settings_are_shown_and_changed_within_the_law(tmp_path: Path) -> None:
    office, wish = tmp_path / "office", tmp_path / "policy.toml"
    wish.write_text("owners_min = 1\nlag_weeks = 0\nlive_use = true\nowner_share_max = 1\n[privacy]\nlag_weeks = 0\n")
    done("init", "trade", "--state", office, "--kind", "consortium", "--policy", wish)
    shown = values("policy", "trade", "--state", office)["policy"]
    assert (shown["live_use"], shown["lag_weeks"], shown["privacy"]["lag_weeks"]) == (True, 0, 0)
    done("invite", "trade", "--state", office, "--owner", "acme")
    error = refused("invite", "trade", "--state", office, "--owner", "globex")
    assert "policy.owners_min: 1 is allowed among members of one owner alone" in error
    wish.write_text(
        "owners_min = 5\nlag_weeks = 13\nlive_use = false\nowner_share_max = 0.25\n[privacy]\nlag_weeks = 13\n"
    )
    done("policy", "trade", "--state", office, "--set", wish)
    done("invite", "trade", "--state", office, "--owner", "globex")
    wish.write_text("live_uses = false\n")
    assert "unknown key" in refused("policy", "trade", "--state", office, "--set", wish)
    wish.write_text("epoch_weeks = 0\n")
    assert "policy.epoch_weeks" in refused("policy", "trade", "--state", office, "--set", wish)


def test_three_companies_found_a_consortium(tmp_path: Path) -> None:
    states = [tmp_path / name for name in ("one", "two", "three")]
    cards = [done("key", "trade", "--state", state) for state in states]
    change = tmp_path / "found.change"
    where = ("--state", states[0])
    signers = ("--signer", cards[1], "--signer", cards[2])
    told = values("init", "trade", *where, "--kind", "consortium", *signers, "--quorum", "2", "--out", change)
    assert told["missing"] == 1
    shown = done("sign", "trade", change, "--state", states[1])
    assert shown.splitlines()[0] == "founds trade, a consortium network: key epoch 1, signed by 3 authorities"
    assert shown.splitlines()[-1] == "signed by 1, 1 missing; --yes signs it"
    assert done("show", "--state", states[1]) == "", "looking leaves nothing behind"
    assert values("sign", "trade", change, "--state", states[1], "--yes")["valid"] is True
    for state in (states[0], states[2]):
        assert "in force here" in done("sign", "trade", change, "--state", state, "--yes")
    next_change = tmp_path / "next.change"
    told = values("rotate", "trade", *where, "--out", next_change)
    assert (told["missing"], told["change"]) == (1, str(next_change))
    shown = done("sign", "trade", next_change, "--state", states[2])
    assert "begins key epoch 2" in shown
    done("sign", "trade", next_change, "--state", states[2], "--yes")
    assert values("show", "trade", "--state", states[2])["epoch"] == 2
    assert values("show", "trade", *where)["epoch"] == 1
    assert "exists; choose a new file" in refused("rotate", "trade", *where, "--out", next_change)
    assert "has signed another change" in refused("rotate", "trade", *where, "--out", tmp_path / "x.change")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("init", "shops"),
        ("init", "shops", "--kind", "secret"),
        ("invite", "shops", "--count", "0"),
        ("accept", "CODE"),
        ("accept", "CODE", "--connect", "host:1"),
        ("serve", "shops", "--listen", "somewhere"),
        ("revoke", "shops", "member"),
    ],
)
def test_wrong_usage_is_told_with_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        roster(*words)
    assert caught.value.code == 2
    del capsys


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("show", "nothing"), "no such network"),
        (("invite", "nothing", "--owner", "x"), "no such network"),
        (("accept", "0123", "--request", "x"), "4 characters instead of 150"),
        (("init", "a/b", "--kind", "private"), "network's name"),
        (("init", "x", "--kind", "private", "--open"), "only a public network"),
        (("init", "x", "--kind", "private", "--signer", "12"), "128 hexadecimal digits"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    error = refused(*words, "--state", tmp_path)
    assert why in error
    assert "\n" not in error
