"""Critics against their formulas, one number per list whatever the leading dims."""

import math

import pytest
import torch
from torch import Tensor

from selector.batch import Batch
from selector.critics import Critic, Diversity, SeparableCritic, SlotTargets, SumTarget, TargetValue, Teacher
from selector.errors import InvalidInput
from selector.noise import Noise

S, D = 3, 2
CRITICS: list[Critic] = [TargetValue(0.5), SlotTargets(S), SumTarget(1.0), Teacher(S, D), Diversity(2.0, 0.5)]
every_critic = pytest.mark.parametrize("critic", CRITICS, ids=lambda c: type(c).__name__)


def slots(*lead: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return Noise(0, "slots").normal([*lead, S, D], dtype=dtype)


def judge(critic: Critic, filled: Tensor) -> Tensor:
    losses: Tensor = critic(filled, Batch(torch.zeros(*filled.shape[1:-2], 4, D)))
    return losses


@every_critic
@pytest.mark.parametrize("lead", [(1,), (4,), (2, 3), (2, 1, 3)])
def test_one_loss_for_every_query_and_list(critic: Critic, lead: tuple[int, ...]) -> None:
    filled = slots(*lead)
    losses = judge(critic, filled)
    assert losses.shape == lead
    alone = [judge(critic, one.unsqueeze(0)) for one in filled.reshape(-1, S, D)]
    torch.testing.assert_close(losses.flatten(), torch.cat(alone))


@every_critic
def test_gradcheck(critic: Critic) -> None:
    assert torch.autograd.gradcheck(lambda x: judge(critic, x), [slots(2).requires_grad_()])


def test_formulas() -> None:
    x = slots(1)
    values = x[0].tolist()
    assert float(judge(TargetValue(0.5), x)) == pytest.approx(sum((v - 0.5) ** 2 for row in values for v in row))
    targets = [1.0, -2.0, 0.0]
    expected = sum((v - t) ** 2 for row, t in zip(values, targets, strict=True) for v in row)
    assert float(judge(SlotTargets(S, targets), x)) == pytest.approx(expected)
    expected = sum((sum(row[d] for row in values) - 1.0) ** 2 for d in range(D))
    assert float(judge(SumTarget(1.0), x)) == pytest.approx(expected)
    expected = -sum(row[0] for row in values)
    for s in range(S):
        for t in range(s + 1, S):
            expected += 2.0 * math.exp(-(math.dist(values[s], values[t]) ** 2) / (2 * 0.5**2))
    assert float(judge(Diversity(2.0, 0.5), x)) == pytest.approx(expected)


def test_targets_are_spaced_evenly() -> None:
    assert SlotTargets(3, low=2.0, high=8.0).targets.tolist() == [2.0, 5.0, 8.0]


@pytest.mark.parametrize("critic", [c for c in CRITICS if isinstance(c, SeparableCritic)])
def test_the_table_of_a_separable_critic_holds_every_item_in_every_slot(critic: SeparableCritic) -> None:
    items = Noise(1, "items").normal([2, 5, D], dtype=torch.float64)
    table = critic.table(items, S)
    assert table.shape == (2, S, 5)
    for choice in ([0, 0, 0], [4, 1, 2]):
        losses = judge(critic, items[:, choice].unsqueeze(0))[0]
        torch.testing.assert_close(sum(table[:, s, n] for s, n in enumerate(choice)), losses)


def test_a_teacher_is_the_same_for_every_run_and_another_for_another_seed() -> None:
    x = slots(4)
    assert torch.equal(judge(Teacher(S, D), x), judge(Teacher(S, D), x))
    assert not torch.equal(judge(Teacher(S, D, seed=1), x), judge(Teacher(S, D), x))
    assert not list(Teacher(S, D).parameters())


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: SlotTargets(3, [1.0, 2.0]), "targets"),
        (lambda: Diversity(penalty=-1.0), "penalty"),
        (lambda: Diversity(radius=0.0), "radius"),
        (lambda: Teacher(S, D, width=0), "width"),
        (lambda: Teacher(S, D, scale=0.0), "scale"),
    ],
)
def test_values_out_of_range_are_refused_by_name(make: object, key: str) -> None:
    assert callable(make)
    with pytest.raises(InvalidInput) as refused:
        make()
    assert refused.value.key == key
