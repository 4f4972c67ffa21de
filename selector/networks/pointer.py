"""A network for sets: scores each item against each slot."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from selector.batch import Batch
from selector.networks.base import Network, StackedMLP


class Pointer(Network):
    """Logit = ⟨query of the slot, key of the item⟩ / √H, both aware of the whole list.

    An item's key comes from an MLP over (item, mean embedding of the allowed items, context of the list); a slot's
    query is learned and shifted by the same two. Permuting the items permutes the logits; any N can be read at run
    time. The logits are one matmul: nothing of size B·S·N·H is ever made.

    Args:
        N: items in a list (for training; other lengths can be read).
        S: slots.
        D: features of an item.
        seeds: the R seeds trained side by side.
        width: hidden units of a layer, and the size H of keys and queries.
        depth: hidden layers of each MLP.
        activation: relu, gelu, silu or tanh.
        norm: none, or layer.
        C: features of a list as a whole.

    References:
        Vinyals, Fortunato, Jaitly, 2015, "Pointer networks"; Zaheer et al., 2017, "Deep sets" (the mean context).
    """

    any_N = True

    def __init__(
        self,
        N: int,
        S: int,
        D: int = 1,
        seeds: Sequence[int] = (0,),
        width: int = 64,
        depth: int = 2,
        activation: str = "relu",
        norm: str = "none",
        C: int = 0,
    ) -> None:
        super().__init__(N, S, D, seeds, C)
        R, noise = len(self.seeds), self.init_noise()

        def mlp(inputs: int, last_gain: float) -> StackedMLP:
            return StackedMLP(
                noise,
                R,
                inputs,
                width,
                width=width,
                depth=depth,
                activation=activation,
                norm=norm,
                last_gain=last_gain,
            )

        self.embed = mlp(D, last_gain=1.0)
        self.key = mlp(D + width + C, last_gain=1.0)
        self.shift = mlp(width + C, last_gain=0.01)
        self.query = nn.Parameter(noise.normal([R, 1, S, width]))
        self.scale = 0.1 / width**0.5  # 0.1: initial logits near zero

    def forward(self, batch: Batch) -> Tensor:
        items = batch.items
        R, B, N, _ = items.shape
        flat = items.flatten(1, 2)  # [R, B·N, D]
        embedded = self.embed(flat).unflatten(1, (B, N))  # [R, B, N, H]
        context = self.with_context(mean_over(embedded, batch.allowed), batch)  # [R, B, H + C]
        with_context = torch.cat([items, context.unsqueeze(2).expand(R, B, N, -1)], -1)
        key = self.key(with_context.flatten(1, 2)).unflatten(1, (B, N))  # [R, B, N, H]
        query = self.query + self.shift(context).unsqueeze(2)  # [R, B, S, H]
        logits: Tensor = self.scale * (query @ key.transpose(-1, -2))
        return logits


def mean_over(items: Tensor, allowed: Tensor | None) -> Tensor:
    """The mean of the allowed items: ``[*, N, H] -> [*, H]``; ``allowed`` is ``[*, N]``, None is all."""
    if allowed is None:
        return items.mean(-2)
    weights = allowed.to(items.dtype).unsqueeze(-1)
    return (items * weights).sum(-2) / weights.sum(-2).clamp(min=1)
