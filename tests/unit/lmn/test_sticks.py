"""Each receiver: its core on bytes alone, and its driver on a pseudo terminal with the emulated stick."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lmn.errors import LmnError, PortClosed, UnexpectedMessage
from lmn.wmbus import driver as driver_module
from lmn.wmbus.driver import WmbusStick, probe
from lmn.wmbus.frame import to_format_a, to_format_b
from lmn.wmbus.inbox import Inbox
from lmn.wmbus.kinds import KINDS, NEVER_PROBE, PROBE_ORDER, USB_OF_STICKS, candidates
from lmn.wmbus.link import ReceivedFrame, StickCore, StickState, StickStatistics
from lmn.wmbus.sticks import amb8465, cul, im871a, iu891a, rc1180
from lmn.wmbus.sticks.im871a_config import DeviceInformation
from lmn.wmbus.sticks.replay import parse_line
from lmn.wmbus.transport import ReplayPort
from tools.counterparts.meter_wmbus import ElectricityMeter
from tools.counterparts.stick_amb8465 import VirtualAmb8465
from tools.counterparts.stick_cul import VirtualCul
from tools.counterparts.stick_rc1180 import VirtualRc1180
from tools.counterparts.sticks import EMULATED

METER = ElectricityMeter(seed=8)
TELEGRAM = METER.telegram()
VARIANTS: dict[str, tuple[str, Callable[..., Any]]] = {
    **{kind: (kind, make) for kind, make in EMULATED.items()},
    "amb8465 bare": ("amb8465", partial(VirtualAmb8465, commands=False, signal=False)),
    "amb8465 bare with signal": ("amb8465", partial(VirtualAmb8465, commands=False)),
    "amb8465 without signal": ("amb8465", partial(VirtualAmb8465, signal=False)),
    "cul format b": ("cul", partial(VirtualCul, b_format=True)),
    "rc1180 without signal": ("rc1180", partial(VirtualRc1180, signal=False)),
}


class Heard:
    def __init__(self, kind: str, link: Path) -> None:
        self.frames: asyncio.Queue[ReceivedFrame] = asyncio.Queue()
        self.statistics = StickStatistics()
        now = asyncio.get_running_loop().time
        stick = WmbusStick.of_kind(
            KINDS[kind], str(link), self.frames.put_nowait, now, statistics=self.statistics
        )
        self.task = asyncio.create_task(stick.run())

    async def next(self) -> ReceivedFrame:
        return await asyncio.wait_for(self.frames.get(), 10)


@asynccontextmanager
async def listening(kind: str, stick: Any) -> AsyncIterator[Heard]:
    heard = Heard(kind, stick.link)
    try:
        await asyncio.wait_for(stick.listening(), 10)
        yield heard
    finally:
        heard.task.cancel()
        await asyncio.gather(heard.task, return_exceptions=True)


@pytest.mark.parametrize("variant", VARIANTS)
async def test_what_the_stick_hears_reaches_the_gateway_unchanged(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine the emulated stick itself may pause for longer than a real one ever does.
    monkeypatch.setattr(Inbox, "stale", lambda _self, _at: False)
    kind, make = VARIANTS[variant]
    async with make(tmp_path / "stick0") as stick, listening(kind, stick) as heard:
        for _ in range(3):
            METER.step()
            sent = METER.telegram()
            assert await stick.transmit(sent, dbm=-60)
            frame = await heard.next()
            assert frame.data == sent
            if "without signal" not in variant and variant not in ("rtl_wmbus", "rtl_433", "amb8465 bare"):
                assert frame.rssi_dbm == -60
            else:
                assert frame.rssi_dbm is None
    statistics = heard.statistics
    assert statistics.frames == 3
    assert statistics.device
    assert statistics.link_mode
    assert (statistics.crc_failures, statistics.garbage_bytes, statistics.truncated) == (0, 0, 0)
    assert statistics.duplicates == (3 if kind == "rtl_wmbus" else 0)


@pytest.mark.parametrize("kind", ["iu891a", "amb8465", "cul", "rc1180"])
async def test_byte_by_byte(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inbox, "stale", lambda _self, _at: False)
    stick = VARIANTS[kind][1](tmp_path / "stick0", chunk=1, baudrate=0)
    async with stick, listening(kind, stick) as heard:
        await stick.transmit(TELEGRAM)
        assert (await heard.next()).data == TELEGRAM


@pytest.mark.parametrize("kind", EMULATED)
async def test_a_receiver_that_vanishes_and_comes_back(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inbox, "stale", lambda _self, _at: False)
    async with EMULATED[kind](tmp_path / "stick0") as stick:
        async with listening(kind, stick) as heard:
            stick.vanish()
            with pytest.raises(PortClosed):
                await asyncio.wait_for(heard.task, 10)
        missing = Heard(kind, stick.link)
        with pytest.raises(PortClosed):
            await asyncio.wait_for(missing.task, 10)
        stick.plug()
        async with listening(kind, stick) as heard:
            await stick.transmit(TELEGRAM)
            assert (await heard.next()).data == TELEGRAM


@pytest.mark.parametrize("kind", EMULATED)
async def test_loss_and_flood_end_in_good_telegrams(kind: str, tmp_path: Path) -> None:
    """Half a telegram, a flood of noise, a pause: the next telegram is whole again."""
    rng = random.Random(2)
    async with EMULATED[kind](tmp_path / "stick0") as stick, listening(kind, stick) as heard:
        whole = getattr(stick, "_heard", lambda telegram, _dbm: telegram.hex().encode())(TELEGRAM, -75)
        await stick.write(whole[: len(whole) // 2])
        await stick.write(bytes(rng.choice(b"\x01\x02\x03\x04\x05\x06\x07\x08") for _ in range(500)))
        await asyncio.sleep(0.6)  # longer than any pause inside a message
        await stick.write(b"\n" if kind in ("cul", "rtl_wmbus", "rtl_433") else b"")
        sent = METER.telegram()
        await stick.transmit(sent)
        while (frame := await heard.next()).data != sent:
            assert frame.data[0] == len(frame.data) - 1
    assert heard.statistics.garbage_bytes + heard.statistics.crc_failures > 0


@pytest.mark.parametrize("kind", PROBE_ORDER)
async def test_an_unknown_stick_is_recognised(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "PROBE_TIMEOUT_S", 0.3)
    async with VARIANTS[kind][1](tmp_path / "stick0", baudrate=0) as stick:
        found = await probe(str(stick.link))
    assert found is not None
    assert found.name == kind


async def test_what_is_no_stick_is_not_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PortClosed):
        await probe(str(tmp_path / "missing"))
    monkeypatch.setattr(driver_module, "PROBE_TIMEOUT_S", 0.02)
    stick = VirtualCul(tmp_path / "stick0")
    stick.plug()
    asyncio.get_running_loop().remove_reader(stick._master)
    assert await probe(str(stick.link)) is None
    await stick.aclose()


def test_foreign_devices_are_never_asked() -> None:
    bridge = USB_OF_STICKS[0]
    found = {
        "usb-Silicon_Labs_CP2104-if00": bridge,
        "usb-dresden_elektronik_ConBee_II-if00": bridge,
        "usb-FTDI_RS485-if00": (0x0403, 0x6001),
        "usb-Silicon_Labs_of_another_number-if00": (0x10C4, 0x1234),
        "usb-nobody_knows-if00": None,
    }
    assert candidates(found) == ("usb-Silicon_Labs_CP2104-if00",)
    assert all(part == part.lower() for part in NEVER_PROBE)
    assert all(0 < number < 0x10000 for usb in USB_OF_STICKS for number in usb)


def test_a_mode_that_a_kind_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="C1\\+T1"):
        WmbusStick.of_kind(KINDS["iu891a"], "x", print, lambda: 0.0, mode="S1")


# ------------------------------------------------------------------ cores on bytes alone


IM871A_TALK = [
    im871a.build_message(1, im871a.Message.PING_ANSWER, crc=True),
    im871a.build_message(
        1, im871a.Message.DEVICE_INFO_ANSWER, DeviceInformation(0x33, 0, 0x12, 0x13, 7).to_payload(), crc=True
    ),
    im871a.build_message(1, im871a.Message.SET_CONFIG_ANSWER, b"\x00", crc=True),
]


def ready(kind: str, mode: str | None = None, **_: object) -> tuple[StickCore, StickStatistics]:
    """A core that listens already."""
    statistics = StickStatistics()
    core = KINDS[kind].make(statistics, mode or KINDS[kind].modes[0])
    core.start()
    memory = bytearray(0x78)
    memory[amb8465.AT_COMMAND_OUT] = 1
    dump = bytearray(256)
    talk = {
        "im871a": IM871A_TALK,
        "iu891a": [
            iu891a.build_message(1, 4, b"\x00info"),
            iu891a.build_message(9, 2, b"\x00\x03" + bytes(10)),
            iu891a.build_message(9, 4, b"\x00"),
        ],
        "amb8465": [
            amb8465.build_command(0x8A, b"\x00\x78" + memory),
            amb8465.build_command(0x84, b"\x00"),
        ],
        "cul": [b"V 1.67 nanoCUL868\r\n", cul.MODES[mode or "T1"][1].encode() + b"\r\n"],
        "rc1180": [b">", bytes(dump) + b">"],
    }.get(kind, [])
    for number, message in enumerate(talk):
        core.receive(message, number * 0.01)
        core.to_send()
    return core, statistics


def test_published_commands_byte_for_byte() -> None:
    """Bytes as docs/lmn.md 2 lists them from public host software."""
    assert amb8465.GET_MEMORY.hex() == "ff0a02008077"
    core, _ = ready("amb8465")
    assert core.state is StickState.LISTENING
    assert amb8465.build_command(0x04, b"\x09").hex() == "ff040109f3"
    assert amb8465.build_command(0x04, b"\x08").hex() == "ff040108f2"
    assert amb8465.build_command(0x84, b"\x00").hex() == "ff8401007a"


def test_an_iu891a_keeps_what_else_it_was_configured_to_do() -> None:
    """Mode and the two first flags change, the rest of its configuration comes back as it was."""
    core = KINDS["iu891a"].make(StickStatistics(), "C1+T1")
    core.start()
    core.receive(iu891a.build_message(1, 4, b"\x00info"), 0.0)
    assert core.to_send() == iu891a.build_message(9, 1)
    core.receive(iu891a.build_message(9, 2, b"\x00" + bytes.fromhex("0685" + "11" * 9)), 0.1)
    assert core.to_send() == iu891a.build_message(9, 3, bytes.fromhex("0386" + "11" * 9))


def test_slip_escapes() -> None:
    body = bytes((0xC0, 0xDB, 0x00))
    message = iu891a.build_message(9, 0x20, body)
    assert message.count(0xC0) == 2
    plain = iu891a.unescape(message[1:-1])
    assert plain is not None
    assert plain[2:-2] == body
    assert iu891a.unescape(b"\xdb\x01") is None
    assert iu891a.unescape(b"\xdb") is None


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("iu891a", iu891a.build_message(1, 4, b"\x01")),  # device info refused
        ("iu891a", iu891a.build_message(9, 4, b"\x00")),  # an answer nobody asked for
        ("iu891a", iu891a.build_message(7, 7)),
        ("iu891a", iu891a.build_message(1, 4, b"\x00") + iu891a.build_message(9, 2, b"\x00\x03")),
        ("amb8465", amb8465.build_command(0x8A, b"\x00\x05" + bytes(5))),  # memory too short
        ("rc1180", b">" + bytes(256) + b"!"),
    ],
)
def test_what_a_state_does_not_allow(kind: str, data: bytes) -> None:
    core = KINDS[kind].make(StickStatistics(), KINDS[kind].modes[0])
    core.start()
    with pytest.raises(UnexpectedMessage):
        core.receive(data, 0.0)
    with pytest.raises(UnexpectedMessage):
        core.to_send()


def test_the_signal_byte_is_never_part_of_the_telegram() -> None:
    core = KINDS["rc1180"].make(StickStatistics(), "as set")
    memory = bytearray(256)
    memory[rc1180.AT_SIGNAL] = 1
    core.start()
    core.receive(b">", 0.0)
    core.receive(bytes(memory) + b">", 0.0)
    (frame,) = core.receive(TELEGRAM + b"\x78", 1.0)
    assert (frame.data, frame.rssi_dbm) == (TELEGRAM, -60)


def test_cul_says_when_it_cut_a_telegram_off() -> None:
    core, statistics = ready("cul")
    long = bytes((199, 0x44)) + bytes(198)
    cut_off = to_format_a(long)[:148] + b"\x80\x20"
    assert core.receive(b"b" + cut_off.hex().encode() + b"\r\n", 1.0) == []
    assert (statistics.truncated, statistics.frames) == (1, 0)
    damaged = bytearray(to_format_a(TELEGRAM) + b"\x80\x20")
    damaged[14] ^= 1
    assert core.receive(b"b" + bytes(damaged).hex().encode() + b"\r\n", 1.1) == []
    assert statistics.crc_failures == 1
    b_format = to_format_b(TELEGRAM) + b"\x80\x20"
    assert core.receive(b"b" + b_format.hex().encode() + b"\r\n", 1.2) == []  # not marked as format B
    (frame,) = core.receive(b"bY" + b_format.hex().encode() + b"\r\n", 1.3)
    assert frame.data == TELEGRAM
    assert core.receive(b"T01020304\r\nb\r\nbzz\r\nb0g\r\n", 1.4) == []


def test_rtl_wmbus_flags_and_doubles() -> None:
    core, statistics = ready("rtl_wmbus")
    line = "{};{};{};2026-01-01 00:00:00.000;77;70;12345678;0x" + TELEGRAM.hex() + "\n"
    assert core.receive(line.format("T1", 0, 1).encode(), 0.0) == []
    assert core.receive(line.format("T1", 1, 0).encode(), 0.0) == []
    assert statistics.crc_failures == 2
    (frame,) = core.receive(line.format("C1", 1, 1).encode(), 1.0)
    assert (frame.link_mode, frame.rssi_dbm, frame.data) == ("C1", None, TELEGRAM)
    assert core.receive(line.format("C1", 1, 1).encode(), 1.2) == []
    assert len(core.receive(line.format("C1", 1, 1).encode(), 9.0)) == 1  # the meter itself, later
    assert core.receive(b"T1;1;1;x;1;1;1;0x" + TELEGRAM.hex()[:-2].encode() + b"\n", 9.0) == []
    assert statistics.truncated == 1
    assert core.receive(b"nonsense\n;;;;;;;\nT1;1;1;x;1;1;1;0xzz\n", 9.0) == []


@pytest.mark.parametrize("text", ["zz", "0x12", "x;1234", "-1;" + TELEGRAM.hex(), "nan;" + TELEGRAM.hex()])
def test_no_recording(text: str) -> None:
    with pytest.raises(LmnError):
        parse_line(text)


async def test_a_recording_keeps_its_times(tmp_path: Path) -> None:
    path = tmp_path / "recorded"
    other = METER.telegram()
    path.write_text(f"# two\n\n{TELEGRAM.hex()}\nbroken\n0.05; {other.hex()} # later\n")
    heard = Heard("replay", path)
    first, second = await heard.next(), await heard.next()
    assert (first.data, second.data) == (TELEGRAM, other)
    assert second.first_byte_at - first.first_byte_at >= 0.04
    assert heard.statistics.truncated == 1
    heard.task.cancel()
    await asyncio.gather(heard.task, return_exceptions=True)
    port = ReplayPort(path, pace=0)
    port.close()
    assert [await port.read() for _ in range(6)][-1] == b""
    with pytest.raises(PortClosed):
        await port.write(b"x")
    for opener in (KINDS["replay"], KINDS["rtl_wmbus"]):
        with pytest.raises(PortClosed):
            await driver_module.opener(opener, str(tmp_path / "missing"))()
    with pytest.raises(PortClosed):
        await driver_module.opener(KINDS["rtl_wmbus"], str(path))()


SAMPLES = {
    "im871a": [
        im871a.build_message(2, 3, TELEGRAM[1:], crc=True, timestamp=5, rssi=80),
        im871a.build_message(2, 3, TELEGRAM[1:], crc=True),
        *IM871A_TALK,
    ],
    "iu891a": [
        iu891a.build_message(9, 0x20, bytes(8) + TELEGRAM),
        iu891a.build_message(1, 4, b"\x00"),
    ],
    "amb8465": [amb8465.build_command(0x03, TELEGRAM[1:]), amb8465.build_command(0x84, b"\x00")],
    "cul": [b"b" + (to_format_a(TELEGRAM) + b"\x80\x20").hex().encode() + b"\r\n", b"V 1 CUL\n", b"TMODE\n"],
    "rc1180": [TELEGRAM, b">", bytes(256) + b">"],
    "rtl_wmbus": [b"T1;1;1;d;1;1;1;0x" + TELEGRAM.hex().encode() + b"\n"],
    "rtl_433": [
        b'{"model": "Wireless-MBus", "mode": "C", "data": "' + TELEGRAM.hex().encode() + b'", "mic": "CRC"}\n'
    ],
    "replay": [b"1.5;" + TELEGRAM.hex().encode() + b"\n"],
}


ROUNDS = 100_000


def mutated(rng: random.Random, samples: list[bytes]) -> bytes:
    data = bytearray(rng.choice(samples))
    for _ in range(rng.randrange(4)):
        place = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[place] = rng.randrange(256)
            case 1:
                del data[place:]
                data.append(rng.randrange(256))
            case _:
                data.insert(place, rng.randrange(256))
    return bytes(data)


def hostile(kind: str, rounds: int) -> int:
    rng = random.Random(kind)
    core, _ = ready(kind)
    frames, at = 0, 10.0
    for _ in range(rounds):
        at += rng.choice((0.001, 0.01, 1.0))
        data = mutated(rng, SAMPLES[kind])
        cut = rng.randrange(len(data) + 1)
        try:
            for part in (data[:cut], data[cut:]):
                for frame in core.receive(part, at):
                    assert frame.data[0] == len(frame.data) - 1
                    frames += 1
                core.to_send()
        except LmnError:
            core, _ = ready(kind)
        for name in ("_inbox", "_lines"):
            inbox = getattr(core, name, None)
            inbox = getattr(inbox, "_inbox", inbox)
            assert inbox is None or len(inbox.data) <= 4096
    return frames


@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes_give_telegrams_or_a_named_error(kind: str) -> None:
    frames = hostile(kind, ROUNDS)
    assert frames > 60


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes_for_long(kind: str) -> None:
    hostile(kind, 1_000_000)


@pytest.mark.parametrize("kind", [kind for kind in SAMPLES if kind not in ("im871a", "replay")])
def test_cuts_do_not_matter(kind: str) -> None:
    rng = random.Random(kind)
    stream = b"".join(mutated(rng, SAMPLES[kind][:1]) for _ in range(40))
    whole, _ = ready(kind)
    expected = [frame.data for frame in whole.receive(stream, 1.0)]
    pieces, _ = ready(kind)
    got: list[bytes] = []
    while stream:
        size = rng.randrange(1, 9)
        got += [frame.data for frame in pieces.receive(stream[:size], 1.0)]
        stream = stream[size:]
    assert got == expected
    assert expected
