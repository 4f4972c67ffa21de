"""The gradient laboratory: bias, variance and direction of an estimator against an unbiased reference.

At given logits l the quantity of interest is the gradient of E[L(D)], D ~ softmax(l), with respect to l. An
estimator's draws g_k have a mean ḡ and a variance; the reference r is that gradient, exact or itself a mean of draws.
‖ḡ − r‖² overstates the squared bias by the sampling noise of both means, by far when draws are few: an unbiased
estimator would look biased. The noise is estimated and subtracted, so what is reported may be negative, and is within
a few of its standard errors of zero for an unbiased estimator. Lists are averaged before anything is divided.

Shape legend: R seeds trained side by side · K draws · L lists · S slots · N items.
"""

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from selector.batch import Batch
from selector.errors import InvalidInput
from selector.noise import Noise
from selector.problems import Problem
from selector.strategies import RLOO, Exact, LocalExpectation, Strategy

# Numbers (K·R·L·Q·max(S·N, S·D)) that one chunk of draws may hold: 64 MiB of float32.
_CHUNK = 2**24
# The same for two draws of local expectation, beyond which it is no candidate for the reference: 1 GiB.
_TOO_LARGE = 2**28
# Rounding of a float32 gradient, relative to its norm: exact estimators computed in two ways differ by less.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Moments:
    """Mean and noise of an estimator's draws.

    Attributes:
        mean: ``[R, L, S, N]`` float64, the mean over draws.
        variance: ``[R, L]`` float64, variance of one draw, summed over the S·N logits; 0 for an exact gradient.
        draws: how many draws the mean is over.
        seconds: time that one draw of all R·L lists took.
    """

    mean: Tensor
    variance: Tensor
    draws: int
    seconds: float

    @property
    def noise(self) -> Tensor:
        """``[R, L]``, the expected squared error of the mean that sampling alone causes."""
        return self.variance / self.draws


@dataclass(frozen=True)
class Reference:
    """An unbiased gradient to compare with, and how it was made: "exact", "local_expectation" or "rloo"."""

    moments: Moments
    kind: str


@dataclass(frozen=True)
class GradientQuality:
    """How good an estimator's gradient is; all relative to the size of the true gradient, one number per seed.

    Attributes:
        bias: ``[R]``, the root of the noise-corrected squared bias, with its sign: an unbiased estimator is around 0.
        z: ``[R]``, the squared bias in units of the standard error that it would have without any bias on these lists
            (at least float32's rounding, which is all that exact estimators show); beyond about 3 it is not noise.
        std: ``[R]``, root of the variance of a single draw.
        cosine: ``[R]``, between the mean gradient and the reference, noise-corrected (may slightly exceed 1).
    """

    bias: Tensor
    z: Tensor
    std: Tensor
    cosine: Tensor


def draw_gradients(
    strategy: Strategy, problem: Problem, batch: Batch, logits: Tensor, tau: float, noise: Noise, draws: int
) -> Moments:
    """Mean and variance of an estimator's gradient over many draws, batched along a leading dim.

    Args:
        strategy: the estimator; put it in evaluation mode if it learns.
        problem: whose critic judges.
        batch: lists with leading dims ``[R, L]``.
        logits: ``[R, L, S, N]``, −inf where masked.
        tau: temperature, > 0.
        noise: a stream of its own, never the training's.
        draws: K >= 2, or 1 for an estimator without noise.
    """
    R, L, S, N = logits.shape
    target = problem.oracle(batch).index if strategy.needs_target else None
    total = torch.zeros_like(logits, dtype=torch.float64)
    squares = torch.zeros(R, L, dtype=torch.float64, device=logits.device)
    done, chunk = 0, 1 if draws == 1 else 2  # the first chunk shows how many queries the strategy asks
    began = time.perf_counter()
    while done < draws:
        K = min(chunk, draws - done)
        leaf = logits.unsqueeze(1).expand(R, K, L, S, N).detach().clone().requires_grad_()
        lists = batch.repeat(K)
        repeated = None if target is None else target.unsqueeze(1).expand(R, K, L, S)
        with torch.enable_grad():
            selection = strategy.select(leaf, tau, noise, repeated)
            losses = problem.critic(selection.pick(lists.items), lists)
            (g,) = torch.autograd.grad(strategy.surrogate(selection, losses).sum(), leaf)
        g = g.double()
        total += g.sum(1)
        squares += g.square().sum((1, 3, 4))
        done += K
        chunk = max(1, _CHUNK // (R * L * len(losses) * S * max(N, problem.D)))
    mean = total / draws
    if draws > 1:
        variance = (squares - draws * mean.square().sum((-1, -2))).clamp(min=0) / (draws - 1)
    else:
        variance = torch.zeros_like(squares)
    return Moments(mean, variance, draws, (time.perf_counter() - began) / draws)


def find_reference(
    problem: Problem, batch: Batch, logits: Tensor, noise: Noise, draws: int, max_exact: int = 4096
) -> Reference:
    """An unbiased gradient at these logits.

    Enumeration where N^S allows it. Elsewhere two unbiased estimators, local expectation and leave-one-out REINFORCE,
    are tried on a few draws, and the one with the smaller product of critic calls and measured variance does the rest.

    Args:
        problem: whose critic judges.
        batch: lists with leading dims ``[R, L]``.
        logits: ``[R, L, S, N]``.
        noise: a stream of its own.
        draws: of the sampled reference.
        max_exact: the largest N^S that is enumerated.
    """
    S, N = logits.shape[-2:]
    if max_exact >= N**S:
        exact = Exact(max_selections=max_exact)
        return Reference(draw_gradients(exact, problem, batch, logits, 1.0, noise, 1), "exact")
    candidates: dict[str, Strategy] = {"local_expectation": LocalExpectation(), "rloo": RLOO(K=16)}
    calls = {"local_expectation": 1 + S * N, "rloo": 16}
    if 2 * calls["local_expectation"] * logits[..., 0].numel() * max(N, problem.D) > _TOO_LARGE:
        del candidates["local_expectation"]
    pilots = {
        name: draw_gradients(strategy, problem, batch, logits, 1.0, noise, min(draws, 16))
        for name, strategy in candidates.items()
    }
    # Cost in critic calls, not in seconds: which reference is taken must not depend on how busy the machine is.
    best = min(pilots, key=lambda name: calls[name] * float(pilots[name].variance.mean()))
    if float(pilots[best].noise.mean()) <= 1e-12 * float(pilots[best].mean.square().sum((-1, -2)).mean()):
        return Reference(pilots[best], best)  # a separable critic: local expectation has no variance at all
    return Reference(draw_gradients(candidates[best], problem, batch, logits, 1.0, noise, draws), best)


def compare(estimate: Moments, reference: Reference) -> GradientQuality:
    """Bias, spread and direction of an estimator's gradient, corrected for the sampling noise of both sides."""
    r = reference.moments
    size = (r.mean.square().sum((-1, -2)) - r.noise).mean(-1)  # [R], squared norm of the true gradient
    excess = (estimate.mean - r.mean).square().sum((-1, -2)) - estimate.noise - r.noise  # [R, L], unbiased for bias²
    squared = excess.mean(-1)
    # Without bias a list's excess is a mean of products of independent draws, with variance 2·tr(Σ²) for Σ the
    # covariance of the difference of both means; tr(Σ²) <= tr(Σ)² errs on the side of noise. Not the spread over lists:
    # that holds the bias itself where it differs between lists, and would hide a large one.
    variance = 2 * (_spread(estimate) + _spread(r)).square().mean(-1) / excess.shape[-1]
    error = (variance + (_ROUNDING**2 * size).square()).sqrt()
    product = (estimate.mean * r.mean).sum((-1, -2)).mean(-1)
    length = (estimate.mean.square().sum((-1, -2)) - estimate.noise).mean(-1)
    return GradientQuality(
        bias=squared.sign() * (squared.abs() / size).sqrt(),
        z=squared / error,
        std=(estimate.variance.mean(-1) / size).sqrt(),
        cosine=product / (length.clamp(min=0) * size).sqrt(),
    )


def _spread(moments: Moments) -> Tensor:
    """``[R, L]``: the noise, for pairs of different draws, of which there are K·(K − 1) instead of K²."""
    return moments.noise * math.sqrt(moments.draws / max(1, moments.draws - 1))


def check_probe(problem: Problem) -> None:
    """Refuse problems for which there is no reference.

    Raises:
        InvalidInput: for choices without replacement: the references draw with replacement.
    """
    if not problem.critic.differentiable:
        raise InvalidInput("probe", problem.critic.title, "is a black box; a probe needs the gradient of the true loss")
    if problem.without_replacement:
        raise InvalidInput("problem.without_replacement", True, "no unbiased gradient is known to compare with")


def probe(
    strategy: Strategy, problem: Problem, batch: Batch, logits: Tensor, tau: float, noise: Noise, draws: int
) -> tuple[GradientQuality, str]:
    """Measure one estimator at one temperature.

    Args:
        strategy: the estimator; measured in evaluation mode, in which it learns nothing.
        problem: whose critic judges.
        batch: lists with leading dims ``[R, L]``.
        logits: ``[R, L, S, N]``, −inf where masked.
        tau: temperature, > 0.
        noise: a stream of its own, never the training's.
        draws: gradients drawn for every list; a sampled reference takes four times as many.

    Returns:
        The quality, and how the reference was made.

    Raises:
        InvalidInput: for a problem without replacement.
    """
    check_probe(problem)
    training = strategy.training
    strategy.eval()
    try:
        reference = find_reference(problem, batch, logits, noise, 4 * draws)
        estimate = draw_gradients(strategy, problem, batch, logits, tau, noise, draws)
    finally:
        strategy.train(training)
    return compare(estimate, reference), reference.kind
