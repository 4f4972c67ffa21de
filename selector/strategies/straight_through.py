"""Straight-through estimators: an exact item forward, the gradient of a relaxation backward.

Notation: l logits, v = dL/dz at the filled slots (as a gradient with respect to the one-hot choice), J(p)^T v =
p·(v − ⟨p, v⟩) the softmax Jacobian. All of them cost one critic call.
"""

from torch import Tensor

from selector.noise import Noise
from selector.selection import Selection
from selector.strategies.base import Strategy, wide


class STIdentity(Strategy):
    """argmax forward, the identity backward: the gradient v reaches the logits untouched.

    Biased. Not invariant to a constant added to the loss gradient: adding c·Σz to L, which changes no choice, adds c
    to every logit's gradient, so the logits may drift without bound. tau is not used.

    References:
        Bengio, Léonard, Courville, 2013, arXiv 1308.3432.
    """

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        logits = wide(logits)
        return Selection(index=logits.argmax(-1).unsqueeze(0), weights=logits.unsqueeze(0))


class STArgmax(Strategy):
    """argmax forward, softmax(l/tau) backward: J(softmax(l/tau))^T v / tau.

    Biased, and the reason why this project exists: the gradient is taken at the winner only, so it says whether the
    winner is too large or too small but never compares items; every winner is pushed down in turn and the logits
    collapse to a tie. Recommended tau: .6.

    References:
        Bengio, Léonard, Courville, 2013, arXiv 1308.3432; the question that started this project.
    """

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        logits = wide(logits)
        return Selection(index=logits.argmax(-1).unsqueeze(0), weights=(logits / tau).softmax(-1).unsqueeze(0))


class STSampled(Strategy):
    """D ~ softmax(l) forward, softmax(l/tau) backward: J(softmax(l/tau))^T v(D) / tau.

    Noise in the forward pass alone. Unbiased for linear L at tau 1; on a quadratic it is the gradient of the softmax
    relaxation. Recommended tau: 1.

    References:
        Bengio, Léonard, Courville, 2013, arXiv 1308.3432.
    """

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        logits = wide(logits)
        # Gumbel-max: the argmax of l + G is a draw of softmax(l), without a cumulative sum that rounds.
        drawn = (logits.detach() + noise.gumbel(logits.shape, dtype=logits.dtype)).argmax(-1)
        return Selection(index=drawn.unsqueeze(0), weights=(logits / tau).softmax(-1).unsqueeze(0))


class STGumbel(Strategy):
    """argmax(l + G) forward, softmax((l + G)/tau) backward, with the same G: J(y)^T v(D) / tau.

    Biased (first order; the bias falls to second order as tau goes to 0 while the variance diverges), also for linear
    L. The covariance between the drawn winner and the drawn weights is what compares items with each other, which
    :class:`STArgmax` never does. Recommended tau: annealed, 2 to .5.

    References:
        Jang, Gu, Poole, 2016, arXiv 1611.01144 (straight-through Gumbel-softmax).
    """

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        scores = wide(logits) + noise.gumbel(logits.shape, dtype=logits.dtype)
        return Selection(index=scores.argmax(-1).unsqueeze(0), weights=(scores / tau).softmax(-1).unsqueeze(0))
