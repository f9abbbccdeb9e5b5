"""A net of real members, supplier and administrator over real HTTP, in real time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web

from firmware.clock.clock import SystemClock
from firmware.enforcement.dcnet.events import NetEvent, NetEventKind
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.driver import NetMember
from firmware.enforcement.dcnet.service.signatures import CmsSignatures
from hsm.api import CertificateUse, KeySlot
from hsm.x509 import Certificate
from tests.support.pace import slot_s
from tests.support.soft_module import SoftModule
from tests.unit.dcnet.support import MemoryStore, policy
from tests.unit.dcnet.test_whole_net import Answer, Line
from tests.unit.dcnet.whole_founding import Direct
from tools.counterparts.net import NetCoordinator
from tools.counterparts.net_keys import CmsKeys
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.net_oversight import NetOversight
from tools.counterparts.net_relay import NetRelay
from tools.counterparts.net_witness import NetWitness
from tools.counterparts.pki import issue_gateway, make_pki
from wan.pki.enrol import make_triple

GATEWAYS = [f"esgw010000000{number}" for number in range(1, 7)]


class Watching:
    """An `Overseer` in the same process."""

    def __init__(self, oversight: NetOversight, net: str) -> None:
        self._oversight, self._net = oversight, net

    async def rates(self, report: bytes) -> bytes:
        return await self._oversight.rates(self._net, report)

    async def outage(self, version: int, slot: int) -> bytes:
        return await self._oversight.outage(self._net, version, slot)


class Home:
    """One gateway: what outlives its process, and the process."""

    def __init__(
        self, net: RunningNet, number: int, line: Line, module: SoftModule, sig: Certificate
    ) -> None:
        self._net, self.number, self.line = net, number, line
        self._module, self._sig, self._store = module, sig, MemoryStore()
        self.events: list[NetEvent] = []
        self.start()

    def start(self) -> None:
        """Switch it on."""
        folder = self._net.folder

        async def report(event: NetEvent) -> None:
            self.events.append(event)

        self.member = NetMember(
            self._net.rules,
            GATEWAYS[self.number - 1],
            signatures=CmsSignatures(
                module=self._module,
                slot=KeySlot.WAN_SIG,
                certificate=self._sig,
                emp=_certificate(folder / "emp/sig.pem"),
                gwa=_certificate(folder / "gwa/sig.pem"),
                intermediates=[_certificate(folder / "sub-ca.pem")],
                anchors=[_certificate(folder / "root.pem")],
                now_utc=lambda: datetime.now(UTC),
            ),
            module=self._module,
            key_slot=KeySlot.DCNET_1,
            emp_key=_certificate(folder / "emp/enc.pem").public_key,
            exchange=self.line.exchange,
            store=self._store,
            clock=SystemClock(),
            report=report,
            insecure_small_nets_allowed=True,
            administrator=partial(self._net.ask_administrator, GATEWAYS[self.number - 1]),
        )
        self.task = asyncio.get_running_loop().create_task(self.member.run())

    async def stop(self) -> None:
        """Cut its power."""
        self.task.cancel()
        await asyncio.wait([self.task])

    async def joined(self) -> None:
        while not any(event.kind is NetEventKind.JOINED for event in self.events):
            assert not self.task.done(), self.task
            await asyncio.sleep(0.05)

    async def reasons(self) -> dict[int, tuple[str, str]]:
        """State and reason of each slot."""
        return {one.slot: (one.state.name, one.reason) for one in await self.member.slots()}


class RunningNet:
    """Supplier, administrator and six homes."""

    def __init__(self, folder: Path, changes: Mapping[str, Any], longer: int = 1) -> None:
        make_pki(folder)
        length_s = longer * slot_s(2, starts=2)
        self.folder, self.seen = folder, list[Mapping[str, Any]]()
        self.policy = policy(
            t0_utc=datetime.now(UTC) - timedelta(seconds=10 * length_s),
            slot_s=length_s,
            submit_s=0.5 * length_s,
            manifest_s=0.85 * length_s,
            open_s=0.95 * length_s,
            **changes,
        )
        self.rules = NetRules.from_profile(self.policy)
        keys = CmsKeys(folder / "gwa")
        ordered = {
            self.policy.net_id: OrderedNet(
                self.policy, _certificate(folder / "emp/sig.pem").der, frozenset(GATEWAYS)
            )
        }.get
        kept: dict[str, bytes] = {}
        common = (keys.certificate, ordered, keys.trust, keys.sign, self.seen.append)
        self.oversight = NetOversight(*common, kept=kept)
        self.witness = Direct(NetWitness("gwa", *common, kept=kept))
        self.homes: list[Home] = []
        self.relay = NetRelay(
            lambda net, gateway: net == self.policy.net_id and gateway in GATEWAYS,
            self._forward,
            self.seen.append,
            kept=kept,
        )
        self.session: ClientSession | None = None
        self.base = ""

    async def ask_administrator(self, gateway: str, method: str, resource: str, body: bytes) -> Answer:
        """What a gateway's own link to its administrator brings."""
        net, below = self.policy.net_id, resource.split("/", 4)[4]
        if below == "complaint":
            return Answer(200, await self.oversight.complaint(net, gateway, body))
        return Answer(*await self.relay.relay(net, gateway, method, below.removeprefix("relay/"), body))

    async def _forward(
        self, net: str, gateway: str, method: str, resource: str, body: bytes
    ) -> tuple[int, bytes]:
        assert self.session is not None
        url = f"{self.base}/dcnet/v1/{net}/relay/{gateway}/{resource}"
        headers = {"X-Gateway": "the administrator"}
        async with self.session.request(method, url, data=body, headers=headers) as reply:
            return reply.status, await reply.read()

    def coordinator(self, **options: Any) -> NetCoordinator:
        return NetCoordinator(
            self.policy,
            GATEWAYS,
            CmsKeys(self.folder / "emp"),
            self.seen.append,
            administrators={"gwa": self.witness},
            overseers={"gwa": Watching(self.oversight, self.policy.net_id)},
            identity=lambda request: request.headers["X-Gateway"],
            relayed_by=lambda request: request.headers["X-Gateway"] == "the administrator",
            **options,
        )

    async def over(self, slot: int) -> None:
        """Wait until a slot has ended, so that its value is known."""
        await asyncio.sleep((self.rules.slot_end(slot) - datetime.now(UTC)).total_seconds())

    async def measure(self, slot: int, *without: int) -> None:
        """Everybody but some has a value for a slot: 10 Wh times its number."""
        for home in self.homes:
            if home.number not in without:
                await home.member.contribute(slot, 10 * home.number)

    async def total(self, slot: int) -> Mapping[str, Any]:
        """What became of a slot at the supplier; a moment later its members know as well."""
        while True:
            for event in self.seen:
                if event["event"] == "total" and event["slot"] == slot:
                    await asyncio.sleep(0.3)
                    return event
            await asyncio.sleep(0.05)

    def told(self, name: str) -> list[Mapping[str, Any]]:
        return [event for event in self.seen if event["event"] == name]


@asynccontextmanager
async def running(
    folder: Path,
    options: Callable[[NetRules], Mapping[str, Any]] = lambda _rules: {},
    *,
    shunned: int = 0,
    longer: int = 1,
    **changes: Any,
) -> AsyncIterator[tuple[RunningNet, int]]:
    """Give a founded net and the first slot that can be used; everything ends with the block.

    Args:
        folder: for keys and certificates.
        options: of the coordinator, by the net's rules.
        shunned: the number of a home whose bundle the supplier refuses.
        longer: slots are so many times as long as usual.
        changes: to the policy.
    """
    net = RunningNet(folder, changes, longer)
    coordinator = net.coordinator(**options(net.rules))
    app = web.Application()
    app.add_routes(coordinator.routes())
    async with AsyncExitStack() as stack, asyncio.timeout(120 * longer):
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        session = await stack.enter_async_context(ClientSession())
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        net.session, net.base = session, base
        task = asyncio.get_running_loop().create_task(coordinator.run())
        stack.callback(task.cancel)
        for number, gateway in enumerate(GATEWAYS, 1):
            module = SoftModule()
            issued = issue_gateway(folder, gateway, await make_triple(module, gateway))
            sig = Certificate.from_pem(issued[CertificateUse.SIG].encode())
            line = Line(session, base, gateway)
            line.cut = {"/bundle/"} if number == shunned else set()
            net.homes.append(Home(net, number, line, module, sig))
            stack.push_async_callback(net.homes[-1].stop)
        for home in net.homes:
            await home.joined()
        yield net, net.rules.slot_at(datetime.now(UTC)) + 1


def _certificate(path: Path) -> Certificate:
    return Certificate.from_pem(path.read_bytes())
