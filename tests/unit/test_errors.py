"""The one exception for bad input, and the checks that raise it."""

from collections.abc import Callable
from typing import Any

import pytest

from selector.errors import InvalidInput, check_at_least, check_choice, check_positive

NAN, INF = float("nan"), float("inf")


def test_the_message_has_key_value_and_what_is_allowed() -> None:
    error = InvalidInput("value", 0, "must be > 0")
    assert str(error) == "value=0: must be > 0"
    assert str(error.under("tau")) == "tau.value=0: must be > 0"
    assert str(InvalidInput("", 0, "no").under("tau")) == "tau=0: no"


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (lambda v: check_positive(x=v), [None, 1, 1e-30], [0, -1, NAN, INF]),
        (lambda v: check_at_least(0, x=v), [None, 0, 5], [-1, NAN, INF]),
        (lambda v: check_choice(["a", "b"], x=v), ["a"], ["c", None]),
    ],
)
def test_checks(check: Callable[[Any], None], good: list[Any], bad: list[Any]) -> None:
    for value in good:
        check(value)
    for value in bad:
        with pytest.raises(InvalidInput, match="^x="):
            check(value)
