"""Options and hooks of the whole test suite."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

import pytest
from hypothesis import settings

from tests.support.alone import floor

# No deadline: how long an example takes says something of the machine, not of the code.
settings.register_profile("smgw", deadline=None)
settings.load_profile("smgw")
_FLOOR: Final = floor()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="also run what takes longer than a CI run allows")
    real = parser.getgroup("hardware", "the tests of tests/hardware, on real parts")
    real.addoption("--hardware", action="store_true", help="only these; parts not named are emulated")
    real.addoption("--stick", metavar="PORT", help="serial device of a radio stick")
    real.addoption("--stick-kind", metavar="KIND", help="its kind; it is asked if this is left out")
    real.addoption(
        "--stick-wait", metavar="S", type=float, default=600.0, help="how long to wait for a telegram"
    )
    real.addoption(
        "--stick-meters", metavar="FILE", help="meters.toml of a meter that is in reach, with its key"
    )
    real.addoption("--card", metavar="READER", help="reader of a security module, as in pcsc:READER")
    real.addoption("--card-pin", metavar="FILE", help="its PIN; without it nothing that needs one is tried")
    real.addoption("--rs485", metavar="PORT", help="serial device of an RS-485 adapter")
    real.addoption("--rs485-rate", metavar="BIT/S", type=int, default=921600, help="its rate")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse options that would be without effect: a run on "hardware" that touched none is no proof."""
    named = [name for name in ("--stick", "--card", "--rs485") if config.getoption(name)]
    if named and not config.getoption("--hardware"):
        raise pytest.UsageError(f"{', '.join(named)} without --hardware would be without effect")


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around everything: no test's time limit runs while it waits
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Keep what is marked "punctual" apart from all other tests, its fixtures too; not from a night's."""
    alone = item.get_closest_marker("punctual") is not None
    if _FLOOR is None or (item.get_closest_marker("nightly") is not None and not alone):
        return (yield)
    with _FLOOR.entered(alone=alone):
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was really there: the tests of tests/hardware note it as the property "there"."""
    if not config.getoption("--hardware"):
        return
    terminalreporter.section("what was really there")
    told = [
        str(value)
        for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
        for name, value in report.user_properties
        if name == "there"
    ]
    for line in dict.fromkeys(told):
        terminalreporter.write_line(line)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect, not skip, the nightly tests: a skip is something that should have run and could not."""
    if config.getoption("--hardware"):
        here = [item for item in items if item.path.parent.name == "hardware"]
        config.hook.pytest_deselected(items=[item for item in items if item not in here])
        items[:] = here
    if config.getoption("--nightly"):
        return
    nightly = [item for item in items if item.get_closest_marker("nightly")]
    if nightly:
        config.hook.pytest_deselected(items=nightly)
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]
