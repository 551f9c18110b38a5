from edge.hyperswarm.bans import Bans, address_of
from edge.limits import BAN_S, BANS_MAX


def test_a_ban_ends_by_itself() -> None:
    bans = Bans(ban_s=10.0)
    bans.ban(b"key", "strikes", now=100.0)
    assert bans.banned(b"key", now=109.9)
    assert not bans.banned(b"key", now=110.0)
    assert not bans.banned("10.0.0.1", now=100.0)
    assert bans.by_reason == {"strikes": 1}


def test_faults_become_a_ban_only_together() -> None:
    bans = Bans(ban_s=10.0, faults_max=3)
    assert [bans.fault("a", "frame_mac", now=now) for now in (0.0, 1.0, 2.0)] == [False, False, True]
    assert bans.banned("a", now=11.0)  # from the last fault on
    assert not bans.fault("a", "frame_mac", now=3.0)  # banned already: counted once
    assert [bans.fault("b", "frame_mac", now=now) for now in (0.0, 1.0, 10.0)] == [False, False, False]
    assert bans.by_reason == {"frame_mac": 1}


def test_the_oldest_is_forgotten_first() -> None:
    bans = Bans()
    bans.ban("first", "strikes", now=0.0)
    for number in range(BANS_MAX):
        bans.ban(str(number), "strikes", now=1.0)
    assert len(bans) == BANS_MAX
    assert not bans.banned("first", now=1.0)
    bans.ban("later", "strikes", now=2.0 + BAN_S)
    assert len(bans) == 1


def test_what_counts_as_one_address() -> None:
    assert address_of("192.0.2.7") == address_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert address_of("2001:db8::1") == address_of("2001:db8:0:0:ffff::2") == "2001:db8::/64"
    assert address_of("fe80::1%eth0") == "fe80::/64"
    assert address_of("") == ""
