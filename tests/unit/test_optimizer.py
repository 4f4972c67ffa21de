"""Optimizers treat the seeds apart."""

from typing import Any

import pytest
import torch
from torch import nn

from selector.errors import InvalidInput
from selector.optimizer import SGD, Adam, AdamW, OptimizerOptions, clip_per_seed

KINDS = [Adam, AdamW, SGD]


def parameters_with_gradients(R: int = 3) -> list[nn.Parameter]:
    g = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(R, *shape, generator=g)) for shape in ([4, 2], [1, 5], [])]
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=g) * torch.tensor([0.01, 1.0, 100.0])[:R].view(-1, *[1] * (p.dim() - 1))
    return parameters


def test_each_seed_is_clipped_by_its_own_norm() -> None:
    parameters = parameters_with_gradients()
    before = [p.grad.clone() for p in parameters if p.grad is not None]
    expected = torch.stack([torch.cat([g[r].flatten() for g in before]).norm() for r in range(3)])
    norms = clip_per_seed(parameters, 1.0)
    torch.testing.assert_close(norms, expected)
    for p, g in zip(parameters, before, strict=True):
        assert p.grad is not None
        assert torch.equal(p.grad[0], g[0])  # small enough: untouched
        torch.testing.assert_close(p.grad[2], g[2] / norms[2])
    assert float(clip_per_seed(parameters, 1.0).max()) == pytest.approx(1.0, rel=1e-5)


def test_a_gradient_of_zero_is_not_divided_by_its_norm() -> None:
    parameter = nn.Parameter(torch.ones(2, 3))
    parameter.grad = torch.zeros(2, 3)
    clip_per_seed([parameter, nn.Parameter(torch.ones(2))], 1.0)  # one without a gradient beside it
    assert torch.equal(parameter.grad, torch.zeros(2, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_the_update_of_a_seed_does_not_depend_on_the_others(kind: type[OptimizerOptions]) -> None:
    stacked = parameters_with_gradients()
    alone = [nn.Parameter(p.detach()[1:2].clone()) for p in stacked]
    options = kind(lr=0.1, weight_decay=0.1)
    gradients = [p.grad.clone() for p in stacked if p.grad is not None]
    first, second = options.build(stacked), options.build(alone)
    for _ in range(3):
        for p, q, g in zip(stacked, alone, gradients, strict=True):
            p.grad, q.grad = g.clone(), g[1:2].clone()
        first.step()
        second.step()
    for p, q in zip(stacked, alone, strict=True):
        assert torch.equal(p.detach()[1:2], q.detach())


@pytest.mark.parametrize("schedule", ["linear", "exponential", "cosine"])
def test_the_learning_rate_falls_to_its_end_factor(schedule: str) -> None:
    factor = Adam(schedule=schedule, end_factor=0.1).factor(100)
    assert factor(0) == pytest.approx(1.0)
    assert factor(100) == pytest.approx(0.1)


@pytest.mark.parametrize("schedule", ["constant", "linear", "exponential", "cosine"])
def test_the_learning_rate_rises_over_the_warm_up_and_is_never_zero(schedule: str) -> None:
    factor = SGD(schedule=schedule, warmup=9).factor(100)
    assert factor(0) == pytest.approx(0.1)
    assert factor(9) == pytest.approx(1.0)
    assert [factor(s) for s in range(10)] == sorted(factor(s) for s in range(10))


def test_a_warm_up_longer_than_the_run_is_cut_off() -> None:
    assert Adam(schedule="cosine", warmup=50).factor(10)(9) == pytest.approx(1 / 51 + 9 / 50 * (1 - 1 / 51))


@pytest.mark.parametrize(
    ("kind", "options", "key"),
    [
        (Adam, {"lr": 0.0}, "lr"),
        (Adam, {"lr": float("nan")}, "lr"),
        (AdamW, {"weight_decay": -1.0}, "weight_decay"),
        (SGD, {"clip": 0.0}, "clip"),
        (SGD, {"schedule": "triangle"}, "schedule"),
        (Adam, {"end_factor": 0.0}, "end_factor"),
        (Adam, {"end_factor": 1.5}, "end_factor"),
        (Adam, {"warmup": -1}, "warmup"),
        (Adam, {"beta1": -0.1}, "beta1"),
        (Adam, {"beta1": 1.0}, "beta1"),
        (AdamW, {"beta2": 1.0}, "beta2"),
        (SGD, {"momentum": -0.1}, "momentum"),
    ],
)
def test_values_out_of_range_are_refused_by_name(kind: Any, options: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        kind(**options)
    assert refused.value.key == key
