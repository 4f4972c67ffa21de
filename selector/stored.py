"""What Hydra wrote into a run folder, where anyone may have changed it since."""

from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig, ListConfig, OmegaConf

from selector.errors import InvalidInput
from selector.untrusted import check_file, reason

Node = TypeVar("Node", DictConfig, ListConfig)


def read_stored(folder: Path, name: str, kind: type[Node], key: str) -> Node:
    """``.hydra/<name>`` of a run folder.

    Args:
        folder: the run folder.
        name: of the yaml file.
        kind: what must be at its top.
        key: what named the folder, for messages.

    Raises:
        InvalidInput: when it is not there, cannot be read, or holds something else.
    """
    path = folder / ".hydra" / name
    try:
        check_file(path)
        content = OmegaConf.load(path)
    except InvalidInput as error:
        raise InvalidInput(key, folder, f".hydra/{name}: {error.allowed}") from None
    except Exception as error:  # yaml and OmegaConf raise a dozen kinds for what is no configuration
        raise InvalidInput(key, folder, f".hydra/{name} cannot be read ({reason(error)})") from None
    if not isinstance(content, kind):
        raise InvalidInput(key, folder, f".hydra/{name} is not as Hydra wrote it")
    return content


def stored_overrides(folder: Path, key: str) -> list[str]:
    """The overrides that a run was started with.

    Raises:
        InvalidInput: as :func:`read_stored`.
    """
    stored = OmegaConf.to_container(read_stored(folder, "overrides.yaml", ListConfig, key), resolve=False)
    assert isinstance(stored, list)
    if not all(isinstance(one, str) for one in stored):
        raise InvalidInput(key, folder, ".hydra/overrides.yaml is not as Hydra wrote it")
    return stored
