"""What people choose features with otherwise. Every method gives S columns from the training rows alone.

Shape legend: R seeds · S chosen columns · N columns.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from selector.batch import Batch
from selector.critics import LeastSquares
from selector.features.decoders import MLPDecoders
from selector.items.columns import Table
from selector.networks import FreeLogits
from selector.noise import Noise, SeedNoise
from selector.schedules import Exponential
from selector.strategies import GumbelSoftmax


def random_columns(table: Table, S: int, seed: int) -> list[int]:
    """S different columns, drawn uniformly."""
    chosen: list[int] = Noise(seed, "random columns").uniform([table.train.shape[1]]).argsort()[:S].tolist()
    return chosen


def greedy(table: Table, S: int) -> list[int]:
    """One column after the other, each the one that lowers the error of a linear decoder on the training rows most."""
    critic, items = LeastSquares(ridge=1e-6), table.train.T.double()  # [N, rows]
    chosen: list[int] = []
    for _ in range(S):
        with_each = [[*chosen, n] for n in range(len(items))]
        losses = critic(items[torch.tensor(with_each)], Batch(items))
        losses[chosen] = torch.inf
        chosen.append(int(losses.argmin()))
    return chosen


def principal(table: Table, S: int, seed: int) -> list[int]:
    """Principal feature analysis: columns clustered by their loadings, from each cluster the one nearest its centre.

    References:
        Lu, Cohen, Zhou, Tian, 2007, "Feature selection using principal feature analysis".
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    loadings = PCA(n_components=S, random_state=seed).fit(table.train.numpy()).components_.T  # [N, S]
    centres = torch.from_numpy(KMeans(S, n_init=10, random_state=seed).fit(loadings).cluster_centers_)
    chosen: list[int] = torch.cdist(centres.double(), torch.from_numpy(loadings).double()).argmin(-1).tolist()
    return chosen


def mutual_information(table: Table, S: int, seed: int) -> list[int]:
    """The S columns that say most about the label, each taken alone (scikit-learn's ``mutual_info_classif``)."""
    from sklearn.feature_selection import mutual_info_classif

    scores = mutual_info_classif(table.train.numpy(), table.labels.numpy(), random_state=seed)
    chosen: list[int] = torch.from_numpy(scores).argsort(descending=True)[:S].tolist()
    return chosen


def concrete(
    table: Table, S: int, seeds: Sequence[int], steps: int, lr: float = 0.1, start: float = 10.0, end: float = 0.1
) -> Tensor:
    """The concrete autoencoder: relaxed columns, a decoder trained jointly, tau falling exponentially.

    One draw of the relaxation for all rows of a batch, as in the authors' program. The decoder is the one that all
    methods are measured with, started anew there.

    Args:
        table: the data.
        S: columns to choose; the same column may be chosen twice.
        seeds: R seeds, trained side by side.
        steps: optimizer steps, of 256 rows each.
        lr: learning rate of the logits. On other rows of digits than the README's, .1 was better than .01, .03 and .3.
        start: first temperature.
        end: last temperature.

    Returns:
        ``[R, S]``, the argmax of every slot.

    References:
        Balın, Abid, Zou, 2019, "Concrete autoencoders", arXiv 1901.09346.
    """
    N, R = table.train.shape[1], len(seeds)
    network, strategy, noise = FreeLogits(N, S, seeds=seeds), GumbelSoftmax(), SeedNoise(seeds, "strategy")
    decoders = MLPDecoders(table, seeds, S)
    tau = Exponential(start=start, end=end, steps=steps)
    groups = [{"params": [network.logits], "lr": lr}, {"params": list(decoders.net.parameters()), "lr": 1e-3}]
    optimizer = torch.optim.Adam(groups, foreach=True)
    for step in range(steps):
        rows = decoders.batch()  # [R, rows, N]
        weights = strategy.select(network.logits, tau(step), noise).weights
        assert weights is not None
        optimizer.zero_grad()
        decoders.loss(rows @ weights[0].transpose(-1, -2), rows).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network.logits.detach().argmax(-1).view(R, S)
