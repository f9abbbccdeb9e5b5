"""Five gateways of two administrators and a supplier, over real HTTP and real CMS signatures."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from cryptography.x509 import load_pem_x509_certificate

from firmware.clock.clock import SystemClock
from firmware.enforcement.dcnet.events import NetEvent, NetEventKind
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.driver import NetMember
from firmware.enforcement.dcnet.service.signatures import CmsSignatures
from firmware.enforcement.dcnet.service.standing import describe
from hsm.api import CertificateUse, KeySlot
from hsm.x509 import Certificate
from tests.support.pace import slot_s
from tests.support.soft_module import SoftModule
from tests.unit.dcnet.support import MemoryStore, policy
from tests.unit.dcnet.whole_founding import Direct
from tests.unit.dcnet.wire import RememberingModule, Wire
from tools.counterparts.net import NetCoordinator
from tools.counterparts.net_keys import CmsKeys
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.net_witness import NetWitness
from tools.counterparts.pki import issue_gateway, make_participant, make_pki
from wan.errors import PeerUnavailable
from wan.pki.enrol import make_triple
from wan.pki.profile import Role

GATEWAYS = [f"esgw010000000{number}" for number in range(1, 6)]


@dataclass
class Answer:
    status: int
    body: bytes


class Line:
    """One gateway's connection; can be cut, and remembers what left."""

    def __init__(self, session: ClientSession, base: str, gateway: str) -> None:
        self._session, self._base, self._gateway = session, base, gateway
        self.cut: set[str] = set()
        self.sent: list[tuple[str, bytes]] = []
        self.received: list[tuple[str, bytes]] = []

    async def exchange(self, method: str, resource: str, body: bytes) -> Answer:
        if any(part in resource for part in self.cut):
            raise PeerUnavailable("the line is down")
        self.sent.append((f"{method} {resource}", body))
        headers = {"X-Gateway": self._gateway}
        async with self._session.request(method, self._base + resource, data=body, headers=headers) as reply:
            answer = Answer(reply.status, await reply.read())
        if answer.status == 200:
            self.received.append((f"{method} {resource}", answer.body))
        return answer


def _certificate(path: Path) -> Certificate:
    return Certificate.from_pem(path.read_bytes())


async def _member(
    folder: Path,
    gateway: str,
    rules: NetRules,
    line: Line,
    events: list[NetEvent],
    module: SoftModule,
    administrator: str,
) -> NetMember:
    issued = issue_gateway(folder, gateway, await make_triple(module, gateway))

    async def report(event: NetEvent) -> None:
        events.append(event)

    return NetMember(
        rules,
        gateway,
        signatures=CmsSignatures(
            module=module,
            slot=KeySlot.WAN_SIG,
            certificate=Certificate.from_pem(issued[CertificateUse.SIG].encode()),
            emp=_certificate(folder / "emp/sig.pem"),
            gwa=_certificate(folder / administrator / "sig.pem"),
            intermediates=[_certificate(folder / "sub-ca.pem")],
            anchors=[_certificate(folder / "root.pem")],
            now_utc=lambda: datetime.now(UTC),
        ),
        module=module,
        key_slot=KeySlot.DCNET_1,
        emp_key=_certificate(folder / "emp/enc.pem").public_key,
        exchange=line.exchange,
        store=MemoryStore(),
        clock=SystemClock(),
        report=report,
        insecure_small_nets_allowed=True,
    )


def _totals(seen: list[Mapping[str, Any]], first: int) -> list[Mapping[str, Any]]:
    return [event for event in seen if event["event"] == "total" and event["slot"] >= first]


@pytest.mark.punctual
@pytest.mark.timeout(360)
async def test_a_member_drops_out_and_the_sum_is_still_right(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="smgw.dcnet")
    folder = tmp_path / "pki"
    make_pki(folder)
    length_s = slot_s(2, starts=2)
    chosen = policy(
        t0_utc=datetime.now(UTC) - timedelta(seconds=10 * length_s),
        slot_s=length_s,
        submit_s=0.5 * length_s,
        manifest_s=0.85 * length_s,
        open_s=0.95 * length_s,
    )
    rules = NetRules.from_profile(chosen)
    seen: list[Mapping[str, Any]] = []
    make_participant(folder, folder / "other", Role.GWA, "othergwa", server_name="other.sm-pki.test")
    witnesses = {}
    for name, party, own in (("gwa", "gwa", GATEWAYS[:3]), ("other", "other", GATEWAYS[3:])):
        keys = CmsKeys(folder / party)
        ordered = OrderedNet(chosen, _certificate(folder / "emp/sig.pem").der, frozenset(own))
        witnesses[name] = Direct(
            NetWitness(
                name,
                keys.certificate,
                {chosen.net_id: ordered}.get,
                keys.trust,
                keys.sign,
                seen.append,
                kept={},
                partners=frozenset({"gwa", "other"}),
            )
        )
    coordinator = NetCoordinator(
        chosen,
        GATEWAYS,
        CmsKeys(folder / "emp"),
        seen.append,
        administrators=witnesses,
        administrator_of=dict.fromkeys(GATEWAYS[3:], "other"),
        identity=lambda request: request.headers["X-Gateway"],
    )
    app = web.Application()
    app.add_routes(coordinator.routes())
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        session = await stack.enter_async_context(ClientSession())
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        lines = [Line(session, base, gateway) for gateway in GATEWAYS]
        events: list[list[NetEvent]] = [[] for _ in GATEWAYS]
        modules = [RememberingModule() for _ in GATEWAYS]
        members = [
            await _member(folder, gateway, rules, line, told, module, "other" if n > 2 else "gwa")
            for n, (gateway, line, told, module) in enumerate(
                zip(GATEWAYS, lines, events, modules, strict=True)
            )
        ]
        totals: list[Mapping[str, Any]] = []
        async with asyncio.timeout(45 + 8 * length_s), asyncio.TaskGroup() as group:
            tasks = [group.create_task(service.run()) for service in (coordinator, *members)]
            while not all(any(e.kind is NetEventKind.JOINED for e in told) for told in events):  # noqa: ASYNC110 - what is seen is no event
                await asyncio.sleep(0.05)
            first = rules.slot_at(datetime.now(UTC)) + 1
            for slot in range(first, first + 3):
                await asyncio.sleep((rules.slot_end(slot) - datetime.now(UTC)).total_seconds())
                lines[2].cut = {"/submit/"} if slot == first + 1 else set()
                for number, member in enumerate(members, start=1):
                    await member.contribute(slot, 1000 * (slot - first + 1) + number, number)
            while len(totals := _totals(seen, first)) < 3:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.2)
            for task in tasks:
                task.cancel()
        owed = [await member.owed() for member in members]
        slots = [await member.slots() for member in members]
        shown = [
            describe(one.rules, one.state, one.membership, one.chain.head, found, None)
            for one, found in zip(members, slots, strict=True)
        ]

    assert {(len(one["roster"]["members"]), len(one["roster"]["edges"])) for one in shown} == {(5, 10)}
    assert shown[0]["state"] == "active"
    assert [one["state"] for one in shown[0]["slots"]] == ["totalled"] * 3
    assert not any(str(reading) in json.dumps(shown) for reading in (2003, 3003))
    assert [e["net"] for e in seen if e["event"] == "countersigned"] == [chosen.net_id] * 2
    assert [e["edges"] for e in seen if e["event"] == "beacon"] == [10]
    assert [e["verdict"] for e in totals[:3]] == ["totalled"] * 3, totals
    assert totals[0]["lanes"] == [sum(1000 + n for n in range(1, 6)) * 10, 150, 5]
    assert totals[1]["members"] == [g for g in GATEWAYS if g != GATEWAYS[2]]
    assert totals[1]["left_out"] == [GATEWAYS[2]]
    assert totals[1]["lanes"] == [sum(2000 + n for n in (1, 2, 4, 5)) * 10, 120, 4]
    # Left out of the second slot, member 3 is not expected in the third: both are owed, nothing is added.
    assert totals[2]["lanes"] == [sum(3000 + n for n in (1, 2, 4, 5)) * 10, 120, 4]
    assert [(o.first_slot, o.import_wh) for o in owed[2]] == [(first + 1, 2003), (first + 2, 3003)]
    assert all(not o for number, o in enumerate(owed) if number != 2)
    assert [entry.state.name for entry in slots[0]] == ["TOTALLED"] * 3
    assert all(
        "INSECURE small net" in record.message for record in caplog.records if "net " in record.message
    )
    readings = {first + k: {n: ((1000 * (k + 1) + n) * 10, n * 10, 1) for n in range(1, 6)} for k in range(3)}
    enc = load_pem_x509_certificate((folder / "emp/enc.pem").read_bytes()).public_key()
    wire = Wire(modules, enc, [line.sent for line in lines], [line.received for line in lines], readings)  # type: ignore[arg-type]  # an EC key
    assert wire.judge() == 5 + 4 + 4
    masked = [e["lanes"] for e in seen if e["event"] == "submit"]
    assert all(lane > 1 << 40 for lanes in masked for lane in lanes)  # each fails once in 2**24 runs
