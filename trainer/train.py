"""Train the policy that the box ships with: environment, SAC, ranges and golden vectors, in one reproducible run."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.env import EnvironmentConfig, PricingEnvironment
from trainer.export import GOLDEN_ROWS, Trained
from trainer.sac import Progress, SACConfig, Transition, View, train

Float32 = NDArray[np.float32]

SAMPLE_ROWS = 64  # observations kept per step for ranges and golden vectors


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """The recipe of a policy."""

    sac: SACConfig = field(default_factory=SACConfig)
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    seed: int = 0

    def as_json(self) -> dict[str, Any]:
        """The recipe and the versions of what cooked it."""
        return {**asdict(self), "torch": torch.__version__.split("+", maxsplit=1)[0], "numpy": np.__version__}


@dataclass(slots=True)
class _Recorder:
    """The environment, with a fixed sample of what it showed kept aside."""

    inner: PricingEnvironment
    kept: list[Float32] = field(default_factory=list)

    def reset(self) -> View:
        return self._keep(self.inner.reset())

    def step(self, action: Float32) -> Transition:
        transition = self.inner.step(action)
        self._keep(transition.start)
        return transition

    def execute(self, action: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return self.inner.execute(action, context)

    def weights(self, context: torch.Tensor) -> torch.Tensor:
        return self.inner.weights(context)

    def demonstrate(self, context: torch.Tensor) -> torch.Tensor:
        return self.inner.demonstrate(context)

    def _keep(self, view: View) -> View:
        rows = view.observation.reshape(-1, view.observation.shape[-1])
        stride = max(len(rows) // SAMPLE_ROWS, 1)
        offset = len(self.kept) % stride  # another item and shop every week
        self.kept.append(rows[offset::stride].copy())
        return view


def run(recipe: TrainingRun, report: Callable[[Progress], None] | None = None) -> Trained:
    """Carry out `recipe`, with torch set to one thread and to deterministic algorithms."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    environment = _Recorder(PricingEnvironment(recipe.environment, recipe.seed))
    actor = None
    for progress, actor in train(environment, recipe.sac, recipe.seed):  # noqa: B007  # the last actor is the result
        if report is not None:
            report(progress)
    if actor is None:
        raise ValueError("a training run needs at least one step")
    seen = np.concatenate(environment.kept)
    low, high = np.quantile(seen, [0.01, 0.99], axis=0)
    golden = seen[np.linspace(0, len(seen) - 1, GOLDEN_ROWS).astype(np.int64)]
    return Trained(
        actor=actor,
        residual=recipe.environment.residual,
        range_low=low.astype(np.float32),
        range_high=high.astype(np.float32),
        golden=golden,
        seed=recipe.seed,
        config=recipe.as_json(),
    )
