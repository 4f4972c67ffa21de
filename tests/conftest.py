"""Fixtures of the whole suite."""

from collections.abc import Iterator

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig


@pytest.fixture(autouse=True)
def _no_hydra_left_behind() -> Iterator[None]:
    """Hydra's configuration is global: no test may see that of another."""
    yield
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
