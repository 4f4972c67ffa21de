"""Lists of items and which of them are allowed."""

import pytest
import torch

from selector.batch import Batch, check_mask
from selector.noise import Noise


def test_masked_logits_are_minus_infinity_and_pass_no_gradient_there() -> None:
    logits = Noise(0, "logits").normal([2, 3, 4]).requires_grad_()  # [*, S, N]
    mask = torch.tensor([[[True, False, True, True]], [[False, False, True, True]]])
    masked = Batch(torch.zeros(2, 4, 1), mask).masked(logits)
    allowed = mask.expand(2, 3, 4)
    assert torch.equal(masked[allowed], logits[allowed])
    assert masked[~allowed].isneginf().all()
    masked.softmax(-1).square().sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[~allowed].any()


def test_without_a_mask_the_logits_stay() -> None:
    logits = torch.zeros(2, 3, 4)
    assert Batch(torch.zeros(2, 4, 1)).masked(logits) is logits


def test_items_mask_and_context_change_their_leading_dims_together() -> None:
    items, mask = torch.arange(24.0).view(6, 4, 1), torch.arange(6 * 2 * 4).view(6, 2, 4) % 3 > 0
    batch = Batch(items, mask, torch.arange(18.0).view(6, 3))
    folded = batch.reshape(2, 3)
    assert folded.context is not None
    assert folded.context.shape == (2, 3, 3)
    assert folded.context[1, 0].tolist() == [9.0, 10.0, 11.0]
    repeats = folded.repeat(5).context
    assert repeats is not None
    assert torch.equal(repeats[:, 4], folded.context)
    few = batch.narrow(2, 3).context
    assert few is not None
    assert few.tolist() == [[6.0, 7.0, 8.0], [9.0, 10.0, 11.0], [12.0, 13.0, 14.0]]
    assert folded.mask is not None
    assert folded.items.shape == (2, 3, 4, 1)
    assert torch.equal(folded.mask.flatten(0, 1), mask)
    repeated = folded.repeat(5)
    assert repeated.mask is not None
    assert repeated.items.shape == (2, 5, 3, 4, 1)
    assert torch.equal(repeated.mask[:, 4], folded.mask)
    expanded = batch.expand(7)
    assert expanded.mask is not None
    assert expanded.mask.shape == (7, 6, 2, 4)
    part = batch.narrow(2, 3)
    assert part.mask is not None
    assert torch.equal(part.items, items[2:5])
    assert torch.equal(part.mask, mask[2:5])


def test_an_item_is_allowed_when_some_slot_may_choose_it() -> None:
    mask = torch.tensor([[[True, False, False], [False, True, False]]])
    allowed = Batch(torch.zeros(1, 3, 1), mask).allowed
    assert allowed is not None
    assert allowed.tolist() == [[True, True, False]]
    assert Batch(torch.zeros(1, 3, 1)).allowed is None


def test_a_mask_that_leaves_nothing_is_refused_by_list_and_slot() -> None:
    check_mask(torch.ones(2, 3, 1, 4, dtype=torch.bool))
    mask = torch.ones(2, 3, 2, 4, dtype=torch.bool)
    mask[1, 2, 1] = False
    with pytest.raises(ValueError, match=r"^the mask allows no item at all for slot 1 of list \[1, 2\]$"):
        check_mask(mask)
    with pytest.raises(ValueError, match=r"^the mask allows no item at all for every slot of list \[1\]$"):
        check_mask(torch.tensor([[[True, False]], [[False, False]]]))
