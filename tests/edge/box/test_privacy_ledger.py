"""The ledger of privacy: made when it is needed, under the strictest caps; one that cannot be read lets nothing out."""

from fractions import Fraction
from pathlib import Path

from support_network_boxes import Hands

from edge.box.privacy_ledger import NAME, PrivacyLedger
from edge.health.checks import HealthChecks, HealthState
from edge.hypercore.store import FeedStore
from edge.privacy.reservation import Charge, ReleaseKey
from edge.privacy.rules import PrivacyRules
from edge.records.shared import Unit

KEY = ReleaseKey(b"n" * 32, "ranges", "", 2900, 4)


def ledger_of(state: Path) -> tuple[PrivacyLedger, HealthChecks]:
    health = HealthChecks(Hands())
    return PrivacyLedger(state, health), health


async def test_nothing_is_made_before_a_network_needs_it(tmp_path: Path) -> None:
    ledger, _ = ledger_of(tmp_path)
    await ledger.look()
    await ledger.close()
    assert ledger.budget is None
    assert list(tmp_path.iterdir()) == []


async def test_what_was_spent_is_known_after_a_restart_and_told_without_a_network(tmp_path: Path) -> None:
    ledger, _ = ledger_of(tmp_path)
    budget = await ledger.under(PrivacyRules())
    assert budget is not None
    await budget.raise_floor(2910)
    await budget.release(KEY, (Charge(Unit.RECEIPT, epsilon=Fraction(1)),), lambda: b"noised")
    await ledger.close()
    again, _ = ledger_of(tmp_path)
    await again.look()
    assert again.budget is not None
    assert again.budget.spent(Unit.RECEIPT, 2903).epsilon == 1
    found = again.budget.reservation(KEY)
    assert found is not None
    assert found.payload == b"noised"
    await again.close()


async def test_caps_are_the_strictest_of_all_networks_from_when_they_come(tmp_path: Path) -> None:
    ledger, _ = ledger_of(tmp_path)
    loose, strict = PrivacyRules(), PrivacyRules(epsilon_milli=100, epsilon_week_milli=500)
    one = await ledger.under(loose)
    assert one is not None
    assert one.budget.caps.week.epsilon == 2
    assert await ledger.under(strict) is one
    assert await ledger.under(loose) is one
    assert one.budget.caps.week.epsilon == Fraction(1, 2)
    await ledger.close()


async def test_a_ledger_that_cannot_be_read_lets_nothing_leave(tmp_path: Path) -> None:
    ledger, _ = ledger_of(tmp_path)
    budget = await ledger.under(PrivacyRules())
    assert budget is not None
    assert ledger._core is not None
    await ledger._core.append([b"no record of a privacy ledger"])
    await ledger.close()
    again, health = ledger_of(tmp_path)
    assert await again.under(PrivacyRules()) is None
    assert again.budget is None
    assert health.state is HealthState.DEGRADED
    assert "privacy: nothing leaves: " in health.summary()
    await again.close()
    store = FeedStore(tmp_path)  # it was closed again: another may have it
    (feed,) = [feed for feed in store.feeds() if feed.name == NAME]
    core = await store.open(feed, write=True)
    await core.close()
