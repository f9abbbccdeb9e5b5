"""Pairing and renewal over the line, with power cuts at each step of either side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from firmware.wired.certificate import LIFETIME
from hsm.api import KeySlot
from hsm.errors import CommandRefused
from lmn.errors import KeyRefused
from lmn.wired.driver import Rs485Line
from lmn.wired.hdlc import HdlcDeframer, HdlcFrame, Kind
from lmn.wired.sym import SymFormat
from lmn.wired_values import WiredRefusal
from tests.support.soft_module import SoftModule
from tests.support.wired_line import MASTER, TIMING, Bench, DiskStore, Killed, bench
from tools.counterparts.meter_pairing import PowerCut
from tools.counterparts.meter_wired import WiredMeterStation

NEAR_ITS_END = LIFETIME - timedelta(days=60)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(12):
        while not condition():  # noqa: ASYNC110  # counters have no event
            await asyncio.sleep(0.02)


async def test_a_meter_without_keys_is_paired_and_read(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        station, meter = here.meter(master=MASTER)
        assert station.memory.identity is None
        line = await here.start(meter)
        found = await here.values()
        assert found.protected
        assert (line.statistics.pairings, station.handshakes) == (1, 1)
        assert station.memory.identity is not None
        certificate, key = station.memory.identity
        shown = x509.load_pem_x509_certificate(certificate.read_bytes())
        assert shown.subject.rfc4514_string() == "CN=1smg0010000003.sm"
        assert len(certificate.read_bytes()) <= 1000
        assert (await here.credentials(meter)).certificates(meter) == (
            x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(Encoding.DER),
        )
        private = load_pem_private_key(key.read_bytes(), None)
        scalar = private.private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr]
        assert not any(scalar in value for value in here.store.disk.values())
        assert not here.module.services
        assert not here.module.ephemerals
        await here.stop()
        await here.start(meter)
        await here.values()
        assert station.handshakes == 2
        assert here.module.counts["generate_service_key"] == 1


async def test_short_codes_are_a_setting(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        station, meter = here.meter(master=MASTER)
        assert station.sym is not None
        station.sym._mac = 8
        await here.start(meter, sym=SymFormat(mac_bytes=8))
        await here.values()


async def test_another_master_key_pairs_nobody(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        station, meter = here.meter(master=MASTER)
        here.keys.masters[meter.meter] = bytes(16)
        line = await here.start(meter)
        assert station.sym is not None
        await until(lambda: station.sym is not None and station.sym.refused > 1)
        assert not line.statistics.pairings
        assert station.memory.identity is None
        here.keys.masters[meter.meter] = MASTER  # the administrator corrects the profile
        await here.values()


@pytest.mark.parametrize("operation", ["generate_service_key", "export_service_key", "discard_service_keys"])
async def test_a_module_that_makes_no_key_does_not_hold_the_line(tmp_path: Path, operation: str) -> None:
    async with bench(tmp_path) as here:
        _, first = here.meter(3, master=MASTER)
        _, second = here.meter(4)
        here.module.faults[operation] = CommandRefused(operation, 0x6D00)
        line = await here.start(first, second)
        assert (await here.values()).meter == second.meter
        await until(lambda: line.statistics.readings > 3)
        assert not here.module.ephemerals
        del here.module.faults[operation]
        await until(lambda: line.statistics.pairings == 1)


async def test_without_a_master_key_there_is_a_named_refusal(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        _, meter = here.meter(master=MASTER)
        here.keys.masters.clear()
        await here.start(meter)
        found = await here.next()
        assert isinstance(found, WiredRefusal)
        assert isinstance(found.error, KeyRefused)


async def test_lost_messages_are_repeated_and_nothing_is_done_twice(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        station, meter = here.meter(master=MASTER)
        lost = 0

        def lose(data: bytes) -> bytes:
            nonlocal lost
            frames = HdlcDeframer().receive(data)
            if lost < 3 and any(f.kind is Kind.UNNUMBERED_INFORMATION and f.source > 2 for f in frames):
                lost += 1
                return b""
            return data

        here.hub.lose = lose
        line = await here.start(meter)
        await here.values()
        assert (lost, line.statistics.pairings) == (3, 1)
        assert here.module.counts["generate_service_key"] == 1
        assert station.memory._state["generation"] == 1


async def test_a_forged_answer_pairs_nobody(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        _, meter = here.meter(master=MASTER)
        forged = 0

        def forge(data: bytes) -> bytes:
            nonlocal forged
            for frame in HdlcDeframer().receive(data):
                if forged < 1 and frame.kind is Kind.UNNUMBERED_INFORMATION and frame.source > 2:
                    forged += 1
                    bad = frame.information[:-1] + bytes((frame.information[-1] ^ 1,))
                    return HdlcFrame(frame.destination, frame.source, frame.kind, bad).to_bytes()
            return data

        here.hub.lose = forge
        await here.start(meter)
        found = await here.next()
        assert isinstance(found, WiredRefusal)
        assert found.error.code == "mac"
        await here.values()


async def test_a_new_gateway_takes_the_meter_over(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        here.offset = timedelta(seconds=-5)  # counters rise by the clock
        station, meter = here.meter(master=MASTER)
        await here.start(meter)
        await here.values()
        await here.stop()
        here.store, here.module = DiskStore(), SoftModule()  # the old one is gone, and what it knew
        here.offset = timedelta(0)
        await here.open()
        station.reset()
        await here.start(meter)
        await here.values()
        assert station.memory._state["generation"] == 2


def cuts(numbers: range, daily: tuple[int, ...]) -> list[object]:
    """All moments at which the power may go; each day only some."""
    nightly = [pytest.param(each, marks=pytest.mark.nightly) for each in numbers if each not in daily]
    return [*daily, *nightly]


IMPATIENT = replace(TIMING, exchange_s=3.0)  # an unpaired meter does not answer TLS


def cut_at(number: int, error: type[Exception]) -> Callable[[], None]:
    """A function that raises when it is called for the `number`th time, once."""
    calls = 0

    def cut() -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            raise error

    return cut


async def powered(here: Bench, station: WiredMeterStation, start: Callable[[], object]) -> None:
    """Run the gateway, and again after it was killed, until it reads the meter."""
    while True:
        await here.open()
        await start()  # type: ignore[misc]
        reading = asyncio.create_task(here.values())
        await asyncio.wait([reading, *here.tasks], return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            return
        reading.cancel()
        [task] = here.tasks
        assert isinstance(task.exception(), Killed)
        here.tasks.clear()
        station.reset()


@pytest.mark.parametrize("number", cuts(range(1, 11), (2, 4, 7)))
async def test_a_gateway_killed_while_pairing(tmp_path: Path, number: int) -> None:
    async with bench(tmp_path) as here:
        station, meter = here.meter(master=MASTER)
        here.store.cut = cut_at(number, Killed)
        await powered(here, station, lambda: here.start(meter, timing=IMPATIENT))
        shown = (await here.credentials(meter)).certificates(meter)
        assert station.memory.identity is not None
        kept = x509.load_pem_x509_certificate(station.memory.identity[0].read_bytes())
        assert shown == (kept.public_bytes(Encoding.DER),)


@pytest.mark.parametrize("number", cuts(range(1, 9), (1, 3, 6)))
async def test_a_meter_whose_power_goes_while_pairing(tmp_path: Path, number: int) -> None:
    async with bench(tmp_path) as here:
        station, meter = here.meter(master=MASTER)
        station.memory.cut = cut_at(number, PowerCut)
        await here.start(meter, timing=IMPATIENT)
        await here.values()
        assert station.cuts == 1


# ------------------------------------------------------------------ renewal


def renewed(line: Rs485Line, count: int) -> Callable[[], bool]:
    return lambda: line.statistics.renewals >= count


async def test_a_meters_certificate_is_renewed_before_its_end(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        _, meter = here.meter(days=30)
        line = await here.start(meter)
        await until(lambda: line.statistics.handshakes >= 2)
        await here.values()
        [shown] = (await here.credentials(meter)).certificates(meter)
        assert shown != meter.certificate
        ends = x509.load_der_x509_certificate(shown).not_valid_after_utc
        assert ends > here.now_utc() + timedelta(days=6 * 365)
        await asyncio.sleep(0.2)
        assert line.statistics.renewals == 1
        while not here.heard.empty():
            assert not isinstance(here.heard.get_nowait(), WiredRefusal)


async def test_the_gateways_certificate_waits_for_all_meters(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        here.offset = -NEAR_ITS_END
        (tmp_path / "lmn-tls.pem").unlink()
        await here.open()
        old = here.own.current
        here.offset = timedelta(0)
        (one, first), (two, second) = here.meter(3), here.meter(4)
        two.silent = True
        line = await here.start(first, second)
        await until(renewed(line, 1))
        await here.values()
        assert here.own.current == old
        assert here.own.successor is not None
        two.silent = False
        await until(lambda: here.own.current != old)
        await until(lambda: two.handshakes >= 2 and one.handshakes >= 2)
        assert [len(station.memory.trusted) for station in (one, two)] == [1, 1]
        assert (await here.module.public_key(KeySlot.LMN_TLS)) == here.own.current.public_key
        while not here.heard.empty():
            assert not isinstance(here.heard.get_nowait(), WiredRefusal)


async def test_a_meter_that_never_came_back_does_not_hold_the_gateway(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        here.offset = -LIFETIME + timedelta(hours=12)
        (tmp_path / "lmn-tls.pem").unlink()
        await here.open()
        old = here.own.current
        here.offset = timedelta(0)
        (one, first), (two, second) = here.meter(3), here.meter(4)
        two.silent = True
        await here.start(first, second)
        await until(lambda: here.own.current != old)
        await until(lambda: one.handshakes >= 2)


@pytest.mark.parametrize("number", cuts(range(1, 7), (1, 3, 4)))
async def test_a_gateway_killed_while_renewing(tmp_path: Path, number: int) -> None:
    async with bench(tmp_path) as here:
        here.offset = -NEAR_ITS_END
        (tmp_path / "lmn-tls.pem").unlink()
        await here.open()
        old = here.own.current
        here.offset = timedelta(days=-2)  # certificates are never from the future
        station, meter = here.meter(days=30)
        here.store.cut = cut_at(number, Killed)
        shown = meter.certificate
        async with asyncio.timeout(20):
            while here.own.current == old or shown == meter.certificate:
                await powered(here, station, lambda: here.start(meter, timing=IMPATIENT))
                await asyncio.sleep(0.4)
                if any(task.done() for task in here.tasks):
                    station.reset()
                await here.stop()
                shown = (await here.credentials(meter)).certificates(meter)[0]
                here.offset += timedelta(seconds=3601)  # what is paced by the hour may be tried again
        await here.start(meter)
        await here.values()


@pytest.mark.parametrize("number", cuts(range(1, 5), (1, 2, 4)))
async def test_a_meter_whose_power_goes_while_renewing(tmp_path: Path, number: int) -> None:
    async with bench(tmp_path) as here:
        here.offset = -NEAR_ITS_END
        (tmp_path / "lmn-tls.pem").unlink()
        await here.open()
        old = here.own.current
        here.offset = timedelta(days=-2)  # certificates are never from the future
        station, meter = here.meter(days=30)
        station.memory.cut = cut_at(number, PowerCut)
        await here.start(meter)
        async with asyncio.timeout(20):
            while here.own.current == old or len(station.memory.trusted) != 1 or not station.cuts:
                await asyncio.sleep(0.05)
                here.offset += timedelta(seconds=600)
        await here.values()


async def test_a_meter_that_refuses_a_renewal_is_still_read(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        station, meter = here.meter(days=30)
        station.memory._name = "another.sm"
        line = await here.start(meter)
        await here.values()
        found = await here.next()
        assert isinstance(found, WiredRefusal)
        assert found.error.code == "unexpected"
        await here.values()
        await here.values()
        assert not line.statistics.renewals
        assert here.module.counts["generate_service_key"] == 1  # the next try comes an hour later


def test_an_activation_that_was_cut_off_is_finished(tmp_path: Path) -> None:
    async def cut() -> None:
        async with bench(tmp_path) as here:
            await here.own.prepare(here.now_utc())
            successor = here.own.successor
            await here.module.activate(KeySlot.LMN_TLS)  # and then the power went
            await here.open()
            assert (here.own.current, here.own.successor) == (successor, None)
            await here.open()
            assert here.own.current == successor
            await here.own.prepare(here.now_utc())
            await here.module.delete_key(KeySlot.LMN_TLS_NEXT)
            await here.open()
            assert (here.own.current, here.own.successor) == (successor, None)
            here.offset = timedelta(days=10)
            successor = await here.own.prepare(here.now_utc())
            here.offset = LIFETIME + timedelta(days=5)  # it was switched off for years
            await here.open()
            assert (here.own.current, here.own.successor) == (successor, None)

    asyncio.run(cut())
