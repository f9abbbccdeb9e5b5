"""A security module answers and its algorithms are right: the emulated one, or `--hardware --card READER`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hsm.emulator.personalise import new_card
from hsm.transport import Emulator, opener, parse_way
from tests.hardware.parts import there
from tools.module import probe
from tools.module.access import ModuleAccess

PIN = b"123456789012"


@pytest.fixture
def reader(pytestconfig: pytest.Config) -> str | None:
    named = pytestconfig.getoption("--card")
    return None if named is None else str(named)


@pytest.fixture
def module(reader: str | None, tmp_path: Path, pytestconfig: pytest.Config) -> ModuleAccess:
    if reader is None:
        new_card(tmp_path / "module", PIN)
        return ModuleAccess(opener(Emulator(tmp_path / "module")), PIN)
    pin = pytestconfig.getoption("--card-pin")
    way = parse_way(reader if reader.startswith("pcsc:") else f"pcsc:{re.escape(reader)}")
    return ModuleAccess(opener(way), None if pin is None else Path(pin).read_bytes().strip())


async def test_the_module_says_what_it_is(
    module: ModuleAccess, reader: str | None, record_property: Callable[[str, object], None]
) -> None:
    """Without the PIN where none is given: this costs no try."""
    about = await probe.describe(ModuleAccess(module.opener))
    assert about["application"] == "selected"
    assert about["pin_tries"] != "blocked"
    assert any(about["pace"].values())
    seen = {name: about[name] for name in ("atr", "pin_tries", "pace")}
    record_property("there", there("card", reader or "", real=reader is not None, **seen))


@pytest.mark.timeout(600)
async def test_what_the_module_has_it_does_right(
    module: ModuleAccess, reader: str | None, record_property: Callable[[str, object], None]
) -> None:
    """Changes nothing that lasts; on a real card only with its PIN."""
    if module.pin is None:
        record_property("there", there("card", reader or "", real=True, tried="nothing: no --card-pin"))
        return
    checks = await probe.selftest(module)
    assert checks
    assert [check for check in checks if check.outcome == "failed"] == []
    right = [check.name for check in checks if check.outcome == "ok"]
    assert right
    record_property("there", there("card", reader or "", real=reader is not None, right=len(right)))
