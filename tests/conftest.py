"""Options and hooks of the whole test suite."""

from __future__ import annotations

import pytest
from hypothesis import settings

# No deadline: how long an example takes says something of the machine, not of the code.
settings.register_profile("smgw", deadline=None)
settings.load_profile("smgw")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="also run what takes longer than a CI run allows")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect, not skip, the nightly tests: a skip is something that should have run and could not."""
    if config.getoption("--nightly"):
        return
    nightly = [item for item in items if item.get_closest_marker("nightly")]
    if nightly:
        config.hook.pytest_deselected(items=nightly)
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]
