"""Counter-based streams: the published generator, the right laws, and one launch for all seeds."""

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

triton = pytest.importorskip("triton", reason="needs Triton: pip install triton")
tl = pytest.importorskip("triton.language")

from selector import counters  # noqa: E402 - it imports Triton
from selector.counters import Counters  # noqa: E402
from selector.noise import Noise, SeedNoise  # noqa: E402
from selector.streams import Generators  # noqa: E402

# Seeds are fixed: a test fails either always or never. Were every law right, fresh seeds would fail one of the tests
# below less than once in a thousand times.
LEAST_P = 1e-4


# Random123's known answers for philox4x32-10: counter and key as 32-bit words, then the result.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@triton.jit
def _words(out, arguments):  # type: ignore[no-untyped-def]
    """``arguments``: key, draw, counter; ``out [4]`` int64."""
    key, draw, counter = tl.load(arguments), tl.load(arguments + 1), tl.load(arguments + 2 + tl.arange(0, 1))
    a, b, c, d = counters.words(key, draw, counter)
    one = tl.arange(0, 1)
    tl.store(out + one, a.to(tl.int64))
    tl.store(out + 1 + one, b.to(tl.int64))
    tl.store(out + 2 + one, c.to(tl.int64))
    tl.store(out + 3 + one, d.to(tl.int64))


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_the_bits_are_those_of_the_published_generator(
    counter: tuple[int, ...], key: tuple[int, ...], expected: tuple[int, ...], kernels: torch.device
) -> None:
    def joined(low: int, high: int) -> int:
        word = high << 32 | low
        return word - (1 << 64 if word >> 63 else 0)

    arguments = torch.tensor([joined(*key), joined(*counter[2:]), joined(*counter[:2])], device=kernels)
    out = torch.empty(4, dtype=torch.int64, device=kernels)
    _words[(1,)](out, arguments)
    assert tuple(out.tolist()) == expected


@triton.jit
def _extremes(single, double, word):  # type: ignore[no-untyped-def]
    """The uniform numbers of a word, and their Gumbel numbers: ``single [2]`` float32, ``double [2]`` float64."""
    one = tl.arange(0, 1)
    bits = tl.load(word + one).to(tl.uint32)
    tl.store(single + one, counters._unit(bits))
    tl.store(single + 1 + one, counters._gumbel(counters._unit(bits)))
    tl.store(double + one, counters._wide_unit(bits, bits))
    tl.store(double + 1 + one, counters._gumbel(counters._wide_unit(bits, bits)))


@pytest.mark.parametrize("word", [0, 2**32 - 1])
def test_the_extreme_words_give_numbers_within_the_open_interval(word: int, kernels: torch.device) -> None:
    single = torch.empty(2, device=kernels)
    double = torch.empty(2, dtype=torch.float64, device=kernels)
    _extremes[(1,)](single, double, torch.tensor([word], device=kernels))
    for uniform, gumbel in (single.tolist(), double.tolist()):
        assert 0 < uniform < 1
        assert math.isfinite(gumbel)
    assert single[0] == (2.0**-25 if word == 0 else 1 - 2.0**-24)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_laws_are_right(dtype: torch.dtype, kernels: torch.device) -> None:
    noise = Noise(1, "laws", kernels)
    for drawn, law in (
        (noise.uniform([40_000], dtype=dtype), "uniform"),
        (noise.gumbel([40, 1000], dtype=dtype), "gumbel_r"),
        (noise.normal([40_000], dtype=dtype), "norm"),
    ):
        assert stats.kstest(drawn.flatten().double().cpu().numpy(), law).pvalue > LEAST_P


def test_whole_numbers_are_equally_likely(kernels: torch.device) -> None:
    noise = Noise(2, "laws", kernels)
    assert stats.chisquare(noise.integers(7, [40_000]).cpu().bincount(minlength=7)).pvalue > LEAST_P
    high = noise.integers(2**62, [10_000]).double() / 2**62  # more than a double's or a word's bits
    assert stats.kstest(high.cpu().numpy(), "uniform").pvalue > LEAST_P
    with pytest.raises(ValueError, match="no whole number"):
        noise.integers(0, [1])


def correlation(x: Tensor, y: Tensor) -> float:
    """The p-value of "x and y have nothing to do with each other", of their ranks' correlation."""
    return float(stats.spearmanr(x.flatten().cpu().numpy(), y.flatten().cpu().numpy()).pvalue)


@pytest.mark.parametrize("kind", ["uniform", "gumbel", "normal"])
def test_seeds_draws_and_neighbours_are_independent(kind: str, kernels: torch.device) -> None:
    noise = SeedNoise([0, 1], "independent", kernels)
    first, second = (getattr(noise, kind)([2, 64, 250]) for _ in range(2))
    assert correlation(first[0], first[1]) > LEAST_P  # seeds
    assert correlation(first[0], second[0]) > LEAST_P  # consecutive draws
    for lag in (1, 2, 4):  # within the numbers of a counter, and over to the next
        assert correlation(first[0, :, lag:], first[0, :, :-lag]) > LEAST_P
    assert correlation(first[0, 1:], first[0, :-1]) > LEAST_P  # rows


def test_the_squares_of_a_pair_of_normals_are_independent(kernels: torch.device) -> None:
    """Both come from the same two uniforms: a wrong angle shows in their squares."""
    drawn = Noise(3, "pairs", kernels).normal([40_000]).square()
    assert correlation(drawn[::2], drawn[1::2]) > LEAST_P


@pytest.mark.parametrize("kind", ["uniform", "gumbel", "normal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_number_depends_on_the_block(
    kind: str, dtype: torch.dtype, kernels: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    for block in (4, 64):
        monkeypatch.setattr(counters, "_BLOCK", block)
        drawn.append(getattr(SeedNoise([3, 4], "x", kernels), kind)([2, 5, 7], dtype=dtype))
    assert torch.equal(*drawn)
    assert len(drawn[0].unique()) == drawn[0].numel()


def test_no_two_numbers_of_a_stream_are_the_same(kernels: torch.device) -> None:
    """Whatever is drawn, and however much: positions never overlap."""
    noise = Noise(4, "x", kernels)
    drawn = [noise.uniform(shape, dtype=torch.float64) for shape in ([3], [5, 7], [1], [64])]
    together = torch.cat([x.flatten() for x in drawn])
    assert len(together.unique()) == len(together)


def test_all_seeds_are_drawn_in_one_launch(kernels: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    launches = []

    class Counted:
        def __getitem__(self, grid: Any) -> Any:
            launches.append(grid)
            return kernel[grid]

    kernel = counters._fill
    monkeypatch.setattr(counters, "_fill", Counted())
    SeedNoise(range(64), "x", kernels).gumbel([64, 2, 3], draws=2)
    assert launches == [(64,)]


def test_nothing_to_draw_is_a_draw_all_the_same(kernels: torch.device) -> None:
    noise = Noise(0, "x", kernels)
    assert noise.gumbel([3, 0]).shape == (3, 0)
    assert noise.state_dict() == {"counters": {"streams": 1, "draws": 1}}


def test_a_scalar_is_drawn(kernels: torch.device) -> None:
    assert Noise(0, "x", kernels).gumbel([]).isfinite()


def test_the_other_kind_of_streams_is_refused(kernels: torch.device) -> None:
    cpu = torch.device("cpu")
    counted, generated = Counters([1], kernels), Generators([1], cpu)
    with pytest.raises(ValueError, match="saved by torch's generators; Triton"):
        counted.load_state_dict(generated.state_dict())
    with pytest.raises(ValueError, match="saved on a GPU with Triton; torch draws them on cpu"):
        generated.load_state_dict(counted.state_dict())
