"""Critics of the user's own: any module or function, and every way in which one can be unfit."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from selector.batch import Batch
from selector.critics import Critic, TargetValue
from selector.critics.check import check_critic
from selector.critics.own import OwnCritic, build_critic
from selector.errors import InvalidInput
from selector.items import Uniform
from selector.problems import Problem
from tests.support import own_module

SIZES = {"N": 5, "S": 3, "D": 2, "C": 0}

SOURCE = """
import torch
from selector.critics import Critic

class Module(torch.nn.Module):
    def __init__(self, S: int, D: int, width: int = 4):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(S * D, width), torch.nn.BatchNorm1d(width),
                                       torch.nn.Dropout(), torch.nn.Tanh(), torch.nn.Linear(width, 1))
    def forward(self, slots):
        return self.net(slots).squeeze(-1)

class Raises(torch.nn.Module):
    def __init__(self):
        raise RuntimeError("no weights\\nare here")

class Lazy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.LazyLinear(3)

class Native(Critic):
    def forward(self, slots, batch):
        return slots.sum((-1, -2))

def function(slots, target: float = 0.5):
    return (slots - target).square().sum((-1, -2))

def with_c(slots, c):
    return slots.sum((-1, -2)) * c

class Instance:
    def __call__(self, slots):
        return slots.sum((-1, -2))

instance = Instance()

def nothing():
    return 0

class NoModule:
    pass

number = 3
"""


@pytest.fixture(scope="module", autouse=True)
def _own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with own_module(tmp_path_factory.mktemp("own"), "own_critics", SOURCE):
        yield


def made(name: str, **options: Any) -> Critic:
    return build_critic(OmegaConf.create({"_target_": f"own_critics.{name}", **options}), **SIZES)


def problem(critic: Critic, C: int = 0) -> Problem:
    return Problem(Uniform(0.0, 1.0), critic, **{**SIZES, "C": C})


@pytest.mark.parametrize("name", ["Module", "Native", "function"])
@pytest.mark.parametrize("lead", [(1,), (4,), (2, 3), (2, 1, 3)])
def test_any_leading_dims(name: str, lead: tuple[int, ...]) -> None:
    critic = made(name)
    slots = torch.rand(*lead, 3, 2, generator=torch.Generator().manual_seed(0))
    losses = critic(slots, Batch(torch.zeros(*lead[1:], 5, 2)))
    assert losses.shape == lead
    alone = [critic(one[None], Batch(torch.zeros(5, 2))) for one in slots.reshape(-1, 3, 2)]
    torch.testing.assert_close(losses.flatten(), torch.cat(alone))


@pytest.mark.parametrize("name", ["Module", "Native", "function"])
def test_a_sound_critic_passes(name: str) -> None:
    check_critic(problem(made(name)), gradient=True)


def test_a_module_gets_sizes_and_options_and_judges_in_evaluation_mode() -> None:
    critic = made("Module", width=7)
    assert isinstance(critic, OwnCritic)
    assert isinstance(critic.judge, nn.Module)
    assert critic.judge.net[1].weight.shape == (7, 6)
    holder = nn.ModuleList([critic]).train()  # as Lightning does it
    assert holder.training
    assert not critic.judge.net[3].training
    other = made("Module", width=7)
    assert isinstance(other, OwnCritic)
    assert isinstance(other.judge, nn.Module)
    assert torch.equal(critic.judge.net[1].weight, other.judge.net[1].weight), "the same weights in every run"


def test_a_function_gets_its_options() -> None:
    slots = torch.full((2, 3, 2), 1.0)
    assert made("function", target=1.0)(slots, Batch(torch.zeros(5, 2))).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("function", {"tagret": 1.0}, ["critic.tagret", "did you mean target"]),
        ("function", {"target": "x"}, ["critic.target", "a number"]),
        ("function", {"slots": 1}, ["critic.slots", "no option"]),
        ("Module", {"depth": 1}, ["critic.depth", "no option"]),
        ("Module", {"S": 1}, ["critic.S", "is set elsewhere"]),
        ("nothing", {}, ["critic._target_", "takes no arguments"]),
        ("with_c", {}, ["critic.c", "must be named context"]),
        ("instance", {}, ["critic._target_", "with def"]),
        ("number", {}, ["critic._target_", "torch.nn.Module"]),
        ("NoModule", {}, ["critic._target_", "torch.nn.Module"]),
        ("Raises", {}, ["RuntimeError: no weights are here"]),
        ("Lazy", {}, ["lazy"]),
    ],
)
def test_what_cannot_be_built(name: str, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InvalidInput) as error:
        made(name, **options)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_in_selector_only_critics_are_critics() -> None:
    with pytest.raises(InvalidInput, match="must be a subclass of"):
        build_critic(OmegaConf.create({"_target_": "selector.networks.base.StackedLinear"}), **SIZES)


def near(slots: Tensor) -> Tensor:
    return (slots - 0.5).square().sum((-1, -2))


UNFIT: list[tuple[str, Callable[[Tensor], Any]]] = [
    ("shape: gave [64, 3]", lambda x: x.sum(-1)),
    ("shape: gave []", lambda x: x.sum()),
    ("shape: gave [64, 1]", lambda x: near(x).unsqueeze(-1)),
    ("shape: gave float", lambda x: float(x.sum())),
    ("failed on a few lists drawn to try it: RuntimeError", lambda x: x @ x),
    ("not finite", lambda x: (x - 1.0).sum((-1, -2)).sqrt()),
    ("not finite", lambda x: near(x) / 0.0),
    ("changes its slots in place", lambda x: near(x.sub_(5.0))),
    ("not deterministic", lambda x: near(x) * torch.rand(len(x), generator=GENERATOR)),
    ("not per list: the loss of a list changed", lambda x: near(x) - near(x).mean()),
    ("not per list: the loss of a list changed", lambda x: (x - x.mean(0)).square().sum((-1, -2))),
    ("not per list: the loss of a list depends on its place", lambda x: near(x) * torch.arange(len(x))),
    ("not per list: the loss of a list depends on how many", lambda x: near(x) / len(x)),
    ("not per list: the loss of a list has a gradient", lambda x: near(x) + near(x).mean() - near(x).mean().detach()),
    ("not differentiable: no gradient reaches", lambda x: near(x.detach())),
    ("not differentiable: the gradient at the slots is 0", lambda x: (x > 0.5).float().sum((-1, -2)) + 0 * near(x)),
    ("not differentiable: the gradient at the slots is nan", lambda x: (x - x[:, :1]).square().sum((-1, -2)).sqrt()
        + (x[:, 1] - x[:, 1]).square().sum(-1).sqrt()),
]  # fmt: skip
GENERATOR = torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("because", "judge"), UNFIT, ids=[f"{i} {because}" for i, (because, _) in enumerate(UNFIT)])
def test_an_unfit_critic_is_refused_with_the_reason(because: str, judge: Callable[[Tensor], Any]) -> None:
    with pytest.raises(InvalidInput) as error:
        check_critic(problem(OwnCritic(judge, "mine.judge")), gradient=True)
    assert str(error.value).startswith("critic=mine.judge: ")
    assert because in str(error.value)
    assert "\n" not in str(error.value)


def test_without_a_gradient_where_none_is_needed() -> None:
    check_critic(problem(OwnCritic(lambda x: (x > 0.5).float().sum((-1, -2)), "mine.judge")), gradient=False)


class Once(torch.autograd.Function):
    """As a compiled function: what its backward pass needs is gone after it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.kept = x.detach()
        return near(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        kept = ctx.kept
        del ctx.kept
        return 2 * (kept - 0.5) * grad[:, None, None]


def test_a_graph_is_gone_through_once() -> None:
    check_critic(problem(OwnCritic(lambda x: Once.apply(x), "mine.judge")), gradient=True)


def test_context_reaches_the_critic_of_its_list() -> None:
    def judge(slots: Tensor, context: Tensor) -> Tensor:
        return near(slots) * context[:, 0]

    critic = OwnCritic(judge, "mine.judge")
    check_critic(problem(critic, C=1), gradient=True)
    with pytest.raises(InvalidInput, match=r"problem\.C=0"):
        check_critic(problem(critic), gradient=True)
    slots = torch.ones(2, 3, 3, 2)  # two queries of three lists
    losses = critic(slots, Batch(torch.zeros(3, 5, 2), context=torch.tensor([[1.0], [2.0], [3.0]])))
    assert torch.equal(losses, torch.tensor([1.5, 3.0, 4.5]).expand(2, 3))


def test_a_critic_that_comes_with_the_package_passes() -> None:
    check_critic(problem(TargetValue(0.5)), gradient=True)
