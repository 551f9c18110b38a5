"""Decisions in words: every rule and source has some, numbers are those of the record, lists are in walking order."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from support_policy import make_policy
from support_requests import request

from edge.agent.decider import Decider, DeciderRules
from edge.agent.experiment import ExperimentRules
from edge.agent.explain import as_dict, explain, labels, labels_csv, labels_text
from edge.agent.rules import Rule
from edge.agent.sac_agent import SACAgent
from edge.cli.why import render_decisions, render_labels, render_why
from edge.records.decision import Arm, DecisionBatch, Mode, PeersHeard, PriceDecision, Source


def batch(mode: Mode = Mode.LIVE) -> DecisionBatch:
    rules = DeciderRules(experiment=ExperimentRules(step_probability=0.0))
    chain = Decider(rules, SACAgent(make_policy()), monotonic=lambda: 0.0)
    return chain.decide(request(mode=mode), np.random.default_rng(1))


def changed(whole: DecisionBatch) -> PriceDecision:
    return next(decision for decision in whole if decision.chosen_minor != decision.previous_minor)


def test_a_live_change_says_price_reason_and_expected_effect() -> None:
    decision = changed(batch())
    text = explain(decision, "Orange juice 1 l")
    assert f"Orange juice 1 l ({decision.sku})" in text
    assert f"{decision.previous_minor / 100:.2f} EUR → {decision.published_minor / 100:.2f} EUR" in text
    assert "the learned policy" in text
    assert f"profit {decision.profit_change:+.2f} EUR a week" in text
    assert "weekly optimiser would ask" in text
    assert "Inputs" in text


def test_a_shadow_decision_says_that_it_was_not_published() -> None:
    text = explain(changed(batch(Mode.SHADOW)))
    assert "shadow" in text
    assert "not published" in text
    assert "unchanged" in text
    assert "if it were published" in text


def test_it_says_when_other_shops_had_to_do_with_it() -> None:
    whole = batch()
    plain = changed(whole)
    assert "Peers" not in explain(plain)
    assert as_dict(plain)["peers"] is None
    told = replace(plain, peers=PeersHeard(5, whole.week - 3, 12))
    assert "what 5 shops of yours sold (12 numbers, up to 3 weeks old)" in explain(told)
    assert as_dict(told)["peers"] == {"shops": 5, "week": whole.week - 3, "coefficients": 12}
    one = replace(plain, peers=PeersHeard(1, whole.week - 1, 1))
    assert "what 1 shop of yours sold (1 number, up to 1 week old)" in explain(one)


@pytest.mark.parametrize("rule", list(Rule))
def test_every_rule_has_words(rule: Rule) -> None:
    plain = explain(replace(changed(batch()), rules=0))
    bound = explain(replace(changed(batch()), rules=int(rule)))
    assert "nothing stood in the way" in plain
    assert "nothing stood in the way" not in bound
    assert len(bound) != len(plain)


@pytest.mark.parametrize("source", list(Source))
def test_every_source_has_words(source: Source) -> None:
    assert "Asked" in explain(replace(changed(batch()), source=source))


def test_nothing_known_is_said_without_failing() -> None:
    bare = replace(
        changed(batch()), asked=float("nan"), previous_minor=0, units_hold=0.0, reference_minor=0,
        observation=np.zeros(0, dtype=np.float32), failures=("sac: RuntimeError: x",),
        arm=Arm.CONTROL, random_step=0.02,
    )  # fmt: skip
    text = explain(bare)
    assert "the first one published" in text
    assert "Fallback sac: RuntimeError: x" in text
    assert "control group" in text
    assert "random step" in text


def test_the_print_list_has_each_changed_label_once_in_walking_order() -> None:
    whole = batch()
    names = {sku: f"Juice {len(whole.skus) - at:02}" for at, sku in enumerate(whole.skus)}
    found = labels([whole], names)
    assert [label.name for label in found] == sorted(label.name for label in found)
    assert len(found) == int(np.sum(whole.published != whole.previous)) > 0
    rows = list(csv.DictReader(io.StringIO(labels_csv(found))))
    assert [row["sku"] for row in rows] == [label.sku for label in found]
    assert {int(row["new_minor"]) for row in rows} == {label.new_minor for label in found}
    text = labels_text(found)
    assert text.startswith("juice:\n")
    assert text.count("→") == len(found)
    assert labels_text([]) == "no label changes"
    assert render_labels(found) == text
    assert labels([batch(Mode.SHADOW)], names) == []


def test_the_renderers_give_tables_and_json() -> None:
    whole = batch()
    table = render_decisions([whole], {}).splitlines()
    assert len(table) == 12
    assert "asked by" in table[0]
    loaded = json.loads(render_decisions([whole], {}, as_json=True))
    assert [row["published_minor"] for row in loaded] == whole.published.tolist()
    one = json.loads(render_why([whole.decision(0)], "Juice", as_json=True))[0]
    assert set(one["observation"]) > {"last", "elasticity", "suggestion"}
    assert one["rules"] == list(Rule(int(whole.rules[0])).words)
    assert render_why([whole.decision(0), whole.decision(1)]).count("Asked") == 2
