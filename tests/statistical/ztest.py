"""One test for "the mean of these draws is that tensor", and what the statistical tests are made of.

The failure rate is declared, not hoped for: were every claim true, the chance that any of the comparisons of the whole
suite fails at fresh seeds is below ``FAILURE_RATE``. (Seeds are fixed, so it either fails always or never.) And a test
that passes says something: it must be able to see a bias of the stated ``resolution``.

Shape legend: K draws, stacked on a leading dim · Q critic queries · S slots · N items · D features · Z = N^S.
"""

from collections.abc import Callable, Sequence

import torch
from scipy.stats import norm
from torch import Tensor

from selector.noise import Noise
from selector.strategies import Strategy

FAILURE_RATE = 1e-3
COMPARISONS = 200  # at most so many calls of `compare` in this folder; each gets an equal share of the failure rate

S, N, D = 3, 4, 2
Loss = Callable[[Tensor], Tensor]


class Comparison:
    """max |z| over coordinates against its Bonferroni threshold.

    Args:
        samples: ``[K, …]``, independent along dim 0.
        expected: ``[…]``, or ``[K', …]`` independent samples whose mean is compared.
    """

    def __init__(self, samples: Tensor, expected: Tensor) -> None:
        samples = samples.flatten(1)
        mean, variance = samples.mean(0), samples.var(0) / len(samples)
        if expected.numel() > mean.numel():
            expected = expected.flatten(1)
            variance = variance + expected.var(0) / len(expected)
            expected = expected.mean(0)
        expected = expected.flatten()
        scale = expected.abs().max().clamp(min=1e-12)
        # Coordinates without variance (masked items, exact estimators) must agree to rounding.
        error = variance.sqrt() + 1e-9 * scale
        self.z = float(((mean - expected).abs() / error).max())
        self.threshold = float(norm.isf(FAILURE_RATE / COMPARISONS / mean.numel() / 2))
        self.resolution = float(2 * self.threshold * error.max() / scale)

    @property
    def rejected(self) -> bool:
        return self.z > self.threshold


def assert_mean(samples: Tensor, expected: Tensor, resolution: float = 0.15) -> None:
    """The mean of ``samples`` is ``expected``; a bias of ``resolution``·max|expected| would very likely be found."""
    found = Comparison(samples, expected)
    assert found.resolution <= resolution, f"can only resolve {found.resolution:.3f}: more draws are needed"
    assert not found.rejected, f"max |z| = {found.z:.2f} > {found.threshold:.2f}"


# ---- problems -----------------------------------------------------------------------------------------------------


def random(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers in float64."""
    return Noise(seed, "test").normal(shape, dtype=torch.float64)


LOGITS = random(S, N, seed=1)
MASKED = LOGITS.clone().index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(-torch.inf, dtype=torch.float64))
ITEMS = random(N, D, seed=2)
_A, _B = random(S, D, seed=3), random(S * D, 8, seed=4)
_w = random(8, seed=5)


def linear(slots: Tensor) -> Tensor:
    return (slots * _A).sum((-1, -2)) + 1.0


def quadratic(slots: Tensor) -> Tensor:
    """Couples the slots: the square of a sum over them, and a product of two."""
    return ((slots * _A).sum((-1, -2)) - 0.5).square() + (slots[..., 0, :] * slots[..., 1, :]).sum(-1)


def cubic(slots: Tensor) -> Tensor:
    return (0.5 * (slots * _A).sum((-1, -2)) - 0.5) ** 3


def mlp(slots: Tensor) -> Tensor:
    return torch.tanh(slots.flatten(-2) @ _B) @ _w


LOSSES: dict[str, Loss] = {loss.__name__: loss for loss in (linear, quadratic, cubic, mlp)}


# ---- gradients: enumerated, drawn, and enumerated over the draw ---------------------------------------------------


def every_choice(slots: int = S) -> Tensor:
    """All choices ``[Z, S]``."""
    return torch.cartesian_prod(*[torch.arange(N)] * slots).view(-1, slots)


def probability(p: Tensor) -> Tensor:
    """The probability of every choice: ``[S, N] -> [Z]``."""
    choices = every_choice(len(p))
    return torch.stack([p[s, choices[:, s]] for s in range(len(p))]).prod(0)


def enumerated(loss: Loss, logits: Tensor = LOGITS, law: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """∇ Σ_z p(z) L(z) with p = ``law``(logits), softmax by default: ``[S, N]``."""
    leaf = logits.clone().requires_grad_()
    p = leaf.softmax(-1) if law is None else law(leaf)
    expected = (probability(p) * loss(ITEMS[every_choice(len(logits))])).sum()
    return torch.autograd.grad(expected, leaf)[0]


def gradients(strategy: Strategy, loss: Loss, logits: Tensor, noise: Noise, tau: float = 1.0) -> Tensor:
    """One gradient for every stacked copy of the logits: ``[K, S, N] -> [K, S, N]``."""
    leaf = logits.clone().requires_grad_()
    selection = strategy.select(leaf, tau, noise)
    losses = loss(selection.pick(ITEMS.expand(len(leaf), N, D)))
    strategy.surrogate(selection, losses).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def draws(
    strategy: Strategy, loss: Loss, K: int = 2**17, tau: float = 1.0, logits: Tensor = LOGITS, seed: int = 0
) -> Tensor:
    """K independent gradients ``[K, S, N]``, in one pass."""
    return gradients(strategy, loss, logits.expand(K, *logits.shape), Noise(seed, "draws"), tau)


class Forced(Noise):
    """Gumbel noise with which the argmax of l + G is a given choice: the draw is enumerated instead of drawn."""

    def __init__(self, index: Tensor) -> None:
        super().__init__()
        self._G = 1e9 * (index.unsqueeze(-1) == torch.arange(N)).double()

    def gumbel(self, shape: Sequence[int], *, draws: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
        assert draws is None
        assert tuple(shape) == tuple(self._G.shape)
        return self._G.to(dtype)


def mean_over_draws(strategy: Strategy, loss: Loss, tau: float = 1.0, logits: Tensor = LOGITS) -> Tensor:
    """E of an estimator whose only randomness is the draw D ~ softmax(l), exactly: ``[S, N]``."""
    choices = every_choice(len(logits))
    each = gradients(strategy, loss, logits.expand(len(choices), *logits.shape), Forced(choices), tau)
    return (probability(logits.softmax(-1))[:, None, None] * each).sum(0)


def trapezoid(loss: Loss, logits: Tensor = LOGITS) -> Tensor:
    """Slot by slot, E over the other slots of Σ_k pi_i pi_k ½(∇L(e_i) + ∇L(e_k))·(e_i − e_k): ``[S, N]``."""
    slots = len(logits)
    choices = every_choice(slots)
    filled = ITEMS[choices].requires_grad_()
    (slope,) = torch.autograd.grad(loss(filled).sum(), filled)
    v = slope @ ITEMS.T  # [Z, S, N]: ∇L at every choice, with respect to every slot's one-hot
    pi, p = logits.softmax(-1), probability(logits.softmax(-1))
    total = torch.zeros_like(logits)
    for s in range(slots):
        # Over the other slots' choices: V[k, i] = E[∂L/∂z_si at z_s = e_k].
        V = torch.stack(
            [((p[choices[:, s] == k] / pi[s, k])[:, None] * v[choices[:, s] == k, s]).sum(0) for k in range(N)]
        )
        at_winner = V.diagonal()
        slopes = at_winner[:, None] - V + V.T - at_winner[None, :]  # [i, k]
        total[s] = pi[s] * (0.5 * slopes * pi[s][None, :]).sum(1)
    return total
