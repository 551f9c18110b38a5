"""The policy file: what is loaded answers as it was trained; whatever else it is, it is refused."""

import contextlib
import json

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_policy import COUNT, PolicyParts, answer, make_policy, metadata_of, reference_observations, sha256

from edge.agent.model_file import PolicyRefused, check_model
from edge.agent.observation import FEATURE_NAMES
from edge.agent.sac_agent import SACAgent
from edge.errors import RemoteError

GOOD = make_policy()
SUGGESTION = FEATURE_NAMES.index("suggestion")


@pytest.mark.parametrize("hidden", [0, 32])
def test_a_policy_answers_as_its_trainer_wrote_down(hidden: int) -> None:
    parts = PolicyParts(hidden=hidden)
    agent = SACAgent(make_policy(parts))
    seen = reference_observations(50)
    np.testing.assert_allclose(agent.ask(seen), answer(parts, seen)[:, 0], atol=1e-6)
    assert agent.self_test() < 1e-5
    assert agent.ask(seen[:1]).shape == (1,)


def test_a_residual_policy_is_added_to_the_suggestion() -> None:
    parts = PolicyParts(action="residual")
    seen = reference_observations(5)
    expected = answer(parts, seen)[:, 0] + seen[:, SUGGESTION]
    np.testing.assert_allclose(SACAgent(make_policy(parts)).ask(seen), expected, atol=1e-6)


def test_the_hash_is_checked_before_anything_is_read() -> None:
    SACAgent(GOOD, sha256=sha256(GOOD))
    with pytest.raises(PolicyRefused, match="hashes to"):
        SACAgent(b"not even onnx", sha256=sha256(GOOD))


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (PolicyParts(input_name="state"), "shape"),
        (PolicyParts(output_name="price"), "shape"),
        (PolicyParts(rows=11), "shape"),
        (PolicyParts(golden_shift=0.01), "golden"),
        (PolicyParts(golden_shift=float("nan")), "golden"),
        (PolicyParts(metadata={"pomona.schema": None}), "metadata"),
        (PolicyParts(metadata={"pomona.schema": "2"}), "metadata"),
        (PolicyParts(metadata={"pomona.observation_version": "0"}), "features"),
        (PolicyParts(metadata={"pomona.features": json.dumps(FEATURE_NAMES[::-1])}), "features"),
        (PolicyParts(metadata={"pomona.features": None}), "metadata"),
        (PolicyParts(metadata={"pomona.action": "absolute"}), "metadata"),
        (PolicyParts(metadata={"pomona.action_bounds": "[-3, 3]"}), "metadata"),
        (PolicyParts(metadata={"pomona.training_ranges": '{"p1": [0], "p99": [1]}'}), "metadata"),
        (PolicyParts(metadata={"pomona.golden": "[]"}), "metadata"),
        (PolicyParts(metadata={"pomona.golden": "[" * 5000}), "metadata"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(parts: PolicyParts, reason: str) -> None:
    with pytest.raises(PolicyRefused) as refused:
        SACAgent(make_policy(parts))
    assert refused.value.reason == reason


def test_a_policy_for_another_number_of_features_is_refused() -> None:
    wide = PolicyParts(width=COUNT + 1, weights=np.zeros((COUNT + 1, 1), dtype=np.float32))
    wide.metadata = {"pomona.golden": metadata_of(PolicyParts())["pomona.golden"]}
    with pytest.raises(PolicyRefused):
        SACAgent(make_policy(wide))


def _spoilt(change: str) -> bytes:
    model = onnx.load_from_string(GOOD)
    if change == "external":
        tensor = model.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"
    elif change == "external in an attribute":
        node = model.graph.node.add()
        node.op_type = "Constant"
        node.output.append("unused")
        attribute = node.attribute.add()
        attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
        attribute.t.data_location = onnx.TensorProto.EXTERNAL
    elif change == "custom operator":
        model.graph.node[0].domain = "com.example"
    elif change == "custom opset":
        model.opset_import.add().domain = "com.example"
    elif change == "function":
        model.functions.add().name = "f"
    elif change == "nested":
        graph = model.graph
        for _ in range(20):
            node = graph.node.add()
            node.op_type = "If"
            attribute = node.attribute.add()
            attribute.name, attribute.type = "then_branch", onnx.AttributeProto.GRAPH
            graph = attribute.g
            graph.name = "deeper"
    elif change == "empty":
        model.graph.ClearField("node")
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    "change",
    ["external", "external in an attribute", "custom operator", "custom opset", "function", "nested", "empty"],
)
def test_a_file_that_is_not_whole_in_itself_is_refused_before_the_runtime_sees_it(change: str) -> None:
    check_model(GOOD)
    with pytest.raises(PolicyRefused):
        check_model(_spoilt(change))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, len(GOOD)), st.booleans())
def test_any_bytes_are_facts_or_refused(noise: bytes, at: int, append: bool) -> None:
    data = GOOD[:at] + noise + (GOOD[at:] if append else b"")
    with contextlib.suppress(RemoteError):
        check_model(data)


def test_a_file_cut_anywhere_is_refused() -> None:
    for at in range(0, len(GOOD), 97):
        with pytest.raises(PolicyRefused):
            SACAgent(GOOD[:at])


def test_drift_is_the_share_of_values_outside_the_training() -> None:
    ranges = {"p1": [0.0] * COUNT, "p99": [1.0] * COUNT}
    agent = SACAgent(make_policy(PolicyParts(metadata={"pomona.training_ranges": json.dumps(ranges)})))
    seen = np.full((4, COUNT), 0.5, dtype=np.float32)
    assert agent.drift(seen) == 0.0
    seen[0, :] = 2.0
    assert agent.drift(seen) == 0.25


def test_a_policy_that_answers_nan_is_passed_on_for_the_guard_to_judge() -> None:
    seen = reference_observations(3)
    seen[1, 0] = np.nan
    assert np.isnan(SACAgent(make_policy(PolicyParts(weights=np.ones((COUNT, 1), dtype=np.float32)))).ask(seen)[1])
