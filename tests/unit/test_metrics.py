"""Evaluation against a slow count in plain Python."""

import pytest
import torch
from torch import Tensor, nn

import selector.metrics
from selector.critics import TargetValue
from selector.items import Integers, Uniform
from selector.metrics import HeldOut, evaluate
from selector.networks import Network
from selector.problems import Problem

N, S, V = 4, 2, 12


class Fixed(Network):
    """Logits that prefer items near a value: seed 0 near 5, seed 1 near 0."""

    def __init__(self) -> None:
        super().__init__(N, S, 1, (0, 1))
        self.wanted = nn.Parameter(torch.tensor([5.0, 0.0]))

    def forward(self, items: Tensor) -> Tensor:
        logits = -(items - self.wanted.view(-1, 1, 1, 1)).abs().squeeze(-1)
        return logits.unsqueeze(-2).expand(-1, -1, S, -1)


def problem(items: Uniform | Integers | None = None) -> Problem:
    return Problem(items or Uniform(0.0, 10.0), TargetValue(5.0), N=N, S=S, D=1)


def test_metrics_equal_a_count_in_plain_python() -> None:
    made = problem()
    held_out = HeldOut.draw(made, V)
    metrics = evaluate(Fixed(), made, held_out, tau=1.0).metrics
    lists = [[float(x) for x in items] for items in held_out.batch.items.squeeze(-1)]
    oracle = sum(S * min((x - 5) ** 2 for x in items) for items in lists) / V
    at_random = sum(S * sum((x - 5) ** 2 for x in items) / N for items in lists) / V
    for r, wanted in enumerate((5.0, 0.0)):
        picks = [min(items, key=lambda x: abs(x - wanted)) for items in lists]
        hard = sum(S * (x - 5) ** 2 for x in picks) / V
        right = [x == min(items, key=lambda y: abs(y - 5)) for x, items in zip(picks, lists, strict=True)]
        assert float(metrics["hard_loss"][r]) == pytest.approx(hard, rel=1e-5)
        assert float(metrics["regret"][r]) == pytest.approx((hard - oracle) / (at_random - oracle), rel=1e-4, abs=1e-6)
        assert float(metrics["accuracy"][r]) == pytest.approx(sum(right) / V)
    assert float(metrics["oracle_loss"][0]) == pytest.approx(oracle, rel=1e-5)
    assert float(metrics["random_loss"][0]) == pytest.approx(at_random, rel=1e-5)
    assert torch.equal(metrics["gap"], metrics["soft_loss"] - metrics["hard_loss"])
    assert "switched" not in metrics


def test_switched_is_the_share_of_other_choices() -> None:
    made = problem()
    held_out = HeldOut.draw(made, V)
    first = evaluate(Fixed(), made, held_out, tau=1.0)
    previous = first.index.clone()
    previous[1, :3] = (previous[1, :3] + 1) % N
    assert evaluate(Fixed(), made, held_out, 1.0, previous).metrics["switched"].tolist() == [0.0, 3 / V]


def test_accuracy_counts_only_unique_best_items() -> None:
    made = Problem(Integers(4, 6), TargetValue(5.0), N=N, S=S, D=1)
    held_out = HeldOut.draw(made, 200)
    unique = held_out.oracle.unique
    assert 0 < unique.double().mean() < 1
    assert evaluate(Fixed(), made, held_out, tau=1.0).metrics["accuracy"][0] == 1.0


def test_small_chunks_measure_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    made = problem()
    held_out = HeldOut.draw(made, V)
    whole = evaluate(Fixed(), made, held_out, tau=0.7)
    monkeypatch.setattr(selector.metrics, "_CHUNK", 5 * 2 * S * N)
    parts = evaluate(Fixed(), made, held_out, tau=0.7)
    assert torch.equal(parts.index, whole.index)
    torch.testing.assert_close(parts.metrics, whole.metrics)


def test_held_out_lists_are_the_same_at_every_draw() -> None:
    assert torch.equal(HeldOut.draw(problem(), V).batch.items, HeldOut.draw(problem(), V).batch.items)


def test_evaluation_is_noise_free_and_restores_the_training_mode() -> None:
    network, made = Fixed(), problem()
    held_out, before = HeldOut.draw(made, V), torch.get_rng_state()
    network.train()
    evaluate(network, made, held_out, tau=1.0)
    assert network.training
    assert torch.equal(torch.get_rng_state(), before)
