"""The picking op, forward and backward: every strategy against its plain form.

Shape legend: B batch · S slots · N items · D features.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from selector import strategies
from selector.bench.measure import Row, in_turn, peak_memory
from selector.bench.plain import PLAIN
from selector.noise import Noise
from selector.strategies import Strategy

SHAPES = [(256, 4, 8, 1), (64, 64, 256, 16), (16, 64, 4096, 16)]
TAU = 0.7
# What st_gumbel should reach; no other strategy should be slower than its plain form.
TIME = dict(zip(SHAPES, (0.75, 0.40, 0.40), strict=True))
MEMORY: dict[tuple[int, ...], float] = dict.fromkeys(SHAPES[1:], 0.5)
# Its queries are S·N losses of whole selections: at the larger shapes they take tens of GiB however they are written.
SMALL_ONLY = ("local_expectation",)

OURS: dict[str, Callable[[], Strategy]] = {
    "st_gumbel": strategies.STGumbel,
    "softmax": strategies.Softmax,
    "gumbel_softmax": strategies.GumbelSoftmax,
    "st_identity": strategies.STIdentity,
    "st_argmax": strategies.STArgmax,
    "st_sampled": strategies.STSampled,
    "gst": strategies.GST,
    "gumbel_rao": strategies.GumbelRao,
    "reinmax": strategies.ReinMax,
    "reinforce": strategies.Reinforce,
    "rloo": strategies.RLOO,
    "rebar": strategies.Rebar,
    "local_expectation": strategies.LocalExpectation,
    "st_gumbel_sequential": strategies.STGumbelSequential,
    "entmax_st": strategies.EntmaxST,
}


def square(slots: Tensor) -> Tensor:
    """A cheap loss, so that the op is what is measured: ``[*, S, D] -> [*]``."""
    return slots.square().sum((-1, -2))


def steps(
    name: str, shape: tuple[int, int, int, int], device: str
) -> tuple[Callable[[], object], Callable[[], object]]:
    """One forward and backward pass of a strategy, ours and by hand."""
    B, S, N, D = shape
    draw = Noise(0, "bench", device)
    logits = draw.normal([B, S, N]).requires_grad_()
    items, noise = draw.normal([B, N, D]), Noise(1, "bench", device)
    strategy, plain = OURS[name]().to(device), PLAIN[name]

    def ours() -> object:
        selection = strategy.select(logits, TAU, noise)
        objective = strategy.surrogate(selection, square(selection.pick(items))).mean()
        return torch.autograd.grad(objective, logits)

    def theirs() -> object:
        return torch.autograd.grad(plain(logits, items, square, TAU), logits)

    return ours, theirs


def rows(device: str) -> Iterator[Row]:
    """Time for every strategy; peak memory for st_gumbel."""
    for shape in SHAPES:
        for name in OURS:
            if (name in SMALL_ONLY and shape != SHAPES[0]) or (name == "entmax_st" and not _has_entmax()):
                continue
            ours, theirs = steps(name, shape, device)
            target = TIME[shape] if name == "st_gumbel" else 1.0
            yield Row.of(f"picking time, {name}", _case(shape), in_turn(ours, theirs, device), target)
            if name == "st_gumbel":
                share = peak_memory(ours, device) / peak_memory(theirs, device)
                yield Row.of(f"picking peak memory, {name}", _case(shape), [share], MEMORY.get(shape))


def _case(shape: tuple[int, ...]) -> str:
    return "B {} S {} N {} D {}".format(*shape)


def _has_entmax() -> bool:
    try:
        import entmax  # noqa: F401 - is it there?
    except ImportError:
        return False
    return True
