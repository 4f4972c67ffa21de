"""The picture of a choice of columns: where they are, and what a decoder makes of them.

Shape legend: S chosen columns · N columns.
"""

from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from selector.features.decoders import fit_mlp
from selector.files import write_atomically
from selector.items.columns import Table

_SHOWN = 8  # held-out rows in the picture
_ORANGE = "#c2571a"


@torch.no_grad()
def draw_choice(table: Table, choice: Tensor, path: Path, decoder_steps: int) -> None:
    """Write a png: for images, the chosen pixels over the mean image, and reconstructions beside held-out originals.

    For other tables, how much of every column's variance the decoder explains on held-out rows.

    Args:
        table: the data.
        choice: ``[S]``, the chosen columns.
        path: the png.
        decoder_steps: optimizer steps of the decoder.
    """
    with torch.enable_grad():
        decode = fit_mlp(table, choice.unsqueeze(0), [0], decoder_steps)
    made = decode(table.test.unsqueeze(0))[0]
    figure = _images(table, choice, made) if table.image is not None else _bars(table, choice, made)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format="png")


def _images(table: Table, choice: Tensor, made: Tensor) -> Figure:
    assert table.image is not None
    height, width = table.image
    figure = Figure(figsize=(11, 3), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1, 3.2])[0]
    axes = left.subplots()
    axes.imshow(table.train.mean(0).view(height, width).numpy(), cmap="Greys", vmin=0, vmax=1)
    rows, columns = zip(*(divmod(n, width) for n in choice.tolist()), strict=True)
    axes.scatter(columns, rows, s=70, marker="s", facecolors="none", edgecolors=_ORANGE, lw=2)
    axes.set(xticks=[], yticks=[])
    axes.set_title(f"{len(set(choice.tolist()))} chosen pixels, mean image")
    grid = right.subplots(2, _SHOWN)
    right.suptitle("held-out originals, and what the decoder makes of the chosen pixels")
    for column in range(_SHOWN):
        for row, images in enumerate((table.test, made)):
            grid[row, column].imshow(images[column].view(height, width).numpy(), cmap="Greys", vmin=0, vmax=1)
            grid[row, column].set(xticks=[], yticks=[])
    return figure


def _bars(table: Table, choice: Tensor, made: Tensor) -> Figure:
    explained = 1 - (made - table.test).square().mean(0) / table.test.var(0, unbiased=False)
    figure = Figure(figsize=(9, 3), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    chosen = set(choice.tolist())
    colors = [_ORANGE if n in chosen else "#9fb6c9" for n in range(len(explained))]
    axes.bar(range(len(explained)), explained.clamp(min=0).tolist(), color=colors)
    axes.set(xlabel="column (chosen ones orange)", ylabel="variance explained, held-out", ylim=(0, 1))
    return figure
