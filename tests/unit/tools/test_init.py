"""`smgw init`: which kind of stick a new folder names."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from firmware.config import load
from tools.cli.init import app

RUN = CliRunner()


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ([], "im871a"),
        (["--port", "/dev/serial/by-id/usb-x"], "auto"),
        (["--port", "/dev/serial/by-id/usb-x", "--kind", "cul"], "cul"),
    ],
)
def test_the_kind_of_stick(tmp_path: Path, options: list[str], kind: str) -> None:
    assert RUN.invoke(app, [str(tmp_path / "gw"), *options]).exit_code == 0
    lmn = load(tmp_path / "gw" / "gateway.toml").lmn
    assert lmn is not None
    assert [stick.kind for stick in lmn.stick] == [kind]


def test_a_kind_that_there_is_not(tmp_path: Path) -> None:
    assert RUN.invoke(app, [str(tmp_path / "gw"), "--kind", "radio"]).exit_code == 2
    assert not (tmp_path / "gw").exists()


@pytest.mark.parametrize("name", ["nonsense", "esgw0100000001", "ESGW010000001", "ESGW0100000001\n"])
def test_an_id_that_no_gateway_can_have(tmp_path: Path, name: str) -> None:
    assert RUN.invoke(app, [str(tmp_path / "gw"), "--id", name]).exit_code == 2
    assert not (tmp_path / "gw").exists()


def test_a_mode_needs_a_kind(tmp_path: Path) -> None:
    from firmware.errors import ConfigurationRefused

    assert RUN.invoke(app, [str(tmp_path / "gw"), "--kind", "auto"]).exit_code == 0
    path = tmp_path / "gw" / "gateway.toml"
    path.write_text(path.read_text().replace('#mode = "T1"', 'mode = "T1"'))
    with pytest.raises(ConfigurationRefused, match="a radio mode needs a kind"):
        load(path)
