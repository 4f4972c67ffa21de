"""REINFORCE with a control variate made of relaxations: unbiased, and the critic's gradient lowers the variance.

Notation: z = log pi + G with Gumbel noise G, D = argmax z the draw, z̃ the same given D (drawn afresh). For any
differentiable c, [L(D) − c(z̃)]·∇log p(D) + ∇c(z) − ∇c(z̃) is unbiased: what is subtracted in front has the
expectation of what is added behind.
Shape legend: R seeds trained side by side · `*` any leading dims · S slots · N items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from selector.errors import check_at_least, check_finite, check_positive
from selector.networks.base import StackedMLP
from selector.noise import Noise, SeedNoise
from selector.selection import Selection
from selector.strategies.base import Strategy, attach, attach_gradient, checked, per_seed, softmax
from selector.strategies.gumbel_rao import condition

# Stands for −inf in relaxed logits: far enough that the softmax is an exact 0, yet 0·z stays 0 when the gradient with
# respect to the temperature is taken.
_FAR = -1e20


class Rebar(Strategy):
    """D ~ softmax(l), with the control variate c(z) = eta·L(softmax(z/lambda)).

    Gradient: [L(D) − c(z̃)]·∇log p(D) + ∇c(z) − ∇c(z̃). Unbiased for any eta, lambda and any L that is differentiable
    between the items; how much variance goes depends on how well L's mixtures predict L's choices. Three critic calls.
    Recommended tau (which is lambda): .5.

    Args:
        eta: weight of the control variate; 0 is REINFORCE without a baseline.
        lambd: temperature of the relaxations, > 0; None: the schedule's tau.

    Raises:
        InvalidInput: when ``lambd`` is not > 0, or ``eta`` is not finite.

    References:
        Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein, 2017, arXiv 1703.07370. Here eta and lambda are not learned;
        :class:`Relax` learns them.
    """

    def __init__(self, eta: float = 1.0, lambd: float | None = None) -> None:
        super().__init__()
        check_positive(lambd=lambd)
        check_finite(eta=eta)
        self.eta, self.lambd = eta, lambd

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        logits = checked(logits, tau)
        index, z, log_prob = relaxations(logits, noise)
        relaxed = softmax(z, tau if self.lambd is None else self.lambd)
        return Selection(index=index, relaxed=relaxed, log_prob=log_prob)

    def surrogate(self, selection: Selection, losses: Tensor) -> Tensor:
        assert selection.log_prob is not None
        loss, c, c_given_draw = losses[0].detach(), self.eta * losses[1], self.eta * losses[2]
        score = (loss - c_given_draw).detach() * selection.log_prob.squeeze(0)
        return attach(loss, score + c - c_given_draw)


@dataclass(frozen=True)
class _RelaxSelection(Selection):
    """Also keeps ``logits``, which the estimator itself is differentiated from, and ``learned [2, *]``, r of both."""

    logits: Tensor | None = None
    learned: Tensor | None = None


class Relax(Strategy):
    """REBAR with a learned control variate, c(z) = eta·L(y) + r(y), y = softmax(z/lambda).

    Gradient as for :class:`Rebar`: unbiased whatever eta, lambda and the network r are, for they do not depend on the
    draw. All three are learned, one set for every seed, by descending the estimator's own variance (the gradient of
    E‖g‖², as E[g] does not depend on them) in the same backward pass; this never touches the selector's gradient. r
    sees y, not the items, so on fresh lists it can learn little more than a baseline. Three critic calls, the gradient
    of two of them taken twice: the critic must be twice differentiable. lambda is learned, so tau is not used.

    Args:
        N: items in a list.
        S: slots.
        seeds: the R seeds trained side by side.
        eta: weight of the critic in the control variate, at the start.
        lambd: temperature of the relaxations at the start, > 0.
        width: hidden units of r, a network with one hidden layer, >= 1.
        lr: learning rate of eta, log lambda and r.

    Raises:
        InvalidInput: for values out of range.

    References:
        Grathwohl, Choi, Wu, Roeder, Duvenaud, 2017, arXiv 1711.00123.
    """

    def __init__(
        self,
        N: int,
        S: int,
        seeds: Sequence[int] = (0,),
        eta: float = 1.0,
        lambd: float = 0.5,
        width: int = 32,
        lr: float = 1e-3,
    ) -> None:
        super().__init__()
        check_positive(lambd=lambd, lr=lr)
        check_finite(eta=eta)
        check_at_least(1, N=N, S=S, width=width)
        self.seeds, self.lr = len(seeds), lr
        self.eta = nn.Parameter(torch.full((self.seeds,), float(eta)))
        self.log_lambd = nn.Parameter(torch.full((self.seeds,), float(lambd)).log())
        # r starts at 0: the first step is REBAR's.
        self.r = StackedMLP(
            SeedNoise(seeds, "control variate"),
            self.seeds,
            S * N,
            1,
            width=width,
            depth=1,
            activation="tanh",
            norm="none",
            last_gain=0.0,
        )

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        logits = checked(logits, tau)
        index, z, log_prob = relaxations(logits, noise)
        z = z.clamp(min=_FAR)
        y = (z / per_seed(self.log_lambd.exp(), z[0]).to(z.dtype)).softmax(-1)
        return _RelaxSelection(
            index=index,
            relaxed=y,
            log_prob=log_prob,
            logits=logits,
            learned=torch.stack([self._learned(part) for part in y]),
        )

    def _learned(self, y: Tensor) -> Tensor:
        """r: ``[*, S, N] -> [*]``."""
        rows = y.reshape(len(self.eta), -1, y.shape[-1] * y.shape[-2])
        r: Tensor = self.r(rows.to(self.eta.dtype))
        return r.reshape(y.shape[:-2]).to(y.dtype)

    def surrogate(self, selection: Selection, losses: Tensor) -> Tensor:
        assert isinstance(selection, _RelaxSelection)
        logits, log_prob, learned = selection.logits, selection.log_prob, selection.learned
        assert logits is not None
        assert log_prob is not None
        assert learned is not None
        loss = losses[0].detach()
        if not logits.requires_grad:
            return loss
        c, c_given_draw = per_seed(self.eta, loss) * losses[1:] + learned
        # The estimator as a tensor, differentiable in the control variate's parameters alone.
        (score,) = torch.autograd.grad(log_prob.sum(), logits, retain_graph=True)
        (path,) = torch.autograd.grad((c - c_given_draw).sum(), logits, create_graph=True)
        g = (loss - c_given_draw)[..., None, None] * score + path
        # Not differentiated again on its way to the selector: c's own parameters must not see this gradient.
        objective = attach_gradient(loss, logits, g.detach())
        if self.training:
            objective = objective + per_seed(self._variance(g), loss)
        return objective

    def _variance(self, g: Tensor) -> Tensor:
        """``[R]``: zeros, whose gradient is that of E‖g‖² with respect to each seed's eta, lambda and r."""
        parameters = list(self.parameters())
        square = g.square().sum((-1, -2)).reshape(len(self.eta), -1).mean(1).sum()
        gradients = torch.autograd.grad(square, parameters, retain_graph=True)
        term = sum((d * p).reshape(len(p), -1).sum(1) for d, p in zip(gradients, parameters, strict=True))
        assert isinstance(term, Tensor)
        return term - term.detach()


def relaxations(logits: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
    """A draw, its relaxation, and a relaxation given the draw.

    Args:
        logits: ``[*, S, N]``.
        noise: the random stream.

    Returns:
        D ``[1, *, S]``; z and z̃ stacked to ``[2, *, S, N]``, and log p(D) ``[1, *]``, differentiable in ``logits``.
    """
    log_pi = logits.log_softmax(-1)
    G = noise.gumbel(logits.shape, draws=2, dtype=logits.dtype)
    z = log_pi + G[0]
    index = z.argmax(-1)
    log_prob = log_pi.gather(-1, index.unsqueeze(-1)).squeeze(-1).sum(-1)
    return index.unsqueeze(0), torch.stack([z, condition(log_pi, index, G[1])]), log_prob.unsqueeze(0)
