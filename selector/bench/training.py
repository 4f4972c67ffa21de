"""A whole training step of the default problem: ours with logging and validation, against loops written by hand.

The loops take their turns within our run: after every validation period, the others make as many steps.
Shape legend: R seeds trained side by side · B batch · S slots · N items.
"""

import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F

from selector.bench.measure import Row, clock, now
from selector.critics import TargetValue
from selector.items import Uniform
from selector.logger import SeedWandb
from selector.networks import MLP
from selector.problems import Problem
from selector.schedules import Exponential
from selector.strategies import STGumbel
from selector.training import fit

B, S, N, WIDTH, LR = 256, 4, 8, 128, 2e-3
PERIOD = 200  # steps between two validations, and between two turns
TARGET = {1: 1.0, 16: 0.3}  # of the hand-written loop's time, per seed
JAX_TARGET = {16: 1.0}


def by_hand(steps: int, device: str) -> Callable[[], None]:
    """The thirty lines that people write: one seed, no validation, no logging."""
    network = torch.nn.Sequential(
        torch.nn.Linear(N, WIDTH),
        torch.nn.ReLU(),
        torch.nn.Linear(WIDTH, WIDTH),
        torch.nn.ReLU(),
        torch.nn.Linear(WIDTH, S * N),
    ).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    done = 0

    def train() -> None:
        nonlocal done
        for _ in range(PERIOD):
            tau = 2.0 * 0.25 ** (done / steps)
            items = 10 * torch.rand(B, N, 1, device=device)
            logits = network(items.flatten(1)).view(B, S, N)
            slots = F.gumbel_softmax(logits, tau, hard=True) @ items
            loss = (slots - 5).square().sum((-1, -2)).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's stub
            optimizer.step()
            done += 1

    return train


def in_jax(R: int, steps: int) -> Callable[[], None]:
    """The same in JAX: a scan over steps, vmap over seeds, compiled as one program."""
    jax: Any = importlib.import_module("jax")
    jnp = jax.numpy

    sizes = [(N, WIDTH), (WIDTH, WIDTH), (WIDTH, S * N)]

    def init(key: Any) -> Any:
        keys = jax.random.split(key, len(sizes))
        return [
            (jax.random.uniform(k, s, minval=-1, maxval=1) / math.sqrt(s[0]), jnp.zeros(s[1]))
            for k, s in zip(keys, sizes, strict=True)
        ]

    def objective(parameters: Any, key: Any, tau: Any) -> Any:
        of_items, of_noise = jax.random.split(key)
        items = 10 * jax.random.uniform(of_items, (B, N, 1))
        x = items.reshape(B, N)
        for weight, bias in parameters[:-1]:
            x = jax.nn.relu(x @ weight + bias)
        weight, bias = parameters[-1]
        scores = (x @ weight + bias).reshape(B, S, N) + jax.random.gumbel(of_noise, (B, S, N))
        soft = jax.nn.softmax(scores / tau)
        hard = jax.nn.one_hot(scores.argmax(-1), N)
        slots = (hard + soft - jax.lax.stop_gradient(soft)) @ items
        return ((slots - 5) ** 2).sum((-1, -2)).mean()

    def step(state: Any, _: None) -> Any:
        parameters, m, v, key, t = state
        key, now = jax.random.split(key)
        g = jax.grad(objective)(parameters, now, 2.0 * 0.25 ** (t / steps))
        t = t + 1
        m = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g)
        v = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
        parameters = jax.tree.map(
            lambda p, a, b: p - LR * (a / (1 - 0.9**t)) / (jnp.sqrt(b / (1 - 0.999**t)) + 1e-8), parameters, m, v
        )
        return (parameters, m, v, key, t), None

    train = jax.jit(jax.vmap(lambda state: jax.lax.scan(step, state, None, length=PERIOD)[0]))
    keys = jax.random.split(jax.random.key(0), R)
    parameters = jax.vmap(init)(keys)
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    state = (parameters, zeros, zeros, keys, jnp.zeros(R))
    state = jax.block_until_ready(train(state))  # compiles

    def again() -> None:
        nonlocal state
        state = jax.block_until_ready(train(state))

    return again


class Turns(pl.Callback):
    """Lets others make as many steps after every validation period, and times both sides.

    Args:
        others: name -> what makes ``PERIOD`` steps.
        device: where all run.
    """

    def __init__(self, others: dict[str, Callable[[], None]], device: str) -> None:
        self.others, self.device = others, device
        self.ours: list[float] = []
        self.theirs: dict[str, list[float]] = {name: [] for name in others}
        self._since = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002 - Lightning's
        if self._since:
            self.ours.append(now(self.device) - self._since)
            for name, train in self.others.items():
                self.theirs[name].append(clock(train, self.device))
        self._since = now(self.device)

    def ratios(self, name: str) -> list[float]:
        """Our time to another's, one for every period but the first, in which both warm up."""
        return [a / b for a, b in zip(self.ours[1:], self.theirs[name][1:], strict=True)]


def rows(device: str, seeds: tuple[int, ...] = (1, 16), periods: int = 9) -> Iterator[Row]:
    """One row for every number of seeds and alternative."""
    for R in seeds:
        steps = periods * PERIOD
        others = {"by hand": by_hand(steps, device)}
        if importlib.util.find_spec("jax") is not None:
            others["JAX"] = in_jax(R, steps)
        turns = Turns(others, device)
        with TemporaryDirectory() as folder:
            logger = SeedWandb("bench", range(R), {}, folder=folder)
            fit(
                Problem(Uniform(0, 10), TargetValue(5.0), N=N, S=S),
                MLP(N=N, S=S, seeds=range(R), width=WIDTH),
                STGumbel(),
                Exponential(start=2.0, end=0.5, steps=steps),
                steps=steps,
                batch_size=B,
                val_every=PERIOD,
                folder=Path(folder) / "run",
                loggers=[logger],
                callbacks=[turns],
                trainer={"accelerator": "gpu" if device.startswith("cuda") else "cpu"},
            )
            logger.close()
        per_seed = [ratio / R for ratio in turns.ratios("by hand")]
        yield Row.of("training step per seed, by hand", f"seeds {R}", per_seed, TARGET.get(R))
        if "JAX" in others:
            yield Row.of("training step per seed, JAX", f"seeds {R}", turns.ratios("JAX"), JAX_TARGET.get(R))
