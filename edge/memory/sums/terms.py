"""What is summed in a consortium, when and by whom. Pure, and the same for all members: it follows from the roster.

**Windows** are SUM_WEEKS weeks long (a shop's own evidence of demand takes a quarter) and never overlap, so that a sum
says something of its own weeks alone, and is charged to each of them. A window is due on the policy's `release_weekday`
of the week in which it is `lag_weeks` old, and is summed until the next one is due.

**Who.** The members of a key epoch's sums are those who could write when it began: who joins later waits for the next
one, who is revoked ends it. So the members of a sum can be told from any later roster too, by a box that was away for
months, and nobody's joining breaks a round. In the first epoch, while members are still gathering, there are no sums.
Where all members have one owner, each shop is a party (`plan.Parties`).

**What.** The own price coefficient of a category's demand, as the distance from a centre that all know (the shipped
prior's): one mean of the category, clipped to ±CLIP_MEAN, or, where owners and epsilon are enough (`dimension`) and the
policy allows items, for each item of a list that all know its distance (±CLIP_ITEM) and whether the shop knows it, the
whole within CLIP_NORM. An item's mean is the ratio of both sums: it leaves out who does not know the item.

**How often.** What a week and a year may cost allows a few categories each window (`room`): two by the default rules.
They are drawn for each window, by a draw that nobody can influence and that hardly depends on who lists what.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from typing import Final

from edge.crypto.hashing import hash256
from edge.errors import LocalError
from edge.limits import SUM_ITEMS_MAX
from edge.networks.access import FeedKind
from edge.networks.epochs import Epoch
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import WRITERS, Role, Roster
from edge.privacy.aggregate import Window, window_of
from edge.privacy.mechanism import epsilon_of_rho
from edge.privacy.rules import YEAR_WEEKS, PrivacyRules
from edge.privacy.secure_sum import (
    Dimension,
    Member,
    Parties,
    Plan,
    Quantiser,
    Round,
    RoundRefused,
    dimension,
    make_plan,
)
from edge.privacy.secure_sum.accounting import variance_for
from edge.privacy.secure_sum.rounds import OVERPROVISION, OWNERS_MIN
from edge.records.history import week_of, week_start

SUM_WEEKS: Final = 13
CLOSERS: Final = 3  # of a round; the second waits for twice as long as the first, and so on
CLIP_MEAN: Final = 0.5  # log units of a category's own elasticity around the centre
CLIP_ITEM: Final = 1.0
CLIP_NORM: Final = 2.5
DIMENSION_DELTA: Final = Fraction(1, 10**5)  # that the figures behind `dimension` are for
DELTA_MIN: Final = Fraction(1, 10**12)  # a record tells delta in these; a smaller one has the epsilon of this one
_ITEMS: Final = b"pomona/sums/items/1"
_DRAW: Final = b"pomona/sums/draw/1"


@dataclass(frozen=True, slots=True)
class Subject:
    """What one sum is about: a category, or items of it (ascending)."""

    category: str
    items: tuple[str, ...] = ()

    @property
    def quantiser(self) -> Quantiser:
        """How a shop's numbers are clipped and cut."""
        if not self.items:
            return Quantiser(1, CLIP_MEAN, CLIP_MEAN)
        return Quantiser(2 * len(self.items), CLIP_ITEM, CLIP_NORM)

    def name(self, centre_milli: int) -> str:
        """For the round: members who measure from another centre, or list other items, are not in one round."""
        listed = hash256(_ITEMS, "\n".join(self.items).encode())[:16].hex() if self.items else "mean"
        return f"price/{SUM_WEEKS}/{centre_milli}/{listed}/{self.category}"

    def steps(self, known: Sequence[float], centre: float, shops: int) -> tuple[int, ...] | None:
        """What a shop contributes that estimates these coefficients (of each item; NaN where it knows none).

        `shops`: of its owner in the group. None where it knows nothing. Raises `LocalError` for another number of them.
        """
        if len(known) != max(1, len(self.items)):
            raise LocalError(f"{len(known)} coefficients for {len(self.items)} items of {self.category}")
        if all(math.isnan(value) for value in known):
            return None
        off = [0.0 if math.isnan(value) else value - centre for value in known]
        if not self.items:
            return self.quantiser.to_steps(off, shops)
        off = [min(max(value, -CLIP_ITEM), CLIP_ITEM) for value in off]
        return self.quantiser.to_steps([*off, *(float(not math.isnan(value)) for value in known)], shops)


@dataclass(frozen=True, slots=True)
class Asked:
    """One sum: all groups' rounds of a subject in a window and key epoch."""

    window: Window
    epoch: int
    subject: Subject
    centre: float
    rounds: tuple[Round, ...]
    rho: Fraction
    delta: Fraction
    one_owner: bool

    @property
    def epsilon(self) -> float:
        """What `rho` is told as."""
        return epsilon_of_rho(self.rho, self.delta)


# --- when ------------------------------------------------------------------------------------------------------------


def due_day(window: Window, policy: NetworkPolicy) -> date:
    """The business day on which a window's sums begin."""
    return week_start(window.end + policy.privacy.lag_weeks) + timedelta(days=policy.release_weekday)


def open_window(today: date, policy: NetworkPolicy) -> Window | None:
    """The newest window whose day has come; `today` is the first business day that is not over."""
    end = week_of(today - timedelta(days=policy.release_weekday)) - policy.privacy.lag_weeks
    return None if end < SUM_WEEKS else Window(window_of(end, SUM_WEEKS).first - SUM_WEEKS, SUM_WEEKS)


def room(rules: PrivacyRules) -> int:
    """How many categories a window's sums can speak of, so that neither a week nor a year costs more than it may."""
    year = rules.rho_year_milli // (YEAR_WEEKS * rules.rho_milli)
    return max(1, min(rules.rho_week_milli // rules.rho_milli, year))


def drawn(network_id: bytes, window: Window, categories: Sequence[str]) -> list[str]:
    """Categories in the order in which a window draws them; `room` of them are summed.

    Every category has the same chance. Where lists differ, only what is drawn from one of them and not in another makes
    a difference.
    """
    number = window.first.to_bytes(8, "big")
    return sorted(set(categories), key=lambda category: hash256(_DRAW, network_id, number, category.encode()))


# --- who -------------------------------------------------------------------------------------------------------------


def people(roster: Roster, epoch: int) -> list[tuple[Member, Role]]:
    """Members of the sums of an epoch with their roles, by id."""
    there = {id_: gone.member for id_, gone in roster.revoked.items() if gone.epoch >= epoch} | dict(roster.members)
    return [
        (Member(id_, member.owner), member.role)
        for id_, member in sorted(there.items())
        if member.role in WRITERS and FeedKind.SUMS in member.signers and member.since_epoch < epoch
    ]


def closers_of(roster: Roster, epoch: int) -> tuple[bytes, ...]:
    """Who may close rounds of an epoch, the first before the others: those with the role, else the first writers."""
    there = people(roster, epoch)
    named = [member.id for member, role in there if role is Role.CLOSER] or [member.id for member, _ in there]
    return tuple(named[:CLOSERS])


def plan_of(roster: Roster, epoch: Epoch, window: Window) -> Plan:
    """The groups of a window. Raises `RoundRefused`: too few parties or shops."""
    there = [member for member, _ in people(roster, epoch.number)]
    if len(there) < roster.policy.privacy.shops_min:
        raise RoundRefused(f"{len(there)} shops; at least {roster.policy.privacy.shops_min}", reason="shops")
    parties = Parties.SHOPS if roster.one_owner and len({each.owner for each in there}) == 1 else Parties.OWNERS
    return make_plan(roster.network_id, window.first, epoch.secret, there, parties=parties)


def owners_min(roster: Roster) -> int:
    """Parties behind a sum: at least five, and as many as make each small enough for the policy."""
    policy = roster.policy
    least = 1 if roster.one_owner else max(policy.owners_min, policy.privacy.owners_min)
    return max(OWNERS_MIN, least, math.ceil(1.0 / policy.owner_share_max))


# --- what ------------------------------------------------------------------------------------------------------------


def asked(
    roster: Roster, plan: Plan, *, epoch: int, window: Window, category: str, items: Sequence[str], centre: float
) -> Asked:
    """The sum about a category. `items`: those of it that all members list; none where they have no common list.

    Raises `RoundRefused` where a group is too small for the policy.
    """
    rules = roster.policy.privacy
    subject = Subject(category, tuple(sorted(set(items))) if _names_items(roster, plan, items) else ())
    quantiser, closers = subject.quantiser, closers_of(roster, epoch)
    rounds = tuple(
        Round(
            roster.network_id,
            window.first,
            subject.name(round(centre * 1000)),
            number,
            group,
            closers,
            quantiser.dimension,
            quantiser.steps,
            variance_for(rules.rho, quantiser.sensitivity, len(group), quantiser.dimension),
            owners_min(roster),
        )
        for number, group in enumerate(plan.groups)
    )
    delta = max(rules.delta, DELTA_MIN)
    return Asked(window, epoch, subject, round(centre * 1000) / 1000, rounds, rules.rho, delta, roster.one_owner)


def _names_items(roster: Roster, plan: Plan, items: Sequence[str]) -> bool:
    rules = roster.policy.privacy
    if not rules.item_level or not 2 <= len(set(items)) <= SUM_ITEMS_MAX:
        return False
    owners, groups = len({each.owner for group in plan.groups for each in group}), len(plan.groups)
    ratio = math.sqrt(OVERPROVISION) * groups * (1.0 if groups == 1 else math.sqrt(math.pi / 2 / groups))
    epsilon = epsilon_of_rho(rules.rho, DIMENSION_DELTA)
    return dimension.choose(owners, epsilon, noise_ratio=ratio) is Dimension.ITEM_VECTOR
