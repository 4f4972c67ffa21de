"""Every yaml in configs/network against one contract.

Shape legend: R seeds · B batch · S slots · N items · D features per item.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from selector.batch import Batch
from selector.building import build
from selector.networks import MLP, Network
from selector.noise import SeedNoise
from selector.optimizer import SGD, clip_per_seed
from tests.support import compose, names, quadratic

SEEDS = (4, 0, 9)
SIZES = [(5, 3, 2), (8, 4, 1)]

every_network = pytest.mark.parametrize("name", names("network"))
# The set_transformer always normalises: it has no option for it.
NORMS = [
    (name, options)
    for name in names("network")
    for options in (
        []
        if name == "free_logits"
        else [()]
        if name == "set_transformer"
        else [("network.norm=none",), ("network.norm=layer",)]
    )
]
with_norms = pytest.mark.parametrize(("name", "norm"), NORMS)
with_layers = pytest.mark.parametrize("name", [name for name in names("network") if name != "free_logits"])
every_size = pytest.mark.parametrize("sizes", SIZES)


def make(name: str, sizes: tuple[int, int, int], seeds: tuple[int, ...], *options: str, C: int = 0) -> Network:
    N, S, D = sizes
    cfg = compose(f"network={name}", *options)
    return build(cfg.network, "network", Network, N=N, S=S, D=D, C=C, seeds=seeds)  # type: ignore[type-abstract]


def lists(sizes: tuple[int, int, int], seeds: tuple[int, ...], B: int = 6, turn: int = 0, C: int = 0) -> Batch:
    N, _, D = sizes
    noise = SeedNoise(seeds, f"items{turn}")
    items = noise.uniform([len(seeds), B, N, D]).mul_(10)
    return Batch(items, context=noise.normal([len(seeds), B, C]) if C else None)


@every_network
@every_size
def test_logits_have_one_row_of_items_for_every_slot(name: str, sizes: tuple[int, int, int]) -> None:
    N, S, _ = sizes
    assert make(name, sizes, SEEDS)(lists(sizes, SEEDS)).shape == (3, 6, S, N)


@every_network
def test_every_parameter_has_a_leading_dim_of_seeds(name: str) -> None:
    assert {p.shape[0] for p in make(name, SIZES[0], SEEDS).parameters()} == {3}


@every_network
@every_size
def test_a_seed_starts_with_the_same_parameters_alone_and_beside_others(name: str, sizes: tuple[int, int, int]) -> None:
    stacked = make(name, sizes, SEEDS)
    for r, seed in enumerate(SEEDS):
        alone = make(name, sizes, (seed,))
        for (key, ours), (other, theirs) in zip(stacked.named_parameters(), alone.named_parameters(), strict=True):
            assert key == other
            assert torch.equal(ours[r : r + 1], theirs), key


@with_norms
@every_size
def test_stacked_seeds_follow_the_path_of_each_seed_alone(
    name: str, sizes: tuple[int, int, int], norm: tuple[str, ...]
) -> None:
    """Logits, clipped gradients and parameters of two training steps.

    Not bit for bit: for some batch sizes a BLAS multiplies one matrix and a stack of them with different kernels.
    """

    def path(seeds: tuple[int, ...]) -> list[Tensor]:
        network = make(name, sizes, seeds, *norm)
        optimizer = SGD(lr=0.01).build(network.parameters())
        seen: list[Tensor] = []
        for turn in range(2):
            batch = lists(sizes, seeds, turn=turn)
            logits = network(batch)
            optimizer.zero_grad()
            quadratic((logits.softmax(-1) @ batch.items).unsqueeze(0))[0].mean(-1).sum().backward()
            clip_per_seed(network.parameters(), 0.1)
            seen.extend([logits.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)])
            optimizer.step()
        return seen + [p.detach() for p in network.parameters()]

    stacked = path(SEEDS)
    for r, seed in enumerate(SEEDS):
        for ours, theirs in zip(stacked, path((seed,)), strict=True):
            torch.testing.assert_close(ours[r : r + 1], theirs, rtol=1e-4, atol=1e-6)


@every_network
@every_size
def test_seeds_start_apart(name: str, sizes: tuple[int, int, int]) -> None:
    network = make(name, sizes, SEEDS)
    same = Batch(lists(sizes, (0,)).items.expand(3, -1, -1, -1))
    logits = network(same)
    assert not torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[1], logits[2])


@every_network
@every_size
def test_initial_logits_are_near_zero(name: str, sizes: tuple[int, int, int]) -> None:
    """Every item starts with nearly the same chance: the spread over items is below a fifth of a nat."""
    logits = make(name, sizes, SEEDS)(lists(sizes, SEEDS, B=64))
    assert logits.std(-1).mean() < 0.2


@every_network
@every_size
def test_gradients_reach_every_parameter(name: str, sizes: tuple[int, int, int]) -> None:
    network = make(name, sizes, SEEDS)
    (network(lists(sizes, SEEDS, B=32)) ** 2).sum().backward()
    for key, p in network.named_parameters():
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key
        assert p.grad.flatten(1).abs().sum(1).min() > 0, key


@every_network
def test_seeds_do_not_mix(name: str) -> None:
    """The loss of one seed has no gradient in another seed's parameters."""
    network = make(name, SIZES[0], SEEDS)
    network(lists(SIZES[0], SEEDS))[1].sum().backward()
    for key, p in network.named_parameters():
        assert p.grad is not None
        assert not p.grad[0].any(), key
        assert not p.grad[2].any(), key


@every_network
def test_lists_of_a_batch_do_not_mix(name: str) -> None:
    network, batch = make(name, SIZES[0], SEEDS), lists(SIZES[0], SEEDS)
    whole = network(batch)
    torch.testing.assert_close(network(Batch(batch.items[:, 2:3])), whole[:, 2:3])


@every_network
def test_a_forward_pass_draws_nothing(name: str) -> None:
    network, batch = make(name, SIZES[0], SEEDS), lists(SIZES[0], SEEDS)
    before = torch.get_rng_state()
    assert torch.equal(network(batch), network(batch))
    assert torch.equal(torch.get_rng_state(), before)


@every_network
def test_sets_are_read_in_any_order_and_of_any_length(name: str) -> None:
    """What ``any_N`` promises: permuted items give permuted logits, and N may differ from the training's."""
    network, batch = make(name, SIZES[0], SEEDS), lists(SIZES[0], SEEDS)
    if not network.any_N:
        with pytest.raises((RuntimeError, ValueError)):
            network(lists((7, 3, 2), SEEDS))
        return
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted = Batch(batch.items[:, :, order])
    torch.testing.assert_close(network(permuted), network(batch)[..., order], rtol=1e-5, atol=1e-6)
    for other in (1, 7):
        assert network(lists((other, 3, 2), SEEDS)).shape == (3, 6, 3, other)


@with_norms
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
@pytest.mark.parametrize("depth", [1, 3])
def test_depth_activation_and_norm_are_options(name: str, activation: str, norm: tuple[str, ...], depth: int) -> None:
    options = [f"network.activation={activation}", f"network.depth={depth}", "network.width=8", *norm]
    network = make(name, SIZES[0], SEEDS, *options)
    assert network(lists(SIZES[0], SEEDS)).isfinite().all()


@pytest.mark.parametrize("name", ["pointer", "set_transformer"])
def test_networks_for_sets_read_any_length(name: str) -> None:
    assert make(name, SIZES[0], SEEDS).any_N


@with_layers
def test_the_context_of_a_list_changes_its_logits_and_no_other(name: str) -> None:
    network, batch = make(name, SIZES[0], SEEDS, C=2), lists(SIZES[0], SEEDS, C=2)
    before = network(batch)
    assert batch.context is not None
    context = batch.context.clone()
    context[1, 3] += 1
    changed = (network(replace(batch, context=context)) != before).flatten(2).any(-1)
    assert changed.nonzero().tolist() == [[1, 3]]


@with_layers
@pytest.mark.parametrize("there", [0, 3])
def test_a_context_of_another_size_is_refused(name: str, there: int) -> None:
    with pytest.raises(ValueError, match=f"reads 2 context features of a list; this one has {there}"):
        make(name, SIZES[0], SEEDS, C=2)(lists(SIZES[0], SEEDS, C=there))


@every_network
def test_forbidden_items_do_not_change_how_sets_judge_the_others(name: str) -> None:
    """Padding must not matter: a shorter list and the same list padded and masked have the same logits."""
    network, batch = make(name, SIZES[0], SEEDS), lists(SIZES[0], SEEDS)
    if not network.any_N:
        return
    mask = torch.ones(3, 6, 1, 5, dtype=torch.bool)
    mask[..., 3:] = False
    items = batch.items.clone()
    items[..., 3:, :] = 1e3
    short = network(Batch(batch.items[..., :3, :]))
    torch.testing.assert_close(network(Batch(items, mask))[..., :3], short, rtol=1e-5, atol=1e-6)


def test_an_mlp_with_a_huge_last_layer_names_the_cure() -> None:
    with pytest.warns(UserWarning, match=r"width\*S\*N = 16,777,728 weights for every seed; network=pointer"):
        MLP(N=2, S=2**16 + 2, width=128)
