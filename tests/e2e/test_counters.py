"""Training as on a GPU: numbers from counters, st_gumbel's noise made anew. In Triton's interpreter."""

from pathlib import Path
from typing import Any

import pytest
import torch

from selector import fit
from selector.networks import MLP
from selector.strategies import STGumbel
from selector.streams import Generators
from tests.support import small_network, small_problem


def train(device: torch.device, seeds: tuple[int, ...], steps: int, **options: Any) -> MLP:
    network, trainer = small_network(seeds), {"accelerator": "cpu" if device.type == "cpu" else "gpu"}
    sizes = {"batch_size": 8, "val_every": 2, "held_out": 8}
    fit(small_problem(), network, STGumbel(), steps=steps, trainer=trainer, **sizes, **options)
    return network.cpu()


def test_a_seed_learns_the_same_alone_and_beside_others(kernels: torch.device) -> None:
    untrained, together, alone = small_network((3, 4)), train(kernels, (3, 4), 4), train(kernels, (4,), 4)
    for before, ours, theirs in zip(*(n.parameters() for n in (untrained, together, alone)), strict=True):
        assert torch.equal(ours[1:], theirs)
        assert not torch.equal(ours, before)


def test_a_run_goes_on_bit_for_bit(kernels: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = train(kernels, (3, 4), 4)
    train(kernels, (3, 4), 2, folder=tmp_path)
    resumed = train(kernels, (3, 4), 4, folder=tmp_path, resume=True)
    for ours, theirs in zip(resumed.parameters(), undisturbed.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    monkeypatch.setattr("selector.noise.streams", Generators)  # as on a machine without a GPU
    with pytest.raises(ValueError, match="saved on a GPU with Triton; torch draws them on cpu"):
        train(torch.device("cpu"), (3, 4), 6, folder=tmp_path, resume=True)
