"""Soft actor-critic in one file: twin critics, learned temperature, n-step returns, one actor shared by all items.

The problem it solves: `B` independent shops of `n` items with `F` features each, `(B, n, F)`, one action per item in
[−1, 1]. A classic control task is one item. What each part is from:

- SAC with a squashed Gaussian and a learned temperature: Haarnoja et al. 2018, arXiv:1812.05905 (target entropy −|A|).
- Twin critics against over-estimation: Fujimoto et al. 2018, arXiv:1802.09477; here one batched matmul for both.
  `pessimism` "mean" instead of their minimum: with 4-step returns and a difference reward nothing over-estimates, and
  the minimum of two critics under-rates what they disagree on, which is the slow payback of a low price.
- n-step returns: Sutton and Barto 2018, ch. 7; uncorrected off-policy as in Hessel et al. 2018, arXiv:1710.02298. A
  price cut earns now and costs later: one-step bootstrapping learns the first long before the second.
- Many environments in parallel, few updates per step: Li et al. 2023 (Parallel Q-Learning), arXiv:2307.12983.
- Encoder shared over items with a pooled context in the critic: Zaheer et al. 2017 (Deep Sets), arXiv:1703.06114.
- LayerNorm in the critic (optional): Hiraoka et al. 2022 (DroQ), arXiv:2110.02034.
- A start from a demonstrator, where the environment has one: the actor is first fitted to it, warm-up acts like it
  with noise of every size, the critics learn before the actor moves (Nair et al. 2018, arXiv:1709.10089), and a
  quadratic anchor keeps the actor where the critics know something (TD3+BC, Fujimoto and Gu 2021, arXiv:2106.06860).
- The critic's value is a weighted sum over items, so that an item counts by its revenue (`Environment.weights`).
- The critic sees the asked AND the executed action: what a guard cut off is part of the value, not noise. The actor is
  improved through `Environment.execute`, a differentiable stand-in of the guard.

Same seed, same environment, same result: every draw comes from the two generators made in `train`.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Array = NDArray[np.float32]

LOG_SD_MIN, LOG_SD_MAX = -5.0, 1.0
FEATURE_LIMIT = 5.0  # normalised features are clipped here: nothing outside has been seen in training


@dataclass(frozen=True, slots=True)
class SACConfig:
    """Hyper-parameters. The defaults are those of the shipped pricing policy."""

    gamma: float = 0.9  # weekly discount; the pantry's half-life is about a week, so 0.9 sees all of it; 0 is a bandit
    n_step: int = 4  # rewards summed before bootstrapping; forced to 1 where gamma is 0
    actor_hidden: int = 256  # width of the two hidden layers of the actor
    critic_hidden: int = 128  # width of the critics' layers
    critic_layer_norm: bool = False  # LayerNorm in the critics; slower, steadier with many updates per sample
    pessimism: Literal["min", "mean"] = "mean"  # how the twin critics are joined
    actor_lr: float = 1e-4  # Adam step of the actor, at the start
    critic_lr: float = 2e-3  # Adam step of the critics, at the start
    temperature_lr: float = 3e-3  # Adam step of the log temperature
    lr_end: float = 0.1  # all steps fall linearly to this share over the run; 1 keeps them
    target_entropy: float = -1.8  # per item, in nats of the [−1, 1] action
    temperature_start: float = 0.002  # first temperature
    temperature_min: float = 1e-5  # floor, so that exploration never ends by accident
    polyak: float = 0.01  # share of the critics that the target critics take over per update
    batch: int = 256  # transitions (whole shops) per update
    replay: int = 30_000  # transitions kept
    warmup_steps: int = 40  # environment steps with random (or noisy demonstrated) actions before the first update
    warmup_scale: float = 0.35  # half-width of the uniform random actions; largest noise s.d. on demonstrated ones
    imitation_steps: int = 400  # gradient steps that fit the actor to the demonstrator after warm-up
    anchor: float = 20.0  # weight of the squared distance to the demonstrated action in the actor's loss
    actor_delay_steps: int = 25  # environment steps in which only the critics learn
    log_sd_start: float = -2.5  # first log s.d. of the actor, before squashing
    updates_per_step: int = 6  # gradient steps per environment step (of all shops together)
    steps: int = 230  # environment steps in all
    gradient_clip: float = 10.0  # largest gradient norm


@dataclass(frozen=True, slots=True)
class View:
    """What the agent is shown: features for the actor and, for `execute` alone, the guard's context."""

    observation: Array  # (B, n, F)
    context: Array  # (B, n, C); C may be 0


@dataclass(frozen=True, slots=True)
class Transition:
    """The result of one step of all environments."""

    after: View  # where the step led, before any reset
    reward: Array  # (B,)
    executed: Array  # (B, n) the action that took effect, in the same [−1, 1] units
    terminated: bool  # the task itself ended: nothing follows (all environments end together)
    truncated: bool  # only the episode ended: the value of what follows counts
    start: View  # where the next step starts; `after` unless the episode ended


class Environment(Protocol):
    """`B` copies of a task that run and end together."""

    def reset(self) -> View:
        """Start all copies."""
        ...

    def step(self, action: Array) -> Transition:
        """Carry out `action` (B, n) in [−1, 1]."""
        ...

    def execute(self, action: Tensor, context: Tensor) -> Tensor:
        """Differentiable estimate of what will be executed of `action` (B, n), given the guard's context (B, n, C)."""
        ...

    def weights(self, context: Tensor) -> Tensor:
        """How much each item counts in the value, (B, n) or broadcastable to it; sums to 1."""
        ...

    def demonstrate(self, context: Tensor) -> Tensor | None:
        """What a good baseline would do, (B, n) in [−1, 1]; None where there is none."""
        ...


class Actor(nn.Module):
    """Observation of one item to its action: two hidden layers, squashed Gaussian. Input scaling is inside."""

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, hidden: int, log_sd: float = -1.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.first = nn.Linear(features, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.head = nn.Linear(hidden, 2)
        with torch.no_grad():  # start near action 0
            self.head.weight.mul_(0.1)
            self.head.bias.copy_(torch.tensor([0.0, log_sd]))

    def normalise(self, observation: Tensor) -> Tensor:
        """Scaled and clipped features; a missing value (NaN) counts as the training mean, ±inf as the limit."""
        known = torch.where(torch.isnan(observation), self.mean, observation)
        return torch.clamp((known - self.mean) / self.scale, -FEATURE_LIMIT, FEATURE_LIMIT)

    def distribution(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log s.d. of the Gaussian before squashing, each (..., n)."""
        hidden = functional.relu(self.first(self.normalise(observation)))
        out = self.head(functional.relu(self.second(hidden)))
        return out[..., 0], torch.clamp(out[..., 1], LOG_SD_MIN, LOG_SD_MAX)

    def forward(self, observation: Tensor) -> Tensor:
        """The deterministic action, (..., n) in [−1, 1]."""
        return torch.tanh(self.distribution(observation)[0])

    def sample(self, observation: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A random action (B, n) and its log probability summed over items (B,)."""
        mean, log_sd = self.distribution(observation)
        noise = torch.randn(mean.shape, generator=generator)
        raw = mean + log_sd.exp() * noise
        gaussian = -0.5 * noise.square() - log_sd - 0.5 * math.log(2.0 * math.pi)
        squash = 2.0 * (math.log(2.0) - raw - functional.softplus(-2.0 * raw))  # log(1 − tanh²), stable for large |raw|
        return torch.tanh(raw), (gaussian - squash).sum(-1)


class TwinLinear(nn.Module):
    """Two linear layers side by side, as one batched matmul: (2, R, in) → (2, R, out)."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(width_in)
        self.weight = nn.Parameter(torch.empty(2, width_in, width_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(2, 1, width_out))

    def forward(self, value: Tensor) -> Tensor:
        """Apply layer k to `value[k]`."""
        return torch.baddbmm(self.bias, value, self.weight)


class TwinCritic(nn.Module):
    """Two estimates of the value of (observation, asked, executed) of a whole shop; blind to the order of items."""

    def __init__(self, features: int, hidden: int, *, layer_norm: bool) -> None:
        super().__init__()
        self.item = TwinLinear(features + 2, hidden)
        self.join_own = TwinLinear(hidden, hidden)
        self.join_pool = TwinLinear(hidden, hidden)
        self.head = TwinLinear(hidden, 1)
        self.norm = nn.LayerNorm(hidden) if layer_norm else nn.Identity()

    def forward(self, observation: Tensor, asked: Tensor, executed: Tensor, weights: Tensor) -> Tensor:
        """Values (2, B); `observation` (B, n, F) normalised, actions and weights (B, n)."""
        shops, items, _ = observation.shape
        rows = torch.cat([observation, asked.unsqueeze(-1), executed.unsqueeze(-1)], -1).reshape(1, shops * items, -1)
        own = functional.relu(self.norm(self.item(rows.expand(2, -1, -1))))
        weight = weights.expand(shops, items).unsqueeze(-1)
        pool = (own.reshape(2, shops, items, -1) * weight).sum(2)
        joined = self.join_own(own).reshape(2, shops, items, -1) + self.join_pool(pool).unsqueeze(2)
        value: Tensor = self.head((functional.relu(self.norm(joined)) * weight).sum(2))
        return value.squeeze(-1)


@dataclass(frozen=True, slots=True)
class Batch:
    """Transitions as tensors: reward is the n-step sum, `discount` what multiplies the value of `after`."""

    observation: Tensor
    context: Tensor
    asked: Tensor
    executed: Tensor
    reward: Tensor
    discount: Tensor
    after_observation: Tensor
    after_context: Tensor


class Replay:
    """The last `capacity` transitions, with n-step sums made on the way in."""

    def __init__(self, capacity: int, n_step: int, gamma: float) -> None:
        self._capacity = capacity
        self._n_step = n_step
        self._gamma = gamma
        self._recent: deque[tuple[View, Array, Array, Array]] = deque()
        self._columns: dict[str, Array] = {}
        self._written = 0

    def __len__(self) -> int:
        return min(self._written, self._capacity)

    def add(self, before: View, asked: Array, transition: Transition) -> None:
        """Take in one step of all environments; at the end of an episode shorter sums are flushed."""
        self._recent.append((before, asked, transition.executed, transition.reward))
        ended = transition.terminated or transition.truncated
        while self._recent and (ended or len(self._recent) == self._n_step):
            self._emit(transition.after, bootstrap=not transition.terminated)

    def _emit(self, after: View, *, bootstrap: bool) -> None:
        before, asked, executed, _ = self._recent[0]
        total = np.zeros_like(self._recent[0][3])
        for power, step in enumerate(self._recent):
            total += np.float32(self._gamma**power) * step[3]
        discount = self._gamma ** len(self._recent) if bootstrap else 0.0
        self._recent.popleft()
        rows = {
            "observation": before.observation,
            "context": before.context,
            "asked": asked,
            "executed": executed,
            "reward": total,
            "discount": np.full_like(total, discount),
            "after_observation": after.observation,
            "after_context": after.context,
        }
        at = (self._written + np.arange(len(total))) % self._capacity
        for name, value in rows.items():
            if name not in self._columns:
                self._columns[name] = np.zeros((self._capacity, *value.shape[1:]), np.float32)
            self._columns[name][at] = value
        self._written += len(total)

    def sample(self, rng: np.random.Generator, size: int) -> Batch:
        """`size` transitions drawn with replacement."""
        at = rng.integers(0, len(self), size)
        return Batch(**{name: torch.from_numpy(column[at]) for name, column in self._columns.items()})


@dataclass(slots=True)
class Learner:
    """The networks, their optimisers and one gradient step."""

    config: SACConfig
    actor: Actor
    critic: TwinCritic
    target: TwinCritic
    execute: Callable[[Tensor, Tensor], Tensor]
    weights: Callable[[Tensor], Tensor]
    demonstrate: Callable[[Tensor], Tensor | None]
    generator: torch.Generator
    log_temperature: Tensor = field(init=False)
    _actor_optimiser: torch.optim.Adam = field(init=False)
    _critic_optimiser: torch.optim.Adam = field(init=False)
    _temperature_optimiser: torch.optim.Adam = field(init=False)

    def __post_init__(self) -> None:
        self.target.load_state_dict(self.critic.state_dict())
        start = torch.tensor(math.log(self.config.temperature_start))
        self.log_temperature = start.requires_grad_()
        self._actor_optimiser = torch.optim.Adam(self.actor.parameters(), lr=self.config.actor_lr)
        self._critic_optimiser = torch.optim.Adam(self.critic.parameters(), lr=self.config.critic_lr)
        self._temperature_optimiser = torch.optim.Adam([self.log_temperature], lr=self.config.temperature_lr)

    def set_progress(self, share: float) -> None:
        """Lower the step sizes; `share` of the run is over."""
        factor = 1.0 - (1.0 - self.config.lr_end) * share
        rates = (self.config.actor_lr, self.config.critic_lr, self.config.temperature_lr)
        optimisers = (self._actor_optimiser, self._critic_optimiser, self._temperature_optimiser)
        for optimiser, rate in zip(optimisers, rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * factor

    def imitate(self, observation: Tensor, context: Tensor) -> float:
        """One step of the actor's mean towards what is demonstrated; the weighted mean square distance before it."""
        loss = self._distance(observation, context)
        self._descend(loss, self.actor, self._actor_optimiser)
        return float(loss.item())

    def _distance(self, observation: Tensor, context: Tensor) -> Tensor:
        shown = self.demonstrate(context)
        if shown is None:
            return torch.zeros(())
        distance: Tensor = (self.weights(context) * (self.actor(observation) - shown).square()).sum(-1).mean()
        return distance

    def update(self, batch: Batch, *, critics_only: bool = False) -> dict[str, float]:
        """One step of critics, actor and temperature; returns what a log wants to show."""
        config, temperature = self.config, self.log_temperature.exp().detach()
        observation = self.actor.normalise(batch.observation)
        goal = batch.reward
        if config.gamma > 0.0:
            with torch.no_grad():
                after_action, after_log_probability = self.actor.sample(batch.after_observation, self.generator)
                after_executed = self.execute(after_action, batch.after_context)
                values = self.target(
                    self.actor.normalise(batch.after_observation),
                    after_action,
                    after_executed,
                    self.weights(batch.after_context),
                )
                soft = self._join(values) - temperature * after_log_probability
                goal = batch.reward + batch.discount * soft
        weights = self.weights(batch.context)
        critic_loss = (self.critic(observation, batch.asked, batch.executed, weights) - goal).square().mean(1).sum()
        self._descend(critic_loss, self.critic, self._critic_optimiser)
        self._follow()
        if critics_only:
            return {"critic_loss": critic_loss.item()}

        self.critic.requires_grad_(False)
        action, log_probability = self.actor.sample(batch.observation, self.generator)
        value = self._join(self.critic(observation, action, self.execute(action, batch.context), weights))
        actor_loss = (temperature * log_probability - value).mean()
        if config.anchor > 0.0:
            actor_loss = actor_loss + config.anchor * self._distance(batch.observation, batch.context)
        self._descend(actor_loss, self.actor, self._actor_optimiser)
        self.critic.requires_grad_(True)

        entropy = -log_probability.detach().mean() / action.shape[-1]
        temperature_loss = self.log_temperature * (entropy - config.target_entropy)
        self._temperature_optimiser.zero_grad()
        torch.autograd.backward(temperature_loss)
        self._temperature_optimiser.step()
        with torch.no_grad():
            self.log_temperature.clamp_(min=math.log(config.temperature_min))
        return {
            "critic_loss": critic_loss.item(),
            "value": value.mean().item(),
            "entropy": entropy.item(),
            "temperature": temperature.item(),
        }

    def _follow(self) -> None:
        with torch.no_grad():
            for kept, new in zip(self.target.parameters(), self.critic.parameters(), strict=True):
                kept.lerp_(new, self.config.polyak)

    def _join(self, values: Tensor) -> Tensor:
        return values.amin(0) if self.config.pessimism == "min" else values.mean(0)

    def _descend(self, loss: Tensor, module: nn.Module, optimiser: torch.optim.Adam) -> None:
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(module.parameters(), self.config.gradient_clip)
        optimiser.step()


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, for a terminal or a log."""

    step: int
    steps: int
    reward: float  # mean reward of the steps since the last report
    losses: dict[str, float]


def train(environment: Environment, config: SACConfig, seed: int) -> Iterator[tuple[Progress, Actor]]:
    """Train; yields after every environment step, last with the finished actor. All randomness comes from `seed`."""
    if config.gamma == 0.0:
        config = replace(config, n_step=1)
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    view = environment.reset()
    shops, items, features = view.observation.shape
    with torch.random.fork_rng(devices=[]):  # weights: torch's layers draw from the global generator, so lend it a seed
        torch.manual_seed(seed)
        actor = Actor(features, config.actor_hidden, config.log_sd_start)
        critic, target = (
            TwinCritic(features, config.critic_hidden, layer_norm=config.critic_layer_norm) for _ in range(2)
        )
    learner = Learner(
        config,
        actor,
        critic,
        target,
        environment.execute,
        environment.weights,
        environment.demonstrate,
        generator,
    )
    replay = Replay(config.replay, config.n_step, config.gamma)
    seen: list[View] = []
    losses: dict[str, float] = {}
    for step in range(config.steps):
        if step < config.warmup_steps:
            seen.append(view)
            shown = environment.demonstrate(torch.from_numpy(view.context))
            action = _first_action(rng, shown, (shops, items), config.warmup_scale)
        else:
            with torch.no_grad():
                action = actor.sample(torch.from_numpy(view.observation), generator)[0].numpy()
        transition = environment.step(action)
        replay.add(view, action, transition)
        view = transition.start
        if step + 1 == config.warmup_steps:
            _fit_scaling(actor, np.concatenate([past.observation.reshape(-1, features) for past in seen]))
            _imitate(learner, seen, rng)
        if step + 1 >= config.warmup_steps and len(replay) > 0:
            learner.set_progress(step / config.steps)
            waiting = step < config.warmup_steps + config.actor_delay_steps
            for _ in range(config.updates_per_step):
                losses = learner.update(replay.sample(rng, config.batch), critics_only=waiting)
        yield Progress(step + 1, config.steps, float(transition.reward.mean()), losses), actor


def _first_action(rng: np.random.Generator, shown: Tensor | None, shape: tuple[int, int], scale: float) -> Array:
    """Uniform in ±scale, or the demonstrator's action with normal noise of an s.d. up to that, another every shop."""
    if shown is None:
        return rng.uniform(-scale, scale, shape).astype(np.float32)
    noise = rng.uniform(0.0, scale, (shape[0], 1)) * rng.standard_normal(shape)
    return np.clip(shown.numpy() + noise, -1.0, 1.0).astype(np.float32)


def _imitate(learner: Learner, seen: list[View], rng: np.random.Generator) -> None:
    """Fit the actor to what was demonstrated during warm-up."""
    observation = np.concatenate([view.observation for view in seen])
    context = np.concatenate([view.context for view in seen])
    if learner.demonstrate(torch.from_numpy(context[:1])) is None:
        return
    for _ in range(learner.config.imitation_steps):
        rows = rng.integers(0, len(observation), learner.config.batch)
        learner.imitate(torch.from_numpy(observation[rows]), torch.from_numpy(context[rows]))


def _fit_scaling(actor: Actor, observations: Array) -> None:
    """Fix the actor's input scaling from what warm-up saw; a feature that never moved keeps scale 1."""
    mean, scale = observations.mean(0, dtype=np.float64), observations.std(0, dtype=np.float64)
    with torch.no_grad():
        actor.mean.copy_(torch.from_numpy(mean.astype(np.float32)))
        actor.scale.copy_(torch.from_numpy(np.where(scale < 1e-4, 1.0, scale).astype(np.float32)))
