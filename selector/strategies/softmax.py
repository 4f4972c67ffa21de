"""Mixtures: the relaxation itself is what fills the slots."""

from typing import ClassVar

from torch import Tensor

from selector.noise import Noise
from selector.selection import Selection
from selector.strategies.base import Strategy, checked, softmax


class Softmax(Strategy):
    """Slots are filled with the mixture p = softmax(l/tau): the exact gradient of another problem.

    Gradient: J(p)^T v(p) / tau with J(p)^T v = p·(v − ⟨p, v⟩). Its optimum may be a mixture that is worth little once
    it is rounded to one item; at a very low tau p is one-hot and the gradient vanishes.

    Biased for E[L(D)], D ~ softmax(l), except where L is linear (tau 1). One critic call. Recommended tau: 1
    (``strategy=softmax``), or .1 (``strategy=temperature_softmax``; tau.value=1e-5 shows the vanishing gradient).

    References:
        Bridle, 1990, "Probabilistic interpretation of feedforward classification network outputs".
    """

    hard: ClassVar[bool] = False

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        return Selection(weights=softmax(checked(logits, tau), tau).unsqueeze(0))


class GumbelSoftmax(Strategy):
    """Slots are filled with the mixture y = softmax((l + G)/tau), G ~ Gumbel(0, 1): a sample of the Concrete law.

    Gradient: J(y)^T v(y) / tau, the reparametrised gradient of E[L(y)]. Unbiased for that relaxed loss, biased for
    E[L(D)]; the bias falls and the variance grows as tau goes to 0. One critic call. Recommended tau: annealed to
    about .5.

    References:
        Jang, Gu, Poole, 2016, arXiv 1611.01144; Maddison, Mnih, Teh, 2016, arXiv 1611.00712.
    """

    hard: ClassVar[bool] = False

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        scores = checked(logits, tau) + noise.gumbel(logits.shape, dtype=logits.dtype)
        return Selection(weights=softmax(scores, tau).unsqueeze(0))
