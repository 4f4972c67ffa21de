"""A critic from the user's own code: any torch module or function.

Shape legend: M filled lists · Q critic queries · `*` any leading dims · S slots · D features per item · C features per
list.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from selector.batch import Batch
from selector.building import bind, build, construct, target_and_options
from selector.critics.base import Critic
from selector.errors import InvalidInput
from selector.targets import in_words, is_function_of, is_own, locate


class WrongShape(ValueError):
    """What a critic gave is not one loss per list."""


class OwnCritic(Critic):
    """Wraps a torch module or function: ``slots [M, S, D] -> loss [M]``.

    All leading dims are folded into M, so that code which knows only of a batch fits. Code with a parameter named
    ``context`` is given that of each list, ``[M, C]``. A module stays in evaluation mode: it judges, it does not learn.

    Args:
        judge: the module or function.
        title: its name, for messages.
    """

    def __init__(self, judge: Callable[..., Tensor], title: str) -> None:
        super().__init__()
        self.judge = judge
        self._title = title
        self.context = parameters_of(judge).get("context")
        self.train()

    @property
    def title(self) -> str:
        return self._title

    def train(self, mode: bool = True) -> "OwnCritic":
        super().train(mode)
        for module in self.children():
            module.eval()
        return self

    def forward(self, slots: Tensor, batch: Batch) -> Tensor:
        lead = slots.shape[:-2]
        rows = slots.reshape(-1, *slots.shape[-2:])
        if self.context is not None and batch.context is not None:
            context = batch.context.expand(*lead, batch.context.shape[-1]).reshape(len(rows), -1)
            losses = self.judge(rows, context=context)
        else:
            losses = self.judge(rows)
        if not isinstance(losses, Tensor) or losses.shape != rows.shape[:1]:
            given = list(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
            raise WrongShape(
                f"shape: gave {given} for slots {list(rows.shape)}; must give {[len(rows)]}, one loss per list"
            )
        return losses.reshape(lead).to(slots.dtype)


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function, or of a module's forward."""
    return inspect.signature(function.forward if isinstance(function, nn.Module) else function).parameters


def build_critic(node: DictConfig, trust: Sequence[str] = (), **given: Any) -> Critic:
    """The critic of a configuration: a :class:`Critic`, or a module or function of the user's own, wrapped.

    Args:
        node: ``_target_`` and options.
        trust: see :func:`selector.targets.locate`.
        given: N, S, D, C …, for constructors that ask for them.

    Raises:
        InvalidInput: for a target that is none of these, and for wrong options.
    """
    key = "critic"
    path, options = target_and_options(node, key, Critic)
    target = locate(path, f"{key}._target_", trust)
    if not is_own(path) or (isinstance(target, type) and issubclass(target, Critic)):
        return build(node, key, Critic, trust=trust, **given)  # type: ignore[type-abstract]
    if isinstance(target, type) and issubclass(target, nn.Module):
        try:
            # torch's own layers draw their weights from its global generator: the same ones for every run.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                made = construct(target, options, key, **given)
        except InvalidInput:
            raise
        except Exception as error:
            raise InvalidInput(key, path, f"its constructor raised {in_words(error)}") from error
        if any(is_lazy(parameter) for parameter in made.parameters()):
            raise InvalidInput(key, path, "has lazy layers; must give their sizes")
        return OwnCritic(made, path)
    if is_function_of(target, path):
        return OwnCritic(bind(target, options, key, ["context"]), path)
    raise InvalidInput(
        f"{key}._target_",
        path,
        "must be a class (torch.nn.Module or selector.critics.Critic), or a function written there with def; "
        "call anything else, such as a partial or an object, from one",
    )
