"""Estimators with one critic call: the gradients they attach, replayed and compared with the hand formulas."""

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from selector.errors import InvalidInput
from selector.noise import Noise, Replay
from selector.strategies import (
    GST,
    RLOO,
    DecoupledST,
    EntmaxST,
    Exact,
    GumbelRao,
    GumbelSoftmax,
    LocalExpectation,
    Rebar,
    Reinforce,
    ReinMax,
    ReinMaxRao,
    Softmax,
    STArgmax,
    STGumbel,
    STIdentity,
    Strategy,
    STSampled,
)
from selector.strategies.gumbel_rao import condition

B, S, N = 5, 3, 4


@pytest.fixture
def logits() -> Tensor:
    return Noise(0, "logits").normal([B, S, N], dtype=torch.float64).requires_grad_()


@pytest.fixture
def v() -> Tensor:
    """The gradient that reaches the weights."""
    return Noise(0, "v").normal([B, S, N], dtype=torch.float64)


def backward(strategy: Strategy, logits: Tensor, v: Tensor, tau: float, noise: Noise) -> tuple[Tensor, Tensor]:
    """(index [B, S], gradient with respect to the logits [B, S, N]) of a gradient v at the weights."""
    selection = strategy.select(logits, tau, noise)
    assert selection.index is not None
    slots = selection.pick(
        torch.eye(v.shape[-1], dtype=v.dtype).expand(len(v), -1, -1)
    )  # a filled slot is the one-hot choice itself
    return selection.index[0], torch.autograd.grad(slots[0], logits, v)[0]


def jacobian(p: Tensor, v: Tensor) -> Tensor:
    return p * (v - (p * v).sum(-1, keepdim=True))


# ---- decoupled_st -------------------------------------------------------------------------------------------------


def test_decoupled_with_forward_temperature_1_is_st_sampled(logits: Tensor, v: Tensor) -> None:
    ours = backward(DecoupledST(tau_f=1.0), logits, v, 0.7, Noise(1))
    theirs = backward(STSampled(), logits, v, 0.7, Noise(1))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_decoupled_with_equal_temperatures_is_st_sampled_on_tempered_logits(logits: Tensor, v: Tensor) -> None:
    index, gradient = backward(DecoupledST(), logits, v, 0.5, Noise(1))
    tempered = logits / 0.5
    expected_index, at_tempered = backward(STSampled(), tempered, v, 1.0, Noise(1))
    assert torch.equal(index, expected_index)
    torch.testing.assert_close(gradient, at_tempered / 0.5)


def test_decoupled_with_backward_noise_and_forward_temperature_1_is_st_gumbel(logits: Tensor, v: Tensor) -> None:
    ours = backward(DecoupledST(1.0, 0.7, backward_noise=True), logits, v, 3.0, Noise(1))
    theirs = backward(STGumbel(), logits, v, 0.7, Noise(1))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_decoupled_with_equal_temperatures_is_not_st_gumbel(logits: Tensor, v: Tensor) -> None:
    _, ours = backward(DecoupledST(1.0, 1.0), logits, v, 1.0, Noise(1))
    _, theirs = backward(STGumbel(), logits, v, 1.0, Noise(1))
    assert not torch.allclose(ours, theirs)


# ---- reinmax ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.5, 1.0, 1.3])
def test_reinmax_backward_is_the_closed_form(logits: Tensor, v: Tensor, tau: float) -> None:
    index, gradient = backward(ReinMax(), logits, v, tau, Noise(1))
    drawn = torch.nn.functional.one_hot(index, N)
    pi, pi_tau = logits.detach().softmax(-1), (logits.detach() / tau).softmax(-1)
    torch.testing.assert_close(gradient, 2 * jacobian((pi_tau + drawn) / 2, v) - 0.5 * jacobian(pi, v))


@pytest.mark.parametrize("tau", [1.0, 1.3])
def test_reinmax_backward_is_that_of_the_package(tau: float) -> None:
    reinmax = pytest.importorskip("reinmax").reinmax
    logits = Noise(0).normal([64, N], dtype=torch.float64).requires_grad_()
    v = Noise(1).normal([64, N], dtype=torch.float64)
    torch.manual_seed(0)  # the package draws from torch's global generator
    sample, _ = reinmax(logits, tau)
    (theirs,) = torch.autograd.grad(sample, logits, v)

    class Same(Noise):
        """Gumbels that draw what the package drew."""

        def gumbel(self, *_: object, **__: object) -> Tensor:
            return 1e9 * sample.detach().unsqueeze(-2)

    index, ours = backward(ReinMax(), logits.unsqueeze(-2), v.unsqueeze(-2), tau, Same())
    assert torch.equal(index.squeeze(-1), sample.argmax(-1))
    torch.testing.assert_close(ours.squeeze(-2), theirs)


# ---- gumbel_rao, reinmax_rao --------------------------------------------------------------------------------------


def test_gumbel_rao_backward_is_a_mean_of_jacobians_at_softmaxes_whose_argmax_is_the_draw(
    logits: Tensor, v: Tensor
) -> None:
    noise = Replay(Noise(1))
    index, gradient = backward(GumbelRao(K=6), logits, v, 0.5, noise)
    noise.rewind().gumbel(logits.shape, dtype=logits.dtype)
    z = condition(logits.detach().log_softmax(-1), index, noise.gumbel(logits.shape, draws=6, dtype=logits.dtype))
    assert (z.argmax(-1) == index).all()
    torch.testing.assert_close(gradient, jacobian((z / 0.5).softmax(-1), v).mean(0) / 0.5)


def test_reinmax_rao_backward_is_the_closed_form(logits: Tensor, v: Tensor) -> None:
    noise = Replay(Noise(1))
    index, gradient = backward(ReinMaxRao(K=6), logits, v, 0.5, noise)
    noise.rewind().gumbel(logits.shape, dtype=logits.dtype)
    pi = logits.detach().softmax(-1)
    midpoint = (pi + torch.nn.functional.one_hot(index, N)) / 2
    z = condition(midpoint.log(), index, noise.gumbel(logits.shape, draws=6, dtype=logits.dtype))
    torch.testing.assert_close(gradient, 2 * jacobian((z / 0.5).softmax(-1), v).mean(0) / 0.5 - 0.5 * jacobian(pi, v))


def test_conditional_gumbels_are_differentiable(logits: Tensor) -> None:
    index = logits.argmin(-1)
    G = Noise(2).gumbel([2, B, S, N], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda leaf: condition(leaf.log_softmax(-1), index, G), logits)
    assert torch.autograd.gradgradcheck(lambda leaf: condition(leaf.log_softmax(-1), index, G), logits)


def test_conditional_gumbels_stand_any_size() -> None:
    log_p = torch.tensor([0.0, -1e4, -torch.inf, -2e4], requires_grad=True)
    z = condition(log_p, torch.tensor(1), Noise(0).gumbel([100, 4]))
    assert (z.argmax(-1) == 1).all()
    z.softmax(-1)[:, 1].sum().backward()
    assert log_p.grad is not None
    assert log_p.grad.isfinite().all()


# ---- gst ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [0.0, 0.5, 3.0])
def test_gst_lifts_the_draw_to_the_top_and_leaves_a_gap(logits: Tensor, gap: float) -> None:
    index = logits.argmin(-1)
    moved = GST(gap).moved(logits.detach(), index)
    top = logits.detach().amax(-1)
    drawn = moved.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    others = moved.scatter(-1, index.unsqueeze(-1), -torch.inf)
    assert torch.equal(drawn, top)
    assert (others.amax(-1) <= top - gap).all()
    untouched = (logits <= top.unsqueeze(-1) - gap).scatter(-1, index.unsqueeze(-1), False)
    assert torch.equal(moved[untouched], logits[untouched])


def test_gst_gap_p_depends_on_how_likely_the_draw_was() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [50.0, 0.0, 0.0, 0.0], [-500.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    moved = GST("p").moved(logits, torch.zeros(3, dtype=torch.int64))
    p = 0.25
    gap = moved[:, 0] - moved[:, 1]
    assert gap[0] == pytest.approx(-torch.log1p(torch.tensor(-p, dtype=torch.float64)).item() / p)
    assert gap[1] >= 50  # certain: pushed out of sight
    assert gap[2] == pytest.approx(1.0)  # next to impossible: the limit


def test_gst_backward_is_the_jacobian_at_the_moved_logits(logits: Tensor, v: Tensor) -> None:
    strategy = GST("p")
    index, gradient = backward(strategy, logits, v, 0.7, Noise(1))
    p = (strategy.moved(logits.detach(), index) / 0.7).softmax(-1)
    torch.testing.assert_close(gradient, jacobian(p, v) / 0.7)


# ---- entmax_st ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0])
def test_entmax_draws_from_its_support_and_has_its_gradient(logits: Tensor, alpha: float) -> None:
    weights = EntmaxST(alpha).select(logits, 0.5, Noise(1)).weights
    index = EntmaxST(alpha).select(logits.expand(2000, B, S, N), 0.5, Noise(1)).index
    assert weights is not None
    assert index is not None
    p = weights[0].detach()
    torch.testing.assert_close(p.sum(-1), torch.ones_like(p[..., 0]))
    frequency = torch.nn.functional.one_hot(index[0], N).double().mean(0)
    assert (frequency[p == 0] == 0).all()
    torch.testing.assert_close(frequency, p, atol=0.06, rtol=0)

    def law(leaf: Tensor) -> Tensor:
        found = EntmaxST(alpha).select(leaf, 0.5, Noise(1)).weights
        assert found is not None
        return found

    assert torch.autograd.gradcheck(law, logits, atol=1e-4)


def test_entmax_algorithms_agree(logits: Tensor) -> None:
    exact, bisected = (EntmaxST(alpha).select(logits, 1.0, Noise(1)).weights for alpha in (1.5, 1.5 + 1e-9))
    torch.testing.assert_close(exact, bisected)


def test_entmax_without_its_library_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "entmax", None)
    with pytest.raises(InvalidInput) as caught:
        EntmaxST()
    assert str(caught.value.under("strategy")) == (
        "strategy=entmax_st: needs the library entmax: pip install 'selector[entmax]'"
    )


# ---- bad options --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: DecoupledST(tau_f=0.0), "tau_f"),
        (lambda: DecoupledST(tau_b=-1.0), "tau_b"),
        (lambda: GumbelRao(0), "K"),
        (lambda: ReinMaxRao(0), "K"),
        (lambda: GST(-1.0), "gap"),
        (lambda: GST("q"), "gap"),  # type: ignore[arg-type]
        (lambda: EntmaxST(1.0), "alpha"),
    ],
)
def test_bad_options_are_refused(make: Callable[[], Strategy], key: str) -> None:
    with pytest.raises(InvalidInput, match=key):
        make()


# ---- shift invariance ---------------------------------------------------------------------------------------------

INVARIANT: dict[str, Callable[[], Strategy]] = {
    "softmax": Softmax,
    "gumbel_softmax": GumbelSoftmax,
    "st_argmax": STArgmax,
    "st_sampled": STSampled,
    "st_gumbel": STGumbel,
    "decoupled_st": DecoupledST,
    "reinmax": ReinMax,
    "gumbel_rao": GumbelRao,
    "reinmax_rao": ReinMaxRao,
    "gst": GST,
    "entmax_st": EntmaxST,
    "rloo": RLOO,
    "local_expectation": LocalExpectation,
    "rebar, eta 1": Rebar,
    "exact": Exact,
}


def shifted_gradient(strategy: Strategy, logits: Tensor, c: float) -> Tensor:
    """The gradient of a loss plus c·Σz, z the one-hot choices: a constant feature of every item carries the sum."""
    items = Noise(3).normal([B, N, 2], dtype=torch.float64)
    items[..., 1] = 1.0
    selection = strategy.select(logits, 0.8, Noise(1))
    slots = selection.pick(items)
    losses = slots[..., 0].sum(-1).square() + c * slots[..., 1].sum(-1)
    return torch.autograd.grad(strategy.surrogate(selection, losses).sum(), logits)[0]


@pytest.mark.parametrize("make", INVARIANT.values(), ids=INVARIANT)
def test_a_constant_in_every_choice_changes_no_gradient(make: Callable[[], Strategy], logits: Tensor) -> None:
    torch.testing.assert_close(shifted_gradient(make(), logits, 7.0), shifted_gradient(make(), logits, 0.0))


def test_a_constant_in_every_choice_shifts_st_identity(logits: Tensor) -> None:
    shift = shifted_gradient(STIdentity(), logits, 7.0) - shifted_gradient(STIdentity(), logits, 0.0)
    torch.testing.assert_close(shift, torch.full_like(shift, 7.0))


def test_a_constant_in_every_choice_changes_plain_reinforce_sample_by_sample(logits: Tensor) -> None:
    shift = shifted_gradient(Reinforce(), logits, 7.0) - shifted_gradient(Reinforce(), logits, 0.0)
    assert shift.abs().min() > 1e-3


# ---- relaxations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [Softmax(), GumbelSoftmax()], ids=["softmax", "gumbel_softmax"])
def test_relaxations_have_the_gradient_of_their_own_loss(strategy: Strategy, logits: Tensor) -> None:
    items = Noise(3).normal([B, N, 2], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda leaf: strategy.select(leaf, 0.7, Noise(1)).pick(items).square(), logits)
