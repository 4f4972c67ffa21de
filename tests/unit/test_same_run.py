"""Whether a configuration is that of a run."""

from selector.same_run import flatten
from tests.support import compose


def test_flatten_gives_dotted_leaves_without_resolving() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": None}}, "e": [1]}) == {"a.b": 1, "a.c.d": None, "e": [1]}
    assert flatten(compose("tau=linear"))["tau.steps"] == "${max_steps}"
