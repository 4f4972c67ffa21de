"""The one exception for input that a user can mend."""

import math
from collections.abc import Collection, Sequence
from typing import Any


class InvalidInput(ValueError):
    """A value that a user gave and that is not allowed.

    Its message is one line: the key, what was given, what is allowed. Constructors name their own argument; whoever
    builds them from a configuration puts the group in front with :meth:`under`.
    """

    def __init__(self, key: str, given: object, allowed: str) -> None:
        super().__init__(key, given, allowed)
        self.key, self.given, self.allowed = key, given, allowed

    def under(self, group: str) -> "InvalidInput":
        """The same error with the key seen from one level further out: ``value`` becomes ``tau.value``."""
        if self.key.startswith("problem."):  # a size is the problem's, whoever refuses it
            return self
        return InvalidInput(f"{group}.{self.key}" if self.key else group, self.given, self.allowed)

    def __str__(self) -> str:
        return f"{self.key}={self.given}: {self.allowed}"


def check_finite(**values: float | Sequence[float] | None) -> None:
    """Refuse every value, or list of values, that is not finite (None passes).

    Raises:
        InvalidInput: naming the first offending keyword.
    """
    for key, value in values.items():
        numbers = value if isinstance(value, Sequence) else [value]
        if not all(number is None or math.isfinite(number) for number in numbers):
            raise InvalidInput(key, value, "must be finite")


def check_positive(**values: float | None) -> None:
    """Refuse every value that is not a finite number above zero (None passes: it means "not given").

    Raises:
        InvalidInput: naming the first offending keyword.
    """
    for key, value in values.items():
        if value is not None and not 0 < value < float("inf"):
            raise InvalidInput(key, value, "must be a finite number > 0")


def check_at_least(least: float, **values: float | None) -> None:
    """Refuse every value below ``least`` (None passes).

    Raises:
        InvalidInput: naming the first offending keyword.
    """
    for key, value in values.items():
        if value is not None and not least <= value < float("inf"):
            raise InvalidInput(key, value, f"must be >= {least:g}")


def check_choice(allowed: Collection[Any], **values: object) -> None:
    """Refuse every value that is not one of ``allowed``.

    Raises:
        InvalidInput: naming the first offending keyword and listing the choices.
    """
    for key, value in values.items():
        if value not in allowed:
            raise InvalidInput(key, value, "must be one of " + ", ".join(map(str, allowed)))
