"""What `smgw status` shows of a running gateway. Holds no reading and no key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from firmware.chronicle import Counts
from firmware.flow.intake import Statistics
from firmware.flow.undelivered import State, watched
from firmware.life.selftest import Check, SelfTest
from firmware.life.states import CAUSES, Function
from firmware.log.sealer import Sealer
from firmware.parts import Parts
from firmware.profile.model import ProfileSet
from firmware.profile.proxy import NOT_SERVED
from firmware.store.partition import Partition
from hsm.session import SessionStatistics


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the numbers come from."""

    parts: Parts
    sealer: Sealer
    self_test: SelfTest
    program: str
    telegrams: Callable[[], Statistics]
    lines: Callable[[], list[dict[str, Any]]]
    """Each stick, head and line, as `firmware.life.lines` tells of it."""
    module: Callable[[], SessionStatistics]


async def status(sources: Sources) -> dict[str, Any]:
    """Return the state of a gateway as what JSON can say.

    Raises:
        StoreUnavailable, StoreCorrupt: the heads of the logs cannot be read.
    """
    parts = sources.parts
    life, clock, telegrams = parts.life, parts.clock, sources.telegrams()
    return {
        "gateway": parts.gateway_id,
        "program_sha256": sources.program,
        "state": life.state.name.lower(),
        "causes": [
            {
                "cause": cause.value,
                "state": CAUSES[cause].state.name.lower(),
                "text": CAUSES[cause].text,
                "detail": detail,
                "ends_by": CAUSES[cause].remedy,
            }
            for cause, detail in life.causes.items()
        ],
        "runs": [function.value for function in Function if life.allows(function)],
        "time": {
            "now_utc": clock.now_utc(),
            "state": clock.state.value,
            "error_s": None if clock.error_s == float("inf") else round(clock.error_s, 4),
            "limit_s": round(clock.keeper.limit_s, 4),
            "source": None if clock.keeper.last is None else clock.keeper.last.source,
        },
        "module": {"sessions": sources.module().sessions, "apdus": sources.module().apdus},
        "profiles": {"version": parts.registry.version, **names_of(parts.registry.active)},
        "telegrams": {
            "accepted": telegrams.accepted,
            "rejected": dict(telegrams.rejected),
            "duplicates": telegrams.duplicates,
            "dropped": telegrams.dropped,
        },
        "lines": sources.lines(),
        "counts": _counts(parts.chronicle.counts),
        "undelivered": await _undelivered(parts.stores.consumer),
        "alarms_waiting": len(await parts.notices.waiting()),
        "logs": await _logs(parts, sources.sealer),
        "self_test": _checks(sources.self_test.last),
    }


def names_of(profiles: ProfileSet) -> dict[str, Any]:
    """Return the names of what is evaluated, sent and let through, with what becomes of the last."""
    return {
        "processing": [one.id for one in profiles.processing],
        "communication": [one.id for one in profiles.communication],
        "proxy": [{"id": one.id, "state": NOT_SERVED} for one in profiles.proxy],
    }


def _counts(counts: Counts) -> dict[str, int]:
    return {
        "orders_applied": counts.orders_applied,
        "orders_refused": counts.orders_refused,
        "released": counts.released,
        "denied": counts.denied,
    }


async def _undelivered(partition: Partition) -> dict[str, int]:
    """Count what waits too long for its recipient, as it was at the last look."""
    states = Counter(seen.state for seen in (await watched(partition)).values())
    return {state.value: states[state] for state in (State.OVERDUE, State.STRANDED)}


async def _logs(parts: Parts, sealer: Sealer) -> dict[str, Any]:
    found: dict[str, Any] = {"sealing": sealer.sealing}
    for journal in await parts.logs.all():
        oldest, newest = await journal.span()
        found[journal.name] = {"oldest": oldest, "newest": newest}
    return found


def _checks(checks: Iterable[Check]) -> list[dict[str, Any]]:
    return [{"name": one.name, "ok": one.ok, "detail": one.detail} for one in checks]
