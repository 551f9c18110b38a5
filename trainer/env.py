"""The training environment: many simulated shops in parallel, the guard inside, reward against a twin.

Every shop has a twin that lives through the same weeks under the one-step look-ahead, in its own state. The reward is
the difference of their weekly J in units of the shop's reference profit: common shocks cancel, which cuts the variance
of the reward a thousandfold. (Differencing at the policy's own state instead would change the objective.) The twin
runs what the actor starts from: against the long-run plug-in, the two rules' different timing around promotions moved
the reward by 3 % of profit a week, in which the effect of a better action could not be seen.

The action in [−1, 1] is a residual: asked log multiplier = long-run plug-in + `residual` · action.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge.agent import demand
from edge.agent.rules import GuardRules
from trainer import belief, desk
from trainer.belief import REALISTIC, Ignorance
from trainer.sac import Transition, View
from trainer.sim import market, shop
from trainer.sim.randomise import TRAINING, Pack, draw_shops

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EnvironmentConfig:
    """What the policy is trained on."""

    pack: Pack = TRAINING
    ignorance: Ignorance = REALISTIC
    rules: GuardRules = desk.COMPARISON_RULES
    shops: int = 256
    weeks: int = 52  # then fresh shops
    residual: float = 0.20  # log; how far the policy may ask away from the plug-in: across the whole band
    reward_scale: float = 40.0  # brings the weekly difference, in reference profits, to an s.d. of about 0.5 to 1


@dataclass(slots=True)
class PricingEnvironment:
    """`EnvironmentConfig.shops` shops and their twins; an `Environment` of `trainer.sac`."""

    config: EnvironmentConfig
    seed: int
    _rng: np.random.Generator = field(init=False)
    _params: shop.ShopParams = field(init=False)
    _model: demand.DemandModel = field(init=False)
    _unit: Float = field(init=False)  # (S,) weekly reference profit
    _state: shop.ShopState = field(init=False)
    _twin: shop.ShopState = field(init=False)
    _desk: desk.Desk = field(init=False)
    _twin_desk: desk.Desk = field(init=False)
    _situation: desk.Situation = field(init=False)
    _suggestion: Float = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def reset(self) -> View:
        """Fresh shops in week 0, each with its own beliefs."""
        config = self.config
        self._params = draw_shops(self._rng, config.pack, config.shops)
        self._model = belief.believed_model(self._rng, self._params, config.ignorance)
        self._unit = shop.reference_profit(self._params)
        self._state = self._twin = shop.reset(self._rng, self._params)
        self._desk = self._twin_desk = desk.new_desk(self._params.price.shape)
        return self._look()

    def step(self, action: NDArray[np.float32]) -> Transition:
        """One week of all shops and twins."""
        config, params = self.config, self._params
        shocks = market.draw_shocks(self._rng, params.market, params.items)
        asked = self._suggestion + config.residual * action.astype(np.float64)
        result = self._situation.execute(asked)
        executed = (result.log_multiplier - self._suggestion) / config.residual
        self._state, outcome, self._desk = desk.live(self._state, self._situation, result, shocks, params)

        twin = self._prepare(self._twin, self._twin_desk)
        self._twin, twin_outcome, self._twin_desk = desk.live(
            self._twin, twin, twin.execute(twin.look_ahead()), shocks, params
        )
        reward = config.reward_scale * (outcome.value - twin_outcome.value) / self._unit
        after = self._look()
        ended = self._state.market.week >= config.weeks
        return Transition(
            after=after,
            reward=np.clip(reward, -10.0, 10.0).astype(np.float32),
            executed=executed.astype(np.float32),
            terminated=False,
            truncated=ended,
            start=self.reset() if ended else after,
        )

    def execute(self, action: Tensor, context: Tensor) -> Tensor:
        """The guard without rounding: own bounds, then the category lowered together to the index cap."""
        low, high, weight, cap, suggestion, _ = context.unbind(-1)
        inside = torch.minimum(torch.maximum(suggestion + self.config.residual * action, low), high)
        excess = torch.relu((weight * inside).sum(-1, keepdim=True) - cap)
        executed: Tensor = (torch.maximum(inside - excess, low) - suggestion) / self.config.residual
        return executed

    def weights(self, context: Tensor) -> Tensor:
        """Revenue shares: what an item's price can do to profit is in proportion."""
        return context[..., 2]

    def demonstrate(self, context: Tensor) -> Tensor:
        """The one-step look-ahead, as a residual on the long-run plug-in."""
        return context[..., 5]

    def _prepare(self, state: shop.ShopState, at: desk.Desk) -> desk.Situation:
        params = self._params
        return desk.prepare(
            at,
            self._model,
            belief.outlook(state, params),
            cost_base=belief.approved_cost(state, params),
            regular=state.market.log_reference,
            rules=self.config.rules,
        )

    def _look(self) -> View:
        self._situation = situation = self._prepare(self._state, self._desk)
        self._suggestion = situation.long_run()
        limits = situation.bounds
        cap = np.broadcast_to(limits.cap[:, None], limits.low.shape)
        ahead = situation.look_ahead()
        shown = np.clip((ahead - self._suggestion) / self.config.residual, -1.0, 1.0)
        context = np.stack([limits.low, limits.high, limits.weight, cap, self._suggestion, shown], -1)
        return View(situation.observe(self._suggestion, ahead), context.astype(np.float32))
