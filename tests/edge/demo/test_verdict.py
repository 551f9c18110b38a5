"""The demonstration's judge: it knows the limits by itself, and a decision outside them does not pass."""

import numpy as np
import pytest

from edge.agent.guard import GuardInputs, project
from edge.agent.rules import GuardRules, Rule
from edge.demo.verdict import breach
from edge.records.decision import Arm, Mode, PriceDecision, Source
from edge.records.history import week_start
from edge.records.item import Item

GUARD = GuardRules()


def decision(
    published: int, *, previous: int = 200, reference: int = 200, rules: int = 0, **changes: object
) -> PriceDecision:
    fields: dict[str, object] = {
        "sku": "a",
        "category": "juice",
        "business_day": week_start(2900),
        "mode": Mode.LIVE,
        "source": Source.SAC,
        "arm": Arm.NONE,
        "model": "",
        "model_sha256": b"",
        "failures": (),
        "currency": "EUR",
        "published_minor": published,
        "chosen_minor": published,
        "previous_minor": previous,
        "reference_minor": reference,
        "rules": rules,
        "asked": 0.0,
        "suggestion": 0.0,
        "cost": 1.2,
        "units_hold": 1.0,
        "units_change": 0.0,
        "units_change_sd": 0.0,
        "profit_change": 0.0,
        "profit_change_sd": 0.0,
        "random_step": 0.0,
        "propensity": 1.0,
        "observation": np.zeros(0, np.float32),
    }
    return PriceDecision(**{**fields, **changes})  # type: ignore[arg-type]


def item(*, cost_e4: int = 12_000, floor: int | None = None, ceiling: int | None = None) -> dict[str, Item]:
    return {"a": Item("a", "A", "juice", 200, cost_e4, floor_minor=floor, ceiling_minor=ceiling)}


@pytest.mark.parametrize(
    ("published", "items", "verdict"),
    [
        (200, item(), ""),
        (220, item(), ""),
        (222, item(), "outside 181..221"),
        (180, item(), "outside 181..221"),
        (205, item(ceiling=204), "outside 181..204"),
        (185, item(floor=190), "outside 190..221"),
        (300, item(cost_e4=30_000), "outside 306..306"),
        (306, item(cost_e4=30_000), ""),
        (160, item(ceiling=160), ""),
        (200, item(ceiling=160), "outside 160..160"),
    ],
)
def test_limits_and_their_precedence(published: int, items: dict[str, Item], verdict: str) -> None:
    found = breach(decision(published, previous=published), items, GUARD)
    assert (verdict in found) if verdict else found == ""


def test_a_step_is_a_limit_unless_the_owner_moved_the_reference() -> None:
    narrow = GuardRules(step=0.03)
    assert "more than a step" in breach(decision(215), item(), narrow)
    assert breach(decision(215, rules=int(Rule.MOVED)), item(), narrow) == ""
    assert breach(decision(206), item(), narrow) == ""


def test_in_shadow_the_chosen_price_is_judged_not_the_shelf() -> None:
    shadow = decision(200, mode=Mode.SHADOW, chosen_minor=260)
    assert "260 is outside" in breach(shadow, item(), GUARD)


def test_the_judge_and_the_guard_agree_on_random_wishes() -> None:
    rng = np.random.default_rng(4)
    for _ in range(400):
        reference, previous = int(rng.integers(50, 900)), int(rng.integers(50, 900))
        cost = int(rng.integers(1, reference * 130))
        inputs = GuardInputs(
            reference=np.array([reference]),
            previous=np.array([previous]),
            previous_reference=np.array([reference]),
            cost=np.array([cost / 100]),
            floor=np.array([0]),
            ceiling=np.array([0]),
            days_since_change=np.array([99]),
            weight=np.array([1.0]),
            slots=np.asarray(9),
            at_opening=np.asarray(True),
        )
        result = project(rng.normal(0, 0.3, 1), inputs, GUARD)
        made = decision(int(result.price[0]), previous=previous, reference=reference, rules=int(result.rules[0]))
        assert breach(made, {"a": Item("a", "A", "juice", reference, cost)}, GUARD) == ""
