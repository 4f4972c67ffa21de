"""A trained selector, from its run folder: ``load(run)(items)``.

Shape legend: `*` any leading dims · B lists at once · R seeds trained side by side · S slots · N items ·
D features per item · C features per list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from selector.assignment import assign
from selector.batch import Batch
from selector.building import build
from selector.critics import Critic
from selector.errors import InvalidInput, check_at_least, check_choice
from selector.history import read_history
from selector.judges import build_judges
from selector.loading import chosen_checkpoint, fill, under
from selector.networks import Network, Standardised
from selector.scaling import Scale
from selector.search import Search, margins
from selector.selection import Selection
from selector.stored import load_run

# Numbers that the largest intermediate of one chunk of lists may hold: 16 MiB of float32.
_CHUNK = 2**22


@dataclass(frozen=True)
class Picks:
    """What a selector chose.

    Attributes:
        index: ``[*, S]`` int64, the item in each slot.
        slots: ``[*, S, D]``, the filled slots: rows of the items as they were given.
        margin: ``[*, S]``, how far the best logit is above the second best, whatever a search chose; inf where only one
            item is allowed.
        loss: ``[*]``, the critic's loss; None where the selector has no critic.
        logits: ``[*, S, N]``, −inf at items that are not allowed.
    """

    index: Tensor
    slots: Tensor
    margin: Tensor
    loss: Tensor | None
    logits: Tensor


class Selector:
    """One seed of a trained network: fills slots with items.

    Args:
        network: with one seed.
        critic: judges the picks; None: they get no loss.
        why_no_loss: why there is no critic.
        without_replacement: whether an item may fill one slot only.
        seed: which seed this is.
        step: the optimizer step of its checkpoint.
        columns: of the table that it was trained on (list_id, features, context); None: it was none.

    Attributes:
        S, D, C: slots, features of an item, features of a list.
        N: items in a list; None: any number.
        device: where it computes.
    """

    def __init__(
        self,
        network: Network,
        critic: Critic | None,
        *,
        why_no_loss: str | None = None,
        without_replacement: bool = False,
        seed: int = 0,
        step: int = 0,
        columns: Mapping[str, Any] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.network = network.eval().requires_grad_(False).to(device)
        self.critic = None if critic is None else critic.eval().requires_grad_(False).to(device)
        self.why_no_loss = why_no_loss
        self.without_replacement, self.seed, self.step, self.columns = without_replacement, seed, step, columns
        self.S, self.D, self.C = network.S, network.D, network.C
        self.N = None if network.any_N else network.N
        self.device = torch.device(device)

    @torch.no_grad()
    def __call__(self, items: Any, mask: Any = None, context: Any = None, *, search: Search | None = None) -> Picks:
        """Choose an item for every slot of every list: the argmax; without replacement the best assignment.

        Args:
            items: ``[*, N, D]``, a tensor, an array or nested lists.
            mask: ``[*, N]`` bool, the items that may be chosen; None allows all.
            context: ``[*, C]``; needed where the selector was trained with context.
            search: improves every choice with the critic.

        Returns:
            Picks with the same leading dims, on the CPU.

        Raises:
            InvalidInput: for shapes that do not fit, numbers that are not finite (where the mask is true), and lists
                with too few items; for a search where the critic is not known.
        """
        self.check_search(search)
        batch, lead = self._batch(items, mask, context)
        step = self.lists_at_once(batch.items.shape[-2])
        B = batch.items.shape[0]
        parts = [self._choose(batch.narrow(start, min(step, B - start)), search) for start in range(0, B, step)]

        def whole(name: str) -> Any:
            tensors = [getattr(part, name) for part in parts]
            return None if tensors[0] is None else torch.cat(tensors).reshape((*lead, *tensors[0].shape[1:]))

        return Picks(**{f.name: whole(f.name) for f in fields(Picks)})

    def check_search(self, search: Search | None, key: str = "search") -> None:
        """Refuse a search where there is nothing to search with.

        Raises:
            InvalidInput: when the critic is not known, or an estimate.
        """
        if search is None:
            return
        if self.critic is None:
            raise InvalidInput(key, search.sweeps, f"needs the critic; {self.why_no_loss}")
        search.check(self.critic, key)

    def lists_at_once(self, N: int) -> int:
        """How many lists of N items fit into one chunk."""
        widest = max((p.shape[-1] for p in self.network.parameters()), default=1)
        return max(1, _CHUNK // (N * max(self.S, self.D) + (N if self.network.any_N else 1) * widest))

    def _choose(self, batch: Batch, search: Search | None) -> Picks:
        batch = batch.to(self.device)
        logits = batch.masked(self.network(batch.expand(1))[0].float())
        index = assign(logits) if self.without_replacement else logits.argmax(-1)
        if search is not None:
            assert self.critic is not None
            index = search(self.critic, batch, index, logits, self.without_replacement)
        picks = Selection(index=index.unsqueeze(0)).pick(batch.items)
        loss = None if self.critic is None else self.critic.measure(picks, batch)[0].float().cpu()
        return Picks(index.cpu(), picks[0].cpu(), margins(logits).cpu(), loss, logits.cpu())

    def _batch(self, items: Any, mask: Any, context: Any) -> tuple[Batch, tuple[int, ...]]:
        """Checked tensors with one leading dim, and the leading dims that were given."""
        items = _tensor("items", items).float()
        shape = list(items.shape)
        if items.ndim < 2 or shape[-1] != self.D or prod(shape) == 0:
            raise InvalidInput("items", shape, f"must be [*, N, {self.D}], not empty")
        *lead, N, _ = shape
        if self.N not in (None, N):
            raise InvalidInput("items", shape, f"must be [*, {self.N}, {self.D}]; pad shorter lists, and give a mask")
        allowed = torch.ones(*lead, N, dtype=torch.bool) if mask is None else _tensor("mask", mask)
        if allowed.dtype != torch.bool or list(allowed.shape) != [*lead, N]:
            raise InvalidInput("mask", list(allowed.shape), f"must be bool {[*lead, N]}")
        least = self.S if self.without_replacement else 1
        if bool((allowed.sum(-1) < least).any()):
            raise InvalidInput("mask", list(allowed.shape), f"must allow at least {least} items in every list")
        if not bool((items.isfinite().all(-1) | ~allowed).all()):
            raise InvalidInput("items", shape, "must be finite")
        if (context is None) != (self.C == 0):
            given = None if context is None else "given"
            raise InvalidInput("context", given, f"must be {[*lead, self.C]}" if self.C else "must be None")
        if context is not None:
            context = _tensor("context", context).float()
            if list(context.shape) != [*lead, self.C] or not bool(context.isfinite().all()):
                raise InvalidInput("context", list(context.shape), f"must be {[*lead, self.C]} and finite")
            context = context.reshape(-1, self.C)
        flat = allowed.reshape(-1, 1, N)
        items = items.reshape(-1, N, self.D)
        if mask is not None:  # what stands in the padding is nobody's business
            items = items.masked_fill(~flat.transpose(-1, -2), 0.0)
        return Batch(items, None if mask is None else flat, context), tuple(lead)


def load(
    run: Path | str,
    *,
    seed: int | None = None,
    checkpoint: Literal["best", "last"] = "best",
    trust: Sequence[str] = (),
    device: torch.device | str = "cpu",
) -> Selector:
    """Load a trained selector from its run folder. The items that it was trained on are not needed.

    Args:
        run: the run folder.
        seed: which of the seeds that were trained side by side; None: the one with the lowest regret on the held-out
            lists at that checkpoint.
        checkpoint: "best": of the lowest mean regret over seeds; "last".
        trust: installed packages that network and critic may come from, besides this one and your own code.
        device: where it computes.

    Raises:
        InvalidInput: for a folder that holds no run, a damaged checkpoint or configuration, and a seed that is not
            there.
    """
    check_choice(["best", "last"], checkpoint=checkpoint)
    folder = Path(run)
    path = folder / "checkpoints" / f"{checkpoint}.ckpt"
    cfg = load_run(folder, str(path.relative_to(folder)), trust)
    content = chosen_checkpoint(path)
    seeds, step, state = list(content["selector"]["seeds"]), content["global_step"], content["state_dict"]
    if seed is None:
        seed = _best_seed(folder, step, seeds)
    if seed not in seeds:
        raise InvalidInput("seed", seed, f"must be one of {', '.join(map(str, seeds))}")
    try:
        sizes: dict[str, int] = {key: cfg.problem[key] for key in ("N", "S", "D", "C")}
        for key, value in sizes.items():
            check_at_least(0 if key == "C" else 1, **{f"problem.{key}": value})
        network = _network(cfg, sizes, seed, path, seeds.index(seed), len(seeds), state)
        critic, why_no_loss = _critic(cfg, sizes, state, path)
    except OmegaConfBaseException as error:
        raise InvalidInput("run", folder, f".hydra does not describe a run ({str(error).splitlines()[0]})") from None
    columns = content["selector"].get("columns")
    return Selector(
        network,
        critic,
        why_no_loss=why_no_loss,
        without_replacement=cfg.problem.without_replacement,
        seed=seed,
        step=step,
        columns=columns,
        device=device,
    )


def _critic(
    cfg: DictConfig, sizes: dict[str, int], state: Mapping[str, Tensor], path: Path
) -> tuple[Critic | None, str | None]:
    """The run's critic, or why it is not known here: it may be code that lies elsewhere."""
    try:
        # Of a learned critic the black box: picks are judged by that.
        critic, _ = build_judges(cfg, cfg.trust, sizes, [0], measuring=True)
    except InvalidInput as error:
        return None, str(error)
    fill(critic, under(state, "problem.critic."), path)
    return critic, None


def _network(
    cfg: DictConfig, sizes: dict[str, int], seed: int, path: Path, r: int, R: int, state: Mapping[str, Tensor]
) -> Network:
    """The network of one seed, with its parameters from those of all R."""
    network = build(cfg.network, "network", Network, trust=cfg.trust, **sizes, seeds=[seed])  # type: ignore[type-abstract]
    weights = under(state, "network.")
    if any(name.startswith("scale.") for name in weights):
        network = Standardised(network, Scale.none(sizes["D"], sizes["C"]))
    own = {name for name, _ in network.named_parameters()}  # what has a leading dim of R
    for name in own & weights.keys():
        if weights[name].ndim < 1 or len(weights[name]) != R:
            raise InvalidInput("checkpoint", path, f"{name} is not that of {R} seeds")
    fill(network, {name: value[r : r + 1] if name in own else value for name, value in weights.items()}, path)
    if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise InvalidInput("seed", seed, "its network is not finite: it diverged; try another seed, or checkpoint=best")
    return network


def _best_seed(folder: Path, step: int, seeds: list[int]) -> int:
    """The seed with the lowest held-out regret at ``step``, or when it was last measured before."""
    if len(seeds) == 1:
        return seeds[0]
    try:
        history = read_history(folder / "metrics.csv", keys=["val/regret"])
    except (OSError, ValueError):
        regrets: dict[int, float] = {}
    else:
        found = [r.values["val/regret"] for r in history.records if r.step <= step and "val/regret" in r.values]
        regrets = dict(zip(history.seeds, found[-1], strict=True)) if found else {}
    known = {seed: regret for seed, regret in regrets.items() if seed in seeds and regret == regret}
    if not known:
        listed = ", ".join(map(str, seeds))
        raise InvalidInput("seed", None, f"metrics.csv has no regret at step {step}; must be one of {listed}")
    return min(known, key=lambda one: known[one])


def _tensor(key: str, value: Any) -> Tensor:
    try:
        return torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInput(key, type(value).__name__, f"must be numbers ({str(error).splitlines()[0]})") from None
