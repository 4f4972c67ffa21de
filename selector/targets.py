"""What a ``_target_`` may name: this package, the user's own code, and packages that the user trusts.

A configuration may come from anywhere, and importing a module runs it. So nothing is imported before it is known where
it would come from: a name of the standard library or of an installed package is refused without being looked at, unless
``trust`` names the package. Importing this module does not import torch.
"""

import difflib
import sys
from collections.abc import Iterable
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TypeGuard

from selector.errors import InvalidInput

_PROJECT = Path(__file__).resolve().parents[1]


def own_folders() -> list[Path]:
    """Where the user's own code may lie: the working directory and the folder of train.py."""
    checkout = [_PROJECT] if (_PROJECT / "configs" / "train.yaml").is_file() else []  # else it is site-packages
    return list(dict.fromkeys([Path.cwd(), *checkout]))


def locate(path: str, key: str, trust: Iterable[str] = ()) -> object:
    """Import what the dotted name ``path`` says, if that is allowed.

    Args:
        path: ``module.Name``; packages in front as needed.
        key: where it stands, for messages.
        trust: top-level names of installed packages that are allowed besides this package and the user's own code.

    Raises:
        InvalidInput: for a name that is none, that is not there, or that may not be imported. Nothing foreign has been
            imported then.
    """
    *parts, name = path.split(".")
    if not parts or not all(part.isidentifier() and not iskeyword(part) for part in (*parts, name)):
        shown = path if path.isprintable() else repr(path)
        raise InvalidInput(key, shown, "must be a dotted name: module.Class")
    top, module = parts[0], ".".join(parts)
    if top == "selector" or top in trust:
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError):
            raise InvalidInput(key, path, "no such class") from None
    file, folder = _find(parts)
    if file is None or folder is None:
        raise InvalidInput(key, path, _refusal(top))
    return _attribute(_import(module, file, folder, key, path), name, key, path)


def is_own(path: str) -> bool:
    """Whether ``path`` names something outside of this package."""
    return path.split(".")[0] != "selector"


def is_function_of(found: object, path: str) -> TypeGuard[FunctionType]:
    """Whether ``found``, which ``path`` named, is a function written there (not one that was imported there)."""
    return isinstance(found, FunctionType) and found.__module__ == path.rpartition(".")[0]


def in_words(error: BaseException) -> str:
    """What the user's own code raised, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


def _find(parts: list[str]) -> tuple[Path, Path] | tuple[None, None]:
    """The file of a module of the user's own, and the folder that its dotted name starts in; imports nothing.

    Folders on the way must be packages, and none a run folder: a run that somebody sent must not bring its code along,
    wherever below the working directory it was unpacked.
    """
    if parts[0] in sys.stdlib_module_names:
        return None, None
    for folder in own_folders():
        stem = folder.joinpath(*parts)
        packages = [folder.joinpath(*parts[:i]) for i in range(1, len(parts))]
        if (folder / ".hydra").exists() or not all((package / "__init__.py").is_file() for package in packages):
            continue
        for file in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")):
            if file.is_file() and file.resolve() != _PROJECT / "train.py" and not _in_run(file, folder):
                return file, folder
    return None, None


def _in_run(file: Path, folder: Path) -> bool:
    """Whether a run folder lies between ``folder`` and the file, also when links are followed."""
    between = [place for place in file.parents if place.is_relative_to(folder)]
    return any((place / ".hydra").exists() for place in (*between, *file.resolve().parents))


def _refusal(top: str) -> str:
    try:
        there = top in sys.stdlib_module_names or find_spec(top) is not None
    except (ImportError, ValueError):
        there = True
    if not there:
        where = f"{Path.cwd()} holds no module {top}"
        return f"no such class: {where}; start where your code lies (a folder of code needs an __init__.py)"
    return f"is neither selector's nor your own code in {Path.cwd()}; trust=[{top}] allows the package"


def _import(module: str, file: Path, folder: Path, key: str, path: str) -> ModuleType:
    top = module.split(".")[0]
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))  # for good: what the user's module imports may lie beside it
    invalidate_caches()
    try:
        spec = find_spec(top)  # of a top-level name: nothing is run
    except (ImportError, ValueError):
        spec = None
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or [])]
    ours = {folder / top, folder / f"{top}.py", folder / top / "__init__.py"}
    if not any(place is not None and Path(place) in ours for place in places):
        elsewhere = next((place for place in places if place), "elsewhere")
        raise InvalidInput(key, path, f"another module {top} hides {file}: {elsewhere}; rename yours")
    try:
        return import_module(module)
    except (Exception, SystemExit) as error:
        raise InvalidInput(key, path, f"{file} cannot be imported: {in_words(error)}") from error


def _attribute(module: ModuleType, name: str, key: str, path: str) -> object:
    try:
        return getattr(module, name)
    except AttributeError:
        close = difflib.get_close_matches(name, vars(module), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InvalidInput(key, path, f"no such class in {module.__file__}{hint}") from None
