"""Straight-through with a sparse softmax."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from selector.errors import InvalidInput
from selector.noise import Noise
from selector.selection import Selection
from selector.strategies.base import Strategy, checked, draw


class EntmaxST(Strategy):
    """D ~ p = alpha-entmax(l/tau) forward, the Jacobian of p backward: J_alpha(l/tau)^T v(D) / tau.

    alpha-entmax is the softmax at alpha → 1 and the sparsemax at alpha = 2; in between it gives items far below the
    best one a probability of exactly 0. What has none is never drawn and gets no gradient: the choice narrows early.
    With respect to E_{D~softmax(l)}[L(D)] biased. With respect to E_{D~p}[L(D)] exact for linear L. One critic call.
    Recommended tau: 1.

    Args:
        alpha: > 1.

    Raises:
        InvalidInput: when ``alpha <= 1``, or the library ``entmax`` is missing.

    References:
        Peters, Niculae, Martins, 2019, "Sparse sequence-to-sequence models", arXiv 1905.05702.
    """

    def __init__(self, alpha: float = 1.5) -> None:
        super().__init__()
        if not 1 < alpha < float("inf"):
            raise InvalidInput("alpha", alpha, "must be a finite number > 1 (1 is the softmax: strategy=st_sampled)")
        self.alpha = alpha
        self._entmax = _load(alpha)

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        logits = checked(logits, tau)
        scores = (logits - logits.detach().amax(-1, keepdim=True)) / tau
        # Entries below −1/(alpha − 1) are off the support. Clamping them changes nothing, and spares the library −inf
        # and numbers so large that its thresholds round away; clamp's gradient there is 0, as it should be.
        p: Tensor = self._entmax(scores.clamp(min=-2 / (self.alpha - 1)), dim=-1)
        return Selection(index=draw(p.detach().log(), noise).unsqueeze(0), weights=p.unsqueeze(0))


def _load(alpha: float) -> Callable[..., Tensor]:
    """The library's function for this alpha: two have an exact algorithm, for others it bisects."""
    try:
        import entmax
    except ImportError:
        raise InvalidInput("", "entmax_st", "needs the library entmax: pip install 'selector[entmax]'") from None
    exact: dict[float, Any] = {1.5: entmax.entmax15, 2.0: entmax.sparsemax}
    if alpha in exact:
        found: Callable[..., Tensor] = exact[alpha]
        return found
    return lambda scores, dim: entmax.entmax_bisect(scores, alpha=alpha, dim=dim)
