"""Telegrams wait for the store together; a full queue drops, a store that fails loses nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from firmware.errors import StoreUnavailable
from firmware.flow.intake import Intake
from firmware.flow.pipeline import IntakePipeline
from firmware.metering.register import Register
from lmn.model import ACTIVE_ENERGY_IMPORT
from lmn.ports import MeterAccess, ReceptionMode
from lmn.wmbus.link import ReceivedFrame
from tests.unit.firmware.pipeline_street import ID, reached
from tests.unit.firmware.profile_set import at
from tests.unit.firmware.test_intake import Meters, Store, plain_telegram


class Radio:
    def __init__(self, waiting=1024):
        self.store, self.register = Store(), Register(timedelta(hours=1))
        self.intake = Intake(
            Meters(MeterAccess(ID, None, ReceptionMode.OPEN)),
            self.store,
            self.register,
            now_utc=lambda: at(0),
            now_s=lambda: 0.0,
            report=self._ignore,
        )
        self.pipeline = IntakePipeline(self.intake, waiting=waiting)

    async def _ignore(self, _rejection):
        return None

    async def run_until(self, condition):
        task = asyncio.create_task(self.pipeline.run())
        await reached(lambda: condition() or task.done())
        if task.done():
            return await task
        task.cancel()
        return await asyncio.gather(task, return_exceptions=True)


async def test_telegrams_that_wait_share_a_commit():
    radio = Radio()
    for energy in range(300):
        radio.pipeline.put(ReceivedFrame(plain_telegram(energy), 0.0))
    await radio.run_until(lambda: radio.intake.statistics.accepted == 300)
    assert [len(commit) for commit in radio.store.commits] == [256, 44]


async def test_a_full_queue_drops_and_counts():
    radio = Radio(waiting=10)
    for energy in range(25):
        radio.pipeline.put(ReceivedFrame(plain_telegram(energy), 0.0))
    await radio.run_until(lambda: radio.intake.statistics.accepted == 10)
    assert radio.intake.statistics.dropped == 15


async def test_a_store_that_fails_stops_the_service_and_loses_nothing():
    radio = Radio()
    radio.store.fail = True
    radio.pipeline.put(ReceivedFrame(plain_telegram(1), 0.0))
    with pytest.raises(StoreUnavailable):
        await radio.run_until(lambda: False)
    radio.store.fail = False
    await radio.run_until(lambda: radio.intake.statistics.accepted == 1)
    assert len(radio.register.around(ID, ACTIVE_ENERGY_IMPORT, at(0), timedelta(hours=1))) == 1
