"""The pick whose noise is made anew: the picks and gradients of the one whose noise is stored."""

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="needs Triton: pip install triton")

from selector import fused
from selector.counters import Counters, GumbelDraw
from selector.fused import SoftmaxAtDraw
from selector.noise import Noise, Replay, SeedNoise
from selector.selection import Selection, SoftmaxAt
from selector.strategies import STGumbel

TAU = 0.7
# Leading dims (the first are seeds), S, N, D. Rows longer than 256 are taken in several blocks.
SHAPES = [((3,), 4, 8, 1), ((2, 3), 5, 7, 3), ((1,), 1, 1, 1), ((1,), 3, 40, 64), ((2, 1, 2), 3, 600, 2)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
Shape = tuple[tuple[int, ...], int, int, int]


def case(shape: Shape, device: torch.device, masked: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """items, logits (if there are several items, some of them masked), upstream gradient."""
    lead, S, N, D = shape
    g = torch.Generator().manual_seed(1)
    items, upstream = (torch.randn(*lead, k, D, generator=g) for k in (N, S))
    logits = torch.randn(*lead, S, N, generator=g)
    if masked and N > 1:
        logits[..., 1::3] = -torch.inf
    return items.to(device), logits.to(device).requires_grad_(), upstream.to(device)


def both(logits: Tensor, device: torch.device) -> tuple[SoftmaxAtDraw, SoftmaxAt]:
    """The softmax whose noise is made anew, and the same with stored noise."""
    first, second = (SeedNoise(range(len(logits)), "x", device) for _ in range(2))
    noise = first.gumbel_draw(logits.shape)
    assert noise is not None
    scores = second.gumbel(logits.shape) + logits.detach()
    return SoftmaxAtDraw(logits, noise, TAU), SoftmaxAt(logits, scores, TAU)


def gradients(at: SoftmaxAtDraw | SoftmaxAt, items: Tensor, index: Tensor, upstream: Tensor) -> tuple[Tensor, ...]:
    leaf = items.clone().requires_grad_()
    picked = Selection(index=index[None], softmax=at).pick(leaf)[0]
    return picked.detach(), *torch.autograd.grad(picked, (at.logits, leaf), upstream)


def assert_close(found: Tensor, expected: Tensor) -> None:
    """To the rounding of float32, relative to the largest entry."""
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6 * float(expected.abs().max()))


@every_shape
def test_the_noise_is_that_of_a_draw(shape: Shape, kernels: torch.device) -> None:
    size = (*shape[0], shape[1], shape[2])
    first, second = (SeedNoise(range(size[0]), "x", kernels) for _ in range(2))
    for _ in range(2):  # and the stream moves on alike
        draw = first.gumbel_draw(size)
        assert draw is not None
        assert torch.equal(draw.make(size), second.gumbel(size))
    assert first.state_dict() == second.state_dict()


@pytest.mark.parametrize("N", [7, 8])
def test_the_noise_of_two_processes_makes_up_the_whole(N: int, kernels: torch.device) -> None:
    whole = SeedNoise([5, 6], "x", kernels).gumbel([2, 4, 3, N])
    for rank in range(2):
        draw = SeedNoise([5, 6], "x", kernels, shard=(rank, 2)).gumbel_draw([2, 2, 3, N])
        assert draw is not None
        mine = whole[:, 2 * rank : 2 * rank + 2]
        assert torch.equal(draw.make([2, 2, 3, N]), mine)
        logits = torch.zeros(2, 2, 3, N, device=kernels)
        assert torch.equal(SoftmaxAtDraw(logits, draw, TAU).argmax(), mine.argmax(-1))


def test_far_into_a_draw_the_noise_is_the_same_everywhere(kernels: torch.device) -> None:
    """A rank's part may begin behind 2^31 counters: not a number of 32 bits."""
    draw = GumbelDraw(torch.tensor([5], device=kernels), draw=3, first=2**22)
    logits = torch.zeros(1, 1, 2**15, device=kernels)
    expected = draw.make(logits.shape).argmax(-1)
    assert torch.equal(fused.perturbed_argmax(logits, draw), expected)
    begin = GumbelDraw(draw.keys, draw.draw, first=0)
    assert not torch.equal(begin.make(logits.shape), draw.make(logits.shape))


@every_shape
@pytest.mark.parametrize("masked", [False, True])
def test_picks_and_gradients_are_those_of_stored_noise(shape: Shape, masked: bool, kernels: torch.device) -> None:
    items, logits, upstream = case(shape, kernels, masked)
    ours, theirs = both(logits, kernels)
    index = ours.argmax()
    assert torch.equal(index, theirs.argmax())
    found, expected = (gradients(at, items, index, upstream) for at in (ours, theirs))
    assert torch.equal(found[0], expected[0])
    assert_close(found[1], expected[1])
    assert_close(found[2], expected[2])
    if masked and shape[2] > 1:
        assert not found[1][..., 1::3].any()
        assert not (index % 3 == 1).any()
    if shape[2] > 1:
        assert found[1].any()


@pytest.mark.parametrize(("tile", "longest"), [(16, 4), (16, 16), (64, 16)])
def test_picks_and_gradients_do_not_depend_on_the_tile(
    tile: int, longest: int, kernels: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, logits, upstream = case(((2, 2), 5, 21, 3), kernels)
    ours, theirs = both(logits, kernels)
    expected = gradients(theirs, items, theirs.argmax(), upstream)
    monkeypatch.setattr(fused, "_TILE", tile)
    monkeypatch.setattr(fused, "_LONGEST", longest)
    assert torch.equal(ours.argmax(), theirs.argmax())
    assert_close(gradients(ours, items, theirs.argmax(), upstream)[1], expected[1])


def test_whole_blocks_may_be_masked(kernels: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_LONGEST", 8)
    items, logits, upstream = case(((2,), 3, 32, 2), kernels, masked=False)
    with torch.no_grad():
        logits[:, 0, :24] = -torch.inf
        logits[:, 1, 8:] = -torch.inf
        logits[:, 2, 1:] = -torch.inf
    ours, theirs = both(logits, kernels)
    assert torch.equal(ours.argmax(), theirs.argmax())
    found, expected = (gradients(at, items, theirs.argmax(), upstream)[1] for at in (ours, theirs))
    assert_close(found, expected)
    assert not found[logits.isneginf()].any()
    assert not found[:, 2].any()


@pytest.mark.parametrize("tau", [1e-30, 1e-4, 1.0])
@pytest.mark.parametrize("size", [8.0, 1e4])
def test_gradients_are_finite_for_large_logits_and_small_temperatures(
    tau: float, size: float, kernels: torch.device
) -> None:
    items, logits, upstream = case(((2,), 4, 9, 2), kernels)
    leaf = (logits.detach().sign() * size).requires_grad_()
    leaf.data[..., 1::3] = -torch.inf
    noise = Noise(1, "x", kernels).gumbel_draw(leaf.shape)
    assert noise is not None
    at = SoftmaxAtDraw(leaf, noise, tau)
    assert gradients(at, items, at.argmax(), upstream)[1].isfinite().all()


@pytest.mark.parametrize("of", ["logits", "items", "upstream"])
def test_inputs_need_not_be_contiguous(of: str, kernels: torch.device) -> None:
    items, logits, upstream = case(((2, 2), 4, 9, 3), kernels)
    index = both(logits, kernels)[0].argmax()
    expected = gradients(both(logits, kernels)[0], items, index, upstream)

    def scrambled(x: Tensor, name: str) -> Tensor:
        return x.detach().transpose(-1, -2).contiguous().transpose(-1, -2) if name == of else x.detach()

    leaf = scrambled(logits, "logits").requires_grad_()
    at = both(leaf, kernels)[0]
    assert torch.equal(at.argmax(), index)
    found = gradients(at, scrambled(items, "items"), index, scrambled(upstream, "upstream"))
    assert torch.equal(found[1], expected[1])


def test_the_weights_and_second_derivatives_are_those_of_stored_noise(kernels: torch.device) -> None:
    items, logits, upstream = case(((2,), 3, 8, 2), kernels)
    found, expected = [], []
    for at, out in zip(both(logits, kernels), (found, expected), strict=True):
        (first,) = torch.autograd.grad(at.pick(items, at.argmax()), logits, upstream, create_graph=True)
        out.extend([at.weights(), first, *torch.autograd.grad(first.square().sum(), logits)])
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_only_the_logits_are_kept_for_the_backward_pass(kernels: torch.device) -> None:
    items, logits, _ = case(((2,), 4, 16, 2), kernels)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        selection = STGumbel().select(logits, TAU, SeedNoise([0, 1], "x", kernels))
        selection.pick(items)
    assert [x.data_ptr() for x in kept if x.numel() >= logits.numel()] == [logits.data_ptr()]


def test_st_gumbel_picks_as_with_stored_noise(kernels: torch.device) -> None:
    """A replayed stream records numbers, so it takes the stored path."""
    items, logits, upstream = case(((2, 3), 4, 9, 2), kernels)
    noise, same = SeedNoise([4, 5], "x", kernels), SeedNoise([4, 5], "x", kernels)
    for _ in range(2):
        ours, theirs = (STGumbel().select(logits, TAU, n) for n in (noise, Replay(same)))
        assert isinstance(ours.softmax, SoftmaxAtDraw)
        assert isinstance(theirs.softmax, SoftmaxAt)
        assert torch.equal(ours.index, theirs.index)
        found, expected = (torch.autograd.grad(s.pick(items)[0], logits, upstream)[0] for s in (ours, theirs))
        assert_close(found, expected)


def test_seeds_pick_alone_as_beside_others(kernels: torch.device) -> None:
    items, logits, upstream = case(((3, 2), 4, 9, 2), kernels)
    together = STGumbel().select(logits, TAU, SeedNoise([7, 8, 9], "x", kernels))
    (stacked,) = torch.autograd.grad(together.pick(items)[0], logits, upstream)
    for r, seed in enumerate([7, 8, 9]):
        leaf = logits[r : r + 1].detach().requires_grad_()
        alone = STGumbel().select(leaf, TAU, SeedNoise([seed], "x", kernels))
        assert torch.equal(alone.index[0], together.index[0, r : r + 1])
        (grad,) = torch.autograd.grad(alone.pick(items[r : r + 1])[0], leaf, upstream[r : r + 1])
        assert torch.equal(grad, stacked[r : r + 1])


def test_half_precision_logits_get_their_gradient(kernels: torch.device) -> None:
    items, logits, upstream = case(((2,), 4, 9, 2), kernels)
    half = logits.detach().bfloat16().requires_grad_()
    selection = STGumbel().select(half, TAU, Noise(0, "x", kernels))
    assert isinstance(selection.softmax, SoftmaxAtDraw)
    (grad,) = torch.autograd.grad(selection.pick(items)[0], half, upstream)
    assert grad.dtype == torch.bfloat16
    assert grad.any()


def test_elsewhere_noise_is_stored(kernels: torch.device) -> None:
    _, logits, _ = case(((2,), 4, 9, 2), kernels)
    noise = Noise(0, "x", kernels)
    assert isinstance(STGumbel().select(logits.double(), TAU, noise).softmax, SoftmaxAt)

    def spread(leaf: Tensor) -> Tensor:
        softmax = STGumbel().select(leaf, TAU, noise).softmax
        assert isinstance(softmax, SoftmaxAt)
        return softmax.weights().square().sum()

    assert torch.func.grad(spread)(logits.detach()).isfinite().all()


def test_under_vmap_a_selection_made_before_it_uses_stored_noise(kernels: torch.device) -> None:
    items, logits, upstream = case(((2,), 3, 8, 2), kernels)
    at = both(logits, kernels)[0]
    index = at.argmax()
    picked = torch.vmap(lambda scale: at.pick(items * scale, index))(torch.tensor([1.0, 2.0], device=kernels))
    assert torch.equal(picked[1], 2 * picked[0])
    (found,) = torch.autograd.grad(picked[0], logits, upstream)
    assert_close(found, gradients(at, items, index, upstream)[1])


def test_under_vmap_the_backward_pass_uses_stored_noise(kernels: torch.device) -> None:
    items, logits, upstream = case(((2,), 3, 8, 2), kernels)
    at = both(logits, kernels)[0]
    picked = at.pick(items, at.argmax())

    def gradient(v: Tensor) -> Tensor:
        return torch.autograd.grad(picked, logits, v, retain_graph=True)[0]

    found, expected = torch.vmap(gradient)(torch.stack([upstream, 2 * upstream])), gradient(upstream)
    assert_close(found, torch.stack([expected, 2 * expected]))


def test_nothing_to_pick_is_picked(kernels: torch.device) -> None:
    for shape in ((0, 3, 4), (2, 0, 4)):
        logits = torch.zeros(shape, device=kernels, requires_grad=True)
        at = SoftmaxAtDraw(logits, Counters([1], kernels).gumbel_draw(), TAU)
        picked = at.pick(torch.zeros(shape[0], 4, 2, device=kernels), at.argmax())
        assert picked.shape == (*shape[:2], 2)
        assert torch.autograd.grad(picked.sum(), logits)[0].shape == shape
