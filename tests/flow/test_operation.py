"""A running gateway as its operator and its administrator see it: status, logs, alarms, states, its end."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import shutil
import signal
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from firmware.clock.clock import AdjustableClock, SystemClock
from firmware.errors import Decommissioned
from firmware.life.decommission import MARKER
from firmware.log.entry import Event, Outcome
from firmware.log.journal import Logs
from tests.support.whole_gateway import (
    CONSUMER,
    NAME,
    TIMEOUT_S,
    CardLine,
    Road,
    Site,
    eventually,
    line_with,
)
from tools.counterparts.gwa import place_order, receipt_of
from wan.ports import Receipt

pytestmark = pytest.mark.timeout(120)


async def smgw(word: str, *words: str) -> tuple[int, str, str]:
    """Run a word of the command in a thread of its own; the gateway it asks runs on this loop."""
    app = importlib.import_module(f"tools.cli.{word}").app
    result = await asyncio.to_thread(CliRunner().invoke, app, words)
    return result.exit_code, result.stdout, result.stderr


def without_entry(export: Path, number: int) -> None:
    lines = export.read_text(encoding="utf-8").splitlines(keepends=True)
    export.write_text("".join([*lines[:number], *lines[number + 1 :]]), encoding="utf-8")


async def test_status_and_log_of_a_running_gateway_and_the_check_of_an_export(
    road: Road, tmp_path: Path
) -> None:
    configuration = str(road.site.configuration)
    code, _, said = await smgw("status", "-c", configuration)
    assert (code, "smgw run -c" in said or "ever run" in said) == (1, True)
    async with road.site.running() as life:
        await life.entry(Event.SELF_TEST)
        code, out, _ = await smgw("status", "-c", configuration, "--self-test", "--json")
        status = json.loads(out)
        assert (code, status["state"], status["time"]["state"]) == (0, "normal", "synced")
        assert all(check["ok"] for check in status["self_test"])
        assert status["logs"]["sealing"] is True
        await road.site.send()

        async def heard() -> dict[str, Any] | None:
            _, told, _ = await smgw("status", "-c", configuration, "--json")
            (found,) = json.loads(told)["lines"]
            return found if found["frames"] else None

        stick = await eventually(heard, "a telegram in the status")
        code, out, _ = await smgw("status", "-c", configuration, "--json")
        assert (stick["what"], stick["open"], stick["frames"], stick["restarts"]) == ("stick", True, 1, 0)
        assert (stick["mode"], stick["crc_failures"], stick["duplicates"]) == ("T1", 0, 0)
        assert json.loads(out)["telegrams"]["duplicates"] == 0
        code, out, _ = await smgw("status", "-c", configuration)
        assert code == 0
        assert "normal" in out
        assert "restarts" in out
        code, out, _ = await smgw("log", "system", "-c", configuration, "--newest", "5", "--json")
        assert [one["event"] for one in json.loads(out)["entries"]].count("self-test") == 2
        code, _, said = await smgw("log", "calibration", "-c", configuration, "--role", "service-tech")
        assert code == 1
        assert "may not read" in said
        code, _, said = await smgw("log", "calibration", "-c", configuration)
        assert (code, "[control] roles in gateway.toml" in said) == (1, True)
        code, _, said = await smgw("decommission", "-c", configuration, "--id", NAME)
        assert (code, "[control] roles in gateway.toml" in said) == (1, True)
        of_consumer = ("log", "consumer", "-c", configuration, "--consumer", CONSUMER)
        code, _, said = await smgw(*of_consumer)
        assert (code, f"smgw log code --consumer {CONSUMER}" in said) == (1, True)
        await life.consumer().write(Event.METER_OK)
        code, out, _ = await smgw("log", "code", "-c", configuration, "--consumer", CONSUMER, "--json")
        (tmp_path / "code").write_text(json.loads(out)["code"])
        code, out, _ = await smgw(*of_consumer, "--code-file", str(tmp_path / "code"), "--json")
        assert code == 0
        assert [one["event"] for one in json.loads(out)["entries"]] == ["meter-ok"]
        for role in ("gwa", "service-tech"):
            code, _, said = await smgw(*of_consumer, "--role", role)
            assert (code, "access: " in said) == (1, True)
        code, out, _ = await smgw("dcnet", "show", "-c", configuration)
        assert (code, out) == (0, "this gateway is in no net\n")
        code, _, said = await smgw("dcnet", "show", "-c", configuration, "--role", "emp")
        assert (code, "nobody comes as emp" in said) == (1, True)
        code, _, said = await smgw("dcnet", "show", "-c", configuration, "--consumer", CONSUMER)
        assert (code, "that consumer's code" in said) == (1, True)
        denied = [one for one in await life.system.entries() if one.event is Event.ACCESS_DENIED]
        assert len(denied) >= 6
        export = str(tmp_path / "system.jsonl")
        code, out, _ = await smgw("log", "system", "-c", configuration, "--export", export)
        assert code == 0, out
        assert stat.S_IMODE(os.stat(export).st_mode) == 0o600
    root = str(road.pki / "root.pem")
    code, out, _ = await smgw("log", "verify", export, "--root", root, "--json")
    verdict = json.loads(out)
    assert (code, verdict["findings"]) == (0, [])
    assert (verdict["signed"], verdict["certified"], verdict["gateway"]) == (True, True, NAME)
    assert verdict["seals"] >= 1
    foreign = str(road.pki / "emp" / "sig.pem")  # a certificate, but no root of ours
    code, out, _ = await smgw("log", "verify", export, "--root", foreign)
    assert (code, "certificate" in out) == (1, True)
    without_entry(Path(export), 2)
    code, out, _ = await smgw("log", "verify", export, "--show")
    assert (code, "entry 2" in out) == (1, True)


async def test_fpt_php_1_tampering_reaches_the_administrator_who_ends_it(road: Road) -> None:
    site = road.site
    text = site.configuration.read_text(encoding="utf-8")
    site.configuration.write_text(text + '\n[tamper]\ninput = "opened"\n', encoding="utf-8")
    contact = site.folder / "opened"
    async with site.running() as life:
        await life.entry(Event.SELF_TEST)
        contact.write_text("the cover is off\n")
        entry = await life.entry(Event.TAMPER)
        alarm = await road.gwa_events.first("alarm")
        assert (alarm["about"], alarm["gateway"]) == ("tamper", NAME)
        assert "the cover is off" in entry.text
        contact.unlink()
    async with site.running() as life:  # it is not forgotten by a restart
        assert life.gateway._parts.life.state.name == "APPLICATION"
        order = place_order(road.pki / "gwa", NAME, "acknowledge-tamper", {})

        async def ended() -> Any:
            return receipt_of(road.pki / "gwa", NAME, order)

        receipt = await eventually(ended, "a receipt")
        assert (receipt.accepted, receipt.reason) == (True, "the tampered state is over")
        assert life.gateway._parts.life.state.name == "NORMAL"
        await life.entry(Event.ORDER_APPLIED)
    assert len(road.gwa_events.of("alarm")) == 1


async def test_a_module_that_is_absent_at_boot_is_waited_for(site: Site) -> None:
    module, away = site.folder / "module", site.folder / "away"
    shutil.move(module, away)
    async with site.process() as process:
        await line_with(process, b"the security module is away")
        out, code = "", 0
        async with asyncio.timeout(TIMEOUT_S):
            while not out:  # while it looks for the module again, nobody answers for a moment
                code, out, _ = await smgw("status", "-c", str(site.configuration), "--json")
        assert (code, json.loads(out)["state"]) == (1, "starting")
        shutil.rmtree(module, ignore_errors=True)
        shutil.move(away, module)
        await line_with(process, b"is up")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), TIMEOUT_S) == 0
    assert (await site.log())[0].event is Event.BOOT


async def test_a_module_that_is_away_is_a_state_and_comes_back_without_a_hand(site: Site) -> None:
    line = CardLine()
    async with site.running(line=line) as life:
        health = next(one for one in life.gateway.services if one.name == "firmware.life.health")
        line.pulled = True
        await health.look()  # type: ignore[attr-defined]
        assert life.gateway._parts.life.state.name == "CONNECTIVITY"
        await site.send()
        await life.accepted(1)  # meters are heard all the while
        line.pulled = False
        await health.look()  # type: ignore[attr-defined]
        assert life.gateway._parts.life.state.name == "NORMAL"


async def test_the_hosts_clock_jumps_and_the_gateway_goes_on(site: Site) -> None:
    """Far ahead and back, in one life: no state is left, and the gateway's own time never moved."""
    start = datetime(2026, 3, 1, tzinfo=UTC)
    clock = AdjustableClock(start)
    async with site.running(clock=clock) as life:
        await life.entry(Event.SELF_TEST)
        clock.set_utc(start + timedelta(days=4000))
        clock.advance(16)
        deviation = await life.entry(Event.TIME_DEVIATION)
        invalid = await life.entry(Event.TIME_INVALID)
        assert life.gateway._parts.clock.now_utc() == start + timedelta(seconds=16)
        clock.set_utc(start + timedelta(seconds=16))

        async def mended() -> bool:
            clock.advance(16)  # again and again: its service may not wait yet when the time moves
            return life.gateway._parts.clock.valid()

        await eventually(mended, "a valid time")
        over = await life.entry(Event.TIME_INVALID, after=invalid.number)
        assert (deviation.outcome, over.outcome) == (Outcome.FAILURE, Outcome.SUCCESS)
        assert life.gateway._parts.clock.valid()


async def test_fau_stg_4_cal_a_full_calibration_log_stops_measuring_and_nothing_else(road: Road) -> None:
    site = road.site
    text = site.configuration.read_text(encoding="utf-8")
    site.configuration.write_text(
        text.replace("[log]", "[log]\ncalibration_entries = 1000"), encoding="utf-8"
    )
    async with site.opened() as stores:
        log = Logs(stores, SystemClock()).calibration
        await stores.calibration.commit([log.operation(Event.TIME_DEVIATION) for _ in range(1000)])
    async with site.running() as life:
        await life.entry(Event.LOG_FULL)
        assert life.gateway._parts.life.state.name == "APPLICATION"
        assert (await road.gwa_events.first("alarm"))["about"] == "log-full"
        order = place_order(road.pki / "gwa", NAME, "self-test", {})
        assert (await life.entry(Event.ORDER_APPLIED)).subject == order  # administration goes on
        running = {one.name: one for one in life.gateway.services}
        assert not running["firmware.flow.intake"]._allowed()  # type: ignore[attr-defined]
        assert running["wan.gwa"]._allowed()  # type: ignore[attr-defined]
    text = site.configuration.read_text(encoding="utf-8")
    site.configuration.write_text(text.replace("= 1000", "= 2000"), encoding="utf-8")
    async with site.running() as life:  # a larger limit and a start mend it
        await life.entry(Event.SELF_TEST)
        assert life.gateway._parts.life.state.name == "NORMAL"


async def test_another_program_than_last_time_is_logged_in_both_logs(site: Site) -> None:
    async with site.running():
        pass
    async with site.opened() as stores:
        kept = json.loads(await stores.system.get("program", "manifest") or b"")
        kept["firmware/boot.py"] = "00" * 32
        await stores.system.put("program", "manifest", json.dumps(kept).encode())
    async with site.running() as life:
        entry = await life.entry(Event.FIRMWARE_UPDATE)
        [told] = await life.gateway._parts.logs.calibration.entries()
        assert (told.event, told.evidence) == (entry.event, entry.evidence)
        assert entry.text == "changed: firmware/boot.py"
    async with site.running():
        pass
    assert [one.event for one in await site.log()].count(Event.FIRMWARE_UPDATE) == 1


async def test_a_gateway_is_decommissioned_by_two_orders(road: Road) -> None:
    site, folder = road.site, road.pki / "gwa"

    async def answer(order: str) -> Any:
        async def look() -> Any:
            return receipt_of(folder, NAME, order)

        return await eventually(look, f"a receipt of {order}")

    async def live() -> None:
        async with site.running(clock=AdjustableClock(datetime.now(UTC), rate=10.0)) as life:
            first = await answer(place_order(folder, NAME, "decommission", {"gateway": NAME}))
            code = first.reason.split("code ")[1].split()[0]
            wrong = place_order(folder, NAME, "decommission", {"gateway": "esgw0100000002", "code": code})
            assert not (await answer(wrong)).accepted
            last = place_order(folder, NAME, "decommission", {"gateway": NAME, "code": code})
            assert (await answer(last)).accepted
            await asyncio.wait((life.serving,), timeout=TIMEOUT_S)

    with pytest.raises(BaseExceptionGroup) as ended:
        await live()
    assert ended.group_contains(Decommissioned)
    state = site.folder / "state"
    assert [path.name for path in state.iterdir()] == [MARKER]
    with pytest.raises(Decommissioned):
        async with site.running():
            pass


async def test_a_decommissioning_that_was_killed_goes_on_at_the_next_start(site: Site) -> None:
    async with site.running():
        pass
    (site.folder / "state" / MARKER).write_text("ordered, then killed\n")
    with pytest.raises(Decommissioned):
        async with site.running():
            pass
    assert [path.name for path in (site.folder / "state").iterdir()] == [MARKER]


async def test_fdp_rip_2_a_consumer_whose_profiles_went_is_wiped_by_order(road: Road) -> None:
    """Measured and billed, then without profiles, then wiped: nothing of his is left but that it was done."""
    await road.open_emp()
    async with road.site.running() as life:
        async with road.metering():
            road.order_bill()
            await road.delivered(life)
        place_order(road.pki / "gwa", NAME, "profiles", {})

        async def without_profiles() -> bool:
            return not life.gateway._parts.registry.active.processing

        await eventually(without_profiles, "the empty set")
        order = place_order(road.pki / "gwa", NAME, "wipe-consumer", {"consumer": CONSUMER})

        async def receipt() -> Receipt | None:
            return receipt_of(road.pki / "gwa", NAME, order)

        assert (await eventually(receipt, "the receipt")).accepted
        (entry,) = await life.consumer().entries()
        assert (entry.event, entry.subject) == (Event.CONTRACT_CHANGE, order)
        kinds = await life.gateway._parts.stores.consumer.kinds()
        assert not any(kind.startswith("original/") for kind in kinds)
