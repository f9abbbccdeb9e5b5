"""A street under one tariff: its profiles, values as they come, and what left."""

from __future__ import annotations

from firmware.profile.model import ProfileSet
from lmn.model import Obis
from tests.unit.firmware.pipeline_street import Gateway
from tests.unit.firmware.profile_set import billing, meter_profile
from tests.unit.firmware.tariff_task import SLOT, profile

HOUR = [1000, 1100, 1300, 1600, 2000]
"""100, 200, 300 and 400 Wh in the quarters of an hour."""


def a_set(taf: int, purpose: str = "billing", **changes) -> ProfileSet:
    """One meter, one processing profile "tariff", one communication profile "out"."""
    return ProfileSet(
        meters=(meter_profile(),),
        processing=(profile(taf, **changes),),
        communication=(billing("out", processing="tariff", purpose=purpose),),
    )


async def run_through(gateway: Gateway, values, obis="1-0:1.8.0", unit="Wh", step=SLOT):
    """One value a slot from 0 on, the clock following; None: the meter is silent."""
    for slot, heard in enumerate(values):
        if heard is not None:
            gateway.hear(step * slot, heard, Obis.from_text(obis), unit)
        await gateway.until(step * slot + step / 2)


def told(gateway: Gateway):
    """What left, as (end of the period, occasion, {group E or C: value})."""
    return [
        (
            document["period"]["to"][11:16],
            document.get("occasion", ""),
            [(one["obis"].split(":")[1].split("*")[0], one["value"]) for one in document["entries"]],
        )
        for document in gateway.documents()
    ]
