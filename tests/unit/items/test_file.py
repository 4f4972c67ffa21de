"""Lists from files: every format gives the same, the split is one, bad files are refused by name."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selector.items.file as file_module
from selector.batch import Batch
from selector.critics import TargetValue
from selector.errors import InvalidInput
from selector.items import File
from selector.items.lists import read_lists
from selector.networks import MLP, Pointer, Standardised
from selector.noise import Noise, SeedNoise
from selector.problems import Problem

LENGTHS = [3, 1, 4, 2, 4, 3]
HEADER = ["hand", "price", "weight", "budget"]
TABLE: dict[str, Any] = {"list_id": "hand", "context": ["budget"]}


def lists() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Items [6, 4, 2], mask [6, 4] and context [6, 1]; NaN where there is no item."""
    rng = np.random.default_rng(0)
    mask = np.arange(4) < np.array(LENGTHS)[:, None]
    items = rng.normal(100, 7, (6, 4, 2)).astype(np.float32)
    items[~mask] = np.nan
    return items, mask, rng.normal(size=(6, 1)).astype(np.float32)


def rows() -> list[list[Any]]:
    """The same as the rows of a table, with the lists interleaved: first all first items, then all second ones."""
    items, mask, context = lists()
    return [[f"h{i}", *map(float, items[i, n]), float(context[i, 0])] for n in range(4) for i in range(6) if mask[i, n]]


def write(path: Path, header: list[str] = HEADER, body: list[list[Any]] | None = None) -> Path:
    """A table or an array file, by its suffix."""
    body = rows() if body is None else body
    if path.suffix == ".csv":
        with path.open("w", newline="") as f:
            csv.writer(f).writerows([header, *body])
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {name: [row[at] for row in body] for at, name in enumerate(header)}
        pq.write_table(pa.table(columns), path, row_group_size=7)
    else:
        items, mask, context = lists()
        np.savez(path, items=items, mask=mask, context=context)
    return path


def options(path: Path) -> dict[str, Any]:
    return TABLE if path.suffix in (".csv", ".parquet") else {}


every_format = pytest.mark.parametrize("name", ["x.npz", "x.csv", "x.parquet"])


@every_format
def test_short_lists_are_padded_with_zeros_and_masked(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name)
    source = File(path, validation=0.5, **options(path))
    items, mask, context = lists()
    batch = source.held_out((100, 5, 2), Noise())
    assert len(batch.items) == 3
    assert batch.mask is not None
    assert batch.context is not None
    for i in range(3):
        (which,) = np.flatnonzero(np.isclose(context[:, 0], float(batch.context[i, 0])))
        assert batch.mask[i, 0].tolist() == [*mask[which], False]
        expected = np.concatenate([np.nan_to_num(items[which]), np.zeros((1, 2), np.float32)])
        assert torch.equal(batch.items[i], torch.from_numpy(expected))


@every_format
def test_training_and_held_out_lists_are_apart_and_all_are_used(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name)
    source = File(path, validation=0.34, **options(path))
    assert (source.lists.N, source.lists.D, source.lists.C, source.fewest) == (4, 2, 1, 1)
    context = source.sample((500, 4, 2), Noise()).context
    held_out = source.held_out((100, 4, 2), Noise()).context
    assert context is not None
    assert held_out is not None
    drawn, kept = set(context.flatten().tolist()), set(held_out.flatten().tolist())
    assert (len(drawn), len(kept)) == (4, 2)
    assert drawn | kept == set(lists()[2].flatten().tolist())
    other = File(path, validation=0.34, split_seed=1, **options(path)).held_out((100, 4, 2), Noise()).context
    assert other is not None
    assert set(other.flatten().tolist()) != kept


@every_format
def test_mean_and_std_are_those_of_the_real_items_of_training_lists(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name)
    source = File(path, validation=0.5, **options(path))
    items, _, context = lists()
    held_out = source.held_out((9, 4, 2), Noise()).context
    assert held_out is not None
    training = ~np.isin(context[:, 0], held_out.numpy())
    seen = items[training].reshape(-1, 2)
    seen = seen[~np.isnan(seen[:, 0])].astype(np.float64)
    assert source.scale is not None
    np.testing.assert_allclose(source.scale.mean, seen.mean(0), rtol=1e-6)
    np.testing.assert_allclose(source.scale.std, seen.std(0), rtol=1e-6)
    np.testing.assert_allclose(source.scale.context_std, context[training].std(0), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "|b1", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_mapped_file_gives_what_one_in_memory_gives(
    dtype: str, order: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(1).normal(0, 9, (20, 3, 2)).astype(dtype)
    np.save(tmp_path / "x.npy", np.asarray(values, order=order))
    batches = []
    for resident in (2**30, 0):
        monkeypatch.setattr(file_module, "RESIDENT", resident)
        monkeypatch.setattr(file_module, "_PIECE", 13)
        file_module._prepare.cache_clear()
        source = File(tmp_path / "x.npy")
        assert source.scale is not None
        drawn = source.sample((2, 8, 4, 2), SeedNoise([0, 1], "items"))
        batches.append((drawn.items, source.scale.mean, source.scale.std))
        assert (source._on(torch.device("cpu")).rows is None) == (resident == 0)
    for a, b in zip(*batches, strict=True):
        assert torch.equal(a, b)
    assert {tuple(map(tuple, one[:3].tolist())) for one in batches[0][0].flatten(0, 1)} <= {
        tuple(map(tuple, one.astype(np.float32).tolist())) for one in values
    }


def test_a_seed_draws_the_same_lists_alone_and_beside_others(tmp_path: Path) -> None:
    source = File(write(tmp_path / "x.npz"))
    together = source.sample((3, 8, 4, 2), SeedNoise([7, 0, 1], "items"))
    alone = source.sample((1, 8, 4, 2), SeedNoise([0], "items"))
    assert torch.equal(together.items[1:2], alone.items)
    assert torch.equal(together.context[1:2], alone.context)  # type: ignore[index,arg-type]


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 2, 1)))
    assert float(File(tmp_path / "x.npy").held_out((1, 2, 1), Noise()).items.sum()) == 0
    np.save(tmp_path / "x.npy", np.ones((8, 2, 1)))
    assert float(File(tmp_path / "x.npy").held_out((1, 2, 1), Noise()).items.sum()) == 2


def test_a_problem_takes_its_context_its_mask_and_its_held_out_lists(tmp_path: Path) -> None:
    source = File(write(tmp_path / "x.npz"), validation=0.5)
    problem = Problem(source, TargetValue(), N=4, S=2, D=2, C=1, eligible=0.3)
    batch = problem.sample((500,), Noise())
    assert batch.mask is not None
    real = (batch.items != 0).any(-1)
    assert bool(batch.mask.any(-1).all()), "eligibility always leaves an item that is there"
    assert not bool((batch.mask[:, 0] & ~real).any())
    assert problem.held_out(100, Noise()).items.shape == (3, 4, 2)
    with pytest.raises(InvalidInput, match="S=2: must be <= 1"):
        Problem(source, TargetValue(), N=4, S=2, D=2, C=1, without_replacement=True)


@pytest.mark.parametrize("kind", [MLP, Pointer])
def test_a_network_reads_standardised_items_and_nothing_of_the_padding(kind: Any, tmp_path: Path) -> None:
    source = File(write(tmp_path / "x.npz"))
    assert source.scale is not None
    inner = kind(N=4, S=3, D=2, C=1, seeds=[0, 1])
    network = Standardised(inner, source.scale)
    batch = source.sample((2, 16, 4, 2), SeedNoise([0, 1]))
    assert batch.mask is not None
    assert batch.context is not None
    rubbish = batch.items.masked_fill(~batch.mask.transpose(-1, -2), float("nan"))
    logits = network(batch)
    assert torch.equal(logits, network(Batch(rubbish, batch.mask, batch.context)))
    real = batch.mask.transpose(-1, -2)
    by_hand = (batch.items - source.scale.mean) / source.scale.std * real
    context = (batch.context - source.scale.context_mean) / source.scale.context_std
    assert torch.equal(logits, inner(Batch(by_hand, batch.mask, context)))
    assert network.title == kind.__name__
    other = Standardised(kind(N=4, S=3, D=2, C=1, seeds=[0, 1]), type(source.scale).none(2, 1))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(batch), logits)


def test_a_constant_feature_is_only_shifted(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((4, 2, 1), 7.0))
    scale = File(tmp_path / "x.npy").scale
    assert scale is not None
    assert torch.equal(scale(Batch(torch.full((1, 2, 1), 8.0))).items, torch.ones(1, 2, 1))


def array(values: Any, **more: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        if more:
            np.savez(folder / "x.npz", **({} if values is None else {"items": values}), **more)
            return folder / "x.npz"
        np.save(folder / "x.npy", values)
        return folder / "x.npy"

    return make


def text(content: str | bytes, name: str = "x.csv") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return folder / name

    return make


def table(column: list[Any], ids: list[Any] | None = None) -> Callable[[Path], Path]:
    ids = list(range(len(column))) if ids is None else ids
    return lambda folder: write(folder / "x.parquet", ["hand", "a"], list(map(list, zip(ids, column, strict=True))))


ONES = np.ones((4, 3, 2))
WITH_NAN = np.where(np.arange(24).reshape(4, 3, 2) == 11, np.nan, ONES)
HAND: dict[str, Any] = {"list_id": "hand"}
REFUSED: list[tuple[Callable[[Path], Path], dict[str, Any], str, str]] = [
    (lambda folder: folder / "none.npy", {}, "path", "no such file"),
    (lambda folder: folder, {}, "path", "is a folder"),
    (lambda _: Path("/dev/zero"), {}, "path", "no regular file"),
    (text("1", "x.txt"), {}, "path", "must end in"),
    (text("", "x.npy"), {}, "path", "not a .npy file"),
    (text("", "x.npz"), {}, "path", "not a whole .npz"),
    (text("", "x.csv"), HAND, "path", "is empty"),
    (text("", "x.parquet"), HAND, "path", "not a whole .parquet"),
    (array(np.ones((4, 3))), {}, "path", r"must be \[lists, N, D\]; it has shape \[4, 3\]; an item that is one number"),
    (array(np.ones((4, 3, 2, 1))), {}, "path", r"must be \[lists, N, D\]; it has 4 dims"),
    (array(np.ones((0, 3, 2))), {}, "path", r"is empty: its shape is \[0, 3, 2\]"),
    (array(np.ones((1, 3, 2))), {}, "path", "one to train on and one to validate with"),
    (array(np.array([[[None]]])), {}, "path", "Python objects, which are never unpickled"),
    (array(np.array([[["a"]]])), {}, "path", "elements of type <U1"),
    (array(np.ones((2, 2, 2), complex)), {}, "path", "elements of type <c16"),
    (array(np.zeros((2, 2, 2), "f4,f4")), {}, "path", "holds records"),
    (array(WITH_NAN), {}, "path", r"items\[1, 2, 1\] is nan; must be a finite"),
    (array(np.full((4, 3, 2), 1e300)), {}, "path", r"items\[0, 0, 0\] is 1e\+300"),
    (array(ONES, other=ONES), {}, "path", "may hold items, mask, context, each once; it has items, other"),
    (array(None, mask=ONES), {}, "path", "no array named items"),
    (array(ONES, mask=np.ones((4, 3))), {}, "path", "mask must be bool"),
    (array(ONES, mask=np.zeros((4, 3), bool)), {}, "path", "list 0 is empty"),
    (array(ONES, context=np.ones((3, 2))), {}, "path", r"context must be \[4, C\]"),
    (array(ONES, context=np.full((4, 2), np.inf)), {}, "path", r"context\[0, 0\] must be a finite"),
    (array(np.array([[[None]]]), mask=np.ones((1, 1), bool)), {}, "path", "items holds Python objects"),
    (array(ONES), HAND, "list_id", "is for columns"),
    (array(ONES), {"features": ["a"]}, "features", "is for columns"),
    (array(ONES), {"D": 3}, "path", "up to 3 items with 2 features; use problem.N=3 problem.D=2 problem.C=0"),
    (array(ONES), {"N": 2}, "path", "up to 3 items"),
    (array(ONES), {"C": 1}, "path", "problem.C=0"),
    (array(ONES), {"validation": 0.0}, "validation", r"in \(0, 1\)"),
    (text("hand,a\n1,2\n"), {}, "list_id", "must be the column of list ids; the file has hand, a"),
    (text("hand,a\n1,2\n"), {"list_id": "b"}, "list_id", "no such column"),
    (text("hand,a\n1,2\n"), {**HAND, "features": ["b"]}, "features", "no such column"),
    (text("hand,a\n1,2\n"), {**HAND, "context": ["b"]}, "context", "no such column"),
    (text("hand,a\n1,2\n"), {**HAND, "context": ["a"]}, "features", "one column at least"),
    (text("hand,a\n1,2\n"), {**HAND, "features": ["a", "hand"]}, "features", "only one of"),
    (text("hand,a\n1,x\n"), HAND, "path", "line 2: column a is 'x'; must be a number"),
    (text("hand,a\n1,1\n\n1,\n"), HAND, "path", "line 4: column a is empty"),
    (text("hand,a\n1,nan\n"), HAND, "path", "line 2: column a is nan; must be a finite"),
    (text("hand,a\n1,1e39\n"), HAND, "path", "line 2: column a is 1e39; must be a finite"),
    (text("hand,a\n ,1\n"), HAND, "path", "line 2: column hand is empty"),
    (text("hand,a\n1,1,1\n"), HAND, "path", "line 2 has 3 fields, the header 2"),
    (text("hand,a,a\n1,1,1\n"), HAND, "path", "two columns named a"),
    (text("1,2\n1,2\n"), HAND, "path", "no column names"),
    (text("hand,a\n"), HAND, "path", "has no items"),
    (text(b"hand,a\n1,\xff\n"), HAND, "path", "not UTF-8"),
    (text('hand,a\n1,"2\n'), HAND, "path", "unexpected end of data"),
    (text("hand,a,b\n1,1,5\n2,1,5\n1,1,6\n"), {**HAND, "context": ["b"]}, "path", "line 4: context column b differs"),
    (text("hand,a\n" + "x" * 300 + ",1\n"), HAND, "path", "longer than 256"),
    (table([1.0, None]), HAND, "path", "row 2: column a is empty"),
    (table([1.0, float("inf")]), HAND, "path", "row 2: column a is inf"),
    (table(["1", "2"]), HAND, "path", "column a holds string"),
    (table([1.0, 2.0], ids=["1", None]), HAND, "path", "row 2: column hand is empty"),
    (table([1.0, 2.0], ids=[0.5, 1.5]), HAND, "path", "list ids must be text or integers"),
]


@pytest.mark.parametrize(("make", "given", "key", "words"), REFUSED, ids=[row[3] for row in REFUSED])
def test_what_cannot_be_used_is_refused_by_name(
    make: Callable[[Path], Path], given: dict[str, Any], key: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        File(make(tmp_path), **given)
    assert refused.value.key == key
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("cut", [1, 40, 127, 200])
def test_a_truncated_file_is_refused(cut: int, tmp_path: Path) -> None:
    for name in ("x.npz", "x.parquet", "x.npy"):
        path = tmp_path / name
        if name == "x.npy":
            np.save(path, ONES)
        else:
            write(path)
        path.write_bytes(path.read_bytes()[:-cut])
        with pytest.raises(InvalidInput, match=f"path={path}: "):
            read_lists(path, **options(path))


def test_text_after_the_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ONES)
    with (tmp_path / "x.npy").open("ab") as f:
        f.write(b"more")
    with pytest.raises(InvalidInput, match="announces 192 bytes of data, 196 are there"):
        read_lists(tmp_path / "x.npy")
