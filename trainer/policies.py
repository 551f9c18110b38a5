"""The policies that are compared: each turns a `Situation` into asked log multipliers; the guard has the last word.

The optimisers are `edge.agent`'s own. What only an evaluation needs (a policy that is told the truth) is built by the
evaluation itself.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge.agent import observation, optimiser
from edge.errors import ConfigError
from trainer.desk import Situation

Float = NDArray[np.float64]
Policy = Callable[[Situation], Float]

DEAL_LOG = 0.02  # a reference this far below the regular one is a promotion


def hold(situation: Situation) -> Float:
    """The reference price of the day."""
    return np.zeros_like(situation.bounds.hold)


def cost_plus(situation: Situation) -> Float:
    """The margin of the approved reference, kept when the cost moves; promotions stay as the owner set them."""
    now = situation.horizon.week(0)
    return np.where(now.reference < -DEAL_LOG, 0.0, np.log(now.cost / situation.cost_base))


def short_run(situation: Situation) -> Float:
    """The weekly optimum with short-run elasticities."""
    return situation.short_run()


def long_run(situation: Situation) -> Float:
    """The weekly optimum with long-run elasticities."""
    return situation.long_run()


def look_ahead(situation: Situation) -> Float:
    """This week's optimum, with what it does to five weeks of the static book after it."""
    return situation.look_ahead()


class Static:
    """The best book to keep for ever, found in the first week and never changed."""

    def __init__(self) -> None:
        self._book: Float | None = None

    def __call__(self, situation: Situation) -> Float:
        """The book's multipliers."""
        if self._book is None:
            limits, band = situation.bounds, situation.rules.band
            wide = np.full_like(limits.low, band)
            self._book = optimiser.static_book(
                situation.model, situation.cost_base, -wide, wide, weight=limits.weight, cap=limits.cap
            )
        return self._book


class Sac:
    """An exported policy, run as the box runs it: ONNX Runtime, one thread, items as the batch."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        try:
            self._session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        except OSError as error:
            raise ConfigError("--policy", f"{path} cannot be read: {error.strerror}") from error
        except Exception as error:  # ONNX Runtime's own exceptions share no base class
            raise ConfigError("--policy", f"{path} is no usable ONNX model: {error}") from error
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        version = self.metadata.get("pomona.observation_version")
        if version != str(observation.OBSERVATION_VERSION):
            raise ConfigError("--policy", f"{path} was trained on observation version {version}")
        self._residual = self.metadata.get("pomona.action") == "residual"
        self.last_output: Float = np.zeros(0)

    def run(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw output (rows, 1) of observations (rows, F)."""
        return np.asarray(self._session.run(["log_multiplier"], {"observation": rows})[0], dtype=np.float32)

    def __call__(self, situation: Situation) -> Float:
        """Asked log multipliers."""
        suggestion = situation.long_run()
        seen = situation.observe(suggestion, situation.look_ahead())
        output = self.run(seen.reshape(-1, seen.shape[-1])).reshape(suggestion.shape).astype(np.float64)
        self.last_output = output if self._residual else output - suggestion
        return suggestion + output if self._residual else output
