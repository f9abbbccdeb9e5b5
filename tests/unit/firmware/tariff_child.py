"""Child process of the tariff tests: registers a day of a stage tariff until it is killed, or to its end.

usage: python -m tests.unit.firmware.tariff_child FOLDER
Prints "registered SECOND" after each step of the clock, "done" at the end.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from firmware.clock.clock import AdjustableClock
from firmware.enforcement.gate import Gate
from firmware.flow.pipeline import RegistrationPipeline
from firmware.metering.original import OriginalLists
from firmware.metering.register import Register
from firmware.profile.model import ProfileSet
from firmware.store.partition import Partition
from lmn.model import ACTIVE_ENERGY_IMPORT, Reading
from tests.unit.firmware.fixed_module import module_of
from tests.unit.firmware.profile_set import at
from tests.unit.firmware.tariff_examples import time_variable
from tests.unit.firmware.tariff_task import ID, SLOT

RULE = time_variable()
LAST_S = 86400 + SLOT


def heard(second: int) -> Reading | None:
    """What the meter said at a slot; every seventh value is missing."""
    slot = second // SLOT
    if slot % 7 == 3:
        return None
    return Reading(ID, ACTIVE_ENERGY_IMPORT, Decimal(1000 + slot * 37 + slot * slot), "Wh", at(second + 1))


class OneProfile:
    """Just this profile, active since before its beginning."""

    active = ProfileSet(processing=(RULE,))

    def communication_since(self, _profile):
        return None

    def processing_since(self, _profile):
        return at(-60)

    def watch(self, _changed):
        return None


async def nobody(_denial):
    raise AssertionError("nothing is denied here")


async def main(folder: Path) -> None:
    async with await Partition.open(folder / "consumer.db", "consumer", module_of()) as partition:
        originals, register = OriginalLists(partition), Register(timedelta(days=2))
        known = await originals.registered_through(RULE.id)
        start = 0 if known is None else int((known - at(0)).total_seconds())
        for second in range(0, LAST_S, SLOT):
            reading = heard(second)
            if reading is not None:
                register.add(reading)
        clock = AdjustableClock(at(start))
        gate = Gate("gateway", "gwa", lambda: OneProfile.active, lambda _net: None, nobody)
        pipeline = RegistrationPipeline(OneProfile(), register, originals, gate, clock, announce=lambda: None)
        for second in range(start, LAST_S, SLOT):
            clock.set_utc(at(second + 30))
            await pipeline.step()
            os.write(1, f"registered {second}\n".encode())
    os.write(1, b"done\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
