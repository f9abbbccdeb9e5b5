"""A district from beginning to end: plays, lets `smgw aggregate` add up, judges, writes the record. I/O."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tools.dcnet.record import MESSAGES
from tools.demo.district.evidence import Evidence, collect
from tools.demo.district.plan import DistrictPlan
from tools.demo.district.play import Seen, play
from tools.demo.district.report import Report, judge
from tools.demo.district.stage import supplier_folder
from tools.demo.district.waits import Progress
from tools.homes.parties import PartyFailed


async def run(plan: DistrictPlan, record: Path | None, progress: Progress) -> Report:
    """Run the plan in its folder, which is new; write what left the gateways to the folder `record`.

    Raises:
        PartyFailed: a party did not do its part.
        ExceptionGroup, HsmError, FirmwareError: a gateway stopped.
        FileExistsError: there is a record already.
    """
    if record is not None:
        _begin(record)
    seen = await play(plan, progress)
    report = judge(await evidence(seen, progress))
    if record is not None:
        _write(record, report)
    return report


async def evidence(seen: Seen, progress: Progress) -> Evidence:
    """Let each supplier's sums be added, and read the parties' files."""
    progress("each supplier's sums are added by smgw aggregate")
    added = {
        one.name: await aggregate(supplier_folder(seen.plan, one.name)) for one in seen.plan.cast.suppliers
    }
    progress("what each party could learn is worked out from what left the gateways")
    return collect(seen, added)


def _begin(record: Path) -> None:
    record.mkdir(parents=True, exist_ok=True)
    (record / MESSAGES).touch(exist_ok=False)


def _write(record: Path, report: Report) -> None:
    lines = "".join(message.to_line() + "\n" for message in report.messages)
    (record / MESSAGES).write_text(lines, encoding="utf-8")


async def aggregate(folder: Path) -> dict[str, Any]:
    """Return what `smgw aggregate FOLDER --json` says of a supplier's folder.

    Raises:
        PartyFailed: it ended with an error.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tools.cli", "aggregate", str(folder), "--json",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    if process.returncode:
        raise PartyFailed(f"smgw aggregate: {err.decode('utf-8', 'replace').strip()}")
    result: dict[str, Any] = json.loads(out)
    return result
