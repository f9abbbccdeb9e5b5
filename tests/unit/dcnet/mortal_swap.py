"""A supplier of two nets whose process can be killed at every point of a swap between them.

Its nets' rosters and its swapper run, their members do not: between two slots nothing of a swap depends on
them. Administrators are real ones; what they were shown and what they ordered is what counts.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from tests.support.virtual_time import VirtualClock
from tests.unit.dcnet.mortal_net import Died, Disk, Life
from tests.unit.dcnet.offices import AskedOffice, Offices, OfficesNet
from tests.unit.dcnet.roster_street import CheapKeys
from tools.counterparts.net_journal import Journal
from tools.counterparts.net_swap_book import JOURNAL_NAME, SwapBook
from tools.counterparts.net_swap_documents import SwapPresentation
from tools.counterparts.net_swapping import SwapNet, Swapper

ENDS = ("swap-agreed", "swap-late", "swap-refused")


class MortalKept(MutableMapping[str, bytes]):
    """Files that outlive a process, each whole or as it was."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.life = Life()

    def __getitem__(self, name: str) -> bytes:
        return self.data[name]

    def __setitem__(self, name: str, data: bytes) -> None:
        self.life.point("before a file")
        self.data[name] = data
        self.life.point("after a file")

    def __delitem__(self, name: str) -> None:
        del self.data[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


class OneSignature:
    """The supplier's keys; a swap that an administrator was shown is signed by nobody again."""

    def __init__(self, keys: CheapKeys) -> None:
        self._keys, self.shown = keys, set[bytes]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._keys, name)

    async def sign(self, content: bytes) -> bytes:
        assert not self.shown, "signed a second time"
        return await self._keys.sign(content)


class Way:
    """An administrator that is asked about swaps: the process may die before it asks, or before it hears."""

    def __init__(self, one: AskedOffice, supplier: MortalSupplier, life: Life) -> None:
        self._one, self._supplier, self._life = one, supplier, life

    async def _asked(self, what: str, *about: Any) -> bytes:
        self._life.point(f"before {what}")
        if what == "swap":
            self._supplier.keys.shown.add(about[0])
        if what == "swap_orders" and self._one.office.name in self._supplier.away:
            raise OSError("away")
        answer: bytes = await getattr(self._one, what)(*about)
        await asyncio.sleep(0.01)
        self._life.point(f"after {what}")
        return answer

    async def swap_offer(self, target: str, first_epoch: int) -> bytes:
        return await self._asked("swap_offer", target, first_epoch)

    async def swap(self, presentation: bytes) -> bytes:
        return await self._asked("swap", presentation)

    async def swap_orders(self, warrant: bytes) -> bytes:
        return await self._asked("swap_orders", warrant)


class MortalSupplier:
    """Two nets that were founded, from now on without members; begins anew from the same state each time."""

    def __init__(
        self, nets: tuple[OfficesNet, OfficesNet], disks: tuple[Disk, Disk], offices: Offices
    ) -> None:
        self.nets, self.offices, self.disks, self.look_s = nets, offices, disks, 1.0
        self._begun = [bytes(disk.data) for disk in disks]
        self._records = {
            name: (dict(office.kept), copy.copy(office.profiles)) for name, office in offices.items()
        }
        self.begin()

    def begin(self) -> None:
        """Everything is as it was before anybody thought of a swap."""
        for disk, data in zip(self.disks, self._begun, strict=True):
            disk.data[:] = data
        self.swaps, self.kept = Disk(), MortalKept()
        for name, (kept, profiles) in self._records.items():
            office = self.offices[name]
            office.kept.clear()
            office.kept.update(kept)
            office.profiles.clear()
            office.profiles.update(profiles)
            office.spool.clear()
            office.seen.clear()
        self.keys = OneSignature(self.nets[0].keys)
        self.events: list[Mapping[str, Any]] = []
        self.away: set[str] = set()
        self.deaths: list[str] = []

    # -- its processes ---------------------------------------------------------------------------------

    async def _process(self, life: Life) -> None:
        """Run until a swap has ended, or the process is killed."""
        for medium in (*self.disks, self.swaps, self.kept):
            medium.life = life
        running, swap_nets = [], []
        try:
            for net, disk in zip(self.nets, self.disks, strict=True):
                net.begin_supplier(Journal(disk, net.rules.net))
                await net.emp.rosters.restore()
                running.append(asyncio.ensure_future(net.emp.rosters.run()))
                ways: Any = {name: Way(one, self, life) for name, one in net.asked.items()}
                swap_nets.append(SwapNet(net.rules, net.emp.rosters, ways))
            keys: Any = self.keys
            swapper = Swapper(
                swap_nets,
                keys,
                self.events.append,
                now_utc=VirtualClock().now_utc,
                kept=self.kept,
                journal=Journal(self.swaps, JOURNAL_NAME),
            )
            while not self.ended:
                await swapper.look()
                await asyncio.sleep(self.look_s)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def live(self, die_in: int | None = None, down_s: float = 1.0) -> None:
        """Let the first process die after so many points, and the next one be there so much later."""
        life = Life()
        life.die_in = die_in
        try:
            await self._process(life)
        except Died:
            self.deaths.append(life.where)
            await asyncio.sleep(down_s)
            await self._process(Life())

    # -- what came of it -------------------------------------------------------------------------------

    def of(self, *kinds: str) -> list[Mapping[str, Any]]:
        return [event for event in self.events if event["event"] in kinds]

    @property
    def ended(self) -> bool:
        return bool(self.of(*ENDS)) and not self.underway

    @property
    def underway(self) -> bool:
        """Whether a further process would find a swap under way."""
        disk = Disk()
        disk.data[:] = self.swaps.data
        return SwapBook(Journal(disk, JOURNAL_NAME)).restore() is not None

    @property
    def ordered(self) -> list[str]:
        """Gateways with new profiles, as often as they got them."""
        return [
            gateway for one in self.offices.values() for gateway, kind, _ in one.spool if kind == "profiles"
        ]

    def check(self) -> dict[str, frozenset[str]]:
        """One proposal was shown, what the nets plan is what was ordered; return who leaves each net.

        Judged by what is on the disks: a further process begins with it.
        """
        assert len(self.keys.shown) <= 1
        assert not self.underway
        assert len(self.ordered) == len(set(self.ordered))
        for net, disk in zip(self.nets, self.disks, strict=True):
            net.begin_supplier(Journal(disk, net.rules.net))
        plans = [net.emp.rosters.swap for net in self.nets]
        if not self.ordered:
            assert plans == [None, None], (self.deaths, self.events, plans)
            return {}
        (shown,) = self.keys.shown
        proposal = json.loads(next(iter(self._agreed().values())))
        one, two = plans
        assert one is not None
        assert two is not None
        assert (one.out, one.into) == (two.into, two.out)
        assert one.first_epoch == two.first_epoch == proposal["first_epoch"]
        assert one.out | two.out == set(self.ordered)
        assert SwapPresentation.from_bytes(shown).signed.endswith(bytes.fromhex(proposal["body"]))
        return {net.net_id: plan.out for net, plan in zip(self.nets, (one, two), strict=True)}

    def _agreed(self) -> dict[str, bytes]:
        """What administrators agreed to: the same everywhere."""
        found = {
            f"{name} {record}": office.kept[record]
            for name, office in self.offices.items()
            for record in office.kept
            if record.startswith("swap-agreed-")
        }
        assert len({json.loads(one)["proposal"] for one in found.values()}) == 1
        return found
