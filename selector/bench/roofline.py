"""What the hardware allows: bytes moved and operations counted, as shares of measured rates.

Shape legend: B batch · S slots · N items · D features.
"""

import importlib.util
from collections.abc import Iterator

import torch

from selector.bench.measure import Row, clock, median_seconds
from selector.bench.picking import SHAPES, steps
from selector.bench.training import WIDTH
from selector.networks import MLP
from selector.noise import Noise

_FLOAT = 4


def copy_bandwidth(device: str) -> float:
    """Bytes per second of a large copy, read and written."""
    source = torch.empty(2**26, device=device).fill_(1.0)
    target = torch.empty_like(source)
    return 2 * source.numel() * _FLOAT / median_seconds(lambda: target.copy_(source), device)


def matmul_rate(device: str) -> float:
    """Operations per second of a large matrix product in float32."""
    n = 4096 if device.startswith("cuda") else 1024
    a = torch.ones(n, n, device=device)
    return 2 * n**3 / median_seconds(lambda: a @ a, device)


def bytes_moved(shape: tuple[int, int, int, int], stored: bool = True) -> int:
    """What st_gumbel must move at least, forward and backward, if caches hold nothing of this size.

    Forward: write the noise, read the logits, write and read the scores. Backward: read the scores, write the gradient.
    Where the noise is not ``stored``: read the logits in both passes, write the gradient.
    """
    B, S, N, D = shape
    return _FLOAT * ((6 if stored else 3) * B * S * N + 2 * B * N * D + 2 * B * S * D)


def rows(device: str) -> Iterator[Row]:
    """Shares of the copy bandwidth (picking) and of the matmul rate (the default network's forward and backward)."""
    bandwidth, rate = copy_bandwidth(device), matmul_rate(device)
    shapes = [*SHAPES, (64, 64, 4096, 16)] if device.startswith("cuda") else SHAPES
    stored = not (device.startswith("cuda") and importlib.util.find_spec("triton"))  # see selector.fused
    for shape in shapes:
        moved = bytes_moved(shape, stored)
        ours, _ = steps("st_gumbel", shape, device)
        ours()
        times = [clock(ours, device) for _ in range(9)]
        case = "B {} S {} N {} D {}; ".format(*shape) + f"{moved / 1e6:.3g} MB at {bandwidth / 1e9:.3g} GB/s"
        target = 0.6 if shape not in SHAPES else None
        shares = [moved / bandwidth / t for t in times]
        yield Row.of("share of copy bandwidth, st_gumbel", case, shares, target, at_least=True)
    for R in (1, 16):
        network = MLP(N=8, S=4, seeds=range(R), width=WIDTH).to(device)
        x = Noise(0, "bench", device).normal([R, 256, 8])
        out = torch.ones(R, 256, 32, device=device)
        weights = sum(p.numel() for name, p in network.named_parameters() if name.endswith("weight"))
        # Forward, the gradient of the weights, and of the activations (which the first layer's input does not need).
        flops = 2 * 256 * (3 * weights - R * 8 * WIDTH)

        def do(network: MLP = network, x: torch.Tensor = x, out: torch.Tensor = out) -> None:
            network.zero_grad()
            network.body(x).backward(out)

        do()
        shares = [flops / rate / clock(do, device) for _ in range(9)]
        case = f"seeds {R}; {flops / 1e6:.3g} MFLOP at {rate / 1e9:.3g} GFLOP/s"
        yield Row.of("share of matmul rate, network", case, shares)
