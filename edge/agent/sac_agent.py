"""The learned policy on the box: an exported actor, run by ONNX Runtime on one thread, checked before it may speak.

A policy is bytes with a known SHA-256. It is refused (`PolicyRefused`) unless it is whole in itself (`model_file`), has
exactly one input and one output of the documented names and shapes, was trained on this version of the observation,
and answers its own golden vectors, on this processor, as its trainer wrote them down. FORMATS.md, "Policy file".

`SACAgent.ask` answers log multipliers on the reference price of the day for all items of a category in one run. The
agent keeps no state, sees no rival, and what it asks for still has to pass the guard.
"""

import base64
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge.agent.model_file import PolicyRefused, check_model
from edge.agent.observation import FEATURE_NAMES, OBSERVATION_VERSION

SCHEMA: Final = "1"
INPUT: Final = "observation"
OUTPUT: Final = "log_multiplier"
GOLDEN_MAX: Final = 256  # vectors
DRIFT_SHARE: Final = 0.02  # of values outside p1..p99 that the training distribution itself produces
_F: Final = len(FEATURE_NAMES)
_ITEMS: Final = FEATURE_NAMES.index("items")
_SIZE_SLACK: Final = math.log(2.0) + 1e-3  # float32 ranges
_SUGGESTION: Final = FEATURE_NAMES.index("suggestion")

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """What a policy says of itself; checked."""

    sha256: bytes
    name: str  # short, for people: trainer and seed, or the hash's beginning
    residual: bool  # the output is added to the long-run plug-in's suggestion
    action_low: float  # log
    action_high: float
    range_low: Float32  # (F,) 1st percentile of each feature in training
    range_high: Float32
    golden_observation: Float32  # (k, F)
    golden_output: Float32  # (k, 1)
    golden_tolerance: float


class SACAgent:
    """A checked policy, ready to be asked."""

    def __init__(self, data: bytes, *, sha256: bytes | None = None) -> None:
        """`sha256`: what the bytes must hash to, where a manifest or a person said so. Raises `PolicyRefused`."""
        found = hashlib.sha256(data).digest()
        if sha256 is not None and found != sha256:
            raise PolicyRefused(f"policy hashes to {found.hex()[:16]}…, not to {sha256.hex()[:16]}…", reason="hash")
        self.facts = _facts(check_model(data).metadata, found)
        self._session = _session(data)
        _check_ports(self._session)
        self.self_test()

    def self_test(self) -> float:
        """Greatest deviation from the golden vectors; raises `PolicyRefused` above the file's own tolerance."""
        answer = self.run(self.facts.golden_observation)
        deviation = float(np.max(np.abs(answer - self.facts.golden_output[:, 0])))
        if not deviation <= self.facts.golden_tolerance:
            raise PolicyRefused(f"policy is {deviation:.2g} off its golden vectors", reason="golden")
        return deviation

    def run(self, observation: Float32) -> Float32:
        """The bare policy: (items, F) → (items,), as the file answers."""
        answer: Float32 = self._session.run([OUTPUT], {INPUT: observation})[0]
        if answer.shape != (observation.shape[0], 1):
            raise PolicyRefused(f"policy answered shape {answer.shape} to {observation.shape[0]} items", reason="shape")
        return answer[:, 0]

    def ask(self, observation: Float32) -> NDArray[np.float64]:
        """Log multipliers (items,) for observations (items, F). May hold NaN: the guard judges, not the agent."""
        answer = self.run(observation).astype(np.float64)
        return answer + observation[:, _SUGGESTION] if self.facts.residual else answer

    def drift(self, observation: Float32) -> float:
        """Share of the values of (items, F) outside the training's 1st to 99th percentiles; about 0.02 in training."""
        outside = (observation < self.facts.range_low) | (observation > self.facts.range_high)
        return float(np.count_nonzero(outside)) / max(outside.size, 1)

    def fits(self, count: int) -> bool:
        """Whether a category of `count` items is like those it was trained on: at most twice, at least half as large.

        `drift` cannot tell: the size is one feature among many, and the same in every row.
        """
        low, high = self.facts.range_low[_ITEMS], self.facts.range_high[_ITEMS]
        return bool(low - _SIZE_SLACK <= math.log(max(count, 1)) <= high + _SIZE_SLACK)


def _session(data: bytes) -> Any:
    import onnxruntime as ort  # noqa: PLC0415  # the command line and the tests of other parts never pay for it

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # a till's acknowledgement must not wait for a price
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # one small run a category and week: memory goes back
    options.enable_mem_pattern = False
    options.log_severity_level = 4  # its warnings go to stderr past our logger; what fails raises
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own exception types share no base class of their own
        raise PolicyRefused(f"policy cannot be loaded: {str(error)[:200]}") from error


def _check_ports(session: Any) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if [port.name for port in inputs] != [INPUT] or [port.name for port in outputs] != [OUTPUT]:
        names = [port.name for port in (*inputs, *outputs)]
        raise PolicyRefused(f"policy has ports {names}, not {[INPUT, OUTPUT]}", reason="shape")
    for port, width in ((inputs[0], _F), (outputs[0], 1)):
        shape = list(port.shape)
        if port.type != "tensor(float)" or len(shape) != 2 or shape[1] != width or isinstance(shape[0], int):
            raise PolicyRefused(
                f"policy's {port.name} is {port.type}{shape}, not float [items, {width}]", reason="shape"
            )


def _facts(metadata: dict[str, str], sha256: bytes) -> PolicyFacts:
    if metadata.get("pomona.schema") != SCHEMA:
        raise PolicyRefused("policy has no metadata of a schema that this box knows", reason="metadata")
    if metadata.get("pomona.observation_version") != str(OBSERVATION_VERSION):
        version = metadata.get("pomona.observation_version")
        raise PolicyRefused(
            f"policy was trained on observation {version}, not {OBSERVATION_VERSION}", reason="features"
        )
    try:
        features = json.loads(metadata["pomona.features"])
        action = metadata["pomona.action"]
        low, high = (float(value) for value in json.loads(metadata["pomona.action_bounds"]))
        ranges = json.loads(metadata["pomona.training_ranges"])
        range_low, range_high = (np.array(ranges[key], dtype=np.float32) for key in ("p1", "p99"))
        golden = json.loads(metadata["pomona.golden"])
        golden_in = _floats(golden["observation"], _F)
        golden_out = _floats(golden["log_multiplier"], 1)
        tolerance = float(golden["tolerance"])
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise PolicyRefused(f"policy's metadata cannot be read: {error!r}", reason="metadata") from error
    if features != list(FEATURE_NAMES):
        raise PolicyRefused("policy was trained on other features than this box observes", reason="features")
    if action not in ("direct", "residual") or not -1.0 <= low < high <= 1.0 or not 0.0 < tolerance <= 0.01:
        raise PolicyRefused("policy's action, bounds or tolerance is out of range", reason="metadata")
    if range_low.shape != (_F,) or range_high.shape != (_F,) or not bool(np.all(range_low <= range_high)):
        raise PolicyRefused("policy's training ranges do not fit its features", reason="metadata")
    if not 1 <= len(golden_in) == len(golden_out) <= GOLDEN_MAX or not bool(np.all(np.isfinite(golden_in))):
        raise PolicyRefused("policy's golden vectors are missing or not numbers", reason="metadata")
    name = f"{metadata.get('pomona.trainer', 'sac')[:40]} {sha256.hex()[:12]}"
    return PolicyFacts(
        sha256, name, action == "residual", low, high, range_low, range_high, golden_in, golden_out, tolerance
    )


def _floats(text: str, width: int) -> Float32:
    """Little-endian float32 rows of `width` from base64."""
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float32).reshape(-1, width)
