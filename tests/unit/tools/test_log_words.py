"""`smgw log` and its neighbours: what they print, and what they say of a gateway that does not answer."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from firmware.life.decommission import mark
from tools.cli.controlled import NotReached, ask
from tools.cli.init import make_folder
from tools.cli.log import _show_entries


def entry(text: str) -> dict[str, object]:
    empty = {"sub_event": "", "subject": "", "destination": "", "repeated": 0, "outcome": 0, "level": 1}
    return {
        **empty,
        "number": 1,
        "at_utc": "2026-01-01T00:00:00Z",
        "event": "boot",
        "text": text,
        "evidence": {},
    }


def test_an_entry_is_one_line_however_narrow_the_screen() -> None:
    out = StringIO()
    _show_entries([entry("a word " * 20), entry("b")], Console(file=out, width=40))
    first, second = out.getvalue().splitlines()
    assert first.endswith("a word ")
    assert second.endswith("boot  b")


def test_a_gateway_that_does_not_answer(tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    make_folder(folder, gateway_id="ESGW0100000001")
    configuration = folder / "gateway.toml"
    with pytest.raises(NotReached, match="has this gateway ever run"):
        ask(configuration, op="status")
    (folder / "state").mkdir()
    with pytest.raises(NotReached, match=r"`smgw run -c .*gateway\.toml` starts it"):
        ask(configuration, op="status")
    mark(folder / "state", "decommissioned at some time")
    with pytest.raises(NotReached, match="was decommissioned; `smgw init` makes another one"):
        ask(configuration, op="status")
    with pytest.raises(NotReached, match="a readable file is expected here"):
        ask(tmp_path / "nothing.toml", op="status")
