"""Telegram to durable reading: checked, stamped, counted; a rejected one leaves no value (FPT_RPL.1)."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.flow.intake import KEEP, KEEP_COUNT, KIND, Intake
from firmware.metering.register import Register
from firmware.store.operations import Append, Trim
from firmware.store.partition import Partition
from firmware.store.stores import MeterCounters
from lmn.crc import crc16_en13757
from lmn.mbus.address import from_meter_id
from lmn.mbus.duplicates import REPEATER_WINDOW_S
from lmn.mbus.transport import parse
from lmn.model import ACTIVE_ENERGY_IMPORT, MeterId, Obis
from lmn.ports import MeterAccess, ReceptionMode
from lmn.wmbus.link import ReceivedFrame
from tests.unit.firmware.fixed_module import module_of
from tests.unit.firmware.profile_set import METER, at
from tests.unit.firmware.telegrams import plain_telegram

ID = MeterId.from_text(METER)
# OMS example of a gas meter in security mode 7 (vector V2 of the decoder), counter 2739.
MODE_7_KEY = bytes.fromhex("000102030405060708090A0B0C0D0E0F")
MODE_7 = bytes.fromhex(
    "434493157856341233038C2075900F002C25B30A000021924D4F2FB66E017A75002007109058475F4BC91DF878B80A1B0F98"
    "B629024AAC727942BFC549233C0140829B93"
)

MODE_7_METER = parse(MODE_7).meter


class Meters:
    def __init__(self, *known):
        self.known = {access.meter: access for access in known}

    def access(self, meter):
        return self.known.get(meter)


class Store:
    def __init__(self):
        self.commits, self.counters, self.fail, self.number = [], {}, False, 0

    def last(self, access):
        return self.counters.get(access.meter)

    def advance(self, access, counter):
        self.counters[access.meter] = counter

    async def commit(self, operations=()):
        if self.fail:
            raise StoreUnavailable("full")
        self.commits.append(list(operations))
        numbers = []
        for operation in operations:
            self.number += isinstance(operation, Append)
            numbers.append(self.number)
        return numbers


class World:
    def __init__(self, *, store=None, report_unknown=False, register=None):
        self.now, self.loop_s, self.reports = at(1000), 50.0, []
        self.store, self.register = store or Store(), register or Register(timedelta(hours=1))
        self.meters = Meters(
            MeterAccess(ID, None, ReceptionMode.OPEN),
            MeterAccess(MODE_7_METER, MODE_7_KEY, ReceptionMode.STRICT),
        )
        self.intake = Intake(
            self.meters,
            self.store,
            self.register,
            now_utc=lambda: self.now,
            now_s=lambda: self.loop_s,
            report=self._note,
            report_unknown=report_unknown,
        )

    async def _note(self, rejection):
        self.reports.append(rejection)

    def hear(self, data, first_byte_at=50.0):
        self.intake.receive(ReceivedFrame(data, first_byte_at))

    def registered(self, meter=ID, obis=ACTIVE_ENERGY_IMPORT):
        return list(self.register.around(meter, obis, at(1000), timedelta(hours=1)))

    @property
    def counted(self):
        statistics = self.intake.statistics
        return statistics.accepted, dict(statistics.rejected)


async def test_a_telegram_becomes_a_reading():
    world = World()
    world.hear(plain_telegram(5000))
    assert world.registered() == []
    await world.intake.commit()
    (reading,) = world.registered()
    assert (reading.meter, reading.value, reading.unit) == (ID, Decimal(5000), "Wh")
    assert world.counted == (1, {})


@pytest.mark.parametrize(
    ("first_byte", "second"), [(50.0, 1000.0), (49.4, 999.4), (10.0, 960.0), (51.0, 1000.0)]
)
async def test_the_stamp_is_that_of_the_first_byte(first_byte, second):
    world = World()
    world.hear(plain_telegram(1), first_byte)
    await world.intake.commit()
    assert abs(world.registered()[0].received_utc - at(second)) < timedelta(milliseconds=1)


async def test_an_authenticated_telegram_advances_its_counter():
    world = World()
    world.hear(MODE_7)
    await world.intake.commit()
    assert world.counted == (1, {})
    assert world.store.counters == {MODE_7_METER: 2739}
    assert world.registered(MODE_7_METER, Obis.from_text("7-0:3.0.0"))


async def test_an_old_counter_is_rejected():
    world = World()
    world.store.counters[MODE_7_METER] = 2739
    world.hear(MODE_7)
    await world.intake.commit()
    assert world.counted == (0, {"counter": 1})
    assert world.store.commits == []


@pytest.mark.parametrize("telegram", [plain_telegram(7), MODE_7])
async def test_a_repeaters_copy_is_dropped_without_an_alarm(telegram):
    world = World()
    world.hear(telegram, 50.0)
    marked = bytearray(telegram)
    if telegram is MODE_7:
        marked[11] |= 0x12  # the extended link layer's bits that a repeater sets; no code covers them
    for copy, at_s in ((telegram, 50.1), (bytes(marked), 75.0), (telegram, 110.0)):
        world.hear(copy, at_s)
    world.hear(plain_telegram(8), 51.0)
    await world.intake.commit()
    assert world.counted == (2, {})
    assert (world.intake.statistics.duplicates, world.reports) == (3, [])
    assert [len(commit) for commit in world.store.commits] == [2]


@pytest.mark.parametrize("telegram", [plain_telegram(7), MODE_7])
async def test_the_same_bytes_later_are_a_replay_also_without_a_counter(telegram):
    world = World()
    world.hear(telegram, 50.0)
    world.hear(telegram, 50.0 + REPEATER_WINDOW_S + 0.1)
    await world.intake.commit()
    assert world.counted == (1, {"counter": 1})
    assert [one.code for one in world.reports] == ["counter"]


async def test_a_copy_whose_payload_differs_is_no_copy():
    world = World()
    world.hear(MODE_7)
    world.hear(MODE_7[:-1] + bytes((MODE_7[-1] ^ 1,)))
    await world.intake.commit()
    assert (world.counted, world.intake.statistics.duplicates) == ((1, {"mac": 1}), 0)


async def test_the_counter_is_written_down_before_a_value_is_released():
    world, seen = World(), []
    commit = world.store.commit

    async def watched(operations=()):
        seen.append((dict(world.store.counters), world.registered(MODE_7_METER, Obis.from_text("7-0:3.0.0"))))
        return await commit(operations)

    world.store.commit = watched
    world.hear(MODE_7)
    await world.intake.commit()
    assert seen == [({MODE_7_METER: 2739}, [])]


async def test_a_wrong_code_is_rejected_and_reported_without_a_value():
    world = World()
    broken = bytearray(MODE_7)
    broken[-1] ^= 1
    world.hear(bytes(broken))
    await world.intake.commit()
    assert world.counted == (0, {"mac": 1})
    (rejection,) = world.reports
    assert (rejection.code, rejection.meter, rejection.count) == ("mac", MODE_7_METER, 1)
    assert MODE_7_KEY.hex() not in repr(rejection)


async def test_one_meter_has_no_say_in_what_another_meters_compact_frames_mean():
    world, other = World(), MeterId.from_text("ELS-99999999-33-02")
    world.meters.known[other] = MeterAccess(other, None, ReceptionMode.OPEN)
    full = bytes.fromhex("0403") + (7).to_bytes(4, "little")
    signature, checksum = (crc16_en13757(data).to_bytes(2, "little") for data in (full[:2], full))

    def telegram(upper, meter=ID):
        body = b"\x44" + from_meter_id(meter) + upper
        return bytes((len(body),)) + body

    compact = b"\x79" + signature + checksum + full[2:]
    world.hear(telegram(b"\x78" + full, other))
    world.hear(telegram(compact))
    assert world.counted == (0, {"unsupported": 1})
    world.hear(telegram(b"\x78" + bytes.fromhex("0403") + (6).to_bytes(4, "little")))
    world.hear(telegram(compact))
    await world.intake.commit()
    assert [one.value for one in world.registered()] == [6, 7]


async def test_a_downgrade_is_rejected():
    world = World()
    world.meters.known[ID] = MeterAccess(ID, MODE_7_KEY, ReceptionMode.STRICT)
    world.hear(plain_telegram(1))
    await world.intake.commit()
    assert world.counted == (0, {"downgrade": 1})


@pytest.mark.parametrize("report_unknown", [False, True])
async def test_unknown_meters_are_counted_and_not_decoded(report_unknown):
    world = World(report_unknown=report_unknown)
    del world.meters.known[ID]
    world.hear(plain_telegram(1))
    await world.intake.commit()
    assert world.counted == (0, {"unknown-meter": 1})
    assert [one.meter for one in world.reports] == ([None] if report_unknown else [])


@given(st.binary(max_size=80))
def test_any_bytes_are_counted(data):
    world = World()
    world.hear(data)
    assert world.intake.statistics.rejected_total == 1


@given(st.integers(MODE_7.index(bytes.fromhex("25b30a0000")), len(MODE_7) - 1), st.integers(1, 255))
def test_any_changed_byte_under_the_code_is_rejected(position, difference):
    """Before it stands what the standard leaves open: link control field, access number."""
    world = World()
    changed = bytearray(MODE_7)
    changed[position] ^= difference
    world.hear(bytes(changed))
    assert world.intake.statistics.rejected_total == 1
    assert world.store.counters == {}


async def test_a_flood_is_reported_once_a_minute():
    world = World()
    for _ in range(500):
        world.hear(b"\x01\x02")
    await world.intake.commit()
    world.now = at(1059)
    world.hear(b"\x01\x02")
    await world.intake.commit()
    assert [one.count for one in world.reports] == [1]
    world.now = at(1061)
    world.hear(b"\x01\x02")
    await world.intake.commit()
    assert [one.count for one in world.reports] == [1, 501]
    assert world.intake.statistics.rejected_total == 502


async def test_a_store_that_fails_loses_nothing():
    world = World()
    world.hear(plain_telegram(1))
    world.store.fail = True
    with pytest.raises(StoreUnavailable):
        await world.intake.commit()
    assert (world.registered(), world.counted) == ([], (0, {}))
    world.hear(plain_telegram(2))
    world.store.fail = False
    await world.intake.commit()
    assert [one.value for one in world.registered()] == [1, 2]
    assert world.counted == (2, {})


async def test_many_telegrams_share_a_commit():
    world = World()
    for energy in range(50):
        world.hear(plain_telegram(energy))
    await world.intake.commit()
    assert [len(commit) for commit in world.store.commits] == [50]


async def test_an_idle_commit_writes_nothing():
    world = World()
    await world.intake.commit()
    assert world.store.commits == []


async def test_old_readings_are_forgotten():
    world = World()
    world.hear(plain_telegram(1))
    await world.intake.commit()
    world.now += KEEP + timedelta(seconds=1)
    world.hear(plain_telegram(2))
    await world.intake.commit()
    assert world.store.commits[1][-1] == Trim(KIND, 1)
    world.hear(plain_telegram(3))
    await world.intake.commit()
    assert not any(isinstance(operation, Trim) for operation in world.store.commits[2])


async def test_too_many_readings_are_forgotten():
    world = World()
    world.intake._kept.extend((number, at(1000)) for number in range(1, KEEP_COUNT + 3))
    world.hear(plain_telegram(1))
    await world.intake.commit()
    assert world.store.commits[0][-1] == Trim(KIND, 2)


async def test_readings_and_counters_survive_a_restart(tmp_path):
    async with await Partition.open(tmp_path / "consumer.db", "consumer", module_of()) as partition:
        world = World(store=await MeterCounters.load(partition))
        world.hear(plain_telegram(5))
        world.hear(MODE_7)
        await world.intake.commit()
    async with await Partition.open(tmp_path / "consumer.db", "consumer", module_of()) as partition:
        again = World(store=await MeterCounters.load(partition))
        await again.intake.load(partition)
        assert again.registered() == world.registered()
        again.hear(MODE_7)
        await again.intake.commit()
        assert again.counted == (0, {"counter": 1})


async def test_a_stored_reading_that_is_not_ours(tmp_path):
    async with await Partition.open(tmp_path / "consumer.db", "consumer", module_of()) as partition:
        await partition.append(KIND, b'["x","y",null,"","2026-01-01T00:00:00Z",0]')
        with pytest.raises(StoreCorrupt):
            await World().intake.load(partition)
