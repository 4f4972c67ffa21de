"""A network for sets whose slots agree with each other: attention over items and slots."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from selector.batch import Batch
from selector.errors import InvalidInput, check_at_least, check_choice
from selector.networks.base import ACTIVATIONS, Network, StackedLayerNorm, StackedLinear, StackedMLP
from selector.noise import SeedNoise

_EXPANSION = 4  # hidden units of a block's feed-forward part per unit of width: the usual choice


class SetTransformer(Network):
    """Logit = ⟨state of the slot, key of the item⟩ / √H; in every block the slots read the items and each other.

    Items are encoded one by one. Every slot starts from a learned query of its own, which is all that tells slots
    apart. A block adds to the states: what the slots find by attention over the items they may choose, what they find
    by attention over all slots, and a feed-forward part. So slots can agree on a choice for a critic that couples
    them, although all logits come out of one pass. The cost grows with S·(N + S), never with N². Permuting the items
    permutes the logits; any N can be read at run time.

    Args:
        N: items in a list (for training; other lengths can be read).
        S: slots.
        D: features of an item.
        seeds: the R seeds trained side by side.
        width: size H of encodings and states.
        depth: blocks.
        heads: attention heads; a divisor of ``width``.
        activation: relu, gelu, silu or tanh.
        C: features of a list as a whole, read with every item.

    Raises:
        InvalidInput: for values out of range.

    References:
        Lee et al., 2019, "Set transformer", arXiv 1810.00825; blocks normalise first (Xiong et al., 2020,
        arXiv 2002.04745). Items do not attend to each other: the slots compare them.
    """

    any_N = True

    def __init__(
        self,
        N: int,
        S: int,
        D: int = 1,
        seeds: Sequence[int] = (0,),
        width: int = 64,
        depth: int = 3,
        heads: int = 8,
        activation: str = "gelu",
        C: int = 0,
    ) -> None:
        super().__init__(N, S, D, seeds, C)
        check_at_least(1, width=width, depth=depth, heads=heads)
        check_choice(ACTIVATIONS, activation=activation)
        if width % heads:
            raise InvalidInput("heads", heads, f"must divide width ({width})")
        R, noise = len(self.seeds), self.init_noise()
        self.heads = heads
        self.encode = StackedMLP(
            noise, R, D + C, width, width=width, depth=2, activation=activation, norm="none", bias=1.0
        )
        self.norm_items = StackedLayerNorm(R, width)
        self.key = StackedLinear(noise, R, width, width, gain=3**0.5, bias=None)
        self.value = StackedLinear(noise, R, width, width, gain=3**0.5, bias=None)
        self.slots = nn.Parameter(noise.normal([R, 1, S, width]))
        self.blocks = nn.ModuleList(
            _Block(noise, R, width, heads, depth, ACTIVATIONS[activation]) for _ in range(depth)
        )
        self.norm_slots = StackedLayerNorm(R, width)
        self.query = StackedLinear(noise, R, width, width, gain=3**0.5)
        self.scale = 0.1 / width**0.5  # 0.1: initial logits near zero

    def forward(self, batch: Batch) -> Tensor:
        R, B, N, _ = batch.items.shape
        features = batch.items
        if self.C:
            context = self.with_context(features.new_empty(R, B, 0), batch)
            features = torch.cat([features, context.unsqueeze(2).expand(R, B, N, self.C)], -1)
        items = self.norm_items(self.encode(features.flatten(1, 2)))  # [R, B·N, H]
        # One key and one value of an item for all blocks: the key is also what the logits are made with.
        key, value = (layer(items).unflatten(1, (B, N)) for layer in (self.key, self.value))
        mask = None if batch.mask is None else batch.mask.expand(R, B, self.S, N).flatten(0, 1).unsqueeze(1)
        found = (_split(key, self.heads), _split(value, self.heads), mask)
        states = self.slots.expand(R, B, self.S, -1)
        for block in self.blocks:
            states = block(states, *found)
        query = self.query(self.norm_slots(states.flatten(1, 2))).unflatten(1, (B, self.S))
        logits: Tensor = self.scale * (query @ key.transpose(-1, -2))
        return logits


class _Block(nn.Module):
    """Slots attend to items, then to slots, then think: ``[R, B, S, H] -> [R, B, S, H]``."""

    def __init__(
        self, noise: SeedNoise, R: int, width: int, heads: int, depth: int, activation: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.heads, self.activation = heads, activation
        self.norms = nn.ModuleList(StackedLayerNorm(R, width) for _ in range(3))
        keep = 3**0.5  # of uniform weights ±√(3/inputs): unit variance in, unit variance out
        add = (3 / depth) ** 0.5  # what all blocks together add to the states is of their own size
        # A bias of the keys would move all scores of a query alike, that of the values all outputs: neither has one.
        self.ask_items = StackedLinear(noise, R, width, width, gain=keep, bias=None)
        self.from_items = StackedLinear(noise, R, width, width, gain=add)
        self.ask_slots = StackedLinear(noise, R, width, 3 * width, gain=keep, bias=None)
        self.from_slots = StackedLinear(noise, R, width, width, gain=add)
        self.wide = StackedLinear(noise, R, width, _EXPANSION * width, gain=6**0.5)
        self.narrow = StackedLinear(noise, R, _EXPANSION * width, width, gain=add)

    def forward(self, states: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        R, B, S, _ = states.shape
        x = states.flatten(1, 2)
        query = self.ask_items(self.norms[0](x)).unflatten(1, (B, S))
        x = x + self.from_items(_attend(_split(query, self.heads), key, value, mask, R))
        query, key, value = self.ask_slots(self.norms[1](x)).unflatten(1, (B, S)).chunk(3, -1)
        key, value = _split(key, self.heads), _split(value, self.heads)
        x = x + self.from_slots(_attend(_split(query, self.heads), key, value, None, R))
        x = x + self.narrow(self.activation(self.wide(self.norms[2](x))))
        out: Tensor = x.view(R, B, S, -1)
        return out


def _split(x: Tensor, heads: int) -> Tensor:
    """``[R, B, T, H] -> [R·B, heads, T, H/heads]``."""
    R, B, T, _ = x.shape
    return x.reshape(R * B, T, heads, -1).transpose(1, 2)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, R: int) -> Tensor:
    """Attention of every head, put together: ``[R, B·S, H]``; ``mask [R·B, 1, S, N]`` is where a slot may look."""
    heads = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    lists, count, S, size = heads.shape
    return heads.transpose(1, 2).reshape(R, lists // R * S, count * size)
