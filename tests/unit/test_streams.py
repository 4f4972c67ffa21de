"""Which streams a device gets."""

import sys

import pytest
import torch

import selector.streams
from selector.streams import Generators, streams


def test_a_cpu_has_generators() -> None:
    assert isinstance(streams([1], torch.device("cpu")), Generators)


def test_a_gpu_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="needs Triton: pip install triton")
    monkeypatch.setattr("selector.counters.Counters", lambda keys, _: ("counters", keys))
    assert streams([1], torch.device("cuda")) == ("counters", [1])


def test_a_gpu_without_triton_has_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "selector.counters", None)  # its import fails
    monkeypatch.setattr(selector.streams, "Generators", lambda keys, _: ("generators", keys))
    assert streams([1], torch.device("cuda")) == ("generators", [1])
