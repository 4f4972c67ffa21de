"""Picking is exact forward, and backward it is the gradient of the one-hot product."""

import pytest
import torch
from torch import Tensor

import selector.selection
from selector.selection import Selection, SoftmaxAt, pick_rows

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
    items, upstream = items.mul(8).round(), upstream.mul(8).round()  # whole: equal in whatever order a product adds
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


# ---- the softmax that only the backward pass computes -------------------------------------------------------------

SHAPES = [((6,), 4, 5, 3), ((2, 3), 4, 5, 1), ((), 3, 40, 2), ((5,), 7, 40, 1), ((2, 2), 3, 40, 3)]


def softmax_case(lead: tuple[int, ...], S: int, N: int, D: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """items, index, logits, perturbed scores (one of them masked), upstream gradient."""
    g = torch.Generator().manual_seed(1)
    items, upstream = (torch.randn(*lead, k, D, generator=g, dtype=torch.float64) for k in (N, S))
    logits = torch.randn(*lead, S, N, generator=g, dtype=torch.float64)
    logits[..., 1] = -torch.inf
    scores = logits + torch.randn(*lead, S, N, generator=g, dtype=torch.float64)
    return items, scores.argmax(-1), logits.requires_grad_(), scores, upstream


@pytest.mark.parametrize("chunk", [1, 100, 2**16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_gradient_is_that_of_the_weights_whatever_the_chunk(
    shape: tuple[tuple[int, ...], int, int, int], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selector.selection, "_CHUNK", chunk)
    items, index, logits, scores, upstream = softmax_case(*shape)
    ours = Selection(index=index[None], softmax=SoftmaxAt(logits, scores, 0.7)).pick(items)
    plain = (logits + (scores - logits.detach()).nan_to_num(nan=0.0)) / 0.7
    theirs = Selection(index=index[None], weights=plain.softmax(-1)[None]).pick(items)
    assert torch.equal(ours, theirs)
    found, expected = (torch.autograd.grad(x[0], logits, upstream)[0] for x in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert not found[..., 1].any()


def test_second_derivatives_are_those_of_the_weights() -> None:
    items, index, logits, scores, upstream = softmax_case((2,), 3, 4, 2)
    moved = torch.where(scores.isneginf(), 0.0, scores - logits).detach()

    def gradient(leaf: Tensor, through: bool) -> Tensor:
        if through:
            chosen = Selection(index=index[None], softmax=SoftmaxAt(leaf, scores, 0.7))
        else:
            chosen = Selection(index=index[None], weights=((leaf + moved) / 0.7).softmax(-1)[None])
        (first,) = torch.autograd.grad(chosen.pick(items)[0], leaf, upstream, create_graph=True)
        return torch.autograd.grad(first.square().sum(), leaf)[0]

    torch.testing.assert_close(gradient(logits, True), gradient(logits, False), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("N", [5, 40])
def test_vmap_of_the_gradient_through_the_softmax(N: int) -> None:
    items, index, logits, scores, upstream = softmax_case((6,), 3, N, 2)

    def loss(leaf: Tensor, x: Tensor, i: Tensor, z: Tensor, v: Tensor) -> Tensor:
        return (Selection(index=i[None], softmax=SoftmaxAt(leaf, z, 0.7)).pick(x)[0] * v).sum()

    arguments = (logits.detach(), items, index, scores, upstream)
    batched = torch.autograd.grad(loss(logits, *arguments[1:]), logits)[0]
    torch.testing.assert_close(torch.vmap(torch.func.grad(loss))(*arguments), batched, rtol=1e-12, atol=1e-12)


def test_autocast_does_not_round_the_gradient() -> None:
    items, index, logits, scores, upstream = (
        t.float() if t.is_floating_point() else t for t in softmax_case((6,), 3, 40, 2)
    )
    logits = logits.detach().requires_grad_()
    picked = Selection(index=index[None], softmax=SoftmaxAt(logits, scores, 0.7)).pick(items)[0]
    (plain,) = torch.autograd.grad(picked, logits, upstream, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        (within,) = torch.autograd.grad(picked, logits, upstream)
    assert torch.equal(within, plain)


def test_the_softmax_stands_in_place_of_weights() -> None:
    items, index, logits, scores, _ = softmax_case((2,), 3, 4, 1)
    at = SoftmaxAt(logits, scores, 1.0)
    for wrong in ({"weights": scores[None]}, {"index": None}, {"index": index.expand(2, 2, 3)}):
        with pytest.raises(ValueError, match="hard"):
            Selection(**{"index": index[None], "softmax": at, **wrong})
    with pytest.raises(ValueError, match="do not fit"):
        Selection(index=index[None], softmax=at).pick(items[:, :3])


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch 2.13's own tracing does
@pytest.mark.parametrize("N", [5, 40])
def test_compiled_picking_has_the_same_gradient(N: int) -> None:
    items, index, logits, scores, upstream = softmax_case((6,), 3, N, 2)

    def pick(leaf: Tensor, x: Tensor, i: Tensor, z: Tensor) -> Tensor:
        return Selection(index=i[None], softmax=SoftmaxAt(leaf, z, 0.7)).pick(x)[0]

    compiled = torch.compile(pick, backend="aot_eager", fullgraph=True)
    ours, theirs = (f(logits, items, index, scores) for f in (compiled, pick))
    assert torch.equal(ours, theirs)
    found, expected = (torch.autograd.grad(x, logits, upstream)[0] for x in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
