"""Training learns, repeats itself exactly, and the policy in the repository is the one this recipe makes."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from edge.agent.observation import FEATURE_NAMES
from edge.agent.sac_agent import SACAgent
from trainer import policies
from trainer.contest import ContestConfig, run
from trainer.env import EnvironmentConfig, PricingEnvironment
from trainer.export import build, config_digest
from trainer.reproducible import ENVIRONMENT, pinned
from trainer.sac import Progress, SACConfig
from trainer.sim.randomise import STOCKPILING
from trainer.train import TrainingRun
from trainer.train import run as carry_out

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "edge/agent/policy/pomona.onnx"
PINNED_BITS = "0420167fb4c2abd31c36a51514e788a3da9d0c84daa61bd840492100df73f4ed"  # glibc 2.36, numpy 2.4
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
    """A real run in seconds."""
    seen: list[Progress] = []
    first = build(carry_out(TINY, seen.append))
    assert [progress.step for progress in seen] == list(range(1, 13))
    assert build(carry_out(TINY)) == first
    # On shops it never saw, it asks for most of what the look-ahead would change in the plug-in's prices.
    fresh = PricingEnvironment(TINY.environment, 99)
    view = fresh.reset()
    for _ in range(3):
        view = fresh.step(np.zeros(view.context.shape[:2], np.float32)).start
    shown = view.context[..., 5].ravel()
    asked = SACAgent(first).run(view.observation.reshape(len(shown), -1)) / TINY.environment.residual
    assert np.mean(np.square(asked - shown)) < 0.5 * np.mean(np.square(shown))


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
    makers = {name: make for name, make in policies.lineup(agent, 0).items() if name in ("long-run plug-in", "SAC")}
    config = ContestConfig(seeds=3, shops=4, weeks=26, first_seed=4242)
    scores = run(STOCKPILING, makers, config, planner=False)
    assert (scores["SAC"].gain - scores["long-run plug-in"].gain).min() > 0.05


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
        "x = numpy.random.default_rng(0).normal(size=100_000);"
        "import hashlib; print(hashlib.sha256(numpy.exp(x).tobytes() + numpy.log(abs(x)).tobytes()).hexdigest())"
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
    # The bits of exp and log without AVX2, AVX-512 and FMA; a machine's own kernels give others.
    if platform.machine() == "x86_64" and platform.libc_ver() == ("glibc", "2.36") and np.__version__[:4] == "2.4.":
        assert done.stdout.strip() == PINNED_BITS
    assert pinned() == all(os.environ.get(name) == value for name, value in ENVIRONMENT.items())
