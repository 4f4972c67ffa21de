"""Evaluation against a slow count in plain Python."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import selector.metrics
from selector.batch import Batch
from selector.critics import TargetValue
from selector.errors import InvalidInput
from selector.items import Integers, Uniform
from selector.metrics import HeldOut, entropy, evaluate
from selector.networks import MLP, Network
from selector.noise import Noise
from selector.problems import Problem

N, S, V = 4, 2, 12


class Fixed(Network):
    """Logits that prefer items near a value: seed 0 near 5, seed 1 near 0."""

    def __init__(self) -> None:
        super().__init__(N, S, 1, (0, 1))
        self.wanted = nn.Parameter(torch.tensor([5.0, 0.0]))

    def forward(self, batch: Batch) -> Tensor:
        logits = -(batch.items - self.wanted.view(-1, 1, 1, 1)).abs().squeeze(-1)
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


@pytest.mark.parametrize(("per", "distinct"), [("list", False), ("slot", False), ("list", True)])
def test_masked_items_are_never_chosen_and_spread_and_entropy_are_over_the_allowed(per: str, distinct: bool) -> None:
    options: dict[str, Any] = {"eligible": 0.4, "eligible_per": per, "without_replacement": distinct}
    made = Problem(Uniform(0.0, 10.0), TargetValue(5.0), N=N, S=S, **options)
    held_out = HeldOut.draw(made, V)
    mask = held_out.batch.mask
    assert mask is not None
    network = Fixed()
    measured = evaluate(network, made, held_out, tau=1.0)
    chosen = mask.expand(2, V, S, N).gather(-1, measured.index.unsqueeze(-1))
    assert chosen.all()
    if distinct:
        assert (measured.index[..., 0] != measured.index[..., 1]).all()
    logits = network(held_out.batch.expand(2)).detach()
    for r in range(2):
        spreads, entropies, expected = [], [], []
        for v in range(V):
            total = 0.0
            for s, row in enumerate(mask[v].expand(S, N).tolist()):
                kept = [float(logits[r, v, s, i]) for i in range(N) if row[i]]
                prices = [(float(held_out.batch.items[v, i]) - 5) ** 2 for i in range(N) if row[i]]
                mean = sum(kept) / len(kept)
                spreads.append((sum((x - mean) ** 2 for x in kept) / len(kept)) ** 0.5)
                weights = [math.exp(x) for x in kept]
                p = [w / sum(weights) for w in weights]
                entropies.append(-sum(q * math.log(q) for q in p))
                total += sum(q * price for q, price in zip(p, prices, strict=True))
            expected.append(total)
        metrics = {key: float(value[r]) for key, value in measured.metrics.items()}
        assert metrics["logit_std"] == pytest.approx(fmean(spreads), rel=1e-4)
        assert metrics["entropy"] == pytest.approx(fmean(entropies), rel=1e-4)
        assert metrics["expected_loss"] == pytest.approx(fmean(expected), rel=1e-4)
        assert metrics["soft_loss"] == pytest.approx(metrics["hard_loss"] + metrics["gap"], rel=1e-6)
        assert all(math.isfinite(value) for value in metrics.values())


def test_a_mask_that_leaves_a_slot_nothing_is_refused_when_held_out_lists_are_drawn() -> None:
    class Impossible(Uniform):
        def sample(self, shape: Sequence[int], noise: Noise) -> Batch:
            items = super().sample(shape, noise).items
            return Batch(items, torch.zeros(*shape[:-2], 1, shape[-2], dtype=torch.bool))

    with pytest.raises(ValueError, match=r"no item at all for every slot of list \[0\]"):
        HeldOut.draw(problem(Impossible()), V)


def test_the_entropy_is_the_formula_and_its_gradient_finite_at_masked_logits() -> None:
    logits = Noise(0, "logits").normal([5, 3, 4], dtype=torch.float64)
    logits[0, 0, 0] = logits[1, :, 2:] = -torch.inf
    logits[2, 1, 1:] = -torch.inf  # one item is left: entropy 0
    leaf = logits.requires_grad_()
    value = entropy(leaf)
    assert value.shape == (5, 3)
    p = leaf.detach().softmax(-1)
    expected = -torch.special.xlogy(p, p).sum(-1)
    torch.testing.assert_close(value.detach(), expected, rtol=1e-12, atol=1e-12)
    assert float(value.detach()[2, 1]) == 0
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    # dH/dl_i = −p_i·(log p_i + H)
    torch.testing.assert_close(grad, -(torch.special.xlogy(p, p) + p * expected.unsqueeze(-1)), rtol=1e-9, atol=1e-12)
    assert not grad[leaf.isneginf()].any()


class Diverged(Fixed):
    """Seed 1 has become NaN."""

    def forward(self, batch: Batch) -> Tensor:
        logits = super().forward(batch).clone()
        logits[1] = torch.nan
        return logits


def test_a_seed_that_diverged_has_no_metrics_and_the_other_keeps_its_own() -> None:
    """The argmax of NaN is item 0, which must not pass for a choice."""
    held_out = HeldOut.draw(problem(), V)
    whole = evaluate(Fixed(), problem(), held_out, 1.0).metrics
    broken = evaluate(Diverged(), problem(), held_out, 1.0).metrics
    for name, values in broken.items():
        assert float(values[0]) == float(whole[name][0]), name
        assert math.isnan(float(values[1])), name


def test_where_every_choice_is_as_good_there_is_nothing_to_regret() -> None:
    single = Problem(Uniform(0.0, 10.0), TargetValue(5.0), N=1, S=S, D=1)
    metrics = evaluate(MLP(N=1, S=S, width=4), single, HeldOut.draw(single, V), 1.0).metrics
    assert metrics["regret"].tolist() == [0.0]


def test_losses_that_are_not_finite_are_no_scale_to_measure_on() -> None:
    class Broken(TargetValue):
        def per_slot(self, slots: Tensor) -> Tensor:
            return super().per_slot(slots).masked_fill(slots[..., 0] > 9, torch.nan)

    with pytest.raises(InvalidInput, match=r"critic=Broken.* not finite"):
        HeldOut.draw(Problem(Uniform(0.0, 10.0), Broken(5.0), N=N, S=S, D=1), 64)
