"""Random streams: one per seed, the same alone and beside others, from generators as from counters."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from selector.noise import Noise, Replay, SeedNoise, derive_seed
from selector.streams import SMALLEST_UNIFORM

DRAWS: dict[str, Callable[..., Tensor]] = {
    "uniform": lambda noise, shape, **k: noise.uniform(shape, **k),
    "gumbel": lambda noise, shape, **k: noise.gumbel(shape, **k),
    "normal": lambda noise, shape, **k: noise.normal(shape, **k),
    "integers": lambda noise, shape, **k: noise.integers(7, shape, **k),
}


@pytest.fixture(params=["generators", "counters"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Where the numbers come from: torch's generators on the CPU, or the counters of a GPU."""
    if request.param == "generators":
        return torch.device("cpu")
    on: torch.device = request.getfixturevalue("kernels")
    return on


every_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())


class _Edges(torch.utils._python_dispatch.TorchDispatchMode):
    """Makes every uniform draw 0, the worst case of the half-open interval."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is torch.ops.aten.uniform_.default:
            return args[0].zero_()
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_gumbel_is_finite_even_where_the_uniform_is_zero(dtype: torch.dtype | None) -> None:
    with _Edges():
        uniform = Noise().uniform([4], dtype=dtype)
        gumbel = Noise().gumbel([4], dtype=dtype)
    assert (uniform > 0).all()
    assert gumbel.isfinite().all()


def test_uniform_stays_within_the_open_interval(device: torch.device) -> None:
    drawn = Noise(1, "edge", device).uniform([10**6])
    assert drawn.min() > 0
    assert drawn.max() < 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gumbel_is_finite_at_the_largest_uniform(dtype: torch.dtype) -> None:
    largest = 1 - torch.finfo(dtype).eps / 2
    assert torch.tensor(largest, dtype=dtype).log().neg().log().neg().isfinite()


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (None, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_draws_are_float32_or_wider(asked: torch.dtype | None, given: torch.dtype, device: torch.device) -> None:
    assert Noise(device=device).gumbel([2], dtype=asked).dtype == given
    assert SeedNoise([0, 1], device=device).normal([2, 3], dtype=asked).dtype == given


@every_draw
@pytest.mark.parametrize("draws", [None, 3])
def test_stacked_draws_equal_those_of_each_seed_alone(
    draw: Callable[..., Tensor], draws: int | None, device: torch.device
) -> None:
    seeds = [5, 0, 11]
    stacked = SeedNoise(seeds, "x", device)
    alone = [SeedNoise([seed], "x", device) for seed in seeds]
    for shape in ([4, 2], [7], []):  # several times: the streams also advance alike
        together = draw(stacked, [3, *shape], draws=draws)
        dim = 0 if draws is None else 1
        assert torch.equal(together, torch.cat([draw(n, [1, *shape], draws=draws) for n in alone], dim))


@every_draw
def test_draws_is_a_leading_dim(draw: Callable[..., Tensor], device: torch.device) -> None:
    assert draw(Noise(device=device), [2, 3], draws=4).shape == (4, 2, 3)
    assert draw(SeedNoise([1, 2], device=device), [2, 3], draws=4).shape == (4, 2, 3)
    assert draw(SeedNoise([1, 2], device=device), [2, 3], draws=1).shape == (1, 2, 3)


@every_draw
@pytest.mark.parametrize("draws", [None, 3])
def test_the_shards_of_two_processes_make_up_the_whole(
    draw: Callable[..., Tensor], draws: int | None, device: torch.device
) -> None:
    whole = SeedNoise([5, 6], "x", device)
    shards = [SeedNoise([5, 6], "x", device, shard=(rank, 2)) for rank in range(2)]
    for _ in range(2):
        together = draw(whole, [2, 8, 3], draws=draws)
        parts = [draw(shard, [2, 4, 3], draws=draws) for shard in shards]
        assert torch.equal(torch.cat(parts, 1 if draws is None else 2), together)


@every_draw
@pytest.mark.parametrize("make", [lambda on: Noise(3, "x", on), lambda on: SeedNoise([3, 4], "x", on)])
def test_a_loaded_state_continues_the_stream(
    draw: Callable[..., Tensor], make: Callable[[torch.device], Noise], device: torch.device
) -> None:
    noise = make(device)
    draw(noise, [2, 5])
    state = noise.state_dict()
    expected = [draw(noise, [2, 5]) for _ in range(2)]
    other = make(device)
    other.load_state_dict(state)
    assert all(torch.equal(draw(other, [2, 5]), e) for e in expected)


def test_a_state_of_another_number_of_seeds_is_refused(device: torch.device) -> None:
    with pytest.raises(ValueError, match="3 random streams, this run has 2"):
        SeedNoise([0, 1], device=device).load_state_dict(SeedNoise([0, 1, 2], device=device).state_dict())


def test_a_state_of_another_device_is_refused() -> None:
    with pytest.raises(ValueError, match="another kind of device"):
        Noise().load_state_dict({"generators": [torch.zeros(16, dtype=torch.uint8)]})


def test_streams_differ_by_seed_and_by_name(device: torch.device) -> None:
    drawn = {float(Noise(seed, name, device).uniform([1])) for seed in (0, 1) for name in ("items", "strategy")}
    assert len(drawn) == 4
    assert derive_seed(1, "2/x") != derive_seed(12, "x")
    assert 0 <= derive_seed(-1, "items") < 2**63


def test_a_leading_dim_that_is_not_the_seeds_is_refused() -> None:
    with pytest.raises(ValueError, match="leading dim of 2 seeds"):
        SeedNoise([0, 1]).uniform([3, 4])


@pytest.mark.parametrize("make", [lambda on: Noise(2, "x", on), lambda on: SeedNoise([2, 3], "x", on)])
def test_replay_gives_the_same_numbers_again(make: Callable[[torch.device], Noise], device: torch.device) -> None:
    noise = Replay(make(device))
    first = [noise.gumbel([2, 3]), noise.normal([2, 3], draws=2)]
    noise.rewind()
    first[0].zero_()  # what a reader does to a draw does not reach the tape
    assert noise.gumbel([2, 3]).abs().min() > 0
    assert torch.equal(noise.normal([2, 3], draws=2), first[1])
    noise.rewind()
    with pytest.raises(ValueError, match="recorded as"):
        noise.gumbel([4])


@every_draw
def test_nothing_is_drawn_from_the_global_generator(draw: Callable[..., Tensor], device: torch.device) -> None:
    before = torch.get_rng_state()
    draw(Noise(device=device), [4])
    assert torch.equal(torch.get_rng_state(), before)


def test_moments_of_the_gumbel_distribution(device: torch.device) -> None:
    """Mean 0.5772 and variance pi^2/6. Seeded; 6 standard errors each: fails for 1 seed in 10^8."""
    drawn = Noise(0, "moments", device).gumbel([100_000], dtype=torch.float64)
    variance = torch.pi**2 / 6
    assert abs(float(drawn.mean()) - 0.577216) < 6 * (variance / 1e5) ** 0.5
    assert abs(float(drawn.var()) - variance) < 6 * (4.4 * variance**2 / 1e5) ** 0.5  # kurtosis 5.4


def test_integers_reach_both_ends(device: torch.device) -> None:
    assert set(Noise(device=device).integers(3, [200]).tolist()) == {0, 1, 2}


def test_the_smallest_uniform_is_half_of_the_spacing_of_float32_uniforms() -> None:
    assert SMALLEST_UNIFORM == 2.0**-24 / 2
