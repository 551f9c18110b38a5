"""The exported policy is the trained one, whole, in bytes that tell nothing of the machine that made them."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edge.agent.observation import FEATURE_NAMES
from edge.agent.sac_agent import SACAgent
from edge.errors import ConfigError
from trainer.export import GOLDEN_ROWS, PARITY_TOLERANCE, Trained, build, config_digest, golden_difference, parity
from trainer.sac import Actor

F = len(FEATURE_NAMES)


def trained(seed: int = 0, scale: float = 3.0) -> Trained:
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        actor = Actor(F, 32)
    with torch.no_grad():
        actor.mean.copy_(torch.from_numpy(rng.normal(0, 0.3, F).astype(np.float32)))
        actor.scale.copy_(torch.from_numpy(rng.uniform(0.05, 1, F).astype(np.float32)))
        actor.head.weight.mul_(10.0 * scale)  # answers all over the range, not only near 0
    return Trained(
        actor,
        0.2,
        np.full(F, -0.5, np.float32),
        np.full(F, 0.5, np.float32),
        rng.normal(0, 0.3, (GOLDEN_ROWS, F)).astype(np.float32),
        seed,
        {"seed": seed},
    )


def test_parity_with_torch_even_for_missing_and_absurd_values() -> None:
    policy = trained()
    data = build(policy)
    assert parity(data, policy) <= PARITY_TOLERANCE
    answer = SACAgent(data).run(np.full((3, F), np.nan, np.float32))
    assert np.isfinite(answer).all()
    assert np.abs(SACAgent(data).run(policy.golden)).max() > 0.05


def test_the_box_accepts_it_and_knows_what_it_is() -> None:
    facts = SACAgent(build(trained())).facts
    assert facts.residual
    assert (facts.action_low, facts.action_high) == (-0.2, 0.2)
    assert facts.golden_observation.shape == (GOLDEN_ROWS, F)


def test_export_is_byte_stable_and_survives_a_checkpoint(tmp_path: Path) -> None:
    policy = trained()
    policy.save(tmp_path / "checkpoint.pt")
    assert build(policy) == build(policy) == build(Trained.load(tmp_path / "checkpoint.pt"))


def test_nothing_of_this_machine_is_in_the_bytes() -> None:
    data = build(trained())
    for word in (b"site-packages", b"/home", b"/work", b"/usr", b"/tmp", sys.prefix.encode(), str(Path.cwd()).encode()):
        assert word not in data
    model = onnx.load_from_string(data)
    assert not any(node.doc_string or len(node.metadata_props) for node in model.graph.node)
    assert not model.doc_string
    assert not model.graph.doc_string
    assert [opset.version for opset in model.opset_import] == [18]
    assert {tensor.data_type for tensor in model.graph.initializer} == {onnx.TensorProto.FLOAT}


def test_metadata_names_units_fills_ranges_and_recipe() -> None:
    model = onnx.load_from_string(build(trained()))
    data = {entry.key: entry.value for entry in model.metadata_props}
    specs = json.loads(data["pomona.feature_specs"])
    assert [spec["name"] for spec in specs] == list(FEATURE_NAMES)
    assert all(spec["unit"] for spec in specs)
    assert data["pomona.config_sha256"] == config_digest({"seed": 0})
    assert len(json.loads(data["pomona.training_ranges"])["p99"]) == F


def test_golden_difference_sees_another_policy() -> None:
    same, other = build(trained(0)), build(trained(1))
    assert golden_difference(same, same) < 1e-6
    assert golden_difference(same, other) > 1e-3


def test_what_is_no_checkpoint_is_refused_without_running_it(tmp_path: Path) -> None:
    path = tmp_path / "bad.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ConfigError, match="no checkpoint"):
        Trained.load(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        Trained.load(tmp_path / "absent.pt")
