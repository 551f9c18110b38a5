"""The exported policy: one ONNX file that holds the whole function, and everything a box must know to trust it.

The graph is written down node by node, not traced: missing values, scaling, clipping, network, squashing and the
action's range are all in it, nothing of the machine that made it is, and the same actor gives the same bytes.
FORMATS.md, "Policy file", lists the metadata.
"""

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge.agent.observation import FEATURES, OBSERVATION_VERSION
from edge.errors import ConfigError, LocalError
from trainer.sac import FEATURE_LIMIT, Actor

Float32 = NDArray[np.float32]

OPSET: Final = 18
IR_VERSION: Final = 9  # read by every ONNX Runtime that the box supports
GOLDEN_ROWS: Final = 32
GOLDEN_TOLERANCE: Final = 1e-3
PARITY_TOLERANCE: Final = 1e-5


@dataclass(frozen=True, slots=True)
class Trained:
    """The result of a training run: what an export needs, nothing else."""

    actor: Actor
    residual: float  # log; the action's half-range around the suggestion
    range_low: Float32  # (F,) 1st percentile of each feature in training
    range_high: Float32  # (F,) 99th
    golden: Float32  # (GOLDEN_ROWS, F) observations met in training
    seed: int
    config: dict[str, Any]  # the whole configuration, JSON-able

    def save(self, path: Path) -> None:
        """Write a checkpoint: tensors and JSON only, so that loading it runs no code."""
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(
            {
                "actor": self.actor.state_dict(),
                "residual": self.residual,
                "range_low": torch.from_numpy(self.range_low),
                "range_high": torch.from_numpy(self.range_high),
                "golden": torch.from_numpy(self.golden),
                "seed": self.seed,
                "config": json.dumps(self.config, sort_keys=True),
            },
            path,
        )

    @classmethod
    def load(cls, path: Path) -> "Trained":
        """Read a checkpoint of `save`; `ConfigError` names the file where it is none."""
        try:
            data = torch.load(path, map_location="cpu", weights_only=True)
            weights = data["actor"]
            actor = Actor(weights["mean"].shape[0], weights["second.weight"].shape[0])
            actor.load_state_dict(weights)
            return cls(
                actor,
                float(data["residual"]),
                data["range_low"].numpy(),
                data["range_high"].numpy(),
                data["golden"].numpy(),
                int(data["seed"]),
                json.loads(data["config"]),
            )
        except OSError as error:
            raise ConfigError("--checkpoint", f"{path} cannot be read: {error.strerror}") from error
        except Exception as error:  # torch raises pickle, runtime and key errors for a file that is no checkpoint
            raise ConfigError("--checkpoint", f"{path} is no checkpoint of pomona-trainer: {error}") from error


def config_digest(config: dict[str, Any]) -> str:
    """SHA-256 of the configuration's canonical JSON: tells two policies' recipes apart."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def build(trained: Trained) -> bytes:
    """The ONNX file. Raises `LocalError` where it would not do what the actor does."""
    if len(trained.range_low) != len(FEATURES):
        raise ConfigError("--checkpoint", f"has {len(trained.range_low)} features, this version has {len(FEATURES)}")
    model = helper.make_model(
        _graph(trained.actor, trained.residual),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="pomona-trainer",
    )
    answer = _reference(trained, trained.golden)
    helper.set_model_props(model, _metadata(trained, answer))
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    difference = parity(data, trained)
    if not difference <= PARITY_TOLERANCE:
        raise LocalError(f"the exported policy is {difference:.2g} off the trained one")
    return data


def parity(data: bytes, trained: Trained, rows: int = 512) -> float:
    """Greatest difference between the file and the actor on random observations, missing and absurd values included."""
    import onnxruntime  # noqa: PLC0415  # only an export pays for it

    rng = np.random.default_rng(0)
    low, high = trained.range_low, trained.range_high
    observation = rng.uniform(low - 0.5, high + 0.5, (rows, len(low))).astype(np.float32)
    strange = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30], np.float32)
    hit = rng.random(observation.shape) < 0.02
    observation[hit] = rng.choice(strange, int(hit.sum()))
    observation = np.concatenate([trained.golden, observation])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    answer = session.run(["log_multiplier"], {"observation": observation})[0]
    return float(np.max(np.abs(answer - _reference(trained, observation))))


def _reference(trained: Trained, observation: Float32) -> Float32:
    """What the actor itself answers, (rows, 1)."""
    with torch.no_grad():
        action = trained.actor(torch.from_numpy(observation)) * trained.residual
    return np.asarray(action.numpy(), dtype=np.float32)[:, None]


def _graph(actor: Actor, residual: float) -> onnx.GraphProto:
    weights = {name: value.detach().numpy().astype(np.float32) for name, value in actor.state_dict().items()}
    constants = {
        "mean": weights["mean"],
        "scale": weights["scale"],
        "limit_low": np.array(-FEATURE_LIMIT, np.float32),
        "limit_high": np.array(FEATURE_LIMIT, np.float32),
        "first_weight": weights["first.weight"],
        "first_bias": weights["first.bias"],
        "second_weight": weights["second.weight"],
        "second_bias": weights["second.bias"],
        "head_weight": weights["head.weight"][:1],  # the mean; the second row is the spread, for training alone
        "head_bias": weights["head.bias"][:1],
        "range": np.array(residual, np.float32),
    }
    nodes = [
        helper.make_node("IsNaN", ["observation"], ["missing"]),
        helper.make_node("Where", ["missing", "mean", "observation"], ["known"]),
        helper.make_node("Sub", ["known", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "limit_low", "limit_high"], ["features"]),
        helper.make_node("Gemm", ["features", "first_weight", "first_bias"], ["first"], transB=1),
        helper.make_node("Relu", ["first"], ["first_active"]),
        helper.make_node("Gemm", ["first_active", "second_weight", "second_bias"], ["second"], transB=1),
        helper.make_node("Relu", ["second"], ["second_active"]),
        helper.make_node("Gemm", ["second_active", "head_weight", "head_bias"], ["head"], transB=1),
        helper.make_node("Tanh", ["head"], ["action"]),
        helper.make_node("Mul", ["action", "range"], ["log_multiplier"]),
    ]
    return helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["items", len(FEATURES)])],
        [helper.make_tensor_value_info("log_multiplier", TensorProto.FLOAT, ["items", 1])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )


def _metadata(trained: Trained, answer: Float32) -> dict[str, str]:
    ranges = {"p1": trained.range_low, "p99": trained.range_high}
    golden = {
        "observation": base64.b64encode(trained.golden.astype("<f4").tobytes()).decode(),
        "log_multiplier": base64.b64encode(answer.astype("<f4").tobytes()).decode(),
        "tolerance": GOLDEN_TOLERANCE,
    }
    return {
        "pomona.schema": "1",
        "pomona.observation_version": str(OBSERVATION_VERSION),
        "pomona.features": json.dumps([feature.name for feature in FEATURES]),
        "pomona.feature_specs": json.dumps([asdict(feature) for feature in FEATURES], sort_keys=True),
        "pomona.action": "residual",
        "pomona.action_bounds": json.dumps([-trained.residual, trained.residual]),
        "pomona.training_ranges": json.dumps({name: [float(v) for v in value] for name, value in ranges.items()}),
        "pomona.golden": json.dumps(golden, sort_keys=True),
        "pomona.seed": str(trained.seed),
        "pomona.config": json.dumps(trained.config, sort_keys=True),
        "pomona.config_sha256": config_digest(trained.config),
        "pomona.trainer": f"pomona-trainer sac seed {trained.seed}",
    }


def golden_difference(old: bytes, new: bytes) -> float:
    """Greatest difference of the two files' answers to the golden observations of `old`."""
    from edge.agent.sac_agent import SACAgent  # noqa: PLC0415  # loads ONNX Runtime

    before, after = SACAgent(old), SACAgent(new)
    observation = before.facts.golden_observation
    return float(np.max(np.abs(before.facts.golden_output[:, 0] - after.run(observation))))
