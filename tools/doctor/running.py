"""Lines of a gateway that runs: what it says of them itself, since nobody else may open them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.cli.controlled import NotReached, ask
from tools.doctor.report import Finding, error, note, ok, warning

Line = dict[str, Any]
"""One of `lines` of `smgw status --json`."""


async def lines_of(configuration: Path) -> dict[str, Line] | None:
    """Ask a running gateway; its lines by port, None if it does not answer us."""
    try:
        answer = await asyncio.to_thread(ask, configuration, op="status")
    except NotReached:
        return None
    return {one["port"]: one for one in answer["status"].get("lines", ())}


def findings(subject: str, line: Line) -> Iterator[Finding]:
    """Say how a line of a running gateway does."""
    if not line["open"]:
        hint = "its system log says why; the gateway tries again by itself"
        yield error(subject, f"{line['port']} is not open in the running gateway", hint)
        return
    last = "no byte yet" if line["last_byte_s"] is None else f"last byte {line['last_byte_s']} s ago"
    doubled = "" if line["duplicates"] is None else f", {line['duplicates']} doubled"
    yield ok(
        subject,
        f"in the running gateway: {line['device'] or line['kind']}, mode {line['mode'] or 'not set yet'}: "
        f"{line['frames']} frames{doubled}, {last}, {line['restarts']} restarts",
    )
    if not line["frames"]:
        yield note(subject, "nothing heard since the gateway started", "see docs/meters.md 6")
    if line["crc_failures"] or line["garbage_bytes"]:
        text = f"{line['crc_failures']} wrong checksums, {line['garbage_bytes']} bytes that are no message"
        yield warning(subject, text, "a bad cable or hub, a wrong kind, or a head off its place")
    if line.get("truncated"):
        yield warning(subject, f"{line['truncated']} telegrams cut off", "this stick is too small for them")
    if line.get("silent"):
        text = f"stations fell silent {line['silent']} times"
        yield warning(subject, text, "wiring, or a meter without power")
