"""Training through a learned critic: it learns, seeds stay apart, the truth is never mixed up with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from selector import MLP, Problem, Result, fit
from selector.actor_critic import check_actor_critic
from selector.batch import Batch
from selector.critics import TargetValue
from selector.critics.black_box import black_box
from selector.critics.learned import LearnedCritic
from selector.errors import InvalidInput
from selector.items import Uniform
from selector.rewards import NoisyTarget
from selector.rewards.base import Array, Reward
from selector.strategies import RLOO, STGumbel, Supervised
from tests.support import names


class Sum(Reward):
    """The sum of the picks; remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[Array] = []

    def expected(self, slots: Array, context: Array | None) -> Array:  # noqa: ARG002
        total: Array = slots.sum((1, 2))
        return total

    def observe(self, slots: Array, context: Array | None, generator: np.random.Generator) -> Array:  # noqa: ARG002
        self.seen.append(slots)
        return self.expected(slots, context)


SMALL: dict[str, Any] = {"width": 16, "warmup": 64, "warmup_updates": 50, "observations": 16, "rows": 32, "buffer": 256}


def trained(
    seeds: tuple[int, ...], reward: Reward | None = None, steps: int = 20, **options: Any
) -> tuple[MLP, LearnedCritic, Result]:
    problem = Problem(Uniform(0.0, 1.0), black_box(reward or NoisyTarget(0.5, noise=0.1)), N=4, S=2)
    network = MLP(N=4, S=2, width=16, seeds=seeds)
    critic = LearnedCritic(S=2, D=1, seeds=seeds, **{**SMALL, **options})
    _, result = fit(problem, network, STGumbel(), steps=steps, batch_size=16, val_every=10, held_out=32, critic=critic)
    return network, critic, result


def test_a_seed_is_the_same_alone_and_beside_others() -> None:
    both, theirs, result = trained((4, 7))
    alone, ours, single = trained((7,))
    for a, b in zip(both.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a[1:], b)
    assert torch.equal(theirs.buffer.rows[1:], ours.buffer.rows)
    assert torch.equal(theirs.buffer.rewards[1:], ours.buffer.rewards)
    for a, b in zip(theirs.target.parameters(), ours.target.parameters(), strict=True):
        assert torch.equal(a[theirs.members :], b)
    for one, other in zip(result.history.records, single.history.records, strict=True):
        for key in set(one.values) - {"seconds", "steps_per_s", "samples_per_s"}:
            assert one.values[key][1] == other.values[key][0], key


def test_it_learns_and_the_selector_learns_from_it() -> None:
    _, critic, result = trained((0, 1), Sum(), steps=200)
    last = result.history.records[-1].values
    assert max(last["critic/error"]) < 0.1
    assert max(result.metrics["regret"]) < 0.15
    rows = torch.rand(2, 50, 2, generator=torch.Generator().manual_seed(0))
    assert float((critic.predict(rows).mean(1) - rows.sum(-1)).abs().mean()) < 0.1


def test_what_is_measured_is_the_truth() -> None:
    """A critic that learns nothing: predictions and truth are far apart, and regret belongs to the truth."""
    _, critic, result = trained((0,), Sum(), updates=0, warmup_updates=0)
    assert result.oracle_kind == "enumerated"
    assert 0.5 < result.metrics["regret"][0] < 1.5
    assert result.metrics["hard_loss"][0] == pytest.approx(-result.history.records[-1].values["reward/hard"][0])
    assert "soft_loss" not in result.metrics, "a black box is not asked about mixtures"
    assert abs(result.history.records[-1].values["critic/optimism"][0]) > 0.1
    assert len(critic.buffer) == 256


def test_the_black_box_is_asked_as_often_as_was_said() -> None:
    reward = Sum()
    trained((0, 1), reward)
    assert [len(slots) for slots in reward.seen] == [64, 64, *[16] * 40]
    unique = {tuple(row) for slots in reward.seen for row in slots.reshape(len(slots), -1).round(6)}
    assert len(unique) == 2 * (64 + 20 * 16), "every question is about a fresh list"


def test_exploration_is_that_share_of_the_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """With logits that always want item 0, the other picks are those of exploration."""
    monkeypatch.setattr(MLP, "forward", lambda self, batch: 50.0 * torch.eye(4)[0].expand(1, batch.items.shape[1], 2, 4)
                        + 0.0 * sum(p.sum() for p in self.parameters()))  # fmt: skip
    reward, numbers = Sum(), torch.arange(4.0).unsqueeze(-1)
    monkeypatch.setattr(Uniform, "sample", lambda _, shape, noise: Batch(numbers.expand(*shape).to(noise.device)))
    trained((0,), reward, explore=0.5)
    picked = np.stack(reward.seen[1:])  # [steps, K, S, D]; without the warm-up
    assert (picked[:, 8:] == 0).all()
    assert (picked[:, :8] != 0).mean() == pytest.approx(0.75, abs=0.06)


def test_a_table_alone_trains_it_and_the_reward_is_never_asked(tmp_path: Path) -> None:
    rng, reward = np.random.default_rng(0), Sum()
    slots = rng.uniform(size=(400, 2, 1)).astype(np.float32)
    np.savez(tmp_path / "past.npz", slots=slots, reward=slots.sum((1, 2)))
    table = {
        "table": str(tmp_path / "past.npz"),
        "observations": 0,
        "updates": 0,
        "warmup": 0,
        "warmup_updates": 400,
        "buffer": 512,
    }
    _, critic, result = trained((0, 1), reward, steps=200, **table)
    assert reward.seen == []
    assert critic.buffer.added == 360, "a tenth is kept back"
    first, last = (result.history.records[k].values["critic/error"] for k in (1, -1))
    assert first == last, "frozen"
    assert max(last) < 0.1
    assert max(result.metrics["regret"]) < 0.4


def past(path: Path, rows: int, seed: int = 0) -> str:
    slots = np.random.default_rng(seed).uniform(size=(rows, 2, 1)).astype(np.float32)
    np.savez(path, slots=slots, reward=slots.sum((1, 2)))
    return str(path)


def test_a_table_and_a_warm_up(tmp_path: Path) -> None:
    reward, table = Sum(), past(tmp_path / "past.npz", 100)
    _, critic, _ = trained((0,), reward, steps=1, table=table, warmup=64, observations=0)
    assert (critic.buffer.added, [len(slots) for slots in reward.seen]) == (90 + 64, [64])
    with pytest.raises(InvalidInput, match=r"^buffer=150: must be >= the table's rows and warmup \(164\)"):
        LearnedCritic(S=2, D=1, **{**SMALL, "table": table, "buffer": 150})


def test_a_run_goes_on_with_its_own_table_alone(tmp_path: Path) -> None:
    def run(steps: int, **options: Any) -> None:
        problem = Problem(Uniform(0.0, 1.0), black_box(Sum()), N=4, S=2)
        critic = LearnedCritic(S=2, D=1, **{**SMALL, "table": str(tmp_path / "past.npz")})
        sizes: dict[str, Any] = {"steps": steps, "batch_size": 4, "val_every": 2, "held_out": 4}
        network = MLP(N=4, S=2, width=4)
        fit(problem, network, STGumbel(), critic=critic, folder=tmp_path / "run", **sizes, **options)

    past(tmp_path / "past.npz", 50)
    run(2)
    run(4, resume=True)
    past(tmp_path / "past.npz", 50, seed=1)
    with pytest.raises(InvalidInput, match=r"critic\.table=.*is not the one"):
        run(6, resume=True)


def test_measuring_needs_no_table() -> None:
    from selector.experiment import build_experiment
    from tests.support import compose

    cfg = compose("critic=offline", "reward=noisy_target", "critic.table=gone.npz")
    assert build_experiment(cfg, measuring=True).critic is None
    with pytest.raises(InvalidInput, match=r"critic\.table=gone\.npz"):
        build_experiment(cfg)
    with pytest.raises(InvalidInput, match=r"critic\.table=.*is missing"):
        build_experiment(compose("critic=offline", "reward=noisy_target"))


def test_accumulated_batches_are_one_step_of_the_critic() -> None:
    reward = Sum()
    problem = Problem(Uniform(0.0, 1.0), black_box(reward), N=4, S=2)
    critic = LearnedCritic(S=2, D=1, **SMALL)
    more: dict[str, Any] = {"batch_size": 4, "val_every": 2, "held_out": 4, "trainer": {"accumulate_grad_batches": 3}}
    fit(problem, MLP(N=4, S=2, width=4), STGumbel(), steps=4, critic=critic, **more)
    assert [len(slots) for slots in reward.seen] == [64, *[16] * 4]


@pytest.mark.parametrize("name", sorted(set(names("strategy")) - {"supervised", "st_gumbel_sequential"}))
def test_every_strategy_trains_through_it(name: str) -> None:
    from selector.experiment import build_experiment
    from tests.support import compose

    small = ["critic.width=4", "critic.warmup=8", "critic.warmup_updates=1", "critic.observations=4", "network.width=4"]
    sizes = ["problem.N=3", "problem.S=2", "seeds=2"]
    cfg = compose("critic=learned", "reward=noisy_target", f"strategy={name}", *sizes, *small)
    made = build_experiment(cfg)
    objects = (made.problem, made.network, made.strategy, made.tau)
    _, result = fit(*objects, steps=2, batch_size=4, val_every=2, held_out=4, critic=made.critic)
    assert all(np.isfinite(result.metrics["regret"]))


class Late(Sum):
    """Breaks once it has been asked a few times."""

    def observe(self, slots: Array, context: Array | None, generator: np.random.Generator) -> Array:
        reward = super().observe(slots, context, generator)
        return reward * np.inf if len(self.seen) > 5 else reward


@pytest.mark.parametrize("learned", [True, False])
def test_a_reward_that_breaks_in_training_is_named_and_not_remembered(learned: bool) -> None:
    problem = Problem(Uniform(0.0, 1.0), black_box(Late()), N=4, S=2)
    critic = LearnedCritic(S=2, D=1, **SMALL) if learned else None
    strategy = STGumbel() if learned else RLOO()
    with pytest.raises(FloatingPointError, match=r"^reward=Late: "):
        fit(problem, MLP(N=4, S=2, width=16), strategy, steps=20, batch_size=16, held_out=8, critic=critic)
    assert critic is None or bool(critic.buffer.rewards.isfinite().all())


def rloo(seeds: tuple[int, ...], noise: float, steps: int = 8, **options: Any) -> MLP:
    problem = Problem(Uniform(0.0, 1.0), black_box(NoisyTarget(0.5, noise=noise)), N=4, S=2)
    network = MLP(N=4, S=2, width=8, seeds=seeds)
    fit(problem, network, RLOO(), steps=steps, batch_size=8, val_every=4, held_out=8, **options)
    return network


def test_without_a_critic_it_is_trained_on_what_is_seen(tmp_path: Path) -> None:
    noisy, alone, exact = rloo((3, 5), 5.0), rloo((5,), 5.0), rloo((5,), 0.0)
    for both, one, other in zip(noisy.parameters(), alone.parameters(), exact.parameters(), strict=True):
        assert torch.equal(both[1:], one), "noise belongs to the seed"
        assert not torch.equal(one, other), "and is learned from"
    rloo((5,), 5.0, steps=4, folder=tmp_path)
    resumed = rloo((5,), 5.0, folder=tmp_path, resume=True)
    for one, other in zip(alone.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_is_refused() -> None:
    box = Problem(Uniform(0.0, 1.0), black_box(NoisyTarget(0.5)), N=4, S=2)
    known = Problem(Uniform(0.0, 1.0), TargetValue(0.5), N=4, S=2)
    critic = LearnedCritic(S=2, D=1, **SMALL)
    check_actor_critic(box, critic, STGumbel(), {})
    check_actor_critic(box, None, RLOO(), {})
    with pytest.raises(InvalidInput, match="has none; take critic=learned, or strategy=rloo"):
        check_actor_critic(box, None, STGumbel(), {})
    with pytest.raises(InvalidInput, match="is told the best items"):
        check_actor_critic(box, critic, Supervised(), {})
    with pytest.raises(InvalidInput, match="needs a black box"):
        check_actor_critic(known, critic, STGumbel(), {})
    with pytest.raises(InvalidInput, match=r"accelerator\.devices=2: must be 1"):
        check_actor_critic(box, critic, STGumbel(), {"devices": 2, "strategy": "ddp_fork"})
