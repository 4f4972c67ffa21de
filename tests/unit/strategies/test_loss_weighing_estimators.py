"""Estimators that weigh losses: hand formulas on replayed draws, values, state per seed."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import selector
from selector.critics import TargetValue
from selector.errors import InvalidInput
from selector.items import Uniform
from selector.networks import MLP
from selector.noise import Noise, SeedNoise
from selector.optimizer import Adam
from selector.problems import Problem
from selector.strategies import RLOO, Exact, LocalExpectation, Rebar, Reinforce, Relax, Strategy

# Lightning 2.6 asks torch 2.13 in a way that torch calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")

R, B, S, N, D = 3, 5, 2, 4, 2


@pytest.fixture
def logits() -> Tensor:
    return Noise(0, "logits").normal([R, B, S, N], dtype=torch.float64).requires_grad_()


ITEMS = Noise(0, "items").normal([R, B, N, D], dtype=torch.float64)


def critic(slots: Tensor) -> Tensor:
    return (slots.sum((-1, -2)) - 0.5) ** 3


def step(strategy: Strategy, logits: Tensor, noise: Noise) -> tuple[Any, Tensor, Tensor, Tensor]:
    """(selection, losses, value, gradient)."""
    selection = strategy.select(logits, 0.7, noise)
    losses = critic(selection.pick(ITEMS))
    value = strategy.surrogate(selection, losses)
    (gradient,) = torch.autograd.grad(value.sum(), logits, retain_graph=True)
    return selection, losses.detach(), value, gradient


def score(index: Tensor, logits: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(index, N) - logits.detach().softmax(-1)


def test_reinforce_is_advantage_times_score_with_a_debiased_moving_average_per_seed(logits: Tensor) -> None:
    strategy, noise = Reinforce(decay=0.9, seeds=range(R)), Noise(1)
    seen: list[Tensor] = []
    for t in range(4):
        share = [0.9 ** (t - 1 - i) for i in range(t)]
        b = sum(w * m for w, m in zip(share, seen, strict=True)) / sum(share) if seen else torch.zeros(R)
        selection, losses, value, gradient = step(strategy, logits, noise)
        advantage = losses[0] - b[:, None]
        torch.testing.assert_close(
            gradient, advantage[..., None, None] * score(selection.index[0], logits), rtol=1e-5, atol=1e-4
        )
        assert torch.equal(value, losses[0])
        seen.append(losses[0].mean(1))


def test_reinforce_does_not_learn_in_eval_mode(logits: Tensor) -> None:
    strategy = Reinforce(seeds=range(R)).eval()
    step(strategy, logits, Noise(1))
    assert torch.equal(strategy.weight, torch.zeros(R))


def test_rloo_is_leave_one_out(logits: Tensor) -> None:
    selection, losses, value, gradient = step(RLOO(K=3), logits, Noise(1))
    expected = torch.zeros_like(logits)
    for k in range(3):
        others = (losses.sum(0) - losses[k]) / 2
        expected = expected + (losses[k] - others)[..., None, None] * score(selection.index[k], logits) / 3
    torch.testing.assert_close(gradient, expected.detach())
    torch.testing.assert_close(value, losses.mean(0))


def test_local_expectation_is_the_exact_gradient_of_each_slot_given_the_others(logits: Tensor) -> None:
    selection, losses, value, gradient = step(LocalExpectation(), logits, Noise(1))
    assert len(losses) == 1 + S * N
    assert torch.equal(value, losses[0])
    drawn = selection.index[0]
    for s in range(S):
        leaf = logits.detach().clone().requires_grad_()
        table = []
        for i in range(N):
            index = drawn.clone()
            index[..., s] = i
            slots = ITEMS.gather(-2, index.unsqueeze(-1).expand(R, B, S, D))
            table.append(critic(slots))
        (leaf.softmax(-1)[..., s, :] * torch.stack(table, -1)).sum().backward()
        assert leaf.grad is not None
        torch.testing.assert_close(gradient[..., s, :], leaf.grad[..., s, :])


def test_exact_has_the_expected_loss_as_its_value_and_that_value_s_derivative(logits: Tensor) -> None:
    strategy = Exact()

    def expected(leaf: Tensor) -> Tensor:
        selection = strategy.select(leaf, 1.0, Noise())
        return strategy.surrogate(selection, critic(selection.pick(ITEMS[:1, :2])))

    assert torch.autograd.gradcheck(expected, logits.detach()[:1, :2].requires_grad_())


def test_exact_refuses_too_many_selections_at_build_and_at_sight() -> None:
    with pytest.raises(InvalidInput, match=r"max_selections=100: 8 items in 4 slots make N\^S = 4,096"):
        Exact(N=8, S=4, max_selections=100)
    with pytest.raises(InvalidInput, match="max_selections"):
        Exact(max_selections=100).select(torch.zeros(1, 4, 8), 1.0, Noise())


def test_rebar_without_its_control_is_plain_reinforce(logits: Tensor) -> None:
    selection, losses, value, gradient = step(Rebar(eta=0.0), logits, Noise(1))
    assert torch.equal(value, losses[0])
    torch.testing.assert_close(gradient, losses[0][..., None, None] * score(selection.index[0], logits))


def test_relax_starts_as_rebar(logits: Tensor) -> None:
    *_, rebar = step(Rebar(eta=0.8, lambd=0.6), logits, Noise(1))
    *_, relax = step(Relax(N, S, range(R), eta=0.8, lambd=0.6), logits, Noise(1))
    torch.testing.assert_close(relax, rebar, rtol=1e-5, atol=1e-6)


def trained_relax() -> Relax:
    """A control variate away from its start, in float64 for finite differences."""
    strategy: Relax = Relax(N, S, range(R)).double()
    for parameter in strategy.parameters():
        parameter.data += 0.3 * Noise(5).normal(parameter.shape, dtype=torch.float64)
    return strategy


def test_relax_learns_by_the_gradient_of_its_variance_and_nothing_else(logits: Tensor) -> None:
    strategy = trained_relax()
    selection = strategy.select(logits, 1.0, Noise(1))
    value = strategy.surrogate(selection, critic(selection.pick(ITEMS)))
    assert torch.equal(value.detach(), critic(selection.pick(ITEMS))[0].detach())
    value.mean(-1).sum().backward()  # as in training: the mean over lists, the sum over seeds

    def second_moment(probe: Relax) -> float:
        *_, gradient = step(probe.eval(), logits, Noise(1))
        return float(gradient.square().sum((-1, -2)).mean(1).sum())

    for name, parameter in strategy.named_parameters():
        assert parameter.grad is not None
        for position in (0, parameter.numel() - 1):
            sides = []
            for sign in (1, -1):
                probe = copy.deepcopy(strategy)
                dict(probe.named_parameters())[name].data.view(-1)[position] += sign * 1e-5
                sides.append(second_moment(probe))
            numeric = (sides[0] - sides[1]) / 2e-5
            assert parameter.grad.view(-1)[position].item() == pytest.approx(numeric, rel=1e-4, abs=1e-6), name


def test_relax_gives_its_parameters_no_gradient_in_eval_mode(logits: Tensor) -> None:
    strategy = trained_relax().eval()
    selection = strategy.select(logits, 1.0, Noise(1))
    strategy.surrogate(selection, critic(selection.pick(ITEMS))).sum().backward()
    assert all(parameter.grad is None for parameter in strategy.parameters())


def test_learning_the_control_variate_lowers_the_variance() -> None:
    fixed, items = Noise(0, "fixed").normal([1, 1, S, N]), ITEMS[:1, :1].float()
    strategy, noise = Relax(N, S), Noise(1)
    optimizer = torch.optim.Adam(strategy.parameters(), lr=2e-2)

    def run(probe: Relax, draws: int, noise: Noise) -> Tensor:
        logits = fixed.repeat(1, draws, 1, 1).requires_grad_()
        selection = probe.select(logits, 1.0, noise)
        probe.surrogate(selection, critic(selection.pick(items.expand(1, draws, N, D)))).mean(-1).sum().backward()
        assert logits.grad is not None
        return draws * logits.grad

    def variance() -> float:
        return float(run(copy.deepcopy(strategy).eval(), 2**14, Noise(2)).var(1).sum())

    before = variance()
    for _ in range(100):
        optimizer.zero_grad()
        run(strategy, 256, noise)
        optimizer.step()
    assert variance() < 0.85 * before


# ---- leading dims and seeds side by side --------------------------------------------------------------------------

ALL: dict[str, Callable[[Sequence[int]], Strategy]] = {
    "reinforce": lambda seeds: Reinforce(seeds=seeds),
    "rloo": lambda _: RLOO(),
    "local_expectation": lambda _: LocalExpectation(),
    "exact": lambda _: Exact(),
    "rebar": lambda _: Rebar(),
    "relax": lambda seeds: Relax(N, S, seeds),
}


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 3, 4)], ids=str)
def test_any_leading_dims(make: Callable[[Sequence[int]], Strategy], lead: tuple[int, ...]) -> None:
    strategy, noise = make([0]), Noise(1)
    items = ITEMS[0, 0].expand(*lead, N, D)
    for _ in range(2):
        logits = torch.zeros(*lead, S, N, dtype=torch.float64, requires_grad=True)
        selection = strategy.select(logits, 0.7, noise)
        value = strategy.surrogate(selection, critic(selection.pick(items)))
        assert value.shape == lead
        value.sum().backward()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("make", [ALL["reinforce"], ALL["relax"]], ids=["reinforce", "relax"])
def test_another_number_of_seeds_is_refused(make: Callable[[Sequence[int]], Strategy]) -> None:
    strategy = make(range(R))
    logits = torch.zeros(R + 1, B, S, N, requires_grad=True)
    with pytest.raises(ValueError, match="made for 3 seeds"):
        strategy.surrogate(strategy.select(logits, 1.0, Noise()), torch.zeros(1, R + 1, B))


def train(make: Callable[[Sequence[int]], Strategy], seeds: Sequence[int], **options: Any) -> tuple[MLP, Strategy]:
    problem = Problem(Uniform(0.0, 1.0), TargetValue(0.5), N=N, S=S, D=1)
    network, strategy = MLP(N, S, 1, seeds=seeds, width=8), make(seeds)
    selector.fit(
        problem,
        network,
        strategy,
        batch_size=8,
        val_every=5,
        held_out=8,
        optimizer=Adam(clip=0.05),  # active at every step
        **{"steps": 10, **options},
    )
    return network, strategy


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_a_seed_follows_the_same_path_alone_and_beside_others(make: Callable[[Sequence[int]], Strategy]) -> None:
    stacked, alone = train(make, [4, 5, 6]), train(make, [5])
    for together, single in zip(stacked, alone, strict=True):
        state = single.state_dict()
        for name, value in together.state_dict().items():
            torch.testing.assert_close(value[1:2], state[name], rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("make", [ALL["reinforce"], ALL["relax"]], ids=["reinforce", "relax"])
def test_a_continued_run_continues_what_the_strategy_learned(
    make: Callable[[Sequence[int]], Strategy], tmp_path: Any
) -> None:
    whole = train(make, [0, 1], folder=tmp_path / "whole")
    train(make, [0, 1], folder=tmp_path / "parts", steps=5)
    parts = train(make, [0, 1], folder=tmp_path / "parts", resume=True)
    for a, b in zip(whole, parts, strict=True):
        for name, value in a.state_dict().items():
            assert torch.equal(value, b.state_dict()[name]), name


def test_the_strategy_s_own_parameters_learn_at_their_own_rate() -> None:
    start = Relax(N, S, [0]).state_dict()
    _, strategy = train(lambda seeds: Relax(N, S, seeds, lr=1e-8), [0])
    for name, value in strategy.state_dict().items():
        torch.testing.assert_close(value, start[name], rtol=0, atol=1e-6)
    _, strategy = train(ALL["relax"], [0])
    assert not torch.allclose(strategy.state_dict()["log_lambd"], start["log_lambd"], atol=1e-6, rtol=0)


def test_a_strategy_for_other_seeds_than_the_network_s_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"strategy.seeds=1: must be as many as the network's 2"):
        train(lambda _: Reinforce(), [0, 1])


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Reinforce(decay=1.0), "decay"),
        (lambda: RLOO(K=1), "K"),
        (lambda: Rebar(lambd=0.0), "lambd"),
        (lambda: Relax(N, S, lambd=-1.0), "lambd"),
        (lambda: Relax(N, S, lr=0.0), "lr"),
        (lambda: Relax(N, S, width=0), "width"),
        (lambda: Exact(max_selections=0), "max_selections"),
    ],
)
def test_bad_options_are_refused(make: Callable[[], Strategy], key: str) -> None:
    with pytest.raises(InvalidInput, match=key):
        make()


def test_seed_streams_of_a_strategy_do_not_depend_on_other_seeds() -> None:
    together, alone = Relax(N, S, [3, 9]), Relax(N, S, [9])
    for a, b in zip(together.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a[1:], b)
    noise = SeedNoise([3, 9]), SeedNoise([9])
    logits = torch.zeros(2, B, S, N)
    first, second = together.select(logits, 1.0, noise[0]), alone.select(logits[:1], 1.0, noise[1])
    assert first.index is not None
    assert second.index is not None
    assert torch.equal(first.index[:, 1:], second.index)
