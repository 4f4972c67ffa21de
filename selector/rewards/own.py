"""A reward from the user's own code: any function on numpy arrays.

Shape legend: M filled lists · S slots · D features per item · C features per list.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from selector.building import bind, build, target_and_options, under
from selector.errors import InvalidInput
from selector.noise import Noise, derive_seed
from selector.rewards.base import Array, Reward
from selector.targets import in_words, is_function_of, is_own, locate

if TYPE_CHECKING:
    from selector.problems import Problem

# Observations of a noisy function that its expected reward is estimated by.
_REPEATS = 16


class OwnReward(Reward):
    """Wraps a function ``slots [M, S, D] -> reward [M]``, higher is better.

    A parameter named ``context`` is given that of each list, ``[M, C]``; one named ``generator`` a
    ``numpy.random.Generator``, which noise must be drawn from (then a run can be repeated). What is expected of a noisy
    function is what ``expected`` says; without it the mean of 16 observations, always with the same noise.

    Args:
        function: the black box.
        title: its name, for messages.
        expected: the same without noise: ``slots [M, S, D] -> [M]``, and ``context`` if it has such a parameter.

    Raises:
        InvalidInput: when ``expected`` wants a generator.
    """

    def __init__(self, function: Callable[..., Any], title: str, expected: Callable[..., Any] | None = None) -> None:
        parameters = inspect.signature(function).parameters
        self._function, self._title = function, title
        self._context, self.noisy = parameters.get("context"), "generator" in parameters
        self._truth = None if expected is None else OwnReward(expected, f"{title} (expected)")
        if self._truth is not None and self._truth.noisy:
            raise InvalidInput("expected", title, "must have no noise: a parameter is named generator")
        self.exact = not self.noisy or expected is not None

    @property
    def title(self) -> str:
        return self._title

    @property
    def needs_context(self) -> bool:
        """Whether the function cannot be called without context."""
        required = self._context is not None and self._context.default is inspect.Parameter.empty
        return required or (self._truth is not None and self._truth.needs_context)

    def expected(self, slots: Array, context: Array | None) -> Array:
        return self._estimate(slots, context, "search")

    def measured(self, slots: Array, context: Array | None) -> Array:
        return self._estimate(slots, context, "measure")

    def _estimate(self, slots: Array, context: Array | None, stream: str) -> Array:
        if self._truth is not None:
            return self._truth.expected(slots, context)
        if not self.noisy:
            return self._call(slots, context)
        streams = (np.random.default_rng(derive_seed(k, f"reward/{stream}")) for k in range(_REPEATS))
        mean: Array = np.mean([self._call(slots, context, generator) for generator in streams], 0)
        return mean

    def observe(self, slots: Array, context: Array | None, generator: np.random.Generator) -> Array:
        return self._call(slots, context, generator)

    def _call(self, slots: Array, context: Array | None, generator: np.random.Generator | None = None) -> Array:
        more: dict[str, Any] = {} if self._context is None or context is None else {"context": context}
        if self.noisy:
            more["generator"] = generator
        reward = np.asarray(self._function(slots.copy(), **more))  # a copy: what is done to it must not be seen
        if reward.shape != (len(slots),) or reward.dtype.kind not in "biuf":
            shapes = f"for slots {list(slots.shape)}; must give {[len(slots)]}, one number per list"
            raise ValueError(f"shape: gave {list(reward.shape)} of {reward.dtype} {shapes}")
        return reward.astype(np.float64)


def build_reward(node: DictConfig, trust: Sequence[str] = (), **given: Any) -> Reward:
    """The reward of a configuration: a :class:`Reward`, or a function of the user's own, wrapped.

    Arguments and errors are those of :func:`selector.critics.own.build_critic`.
    """
    key = "reward"
    path, options = target_and_options(node, key, Reward)
    truth = options.pop("expected", None) if is_own(path) else None
    if is_own(path):
        target = locate(path, f"{key}._target_", trust)
        if is_function_of(target, path):
            function = bind(target, options, key, ["context", "generator"])
            with under(key):
                return OwnReward(function, path, None if truth is None else _expected(truth, options, trust))
        if truth is not None:
            raise InvalidInput(f"{key}.expected", truth, "is for functions; a class has a method expected")
        if not (isinstance(target, type) and issubclass(target, Reward)):
            raise InvalidInput(
                f"{key}._target_", path, "must be a function written there with def, or a selector.rewards.Reward"
            )
    return build(node, key, Reward, trust=trust, **given)  # type: ignore[type-abstract]


def _expected(path: object, options: dict[str, Any], trust: Sequence[str]) -> Callable[..., Any]:
    """The function that says what is expected of a noisy one, with those of its options that it has."""
    key = "expected"
    function = locate(path, f"reward.{key}", trust) if isinstance(path, str) else None
    if not is_function_of(function, str(path)):
        raise InvalidInput(key, path, "must name a function of your own: my_module.my_function")
    its = inspect.signature(function).parameters
    return bind(
        function, {name: value for name, value in options.items() if name in its}, key, ["context", "generator"]
    )


def check_reward(problem: "Problem") -> None:
    """Try the user's own reward, which the problem's critic holds, on a few lists.

    Raises:
        InvalidInput: with the first of these words that does not hold: context, shape, finite, deterministic.
    """
    from selector.choices import random_choices
    from selector.critics.black_box import BlackBox, SeparableBlackBox, finite, to_numpy
    from selector.selection import Selection

    assert isinstance(problem.critic, BlackBox | SeparableBlackBox)
    reward = problem.critic.reward
    if isinstance(reward, OwnReward) and reward.needs_context and not problem.C:
        raise InvalidInput("problem.C", 0, f"{reward.title} wants the context of a list: how many features?")
    noise = Noise(0, "reward check")
    batch = problem.sample((32,), noise)
    index = random_choices(batch, problem.S, 1, noise, problem.without_replacement)
    slots, context = to_numpy(Selection(index=index).pick(batch.items), batch)
    try:
        first, again = (reward.observe(slots, context, np.random.default_rng(0)) for _ in range(2))
        few = reward.expected(slots[:3], None if context is None else context[:3])
        truth = reward.expected(slots, context)
    except ValueError as error:
        because = (
            str(error)
            if str(error).startswith("shape: ")
            else f"failed on a few lists drawn to try it: {in_words(error)}"
        )
        raise InvalidInput("reward", reward.title, because) from error
    except Exception as error:
        raise InvalidInput(
            "reward", reward.title, f"failed on a few lists drawn to try it: {in_words(error)}"
        ) from error
    for values in (first, truth):
        try:
            finite(reward, values)
        except FloatingPointError as error:
            raise InvalidInput("reward", reward.title, f"not finite: {str(error).partition(': ')[2]}") from None
    if not np.array_equal(first, again):
        because = "the same slots got another reward; noise must be drawn from a parameter named generator"
        raise InvalidInput("reward", reward.title, f"not deterministic: {because}")
    if reward.exact and not np.allclose(few, truth[:3], rtol=1e-6, atol=1e-9):
        raise InvalidInput("reward", reward.title, "not per list: the reward of a list depends on the others")
