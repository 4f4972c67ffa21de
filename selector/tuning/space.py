"""What a search may vary: keys of the configuration, and the values they may take.

A space is a mapping from keys to what they may be::

    optimizer.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
    network.width: {type: int, low: 32, high: 256, log: true}
    optimizer.clip: {choices: [null, 1.0]}
    tau:
      choices:
        constant:
          tau.value: {type: float, low: 0.1, high: 3, log: true}
        exponential:
          tau.start: {type: float, low: 1, high: 4}
          tau.end: {type: float, low: 0.1, high: 1}

What stands under a choice is a space of its own, searched only where the choice is taken. Imports no Optuna.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from selector.building import construct
from selector.errors import InvalidInput, check_at_least, check_positive

Scalar = None | bool | int | float | str

# They say which trial it is and where it goes, and cannot make it better.
NOT_SEARCHED = ("name", "resume", "seed", "seeds", "logger", "hydra", "sweeps")


class Suggest(Protocol):
    """What draws the values of a trial; :class:`optuna.trial.Trial` is one."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """A number from low to high."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """A whole number from low to high."""

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Any:
        """One of the choices."""


@dataclass(frozen=True)
class Float:
    """A number.

    Args:
        low: lowest, included.
        high: highest, included.
        log: draw its logarithm evenly.
        step: distance between the values; null is none.

    Raises:
        InvalidInput: for values that make no range.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        _check_range(self, least=0)
        check_positive(step=self.step)

    def suggest(self, trial: Suggest, name: str, key: str, prefix: str) -> list[str]:  # noqa: ARG002
        """Draw a value of ``key``, as overrides."""
        value = trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)
        # Four digits: a command line that can be read, and no result hangs on the fifth.
        return [override(key, min(max(float(f"{value:.4g}"), self.low), self.high))]

    def corners(self, key: str) -> list[list[str]]:
        """The outermost values, as overrides."""
        return [[override(key, value)] for value in (self.low, self.high)]


@dataclass(frozen=True)
class Int:
    """A whole number.

    Args:
        low: lowest, included.
        high: highest, included.
        log: draw its logarithm evenly.
        step: distance between the values.

    Raises:
        InvalidInput: for values that make no range.
    """

    low: int
    high: int
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        _check_range(self, least=1)
        check_at_least(1, step=self.step)

    def suggest(self, trial: Suggest, name: str, key: str, prefix: str) -> list[str]:  # noqa: ARG002
        """Draw a value of ``key``, as overrides."""
        return [override(key, trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log))]

    def corners(self, key: str) -> list[list[str]]:
        """The outermost values, as overrides."""
        return [[override(key, value)] for value in (self.low, self.high)]


@dataclass(frozen=True)
class Choices:
    """One of several values, or choices of a configuration group.

    Args:
        choices: the values, each with the space that is searched where it is taken.
    """

    choices: Mapping[Scalar, "Space"]

    def suggest(self, trial: Suggest, name: str, key: str, prefix: str) -> list[str]:
        """Draw a value of ``key`` and whatever hangs on it, as overrides."""
        value = trial.suggest_categorical(name, list(self.choices))
        return [override(key, value), *self.choices[value].suggest(trial, f"{prefix}{override(key, value)}/")]

    def corners(self, key: str) -> list[list[str]]:
        """Every choice with the corners of its own space, as overrides."""
        return [[override(key, value), *rest] for value, space in self.choices.items() for rest in space.corners()]


@dataclass(frozen=True)
class Space:
    """Keys of the configuration and what they may be.

    Args:
        keys: dotted key -> its values.
    """

    keys: Mapping[str, Float | Int | Choices] = field(default_factory=dict)

    def suggest(self, trial: Suggest, prefix: str = "") -> list[str]:
        """Draw one point, as overrides of ``python train.py``.

        Args:
            trial: what draws.
            prefix: put in front of every parameter's name. The same key under two choices is two parameters: what is
                known of tau.start under a linear schedule says nothing about an exponential one.
        """
        drawn = (values.suggest(trial, f"{prefix}{key}", key, prefix) for key, values in self.keys.items())
        return [one for overrides in drawn for one in overrides]

    def corners(self) -> list[list[str]]:
        """A few points, as overrides, in which every choice and both ends of every range occur."""
        alternatives = [values.corners(key) for key, values in self.keys.items()]
        most = max((len(corners) for corners in alternatives), default=1)
        return [[one for corners in alternatives for one in corners[i % len(corners)]] for i in range(most)]


def read_space(content: Any, where: str, taken: Sequence[str] = ()) -> Space:
    """Read a space from its yaml content.

    Args:
        content: what stands in the file.
        where: at which key, for messages.
        taken: keys that the choices around it search already.

    Raises:
        InvalidInput: naming the key that is wrong.
    """
    if not isinstance(content, dict):
        raise InvalidInput(where, content, "must be a mapping from keys of the configuration to what they may be")
    keys: dict[str, Float | Int | Choices] = {}
    for name, values in content.items():
        key = str(name)
        here = f"{where}.{key}"
        if not re.fullmatch(r"[A-Za-z_][\w.]*", key):
            raise InvalidInput(here, values, "is no key of the configuration")
        if key.split(".")[0] in NOT_SEARCHED:
            raise InvalidInput(here, values, "cannot be searched: it makes no trial better")
        if key in taken:
            raise InvalidInput(here, values, "is searched already, by a choice that this one hangs on")
        keys[key] = _read_values(values, here, [*taken, *map(str, content)])
    return Space(keys)


def _read_values(content: Any, where: str, taken: Sequence[str]) -> Float | Int | Choices:
    if isinstance(content, dict) and "choices" in content:
        return _read_choices(content, where, taken)
    if not isinstance(content, dict) or "type" not in content:
        raise InvalidInput(where, content, "must be {choices: [...]}, or {type: float, low: ..., high: ...}")
    options = {str(name): value for name, value in content.items()}
    kind = options.pop("type")
    if kind not in ("float", "int"):
        raise InvalidInput(f"{where}.type", kind, "must be float or int; other values go under choices")
    return construct(Float, options, where) if kind == "float" else construct(Int, options, where)


def _read_choices(content: dict[Any, Any], where: str, taken: Sequence[str]) -> Choices:
    for name in content:
        if name != "choices":
            raise InvalidInput(f"{where}.{name}", content[name], "there is no such key beside choices")
    choices, here = content["choices"], f"{where}.choices"
    if not isinstance(choices, list | dict) or not choices:
        raise InvalidInput(here, choices, "must be a list of values, or a mapping from values to their own spaces")
    for value in choices:
        if not isinstance(value, Scalar):
            raise InvalidInput(here, value, "must be a number, a word, true, false or null")
    if len({override("", value) for value in choices}) < len(choices):
        raise InvalidInput(here, choices, "holds a value twice")
    spaces = choices if isinstance(choices, dict) else dict.fromkeys(choices)
    return Choices(
        {
            value: Space() if inner is None else read_space(inner, f"{here}.{value}", taken)
            for value, inner in spaces.items()
        }
    )


def _check_range(values: Float | Int, least: int) -> None:
    if not float("-inf") < values.low < values.high < float("inf"):
        raise InvalidInput("high", values.high, f"must be finite and above low, which is {values.low:g}")
    if values.log and not (values.low > 0 and values.low >= least):
        raise InvalidInput("low", values.low, f"must be {'>= 1' if least else '> 0'} when log is true")
    step = None if values.step == 1 and least else values.step
    if values.log and step is not None:
        raise InvalidInput("step", step, "must be left out when log is true")
    if step is not None and step > values.high - values.low:
        raise InvalidInput("step", step, "must be at most high - low")


def override(key: str, value: Scalar) -> str:
    """``key=value`` as Hydra reads it."""
    if isinstance(value, str):
        text = value if re.fullmatch(r"[A-Za-z_][\w./-]*", value) else "'" + value.replace("'", r"\'") + "'"
        # Hydra would read these words as something else than words.
        return f"{key}='{value}'" if value.lower() in ("null", "true", "false", "nan", "inf") else f"{key}={text}"
    if value is None:
        return f"{key}=null"
    return f"{key}={str(value).lower() if isinstance(value, bool) else repr(value)}"
