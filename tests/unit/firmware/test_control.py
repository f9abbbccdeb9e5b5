"""The control socket, the service manager, orders by kind, decommissioning."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from firmware.clock.clock import AdjustableClock
from firmware.enforcement.roles import Role
from firmware.errors import AccessRefused, Decommissioned, FirmwareError, StoreUnavailable
from firmware.life import decommission
from firmware.life.callers import Callers
from firmware.life.care import finish_decommissioning
from firmware.life.control import CONNECTIONS, MAX_REQUEST_BYTES, Control
from firmware.life.decommission import CODE_LIFE_S, MARKER, Decommissioning
from firmware.life.systemd.client import ServiceManager, Watchdog
from firmware.log.entry import Event
from firmware.log.journal import Logs
from firmware.log.reading import LogReader
from firmware.log.sealer import Sealer
from firmware.orders.desk import OrderDesk
from firmware.orders.life import life_orders
from firmware.store.stores import Stores
from firmware.supervisor import is_known_fault
from hsm.api import Curve, KeySlot
from hsm.errors import CommandRefused, ModuleUnavailable
from tests.support.soft_module import SoftModule
from wan.ports import Order, Receipt

START = datetime(2026, 1, 1, tzinfo=UTC)
GATEWAY = "esgw0100000001"


@pytest.fixture
async def stores(tmp_path):
    async with await Stores.open(tmp_path / "state", SoftModule()) as opened:
        yield opened


@asynccontextmanager
async def serving(control):
    task = asyncio.create_task(control.run())
    async with asyncio.timeout(10):
        while not control._path.is_socket():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.005)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


@asynccontextmanager
async def line_to(path):
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        reader, writer = await asyncio.open_unix_connection(
            f"/proc/self/fd/{folder}/{path.name}", limit=1 << 24
        )
    finally:
        os.close(folder)
    try:
        yield reader, writer
    finally:
        writer.close()


async def asked(path, *lines: bytes) -> list[dict]:
    async with line_to(path) as (reader, writer), asyncio.timeout(10):
        answers = []
        for line in lines:
            writer.write(line + b"\n")
            answers.append(json.loads(await reader.readline()))
        return answers


def control_of(stores, path):
    clock = AdjustableClock(START)
    logs = Logs(stores, clock)

    async def status(_request):
        return {"status": {"state": "normal"}}

    async def broken(_request):
        raise StoreUnavailable("disk full")

    reader = LogReader(logs, clock, GATEWAY, signer=Sealer(logs, SoftModule(), clock, GATEWAY))
    callers = Callers(os.geteuid(), [Role.SERVICE_TECH, Role.GWA])
    return logs, Control(path, reader, {"status": status, "self-test": broken}, callers=callers)


async def test_the_socket_answers_and_is_its_owners_alone(stores, tmp_path):
    path = tmp_path / ("x" * 120) / "control.sock"  # longer than an address of a socket may be
    path.parent.mkdir()
    path.write_text("left of a life before")
    logs, control = control_of(stores, path)
    await logs.system.write(Event.BOOT)
    async with serving(control):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        status, log, export = await asked(
            path, b'{"op":"status"}', b'{"op":"log","role":"gwa"}', b'{"op":"export","log":"system"}'
        )
        assert status == {"status": {"state": "normal"}}
        assert [entry["event"] for entry in log["entries"]] == ["boot"]
        assert json.loads(export["export"].splitlines()[0])["log"] == "system"
    assert not path.exists()


async def test_whoever_only_listens_holds_up_no_stop(stores, tmp_path):
    path = tmp_path / "control.sock"
    _, control = control_of(stores, path)
    async with serving(control):
        line = line_to(path)
        reader, _ = await line.__aenter__()
        await asked(path, b'{"op":"status"}')
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    await line.__aexit__(None, None, None)


async def test_a_second_gateway_takes_nobodys_socket_away(stores, tmp_path):
    path = tmp_path / "control.sock"
    _, control = control_of(stores, path)
    async with serving(control):
        with pytest.raises(OSError, match="another gateway"):
            await control_of(stores, path)[1].run()
        assert await asked(path, b'{"op":"status"}') == [{"status": {"state": "normal"}}]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", "request"),
        (b"[]", "request"),
        (b"\xff", "request"),
        (b"[" * 50_000, "request"),
        (b'{"op":"nothing"}', "request"),
        (b'{"op":"log","limit":0}', "request"),
        (b'{"op":"log","after":9223372036854775807}', "request"),
        (b'{"op":"export","after":18446744073709551616}', "request"),
        (b'{"op":"log","colour":1}', "request"),
        (b'{"op":"log","role":"king"}', "request"),
        (b'{"op":"log","role":"consumer"}', "access"),
        (b'{"op":"log","log":"calibration"}', "access"),
        (b'{"op":"log","log":"consumer","role":"gwa","consumer":"anna"}', "access"),
        (b'{"op":"self-test"}', "StoreUnavailable"),
    ],
)
async def test_what_is_refused_is_named_and_the_line_stays_open(stores, tmp_path, line, code):
    _, control = control_of(stores, tmp_path / "control.sock")
    async with serving(control):
        refused, status = await asked(tmp_path / "control.sock", line, b'{"op":"status"}')
    assert refused["error"]["code"] == code
    assert refused["error"]["message"]
    assert status == {"status": {"state": "normal"}}


async def test_fau_gen_1_every_refused_operation_is_told_and_no_log_twice(stores, tmp_path):
    """Who tries to end the gateway without the right, or with a wrong code, must not do so unseen."""
    path, told = tmp_path / "control.sock", []
    logs, control = control_of(stores, path)

    async def decommission_it(_request):
        raise AccessRefused("not the code of the first asking")

    async def refused(operation, uid, why):
        told.append((operation, uid, str(why)[:12]))

    control._operations["decommission"], control._refused = decommission_it, refused
    lines = (b'{"op":"decommission"}', b'{"op":"decommission","role":"gwa","code":"1"}', b'{"op":"status"}')
    async with serving(control):
        await asked(path, *lines, b'{"op":"log","log":"calibration"}')
    assert told == [
        ("decommission", os.geteuid(), "service-tech"),
        ("decommission", os.geteuid(), "not the code"),
    ]
    assert len(await logs.system.entries()) == 1  # the log's reader has told of the last one


async def test_a_line_without_end_and_a_crowd_hold_nothing_up(stores, tmp_path):
    path = tmp_path / "control.sock"
    _, control = control_of(stores, path)
    async with serving(control):
        async with line_to(path) as (reader, writer), asyncio.timeout(10):
            writer.write(b"x" * (MAX_REQUEST_BYTES * 3))
            assert await reader.read() == b""
        crowd = [line_to(path) for _ in range(CONNECTIONS)]
        for one in crowd:
            await one.__aenter__()
        async with line_to(path) as (reader, _), asyncio.timeout(10):
            assert await reader.read() == b""  # one too many
        for one in crowd:
            await one.__aexit__(None, None, None)
        await asyncio.sleep(0.05)
        assert await asked(path, b'{"op":"status"}') == [{"status": {"state": "normal"}}]


# --- service manager ----------------------------------------------------------------------------------------


async def test_the_service_manager_hears_that_the_gateway_is_ready_and_alive(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(10)
        told = ServiceManager({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "40000"})
        told.tell("READY=1", "STATUS=up")
        assert manager.recv(100) == b"READY=1\nSTATUS=up"
        task = asyncio.create_task(Watchdog(told).run())
        for _ in range(3):
            assert await asyncio.to_thread(manager.recv, 100) == b"WATCHDOG=1"
        task.cancel()
        await asyncio.wait((task,))
    told.tell("STOPPING=1")  # nobody is there any more


async def test_without_a_service_manager_nobody_is_told():
    alone = ServiceManager({"WATCHDOG_USEC": "1000"})
    alone.tell("READY=1")
    assert alone.watchdog_s == 0
    task = asyncio.create_task(Watchdog(alone).run())
    await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()
    await asyncio.wait((task,))
    for broken in ({"NOTIFY_SOCKET": "relative"}, {"WATCHDOG_USEC": "soon"}):
        with pytest.raises(FirmwareError):
            ServiceManager(broken)


# --- orders -------------------------------------------------------------------------------------------------


class Registry:
    def __init__(self) -> None:
        self.applied: list[str] = []

    async def apply(self, order):
        self.applied.append(order.message_id)
        return Receipt(order.message_id, accepted=True, code="ok", reason="")

    async def refuse(self, message_id, code, reason):
        return Receipt(message_id, accepted=False, code=code, reason=reason)


def order(number: int, kind: str, body: bytes = b"{}") -> Order:
    return Order(f"o{number}", kind, START, number, body)


async def test_orders_go_where_they_belong_and_act_once(stores):
    registry, done, reports = Registry(), [], []
    logs = Logs(stores, AdjustableClock(START))

    async def acknowledge():
        done.append("acknowledge")
        return len(done) == 1

    async def test():
        done.append("test")
        return "every check passed"

    async def end(gateway, code):
        if code == "wrong":
            raise AccessRefused("not the code")
        return f"{gateway} {code}"

    async def report(receipt, consumer):
        assert not consumer
        reports.append(receipt.message_id)

    def entries(receipt, _consumer):
        return (logs.system.operation(Event.ORDER_APPLIED, subject=receipt.message_id),)

    desk = OrderDesk(registry, stores.system, entries=entries, report=report)
    desk.take(life_orders(acknowledge=acknowledge, self_test=test, decommission=end))
    assert (await desk.apply(order(1, "profiles"))).accepted
    assert registry.applied == ["o1"]
    first = await desk.apply(order(2, "acknowledge-tamper"))
    assert await desk.apply(order(2, "acknowledge-tamper")) == first
    assert done == ["acknowledge"]
    assert (await desk.apply(order(3, "acknowledge-tamper"))).reason == "nothing was to acknowledge"
    assert (await desk.apply(order(4, "self-test"))).reason == "every check passed"
    assert (await desk.apply(order(5, "decommission", b'{"gateway":"x","code":"1"}'))).reason == "x 1"
    assert (await desk.apply(order(6, "decommission", b'{"gateway":"x","code":"wrong"}'))).code == "refused"
    assert (await desk.apply(order(7, "decommission", b'{"now":true}'))).code == "invalid"
    assert (await desk.refuse("o8", "signature", "broken")).code == "signature"
    assert reports == ["o2", "o3", "o4", "o5", "o6", "o7"]
    assert [one.subject for one in await logs.system.entries()] == reports


# --- decommissioning: FCS_CKM.4, FDP_RIP.2 ------------------------------------------------------------------


async def test_decommissioning_is_asked_twice_with_a_code_that_expires():
    begun = []

    async def begin():
        begun.append(True)

    clock = AdjustableClock(START)
    desk = Decommissioning(GATEWAY, SoftModule(), clock, begin)
    for wrong in (("other", ""), (GATEWAY, "00000000")):
        with pytest.raises(AccessRefused):
            await desk.ask(*wrong)
    said = await desk.ask(GATEWAY.upper())
    code = said.split("code ")[1].split()[0]
    assert begun == []
    with pytest.raises(AccessRefused):
        await desk.ask(GATEWAY, "guess")
    with pytest.raises(AccessRefused):  # one wrong guess, and the code is gone
        await desk.ask(GATEWAY, code)
    code = (await desk.ask(GATEWAY)).split("code ")[1].split()[0]
    clock.advance(CODE_LIFE_S + 1)
    with pytest.raises(AccessRefused):
        await desk.ask(GATEWAY, code)
    code = (await desk.ask(GATEWAY)).split("code ")[1].split()[0]
    await desk.ask(GATEWAY, code)
    assert begun == [True]
    with pytest.raises(AccessRefused):
        await desk.ask(GATEWAY, code)


async def test_fcs_ckm_4_keys_are_deleted_and_what_the_module_keeps_is_named():
    module = SoftModule()
    for slot in (KeySlot.WAN_SIG, KeySlot.STORE, KeySlot.DCNET_1):
        await module.generate_key_pair(slot, Curve.BRAINPOOL_P256)
    assert await decommission.delete_keys(module) == []
    assert module.keys == {}
    module.faults["delete_key"] = CommandRefused("DELETE", 0x6982)
    assert set(await decommission.delete_keys(module)) == {slot.name for slot in KeySlot}


class Session(SoftModule):
    """As `hsm.session` is: it can be absent when it is opened."""

    present = True

    async def __aenter__(self):
        if not self.present:
            raise ModuleUnavailable("no card")
        return self

    async def __aexit__(self, *_):
        return None


@pytest.mark.parametrize("absent", ["at the start", "in between"])
async def test_fcs_ckm_4_keys_of_a_module_that_was_away_are_deleted_at_a_later_start(tmp_path, absent):
    module = Session()
    await module.generate_key_pair(KeySlot.WAN_TLS, Curve.BRAINPOOL_P256)
    (tmp_path / "system.db").write_bytes(b"sealed")
    decommission.mark(tmp_path, "at some time")
    if absent == "at the start":
        module.present = False
    else:
        module.faults["delete_key"] = ModuleUnavailable("gone")
    for _ in range(2):  # however often it is tried
        with pytest.raises(Decommissioned):
            await finish_decommissioning(tmp_path, module)
        assert not (tmp_path / "system.db").exists()
        assert module.keys
    module.present = True
    module.faults.clear()
    with pytest.raises(Decommissioned):
        await finish_decommissioning(tmp_path, module)
    assert module.keys == {}
    assert [path.name for path in tmp_path.iterdir()] == [MARKER]


def test_fdp_rip_2_the_folder_is_wiped_and_never_used_again(tmp_path):
    decommission.require_alive(tmp_path)
    (tmp_path / "system.db").write_bytes(b"sealed" * 1000)
    (tmp_path / "empty").touch()
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "file").write_bytes(b"x")
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.write_text("somebody else's")
    (tmp_path / "link").symlink_to(outside)
    decommission.mark(tmp_path, "at some time")
    assert decommission.is_unfinished(tmp_path)
    kept = os.open(tmp_path / "system.db", os.O_RDONLY)
    assert decommission.wipe(tmp_path) == 3
    assert os.read(kept, 6000) == bytes(6000)  # overwritten before it was removed
    os.close(kept)
    assert [path.name for path in tmp_path.iterdir()] == [MARKER]
    assert outside.read_text() == "somebody else's"
    assert not decommission.is_unfinished(tmp_path)
    with pytest.raises(Decommissioned, match="smgw init"):
        decommission.require_alive(tmp_path)
    assert not is_known_fault(Decommissioned())  # no restart
