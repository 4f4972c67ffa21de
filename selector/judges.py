"""What choices are judged by: the critic of a configuration, or a reward and the critic that is learned from it."""

from collections.abc import Mapping, Sequence

from omegaconf import DictConfig

from selector.critics import Critic
from selector.critics.black_box import BlackBox, black_box
from selector.critics.learned import LearnedCritic
from selector.critics.own import build_critic
from selector.errors import InvalidInput
from selector.rewards.own import build_reward


def build_judges(
    cfg: DictConfig, trust: Sequence[str], sizes: Mapping[str, int], seeds: Sequence[int], *, measuring: bool = False
) -> tuple[Critic, LearnedCritic | None]:
    """What choices are measured by, and the learned critic that the selector is trained through, if there is one.

    With ``measuring`` a learned critic is not built, nor is its table read.

    Raises:
        InvalidInput: naming the key of ``critic`` or ``reward`` that is wrong.
    """
    asked = cfg.get("reward")  # runs of before there were any have no such key
    reward = None if asked is None or asked._target_ is None else build_reward(asked, trust, **sizes)
    known = {"seeds": seeds, **({} if reward is None else {"reward": reward})}
    of_reward = [f"{kind.__module__}.{kind.__name__}" for kind in (LearnedCritic, BlackBox)]
    if (reward is None) == (cfg.critic.get("_target_") in of_reward):
        if reward is None:
            because = "must be a black box: reward=noisy_target, or reward._target_=my_module.my_reward"
            raise InvalidInput("reward", None, because)
        raise InvalidInput("reward", reward.title, "is for critic=learned, or critic=black_box")
    if measuring and reward is not None:
        return black_box(reward), None
    critic = build_critic(cfg.critic, trust, **sizes, **known)
    if reward is None:
        return critic, None
    return black_box(reward), critic if isinstance(critic, LearnedCritic) else None
