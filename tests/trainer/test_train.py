"""Training learns, repeats itself exactly, and the policy in the repository is the one this recipe makes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edge.agent.observation import FEATURE_NAMES
from edge.agent.sac_agent import SACAgent
from trainer import policies
from trainer.contest import ContestConfig, run
from trainer.env import EnvironmentConfig
from trainer.export import build, config_digest
from trainer.reproducible import ENVIRONMENT, pinned
from trainer.sac import Progress, SACConfig
from trainer.sim.randomise import STOCKPILING
from trainer.train import TrainingRun
from trainer.train import run as carry_out

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "edge/agent/policy/pomona.onnx"
TINY = TrainingRun(
    sac=SACConfig(
        actor_hidden=32,
        critic_hidden=16,
        warmup_steps=6,
        actor_delay_steps=2,
        imitation_steps=150,
        actor_lr=2e-3,
        batch=64,
        steps=12,
        updates_per_step=2,
    ),
    environment=EnvironmentConfig(pack=STOCKPILING, shops=24, weeks=6),
    seed=7,
)


def test_a_tiny_run_learns_and_repeats_itself_byte_for_byte(tmp_path: Path) -> None:
    """Half a minute of a real run in two seconds: already closer to the look-ahead than the plug-in it corrects."""
    seen: list[Progress] = []
    first = build(carry_out(TINY, seen.append))
    assert [progress.step for progress in seen] == list(range(1, 13))
    assert build(carry_out(TINY)) == first
    assert build(carry_out(replace(TINY, seed=8))) != first
    agent = SACAgent(first)
    makers: dict[str, Callable[[], policies.Policy]] = {
        "long-run plug-in": lambda: policies.long_run,
        "SAC": lambda: policies.Sac(agent),
    }
    scores = run(STOCKPILING, makers, ContestConfig(seeds=2, shops=4, weeks=24))
    assert scores["SAC"].gain.mean() > scores["long-run plug-in"].gain.mean() + 0.1
    assert scores["SAC"].residual_rms > 1.0


@pytest.fixture(scope="module")
def shipped() -> bytes:
    if not SHIPPED.exists():
        pytest.skip("no policy has been trained yet: make train")
    return SHIPPED.read_bytes()


def test_the_shipped_policy_is_accepted_and_is_of_this_recipe(shipped: bytes) -> None:
    agent = SACAgent(shipped)
    assert agent.self_test() < 1e-4
    metadata = {entry.key: entry.value for entry in onnx.load_from_string(shipped).metadata_props}
    recipe = json.loads(metadata["pomona.config"])
    now = json.loads(json.dumps(TrainingRun().as_json()))
    for versions in ("torch", "numpy"):  # the recipe is ours, what cooked it is recorded
        recipe.pop(versions)
        now.pop(versions)
    assert recipe == now, "the recipe changed: run `make train` and commit the new policy"
    assert metadata["pomona.config_sha256"] == config_digest(json.loads(metadata["pomona.config"]))


def test_the_shipped_policy_earns_more_than_the_plug_in_it_corrects(shipped: bytes) -> None:
    agent = SACAgent(shipped)
    scores = run(STOCKPILING, policies.lineup(agent, 0), ContestConfig(seeds=2, shops=4, weeks=26, first_seed=4242))
    gap = scores["SAC"].gain - scores["long-run plug-in"].gain
    assert gap.mean() > 0.2


def test_the_shipped_policy_is_finite_and_bounded_whatever_it_sees(shipped: bytes) -> None:
    agent = SACAgent(shipped)
    rng = np.random.default_rng(0)
    observation = rng.normal(0, 10, (2000, len(FEATURE_NAMES))).astype(np.float32)
    observation[rng.random(observation.shape) < 0.05] = np.nan
    answer = agent.run(observation)
    assert np.isfinite(answer).all()
    assert (answer >= agent.facts.action_low - 1e-6).all()
    assert (answer <= agent.facts.action_high + 1e-6).all()


def test_a_pinned_process_says_so_and_its_libraries_load() -> None:
    """The variables are those that the libraries know: a wrong name would warn, and here warnings are errors."""
    code = (
        "from trainer.reproducible import pinned; assert pinned();"
        "import numpy, torch;"
        "assert 'DEFAULT' in torch.backends.cpu.get_cpu_capability().upper() or 'NO' in"
        " torch.backends.cpu.get_cpu_capability().upper(), torch.backends.cpu.get_cpu_capability();"
        "from numpy._core._multiarray_umath import __cpu_features__ as f; assert not f.get('AVX2'), 'numpy uses AVX2'"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert pinned() == all(os.environ.get(name) == value for name, value in ENVIRONMENT.items())
