"""How the cost of a training step grows with the number of items and of seeds, and what a large problem needs.

Shape legend: R seeds · B batch · S slots · N items · D features.
"""

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from statistics import median
from tempfile import TemporaryDirectory

import torch

from selector.bench.measure import Row, clock, exponent
from selector.bench.startup import ROOT
from selector.critics import TargetValue
from selector.items import Uniform
from selector.networks import MLP, Network, Pointer
from selector.noise import SeedNoise
from selector.optimizer import Adam
from selector.problems import Problem
from selector.strategies import STGumbel

ITEMS = [2**k for k in range(4, 17)]
SEEDS = [2**k for k in range(9)]
Curve = dict[int, list[float]]


def step(problem: Problem, network: Network, B: int, device: str) -> Callable[[], None]:
    """One optimizer step: draw, ask, judge, differentiate, update."""
    problem, network = problem.to(device), network.to(device)
    noise = SeedNoise(network.seeds, "bench", device)
    strategy, optimizer = STGumbel(), Adam().build(network.parameters())

    def do() -> None:
        batch = problem.sample((len(network.seeds), B), noise)
        selection = strategy.select(network(batch), 0.7, noise)
        losses = problem.critic(selection.pick(batch.items), batch)
        optimizer.zero_grad()
        strategy.surrogate(selection, losses).mean(-1).sum().backward()  # type: ignore[no-untyped-call]  # torch's stub
        optimizer.step()

    return do


def curves(device: str, rounds: int = 5) -> tuple[Curve, Curve]:
    """Seconds per step for every number of items (pointer network, S 64, D 16, batch 8), and of seeds (the default).

    Small sizes are measured three times as often, for their noise is larger.
    """
    S, D, B = 64, 16, 8
    by_items: Curve = {n: [] for n in ITEMS}
    for n in ITEMS:
        do = step(Problem(Uniform(0, 10), TargetValue(5.0), N=n, S=S, D=D), Pointer(N=n, S=S, D=D), B, device)
        do()
        by_items[n] = [clock(do, device) for _ in range(rounds if n > 2**12 else 3 * rounds)]
    by_seeds: Curve = {}
    for R in SEEDS:
        do = step(Problem(Uniform(0, 10), TargetValue(5.0), N=8, S=4), MLP(N=8, S=4, seeds=range(R)), 256, device)
        do()
        by_seeds[R] = [clock(do, device) for _ in range(rounds if R > 16 else 3 * rounds)]
    return by_items, by_seeds


def rows(by_items: Curve, by_seeds: Curve) -> Iterator[Row]:
    """The fitted exponents, and a seed's cost among many."""
    items = {n: median(t) for n, t in by_items.items()}
    for case, sizes, target in (
        ("N 2^4..2^16", ITEMS, None),
        ("N 2^8..2^16", [n for n in ITEMS if n >= 2**8], 1.1),
    ):
        yield Row.of("exponent of cost over N", case, [exponent(sizes, [items[n] for n in sizes])], target)
    seeds = {R: median(t) for R, t in by_seeds.items()}
    yield Row.of("exponent of cost over seeds", "seeds 1..256", [exponent(SEEDS, [seeds[R] for R in SEEDS])])
    for R in SEEDS[4::4]:
        shares = [t / R / seeds[1] for t in by_seeds[R]]
        yield Row.of("a seed's step among many, alone", f"seeds {R}", shares)


def large_row() -> Row:
    """GiB of memory that a run with 65,536 items takes at most, training and validation."""
    sizes = ["problem.N=65536", "problem.S=64", "problem.D=16", "batch_size=8", "held_out=16", "max_steps=2"]
    with TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "train.py"), "network=pointer", *sizes, "val_every=2", "logger=none"]
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return Row.of("peak memory of a run in GiB", "N 65,536 S 64 D 16 B 8", [most], 8.0)


def draw(by_items: Curve, by_seeds: Curve, path: str, device: str) -> None:
    """The figure: milliseconds of a step against items and against seeds, with the fitted power laws."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.5), constrained_layout=True)
    for axis, label, curve, fitted in (
        (axes[0], "items N (pointer, S 64, D 16, batch 8)", by_items, [n for n in ITEMS if n >= 2**8]),
        (axes[1], "seeds side by side (default problem)", by_seeds, SEEDS),
    ):
        sizes = list(curve)
        middle = {n: 1e3 * median(curve[n]) for n in sizes}
        spread = [[middle[n] - 1e3 * min(curve[n]) for n in sizes], [1e3 * max(curve[n]) - middle[n] for n in sizes]]
        axis.errorbar(sizes, list(middle.values()), yerr=spread, marker="o", markersize=4, capsize=2, label="measured")
        p = exponent(fitted, [middle[n] for n in fitted])
        anchor = fitted[-1]
        axis.plot(fitted, [middle[anchor] * (n / anchor) ** p for n in fitted], "--", label=f"~ size^{p:.2f}")
        axis.set(xscale="log", yscale="log", xlabel=label, ylabel="ms per step")
        axis.set_xscale("log", base=2)
        axis.legend(frameon=False)
    where = torch.cuda.get_device_name() if device.startswith("cuda") else f"CPU, {torch.get_num_threads()} thread(s)"
    figure.suptitle(f"Cost of one training step, st_gumbel, {where}", fontsize=10)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
