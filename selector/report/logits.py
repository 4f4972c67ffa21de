"""The picture of one decision: the S×N logits of a list and the items they choose."""

from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from selector.files import write_atomically
from selector.metrics import HeldOut
from selector.networks import Network


@torch.no_grad()
def draw_logits(network: Network, held_out: HeldOut, path: Path) -> None:
    """Write a png: softmax of the first seed's logits for the first held-out list, slots × items.

    A dot marks the argmax, a ring the oracle's item.
    """
    batch = held_out.batch.narrow(0, 1)
    pi = batch.masked(network(batch.expand(len(network.seeds)))[:1, 0])[0].softmax(-1)
    S, N = pi.shape
    figure = Figure(figsize=(1.6 + min(0.75 * N, 12), 1.6 + min(0.6 * S, 8)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(pi.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    figure.colorbar(image, ax=axes, label="softmax of the logits")
    chosen, best = pi.argmax(-1), held_out.oracle.index[0]
    size = 2000 / max(S, N, 8)
    axes.scatter(best, range(S), s=size, facecolors="none", edgecolors="#c2571a", lw=1.8, label="oracle")
    axes.scatter(chosen, range(S), s=size / 6, color="#c2571a", label="argmax")
    axes.set(ylabel="slot", yticks=range(S) if S <= 16 else axes.get_yticks())
    if N <= 16:
        labels = [" ".join(f"{x:.2g}" for x in item[:3]) for item in batch.items[0].tolist()]
        axes.set_xticks(range(N), labels)
        axes.set_xlabel("item (its value)" if batch.items.shape[-1] == 1 else "item (its first features)")
    else:
        axes.set_xlabel("item")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format="png")
