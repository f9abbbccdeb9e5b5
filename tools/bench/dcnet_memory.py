"""`smgw bench dcnet`: the memory that one more net takes in a gateway, measured in a fresh process."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from firmware.enforcement.dcnet.machines import Step
from firmware.enforcement.dcnet.policy import Recovery
from firmware.enforcement.dcnet.primitives import graph
from firmware.enforcement.dcnet.primitives.arithmetic import Prf
from firmware.enforcement.dcnet.slot.ledger import RETAINED_SLOTS, Ledger
from firmware.enforcement.dcnet.slot.view import View
from firmware.store.operations import Operation
from tools.bench.dcnet_open import DEGREE, MEMBERS, rules_of
from tools.bench.figure import Figure

_NETS: Final = 40
_KEY_BYTES: Final = 16


class _Nowhere:
    """A store that keeps nothing: what the disk holds is no memory of the gateway."""

    async def put(self, kind: str, key: str, plaintext: bytes) -> None:
        """Forget it."""

    async def get(self, kind: str, key: str) -> bytes | None:
        """Know nothing."""

    async def items(self, kind: str) -> list[tuple[str, bytes]]:
        """Know nothing."""
        return []

    async def delete(self, kind: str, key: str) -> None:
        """Nothing is there."""

    async def commit(self, operations: Sequence[Operation]) -> list[int]:
        """Forget them."""
        return []


async def _net(number: int, edges: frozenset[graph.Edge]) -> tuple[View, Ledger]:
    """Make what a member holds: key graph, cipher contexts, and two days of slots that were totalled."""
    rules = rules_of(Recovery.WITNESS)
    adjacent = graph.neighbours(edges)
    view = View(rules, 1, 20_000, MEMBERS, 1, {peer: Prf(os.urandom(16)) for peer in adjacent[1]}, adjacent)
    ledger = Ledger(_Nowhere(), number.to_bytes(8, "big"))
    for slot in range(RETAINED_SLOTS):
        await ledger.measure(slot, 1000 + slot, 0)
        await ledger.submitting(slot, epoch=1, seed=bytes(16), frame=bytes(312), previous=os.urandom(32))
        await ledger.opening(slot, manifest_hash=os.urandom(32), members=MEMBERS, frame=bytes(104))
        await ledger.totalled(slot)
    assert ledger.entries()[-1].state.name == Step.TOTAL.name + "LED"
    return view, ledger


def _resident() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def _measured() -> float:
    edges = graph.key_graph(range(1, MEMBERS + 1), DEGREE, b"memory")
    first = [await _net(number, edges) for number in range(4)]  # what is made once only is made now
    before = _resident()
    more = [await _net(number, edges) for number in range(_NETS)]
    found = (_resident() - before) / len(more) / 1024
    assert len(first) + len(more) == _NETS + 4
    return found


def _child(_round: int) -> float:
    return asyncio.run(_measured())


async def run(_rounds: int) -> list[Figure]:
    """Measure once: memory does not depend on what else runs."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        kib = pool.map(_child, [0])[0]
    return [
        Figure(
            f"memory of a gateway for one net of {MEMBERS} members, {DEGREE} neighbours, "
            f"{RETAINED_SLOTS} slots",
            kib,
            "KiB",
            reference="its edges' epoch keys and nothing else",
            reference_value=DEGREE * _KEY_BYTES / 1024,
        )
    ]
