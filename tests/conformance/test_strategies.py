"""Every yaml in configs/strategy against one contract. A new strategy is covered by its yaml alone.

Shape legend: Q critic queries · R seeds · B batch · `*` any leading dims · S slots · N items · D features per item.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import pytest
import torch
from torch import Tensor

from selector.batch import Batch
from selector.building import build
from selector.experiment import build_experiment
from selector.noise import Noise, Replay, SeedNoise
from selector.schedules import Schedule
from selector.selection import Selection
from selector.strategies import Strategy
from tests.support import compose, names, quadratic

S, N, D = 3, 5, 2
LEADS = [(), (3,), (2, 3), (2, 1, 3)]

# Estimators whose gradient is not tangent to the simplex. st_identity hands the critic's gradient v on untouched:
# a constant in v stays, and so does what v says about an item that is masked out with -inf.
NOT_ON_THE_SIMPLEX = {"st_identity"}

# What the value of the surrogate is where it is not the mean over independent draws: the expected loss itself, or the
# loss of the one draw among the queries (the others are trials or relaxations).
VALUE_IS_THE_EXPECTED_LOSS = {"exact"}
VALUE_IS_THE_FIRST_LOSS = {"local_expectation", "rebar", "relax"}

# Sum over K noises or N^S queries on a leading dim. torch adds more than four numbers there in an order that depends on
# where in the tensor the sum stands, so that stacked seeds and a seed alone differ in the last bits of the gradient.
# Another layout would cost a copy of the largest tensor; the networks' matmuls round differently anyway.
SUMS_ROUND = {"exact", "gumbel_rao", "reinmax_rao"}

# The items that are left in the tests of masks: S of them, so that choices without replacement remain.
MASKED, ALLOWED = [0, 3], {1, 2, 4}

every_strategy = pytest.mark.parametrize("name", names("strategy"))
Loss = Callable[[Tensor], Tensor]


@dataclass
class Step:
    """One ask, judge, tell, differentiate."""

    selection: Selection
    slots: Tensor
    losses: Tensor
    surrogate: Tensor
    grad: Tensor


@dataclass
class Case:
    """A strategy as its yaml describes it, with its own temperature."""

    name: str
    strategy: Strategy
    tau: float

    def step(
        self,
        logits: Tensor,
        items: Tensor,
        noise: Noise,
        target: Tensor,
        loss: Loss = quadratic,
        tau: float | None = None,
    ) -> Step:
        """Gradient of the summed surrogate; ``logits [*, S, N]``, ``items [*, N, D]``, ``target [*, S]``."""
        leaf = logits.detach().clone().requires_grad_()
        return self.differentiate(leaf, leaf, items, noise, target, loss, tau)

    def differentiate(
        self,
        leaf: Tensor,
        logits: Tensor,
        items: Tensor,
        noise: Noise,
        target: Tensor,
        loss: Loss = quadratic,
        tau: float | None = None,
    ) -> Step:
        """The same where ``logits`` is a function of ``leaf``."""
        tau = self.tau if tau is None else tau
        asked = target if self.strategy.needs_target else None
        selection = self.strategy.select(logits, tau, noise, asked)
        slots = selection.pick(items)
        losses = loss(slots)
        surrogate = self.strategy.surrogate(selection, losses)
        (grad,) = torch.autograd.grad(surrogate.sum(), leaf)
        return Step(selection, slots, losses, surrogate, grad)


def case(name: str, seeds: Sequence[int] = (0,), size: tuple[int, int] = (N, S)) -> Case:
    """Build afresh: strategies may hold state, such as a baseline, for every seed. :func:`quadratic` couples slots."""
    cfg = compose(f"strategy={name}")
    known = {"N": size[0], "S": size[1], "D": D, "seeds": seeds, "separable": False}
    strategy = build(cfg.strategy, "strategy", Strategy, **known)  # type: ignore[type-abstract]
    tau = build(cfg.tau, "tau", Schedule)  # type: ignore[type-abstract]
    return Case(name, strategy, tau(0))


def inputs(lead: tuple[int, ...], dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """logits [*, S, N], items [*, N, D], target [*, S]."""
    noise = Noise(seed, "inputs")
    logits = noise.normal([*lead, S, N], dtype=torch.float64).to(dtype)
    items = noise.uniform([*lead, N, D], dtype=torch.float64).to(dtype)
    return logits, items, noise.integers(N, [*lead, S])


@every_strategy
@pytest.mark.parametrize("lead", LEADS)
def test_any_leading_dims(name: str, lead: tuple[int, ...]) -> None:
    logits, items, target = inputs(lead)
    step = case(name).step(logits, items, Noise(), target)
    M = 0 if step.selection.relaxed is None else len(step.selection.relaxed)
    Q = step.slots.shape[0] - M
    assert Q >= 1
    assert step.slots.shape == (Q + M, *lead, S, D)
    assert step.losses.shape == (Q + M, *lead)
    assert step.surrogate.shape == lead
    assert step.grad.shape == logits.shape
    if step.selection.index is not None:
        assert step.selection.index.shape == (Q, *lead, S)
        assert step.selection.index.dtype == torch.int64
    if step.selection.weights is not None:
        assert step.selection.weights.shape == (Q, *lead, S, N)
    if step.selection.relaxed is not None:
        assert step.selection.relaxed.shape == (M, *lead, S, N)
    if step.selection.log_prob is not None:
        assert step.selection.log_prob.shape == (Q, *lead)
    assert step.grad.isfinite().all()


# What vmap cannot do to them, and why.
NOT_UNDER_VMAP = {
    "relax": "differentiates within the estimator",
    "st_gumbel_sequential": "looks at the data to refuse slots without an item",
    "entmax_st": "the library's functions have no rule for it",
}


@pytest.mark.parametrize("name", [name for name in names("strategy") if name not in NOT_UNDER_VMAP])
def test_vmap_of_a_gradient_is_the_gradient_of_every_list(name: str) -> None:
    """With the same noise for every list, for a stream knows nothing of vmap."""
    logits, items, target = inputs((3,))
    made = case(name)
    made.strategy.eval()  # a state per seed is not one per list

    def objective(logits: Tensor, items: Tensor, target: Tensor) -> Tensor:
        selection = made.strategy.select(logits, made.tau, Noise(7, "vmap"), target)
        return made.strategy.surrogate(selection, quadratic(selection.pick(items)))

    together = torch.func.vmap(torch.func.grad(objective), randomness="same")(logits, items, target)
    for b in range(3):
        leaf = logits[b].clone().requires_grad_()
        (alone,) = torch.autograd.grad(objective(leaf, items[b], target[b]), leaf)
        torch.testing.assert_close(together[b], alone, rtol=1e-9, atol=1e-12)


@every_strategy
def test_leading_dims_are_only_a_shape(name: str) -> None:
    logits, items, target = inputs((6,))
    flat = case(name).step(logits, items, Noise(), target)
    view = (2, 1, 3)
    folded = case(name).step(logits.view(*view, S, N), items.view(*view, N, D), Noise(), target.view(*view, S))
    torch.testing.assert_close(folded.slots.flatten(1, 3), flat.slots, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(folded.grad.flatten(0, 2), flat.grad, rtol=1e-12, atol=1e-12)


@every_strategy
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hard_picks_are_exactly_rows_of_the_items(name: str, dtype: torch.dtype) -> None:
    subject = case(name)
    logits, items, target = inputs((2, 3), dtype)
    items = items * torch.logspace(-15, 15, N, dtype=dtype).unsqueeze(-1)  # a sum of two terms would round
    step = subject.step(logits, items, Noise(), target)
    assert subject.strategy.hard == (step.selection.index is not None)
    for mixture in (step.selection.relaxed, None if subject.strategy.hard else step.selection.weights):
        if mixture is not None:
            assert (mixture >= 0).all()
            torch.testing.assert_close(mixture.sum(-1), torch.ones_like(mixture[..., 0]))
    if step.selection.index is not None:
        for q, picks in enumerate(step.selection.index):
            for place in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(S)).tolist():
                a, b, s = place
                assert torch.equal(step.slots[q, a, b, s], items[a, b, picks[a, b, s]])


@every_strategy
@pytest.mark.parametrize("constant", [-3.0, 0.5, 64.0])
def test_a_constant_added_to_a_row_of_logits_changes_nothing(name: str, constant: float) -> None:
    logits, items, target = inputs((2, 3))
    shift = constant * Noise(1, "shift").integers(3, [2, 3, S]).unsqueeze(-1)  # another one for every row
    plain = case(name).step(logits, items, Noise(), target)
    shifted = case(name).step(logits + shift, items, Noise(), target)
    if plain.selection.index is not None:
        assert torch.equal(shifted.selection.index, plain.selection.index)
    torch.testing.assert_close(shifted.slots, plain.slots, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(shifted.grad, plain.grad, rtol=1e-9, atol=1e-9)


@every_strategy
def test_a_loss_that_is_constant_on_the_simplex_changes_no_gradient(name: str) -> None:
    """c·(Σz − 1) is zero for every choice and every mixture, but has the gradient c with respect to z.

    The items' last feature is 1, so that a slot's last feature is Σz. st_identity is the exception: c reaches its
    logits.
    """
    logits, items, target = inputs((2, 3))
    items = torch.cat([items, torch.ones_like(items[..., :1])], -1)

    def loss(slots: Tensor, c: float) -> Tensor:
        return quadratic(slots[..., :-1]) + c * (slots[..., -1] - 1).sum(-1)

    plain = case(name).step(logits, items, Noise(), target, lambda slots: loss(slots, 0.0))
    added = case(name).step(logits, items, Noise(), target, lambda slots: loss(slots, 10.0))
    if name in NOT_ON_THE_SIMPLEX:
        torch.testing.assert_close(added.grad, plain.grad + 10.0)
    else:
        torch.testing.assert_close(added.grad, plain.grad, rtol=1e-9, atol=1e-9)


@every_strategy
def test_the_gradient_of_a_row_sums_to_zero(name: str) -> None:
    """The other face of invariance: no step moves all logits of a slot together."""
    logits, items, target = inputs((2, 3))
    sums = case(name).step(logits, items, Noise(), target).grad.sum(-1)
    if name in NOT_ON_THE_SIMPLEX:
        assert sums.abs().min() > 1e-3
    else:
        torch.testing.assert_close(sums, torch.zeros_like(sums), rtol=0, atol=1e-9)


@every_strategy
@pytest.mark.parametrize("batch", [1, 7])
def test_stacked_seeds_equal_each_seed_alone_bit_for_bit(name: str, batch: int) -> None:
    seeds = [4, 0, 9]
    together, alone = case(name, seeds), [case(name, [seed]) for seed in seeds]
    noise, noises = SeedNoise(seeds, "strategy"), [SeedNoise([seed], "strategy") for seed in seeds]
    for turn in range(3):  # state, such as a baseline, must stay apart as well
        logits, items, target = inputs((3, batch), torch.float32, seed=turn)
        stacked = together.step(logits, items, noise, target)
        for r, (subject, own) in enumerate(zip(alone, noises, strict=True)):
            one = slice(r, r + 1)
            step = subject.step(logits[one], items[one], own, target[one])
            assert torch.equal(stacked.slots[:, one], step.slots)
            assert torch.equal(stacked.losses[:, one], step.losses)
            # 1e-6 of the largest entry: 8 roundings of float32.
            tolerance = 1e-6 if name in SUMS_ROUND else 0.0
            for ours, theirs in ((stacked.surrogate[one], step.surrogate), (stacked.grad[one], step.grad)):
                allowed = tolerance * float(theirs.detach().abs().max())
                torch.testing.assert_close(ours, theirs, rtol=0, atol=allowed)


@every_strategy
def test_the_same_noise_gives_the_same_picks_and_gradients(name: str) -> None:
    logits, items, target = inputs((2, 3))
    tape = Replay(Noise(7, "strategy"))
    first = case(name).step(logits, items, tape, target)
    again = case(name).step(logits, items, tape.rewind(), target)
    fresh = case(name).step(logits, items, Noise(7, "strategy"), target)
    for step in (again, fresh):
        assert torch.equal(step.slots, first.slots)
        assert torch.equal(step.grad, first.grad)


@every_strategy
def test_only_the_given_noise_is_drawn_from(name: str) -> None:
    logits, items, target = inputs((2, 3))
    before = torch.get_rng_state()
    case(name).step(logits, items, Noise(), target)
    assert torch.equal(torch.get_rng_state(), before)


@every_strategy
def test_masked_items_are_never_chosen_and_get_no_gradient(name: str) -> None:
    subject = case(name)
    logits, items, _ = inputs((2, 3))
    logits[..., MASKED] = -torch.inf
    target = torch.ones(2, 3, S, dtype=torch.int64)
    step = subject.step(logits, items, Noise(), target)
    if step.selection.index is not None:
        assert set(step.selection.index.flatten().tolist()) <= ALLOWED
    for mixture in (step.selection.relaxed, None if subject.strategy.hard else step.selection.weights):
        if mixture is not None:
            assert not mixture[..., MASKED].any()
    assert step.surrogate.isfinite().all()
    assert step.grad.isfinite().all()
    if name not in NOT_ON_THE_SIMPLEX:
        assert not step.grad[..., MASKED].any()


@every_strategy
def test_a_mask_in_front_of_the_logits_stops_every_gradient(name: str) -> None:
    """As a user masks: ``logits.masked_fill(mask, -inf)``. Here st_identity is no exception."""
    subject = case(name)
    logits, items, _ = inputs((2, 3))
    leaf = logits.requires_grad_()
    mask = torch.isin(torch.arange(N), torch.tensor(MASKED))
    target = torch.ones(2, 3, S, dtype=torch.int64)
    step = subject.differentiate(leaf, leaf.masked_fill(mask, -torch.inf), items, Noise(), target)
    assert step.grad.isfinite().all()
    assert not step.grad[..., MASKED].any()


@every_strategy
def test_one_item_that_is_not_masked_is_chosen(name: str) -> None:
    logits, items, _ = inputs((2, 3))
    logits[..., 1:] = -torch.inf
    subject = case(name)
    if subject.strategy.without_replacement:
        with pytest.raises(ValueError, match="some slot has no item left"):
            subject.strategy.select(logits, subject.tau, Noise())
        return
    step = subject.step(logits, items, Noise(), torch.zeros(2, 3, S, dtype=torch.int64))
    assert torch.equal(step.slots, items[..., :1, :].expand(len(step.slots), 2, 3, S, D))
    assert step.grad.isfinite().all()


@every_strategy
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_finite_for_large_logits_and_small_temperatures(
    name: str, dtype: torch.dtype, masked: bool
) -> None:
    """softmax(l/tau) at tau 1e-4 and |l| = 8 overflows if it is computed in float16."""
    logits, items, target = inputs((2, 3), dtype)
    logits = logits.sign() * 8
    if masked:
        logits[..., 0] = -torch.inf
        target = target.clamp(min=1)
    for tau in (1e-4, 1.0):
        step = case(name).step(logits, items, Noise(), target, tau=tau)
        assert step.slots.isfinite().all()
        assert step.grad.dtype == dtype
        assert step.grad.isfinite().all()


@every_strategy
def test_gradients_are_finite_for_logits_far_apart(name: str) -> None:
    logits, items, target = inputs((2, 3), torch.float32)
    for size in (300.0, 1e4):
        step = case(name).step(logits.sign() * size, items, Noise(), target)
        assert step.slots.isfinite().all()
        assert step.grad.isfinite().all()


@every_strategy
def test_the_value_of_the_surrogate_is_the_true_loss(name: str) -> None:
    logits, items, target = inputs((2, 3))
    step = case(name).step(logits, items, Noise(), target)
    torch.testing.assert_close(step.losses, quadratic(step.slots), rtol=0, atol=0)
    if name in VALUE_IS_THE_EXPECTED_LOSS:
        pi = logits.softmax(-1)
        expected = torch.zeros(2, 3, dtype=logits.dtype)
        for choice in product(range(N), repeat=S):
            p = torch.stack([pi[..., s, i] for s, i in enumerate(choice)]).prod(0)
            expected += p * quadratic(items[..., list(choice), :].unsqueeze(0))[0]
    elif name in VALUE_IS_THE_FIRST_LOSS:
        expected = step.losses[0]
    else:
        expected = step.losses.mean(0)
    torch.testing.assert_close(step.surrogate, expected, rtol=1e-12, atol=1e-12)


@every_strategy
def test_strided_logits_give_the_same_gradient(name: str) -> None:
    logits, items, target = inputs((2, 3))
    plain = case(name).step(logits, items, Noise(), target)
    strided = logits.transpose(-1, -2).contiguous().transpose(-1, -2)
    leaf = strided.requires_grad_()
    assert not leaf.is_contiguous()
    step = case(name).differentiate(leaf, leaf, items, Noise(), target)
    torch.testing.assert_close(step.grad, plain.grad, rtol=1e-12, atol=1e-12)


@every_strategy
def test_a_single_item_leaves_nothing_to_learn(name: str) -> None:
    subject = case(name, size=(1, 1))
    step = subject.step(torch.zeros(2, 1, 1), torch.ones(2, 1, D), Noise(), torch.zeros(2, 1, dtype=torch.int64))
    assert torch.equal(step.slots, torch.ones(len(step.slots), 2, 1, D))
    if name not in NOT_ON_THE_SIMPLEX:
        assert not step.grad.any()


@every_strategy
def test_a_step_changes_the_logits_somewhere(name: str) -> None:
    """An estimator without any gradient would pass most of the above."""
    subject = case(name)
    noise = Noise(0, "strategy")
    total = torch.zeros(())
    for turn in range(20):
        logits, items, target = inputs((64,), seed=turn)
        total = total + subject.step(logits, items, noise, target, tau=1.0).grad.abs().sum()
    assert total > 0


@every_strategy
def test_it_trains_with_the_default_problem(name: str) -> None:
    """The whole experiment builds, and one batch passes through the problem's own critic and oracle."""
    experiment = build_experiment(compose(f"strategy={name}", "network.width=8", "seed=2", "seeds=2"))
    problem, strategy = experiment.problem, experiment.strategy
    batch: Batch = problem.sample((2, 4), SeedNoise((2, 3), "items"))
    logits = experiment.network(batch)
    target = problem.oracle(batch).index if strategy.needs_target else None
    selection = strategy.select(logits, experiment.tau(0), SeedNoise((2, 3), "strategy"), target)
    losses = problem.critic(selection.pick(batch.items), batch)
    strategy.surrogate(selection, losses).mean(-1).sum().backward()
    grads = [p.grad for p in experiment.network.parameters()]
    assert all(g is not None and g.isfinite().all() for g in grads)
    assert any(g is not None and g.any() for g in grads)


def test_each_named_exception_is_a_strategy() -> None:
    named = NOT_ON_THE_SIMPLEX | SUMS_ROUND | VALUE_IS_THE_EXPECTED_LOSS | VALUE_IS_THE_FIRST_LOSS
    assert set(names("strategy")) >= named
