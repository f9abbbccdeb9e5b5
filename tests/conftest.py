"""Options and hooks of the whole test suite."""

from __future__ import annotations

import pytest
from hypothesis import settings

# No deadline: how long an example takes says something of the machine, not of the code.
settings.register_profile("smgw", deadline=None)
settings.load_profile("smgw")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="also run what takes longer than a CI run allows")
    real = parser.getgroup(
        "hardware", "run the tests of tests/hardware on real parts instead of emulated ones"
    )
    real.addoption("--hardware", action="store_true", help="use the real parts that the other options name")
    real.addoption("--stick", metavar="PORT", help="serial device of a radio stick")
    real.addoption("--stick-kind", metavar="KIND", help="its kind; it is asked if this is left out")
    real.addoption(
        "--stick-wait", metavar="S", type=float, default=600.0, help="how long to wait for a telegram"
    )
    real.addoption(
        "--stick-meters", metavar="FILE", help="meters.toml of a meter that is in reach, with its key"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse options that would be without effect: a run on "hardware" that touched none is no proof."""
    named = config.getoption("--stick")
    if bool(config.getoption("--hardware")) != bool(named):
        raise pytest.UsageError("--hardware and --stick PORT belong together")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect, not skip, the nightly tests: a skip is something that should have run and could not."""
    if config.getoption("--nightly"):
        return
    nightly = [item for item in items if item.get_closest_marker("nightly")]
    if nightly:
        config.hook.pytest_deselected(items=nightly)
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]
