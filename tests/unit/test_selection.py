"""Picking is exact forward, and backward it is the gradient of the one-hot product."""

import pytest
import torch
from torch import Tensor

from selector.selection import Selection, pick_rows

LEADS = [(), (3,), (2, 3), (2, 1, 3)]


def draw(lead: tuple[int, ...], D: int = 3, Q: int = 1, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """items [*, 5, D], index [Q, *, 4], weights [Q, *, 4, 5], upstream gradient [Q, *, 4, D]."""
    g = torch.Generator().manual_seed(0)
    items = torch.randn(*lead, 5, D, generator=g, dtype=torch.float64)
    index = torch.randint(5, (Q, *lead, 4), generator=g)
    weights = torch.randn(Q, *lead, 4, 5, generator=g, dtype=torch.float64)
    upstream = torch.randn(Q, *lead, 4, D, generator=g, dtype=torch.float64)
    return items.to(dtype), index, weights.to(dtype), upstream.to(dtype)


def rows(items: Tensor, index: Tensor) -> Tensor:
    """Plain indexing, one row after the other."""
    flat = items.reshape(-1, *items.shape[-2:])
    picked = [torch.stack([flat[b][i] for i in row]) for q in index for b, row in enumerate(q.reshape(len(flat), -1))]
    return torch.stack(picked).view(*index.shape, items.shape[-1])


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("Q", [1, 3])
def test_hard_picks_are_rows_bit_for_bit(lead: tuple[int, ...], Q: int) -> None:
    items, index, weights, _ = draw(lead, Q=Q, dtype=torch.float32)
    items = items * torch.logspace(-20, 20, 5).unsqueeze(-1)  # a sum of two such terms would round
    assert torch.equal(Selection(index=index, weights=weights).pick(items), rows(items, index))
    assert torch.equal(Selection(index=index).pick(items), rows(items, index))


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("D", [1, 3])
@pytest.mark.parametrize("Q", [1, 3])
def test_weights_get_the_gradient_of_the_one_hot_product(lead: tuple[int, ...], D: int, Q: int) -> None:
    items, index, weights, upstream = draw(lead, D, Q)
    weights.requires_grad_()
    Selection(index=index, weights=weights).pick(items).backward(upstream)
    one_hot = torch.nn.functional.one_hot(index, 5).double().requires_grad_()
    (one_hot @ items).backward(upstream)
    assert weights.grad is not None
    assert torch.equal(weights.grad, one_hot.grad)


@pytest.mark.parametrize("Q", [1, 3])
def test_items_get_the_gradient_of_plain_indexing(Q: int) -> None:
    items, index, weights, upstream = draw((2, 3), Q=Q)
    ours, theirs = items.clone().requires_grad_(), items.clone().requires_grad_()
    Selection(index=index, weights=weights).pick(ours).backward(upstream)
    rows(theirs, index).backward(upstream)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-14, atol=1e-14)


def test_gradcheck_of_the_gather_and_of_the_mixture() -> None:
    items, index, weights, _ = draw((2,))
    items.requires_grad_()
    weights.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: Selection(index=index).pick(x), [items])
    assert torch.autograd.gradcheck(lambda w, x: Selection(weights=w).pick(x), [weights, items])


def test_without_weights_no_gradient_is_asked_for() -> None:
    items, index, _, _ = draw((2,))
    assert not Selection(index=index).pick(items).requires_grad


@pytest.mark.parametrize("D", [1, 3])
def test_vmap_of_pick_equals_the_batched_pick(D: int) -> None:
    items, index, weights, _ = draw((6,), D)
    vmapped = torch.vmap(pick_rows)(items, index[0], weights[0])
    assert torch.equal(vmapped, pick_rows(items, index[0], weights[0]))


@pytest.mark.parametrize("D", [1, 3])
def test_vmap_of_the_gradient_equals_the_batched_gradient(D: int) -> None:
    items, index, weights, upstream = draw((6,), D)

    def loss(w: Tensor, x: Tensor, i: Tensor, v: Tensor) -> Tensor:
        return (pick_rows(x, i, w) * v).sum()

    vmapped = torch.vmap(torch.func.grad(loss))(weights[0], items, index[0], upstream[0])
    batched = torch.func.grad(loss)(weights[0], items, index[0], upstream[0])
    torch.testing.assert_close(vmapped, batched, rtol=1e-14, atol=1e-14)


def test_inputs_need_not_be_contiguous() -> None:
    items, index, weights, upstream = draw((2, 3))

    def scrambled(x: Tensor) -> Tensor:  # the same values with the strides of its transpose
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)

    plain, strided = weights.clone().requires_grad_(), scrambled(weights).requires_grad_()
    Selection(index=index, weights=plain).pick(items).backward(upstream)
    picked = Selection(index=scrambled(index), weights=strided).pick(scrambled(items))
    picked.backward(scrambled(upstream))
    assert torch.equal(picked, rows(items, index))
    torch.testing.assert_close(strided.grad, plain.grad, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_gradient_has_the_dtype_of_the_weights(dtype: torch.dtype) -> None:
    items, index, weights, upstream = draw((2,), dtype=torch.float32)
    half = weights.to(dtype).requires_grad_()
    Selection(index=index, weights=half).pick(items).backward(upstream)
    assert half.grad is not None
    assert half.grad.dtype == dtype


def test_a_mixture_is_the_weighted_sum_of_rows() -> None:
    items, _, weights, _ = draw((2, 3), Q=2)
    expected = torch.einsum("q...sn,...nd->q...sd", weights, items)
    torch.testing.assert_close(Selection(weights=weights).pick(items), expected, rtol=1e-14, atol=1e-14)


def test_a_selection_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="index"):
        Selection(log_prob=torch.zeros(1))


@pytest.mark.parametrize("shape", [(3, 5, 3), (5, 3), (2, 3, 5, 3), (2, 6, 3)])
def test_items_of_other_leading_dims_or_another_N_are_refused(shape: tuple[int, ...]) -> None:
    _, index, weights, _ = draw((2,))
    for selection in (Selection(index=index, weights=weights), Selection(weights=weights)):
        with pytest.raises(ValueError, match="do not fit"):
            selection.pick(torch.zeros(shape, dtype=torch.float64))
