"""`smgw doctor`: each finding has a fault that makes it, and nothing foreign is written to."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import sys
import tty
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from firmware import config
from lmn.serial_port import open_port
from lmn.wmbus import driver
from lmn.wmbus.kinds import USB_OF_STICKS
from tests.architecture.source import ROOT
from tools.cli import doctor as command
from tools.cli.init import make_folder
from tools.counterparts.meter_sml import SmlMeter, VirtualHead, server_id
from tools.counterparts.meter_wired import DEFAULT_METER as WIRED_METER
from tools.counterparts.meter_wired import make_identity
from tools.counterparts.meter_wmbus import ElectricityMeter
from tools.counterparts.sticks import EMULATED
from tools.doctor import gateway, machine, ports, running
from tools.doctor.report import Finding, Severity

RUN = CliRunner()
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def of(findings: list[Finding], subject: str) -> list[tuple[str, str]]:
    return [(each.severity.value, each.text) for each in findings if each.subject.startswith(subject)]


async def examined(folder: Path, seconds: float = 0.5) -> list[Finding]:
    return [each async for each in gateway.examine(folder / "gateway.toml", seconds)]


def test_without_options_it_looks_at_the_machine_alone() -> None:
    outcome = RUN.invoke(command.app, ["--json"])
    findings = json.loads(outcome.stdout)["findings"]
    assert {"python", "openssl", "clock"} <= {each["subject"] for each in findings}
    assert outcome.exit_code == (0 if all(each["severity"] != "error" for each in findings) else 1)
    shown = RUN.invoke(command.app, []).stdout
    assert "python: Python 3." in shown
    assert "warnings" in shown
    assert RUN.invoke(command.app, ["--kind", "radio"]).exit_code == 2


def test_the_machine() -> None:
    assert machine.python((3, 10, 1)).severity is Severity.ERROR
    assert machine.python((3, 13, 0)).severity is Severity.OK
    assert machine.clock(datetime(1970, 1, 1, tzinfo=UTC), None).severity is Severity.ERROR
    assert machine.clock(NOW, disciplined=False).severity is Severity.WARNING
    assert machine.clock(NOW, disciplined=True).severity is Severity.OK
    assert machine.group(list, lambda: 1000).severity is Severity.NOTE
    assert machine.group(list, lambda: 0).hint

    def nowhere(name: str) -> ctypes.CDLL:
        raise OSError(name)

    (finding,) = machine.libcrypto(nowhere)
    assert finding.severity is Severity.ERROR
    (finding,) = machine.libcrypto()
    assert finding.severity is Severity.OK


def test_serial_devices_are_named_not_opened() -> None:
    found = {"usb-CP2102": USB_OF_STICKS[0], "usb-ConBee": USB_OF_STICKS[0], "usb-x": None}
    findings = list(machine.serial(lambda: found, lambda: frozenset({"ModemManager"})))
    assert [("may be a stick" in each.text) for each in findings] == [True, False, False, False]
    sorted_names = sorted(found)
    assert sorted_names == ["usb-CP2102", "usb-ConBee", "usb-x"]
    assert findings[-1].severity is Severity.WARNING
    assert [each.severity for each in machine.serial(dict, frozenset)] == [Severity.NOTE]


async def test_a_gateway_from_top_to_bottom(tmp_path: Path) -> None:
    make_folder(tmp_path, gateway_id="ESGW0100000001")
    meter = ElectricityMeter()
    async with EMULATED["im871a"](tmp_path / "stick0") as stick:

        async def talk() -> None:
            await stick.listening()
            while True:
                meter.step()
                await stick.transmit(meter.telegram())
                await asyncio.sleep(0.05)

        talking = asyncio.create_task(talk())
        findings = await examined(tmp_path)
        talking.cancel()
    assert all(each.severity is not Severity.ERROR for each in findings)
    (_, there), (_, heard) = of(findings, "stick stick0")
    assert "there and free" in there
    assert "telegrams of 1 meters, 0 doubled, last byte" in heard
    assert "0 telegrams" not in heard
    assert of(findings, "module") == [("ok", "emulator answers; tries of the PIN: all left")]
    assert of(findings, "gateway") == [("note", "was never started")]
    findings = await examined(tmp_path)
    assert [severity for severity, _ in of(findings, "stick")] == ["error"]


async def test_every_fault_of_the_configuration_is_told(tmp_path: Path) -> None:
    make_folder(tmp_path, gateway_id="ESGW0100000001")
    path = tmp_path / "gateway.toml"
    path.write_text(path.read_text().replace('level = "info"', 'level = "loud"\nvolume = 1'))
    findings = await examined(tmp_path)
    assert [each.severity for each in findings] == [Severity.ERROR] * 2
    assert any("log.level" in each.text and "expected" in each.hint for each in findings)


def test_an_error_is_the_exit_code(tmp_path: Path) -> None:
    assert RUN.invoke(command.app, ["-c", str(tmp_path / "missing.toml")]).exit_code == 1
    assert RUN.invoke(command.app, ["--port", str(tmp_path / "missing"), "--json"]).exit_code == 1


async def test_a_module_that_is_not_there(tmp_path: Path) -> None:
    make_folder(tmp_path, gateway_id="ESGW0100000001")
    path = tmp_path / "gateway.toml"
    path.write_text(path.read_text().replace('transport = "emulator"', 'transport = "tcp:127.0.0.1:1"'))
    assert [severity for severity, _ in of(await examined(tmp_path), "module")] == ["error"]


def test_certificates_that_end(tmp_path: Path) -> None:
    make_folder(tmp_path, gateway_id="ESGW0100000001")
    make_identity(tmp_path / "meter", WIRED_METER)
    path = tmp_path / "gateway.toml"
    line = f'[[lmn.rs485]]\nport = "line0"\n[[lmn.rs485.meter]]\nmeter = "{WIRED_METER}"\n'
    line += f'server_id = "{server_id(WIRED_METER).hex()}"\ncertificate = "meter/meter.pem"\n'
    line += 'registers = ["1-0:1.8.0"]\n'
    path.write_text(path.read_text().replace("[dcnet]", line + "[dcnet]"))
    settings = config.load(path)
    now_utc = datetime.now(UTC)
    for later, severity in ((0, "ok"), (7 * 365 - 30, "warning"), (7 * 365 + 5, "error"), (-30, "error")):
        told = list(gateway.certificates(settings, now_utc + timedelta(days=later)))
        assert [each.severity.value for each in told] == [severity]
    (tmp_path / "meter" / "meter.pem").write_text("none")
    assert [each.severity.value for each in gateway.certificates(settings, now_utc)] == ["error"]


async def test_a_port_that_somebody_has(tmp_path: Path) -> None:
    async with EMULATED["im871a"](tmp_path / "stick0") as stick:
        port = await open_port(str(stick.link), 57600)
        (finding,) = ports.look("stick", str(stick.link))
        assert finding.severity is Severity.ERROR
        assert "another process" in finding.text
        port.close()
        (finding,) = ports.look("stick", str(stick.link))
        assert finding.severity is Severity.OK
    (finding,) = ports.look("stick", str(tmp_path / "missing"))
    assert finding.severity is Severity.ERROR
    assert [each.severity for each in ports.look("stick", "socket://127.0.0.1:1")] == [Severity.NOTE]


async def test_holders_are_named(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.touch()
    code = f"f = open({str(target)!r}); print('open', flush=True); input()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    await asyncio.wait_for(process.stdout.readline(), 20)
    assert list(ports.holders([target])) == [process.pid]
    assert str(process.pid) in ports.named(ports.holders([target]))
    await process.communicate(b"\n")
    assert ports.holders([target]) == {}


async def test_a_running_gateway_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path, gateway_id="ESGW0100000001")
    (tmp_path / "state").mkdir()
    monkeypatch.setattr(ports, "holders", lambda _paths: {4711: "smgwd"})
    async with EMULATED["im871a"](tmp_path / "stick0") as stick:
        findings = await examined(tmp_path)
        assert stick.heard == []
    assert of(findings, "gateway") == [("ok", "runs: smgwd (4711)")]
    assert "left to the running gateway" in of(findings, "module")[0][1]
    assert "own process" in of(findings, "stick")[0][1]


def told(**other: object) -> dict[str, Any]:
    return {
        "what": "stick", "port": "/dev/x", "kind": "auto", "device": "a stick", "mode": "T1", "open": True,
        "last_byte_s": 0.5, "bytes": 9, "frames": 3, "crc_failures": 0, "garbage_bytes": 0, "duplicates": 1,
        "restarts": 0,
    } | other  # fmt: skip


@pytest.mark.parametrize(
    ("line", "severities"),
    [
        (told(), ["ok"]),
        (told(duplicates=None, device=""), ["ok"]),
        (told(open=False), ["error"]),
        (told(frames=0, last_byte_s=None), ["ok", "note"]),
        (told(crc_failures=2), ["ok", "warning"]),
        (told(garbage_bytes=2, truncated=1), ["ok", "warning", "warning"]),
        (told(silent=1), ["ok", "warning"]),
    ],
)
def test_what_a_running_gateway_says_of_a_line(line: dict[str, Any], severities: list[str]) -> None:
    found = list(running.findings("stick x", line))
    assert [each.severity.value for each in found] == severities
    if severities[0] == "ok":
        assert "3 frames" in found[0].text or "0 frames" in found[0].text
        assert ("doubled" in found[0].text) == (line["duplicates"] is not None)


async def test_a_running_gateway_is_asked_about_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path, gateway_id="ESGW0100000001")
    (tmp_path / "state").mkdir()
    monkeypatch.setattr(ports, "holders", lambda _paths: {4711: "smgwd"})
    monkeypatch.setattr(ports, "look", None)  # whatever it says: nobody opens its ports
    answer = {"status": {"lines": [told(port=str(tmp_path / "stick0"))]}}
    monkeypatch.setattr(running, "ask", lambda _path, op: answer if op == "status" else None)
    assert of(await examined(tmp_path), "stick") == [
        (
            "ok",
            "in the running gateway: a stick, mode T1: 3 frames, 1 doubled, last byte 0.5 s ago, 0 restarts",
        )
    ]


async def test_what_is_no_stick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "PROBE_TIMEOUT_S", 0.05)
    master, slave = os.openpty()
    tty.setraw(slave)
    (finding,) = await ports.hear_stick("port", os.ttyname(slave), "auto", None, 0.2)
    assert (finding.severity, "no kind" in finding.text) == (Severity.ERROR, True)
    (finding,) = await ports.hear_stick("port", os.ttyname(slave), "cul", None, 0.2)
    assert (finding.severity, "does not answer" in finding.text) == (Severity.ERROR, True)
    os.close(master)
    os.close(slave)
    (finding,) = await ports.hear_stick("port", str(tmp_path / "gone"), "auto", None, 0.2)
    assert finding.severity is Severity.ERROR


async def test_a_stick_that_brings_rubbish(tmp_path: Path) -> None:
    async with EMULATED["cul"](tmp_path / "stick0") as stick:

        async def talk() -> None:
            await stick.listening()
            await stick.write(b"b2E44931578\r\nbZZ\r\n")

        talking = asyncio.create_task(talk())
        findings = await ports.hear_stick("port", str(stick.link), "cul", None, 0.6)
        await talking
    assert [each.severity.value for each in findings] == ["ok", "note", "warning", "warning"]
    assert "cut off" in findings[-1].text


async def test_a_head_is_listened_to_and_never_written_to(tmp_path: Path) -> None:
    meter = SmlMeter()
    wanted = server_id(meter.meter)
    async with VirtualHead(tmp_path / "head0", baudrate=0) as head:

        async def heard(data: bytes, name: bytes) -> list[Finding]:
            async def talk() -> None:
                await asyncio.sleep(0.1)
                await head.push(data)

            talking = asyncio.create_task(talk())
            found = await ports.hear_head("head", str(head.link), 9600, name, 0.4)
            await talking
            return found

        assert [each.severity.value for each in await heard(meter.frame(), wanted)] == ["ok"]
        assert [each.severity.value for each in await heard(meter.frame(), bytes(10))] == ["ok", "error"]
        assert [each.severity.value for each in await heard(bytes(99), wanted)] == ["ok", "warning"]
        assert [each.severity.value for each in await heard(b"", wanted)] == ["warning"]
        os.set_blocking(head._master, False)
        with pytest.raises(BlockingIOError):
            os.read(head._master, 1)
    (finding,) = await ports.hear_head("head", str(tmp_path / "gone"), 9600, None, 0.1)
    assert finding.severity is Severity.ERROR
