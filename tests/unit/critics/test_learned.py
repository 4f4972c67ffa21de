"""The learned critic: its ensemble, its buffer, and tables of past picks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from selector.batch import Batch
from selector.critics.learned import LearnedCritic
from selector.critics.replay import ReplayBuffer
from selector.critics.table import read_table
from selector.errors import InvalidInput


def small(seeds: tuple[int, ...] = (0, 1), **options: Any) -> LearnedCritic:
    return LearnedCritic(S=2, D=1, seeds=seeds, **{"width": 8, "members": 3, "buffer": 64, "warmup": 8, **options})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_loss_is_minus_the_mean_plus_the_spread() -> None:
    critic, slots = small(pessimism=2.0), torch.rand(4, 2, 5, 2, 1, generator=generator()).requires_grad_()
    critic.out_std.fill_(3.0)
    losses = critic(slots, Batch(torch.zeros(2, 5, 6, 1)))
    assert losses.shape == (4, 2, 5)
    rewards = critic.predict(slots.detach()[1].flatten(-2))  # [R, E, 5] of the second query
    torch.testing.assert_close(losses[1], -rewards.mean(1) + 2.0 * rewards.std(1), atol=1e-3, rtol=1e-4)
    losses.sum().backward()
    assert slots.grad is not None
    assert slots.grad.abs().min() > 0
    assert all(p.grad is None for p in critic.parameters()), "the selector's backward pass leaves the critic alone"


def test_members_and_seeds_differ_and_a_seed_is_the_same_alone() -> None:
    both, alone = small((3, 5)), small((5,))
    rows = torch.rand(2, 7, 2, generator=generator())
    predicted = both.predict(rows)
    assert torch.equal(predicted[1:], alone.predict(rows[1:]))
    assert len({round(float(v), 5) for v in predicted[:, :, 0].flatten()}) == 6
    assert torch.equal(both.predict(rows, both.online), predicted), "the target begins as the critic that learns"


def test_context_is_part_of_what_it_sees() -> None:
    critic = LearnedCritic(S=2, D=1, C=1, width=8, buffer=64, warmup=8)
    slots, items = torch.rand(2, 1, 3, 2, 1, generator=generator()), torch.zeros(1, 3, 4, 1)
    one, other = (critic(slots, Batch(items, context=torch.full((1, 3, 1), value))) for value in (0.0, 1.0))
    assert (one != other).all()


def test_the_buffer_keeps_the_newest() -> None:
    buffer = ReplayBuffer(2, 5, 1)
    for start in (0, 3, 6):
        rows = torch.arange(start, start + 3.0).expand(2, 3)
        buffer.add(rows.unsqueeze(-1), -rows)
    assert len(buffer) == 5
    assert sorted(buffer.rows[1].flatten().tolist()) == [4.0, 5.0, 6.0, 7.0, 8.0]
    assert torch.equal(buffer.rewards, -buffer.rows.squeeze(-1))
    other = ReplayBuffer(2, 5, 1)
    other.load_state_dict(buffer.state_dict())
    assert len(other) == 5
    rows, rewards = other.take(torch.tensor([[0, 4], [1, 1]]))
    assert torch.equal(rewards, -rows.squeeze(-1))


def test_scales_are_those_of_each_seeds_buffer() -> None:
    critic = small(members=1, pessimism=0.0)
    rows = torch.randn(2, 40, 2, generator=generator()) * torch.tensor([1.0, 5.0]).view(2, 1, 1) + 2.0
    critic.buffer.add(rows, 7.0 * rows.sum(-1))
    critic.standardise()
    torch.testing.assert_close(critic.in_mean.squeeze(1), rows.mean(1))
    standard = critic.standard(7.0 * rows.sum(-1))
    torch.testing.assert_close(standard.mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard.std(1), torch.ones(2))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"members": 0}, "members"),
        ({"pessimism": -1.0}, "pessimism"),
        ({"lr": 0.0}, "lr"),
        ({"explore": 1.5}, "explore"),
        ({"target_decay": 1.0}, "target_decay"),
        ({"warmup": 1}, "warmup"),
        ({"warmup": 0}, "table"),
        ({"members": 1, "pessimism": 0.5}, "pessimism"),
        ({"buffer": 7}, "buffer"),
        ({"activation": "cube"}, "activation"),
        ({"table": "nowhere.npy"}, "table"),
    ],
)
def test_values_out_of_range(options: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidInput) as error:
        small(**options)
    assert error.value.key == key


def test_tables_in_three_formats(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    slots, context, reward = rng.normal(size=(12, 3, 2)), rng.normal(size=(12, 1)), rng.normal(size=12)
    flat = np.concatenate([slots.reshape(12, -1), context, reward[:, None]], 1)
    np.savez(tmp_path / "a.npz", slots=slots, context=context, reward=reward)
    np.save(tmp_path / "a.npy", flat)
    np.savetxt(tmp_path / "a.csv", flat, delimiter=",", header="a,b,c,d,e,f,context,reward", comments="")
    for name in ("a.npz", "a.npy", "a.csv"):
        rows, rewards = read_table(tmp_path / name, S=3, D=2, C=1)
        torch.testing.assert_close(rows, torch.from_numpy(flat[:, :-1]).float())
        torch.testing.assert_close(rewards, torch.from_numpy(reward).float())


def test_tables_that_are_refused(tmp_path: Path) -> None:
    flat = np.ones((12, 7))
    np.save(tmp_path / "few.npy", flat[:5])
    np.save(tmp_path / "narrow.npy", flat[:, 1:])
    np.save(tmp_path / "nan.npy", np.where(np.arange(12)[:, None] == 3, np.nan, flat))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "names.npz", slots=flat.reshape(12, 7, 1))
    np.savez(tmp_path / "shapes.npz", slots=flat[:, :6].reshape(12, 2, 3), reward=flat[:, 0])
    (tmp_path / "text.csv").write_text("a,b\n1,x\n")
    (tmp_path / "empty.csv").write_text("")
    for name, words in (
        ("few.npy", "10 rows"), ("narrow.npy", "7 columns"), ("nan.npy", "row 4"), ("objects.npy", "never unpickled"),
        ("names.npz", "reward"), ("shapes.npz", "slots must be"), ("text.csv", ""), ("empty.csv", ""),
        ("nowhere.npz", "No such file"), ("a.txt", "must end in"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput) as error:
            read_table(tmp_path / name, S=3, D=2, C=0)
        assert error.value.key == "table"
        assert words in str(error.value)
        assert "\n" not in str(error.value)
