"""Every strategy × dtype × temperature × hostile logits: allowed choices, finite numbers, no gradient where masked.

Shape legend: R seeds · B lists · S slots · N items · D features.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from selector.building import build
from selector.errors import InvalidInput
from selector.noise import SeedNoise
from selector.strategies import Strategy

STRATEGIES = sorted(path for path in (Path(__file__).parents[2] / "configs" / "strategy").glob("*.yaml"))
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
TAUS = [1e-6, 1e-3, 0.1, 1.0, 10.0, 1e6]
R, B, S, N, D = 2, 3, 2, 4, 2


def make(path: Path) -> Strategy:
    node: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(path))  # type: ignore[assignment]
    node.pop("defaults", None)
    strategy: Strategy = build(OmegaConf.create(node), "strategy", Strategy, N=N, S=S, D=D, seeds=range(R))  # type: ignore[type-abstract]
    return strategy


def logit_patterns() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(R, B, S, N, generator=generator)
    item = torch.randint(N, (R, B, S, 1), generator=generator)
    chosen = torch.arange(N) == item
    inf = float("inf")
    return {
        "zero": torch.zeros(R, B, S, N),
        "equal": torch.full((R, B, S, N), 3.0),
        "huge": 1e4 * normal.sign(),
        "one huge": 1e4 * chosen,
        "one masked": normal.masked_fill(chosen, -inf),
        "huge and one masked": (1e4 * normal.sign()).masked_fill(chosen, -inf),
        "all but one masked": normal.masked_fill(~chosen, -inf),
    }


PATTERNS = logit_patterns()


def critic(slots: Tensor) -> Tensor:
    return (slots.sum(-2) - 1.0).square().sum(-1) + (slots - 0.25).square().sum((-1, -2))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("path", STRATEGIES, ids=lambda path: path.stem)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_choices_are_allowed_and_gradients_finite(path: Path, dtype: torch.dtype, pattern: str) -> None:
    items = torch.randn(R, B, N, D, generator=torch.Generator().manual_seed(1)).to(dtype)
    values = PATTERNS[pattern].to(dtype)
    masked = values.isneginf()
    if make(path).without_replacement and pattern == "all but one masked":
        with pytest.raises(ValueError, match="no item left"):  # every slot needs an item of its own
            make(path).select(values, 1.0, SeedNoise(range(R), "strategy"))
        return
    for tau in TAUS:
        strategy, noise = make(path), SeedNoise(range(R), "strategy")
        for _ in range(2):  # the second step has a baseline, and so on
            logits = values.clone().requires_grad_()
            target = logits.argmax(-1) if strategy.needs_target else None
            selection = strategy.select(logits, tau, noise, target)
            case = f"tau={tau}"
            if selection.index is not None:
                chosen = masked.expand(*selection.index.shape, N).gather(-1, selection.index.unsqueeze(-1))
                assert not chosen.any(), f"{case}: a masked item was chosen"
            for mixture in (selection.weights if selection.index is None else None, selection.relaxed):
                if mixture is not None:
                    assert mixture.isfinite().all(), f"{case}: mixture not finite"
                    assert (mixture.masked_select(masked.expand_as(mixture)) == 0).all(), f"{case}: masked in mixture"
            losses = critic(selection.pick(items))
            loss = strategy.surrogate(selection, losses)
            assert loss.shape == (R, B)
            assert loss.isfinite().all(), f"{case}: loss not finite"
            loss.sum().backward()
            assert logits.grad is not None
            assert logits.grad.dtype == dtype
            assert logits.grad.isfinite().all(), f"{case}: gradient not finite"
            assert (logits.grad[masked] == 0).all(), f"{case}: a masked item got a gradient"
            for name, parameter in strategy.named_parameters():
                assert parameter.grad is not None, f"{case}: {name} got no gradient"
                assert parameter.grad.isfinite().all(), f"{case}: gradient of {name} not finite"


@pytest.mark.parametrize("path", STRATEGIES, ids=lambda path: path.stem)
@pytest.mark.parametrize("tau", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_temperature_is_refused(path: Path, tau: float) -> None:
    strategy = make(path)
    with pytest.raises(InvalidInput, match=r"tau=.*must be a finite number > 0"):
        strategy.select(torch.zeros(R, B, S, N), tau, SeedNoise(range(R)), torch.zeros(R, B, S, dtype=torch.int64))


def test_half_precision_gradients_saturate_instead_of_overflowing() -> None:
    strategy = make(Path(STRATEGIES[0].parent, "st_sampled.yaml"))
    logits = torch.zeros(R, B, S, N, dtype=torch.float16, requires_grad=True)
    items = torch.arange(N, dtype=torch.float16).view(N, 1).expand(R, B, N, 1)
    slots = strategy.select(logits, 1e-6, SeedNoise(range(R))).pick(items)
    slots.sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() == torch.finfo(torch.float16).max
