"""The "if we could enumerate" baseline: no estimator at all."""

from typing import ClassVar

from torch import Tensor

from selector.noise import Noise
from selector.selection import Selection
from selector.strategies.base import Strategy, attach, checked


class Supervised(Strategy):
    """Cross-entropy to the oracle's items: gradient Σ_s (softmax(l_s/tau) − onehot(target_s)) / tau.

    Only where the oracle is exact. It minimises another loss than the critic's, and its value is the critic's loss of
    the argmax, so that its curves compare with those of the other strategies. One critic call. Recommended tau: 1.
    """

    needs_target: ClassVar[bool] = True
    needs_gradient: ClassVar[bool] = False

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        if target is None:
            raise ValueError("strategy=supervised needs the oracle's items as target")
        logits = checked(logits, tau)
        log_pi = (logits / tau).log_softmax(-1).gather(-1, target.unsqueeze(-1)).squeeze(-1).sum(-1)
        return Selection(index=logits.argmax(-1).unsqueeze(0), log_prob=log_pi.unsqueeze(0))

    def surrogate(self, selection: Selection, losses: Tensor) -> Tensor:
        assert selection.log_prob is not None
        return attach(losses.mean(0), -selection.log_prob.mean(0))
