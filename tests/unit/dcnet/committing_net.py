"""A running net with V-mode and small values, and what its members have sent for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from firmware.enforcement.dcnet.messages.commit import CommitV, OpenV
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES
from firmware.enforcement.dcnet.primitives.range_proof import BLINDING_BASE
from firmware.enforcement.dcnet.slot.commitment import Work
from tests.unit.dcnet.running_net import Home, RunningNet

SIZE = 8
LIAR = 4
LARGEST_WH = 12
HUGE_WH = 7 * 10**8
WRONG_PROOFS: dict[str, Callable[[CommitV], CommitV]] = {
    "another value": lambda said: replace(said, points=(BLINDING_BASE, *said.points[1:])),
    "swapped lanes": lambda said: replace(said, points=said.points[::-1]),
    "small order": lambda said: replace(said, points=(bytes(32), *said.points[1:])),
    "truncated": lambda said: replace(said, proof=said.proof[:-32]),
    "another blinding": lambda said: replace(said, masked=(said.masked[0] ^ 1, *said.masked[1:])),
}


def shrunk(**changes: object) -> RunningNet:
    """A net with V-mode and small values, so that its proofs are quick."""
    return RunningNet(SIZE, **({"v_slots": 2, "max_wh": LARGEST_WH} | changes))


def energy_of(home: Home, slot: int) -> int:
    return 1 + slot % 3 + int(home.name.removeprefix("gw"))


def energies(net: RunningNet, slot: int, without: tuple[str, ...] = ()) -> int:
    return sum(energy_of(home, slot) for home in net.homes if home.name not in without)


async def slot_of(net: RunningNet, slot: int, lies: Mapping[str, int] | None = None) -> Mapping[str, Any]:
    """Play one slot; who lies has another value in its ledger than a gateway would take."""
    await net.until(slot, 0)
    for home in net.homes:
        assert home.member is not None
        if lies and home.name in lies:
            await home.member._ledger.measure(slot, lies[home.name], 0)
        elif home.task is not None:
            await home.member.contribute(slot, energy_of(home, slot))
    await net.until(slot, 59)
    return net.totals()[slot]


def committed(home: Home, slot: int) -> list[CommitV]:
    return [CommitV.from_bytes(body.partition(b"|")[2]) for body in home.bodies(f"/commitv/{slot}/")]


def about(body: bytes, what: str) -> tuple[int, int, int, bytes]:
    """Slot, member, roster and manifest that a message of V-mode is about."""
    if what == "commitv":
        said = CommitV.from_bytes(body.partition(b"|")[2])
        return said.slot, said.index, said.version, said.reference
    opened = OpenV.from_bytes(body[:-MAC_BYTES])
    return opened.slot, opened.index, opened.version, opened.manifest_hash


def lying_commitment(home: Home, change: Callable[[Work], Work], forge: Callable[[CommitV], CommitV]) -> None:
    """From now on this home commits to something else than it submits, or alters what it has proven."""
    assert home.member is not None
    committing = home.member._serving.committing

    async def apart(work: Callable[[], CommitV]) -> CommitV:
        true: Work = work.__self__  # type: ignore[attr-defined]
        return forge(change(true).commit())

    committing._apart = apart
    committing._rules = replace(committing._rules, max_wh=HUGE_WH)  # its own range check


def same(said: Any) -> Any:
    return said
