"""A running net whose supplier can be killed wherever something of it leaves or is kept, and started again.

A kill takes the process: what it had not written is gone, nothing of it is heard any more. Between two points
nothing of it can be seen from outside and nothing changes on its disk, so these are all there are.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from firmware.enforcement.dcnet.machines import SlotState
from firmware.enforcement.dcnet.messages.manifest import ManifestReply
from firmware.enforcement.dcnet.messages.roster import Attestation
from tests.unit.dcnet.running_net import Answer, RunningNet, SupplierKeys, energy_of
from tests.unit.dcnet.support import NET
from tools.counterparts.net_journal import Journal
from wan.errors import PeerUnavailable


class Died(Exception):
    """The supplier's process was killed here."""


class Life:
    """One process of the supplier; it ends at the point that `die_in` counts down to."""

    def __init__(self) -> None:
        self.dead = False
        self.passed: list[str] = []
        self.die_in: int | None = None
        self.die_at: tuple[str, int] | None = None
        """Where, and when for how many more times it is there."""
        self.where = ""
        self.ended = asyncio.Event()

    def point(self, where: str) -> None:
        """Something is about to leave or to be kept, or just was."""
        self.alive()
        self.passed.append(where)
        if self.die_at is not None and self.die_at[0] == where:
            self.die_at = (where, self.die_at[1] - 1)
            if self.die_at[1] <= 0:
                self.end(where)
                raise Died(where)
        if self.die_in is not None:
            self.die_in -= 1
            if self.die_in <= 0:
                self.end(where)
                raise Died(where)

    def end(self, where: str) -> None:
        self.dead, self.where = True, where
        self.ended.set()

    def alive(self) -> None:
        if self.dead:
            raise Died("before")


class Disk:
    """A `Medium` that outlives every process; a kill may leave half of a write."""

    def __init__(self) -> None:
        self.data, self.replaced = bytearray(), 0
        self.life = Life()

    def read(self) -> bytes:
        return bytes(self.data)

    def append(self, data: bytes) -> None:
        self.life.point("before a write")
        half = len(data) // 2
        self.data += data[:half]
        self.life.point("in a write")
        self.data += data[half:]
        self.life.point("after a write")

    def replace(self, data: bytes) -> None:
        self.life.point("before the file is written anew")
        self.data[:] = data
        self.replaced += 1
        self.life.point("after the file was written anew")

    def close(self) -> None:
        """Nothing is held."""


class Asked:
    """An administrator: the supplier may die before it asks, and before it hears the answer."""

    def __init__(self, one: Any, life: Life, signed: dict[bytes, bytes]) -> None:
        self._one, self._life, self._signed = one, life, signed

    def __getattr__(self, what: str) -> Callable[..., Awaitable[bytes]]:
        async def ask(*args: Any) -> bytes:
            self._life.point(f"before {what}")
            if what == "cosign":
                content = args[0].partition(b"|")[2]
                assert self._signed.setdefault(content, args[0]) == args[0], "signed a second time"
            answer = await getattr(self._one, what)(*args)
            if what == "cosign":
                given, number = Attestation.from_bytes(answer), b"#%d|" % len(self._life.passed)
                answer = replace(given, signed=given.signed.replace(b"|", number, 1)).to_bytes()
            await asyncio.sleep(0.01)
            self._life.point(f"after {what}")
            return bytes(answer)

        return ask


class NumberedKeys(SupplierKeys):
    """No two signatures are alike, as with real ones."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0

    async def sign(self, content: bytes) -> bytes:
        self.made += 1
        return b"emp#%d|" % self.made + content


class MortalNet(RunningNet):
    """Its supplier is started again `down_s` after each death."""

    def __init__(
        self, size: int = 8, down_s: float = 1.0, lives: Iterable[int] = (), **changes: object
    ) -> None:
        """Make a net; `lives` says after how many points each process dies, the later ones live on."""
        super().__init__(size, **changes)
        self.keys = NumberedKeys()
        self.signed: dict[bytes, bytes] = {}
        """What administrators were asked to sign -> as the supplier signed it."""
        self.disk, self.down_s, self.lives = Disk(), down_s, iter(lives)
        self.deaths: list[str] = []
        self.said: dict[tuple[str, int], Mapping[str, Any]] = {}
        """(net, slot) -> total."""
        self.shown: dict[str, bytes] = {}
        """Resource -> what all members were ever given of manifests, results and orders."""
        self._watch: asyncio.Task[None] | None = None

    @property
    def life(self) -> Life:
        return self.disk.life

    def supplied(self) -> dict[str, Any]:
        self.disk.life = life = Life()
        journal = Journal(self.disk, NET)
        life.die_in = next(self.lives, None)

        def emit(event: Mapping[str, Any]) -> None:
            life.alive()
            if event["event"] == "total":
                key = event["net"], event["slot"]
                known = self.said.setdefault(key, json.loads(json.dumps(event)))
                assert known == json.loads(json.dumps(event)), f"another total of {key}"
                life.point("a total was told")
            self.events.append(event)

        return {
            "emit": emit,
            "administrators": {
                name: Asked(one, life, self.signed) for name, one in self.administrators.items()
            },
            "journal": journal,
        }

    def start_supplier(self) -> None:
        super().start_supplier()
        self._watch = asyncio.ensure_future(self._mourn(self.life))

    async def _mourn(self, life: Life) -> None:
        await life.ended.wait()
        self.deaths.append(life.where)
        self._supplier.cancel()
        await asyncio.gather(self._supplier, return_exceptions=True)
        await asyncio.sleep(self.down_s)
        self.start_supplier()

    async def __aexit__(self, *error: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
        await super().__aexit__(*error)

    def _alive(self) -> None:
        if self._supplier.done() and not self.life.dead:
            self._supplier.result()

    async def ask(self, gateway: str, method: str, resource: str, body: bytes) -> Answer:
        life = self.life
        if life.dead:
            raise PeerUnavailable("the supplier is down")
        try:
            answer = await super().ask(gateway, method, resource, body)
            life.point(f"answer to {resource.split('/')[4]}")
        except Died:
            raise PeerUnavailable("the supplier is down") from None
        self._only_one(resource, answer)
        return answer

    def _only_one(self, resource: str, answer: Answer) -> None:
        """Whatever was once given of a slot is given again, bit by bit, and nothing else."""
        if answer.status != 200:
            return
        if "/manifest/" in resource and "/epoch/" not in resource:
            signed, of = ManifestReply.from_bytes(answer.body).signed, resource.rpartition("/")[0]
            assert self.shown.setdefault(of, signed) == signed, resource
        for what in ("/manifest/", "/result/", "/graph/", "/roster/"):
            if what in resource:
                assert self.shown.setdefault(resource, answer.body) == answer.body, resource

    # -- what must add up ----------------------------------------------------------------------------

    async def judged(self, slot: int) -> str:
        """Compare a slot, some time later, with what was measured; return its verdict."""
        total = self.said.get((self.rules.net.hex(), slot))
        totalled = total is not None and total["verdict"] == "totalled"
        members = set(total["members"]) if total is not None and totalled else set()
        if total is not None and totalled:
            energy = sum(energy_of(home, slot) for home in self.homes if home.name in members)
            assert total["lanes"] == [energy * 10, 0, len(members)], slot
        for home in self.homes:
            state, owed = (await home.states()).get(slot), await home.owed()
            if home.name in members:
                assert state is SlotState.TOTALLED, (slot, home.name, state)
                assert slot not in owed, (slot, home.name)
            else:
                assert state in (SlotState.OWED, None), (slot, home.name, state)
                assert owed.get(slot) == energy_of(home, slot), (slot, home.name, state)
        for one in self.administrators.values():
            assert one.refused == 0, "a second manifest or order was shown"
        return "none" if total is None else str(total["verdict"])
