"""Columns of scikit-learn's tables as items."""

import sys

import pytest
import torch

from selector.errors import InvalidInput
from selector.items import Columns
from selector.items.columns import read_table
from selector.noise import Noise


@pytest.mark.parametrize(("data", "rows", "N"), [("digits", 1797, 64), ("breast_cancer", 569, 30)])
def test_every_row_is_in_one_part(data: str, rows: int, N: int) -> None:
    table = read_table(data)
    assert table.test.shape == (rows // 5, N)
    assert table.train.shape == (rows - rows // 5, N)
    assert len(table.labels) == len(table.train)
    whole = torch.cat([table.train, table.test]).double().sum(0)
    again = read_table(data, split_seed=1)
    assert not torch.equal(again.test, table.test)
    if data == "digits":
        torch.testing.assert_close(torch.cat([again.train, again.test]).double().sum(0), whole)
        assert float(table.train.min()) == 0
        assert float(table.train.max()) == 1
        assert float(table.train[table.labels == 0].mean(0)[27]) < 0.2, "a zero is hollow: labels belong to rows"
    else:
        torch.testing.assert_close(table.train.mean(0), torch.zeros(N), atol=1e-5, rtol=0)
        torch.testing.assert_close(table.train.std(0), torch.ones(N))


def test_an_item_is_a_column_seen_through_rows_of_its_own_part() -> None:
    source = Columns("digits")
    parts = {"train": source.sample((2, 3, 64, 5), Noise(0)), "test": source.held_out((4, 64, 5), Noise(0))}
    assert parts["train"].items.shape == (2, 3, 64, 5)
    for part, batch in parts.items():
        rows = batch.items.transpose(-1, -2).reshape(-1, 64)
        ours = getattr(source.table, part)
        assert all((row == ours).all(-1).any() for row in rows)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="must be one of digits, breast_cancer"):
        Columns("iris")
    with pytest.raises(InvalidInput, match=r"has 64 columns; use problem\.N=64"):
        Columns("digits", N=8)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(InvalidInput, match=r"pip install \"selector\[data\]\""):
        read_table("digits")
