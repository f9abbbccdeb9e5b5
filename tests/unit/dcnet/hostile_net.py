"""Whole nets of running members and a running supplier, in virtual time, with a hostile network between.

Members are the product's service (`service.driver`), the supplier is the counterpart's coordinator with its
real resources; what lies between them loses, repeats, delays, cuts, falsifies and mixes up messages, and
kills gateways at any of their await points. Names stand for signatures; everything else is real.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from firmware.enforcement.dcnet.errors import SlotInPast
from firmware.enforcement.dcnet.events import NetEvent
from firmware.enforcement.dcnet.founding.authorisation import PeerAuthorisation
from firmware.enforcement.dcnet.policy import TENTHS, NetRules
from firmware.enforcement.dcnet.service.driver import NetMember
from firmware.enforcement.dcnet.slot.ledger import SlotEntry
from firmware.profile.model import NetPolicy
from firmware.store.operations import Operation, Put
from hsm.api import Curve, KeySlot, PublicKey
from tests.support.instant_loop import VirtualClock
from tests.support.soft_module import CURVES, SoftModule, public_of
from tests.unit.dcnet.named_parties import Administrator, BoundSignatures, NamedKeys
from tests.unit.dcnet.support import MemoryStore, PowerCut, policy
from tests.unit.dcnet.trouble import CALM, HOUR_S, SLOT_S, Fault, Trouble, spoilt
from tools.counterparts.net import NetCoordinator
from wan.errors import PeerUnavailable

_AFTER: Final = timedelta(minutes=1)


def net_policy(**changes: object) -> NetPolicy:
    """A small net with four slots a day."""
    fields: dict[str, object] = {
        "slot_s": SLOT_S,
        "submit_s": 2.0 * HOUR_S,
        "manifest_s": 4.0 * HOUR_S,
        "open_s": 5.0 * HOUR_S,
        "poll_s": 900.0,
        "delta": 0.4,
    }
    return policy(**(fields | changes))


# -- one gateway -----------------------------------------------------------------------------------


class Module(SoftModule):
    """Repeats itself from run to run; remembers the seeds it gave; a power cut can come at each operation."""

    def __init__(self, name: str, gateway: Gateway | None = None) -> None:
        super().__init__()
        self._source, self._gateway = random.Random(name), gateway
        self.seeds: list[bytes] = []
        self.wrong_towards: bytes | None = None
        """Point of a peer with whom a wrong secret is agreed: a broken or malicious module."""

    async def _turn(self, operation: str) -> None:
        if self._gateway is not None:
            await self._gateway.point()

    async def random(self, count: int) -> bytes:
        await self._turn("random")
        self.seeds.append(self._source.randbytes(count))
        return self.seeds[-1]

    async def generate_key_pair(self, slot: KeySlot, curve: Curve) -> PublicKey:
        await self._turn("generate_key_pair")
        self.keys[slot] = ec.derive_private_key(self._source.randrange(1, 1 << 200), CURVES[curve])
        return public_of(self.keys[slot])

    async def agree(self, slot: KeySlot, peer_point: bytes) -> bytes:
        secret = await super().agree(slot, peer_point)
        return bytes(32) if peer_point == self.wrong_towards else secret


class _Store(MemoryStore):
    """The gateway's store during one life; nothing is written after the power went."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._gateway, self._life = gateway, gateway.lives
        self.data = gateway.data

    async def put(self, kind: str, key: str, plaintext: bytes) -> None:
        await self._gateway.point()
        self._alive()
        await self._written(kind, key, plaintext)
        await self._gateway.point()

    async def delete(self, kind: str, key: str) -> None:
        await self._gateway.point()
        self._alive()
        await super().delete(kind, key)

    async def commit(self, operations: Sequence[Operation]) -> list[int]:
        await self._gateway.point()
        self._alive()
        for one in operations:
            assert isinstance(one, Put)
            await self._written(one.kind, one.key, one.plaintext)
        await self._gateway.point()
        return [1] * len(operations)

    async def _written(self, kind: str, key: str, plaintext: bytes) -> None:
        if kind == "dcnet-slot":
            self._gateway.entries_written.append(SlotEntry.from_bytes(plaintext))
        await super().put(kind, key, plaintext)

    def _alive(self) -> None:
        if self._life != self._gateway.lives:
            raise PowerCut


class Gateway:
    """One gateway: its member, its meter, its power, and what it measured."""

    def __init__(self, net: WholeNet, index: int, trouble: Trouble) -> None:
        self.net, self.index, self.name = net, index, f"gw{index}"
        self.trouble = trouble
        self.module = Module(f"{net.seed} {self.name}", self)
        self.data: dict[tuple[str, str], bytes] = {}
        self.entries_written: list[SlotEntry] = []
        """Everything the ledger ever wrote about a slot."""
        self.clock = VirtualClock(net.rules.t0_utc, timedelta(seconds=trouble.ahead_s))
        self.measured: dict[int, tuple[int, int]] = {}
        """Slot -> (import, export) in Wh, of slots whose value was taken over."""
        self.spans: dict[tuple[int, int], int] = {}
        """(First, last slot) -> import in Wh that an interruption left behind."""
        self.events: list[NetEvent] = []
        self.sent: list[tuple[str, bytes]] = []
        self.lives = self.points = self.messages = 0
        self.cut = False
        """Whether its line is down."""
        self._dead = asyncio.Event()
        self._next = 1
        self._registered: tuple[int, int] | None = None
        """First and last slot of what is to be handed over; durable in a real gateway."""
        self._timely: dict[int, bool] = {}

    def new_member(self, store: MemoryStore | None = None) -> NetMember:
        """The product's service, on what is durable."""

        async def report(event: NetEvent) -> None:
            await self.point()
            self.events.append(event)

        return NetMember(
            self.net.rules,
            self.name,
            signatures=BoundSignatures(self.name, self.net.administrator_of(self.index)),
            module=self.module,
            key_slot=KeySlot.DCNET_1,
            emp_key=self.net.emp_key,
            exchange=self._exchange,
            store=_Store(self) if store is None else store,
            clock=self.clock,
            report=report,
            insecure_small_nets_allowed=True,
        )

    async def live(self) -> None:
        """Live, die and come back until cancelled."""
        while True:
            self._dead.clear()
            self.member = self.new_member()
            tasks = [asyncio.ensure_future(self.member.run()), asyncio.ensure_future(self._meter())]
            dying = asyncio.ensure_future(self._dead.wait())
            try:
                await asyncio.wait([*tasks, dying], return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.lives += 1
                for task in (*tasks, dying):
                    task.cancel()
                ends = await asyncio.gather(*tasks, return_exceptions=True)
            for end in ends:
                if not isinstance(end, (asyncio.CancelledError, PowerCut)):
                    raise AssertionError(f"{self.name} ended by itself") from end
            await asyncio.sleep(self._away_s)

    async def point(self) -> None:
        """An await point: the power may go here."""
        self.points += 1
        if (away_s := self.trouble.kills.get(self.points)) is not None and not self.net.calm:
            self.kill(away_s)
            await asyncio.Event().wait()

    def kill(self, away_s: float) -> None:
        """The power goes now, and comes back after so many seconds."""
        self._away_s = away_s
        self._dead.set()

    async def _meter(self) -> None:
        """Hand over slot after slot; what an interruption left behind is one span.

        As the pipeline does it, what was registered before a stop is handed over once more after it.
        """
        rules = self.net.rules
        while True:
            if self._registered is None:
                passed = rules.slot_at(self.clock.now_utc())
                if passed > self._next and self.lives:
                    self._registered = self._next, passed - 1
                else:
                    await self.clock.sleep_until(rules.slot_end(self._next))
                    self._registered = self._next, self._next
            first, last = self._registered
            values = [self.net.reading(slot, self.index) for slot in range(first, last + 1)]
            if first == last and self._in_time(last):
                try:
                    await self.member.contribute(last, *values[0])
                except SlotInPast:  # a life before had handed it over already
                    assert any(entry.slot == last for entry in await self.member.slots())
                self.measured[last] = values[0]
            else:
                total = sum(energy for energy, _ in values)
                await self.member.owe(first, last, total, sum(out for _, out in values))
                self.spans[first, last] = total
            self._registered, self._next = None, last + 1

    def _in_time(self, slot: int) -> bool:
        """Whether the meter said in time what the slot's energy was; decided once."""
        late = self.clock.now_utc() >= self.net.rules.slot_end(slot + 1)
        return self._timely.setdefault(slot, not late)

    async def _exchange(self, method: str, resource: str, body: bytes) -> Answer:
        await self.point()
        self.messages += 1
        fault, amount = self.trouble.messages.get(self.messages, (None, 0.0))
        if self.net.calm:
            fault = None
        if self.cut:
            raise PeerUnavailable("the line is down")
        if body:
            self.sent.append((f"{method} {resource}", body))
        answer = await self.net.carry(self, method, resource, body, fault, amount)
        await self.point()
        return answer


@dataclass
class Answer:
    status: int
    body: bytes = b""


class _Request:
    """As much of a request as the coordinator's resources look at."""

    def __init__(self, gateway: str, match_info: Mapping[str, str], body: bytes) -> None:
        self.gateway, self.match_info, self._body = gateway, match_info, body
        self.content_length = len(body)

    async def read(self) -> bytes:
        return self._body


def _patterns(coordinator: NetCoordinator) -> list[tuple[str, re.Pattern[str], Any]]:
    found = []
    for route in coordinator.routes():
        path = re.sub(r"\{(\w+):([^}]+)\}", r"(?P<\1>\2)", route.path)
        found.append((route.method, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)), route.handler))
    return found


class WholeNet:
    """A net of running members.

    Args:
        size: how many members.
        troubles: what happens to each, by index; those not listed live in peace.
        seed: names everything random.
        administrators: of the members, in order; the last one has all that are left.
        coordinator: the supplier, which may be one that lies.
        reading: (slot, index) -> (import, export) in Wh.
        changes: to the policy.
    """

    def __init__(
        self,
        size: int,
        troubles: Mapping[int, Trouble] | None = None,
        *,
        seed: int = 1,
        administrators: Sequence[tuple[str, int]] = (("gwa", 1 << 20),),
        coordinator: type[NetCoordinator] = NetCoordinator,
        reading: Callable[[int, int], tuple[int, int]] | None = None,
        **changes: object,
    ) -> None:
        self.size, self.seed = size, seed
        self.policy = net_policy(**changes)
        self.rules = NetRules.from_profile(self.policy)
        self._administrators = administrators
        self._reading = reading
        self._coordinator_type = coordinator
        self.authorise: Callable[[str, PeerAuthorisation], PeerAuthorisation] = lambda _name, given: given
        self.emitted: list[Mapping[str, Any]] = []
        self.received: dict[str, list[tuple[str, int, bytes]]] = {}
        self.calm = False
        """Whether all trouble is over."""
        self._late: set[asyncio.Task[Any]] = set()
        self.gateways = [Gateway(self, i, (troubles or {}).get(i, CALM)) for i in range(1, size + 1)]

    def administrator_of(self, index: int) -> str:
        """The administrator of a member."""
        for name, count in self._administrators:
            if index <= count:
                return name
            index -= count
        raise AssertionError

    def reading(self, slot: int, index: int) -> tuple[int, int]:
        """What a member measures in a slot: every sum of some members is another number."""
        if self._reading is not None:
            return self._reading(slot, index)
        return (1 << index) + slot % 2, index

    async def run(self, slots: int, *, calm_after: int | None = None) -> None:
        """Found the net and live through `slots` slots; no more trouble after slot `calm_after`."""
        async with self:
            if calm_after is not None:
                await self.until(calm_after)
                self.calm = True
            await self.until(slots)

    async def __aenter__(self) -> Self:
        module = Module(f"{self.seed} emp")
        self.emp_key = await module.generate_key_pair(KeySlot.WAN_ENC, Curve.P256)
        self._clock = VirtualClock(self.rules.t0_utc)
        names = [gateway.name for gateway in self.gateways]
        self.coordinator = self._coordinator_type(
            self.policy,
            names,
            NamedKeys(module),
            self.emitted.append,
            administrators={
                name: Administrator(name, self.rules, self._shape) for name, _ in self._administrators
            },
            administrator_of={n: self.administrator_of(i) for i, n in enumerate(names, 1)},
            identity=lambda request: request.gateway,  # type: ignore[attr-defined]  # our own request
            now_utc=self._clock.now_utc,
        )
        self._routes = _patterns(self.coordinator)
        self._tasks = [asyncio.ensure_future(one.live()) for one in self.gateways]
        self._tasks.append(asyncio.ensure_future(self.coordinator.run()))
        return self

    async def until(self, slot: int) -> None:
        """Live until no more openings are taken for a slot, or somebody fails."""
        ending = asyncio.ensure_future(self._clock.sleep_until(self.rules.open_until(slot) + _AFTER))
        await asyncio.wait([*self._tasks, ending], return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()

    async def __aexit__(self, *_: object) -> None:
        for task in (*self._tasks, *self._late):
            task.cancel()
        ends = await asyncio.gather(*self._tasks, *self._late, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
                raise end

    # -- the network -------------------------------------------------------------------------------

    async def carry(
        self, gateway: Gateway, method: str, resource: str, body: bytes, fault: Fault | None, amount: float
    ) -> Answer:
        """Carry a message there and its answer back, with what the network does to them."""
        if fault is Fault.LOSE:
            await asyncio.sleep(60 * amount)
            raise PeerUnavailable("lost")
        if fault is Fault.DELAY:
            await asyncio.sleep(SLOT_S * amount)
        if fault is Fault.TWICE:
            again = asyncio.ensure_future(self._again(gateway, method, resource, body, 2 * SLOT_S * amount))
            self._late.add(again)
        answer = await self.serve(gateway.name, method, resource, spoilt(body, fault, amount))
        got = self.received.setdefault(gateway.name, [])
        kind = _kind(resource)
        earlier = [one for one in got if _kind(one[0]) == kind and one[1] == 200]
        others = [
            one
            for name, bodies in self.received.items()
            if name != gateway.name
            for one in bodies
            if _kind(one[0]) == kind and one[1] == 200
        ]
        got.append((resource, answer.status, answer.body))
        if fault is Fault.DELAY_ANSWER:
            await asyncio.sleep(SLOT_S * amount)
        elif fault is Fault.LOSE_ANSWER:
            raise PeerUnavailable("the answer was lost")
        elif fault is Fault.CUT_ANSWER:
            return Answer(answer.status, spoilt(answer.body, Fault.CUT, amount))
        elif fault is Fault.FLIP_ANSWER:
            return Answer(answer.status, spoilt(answer.body, Fault.FLIP, amount))
        elif fault is Fault.OLD_ANSWER and earlier:
            return Answer(200, earlier[int(amount * len(earlier)) % len(earlier)][2])
        elif fault is Fault.OTHERS_ANSWER and others:
            return Answer(200, others[-1][2])
        elif fault is Fault.ERROR:
            return Answer((400, 403, 404, 409, 425, 500, 503)[int(amount * 7) % 7])
        return answer

    async def _again(self, gateway: Gateway, method: str, resource: str, body: bytes, later_s: float) -> None:
        await asyncio.sleep(later_s)
        await self.serve(gateway.name, method, resource, body)

    async def serve(self, gateway: str, method: str, resource: str, body: bytes) -> Answer:
        """Hand a request to the coordinator's own resource."""
        for allowed, pattern, handler in self._routes:
            match = pattern.fullmatch(resource)
            if allowed == method and match is not None:
                try:
                    reply = await handler(_Request(gateway, match.groupdict(), body))
                except web.HTTPException as refused:
                    return Answer(refused.status)
                return Answer(reply.status, bytes(reply.body or b""))
        return Answer(404)

    # -- what came of it ---------------------------------------------------------------------------

    def _shape(self, name: str, given: PeerAuthorisation) -> PeerAuthorisation:
        return self.authorise(name, given)

    @property
    def totals(self) -> dict[int, Mapping[str, Any]]:
        """Slot -> what the supplier says of it."""
        return {one["slot"]: one for one in self.emitted if one["event"] == "total"}

    def true_sum(self, slot: int, members: Sequence[str]) -> list[int]:
        """The plain sum over some members, lane by lane."""
        chosen = [self.reading(slot, gateway.index) for gateway in self.gateways if gateway.name in members]
        return [TENTHS * sum(one[0] for one in chosen), TENTHS * sum(one[1] for one in chosen), len(chosen)]

    def frames(self, what: str) -> list[tuple[Gateway, int, bytes]]:
        """Every `submit` or `open` that a member let out, as it left: (gateway, slot, frame with MAC)."""
        return [
            (gateway, int(resource.split("/")[-2]), body)
            for gateway in self.gateways
            for resource, body in gateway.sent
            if f"/{what}/" in resource
        ]


def _kind(resource: str) -> str:
    parts = resource.split("/")
    return "/".join(parts[4:6]) if parts[4:6] == ["manifest", "epoch"] else parts[4]
