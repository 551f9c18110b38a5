"""What the gate remembers of each writer of a network: how far it was accepted, its strikes, whether it is banned.

Each key epoch has a feed of its own, and feeds arrive independently of each other: who was away while the network moved
on reads the end of the old one after the beginning of the new one. So how far is remembered by epoch, of the newest
`EPOCHS_READ_MAX`; what is older than all of these is not accepted any more.

`export` and `restore` carry it over a restart (FORMATS.md, "Network messages"); everything else of the gate
(`edge.memory.validator`) is without memory. Strikes belong to the newest key epoch in which a member had one: an old
fault does not add up with a new one over the years. A ban has no end of its own.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from edge.crypto.keys import PUBLIC_KEY_BYTES
from edge.encoding import cbor
from edge.errors import RecordInvalid
from edge.limits import EPOCHS_READ_MAX, INTEGER_MAX, STRIKES_MAX
from edge.networks.access import FeedKind

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Mark:
    """What was accepted of a member's feeds of one kind, and how much since the newest week moved on."""

    week: int
    count: int  # of the newest epoch's feed
    places: tuple[tuple[int, int], ...]  # (epoch, sequence of what was accepted last), newest epoch first

    def after(self, epoch: int, sequence: int) -> bool:
        """Whether this place comes after all that was accepted of its feed."""
        last = dict(self.places).get(epoch)
        if last is not None:
            return sequence > last
        return len(self.places) < EPOCHS_READ_MAX or epoch > self.places[-1][0]

    def through(self, epoch: int, sequence: int, week: int, count: int) -> "Mark":
        """The same with one more place."""
        places = sorted({**dict(self.places), epoch: sequence}.items(), reverse=True)
        return Mark(week, count, tuple(places[:EPOCHS_READ_MAX]))


@dataclass(slots=True)
class Standing:
    """All writers of one network. Tables are as large as its rosters, `forget_all_but` sees to it."""

    marks: dict[tuple[bytes, FeedKind], Mark] = field(default_factory=dict)
    strikes: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # member → newest epoch struck in, strikes
    banned: set[bytes] = field(default_factory=set)

    def strike(self, member_id: bytes, epoch: int) -> None:
        """One more fault of a member, while `epoch` is current; `STRIKES_MAX` are a ban."""
        last, count = self.strikes.get(member_id, (0, 0))
        count = count + 1 if epoch <= last else 1
        self.strikes[member_id] = max(epoch, last), count
        if count >= STRIKES_MAX:
            self.banned.add(member_id)

    def pardon(self, member_id: bytes) -> None:
        """Forget a member's strikes and its ban."""
        self.strikes.pop(member_id, None)
        self.banned.discard(member_id)

    def forget_all_but(self, known: AbstractSet[bytes]) -> None:
        """Keep marks and strikes of these alone: nothing can be accepted of who is on no roster. Bans stay."""
        self.marks = {key: mark for key, mark in self.marks.items() if key[0] in known}
        self.strikes = {id_: strikes for id_, strikes in self.strikes.items() if id_ in known}

    def export(self, network_id: bytes) -> bytes:
        """Everything, as canonical CBOR."""
        marks = [
            [id_, int(kind), mark.week, mark.count, *(number for place in mark.places for number in place)]
            for (id_, kind), mark in sorted(self.marks.items(), key=lambda found: found[0])
        ]
        strikes = [[id_, epoch, count] for id_, (epoch, count) in sorted(self.strikes.items())]
        banned = sorted(self.banned)
        named = {"version": _VERSION, "network": network_id, "accepted": marks, "strikes": strikes, "banned": banned}
        return cbor.encode(named)

    @classmethod
    def restore(cls, data: bytes, network_id: bytes) -> "Standing":
        """What `export` gave. Raises `RecordInvalid`, or `RemoteError` for bytes that are no canonical CBOR."""
        match cbor.decode(data):
            case {
                "version": int(version),
                "network": bytes(network),
                "accepted": list(marks),
                "strikes": list(strikes),
                "banned": list(banned),
                **rest,
            } if not rest and type(version) is int and version == _VERSION and network == network_id:
                found = cls(dict(map(_mark, marks)), dict(map(_strikes, strikes)), {_id(each) for each in banned})
                if found.export(network_id) == data:
                    return found
        raise RecordInvalid("what was remembered of a network's writers: not of this network or version")


def _mark(value: object) -> tuple[tuple[bytes, FeedKind], Mark]:
    match value:
        case [id_, int(kind), *numbers] if kind in list(FeedKind):
            week, count, *places = _numbers(numbers)
            epochs = places[::2]
            if len(places) % 2 == 0 and epochs and epochs == sorted(set(epochs), reverse=True)[:EPOCHS_READ_MAX]:
                return (_id(id_), FeedKind(kind)), Mark(week, count, tuple(zip(epochs, places[1::2], strict=True)))
    raise RecordInvalid("what was remembered of a network's writers: how far they were accepted")


def _strikes(value: object) -> tuple[bytes, tuple[int, int]]:
    match value:
        case [id_, *numbers] if len(numbers) == 2:
            epoch, count = _numbers(numbers)
            return _id(id_), (epoch, count)
    raise RecordInvalid("what was remembered of a network's writers: strikes")


def _numbers(values: list[object]) -> list[int]:
    """Two at least."""
    found = [value for value in values if type(value) is int and 0 <= value <= INTEGER_MAX]
    if len(found) != len(values) or len(found) < 2:
        raise RecordInvalid("what was remembered of a network's writers: a number")
    return found


def _id(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) != PUBLIC_KEY_BYTES:
        raise RecordInvalid("what was remembered of a network's writers: an id")
    return value
