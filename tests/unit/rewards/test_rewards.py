"""Black boxes against their formulas, and rewards of the user's own."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from selector.batch import Batch
from selector.critics import TargetValue
from selector.critics.black_box import BlackBox, SeparableBlackBox, black_box
from selector.errors import InvalidInput
from selector.items import Uniform
from selector.noise import Noise
from selector.problems import Problem
from selector.rewards import Budget, NoisyTarget
from selector.rewards.base import Reward
from selector.rewards.own import OwnReward, build_reward, check_reward
from tests.support import own_module

SIZES = {"N": 4, "S": 3, "D": 2, "C": 0}
Array = np.ndarray[Any, Any]


def slots(M: int = 5) -> Array:
    return np.random.default_rng(0).uniform(size=(M, 3, 2))


def test_budget() -> None:
    def worth(*items: tuple[float, float]) -> float:
        return float(Budget(budget=2.0, threshold=0.5).expected(np.array([items]), None)[0])

    assert worth((0.5, 1.0), (0.75, 1.0)) == 1.25
    assert worth((0.25, 0.5), (0.75, 0.5)) == 0.75, "a value below the threshold counts nothing"
    assert worth((0.5, 1.0), (0.75, 1.25)) == 0.0, "beyond the budget nothing counts"
    with pytest.raises(InvalidInput, match=r"^problem\.D=1"):
        build_reward(OmegaConf.create({"_target_": "selector.rewards.Budget"}), D=1)


def test_noisy_target_is_minus_target_value_and_noise() -> None:
    x, reward = slots(20_000), NoisyTarget(0.5, noise=2.0)
    loss = TargetValue(0.5)(torch.from_numpy(x), Batch(torch.zeros(1)))
    np.testing.assert_allclose(reward.expected(x, None), -loss.numpy())
    noise = reward.observe(x, None, np.random.default_rng(1)) - reward.expected(x, None)
    assert abs(noise.mean()) < 4 * 2 / len(x) ** 0.5
    assert noise.std() == pytest.approx(2.0, rel=0.03)
    assert np.array_equal(reward.observe(x, None, np.random.default_rng(1)) - reward.expected(x, None), noise)


@pytest.mark.parametrize("reward", [Budget(budget=1.0), NoisyTarget(0.5)], ids=["coupled", "separable"])
def test_a_black_box_is_a_critic_without_a_gradient(reward: Reward) -> None:
    critic = black_box(reward)
    assert isinstance(critic, SeparableBlackBox if isinstance(reward, NoisyTarget) else BlackBox)
    filled = torch.rand(2, 3, 4, 3, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    losses = critic(filled, Batch(torch.zeros(3, 4, 5, 2)))
    assert losses.shape == (2, 3, 4)
    assert not losses.requires_grad
    expected = reward.expected(filled.detach().double().reshape(-1, 3, 2).numpy(), None)
    torch.testing.assert_close(losses.flatten(), torch.from_numpy(-expected).float())


def test_the_oracle_of_a_black_box_is_that_of_its_loss() -> None:
    ours, theirs = (
        Problem(Uniform(0.0, 1.0), critic, N=4, S=3, D=2) for critic in (black_box(NoisyTarget(0.5)), TargetValue(0.5))
    )
    batch = ours.sample((6,), Noise(0, "lists"))
    assert ours.oracle_kind == theirs.oracle_kind == "separable"
    torch.testing.assert_close(ours.oracle(batch).loss, theirs.oracle(batch).loss)
    assert torch.equal(ours.oracle(batch).index, theirs.oracle(batch).index)
    budget = Problem(Uniform(0.0, 1.0), black_box(Budget()), N=4, S=3, D=2)
    assert budget.oracle_kind == "enumerated"


SOURCE = """
def plain(slots, weight: float = 1.0):
    slots *= weight  # what it does to its copy is not seen
    return slots.sum((1, 2))

def noisy(slots, generator):
    return slots.sum((1, 2)) + generator.normal(size=len(slots))

def with_context(slots, context):
    return slots.sum((1, 2)) * context[:, 0]
"""


@pytest.fixture(scope="module", autouse=True)
def _own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with own_module(tmp_path_factory.mktemp("own"), "own_rewards", SOURCE):
        yield


def made(name: str, **options: Any) -> Reward:
    return build_reward(OmegaConf.create({"_target_": f"own_rewards.{name}", **options}), **SIZES)


def problem(reward: Reward, C: int = 0) -> Problem:
    return Problem(Uniform(0.0, 1.0), black_box(reward), **{**SIZES, "C": C})


def test_a_function_of_ones_own() -> None:
    reward, x = made("plain", weight=2.0), slots()
    np.testing.assert_allclose(reward.observe(x, None, np.random.default_rng()), 2 * x.sum((1, 2)))
    np.testing.assert_array_equal(x, slots())
    check_reward(problem(reward))
    assert problem(reward).oracle_kind == "enumerated"
    with pytest.raises(InvalidInput, match=r"reward\.wieght.*did you mean weight"):
        made("plain", wieght=2.0)
    with pytest.raises(InvalidInput, match=r"reward\._target_"):
        build_reward(OmegaConf.create({"_target_": "os.system"}), **SIZES)


def test_a_noisy_function_is_measured_by_its_mean_which_is_not_exact() -> None:
    reward, x = made("noisy"), slots(400)
    check_reward(problem(reward))
    error = reward.expected(x, None) - x.sum((1, 2))
    assert error.std() == pytest.approx(16**-0.5, rel=0.2)
    np.testing.assert_array_equal(reward.expected(x, None), reward.expected(x, None))
    assert problem(reward).oracle_kind == "estimated"


def test_a_noisy_oracle_is_not_the_luckiest_of_its_estimates() -> None:
    boxed = problem(OwnReward(lambda x, generator: 3.0 * generator.normal(size=len(x)), "mine.noise"))
    found = boxed.oracle(boxed.sample((200,), Noise(0, "lists")))
    assert abs(float(found.loss.mean())) < 4 * 3 / (16 * 200) ** 0.5, "all choices are worth 0"
    lucky = boxed.critic(torch.zeros(64, 200, 3, 2), Batch(torch.zeros(200, 4, 2))).min(0).values
    assert float(lucky.mean()) < -1, "the lowest of 64 estimates is far below"


def test_what_is_measured_does_not_depend_on_neighbours() -> None:
    critic = problem(made("noisy")).critic
    slots = torch.rand(3, 2, 6, 3, 2, generator=torch.Generator().manual_seed(0))
    together = critic.measure(slots, Batch(torch.zeros(2, 6, 4, 2)))
    alone = critic.measure(slots[2:, 1:], Batch(torch.zeros(1, 6, 4, 2)))
    assert torch.equal(together[2:, 1:], alone)
    assert not torch.equal(together, critic(slots, Batch(torch.zeros(2, 6, 4, 2)))), "noise of its own"


def test_what_is_expected_can_be_said() -> None:
    reward, x = made("noisy", expected="own_rewards.plain"), slots()
    check_reward(problem(reward))
    np.testing.assert_array_equal(reward.expected(x, None), x.sum((1, 2)))
    assert not np.array_equal(reward.observe(x, None, np.random.default_rng(0)), x.sum((1, 2)))
    assert problem(reward).oracle_kind == "enumerated"
    for wrong, because in (("os.system", "neither"), ("own_rewards.noisy", "generator"), (3, "must name a function")):
        with pytest.raises(InvalidInput, match=rf"reward\.expected=.*{because}"):
            made("noisy", expected=wrong)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_a_reward_that_is_not_finite_later_is_named(value: float) -> None:
    critic = black_box(OwnReward(lambda x: np.where(x.sum((1, 2)) > 5, value, 0.0), "mine.late"))
    with pytest.raises(FloatingPointError, match=r"^reward=mine\.late: 2 of 4 rewards are nan, inf"):
        critic(torch.ones(4, 3, 2) * torch.tensor([0.0, 1.0, 0.0, 1.0])[:, None, None], Batch(torch.zeros(5, 2)))


def test_a_function_with_context() -> None:
    check_reward(problem(made("with_context"), C=2))
    with pytest.raises(InvalidInput, match=r"problem\.C=0"):
        check_reward(problem(made("with_context")))
    losses = black_box(made("with_context"))(
        torch.ones(2, 3, 3, 2), Batch(torch.zeros(3, 4, 2), context=torch.tensor([[1.0], [2.0], [3.0]]))
    )
    assert torch.equal(losses, torch.tensor([-6.0, -12.0, -18.0]).expand(2, 3))


GLOBAL = np.random.default_rng(0)
UNFIT: list[tuple[str, Callable[[Array], Any]]] = [
    ("shape: gave [32, 3]", lambda x: x.sum(-1)),
    ("shape: gave []", lambda x: x.sum()),
    ("shape: gave [32] of <U", lambda x: np.array(["a"] * len(x))),
    ("failed on a few lists drawn to try it: KeyError", lambda x: {}[len(x)]),
    ("not finite", lambda x: np.full(len(x), np.inf)),
    ("not deterministic", lambda x: GLOBAL.normal(size=len(x))),
    ("not per list", lambda x: x.sum((1, 2)) - x.mean()),
]


@pytest.mark.parametrize(("because", "function"), UNFIT, ids=[because for because, _ in UNFIT])
def test_an_unfit_reward_is_refused_with_the_reason(because: str, function: Callable[[Array], Any]) -> None:
    with pytest.raises(InvalidInput) as error:
        check_reward(problem(OwnReward(function, "mine.reward")))
    assert str(error.value).startswith("reward=mine.reward: ")
    assert because in str(error.value)
    assert "\n" not in str(error.value)
