"""Who may not connect for a time, and why: keys and addresses. Pure; time is an argument.

An address is a text, a public key bytes. Faults (a broken handshake, a broken frame) are remembered for `BAN_S` and
become a ban at `FAULTS_MAX`, because a single one is an accident; a peer that used up its strikes is banned at once.

Invariants: at most `BANS_MAX` entries, the oldest is forgotten first, so a flood from many addresses cannot fill the
memory; a ban ends by itself.
"""

import ipaddress
from collections import Counter
from dataclasses import dataclass

from edge.limits import BAN_S, BANS_MAX, FAULTS_MAX

_IPV6_SITE_BITS = 64  # whoever has one IPv6 address has the whole /64


@dataclass(slots=True)
class _Entry:
    since: float
    faults: int = 0
    banned: bool = False


class Bans:
    """The list. `by_reason` counts bans since the start."""

    __slots__ = ("_ban_s", "_entries", "_faults_max", "by_reason")

    def __init__(self, *, ban_s: float = BAN_S, faults_max: int = FAULTS_MAX) -> None:
        self._ban_s = ban_s
        self._faults_max = faults_max
        self._entries: dict[str | bytes, _Entry] = {}  # in the order of `since`
        self.by_reason: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def banned(self, who: str | bytes, *, now: float) -> bool:
        """Whether `who` is banned at `now`."""
        entry = self._entries.get(who)
        return entry is not None and entry.banned and now < entry.since + self._ban_s

    def ban(self, who: str | bytes, reason: str, *, now: float) -> None:
        """Ban `who` from `now` on."""
        self._entries.pop(who, None)
        self._add(who, _Entry(now, banned=True), now)
        self.by_reason[reason] += 1

    def fault(self, who: str | bytes, reason: str, *, now: float) -> bool:
        """Remember a fault of `who`; returns whether it became a ban."""
        entry = self._entries.get(who)
        if entry is None or now >= entry.since + self._ban_s:
            self._entries.pop(who, None)
            entry = _Entry(now)
            self._add(who, entry, now)
        entry.faults += 1
        if entry.faults < self._faults_max or entry.banned:
            return False
        self.ban(who, reason, now=now)
        return True

    def _add(self, who: str | bytes, entry: _Entry, now: float) -> None:
        while self._entries:
            oldest = next(iter(self._entries))
            if len(self._entries) < BANS_MAX and now < self._entries[oldest].since + self._ban_s:
                break
            del self._entries[oldest]
        self._entries[who] = entry


def address_of(host: str) -> str:
    """What counts as one address: IPv4 as it is, mapped ones too; of IPv6 the /64. Other names as they are."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _IPV6_SITE_BITS), strict=False))
    return str(address)
