"""Building objects from what a user wrote: the constructor's signature is the list of options there is.

Importing this module does not import torch.
"""

import difflib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from selector.errors import InvalidInput

T = TypeVar("T")


def build(node: DictConfig, key: str, base: type[T], **given: Any) -> T:
    """Make the object that a configuration node describes.

    Args:
        node: ``_target_`` and the constructor's options.
        key: where the node stands, for messages.
        base: what the target must be a subclass of.
        given: arguments that come from elsewhere (N, S, D, seeds …); passed where the constructor has them.

    Raises:
        InvalidInput: for a target that is none or of another kind, and for options that do not exist or have the
            wrong type or value.
    """
    content: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if not isinstance(content, dict) or not isinstance(content.get("_target_"), str):
        raise InvalidInput(key, content, f"must name a {base.__name__} as {key}._target_")
    options = {str(name): value for name, value in content.items()}
    target = resolve(options.pop("_target_"), f"{key}._target_", base)
    return construct(target, options, key, **given)


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
    prefix = f"{key}." if key else ""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)  # nn.Module's own
    parameters = {n: p for n, p in inspect.signature(target).parameters.items() if p.kind not in variadic}
    hints = get_type_hints(target.__init__)
    for name, value in options.items():
        where = f"{prefix}{name}"
        if name in given:
            of_problem = name in ("N", "S", "D", "C")
            raise InvalidInput(where, value, f"is set elsewhere: {'problem.' if of_problem else ''}{name}")
        if name not in parameters:
            allowed = [name for name in parameters if name not in given]
            raise InvalidInput(where, value, no_such(name, allowed, f"{target.__name__} has no option"))
        if not fits(value, hints.get(name, Any)):
            raise InvalidInput(where, value, f"must be {type_name(hints[name])}")
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in options and n not in given]
    if missing:
        raise InvalidInput(f"{prefix}{missing[0]}", None, f"{target.__name__} needs it")
    with under(key):
        return target(**options, **{name: value for name, value in given.items() if name in parameters})


@contextmanager
def under(key: str) -> Iterator[None]:
    """Put the group's key in front of what a constructor refuses."""
    try:
        yield
    except InvalidInput as error:
        raise (error.under(key) if key else error) from None


def resolve(path: str, key: str, base: type[T]) -> type[T]:
    """The class with the dotted name ``path``.

    Raises:
        InvalidInput: when there is none, or it is not a ``base``.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise InvalidInput(key, path, f"no such class; must be a subclass of {base.__name__}") from None
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
