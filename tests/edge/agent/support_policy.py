"""Small ONNX policies made on the spot: a linear actor with everything that the box demands of a policy file."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge.agent.observation import FEATURE_NAMES, OBSERVATION_VERSION

COUNT = len(FEATURE_NAMES)


@dataclass
class PolicyParts:
    """What a test may spoil before the file is made."""

    weights: NDArray[np.float32] = field(default_factory=lambda: np.zeros((COUNT, 1), dtype=np.float32))
    bias: float = -0.03
    input_name: str = "observation"
    output_name: str = "log_multiplier"
    rows: str | int = "items"
    width: int = COUNT
    action: str = "direct"
    golden_shift: float = 0.0
    metadata: dict[str, str | None] = field(default_factory=dict)
    hidden: int = 0  # > 0: two hidden layers of that width, as large as a trained policy


def reference_observations(count: int = 8, width: int = COUNT) -> NDArray[np.float32]:
    return np.random.default_rng(1).uniform(-0.2, 0.2, (count, width)).astype(np.float32)


def layers(parts: PolicyParts) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    if not parts.hidden:
        return [(parts.weights, np.full(1, parts.bias, dtype=np.float32))]
    rng = np.random.default_rng(2)
    widths = [parts.width, parts.hidden, parts.hidden, 1]
    return [
        ((rng.standard_normal((a, b)) / np.sqrt(a)).astype(np.float32), np.zeros(b, dtype=np.float32))
        for a, b in pairwise(widths)
    ]


def answer(parts: PolicyParts, observation: NDArray[np.float32]) -> NDArray[np.float32]:
    value = observation
    stack = layers(parts)
    for weight, bias in stack[:-1]:
        value = np.maximum(value @ weight + bias, 0)
    weight, bias = stack[-1]
    return np.asarray(np.tanh(value @ weight + bias) * 0.1, dtype=np.float32)


def make_policy(parts: PolicyParts | None = None) -> bytes:
    parts = PolicyParts() if parts is None else parts
    nodes, tensors, name = [], [], parts.input_name
    stack = layers(parts)
    for at, (weight, bias) in enumerate(stack):
        tensors += [numpy_helper.from_array(weight, f"w{at}"), numpy_helper.from_array(bias, f"b{at}")]
        nodes.append(helper.make_node("Gemm", [name, f"w{at}", f"b{at}"], [f"z{at}"]))
        last = at == len(stack) - 1
        name = f"a{at}"
        nodes.append(helper.make_node("Tanh" if last else "Relu", [f"z{at}"], [name]))
    tensors.append(numpy_helper.from_array(np.array(0.1, dtype=np.float32), "scale"))
    nodes.append(helper.make_node("Mul", [name, "scale"], [parts.output_name]))
    graph = helper.make_graph(
        nodes,
        "actor",
        [helper.make_tensor_value_info(parts.input_name, TensorProto.FLOAT, [parts.rows, parts.width])],
        [helper.make_tensor_value_info(parts.output_name, TensorProto.FLOAT, [parts.rows, 1])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.helper.set_model_props(model, metadata_of(parts))
    return bytes(model.SerializeToString())


def metadata_of(parts: PolicyParts) -> dict[str, str]:
    golden = reference_observations(width=parts.width)
    wanted = answer(parts, golden) + np.float32(parts.golden_shift)
    whole: dict[str, str | None] = {
        "pomona.schema": "1",
        "pomona.observation_version": str(OBSERVATION_VERSION),
        "pomona.features": json.dumps(FEATURE_NAMES),
        "pomona.action": parts.action,
        "pomona.action_bounds": json.dumps([-0.1, 0.1]),
        "pomona.training_ranges": json.dumps({"p1": [-100.0] * COUNT, "p99": [100.0] * COUNT}),
        "pomona.golden": json.dumps(
            {
                "observation": base64.b64encode(golden.astype("<f4").tobytes()).decode(),
                "log_multiplier": base64.b64encode(wanted.astype("<f4").tobytes()).decode(),
                "tolerance": 1e-3,
            }
        ),
        "pomona.trainer": "test",
        "pomona.seed": "1",
    }
    whole |= parts.metadata
    return {key: value for key, value in whole.items() if value is not None}


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
