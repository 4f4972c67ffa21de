"""What Hydra wrote into a run folder, where anyone may have changed it since.

Importing this module does not import torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig, ListConfig, OmegaConf

from selector.config import Schema
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


def load_run(folder: Path, needs: str, trust: Sequence[str] = ()) -> DictConfig:
    """The configuration that a run was started with.

    Args:
        folder: the run folder.
        needs: a file that must be in it.
        trust: packages that a ``_target_`` may come from; what the folder itself says of them does not count, for it
            may come from anywhere.

    Raises:
        InvalidInput: when ``folder`` is not a run folder, or what it says of the run is damaged.
    """
    stored = folder / ".hydra" / "config.yaml"
    if not folder.is_dir():
        raise InvalidInput("run", folder, "no such folder; must be a run folder")
    for path in (stored, stored.with_name("hydra.yaml"), folder / needs):
        if not path.is_file():
            raise InvalidInput("run", folder, f"is no run folder: {path.relative_to(folder)} is missing")
    reading = ".hydra/hydra.yaml"
    try:
        hydra = OmegaConf.load(stored.with_name("hydra.yaml"))
        reading = ".hydra/config.yaml"
        # ${hydra:…} in a stored configuration means the Hydra of that run, not of this process.
        OmegaConf.register_new_resolver("hydra", lambda key: OmegaConf.select(hydra.hydra, key), replace=True)
        cfg = OmegaConf.merge(OmegaConf.structured(Schema), OmegaConf.load(stored))  # with types, and what is new
        assert isinstance(cfg, DictConfig)
        cfg.name = folder.name  # before anything is resolved: ${now:…} in it is known to a running Hydra alone
        OmegaConf.resolve(cfg)
        cfg.trust = list(trust)
        if OmegaConf.missing_keys(cfg):
            raise ValueError(f"it says nothing of {min(OmegaConf.missing_keys(cfg))}")
    except Exception as error:  # yaml and OmegaConf raise a dozen kinds for what is no configuration
        because = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InvalidInput("run", folder, f"{reading} does not describe a run ({because[:120]})") from None
    return cfg
