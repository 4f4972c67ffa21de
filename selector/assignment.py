"""The best assignment without replacement: an item for every slot, no item twice.

Shape legend: B problems at once · S slots · N items.
"""

import torch
from torch import Tensor


@torch.no_grad()
def assign(scores: Tensor) -> Tensor:
    """For every slot one item, no item twice, so that the sum of scores is the largest possible.

    The shortest-augmenting-path form of the Hungarian method, for all B problems at once: S² vectorised steps of
    size B·N instead of B calls of ``scipy.optimize.linear_sum_assignment``, on the scores' own device.

    Args:
        scores: ``[*, S, N]``; −inf marks forbidden pairs.

    Returns:
        ``[*, S]`` int64.

    Raises:
        ValueError: when S > N, or when some problem has no allowed assignment at all.

    References:
        Jonker and Volgenant, 1987, "A shortest augmenting path algorithm for dense and sparse linear assignment
        problems".
    """
    lead, (S, N) = scores.shape[:-2], scores.shape[-2:]
    if S > N:
        raise ValueError(f"{S} slots cannot get different items out of {N}")
    cost = -scores.reshape(-1, S, N).double()
    B, device = cost.shape[0], cost.device
    every = torch.arange(B, device=device)
    # Column N stands for "no column yet"; u, v are the dual prices, row_of the slot that holds a column (S: none).
    u = cost.new_zeros(B, S + 1)
    v = cost.new_zeros(B, N + 1)
    row_of = torch.full((B, N + 1), S, device=device)
    for row in range(S):
        row_of[:, N] = row
        column = torch.full((B,), N, device=device)
        shortest = cost.new_full((B, N), float("inf"))
        came_from = torch.full((B, N), N, device=device)
        used = torch.zeros(B, N + 1, dtype=torch.bool, device=device)
        active = torch.ones(B, dtype=torch.bool, device=device)
        while bool(active.any()):
            used[every[active], column[active]] = True
            here = row_of[every, column].clamp(max=S - 1)
            reduced = cost[every, here] - u[every, here].unsqueeze(1) - v[:, :N]
            better = (reduced < shortest) & ~used[:, :N] & active.unsqueeze(1)
            shortest = torch.where(better, reduced, shortest)
            came_from = torch.where(better, column.unsqueeze(1), came_from)
            step, nearest = shortest.masked_fill(used[:, :N], float("inf")).min(1)
            if bool((step.isinf() & active).any()):
                raise ValueError("no assignment is allowed: some slots must share an item")
            step = torch.where(active, step, 0.0)
            # Prices move along every used column, distances along the others.
            u.scatter_add_(1, row_of, torch.where(used, step.unsqueeze(1), 0.0))
            v = v - torch.where(used, step.unsqueeze(1), 0.0)
            shortest = torch.where(used[:, :N] | ~active.unsqueeze(1), shortest, shortest - step.unsqueeze(1))
            column = torch.where(active, nearest, column)
            active = active & (row_of[every, column] != S)
        moving = column != N
        while bool(moving.any()):
            previous = came_from[every, column.clamp(max=N - 1)]
            holder = row_of[every, previous]
            row_of[every[moving], column[moving]] = holder[moving]
            column = torch.where(moving, previous, column)
            moving = column != N
    index = torch.empty(B, S + 1, dtype=torch.int64, device=device)
    index.scatter_(1, row_of[:, :N], torch.arange(N, device=device).expand(B, N))
    return index[:, :S].reshape(*lead, S)
