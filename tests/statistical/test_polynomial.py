"""Polynomial programming (arXiv 2304.08612): the critic, the exact expected loss, and where estimators must stall.

L = mean over slots of |z_s − .45|^p with z_s in {0, 1}. q is the probability of z = 1, which is item 0.
"""

import json
import math
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from selector.batch import Batch
from selector.critics import Power
from selector.experiment import build_experiment
from selector.launch import main
from selector.noise import Noise
from selector.strategies import GST, Exact, ReinMax, Strategy, STSampled
from tests.support import CONFIGS, compose
from train import train

POWERS = [1.5, 2.0, 3.0]
S = 2


class Forced(Noise):
    """Gumbel noise that lets given items win: a draw is taken apart into all of its outcomes."""

    def __init__(self, index: Sequence[int]) -> None:
        super().__init__()
        self._wins = torch.nn.functional.one_hot(torch.tensor(index), 2).double() * 1e3

    def gumbel(self, shape: Sequence[int], *, draws: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
        assert draws is None
        assert dtype == self._wins.dtype
        return self._wins.expand(*shape).clone()


def stall(p: float) -> float:
    """q* = .45^(p−1) / (.45^(p−1) + .55^(p−1)), where (1 − q)·|v(0)| = q·|v(1)|."""
    return 0.45 ** (p - 1) / (0.45 ** (p - 1) + 0.55 ** (p - 1))


def logits_at(q: float) -> Tensor:
    return torch.tensor([math.log(q), math.log(1 - q)], dtype=torch.float64).expand(S, 2).clone()


def mean_gradient(strategy: Strategy, critic: Power, logits: Tensor) -> Tensor:
    """Σ_D p(D)·g(D) over all draws D: the exact mean of the estimator."""
    items, pi = torch.tensor([[1.0], [0.0]], dtype=torch.float64), logits.softmax(-1)
    total = torch.zeros_like(logits)
    for outcome in product(range(2), repeat=S):
        leaf = logits.clone().requires_grad_()
        selection = strategy.select(leaf, 1.0, Forced(outcome))
        assert selection.index is not None
        assert selection.index[0].tolist() == list(outcome)
        losses = critic(selection.pick(items), Batch(items))
        (g,) = torch.autograd.grad(strategy.surrogate(selection, losses).sum(), leaf)
        total += float(torch.stack([pi[s, i] for s, i in enumerate(outcome)]).prod()) * g
    return total


def exact_gradient(critic: Power, logits: Tensor) -> tuple[float, Tensor]:
    items = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    leaf, strategy = logits.clone().requires_grad_(), Exact()
    selection = strategy.select(leaf, 1.0, Noise())
    value = strategy.surrogate(selection, critic(selection.pick(items), Batch(items)))
    (g,) = torch.autograd.grad(value, leaf)
    return float(value.detach()), g


@pytest.mark.parametrize("p", POWERS)
def test_the_problem_is_the_papers(p: float) -> None:
    experiment = build_experiment(compose("experiment=polynomial", f"critic.p={p}"))
    problem, critic = experiment.problem, experiment.problem.critic
    assert (problem.N, problem.S, problem.D) == (2, 128, 1)
    batch = problem.sample((3,), Noise())
    assert batch.items.tolist() == [[[1.0], [0.0]]] * 3
    z = (torch.arange(128) % 3 == 0).double()  # 43 ones
    loss = float(critic(z.view(1, 1, 128, 1), batch.narrow(0, 1)))
    assert loss == pytest.approx((43 * 0.55**p + 85 * 0.45**p) / 128, rel=1e-12)
    oracle = problem.oracle(batch)
    assert oracle.loss.tolist() == pytest.approx([0.45**p] * 3, rel=1e-6)
    assert (oracle.index == 1).all()
    assert oracle.random_loss.tolist() == pytest.approx([(0.55**p + 0.45**p) / 2] * 3, rel=1e-6)
    logits = experiment.network(batch.expand(1))
    assert logits.shape == (1, 3, 128, 2)
    assert 0.005 < float(logits.detach().abs().max()) <= 0.01


@pytest.mark.parametrize("p", POWERS)
@pytest.mark.parametrize("strategy", [STSampled(), GST()], ids=["st_sampled", "gst"])
def test_straight_through_stalls_at_the_closed_form(strategy: Strategy, p: float) -> None:
    critic, q = Power(S, p=p), stall(p)
    at = logits_at(q)
    slope = mean_gradient(strategy, critic, logits_at(q * 1.05)).abs().max()
    assert float(mean_gradient(strategy, critic, at).abs().max()) < 1e-12 * float(slope)
    # Stable: descent leads back to it from both sides.
    assert (mean_gradient(strategy, critic, logits_at(q + 0.02))[:, 0] > 0).all()
    assert (mean_gradient(strategy, critic, logits_at(q - 0.02))[:, 0] < 0).all()
    # Yet the loss falls there: the exact gradient lowers q, and so does ReinMax's mean.
    loss, exact = exact_gradient(critic, at)
    assert loss == pytest.approx(q * 0.55**p + (1 - q) * 0.45**p, rel=1e-12)
    assert loss > 0.45**p
    assert (exact[:, 0] > 1e-3).all()
    assert (mean_gradient(ReinMax(), critic, at)[:, 0] > 1e-3).all()


def test_the_stall_at_p_2_costs_what_the_paper_measured() -> None:
    assert stall(2.0) == pytest.approx(0.45)
    loss, _ = exact_gradient(Power(S), logits_at(stall(2.0)))
    assert loss == pytest.approx(0.2475, rel=1e-12)


def test_reinmax_has_the_exact_mean_gradient_at_p_2() -> None:
    logits = torch.tensor([[0.3, -0.5], [-1.0, 0.2]], dtype=torch.float64)
    _, exact = exact_gradient(Power(S), logits)
    torch.testing.assert_close(mean_gradient(ReinMax(), Power(S), logits), exact, rtol=1e-12, atol=1e-14)


def test_a_run_reports_the_exact_expected_loss_of_what_it_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [
        "experiment=polynomial", "problem.S=4", "strategy=exact", "seeds=2", "logger=none", "name=run",
        "max_steps=300", "val_every=300", "batch_size=1", "optimizer.lr=0.05",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    assert main(train, CONFIGS, arguments) == 0
    final = json.loads((tmp_path / "outputs" / "run" / "result.json").read_text())["final"]
    state = torch.load(tmp_path / "outputs" / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    q = state["network.logits"].double().softmax(-1)[..., 0].mean(-1)
    expected = (q * 0.55**2 + (1 - q) * 0.45**2).tolist()
    assert [row["expected_loss"] for row in final["per_seed"]] == pytest.approx(expected, rel=1e-6)
    assert 0.2025 < final["mean"]["expected_loss"] < 0.2030
