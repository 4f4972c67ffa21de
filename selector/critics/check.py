"""Whether a critic of the user's own can be trained against; found out before a run is started.

Shape legend: Q critic queries · B lists · S slots · D features per item.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from selector.batch import Batch
from selector.critics.base import Critic
from selector.critics.own import OwnCritic, WrongShape
from selector.errors import InvalidInput
from selector.noise import Noise
from selector.selection import Selection
from selector.targets import in_words

if TYPE_CHECKING:
    from selector.problems import Problem

_Q, _B = 2, 32
# Share of the losses' size by which the same list may be judged differently in another batch: sums of float32 in
# another order.
_ROUNDING = 1e-4


def check_critic(problem: "Problem", gradient: bool) -> None:
    """Try a critic at random choices from a few of the problem's own lists.

    Args:
        problem: whose critic is tried.
        gradient: whether a gradient must reach the slots, as most strategies need.

    Raises:
        InvalidInput: with the first of these words that does not hold: context, shape, finite, deterministic, per
            list, differentiable.
    """
    from selector.choices import random_choices  # which imports the critics

    critic = problem.critic
    wanted = critic.context if isinstance(critic, OwnCritic) else None
    if wanted is not None and wanted.default is wanted.empty and not problem.C:
        raise InvalidInput("problem.C", 0, f"{critic.title} wants the context of a list: how many features?")
    noise = Noise(0, "critic check")
    batch = problem.sample((_B,), noise)
    index = random_choices(batch, problem.S, 2 * _Q, noise, problem.without_replacement)
    slots, others = Selection(index=index).pick(batch.items).chunk(2)
    losses = _judge(critic, slots, batch)
    if not losses.isfinite().all():
        raise _refuse(
            critic, f"not finite: {int((~losses.isfinite()).sum())} of {losses.numel()} losses are nan or inf"
        )
    tolerance = _ROUNDING * float(losses.abs().max())
    if _differ(losses, _judge(critic, slots, batch), tolerance):
        raise _refuse(critic, "not deterministic: the same slots got another loss when judged again")
    _check_per_list(critic, slots, others, batch, losses, tolerance)
    if gradient:
        _check_gradient(critic, slots, batch)


def _check_per_list(
    critic: Critic, slots: Tensor, others: Tensor, batch: Batch, losses: Tensor, tolerance: float
) -> None:
    changed = torch.arange(_B) % 2 == 0
    for part in (changed, ~changed):
        mixed = torch.where(part[:, None, None], others, slots)
        if _differ(_judge(critic, mixed, batch)[:, ~part], losses[:, ~part], tolerance):
            raise _refuse(critic, "not per list: the loss of a list changed with other lists of the batch")
    backwards = torch.arange(_B).flip(0)
    turned = Batch(batch.items[backwards], context=None if batch.context is None else batch.context[backwards])
    if _differ(_judge(critic, slots[:, backwards], turned)[:, backwards], losses, tolerance):
        raise _refuse(critic, "not per list: the loss of a list depends on its place in the batch")
    if _differ(_judge(critic, slots[:, :1], batch.narrow(0, 1)), losses[:, :1], tolerance):
        raise _refuse(critic, "not per list: the loss of a list depends on how many are in the batch")


def _check_gradient(critic: Critic, slots: Tensor, batch: Batch) -> None:
    leaf = slots.detach().clone().requires_grad_()
    with torch.enable_grad():  # judged twice: a compiled function's graph can be gone through only once
        losses, one_list = _judge(critic, leaf, batch), _judge(critic, leaf, batch)[0, 0]
    because = "an estimator that needs none (strategy=rloo), or critic=learned for a black box"
    if not losses.requires_grad:
        raise _refuse(critic, f"not differentiable: no gradient reaches the slots; mend it, or take {because}")
    try:
        (grad,) = torch.autograd.grad(losses.sum(), leaf, allow_unused=True)
        (first,) = torch.autograd.grad(one_list, leaf, allow_unused=True)
    except RuntimeError as error:
        raise _refuse(critic, f"not differentiable: {in_words(error)}") from error
    if grad is None or not grad.any():
        raise _refuse(
            critic, f"not differentiable: the gradient at the slots is 0 everywhere; mend it, or take {because}"
        )
    if not grad.isfinite().all():
        raise _refuse(critic, "not differentiable: the gradient at the slots is nan or inf for some choices")
    if first is not None and first.flatten(0, 1)[1:].any():
        raise _refuse(critic, "not per list: the loss of a list has a gradient at other lists' slots")


@torch.no_grad()
def _differ(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    return bool(((ours - theirs).abs() > tolerance).any())


def _judge(critic: Critic, slots: Tensor, batch: Batch) -> Tensor:
    try:
        passed = slots.clone()
        losses: Tensor = critic(passed, batch)
    except WrongShape as error:
        raise _refuse(critic, str(error)) from error
    except Exception as error:
        raise _refuse(critic, f"failed on a few lists drawn to try it: {in_words(error)}") from error
    if not torch.equal(passed, slots):
        raise _refuse(critic, "changes its slots in place: must leave them as they are, slots = slots - 5 is fine")
    if not isinstance(losses, Tensor) or losses.shape != slots.shape[:-2]:
        given = list(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise _refuse(critic, f"shape: gave {given} for slots {list(slots.shape)}; must give {list(slots.shape[:-2])}")
    return losses


def _refuse(critic: Critic, why: str) -> InvalidInput:
    return InvalidInput("critic", critic.title, why)
