"""Building objects from what a user wrote: the constructor's signature is the list of options there is.

Importing this module does not import torch.
"""

import difflib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from omegaconf import MISSING, DictConfig, OmegaConf

from selector.errors import InvalidInput
from selector.targets import is_own, locate

T = TypeVar("T")

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def build(node: DictConfig, key: str, base: type[T], *, trust: Sequence[str] = (), **given: Any) -> T:
    """Make the object that a configuration node describes.

    Args:
        node: ``_target_`` and the constructor's options.
        key: where the node stands, for messages.
        base: what the target must be a subclass of.
        trust: installed packages that the target may come from; see :func:`selector.targets.locate`.
        given: arguments that come from elsewhere (N, S, D, seeds …); passed where the constructor has them.

    Raises:
        InvalidInput: for a target that is none, not allowed or of another kind, and for options that do not exist or
            have the wrong type or value.
    """
    path, options = target_and_options(node, key, base)
    return construct(resolve(path, f"{key}._target_", base, trust), options, key, **given)


def target_and_options(node: DictConfig, key: str, base: type[Any]) -> tuple[str, dict[str, Any]]:
    """The ``_target_`` of a configuration node, and the other keys.

    Raises:
        InvalidInput: when it has none.
    """
    content: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if not isinstance(content, dict) or not isinstance(content.get("_target_"), str) or content["_target_"] == MISSING:
        raise InvalidInput(key, content, f"must name a {base.__name__} as {key}._target_")
    options = {str(name): value for name, value in content.items()}
    return options.pop("_target_"), options


def construct(target: type[T], options: Mapping[str, Any], key: str, **given: Any) -> T:
    """Call a constructor with options that a user wrote.

    Args:
        target: the class.
        options: what stands in the yaml.
        key: where it stands, for messages; "" is the top of a file.
        given: arguments that come from elsewhere (N, S, D, seeds …); passed where the constructor has them.

    Raises:
        InvalidInput: for options that do not exist, are missing, or have the wrong type or value.
    """
    # nn.Module's own are variadic.
    parameters = {n: p for n, p in inspect.signature(target).parameters.items() if p.kind not in _VARIADIC}
    hints = hints_of(target.__init__)
    check_options(target.__name__, parameters, hints, options, key, given)
    with under(key):
        return target(**options, **{name: value for name, value in given.items() if name in parameters})


def bind(function: Callable[..., Any], options: dict[str, Any], key: str, passed: Sequence[str]) -> Callable[..., Any]:
    """A function of the user's own with its options.

    Args:
        function: its first parameter is the filled slots.
        options: the others, from the yaml.
        key: where they stand.
        passed: names of further parameters that are given with every call.

    Raises:
        InvalidInput: for options that it does not have, or not with this type.
    """
    name = getattr(function, "__name__", "")
    parameters = list(inspect.signature(function).parameters.items())
    if not parameters:
        raise InvalidInput(f"{key}._target_", name, "takes no arguments; must take the filled slots")
    given = {*options, *passed}
    missing = [n for n, p in parameters[1:] if p.default is p.empty and p.kind not in _VARIADIC and n not in given]
    if missing:
        because = f"{name} needs it; what is given with every call must be named {' or '.join(passed)}"
        raise InvalidInput(f"{key}.{missing[0]}", None, because)
    check_options(name, dict(parameters[1:]), hints_of(function), options, key, passed)
    return partial(function, **options) if options else function


def check_options(
    name: str,
    parameters: Mapping[str, inspect.Parameter],
    hints: Mapping[str, Any],
    options: Mapping[str, Any],
    key: str,
    given: Collection[str],
) -> None:
    """Refuse options that a signature does not have, or not with this type, and those that are missing.

    Args:
        name: of the class or function, for messages.
        parameters: its signature.
        hints: its annotations.
        options: what stands in the yaml.
        key: where it stands; "" is the top of a file.
        given: names that are passed from elsewhere.

    Raises:
        InvalidInput: naming the first option that is wrong.
    """
    prefix = f"{key}." if key else ""
    for option, value in options.items():
        where = f"{prefix}{option}"
        if option in given:
            of_problem = option in ("N", "S", "D", "C")
            raise InvalidInput(where, value, f"is set elsewhere: {'problem.' if of_problem else ''}{option}")
        if option not in parameters:
            allowed = [n for n in parameters if n not in given]
            raise InvalidInput(where, value, no_such(option, allowed, f"{name} has no option"))
        if not fits(value, hints.get(option, Any)):
            raise InvalidInput(where, value, f"must be {type_name(hints[option])}")
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in options and n not in given]
    if missing:
        raise InvalidInput(f"{prefix}{missing[0]}", None, f"{name} needs it")


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function; none where they cannot be resolved, as in a user's own code may happen."""
    try:
        return get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        if not is_own(function.__module__):
            raise
        return {}


@contextmanager
def under(key: str) -> Iterator[None]:
    """Put the group's key in front of what a constructor refuses."""
    try:
        yield
    except InvalidInput as error:
        raise (error.under(key) if key else error) from None


def resolve(path: str, key: str, base: type[T], trust: Sequence[str] = ()) -> type[T]:
    """The class with the dotted name ``path``.

    Raises:
        InvalidInput: when there is none, it may not be imported, or it is not a ``base``.
    """
    found = locate(path, key, trust)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise InvalidInput(key, path, f"must be a subclass of {base.__module__}.{base.__name__}")
    return found


def fits(value: object, hint: Any) -> bool:
    """Whether a yaml value has the type that a constructor's annotation asks for."""
    if hint is Any:
        return True
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is not None and issubclass(origin, Sequence):
        return isinstance(value, list) and all(fits(element, arguments[0]) for element in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is Path:
        return isinstance(value, str)
    return isinstance(value, hint if isinstance(hint, type) else object)


def type_name(hint: Any) -> str:
    """An annotation in words a user of a command line knows."""
    words = {
        float: "a number",
        int: "a whole number",
        str: "a word",
        bool: "true or false",
        NoneType: "null",
        Path: "a path",
    }
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(type_name(argument) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is not None and issubclass(origin, Sequence):
        return f"a list, each {type_name(arguments[0])}"
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def no_such(name: str, allowed: Sequence[str], what: str) -> str:
    """What to say of a name that does not exist: what there is, and what may have been meant."""
    close = difflib.get_close_matches(name, allowed, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    listing = f" (it has {', '.join(allowed) or 'none'})" if len(allowed) <= 16 else ""
    return f"{what} {name}{listing}{hint}"
