"""ReinMax: a straight-through estimator that is right to second order."""

from torch import Tensor

from selector.noise import Noise
from selector.selection import Selection
from selector.strategies.base import Strategy, checked, draw, one_hot, through_softmax


class ReinMax(Strategy):
    """D ~ pi = softmax(l) forward, 2·J((pi_tau + D)/2)^T v − ½·J(pi)^T v backward, with pi_tau = softmax(l/tau).

    Heun's method: at tau 1 the mean of one slot's estimator is Σ_k pi_i pi_k ½(∇L(e_i) + ∇L(e_k))·(e_i − e_k), the
    trapezoid rule for the exact gradient's L(e_i) − L(e_k). Unbiased at tau 1 for linear and quadratic L, also where
    L couples the slots; biased for others, and at other tau. One critic call. Recommended tau: 1, or a little above
    where the variance hurts.

    References:
        Liu, Dong, Liu, Yu, Gao, 2023, "Bridging discrete and backpropagation: straight-through and beyond",
        arXiv 2304.08612. Their temperature changes pi_tau but brings no factor 1/tau; neither does it here.
    """

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        logits = checked(logits, tau)
        index = draw(logits, noise)
        midpoint = ((logits.detach() / tau).softmax(-1) + one_hot(index, logits.shape[-1])) / 2
        weights = 2 * through_softmax(logits, midpoint) - logits.softmax(-1) / 2
        return Selection(index=index.unsqueeze(0), weights=weights.unsqueeze(0))
