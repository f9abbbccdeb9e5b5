from __future__ import annotations

import asyncio
import fcntl
import io
import json
import os
import stat
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from firmware.config import load_meters
from firmware.errors import ConfigurationRefused
from lmn.model import MeterId
from lmn.wmbus.kinds import KINDS, USB_OF_STICKS, Kind
from lmn.wmbus.link import ReceivedFrame
from tests.architecture.source import ROOT
from tools.cli import listen as command
from tools.counterparts.meter_wmbus import DEFAULT_KEY
from tools.counterparts.meter_wmbus_load import MeterKind
from tools.counterparts.meter_wmbus_virtual import Protection, VirtualMeter
from tools.counterparts.stick_im871a import VirtualStick
from tools.listen import hearing
from tools.listen.finding import NoReceiver, find
from tools.listen.hearing import Hearing, open_last
from tools.listen.meter_profile import add, block

RUN = CliRunner()


def frame(meter: VirtualMeter, at: float = 0.0) -> ReceivedFrame:
    meter.step()
    return ReceivedFrame(meter.telegram(), at, -70, "T1")


def test_meters_are_described_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Hearing()
    for protection in Protection:
        for kind in MeterKind:
            meter = VirtualMeter(kind, protection)
            for at in (0.0, 10.0, 20.0):
                row = heard.take(frame(meter, at))
                assert row is not None
                assert row.security == protection.value
                assert row.medium == kind.value
    assert [row.interval_s for row in heard.meters()] == [20.0 * 7 / 14] * 4 or len(heard.meters()) == 4
    assert heard.numbered(2) is heard.meters()[1]
    assert heard.numbered(99) is None
    assert heard.take(ReceivedFrame(b"\x03\x44\x00\x00", 0.0)) is None
    assert heard.refused == {"length": 1}
    monkeypatch.setattr(hearing, "MAX_METERS", 3)
    for number in range(20):
        heard.take(frame(VirtualMeter(meter=MeterId("SMG", f"{number:08}", 1, 2))))
    assert len(heard.meters()) == 3


def test_a_picked_meter_becomes_a_profile(tmp_path: Path) -> None:
    heard = Hearing()
    row = heard.take(frame(VirtualMeter(MeterKind.WATER)))
    assert row is not None
    path = tmp_path / "meters.toml"
    path.write_text("# mine\n")
    path.chmod(0o644)
    answers = iter([DEFAULT_KEY.hex(), "water", "me"])
    out = Console(record=True, width=200, file=io.StringIO())
    command.pick(row, path, out, lambda *_a, **_k: next(answers))
    (profile,) = load_meters(path)
    assert (profile.id, profile.meter, profile.mode.value, profile.consumer) == (
        "water",
        str(row.meter),
        "strict",
        "me",
    )
    assert profile.key_hex == DEFAULT_KEY.hex()
    assert path.read_text().startswith("# mine\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shown = out.export_text()
    assert "volume" in shown
    assert DEFAULT_KEY.hex() not in shown
    telegram = open_last(row, DEFAULT_KEY)
    with pytest.raises(ConfigurationRefused):  # the meter is there already
        add(path, block("other", telegram, DEFAULT_KEY, "me"))
    assert len(load_meters(path)) == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("answer", "said"), [("00" * 16, "refused (mac)"), ("", "refused (key)"), ("x", "no hex")]
)
def test_a_wrong_key_says_which_check_failed(answer: str, said: str, tmp_path: Path) -> None:
    row = Hearing().take(frame(VirtualMeter()))
    assert row is not None
    out = Console(record=True, width=200, file=io.StringIO())
    command.pick(row, tmp_path / "meters.toml", out, lambda *_a, **_k: answer)
    assert said in out.export_text()
    assert not list(tmp_path.iterdir())


async def test_the_receiver_is_found_without_touching_others(tmp_path: Path) -> None:
    asked: list[str] = []

    async def ask(path: str) -> Kind | None:
        asked.append(Path(path).name)
        return KINDS["cul"] if "CUL" in path else None

    def listed(folder: Path) -> dict[str, tuple[int, int] | None]:
        numbers = {"usb-Nobody_s": (1, 2), "usb-Unknown": None}
        return {path.name: numbers.get(path.name, USB_OF_STICKS[0]) for path in folder.iterdir()}

    for name in ("usb-ConBee_II", "usb-CUL_868", "usb-Other", "usb-Nobody_s", "usb-Unknown"):
        (tmp_path / name).touch()
    found = await find(None, None, folder=tmp_path, ask=ask, listed=listed)
    assert found == (str(tmp_path / "usb-CUL_868"), KINDS["cul"])
    with pytest.raises(NoReceiver, match=r"ConBee.*Nobody"):
        await find(None, "im871a", folder=tmp_path, ask=ask, listed=listed)
    assert set(asked) == {"usb-CUL_868", "usb-Other"}
    (tmp_path / "real").mkdir()
    os.mkfifo(tmp_path / "real" / "pipe")  # nothing that the USB knows
    with pytest.raises(NoReceiver, match="0 asked; left alone by name or USB number: pipe"):
        await find(None, None, folder=tmp_path / "real")
    with pytest.raises(NoReceiver):
        await find(None, None, folder=tmp_path / "missing", ask=ask)
    with pytest.raises(NoReceiver, match="--port"):
        await find(None, "replay", folder=tmp_path, ask=ask)
    assert (await find(str(tmp_path / "usb-Other"), None, ask=ask))[1].name == "replay"
    os.mkfifo(tmp_path / "pipe")
    assert (await find(str(tmp_path / "pipe"), None, ask=ask))[1].name == "rtl_wmbus"
    assert (await find("/dev/null", "cul"))[1].name == "cul"
    with pytest.raises(NoReceiver):
        await find("/dev/null", None, ask=ask)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--kind", "radio"], 2),
        (["--port", "missing"], 1),
        (["--port", "x", "--kind", "cul", "--mode", "C1+T1"], 2),
    ],
)
def test_wrong_usage(options: list[str], code: int) -> None:
    assert RUN.invoke(command.app, options).exit_code == code


async def test_as_json_without_a_terminal(tmp_path: Path) -> None:
    recording = tmp_path / "recorded"
    meters = [VirtualMeter(kind) for kind in MeterKind]
    recording.write_text("\n".join(meter.telegram().hex() for meter in meters) + "\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tools.cli", "listen", "--port", str(recording), "--json", "--seconds", "0.6",
        stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    events = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0
    assert [event["kind"] for event in events[:-1]] == [kind.value for kind in MeterKind]
    assert (events[-1]["event"], events[-1]["meters"], events[-1]["telegrams"]) == ("stick", 4, 4)


@pytest.mark.parametrize("terminal", ["xterm", "dumb"])
async def test_at_a_terminal_from_the_stick_to_the_profile(tmp_path: Path, terminal: str) -> None:
    """What an owner of a stick does first: look, type the meter's number, its key, a name."""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (40, 160))

    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    shown = bytearray()

    async def until(text: bytes) -> None:
        deadline = time.monotonic() + 40
        while text not in shown:
            assert time.monotonic() < deadline, bytes(shown[-2000:])
            try:
                shown.extend(os.read(master, 65536))
            except BlockingIOError:
                await asyncio.sleep(0.02)

    os.set_blocking(master, False)
    async with VirtualStick(tmp_path / "stick0") as stick:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tools.cli", "listen", "--port", str(stick.link), "--kind", "im871a",
            "--meters", str(tmp_path / "meters.toml"),
            stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, preexec_fn=own_terminal,
            env={**os.environ, "TERM": terminal},
        )  # fmt: skip
        await asyncio.wait_for(stick.listening(), 40)
        await stick.transmit(VirtualMeter(MeterKind.GAS).telegram())
        await until(b"gas")
        os.write(master, b"1\n")
        await until(b"key, 32 hex")
        await asyncio.sleep(0.2)
        os.write(master, DEFAULT_KEY.hex().encode() + b"\n")
        await until(b"name of its profile")
        os.write(master, b"gas\n")
        await until(b"whose values")
        os.write(master, b"\n")
        await until(b"written to")
        process.terminate()
        while process.returncode is None:  # what it still writes must be taken, or it waits for that
            with suppress(BlockingIOError):
                shown.extend(os.read(master, 65536))
            await asyncio.sleep(0.02)
    os.close(master)
    os.close(slave)
    assert [profile.id for profile in load_meters(tmp_path / "meters.toml")] == ["gas"]
    assert DEFAULT_KEY.hex().encode() not in shown
