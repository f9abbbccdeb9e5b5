"""How many complete gateways one core carries, and what each of them takes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import process_time
from typing import Final

from lmn.mbus.decoder import decode
from lmn.ports import MeterAccess, ReceptionMode
from tools.bench.figure import Figure
from tools.counterparts.meter_wmbus import ElectricityMeter
from tools.homes.household import Household
from tools.street.plan import StreetPlan
from tools.street.run import live, summary

GATEWAYS: Final = 200
_SECONDS_A_ROUND: Final = 4.0


async def run(rounds: int) -> list[Figure]:
    """Let a street's meters send for four seconds a round; setting it up takes a minute or two.

    Beside it, in the same process: the same number of telegrams of one meter decoded and nothing else.
    """
    with tempfile.TemporaryDirectory(prefix="smgw-bench-") as folder:
        plan = StreetPlan(Path(folder), GATEWAYS, duration_s=_SECONDS_A_ROUND * rounds)
        result = summary(await live(plan, lambda _text, _share: None))
    telegrams = result["telegrams"]
    alone_s = _decoding_alone(telegrams["accepted"]) / result["real_s"]
    return [
        Figure(
            f"processor of {GATEWAYS} gateways with {telegrams['per_s']:.0f} telegrams/s",
            result["processor"], "cores", bar=1.0,
            reference="decoding the telegrams alone", reference_value=alone_s,
        ),
        Figure("telegrams that were lost", telegrams["sent"] - telegrams["accepted"], "", bar=0),
        Figure("event loop late, at most", result["loop_late_ms"], "ms"),
        Figure("memory of a gateway", result["memory_mb_per_gateway"], "MB"),
        Figure("open files of a gateway", result["files_per_gateway"], ""),
    ]  # fmt: skip


def _decoding_alone(telegrams: int) -> float:
    """Processor seconds for that many telegrams of a meter in mode 7, from link frame to records."""
    household = Household(1)
    meter = ElectricityMeter(household.meter, household.meter_key)
    access = MeterAccess(household.meter, household.meter_key, ReceptionMode.STRICT)
    frames = [meter.telegram() for _ in range(telegrams)]
    began = process_time()
    for frame in frames:
        decode(frame, access, 0)
    return process_time() - began
