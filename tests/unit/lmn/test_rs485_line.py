"""One gateway's end of a line against virtual meters: losses, silence, collisions, limits, forgeries."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hsm.api import Curve, KeySlot
from hsm.tls import LMN
from hsm.x509 import self_signed
from lmn.errors import KeyRefused, MalformedRecords, PortClosed, UnknownMeter
from lmn.model import ACTIVE_ENERGY_EXPORT, ACTIVE_ENERGY_IMPORT, MeterId, Obis
from lmn.sml.bodies import GetProcParameterResponse, OpenResponse
from lmn.sml.messages import Message
from lmn.sml.values import SmlTime, TimeKind
from lmn.wired import driver
from lmn.wired.hdlc import HdlcDeframer, Kind
from lmn.wired.registers import answers, register_tree
from lmn.wired_values import WiredRefusal, WiredValues
from tests.support.soft_module import SoftModule
from tests.support.wired_line import REGISTERS, TIMING, bench
from tools.counterparts.meter_sml import server_id
from tools.counterparts.meter_wired import DEFAULT_METER, make_identity

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("echo", [False, True])
async def test_registers_are_read_in_one_session(tmp_path: Path, echo: bool) -> None:
    async with bench(tmp_path, echo=echo) as here:
        station, meter = here.meter()
        station.age_s = 2
        line = await here.start(meter)
        for _ in range(3):
            found = await here.values()
            station.registers.step(10, 5)
            assert found.protected
            assert {one.obis for one in found.values} == set(REGISTERS)
            assert {one.age_s for one in found.values} == {2.0}
        assert station.handshakes == line.statistics.handshakes == 1
        assert found.readings(NOW)[0].received_utc == NOW - timedelta(seconds=2)


async def test_two_meters_answer_a_call_and_are_both_read(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        pairs = [here.meter(number) for number in (3, 4)]
        await here.start(*(meter for _, meter in pairs))
        seen: set[MeterId] = set()
        while len(seen) < 2:
            seen.add((await here.values()).meter)
        assert {station.address for station, _ in pairs} == {3, 4}


async def test_meters_that_collide_are_found_in_the_end(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        pairs = [here.meter(number) for number in (3, 4)]
        for station, _ in pairs:
            station._random = random.Random(1)  # both draw the same slots for a while
        await here.start(*(meter for _, meter in pairs), timing=replace(TIMING, slots=2))
        while not here.hub.collisions:  # noqa: ASYNC110  # counters have no event
            await asyncio.sleep(0.05)
        pairs[0][0]._random = random.Random(99)
        seen: set[MeterId] = set()
        while len(seen) < 2:
            seen.add((await here.values()).meter)


async def test_lost_and_damaged_frames_are_repeated(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        station, meter = here.meter()
        line = await here.start(meter, timing=replace(TIMING, answer_s=0.06, retries=8))
        await here.values()
        rng = random.Random(2)

        def worse(data: bytes) -> bytes:
            match rng.randrange(6):
                case 0:
                    return b""
                case 1:
                    place = rng.randrange(len(data))
                    return data[:place] + bytes((data[place] ^ 0x20,)) + data[place + 1 :]
            return data

        here.hub.lose = worse
        for _ in range(5):
            found = await here.values()
            assert found.values[0].value * 10 == station.registers.import_wh10
        assert line.statistics.timeouts


async def test_a_silent_station_is_found_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        station, meter = here.meter()
        line = await here.start(meter)
        await here.values()
        station.silent = True
        while not line.statistics.silent:  # noqa: ASYNC110  # counters have no event
            await asyncio.sleep(0.05)
        while not here.heard.empty():
            here.heard.get_nowait()
        station.silent = False
        station.reset()
        await here.values()
        assert line.statistics.handshakes == 2


async def test_a_meter_that_restarts_gets_a_new_session(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        station, meter = here.meter()
        line = await here.start(meter)
        await here.values()
        station.reset()
        while line.statistics.handshakes < 2:
            await here.values()


async def test_a_session_ends_before_so_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "SESSION_BYTES", driver.MARGIN_BYTES + 5000)
    async with bench(tmp_path) as here:
        station, meter = here.meter()
        line = await here.start(meter)
        while line.statistics.handshakes < 3:
            assert isinstance(await here.next(), WiredValues)  # no reading is lost by it
        assert station.handshakes == line.statistics.handshakes
        assert 2 * line.statistics.handshakes <= line.statistics.readings


async def test_a_session_ends_before_31_days(tmp_path: Path) -> None:
    assert LMN.session_limit_s == 31 * 86400
    days = 0.0
    async with bench(tmp_path) as here:
        _, meter = here.meter()
        line = await here.start(meter, ahead=lambda: days * 86400)
        for _ in range(6):
            assert isinstance(await here.next(), WiredValues)
            days += 10.0
        while line.statistics.readings < 8:
            assert isinstance(await here.next(), WiredValues)
        assert line.statistics.handshakes in (2, 3)


async def test_records_are_short_and_say_so(tmp_path: Path) -> None:
    """max_fragment_length 2048 is asked for and granted; no record or frame is longer than 2034 bytes."""
    sent: dict[int, bytes] = {}
    lengths: list[int] = []

    def look(data: bytes) -> bytes:
        for frame in HdlcDeframer().receive(data):
            lengths.append(len(frame.information))
            if frame.kind is Kind.INFORMATION:
                sent[frame.source] = sent.get(frame.source, b"") + frame.information
        return data

    async with bench(tmp_path) as here:
        here.hub.lose = look
        _, meter = here.meter()
        many = tuple(Obis(bytes((1, 0, n, 8, 0, 255))) for n in range(1, 60))
        await here.start(replace(meter, registers=many))
        await here.values()
    assert max(lengths) <= 2034
    for source, stream in sent.items():
        place = 0
        while place < len(stream):
            length = int.from_bytes(stream[place + 3 : place + 5], "big")
            assert 5 + length <= 2034
            if place == 0:  # client and server hello: extension 1, one byte, 3 for 2048
                assert b"\x00\x01\x00\x01\x03" in stream[place : place + 5 + length], source
            place += 5 + length
    assert sorted(sent) == [1, 3]


async def test_a_named_meter_is_found_by_a_gateway_that_starts(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        station, meter = here.meter()
        await here.start(meter)
        await here.values()
        await here.stop()
        assert station.address == 3
        await here.start(meter)
        await here.values()
        assert station.handshakes == 2


@pytest.mark.parametrize("chunk", [1, 3])
async def test_a_line_that_brings_single_bytes_and_garbage(tmp_path: Path, chunk: int) -> None:
    rng = random.Random(4)

    def noise(data: bytes) -> bytes:
        return rng.randbytes(rng.randrange(4)) + data + b"\x7e" * rng.randrange(3)

    async with bench(tmp_path) as here:
        station, meter = here.meter()
        here.hub.lose = noise
        here.hub.chunk = chunk
        await here.start(meter, timing=replace(TIMING, answer_s=0.3, retries=8))
        found = await here.values()
        assert found.values[0].value * 10 == station.registers.import_wh10


async def test_a_flooded_line_brings_no_value_and_recovers(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        station, meter = here.meter()
        line = await here.start(meter, timing=replace(TIMING, answer_s=0.05, retries=2))
        await here.values()
        for _ in range(40):
            here.hub._say(bytes(4096), station._hear)
            here.hub._say(b"\x7e\xa7\xff" * 1000, station._hear)
            await asyncio.sleep(0.01)
            assert len(line._deframer._inbox) <= 2049 + 65536
            assert len(line._waiting) < 100
        while not here.heard.empty():
            here.heard.get_nowait()
        found = await here.values()
        assert found.values[0].value * 10 == station.registers.import_wh10


async def test_a_forged_certificate_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        station, meter = here.meter()
        make_identity(tmp_path / "meter3", meter.meter)  # the station now shows another one
        await here.start(meter)
        found = await here.next()
        assert isinstance(found, WiredRefusal)
        assert isinstance(found.error, KeyRefused)
        assert station.requests == []


async def test_a_meter_that_does_not_trust_the_gateway_tells_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        station, meter = here.meter()
        (tmp_path / "lmn-tls.pem").write_bytes(make_identity(tmp_path / "x", meter.meter).read_bytes())
        await here.start(meter)
        found = await here.next()
        assert isinstance(found, WiredRefusal)
        assert station.requests == []


async def test_a_stranger_on_the_line_is_not_read(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        stranger, _ = here.meter(5)
        _, meter = here.meter(3)
        await here.start(meter)
        await here.values()
        assert stranger.address is None


async def test_a_pulled_adapter_ends_the_service(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        _, meter = here.meter()
        await here.start(meter)
        await here.values()
        here.hub.vanish()
        with pytest.raises(PortClosed):
            await asyncio.wait_for(here.tasks[0], 20)


# ------------------------------------------------------------------ answers

SERVER = server_id(DEFAULT_METER)
TIME = SmlTime(TimeKind.SECONDS_INDEX, 100)


def told(
    obis: Obis, *, value: int = 5, scaler: int = -1, unit: int = 30, path: Obis | None = None
) -> Message:
    tree = register_tree(obis, value, scaler, unit)
    return Message(GetProcParameterResponse(SERVER, ((path or obis).groups,), tree))


OPEN = Message(OpenResponse(b"f", SERVER, TIME))


def test_answers_become_values() -> None:
    [value] = answers([OPEN, told(ACTIVE_ENERGY_IMPORT)], SERVER, REGISTERS)
    assert (str(value.value), value.unit, value.status, value.age_s) == ("0.5", "Wh", 0, 0.0)


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([Message(OpenResponse(b"f", b"x"))], UnknownMeter),
        ([OPEN, told(Obis.from_text("1-0:3.8.0"))], MalformedRecords),
        ([OPEN, told(ACTIVE_ENERGY_IMPORT, path=ACTIVE_ENERGY_EXPORT)], MalformedRecords),
        ([OPEN, told(ACTIVE_ENERGY_IMPORT), told(ACTIVE_ENERGY_IMPORT)], MalformedRecords),
        ([OPEN, told(ACTIVE_ENERGY_IMPORT, scaler=100)], MalformedRecords),
    ],
)
def test_answers_that_are_refused(messages: list[Message], error: type[Exception]) -> None:
    with pytest.raises(error):
        answers(messages, SERVER, REGISTERS)


def test_a_register_without_a_known_unit_is_missing() -> None:
    assert answers([OPEN, told(ACTIVE_ENERGY_IMPORT, unit=200)], SERVER, REGISTERS) == ()


async def test_a_certificate_of_its_own_for_meters() -> None:
    module = SoftModule()
    await module.generate_key_pair(KeySlot.LMN_TLS, Curve.BRAINPOOL_P256)
    made = await self_signed(
        module, KeySlot.LMN_TLS, "esgw0100000001.sm",
        not_before_utc=NOW, not_after_utc=NOW + timedelta(days=7 * 365),
    )  # fmt: skip
    assert made.subject_cn == "esgw0100000001.sm"
    assert made.public_key == await module.public_key(KeySlot.LMN_TLS)
    assert len(made.der) <= 600
    for days in (0, 9 * 365):
        with pytest.raises(ValueError, match="period"):
            await self_signed(
                module, KeySlot.LMN_TLS, "x", not_before_utc=NOW, not_after_utc=NOW + timedelta(days=days)
            )
