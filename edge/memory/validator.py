"""The gate on the way in: what other members' feeds say is believed only after every rule here has been asked.

    validator.validate_network_data(arrival, roster=..., epochs=..., wall=...) -> NetworkMessage, or raises `Refused`

One validator serves one network. Rules are asked in the order of `REASONS`, the first that is broken names the refusal:

    banned      the member has used up its strikes
    format      not one canonical, bounded CBOR message of the documented form
    type        a version, kind of payload or message type that this software does not know
    network     of another network, or of another kind of network
    roster      not a writer of this network, an epoch that is not known here, or not the feed that the epoch gives it
    revoked     beyond the length at which the feed of a revoked member was closed
    order       not after what was accepted last of its feed: repeats, replays, going back; or of too old an epoch
    signature   not by the member's key of this kind over exactly these bytes in exactly this place
    matrix      a payload that this network may not see, or that belongs into another feed
    range       a number outside its range, a week that is not yet or that nobody keeps any more
    lag         between owners: too young
    protection  in a consortium or public network: not said to be protected, or not by the right unit
    owners      too few owners or shops behind it, or more than there are
    timestamp   further off than the two clocks can explain
    rate        more messages than a feed may have in a week

(`range`, `timestamp` and `signature` are named by the decoder, too, where it is the form that breaks them.) There is no
branch that lets pass what is not known. Order comes from the feed alone; wall time only refuses what is absurd.

A refusal changes nothing but the counts: `refusals` by reason, and strikes of members where no race, no other clock and
no other version explains what they sent. `STRIKES_MAX` in one key epoch are a ban, until `pardon`. A refusal that is
`later` may go away by itself, with a newer roster, secret or clock: whoever does not want to lose the message stops
reading the feed there and offers the same arrival again, because what stands behind it cannot follow what is accepted.

Pure: no I/O and no clock; `export` and `restore` carry what must outlive a restart (`edge.memory.standing`).
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from edge.clock import ClockQuality, WallTime
from edge.crypto.keys import signature_valid
from edge.errors import LocalError, RecordInvalid, RemoteError
from edge.limits import INTEGER_MAX
from edge.memory.standing import Mark, Standing
from edge.networks import access
from edge.networks.access import FeedKind
from edge.networks.epochs import Epoch
from edge.networks.following import Arrival
from edge.networks.policy import LAG_WEEKS_MIN, OWNERS_MIN, NetworkPolicy
from edge.networks.roster import WRITERS, Member, Roster
from edge.records.history import week_of
from edge.records.message import Network, NetworkMessage, Place, decode, signable
from edge.records.shared import ItemDay, PriceUpdate, Unit, week_behind

REASONS: Final = (
    *("banned", "format", "type", "network", "roster", "revoked", "order", "signature"),
    *("matrix", "range", "lag", "protection", "owners", "timestamp", "rate"),
)
_LATER: Final = frozenset({"roster", "lag", "timestamp"})
FIRST_MS: Final = 1_790_000_000_000  # 2026-09-21: before it no message of this format can have been written
UNSURE_MS: Final = 10 * 366 * 86_400_000  # how far a clock that nobody disciplines is believed to be behind, at most

_MESSAGE_CHARS_MAX: Final = 200  # of a refusal: it may quote what somebody else chose
_DAY_MS: Final = 86_400_000
_UNIX_EPOCH: Final = date(1970, 1, 1).toordinal()
_DECODER: Final = {  # the decoder's reasons, as ours; every other one is `format`
    "unknown_type": "type",
    "version": "type",
    "unknown_network": "network",
    "signature": "signature",
    "timestamp": "timestamp",
    "range": "range",
}


class Refused(RemoteError):
    """Not accepted. `reason` is one of `REASONS`; `strike`: it counts towards a ban; `later`: see the module."""

    def __init__(self, message: str, *, reason: str, strike: bool = False, later: bool = False) -> None:
        super().__init__(message[:_MESSAGE_CHARS_MAX], reason=reason)
        self.strike = strike
        self.later = later or (reason in _LATER and not strike)


@dataclass(frozen=True, slots=True)
class _Census:
    """Who stands behind records, counted once a roster."""

    roster: Roster
    owners: frozenset[str]  # of all members: readers see what is shared, too
    shops_behind: int  # that write or have written
    owners_behind: int

    @classmethod
    def of(cls, roster: Roster) -> "_Census":
        people = [*roster.members.values(), *(gone.member for gone in roster.revoked.values())]
        wrote = [each.owner for each in people if each.role in WRITERS]
        return cls(roster, frozenset(each.owner for each in roster.members.values()), len(wrote), len(set(wrote)))


class DataValidator:
    """Decides on what arrives in the network `network_id`. `on_refused` is told each reason: the metric's counter."""

    def __init__(self, network_id: bytes, on_refused: Callable[[str], object] | None = None) -> None:
        self.network_id: Final = network_id
        self.refusals: Final[Counter[str]] = Counter()
        self._on_refused = on_refused
        self._standing = Standing()
        self._census: _Census | None = None

    @property
    def banned(self) -> frozenset[bytes]:
        """Ids of members from which nothing is accepted any more."""
        return frozenset(self._standing.banned)

    def strikes(self, member_id: bytes) -> int:
        """Strikes of a member in the newest epoch in which it had one."""
        return self._standing.strikes.get(member_id, (0, 0))[1]

    def accepted(self, member_id: bytes, kind: FeedKind, epoch: int) -> int | None:
        """Sequence of what was accepted last of a member's feed of a kind in an epoch; None: nothing yet."""
        mark = self._standing.marks.get((member_id, kind))
        return None if mark is None else dict(mark.places).get(epoch)

    def pardon(self, member_id: bytes) -> None:
        """Forget a member's strikes and its ban."""
        self._standing.pardon(member_id)

    def export(self) -> bytes:
        """What must outlive a restart: how far members were accepted, strikes, bans. Not the counts of refusals."""
        return self._standing.export(self.network_id)

    def restore(self, data: bytes) -> None:
        """Go on from what `export` gave. Raises `RemoteError` for anything else; then nothing changes."""
        self._standing = Standing.restore(data, self.network_id)

    def validate_network_data(
        self,
        arrival: Arrival,
        *,
        roster: Roster,
        epochs: Mapping[int, Epoch],
        wall: WallTime,
        floor_ms: int = 0,
        policy: NetworkPolicy | None = None,
        week_now: int | None = None,
    ) -> NetworkMessage:
        """The message of an arrival, which from here on counts as accepted; `Refused` otherwise.

        `epochs` are those whose secrets are known, by number. `wall` is our time and `floor_ms` what it cannot be
        earlier than. `policy` is our own where it is stricter than the roster's. `week_now` is the present business
        week where it does not follow from `wall`: a replay, a demonstration. `LocalError`: a roster of another network.
        """
        if roster.network_id != self.network_id:
            raise LocalError("a validator was handed the roster of another network")
        now = WallTime(max(wall.ms, floor_ms), wall.quality)
        try:
            message, mark = self._judged(
                arrival, roster, epochs, now=now, policy=policy or roster.policy, week=week_now
            )
        except Refused as refusal:
            self._count(arrival, refusal, roster)
            raise
        self._standing.marks[arrival.member, arrival.kind] = mark
        self._forget_strangers(roster)
        return message

    # --- the rules ----------------------------------------------------------------------------------------------------

    def _judged(
        self,
        arrival: Arrival,
        roster: Roster,
        epochs: Mapping[int, Epoch],
        *,
        now: WallTime,
        policy: NetworkPolicy,
        week: int | None,
    ) -> tuple[NetworkMessage, Mark]:
        if arrival.member in self._standing.banned:
            raise Refused("the member is banned", reason="banned")
        if arrival.kind is FeedKind.SUMS:  # not the writer's fault: its blocks are for `edge.privacy.secure_sum`
            raise Refused("the feed of sums holds no messages", reason="matrix")
        message = _decoded(arrival.block)
        if arrival.network_id != roster.network_id:
            raise Refused("brought from another network", reason="network")
        if message.network is not roster.network:
            raise Refused(f"a {message.network} message in a {roster.network} network", reason="network", strike=True)
        member, signer = _writer(arrival, roster, epochs)
        mark = self._standing.marks.get((arrival.member, arrival.kind))
        if mark is not None and not mark.after(arrival.epoch, arrival.sequence):
            said = f"epoch {arrival.epoch}, block {arrival.sequence}: what stands behind it was accepted, or itself"
            raise Refused(said, reason="order")
        place = Place(arrival.network_id, arrival.feed_key, arrival.sequence)
        if not signature_valid(signer, signable(message, place), message.signature):
            raise Refused("the signature does not fit this message in this place", reason="signature", strike=True)
        if self._census is None or self._census.roster is not roster:
            self._census = _Census.of(roster)
        between_owners = self._census.owners != {member.owner}
        _check_matrix(message, arrival.kind, policy)
        _check_week(message, now, policy, week, between_owners=between_owners)
        _check_protection(message, self._census, policy, between_owners=between_owners)
        _check_timestamp(message, now, policy)
        return message, _counted(arrival, message, mark, roster, policy)

    def _count(self, arrival: Arrival, refusal: Refused, roster: Roster) -> None:
        self.refusals[refusal.reason] += 1
        if self._on_refused is not None:
            self._on_refused(refusal.reason)
        if refusal.strike and (arrival.member in roster.members or arrival.member in roster.revoked):
            self._standing.strike(arrival.member, roster.epoch)

    def _forget_strangers(self, roster: Roster) -> None:
        standing, most = self._standing, 2 * (len(roster.members) + len(roster.revoked))
        if len(standing.marks) > len(FeedKind) * most or len(standing.strikes) > most:
            standing.forget_all_but(roster.members.keys() | roster.revoked.keys())


def _decoded(block: bytes) -> NetworkMessage:
    try:
        return decode(block)
    except RemoteError as error:
        reason = _DECODER.get(error.reason, "format")
        raise Refused(f"{error.reason}: {error}", reason=reason, strike=reason != "type") from error


def _writer(arrival: Arrival, roster: Roster, epochs: Mapping[int, Epoch]) -> tuple[Member, bytes]:
    """The member, and the key that signs its feed of this kind."""
    revocation = roster.revoked.get(arrival.member)
    member = roster.members.get(arrival.member) if revocation is None else revocation.member
    if member is None:
        raise Refused("nobody on the roster", reason="roster")
    signer = member.signers.get(arrival.kind)
    if member.role not in WRITERS or signer is None or arrival.kind not in roster.feed_kinds:
        raise Refused(f"a {member.role} writes no {arrival.kind.name.lower()} feed here", reason="roster")
    epoch = epochs.get(arrival.epoch)
    if epoch is None or epoch.number != arrival.epoch:
        raise Refused(f"the secret of epoch {arrival.epoch} is not known here", reason="roster")
    limit = roster.limit(arrival.member, arrival.kind, arrival.epoch)
    if limit is not None and (revocation is None or arrival.epoch < member.since_epoch):
        raise Refused(f"the member's feeds do not count in epoch {arrival.epoch}", reason="roster")
    if epoch.feed_key(arrival.kind, signer) != arrival.feed_key or not 0 <= arrival.sequence <= INTEGER_MAX:
        raise Refused("not a block of the feed that the member has in this epoch", reason="roster")
    if limit is not None and arrival.sequence >= limit:
        raise Refused(f"revoked: closed at {limit} blocks in epoch {arrival.epoch}", reason="revoked")
    return member, signer


def _check_matrix(message: NetworkMessage, kind: FeedKind, policy: NetworkPolicy) -> None:
    try:
        access.check(message.network, kind, message.payload)
    except RecordInvalid as error:
        raise Refused(str(error), reason="matrix", strike=True) from error
    items = any(row.sku for row in message.payload.rows)
    if items and message.network is not Network.PRIVATE and not policy.item_level:
        raise Refused("items are named in a network that speaks of categories alone", reason="matrix")


def _check_week(
    message: NetworkMessage, now: WallTime, policy: NetworkPolicy, week_now: int | None, *, between_owners: bool
) -> None:
    newest = week_behind(message.payload)
    this_week = _week_of(now.ms) if week_now is None else week_now
    latest = _week_of(_latest_ms(now, policy)) if week_now is None else week_now + 1  # tills may be a day ahead
    if newest > latest:
        raise Refused(f"week {newest} is not yet: this is week {this_week}", reason="range", later=True)
    if newest < max(0, this_week - policy.keep_weeks):
        raise Refused(f"week {newest} is older than {policy.keep_weeks} weeks", reason="range")
    lag = max(policy.lag_weeks, LAG_WEEKS_MIN) if between_owners else policy.lag_weeks
    if message.network is not Network.PRIVATE and newest + 1 + lag > this_week:
        raise Refused(f"week {newest} is not over for {lag} weeks yet: this is week {this_week}", reason="lag")


def _check_protection(message: NetworkMessage, census: _Census, policy: NetworkPolicy, *, between_owners: bool) -> None:
    payload = message.payload
    if isinstance(payload, ItemDay | PriceUpdate):
        return  # the matrix let it pass: a private network
    note = payload.protection
    if message.network is not Network.PRIVATE:
        if note.unit is Unit.NONE:
            raise Refused(f"nothing protects this {type(payload).__name__}", reason="protection", strike=True)
        if between_owners and note.unit is not Unit.OWNER_WEEK:
            raise Refused(f"between owners the {note.unit} is not what must be protected", reason="protection")
        owners_min = max(policy.owners_min, OWNERS_MIN) if between_owners else 1
        if note.owners < owners_min or note.shops < policy.shops_min:
            raise Refused(
                f"{note.owners} owners and {note.shops} shops behind it; at least {owners_min} and {policy.shops_min}",
                reason="owners",
            )
    more = note.shops > census.shops_behind or note.owners > census.owners_behind
    if more and message.network is not Network.PUBLIC:  # there, those behind it are on another network's roster
        raise Refused(f"{note.owners} owners and {note.shops} shops behind it: more than there are", reason="owners")


def _check_timestamp(message: NetworkMessage, now: WallTime, policy: NetworkPolicy) -> None:
    at = message.timestamp
    if at.ms < FIRST_MS:  # no clock of ours runs below the time of its build
        raise Refused(f"written at {at.ms} ms, before there was this software", reason="timestamp", strike=True)
    latest = _latest_ms(now, policy) if at.quality is ClockQuality.SYNCED else now.ms + UNSURE_MS
    if at.ms > latest:
        raise Refused(f"written at {at.ms} ms, it is {now.ms} ms here ({now.quality})", reason="timestamp")


def _counted(
    arrival: Arrival, message: NetworkMessage, mark: Mark | None, roster: Roster, policy: NetworkPolicy
) -> Mark:
    """Messages are counted since the newest week of the feed moved on: who catches up on many weeks is no flood.

    The feed of an epoch that is over is bounded by its length alone.
    """
    here = arrival.epoch, arrival.sequence
    strike = roster.policy.messages_per_week <= policy.messages_per_week
    if mark is not None and arrival.epoch < mark.places[0][0]:
        most = policy.messages_per_week * policy.epoch_weeks
        if arrival.sequence >= most:
            raise Refused(f"more than {most} messages in epoch {arrival.epoch}", reason="rate", strike=strike)
        return mark.through(*here, mark.week, mark.count)
    week, count = week_behind(message.payload), 1
    if mark is not None and week <= mark.week and arrival.epoch == mark.places[0][0]:
        week, count = mark.week, mark.count + 1
    if count > policy.messages_per_week:
        said = f"more than {policy.messages_per_week} messages since week {week} began"
        raise Refused(said, reason="rate", strike=strike)
    return Mark(week, count, (here,)) if mark is None else mark.through(*here, week, count)


def _latest_ms(now: WallTime, policy: NetworkPolicy) -> int:
    """The latest that it can be, by our clock."""
    return now.ms + (policy.clock_tolerance_s * 1000 if now.quality is ClockQuality.SYNCED else UNSURE_MS)


def _week_of(wall_ms: int) -> int:
    return week_of(date.fromordinal(min(_UNIX_EPOCH + wall_ms // _DAY_MS, date.max.toordinal())))
