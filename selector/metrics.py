"""Honest measurement: the noise-free argmax on held-out lists, whatever the training strategy does.

Shape legend: R seeds trained side by side · V held-out lists · S slots · N items · D features per item.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from selector.batch import Batch, check_mask
from selector.choices import judge, random_choices
from selector.critics import SeparableCritic
from selector.errors import InvalidInput
from selector.networks import Network
from selector.noise import Noise
from selector.oracle import Oracle
from selector.problems import Problem
from selector.search import Search
from selector.selection import Selection

# Logits (R·V·S·N) that one chunk of the evaluation may hold: 16 MiB of float32.
_CHUNK = 2**22
# Losses (V·S·N) that the table behind ``expected_loss`` may hold: beyond it, it would take longer than all the rest.
_LARGEST_TABLE = 2**22


@dataclass(frozen=True)
class HeldOut:
    """Item lists that are never trained on, with their oracle. The same for every seed and every run of a problem."""

    batch: Batch
    oracle: Oracle

    @staticmethod
    def draw(problem: Problem, lists: int, device: torch.device | str = "cpu") -> "HeldOut":
        """``lists`` lists from a stream of their own (or all that a file keeps for this), and their oracle."""
        # Drawn on the CPU on every device: held-out lists, and so regrets, are comparable between machines.
        batch = problem.held_out(lists, Noise(0, "held-out")).to(device)
        if batch.mask is not None:
            check_mask(batch.mask)
        oracle = problem.oracle(batch)
        if not (oracle.loss.isfinite().all() and oracle.random_loss.isfinite().all()):
            critic = type(problem.critic).__name__
            raise InvalidInput("critic", critic, "is not finite for every choice of the held-out lists: no regret")
        return HeldOut(batch, oracle)


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        metrics: name -> ``[R]`` float64 on the CPU; see :func:`evaluate`.
        index: ``[R, V, S]`` int64, the choices.
    """

    metrics: dict[str, Tensor]
    index: Tensor


@torch.no_grad()
def evaluate(
    network: Network, problem: Problem, held_out: HeldOut, tau: float, previous: Tensor | None = None
) -> Evaluation:
    """Measure a network by the argmax of its logits.

    Metrics, all of them means over held-out lists, one number per seed:

    - ``hard_loss``: the critic's loss of the chosen items; ``oracle_loss`` and ``random_loss``: the two ends of the
      scale; ``regret`` = (hard − oracle) / (random − oracle), a ratio of means: 0 is perfect, 1 is random.
    - ``accuracy``: share of slots in which the oracle's item was chosen, over those where it is unique; absent where
      there are none.
    - ``soft_loss``: the loss of the mixtures softmax(l/tau); ``gap`` = soft − hard;
      absent where the critic judges real picks only.
    - ``logit_std``: spread of a slot's logits over the allowed items; ``entropy`` of softmax(l), in nats.
    All metrics of a seed whose logits are not finite are NaN.

    - ``expected_loss``: exact E[L(D)] for D ~ softmax(l), where the critic is separable and its table of losses small.
    - ``switched``: share of slots whose choice differs from ``previous``; absent without it.

    Args:
        network: the selector.
        problem: items, critic and sizes.
        held_out: V lists and their oracle.
        tau: temperature of the mixtures, > 0.
        previous: ``[R, V, S]``, the choices of the last evaluation.
    """
    oracle, R, V = held_out.oracle, len(network.seeds), held_out.batch.items.shape[0]
    training = network.training
    network.eval()
    sums: dict[str, Tensor] = {}
    indices = []
    broken = torch.zeros(R, dtype=torch.bool, device=held_out.batch.items.device)
    size = max(1, _CHUNK // (R * problem.S * problem.N))
    for start in range(0, V, size):
        batch = held_out.batch.narrow(start, min(size, V - start)).expand(R)
        raw = network(batch).float()
        logits = batch.masked(raw)
        broken |= ~raw.isfinite().all(-1).all(-1).all(-1)
        index = problem.choose(logits)
        log_pi = logits.log_softmax(-1)
        chunk = {
            "logit_std": _spread(raw, logits).mean(-1),
            "entropy": entropy(logits).mean(-1),
        }
        if problem.critic.exact:
            chunk["hard_loss"] = judge(problem.critic, batch, index.unsqueeze(0))[0]
        if problem.critic.mixtures:
            mixture = Selection(weights=(logits / tau).softmax(-1).unsqueeze(0))
            chunk["soft_loss"] = problem.critic(mixture.pick(batch.items), batch)[0]
        if isinstance(problem.critic, SeparableCritic) and V * problem.S * problem.N <= _LARGEST_TABLE:
            table = problem.critic.table(held_out.batch.narrow(start, batch.items.shape[1]).items, problem.S)
            chunk["expected_loss"] = (log_pi.exp() * table).sum((-1, -2))
        for name, value in chunk.items():
            sums[name] = sums.get(name, 0) + value.double().sum(-1)
        indices.append(index)
    network.train(training)

    index = torch.cat(indices, 1)
    if not problem.critic.exact:  # all lists at once: what noise a list gets must not depend on the size of a chunk
        batch = held_out.batch.expand(R)
        picked = Selection(index=index.unsqueeze(0)).pick(batch.items)
        sums["hard_loss"] = problem.critic.measure(picked, batch)[0].double().sum(-1)
    m = {name: total / V for name, total in sums.items()}
    if problem.critic.mixtures:
        m["gap"] = m["soft_loss"] - m["hard_loss"]
    m["oracle_loss"] = oracle.loss.double().mean().expand(R)
    m["random_loss"] = oracle.random_loss.double().mean().expand(R)
    m["regret"] = _regret(m["hard_loss"], m["oracle_loss"], m["random_loss"])
    right, unique = (index == oracle.index).double(), oracle.unique.double()
    if unique.any():
        m["accuracy"] = (right * unique).sum((1, 2)) / unique.sum()
    if previous is not None:
        m["switched"] = (index != previous).double().mean((1, 2))
    # The argmax of NaN is item 0, which must not pass for a choice.
    m = {name: value.masked_fill(broken, torch.nan) for name, value in m.items()}
    return Evaluation({name: value.cpu() for name, value in m.items()}, index)


@torch.no_grad()
def evaluate_search(network: Network, problem: Problem, held_out: HeldOut, search: Search) -> dict[str, Tensor]:
    """What a search makes of a network's choices, and what it would make of random ones.

    Args:
        network: the selector.
        problem: items, critic and sizes; the critic must be exact.
        held_out: V lists and their oracle.
        search: the search.

    Returns:
        ``searched_loss`` and ``searched_regret`` of the search from the argmax, and ``random_searched_regret`` of the
        same search from random choices, as :func:`evaluate` returns metrics.
    """
    R, V = len(network.seeds), held_out.batch.items.shape[0]
    training = network.training
    network.eval()
    # The same for every seed and run: a property of the problem.
    luck = Noise(0, "search", held_out.batch.items.device)
    from_network = torch.zeros(R, dtype=torch.float64, device=held_out.batch.items.device)
    from_random = torch.zeros_like(from_network[0])
    size = max(1, _CHUNK // (R * problem.S * problem.N))
    for start in range(0, V, size):
        lists = min(size, V - start)
        batch = held_out.batch.narrow(start, lists)

        def searched(index: Tensor, logits: Tensor, batch: Batch = batch) -> Tensor:
            found = search(problem.critic, batch, index, logits, problem.without_replacement)
            return judge(problem.critic, batch, found.unsqueeze(0)).double().sum()

        logits = batch.masked(network(batch.expand(R)).float())
        for r, choices in enumerate(problem.choose(logits)):
            from_network[r] += searched(choices, logits[r])
        at_random = random_choices(batch, problem.S, 1, luck, problem.without_replacement)
        from_random += searched(at_random[0], luck.uniform([lists, problem.S, problem.N]))
    network.train(training)
    best, random = held_out.oracle.loss.double().mean(), held_out.oracle.random_loss.double().mean()
    return {
        "searched_loss": (from_network / V).cpu(),
        "searched_regret": _regret(from_network / V, best, random).cpu(),
        "random_searched_regret": _regret((from_random / V).expand(R), best, random).cpu(),
    }


def _regret(hard: Tensor, best: Tensor, random: Tensor) -> Tensor:
    """0 is the best choice, 1 a random one; where every choice is as good as any other there is nothing to regret."""
    return torch.where(random <= best, hard - best, (hard - best) / (random - best))


def entropy(logits: Tensor) -> Tensor:
    """Entropy of softmax(l) in nats: ``[*, S, N] -> [*, S]``; its gradient is finite at −inf logits."""
    log_pi = logits.log_softmax(-1)
    finite = log_pi.masked_fill(logits == float("-inf"), 0.0)  # 0·(−inf) would be NaN
    return -(log_pi.exp() * finite).sum(-1)


def _spread(logits: Tensor, masked: Tensor) -> Tensor:
    """Standard deviation over the allowed items: ``[*, S, N] -> [*, S]``; ``masked`` has −inf at the others."""
    allowed = masked > float("-inf")
    count = allowed.sum(-1)
    mean = (logits * allowed).sum(-1) / count
    return ((logits - mean.unsqueeze(-1)).square() * allowed).sum(-1).div(count).sqrt()
