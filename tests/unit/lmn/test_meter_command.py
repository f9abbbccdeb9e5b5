from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from lmn.mbus.transport import parse
from lmn.model import MeterId
from lmn.serial_port import open_port
from lmn.wmbus.driver import WmbusStick
from lmn.wmbus.link import ReceivedFrame, StickStatistics
from lmn.wmbus.sticks.im871a import BAUDRATE, Im871a
from tests.support.vectors import load
from tools.cli import meter as command
from tools.counterparts.meter_wmbus_virtual import VirtualMeter
from tools.counterparts.stick_im871a import VirtualStick

V2 = next(case for case in load("lmn/telegrams.json")["cases"] if case["id"] == "V2")
RUN = CliRunner()


async def test_it_goes_on_the_air_once_a_gateway_listens(tmp_path: Path) -> None:
    link = tmp_path / "new" / "stick0"
    console = Console(quiet=True)
    meter = VirtualMeter(meter=MeterId("SMG", "00000007", 1, 2))
    stick_side = VirtualStick(link)
    sender = asyncio.create_task(
        command._run(stick_side, 20, meter, [bytes.fromhex(V2["telegram"])], console)
    )
    while not link.exists():  # noqa: ASYNC110  # a file has no event
        await asyncio.sleep(0.01)
    heard: asyncio.Queue[ReceivedFrame] = asyncio.Queue()
    now = asyncio.get_running_loop().time
    stick = WmbusStick(
        lambda: open_port(str(link), BAUDRATE), lambda: Im871a(StickStatistics()), heard.put_nowait, now
    )
    listener = asyncio.create_task(stick.run())
    frame = await asyncio.wait_for(heard.get(), 10)
    assert frame.data == bytes.fromhex(V2["telegram"])
    own = await asyncio.wait_for(heard.get(), 10)
    assert parse(own.data).meter == meter.meter
    for task in (listener, sender):
        task.cancel()
    await asyncio.gather(listener, sender, return_exceptions=True)
    assert not link.is_symlink()


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--link", "x/stick0", "--key", "zz"],
        ["--link", "x/stick0", "--key", "00"],
        ["--link", "x/stick0", "--id", "nobody"],
        ["--link", "x/stick0", "--interval-ms", "0"],
        ["--link", "x/stick0", "--stick", "nothing"],
        ["--link", "x/stick0", "--kind", "steam"],
        ["--link", "x/stick0", "--mode", "mode8"],
        ["--link", "x/stick0", "--fault", "flood"],
        ["--link", "x/stick0", "--replay", "missing.hex"],
    ],
)
def test_wrong_usage(options: list[str]) -> None:
    assert RUN.invoke(command.app, options).exit_code == 2


def test_a_real_file_is_not_replaced_by_a_link(tmp_path: Path) -> None:
    there = tmp_path / "precious"
    there.write_text("x")
    assert RUN.invoke(command.app, ["--link", str(there)]).exit_code == 2
    assert there.read_text() == "x"


def test_a_broken_replay_file_names_its_line(tmp_path: Path) -> None:
    recorded = tmp_path / "t.hex"
    recorded.write_text(f"# a comment\n{V2['telegram']}\n\n{V2['telegram'][:-2]}  # cut off\n")
    result = RUN.invoke(command.app, ["--link", str(tmp_path / "stick0"), "--replay", str(recorded)])
    assert result.exit_code == 2
    assert "line 4" in result.stderr
